"""What a client sends to a token endpoint, read with bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from moq_token.encoding import parse_json

MAX_BODY_BYTES = 16 * 1024
REQUEST_SECONDS = 10.0
"""How long a request may take to arrive."""

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a client asks a token endpoint for. Nothing in it is proven: check who the client is by its headers.

    Attributes
    ----------
    room_name, participant_identity
        What the client would like to enter, and under which name; None if it does not say.
    members
        All members of its JSON object, these two included.
    headers
        The header fields by their names in lower case, such as ``authorization`` and ``cookie``.
    path_params
        What a router in front has found in the path, such as ``{"room": "123"}``.
    peer
        The address that the request came from; None on a unix socket. Behind a proxy, it is the client's only if the
        server is set to trust the proxy's ``X-Forwarded-For`` or ``Forwarded``.
    scope
        The ASGI scope, which has what middleware adds: ``scope["session"]``, ``scope["user"]``.

    """

    room_name: str | None
    participant_identity: str | None
    members: Mapping[str, object] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    path_params: Mapping[str, Any]
    peer: str | None
    scope: Mapping[str, Any] = field(repr=False)


class GoneError(Exception):
    """The client has disconnected."""


class BadRequestError(Exception):
    """The request is invalid."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


async def read_request(scope: Scope, headers: Mapping[str, str], receive: Receive) -> TokenRequest:
    """Read a request. Raises ``BadRequestError`` and ``GoneError``."""
    members = await _members(headers, receive)
    client = scope.get("client")
    return TokenRequest(
        room_name=_text(members, "room_name"),
        participant_identity=_text(members, "participant_identity"),
        members=members,
        headers=headers,
        path_params=scope.get("path_params", {}),
        peer=client[0] if client else None,
        scope=scope,
    )


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the header fields. Repeated ones are joined, so that a second one is never overlooked."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joint = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{joint}{value}" if name in found else value
    return found


async def _members(headers: Mapping[str, str], receive: Receive) -> dict[str, object]:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadRequestError(415, "unsupported-media-type", "send JSON with Content-Type: application/json")
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            body = await _body(receive)
    except TimeoutError:
        message = f"the request did not arrive within {REQUEST_SECONDS:g} s"
        raise BadRequestError(408, "timeout", message) from None
    try:
        members = parse_json(body) if body.strip() else {}
    except ValueError as error:
        raise BadRequestError(400, "bad-json", f"the body is not valid JSON: {error}") from None
    if not isinstance(members, dict):
        raise BadRequestError(422, "bad-member", "the body must be a JSON object")
    return members


async def _body(receive: Receive) -> bytes:
    """Read the body. Raises ``GoneError`` for a client that disconnects meanwhile."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise BadRequestError(413, "too-large", f"the body must not have more than {MAX_BODY_BYTES} bytes")
        more = message.get("more_body", False)
    return bytes(body)


def _text(members: Mapping[str, object], name: str) -> str | None:
    value = members.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BadRequestError(422, "bad-member", f"the member `{name}` must be a string")
