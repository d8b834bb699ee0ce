"""The material of a key: JWK members (RFC 7518, section 6; RFC 8037), to and from keys that can sign.

Material is checked here, once: lengths, curves, and that a private half matches its public half.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from moq_token import primitives
from moq_token.algorithm import Algorithm
from moq_token.encoding import b64decode, b64encode
from moq_token.errors import InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from moq_token.primitives import PrivateKey, PublicKey, Sign, Verify

MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 4096
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
# OpenSSL computes with no longer exponent where the modulus is long; in use are 3 and 65537.
_MAX_EXPONENT = 2**64
_GENERATED_EXPONENT = 65537
# By how many bits the shorter factor of a modulus may fall short of half its length, and how many of their leading bits
# the two may share.
_MAX_UNBALANCED_BITS = 64
_MAX_EQUAL_BITS = 100

_RSA_PRIVATE = ("d", "p", "q", "dp", "dq", "qi")
_CURVES = {Algorithm.ES256: ("P-256", 32), Algorithm.ES384: ("P-384", 48)}
_ORDERS = {  # SEC 2, sections 2.4.2 and 2.5.1
    Algorithm.ES256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    Algorithm.ES384: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
_ALGORITHMS = {"P-256": Algorithm.ES256, "P-384": Algorithm.ES384, "Ed25519": Algorithm.EDDSA}
_JWK_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_KINDS = "RSA, P-256, P-384 or Ed25519"
# A JWK names its curve itself. These are answered by name; any other could be a text from anywhere.
_OTHER_CURVES = ("P-521", "secp256k1", "P-256K", "Ed448", "X25519", "X448", "BP-256", "BP-384", "BP-512", "BLS12381G2")
_ED25519 = "Ed25519"
_ED25519_BYTES = 32


class Material(NamedTuple):
    """Checked material: its members as a JWK has them, and the functions that use it.

    ``public`` has the members of the public half; ``private`` has those that must stay secret, and is empty where there
    is no private half. The native keys are those of ``cryptography``, None for a secret. Without a private half
    ``sign`` and ``native_private`` are None.
    """

    public: Mapping[str, str]
    private: Mapping[str, str]
    verify: Verify
    sign: Sign | None = None
    native_public: PublicKey | None = None
    native_private: PrivateKey | None = None

    def __repr__(self) -> str:
        return "<Material>"


def algorithm_of_curve(crv: object) -> Algorithm | None:
    """Return the one algorithm that a curve (``crv``) is for here, or None: each curve has one at most."""
    return _ALGORITHMS.get(crv) if isinstance(crv, str) else None


def algorithm_of_native(native: object) -> Algorithm:
    """Return the one algorithm that a key of ``cryptography`` is for.

    Raises ``InvalidKeyError`` where no algorithm here uses such keys, and ``ValueError`` for RSA, which fits
    several.
    """
    kind = _kind(native)
    if kind == "RSA":
        names = ", ".join(algorithm for algorithm in Algorithm if algorithm.kty == "RSA")
        raise ValueError(f"an RSA key fits several algorithms: name one of {names}")
    algorithm = algorithm_of_curve(kind)
    if algorithm is None:
        raise _unsupported(kind)
    return algorithm


def load(algorithm: Algorithm, jwk: Mapping[str, object]) -> Material:
    """Check the members of a JWK and prepare them for use. Raises ``InvalidKeyError``."""
    kty = jwk.get("kty", "oct")  # files written before the member existed hold secrets
    if kty != algorithm.kty:
        raise InvalidKeyError(f"the member `kty` must be {algorithm.kty!r} for {algorithm}")
    return _LOADERS[algorithm.kty](algorithm, jwk)


def generate(algorithm: Algorithm) -> Material:
    """Generate material: as many random bytes as the hash has, RSA of 2048 bits, or a key of the curve."""
    if algorithm.symmetric:
        return load(algorithm, {"kty": "oct", "k": _text(os.urandom(int(algorithm[2:]) // 8))})
    native: PrivateKey
    if algorithm.kty == "RSA":
        from cryptography.hazmat.primitives.asymmetric import rsa

        native = rsa.generate_private_key(_GENERATED_EXPONENT, MIN_RSA_BITS)
    elif algorithm.kty == "EC":
        from cryptography.hazmat.primitives.asymmetric import ec

        native = ec.generate_private_key(_curve(algorithm))
    else:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        native = ed25519.Ed25519PrivateKey.generate()
    return from_native(algorithm, native)


def from_secret(algorithm: Algorithm, secret: bytes) -> Material:
    """Make material of a secret that exists already. Raises ``InvalidKeyError``."""
    if len(secret) < MIN_SECRET_BYTES:
        raise InvalidKeyError(
            f"the secret is too short: expected at least {MIN_SECRET_BYTES} bytes, got {len(secret)}; shorter ones "
            "can be guessed (RFC 7518, section 3.2), so give both programs a new one"
        )
    if len(secret) > MAX_SECRET_BYTES:
        raise InvalidKeyError(f"the secret is too long: expected at most {MAX_SECRET_BYTES} bytes, got {len(secret)}")
    return load(algorithm, {"kty": "oct", "k": _text(secret)})


def _load_oct(algorithm: Algorithm, jwk: Mapping[str, object]) -> Material:
    secret = _bytes(jwk, "k")
    if len(secret) < MIN_SECRET_BYTES:
        raise InvalidKeyError(f"the member `k` must have at least {MIN_SECRET_BYTES} bytes, got {len(secret)}")
    sign, verify = primitives.hmac_signer(algorithm, secret), primitives.hmac_verifier(algorithm, secret)
    return Material({"kty": "oct"}, {"k": _text(secret)}, verify, sign)


def _load_rsa(algorithm: Algorithm, jwk: Mapping[str, object]) -> Material:
    from cryptography.hazmat.primitives.asymmetric import rsa

    n, e = _integer(jwk, "n"), _integer(jwk, "e")
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise InvalidKeyError(f"the modulus `n` must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if n % 2 == 0 or e % 2 == 0 or not 3 <= e < _MAX_EXPONENT:  # noqa: PLR2004 - 1 would be no encryption at all
        raise InvalidKeyError("the modulus `n` and the exponent `e` must be odd, `e` from 3 and below 2**64")
    numbers = rsa.RSAPublicNumbers(e, n)
    public = {"kty": "RSA", "n": _text_of_integer(n), "e": _text_of_integer(e)}
    public_key = numbers.public_key()
    verify = primitives.rsa_verifier(algorithm, public_key)
    missing = [name for name in _RSA_PRIVATE if jwk.get(name) is None]
    if len(missing) == len(_RSA_PRIVATE):
        return Material(public, {}, verify, None, public_key)
    if missing:
        raise InvalidKeyError(f"an RSA key must have all private members or none, missing: {', '.join(missing)}")

    d, p, q, dp, dq, qi = halves = [_integer(jwk, name) for name in _RSA_PRIVATE]
    # cryptography would test whether p and q are prime, which takes longer than a hundred signatures. A damaged key
    # shows in this arithmetic, or in a trial signature that does not verify. Factors of very different length, or very
    # close to each other, make n easy to factor (FIPS 186-5, appendix A.1.1).
    half = n.bit_length() // 2
    consistent = (
        p * q == n
        and min(p, q).bit_length() > half - _MAX_UNBALANCED_BITS
        and abs(p - q).bit_length() > half - _MAX_EQUAL_BITS
        and d < n
        and (dp, dq) == (d % (p - 1), d % (q - 1))
        and qi < p
        and qi * q % p == 1
        and e * dp % (p - 1) == e * dq % (q - 1) == 1
    )
    if not consistent:
        raise _halves_differ()
    private = rsa.RSAPrivateNumbers(p=p, q=q, d=d, dmp1=dp, dmq1=dq, iqmp=qi, public_numbers=numbers)
    native = private.private_key(unsafe_skip_rsa_key_validation=True)
    sign = primitives.rsa_signer(algorithm, native)
    if not verify(sign(b"trial"), b"trial"):
        raise _halves_differ()
    secret = {name: _text_of_integer(value) for name, value in zip(_RSA_PRIVATE, halves, strict=True)}
    return Material(public, secret, verify, sign, public_key, native)


def _load_ec(algorithm: Algorithm, jwk: Mapping[str, object]) -> Material:
    from cryptography.hazmat.primitives.asymmetric import ec

    crv, size = _CURVES[algorithm]
    _check_crv(algorithm, jwk, crv)
    x, y = _bytes(jwk, "x", size), _bytes(jwk, "y", size)
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), _curve(algorithm))
    try:
        public_key = numbers.public_key()
    except ValueError:
        raise InvalidKeyError(f"the point of `x` and `y` is not on the curve {crv}") from None
    if public_key.public_numbers() != numbers:
        raise InvalidKeyError(f"the members `x` and `y` must be below the prime of the curve {crv}")
    public = {"kty": "EC", "crv": crv, "x": _text(x), "y": _text(y)}
    verify = primitives.ecdsa_verifier(algorithm, public_key)
    if jwk.get("d") is None:
        return Material(public, {}, verify, None, public_key)
    d = _bytes(jwk, "d", size)
    if not 0 < int.from_bytes(d) < _ORDERS[algorithm]:
        raise InvalidKeyError(f"the member `d` must be from 1 and below the order of the curve {crv}")
    try:  # this multiplies the curve's generator by d, and holds the result against x and y
        native = ec.EllipticCurvePrivateNumbers(int.from_bytes(d), numbers).private_key()
    except ValueError:
        raise _halves_differ() from None
    sign = primitives.ecdsa_signer(algorithm, native)
    return Material(public, {"d": _text(d)}, verify, sign, public_key, native)


def _load_okp(algorithm: Algorithm, jwk: Mapping[str, object]) -> Material:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    _check_crv(algorithm, jwk, _ED25519)
    x = _bytes(jwk, "x", _ED25519_BYTES)
    if not primitives.is_ed25519_key(x):
        raise InvalidKeyError("the member `x` is not a valid public key of the curve Ed25519")
    public = {"kty": "OKP", "crv": _ED25519, "x": _text(x)}
    public_key = ed25519.Ed25519PublicKey.from_public_bytes(x)
    verify = primitives.eddsa_verifier(algorithm, public_key)
    if jwk.get("d") is None:
        return Material(public, {}, verify, None, public_key)
    d = _bytes(jwk, "d", _ED25519_BYTES)
    native = ed25519.Ed25519PrivateKey.from_private_bytes(d)
    if native.public_key().public_bytes_raw() != x:
        raise _halves_differ()
    sign = primitives.eddsa_signer(algorithm, native)
    return Material(public, {"d": _text(d)}, verify, sign, public_key, native)


_LOADERS = {"oct": _load_oct, "RSA": _load_rsa, "EC": _load_ec, "OKP": _load_okp}


def from_native(algorithm: Algorithm, native: object) -> Material:
    """Make material of a key of ``cryptography``. Raises ``InvalidKeyError`` for a key of another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    jwk: dict[str, str] = {"kty": algorithm.kty}
    match algorithm.kty, native:
        case "RSA", rsa.RSAPrivateKey() as key:
            numbers = key.private_numbers()
            halves = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
            jwk |= {name: _text_of_integer(value) for name, value in zip(_RSA_PRIVATE, halves, strict=True)}
            jwk |= _rsa_public(key.public_key())
        case "RSA", rsa.RSAPublicKey() as key:
            jwk |= _rsa_public(key)
        case "EC", ec.EllipticCurvePrivateKey() as key:
            jwk |= _ec_public(key.public_key())
            jwk["d"] = _text(key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8))
        case "EC", ec.EllipticCurvePublicKey() as key:
            jwk |= _ec_public(key)
        case "OKP", ed25519.Ed25519PrivateKey() as key:
            x, d = key.public_key().public_bytes_raw(), key.private_bytes_raw()
            jwk |= {"crv": _ED25519, "x": _text(x), "d": _text(d)}
        case "OKP", ed25519.Ed25519PublicKey() as key:
            jwk |= {"crv": _ED25519, "x": _text(key.public_bytes_raw())}
        case _:
            raise _does_not_fit(algorithm, _kind(native))
    if algorithm.kty == "EC" and jwk["crv"] != _CURVES[algorithm][0]:
        raise _does_not_fit(algorithm, _kind(native))
    return load(algorithm, jwk)


