"""Read and write PEM, in every form that other tools use for keys."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from moq_token import Algorithm, Claims, InvalidKeyError, InvalidKeyIdError, Key, KeyOperation, KeyOperationError, Scope
from tests import forge
from tests.forge import ASYMMETRIC, KID, NOW, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.forge import Native

RS256, ES256, ES384, EDDSA = Algorithm.RS256, Algorithm.ES256, Algorithm.ES384, Algorithm.EDDSA
PASSWORD = "correct horse battery staple"


def pkcs8(key: Native, password: str | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def traditional(key: Native, password: str | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)


def spki(key: Native) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate(key: Native, serial: int = 1) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial)
    # It has expired. The validity of a certificate is not checked here.
    builder = builder.not_valid_before(datetime(2001, 1, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2002, 1, 1, tzinfo=UTC))
    digest = hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


def block(label: str, content: bytes) -> bytes:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def der(tag: int, content: bytes) -> bytes:
    """Write one element."""
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 or 1)
    if len(content) >= 128:
        length = bytes([0x80 | len(length)]) + length
    return bytes([tag]) + length + content


def integer(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1))


def sequence(*elements: bytes) -> bytes:
    return der(0x30, b"".join(elements))


def no_pem(data: str | bytes, algorithm: Algorithm | str = EDDSA, password: str | bytes | None = None) -> str:
    with pytest.raises(InvalidKeyError) as caught:
        Key.from_pem(data, algorithm, password=password)
    return str(caught.value)


# -- every form


def private_forms(algorithm: Algorithm) -> Iterable[bytes]:
    native = forge.native(algorithm)
    yield pkcs8(native)
    if algorithm is not EDDSA:
        yield traditional(native)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_private_forms(algorithm: Algorithm) -> None:
    for data in private_forms(algorithm):
        for text in (data, data.decode(), data.replace(b"\n", b"\r\n"), b"\n\n" + data + b"\n", data.rstrip()):
            assert Key.from_pem(text, algorithm, kid=KID) == forge.key(algorithm)
            assert Key.from_pem(text, algorithm.value, kid=KID) == forge.key(algorithm)
            assert Key.from_pem(text, algorithm) == forge.key(algorithm).with_kid(None)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_forms(algorithm: Algorithm) -> None:
    native = forge.native(algorithm)
    forms = [spki(native), certificate(native)]
    if isinstance(native, rsa.RSAPrivateKey):
        forms.append(native.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    for data in forms:
        key = Key.from_pem(data, algorithm, kid=KID)
        assert key == forge.key(algorithm).to_public()
        assert key.operations == {KeyOperation.VERIFY}
        assert not key.is_private
        key.verify(forge.token(algorithm), now=NOW)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_encrypted_forms(algorithm: Algorithm) -> None:
    native = forge.native(algorithm)
    forms: list[Callable[[Native, str | None], bytes]] = [pkcs8] if algorithm is EDDSA else [pkcs8, traditional]
    for form in forms:
        data = form(native, PASSWORD)
        assert b"ENCRYPTED" in data
        for password in (PASSWORD, PASSWORD.encode()):
            assert Key.from_pem(data, algorithm, kid=KID, password=password) == forge.key(algorithm)
        assert "a password is required" in no_pem(data, algorithm)
        for wrong in ("Tr0ub4dor&3", "", b"", PASSWORD + " ", "p" * 2000, "\0", b"\xff"):
            message = no_pem(data, algorithm, wrong)
            assert "password" in message
            assert str(wrong) not in message or not wrong
    for data in (pkcs8(native), spki(native), certificate(native)):
        if b"PRIVATE" in data:
            assert "leave the password out" in no_pem(data, algorithm, PASSWORD)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_what_is_written(algorithm: Algorithm) -> None:
    key = forge.key(algorithm)
    native = forge.native(algorithm)
    assert key.to_pem() == pkcs8(native).decode()
    assert key.to_public().to_pem() == spki(native).decode()
    assert Key.from_pem(key.to_pem(), algorithm, kid=KID) == key
    assert Key.from_pem(key.to_public().to_pem(), algorithm, kid=KID) == key.to_public()


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode(), " ", "é\u0301😀", "\0", b"\xff\xfe", "p" * 1023])
def test_written_with_a_password(password: str | bytes) -> None:
    key = forge.key(EDDSA)
    text = key.to_pem(password)
    assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert text != key.to_pem(password)
    assert Key.from_pem(text, EDDSA, kid=KID, password=password) == key
    no_pem(text)
    no_pem(text, password="other")


def test_passwords_that_are_refused() -> None:
    key = forge.key(EDDSA)
    for password in ("", b""):
        with pytest.raises(KeyOperationError, match="1 to 1023 bytes"):
            key.to_pem(password)
    for password in (PASSWORD, "", b"x"):
        with pytest.raises(KeyOperationError):
            key.to_public().to_pem(password)
    for password in ("\ud800", "p" * 1024, "p" * 100_000):
        with pytest.raises(InvalidKeyError):
            key.to_pem(password)
    with pytest.raises(InvalidKeyError):
        Key.from_pem(key.to_pem(), EDDSA, password="\ud800")
    for wrong in (1, ["x"], bytearray(b"x")):
        with pytest.raises(TypeError):
            key.to_pem(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Key.from_pem(key.to_pem("x"), EDDSA, password=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", forge.SYMMETRIC)
def test_a_secret_has_no_pem(algorithm: Algorithm) -> None:
    for password in (None, PASSWORD):
        with pytest.raises(KeyOperationError, match="PEM cannot hold" if password is None else None):
            forge.key(algorithm).to_pem(password)
    for data in (pkcs8(forge.rsa_native()), spki(forge.ed25519_native()), forge.SECRET, forge.key(algorithm).to_json()):
        no_pem(data, algorithm)


def test_scope_and_operations_are_lost() -> None:
    scoped = forge.key(EDDSA).with_scope(Scope("a", "b")).with_operations(["sign"])
    assert Key.from_pem(scoped.to_pem(), EDDSA, kid=KID) == forge.key(EDDSA)


# -- several blocks, other text


def test_the_first_private_key_counts_then_the_first_public_one() -> None:
    one, two = pkcs8(forge.ed25519_native()), pkcs8(forge.ed25519_native(bytes(32)))
    public, other = spki(forge.ed25519_native(bytes(32))), spki(forge.ed25519_native())
    authority = certificate(forge.ed25519_native(bytes(32)))
    first = forge.key(EDDSA)
    for text in (one + two, public + one, authority + one, public + authority + one + two, b"Bag Attributes\n" + one):
        assert Key.from_pem(text, EDDSA, kid=KID) == first
    for text in (other + public, authority + other, other + authority):
        assert Key.from_pem(text, EDDSA, kid=KID) == first.to_public()
    assert Key.from_pem(certificate(forge.ed25519_native()) + authority, EDDSA, kid=KID) == first.to_public()
    # What openssl's `ecparam -genkey` writes in front of the key.
    parameters = block("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))
    text = parameters + traditional(forge.ec_native(ES256))
    assert Key.from_pem(text, ES256, kid=KID) == forge.key(ES256)


GOOD = pkcs8(forge.ed25519_native()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----",
        "-----BEGIN -----\n-----END -----\n",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----\n" * 1000,
        "-----BEGIN A-----" * 60_000,
        "-----END PRIVATE KEY-----\n" + GOOD.splitlines()[1] + "\n-----BEGIN PRIVATE KEY-----\n",
        GOOD.replace("END PRIVATE", "END PUBLIC"),
        GOOD.replace("PRIVATE", "PUBLIC"),
        GOOD.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        GOOD.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        GOOD.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        GOOD.replace("PRIVATE KEY", "CERTIFICATE"),
        GOOD.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
        GOOD.replace("PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
        GOOD.replace("PRIVATE KEY", "private key"),
        GOOD.replace("-----", "----"),
        GOOD[:-10],
        GOOD[10:],
        GOOD.splitlines()[1],
        GOOD.replace(GOOD[40], "!", 1),
        re.sub("(?<=-\n).", "", GOOD, count=1),
        block("PRIVATE KEY", b"").decode(),
        block("PRIVATE KEY", b"\x30\x80").decode(),
        block("PUBLIC KEY", b"\x30\x82\xff\xff").decode(),
        block("CERTIFICATE", b"\0" * 100).decode(),
        "\ud800" + GOOD,
    ],
)
def test_what_is_no_pem(text: str) -> None:
    no_pem(text)


def test_bytes_that_are_no_pem() -> None:
    raw = forge.ed25519_native().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for data in (raw, b"\xff", b"\0" * 1000, forge.key(EDDSA).to_json().encode()):
        no_pem(data)
    assert "1048576" in no_pem(GOOD.ljust(1024 * 1024 + 1))
    assert Key.from_pem(GOOD.ljust(1024 * 1024), EDDSA, kid=KID) == forge.key(EDDSA)
    for wrong in (None, 1, bytearray(GOOD.encode()), [GOOD]):
        with pytest.raises(TypeError):
            Key.from_pem(wrong, EDDSA)  # type: ignore[arg-type]


def test_openssh_is_told_how_to_become_pem() -> None:
    data = forge.ed25519_native().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert "ssh-keygen" in no_pem(data)
    line = forge.ed25519_native().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    no_pem(line)


# -- another kind of key


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_the_kind_has_to_fit(algorithm: Algorithm) -> None:
    for other in ASYMMETRIC:
        native = forge.native(other)
        for data in (pkcs8(native), spki(native), certificate(native)):
            if other == algorithm or other.kty == algorithm.kty == "RSA":
                Key.from_pem(data, algorithm)
            else:
                no_pem(data, algorithm)


def test_kinds_that_no_algorithm_takes() -> None:
    foreign = (
        x25519.X25519PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.BrainpoolP256R1()),
    )
    for key in foreign:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for algorithm in ASYMMETRIC:
            assert no_pem(private, algorithm)
            assert no_pem(public, algorithm)


@pytest.mark.parametrize("bits", [1024, 1536])
def test_weak_rsa(bits: int) -> None:
    native = rsa.generate_private_key(65537, bits)
    for data in (pkcs8(native), traditional(native), spki(native)):
        no_pem(data, RS256)


def test_unknown_algorithm_and_kid() -> None:
    for name in ("", "none", "ES512", "rs-256"):
        with pytest.raises(ValueError, match="unknown algorithm"):
            Key.from_pem(GOOD, name)
    for kid in ("", "a/b", "x" * 129):
        with pytest.raises(InvalidKeyIdError):
            Key.from_pem(GOOD, EDDSA, kid=kid)


# -- damage


@pytest.mark.parametrize("name", ["n", "e", *forge.PRIVATE_MEMBERS["RSA"]])
def test_a_damaged_rsa_key(name: str) -> None:
    members = forge.jwk_of(RS256, forge.rsa_native())
    numbers = {
        field: int.from_bytes(forge.unb64(members[field])) for field in ("n", "e", *forge.PRIVATE_MEMBERS["RSA"])
    }
    for bit in (0, 1, 2, 5, 100):
        damaged = {**numbers, name: numbers[name] ^ 1 << bit}
        pkcs1 = sequence(integer(0), *(integer(value) for value in damaged.values()))
        no_pem(block("RSA PRIVATE KEY", pkcs1), RS256)
        identifier = bytes.fromhex("300d06092a864886f70d0101010500")
        no_pem(block("PRIVATE KEY", sequence(integer(0), identifier, der(4, pkcs1))), RS256)
    good = block("RSA PRIVATE KEY", sequence(integer(0), *(integer(value) for value in numbers.values())))
    assert Key.from_pem(good, RS256, kid=KID) == forge.key(RS256)


@pytest.mark.parametrize("algorithm", [ES256, ES384])
def test_halves_of_two_ec_keys(algorithm: Algorithm) -> None:
    mine, other = forge.ec_native(algorithm), forge.ec_native(algorithm, 7)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        label = "PRIVATE KEY" if form is PrivateFormat.PKCS8 else "EC PRIVATE KEY"
        data = mine.private_bytes(Encoding.DER, form, NoEncryption())
        first, second = (
            native.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for native in (mine, other)
        )
        assert first in data
        mixed = block(label, data.replace(first, second))
        try:
            key = Key.from_pem(mixed, algorithm)
        except InvalidKeyError:
            continue
        key.to_public().verify(key.sign(Claims("a", "b")))


def test_every_damaged_byte() -> None:
    """The result is a refusal, or a key whose halves belong together."""
    claims = Claims("a", "b")
    for algorithm in (ES256, EDDSA):
        data = forge.native(algorithm).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        for position in range(len(data)):
            for flip in (1, 2, 3, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[position] ^= flip
                try:
                    key = Key.from_pem(block("PRIVATE KEY", bytes(damaged)), algorithm)
                except InvalidKeyError:
                    continue
                assert key.to_public().verify(key.sign(claims)) == claims


def test_certificates_that_are_odd() -> None:
    """Only the public key is used: nothing else in a certificate causes an error or a warning."""
    native = forge.ed25519_native()
    assert load(json.loads(Key.from_pem(certificate(native, 2**158), EDDSA).to_json())).kid is None
    good = x509.load_pem_x509_certificate(certificate(native, 0x1234)).public_bytes(Encoding.DER)
    for serial in (b"\x02\x02\x00\x00", b"\x02\x02\xff\xff"):
        odd = block("CERTIFICATE", good.replace(b"\x02\x02\x12\x34", serial))
        try:
            assert Key.from_pem(odd, EDDSA, kid=KID) == forge.key(EDDSA).to_public()
        except InvalidKeyError:
            continue


# -- the work that a password may cost


def protected(kdf: bytes) -> bytes:
    """Write an encrypted key whose header asks for a key derivation."""
    pbes2, aes = bytes.fromhex("06092a864886f70d01050d"), bytes.fromhex("060960864801650304012a")
    scheme = sequence(pbes2, sequence(kdf, sequence(aes, der(4, bytes(16)))))
    return block("ENCRYPTED PRIVATE KEY", sequence(scheme, der(4, bytes(48))))


def pbkdf2(iterations: int) -> bytes:
    hmac = sequence(bytes.fromhex("06082a864886f70d0209"), bytes.fromhex("0500"))
    return sequence(bytes.fromhex("06092a864886f70d01050c"), sequence(der(4, bytes(8)), integer(iterations), hmac))


def scrypt(n: int, r: int, p: int) -> bytes:
    return sequence(bytes.fromhex("06092b06010401da47040b"), sequence(der(4, bytes(8)), *map(integer, (n, r, p))))


def pbes1(iterations: int) -> bytes:
    scheme = sequence(bytes.fromhex("060a2a864886f70d010c0103"), sequence(der(4, bytes(8)), integer(iterations)))
    return block("ENCRYPTED PRIVATE KEY", sequence(scheme, der(4, bytes(48))))


@pytest.mark.parametrize(
    "data",
    [
        protected(pbkdf2(2**31 - 1)),
        protected(pbkdf2(2**64)),
        protected(pbkdf2(10**7)),
        protected(scrypt(2**30, 8, 1)),
        protected(scrypt(2**20, 8, 16)),
        protected(scrypt(2, 2**30, 1)),
        protected(scrypt(2, 1, 2**30)),
        pbes1(2**31 - 1),
    ],
)
def test_the_work_for_a_password_is_bounded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the work is paid")

    monkeypatch.setattr(serialization, "load_pem_private_key", load)
    assert "too expensive" in no_pem(data, EDDSA, PASSWORD)
    assert "too expensive" in no_pem(data.replace(b"\n", b"\\n"), EDDSA, PASSWORD)


def test_headers_of_encrypted_keys_that_are_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "load_pem_private_key", lambda *_, **__: pytest.fail("not checked"))
    for content in (
        b"",
        b"\x30",
        sequence(),
        sequence(sequence(integer(1) * 2000)),
        b"\x30\x84\xff",
    ):
        no_pem(block("ENCRYPTED PRIVATE KEY", content), EDDSA, PASSWORD)


@pytest.mark.parametrize(
    "data",
    [protected(pbkdf2(1)), protected(pbkdf2(2048)), protected(pbkdf2(1_300_000)), protected(scrypt(2**17, 8, 1))],
)
def test_usual_work_is_done(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "load_pem_private_key", lambda *_, **__: forge.ed25519_native())
    assert Key.from_pem(data, kid=KID, password=PASSWORD) == forge.key(EDDSA)
