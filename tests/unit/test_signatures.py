"""Attacks on the signatures themselves."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from moq_token import Algorithm, Claims
from tests import forge
from tests.forge import NOW, RSA, accepted, b64, claim, halves, raw, reason, token, unb64

if TYPE_CHECKING:
    from collections.abc import Iterator

EC = (Algorithm.ES256, Algorithm.ES384)
EDDSA = Algorithm.EDDSA


def with_signature(text: str, signature: bytes) -> str:
    return f"{text.rpartition('.')[0]}.{b64(signature)}"


def signature_of(text: str) -> bytes:
    return unb64(text.rpartition(".")[2])


def tokens(algorithm: Algorithm) -> Iterator[str]:
    """Make good tokens that differ, to search for one whose signature has a rare form."""
    return (token(algorithm, claim(jti=number)) for number in itertools.count())


@pytest.mark.parametrize("algorithm", Algorithm)
def test_signatures_of_wrong_length(algorithm: Algorithm) -> None:
    text = token(algorithm)
    good = signature_of(text)
    accepted(text, algorithm)
    for bad in (
        b"",
        b"\0",
        good[:1],
        good[: len(good) // 2],
        good[:-1],
        good[1:],
        good + b"\0",
        b"\0" + good,
        good + good,
        good + good[:1],
        good * 100,
        b"\0" * len(good),
        b"\xff" * len(good),
        good[::-1],
        good.hex().encode(),
        b64(good).encode(),
    ):
        assert reason(with_signature(text, bad), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", forge.SYMMETRIC)
def test_truncated_macs(algorithm: Algorithm) -> None:
    text = token(algorithm)
    good = signature_of(text)
    for length in range(len(good)):
        assert reason(with_signature(text, good[:length]), algorithm) == "bad-signature"


# -- ECDSA


@pytest.mark.parametrize("algorithm", EC)
def test_r_and_s_out_of_range(algorithm: Algorithm) -> None:
    n, p, size = forge.ORDERS[algorithm], forge.FIELDS[algorithm], 32 if algorithm is Algorithm.ES256 else 48
    top = 256**size
    text = token(algorithm)
    r, s = halves(signature_of(text))
    bad_values = (0, 1, n - 1, n, n + 1, p, top - 1)
    pairs = {(r, bad) for bad in bad_values} | {(bad, s) for bad in bad_values}
    pairs |= set(itertools.product(bad_values, bad_values))  # (0, 0) is the "psychic signature"
    pairs |= {(n - r, s), (n - r, n - s), (s, r), (r, r), (s, s), (p - r, s) if p > r else (r, r)}
    pairs |= {(r + n, s), (r, s + n), (r + n, s + n)}
    for one, two in pairs:
        if one < top and two < top:
            assert reason(with_signature(text, raw(algorithm, one, two)), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", EC)
def test_s_is_not_reduced(algorithm: Algorithm) -> None:
    """A value above the order that still fits is the same number for a library that reduces it.

    It takes a small ``s`` for that, and to get one the key is made for the signature.
    """
    n, small, k = forge.ORDERS[algorithm], 12345, 3
    text = token(algorithm)
    digest = hashes.Hash(forge.sha2(algorithm))
    digest.update(text.rpartition(".")[0].encode())
    r = forge.ec_native(algorithm, k).public_key().public_numbers().x % n
    private = (small * k - int.from_bytes(digest.finalize())) * pow(r, -1, n) % n
    key = forge.load({**forge.jwk_of(algorithm, forge.ec_native(algorithm, private)), "alg": algorithm})
    key.verify(with_signature(text, raw(algorithm, r, small)), now=NOW)
    bad = with_signature(text, raw(algorithm, r, small + n))
    assert forge.refusal(lambda: key.verify(bad, now=NOW)).reason == "bad-signature"


@pytest.mark.parametrize("algorithm", EC)
def test_high_s_is_valid(algorithm: Algorithm) -> None:
    """A second valid signature does no harm, because a signature does not identify a token (RFC 7518 allows it)."""
    n = forge.ORDERS[algorithm]
    text = token(algorithm)
    r, s = halves(signature_of(text))
    for value in (s, n - s):
        accepted(with_signature(text, raw(algorithm, r, value)), algorithm)


@pytest.mark.parametrize("algorithm", EC)
def test_der_is_no_signature(algorithm: Algorithm) -> None:
    size = 64 if algorithm is Algorithm.ES256 else 96
    text = token(algorithm)
    good = signature_of(text)
    der = forge.der(good)
    for bad in (der, der[:size], der.ljust(size, b"\0"), der.rjust(size, b"\0"), b"\x30" + good, der + good):
        assert reason(with_signature(text, bad), algorithm) == "bad-signature"
    half = size // 2
    assert reason(with_signature(text, b"\0" + good[:half] + b"\0" + good[half:]), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", EC)
@pytest.mark.parametrize("half", [0, 1], ids=["r", "s"])
def test_leading_zeros_stay(algorithm: Algorithm, half: int) -> None:
    size = 32 if algorithm is Algorithm.ES256 else 48
    text = next(text for text in tokens(algorithm) if halves(signature_of(text))[half] < 256 ** (size - 1))
    good = signature_of(text)
    accepted(text, algorithm)
    start = half * size
    assert good[start] == 0
    assert reason(with_signature(text, good[:start] + good[start + 1 :]), algorithm) == "bad-signature"
    assert reason(with_signature(text, good[:start] + good[start + 1 :] + b"\0"), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", EC)
def test_our_signatures_have_one_length(algorithm: Algorithm) -> None:
    """Every 128th or so has a half with a leading zero, which DER drops and JWS keeps."""
    size, key, short = 64 if algorithm is Algorithm.ES256 else 96, forge.key(algorithm), 0
    public = forge.ec_native(algorithm).public_key()
    for number in itertools.count():
        data, _, encoded = key.sign(Claims(str(number), "a")).rpartition(".")
        signature = unb64(encoded)
        assert len(signature) == size
        short += signature[0] == 0 or signature[size // 2] == 0
        if number < 50 or signature[0] == 0 or signature[size // 2] == 0:
            public.verify(forge.der(signature), data.encode(), ec.ECDSA(forge.sha2(algorithm)))
        if number > 200 and short >= 3:
            break


# -- Ed25519


def test_s_beyond_the_order() -> None:
    text = token(EDDSA)
    good = signature_of(text)
    s = int.from_bytes(good[32:], "little")
    for value in (s + multiple * forge.ED25519_ORDER for multiple in range(1, 16)):
        if value < 2**256:
            bad = good[:32] + value.to_bytes(32, "little")
            assert reason(with_signature(text, bad), EDDSA) == "bad-signature"
    for value in (0, forge.ED25519_ORDER, forge.ED25519_ORDER - 1, 2**256 - 1, 2**255, forge.ED25519_ORDER - s):
        assert reason(with_signature(text, good[:32] + value.to_bytes(32, "little")), EDDSA) == "bad-signature"


P = 2**255 - 19
# The y of the points whose order divides 8, found by multiplying points of the curve by its large order; 0 and 1 can
# also be written with p added.
ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303021
SMALL_ORDER = [y | sign << 255 for y in (0, 1, P - 1, P, P + 1, ORDER_8, P - ORDER_8) for sign in (0, 1)]


@pytest.mark.parametrize("point", SMALL_ORDER, ids=hex)
def test_points_of_small_order(point: int) -> None:
    encoded = point.to_bytes(32, "little")
    text = token(EDDSA)
    for s in (0, 1, int.from_bytes(signature_of(text)[32:], "little")):
        assert reason(with_signature(text, encoded + s.to_bytes(32, "little")), EDDSA) == "bad-signature"
    assert forge.no_key(forge.public_jwk(EDDSA, x=b64(encoded)))


def test_a_signature_whose_equation_holds_with_the_identity() -> None:
    """The owner of the key can make a signature that only some libraries accept, so this package refuses it."""
    text = token(EDDSA, signer=forge.ed25519_sign_with_identity)
    data, _, encoded = text.rpartition(".")
    forge.ed25519_native().public_key().verify(unb64(encoded), data.encode())
    assert reason(text, EDDSA) == "bad-signature"


def test_r_written_another_way() -> None:
    text = token(EDDSA)
    good = signature_of(text)
    r = int.from_bytes(good[:32], "little")
    for other in (r ^ 1 << 255, r + P, r ^ 1, 2**256 - 1, P + 3):
        if other < 2**256:
            assert reason(with_signature(text, other.to_bytes(32, "little") + good[32:]), EDDSA) == "bad-signature"
    assert reason(with_signature(text, good[32:] + good[:32]), EDDSA) == "bad-signature"


def _on_curve(y: int) -> bool:
    d = -121665 * pow(121666, -1, P)
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    return pow(x_squared, (P - 1) // 2, P) in (0, 1)


def test_public_keys_that_are_no_points() -> None:
    beyond = [y for y in range(P, 2**255) if _on_curve(y - P)]
    beside = [y for y in range(2, 40) if not _on_curve(y)]
    assert len(beyond) > 5
    assert len(beside) > 5
    for y in beyond + beside + [2**255 - 1]:
        for sign in (0, 1):
            assert forge.no_key(forge.public_jwk(EDDSA, x=b64((y | sign << 255).to_bytes(32, "little"))))
    inside = [y for y in range(2, 40) if _on_curve(y)]
    for y in inside:
        forge.load(forge.public_jwk(EDDSA, x=b64(y.to_bytes(32, "little"))))


# -- RSA


@pytest.mark.parametrize("algorithm", [Algorithm.RS256, Algorithm.PS256])
def test_a_stripped_leading_zero(algorithm: Algorithm) -> None:
    text = next(text for text in tokens(algorithm) if signature_of(text)[0] == 0)
    accepted(text, algorithm)
    good = signature_of(text)
    for bad in (good[1:], good[1:] + b"\0", b"\0" + good):
        assert reason(with_signature(text, bad), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", RSA)
def test_a_signature_beyond_the_modulus(algorithm: Algorithm) -> None:
    """It has the right length and the right remainder."""
    n = forge.rsa_native().public_key().public_numbers().n
    text, value = next(
        (text, value) for text in tokens(algorithm) if (value := int.from_bytes(signature_of(text)) + n) < 2**2048
    )
    accepted(text, algorithm)
    assert reason(with_signature(text, value.to_bytes(256)), algorithm) == "bad-signature"
    for other in (0, 1, n - 1, n, n + 1):
        assert reason(with_signature(text, other.to_bytes(256)), algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", [Algorithm.PS256, Algorithm.PS384, Algorithm.PS512])
def test_pss_of_another_kind(algorithm: Algorithm) -> None:
    native, digest = forge.rsa_native(), forge.sha2(algorithm)
    accepted(token(algorithm, signer=lambda data: native.sign(data, forge.pss(digest), digest)), algorithm)
    salts = (0, 1, 20, digest.digest_size - 1, digest.digest_size + 1, 256 - digest.digest_size - 2)
    masks = (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
    forms = [(forge.pss(digest, salt), digest) for salt in salts]
    forms += [(forge.pss(digest, mask=mask), digest) for mask in masks if mask.name != digest.name]
    forms += [(forge.pss(other, digest.digest_size), other) for other in masks[1:] if other.name != digest.name]
    for form, hashed in forms:
        text = token(algorithm, signer=lambda data: native.sign(data, form, hashed))  # noqa: B023
        assert reason(text, algorithm) == "bad-signature"


@pytest.mark.parametrize("algorithm", RSA)
def test_the_other_padding_and_other_hashes(algorithm: Algorithm) -> None:
    native = forge.rsa_native()
    for other in (
        hashes.SHA512_256(),
        hashes.SHA224(),
        hashes.SHA256(),
        hashes.SHA384(),
        hashes.SHA512(),
        hashes.SHA3_256(),
    ):
        for form in (padding.PKCS1v15(), forge.pss(other)):
            same_hash = other.name == forge.sha2(algorithm).name
            if same_hash and isinstance(form, padding.PSS) == algorithm.startswith("PS"):
                continue
            text = token(algorithm, signer=lambda data: native.sign(data, form, other))  # noqa: B023
            assert reason(text, algorithm) == "bad-signature"


def _pkcs1(algorithm: Algorithm, block: bytes, data: bytes) -> bytes:
    """Sign a raw block, as an attacker who forges PKCS #1 v1.5 blocks does."""
    digest = hashes.Hash(forge.sha2(algorithm))
    digest.update(data)
    numbers = forge.rsa_native().private_numbers()
    return pow(int.from_bytes(block + digest.finalize()), numbers.d, numbers.public_numbers.n).to_bytes(256)


SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


@pytest.mark.parametrize(
    ("block", "good"),
    [
        (b"\0\1" + b"\xff" * 202 + b"\0" + SHA256_PREFIX, True),
        # No AlgorithmIdentifier, no NULL in it, or something else in front of the padding's end.
        (b"\0\1" + b"\xff" * 221 + b"\0", False),
        (b"\0\1" + b"\xff" * 204 + b"\0" + bytes.fromhex("302f300b0609608648016503040201") + b"\4\x20", False),
        (b"\0\1" + b"\xfe" * 202 + b"\0" + SHA256_PREFIX, False),
        (b"\0\1" + b"\xff" * 201 + b"\xfe\0" + SHA256_PREFIX, False),
        (b"\0\2" + b"\xff" * 202 + b"\0" + SHA256_PREFIX, False),
        (b"\0\0" + b"\xff" * 202 + b"\0" + SHA256_PREFIX, False),
        (b"\0\1" + b"\xff" * 8 + b"\0" + b"\1" * 194 + SHA256_PREFIX, False),
        (b"\0\1\0" + b"\1" * 202 + SHA256_PREFIX, False),
    ],
)
def test_pkcs1_blocks(block: bytes, good: bool) -> None:  # noqa: FBT001
    assert len(block) == 224
    text = token(Algorithm.RS256, signer=lambda data: _pkcs1(Algorithm.RS256, block, data))
    if good:
        accepted(text, Algorithm.RS256)
    else:
        assert reason(text, Algorithm.RS256) == "bad-signature"


