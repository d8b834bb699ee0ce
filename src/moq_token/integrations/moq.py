"""A guard for MoQ servers built on ``moq-rs``: only admitted sessions, and of each only what its grant allows.

    async with moq.Server("[::]:443", tls_cert=…, tls_key=…) as server, Authenticator(config) as authenticator:
        async for session in guard(server, authenticator):
            print(session.path, session.grant)

It needs ``pip install "moq-token[moq]"``. What is enforced, for each session:

- Who comes in: whom the :class:`~moq_token.auth.Authenticator` admits. The others are rejected with 401, 403 or 502, as
  :class:`~moq_token.auth.Rejection` has it; why, the log says (``moq_token.integrations.moq``, level INFO), not the
  client. ``moq-rs`` makes no difference between 401 and 403, and has no refusal before the connection stands: the
  client's ``connect`` succeeds, and then its session closes with an error that ``moq.is_auth`` knows.
- What it may publish: a session announces into an origin of its own, and only broadcasts at or beneath a granted prefix
  are taken out of it, to ``hub`` under the grant's root. A client cannot be kept from announcing others, but nobody
  hears of them.
- What it may watch: a session sees an origin of its own, in which only broadcasts of ``hub`` at or beneath a granted
  prefix are announced. The others can neither be discovered nor asked for by name.
- A role in which nothing is granted has no origin at all, not even the one that the server was made with.
- How long: the session ends when the grant expires.

No two sessions share an origin, as ``moq-rs`` itself knows roles but no prefixes. What is not enforced: the number of
sessions and bytes that the bearer of a good token may cause, and of announcements and tracks no more than the bounds
below; and a token is good until it expires.

Live groups and datagrams are carried as they come, and old groups when they are fetched. A track is pulled from its
publisher once, however many watch it, and only while anybody does. Of several broadcasts at one path the newest is
watched. A service that announces a prefix, to serve on demand whatever is asked for beneath it, is carried at the
prefix itself only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, cast

import moq

from moq_token import path as paths
from moq_token.auth import Connection, Rejection, Transport
from moq_token.errors import RefusedError, UnavailableError, shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
    from types import TracebackType

    from moq_token.auth import Authenticator, Grant

# Clients that are not yet admitted or rejected. Where there are more, the one that has waited longest has to go, so
# that a slow key server holds up only those whose keys it has.
MAX_PENDING = 1_000
# How long it may take until a client is admitted; a source of keys may take half of it.
PENDING_SECONDS = 20
# How long it may take to tell a client that it is rejected.
REJECTING_SECONDS = 5

# What a session may publish at a time, and what may be under way for one broadcast, or for one track.
MAX_BROADCASTS = 1_000
MAX_TRACKS = 1_000
MAX_FETCHES = 100

# Within this time the clock may be set, and a session still ends when its grant expires.
_CLOCK_SECONDS = 30
# How long a track is still pulled when nobody watches it any more, and when somebody has asked for it and not come yet.
LINGER_SECONDS = 2
_DEMAND_SECONDS = 10

# Of the protocol's codes for the end of a session; reject() translates from HTTP's, cancel() does not.
_UNAUTHORIZED = 2
_NOT_FOUND = 404
_TOO_MANY = 429

# The generated class is declared in a way that hides its base class.
_MoqError = cast("type[Exception]", moq.Error)
_TRANSPORTS = {
    moq.Transport.QUIC: Transport.QUIC,
    moq.Transport.IROH: Transport.IROH,
    moq.Transport.WEB_SOCKET: Transport.WEBSOCKET,
    moq.Transport.TCP: Transport.TCP,
    moq.Transport.UNIX: Transport.UNIX,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class GuardedSession:
    """An admitted session: the dialed ``path``, its ``grant``, and the ``session`` of ``moq-rs``."""

    path: str
    grant: Grant
    session: moq.Session

    async def closed(self) -> None:
        """Wait until the session has ended, however it did."""
        with suppress(_MoqError):
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


class _Tasks:
    """Tasks that end with the block they are started in. One that fails is logged, and leaves the others alone."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[None, None, None]) -> None:
        self._keep(asyncio.create_task(work))

    def task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start one, and return it to be waited for or cancelled."""
        task = asyncio.create_task(work)
        self._keep(task)
        return task

    async def wait(self) -> None:
        """Wait until all have ended by themselves."""
        while self._running:
            await asyncio.wait(self._running)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, _MoqError):  # that says that what it worked on has gone
            _log.error("a task of the guard has failed", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


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
        self._exchange = _Exchange()
        self._pending = _Queue(MAX_PENDING)
        self._rejected = _Queue(MAX_PENDING)
        self._tasks = _Tasks()
        self.admitted: asyncio.Queue[GuardedSession | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start(_mirror(self._hub.consume(), self._exchange))
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
        except _MoqError as error:
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
        except _MoqError:
            _log.info("gone from %s before it was answered", shown(path))
            return
        except Exception:  # noqa: BLE001 - whatever it is, it must not let anybody in, nor keep the others out
            _log.exception("nobody could decide about a client at %s", shown(path))
            await self._reject(request, path, UnavailableError("the guard has failed"))
            return
        del request
        guarded = GuardedSession(path, grant, session)
        self.admitted.put_nowait(guarded)
        await self._attend(guarded, incoming, outgoing)

    async def _reject(self, request: moq.Request, path: str, error: RefusedError | UnavailableError) -> None:
        reason = error.reason if isinstance(error, RefusedError) else "unavailable"
        _log.info("refused at %s: %s (%s)", shown(path), reason, error)
        try:
            async with self._rejected.place(REJECTING_SECONDS):
                await request.reject(Rejection.of(error).status)
        except (_MoqError, TimeoutError):
            request.cancel()  # the client has gone, or hangs in the middle of being accepted

    async def _attend(
        self, guarded: GuardedSession, incoming: moq.OriginProducer, outgoing: moq.OriginProducer
    ) -> None:
        """Carry what is granted, until the client leaves or the grant expires."""
        grant, session = guarded.grant, guarded.session
        async with session, _Tasks() as tasks:
            if grant.expires is not None:
                tasks.start(_expire(session, grant.expires))
            if grant.publish:
                tasks.start(_mirror(incoming.consume(), _Contribution(self._hub, grant)))
            if grant.subscribe:
                tasks.start(self._exchange.show(_Window(outgoing, grant)))
            await guarded.closed()
        expired = grant.expires is not None and grant.expires <= time.time()
        _log.info("ended at %s: %s", shown(guarded.path), "expired" if expired else "left")


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


# -- carrying broadcasts


class _Target(Protocol):
    """Where copies of broadcasts go."""

    def wants(self, path: str) -> bool:
        """Whether the broadcast at that path of the source is to be copied."""
        ...

    def create(self, path: str) -> moq.BroadcastProducer:
        """Make the copy."""
        ...

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:
        """Let the copy be seen."""
        ...

    def withdraw(self, path: str) -> None:
        """Let it be seen no longer."""
        ...


class _Contribution:
    """What a session publishes, on its way into the hub."""

    def __init__(self, hub: moq.OriginProducer, grant: Grant) -> None:
        self._hub = hub
        self._grant = grant
        self._announced = 0

    def wants(self, path: str) -> bool:
        return self._announced < MAX_BROADCASTS and self._grant.can_publish(path)

    def create(self, path: str) -> moq.BroadcastProducer:
        return self._hub.create_broadcast(paths.join(self._grant.root, paths.normalize(path)))

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:  # noqa: ARG002 - it knows its path
        self._announced += 1
        copy.announce(route)

    def withdraw(self, path: str) -> None:  # noqa: ARG002 - closing it is enough
        self._announced -= 1


class _Exchange:
    """What is in the hub, copied once for all sessions: a broadcast of no origin can be watched through many."""

    def __init__(self) -> None:
        self._broadcasts: dict[str, tuple[moq.BroadcastProducer, moq.Route]] = {}
        self._windows: set[_Window] = set()

    async def show(self, window: _Window) -> None:
        """Keep a session's window up to date."""
        async with window.tasks:
            for path, (broadcast, route) in self._broadcasts.items():
                window.show(path, broadcast, route)
            self._windows.add(window)
            try:
                await asyncio.Event().wait()
            finally:
                self._windows.remove(window)

    def wants(self, path: str) -> bool:
        return path not in self._broadcasts

    def create(self, path: str) -> moq.BroadcastProducer:  # noqa: ARG002 - each window has a path of its own for it
        return moq.BroadcastProducer()

    def announce(self, path: str, copy: moq.BroadcastProducer, route: moq.Route) -> None:
        self._broadcasts[path] = copy, route
        for window in self._windows:
            window.show(path, copy, route)

    def withdraw(self, path: str) -> None:
        del self._broadcasts[path]
        for window in self._windows:
            window.hide(path)


