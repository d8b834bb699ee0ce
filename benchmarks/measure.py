"""Run races: measure how long several contenders take for the same work, in rounds, each in a different order."""

from __future__ import annotations

import hmac
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Contender: TypeAlias = "Callable[[Sequence[Any]], float]"
"""Does its work once for each item, and returns the seconds for one item."""

_UNIT_CALLS = 500
_UNIT_SECRET = bytes(range(32))
_UNIT_DATA = [f"{n:0150}".encode() for n in range(_UNIT_CALLS)]


class Pace(NamedTuple):
    """The length of a race."""

    rounds: int
    warm_up_rounds: int
    slice_seconds: float = 0.003
    """The time of a contender in each round: short, so that all contenders see the same noise."""


class Times:
    """The seconds of each contender for one item, and the unit in the same rounds."""

    def __init__(self, rounds: Sequence[Mapping[str, float]], units: Sequence[float]) -> None:
        self._rounds, self._units = rounds, units
        self.names = list(rounds[0])
        self.unit_seconds = median(units)

    def seconds(self, name: str) -> float:
        return median(times[name] for times in self._rounds)

    def ratio(self, name: str, other: str) -> float:
        return median(times[name] / times[other] for times in self._rounds)

    def ratio_range(self, name: str, other: str) -> tuple[float, float]:
        """Return between which ratios the middle half of the rounds is."""
        low, _, high = quantiles(times[name] / times[other] for times in self._rounds)
        return low, high

    def in_units(self, name: str) -> float:
        return median(times[name] / unit for times, unit in zip(self._rounds, self._units, strict=True))

    def excess(self, name: str, other: str) -> float:
        """Return how much longer ``name`` takes than ``other``, in units."""
        rounds = zip(self._rounds, self._units, strict=True)
        return median((times[name] - times[other]) / unit for times, unit in rounds)


def race(contenders: Mapping[str, Contender], fresh: Callable[[int], Sequence[Any]], pace: Pace) -> Times:
    """Let all contenders work on the same items. ``fresh`` makes new items for each round."""
    calls = dict.fromkeys(contenders, 1)
    rounds, units = [], []
    for number in range(-pace.warm_up_rounds, pace.rounds):
        items = fresh(max(calls.values()))
        names = list(contenders)
        first = number % len(names)
        unit = _unit()
        times = {name: contenders[name](items[: calls[name]]) for name in names[first:] + names[:first]}
        if number < 0:
            calls = {name: max(int(pace.slice_seconds / times[name]), 1) for name in names}
        else:
            rounds.append({name: times[name] for name in names})
            units.append(unit)
    return Times(rounds, units)


def _unit() -> float:
    """Measure the unit u: one ``hmac.digest`` (32-byte key, 150 bytes of data, SHA-256)."""
    digest, secret = hmac.digest, _UNIT_SECRET
    start = perf_counter()
    for data in _UNIT_DATA:
        digest(secret, data, "sha256")
    return (perf_counter() - start) / _UNIT_CALLS


def calling(function: Callable[[Any], object]) -> Contender:
    """Make a contender from a function of one item."""

    def run(items: Sequence[Any]) -> float:
        start = perf_counter()
        for item in items:
            function(item)
        return (perf_counter() - start) / len(items)

    return run


def applying(function: Callable[..., object], arguments: Callable[[Any], tuple[Any, ...]]) -> Contender:
    """Make a contender from a function of several arguments. They are made from an item before the clock starts."""

    def run(items: Sequence[Any]) -> float:
        prepared = [arguments(item) for item in items]
        start = perf_counter()
        for args in prepared:
            function(*args)
        return (perf_counter() - start) / len(items)

    return run


def refusing(function: Callable[[Any], object], refusal: type[Exception], spoil: Callable[[Any], object]) -> Contender:
    """Make a contender from a function that refuses every item after it was made invalid."""

    def run(items: Sequence[Any]) -> float:
        spoilt = [spoil(item) for item in items]
        start = perf_counter()
        for item in spoilt:
            try:
                function(item)
            except refusal:
                continue
            raise AssertionError("it was accepted")
        return (perf_counter() - start) / len(items)

    return run
