"""What the pages for people who know another library say about it is true."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import jwt
import pytest

import moq_token
from moq_token import Claims, InvalidClaimsError, Key

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = ROOT / "tests" / "interop" / "node_modules"
SECRET = b"at-least-32-bytes-of-random-data"


def rows(name: str) -> list[list[str]]:
    """Return the cells of the tables of a page, without their heads."""
    lines = re.findall(r"^\| (.*) \|$", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    return [line.split(" | ") for line in lines if not line.startswith("---")]


def test_each_verifies_the_tokens_of_pyjwt() -> None:
    key = Key.from_secret(SECRET, "HS256", kid="backend")
    expires = int(time.time()) + 3600
    members = {"root": "rooms/123", "put": "alice", "get": "", "exp": expires}
    claims = Claims("rooms/123", publish="alice", subscribe="", expires=expires)
    token = jwt.encode(members, SECRET, "HS256", headers={"kid": "backend"})
    assert key.verify(token) == claims
    ours = key.sign(claims)
    assert jwt.decode(ours, SECRET, algorithms=["HS256"]) == members | {"put": ["alice"], "get": [""]}
    assert jwt.get_unverified_header(ours)["kid"] == moq_token.read_unverified(token).header["kid"] == "backend"


def test_errors_have_the_names_of_pyjwt() -> None:
    named = [[re.findall(r"`(\w+Error)`", cell) for cell in row] for row in rows("coming-from-pyjwt.md")]
    pairs = [(theirs[0], ours[0]) for theirs, ours in named if theirs]
    assert len(pairs) >= 5
    for theirs, ours in pairs:
        assert issubclass(getattr(jwt, theirs), jwt.PyJWTError)
        assert issubclass(getattr(moq_token, ours), moq_token.RefusedError)


def test_each_refuses_as_pyjwt_does() -> None:
    pairs = {theirs[0].strip("`"): theirs[1].strip("`") for theirs in rows("coming-from-pyjwt.md")}
    key = Key.from_secret(SECRET, "HS256", kid="backend")
    past = jwt.encode({"root": "demo", "put": "", "exp": 1}, SECRET, "HS256")
    forged = jwt.encode({"root": "demo", "put": ""}, SECRET[::-1], "HS256")
    for token, theirs in ((past, "ExpiredSignatureError"), (forged, "InvalidSignatureError"), ("x", "DecodeError")):
        with pytest.raises(getattr(jwt, theirs)):
            jwt.decode(token, SECRET, algorithms=["HS256"])
        with pytest.raises(getattr(moq_token, pairs[theirs])):
            key.verify(token)


def test_only_pyjwt_signs_what_grants_nothing() -> None:
    assert jwt.encode({"root": "demo", "pubish": "alice"}, SECRET, "HS256")
    with pytest.raises(TypeError):
        Claims("demo", pubish="alice")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(InvalidClaimsError):
        Key.from_secret(SECRET, "HS256").sign(Claims("demo"))


@pytest.mark.parametrize("name", ["livekit", "pyjwt", "rust", "typescript"])
def test_the_calls_exist(name: str) -> None:
    classes = {"key": Key, "Key": Key, "keys": moq_token.KeySet, "KeySet": moq_token.KeySet, "claims": Claims}
    cells = [cell for row in rows(f"coming-from-{name}.md") for cell in row[-1:]]
    calls = re.findall(r"`(\w+)\.(\w+)\(", " ".join(cells))
    assert calls
    assert [call for call in calls if call[0] in classes and not hasattr(classes[call[0]], call[1])] == []


@pytest.mark.skipif(not shutil.which("node") or not MODULES.is_dir(), reason="node or @moq/token is not there")
def test_the_calls_of_typescript_exist() -> None:
    named = {name for row in rows("coming-from-typescript.md") for name in re.findall(r"`(?:await )?(\w+)\(", row[1])}
    program = "import * as it from '@moq/token'; console.log(Object.keys(it).join(' '))"
    command = ["node", "--input-type=module", "--eval", program]
    done = subprocess.run(command, cwd=MODULES.parent, capture_output=True, text=True, check=True)
    assert {"generate", "load", "sign", "verify"} <= named <= set(done.stdout.split())
