"""Make keys and tokens without the package, as another library or an attacker would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from moq_token import Algorithm, InvalidKeyError, Key, KeySet, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from moq_token import Claims

    Native = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

VECTORS = Path(__file__).parent / "vectors"

NOW = 1_800_000_000
KID = "test-key"
GRANT: dict[str, object] = {"root": "rooms/123", "put": ["alice"], "get": [""]}

SYMMETRIC = tuple(algorithm for algorithm in Algorithm if algorithm.symmetric)
ASYMMETRIC = tuple(algorithm for algorithm in Algorithm if not algorithm.symmetric)
RSA = tuple(algorithm for algorithm in Algorithm if algorithm.kty == "RSA")
ONE_OF_EACH = (Algorithm.HS256, Algorithm.RS256, Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA)
"""One algorithm of each family, where the hash does not matter."""

SECRET = bytes(range(64))
# The points of the curves have these orders (SEC 2, sections 2.4.2 and 2.5.1; RFC 8032, section 5.1).
ORDERS = {
    Algorithm.ES256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    Algorithm.ES384: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
FIELDS = {
    Algorithm.ES256: 2**256 - 2**224 + 2**192 + 2**96 - 1,
    Algorithm.ES384: 2**384 - 2**128 - 2**96 + 2**32 - 1,
}
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


# -- text


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64int(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8))


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# -- keys

PRIVATE_MEMBERS = {
    "oct": ("k",),
    "RSA": ("d", "p", "q", "dp", "dq", "qi"),
    "EC": ("d",),
    "OKP": ("d",),
}


def published(name: str, section: str) -> dict[str, str]:
    """Return the key of a section of an RFC, as the JWK in the text."""
    document = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return next(case["key"] for case in document["signatures"] if case["section"] == section)


def rsa_from(*, n: int, e: int, d: int, p: int, q: int, dp: int, dq: int, qi: int) -> rsa.RSAPrivateKey:
    """Build an RSA key, consistent or not."""
    numbers = rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


@cache
def rsa_native(section: str = "A.2") -> rsa.RSAPrivateKey:
    jwk = published("rfc7515" if section == "A.2" else "rfc7520", section)
    members = {name: int.from_bytes(unb64(jwk[name])) for name in ("n", "e", *PRIVATE_MEMBERS["RSA"])}
    return rsa_from(**members)


@cache
def ec_native(algorithm: Algorithm, private: int = 0x1234567890ABCDEF1234567890ABCDEF) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(private, ec.SECP256R1() if algorithm is Algorithm.ES256 else ec.SECP384R1())


@cache
def ed25519_native(seed: bytes = bytes(range(32))) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)


def native(algorithm: Algorithm) -> Native:
    """Return the fixed private key."""
    natives: dict[str, Callable[[], Native]] = {
        "RSA": rsa_native,
        "EC": lambda: ec_native(algorithm),
        "OKP": ed25519_native,
    }
    return natives[algorithm.kty]()


def another_native(algorithm: Algorithm) -> Native:
    """Return a second private key of the same kind, an attacker's."""
    natives: dict[str, Callable[[], Native]] = {
        "RSA": lambda: rsa_native("4.1"),
        "EC": lambda: ec_native(algorithm, 0xFEDCBA9876543210),
        "OKP": lambda: ed25519_native(bytes(32)),
    }
    return natives[algorithm.kty]()


def jwk_of(algorithm: Algorithm, key: Native | bytes) -> dict[str, Any]:
    """Return the members of a key that hold its material, including the private ones."""
    if isinstance(key, bytes):
        return {"kty": "oct", "k": b64(key)}
    if isinstance(key, rsa.RSAPrivateKey):
        secret = key.private_numbers()
        members = {
            "n": secret.public_numbers.n,
            "e": secret.public_numbers.e,
            "d": secret.d,
            "p": secret.p,
            "q": secret.q,
            "dp": secret.dmp1,
            "dq": secret.dmq1,
            "qi": secret.iqmp,
        }
        return {"kty": "RSA", **{name: b64int(value) for name, value in members.items()}}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size, point = key.key_size // 8, key.public_key().public_numbers()
        private = key.private_numbers().private_value
        crv = "P-256" if algorithm is Algorithm.ES256 else "P-384"
        return {
            "kty": "EC",
            "crv": crv,
            "x": b64int(point.x, size),
            "y": b64int(point.y, size),
            "d": b64int(private, size),
        }
    x, d = key.public_key().public_bytes_raw(), key.private_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(x), "d": b64(d)}


