"""How long a session admitted by an auth server may last: pure, without I/O, with the time as an argument.

The rules are those of relay 0.17 (`moq_auth::client` 0.2.2 and `moq_relay::auth`).
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from moq_token import path as paths
from moq_token.contract import Grant
from moq_token.errors import InvalidGrantError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BACKOFF_SECONDS = 60
"""The longest time, but for its jitter, until a re-check is tried again that nobody answered."""
MIN_JITTER, MAX_JITTER = 0.75, 1.25

_REFUSING = frozenset((401, 403))
_SUCCESS = range(200, 300)
# Answers that are read, but that no session may go on with. All others that are not valid say nothing about a session.
_INVALID = frozenset(("unbounded-revalidate", "zero-revalidate", "expired"))
_MAX_DOUBLINGS = 16


class Instant(NamedTuple):
    """A moment on two clocks: Unix seconds, which can be set, and monotonic seconds."""

    unix: float
    steady: float


class NoGrant(Enum):
    """An answer that grants nothing."""

    REFUSED = "refused"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    """No decision could be made: a session goes on until its grant expires."""


def read_answer(status: int, body: bytes, now: float) -> Grant | NoGrant:
    """Return what an answer of an auth server says at ``now`` (Unix seconds). No answer is an exception."""
    if status in _REFUSING:
        return NoGrant.REFUSED
    if status not in _SUCCESS:
        return NoGrant.UNAVAILABLE
    try:
        return Grant.from_json(body, now=now)
    except InvalidGrantError as error:
        if error.reason == "useless":
            return NoGrant.REFUSED
        return NoGrant.INVALID if error.reason in _INVALID else NoGrant.UNAVAILABLE


class Lease:
    """The time of one admitted session.

    Call ``advance()`` when ``wait()`` says so. Where it returns True, ask the auth server, and pass what it says to
    ``answered()``; until then it does not return True again.

    Parameters
    ----------
    grant
        What the session was admitted with.
    path
        The dialed path, which is the root of a grant without one.
    now
        When it was admitted.
    jitter
        Returns a number from 0.75 to 1.25, by which the time until a retry is multiplied.

    """

    __slots__ = ("_admitted", "_again", "_asking", "_failures", "_grant", "_jitter", "_next", "_path", "ended", "tier")

    def __init__(self, grant: Grant, path: str, now: Instant, jitter: Callable[[], float]) -> None:
        self._admitted = grant
        self._path = path
        self._jitter = jitter
        self._failures = 0
        self._next = math.inf
        self._asking = self._again = False
        self.ended: str | None = None
        """Why the session must end, None while it may go on."""
        self.tier = grant.tier
        """The label that the session is counted under. A re-check can change it."""
        self._take(grant, now)

    def advance(self, now: Instant) -> bool:
        """Note that time has passed, and return whether the auth server is to be asked."""
        if self.ended is None and self._grant.expires is not None and now.unix >= self._grant.expires:
            self.ended = "expired"
        if self.ended is not None or now.steady < self._next:
            return False
        self._asking, self._next = True, math.inf  # until the answer, nothing but its end is due
        return True

    def wait(self, now: Instant) -> float:
        """Return after how many seconds ``advance()`` is due; infinity if never."""
        if self.ended is not None:
            return math.inf
        expires = math.inf if self._grant.expires is None else self._grant.expires - now.unix
        return max(0.0, min(expires, self._next - now.steady))

    def nudge(self) -> None:
        """Ask for a re-check at once. During a re-check, this asks for one more after it."""
        if self._asking:
            self._again = True
        else:
            self._next = -math.inf

    def answered(self, answer: Grant | NoGrant, now: Instant) -> None:
        """Apply what the auth server says to a re-check."""
        self._asking = False
        if self.ended is not None:
            return
        if isinstance(answer, Grant):
            self.ended = self._change(answer)
            if self.ended is None:
                self._failures, self.tier = 0, answer.tier
                self._take(answer, now)
        elif answer is NoGrant.UNAVAILABLE:
            self._failures += 1
            self._next = now.steady + self._backoff()
        else:
            self.ended = answer.value
        if self._again:
            self._again, self._next = False, -math.inf

    def close(self, reason: str) -> str:
        """End the session, and return why it ended: the first reason given."""
        self.ended = self.ended or reason
        return self.ended

    def _take(self, grant: Grant, now: Instant) -> None:
        self._grant = grant
        self._next = math.inf if grant.revalidate is None else now.steady + grant.revalidate

    def _backoff(self) -> float:
        seconds = 2.0 ** min(self._failures - 1, _MAX_DOUBLINGS)
        cadence = self._grant.revalidate
        return min(seconds, MAX_BACKOFF_SECONDS if cadence is None else cadence, MAX_BACKOFF_SECONDS) * self._jitter()

    def _change(self, grant: Grant) -> str | None:
        """Return why an admitted session cannot go on with this grant, or None.

        A wider one does not widen the session. So what counts is the grant that it was admitted with, not the last one.
        """
        admitted = self._admitted
        if resolve_root(grant, self._path) != resolve_root(admitted, self._path):
            return "root changed"
        if _tidied(grant.mounts) != _tidied(admitted.mounts):
            return "mounts changed"
        if grant.peer != admitted.peer:
            return "peer changed"
        covered = grant.publish.contains(admitted.publish) and grant.subscribe.contains(admitted.subscribe)
        return None if covered else "grant narrowed"


def resolve_root(grant: Grant, path: str) -> str:
    """Return where a session is that dialed ``path``, normalized."""
    return paths.normalize(path if grant.root is None else grant.root)


def _tidied(mounts: Mapping[str, str]) -> dict[str, str]:
    return {paths.normalize(place): paths.normalize(target) for place, target in mounts.items()}
