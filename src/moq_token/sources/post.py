"""Send documents to a service over HTTP, and read what it answers: bounded in time and size, without retries."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from moq_token.errors import ConfigError, UnavailableError, bare
from moq_token.sources.client import new_client, read_body
from moq_token.sources.failures import describe_error, system_error
from moq_token.sources.quiet import quiet
from moq_token.sources.source import TIMEOUT_SECONDS, Closing, missing_extra, sealed_coroutine, sealed_function
from moq_token.sources.urls import (
    MAX_URL_CHARACTERS,
    Address,
    check_service_url,
    origin_of,
    shown_url,
    socket_path,
)

if TYPE_CHECKING:
    from moq_token.sources.tls import TlsOptions

# As relays follow them.
MAX_REDIRECTS = 10
# A grant is far smaller.
MAX_ANSWER_BYTES = 256 * 1024
# Requests under way; further ones wait, which counts as time without an answer.
MAX_CONNECTIONS = 256

_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "moq-token"}
_JSON = {"content-type": "application/json"}
_SUCCESS = range(200, 300)
# The schemes from and to which a redirect may lead to another origin.
_ELSEWHERE = frozenset((("http", "http"), ("http", "https"), ("https", "https")))
# These repeat the request; after the others it becomes a GET without a body (RFC 9110, section 15.4).
_REPEATING, _REDIRECTS = frozenset((307, 308)), frozenset((301, 302, 303, 307, 308))


class Answered(NamedTuple):
    """The status of an answer, and its body if the status is 2xx."""

    status: int
    body: bytes


class Post(Closing):
    """Sends JSON to one URL: https, http to this machine, or ``unix:///path`` (then to ``/`` with the host localhost).

    User and password of the URL are sent as HTTP Basic authentication, to its origin only. A request takes at most 10 s
    with all its redirects, of which at most ten are followed, none of them to an unencrypted server elsewhere. Cookies
    are ignored. Proxies are those of the environment, for https only. No log record and no error shows what is sent, or
    user, password and query of the URL.

    Raises ``ConfigError`` for an invalid URL, without the extra ``http``, and for TLS files that cannot be used.
    """

    @sealed_function
    def __init__(self, url: str, tls: TlsOptions | None = None) -> None:
        check_service_url(url)
        try:
            import httpx2
        except ImportError as error:
            raise ConfigError(missing_extra("requests to an auth server", "http")) from bare(error)
        self._socket = socket_path(url) if url.lower().startswith("unix:") else None
        self._url = url if self._socket is None else "http://localhost/"
        self.shown: str = shown_url(url) if self._socket is None else f"unix://{self._socket}"
        self._parse_url = httpx2.URL
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS)
        self._client = new_client(
            _HEADERS,
            tls,
            TIMEOUT_SECONDS,
            transport=None if self._socket is None else httpx2.AsyncHTTPTransport(uds=self._socket, limits=limits),
            limits=limits,
            # A proxy would read what is sent to this machine unencrypted.
            trust_env=self._url.lower().startswith("https://"),
        )

    @sealed_coroutine
    async def send(self, document: bytes) -> Answered:
        """Send one document. Raises ``UnavailableError`` where there is no answer, or one that is too large."""
        try:
            with quiet():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    return await self._follow(document)
        except TimeoutError:
            error = UnavailableError(f"{self.shown} did not answer within {TIMEOUT_SECONDS} s")
        except UnavailableError as unavailable:
            error = bare(unavailable)
        except Exception as foreign:  # noqa: BLE001 - whatever a server sends, no foreign error leaves this
            error = UnavailableError(f"{self.shown}: {self._describe(foreign)}")
        raise error

    async def aclose(self) -> None:
        """Close every connection."""
        with quiet():
            await self._client.aclose()

    def _describe(self, error: Exception) -> str:
        if self._socket is None:
            return describe_error(error, self._url)
        system = system_error(error)
        return describe_error(error, self._url) if system is None else str(system.strerror or "no connection")

    async def _follow(self, document: bytes) -> Answered:
        at, method = self._url, "POST"
        for _ in range(MAX_REDIRECTS + 1):
            status, location, body = await self._once(method, at, document)
            if status not in _REDIRECTS or location is None:
                return Answered(status, body)
            at = self._redirected(at, location)
            if status not in _REPEATING:
                method = "GET"
        raise UnavailableError(f"{self.shown} redirects more than {MAX_REDIRECTS} times")

    def _redirected(self, at: str, location: str) -> str:
        """Return where a redirect leads. A server on a unix socket can only lead to itself."""
        target = ""
        if len(location) <= MAX_URL_CHARACTERS:
            with contextlib.suppress(Exception):
                target = str(self._parse_url(at).join(location))
                check_service_url(target)
                here, there = origin_of(at), origin_of(target)
                if here == there or (self._socket is None and (here[0], there[0]) in _ELSEWHERE):
                    return target
        raise UnavailableError(f"{self.shown} redirects to a place that is not followed. Use the URL of the service")

    async def _once(self, method: str, url: str, document: bytes) -> tuple[int, str | None, bytes]:
        address = Address.of(url)
        headers = dict(_JSON) if method == "POST" else {}
        authorization = Address.of(self._url).authorization if origin_of(url) == origin_of(self._url) else None
        if authorization is not None:
            headers["authorization"] = authorization
        async with self._client.stream(
            method,
            address.url,
            content=document if method == "POST" else None,
            headers=headers,
            extensions={"target": address.target.partition("#")[0].encode("ascii")},  # the query is nowhere else
        ) as response:
            # The body of another answer is not needed, and it may be endless.
            body = await read_body(response, self.shown, MAX_ANSWER_BYTES) if response.status_code in _SUCCESS else b""
            return response.status_code, response.headers.get("location"), body
