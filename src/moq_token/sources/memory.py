"""Bounded state of the sources: remembered entries, pending requests, and the rate of new ones."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from moq_token.errors import Error, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

MAX_ENTRIES = 1024
MAX_BYTES = 16 * 1024 * 1024

# The number of refused names that are remembered: enough for some seconds of a flood of thousands a second.
MAX_REFUSED = 16 * 1024
_MAX_REFUSALS = 64

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Error)
_V = TypeVar("_V")


class Lru(Generic[_V]):
    """A mapping of at most 1,024 entries and 16 MiB, which drops the least recently used entry first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[_V, int]] = OrderedDict()
        self.weight: int = 0

    def get(self, name: str) -> _V | None:
        """Return the entry and count it as used, or return None."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        self._entries.move_to_end(name)
        return entry[0]

    def put(self, name: str, value: _V, weight: int = 0) -> None:
        """Add or replace an entry; ``weight`` is its size in bytes."""
        self.pop(name)
        self._entries[name] = (value, weight)
        self.weight += weight
        while len(self._entries) > MAX_ENTRIES or self.weight > MAX_BYTES:
            self.pop(next(iter(self._entries)))

    def pop(self, name: str) -> None:
        """Drop an entry, if it exists."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.weight -= entry[1]

    def names(self) -> list[str]:
        """Return the names of the entries, the least recently used first."""
        return list(self._entries)

    def clear(self) -> None:
        """Drop every entry."""
        self._entries.clear()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._entries)


class Flights(Generic[_T]):
    """Pending work by name: callers that ask for the same name share it, and can give up without stopping it."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[_T | UnavailableError]] = {}
        self._closed = False

    async def join(
        self, name: Hashable, start: Callable[[], Coroutine[None, None, _T]], admit: Callable[[], None] | None = None
    ) -> _T:
        """Return what ``start`` returns, or raise what it raises.

        ``admit`` is called before new work starts, and can refuse it by raising. Raises ``UnavailableError`` if
        this is closed meanwhile.
        """
        if self._closed:
            raise _closed()
        task = self._tasks.get(name)
        if task is None:
            if admit is not None:
                admit()
            task = asyncio.get_running_loop().create_task(_outcome(start()))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))
        outcome = await asyncio.shield(task)
        if isinstance(outcome, UnavailableError):
            raise again(outcome)
        return outcome

    async def aclose(self) -> None:
        """Cancel the pending work. Its callers, and later ones, get ``UnavailableError``."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outcome(work: Coroutine[None, None, _T]) -> _T | UnavailableError:
    # As a value: one exception that a thousand callers raise would collect the frames of all of them.
    try:
        return await work
    except UnavailableError as error:
        return error
    except asyncio.CancelledError:
        return _closed()


def _closed() -> UnavailableError:
    return UnavailableError("the key source is closed")


def again(error: _E) -> _E:
    """Return a copy of a remembered error to raise: with its cause, without frames."""
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    return fresh


class Bucket:
    """A token bucket: allows ``burst`` at once and ``rate`` a second after that, with priority for retries.

    A flood of invented names uses up the rate, and still a name that is asked for repeatedly must get through. So
    there is a reserve of half the burst, for names that were refused before: the second try can use half of it, the
    third one three quarters, and so on.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._reserve = burst / 2
        self._most = self._tokens = burst + self._reserve
        self._filled = clock()
        self._refusals: OrderedDict[int, int] = OrderedDict()

    def take(self, name: str) -> bool:
        """Return whether this name may pass now."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + max(0, now - self._filled) * self._rate)
        self._filled = now
        known = hash(name)  # shorter than a name, and salted by Python
        refusals = self._refusals.pop(known, 0)
        if self._tokens < 1 + self._reserve / 2**refusals:
            self._refusals[known] = min(_MAX_REFUSALS, refusals + 1)
            if len(self._refusals) > MAX_REFUSED:
                self._refusals.popitem(last=False)
            return False
        self._tokens -= 1
        return True