class _Window:
    """What a session sees of the exchange."""

    def __init__(self, outgoing: moq.OriginProducer, grant: Grant) -> None:
        self._outgoing = outgoing
        self._grant = grant
        self._shown: dict[str, asyncio.Task[None]] = {}
        self.tasks = _Tasks()

    def show(self, path: str, broadcast: moq.BroadcastProducer, route: moq.Route) -> None:
        """Announce a broadcast, where the grant covers it."""
        name = paths.strip_prefix(path, self._grant.root)
        if name is not None and self._grant.can_subscribe(name):
            self._shown[path] = self.tasks.task(self._serve(name, broadcast, route))

    def hide(self, path: str) -> None:
        """Take the announcement back."""
        if path in self._shown:
            self._shown.pop(path).cancel()

    async def _serve(self, name: str, broadcast: moq.BroadcastProducer, route: moq.Route) -> None:
        # An announcement covers whatever lies beneath it, which is other people's, or nobody's.
        async with self._outgoing.dynamic(name, route) as requests:
            async for request in requests:
                if request.path == name:
                    request.accept(broadcast)
                else:
                    request.reject(_NOT_FOUND)


async def _mirror(source: moq.OriginConsumer, target: _Target) -> None:
    """Keep a copy of each broadcast of an origin that the target wants."""
    copies: dict[str, asyncio.Task[None]] = {}
    async with _Tasks() as tasks, source.announced(hidden=True) as updates:
        async for update in updates:
            path = update.prefix
            if not update.active and path in copies:
                copies.pop(path).cancel()
            elif update.active and path not in copies and target.wants(path):
                copies[path] = tasks.task(_copy_broadcast(source, path, target, update.route))