def test_pkcs1_blocks_with_something_behind_the_digest() -> None:
    """The digest must end the block (the forgery of Bleichenbacher, 2006, with room for a cube root)."""
    algorithm = Algorithm.RS256
    numbers = forge.rsa_native().private_numbers()

    def signer(data: bytes) -> bytes:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        block = b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_PREFIX + digest.finalize()
        return pow(int.from_bytes(block.ljust(256, b"\0")), numbers.d, numbers.public_numbers.n).to_bytes(256)

    assert reason(token(algorithm, signer=signer), algorithm) == "bad-signature"


# -- signatures that every library accepts


@pytest.mark.parametrize("algorithm", Algorithm)
def test_our_signature_holds_elsewhere(algorithm: Algorithm) -> None:
    data, _, encoded = forge.key(algorithm).sign(Claims("a", "b", "c", expires=NOW)).rpartition(".")
    signature, signed = unb64(encoded), data.encode()
    if algorithm.symmetric:
        assert signature == forge.sign(algorithm, signed)
        return
    public = forge.native(algorithm).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        digest = forge.sha2(algorithm)
        form = padding.PKCS1v15() if algorithm.startswith("RS") else forge.pss(digest)
        public.verify(signature, signed, form, digest)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(forge.der(signature), signed, ec.ECDSA(forge.sha2(algorithm)))
    else:
        assert isinstance(public, ed25519.Ed25519PublicKey)
        public.verify(signature, signed)


def test_which_signatures_repeat() -> None:
    claims = Claims("a", "b")
    for algorithm in Algorithm:
        first, second = forge.key(algorithm).sign(claims), forge.key(algorithm).sign(claims)
        assert (first == second) is (algorithm[:2] in {"HS", "RS", "Ed"})