def _kind(native: object) -> str:
    """Return the name of a curve as a JWK has it, or else the kind of a key."""
    curve = getattr(native, "curve", None)
    if curve is not None:
        return _JWK_CURVES.get(curve.name, str(curve.name))
    return type(native).__name__.removesuffix("Key").removesuffix("Private").removesuffix("Public")


def unsupported_curve(crv: object) -> InvalidKeyError:
    """Make the error for a JWK of a curve that no algorithm here uses."""
    name = crv if isinstance(crv, str) and crv in _OTHER_CURVES else "an unknown curve"
    return InvalidKeyError(f"unsupported `crv`: {name}, expected P-256, P-384 or Ed25519")


def _unsupported(kind: str) -> InvalidKeyError:
    return InvalidKeyError(f"unsupported kind of key: {kind}, expected {_KINDS}")


def _does_not_fit(algorithm: Algorithm, kind: str) -> InvalidKeyError:
    fitting = "RS256 and the other RSA algorithms" if kind == "RSA" else algorithm_of_curve(kind)
    if fitting is None:
        return _unsupported(kind)
    return InvalidKeyError(f"the key is {kind}, which is for {fitting}, not for {algorithm}")


def _rsa_public(key: RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"n": _text_of_integer(numbers.n), "e": _text_of_integer(numbers.e)}


