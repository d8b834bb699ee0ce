"""Keys behind URLs: a single key, one for each id, or a JWK Set."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from moq_token.errors import Error, KeyNotFoundError, UnavailableError
from moq_token.key import Key
from moq_token.keyset import KeySet, read_set
from moq_token.keytext import parse_members
from moq_token.sources.http import Fetched, Http
from moq_token.sources.memory import Bucket, Lru, again
from moq_token.sources.outage import Outage
from moq_token.sources.source import Closing, NotFound, Parsed, named, not_found, sealed_function
from moq_token.sources.urls import check_url, shown_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from moq_token.kid import KeyId

# How long an answer "not found" is remembered.
MISSING_SECONDS = 2.0
# Limits on requests for unknown key ids, so that nobody can flood a key server with invented ones.
UNKNOWN_BURST = 100
UNKNOWN_PER_SECOND = 20.0
# The shortest time between two requests for a key set, for any ids and any answer.
JWKS_INTERVAL_SECONDS = 5.0


class Remote:
    """Keys fetched by name, with a limit on requests for names that are not known to exist.

    ``fetch(name, admit)`` returns what it fetched. It calls ``admit`` before it starts a request, and raises
    ``NotFound`` or another ``UnavailableError``.
    """

    def __init__(
        self,
        source: str,
        fetch: Callable[[str, Callable[[], None] | None], Awaitable[Fetched]],
        clock: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._outage = Outage(source, clock)
        self._clock = clock
        self._keys = Parsed(Key.from_str)
        self._missing: Lru[float] = Lru()
        self._guesses = Bucket(UNKNOWN_PER_SECOND, UNKNOWN_BURST, clock)

    async def get(self, name: str, kid: KeyId | None) -> Key:
        """Return the key. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        what = f"the key {name}"
        until = self._missing.get(name)
        if until is not None and self._clock() < until:
            raise not_found(what, kid)
        admit = None if what in self._keys else functools.partial(self._admit, name)
        try:
            fetched = await self._fetch(name, admit)
            body = fetched.body
            key = self._keys.known(what, body) or await self._keys.get_in_thread(what, body)
        except NotFound:
            self._outage.ended()
            self._keys.forget(what)
            self._missing.put(name, self._clock() + MISSING_SECONDS)
            failure: Error = not_found(what, kid)
        except _TooManyError as error:  # no outage
            failure = UnavailableError(str(error))
        except UnavailableError as error:
            failure = again(error)
            self._outage.failed(error)
        else:
            self._outage.note(fetched.failure)
            return key
        raise failure  # here, because the frames below hold the whole URL, with any secret in it

    def _admit(self, name: str) -> None:
        if not self._guesses.take(name):
            raise _TooManyError("too many requests for unknown key ids. Try again")


class _TooManyError(UnavailableError):
    """The limit on unknown key ids is reached."""


class _WebSource(Closing):
    @sealed_function
    def __init__(self, url: str, http: Http | None, clock: Callable[[], float]) -> None:
        self._url = check_url(url)
        self._http = Http(clock=clock) if http is None else http
        self._owned = http is None
        self._clock = clock

    async def aclose(self) -> None:
        """Close the HTTP client, unless it was passed in."""
        if self._owned:
            await self._http.aclose()


class UrlSource(_WebSource):
    """One key at a URL of http or https, which verifies every token.

    ``http`` fetches and stays open; None makes a client that trusts the roots of the system. After an answer 404 or
    410 the key counts as not found for 2 s. Raises ``ConfigError`` for an invalid URL, one of more than 8,192
    characters, and if the extra ``http`` is missing.
    """

    @sealed_function
    def __init__(self, url: str, *, http: Http | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url, http, clock)
        self._keys = Remote(shown_url(self._url), self._fetch, clock)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        return await self._keys.get(shown_url(self._url), kid)

    async def _fetch(self, _: str, admit: Callable[[], None] | None) -> Fetched:
        return await self._http.retrieve(self._url, admit=admit)


class UrlDirectorySource(_WebSource):
    """One key for each id, at ``{url}/{kid}.jwk``; otherwise like ``UrlSource``.

    The query of the URL is dropped, as a relay does. Requests for unknown ids are limited to 100 at once and 20 a
    second after that; an id that was refused has priority over new ones when it is asked for again. Beyond the limit
    ``get()`` raises ``UnavailableError``, so that an unknown id is not always ``KeyNotFoundError``.

    The limit protects the key server. It does not hide which ids exist: whoever sends tokens can tell a known id from
    an unknown one, by the time and the kind of the answer. Key ids are not secrets.
    """

    @sealed_function
    def __init__(self, url: str, *, http: Http | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url, http, clock)
        scheme, host, path, _, _ = urlsplit(url)
        self._url = urlunsplit((scheme, host, path if path.endswith("/") else f"{path}/", "", ""))
        self._keys = Remote(shown_url(self._url), self._fetch, clock)

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the key with this id. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        return await self._keys.get(named(kid), kid)

    async def _fetch(self, name: str, admit: Callable[[], None] | None) -> Fetched:
        return await self._http.retrieve(f"{self._url}{name}.jwk", admit=admit)


class JwksUrlSource(_WebSource):
    """The keys of a JWK Set at a URL; otherwise like ``UrlSource``.

    For an id that the set does not have it is fetched again, but never sooner than 5 s after the last request. Keys
    that tokens cannot use are skipped (RFC 7517, section 5); at most 1,000 are read. Without an id the set must hold
    exactly one key.
    """

    @sealed_function
    def __init__(self, url: str, *, http: Http | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url, http, clock)
        self._sets = Parsed(_parse_set)
        self._outage = Outage(shown_url(url), clock)
        self._keys: KeySet | None = None
        self._error: KeyNotFoundError | UnavailableError | None = None
        self._next = float("-inf")

    async def get(self, kid: KeyId | None, /) -> Key:
        """Return the first key with this id. Raises ``KeyNotFoundError`` and ``UnavailableError``."""
        for revalidate in (False, True):
            if self._clock() >= self._next:
                await self._renew(revalidate=revalidate)
            key = self._find(kid)
            if key is not None:
                return key
        if self._error is not None:
            raise again(self._error)
        raise not_found(f"the key {kid} in {shown_url(self._url)}", kid)

    async def _renew(self, *, revalidate: bool) -> None:
        what = f"the key set {shown_url(self._url)}"
        asked = True
        error: KeyNotFoundError | UnavailableError | None = None
        try:
            fetched = await self._http.retrieve(self._url, revalidate=revalidate)
            asked = fetched.asked
            self._keys = await self._sets.get_in_thread(what, fetched.body)
            self._outage.note(fetched.failure)
        except NotFound:
            self._outage.ended()
            self._keys, error = None, not_found(what, None)
        except UnavailableError as unavailable:
            self._outage.failed(unavailable)
            error = unavailable.with_traceback(None)
            if not revalidate:  # otherwise the known keys are still fresh, and only unknown ids are affected
                self._keys = None
        if asked:
            self._next = self._clock() + JWKS_INTERVAL_SECONDS
        self._error = error

    def _find(self, kid: KeyId | None) -> Key | None:
        if self._keys is None:
            return None
        if kid is None:
            return self._keys.keys[0] if len(self._keys) == 1 else None
        return self._keys.find_key(kid)


def _parse_set(body: bytes) -> KeySet:
    return read_set(parse_members(body)).keys
