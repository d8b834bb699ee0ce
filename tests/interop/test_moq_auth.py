"""Exchange keys, tokens and scopes with `moq auth`, the Rust command line for relays from 0.15 on.

`make interop` builds it and names it in RUST_MOQ.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from moq_token import (
    Algorithm,
    Claims,
    InvalidClaimsError,
    InvalidTokenError,
    Key,
    Pattern,
    Scope,
    ScopeExceededError,
)
from tests import forge
from tests.interop.peers import (
    EXPIRES,
    CommandLine,
    Json,
    RefusedByPeerError,
    canonical,
    public_arguments,
    tampered,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet

pytestmark = pytest.mark.rust

PATTERNS = [Pattern("alice"), Pattern("cam*/hd"), Pattern("rooms/*/chat"), Pattern("a/**/leaf")]

each_algorithm = pytest.mark.parametrize("algorithm", list(Algorithm))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    return tmp_path / "private.jwk"


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return tmp_path / "public.jwk"


@pytest.fixture
def verify_there(moq_auth: CommandLine, private: Path) -> Callable[[str], str]:
    """Verify a token there with the fixed secret."""
    forge.key(Algorithm.HS256).to_file(private)
    return lambda token: moq_auth("verify", "--key", private, stdin=token)


def refused(claims: Json | bytes, reason: str, **header: object) -> ParameterSet:
    text = claims if isinstance(claims, bytes) else json.dumps(claims)
    return pytest.param(claims, header, reason, id=f"{text[:50]!s}{header or ''}")


# -- keys and tokens, in both directions


@each_algorithm
def test_they_read_ours(moq_auth: CommandLine, private: Path, public: Path, algorithm: Algorithm) -> None:
    key = Key.generate(algorithm, "ours")
    key.to_file(private)
    (key if algorithm.symmetric else key.to_public()).to_file(public)
    for publish in ["alice"], PATTERNS:
        claims = Claims("rooms/123", publish, "", expires=EXPIRES, issued=7, not_before=8, subject="alice", id="9")
        token = key.sign(claims)
        for file in private, public:
            printed = moq_auth("verify", "--key", file, stdin=token)
            assert re.findall(r'Pattern\("(.*?)"\)', printed) == [*canonical(claims.publish), "**"]
            assert re.findall(r"tv_sec: (\d+)", printed) == [str(EXPIRES), "7", "8"]
            with pytest.raises(RefusedByPeerError):
                moq_auth("verify", "--key", file, stdin=tampered(token))


@each_algorithm
def test_we_read_theirs(moq_auth: CommandLine, private: Path, public: Path, algorithm: Algorithm) -> None:
    files = ("--out", private, *public_arguments(algorithm, public))
    moq_auth("generate", "--algorithm", algorithm, "--id", "theirs", *files)
    for arguments, publish in (
        (["--publish", "alice"], (Pattern("alice"),)),
        (["--publish", "alice/**"], ("alice",)),
        (["--publish", "alice/cam*/hd", "--publish", "bob/**"], (Pattern("alice/cam*/hd"), "bob")),
        (["--publish", ""], (Pattern(""),)),
    ):
        arguments += ["--root", "rooms/123", "--subscribe", "**", "--expires", str(EXPIRES), "--issued", "7"]
        token = moq_auth("sign", "--key", private, *arguments).strip()
        for file in [private] if algorithm.symmetric else [private, public]:
            key = Key.from_file(file)
            assert key.kid == "theirs"
            assert key.verify(token, strict=True) == Claims("rooms/123", publish, "", expires=EXPIRES, issued=7)
            with pytest.raises(InvalidTokenError):
                key.verify(tampered(token))


@pytest.mark.parametrize("claims", [
    Claims("räume/1", "alice", expires=EXPIRES),
    Claims("räume/1", Pattern("alice"), expires=EXPIRES),
    Claims("räume/1", ["a", "b"], "", expires=EXPIRES, issued=7),
    Claims("räume/1", ["cam*/hd", "x"], expires=EXPIRES),
    Claims("räume/1", 'a"b\\', "*/chat"),
], ids=str)  # fmt: skip
def test_tokens_are_the_same_to_the_letter(moq_auth: CommandLine, private: Path, claims: Claims) -> None:
    key = Key.generate("EdDSA", "k")
    key.to_file(private)
    arguments = words(claims)
    for option, value in ("expires", claims.expires), ("issued", claims.issued):
        arguments += [] if value is None else [f"--{option}={value}"]
    assert moq_auth("sign", "--key", private, *arguments).strip() == key.sign(claims)


# -- scopes


@pytest.mark.parametrize("ours", [False, True], ids=["their-key", "our-key"])
@pytest.mark.parametrize("algorithm", [Algorithm.HS256, Algorithm.ES384, Algorithm.EDDSA])
def test_scope_binds_both(
    moq_auth: CommandLine, private: Path, public: Path, algorithm: Algorithm, *, ours: bool
) -> None:
    scope = Scope("rooms", ["*/alice/**", "*/cam*/hd"], [Pattern("lobby"), "watch"])
    if ours:
        key = Key.generate(algorithm, "k").with_scope(scope)
        key.to_file(private)
        (key if algorithm.symmetric else key.to_public()).to_file(public)
    else:
        grants = [f"--publish={pattern}" for pattern in canonical(scope.publish)]
        grants += [f"--subscribe={pattern}" for pattern in canonical(scope.subscribe)]
        out = ("--out", private, *public_arguments(algorithm, public))
        moq_auth("generate", "--algorithm", algorithm, *out, "--root", "rooms", *grants)
    files = [private] if algorithm.symmetric else [private, public]
    assert [Key.from_file(file).scope for file in files] == [scope] * len(files)
    Key.from_file(private).with_scope(None).to_file(unbound := private.with_name("unbound.jwk"))

    for claims in (
        Claims("rooms/123", "alice"),
        Claims("rooms", ["*/alice/l*ve", Pattern("x/cam7/hd")], Pattern("lobby")),
        Claims("", [Pattern("rooms/*/alice/**/x")], "rooms/watch/y"),
    ):
        arguments = words(claims)
        for token in moq_auth("sign", "--key", private, *arguments).strip(), Key.from_file(private).sign(claims):
            for file in files:
                moq_auth("verify", "--key", file, stdin=token)
                assert Key.from_file(file).verify(token, strict=True) == claims
    for claims in (
        Claims("rooms/123", "bob"),
        Claims("rooms/123", "alicex"),
        Claims("rooms", Pattern("*/*")),
        Claims("rooms", "x/cam7/hd"),
        Claims("rooms", "x/alice", "lobby"),
        Claims("", "rooms"),
        Claims("", subscribe="**"),
    ):
        arguments = words(claims)
        with pytest.raises(RefusedByPeerError, match="scope"):
            moq_auth("sign", "--key", private, *arguments)
        with pytest.raises(InvalidClaimsError):
            Key.from_file(private).sign(claims)
        token = moq_auth("sign", "--key", unbound, *arguments).strip()
        for file in files:
            with pytest.raises(RefusedByPeerError, match="scope"):
                moq_auth("verify", "--key", file, stdin=token)
            with pytest.raises(ScopeExceededError):
                Key.from_file(file).verify(token, strict=True)


def words(claims: Claims) -> list[str]:
    """Return the arguments of `moq auth sign` for claims without times."""
    roles = ("publish", claims.publish), ("subscribe", claims.subscribe)
    return [
        f"--root={claims.root}",
        *(f"--{name}={pattern}" for name, grants in roles for pattern in canonical(grants)),
    ]


# -- refusals


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        refused({}, "useless"),
        refused({"put": [], "get": []}, "useless"),
        refused({"put": ["a"], "cluster": True}, "bad-claims"),
        refused({"put": ["a"], "cluster": False}, "bad-claims"),
        refused({"put": ["a"], "aud": None}, "bad-claims"),
        refused({"put": ["a"], "Root": "x"}, "bad-claims"),
        refused({"put": ["a"], "expires": EXPIRES}, "bad-claims"),
        refused({"put": [], "subscribe": ["a"]}, "bad-claims"),
        refused({"put": ["a"], "subscribe": []}, "bad-claims"),
        refused({"put": None, "get": ["a"]}, "bad-claims"),
        refused({"put": ["a*"]}, "bad-claims"),
        refused({"put": ["/".join("a" * 33)]}, "bad-claims"),
        refused({"publish": "a"}, "bad-claims"),
        refused({"publish": ["/a"]}, "bad-claims"),
        refused({"publish": ["a**"]}, "bad-claims"),
        refused({"publish": ["**/a/**"]}, "bad-claims"),
        refused({"publish": ["/".join("a" * 33)]}, "bad-claims"),
        refused({"put": ["a"], "root": None}, "bad-claims"),
        refused({"put": ["a"], "sub": ["alice"]}, "bad-claims"),
        refused({"put": ["a"], "exp": 1}, "expired"),
        refused({"put": ["a"], "nbf": EXPIRES}, "not-yet-valid"),
        refused({"put": ["a"], "exp": float(EXPIRES)}, "bad-claims"),
        refused({"put": ["a"], "exp": str(EXPIRES)}, "bad-claims"),
        refused({"put": ["a"], "iat": True}, "bad-claims"),
        refused(b'{"put":["a"],"iss":1,"iss":2}', "malformed"),
        refused(b'{"put":["\\ud83d"]}', "malformed"),
        refused(b'\xef\xbb\xbf{"put":["a"]}', "malformed"),
        refused(b'["a"]', "bad-claims"),
        refused({"put": ["a"]}, "wrong-algorithm", alg="HS512"),
        refused({"put": ["a"]}, "wrong-algorithm", alg="none"),
        refused({"put": ["a"]}, "malformed", kid=5),
        refused({"put": ["a"]}, "malformed", typ=5),
        refused({"put": ["a"]}, "malformed", enc=5),
        refused({"put": ["a"]}, "malformed", zip=[]),
        refused({"put": ["a"]}, "malformed", jwk=[]),
        refused({"put": ["a"]}, "malformed", x5c="x"),
        refused(b'{"put":["a"],"iss":' + b"[" * 200 + b"]" * 200 + b"}", "bad-claims"),
        refused(b'{"put":["a"],"iat":-0}', "bad-claims"),
    ],
)
def test_refused_by_both(verify_there: Callable[[str], str], claims: Json | bytes, header: Json, reason: str) -> None:
    token = forge.token(Algorithm.HS256, claims, forge.header(Algorithm.HS256, **header))
    with pytest.raises(RefusedByPeerError):
        verify_there(token)
    with pytest.raises(InvalidTokenError) as refusal:
        forge.key(Algorithm.HS256).verify(token, strict=True)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        # A time before 1970 or beyond 2**53 is a mistake, and other JSON readers change its value.
        refused({"put": ["a"], "iat": -5}, "bad-claims"),
        refused({"put": ["a"], "nbf": -5}, "bad-claims"),
        refused({"put": ["a"], "exp": 2**53}, "bad-claims"),
        # RFC 7515 requires that: `crit` names extensions that must be understood.
        refused({"put": ["a"]}, "malformed", crit=["x"]),
        refused({"put": ["a"]}, "malformed", b64=False),
        # Two readers could read it differently.
        refused(b'{"put":["a"],"iss":{"x":1,"x":2}}', "malformed"),
        refused(b'{"put":["a"],"iss":"\\ud83d"}', "malformed"),
        # The cost of a hostile token is bounded.
        refused({"publish": [f"a{number}" for number in range(4097)]}, "bad-claims"),
        refused({"put": ["a" * 65_536]}, "malformed"),
    ],
)
def test_refused_by_us_alone(
    verify_there: Callable[[str], str], claims: Json | bytes, header: Json, reason: str
) -> None:
    token = forge.token(Algorithm.HS256, claims, forge.header(Algorithm.HS256, **header))
    verify_there(token)
    with pytest.raises(InvalidTokenError) as refusal:
        forge.key(Algorithm.HS256).verify(token, strict=True)
    assert refusal.value.reason == reason
