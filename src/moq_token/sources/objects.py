"""Keys in an object store, where a fleet on several machines shares them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from moq_token.errors import ConfigError, UnavailableError, bare
from moq_token.sources.http import Fetched
from moq_token.sources.local import DirectorySource
from moq_token.sources.memory import Flights, Lru
from moq_token.sources.source import (
    MAX_BODY_BYTES,
    TIMEOUT_SECONDS,
    Closing,
    NotFound,
    missing_extra,
    named,
    sealed_function,
)
from moq_token.sources.urls import MAX_URL_CHARACTERS, shown_url
from moq_token.sources.web import Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.key import Key
    from moq_token.kid import KeyId

# With the prefix of the environment variables that configure each.
_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
SCHEMES = (*_PREFIXES, "file")
# How long an object is used before the store is asked whether it has changed.
FRESH_SECONDS = 5.0
# Of a request that the store failed to answer. With it, a thread gives up by itself within TIMEOUT_SECONDS.
MAX_RETRIES = 1
_REQUEST_SECONDS, _CONNECT_SECONDS = 4.5, 3
_WORKERS = 16

# The options of the store's client, which the environment can set (crate object_store, ClientConfigKey). Passing any of
# them replaces the environment's, so all of them are passed.
_CLIENT_OPTIONS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "timeout",
    "user_agent",
)
# What the text of an error means; the first match counts. The text itself may hold the request, signed as it was.
_CAUSES = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"169\.254\.|metadata", "no credentials found. Set them in the environment ({prefix}…)"),
        (r"NoSuchBucket|NoSuchContainer", "bucket not found. Check the URL and the region ({prefix}…)"),
        (r"Unauthenticated|status code: 401", "access denied (401). Check the credentials ({prefix}…)"),
        (
            r"PermissionDenied|status code: 403",
            "access denied (403). Check credentials ({prefix}…) and permissions",
        ),
        (r"redirect without LOCATION", "wrong region. Set {prefix}REGION"),
        (r"dns error", "host not found. Check the endpoint, region and account ({prefix}…)"),
        (r"ConnectionRefused", "connection refused. Check that the store is running, and the endpoint ({prefix}…)"),
        (r"UnknownIssuer|certificate", "the certificate of the store is not trusted, or not valid for its host"),
        (r"InvalidContentType|InvalidMessage", "the store does not speak TLS at the endpoint. Use http:// there"),
        (r"TimedOut|timed out|kind: Timeout", "no answer in time. Check the endpoint ({prefix}…) and the network"),
        (r"builder error", "the endpoint is not allowed. For http:// set {prefix}ALLOW_HTTP=true"),
        (r"status code: (?P<status>[0-9]{3})", "answered {status}. Try again, or look into the log of the store"),
    )
)


class _Object(NamedTuple):
    etag: str | None
    body: bytes
    until: float


class ObjectStoreSource(Closing):
    """One key for each id, at ``{url}/{kid}.jwk`` of an object store: ``s3://``, ``gs://`` or ``az://``.

    Credentials, region and endpoint come from the environment in the store's own terms (``AWS_…``, ``GOOGLE_…``,
    ``AZURE_…``) and from nowhere else. A key is used for 5 s before the store is asked again (by ETag). A request takes
    at most 10 s and brings at most 1 MiB; ids that are not known to exist are limited as with
    ``UrlDirectorySource``. A ``file:///`` URL is read as ``DirectorySource`` does. Requires the extra
    ``objectstore``; raises ``ConfigError`` without it and for an invalid URL.
    """

    @sealed_function
    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        scheme, path = _check_url(url)
        self._local = DirectorySource(path) if scheme == "file" else None
        if self._local is not None:
            return
        try:
            import obstore
            from obstore import exceptions, store
        except ImportError as error:
            raise ConfigError(missing_extra("keys in an object store", "objectstore")) from bare(error)
        # The synchronous interface, in threads: the other one calls into Python from threads of its own, and aborts the
        # process where the interpreter ends meanwhile.
        self._get: Callable[..., Any] = obstore.get
        self._not_modified = exceptions.NotModifiedError
        self._prefix = _PREFIXES[scheme]
        make: Callable[..., Any] = store.from_url
        try:
            self._store = make(
                url, client_options=_client_options(self._prefix), retry_config={"max_retries": MAX_RETRIES}
            )
        except (exceptions.BaseError, ValueError, OSError):
            self._store = None
        if self._store is None:  # outside the handler: the message there may quote the environment
            raise ConfigError(f"cannot set up the object store. Check the URL and the environment ({self._prefix}…)")
        self._workers = ThreadPoolExecutor(_WORKERS, "moq-token-objects")
        self._clock = clock
        self._objects: Lru[_Object] = Lru()
        self._flights: Flights[bytes] = Flights()
        self._keys = Remote(shown_url(url), self._fetch, clock)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key with this id. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        if self._local is not None:
            return await self._local.get(kid)
        return await self._keys.get(named(kid), kid)

    async def aclose(self) -> None:
        """Cancel pending requests."""
        if self._local is None:
            await self._flights.aclose()
            self._workers.shutdown(wait=False, cancel_futures=True)
            self._objects.clear()

    async def _fetch(self, name: str, admit: Callable[[], None] | None) -> Fetched:
        known = self._objects.get(name)
        if known is not None and self._clock() < known.until:
            return Fetched(known.body, asked=False)
        return Fetched(await self._flights.join(name, lambda: self._ask(name), admit), asked=True)

    async def _ask(self, name: str) -> bytes:
        known = self._objects.get(name)
        reading = asyncio.get_running_loop().run_in_executor(
            self._workers, self._read, f"{name}.jwk", None if known is None else known.etag
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                etag, body = await reading
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                self._objects.pop(name)
                raise NotFound(f"the object store has no {name}.jwk") from None
            failure = self._describe(error)
        except TimeoutError:
            failure = f"did not answer within {TIMEOUT_SECONDS} s. Check the endpoint ({self._prefix}…) and the network"
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - no foreign error leaves a source, and its text may hold the request
            failure = "" if known is not None and isinstance(error, self._not_modified) else self._describe(error)
        else:
            self._objects.put(name, _Object(etag, body, self._clock() + FRESH_SECONDS), len(body))
            return body
        if failure or known is None:
            raise UnavailableError(f"the object store cannot be read: {failure}")
        self._objects.put(name, known._replace(until=self._clock() + FRESH_SECONDS), len(known.body))
        return known.body

    def _read(self, path: str, etag: str | None) -> tuple[str | None, bytes]:
        result = self._get(self._store, path, options={} if etag is None else {"if_none_match": etag})
        body = bytearray()
        if result.meta["size"] <= MAX_BODY_BYTES:
            for chunk in result:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
            else:
                return result.meta["e_tag"], bytes(body)
        raise UnavailableError(f"{path} of the object store is larger than {MAX_BODY_BYTES} bytes")

    def _describe(self, error: Exception) -> str:
        text = f"{type(error).__name__} {error}"
        for pattern, words in _CAUSES:
            found = pattern.search(text)
            if found is not None:
                return words.format(prefix=self._prefix, **found.groupdict())
        return f"the answer is invalid. Check the URL and the endpoint ({self._prefix}…)"


def _client_options(prefix: str) -> dict[str, str]:
    options = {"timeout": f"{_REQUEST_SECONDS}s", "connect_timeout": f"{_CONNECT_SECONDS}s"}
    found = {name: os.environ.get(f"{prefix}{name.upper()}") for name in _CLIENT_OPTIONS}
    return options | {name: value for name, value in found.items() if value}


def _check_url(url: str) -> tuple[str, str]:
    """Return the scheme, and for a local directory its path. Raises ``ConfigError``, without quoting the URL."""
    fault, scheme, path = _parse(url)
    if fault is not None:
        raise ConfigError(fault)
    return scheme, url2pathname(path)


def _parse(url: str) -> tuple[str | None, str, str]:
    if len(url) > MAX_URL_CHARACTERS:
        return f"the URL is too long: {len(url)} characters, the maximum is {MAX_URL_CHARACTERS}", "", ""
    try:
        scheme, host, path, _, _ = urlsplit(url)
    except ValueError:  # its message quotes the URL
        return "invalid URL of an object store", "", ""
    fault = None
    if scheme not in SCHEMES:
        fault = f"the URL of an object store must start with one of {', '.join(f'{name}://' for name in SCHEMES)}"
    elif scheme == "file" and (host not in {"", "localhost"} or not path.startswith("/")):
        fault = "the URL of a local directory must be file:///…, with an absolute path and no host"
    elif scheme != "file" and not host:
        fault = f"missing bucket in the URL, expected {scheme}://BUCKET/…"
    return fault, scheme, path
