"""The wire form of claims and scopes: JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from moq_token.claims.arguments import plain_text
from moq_token.claims.claims import Claims, unchecked
from moq_token.claims.scope import Scope
from moq_token.encoding import parse_json
from moq_token.errors import Error, InvalidKeyError, InvalidTokenError, NotYetValidTokenError
from moq_token.times import MAX_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moq_token.trace import Trace

encode: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=plain_text).encode
_decode: Callable[[bytes], Claims] = msgspec.json.Decoder(Claims).decode


def decode(payload: bytes, now: float, trace: Trace | None = None) -> Claims:
    """Read the claims of a token whose signature has been verified; ``now`` is in Unix seconds, leeway included.

    Raises :class:`InvalidTokenError` (``malformed``, ``bad-claims``) for what tokens.md does not allow, ``aud``
    included, and :class:`NotYetValidTokenError` for an ``nbf`` after ``now``. Does not look at ``exp``.
    """
    try:
        claims = _decode(payload)
        # Equal bytes prove that nothing stood in the payload but these claims, once each and in their usual spelling.
        if encode(claims) == payload:
            return claims
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # the reader below accepts any spelling, and knows what to say of the others
    return _decode_any_spelling(payload, now, trace)


def _decode_any_spelling(payload: bytes, now: float, trace: Trace | None) -> Claims:
    try:
        members = parse_json(payload)
    except ValueError as error:
        raise InvalidTokenError(f"the claims are not readable as JSON: {error}") from None
    if not isinstance(members, dict):
        raise _bad("the claims must be a JSON object")
    if "aud" in members:
        raise _bad("the token has an `aud`: it is addressed to somebody else")
    not_before = _time(members, "nbf")
    cluster = members.get("cluster", False)
    if not isinstance(cluster, bool):
        raise _bad("the claim `cluster` must be true or false")
    root = members.get("root", "")
    if not isinstance(root, str):
        raise _bad("the claim `root` must be a string")
    claims = unchecked(
        {
            "root": root,
            "publish": _paths(members, "put"),
            "subscribe": _paths(members, "get"),
            "cluster": cluster,
            "expires": _time(members, "exp"),
            "issued": _time(members, "iat"),
        }
    )
    if trace is not None:
        trace.begin("time")
    if not_before is not None and not now >= not_before:
        raise NotYetValidTokenError(not_before=not_before)
    return claims


def decode_scope(members: object) -> Scope:
    """Read the ``scope`` member of a key. Raises :class:`InvalidKeyError`."""
    try:
        scope = msgspec.convert(members, Scope)
    except (msgspec.ValidationError, Error):
        message = "the member `scope` must be an object of `root` (a string), `put` and `get` (lists of strings)"
        raise InvalidKeyError(message) from None
    scope.validate()
    return scope


def _bad(message: str) -> InvalidTokenError:
    return InvalidTokenError(message, reason="bad-claims")


def _time(members: Mapping[str, object], name: str) -> int | None:
    value = members.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (type(value) is int and 0 <= value <= MAX_SECONDS):
        return value
    raise _bad(f"the claim `{name}` must be a whole number of Unix seconds from 0 to 2**53 - 1")


def _paths(members: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = members.get(name, [])
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise _bad(f"the claim `{name}` must be a string or a list of strings")
