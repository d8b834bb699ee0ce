"""The command lines of the published documentation page work as written, in order, in one directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import moq_token
from moq_token import Algorithm, Key
from moq_token.unverified import read_unverified

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the page is written for a POSIX shell")

PAGE = Path(__file__).parents[1] / "vectors" / "documentation_page.sh"
INSTALL = ("cargo install ", "nix run ", "nix build ", "docker pull ")
# The container engine takes the options of the page and calls the program in the mounted directory, which is this one.
DOCKER = """#!/bin/sh
[ "$1 $2 $3 $4 $5 $6" = "run -v $(pwd):/app -w /app moqdev/moq-token-cli" ] || exit 125
shift 6
exec moq-token-cli "$@"
"""


def command_lines() -> list[str]:
    """Return the lines of the page that call the program, each as the shell reads it."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not line.startswith((*INSTALL, "docker run ", "moq-token-cli "))] == []
    return [line for line in lines if not line.startswith(INSTALL)]


def test_the_page_runs_verbatim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, folder = tmp_path / "bin", tmp_path / "folder"
    programs.mkdir()
    folder.mkdir()
    for name, script in (
        ("docker", DOCKER),
        ("moq-token-cli", f'#!/bin/sh\nexec {sys.executable} -m moq_token "$@"\n'),
    ):
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(Path(moq_token.__file__).parents[1]))  # the package under test
    monkeypatch.delenv("MOQ_TOKEN_KEY", raising=False)
    monkeypatch.delenv("MOQ_TOKEN_KEY_DATA", raising=False)

    lines = command_lines()
    done = [
        subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False) for line in lines
    ]
    assert [(result.returncode, result.stdout) for result in done] == [(0, "")] * 5 + [(1, "")], done
    container, again, rsa, eddsa, sign, verify = (result.stderr for result in done)
    assert (container, rsa) == ("", "")
    kept = "note: '{0}' already existed: the previous file is kept as '{0}.1.bak'\n"
    assert again == kept.format("root.jwk")
    assert eddsa == kept.format("private.jwk") + kept.format("public.jwk")
    assert sign.startswith("note: this token has already expired")
    assert sign.endswith(" ago, at 2025-01-01 00:00:00 UTC\n")
    assert verify.startswith("error: refused: expired: the token expired")
    assert verify.endswith(" ago, at 2025-01-01 00:00:00 UTC\n")
    assert verify.count("\n") == 1

    keys = {path.name: Key.from_file(path) for path in folder.iterdir() if path.name != "alice.jwt"}
    assert {name: key.algorithm for name, key in keys.items()} == {
        "root.jwk": Algorithm.HS256,
        "root.jwk.1.bak": Algorithm.HS256,
        "private.jwk": Algorithm.EDDSA,
        "private.jwk.1.bak": Algorithm.RS256,
        "public.jwk": Algorithm.EDDSA,
        "public.jwk.1.bak": Algorithm.RS256,
    }
    assert keys["root.jwk"] != keys["root.jwk.1.bak"]
    for suffix in ("", ".1.bak"):
        assert keys[f"private.jwk{suffix}"].to_public() == keys[f"public.jwk{suffix}"]
    token = (folder / "alice.jwt").read_text(encoding="utf-8").strip()
    assert read_unverified(token).claims == {"root": "rooms/123", "put": ["alice"], "get": [""], "exp": 1735689600}
    claims = keys["root.jwk"].verify(token, now=1735689599)
    assert (claims.publish, claims.subscribe) == (("alice",), ("",))
