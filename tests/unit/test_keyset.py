"""Sets of keys: which key signs, and which key the ``kid`` of a token selects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
    KeyOperation,
    KeyOperationError,
    KeySet,
    Scope,
    ScopeExceededError,
)
from moq_token.keyset import read_set
from tests import forge
from tests.forge import GRANT, KID, NOW, b64, claim, compact, header, jwk, load, public_jwk, token

if TYPE_CHECKING:
    from pathlib import Path

HS256, HS384, RS256, ES256, EDDSA = (
    Algorithm.HS256,
    Algorithm.HS384,
    Algorithm.RS256,
    Algorithm.ES256,
    Algorithm.EDDSA,
)
CLAIMS = Claims("a", "b")
HMAC = forge.key(HS256).with_kid("hmac")
ED = forge.key(EDDSA).with_kid("ed")
EC = forge.key(ES256).with_kid("ec")
NAMELESS = forge.key(HS256).with_kid(None)


def test_it_holds_keys() -> None:
    keys = KeySet([HMAC, ED])
    assert keys.keys == (HMAC, ED)
    assert list(keys) == [HMAC, ED]
    assert len(keys) == 2
    assert HMAC in keys
    assert KeySet(iter([HMAC, ED])) == keys
    assert hash(KeySet((HMAC, ED))) == hash(keys)
    assert KeySet([ED, HMAC]) != keys
    assert keys != [HMAC, ED]
    assert len(KeySet([])) == 0
    for wrong in ([1], ["{}"], [None], [HMAC, {}], 5, None, HMAC):
        with pytest.raises(TypeError):
            KeySet(wrong)  # type: ignore[arg-type]


# -- verifying


def test_the_kid_picks_the_key() -> None:
    keys = KeySet([HMAC, ED.to_public(), EC.to_public()])
    for key in (HMAC, ED, EC):
        assert keys.verify(key.sign(CLAIMS)) == CLAIMS
        assert KeySet([key]).verify(key.sign(CLAIMS)) == CLAIMS


def test_the_kid_does_not_vouch() -> None:
    """The key that the token names must be the one that signed it."""
    keys = KeySet([HMAC, ED, EC, Key.generate(HS256, "other")])
    with pytest.raises(InvalidSignatureError):
        keys.verify(Key.generate(HS256, "hmac").sign(CLAIMS))
    with pytest.raises(InvalidSignatureError):
        keys.verify(HMAC.with_kid("other").sign(CLAIMS))
    with pytest.raises(InvalidTokenError) as caught:
        keys.verify(HMAC.with_kid("ed").sign(CLAIMS))
    assert caught.value.reason == "wrong-algorithm"


@pytest.mark.parametrize("keys", [[HMAC], [HMAC, ED], [NAMELESS], [NAMELESS, ED], []])
def test_an_unknown_kid(keys: list[Key]) -> None:
    text = HMAC.with_kid("unknown").sign(CLAIMS)
    with pytest.raises(KeyNotFoundError, match="unknown") as caught:
        KeySet(keys).verify(text)
    assert caught.value.kid == "unknown"
    assert caught.value.reason == "unknown-key"


def test_a_kid_never_matches_a_key_without_one() -> None:
    for kid in ("None", "null", "undefined", "", "a"):
        text = token(HS256, head=header(HS256, kid=kid))
        with pytest.raises(KeyNotFoundError):
            KeySet([NAMELESS]).verify(text, now=NOW)
        with pytest.raises(KeyNotFoundError):
            KeySet([NAMELESS, NAMELESS]).verify(text, now=NOW)
    with pytest.raises(KeyNotFoundError):
        KeySet([NAMELESS]).verify(HMAC.sign(CLAIMS))


def test_no_kid_is_good_in_a_set_of_one() -> None:
    for text in (NAMELESS.sign(CLAIMS), token(HS256, compact({"root": "a", "put": ["b"]}), header(HS256, kid=None))):
        assert KeySet([NAMELESS]).verify(text) == CLAIMS
        assert KeySet([HMAC]).verify(text) == CLAIMS
        for keys in ([NAMELESS, ED], [HMAC, ED], [NAMELESS, NAMELESS], []):
            with pytest.raises(KeyNotFoundError) as caught:
                KeySet(keys).verify(text)
            assert caught.value.kid is None
            assert caught.value.reason == "unknown-key"


def test_the_kid_is_compared_exactly() -> None:
    for kid in ("HMAC", "hma", "hmacs", " hmac", "hmac ", "hmac\0", "h\u006dac\u200b"):
        with pytest.raises(KeyNotFoundError):
            KeySet([HMAC, ED]).verify(token(HS256, head=header(HS256, kid=kid)), now=NOW)
    escaped = b'{"alg":"HS256","kid":"\\u0068mac"}'
    KeySet([HMAC, ED]).verify(token(HS256, head=escaped), now=NOW)


def test_of_two_keys_with_one_kid_the_first_counts() -> None:
    second = Key.generate(HS256, "hmac")
    assert KeySet([HMAC, second]).find_key("hmac") is HMAC
    KeySet([HMAC, second]).verify(HMAC.sign(CLAIMS))
    with pytest.raises(InvalidSignatureError):
        KeySet([HMAC, second]).verify(second.sign(CLAIMS))


def test_the_set_checks_what_the_key_checks() -> None:
    keys = KeySet([forge.key(HS256), ED])
    with pytest.raises(ExpiredTokenError):
        keys.verify(token(HS256, claim(exp=NOW)), now=NOW)
    keys.verify(token(HS256, claim(exp=NOW)), now=NOW + 4, leeway=5)
    with pytest.raises(ExpiredTokenError):
        keys.verify(token(HS256, claim(exp=1)))
    for leeway in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="leeway"):
            keys.verify(token(HS256), leeway=leeway)
    scoped = KeySet([forge.key(HS256).with_scope(Scope("elsewhere", ""))])
    with pytest.raises(ScopeExceededError):
        scoped.verify(token(HS256), now=NOW)
    with pytest.raises(KeyOperationError):
        KeySet([forge.key(HS256).with_operations(["sign"])]).verify(token(HS256), now=NOW)
    for text in ("", "a.b.c", f"{b64(b'[]')}.{b64(compact(GRANT))}.AAAA", token(HS256) + "="):
        with pytest.raises(InvalidTokenError) as caught:
            keys.verify(text)
        assert caught.value.reason == "malformed"


# -- signing


def test_the_first_key_that_may_and_can_signs() -> None:
    cases = [
        ([ED, HMAC], ED),
        ([ED.to_public(), HMAC], HMAC),
        ([HMAC.with_operations(["verify"]), ED], ED),
        ([ED.with_operations([]), EC.to_public(), HMAC], HMAC),
        ([load(public_jwk(EDDSA, key_ops=["sign", "verify"])), HMAC], HMAC),
        ([NAMELESS, HMAC], NAMELESS),
    ]
    for keys, expected in cases:
        head = json.loads(forge.unb64(KeySet(keys).sign(CLAIMS).split(".")[0]))
        assert (head["alg"], head.get("kid")) == (expected.algorithm, expected.kid)


def test_no_key_that_signs() -> None:
    public = load(public_jwk(EDDSA, key_ops=["sign"]))
    for keys in ([], [ED.to_public()], [HMAC.with_operations(["verify"])], [public]):
        with pytest.raises(KeyOperationError):
            KeySet(keys).sign(CLAIMS)
    with pytest.raises(InvalidClaimsError):
        KeySet([HMAC]).sign(Claims())
    with pytest.raises(InvalidClaimsError):
        KeySet([HMAC.with_scope(Scope("x", "y")), ED]).sign(CLAIMS)


# -- finding


def test_find_key() -> None:
    keys = KeySet([NAMELESS, HMAC, ED])
    assert keys.find_key("hmac") is HMAC
    assert keys.find_key("ed") is ED
    for kid in ("", "unknown", "None", "../hmac", "a\0"):
        assert keys.find_key(kid) is None
    assert keys.find_key(None) is None  # type: ignore[arg-type]


def test_find_supported_key() -> None:
    cipher = HMAC.with_operations(["encrypt", "decrypt"])
    public_cipher = load(public_jwk(RS256, key_ops=["encrypt", "decrypt"]))
    keys = KeySet([ED.to_public(), public_cipher, cipher, HMAC])
    assert keys.find_supported_key(KeyOperation.VERIFY) == ED.to_public()
    assert keys.find_supported_key("sign") is HMAC
    assert keys.find_supported_key(KeyOperation.ENCRYPT) is public_cipher
    assert keys.find_supported_key("decrypt") is cipher
    assert KeySet([]).find_supported_key("sign") is None
    assert KeySet([ED.to_public()]).find_supported_key("sign") is None
    for unknown in ("", "Sign", "wrapKey"):
        with pytest.raises(ValueError, match="key operation"):
            keys.find_supported_key(unknown)


# -- reading and writing


def test_json(tmp_path: Path) -> None:
    keys = KeySet([HMAC, ED, EC.to_public(), NAMELESS])
    assert json.loads(keys.to_str()) == {"keys": [json.loads(key.to_json()) for key in keys]}
    assert KeySet.from_str(keys.to_str()) == keys
    assert KeySet.from_str(keys.to_str().encode()) == keys
    assert KeySet.from_str(f"\n {json.dumps(json.loads(keys.to_str()), indent=2)}\n") == keys
    assert KeySet.from_str(b64(keys.to_str().encode())) == keys
    assert KeySet.from_str(json.dumps({"name": "x", "keys": [jwk(HS256)], "x": 1})) == KeySet([forge.key(HS256)])
    assert KeySet.from_str('{"keys":[]}') == KeySet([])
    keys.to_file(tmp_path / "keys.json")
    assert KeySet.from_file(tmp_path / "keys.json") == keys
    with pytest.raises(FileExistsError):
        keys.to_file(tmp_path / "keys.json", overwrite=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        json.dumps([jwk(HS256)]),
        json.dumps(jwk(HS256)),
        '{"keys":null}',
        '{"keys":{}}',
        '{"keys":"a"}',
        '{"keys":[null]}',
        '{"keys":["a"]}',
        '{"keys":[[]]}',
        '{"keys":[{}]}',
        '{"KEYS":[]}',
        '{"keys":[],"keys":[]}',
        '{"keys":[],"k\\u0065ys":[]}',
        '{"keys":[]} x',
        '{"keys":[]',
        '{"keys":[],"x":NaN}',
        '{"keys":' + "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_set(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        KeySet.from_str(text)


UNUSABLE: dict[str, object] = {
    "post-quantum": {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AAAA"},
    "another curve": {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x"},
    "another algorithm": {"kty": "RSA", "alg": "RSA-OAEP", "n": "AA", "e": "AQAB"},
    "for encryption": public_jwk(ES256, use="enc", kid="one"),
    "for encryption, without alg": public_jwk(ES256, use="enc", alg=None),
    "for derivation": public_jwk(ES256, key_ops=["deriveBits"]),
    "a short secret": jwk(HS384, k="AAAA"),
    "a foreign id": public_jwk(EDDSA, kid="https://id.example/keys/1"),
    "without alg": public_jwk(RS256, alg=None),
    "damaged": public_jwk(EDDSA, x="AA"),
    "a number": 5,
    "nothing": {},
    "null": None,
    "a list": [jwk(HS256)],
}


@pytest.mark.parametrize("member", UNUSABLE.values(), ids=UNUSABLE)
def test_members_that_tokens_cannot_use_are_ignored(member: object, tmp_path: Path) -> None:
    """A set still works after its owner adds a key of an unknown kind (RFC 7517, section 5)."""
    for members in ([member, public_jwk(EDDSA)], [public_jwk(EDDSA), member], [member, public_jwk(EDDSA), member]):
        text = json.dumps({"keys": members})
        assert KeySet.from_str(text) == KeySet([load(public_jwk(EDDSA))])
        (tmp_path / "set.json").write_text(text)
        assert KeySet.from_file(tmp_path / "set.json") == KeySet.from_str(text)
    found = read_set({"keys": [jwk(HS256), member]})
    assert len(found.ignored) == 1
    assert found.ignored[0].startswith("keys[1]")
    with pytest.raises(InvalidKeyError, match=r"no usable key in the set: keys\[0\]"):
        KeySet.from_str(json.dumps({"keys": [member, member]}))


def test_a_key_without_alg_has_that_of_its_curve() -> None:
    for algorithm in (ES256, Algorithm.ES384, EDDSA):
        for members in (jwk(algorithm), public_jwk(algorithm)):
            bare = {name: members[name] for name in members if name != "alg"}
            assert KeySet.from_str(json.dumps({"keys": [bare]})) == KeySet([load(members)])
            assert load(bare) == load(members)
            with pytest.raises(InvalidKeyError, match="`use`"):
                load({**bare, "use": "enc"})
    for algorithm in (HS256, RS256):
        bare = {name: value for name, value in jwk(algorithm).items() if name != "alg"}
        with pytest.raises(InvalidKeyError, match="missing member `alg`"):
            load(bare)


def test_what_is_ignored_is_named() -> None:
    found = read_set({"keys": [{"kid": "pq", "alg": "ML-DSA-65"}, jwk(HS256), 5, jwk(HS384, k="AAAA")]})
    assert found.keys == KeySet([forge.key(HS256)])
    first, second, third = found.ignored
    assert first.startswith("keys[0] (pq): ")
    assert "`alg`" in first
    assert second == "keys[2]: expected a JSON object"
    assert third.startswith("keys[3]")
    assert "`k`" in third


def test_members_are_counted_before_any_is_built() -> None:
    built = []

    def read(members: dict[str, object]) -> Key:
        built.append(members)
        return Key.from_members(members)

    for member in (jwk(HS256), {}, 5):
        with pytest.raises(InvalidKeyError, match="1000"):
            read_set({"keys": [member] * 1001}, read)
    assert not built


def test_a_set_is_bounded() -> None:
    thousand = [HMAC.with_kid(f"key-{number}") for number in range(1000)]
    text = KeySet(thousand).to_str()
    assert KeySet.from_str(text).keys == tuple(thousand)
    assert KeySet(thousand).verify(thousand[-1].sign(CLAIMS)) == CLAIMS
    with pytest.raises(InvalidKeyError, match="1000"):
        KeySet([*thousand, HMAC])
    with pytest.raises(InvalidKeyError, match="1000"):
        KeySet.from_str(json.dumps({"keys": [jwk(HS256)] * 1001}))
    with pytest.raises(InvalidKeyError, match="1048576"):
        KeySet.from_str(json.dumps({"keys": [], "x": "x" * 1024 * 1024}))


def test_public_set() -> None:
    keys = KeySet([ED.with_scope(Scope("", "a")), EC, forge.key(RS256).to_public()])
    public = keys.to_public_set()
    assert [key.kid for key in public] == ["ed", "ec", KID]
    assert public == KeySet(key.to_public() for key in keys)
    assert not any(key.is_private for key in public)
    private = set(forge.PRIVATE_MEMBERS["RSA"]) | {"k"}
    assert not any(private & member.keys() for member in json.loads(public.to_str())["keys"])
    assert KeySet([]).to_public_set() == KeySet([])
    for keys in (KeySet([HMAC]), KeySet([ED, HMAC])):
        with pytest.raises(KeyOperationError):
            keys.to_public_set()
