"""A guard for MoQ servers built on ``moq-rs``: only admitted sessions, and of each only what its grant allows.

    async with moq.Server("[::]:443", tls_cert=…, tls_key=…) as server, Authenticator(config) as authenticator:
        async for session in guard(server, authenticator):
            print(session.grant)

It needs ``pip install "moq-token[moq]"``. What is enforced, for each session:

- Who comes in: whom the :class:`~moq_token.auth.Authenticator` admits. The others are rejected with 401, 403 or 502, as
  :class:`~moq_token.auth.Rejection` has it; why, the log of this module says (level INFO), not the client. ``moq-rs``
  makes no difference between 401 and 403, and has no refusal before the connection stands: the client's ``connect``
  succeeds, and then its session closes with an error that ``moq.is_auth`` knows.
- What it may publish: a session announces into an origin of its own, and only broadcasts at or beneath a granted prefix
  are taken out of it, to ``hub`` under the grant's root. A client cannot be kept from announcing others, but nobody
  hears of them.
- What it may watch: likewise, only broadcasts of ``hub`` at or beneath a granted prefix are put into the origin that it
  sees. The others can neither be discovered nor asked for by name.
- A role in which nothing is granted has no origin at all.
- How long: the session ends when the grant expires.

No two sessions share an origin, as ``moq-rs`` itself knows roles but no prefixes. What is not enforced: the number of
sessions, announcements and bytes that the bearer of a good token may cause; and a token is good until it expires.
Groups of frames are copied as they come, but no datagrams and no old groups fetched later, and a track that has been
watched once is pulled until its broadcast ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import moq

from moq_token.auth import Connection, Rejection
from moq_token.errors import RefusedError, UnavailableError, shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from moq_token.auth import Authenticator, Grant

# Clients that have been heard of and not yet answered: others wait in the transport's queue.
MAX_PENDING = 256
HANDSHAKE_SECONDS = 10

_UNAUTHORIZED = (
    2  # of the protocol's codes for the end of a session; reject() translates from HTTP's, cancel() does not
)
_NOT_FOUND = 404
# The generated class is declared in a way that hides its base class.
_MoqError = cast("type[Exception]", moq.Error)
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
) -> AsyncGenerator[GuardedSession, None]:
    """Answer the clients of a server, and yield those that are admitted, each once it is connected.

    Broadcasts are carried between the sessions and ``hub``, under their full paths; None makes one for these sessions.
    Clients are answered side by side, so that a slow key server holds up nobody else, and served whether or not the
    loop goes on. Sessions end with the loop: leave it by :func:`contextlib.aclosing` to wait for that.
    """
    hub = hub or moq.OriginProducer()
    admitted: asyncio.Queue[GuardedSession | None] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()
    tasks.add(asyncio.create_task(_listen(server, authenticator, hub, admitted, tasks)))
    try:
        while (session := await admitted.get()) is not None:
            yield session
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(
    server: moq.Server,
    authenticator: Authenticator,
    hub: moq.OriginProducer,
    admitted: asyncio.Queue[GuardedSession | None],
    tasks: set[asyncio.Task[None]],
) -> None:
    pending = asyncio.Semaphore(MAX_PENDING)

    async def answer(request: moq.Request) -> None:
        try:
            session = await _answer(request, authenticator)
        finally:
            pending.release()
        if session is not None:
            guarded, incoming, outgoing = session
            admitted.put_nowait(guarded)
            await _attend(guarded, hub, incoming, outgoing)

    try:
        await pending.acquire()
        async for request in server:
            task = asyncio.create_task(answer(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(_report)
            await pending.acquire()
    finally:
        admitted.put_nowait(None)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a session has failed: %s", type(error).__name__)


_Answered = tuple[GuardedSession, moq.OriginProducer, moq.OriginProducer]


async def _answer(request: moq.Request, authenticator: Authenticator) -> _Answered | None:
    """Admit or reject a client; None is what comes of it where it is rejected, or has gone."""
    path = request.path
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS) as limit:
            connection = _connection(request, authenticator)
            path = connection.path
            # How long keys may take is the sources' affair, which have bounds of their own.
            limit.reschedule(None)
            grant = await authenticator.authenticate(connection)
            limit.reschedule(asyncio.get_running_loop().time() + HANDSHAKE_SECONDS)
            incoming, outgoing = moq.OriginProducer(), moq.OriginProducer()
            request.set_consume(incoming if grant.publish else None)
            request.set_publish(outgoing if grant.subscribe else None)
            return GuardedSession(path, grant, await request.accept()), incoming, outgoing
    except (RefusedError, UnavailableError) as error:
        reason = error.reason if isinstance(error, RefusedError) else "unavailable"
        _log.info("refused at %s: %s (%s)", shown(path), reason, error)
        with suppress(_MoqError, TimeoutError):  # a client may not have waited for it
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await request.reject(Rejection.of(error).status)
    except (_MoqError, TimeoutError):
        _log.info("gone from %s before it was answered", shown(path))
    return None


def _connection(request: moq.Request, authenticator: Authenticator) -> Connection:
    """Take what was dialed: the whole URL where the transport carries it, for the rule about hosts."""
    if request.url is not None:
        return Connection.from_url(request.url, authenticator.config.domains)
    return Connection.from_path_query(request.path, request.query)


async def _attend(
    guarded: GuardedSession, hub: moq.OriginProducer, incoming: moq.OriginProducer, outgoing: moq.OriginProducer
) -> None:
    """Carry what is granted, until the client leaves or the grant expires."""
    grant, session = guarded.grant, guarded.session
    root = f"{grant.root}/" if grant.root else ""

    def take(name: str) -> str | None:
        return f"{root}{name}".rstrip("/") if grant.can_publish(name) else None

    def give(path: str) -> str | None:
        name = path[len(root) :]
        return name if f"{path}/".startswith(root) and grant.can_subscribe(name) else None

    seconds = None if grant.expires is None else grant.expires - time.time()
    async with session:
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                if grant.publish:
                    tasks.create_task(_mirror(incoming.consume(), hub, take))
                if grant.subscribe:
                    tasks.create_task(_mirror(hub.consume(), outgoing, give))
                await session.closed()
        except* TimeoutError:
            session.cancel(_UNAUTHORIZED)
            _log.info("ended at %s: expired", shown(guarded.path))
        except* _MoqError:
            _log.info("left %s", shown(guarded.path))


async def _mirror(source: moq.OriginConsumer, target: moq.OriginProducer, rename: Callable[[str], str | None]) -> None:
    """Keep a copy of each broadcast of ``source`` in ``target``, under its new name; where that is None, keep none."""
    copies: dict[str, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks, source.announced(hidden=True) as routes:
        async for route in routes:
            if not route.active and route.prefix in copies:
                copies.pop(route.prefix).cancel()
            elif route.active and route.prefix not in copies and (name := rename(route.prefix)) is not None:
                copies[route.prefix] = tasks.create_task(_copy_broadcast(source, route.prefix, target, name))


async def _copy_broadcast(source: moq.OriginConsumer, path: str, target: moq.OriginProducer, name: str) -> None:
    try:
        original = await source.request_broadcast(path)
        with closing(target.create_broadcast(name)) as copy:
            async with asyncio.TaskGroup() as tasks, copy.dynamic() as requests:
                copy.announce()
                async for request in requests:
                    tasks.create_task(_copy_track(original, request))
    except* _MoqError:
        pass  # it has gone already


async def _copy_track(broadcast: moq.BroadcastConsumer, request: moq.TrackRequest) -> None:
    try:
        original = await broadcast.subscribe_track(request.name)
    except _MoqError:
        request.abort(_NOT_FOUND)
        return
    copy = request.accept(original.info())
    try:
        async with asyncio.TaskGroup() as tasks, original:
            async for group in original.groups_as_arrived():
                tasks.create_task(_copy_group(group, copy.create_group(group.sequence)))
        copy.finish()
    except* _MoqError:
        copy.abort(_NOT_FOUND)


async def _copy_group(original: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
    try:
        async for frame in original:
            copy.write_frame(frame.payload, frame.timestamp_us)
        copy.finish()
    except _MoqError:
        copy.abort(_NOT_FOUND)
