"""The command lines of `moq auth`: the recorded outputs are current, and both sides read each other's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm
from tests import forge
from tests.interop.peers import EXPIRES, OUR_AUTH, CommandLine, Json, RefusedByPeerError, public_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.rust

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "moq_auth.json").read_text(encoding="utf-8"))


def payload(token: str) -> Json:
    claims: Json = json.loads(forge.unb64(token.split(".")[1]))
    return claims


def test_the_recorded_command_lines_of_sign(moq_auth: CommandLine, tmp_path: Path) -> None:
    keys = {"hs": forge.jwk(Algorithm.HS256), "scoped": forge.jwk(Algorithm.HS256, scope=VECTORS["scope"])}
    for name, members in keys.items():
        (tmp_path / name).write_text(json.dumps(members), encoding="utf-8")
    rows = [row for row in VECTORS["rows"] if row["command"] == "sign"]
    assert len(rows) > 50
    for row in rows:
        argv = ("sign", "--key", tmp_path / row["key"], *row["args"])
        if "status" in row:
            with pytest.raises(RefusedByPeerError, match=f"exit status {row['status']}:"):
                moq_auth(*argv)
        else:
            assert payload(moq_auth(*argv)) == row["payload"], row["args"]


# One for each type of key. Keys and tokens of all algorithms are exchanged in test_moq_auth.py.
@pytest.mark.parametrize("algorithm", [Algorithm.HS256, Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA])
@pytest.mark.parametrize("grants", [("--publish", "live/**"), ("--publish", "cam*/hd", "--subscribe", "")])
def test_files_and_tokens_pass(
    moq_auth: CommandLine, algorithm: Algorithm, grants: Sequence[str], tmp_path: Path
) -> None:
    for number, (one, other) in enumerate(((moq_auth, OUR_AUTH), (OUR_AUTH, moq_auth))):
        private, public, token = (tmp_path / f"{name}{number}" for name in ("private", "public", "token"))
        scope = ("--root", "demo", *grants)
        one("generate", "--algorithm", algorithm, "--out", private, *public_arguments(algorithm, public), *scope)
        text = other("sign", "--key", private, *scope, "--expires", str(EXPIRES))
        assert payload(text) == payload(one("sign", "--key", private, *scope, "--expires", str(EXPIRES)))
        token.write_text(text, encoding="utf-8")
        for reader in (one, other):
            reader("verify", "--key", private if algorithm.symmetric else public, "--in", token)
        with pytest.raises(RefusedByPeerError):
            other("sign", "--key", private, "--root", "demo", "--publish", "**")
