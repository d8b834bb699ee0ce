"""Published and generated vectors of other projects. Each file in ``tests/vectors`` names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moq_token import (
    Algorithm,
    Claims,
    ExpiredTokenError,
    InvalidKeyError,
    InvalidKeyIdError,
    InvalidSignatureError,
    InvalidTokenError,
    Key,
    ScopeExceededError,
    compiled,
    material,
)
from moq_token.encoding import b64decode, b64encode
from moq_token.primitives import _der_to_raw, _raw_to_der, hmac_signer, hmac_verifier

VECTORS = Path(__file__).parents[1] / "vectors"

# Of these a key makes one signature only, so that ours has to be the published one.
DETERMINISTIC = tuple(algorithm for algorithm in Algorithm if algorithm[:2] in {"HS", "RS", "Ed"})


class Signature(msgspec.Struct, forbid_unknown_fields=True):
    section: str
    algorithm: Algorithm
    key: dict[str, str]
    token: str
    public: dict[str, str] | None = None

    def load(self, **members: str | None) -> Key:
        return Key.from_str(json.dumps({**self.key, "alg": self.algorithm, **members}))


class Foreign(msgspec.Struct, forbid_unknown_fields=True):
    section: str
    algorithm: str
    key: dict[str, str]
    token: str | None = None


class Thumbprint(msgspec.Struct, forbid_unknown_fields=True):
    section: str
    algorithm: Algorithm
    key: dict[str, str]
    thumbprint: str


class Mac(msgspec.Struct, forbid_unknown_fields=True):
    section: str
    key: str
    message: str
    HS256: str
    HS384: str
    HS512: str


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    comment: str
    message: str
    signature: str
    valid: bool


class Group(msgspec.Struct, forbid_unknown_fields=True):
    algorithm: Algorithm
    file: str
    key: dict[str, str]
    tests: list[Trial]


class Recorded(msgspec.Struct, forbid_unknown_fields=True):
    algorithm: Algorithm
    key: str
    public: str | None
    token: str


class Document(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    made_by: str | list[str]
    note: str = ""
    signatures: list[Signature] = []
    foreign: list[Foreign] = []
    thumbprints: list[Thumbprint] = []
    macs: list[Mac] = []
    groups: list[Group] = []
    keys: list[Recorded] = []


NAMES = ("rfc4231", "rfc7515", "rfc7520", "rfc7638", "rfc8037", "wycheproof", "typescript", "rust")
DOCUMENTS = {name: msgspec.json.decode((VECTORS / f"{name}.json").read_bytes(), type=Document) for name in NAMES}

SIGNATURES = {
    f"{name}-{signature.section}": signature
    for name, document in DOCUMENTS.items()
    for signature in document.signatures
}
RECORDED = {
    f"{name}-{number}-{recorded.algorithm}": recorded
    for name, document in DOCUMENTS.items()
    for number, recorded in enumerate(document.keys)
}


def tampered(token: str) -> str:
    """Change the first character of the signature, which leaves the encoding canonical."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def core_of(loaded: material.Material, algorithm: Algorithm) -> Any:  # noqa: ANN401 - a class of a module that may be missing
    """Return the compiled verifier for a key, or skip the rest of the test."""
    if compiled.core() is None:
        pytest.skip("the compiled core is not installed")
    core = compiled.prepared(algorithm, (), loaded.public, loaded.private)
    assert core is not None
    return core


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_every_file_says_where_it_comes_from(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    made = document.get("provenance") or {"crates": document["source"], "how": document["made_by"]}
    assert made["crates"]
    assert made["how"]


# -- the standards


@pytest.mark.parametrize("case", SIGNATURES.values(), ids=SIGNATURES)
def test_published_signature(case: Signature) -> None:
    loaded = material.load(case.algorithm, case.key)
    signed, _, encoded = case.token.encode().rpartition(b".")
    signature = b64decode(encoded)

    assert loaded.verify(signature, signed)
    assert not loaded.verify(signature, signed + b" ")
    assert not loaded.verify(signature[:-1] + bytes([signature[-1] ^ 1]), signed)
    for place in 0, len(signature) // 2, len(signature):
        assert not loaded.verify(signature[:place] + b"\0" + signature[place:], signed)
    assert loaded.sign is not None
    assert loaded.verify(loaded.sign(signed), signed)
    if case.algorithm in DETERMINISTIC:
        assert loaded.sign(signed) == signature


@pytest.mark.parametrize("case", SIGNATURES.values(), ids=SIGNATURES)
def test_published_signature_with_the_core(case: Signature) -> None:
    loaded = material.load(case.algorithm, case.key)
    core = core_of(loaded, case.algorithm)
    header, payload, encoded = case.token.encode().split(b".")
    signed, signature = header + b"." + payload, b64decode(encoded)
    assert core.check(signature, signed)
    assert not core.check(signature, signed + b" ")
    assert not core.check(signature[:-1] + bytes([signature[-1] ^ 1]), signed)
    for place in 0, len(signature) // 2, len(signature):
        assert not core.check(signature[:place] + b"\0" + signature[place:], signed)
    sign = compiled.signer(case.algorithm, header, loaded.public, loaded.private)
    assert sign is not None
    ours = sign(b64decode(payload))
    assert ours.rpartition(".")[0] == signed.decode()
    assert loaded.verify(b64decode(ours.rpartition(".")[2].encode()), signed)
    if case.algorithm in DETERMINISTIC:
        assert ours == case.token


@pytest.mark.parametrize("name", ["rfc7520-4.1", "rfc7520-4.2", "rfc8037-A.4"])
def test_published_public_half(name: str) -> None:
    case = SIGNATURES[name]
    assert case.public is not None
    public = Key.from_str(json.dumps({**case.public, "alg": case.algorithm, "kid": None, "key_ops": ["verify"]}))
    assert not public.is_private
    assert public == case.load(kid=None).to_public()


def test_tokens_of_rfc_7515_are_expired_and_before_that_useless() -> None:
    expires = 1300819380
    for case in DOCUMENTS["rfc7515"].signatures:
        key = case.load()
        with pytest.raises(ExpiredTokenError) as expired:
            key.verify(case.token, now=expires)
        assert expired.value.expires == expires
        with pytest.raises(InvalidTokenError) as useless:
            key.verify(case.token, now=expires - 1)
        assert useless.value.reason == "useless"
        with pytest.raises(InvalidSignatureError):
            key.verify(tampered(case.token), now=expires)


def test_payloads_of_rfc_7520_and_rfc_8037_are_no_claims() -> None:
    for case in DOCUMENTS["rfc7520"].signatures + DOCUMENTS["rfc8037"].signatures:
        key = case.load(kid=None)
        with pytest.raises(InvalidTokenError) as malformed:
            key.verify(case.token)
        assert malformed.value.reason == "malformed"
        with pytest.raises(InvalidSignatureError):
            key.verify(tampered(case.token))


def test_key_ids_of_rfc_7520() -> None:
    rsa, _, secret = DOCUMENTS["rfc7520"].signatures
    assert rsa.key["kid"] == "bilbo.baggins@hobbiton.example"
    with pytest.raises(InvalidKeyIdError):
        rsa.load()
    assert secret.load().kid == secret.key["kid"] == "018c0ae5-4d9b-471b-bfd6-eef314bc7037"


@pytest.mark.parametrize("case", DOCUMENTS["rfc7520"].foreign, ids=lambda case: case.section)
def test_foreign_key(case: Foreign) -> None:
    assert case.algorithm not in set(Algorithm)
    for algorithm in (case.algorithm, *Algorithm):
        if algorithm[:2] == "HS" and case.key["kty"] == "oct":
            continue  # 32 random bytes are a secret, whatever they were meant for
        with pytest.raises(InvalidKeyError):
            Key.from_str(json.dumps(case.key | {"kid": None, "alg": algorithm}))


def test_foreign_token() -> None:
    (token,) = (case.token for case in DOCUMENTS["rfc7520"].foreign if case.token)
    for case in DOCUMENTS["rfc7520"].signatures:
        with pytest.raises(InvalidTokenError) as refused:
            case.load(kid=None).verify(token)
        assert refused.value.reason == "wrong-algorithm"


@pytest.mark.parametrize("case", [case for document in DOCUMENTS.values() for case in document.thumbprints])
def test_published_thumbprint(case: Thumbprint) -> None:
    key = Key.from_str(json.dumps(case.key | {"alg": case.algorithm, "kid": None}))
    assert key.thumbprint() == case.thumbprint


@pytest.mark.parametrize("case", DOCUMENTS["rfc4231"].macs, ids=lambda case: case.section)
def test_published_mac(case: Mac) -> None:
    key, message = bytes.fromhex(case.key), bytes.fromhex(case.message)
    for algorithm in (Algorithm.HS256, Algorithm.HS384, Algorithm.HS512):
        mac: str = getattr(case, algorithm)
        assert hmac_signer(algorithm, key)(message).hex() == mac
        verify = hmac_verifier(algorithm, key)
        assert verify(bytes.fromhex(mac), message)
        # A truncated one (RFC 4231, section 4.6) is none in a token.
        assert not verify(bytes.fromhex(mac)[:16], message)
        core = compiled.prepared(algorithm, (), {"kty": "oct"}, {"k": b64encode(key).decode()})
        if core is not None:
            assert core.check(bytes.fromhex(mac), message)
            assert not core.check(bytes.fromhex(mac)[:16], message)


@pytest.mark.parametrize("group", DOCUMENTS["wycheproof"].groups, ids=lambda group: f"{group.file}-{group.tests[0].id}")
def test_edge_cases_of_wycheproof(group: Group) -> None:
    verify = material.load(group.algorithm, group.key).verify
    wrong = [
        (trial.id, trial.comment)
        for trial in group.tests
        if verify(bytes.fromhex(trial.signature), bytes.fromhex(trial.message)) is not trial.valid
    ]
    assert wrong == []


@pytest.mark.parametrize("group", DOCUMENTS["wycheproof"].groups, ids=lambda group: f"{group.file}-{group.tests[0].id}")
def test_edge_cases_of_wycheproof_with_the_core(group: Group) -> None:
    check = core_of(material.load(group.algorithm, group.key), group.algorithm).check
    wrong = [
        (trial.id, trial.comment)
        for trial in group.tests
        if check(bytes.fromhex(trial.signature), bytes.fromhex(trial.message)) is not trial.valid
    ]
    assert wrong == []


def test_short_numbers_survive_der() -> None:
    """One signature in 128 has a number that begins with a zero byte, which DER drops and a token keeps."""
    signatures = [
        bytes.fromhex(trial.signature)
        for group in DOCUMENTS["wycheproof"].groups
        for trial in group.tests
        if group.algorithm.kty == "EC" and trial.valid
    ]
    assert {signature[0] for signature in signatures} > {0}
    for signature in signatures:
        half = len(signature) // 2
        assert _der_to_raw(_raw_to_der(signature, half), half) == signature


# -- the originals

EXPIRES = 2_000_000_000
GRANTED = Claims("rooms/123", publish=["alice", "bob/camera"], subscribe="", expires=EXPIRES)


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_recorded_key_and_token(recorded: Recorded) -> None:
    key = Key.from_str(recorded.key)
    assert key.algorithm is recorded.algorithm
    assert key.is_private
    halves = [key]
    if recorded.public is not None:
        halves.append(Key.from_str(recorded.public))
        assert halves[1] == key.to_public()
        assert not halves[1].is_private

    for half in halves:
        claims = half.verify(recorded.token, now=EXPIRES - 1)
        assert claims.issued is not None
        assert claims.with_issued(None) == GRANTED
        with pytest.raises(ExpiredTokenError):
            half.verify(recorded.token, now=EXPIRES)
        with pytest.raises(InvalidSignatureError):
            half.verify(tampered(recorded.token), now=EXPIRES)


@pytest.mark.parametrize("name", ["typescript", "rust"])
def test_recorded_algorithms_are_all(name: str) -> None:
    assert {recorded.algorithm for recorded in DOCUMENTS[name].keys} == set(Algorithm)


@pytest.mark.parametrize("recorded", [case for case in DOCUMENTS["rust"].keys if case.algorithm in DETERMINISTIC])
def test_our_token_is_that_of_the_rust_original(recorded: Recorded) -> None:
    key = Key.from_str(recorded.key)
    assert key.sign(key.verify(recorded.token, now=EXPIRES - 1)) == recorded.token


def test_recorded_scope() -> None:
    (scoped,) = (key for key in (Key.from_str(recorded.key) for recorded in DOCUMENTS["rust"].keys) if key.scope)
    assert scoped.kid == "rust-scoped"
    assert scoped.with_scope(None).to_public() != scoped.to_public()
    beyond = scoped.with_scope(None).sign(GRANTED.with_publish(["alice", "carol"]))
    with pytest.raises(ScopeExceededError) as exceeded:
        scoped.verify(beyond, now=EXPIRES - 1)
    assert exceeded.value.path == "rooms/123/carol"
