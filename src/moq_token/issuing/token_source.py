"""Always have a valid credential: fetch it once for all callers, renew it in time, survive outages."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import TypeAlias

from moq_token.errors import ConfigError, Error, RefusedError, UnavailableError, bare, sealed
from moq_token.issuing.credential import Credential
from moq_token.issuing.fetch import TIMEOUT_SECONDS, Fetch, RetryLaterError, read_members
from moq_token.sources.memory import again
from moq_token.sources.source import sealed_coroutine

PATIENCE_SECONDS = 1.0
"""How long a caller waits for a renewal while the credential before it is still good."""

# The part of its lifetime after which a credential is renewed, between these two, so that not all clients ask at once.
_RENEW_FROM, _RENEW_TO = 0.7, 0.85
# A credential is not handed out shortly before it expires: the client has to connect with it.
_MARGIN_SECONDS, _MARGIN_PART = 5.0, 0.1
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 1.0, 30.0
_MAX_FAILURES = 10  # the count stops here: the pause has reached its limit long before
# Somewhat longer than a request, so that its own error comes first.
_WAIT_SECONDS = TIMEOUT_SECONDS + 2.0

_log = logging.getLogger("moq_token.issuing")

Fetched: TypeAlias = Credential | Mapping[str, object]
_Outcome: TypeAlias = Credential | Error


class TokenSource:
    """Return a valid credential whenever one is needed.

        source = TokenSource("https://app.example.com/rooms/123/token", headers={"Authorization": …})
        credential = await source.get()
        client = moq.connect(credential.url)

    Create one object for each room and user, and ask it before each connection. The first call fetches a credential;
    later ones return it until 70 to 85 % of its lifetime have passed, differently for each one. Then it is renewed, by
    one request for all callers. While the endpoint does not answer, the credential is returned until shortly before it
    expires, and the endpoint is asked again after 1 s, 2 s and so on up to 30 s, or as its ``Retry-After`` says. There
    is no background task. The object can be used from many threads and event loops at the same time, and after a fork.

    Parameters
    ----------
    source
        The URL of a token endpoint, such as ``endpoint()``: https, or http to this machine. User and password in it
        are sent as HTTP Basic authentication. Redirects are not followed. Environment variables such as
        ``HTTPS_PROXY`` set a proxy. Instead of a URL, pass a function, plain or async, that returns a ``Credential``,
        or a dict with the members of the answer of an endpoint. A plain function is called in a thread. An exception
        from it counts as an outage, except ``RefusedError``.
    body
        The JSON object to send, such as ``{"room_name": "123"}``; for a URL only.
    headers
        Header fields to send, such as ``{"Authorization": "Bearer …"}``; for a URL only. For those that change, use a
        function.
    clock
        Returns the time in Unix seconds. It is compared with itself: if it is wrong, that does no harm as long as the
        endpoint says ``expires_in``.
    jitter
        Returns numbers from 0 to 1, which spread renewals and retries.

    Raises ``ConfigError`` for an invalid URL or header field.

    """

    @sealed
    def __init__(
        self,
        source: str | Callable[[], Fetched | Awaitable[Fetched]],
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fetch: Callable[[], Fetched | Awaitable[Fetched]]
        if isinstance(source, str):
            self._fetch = fetch = Fetch(source, body, headers)
            self._name = fetch.shown
        elif not callable(source):
            raise TypeError(f"expected a URL or a function, not {type(source).__name__}")
        elif body is not None or headers is not None:
            raise ConfigError("`body` and `headers` are for a URL: a function sends its own")
        else:
            self._fetch = source
            self._name = "the function"
        self._is_async = any(map(inspect.iscoroutinefunction, (self._fetch, getattr(self._fetch, "__call__", None))))  # noqa: B004
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._flight: Future[_Outcome] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._credential: Credential | None = None
        # Times on the clock. A clock that was set back makes them unreachable, so each has its start.
        self._asked = self._renew_at = self._ends = self._failed_at = self._retry_at = 0.0
        self._failure: Error | None = None
        self._failures = 0

    @sealed_coroutine
    async def get(self) -> Credential:
        """Return a valid credential.

        Raises ``RefusedError`` where the endpoint refuses (401 or 403), even if an earlier credential is still
        valid, and ``UnavailableError`` where it does not answer and no credential is valid.
        """
        good, flight, leads = self._look()
        if flight is None:
            return self._decided(good)
        if leads:
            if self._is_async:
                task = asyncio.get_running_loop().create_task(self._fly_async(flight))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._start_thread(flight)
        try:
            async with asyncio.timeout(_patience(good)):
                outcome = await asyncio.wrap_future(flight)
        except TimeoutError:
            outcome = self._late(good, flight)
        return self._landed(good, outcome)

    @sealed
    def get_sync(self) -> Credential:
        """Return a valid credential, as ``get()``, for programs without an event loop.

        Raises as ``get()``, and ``TypeError`` where the source is an async function, or an event loop is running
        in this thread: use ``await source.get()`` there.
        """
        if self._is_async:
            raise TypeError("the source is an async function: use `await source.get()`")
        if _is_in_loop():
            raise TypeError("an event loop is running in this thread: use `await source.get()`")
        good, flight, leads = self._look()
        if flight is None:
            return self._decided(good)
        if leads:
            self._start_thread(flight)
        try:
            outcome = flight.result(_patience(good))
        except TimeoutError:
            outcome = self._late(good, flight)
        return self._landed(good, outcome)

    def forget(self) -> None:
        """Drop the credential, so that the next call fetches another. Call it if a relay refuses the credential."""
        with self._lock:
            self._credential = None
            self._flight = None

    # -- what is known

    def _look(self) -> tuple[Credential | None, Future[_Outcome] | None, bool]:
        """Return the credential if it is valid, the request to wait for, and whether the caller must start it.

        No request means that the credential need not be renewed, or that it is too early to ask again.
        """
        if self._process != (process := os.getpid()):
            # After a fork, the thread of a request is missing, and so may be the one that held the lock.
            self._process, self._lock, self._flight = process, threading.Lock(), None
        with self._lock:
            now = self._clock()
            good = self._credential if now < self._ends else None
            if self._failed_at <= now < self._retry_at or (good is not None and self._asked <= now < self._renew_at):
                return good, None, False
            if self._flight is not None:
                # Nobody else has to wait for a renewal.
                return (good, None, False) if good is not None else (None, self._flight, False)
            self._flight = Future()
            self._flight.set_running_or_notify_cancel()  # so that a caller that is cancelled does not cancel it
            return good, self._flight, True

    def _decided(self, good: Credential | None) -> Credential:
        if good is not None:
            return good
        assert self._failure is not None  # noqa: S101 - or it would not be too early
        raise again(self._failure)

    def _landed(self, good: Credential | None, outcome: _Outcome) -> Credential:
        if isinstance(outcome, Credential):
            return outcome
        if good is not None and isinstance(outcome, UnavailableError):
            return good
        raise again(outcome)

    def _late(self, good: Credential | None, flight: Future[_Outcome]) -> UnavailableError:
        """Give up waiting. The request goes on; if it takes too long, the next caller starts another."""
        if good is None:
            with self._lock:
                self._ended(flight)
        return UnavailableError(f"{self._name} did not answer in time")

    # -- the request

    def _start_thread(self, flight: Future[_Outcome]) -> None:
        threading.Thread(target=self._fly, args=(flight,), name="moq-token", daemon=True).start()

    def _fly(self, flight: Future[_Outcome]) -> None:
        asked = self._clock()
        try:
            found: object = self._fetch()
        except BaseException as error:  # noqa: BLE001 - as a value, which every caller raises
            self._failed(flight, error)
        else:
            self._found(flight, found, asked)

    async def _fly_async(self, flight: Future[_Outcome]) -> None:
        asked = self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = self._fetch()
                result: object = await found if inspect.isawaitable(found) else found
        except BaseException as error:
            self._failed(flight, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._found(flight, result, asked)

    def _found(self, flight: Future[_Outcome], found: object, asked: float) -> None:
        try:
            credential, left = self._read(found, asked)
        except Error as error:
            self._failed(flight, error)
            return
        with self._lock:
            self._credential, self._asked = credential, asked
            self._ends = asked + left - min(_MARGIN_SECONDS, left * _MARGIN_PART)
            self._renew_at = asked + left * (_RENEW_FROM + (_RENEW_TO - _RENEW_FROM) * self._jitter())
            if self._failures:
                _log.info("%s returns credentials again", self._name, extra={"event": "credential-recovered"})
            self._failures, self._failure, self._retry_at = 0, None, 0.0
            self._ended(flight)
        flight.set_result(credential)

    def _read(self, found: object, asked: float) -> tuple[Credential, float]:
        """Return the credential, and the seconds that it was good for when it was asked for."""
        if isinstance(found, Mapping):
            credential = read_members(found, asked)
            return credential, credential.expires_in
        if isinstance(found, Credential):  # of an issuer with the same clock, and maybe not new
            left = found.expires - asked
            if left > 0:
                return found, left
            raise UnavailableError("the function returned a credential that has expired")
        if inspect.iscoroutine(found):  # of a lambda around an async function: this thread has no event loop to run it
            found.close()
            raise UnavailableError("the function returned a coroutine: pass an `async def` function, not a lambda")
        raise UnavailableError(f"the function must return a Credential or a dict, not {type(found).__name__}")

    def _failed(self, flight: Future[_Outcome], error: BaseException) -> None:
        # The text of a foreign error may hold a secret.
        foreign = UnavailableError(f"{self._name} raised {type(error).__name__}")
        outcome = bare(error) if isinstance(error, Error) else foreign
        with self._lock:
            if isinstance(outcome, RefusedError):
                self._credential = None
            now = self._clock()
            backoff = min(_FIRST_RETRY_SECONDS * 2.0**self._failures, _LAST_RETRY_SECONDS)
            wait = outcome.seconds if isinstance(outcome, RetryLaterError) else backoff * (1 + self._jitter()) / 2
            self._failures = min(self._failures + 1, _MAX_FAILURES)
            self._failure, self._failed_at, self._retry_at = outcome, now, now + wait
            if self._failures == 1 and self._credential is not None and now < self._ends:
                message = "cannot renew the credential: %s; the current one is valid for %.0f s"
                _log.warning(message, outcome, self._ends - now, extra={"event": "credential-not-renewed"})
            self._ended(flight)
        flight.set_result(outcome)

    def _ended(self, flight: Future[_Outcome]) -> None:
        if self._flight is flight:
            self._flight = None

    def __repr__(self) -> str:
        return f"<TokenSource {self._name}>"


def _patience(good: Credential | None) -> float:
    return _WAIT_SECONDS if good is None else PATIENCE_SECONDS


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
