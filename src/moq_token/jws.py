"""The compact form of a token (RFC 7515, section 7.1): bounds, segments, header. Knows no key and no claim."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeAlias

from moq_token.encoding import b64decode, b64encode, parse_json
from moq_token.errors import InvalidSignatureError, InvalidTokenError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from moq_token.trace import Trace

    Sign: TypeAlias = Callable[[bytes], str]
    """Takes a payload and returns the token."""
    Verify: TypeAlias = Callable[[str, Trace | None], bytes]
    """Takes a token and returns its payload, or raises."""

MAX_TOKEN_BYTES = 64 * 1024
_SEGMENTS = 3
# All tokens of a key have the same header.
_REMEMBERED_HEADERS, _MAX_REMEMBERED_BYTES = 1024, 512
# Members that relays read as text, though they do not use them (RFC 7515, section 4.1).
_TEXTS = ("typ", "cty", "jku", "x5u", "x5t", "x5t#S256", "enc", "zip", "url", "nonce")


def signer(header: bytes, sign: Callable[[bytes], bytes]) -> Sign:
    """Prepare the making of tokens with this header segment (RFC 7515, section 5.1)."""
    start = header + b"."

    def sign_token(payload: bytes) -> str:
        signed = start + b64encode(payload)
        return (signed + b"." + b64encode(sign(signed))).decode()

    return sign_token


def verifier(algorithm: str, headers: Collection[bytes], verify: Callable[[bytes, bytes], bool]) -> Verify:
    """Prepare the check of tokens (RFC 7515, section 5.2): form, header, signature.

    ``headers`` are header segments that need no parsing. The result raises ``InvalidTokenError`` and
    ``InvalidSignatureError``.
    """
    headers = frozenset(headers)

    def verify_token(token: str, trace: Trace | None) -> bytes:
        if trace is not None:
            trace.begin("form")
        signed, header, payload, signature = split(token)
        if trace is not None:
            trace.begin("algorithm")
        if header not in headers:
            check_header(header, algorithm)
        if trace is not None:
            trace.begin("signature")
        if not verify(signature, signed):
            raise bad_signature()
        return payload

    return verify_token


def split(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Take a token apart into (what was signed, its header segment still encoded, payload, signature).

    Raises ``InvalidTokenError`` unless it is at most 64 KiB, of three segments, each canonical base64url; the
    header segment's own encoding is left to ``parse_header()``. Raises ``TypeError`` for another type.
    """
    if not isinstance(token, str):
        raise TypeError(f"a token must be a str, not {type(token).__name__}")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        header, dot, payload = signed.partition(b".")
        if dot:
            return signed, header, b64decode(payload), b64decode(signature)
    except ValueError:
        pass
    raise unreadable(token)


def unreadable(token: str) -> InvalidTokenError:
    """Make the error for a token that cannot be split."""
    segments = token.count(".") + 1
    if segments != _SEGMENTS:
        return InvalidTokenError(f"a token has three segments between dots, this has {segments}")
    return InvalidTokenError("a segment of the token is not canonical base64url (A-Z a-z 0-9 - _, no padding)")


def parse_header(segment: bytes) -> dict[str, object]:
    """Decode a header segment. Raises ``InvalidTokenError`` unless it is a JSON object, strictly encoded."""
    try:
        header = parse_json(b64decode(segment))
    except ValueError:
        raise InvalidTokenError("the header of the token is not canonical base64url of plain JSON") from None
    if not isinstance(header, dict):
        raise InvalidTokenError("the header of the token must be a JSON object")
    return header


def kid_of(header: dict[str, object]) -> str | None:
    """Return the unverified ``kid`` of a header. Raises ``InvalidTokenError`` unless it is a string or missing."""
    kid = header.get("kid")
    if kid is None or isinstance(kid, str):
        return kid
    raise InvalidTokenError("the `kid` in the header of the token must be a string")


def kid_in(segment: bytes) -> str | None:
    """Return the unverified ``kid`` of a header segment. Raises as ``parse_header()`` and ``kid_of()``."""
    return _remembered_kid(segment) if len(segment) <= _MAX_REMEMBERED_BYTES else kid_of(parse_header(segment))


@functools.lru_cache(maxsize=_REMEMBERED_HEADERS)
def _remembered_kid(segment: bytes) -> str | None:
    return kid_of(parse_header(segment))


def check_header(segment: bytes, algorithm: str) -> None:
    """Check a header against the algorithm of the key, which alone decides (RFC 8725, section 3.1).

    ``jwk``, ``jku``, ``x5u`` and ``x5c`` are ignored. Raises ``InvalidTokenError`` for another ``alg``
    (``wrong-algorithm``), for a registered member of the wrong type, which relays refuse too, and for ``crit`` and an
    unencoded payload (RFC 7797), as no extension is supported.
    """
    header = parse_header(segment)
    kid_of(header)
    for name in _TEXTS:
        if not isinstance(header.get(name), str | None):
            raise InvalidTokenError(f"the `{name}` in the header of the token must be a string")
    if not isinstance(header.get("jwk"), dict | None):
        raise InvalidTokenError("the `jwk` in the header of the token must be an object")
    chain = header.get("x5c")
    if chain is not None and not (isinstance(chain, list) and all(isinstance(each, str) for each in chain)):
        raise InvalidTokenError("the `x5c` in the header of the token must be a list of strings")
    if "crit" in header:
        raise InvalidTokenError("the header of the token has `crit`, which is not supported")
    if header.get("b64", True) is not True:
        raise InvalidTokenError("the header of the token asks for an unencoded payload (`b64`)")
    named = header.get("alg")
    if named != algorithm:
        what = shown(named) if isinstance(named, str) else "no name"
        message = f"the token has {what} as `alg`, but its key is for {algorithm}"
        raise InvalidTokenError(message, reason="wrong-algorithm")


def bad_signature() -> InvalidSignatureError:
    """Make the error for a signature that does not match."""
    return InvalidSignatureError("the signature does not match the token and the key")


def usual_spellings(algorithm: str, kid: str | None) -> list[bytes]:
    """Encode the headers that libraries write for a key, that of ``sign`` first. These need no parsing.

    Neither argument needs escaping: an algorithm and a ``KeyId`` are plain characters.
    """
    typ, alg, key_id = '"typ":"JWT"', f'"alg":"{algorithm}"', f'"kid":"{kid}"'
    headers = [[typ, alg], [alg, typ], [alg]]
    if kid is not None:
        headers = [[typ, alg, key_id], [alg, typ, key_id], [alg, key_id, typ], [alg, key_id], *headers]
    return [b64encode(f"{{{','.join(members)}}}".encode()) for members in headers]
