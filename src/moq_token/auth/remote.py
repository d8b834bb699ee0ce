"""The part of a relay that asks an auth server about its sessions: at the start, again and again, and at the end."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from msgspec.structs import replace

from moq_token.auth.lease import MAX_JITTER, MIN_JITTER, Instant, Lease, NoGrant, read_answer, resolve_root
from moq_token.auth.outages import Outages
from moq_token.auth.remote_config import RemoteConfig
from moq_token.contract import Event, Grant, Request, Usage
from moq_token.errors import (
    InvalidGrantError,
    NotAdmittedError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    shown,
)
from moq_token.sources.post import Post
from moq_token.sources.source import Closing, sealed_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# A session ends at most this many seconds late when the clock is set forward.
CLOCK_SECONDS = 30.0
# How long `aclose` waits for the reports that sessions have ended.
END_SECONDS = 10.0
# Reports under way. Further ones are not sent: an auth server forgets such sessions by itself.
MAX_ENDS = 10_000
# Subtrees in one grant, each of which is compared with every broadcast.
MAX_MOUNTS = 100
# What a report shows of the reason of an end.
MAX_REASON_CHARACTERS = 200

_T = TypeVar("_T")
_JWT = "jwt="
_SUCCESS = range(200, 300)
_log = logging.getLogger("moq_token.auth")


class Sender(Protocol):
    """Sends documents to the auth server."""

    async def send(self, document: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer, raise ``UnavailableError`` where there is none."""
        ...


class RemoteAuthenticator(Closing):
    """Admit sessions as relay 0.17 does: by asking an auth server, or by rules that are the same for everybody.

    Use it as ``async with RemoteAuthenticator(config) as authenticator``. It is safe to use from many tasks at once. At
    the end of the block it waits for the reports of ends, 10 s at most. During an outage nobody is admitted, and no
    session ends before its grant expires.

    The logger ``moq_token.auth`` has a WARNING when the auth server fails, and an INFO when it answers again, once
    each, as for ``Authenticator``.

    Parameters
    ----------
    config
        The configuration of the relay.
    node
        The name of this relay, which the auth server is told.
    sender
        What sends to the auth server, instead of an HTTP client made for ``config``. The caller closes it.
    clock
        Returns the time in Unix seconds.
    steady
        Returns the time that passes, in seconds.
    jitter
        Returns the factor of the time until a retry, a random number from 0.75 to 1.25.

    Raises ``ConfigError`` without the extra ``http``, and for TLS files that cannot be used.

    """

    def __init__(
        self,
        config: RemoteConfig,
        *,
        node: str = "",
        sender: Sender | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(MIN_JITTER, MAX_JITTER),  # noqa: S311 - no secret
    ) -> None:
        if not isinstance(config, RemoteConfig):
            raise TypeError(f"`config` must be a RemoteConfig, not {type(config).__name__}")
        if not isinstance(node, str):
            raise TypeError(f"`node` must be a str, not {type(node).__name__}")
        self.config = config
        self.node = node
        self.clock = clock
        self._steady = steady
        self._jitter = jitter
        self._post = Post(config.url, config.tls) if config.url is not None and sender is None else None
        self._sender = self._post if sender is None else sender
        self._outages = Outages(_log)
        self._asking: set[asyncio.Task[object]] = set()
        self._ends: set[asyncio.Task[object]] = set()
        self._opened = False

    @sealed_coroutine
    async def connect(self, request: Request) -> RemoteSession:
        """Admit a session, or say why not. The event and the node of the request are filled in.

        Close every session that is returned (``RemoteSession.close()``). Raises ``RefusedError`` if the auth
        server refuses the session, and ``UnavailableError`` if it does not answer, or not with a valid grant.
        """
        if not self._opened:
            raise RuntimeError("use the RemoteAuthenticator inside its `async with` block")
        if not isinstance(request, Request):
            raise TypeError(f"`request` must be a Request, not {type(request).__name__}")
        request = replace(request, event=Event.CONNECT, node=self.node)
        if self._sender is None:
            return self._by_rules(request)
        asking = self._start(self._connect(request), self._asking)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_close_abandoned)
            raise

    def _by_rules(self, request: Request) -> RemoteSession:
        dialed = (request.query or "").split("&")
        if request.token is not None or any(text.startswith(_JWT) and text != _JWT for text in dialed):
            message = "a token was presented, but no auth server is configured to verify it"
            raise NotAdmittedError(message, reason="no-key-source")
        publish, subscribe = (rules.rebase(request.path) for rules in (self.config.publish, self.config.subscribe))
        if not publish and not subscribe:
            raise UnauthorizedError(f"nothing is public at {shown(request.path)}", path=request.path)
        return self._session(request, Grant(publish=publish, subscribe=subscribe))

    async def _connect(self, request: Request) -> RemoteSession:
        answer = await self.ask(request)
        if answer is NoGrant.REFUSED:
            raise RefusedError("the auth server refused the session; its log says why")
        if isinstance(answer, NoGrant):
            raise UnavailableError("the auth server did not answer with a valid grant")
        session = self._session(request, answer)
        fault = _unusable(answer, request.role)
        if fault is not None:
            session.close("dropped")
            raise UnauthorizedError(f"the grant of the auth server cannot be used: {fault}", path=request.path)
        return session

    def _session(self, request: Request, grant: Grant) -> RemoteSession:
        lease = Lease(grant, request.path, self.now(), self._jitter)
        return RemoteSession(self, request, replace(grant, root=resolve_root(grant, request.path)), lease)

    def now(self) -> Instant:
        """Return the time on both clocks."""
        return Instant(self.clock(), self._steady())

    async def ask(self, request: Request) -> Grant | NoGrant:
        """Send a request, and return what the answer says. Raises nothing."""
        try:
            with self._outages.watch("the auth server"):
                return await self._answer(request)
        except UnavailableError:
            return NoGrant.UNAVAILABLE

    async def _answer(self, request: Request) -> Grant | NoGrant:
        assert self._sender is not None  # noqa: S101 - without one, there is nobody to ask
        status, body = await self._sender.send(request.to_json())
        answer: Grant | NoGrant
        if request.event is Event.END:
            answer = NoGrant.REFUSED if status in _SUCCESS else NoGrant.UNAVAILABLE
        else:
            answer = read_answer(status, body, self.clock())
        if answer is NoGrant.UNAVAILABLE:
            raise UnavailableError(f"unusable answer, with HTTP status {status}")
        return answer

    def recheck(self, session: RemoteSession, request: Request) -> None:
        """Ask about a session in the background, and tell it the answer."""

        async def work() -> None:
            answer: Grant | NoGrant = NoGrant.UNAVAILABLE
            try:
                answer = await self.ask(request)
            finally:
                session.answered(answer)

        _ = self._start(work(), self._asking)

    def report(self, request: Request) -> None:
        """Report the end of a session in the background, once."""
        if self._sender is None:
            return
        if len(self._ends) >= MAX_ENDS:
            _log.warning(
                "too many pending reports: the end of a session is not reported", extra={"event": "end-dropped"}
            )
            return

        _ = self._start(self.ask(request), self._ends)  # a failure is logged and not repeated, as by relays

    def _start(self, work: Coroutine[None, None, _T], running: set[asyncio.Task[object]]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    async def __aenter__(self) -> Self:
        self._opened = True
        return self

    async def aclose(self) -> None:
        """Wait for reports under way, 10 s at most, and close every connection."""
        self._opened = False
        if self._asking:
            for task in tuple(self._asking):
                task.cancel()
            await asyncio.wait(tuple(self._asking))
        if self._ends:
            await asyncio.wait(tuple(self._ends), timeout=END_SECONDS)
        for task in tuple(self._ends):
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)
        if self._post is not None:
            await self._post.aclose()


