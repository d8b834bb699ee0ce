"""Exchange keys and tokens with ``@moq/token``, in both directions."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, TypeAlias

import pytest

from moq_token import (
    Algorithm,
    Claims,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidSignatureError,
    InvalidTokenError,
    Key,
    KeyNotFoundError,
    KeySet,
    NotYetValidTokenError,
    Scope,
    ScopeExceededError,
    UnauthorizedError,
    read_unverified,
)
from tests.interop.peers import EXPIRES, Json, RefusedByPeerError, TypeScript, tampered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    OurKey: TypeAlias = Callable[[Algorithm], Key]
    TheirKey: TypeAlias = Callable[[Algorithm], str]

CLAIMS = Claims("rooms/123", publish=["alice", "bob/camera"], subscribe="", expires=EXPIRES)
WIRE: Json = {"root": "rooms/123", "put": ["alice", "bob/camera"], "get": [""], "exp": EXPIRES}

each_algorithm = pytest.mark.parametrize("algorithm", Algorithm)
each_form = pytest.mark.parametrize("base64", [False, True], ids=["json", "base64url"])


def file_text(key: Key, path: Path, *, base64: bool) -> str:
    key.to_file(path, base64)
    return path.read_text(encoding="utf-8")


def members(text: str) -> Json:
    jwk = json.loads(text)
    assert isinstance(jwk, dict)
    return jwk


# -- keys


@each_algorithm
def test_their_key_here(algorithm: Algorithm, their_key: TheirKey, tmp_path: Path) -> None:
    text = their_key(algorithm)
    (tmp_path / "their.jwk").write_text(text, encoding="utf-8")

    key = Key.from_file(tmp_path / "their.jwk")

    assert key.algorithm is algorithm
    assert key.kid == f"theirs-{algorithm}"
    assert members(key.to_json()) == members(text)
    assert Key.from_str(key.to_str()) == key


@each_form
@each_algorithm
def test_our_key_there(
    algorithm: Algorithm, our_key: OurKey, typescript: TypeScript, tmp_path: Path, *, base64: bool
) -> None:
    key = our_key(algorithm)
    assert typescript.load(file_text(key, tmp_path / "our.jwk", base64=base64)) == members(key.to_json())
    if not algorithm.symmetric:
        public = key.to_public()
        assert typescript.load_public(file_text(public, tmp_path / "public.jwk", base64=base64)) == members(
            public.to_json()
        )


@each_algorithm
def test_public_halves_are_the_same(algorithm: Algorithm, their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(algorithm)
    if algorithm.symmetric:
        with pytest.raises(RefusedByPeerError, match="symmetric"):
            typescript.load_public(text)
        with pytest.raises(InvalidKeyError):
            Key.from_str(text).to_public()
    else:
        assert members(Key.from_str(text).to_public().to_json()) == typescript.load_public(text)


def test_key_without_kty(typescript: TypeScript) -> None:
    text = '{"alg":"HS256","key_ops":["sign","verify"],"k":"' + "A" * 43 + '"}'
    assert members(Key.from_str(text).to_json()) == typescript.load(text)
    typescript.verify(text, Key.from_str(text).sign(CLAIMS), CLAIMS.root)


BAD_KEYS = {
    "short secret": {"k": "A" * 40},
    "no alg": {"alg": None},
    "alg that nobody has": {"alg": "ES512"},
    "alg of another key type": {"alg": "EdDSA"},
    "kid with a path": {"kid": "../root"},
    "kid that is empty": {"kid": ""},
    "kid that is a number": {"kid": 7},
    "operation that nobody has": {"key_ops": ["guess"]},
    "unknown kty": {"kty": "future"},
}


@pytest.mark.parametrize("changes", BAD_KEYS.values(), ids=BAD_KEYS)
def test_bad_secrets_are_refused_by_both(changes: Json, their_key: TheirKey, typescript: TypeScript) -> None:
    jwk = members(their_key(Algorithm.HS256)) | changes
    text = json.dumps({name: value for name, value in jwk.items() if value is not None})
    with pytest.raises(RefusedByPeerError):
        typescript.load(text)
    with pytest.raises(InvalidKeyError):
        Key.from_str(text)


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        (Algorithm.RS256, {"dp": None}),
        (Algorithm.RS256, {"alg": "ES256"}),
        (Algorithm.ES256, {"crv": "P-384"}),
        (Algorithm.ES256, {"crv": "P-521"}),
        (Algorithm.ES256, {"y": None}),
        (Algorithm.ES256, {"alg": "ES384"}),
        (Algorithm.EDDSA, {"crv": "X25519"}),
        (Algorithm.EDDSA, {"x": None}),
    ],
)
def test_bad_key_pairs_are_refused_by_both(
    algorithm: Algorithm, changes: Json, their_key: TheirKey, typescript: TypeScript
) -> None:
    jwk = members(their_key(algorithm)) | changes
    text = json.dumps({name: value for name, value in jwk.items() if value is not None})
    with pytest.raises(RefusedByPeerError):
        typescript.load(text)
    with pytest.raises(InvalidKeyError):
        Key.from_str(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "not base64url!", "bm8ga2V5"])
def test_bad_files_are_refused_by_both(text: str, typescript: TypeScript) -> None:
    with pytest.raises(RefusedByPeerError):
        typescript.load(text)
    with pytest.raises(InvalidKeyError):
        Key.from_str(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"k": "?" * 43},  # which it reads as zeros
        {"kid": "a" * 129},
    ],
)
def test_keys_that_only_it_takes(changes: Json, their_key: TheirKey, typescript: TypeScript) -> None:
    text = json.dumps(members(their_key(Algorithm.HS256)) | changes)
    typescript.load(text)
    with pytest.raises(InvalidKeyError):
        Key.from_str(text)


# -- tokens


@each_algorithm
def test_our_tokens_there(algorithm: Algorithm, our_key: OurKey, their_key: TheirKey, typescript: TypeScript) -> None:
    for key in our_key(algorithm), Key.from_str(their_key(algorithm)):
        token = key.sign(CLAIMS)
        assert typescript.verify(key.to_json(), token, "rooms/123") == WIRE
        if not algorithm.symmetric:
            assert typescript.verify_with_public(key.to_public().to_str(), token, "rooms/123") == WIRE


@each_algorithm
def test_their_tokens_here(algorithm: Algorithm, our_key: OurKey, their_key: TheirKey, typescript: TypeScript) -> None:
    for text in their_key(algorithm), our_key(algorithm).to_json():
        key = Key.from_str(text)
        token = typescript.sign(text, WIRE)
        assert read_unverified(token).header == {"typ": "JWT", "alg": algorithm, "kid": key.kid}

        halves = [key] if algorithm.symmetric else [key, key.to_public()]
        for half in halves:
            claims = half.verify(token)
            assert claims.issued is not None
            assert abs(claims.issued - time.time()) < 60
            assert claims.with_issued(None) == CLAIMS


@each_algorithm
def test_altered_tokens_are_refused_by_both(
    algorithm: Algorithm, our_key: OurKey, their_key: TheirKey, typescript: TypeScript
) -> None:
    key, stranger = our_key(algorithm), Key.from_str(their_key(algorithm))
    signed, _, signature = key.sign(CLAIMS).rpartition(".")
    grown = key.sign(CLAIMS.with_publish("")).rpartition(".")[0]
    forgeries = [tampered(f"{signed}.{signature}"), f"{grown}.{signature}", stranger.sign(CLAIMS)]
    for token in forgeries:
        with pytest.raises(RefusedByPeerError, match="signature verification failed"):
            typescript.verify(key.to_json(), token, "rooms/123")
        with pytest.raises(InvalidSignatureError):
            key.verify(token)


@pytest.mark.parametrize(
    ("signing", "verifying"),
    [
        (Algorithm.HS256, Algorithm.HS512),
        (Algorithm.RS256, Algorithm.RS384),
        (Algorithm.RS256, Algorithm.PS256),
        (Algorithm.ES256, Algorithm.ES384),
        (Algorithm.EDDSA, Algorithm.ES256),
    ],
)
def test_other_algorithms_are_refused_by_both(
    signing: Algorithm, verifying: Algorithm, our_key: OurKey, their_key: TheirKey, typescript: TypeScript
) -> None:
    jwk = members(their_key(signing))
    if signing.kty == verifying.kty != "EC":
        # The same key material: only the algorithm is different.
        key = Key.from_str(json.dumps(jwk | {"alg": verifying, "kid": None}))
    else:
        key = our_key(verifying)
    for token in Key.from_str(json.dumps(jwk)).sign(CLAIMS), typescript.sign(json.dumps(jwk), WIRE):
        with pytest.raises(RefusedByPeerError, match="alg"):
            typescript.verify(key.to_json(), token, "rooms/123")
        with pytest.raises(InvalidTokenError) as refused:
            key.verify(token)
        assert refused.value.reason == "wrong-algorithm"


def test_tokens_without_a_kid(their_key: TheirKey, typescript: TypeScript) -> None:
    key = Key.from_str(their_key(Algorithm.ES256)).with_kid(None)
    ours, theirs = key.sign(CLAIMS), typescript.sign(key.to_json(), WIRE)
    assert "kid" not in read_unverified(ours).header
    assert "kid" not in read_unverified(theirs).header
    assert typescript.verify(key.to_json(), ours, "rooms/123") == WIRE
    assert key.verify(theirs).publish == CLAIMS.publish


def test_key_set_finds_the_key_of_their_token(their_key: TheirKey, typescript: TypeScript) -> None:
    texts = [their_key(algorithm) for algorithm in (Algorithm.ES256, Algorithm.EDDSA, Algorithm.ES384)]
    keys = KeySet([Key.from_str(text) for text in texts]).to_public_set()
    for text in texts:
        assert keys.verify(typescript.sign(text, WIRE)).root == "rooms/123"
    stranger = typescript.sign(their_key(Algorithm.HS256), WIRE)
    with pytest.raises(KeyNotFoundError) as unknown:
        keys.verify(stranger)
    assert unknown.value.kid == "theirs-HS256"


# -- claims


@pytest.mark.parametrize(
    ("claims", "wire"),
    [
        (Claims(publish=""), {"root": "", "put": [""]}),
        (Claims("a/b", subscribe=["c", "d"]), {"root": "a/b", "get": ["c", "d"]}),
        (Claims("räume/部屋", publish="été", subscribe="🎥"), {"root": "räume/部屋", "put": ["été"], "get": ["🎥"]}),
        (Claims('"\\\n', publish="\u2028/\x7f"), {"root": '"\\\n', "put": ["\u2028/\x7f"]}),
        (Claims("a", "b", issued=1, expires=EXPIRES), {"root": "a", "put": ["b"], "iat": 1, "exp": EXPIRES}),
    ],
)
def test_claims_mean_the_same(claims: Claims, wire: Json, their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    key = Key.from_str(text)
    assert typescript.verify(text, key.sign(claims), claims.root) == wire
    theirs = key.verify(typescript.sign(text, wire))
    assert theirs.with_issued(None) == claims.with_issued(None)


def test_single_string_is_one_path(their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    token = typescript.sign(text, {"root": "", "put": "alice", "get": ""})
    claims = Key.from_str(text).verify(token)
    assert (claims.publish, claims.subscribe) == (("alice",), ("",))


def test_cluster_is_unknown_to_it(their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    key = Key.from_str(text)
    assert typescript.verify(text, key.sign(Claims("a", "b", cluster=True)), "a") == {"root": "a", "put": ["b"]}
    # It signs unknown claims.
    assert key.verify(typescript.sign(text, WIRE | {"cluster": True, "more": {"a": 1}})).cluster


def test_expired_tokens_are_refused_by_both(their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    key = Key.from_str(text)
    expired = int(time.time())
    for token in key.sign(CLAIMS.with_expires(expired)), typescript.sign(text, WIRE | {"exp": expired}):
        with pytest.raises(RefusedByPeerError, match='"exp" claim timestamp check failed'):
            typescript.verify(text, token, "rooms/123")
        with pytest.raises(ExpiredTokenError):
            key.verify(token, now=expired)
        key.verify(token, now=expired - 1)


def test_tokens_not_yet_valid_are_refused_by_both(their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    token = typescript.sign(text, WIRE | {"nbf": EXPIRES - 1})
    with pytest.raises(RefusedByPeerError, match='"nbf" claim timestamp check failed'):
        typescript.verify(text, token, "rooms/123")
    with pytest.raises(NotYetValidTokenError):
        Key.from_str(text).verify(token)


def test_useless_claims_are_signed_by_neither(their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    with pytest.raises(RefusedByPeerError, match="Either put or get must be specified"):
        typescript.sign(text, {"root": "rooms/123"})
    with pytest.raises(InvalidClaimsError):
        Key.from_str(text).sign(Claims("rooms/123"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"put": [], "get": []}, "useless"),
        ({"exp": EXPIRES + 0.5}, "bad-claims"),
        ({"exp": -1}, "bad-claims"),
        ({"aud": "somebody else"}, "bad-claims"),
        ({"cluster": "yes"}, "bad-claims"),
    ],
)
def test_what_it_signs_and_we_refuse(changes: Json, reason: str, their_key: TheirKey, typescript: TypeScript) -> None:
    text = their_key(Algorithm.HS256)
    token = typescript.sign(text, WIRE | changes)
    with pytest.raises(InvalidTokenError) as refused:
        Key.from_str(text).verify(token)
    assert refused.value.reason == reason


def test_other_roots(their_key: TheirKey, typescript: TypeScript) -> None:
    """The original requires an equal root and path. Here, and in relays, it is enough that they overlap."""
    text = their_key(Algorithm.HS256)
    key = Key.from_str(text)
    token = key.sign(CLAIMS)
    for path in "rooms", "rooms/123/alice", "/rooms/123", "rooms/124":
        with pytest.raises(RefusedByPeerError, match="path does not match"):
            typescript.verify(text, token, path)
    assert key.verify(token).authorize("/rooms/123/alice").publish == ("",)
    with pytest.raises(UnauthorizedError):
        key.verify(token).authorize("rooms/124")


# -- features that its version does not have


def test_scope_is_unknown_to_it(their_key: TheirKey, typescript: TypeScript) -> None:
    key = Key.from_str(their_key(Algorithm.EDDSA)).with_scope(Scope("rooms", publish="123", subscribe="123"))
    assert "scope" not in typescript.load(key.to_json())

    within = typescript.sign(key.to_json(), WIRE)
    assert key.to_public().verify(within).root == "rooms/123"

    beyond = typescript.sign(key.to_json(), {"root": "rooms", "put": ["123/alice"], "get": ["123", "124"]})
    typescript.verify(key.to_json(), beyond, "rooms")
    with pytest.raises(ScopeExceededError) as exceeded:
        key.to_public().verify(beyond)
    assert exceeded.value.path == "rooms/124"


def test_key_without_operations_is_ours_alone(their_key: TheirKey, typescript: TypeScript) -> None:
    jwk = members(their_key(Algorithm.ES256))
    del jwk["key_ops"]
    with pytest.raises(RefusedByPeerError):
        typescript.load(json.dumps(jwk))
    # What is written names them, so that it can be read there.
    typescript.load(Key.from_str(json.dumps(jwk)).to_json())


@pytest.mark.parametrize("operations", [["sign"], ["verify"]])
def test_operations_bind_both(operations: list[str], their_key: TheirKey, typescript: TypeScript) -> None:
    key = Key.from_str(their_key(Algorithm.HS256))
    token, bound = key.sign(CLAIMS), key.with_operations(operations)
    if operations == ["sign"]:
        typescript.sign(bound.to_json(), WIRE)
        with pytest.raises(RefusedByPeerError, match="does not support verify"):
            typescript.verify(bound.to_json(), token, "rooms/123")
    else:
        typescript.verify(bound.to_json(), token, "rooms/123")
        with pytest.raises(RefusedByPeerError, match="does not support sign"):
            typescript.sign(bound.to_json(), WIRE)