@cache
def _jwk(algorithm: Algorithm) -> dict[str, Any]:
    return jwk_of(algorithm, SECRET if algorithm.symmetric else native(algorithm))


def jwk(algorithm: Algorithm, /, **changes: object) -> dict[str, Any]:
    """Return a new JWK of the one fixed private key per algorithm; a member changed to None is left out."""
    members = {**_jwk(algorithm), "alg": algorithm.value, "kid": KID, **changes}
    return {name: value for name, value in members.items() if value is not None}


def public_jwk(algorithm: Algorithm, /, **changes: object) -> dict[str, Any]:
    """Return the public half of ``jwk()``."""
    private = dict.fromkeys(PRIVATE_MEMBERS[algorithm.kty])
    return jwk(algorithm, **{**private, "key_ops": ["verify"], **changes})


def load(members: Mapping[str, object]) -> Key:
    return Key.from_str(json.dumps(members))


@cache
def key(algorithm: Algorithm) -> Key:
    """Return the fixed private key."""
    return load(jwk(algorithm))


@cache
def verifier(algorithm: Algorithm) -> Key:
    """Return the half of the fixed key that a relay would hold."""
    return key(algorithm) if algorithm.symmetric else load(public_jwk(algorithm))


def public_forms(algorithm: Algorithm) -> dict[str, bytes]:
    """Return the public half in every form that could be used as an HMAC secret."""
    public = native(algorithm).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forms = {
        "pem": pem,
        "pem without its last newline": pem.rstrip(),
        "der": public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(public_jwk(algorithm)).encode(),
        "compact jwk": compact(public_jwk(algorithm)),
        "member": next(jwk(algorithm)[name] for name in ("n", "x") if name in jwk(algorithm)).encode(),
        "bytes of the member": unb64(next(jwk(algorithm)[name] for name in ("n", "x") if name in jwk(algorithm))),
    }
    if isinstance(public, rsa.RSAPublicKey):
        forms["pkcs1"] = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    return forms


# -- signatures