async def _copy_broadcast(source: moq.OriginConsumer, path: str, target: _Target, route: moq.Route) -> None:
    copy = target.create(path)
    async with _Tasks() as tracks, copy.dynamic() as requests:
        target.announce(path, copy, route)
        try:
            async for request in requests:
                if len(tracks) < MAX_TRACKS:
                    tracks.start(_copy_track(source, path, request))
                else:
                    request.abort(_TOO_MANY)
        finally:
            target.withdraw(path)
            copy.close()


async def _copy_track(source: moq.OriginConsumer, path: str, request: moq.TrackRequest) -> None:
    name = request.name
    try:
        # Asked for anew each time, as another publisher may have taken over.
        broadcast = await source.request_broadcast(path)
        original = await broadcast.subscribe_track(name)
    except _MoqError:
        request.abort(_NOT_FOUND)
        return
    copy = request.accept(original.info())
    async with original, _Tasks() as tasks:
        tasks.start(_copy_datagrams(original, copy))
        tasks.start(_copy_fetches(broadcast, name, copy))
        groups = tasks.task(_copy_groups(original, copy))
        unwatched = tasks.task(_unwatched(copy.demand()))
        await asyncio.wait((groups, unwatched), return_when=asyncio.FIRST_COMPLETED)
        if not groups.done():
            copy.abort(_NOT_FOUND)


async def _unwatched(demand: moq.TrackDemand) -> None:
    """Wait until nobody watches a track, nor comes back to it soon."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DEMAND_SECONDS):
            await demand.used()
    while demand.is_used():
        await demand.unused()
        await asyncio.sleep(LINGER_SECONDS)


async def _copy_groups(original: moq.TrackConsumer, copy: moq.TrackProducer) -> None:
    try:
        async with _Tasks() as groups:
            async for group in original.groups_as_arrived():
                groups.start(_copy_live_group(group, copy))
            await groups.wait()
        copy.finish()
    except _MoqError:
        copy.abort(_NOT_FOUND)


async def _copy_live_group(original: moq.GroupConsumer, copy: moq.TrackProducer) -> None:
    await _copy_group(original, copy.create_group(original.sequence))


async def _copy_datagrams(original: moq.TrackConsumer, copy: moq.TrackProducer) -> None:
    while (datagram := await original.recv_datagram()) is not None:
        copy.append_datagram(datagram.payload, datagram.timestamp_us)


async def _copy_fetches(broadcast: moq.BroadcastConsumer, name: str, copy: moq.TrackProducer) -> None:
    async with _Tasks() as fetches, copy.dynamic() as requests:
        async for request in requests:
            if len(fetches) < MAX_FETCHES:
                fetches.start(_copy_old_group(broadcast, name, request))
            else:
                request.abort(_TOO_MANY)


async def _copy_old_group(broadcast: moq.BroadcastConsumer, name: str, request: moq.GroupRequest) -> None:
    try:
        original = await broadcast.fetch_group(name, request.sequence)
    except _MoqError:
        request.abort(_NOT_FOUND)
        return
    await _copy_group(original, request.accept())


async def _copy_group(original: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
    try:
        async for frame in original:
            copy.write_frame(frame.payload, frame.timestamp_us)
        copy.finish()
    except _MoqError:
        copy.abort(_NOT_FOUND)
