"""Fetching over HTTP: cached, bounded in time and size, one request at a time for one URL."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol
from urllib.parse import urlsplit

from moq_token.errors import ConfigError, UnavailableError, bare
from moq_token.sources.memory import Flights
from moq_token.sources.source import MAX_BODY_BYTES, TIMEOUT_SECONDS, Closing, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from moq_token.sources.rfc9111 import Answer

MAX_REDIRECTS = 3

_OK, _NOT_MODIFIED = 200, 304
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_GONE = frozenset((404, 410))
# The failures for which RFC 5861, section 4, lets a stale answer stand in.
_FAILURES = frozenset((500, 502, 503, 504))
# A compressed body could be a thousand times as large as what travels, and a key is small.
_HEADERS = {"accept": "application/jwk+json, application/jwk-set+json, application/json, */*;q=0.1"}
_HEADERS |= {"accept-encoding": "identity", "user-agent": "moq-token"}
_PORTS = {"http": 80, "https": 443}


class TlsOptions(Protocol):
    """Whom to trust and as whom to go; the members of :class:`Tls`."""

    @property
    def roots(self) -> tuple[str, ...]:
        """PEM files of certificates that are trusted."""
        ...

    @property
    def cert(self) -> str | None:
        """The PEM file of the client's certificate."""
        ...

    @property
    def key(self) -> str | None:
        """The PEM file of the key to it."""
        ...

    @property
    def disable_verify(self) -> bool:
        """Whether anybody is trusted."""
        ...

    @property
    def system_roots(self) -> bool | None:
        """Whether the system's roots count; None: only where no others are named."""
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom HTTPS trusts and as whom it goes: names of PEM files.

    ``roots`` are trusted in place of the system's, or beside them where ``system_roots`` is True. ``cert`` and ``key``
    identify the client. ``disable_verify`` trusts anybody.
    """

    roots: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    disable_verify: bool = False
    system_roots: bool | None = None


class Fetched(NamedTuple):
    """A body, and whether it took a request (that may have failed) to be sure of it."""

    body: bytes
    asked: bool


class Http(Closing):
    """What fetches URLs for several sources at once.

    Answers are cached as a private cache does (RFC 9111), in at most 16 MiB. Redirects are followed within one origin,
    three at most. A fetch takes at most 10 s and brings at most 1 MiB. Proxies are those of the environment. Needs the
    extra ``http``; raises :class:`ConfigError` without it, and for TLS files that cannot be used.

    Parameters
    ----------
    tls
        None stands for the roots of the system and no certificate of one's own.
    clock
        Tells the time that passes, in seconds.

    """

    def __init__(self, tls: TlsOptions | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import httpx2

            from moq_token.sources.rfc9111 import Answer, Cache
        except ImportError as error:
            raise ConfigError('keys over HTTP need the extra `http`: pip install "moq-token[http]"') from error
        self._answer: type[Answer] = Answer
        self._cache = Cache(_HEADERS, clock)
        self._clock = clock
        self._flights: Flights[Fetched] = Flights()
        self._parse_url = httpx2.URL
        # The group is what comes of connecting to several addresses at once.
        self._failure = httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ExceptionGroup
        context = _context(Tls() if tls is None else tls)
        try:
            self._client = httpx2.AsyncClient(
                verify=context,
                headers=_HEADERS,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # they would pile up
                follow_redirects=False,
                timeout=None,  # there is one for all of it, redirects and waiting for a connection included
            )
        except (ImportError, ValueError, httpx2.InvalidURL):
            # The library's own words could quote the variable, which may hold a password.
            raise ConfigError("the proxy that the environment names (HTTP_PROXY and the like) cannot be used") from None

    async def fetch(self, url: str) -> bytes:
        """Return the body of a good answer (200), fresh or confirmed.

        Raises :class:`UnavailableError` for everything else.
        """
        return (await self.retrieve(url)).body

    async def retrieve(self, url: str, *, revalidate: bool = False, admit: Callable[[], None] | None = None) -> Fetched:
        """Do what :meth:`fetch` does, and say whether it took a request; ``revalidate`` makes it take one.

        ``admit`` is called before a request which nobody else has under way, and may refuse by raising.
        """
        if not revalidate:
            body = self._cache.fresh(url)
            if body is not None:
                return Fetched(body, asked=False)
        return await self._flights.join(url, lambda: self._ask(url, revalidate=revalidate), admit)

    async def aclose(self) -> None:
        """Give up what is under way, close every connection and forget every answer."""
        await self._flights.aclose()
        await self._client.aclose()
        self._cache.clear()

    async def _ask(self, url: str, *, revalidate: bool) -> Fetched:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return Fetched(await self._follow(url, revalidate=revalidate), asked=True)
        except TimeoutError:
            failure = UnavailableError(f"{shown_url(url)} did not answer within {TIMEOUT_SECONDS} s")
        except _FailedError as error:
            failure = UnavailableError(str(error))
        except self._failure as error:
            failure = UnavailableError(f"{shown_url(url)} cannot be had: {type(error).__name__}")
            failure.__cause__ = _system_error(error)
        body = None if revalidate else self._cache.stale(url)
        if body is None:
            raise failure
        return Fetched(body, asked=True)

    async def _follow(self, url: str, *, revalidate: bool) -> bytes:
        first = here = self._parse_url(url)
        at = url
        for _ in range(MAX_REDIRECTS + 1):
            location, body = await self._once(at, revalidate=revalidate)
            if location is None:
                return body
            here = here.join(location)
            # Compared as parsed by what connects, lest two parsers differ on where a URL leads.
            if (here.scheme, here.host, here.port) != (first.scheme, first.host, first.port):
                raise UnavailableError(f"{shown_url(url)} redirects to another origin")
            at = str(here)
        raise UnavailableError(f"{shown_url(url)} redirects more than {MAX_REDIRECTS} times")

    async def _once(self, url: str, *, revalidate: bool) -> tuple[str | None, bytes]:
        """Return where the URL redirects to, or the body."""
        body = None if revalidate else self._cache.fresh(url)
        if body is not None:
            return None, body
        for _ in range(2):  # once more where what is stored is confirmed, and yet is not what is there
            question = self._cache.question(url, revalidate=revalidate)
            answer = await self._send(url, question.headers)
            if answer.status in _REDIRECTS and "location" in answer.headers:
                return answer.headers["location"], b""
            if answer.status not in (_OK, _NOT_MODIFIED):
                self._refuse(url, answer.status)
            body = self._cache.answered(url, question, answer)
            if body is not None:
                return None, body
        raise UnavailableError(f"{shown_url(url)} confirms what it never gave")

    def _refuse(self, url: str, status: int) -> NoReturn:
        if status in _GONE:
            self._cache.forget(url)
            raise NotFound(f"{shown_url(url)} answered {status}")
        raise (_FailedError if status in _FAILURES else UnavailableError)(f"{shown_url(url)} answered {status}")

    async def _send(self, url: str, headers: httpx2._types.HeaderTypes) -> Answer:
        started = self._clock()
        async with self._client.stream("GET", url, headers=headers) as response:
            # Nobody is interested in the page that comes with an error, and it may be endless.
            body = await self._body(url, response) if response.status_code in {_OK, _NOT_MODIFIED} else b""
            return self._answer(response.status_code, dict(response.headers), body, self._clock() - started)

    async def _body(self, url: str, response: httpx2.Response) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnavailableError(f"{shown_url(url)} is compressed, though that was not asked for")
        length = response.headers.get("content-length", "")
        body = bytearray()
        if not (length.isdigit() and int(length[:20]) > MAX_BODY_BYTES):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
            else:
                return bytes(body)
        raise UnavailableError(f"{shown_url(url)} is larger than {MAX_BODY_BYTES} bytes")


class _FailedError(Exception):
    """The server failed, so that a stale answer may stand in."""


def _system_error(error: BaseException) -> OSError | None:
    """Return what the system or TLS said. The errors above it are not kept: they hold the URL, passwords included."""
    cause, found = error.__cause__ or error.__context__, error if isinstance(error, OSError) else None
    while cause is not None:
        found = cause if isinstance(cause, OSError) else found
        cause = cause.__cause__ or cause.__context__
    return None if found is None else bare(found)


def check_url(url: str) -> str:
    """Return a URL of http or https as it is. Raises :class:`ConfigError` for anything else, without quoting it."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("a URL must consist of ASCII characters without spaces")
    try:
        scheme, host, _ = _origin(url)
    except ValueError:
        raise ConfigError("the URL has no valid host and port") from None
    if scheme not in _PORTS:
        raise ConfigError("a URL of keys must begin with https:// or http://")
    if not host:
        raise ConfigError(f"the URL names no host: {scheme}://HOST/… is wanted")
    return url


def shown_url(url: str) -> str:
    """Return a URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises :class:`ValueError` for a port that is none."""
    parts = urlsplit(url)
    port = parts.port
    return parts.scheme, parts.hostname or "", _PORTS.get(parts.scheme, 0) if port is None else port


def _context(tls: TlsOptions) -> ssl.SSLContext:
    import truststore

    if tls.disable_verify or (tls.roots and not tls.system_roots):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.disable_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if (tls.cert is None) != (tls.key is None):
        raise ConfigError("`cert` and `key` of the TLS configuration need each other")
    name = ""
    try:
        for name in tls.roots:
            context.load_verify_locations(name)
        if tls.cert is not None:
            name = f"{tls.cert}, {tls.key}"
            # Without a password here, one would be asked for on the terminal.
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
        raise ConfigError(
            f"TLS cannot be set up from {name!r}: {why or 'no usable PEM, or one that needs a password'}"
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
