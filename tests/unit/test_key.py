"""Keys as objects: generate, copy with changes, write and compare them. They cannot be changed or pickled."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import pickle
import pydoc
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import (
    Algorithm,
    Claims,
    InvalidClaimsError,
    InvalidKeyError,
    InvalidKeyIdError,
    Key,
    KeyId,
    KeyOperation,
    KeyOperationError,
    KeySet,
    Scope,
)
from moq_token.key import MAX_SCOPE_PREFIXES
from tests import forge
from tests.forge import ASYMMETRIC, KID, NOW, ONE_OF_EACH, b64, compact, jwk, load

if TYPE_CHECKING:
    from pathlib import Path

HS256, EDDSA = Algorithm.HS256, Algorithm.EDDSA
SCOPE = Scope("project", "live", "watch")


# -- generate


@pytest.mark.parametrize("algorithm", Algorithm)
def test_generate(algorithm: Algorithm) -> None:
    key = Key.generate(algorithm)
    assert key.algorithm is algorithm
    assert isinstance(key.kid, KeyId)
    assert len(key.kid) == 16
    assert key.operations == {KeyOperation.SIGN, KeyOperation.VERIFY}
    assert key.scope is None
    assert key.is_private is True
    claims = Claims("a", "b", "c", expires=NOW)
    verifier = key if algorithm.symmetric else key.to_public()
    assert verifier.verify(key.sign(claims), now=NOW - 1) == claims
    members = json.loads(key.to_json())
    assert members["kty"] == algorithm.kty
    sizes = {"HS256": 32, "HS384": 48, "HS512": 64}
    if algorithm.symmetric:
        assert len(forge.unb64(members["k"])) == sizes[algorithm]
    elif algorithm.kty == "RSA":
        assert int.from_bytes(forge.unb64(members["n"])).bit_length() == 2048
        assert members["e"] == "AQAB"
    else:
        assert members["crv"] == {"ES256": "P-256", "ES384": "P-384", "EdDSA": "Ed25519"}[algorithm]


@pytest.mark.parametrize("algorithm", [HS256, Algorithm.ES256, Algorithm.ES384, EDDSA])
def test_generated_keys_differ(algorithm: Algorithm) -> None:
    keys = {Key.generate(algorithm.value) for _ in range(20)}
    assert len({key.thumbprint() for key in keys}) == 20
    assert len({key.kid for key in keys}) == 20


def test_generate_with_a_kid() -> None:
    assert Key.generate(HS256, "root").kid == "root"
    assert Key.generate("EdDSA", kid=KeyId("a-b_C")).kid == "a-b_C"
    for kid in ("", "a/b", "x" * 129, "é"):
        with pytest.raises(InvalidKeyIdError):
            Key.generate(HS256, kid)
    with pytest.raises(TypeError):
        Key.generate(HS256, 5)  # type: ignore[arg-type]


# -- variants


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_half(algorithm: Algorithm) -> None:
    key = forge.key(algorithm).with_scope(SCOPE).with_operations(["sign"])
    public = key.to_public()
    assert public.operations == {KeyOperation.VERIFY}
    assert public.kid == KID
    assert public.scope == SCOPE
    assert public.is_private is False
    assert public.to_public() == public
    assert public.thumbprint() == key.thumbprint()
    claims = Claims("project/live", "")
    assert public.verify(key.sign(claims)) == claims
    with pytest.raises(KeyOperationError):
        public.sign(claims)
    assert load(json.loads(public.to_json())) == public


@pytest.mark.parametrize("algorithm", forge.SYMMETRIC)
def test_a_secret_has_no_public_half(algorithm: Algorithm) -> None:
    with pytest.raises(KeyOperationError, match="public half"):
        forge.key(algorithm).to_public()
    assert forge.key(algorithm).with_operations(["verify"]).is_private is True


@pytest.mark.parametrize("algorithm", ONE_OF_EACH)
def test_variants_change_one_thing(algorithm: Algorithm) -> None:
    key = forge.key(algorithm)
    members = json.loads(key.to_json())
    other = key.with_kid("other")
    assert json.loads(other.to_json()) == {**members, "kid": "other"}
    assert isinstance(other.kid, KeyId)
    assert json.loads(key.with_kid(None).to_json()) == {name: members[name] for name in members if name != "kid"}
    scope = {"root": "project", "put": ["live"], "get": ["watch"]}
    assert json.loads(key.with_scope(SCOPE).to_json()) == {**members, "scope": scope}
    assert key.with_scope(SCOPE).with_scope(None) == key
    only = key.with_operations([KeyOperation.VERIFY, "verify"])
    assert json.loads(only.to_json()) == {**members, "key_ops": ["verify"]}
    assert only.with_operations(key.operations) == key
    assert key.with_operations(()).operations == frozenset()
    assert key.with_kid("other").with_scope(SCOPE).with_operations(["sign"]).to_json() == (
        key.with_operations(["sign"]).with_scope(SCOPE).with_kid("other").to_json()
    )
    assert key == forge.load(jwk(algorithm))


def test_the_header_names_the_kid() -> None:
    for key, named in (
        (forge.key(HS256), KID),
        (forge.key(HS256).with_kid("b"), "b"),
        (forge.key(HS256).with_kid(None), None),
    ):
        head = json.loads(forge.unb64(key.sign(Claims("", "a")).split(".")[0]))
        assert head == {"typ": "JWT", "alg": "HS256"} | ({} if named is None else {"kid": named})


def test_variants_that_make_no_sense() -> None:
    key = forge.key(EDDSA)
    for scope in (Scope(), Scope("a"), Scope("a", [], ())):
        with pytest.raises(InvalidKeyError):
            key.with_scope(scope)
    for operations in (["wrap"], "sign", ["Sign"], [None], [""]):
        with pytest.raises(ValueError, match="key operation"):
            key.with_operations(operations)  # type: ignore[arg-type]
    for kid in ("", "a/b"):
        with pytest.raises(InvalidKeyIdError):
            key.with_kid(kid)
    for wrong in ({"put": ["a"]}, "a", Claims("", "a")):
        with pytest.raises(TypeError):
            key.with_scope(wrong)  # type: ignore[arg-type]


# -- signing


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_is_signed_is_small_enough_to_be_verified(algorithm: Algorithm) -> None:
    key = forge.key(algorithm).with_kid("k" * 128)
    low, high = 0, 70_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            key.sign(Claims("x" * middle, "a"))
            low = middle
        except InvalidClaimsError:
            high = middle
    assert 45_000 < low < 49_152
    claims = Claims("x" * low, "a")
    assert key.verify(key.sign(claims)) == claims


def test_claims_that_are_too_large_are_not_compared_with_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    key = forge.key(HS256).with_scope(SCOPE)
    monkeypatch.setattr(Scope, "exceeded_by", None)
    with pytest.raises(InvalidClaimsError, match="must not take more than"):
        key.sign(Claims("", ["live"] * 10_000))


@pytest.mark.parametrize(
    ("changes", "is_first"),
    [
        ({}, False),
        ({"kty": None}, True),
        ({"scope": {"put": ["a"]}}, False),
        ({"scope": {"root": "", "put": ["a"], "get": ["b"]}}, False),
        ({"scope": {"root": "", "publish": ["a"], "subscribe": ["b"]}}, False),
        ({"scope": {"put": ["a"], "cluster": True}}, True),
    ],
    ids=str,
)
def test_a_key_tells_whether_relays_from_0_15_on_refuse_its_form(changes: dict[str, Any], *, is_first: bool) -> None:
    key = Key.from_members(jwk(HS256, **changes))
    assert key.is_first_generation == is_first
    assert not Key.from_str(key.to_json()).is_first_generation  # written again, they read it


def test_a_scope_has_a_bounded_number_of_prefixes() -> None:
    prefixes = [f"p{number}" for number in range(MAX_SCOPE_PREFIXES)]
    for scope in (Scope("", prefixes), Scope("", [], prefixes), Scope("", prefixes[1:], ["p"])):
        assert forge.key(HS256).with_scope(scope).scope == scope
        larger = Scope("", (*scope.publish, "one more"), scope.subscribe)
        with pytest.raises(InvalidKeyError, match="must not have more than 1000 prefixes"):
            forge.key(HS256).with_scope(larger)
        members = {"root": "", "put": list(larger.publish), "get": list(larger.subscribe)}
        with pytest.raises(InvalidKeyError, match="must not have more than 1000 prefixes"):
            Key.from_members(jwk(HS256, scope=members))


@pytest.mark.parametrize("operation", ["sign", "nonsense"])
def test_operations_have_a_bounded_number(operation: str) -> None:
    members = jwk(HS256)
    with pytest.raises(InvalidKeyError, match="`key_ops` must be a list"):
        Key.from_members(members | {"key_ops": [operation] * 65})
    assert Key.from_members(members | {"key_ops": ["sign"] * 64}).operations == {KeyOperation.SIGN}


def test_what_is_signed_are_claims() -> None:
    for wrong in (None, {}, {"root": "", "put": ["a"]}, '{"put":["a"]}', Scope("", "a")):
        with pytest.raises(TypeError):
            forge.key(HS256).sign(wrong)  # type: ignore[arg-type]


# -- thumbprints


@pytest.mark.parametrize("algorithm", Algorithm)
def test_thumbprint(algorithm: Algorithm) -> None:
    names = {"oct": ("k", "kty"), "RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
    members = {name: jwk(algorithm)[name] for name in names[algorithm.kty]}
    expected = b64(hashlib.sha256(compact(members)).digest())
    key = forge.key(algorithm)
    for variant in (
        key,
        key.with_kid(None),
        key.with_scope(SCOPE),
        key.with_operations([]),
        load({**jwk(algorithm), "x5t": "a"}),
    ):
        assert variant.thumbprint() == expected
    assert key.with_kid(key.thumbprint()).kid == expected


# -- identity


def test_equality() -> None:
    for algorithm in Algorithm:
        key = forge.key(algorithm)
        same = [load(jwk(algorithm)), Key.from_str(key.to_str()), copy.copy(key), copy.deepcopy(key), key.with_kid(KID)]
        other = [key.with_kid(None), key.with_kid("b"), key.with_scope(SCOPE), key.with_operations(["sign"])]
        other += [forge.key(another) for another in Algorithm if another != algorithm]
        if not algorithm.symmetric:
            other += [
                key.to_public(),
                load({**forge.jwk_of(algorithm, forge.another_native(algorithm)), "alg": algorithm}),
            ]
        for twin in same:
            assert twin == key
            assert hash(twin) == hash(key)
        for stranger in other:
            assert stranger != key
        assert len({key, *same, *other}) == 1 + len(other)
    assert forge.key(HS256) != "key"
    assert forge.key(HS256) != forge.key(HS256).to_json()


def test_keys_are_frozen() -> None:
    for value in (forge.key(HS256), forge.key(EDDSA).to_public(), KeySet([forge.key(HS256)])):
        before = repr(value)
        for name in (*(name for name in dir(value) if not name.startswith("__")), "other", "__dict__"):
            with pytest.raises(AttributeError):
                setattr(value, name, None)
            with pytest.raises(AttributeError):
                delattr(value, name)
        assert not hasattr(value, "__dict__")
        assert repr(value) == before


def test_what_a_key_gives_away_does_not_change_it() -> None:
    key = forge.key(EDDSA)
    members = key.to_members()
    members.clear()
    assert key == load(jwk(EDDSA))
    given = ["sign"]
    only = key.with_operations(given)
    given.append("verify")
    assert only.operations == {KeyOperation.SIGN}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_keys_are_not_pickled(algorithm: Algorithm) -> None:
    key = forge.key(algorithm)
    for value in (key, KeySet([key]), [key], {"key": key}, forge.verifier(algorithm)):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(value, protocol)


def test_a_copy_is_the_key_itself() -> None:
    for value in (forge.key(HS256), KeySet([forge.key(HS256)])):
        assert copy.copy(value) is value
        assert copy.deepcopy(value) is value
        assert copy.deepcopy([value])[0] is value


# -- files (how they are written is tested with the files themselves)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_files(algorithm: Algorithm, tmp_path: Path) -> None:
    key = forge.key(algorithm).with_scope(SCOPE)
    for base64 in (False, True):
        for path in (tmp_path / "key.jwk", str(tmp_path / "key with spaces é😀.jwk")):
            key.to_file(path, base64=base64)
            assert Key.from_file(path) == key
            text = (tmp_path / path).read_text(encoding="utf-8")
            assert text == (key.to_str() if base64 else key.to_json()) + "\n"


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    contents = {"empty": b"", "text": b"hello", "binary": b"\x7fELF\0\0", "large": jwk_text().ljust(1024 * 1024 + 1)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in ("directory", ".", *contents):
        for reader in (Key.from_file, KeySet.from_file):
            with pytest.raises(InvalidKeyError):
                reader(tmp_path / name)
    for reader in (Key.from_file, KeySet.from_file):
        for path in (f"{tmp_path}/a\0b", "\0", "a\ud800\0"):
            with pytest.raises(InvalidKeyError):
                reader(path)
        for missing in ("missing", "missing/key", "x" * 300):
            with pytest.raises(OSError):  # noqa: PT011
                reader(tmp_path / missing)
        with pytest.raises(FileNotFoundError):
            reader("")
    with pytest.raises(NotADirectoryError):
        Key.from_file(tmp_path / "text" / "key")
    (tmp_path / "whole").write_bytes(jwk_text().ljust(1024 * 1024))
    assert Key.from_file(tmp_path / "whole") == forge.key(HS256)


def jwk_text() -> bytes:
    return compact(jwk(HS256))


def test_a_file_without_end_is_not_read_to_it() -> None:
    for reader in (Key.from_file, KeySet.from_file):
        with pytest.raises(InvalidKeyError, match="not a regular file"):
            reader("/dev/zero")
        with pytest.raises(InvalidKeyError):
            reader("/dev/null")


def test_the_constructor_is_not_for_callers() -> None:
    make: Any = Key
    for arguments in ((), ("HS256",), (Algorithm.HS256, jwk(Algorithm.HS256))):
        with pytest.raises(TypeError, match=r"use Key\.generate, Key\.from_str, Key\.from_file or Key\.from_pem"):
            make(*arguments)
    with pytest.raises(TypeError, match=r"use Key\.generate"):
        make(kid="a")
    assert "material" not in str(inspect.signature(Key))


@pytest.mark.parametrize("shown", [Key, KeySet])
def test_help_shows_no_markup_of_sphinx(shown: type) -> None:
    page = pydoc.plain(pydoc.render_doc(shown))
    assert "Key.verify" in page or "from_str" in page
    for markup in (":class:", ":meth:", ":func:"):
        assert markup not in page