class RemoteSession:
    """A session that was admitted.

    Attributes
    ----------
    grant
        What it may do, as it was admitted: its ``root`` is always set and normalized. A re-check never widens it, and
        the session ends where it may do less.

    """

    def __init__(self, authenticator: RemoteAuthenticator, request: Request, grant: Grant, lease: Lease) -> None:
        self.grant = grant
        self._authenticator = authenticator
        self._request = request
        self._lease = lease
        self._started = authenticator.now().steady
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def path(self) -> str:
        """The path that was dialed."""
        return self._request.path

    @property
    def tier(self) -> str | None:
        """The label that the session is counted under, which a re-check can change."""
        return self._lease.tier

    async def ended(self) -> str:
        """Keep the session re-checked until it must end, and return why.

        That is ``expired``, ``refused``, ``invalid``, ``root changed``, ``mounts changed``, ``peer changed``,
        ``grant narrowed``, or what it was closed with. Await it once per session, in a task of its own.
        """
        while True:
            now = self._authenticator.now()
            if self._lease.advance(now):
                request = replace(self._request, event=Event.REVALIDATE)
                self._authenticator.recheck(self, request)
            if self._lease.ended is not None:
                return self._lease.ended
            wait = self._lease.wait(now)
            try:
                async with asyncio.timeout(None if wait == math.inf else min(wait, CLOCK_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    def nudge(self) -> None:
        """Have the session re-checked at once, without waiting for its cadence."""
        if self._authenticator.config.url is not None:
            self._lease.nudge()
            self._changed.set()

    def answered(self, answer: Grant | NoGrant) -> None:
        """Take the answer to a re-check."""
        before = self._lease.tier
        self._lease.answered(answer, self._authenticator.now())
        if self._lease.tier != before:
            _log.info("the tier of a session changed", extra={"event": "tier", "tier": self._lease.tier})
        self._changed.set()

    def close(self, reason: str, usage: Usage | None = None) -> str:
        """Report to the auth server that the session has ended, once, and return why.

        ``reason`` counts if the auth server has not ended it before. ``usage`` are the bytes that it has sent and
        received, 0 if they are not known.
        """
        reason = self._lease.close(reason[:MAX_REASON_CHARACTERS])
        if not self._closed:
            self._closed = True
            self._changed.set()
            self._authenticator.report(
                replace(
                    self._request,
                    event=Event.END,
                    reason=reason,
                    duration=max(0.0, self._authenticator.now().steady - self._started),
                    usage=Usage(0, 0) if usage is None else usage,
                )
            )
        return reason


def _close_abandoned(asking: asyncio.Task[RemoteSession]) -> None:
    """Report the end of a session that nobody waited for."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close("dropped")


def _unusable(grant: Grant, role: str | None) -> str | None:
    """Say why no session can be made of a grant that is valid, as relays refuse it."""
    try:
        grant.check_paths()
    except InvalidGrantError as error:
        return str(error)
    if len(grant.mounts) > MAX_MOUNTS:
        return f"it has more than {MAX_MOUNTS} mounts"
    granted = {"publisher": grant.publish, "subscriber": grant.subscribe}
    return f"it allows no {role} access" if role in granted and not granted[role] else None
