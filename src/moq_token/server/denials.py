"""All denials that a node knows: merged in any order, looked up for each decision.

No I/O and no clock: the caller passes the time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from moq_token.errors import InvalidDenialError
from moq_token.path import join
from moq_token.pattern import MAX_SEGMENTS, path_segments
from moq_token.server.denial import EXACT, Matcher, network
from moq_token.server.verdict import Verdict
from moq_token.times import END_OF_9999

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.server.denial import Denial, Facts

MAX_DENIALS: Final = 10_000
"""Denials that are kept, those that were lifted or have ended a short while ago included."""
MAX_PATHS: Final = 1000
"""Denials of a path alone. A session is compared with those that start as its path does."""

_NEVER = 2 * END_OF_9999
# Between two changes of one denial in the same instant, or after the clock was set back.
_TICK_SECONDS = 0.001


class Denials:
    """All denials that this node knows. The cost of ``match()`` depends on the denials of paths, not of others."""

    def __init__(self, denials: Iterable[Denial] = ()) -> None:
        self._known: dict[str, Matcher] = {}
        # By the kind of matcher, then by its value, then by the id of the denial.
        self._groups: dict[str, dict[Any, dict[str, Matcher]]] = {}
        self._networks: dict[str, tuple[int, int]] = {}  # the version and the bits to drop, by group
        self._first_end = _NEVER
        for denial in denials:
            self.put(denial)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Denial]:
        """Iterate over all of them, those that were lifted or have ended a short while ago included."""
        return iter([matcher.denial for matcher in self._known.values()])

    def get(self, denial_id: str) -> Denial | None:
        """Return the denial of that id, which may be lifted or have ended."""
        matcher = self._known.get(denial_id)
        return None if matcher is None else matcher.denial

    def in_force(self, now: float) -> list[Denial]:
        """Return the denials that are in force at ``now`` (Unix seconds), the earliest first."""
        found = [denial for denial in self if not denial.lifted and now < denial.until]
        return sorted(found, key=lambda denial: (denial.at, denial.id))

    def put(self, denial: Denial) -> bool:
        """Add a denial, unless a known one with the same id takes precedence. Return whether something has changed.

        Denials can be put in any order and repeatedly: the result is the same. Raises ``InvalidDenialError``
        (``too-many``) for a further one beyond the limits, and then nothing has changed.
        """
        known = self._known.get(denial.id)
        if known is not None and not denial.replaces(known.denial):
            return False
        matcher = Matcher(denial)
        self._check_room(matcher, known)
        if known is not None:
            self._remove(known)
        self._known[denial.id] = matcher
        self._first_end = min(self._first_end, denial.forgotten)
        if not denial.lifted:
            kind, value = matcher.group
            self._groups.setdefault(kind, {}).setdefault(value, {})[denial.id] = matcher
            if kind.startswith("network"):
                addresses = network(denial.remote or "")
                self._networks[kind] = addresses.version, addresses.max_prefixlen - addresses.prefixlen
        return True

    def forget(self, denial_id: str) -> None:
        """Drop a denial that can match nothing any more. Another node that has it may bring it back."""
        matcher = self._known.get(denial_id)
        if matcher is not None:
            self._remove(matcher)

    def stamped(self, denial: Denial, now: float, node: str = "") -> Denial:
        """Return a new denial as set at ``now`` (Unix seconds) on ``node``: it replaces the one with the same id."""
        known = self.get(denial.id)
        if known is None:
            return replace(denial, at=now, node=node)
        at, kept = max(now, known.at + _TICK_SECONDS), max(known.until, known.kept)
        return replace(denial, at=at, node=node, kept=kept if kept > denial.until else 0)

    def lifting(self, denial_id: str, now: float, *, node: str = "", author: str = "") -> Denial | None:
        """Return what lifts a denial when it is put; None if it is unknown, lifted, or has ended at ``now``."""
        known = self.get(denial_id)
        if known is None or known.lifted or known.until <= now:
            return None
        return self.stamped(replace(known, lifted=True, author=author), now, node)

    def match(self, facts: Facts, now: float) -> Verdict | None:
        """Return what denies a session at ``now`` (Unix seconds), None for nothing."""
        if not self._groups:
            return None
        refusing: Denial | None = None
        narrowing: list[Denial] = []
        for matcher in self._candidates(facts):
            denial = matcher.denial
            if now >= denial.until or not matcher.matches(facts):
                continue
            if not denial.refuses:
                narrowing.append(denial)
            elif refusing is None or denial.id < refusing.id:
                refusing = denial
        if refusing is None and not narrowing:
            return None
        return Verdict(refusing, tuple(sorted(narrowing, key=lambda denial: denial.id)))

    def advance(self, now: float) -> tuple[Denial, ...]:
        """Forget the denials that have ended long enough before ``now`` (Unix seconds), and return them."""
        if now < self._first_end:
            return ()
        ended = [matcher for matcher in self._known.values() if matcher.denial.forgotten <= now]
        for matcher in ended:
            self._remove(matcher)
        ends = (matcher.denial.forgotten for matcher in self._known.values())
        self._first_end = min(ends, default=_NEVER)
        return tuple(matcher.denial for matcher in ended)

    def _candidates(self, facts: Facts) -> Iterator[Matcher]:
        for name in EXACT:
            group = self._groups.get(name)
            if group is not None:
                yield from group.get(getattr(facts, name), {}).values()
        if facts.address is not None:
            number = int(facts.address)
            for kind, (version, bits) in self._networks.items():
                if version == facts.address.version:
                    yield from self._groups[kind].get(number >> bits << bits, {}).values()
        group = self._groups.get("path")
        if group is not None:
            for start in _starts(facts):
                yield from group.get(start, {}).values()
        group = self._groups.get("everybody")
        if group is not None:
            yield from group[None].values()

    def _check_room(self, matcher: Matcher, known: Matcher | None) -> None:
        if known is None and len(self._known) >= MAX_DENIALS:
            raise InvalidDenialError(
                f"too many denials: the limit is {MAX_DENIALS}. Deny a network or a pattern instead of its members",
                reason="too-many",
            )
        kind, start = matcher.group
        of_paths = self._groups.get("path", {})
        is_new = kind == "path" and matcher.denial.id not in of_paths.get(start, {})
        if is_new and sum(map(len, of_paths.values())) >= MAX_PATHS:
            raise InvalidDenialError(
                f"too many denials of paths: the limit is {MAX_PATHS}. Deny a pattern such as `demo/**` instead",
                reason="too-many",
            )

    def _remove(self, matcher: Matcher) -> None:
        denial = matcher.denial
        del self._known[denial.id]
        kind, value = matcher.group
        group = self._groups.get(kind)
        if denial.lifted or group is None:
            return
        del group[value][denial.id]
        if not group[value]:
            del group[value]
        if not group:
            del self._groups[kind]
            self._networks.pop(kind, None)


def _starts(facts: Facts) -> set[str]:
    """Return the paths that a session is at or beneath, as far down as a pattern can reach."""
    found = {""}
    for path in (facts.path, facts.root):
        if path is not None:
            found.update(itertools.accumulate(path_segments(path)[:MAX_SEGMENTS], join))
    return found
