"""Read a token without verifying it: for logs and debugging, never for a decision."""

from __future__ import annotations

import msgspec

from moq_token import jws
from moq_token.encoding import parse_json
from moq_token.errors import InvalidTokenError, sealed


class UnverifiedToken(msgspec.Struct, frozen=True):
    """The content of a token that was not verified: anybody can have written it."""

    header: dict[str, object]
    claims: dict[str, object]


@sealed
def read_unverified(token: str) -> UnverifiedToken:
    """Read the header and the claims of a token without any check of who made it, what it says or until when.

    Raises ``InvalidTokenError`` for more than 64 KiB, anything but three segments of canonical base64url, and a header
    or claims that are not a JSON object; ``TypeError`` for another type than ``str``.
    """
    _, header, payload, _ = jws.split(token)
    try:
        claims = parse_json(payload)
    except ValueError:
        raise InvalidTokenError("the claims of the token are not valid JSON") from None
    if not isinstance(claims, dict):
        raise InvalidTokenError("the claims of the token must be a JSON object")
    return UnverifiedToken(jws.parse_header(header), claims)
