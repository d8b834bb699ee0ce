"""Exchange key files and tokens with the command lines of both originals, from the command line and the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moq_token import Algorithm, Claims, Key
from tests.interop.peers import (
    EXPIRES,
    OURS,
    Json,
    OriginalCommandLine,
    RefusedByPeerError,
    TypeScriptCommandLine,
    claims_without_iat,
    public_arguments,
    tampered,
)

if TYPE_CHECKING:
    from pathlib import Path

CLAIMS = Claims("rooms/123", publish=["alice", "bob/camera"], subscribe="", expires=EXPIRES)
WIRE: Json = {"root": "rooms/123", "put": ["alice", "bob/camera"], "get": [""], "exp": EXPIRES}
ARGUMENTS = (
    *("--root", "rooms/123"),
    *("--publish", "alice", "--publish", "bob/camera"),
    *("--subscribe", ""),
    *("--expires", str(EXPIRES)),
)
PAST = "1735689600"

# Each algorithm in one form of file, and each type of key in both.
each_algorithm = pytest.mark.parametrize(
    ("algorithm", "base64"),
    [*((algorithm, number % 2 == 0) for number, algorithm in enumerate(Algorithm)), (Algorithm.EDDSA, True)],
)


@pytest.fixture(params=["typescript_cli", pytest.param("rust_cli", marks=pytest.mark.rust)])
def original(request: pytest.FixtureRequest) -> OriginalCommandLine:
    command = request.getfixturevalue(request.param)
    assert isinstance(command, OriginalCommandLine)
    return command


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "private.jwk"


def public_of(algorithm: Algorithm, private: Path) -> Path:
    """Return the file to verify with. For a secret, this is the file of the key itself."""
    return private if algorithm.symmetric else private.with_name("public.jwk")


@each_algorithm
def test_their_key(original: OriginalCommandLine, algorithm: Algorithm, private: Path, *, base64: bool) -> None:
    public = public_of(algorithm, private)
    original.generate(algorithm, private, public, base64=base64)
    assert Key.from_file(private).algorithm is algorithm
    exchange(original, private, public)


@each_algorithm
def test_our_key(original: OriginalCommandLine, algorithm: Algorithm, private: Path, *, base64: bool) -> None:
    public = public_of(algorithm, private)
    form = ["--base64"] if base64 else []
    OURS("generate", "--algorithm", algorithm, "--out", private, *public_arguments(algorithm, public), *form)
    assert private.read_text(encoding="utf-8").startswith("{") is not base64
    exchange(original, private, public)


def exchange(original: OriginalCommandLine, private: Path, public: Path) -> None:
    """Sign on one side, verify on the other, in both directions."""
    theirs = original("sign", "--key", private, *ARGUMENTS)
    assert claims_without_iat(OURS("verify", "--key", public, stdin=theirs)) == WIRE
    assert Key.from_file(public).verify(theirs.strip()).with_issued(None) == CLAIMS

    ours = OURS("sign", "--key", private, *ARGUMENTS)
    assert original.verify(public, ours, "rooms/123") == WIRE


def test_refusals(original: OriginalCommandLine, private: Path) -> None:
    stranger = private.with_name("stranger.jwk")
    for key in private, stranger:
        OURS("generate", "--out", key)
    refused = {
        tampered(OURS("sign", "--key", private, *ARGUMENTS)): "signature",
        OURS("sign", "--key", stranger, *ARGUMENTS): "signature",
        OURS("sign", "--key", private, "--publish", "", "--expires", PAST): "expired",
        original("sign", "--key", private, "--publish", "", "--expires", PAST): "expired",
        "no token": "token",
    }
    for token, why in refused.items():
        with pytest.raises(RefusedByPeerError):
            original.verify(private, token, "rooms/123")
        with pytest.raises(RefusedByPeerError, match=f"exit status 1: error: .*{why}"):
            OURS("verify", "--key", private, stdin=token)


def test_root_to_verify_at(typescript_cli: TypeScriptCommandLine, private: Path) -> None:
    OURS("generate", "--out", private)
    token = OURS("sign", "--key", private, *ARGUMENTS)
    for command in typescript_cli, OURS:
        command("verify", "--key", private, "--root", "rooms/123", stdin=token)
        with pytest.raises(RefusedByPeerError, match="exit status 1: "):
            command("verify", "--key", private, "--root", "rooms/124", stdin=token)


def test_useless_tokens_are_signed_by_neither(original: OriginalCommandLine, private: Path) -> None:
    OURS("generate", "--out", private)
    for command in original, OURS:
        with pytest.raises(RefusedByPeerError, match=r"publish|put"):
            command("sign", "--key", private, "--root", "rooms/123")
