"""What a relay says to an auth server: who has connected, is still connected, or has gone."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import msgspec

from moq_token.contract.address import address_of, canonical_address, canonical_listener
from moq_token.contract.wire import MAX_UNSIGNED, Reader, Shown, Signed, Unsigned, encode
from moq_token.encoding import b64decode, b64encode
from moq_token.errors import InvalidRequestError, sealed, shown, without_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moq_token.contract.address import Address

_MAX_SECONDS = 2.0**53


class Event(StrEnum):
    """What a request tells of its session."""

    CONNECT = "connect"
    REVALIDATE = "revalidate"
    END = "end"


_EVENTS = {event.value: event for event in Event}


class Token(msgspec.Struct, frozen=True):
    """The token of a moq-transport SETUP message, which the relay passes on unread.

    ``kind`` 0 is agreed on out of band (a JWT by convention), 1 a CAT. ``value`` holds its bytes. The representation
    shows their number only.
    """

    kind: int
    value: bytes

    def __repr__(self) -> str:
        return f"Token(kind={self.kind}, value=<{len(self.value)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("kind", self.kind), ("value", f"<{len(self.value)} bytes>")]


class Peer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, metaclass=Shown):
    """The client certificate that the relay has verified.

    ``name`` is its first DNS name, else its common name, else its fingerprint; ``fingerprint`` the SHA-256 of the
    certificate in lower-case hexadecimal; ``expires`` its end in Unix seconds; ``issuer`` a distinguished name.
    """

    name: str
    fingerprint: str
    expires: Signed | None = None
    issuer: str

    def __init__(self, *, name: str, fingerprint: str, expires: int | None = None, issuer: str) -> None: ...


class Usage(msgspec.Struct, frozen=True, metaclass=Shown):
    """The bytes that a session has sent and received. Relays know them for QUIC only, and report 0 otherwise."""

    sent: Unsigned
    received: Unsigned

    def __init__(self, sent: int, received: int) -> None: ...


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a session, as a relay from 0.15 on reports it to its auth server.

    Attributes
    ----------
    id
        Names the session, the same in all its events (32 hexadecimal digits from a relay, but any text will do).
    event
        What has happened.
    reason, duration, usage
        Of ``end`` only: why the session ended (free text), its seconds since the admission, its bytes. None if the
        relay does not say so, or not readably.
    node
        The name of the relay, may be empty.
    transport
        ``quic``, ``websocket``, ``tcp``, ``unix``, ``iroh``, ``http`` or what later relays add.
    remote, local
        The socket addresses (``192.0.2.1:4433``, ``[2001:db8::1]:4433``), None if there are none or they are not
        readable.
    server_name, alpn
        What the TLS handshake said.
    path
        As dialed: percent-encoded, but decoded if the transport is ``http``.
    query
        As dialed, without ``?``; it can hold a token.
    token
        The token of the SETUP message.
    role
        ``publisher`` or ``subscriber``; None is both or unknown.
    tls
        The verified client certificate.

    The representation shows neither query nor token.

    """

    id: str
    event: Event
    reason: str | None = None
    duration: float | None = None
    usage: Usage | None = None
    node: str
    transport: str
    remote: str | None = None
    local: str | None = None
    server_name: str | None = None
    alpn: str | None = None
    path: str
    query: str | None = None
    token: Token | None = None
    role: str | None = None
    tls: Peer | None = None

    @property
    def address(self) -> Address | None:
        """The address of the client without its port, an IPv4 address in its IPv6 form as the IPv4 address."""
        return address_of(self.remote)

    @classmethod
    @sealed
    def from_json(cls, document: bytes | str) -> Self:
        """Read what a relay has sent.

        Raises ``InvalidRequestError``, whose ``reason`` and ``status`` say in which way it is not readable. An
        unknown ``event`` is an error; an unreadable ``remote`` or ``local`` and, of an ``end``, unreadable ``reason``,
        ``duration`` and ``bytes`` are None; an unreadable ``token`` or ``tls`` is an error, as leaving one out could
        change the verdict.
        """
        wire = _read(document)
        event = _EVENTS.get(wire.event)
        if event is None:
            message = f"unknown event {shown(wire.event)}; expected connect, revalidate or end"
            raise InvalidRequestError(f"invalid request: {message}", reason="unknown-event")
        token = None if wire.token is None else _token(wire.token)
        usage = wire.bytes
        if usage is not None and max(usage.sent, usage.received) > MAX_UNSIGNED:
            usage = None
        is_end = event is Event.END
        return cls(
            id=wire.id,
            event=event,
            reason=wire.reason if is_end else None,
            duration=wire.duration if is_end else None,
            usage=usage if is_end else None,
            node=wire.node,
            transport=wire.transport,
            remote=canonical_address(wire.remote),
            local=canonical_listener(wire.local),
            server_name=wire.server_name,
            alpn=wire.alpn,
            path=wire.path,
            query=wire.query,
            token=token,
            role=wire.role,
            tls=wire.tls,
        )

    @sealed
    def to_json(self) -> bytes:
        """Return the request as relays write it. An ``end`` needs its three members (``InvalidRequestError``)."""
        is_end = self.event == Event.END
        if is_end and (self.reason is None or self.duration is None or self.usage is None):
            message = "invalid request: an end needs `reason`, `duration` and `usage`"
            raise InvalidRequestError(message, reason="missing-member")
        token = None if self.token is None else _Token(self.token.kind, b64encode(self.token.value).decode())
        return encode(
            _Request(
                id=self.id,
                event=self.event,
                reason=self.reason if is_end else None,
                duration=self.duration if is_end else None,
                bytes=self.usage if is_end else None,
                node=self.node,
                transport=self.transport,
                remote=self.remote,
                local=self.local,
                server_name=self.server_name,
                alpn=self.alpn,
                path=self.path,
                query=self.query,
                token=token,
                role=self.role,
                tls=self.tls,
            )
        )

    def __repr__(self) -> str:
        return f"Request({', '.join(f'{name}={value!r}' for name, value in self._shown())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return list(self._shown())

    def _shown(self) -> Iterator[tuple[str, object]]:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if name == "event":
                value = str(value)
            elif name == "query":
                value = f"<{len(value)} characters>"
            elif name == "path":
                value = without_tokens(value)
            yield name, value


