"""An HTTP cache (RFC 9111): hishel's rules, over a bounded memory of our own.

hishel computes the age of a response from its ``Date`` and the wall clock. So a stored response is passed to it with a
``Date`` that is set back by the age of section 4.2.3, measured with the ``Age`` header and a monotonic clock.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import parse_http_list

from hishel import (
    AnyState,
    CacheMiss,
    CacheOptions,
    Entry,
    FromCache,
    Headers,
    IdleClient,
    InvalidateEntries,
    NeedRevalidation,
    NeedToBeUpdated,
    Request,
    Response,
    StoreAndUse,
)

from moq_token.sources.memory import Lru

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_OPTIONS = CacheOptions(shared=False, allow_stale=False)
_OK = 200
_KNOWN_HEADERS = frozenset(("age", "cache-control", "date", "etag", "expires", "last-modified", "pragma", "vary"))
_MAX_HEADER_CHARACTERS = 1024
# More seconds than this make no difference.
_MAX_SECONDS = 2**31


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: of its headers those that the cache reads, several of one name joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    delay: float
    """Seconds from the request to the end of the answer."""

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, delay: float) -> Answer:
        """Make an answer of headers as they were received, of which anything may be invalid.

        A header that is not short printable ASCII is dropped: without it, an answer is kept for less long, not longer.
        """
        known: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in _KNOWN_HEADERS:
                known[name] = f"{known[name]}, {value}" if name in known else value
        return cls(status, {name: value for name, value in known.items() if _is_plain(value)}, body, delay)


@dataclass(slots=True)
class _Stored:
    request: Request
    headers: Mapping[str, str]
    body: bytes
    since: float
    """The time on the clock at which its age was zero."""
    fresh_until: float = float("-inf")
    """Until when it is known to be fresh."""


class Question(NamedTuple):
    """A request to send, and what to compare its answer with."""

    headers: Mapping[str, str]
    state: CacheMiss | NeedRevalidation
    stored: _Stored | None


class Cache:
    """A private cache of good answers (200) to GET.

    Only a lifetime that the server states counts: guessing one, as section 4.2.2 allows, would keep a withdrawn key
    for days. A stale answer replaces a failure only for as long as its ``stale-if-error`` allowed (RFC 5861,
    section 4).
    """

    def __init__(self, headers: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._headers = dict(headers)
        self._clock = clock
        self._stored: Lru[_Stored] = Lru()

    def fresh(self, url: str) -> bytes | None:
        """Return the body if it can be used without a request, or None."""
        stored = self._stored.get(url)
        if stored is None:
            return None
        now = self._clock()
        if now < stored.fresh_until:
            return stored.body
        # The rules take longer than verifying a token does. What will still be fresh in a second is checked again only
        # then.
        if self._usable(url, stored, -1) is not None:
            stored.fresh_until = now + 1
            return stored.body
        return self._usable(url, stored, 0)

    def stale(self, url: str) -> bytes | None:
        """Return the body if it can be used after a failed request, or None."""
        stored = self._stored.get(url)
        if stored is None:
            return None
        directives = _directives(stored.headers)
        if directives.keys() & {"must-revalidate", "no-cache"}:
            return None
        allowed = _lifetime(stored.headers, directives) + _seconds(directives.get("stale-if-error", ""))
        headers = {**stored.headers, "cache-control": f"max-age={allowed}"}
        return self._usable(url, replace(stored, headers=headers), 0)

    def question(self, url: str, *, revalidate: bool) -> Question:
        """Return the request to send. ``revalidate`` makes every cache on the way ask the origin server."""
        request = self._request(url, {"cache-control": "no-cache"} if revalidate else {})
        stored = self._stored.get(url)
        state = IdleClient(_OPTIONS).next(request, [] if stored is None else [self._entry(stored)])
        if isinstance(state, FromCache):  # it became fresh meanwhile
            state = CacheMiss(_OPTIONS, request)
        return Question(dict(state.request.headers), state, stored)

    def answered(self, url: str, question: Question, answer: Answer) -> bytes | None:
        """Store the answer to a question, 200 or 304, and return the body to use.

        Returns None if the answer confirms nothing that is stored: send the request again.
        """
        headers = {**answer.headers, "date": answer.headers.get("date") or formatdate(usegmt=True)}
        # Without a stated lifetime it has none, see above; `max-age` takes precedence over this.
        headers.setdefault("expires", headers["date"])
        self._stored.pop(url)
        state: AnyState = question.state.next(Response(answer.status, Headers(headers)))
        while isinstance(state, InvalidateEntries):
            state = state.next()
        if isinstance(state, NeedToBeUpdated) and question.stored is not None:
            updated = dict(state.updating_entries[-1].response.headers)
            body = question.stored.body
        elif answer.status == _OK:
            updated, body = dict(state.response.headers) if isinstance(state, StoreAndUse) else {}, answer.body
        else:
            return None
        if updated:
            since = self._clock() - _initial_age(headers, answer.delay)
            weight = len(body) + sum(len(name) + len(value) for name, value in updated.items())
            self._stored.put(url, _Stored(self._request(url, {}), updated, body, since), weight)
        return body

    def forget(self, url: str) -> None:
        """Drop an answer."""
        self._stored.pop(url)

    def clear(self) -> None:
        """Drop all answers."""
        self._stored.clear()

    def _request(self, url: str, headers: Mapping[str, str]) -> Request:
        return Request("GET", url, Headers({**self._headers, **headers}))

    def _usable(self, url: str, stored: _Stored, allowed: int) -> bytes | None:
        state = IdleClient(_OPTIONS).next(self._request(url, {}), [self._entry(stored, allowed)])
        return stored.body if isinstance(state, FromCache) else None

    def _entry(self, stored: _Stored, allowed: int = 0) -> Entry:
        """Return what is stored, younger by ``allowed`` seconds."""
        headers = dict(stored.headers)
        date = int(time.time()) - int(max(0, self._clock() - stored.since - allowed))
        written = _timestamp(headers["date"])
        expires = _timestamp(headers["expires"])
        headers["date"] = formatdate(date, usegmt=True)
        if written is not None and expires is not None:
            # A date after the year 9999 cannot be represented.
            headers["expires"] = formatdate(date + max(-1, min(expires - written, _MAX_SECONDS)), usegmt=True)
        return Entry(uuid.UUID(int=0), stored.request, Response(_OK, Headers(headers)))


def _is_plain(value: str) -> bool:
    return len(value) <= _MAX_HEADER_CHARACTERS and value.isascii() and value.isprintable()


def _initial_age(headers: Mapping[str, str], delay: float) -> float:
    date = _timestamp(headers["date"])
    apparent = 0 if date is None else max(0, time.time() - date)
    # The date has no fraction of a second, so that a new answer can seem almost a second old.
    return max(apparent if apparent > 1 else 0, _seconds(headers.get("age", "")) + delay)


def _lifetime(headers: Mapping[str, str], directives: Mapping[str, str]) -> int:
    """Return for how many seconds an answer is fresh (RFC 9111, section 4.2.1)."""
    if "max-age" in directives:
        return _seconds(directives["max-age"])
    written, expires = _timestamp(headers["date"]), _timestamp(headers["expires"])
    return 0 if written is None or expires is None else int(max(0, min(expires - written, _MAX_SECONDS)))


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _directives(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = (item.partition("=") for item in parse_http_list(headers.get("cache-control", "")))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _seconds(text: str) -> int:
    digits = text.strip()
    return min(int(digits[:11]), _MAX_SECONDS) if digits.isascii() and digits.isdigit() else 0
