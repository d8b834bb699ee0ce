"""Who comes in: clients are admitted or rejected, and the sessions of the admitted kept until they end."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import moq

from moq_token.auth import Connection, Rejection, Transport
from moq_token.errors import RefusedError, UnavailableError, shown
from moq_token.integrations.moq.exchange import Contribution, Exchange, Window, mirror
from moq_token.integrations.moq.tasks import MoqError, Tasks, log

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from moq_token.auth import Authenticator, Grant

# Clients that are not yet admitted or rejected. Where there are more, the one that has waited longest has to go, so
# that a slow key server holds up only those whose keys it has.
MAX_PENDING = 1_000
# How long it may take until a client is admitted; a source of keys may take half of it.
PENDING_SECONDS = 20
# How long it may take to tell a client that it is rejected.
REJECTING_SECONDS = 5

# Within this time the clock may be set, and a session still ends when its grant expires.
_CLOCK_SECONDS = 30
# The protocol's code for the end of a session; reject() translates from HTTP's, cancel() does not.
_UNAUTHORIZED = 2

_TRANSPORTS = {
    moq.Transport.QUIC: Transport.QUIC,
    moq.Transport.IROH: Transport.IROH,
    moq.Transport.WEB_SOCKET: Transport.WEBSOCKET,
    moq.Transport.TCP: Transport.TCP,
    moq.Transport.UNIX: Transport.UNIX,
}


@dataclass(frozen=True, slots=True, eq=False)
class GuardedSession:
    """An admitted session: the dialed ``path``, its ``grant``, and the ``session`` of ``moq-rs``."""

    path: str
    grant: Grant
    session: moq.Session

    async def closed(self) -> None:
        """Wait until the session has ended, however it did."""
        with suppress(MoqError):
            await self.session.closed()


async def guard(
    server: moq.Server, authenticator: Authenticator, *, hub: moq.OriginProducer | None = None
) -> AsyncGenerator[GuardedSession]:
    """Answer the clients of a server, and yield those that are admitted, each once it is connected.

    Broadcasts are carried between the sessions and ``hub``, under their full paths; None makes one for these sessions.
    Whatever else is announced there, the sessions may watch as their grants allow. Clients are answered side by side,
    so that a slow key server holds up nobody else, and served whether or not the loop goes on. Sessions end with the
    loop: leave it by :func:`contextlib.aclosing` to wait for that. Raises what the server does when it fails.
    """
    async with _Doorman(server, authenticator, hub or moq.OriginProducer()) as doorman:
        while (session := await doorman.admitted.get()) is not None:
            yield session
        await doorman.listening


class _Queue:
    """Places for so many at a time and for so long; where there are too many, the oldest has its time-out at once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: OrderedDict[asyncio.Timeout, None] = OrderedDict()

    @asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """Raise :class:`TimeoutError` in the block when it has to be left."""
        async with asyncio.timeout(seconds) as place:
            if len(self._taken) >= self._places:
                oldest, _ = self._taken.popitem(last=False)
                if not oldest.expired():
                    oldest.reschedule(asyncio.get_running_loop().time())
            self._taken[place] = None
            try:
                yield
            finally:
                self._taken.pop(place, None)


class _Doorman:
    """Hears of clients, has them admitted or rejected, and keeps the sessions of the admitted."""

    def __init__(self, server: moq.Server, authenticator: Authenticator, hub: moq.OriginProducer) -> None:
        self._server = server
        self._authenticator = authenticator
        self._hub = hub
        self._exchange = Exchange()
        self._pending = _Queue(MAX_PENDING)
        self._rejected = _Queue(MAX_PENDING)
        self._tasks = Tasks()
        self.admitted: asyncio.Queue[GuardedSession | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start(mirror(self._hub.consume(), self._exchange))
        self.listening = asyncio.create_task(self._listen())
        self.listening.add_done_callback(lambda _: self.admitted.put_nowait(None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self._tasks.__aexit__(kind, error, traceback)

    async def _listen(self) -> None:
        try:
            async for request in self._server:
                self._tasks.start(self._answer(request))
                del request  # or it would be kept until the next one comes
        except MoqError as error:
            if not moq.is_shutdown(error):
                raise

    async def _answer(self, request: moq.Request) -> None:
        """Admit a client and keep its session to its end, or reject it."""
        incoming, outgoing = moq.OriginProducer(), moq.OriginProducer()
        path = request.path
        try:
            async with self._pending.place(PENDING_SECONDS):
                connection = _connection(request, self._authenticator)
                path = connection.path
                grant = await self._authenticator.authenticate(connection)
                del connection  # its token is of no more use
                request.set_consume(incoming if grant.publish else None)
                request.set_publish(outgoing if grant.subscribe else None)
                session = await request.accept()
        except (RefusedError, UnavailableError) as error:
            await self._reject(request, path, error)
            return
        except TimeoutError:
            await self._reject(request, path, UnavailableError("it took too long, or too many others are waiting"))
            return
        except MoqError:
            log.info("gone from %s before it was answered", shown(path))
            return
        except Exception:  # noqa: BLE001 - whatever it is, it must not let anybody in, nor keep the others out
            log.exception("nobody could decide about a client at %s", shown(path))
            await self._reject(request, path, UnavailableError("the guard has failed"))
            return
        del request
        guarded = GuardedSession(path, grant, session)
        self.admitted.put_nowait(guarded)
        await self._attend(guarded, incoming, outgoing)

    async def _reject(self, request: moq.Request, path: str, error: RefusedError | UnavailableError) -> None:
        reason = error.reason if isinstance(error, RefusedError) else "unavailable"
        log.info("refused at %s: %s (%s)", shown(path), reason, error)
        try:
            async with self._rejected.place(REJECTING_SECONDS):
                await request.reject(Rejection.of(error).status)
        except (MoqError, TimeoutError):
            request.cancel()  # the client has gone, or hangs in the middle of being accepted

    async def _attend(
        self, guarded: GuardedSession, incoming: moq.OriginProducer, outgoing: moq.OriginProducer
    ) -> None:
        """Carry what is granted, until the client leaves or the grant expires."""
        grant, session = guarded.grant, guarded.session
        async with session, Tasks() as tasks:
            if grant.expires is not None:
                tasks.start(_expire(session, grant.expires))
            if grant.publish:
                tasks.start(mirror(incoming.consume(), Contribution(self._hub, grant)))
            if grant.subscribe:
                tasks.start(self._exchange.show(Window(outgoing, grant)))
            await guarded.closed()
        expired = grant.expires is not None and grant.expires <= time.time()
        log.info("ended at %s: %s", shown(guarded.path), "expired" if expired else "left")


def _connection(request: moq.Request, authenticator: Authenticator) -> Connection:
    """Take what was dialed: the whole URL where the transport carries it, for the rule about hosts."""
    transport = _TRANSPORTS[request.transport]
    if request.url is not None:
        return Connection.from_url(request.url, authenticator.config.domains, transport=transport)
    return Connection.from_path_query(request.path, request.query, transport=transport)


async def _expire(session: moq.Session, expires: int) -> None:
    while (left := expires - time.time()) > 0:  # noqa: ASYNC110 - no event tells that the clock has been set
        await asyncio.sleep(min(left, _CLOCK_SECONDS))
    session.cancel(_UNAUTHORIZED)
