"""Ask either kind of authenticator about a client: with keys and rules of its own, or by way of an auth server."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import moq

from moq_token.auth import Authenticator, Connection, Grant, RemoteAuthenticator, Transport
from moq_token.contract import Event, Request
from moq_token.contract import Grant as RemoteGrant

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.contract import Usage

# A session ends at most this many seconds late when the clock is set forward.
CLOCK_SECONDS = 30
_ID_BYTES = 16

_C = TypeVar("_C", bound=Connection | Request)

_TRANSPORTS = {
    moq.Transport.QUIC: Transport.QUIC,
    moq.Transport.IROH: Transport.IROH,
    moq.Transport.WEB_SOCKET: Transport.WEBSOCKET,
    moq.Transport.TCP: Transport.TCP,
    moq.Transport.UNIX: Transport.UNIX,
}


class Admitted(Protocol):
    """What an admitted session has: its grant, which ends at some time."""

    @property
    def grant(self) -> Grant | RemoteGrant:
        """What it may do."""
        ...

    async def ended(self) -> str:
        """Wait until the session must end, and return why."""
        ...

    def close(self, reason: str, usage: Usage | None = None) -> str:
        """Note that the session has ended, and return why: the first reason given."""
        ...

    def nudge(self) -> None:
        """Have it re-checked at once, if there is an auth server."""
        ...


class Door(Protocol[_C]):
    """Accepts or rejects clients."""

    clock: Callable[[], float]

    def read(self, request: moq.Request) -> _C:
        """Return what a client dialed. Raises ``NotAdmittedError``."""
        ...

    async def admit(self, dialed: _C) -> Admitted:
        """Admit a client. Raises ``RefusedError`` and ``UnavailableError``."""
        ...


def door_of(authenticator: Authenticator | RemoteAuthenticator) -> Door[Any]:
    """Return the door that an authenticator guards."""
    return _Remote(authenticator) if isinstance(authenticator, RemoteAuthenticator) else _Local(authenticator)


class _Local:
    def __init__(self, authenticator: Authenticator) -> None:
        self.clock = authenticator.clock
        self._authenticator = authenticator

    def read(self, request: moq.Request) -> Connection:
        """Return what was dialed. Where the transport carries the whole URL, its host counts for ``domains``."""
        transport = _TRANSPORTS[request.transport]
        if request.url is not None:
            return Connection.from_url(request.url, self._authenticator.config.domains, transport=transport)
        return Connection.from_path_query(request.path, request.query, transport=transport)

    async def admit(self, dialed: Connection) -> Admitted:
        return _Expiring(await self._authenticator.authenticate(dialed), self.clock)


class _Expiring:
    """A session without re-checks: it ends when its token expires."""

    def __init__(self, grant: Grant, clock: Callable[[], float]) -> None:
        self.grant = grant
        self._clock = clock

    async def ended(self) -> str:
        if self.grant.expires is None:
            await asyncio.Event().wait()
        else:
            while (left := self.grant.expires - self._clock()) > 0:  # noqa: ASYNC110 - no event tells of a set clock
                await asyncio.sleep(min(left, CLOCK_SECONDS))
        return "expired"

    def close(self, reason: str, usage: Usage | None = None) -> str:  # noqa: ARG002 - nobody is told
        expires = self.grant.expires
        return "expired" if expires is not None and expires <= self._clock() else reason

    def nudge(self) -> None:
        pass


class _Remote:
    def __init__(self, authenticator: RemoteAuthenticator) -> None:
        self.clock = authenticator.clock
        self._authenticator = authenticator

    def read(self, request: moq.Request) -> Request:
        transport = _TRANSPORTS[request.transport]
        name = None
        if request.url is not None:
            connection = Connection.from_url(request.url, transport=transport)
            bare, mark, dialed = request.url.partition("#")[0].partition("?")
            query = dialed if mark else None
            with suppress(ValueError):
                name = urlsplit(bare).hostname
        else:
            connection = Connection.from_path_query(request.path, request.query, transport=transport)
            query = request.query
        return Request(
            id=secrets.token_hex(_ID_BYTES),
            event=Event.CONNECT,
            node="",
            transport=str(transport),
            server_name=name,
            path=connection.path,
            query=query,
        )

    async def admit(self, dialed: Request) -> Admitted:
        return await self._authenticator.connect(dialed)
