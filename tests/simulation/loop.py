"""Virtual time: one loop for the whole world, and machines whose clocks can be set."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any

from moq_token.auth.lease import Instant

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_800_000_000


class BrokenPromiseError(AssertionError):
    """A promise of the auth server does not hold."""


# The server answers 503 whatever is raised in it, so a broken promise is also remembered here.
_broken: list[BrokenPromiseError] = []


def promise(holds: object, text: str, *facts: object) -> None:
    """Raise ``BrokenPromiseError`` unless something holds."""
    if not holds:
        _broken.append(BrokenPromiseError(f"{text}: {facts}" if facts else text))
        raise _broken[-1]


class Loop:
    """Calls functions in the order of their time; those of the same time in the order in which they were asked for."""

    def __init__(self) -> None:
        _broken.clear()
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), function, arguments))

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        until = self.now + seconds
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, function, arguments = heapq.heappop(heap)
            function(*arguments)
            if _broken:
                raise _broken[0]
        self.now = until


class Machine:
    """A computer: its clock can be set, and its monotonic clock has begun some time before."""

    def __init__(self, loop: Loop, number: int) -> None:
        self.loop = loop
        self.ahead = 0.0
        self.sets = 0
        self._boot = 5000.5 * number

    def now(self) -> Instant:
        passed = self.loop.now
        return Instant(START + passed + self.ahead, passed + self._boot)

    def set_clock(self, seconds: float) -> None:
        self.ahead += seconds
        self.sets += 1
