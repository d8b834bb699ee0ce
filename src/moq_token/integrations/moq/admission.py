"""Admit or reject each client, and keep the sessions of the admitted until they end."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import moq

from moq_token.auth import Rejection
from moq_token.contract import Usage
from moq_token.errors import RefusedError, UnavailableError, raised_at, shown
from moq_token.integrations.moq.door import door_of
from moq_token.integrations.moq.exchange import Contribution, Exchange, Window, mirror
from moq_token.integrations.moq.tasks import MoqError, Tasks, log
from moq_token.integrations.moq.view import View

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
    from types import TracebackType

    from moq_token.auth import Authenticator, Grant, RemoteAuthenticator
    from moq_token.contract import Grant as RemoteGrant
    from moq_token.integrations.moq.door import Admitted

# The number of clients that wait for the decision. When one more comes, the client that has waited longest is rejected,
# so that a slow key server delays only the clients whose keys it has.
MAX_PENDING = 1_000
# Seconds from the arrival of a client to the established session. A source of keys may take half of it.
PENDING_SECONDS = 20
# Seconds for telling a client that it is rejected.
REJECTING_SECONDS = 5
# The number of admitted sessions that the caller's loop has not taken yet. Further clients are rejected with 502.
MAX_UNSEEN = 1_000

# The code that closes a session whose grant has ended: "unauthorized" in the protocol. `reject` translates statuses of
# HTTP into the protocol's codes, `cancel` does not.
_UNAUTHORIZED = 2

# What one log record shows of the path and of the prefixes of a grant.
_LOGGED_CHARACTERS = 200
_LOGGED_PREFIXES = 3


@dataclass(frozen=True, slots=True, eq=False)
class GuardedSession:
    """An admitted session.

    Attributes
    ----------
    path
        The path that the client dialed, with the labels of its host where ``domains`` is configured.
    grant
        What the session may publish and subscribe to, and when it ends: a ``Grant`` of ``moq_token.auth``, or of
        ``moq_token.contract`` if an auth server has decided.
    session
        The session of ``moq-rs``.
    nudge
        Call it without arguments to have the auth server asked about the session at once. Without an auth server, it
        does nothing.

    """

    path: str
    grant: Grant | RemoteGrant
    session: moq.Session
    nudge: Callable[[], None] = field(repr=False)

    async def closed(self) -> None:
        """Wait until the session has ended, for any reason. Raise nothing."""
        with suppress(MoqError):
            await self.session.closed()


async def guard(
    server: moq.Server,
    authenticator: Authenticator | RemoteAuthenticator,
    *,
    hub: moq.OriginProducer | None = None,
) -> AsyncGenerator[GuardedSession]:
    """Answer the clients of a server, and yield each admitted session once it is established.

    Clients are answered concurrently, so a slow key server delays only the clients whose keys it has. Sessions are
    served while the body of the loop is busy. A session that ends before the loop takes it is not yielded.

    The sessions end when the generator is closed. Wrap it in ``contextlib.aclosing()`` to wait for that.

    Parameters
    ----------
    server
        A server that is listening.
    authenticator
        Decides about each client. Its ``clock`` also tells when a session expires. A
        ``RemoteAuthenticator`` is asked again while the session lives, and told when it has ended;
        close it after the generator.
    hub
        The origin that broadcasts are carried through, under their full paths. Sessions can also subscribe to what the
        program itself announces there, as far as their grants allow. By default, a new origin.

    Raises
    ------
    moq.Error, RuntimeError
        The server has failed, or is not listening.

    """
    async with _Admission(server, authenticator, hub or moq.OriginProducer()) as admission:
        async for session in admission.unseen.sessions():
            yield session
        await admission.listening


class _Places:
    """A limited number of places, each for a limited time. When all are taken, the oldest has its time-out at once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: OrderedDict[asyncio.Timeout, None] = OrderedDict()

    @asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """Take a place for the block. Raise ``TimeoutError`` in the block when it must be given back."""
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


class _Unseen:
    """Admitted sessions that the caller's loop has not taken yet: a limited number, and none that has ended."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._reserved = 0
        self._sessions: dict[GuardedSession, None] = {}
        self._closed = False
        self._changed = asyncio.Event()

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep a place free while a client is accepted. Raise ``UnavailableError`` when there is none."""
        if self._reserved + len(self._sessions) >= self._places:
            raise UnavailableError("the server does not take its admitted sessions fast enough")
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    @contextmanager
    def session(self, session: GuardedSession) -> Iterator[None]:
        """Offer a session to the loop, until it is taken or the block ends."""
        self._sessions[session] = None
        self._changed.set()
        try:
            yield
        finally:
            self._sessions.pop(session, None)

    def close(self) -> None:
        """Let the loop end when it has taken the last session."""
        self._closed = True
        self._changed.set()

    async def sessions(self) -> AsyncIterator[GuardedSession]:
        """Yield the sessions in the order of their arrival."""
        while True:
            while self._sessions:
                session = next(iter(self._sessions))
                del self._sessions[session]
                yield session
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()


