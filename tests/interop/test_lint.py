"""Compare `lint` with the programs of both generations, for tokens and keys.

RUST_MOQ_TOKEN is `moq-token` of the first generation, RUST_MOQ is `moq` of the second (`moq auth verify`).
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from moq_token.lint import read_key, read_token
from tests.interop.peers import program
from tests.lint_cases import KEY, KEYS, TOKENS, Case, key, token

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rust

NOW = 1_800_000_000.0  # whatever the clock says: no case has a time between its and ours


@pytest.fixture(scope="module", params=[0, 1], ids=["first generation", "second generation"])
def peer(request: pytest.FixtureRequest) -> tuple[int, list[str]]:
    variable, words = (("RUST_MOQ_TOKEN", ["verify"]), ("RUST_MOQ", ["auth", "verify"]))[request.param]
    return request.param, [program(variable), *words]


def refuses(command: list[str], directory: Path, content: bytes, text: str) -> bool:
    (directory / "key.jwk").write_bytes(content)
    (directory / "token.jwt").write_text(text, encoding="ascii")
    done = subprocess.run(
        [*command, "--key", directory / "key.jwk", "--in", directory / "token.jwt"], capture_output=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("case", TOKENS, ids=lambda case: str(case.name))
def test_tokens(case: Case, peer: tuple[int, list[str]], tmp_path: Path) -> None:
    generation, command = peer
    text = token(case.content)
    ours = read_token(text, now=NOW)[generation].refused
    check(case, ours, refuses(command, tmp_path, key(), text))


@pytest.mark.parametrize("case", KEYS, ids=lambda case: str(case.name))
def test_keys(case: Case, peer: tuple[int, list[str]], tmp_path: Path) -> None:
    generation, command = peer
    ours = read_key(case.content)[generation].refused
    check(case, ours, refuses(command, tmp_path, case.content, token(case.claims)))


def check(case: Case, ours: bool, theirs: bool) -> None:  # noqa: FBT001 - what each says
    if case.differs:
        assert ours or not theirs
    else:
        assert ours is theirs


def test_the_key_of_the_table_is_good(peer: tuple[int, list[str]], tmp_path: Path) -> None:
    members: dict[str, Any] = KEY
    assert members["kid"]
    assert not refuses(peer[1], tmp_path, key(), token('{"put":["a"]}'))
