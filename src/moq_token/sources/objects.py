"""Keys in an object store, where a fleet on several machines shares them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from moq_token.errors import ConfigError, UnavailableError
from moq_token.sources.memory import Flights, Lru
from moq_token.sources.source import MAX_BODY_BYTES, TIMEOUT_SECONDS, Closing, NotFound, named
from moq_token.sources.web import Remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.key import Key
    from moq_token.kid import KeyId

SCHEMES = ("s3", "gs", "az", "file")
# How long an object is used before the store is asked whether it is still the same.
FRESH_SECONDS = 5.0
# Of a request that the store failed to answer, within the time that there is for all of it.
MAX_RETRIES = 1


class _Object(NamedTuple):
    etag: str | None
    body: bytes
    until: float


class ObjectStoreSource(Closing):
    """One key for each id, at ``{url}/{kid}.jwk`` of an object store: ``s3://``, ``gs://``, ``az://`` or ``file://``.

    Credentials, region and endpoint come from the environment in the store's own terms (``AWS_…``, ``GOOGLE_…``,
    ``AZURE_…``) and from nowhere else. A key is used for 5 s before the store is asked again (by ETag). A request takes
    at most 10 s and brings at most 1 MiB; ids that are not known to exist are bounded as with
    :class:`UrlDirectorySource`. Needs the extra ``objectstore``; raises :class:`ConfigError` without it and for a bad
    URL.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            import obstore
            from obstore import exceptions, store
        except ImportError as error:
            message = 'keys in an object store need the extra `objectstore`: pip install "moq-token[objectstore]"'
            raise ConfigError(message) from error
        _check_url(url)
        self._get_async: Callable[..., Any] = obstore.get_async
        self._not_modified, self._failure = exceptions.NotModifiedError, exceptions.BaseError
        try:
            # The client's own options would take the place of those in the environment, of which its time-outs are the
            # lesser part: ours is around them all.
            retries: Any = {} if urlsplit(url).scheme == "file" else {"retry_config": {"max_retries": MAX_RETRIES}}
            self._store = store.from_url(url, **retries)
        except (exceptions.BaseError, ValueError, OSError) as error:
            # Its message may quote the environment.
            raise ConfigError(f"the object store cannot be set up: {type(error).__name__}") from None
        self._clock = clock
        self._objects: Lru[_Object] = Lru()
        self._flights: Flights[bytes] = Flights()
        self._keys = Remote(self._fetch, clock)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key of that id. Raises :class:`KeyNotFoundError` and :class:`UnavailableError`."""
        return await self._keys.get(named(kid), kid)

    async def aclose(self) -> None:
        """Give up what is under way."""
        await self._flights.aclose()
        self._objects.clear()

    async def _fetch(self, name: str, admit: Callable[[], None] | None) -> bytes:
        known = self._objects.get(name)
        if known is not None and self._clock() < known.until:
            return known.body
        return await self._flights.join(name, lambda: self._ask(name), admit)

    async def _ask(self, name: str) -> bytes:
        known = self._objects.get(name)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                etag, body = await self._read(f"{name}.jwk", None if known is None else known.etag)
        except FileNotFoundError:
            self._objects.pop(name)
            raise NotFound(f"the object store has no {name}.jwk") from None
        except TimeoutError:
            raise UnavailableError(f"the object store did not answer within {TIMEOUT_SECONDS} s") from None
        except (self._failure, OSError, ValueError) as error:
            if known is None or not isinstance(error, self._not_modified):
                # Not chained: its message may hold the request, signed as it was.
                raise UnavailableError(f"the object store cannot be read: {type(error).__name__}") from None
            etag, body = known.etag, known.body
        self._objects.put(name, _Object(etag, body, self._clock() + FRESH_SECONDS), len(body))
        return body

    async def _read(self, path: str, etag: str | None) -> tuple[str | None, bytes]:
        result = await self._get_async(self._store, path, options={} if etag is None else {"if_none_match": etag})
        body = bytearray()
        if result.meta["size"] <= MAX_BODY_BYTES:
            async for chunk in result.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
            else:
                return result.meta["e_tag"], bytes(body)
        raise UnavailableError(f"{path} of the object store is larger than {MAX_BODY_BYTES} bytes")


def _check_url(url: str) -> None:
    try:
        scheme, host, path, _, _ = urlsplit(url)
    except ValueError:
        raise ConfigError("the URL of the object store is none") from None
    if scheme not in SCHEMES:
        raise ConfigError(f"the URL of an object store must begin with one of {', '.join(SCHEMES)}, and ://")
    if scheme == "file" and (host or not path.startswith("/")):
        raise ConfigError("the URL of a local directory must be file:///…, with an absolute path and no host")
    if scheme != "file" and not host:
        raise ConfigError(f"the URL names no bucket: {scheme}://BUCKET/… is wanted")