class _Admission:
    """Receives clients, has them admitted or rejected, and keeps the sessions of the admitted."""

    def __init__(
        self, server: moq.Server, authenticator: Authenticator | RemoteAuthenticator, hub: moq.OriginProducer
    ) -> None:
        self._server = server
        self._door = door_of(authenticator)
        self._hub = hub
        self._exchange = Exchange()
        self._pending = _Places(MAX_PENDING)
        self._rejecting = _Places(MAX_PENDING)
        self._tasks = Tasks()
        self.unseen = _Unseen(MAX_UNSEEN)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start(mirror(self._hub.consume(), self._exchange))
        self.listening = asyncio.create_task(self._listen())
        self.listening.add_done_callback(lambda _: self.unseen.close())
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
                del request  # otherwise it lives until the next client comes
        except MoqError as error:
            if not moq.is_shutdown(error):
                raise

    async def _answer(self, request: moq.Request) -> None:
        """Admit a client and keep its session until it ends, or reject the client."""
        incoming, outgoing = moq.OriginProducer(), moq.OriginProducer()
        path, admitted = request.path, None
        try:
            async with self._pending.place(PENDING_SECONDS):
                dialed = self._door.read(request)
                path, transport = dialed.path, dialed.transport
                admitted = await self._door.admit(dialed)
                del dialed  # the token is not needed any more
                grant = admitted.grant
                request.set_consume(incoming if grant.publish else None)
                request.set_publish(outgoing if grant.subscribe else None)
                with self.unseen.reserve():
                    session = await request.accept()
            guarded = GuardedSession(path, grant, session, admitted.nudge)
            established, admitted = admitted, None
        except (RefusedError, UnavailableError) as error:
            await self._reject(request, path, error)
            return
        except TimeoutError:
            await self._reject(request, path, UnavailableError("timed out, or too many clients are waiting"))
            return
        except MoqError:
            _log("gone", path, "the client left before it was answered")
            return
        except Exception as error:  # noqa: BLE001 - an unknown failure must neither admit this client nor stop the others
            # Without its text and its traceback, which could hold the token.
            what = f"{type(error).__name__} ({raised_at(error)})"
            log.error("failed at %s: could not decide: %s", shown(path), what, extra=_fields("failed", path))
            await self._reject(request, path, UnavailableError("the guard has failed"))
            return
        finally:
            if admitted is not None:
                admitted.close("dropped")
        del request
        kid = getattr(grant, "kid", None)
        _log("admitted", path, _described(grant, kid), kid=kid, expires=grant.expires, transport=str(transport))
        await self._attend(guarded, established, incoming, outgoing)

    async def _reject(self, request: moq.Request, path: str, error: RefusedError | UnavailableError) -> None:
        reason = error.reason if isinstance(error, RefusedError) else "unavailable"
        status = Rejection.of(error).status
        _log("refused", path, f"{reason} ({error})", reason=reason, status=status)
        try:
            async with self._rejecting.place(REJECTING_SECONDS):
                await request.reject(status)
        except (MoqError, TimeoutError):
            request.cancel()  # the client has disconnected, or does not finish its handshake

    async def _attend(
        self,
        guarded: GuardedSession,
        admitted: Admitted,
        incoming: moq.OriginProducer,
        outgoing: moq.OriginProducer,
    ) -> None:
        """Carry what is granted, until the client leaves or the grant ends."""
        grant, session, reason = guarded.grant, guarded.session, "shutdown"
        view = View(grant, getattr(grant, "mounts", None))
        try:
            async with session, Tasks() as tasks:
                tasks.start(_end(session, admitted))
                if grant.publish:
                    tasks.start(mirror(incoming.consume(), Contribution(self._hub, view)))
                if grant.subscribe:
                    tasks.start(self._exchange.show(Window(outgoing, view)))
                with self.unseen.session(guarded):
                    await guarded.closed()
            reason = "closed"
        finally:
            reason = admitted.close(reason, _usage(session))
        reason = "left" if reason == "closed" else reason
        _log("ended", guarded.path, reason, reason=reason, kid=getattr(grant, "kid", None))


async def _end(session: moq.Session, admitted: Admitted) -> None:
    """Close a session when its grant ends, or when a bug leaves its end unknown."""
    try:
        await admitted.ended()
    except Exception:
        session.cancel(_UNAUTHORIZED)
        raise
    session.cancel(_UNAUTHORIZED)


def _usage(session: moq.Session) -> Usage:
    """Return the bytes that a session has sent and received, as far as its transport tells."""
    try:
        stats = session.stats()
    except MoqError:
        return Usage(0, 0)
    return Usage(stats.bytes_sent or 0, stats.bytes_received or 0)


def _log(event: str, path: str, detail: str, **fields: object) -> None:
    """Log what happened to a client: as a sentence, and as fields for programs."""
    log.info("%s at %s: %s", event, shown(path), detail, extra=_fields(event, path, **fields))


def _fields(event: str, path: str, **fields: object) -> dict[str, object]:
    return {"event": event, "path": path[:_LOGGED_CHARACTERS], **fields}


def _described(grant: Grant | RemoteGrant, kid: str | None) -> str:
    key = "" if kid is None else f"; key {shown(kid)}"
    return f"may publish {_listed(grant.publish)}, may subscribe to {_listed(grant.subscribe)}{key}"


def _listed(granted: Iterable[object]) -> str:
    texts = list(map(str, granted))
    if texts in ([], [""], ["**"]):
        return "everything" if texts else "nothing"
    more = len(texts) - _LOGGED_PREFIXES
    return ", ".join(map(shown, texts[:_LOGGED_PREFIXES])) + (f" and {more} more" if more > 0 else "")
