"""Which token a session presents, and what it says of the session: what denials and caps compare, and logs show."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from moq_token import jws
from moq_token.errors import Error, InvalidTokenError, NotAdmittedError, RefusedError
from moq_token.kid import KeyId
from moq_token.unverified import read_unverified

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.contract import Grant, Request

_JWT = "jwt="
_JWTS: Callable[[str], list[str]] = re.compile(r"(?:^|&)jwt=([^&]+)").findall
_OUT_OF_BAND = 0  # the kind of a SETUP token whose meaning is agreed on elsewhere, which is a JWT here
_DIGEST_BYTES = 16
# Every JSON object in base64url starts so: a brace, and a quote or white space.
_JSON_OBJECT = ("ey", "ew")
_JWT_DOTS = 2
_REMEMBERED_DIGEST_KEYS = 8
_REMEMBERED_HEADERS, _MAX_HEADER_CHARACTERS = 1024, 512


def presented(request: Request) -> str | None:
    """Return the token that a client presents in its URL or its SETUP message.

    In the URL it is the last ``jwt=`` that is not empty, unchanged: nothing is percent-decoded. Raises
    ``NotAdmittedError`` for two different tokens (``two-tokens``) and for a SETUP token of another kind
    (``unsupported-token``), and ``InvalidTokenError`` for one that is not UTF-8.
    """
    query, dialed = request.query, None
    if query is not None and query.startswith(_JWT) and "&" not in query:  # as nearly all are
        dialed = query[len(_JWT) :] or None
    elif query is not None and (found := _JWTS(query)):
        dialed = found[-1]
    setup = request.token
    if setup is None:
        return dialed
    if dialed is not None:
        if setup.kind == _OUT_OF_BAND and setup.value == dialed.encode():
            return dialed
        message = "a SETUP token and a different `jwt` query were presented; present one"
        raise NotAdmittedError(message, reason="two-tokens")
    if setup.kind != _OUT_OF_BAND:
        message = f"SETUP token type {setup.kind:#x} is not supported; only type 0 (a JWT) is"
        raise NotAdmittedError(message, reason="unsupported-token")
    try:
        return setup.value.decode()
    except UnicodeDecodeError:
        raise InvalidTokenError("the SETUP token is not UTF-8") from None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the token of a session; all None without one.

    ``token`` is its keyed digest. ``kid`` is what its header names, and ``jti``, ``subject`` and ``issued`` are claims
    of the verified token. If a custom policy returns no claims, nobody may have verified the token: then ``kid`` and
    ``jti`` are what it says by itself, which can only make a session be denied, and the others are None.
    """

    token: bytes | None = None
    jti: str | None = None
    kid: str | None = None
    subject: str | None = None
    issued: int | None = None


def identify(token: str | None, grant: Grant, key: bytes) -> Identity:
    """Return what is known of a session that a policy has admitted with this grant."""
    claims = grant.claims
    if token is None:
        if claims is None:
            return _NOBODY
        return Identity(jti=claims.id, subject=claims.subject, issued=claims.issued)
    if claims is None:
        return Identity(token=digest(token, key), jti=_unverified_jti(token), kid=kid_of(token))
    return Identity(
        token=digest(token, key), jti=claims.id, kid=kid_of(token), subject=claims.subject, issued=claims.issued
    )


_NOBODY = Identity()


def token_of(asked: Request) -> str | None:
    """Return the token that a session presents, None where there is none or none that is readable."""
    try:
        return presented(asked)
    except RefusedError:
        return None


def digest(token: str, key: bytes) -> bytes:
    """Return the keyed digest by which a token is known.

    It leaves out the signature of a JWT: a valid ECDSA signature can be changed into another valid one by anybody, so
    that the holder of a banned token could make one that is not banned.
    """
    if token.startswith(_JSON_OBJECT) and token.count(".") == _JWT_DOTS:
        token = token[: token.rindex(".")]
    state = _prepared(key).copy()
    state.update(token.encode(errors="surrogatepass"))
    return state.digest()


@functools.lru_cache(maxsize=_REMEMBERED_DIGEST_KEYS)
def _prepared(key: bytes) -> hashlib.blake2b:
    # To copy a state costs less than to prepare it for the key.
    return hashlib.blake2b(digest_size=_DIGEST_BYTES, key=key)


def kid_of(token: str) -> str | None:
    """Return the ``kid`` in the header of a token, None if there is none or an invalid one."""
    header, dot, _ = token.partition(".")
    return _kid_in(header) if dot and len(header) <= _MAX_HEADER_CHARACTERS else None


# All tokens of one key have the same header.
@functools.lru_cache(maxsize=_REMEMBERED_HEADERS)
def _kid_in(header: str) -> str | None:
    try:
        _, parsed, _, _ = jws.split(f"{header}.e30.AA")
        kid = jws.kid_of(jws.parse_header(parsed))
        return None if kid is None else str(KeyId(kid))
    except Error:
        return None


def _unverified_jti(token: str) -> str | None:
    try:
        jti = read_unverified(token).claims.get("jti")
    except Error:
        return None
    return jti if isinstance(jti, str) else None
