"""The HTTP client of the sources: caching, bounded in time and size, one request at a time for each URL."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from moq_token.errors import ConfigError, UnavailableError, bare, shown
from moq_token.sources.client import new_client, read_body
from moq_token.sources.failures import describe_error, describe_status, system_error
from moq_token.sources.memory import Flights, Lru, again
from moq_token.sources.quiet import quiet
from moq_token.sources.source import MAX_BODY_BYTES, TIMEOUT_SECONDS, Closing, NotFound, missing_extra, sealed_coroutine
from moq_token.sources.urls import MAX_URL_CHARACTERS, Address, shown_url

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    import httpx2

    from moq_token.sources.rfc9111 import Answer
    from moq_token.sources.tls import TlsOptions

MAX_REDIRECTS = 3
# How long a request may take where there is something to answer without it: a stale body, or the failure of the request
# before it. For as long after a failure, a stale body is used without a request.
PATIENCE_SECONDS = 1.0

_OK, _NOT_MODIFIED = 200, 304
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_GONE = frozenset((404, 410))
# The failures for which RFC 5861, section 4, allows a stale answer.
_FAILURES = frozenset((500, 502, 503, 504))
# A compressed body can be a thousand times as large as what is transferred, and keys are small.
_HEADERS = {"accept": "application/jwk+json, application/jwk-set+json, application/json, */*;q=0.1"}
_HEADERS |= {"accept-encoding": "identity", "user-agent": "moq-token"}
# JSON, also with a byte order mark or in UTF-16, or base64url: what the reader of keys accepts or has a message for.
_PLAUSIBLE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[\[{\"]|[A-Za-z0-9_=-]+\s*\Z|\Z)|\xff\xfe|\xfe\xff|.\0|\0")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,80}", re.ASCII)


class Fetched(NamedTuple):
    """A body, and whether a request was made for it (which may have failed)."""

    body: bytes
    asked: bool
    failure: UnavailableError | None = None
    """Why the body is a stale one."""


class _Failure(NamedTuple):
    """How the last request for a URL failed, and what follows from that."""

    error: UnavailableError
    bridgeable: bool
    """Whether a stale body may be used instead."""
    until: float
    """Until when it is used without another request: the stale body, or also the error if that request is pending."""
    pending: bool = False


class Http(Closing):
    """An HTTP client that several sources can share.

    It caches answers as a private cache does (RFC 9111), at most 16 MiB of them. It follows at most three redirects,
    within one origin. A fetch takes at most 10 s and accepts at most 1 MiB; while a server does not answer, only the
    first caller waits for so long, later ones for 1 s. Where the answer allows it (``stale-if-error``), a stale body is
    used while the server fails, or takes longer than 1 s. Proxies are those of the environment. User, password and
    query of a URL are in no log record and in no error.

    Raises ``ConfigError`` without the extra ``http``, and for TLS files that cannot be used.

    Parameters
    ----------
    tls
        None: trust the roots of the system, and show no client certificate.
    clock
        Returns the time that passes, in seconds.

    """

    def __init__(self, tls: TlsOptions | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import httpx2

            from moq_token.sources.rfc9111 import Answer, Cache
        except ImportError as error:
            raise ConfigError(missing_extra("keys over HTTP", "http")) from bare(error)
        self._answer: type[Answer] = Answer
        self._cache = Cache(_HEADERS, clock)
        self._clock = clock
        self._flights: Flights[Fetched] = Flights()
        self._failures: Lru[_Failure] = Lru()
        self._parse_url = httpx2.URL
        self._invalid_url = httpx2.InvalidURL
        self._client = new_client(_HEADERS, tls, TIMEOUT_SECONDS)

    async def fetch(self, url: str) -> bytes:
        """Return the body of an answer 200, fresh or confirmed.

        Raises ``UnavailableError`` for every other answer and every failure.
        """
        retrieving = self.retrieve(url)
        del url  # a traceback holds this frame
        return (await retrieving).body

    @sealed_coroutine
    async def retrieve(self, url: str, *, revalidate: bool = False, admit: Callable[[], None] | None = None) -> Fetched:
        """Fetch as ``fetch()`` does, and return also whether a request was made; ``revalidate`` forces one.

        ``admit`` is called before a new request, and can refuse it by raising. Raises as ``fetch()``.
        """
        if len(url) > MAX_URL_CHARACTERS:
            raise UnavailableError(f"the URL is too long: {len(url)} characters, the maximum is {MAX_URL_CHARACTERS}")
        if not revalidate:
            body = self._cache.fresh(url)
            if body is not None:
                return Fetched(body, asked=False)
        stale = None if revalidate else self._cache.stale(url)
        failure = self._failures.get(url)
        if failure is not None and self._clock() < failure.until:
            if stale is not None and failure.bridgeable:
                return Fetched(stale, asked=True, failure=failure.error)
            if failure.pending:
                raise again(failure.error)
        flight = self._flights.join(url, lambda: self._ask(url, revalidate=revalidate), admit)
        if failure is None:
            if stale is None:
                return await flight
            slow = UnavailableError(f"{shown_url(url)} did not answer within {PATIENCE_SECONDS} s")
            failure = _Failure(slow, bridgeable=True, until=0)
        return await self._impatient(url, flight, stale, failure)

    async def _impatient(
        self, url: str, flight: Coroutine[None, None, Fetched], stale: bytes | None, failure: _Failure
    ) -> Fetched:
        """Wait a little, then use what is there without the answer."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await flight
        except TimeoutError:
            # The request goes on, and its outcome takes the place of this one.
            self._failures.put(url, failure._replace(until=self._clock() + TIMEOUT_SECONDS, pending=True))
        if stale is not None and failure.bridgeable:
            return Fetched(stale, asked=True, failure=failure.error)
        raise again(failure.error)

    async def aclose(self) -> None:
        """Cancel pending requests, close every connection and drop every cached answer."""
        await self._flights.aclose()
        with quiet():
            await self._client.aclose()
        self._cache.clear()
        self._failures.clear()

    async def _ask(self, url: str, *, revalidate: bool) -> Fetched:
        bridgeable = True
        try:
            with quiet():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    body = await self._follow(url, revalidate=revalidate)
        except TimeoutError:
            error = UnavailableError(
                f"{shown_url(url)} did not answer within {TIMEOUT_SECONDS} s. "
                "Check that the server is running and reachable"
            )
        except _FailedError as failed:
            error = UnavailableError(str(failed))
        except NotFound:
            self._failures.pop(url)
            raise
        except UnavailableError as unavailable:
            error, bridgeable = bare(unavailable), False
        except Exception as foreign:  # noqa: BLE001 - whatever a server sends, no foreign error leaves a source
            error = UnavailableError(f"{shown_url(url)}: {describe_error(foreign, url)}")
            cause = system_error(foreign)
            error.__cause__ = None if cause is None else bare(cause)
        else:
            self._failures.pop(url)
            return Fetched(body, asked=True)
        self._failures.put(url, _Failure(error, bridgeable, self._clock() + PATIENCE_SECONDS))
        stale = self._cache.stale(url) if bridgeable and not revalidate else None
        if stale is None:
            raise error
        return Fetched(stale, asked=True, failure=error)

    async def _follow(self, url: str, *, revalidate: bool) -> bytes:
        first = here = self._parse_url(url)
        at = url
        login = Address.of(url).authorization
        for _ in range(MAX_REDIRECTS + 1):
            location, body = await self._once(at, login, url, revalidate=revalidate)
            if location is None:
                return body
            here = self._redirected(here, location, url)
            # Compared as parsed by the client that connects, because two parsers could read a URL differently.
            if (here.scheme, here.host, here.port) != (first.scheme, first.host, first.port):
                origin = f"{here.scheme}://{Address.of(str(here)).url.split('/')[2]}"
                raise UnavailableError(
                    f"{shown_url(url)} redirects to another origin, {shown(origin)}, which is not followed. "
                    "Use the new URL if you trust it"
                )
            at = str(here)
        raise UnavailableError(f"{shown_url(url)} redirects more than {MAX_REDIRECTS} times")

    def _redirected(self, here: httpx2.URL, location: str, url: str) -> httpx2.URL:
        if len(location) <= MAX_URL_CHARACTERS:
            with contextlib.suppress(self._invalid_url, ValueError):
                return here.join(location)
        raise UnavailableError(f"{shown_url(url)} redirects to an invalid URL")

    async def _once(self, url: str, login: str | None, first: str, *, revalidate: bool) -> tuple[str | None, bytes]:
        """Return where the URL redirects to, or the body."""
        body = None if revalidate else self._cache.fresh(url)
        if body is not None:
            return None, body
        for _ in range(2):  # again if the answer confirms something other than what is stored
            question = self._cache.question(url, revalidate=revalidate)
            location, answer = await self._send(url, question.headers, login, first)
            if answer.status in _REDIRECTS and location is not None:
                return location, b""
            if answer.status not in (_OK, _NOT_MODIFIED):
                self._refuse(url, answer.status)
            body = self._cache.answered(url, question, answer)
            if body is not None:
                return None, body
        raise UnavailableError(f"{shown_url(url)} answered 304 (not modified) to a request that did not ask for it")

    def _refuse(self, url: str, status: int) -> NoReturn:
        if status in _GONE:
            self._cache.forget(url)
            raise NotFound(f"{shown_url(url)} answered {status} (not found). Check the URL")
        raise (_FailedError if status in _FAILURES else UnavailableError)(f"{shown_url(url)} {describe_status(status)}")

    async def _send(
        self, url: str, headers: Mapping[str, str], login: str | None, first: str
    ) -> tuple[str | None, Answer]:
        started = self._clock()
        parsed = self._parse_url(url)
        address = Address.of(str(parsed))
        authorization = address.authorization or login
        async with self._client.stream(
            "GET",
            address.url,
            headers=dict(headers) if authorization is None else {**headers, "authorization": authorization},
            extensions={"target": parsed.raw_path},  # the query is nowhere else
        ) as response:
            # The body of an error is not needed, and it may be endless.
            body = b""
            if response.status_code in {_OK, _NOT_MODIFIED}:
                body = await read_body(response, shown_url(url), MAX_BODY_BYTES)
            if response.status_code == _OK and not _PLAUSIBLE.match(body):
                raise UnavailableError(_describe_other(first, url, response.headers.get("content-type", "")))
            answer = self._answer.of(response.status_code, response.headers.raw, body, self._clock() - started)
            return response.headers.get("location"), answer


def _describe_other(first: str, url: str, content_type: str) -> str:
    """Return the message for an answer that cannot be a key."""
    found = _MEDIA_TYPE.match(content_type)
    kind = "of no stated media type" if found is None else found[0].lower()
    redirected = f" (redirected to {shown_url(url)})" if url != first else ""
    return (
        f"{shown_url(first)} answered with something other than a key or JSON: {kind}{redirected}. "
        "Check the URL, and whether it requires a login"
    )


class _FailedError(Exception):
    """The server failed, so that a stale answer may be used instead."""