def _ec_public(key: EllipticCurvePublicKey) -> dict[str, str]:
    numbers, size = key.public_numbers(), (key.key_size + 7) // 8
    crv = _JWK_CURVES.get(key.curve.name, key.curve.name)
    return {"crv": crv, "x": _text(numbers.x.to_bytes(size)), "y": _text(numbers.y.to_bytes(size))}


def _curve(algorithm: Algorithm) -> EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.SECP256R1() if algorithm is Algorithm.ES256 else ec.SECP384R1()


def _check_crv(algorithm: Algorithm, jwk: Mapping[str, object], crv: str) -> None:
    if jwk.get("crv") != crv:
        raise InvalidKeyError(f"the member `crv` must be {crv!r} for {algorithm}")


def _halves_differ() -> InvalidKeyError:
    return InvalidKeyError("the private half does not match the public half: the key is damaged")


def _bytes(jwk: Mapping[str, object], name: str, size: int | None = None) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise InvalidKeyError(f"the member `{name}` must be a string")
    try:
        # Padding is not written, but accepted: at most two characters, and only where they belong.
        text, padding = value.rstrip("="), len(value) - len(value.rstrip("="))
        if padding and (padding > 2 or len(value) % 4):  # noqa: PLR2004
            raise ValueError("wrong padding")  # noqa: TRY301
        data = b64decode(text.encode("ascii"))
    except ValueError:
        raise InvalidKeyError(f"the member `{name}` must be canonical base64url") from None
    if size is not None and len(data) != size:
        raise InvalidKeyError(f"the member `{name}` must have {size} bytes, got {len(data)}")
    return data


def _integer(jwk: Mapping[str, object], name: str) -> int:
    data = _bytes(jwk, name)
    if len(data) * 8 > MAX_RSA_BITS + 64:  # room for the zeros that some put in front
        raise InvalidKeyError(f"the member `{name}` must be an integer of at most {MAX_RSA_BITS} bits")
    return int.from_bytes(data)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _text_of_integer(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8))