class _Token(msgspec.Struct):
    kind: Unsigned
    value: str


class _Request(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The wire form: the members in the order of the relays."""

    id: str
    event: str
    reason: str | None = None
    duration: float | None = None
    bytes: Usage | None = None
    node: str
    transport: str
    remote: str | None = None
    local: str | None = None
    server_name: str | None = None
    alpn: str | None = None
    path: str
    query: str | None = None
    token: _Token | None = None
    role: str | None = None
    tls: Peer | None = None


def _drop_unreadable(members: dict[str, Any]) -> None:
    """Remove the members that count as absent where they are not readable."""
    for name in ("remote", "local", "reason"):
        if not isinstance(members.get(name), str):
            members.pop(name, None)
    duration = members.get("duration")
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 <= duration <= _MAX_SECONDS:
        members.pop("duration", None)
    try:
        msgspec.convert(members.get("bytes"), Usage)
    except msgspec.ValidationError:
        members.pop("bytes", None)


_read = Reader(_Request, InvalidRequestError, _drop_unreadable)


def _token(wire: _Token) -> Token:
    """Decode base64url in its only canonical spelling, with its padding or without."""
    text = wire.value.rstrip("=")
    padding = len(wire.value) - len(text)
    if padding <= -len(text) % 4 and wire.kind <= MAX_UNSIGNED:
        try:
            return Token(wire.kind, b64decode(text.encode("ascii")))
        except ValueError:
            pass  # reported below, without the text
    message = "invalid request: `token`: expected a 64-bit `kind` and a `value` in base64url"
    raise InvalidRequestError(message, reason="bad-member")