def sha2(algorithm: Algorithm) -> HashAlgorithm:
    digests: dict[str, HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
    return digests[algorithm[2:]]


def pss(digest: HashAlgorithm, salt: int | None = None, mask: HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(mask or digest), digest.digest_size if salt is None else salt)


def mac(algorithm: Algorithm, secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, f"sha{algorithm[2:]}")


def raw(algorithm: Algorithm, r: int, s: int) -> bytes:
    size = 32 if algorithm is Algorithm.ES256 else 48
    return r.to_bytes(size) + s.to_bytes(size)


def halves(signature: bytes) -> tuple[int, int]:
    size = len(signature) // 2
    return int.from_bytes(signature[:size]), int.from_bytes(signature[size:])


def der(signature: bytes) -> bytes:
    return encode_dss_signature(*halves(signature))


def sign(algorithm: Algorithm, data: bytes, key: Native | bytes | None = None) -> bytes:
    """Sign with a key, by default with the fixed one."""
    if key is None:
        key = SECRET if algorithm.symmetric else native(algorithm)
    if isinstance(key, bytes):
        return mac(algorithm, key, data)
    if isinstance(key, rsa.RSAPrivateKey):
        digest = sha2(algorithm)
        return key.sign(data, padding.PKCS1v15() if algorithm.startswith("RS") else pss(digest), digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return raw(algorithm, *decode_dss_signature(key.sign(data, ec.ECDSA(sha2(algorithm)))))
    return key.sign(data)


def ed25519_sign_with_identity(data: bytes) -> bytes:
    """Make the signature whose ``R`` is the identity: its equation holds, but ``R`` is of small order."""
    identity = (1).to_bytes(32, "little")
    scalar = int.from_bytes(hashlib.sha512(ed25519_native().private_bytes_raw()).digest()[:32], "little")
    scalar = scalar & ~7 & (1 << 255) - 1 | 1 << 254
    public = ed25519_native().public_key().public_bytes_raw()
    challenge = int.from_bytes(hashlib.sha512(identity + public + data).digest(), "little")
    return identity + (challenge * scalar % ED25519_ORDER).to_bytes(32, "little")


# -- tokens


def header(algorithm: Algorithm, /, **changes: object) -> dict[str, object]:
    """Return the header for the fixed key; a member changed to ``...`` is left out."""
    members = {"typ": "JWT", "alg": algorithm.value, "kid": KID, **changes}
    return {name: value for name, value in members.items() if value is not ...}


def segments(algorithm: Algorithm, header_segment: str, payload_segment: str) -> str:
    """Sign two segments without changing their encoding."""
    data = f"{header_segment}.{payload_segment}".encode()
    return f"{data.decode()}.{b64(sign(algorithm, data))}"


def token(
    algorithm: Algorithm,
    payload: Mapping[str, object] | bytes = GRANT,
    head: Mapping[str, object] | bytes | None = None,
    signer: Callable[[bytes], bytes] | None = None,
) -> str:
    """Make a token of any header and payload, signed by the fixed key, or by ``signer``."""
    head = header(algorithm) if head is None else head
    parts = [part if isinstance(part, bytes) else compact(part) for part in (head, payload)]
    data = ".".join(map(b64, parts))
    signature = sign(algorithm, data.encode()) if signer is None else signer(data.encode())
    return f"{data}.{b64(signature)}"


def claim(**claims: object) -> dict[str, object]:
    """Return valid claims with these changes; a claim changed to ``...`` is left out."""
    members = {**GRANT, **claims}
    return {name: value for name, value in members.items() if value is not ...}


def refusal(function: Callable[[], object]) -> RefusedError:
    """Return the refusal that a call raises."""
    try:
        function()
    except RefusedError as error:
        return error
    raise AssertionError("it was not refused")


def accepted(text: str, algorithm: Algorithm = Algorithm.HS256, *, now: float = NOW, leeway: float = 0) -> Claims:
    """Return the claims that the fixed key reads from a token."""
    return verifier(algorithm).verify(text, now=now, leeway=leeway)


def reason(text: str, algorithm: Algorithm = Algorithm.HS256, *, now: float = NOW, leeway: float = 0) -> str:
    """Return the reason for which the fixed key refuses a token."""
    return refusal(lambda: verifier(algorithm).verify(text, now=now, leeway=leeway)).reason


def reason_of_set(text: str, algorithm: Algorithm = Algorithm.HS256) -> str:
    """Return the reason for which a set of the fixed key alone refuses a token."""
    return refusal(lambda: KeySet([verifier(algorithm)]).verify(text, now=NOW)).reason


def forged_with(size: int) -> str:
    """Return a valid token of ``size`` bytes, or slightly more if base64 has no such length."""
    spare = size * 3 // 4 - 200
    while len(text := token(Algorithm.HS256, claim(x="x" * spare))) < size:
        spare += max(1, (size - len(text)) // 2)
    return text


def no_key(members: Mapping[str, object] | str | bytes) -> str:
    """Return the error for these members, or this text, as a key."""
    try:
        Key.from_str(members if isinstance(members, str | bytes) else json.dumps(members))
    except InvalidKeyError as error:
        return str(error)
    raise AssertionError("it was accepted as a key")


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def strictly(text: str) -> bytes | None:
    """Decode base64url bit by bit (RFC 4648, section 5), or return None if it is not canonical."""
    if not set(text) <= set(ALPHABET):
        return None
    bits = "".join(f"{ALPHABET.index(character):06b}" for character in text)
    whole, rest = bits[: len(bits) // 8 * 8], bits[len(bits) // 8 * 8 :]
    if len(text) % 4 == 1 or "1" in rest:
        return None
    return bytes(int(whole[start : start + 8], 2) for start in range(0, len(whole), 8))
