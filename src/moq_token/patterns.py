"""Unions of patterns, also of thousands: reduced, sorted, and asked without comparing every pair of patterns."""

from __future__ import annotations

import itertools
import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn, TypeAlias, final

from moq_token.errors import InvalidPatternError
from moq_token.pattern import MAX_INTERSECTIONS, MAX_SEGMENTS, Pattern, path_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_PATTERNS = 4096
"""Patterns that a union is made of. Relays have no such limit; it bounds the cost of a hostile token."""

_TEXT = str | bytes
# Up to this number, patterns are compared one by one, which is faster than an index.
_FEW = 8

# A set of patterns of an index: bit i is set if pattern i is in the set.
_Bits: TypeAlias = int


@final
class Patterns:
    """An immutable union of patterns: it matches what any of its members matches.

    Parameters
    ----------
    patterns
        Any number of ``Pattern`` objects, or of texts of patterns.

    The union is reduced and sorted: iterating gives its members in the order of their canonical texts, without those
    that another single member contains. Unions are hashable, and equal when their members are. Raises
    ``InvalidPatternError`` for a text that is not a valid pattern and (``too-many-patterns``) for more than 4096
    patterns, ``TypeError`` for other types, a bare string among them.

    """

    __slots__ = ("_cover", "_members")
    _members: tuple[Pattern, ...]
    _cover: Pattern | _Few | _Many

    def __init__(self, patterns: Iterable[Pattern | str] = ()) -> None:
        if isinstance(patterns, _TEXT):
            raise TypeError("patterns must be an iterable of patterns, not a single string; put it into a list")
        if not isinstance(patterns, Iterable):
            raise TypeError(f"patterns must be an iterable of patterns, not {type(patterns).__name__}")
        members = tuple(itertools.islice(patterns, MAX_PATTERNS + 1))
        if len(members) > MAX_PATTERNS:
            message = f"too many patterns: the limit is {MAX_PATTERNS}"
            raise InvalidPatternError(message, reason="too-many-patterns")
        cover: Pattern | _Few | _Many
        if len(members) == 1:
            cover = members[0] if isinstance(members[0], Pattern) else Pattern(members[0])
            members = (cover,)
        else:
            distinct = {pattern if isinstance(pattern, Pattern) else Pattern(pattern) for pattern in members}
            cover = (_Few if len(distinct) <= _FEW else _Many)(distinct)
            members = tuple(sorted((pattern for pattern in distinct if not cover.contains_strictly(pattern)), key=str))
        object.__setattr__(self, "_cover", cover)
        object.__setattr__(self, "_members", members)

    def matches(self, path: str) -> bool:
        """Whether a member matches ``path``, which is normalized first. A ``*`` in the path is ordinary text."""
        return self._cover.matches(path)

    def contains(self, other: Pattern | Patterns) -> bool:
        """Whether each pattern of ``other`` lies in a single member.

        What only several members cover together counts as not covered, as in the relays. The empty union lies in
        every union.
        """
        return all(map(self._cover.contains, _members(other)))

    def overlaps(self, other: Pattern | Patterns) -> bool:
        """Whether some path is matched by both. Weaker than ``contains``: do not use it to authorize."""
        return any(ours.overlaps(theirs) for ours in self._members for theirs in _members(other))

    def intersect(self, other: Pattern | Patterns) -> Patterns:
        """Return the union of the patterns that match what both match.

        Raises ``InvalidPatternError`` (``too-many-patterns``) if it needs more than 1024 patterns.
        """
        found: set[Pattern] = set()
        for ours, theirs in itertools.product(self._members, _members(other)):
            found.update(ours.intersect(theirs))
            if len(found) > MAX_INTERSECTIONS:
                message = f"the intersection has more than {MAX_INTERSECTIONS} patterns"
                raise InvalidPatternError(message, reason="too-many-patterns")
        return Patterns(found)

    def rebase(self, root: str) -> Patterns:
        """Return what is left of the members for paths relative to ``root`` (see ``Pattern.rebase``)."""
        return Patterns(itertools.chain.from_iterable(member.rebase(root) for member in self._members))

    def rooted(self, root: str) -> Patterns:
        """Return the members with the path ``root`` in front.

        Raises ``InvalidPatternError`` for a ``*`` in the root and for a member that gets too long. The empty
        union stays empty, whatever the root is.
        """
        return Patterns(member.rooted(root) for member in self._members)

    def __iter__(self) -> Iterator[Pattern]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Patterns({list(map(str, self._members))!r})"

    def __hash__(self) -> int:
        return hash((Patterns, self._members))

    def __eq__(self, other: object) -> bool:
        return self._members == other._members if isinstance(other, Patterns) else NotImplemented

    def __reduce__(self) -> tuple[type[Patterns], tuple[tuple[Pattern, ...]]]:
        return Patterns, (self._members,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("Patterns cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("Patterns cannot be changed")


def _members(patterns: Pattern | Patterns) -> Iterable[Pattern]:
    if isinstance(patterns, Pattern):
        return (patterns,)
    if not isinstance(patterns, Patterns):
        raise TypeError(f"expected a Pattern or Patterns, not {type(patterns).__name__}")
    return patterns


class _Few:
    """What a few patterns cover, compared one by one."""

    def __init__(self, patterns: set[Pattern]) -> None:
        self._all = patterns

    def matches(self, path: str) -> bool:
        """Whether a pattern matches the path."""
        return any(pattern.matches(path) for pattern in self._all)

    def contains(self, inner: Pattern) -> bool:
        """Whether a pattern contains the given one."""
        return any(pattern.contains(inner) for pattern in self._all)

    def contains_strictly(self, inner: Pattern) -> bool:
        """Whether a pattern other than the given one contains it."""
        return any(pattern.contains(inner) for pattern in self._all if pattern != inner)


class _Many:
    """What many patterns cover: literals and subtrees are looked up by hash, the rest in an index."""

    def __init__(self, patterns: set[Pattern]) -> None:
        self._all = patterns
        self._literals: set[str] = set()
        self._subtrees: set[str] = set()
        rest: list[Pattern] = []
        for pattern in patterns:
            if pattern.is_literal:
                self._literals.add(str(pattern))
            elif pattern.prefix is not None:
                self._subtrees.add(pattern.prefix)
            else:
                rest.append(pattern)
        self._longest = max(map(len, self._subtrees), default=-1)
        self._index = _Index(rest) if rest else None

    def matches(self, path: str) -> bool:
        """Whether a pattern matches the path."""
        segments = path_segments(path)
        path = "/".join(segments)
        if path in self._literals or self._is_beneath(path):
            return True
        return self._index is not None and self._index.matches(segments)

    def contains(self, inner: Pattern) -> bool:
        """Whether a pattern contains the given one."""
        return inner in self._all or self.contains_strictly(inner)

    def contains_strictly(self, inner: Pattern) -> bool:
        """Whether a pattern other than the given one contains it."""
        # The deepest path whose subtree contains the pattern, other than itself; None for `**`.
        above: str | None = str(inner)
        if inner.prefix is not None:
            above = inner.prefix.rpartition("/")[0] if inner.prefix else None
        elif not inner.is_literal:
            above = str(inner).partition("*")[0].rpartition("/")[0]
        if above is not None and self._is_beneath(above):
            return True
        return self._index is not None and self._index.contains(inner)

    def _is_beneath(self, path: str) -> bool:
        """Whether the path is in a subtree: it, or a path above it, was given as one."""
        if not self._subtrees:
            return False
        end = path.find("/")
        while 0 <= end <= self._longest:
            if path[:end] in self._subtrees:
                return True
            end = path.find("/", end + 1)
        return path in self._subtrees or "" in self._subtrees


class _Index:
    """Finds the patterns that match a path or contain a pattern, with one operation on sets for each segment.

    Comparing every pair of patterns instead would take quadratic time, which a token made for it could exploit.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._bits: dict[Pattern, _Bits] = {pattern: 1 << number for number, pattern in enumerate(patterns)}
        self._fixed: list[_Bits] = [0] * (MAX_SEGMENTS + 1)  # patterns without `**`, by length
        self._open: list[_Bits] = [0] * (MAX_SEGMENTS + 1)  # those with it, by the least length of a path
        heads: list[list[tuple[str, _Bits]]] = [[] for _ in range(MAX_SEGMENTS)]
        tails: list[list[tuple[str, _Bits]]] = [[] for _ in range(MAX_SEGMENTS)]
        for pattern, bit in self._bits.items():
            head, tail = pattern.head, pattern.tail
            lengths = self._fixed if tail is None else self._open
            lengths[len(head) + len(tail or ())] |= bit
            for places, segments in ((heads, head), (tails, reversed(tail or ()))):
                for place, segment in zip(places, segments, strict=False):
                    place.append((segment, bit))
        self._open = list(itertools.accumulate(self._open, operator.or_))
        everything = (1 << len(patterns)) - 1
        self._heads = [_Place(place, everything) for place in heads if place]
        self._tails = [_Place(place, everything) for place in tails if place]

    def matches(self, path: Sequence[str]) -> bool:
        """Whether a pattern matches the path."""
        length = len(path)
        bits = self._open[min(length, MAX_SEGMENTS)] | (self._fixed[length] if length <= MAX_SEGMENTS else 0)
        return self._find(bits, path, reversed(path), _Place.matching) != 0

    def contains(self, inner: Pattern) -> bool:
        """Whether a pattern other than the given one contains it."""
        head, tail = inner.head, inner.tail
        bits = self._open[len(head) + len(tail or ())]
        if tail is None:
            bits |= self._fixed[len(head)]
            bits = self._find(bits, head, reversed(head), _Place.containing)
        else:
            # Where the `**` of the given pattern is, only a segment will do that matches everything.
            fronts = itertools.chain(head, itertools.repeat("*"))
            backs = itertools.chain(reversed(tail), itertools.repeat("*"))
            bits = self._find(bits, fronts, backs, _Place.containing)
        return bits & ~self._bits.get(inner, 0) != 0

    def _find(
        self, bits: _Bits, fronts: Iterable[str], backs: Iterable[str], find: Callable[[_Place, str], _Bits]
    ) -> _Bits:
        heads, tails = zip(self._heads, fronts, strict=False), zip(self._tails, backs, strict=False)
        for place, segment in itertools.chain(heads, tails):
            if not bits:
                break
            bits &= find(place, segment)
        return bits


class _Place:
    """What patterns require of the segment at one place, counted from the start or from the end."""

    def __init__(self, segments: Iterable[tuple[str, _Bits]], everything: _Bits) -> None:
        self._texts: dict[str, _Bits] = defaultdict(int)
        self._starts: dict[str, _Bits] = defaultdict(int)
        self._ends: dict[str, _Bits] = defaultdict(int)
        self._least: dict[int, _Bits] = defaultdict(int)
        self._free = everything  # patterns that require nothing here
        for segment, bit in segments:
            self._free ^= bit
            if "*" in segment:
                start, _, end = segment.partition("*")
                self._starts[start] |= bit
                self._ends[end] |= bit
                self._least[len(start) + len(end)] |= bit
            else:
                self._texts[segment] |= bit
        self._start_lengths = sorted(set(map(len, self._starts)))
        self._end_lengths = sorted(set(map(len, self._ends)))

    def matching(self, text: str) -> _Bits:
        """Return the patterns that have a segment here which matches the text, or none at all."""
        long_enough = 0
        for least, bits in self._least.items():
            if least <= len(text):
                long_enough |= bits
        return self._free | self._texts.get(text, 0) | (self._partial(text, text) & long_enough)

    def containing(self, segment: str) -> _Bits:
        """Return the patterns that have a segment here which covers the given one, or none at all."""
        if "*" not in segment:
            return self.matching(segment)
        start, _, end = segment.partition("*")
        return self._free | self._partial(start, end)

    def _partial(self, start: str, end: str) -> _Bits:
        starts = ends = 0
        for length in self._start_lengths:
            if length > len(start):
                break
            starts |= self._starts.get(start[:length], 0)
        for length in self._end_lengths:
            if length > len(end):
                break
            ends |= self._ends.get(end[len(end) - length :], 0)
        return starts & ends
