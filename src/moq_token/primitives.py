"""The signature primitives over bytes, each prepared once for a key and safe to use from many threads.

HMAC is made of the standard library's hashes and the rest comes from ``cryptography``, which is imported only where a
key needs it: it takes longer to load than everything else together. With the extra ``fast``, ``moq_token.compiled``
does the same for whole tokens.
"""

from __future__ import annotations

import hashlib
from hmac import compare_digest
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from moq_token.algorithm import Algorithm

    PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
    PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
    Sign: TypeAlias = Callable[[bytes], bytes]
    Verify: TypeAlias = Callable[[bytes, bytes], bool]
    """Takes the signature, then the data."""

_IPAD = bytes(byte ^ 0x36 for byte in range(256))
_OPAD = bytes(byte ^ 0x5C for byte in range(256))
_ED25519_BYTES = 64


def hmac_signer(algorithm: Algorithm, secret: bytes) -> Sign:
    """Prepare HMAC (RFC 2104): both padded keys are hashed once, and each call continues from copies.

    That costs less than half of ``hmac.digest``, which looks the hash up and pads the key on every call.
    """
    inner, outer = _hmac_states(algorithm, secret)

    def sign(data: bytes) -> bytes:
        within = inner.copy()
        within.update(data)
        around = outer.copy()
        around.update(within.digest())
        return around.digest()

    return sign


def hmac_verifier(algorithm: Algorithm, secret: bytes) -> Verify:
    """Prepare the check of an HMAC, in constant time."""
    inner, outer = _hmac_states(algorithm, secret)

    def verify(signature: bytes, data: bytes) -> bool:
        within = inner.copy()
        within.update(data)
        around = outer.copy()
        around.update(within.digest())
        return compare_digest(around.digest(), signature)

    return verify


def _hmac_states(algorithm: Algorithm, secret: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    digest = _hash(algorithm)
    block = digest().block_size
    if len(secret) > block:
        secret = digest(secret).digest()
    padded = secret.ljust(block, b"\0")
    return digest(padded.translate(_IPAD)), digest(padded.translate(_OPAD))


def rsa_signer(algorithm: Algorithm, key: RSAPrivateKey) -> Sign:
    """Prepare RSASSA-PKCS1-v1_5 or RSASSA-PSS with a salt as long as the digest (RFC 7518, sections 3.3 and 3.5)."""
    padding, digest = _rsa_parameters(algorithm)
    return lambda data: key.sign(data, padding, digest)


def rsa_verifier(algorithm: Algorithm, key: RSAPublicKey) -> Verify:
    """Prepare the check of an RSA signature, which must have exactly the length of the modulus."""
    from cryptography.exceptions import InvalidSignature

    padding, digest = _rsa_parameters(algorithm)
    size = (key.key_size + 7) // 8

    def verify(signature: bytes, data: bytes) -> bool:
        if len(signature) != size:
            return False
        try:
            key.verify(signature, data, padding, digest)
        except InvalidSignature:
            return False
        return True

    return verify


def ecdsa_signer(algorithm: Algorithm, key: EllipticCurvePrivateKey) -> Sign:
    """Prepare ECDSA with raw ``r‖s`` signatures (RFC 7518, section 3.4)."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    ecdsa, half = ECDSA(_sha2(algorithm)), key.key_size // 8
    return lambda data: _der_to_raw(key.sign(data, ecdsa), half)


def ecdsa_verifier(algorithm: Algorithm, key: EllipticCurvePublicKey) -> Verify:
    """Prepare the check of a raw ``r‖s`` signature; high ``s`` is valid, DER is not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    ecdsa, half = ECDSA(_sha2(algorithm)), key.key_size // 8

    def verify(signature: bytes, data: bytes) -> bool:
        if len(signature) != 2 * half:
            return False
        try:
            key.verify(_raw_to_der(signature, half), data, ecdsa)
        except InvalidSignature:
            return False
        return True

    return verify


def eddsa_signer(_: Algorithm, key: Ed25519PrivateKey) -> Sign:
    """Prepare Ed25519 (RFC 8032, section 5.1)."""
    return key.sign


def eddsa_verifier(_: Algorithm, key: Ed25519PublicKey) -> Verify:
    """Prepare the check of an Ed25519 signature; one with ``S >= L`` or a point of small order is refused."""
    from cryptography.exceptions import InvalidSignature

    def verify(signature: bytes, data: bytes) -> bool:
        if len(signature) != _ED25519_BYTES or signature[:32] in ED25519_SMALL_ORDER:
            return False
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return verify


def _hash(algorithm: Algorithm) -> Callable[..., hashlib._Hash]:
    return {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}[algorithm[2:]]


def _sha2(algorithm: Algorithm) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    digests: dict[str, HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
    return digests[algorithm[2:]]


def _rsa_parameters(algorithm: Algorithm) -> tuple[PKCS1v15 | PSS, HashAlgorithm]:
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = _sha2(algorithm)
    if algorithm.startswith("RS"):
        return padding.PKCS1v15(), digest
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), digest


# DER writes an ECDSA signature as SEQUENCE { INTEGER r, INTEGER s } (RFC 3279, section 2.2.3), each integer without
# needless leading zeros and with one where its first bit is set. Both halves are at most 48 bytes and the whole at most
# 104, so every length fits in one byte.


def _raw_to_der(signature: bytes, half: int) -> bytes:
    r, s = signature[:half].lstrip(b"\0"), signature[half:].lstrip(b"\0")
    r = b"\0" + r if not r or r[0] & 0x80 else r
    s = b"\0" + s if not s or s[0] & 0x80 else s
    return b"\x30%c\x02%c%b\x02%c%b" % (len(r) + len(s) + 4, len(r), r, len(s), s)


def _der_to_raw(der: bytes, half: int) -> bytes:
    start_of_s = 4 + der[3]
    return der[4:start_of_s].lstrip(b"\0").rjust(half, b"\0") + der[start_of_s + 2 :].lstrip(b"\0").rjust(half, b"\0")


# Ed25519 (RFC 8032, section 5.1): the field's prime, and the y of the points whose order divides 8. With such a key, or
# such a first half of a signature, one signature can fit many messages, and libraries differ in what they accept.
_P = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = (0, 1, _ORDER_8, _P - _ORDER_8, _P - 1, _P, _P + 1)
ED25519_SMALL_ORDER = frozenset((y | sign << 255).to_bytes(32, "little") for y in _SMALL_ORDER for sign in (0, 1))


def is_ed25519_key(key: bytes) -> bool:
    """Whether 32 bytes are a point of the curve, canonically written (RFC 8032, section 5.1.3), of no small order."""
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    if y >= _P or key in ED25519_SMALL_ORDER:
        return False
    d = -121665 * pow(121666, -1, _P)
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    return pow(x_squared, (_P - 1) // 2, _P) == 1


def library_version() -> str:
    """Return the version of the library ``cryptography``."""
    import cryptography

    return cryptography.__version__
