"""Features that only the Rust original has: scopes, directories of keys, and the strictness of relays."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from moq_token import (
    Algorithm,
    Claims,
    InvalidClaimsError,
    InvalidTokenError,
    Key,
    KeySet,
    Scope,
    ScopeExceededError,
    read_unverified,
)
from tests import forge
from tests.interop.peers import EXPIRES, OURS, Json, RefusedByPeerError, RustCommandLine, public_arguments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.rust

SCOPE = Scope("project", publish=["live"], subscribe=["live", "watch"])
SCOPE_ARGUMENTS = ("--root", "project", "--publish", "live", "--subscribe", "live", "--subscribe", "watch")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "private.jwk"


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return tmp_path / "public.jwk"


@pytest.fixture
def secret(private: Path) -> Key:
    key = forge.key(Algorithm.HS256)
    key.to_file(private)
    return key


@pytest.fixture
def verify_there(rust_cli: RustCommandLine, private: Path, secret: Key) -> Callable[[str], str]:
    """Verify a token there with the same secret."""
    assert Key.from_file(private) == secret
    return lambda token: rust_cli("verify", "--key", private, stdin=token)


# -- scopes

each_key_type = pytest.mark.parametrize(
    "algorithm", [Algorithm.HS256, Algorithm.PS256, Algorithm.ES384, Algorithm.EDDSA]
)


@pytest.mark.parametrize("ours", [False, True], ids=["their-key", "our-key"])
@each_key_type
def test_scope_binds_both(
    rust_cli: RustCommandLine, private: Path, public: Path, algorithm: Algorithm, *, ours: bool
) -> None:
    generate = OURS if ours else rust_cli
    files = [private] if algorithm.symmetric else [private, public]
    halves = ("--out", private, *public_arguments(algorithm, public))
    generate("generate", "--algorithm", algorithm, *halves, *SCOPE_ARGUMENTS)
    assert [Key.from_file(file).scope for file in files] == [SCOPE] * len(files)

    within = ("--root", "project/live", "--publish", "alice", "--subscribe", "")
    for sign, verify in (OURS, rust_cli), (rust_cli, OURS):
        token = sign("sign", "--key", private, *within)
        for file in files:
            verify("verify", "--key", file, stdin=token)

    beyond: list[tuple[str, ...]] = [
        ("--root", "project", "--publish", "watch"),
        ("--root", "project", "--publish", "lively"),
        ("--root", "project", "--publish", "live", "--subscribe", ""),
        ("--root", "", "--publish", "live"),
    ]
    key = Key.from_file(private)
    key.with_scope(None).to_file(unbound := private.with_name("unbound.jwk"))
    for arguments in beyond:
        for command in OURS, rust_cli:
            with pytest.raises(RefusedByPeerError):
                command("sign", "--key", private, *arguments)
        with pytest.raises(InvalidClaimsError):
            key.sign(Claims("project", publish="watch"))
        token = rust_cli("sign", "--key", unbound, *arguments).strip()
        for file in files:
            with pytest.raises(RefusedByPeerError, match="scope"):
                rust_cli("verify", "--key", file, stdin=token)
            with pytest.raises(ScopeExceededError):
                Key.from_file(file).verify(token)


# -- files


def test_directories(rust_cli: RustCommandLine, tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "private").mkdir()
    for command, kid in (rust_cli, "theirs"), (OURS, "ours"):
        directories = ("--out-dir", tmp_path / "private", "--public-dir", tmp_path / "public")
        command("generate", "--algorithm", "EdDSA", "--id", kid, *directories)
    for command in rust_cli, OURS:
        for kid in "theirs", "ours":
            token = command("sign", "--key", tmp_path / "private" / f"{kid}.jwk", "--publish", "")
            rust_cli("verify", "--key", tmp_path / "public" / f"{kid}.jwk", stdin=token)
            OURS("verify", "--key", tmp_path / "public", stdin=token)
            keys = KeySet([Key.from_file(path) for path in (tmp_path / "public").iterdir()])
            assert keys.verify(token.strip()).publish == ("",)


def test_standard_streams(rust_cli: RustCommandLine, tmp_path: Path) -> None:
    token = tmp_path / "token"
    for generate, sign, verify in (OURS, rust_cli, OURS), (rust_cli, OURS, rust_cli):
        key = generate("generate")
        token.write_text(sign("sign", "--key", "-", "--publish", "", stdin=key), encoding="utf-8")
        verify("verify", "--key", "-", "--in", token, stdin=key)


def test_tokens_are_the_same_to_the_letter(rust_cli: RustCommandLine, private: Path, secret: Key) -> None:
    arguments = ("--root", "räume/1", "--publish", '"a"', "--subscribe", "", "--expires", str(EXPIRES), "--issued", "7")
    token = rust_cli("sign", "--key", private, *arguments)
    assert OURS("sign", "--key", private, *arguments) == token
    claims = Claims("räume/1", publish='"a"', subscribe="", expires=EXPIRES, issued=7)
    assert secret.sign(claims) == token.strip()


def test_empty_root_is_left_out_by_it(rust_cli: RustCommandLine, private: Path, secret: Key) -> None:
    token = rust_cli("sign", "--key", private, "--publish", "").strip()
    assert read_unverified(token).claims == {"put": [""]}
    assert secret.verify(token) == Claims(publish="")


# -- refusals


@pytest.mark.parametrize(
    "claims",
    [
        {"put": ["a"]},
        {"put": "a", "root": ""},
        {"put": ["a"], "exp": None},
        {"put": ["a"], "iat": 5, "exp": EXPIRES},
        {"put": ["a"], "get": []},
        {"put": "a", "iss": "x", "sub": "y", "more": {"a": [None]}},
        {"get": ""},
    ],
    ids=json.dumps,
)
def test_accepted_by_both(verify_there: Callable[[str], str], secret: Key, claims: Json) -> None:
    token = forge.token(Algorithm.HS256, claims)
    secret.verify(token)
    verify_there(token)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "useless"),
        ({"put": [], "get": []}, "useless"),
        ({"put": "a", "exp": 1}, "expired"),
        ({"put": "a", "exp": -1}, "bad-claims"),
        ({"put": "a", "exp": EXPIRES + 0.5}, "bad-claims"),
        ({"put": "a", "exp": str(EXPIRES)}, "bad-claims"),
        ({"put": "a", "exp": True}, "bad-claims"),
        ({"put": "a", "iat": 1.5}, "bad-claims"),
        ({"put": "a", "root": None}, "bad-claims"),
        ({"put": None, "get": "a"}, "bad-claims"),
        ({"put": 5}, "bad-claims"),
        ({"put": ["a", 5]}, "bad-claims"),
        ({"put": "a", "aud": "somebody else"}, "bad-claims"),
        (b'{"put":"a","put":"b"}', "malformed"),
        (b"{", "malformed"),
    ],
    ids=str,
)
def test_refused_by_both(verify_there: Callable[[str], str], secret: Key, claims: Json | bytes, reason: str) -> None:
    token = forge.token(Algorithm.HS256, claims)
    with pytest.raises(RefusedByPeerError):
        verify_there(token)
    with pytest.raises(InvalidTokenError) as refused:
        secret.verify(token)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("header", "claims", "reason"),
    [
        ({}, {"put": "a", "nbf": EXPIRES - 1}, "not-yet-valid"),
        ({}, b'{"put":"a","more":1,"more":2}', "malformed"),
        ({"crit": ["more"]}, {"put": "a"}, "malformed"),
        ({"b64": False}, {"put": "a"}, "malformed"),
    ],
)
def test_refused_by_us_alone(
    verify_there: Callable[[str], str], secret: Key, header: Json, claims: Json | bytes, reason: str
) -> None:
    token = forge.token(Algorithm.HS256, claims, forge.header(Algorithm.HS256, **header))
    verify_there(token)
    with pytest.raises(InvalidTokenError) as refused:
        secret.verify(token)
    assert refused.value.reason == reason


def test_refused_by_it_alone(verify_there: Callable[[str], str], secret: Key) -> None:
    token = forge.token(Algorithm.HS256, {"put": "a", "exp": float(EXPIRES)})
    with pytest.raises(RefusedByPeerError, match="floating point"):
        verify_there(token)
    assert secret.verify(token).expires == EXPIRES


def test_token_expires_in_its_second(verify_there: Callable[[str], str], secret: Key) -> None:
    expired = int(time.time())
    token = secret.sign(Claims(publish="a", expires=expired))
    with pytest.raises(RefusedByPeerError, match="expired"):
        verify_there(token)
    secret.verify(token, now=expired - 1)
    with pytest.raises(InvalidTokenError, match="expired"):
        secret.verify(token, now=expired)


def test_cluster_token_of_ours(verify_there: Callable[[str], str], secret: Key) -> None:
    """Read past by its version, and heeded by relays before 0.11."""
    verify_there(secret.sign(Claims(publish="", cluster=True)))
