"""Patterns: sets of paths written as text, the form in which relays from 0.15 on read what a grant covers.

A pattern is a list of segments joined by ``/``. A segment is plain text, ``*`` (exactly one segment), ``pre*suf`` (one
segment that starts with ``pre`` and ends with ``suf``, which do not overlap), or ``**`` (any number of segments, also
none; at most once per pattern). Everything else is ordinary text and compared exactly: there is no escape, no Unicode
normalization, and ``..`` or ``%2F`` have no special meaning.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NoReturn, TypeAlias, final

from moq_token import path as paths
from moq_token.errors import InvalidPatternError, shown
from moq_token.segment import intersect_segments, segment_covers, segment_matches, segments_overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_SEGMENTS = 32
"""Segments in one pattern, ``**`` included. Relays have the same limit."""
MAX_CHARACTERS = 8192
"""Characters in one pattern. Relays have no such limit; a URL path of that length reaches none of them."""
MAX_INTERSECTIONS = 1024
"""Patterns in the intersection of two patterns. Relays have the same limit."""

Segments: TypeAlias = tuple[str, ...]
_Pair: TypeAlias = tuple[str, str]


@final
class Pattern:
    """An immutable set of paths, known by its canonical text.

    ``text`` is the pattern, for example ``rooms/*/chat``, ``cam*/hd`` or ``alice/**``. The empty text matches the
    root only. Unlike a path it is not normalized: a leading, trailing or doubled ``/`` is an error.

    Patterns are hashable, and are compared and sorted by ``str(pattern)``, the canonical text (in code point order):
    ``**`` stands in front of the ``*`` segments next to it, so ``*/**`` becomes ``**/*``. Two patterns are equal
    exactly when they match the same paths.

    ``head`` and ``tail`` are the segments before and after ``**``; without ``**`` the head has all of them and the tail
    is None. Raises ``InvalidPatternError``, and ``TypeError`` if the text is
    not a ``str``.

    """

    __slots__ = ("_text", "head", "tail")
    head: Segments
    tail: Segments | None
    _text: str

    def __new__(cls, text: str) -> Pattern:  # noqa: D102 - see the class
        if not isinstance(text, str):
            raise TypeError(f"a pattern must be a str, not {type(text).__name__}")
        return _build(*_parse(text))

    @classmethod
    def literal(cls, path: str) -> Pattern:
        """Return the pattern that matches ``path`` only. The path is normalized and must not contain ``*``."""
        return _build(_plain(path), None)

    @classmethod
    def subtree(cls, path: str) -> Pattern:
        """Return the pattern that matches ``path`` and everything beneath it.

        The path is normalized and must not contain ``*``. A path of 32 segments gives the literal pattern, as in the
        relays: a pattern has no room for a segment beneath it.
        """
        segments = _plain(path)
        return _build(segments, () if len(segments) < MAX_SEGMENTS else None)

    @property
    def is_literal(self) -> bool:
        """Whether the pattern matches exactly one path: it has no wildcard."""
        return "*" not in self._text

    @property
    def is_subtree(self) -> bool:
        """Whether the pattern is a plain path and everything beneath it, so that a path prefix can express it."""
        return self.prefix is not None

    @property
    def prefix(self) -> str | None:
        """The path whose subtree this pattern is (``a`` for ``a/**``, empty for ``**``), None for other patterns."""
        if self.tail != ():
            return None
        path = self._text[:-3]
        return None if "*" in path else path

    def matches(self, path: str) -> bool:
        """Whether the pattern matches ``path``, which is normalized first. A ``*`` in the path is ordinary text."""
        return _fits(self.head, self.tail, path_segments(path), segment_matches)

    def contains(self, other: Pattern) -> bool:
        """Whether this pattern matches every path that ``other`` matches."""
        if not isinstance(other, Pattern):
            raise _not_a_pattern(other)
        head, tail = self.head, self.tail
        if other.tail is None:
            return _fits(head, tail, other.head, segment_covers)
        if tail is None or len(head) + len(tail) > len(other.head) + len(other.tail):
            return False
        # Where a segment of this pattern meets the `**` of the other, it must cover any segment: compare it with a `*`.
        theirs = itertools.chain(other.head, itertools.repeat("*"))
        theirs_reversed = itertools.chain(reversed(other.tail), itertools.repeat("*"))
        return all(map(segment_covers, head, theirs)) and all(map(segment_covers, reversed(tail), theirs_reversed))

    def overlaps(self, other: Pattern) -> bool:
        """Whether some path matches both. Weaker than ``contains``: do not use it to authorize."""
        if not isinstance(other, Pattern):
            raise _not_a_pattern(other)
        if other.tail is None:
            return _fits(self.head, self.tail, other.head, segments_overlap)
        if self.tail is None:
            return _fits(other.head, other.tail, self.head, segments_overlap)
        # Only the common parts meet: a long enough path keeps the rest apart.
        heads = zip(self.head, other.head, strict=False)
        tails = zip(reversed(self.tail), reversed(other.tail), strict=False)
        return all(segments_overlap(ours, theirs) for ours, theirs in itertools.chain(heads, tails))

    def intersect(self, other: Pattern) -> tuple[Pattern, ...]:
        """Return the patterns that together match the paths that both match: sorted, none covering another.

        Paths of more than 32 segments can be missing when the result would need a longer pattern. Raises
        ``InvalidPatternError`` (``too-many-patterns``) above 1024 patterns.
        """
        if self.contains(other):
            return (other,)
        if other.contains(self):
            return (self,)
        found: list[Pattern] = []
        for head, tail in _aligned(self, other):
            choices = [intersect_segments(*pair) for pair in (*head, *(tail or ()))]
            if len(found) + math.prod(map(len, choices)) > MAX_INTERSECTIONS:
                message = f"the intersection has more than {MAX_INTERSECTIONS} patterns"
                raise InvalidPatternError(message, reason="too-many-patterns")
            found.extend(
                _build(segments[: len(head)], None if tail is None else segments[len(head) :])
                for segments in itertools.product(*choices)
            )
        # None of them covers another: they differ in length, or in a segment whose choices exclude each other.
        return tuple(sorted(found))

    def rebase(self, root: str) -> tuple[Pattern, ...]:
        """Return what is left of the pattern for paths relative to ``root``: sorted, empty if nothing is left.

        It can be several patterns, as ``**`` may end inside the root or go on: ``**/a`` at ``a`` leaves the empty
        pattern and ``**/a``. The root is normalized; a ``*`` in it is ordinary text.
        """
        segments = path_segments(root)
        head, tail = self.head, self.tail
        if not all(map(segment_matches, head, segments)) or (tail is None and len(segments) > len(head)):
            return ()
        if tail is None or len(segments) <= len(head):
            return (_build(head[len(segments) :], tail),)
        beyond = segments[len(head) :]
        ends = (_build(tail[i:], None) for i in range(1, len(tail) + 1) if _ends_with(beyond, tail[:i]))
        return tuple(sorted((_build((), tail), *ends)))

    def rooted(self, root: str) -> Pattern:
        """Return the pattern with the path ``root`` in front.

        The root is normalized. Raises ``InvalidPatternError`` for a ``*`` in it and for too long a result.
        """
        return _build(_plain(root) + self.head, self.tail)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Pattern({self._text!r})"

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Pattern) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._text < other._text if isinstance(other, Pattern) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._text <= other._text if isinstance(other, Pattern) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._text > other._text if isinstance(other, Pattern) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._text >= other._text if isinstance(other, Pattern) else NotImplemented

    def __reduce__(self) -> tuple[type[Pattern], tuple[str]]:
        return Pattern, (self._text,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Pattern cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Pattern cannot be changed")


def path_segments(path: str) -> Segments:
    """Split a path into its segments; the root has none."""
    if not isinstance(path, str):
        raise TypeError(f"a path must be a str, not {type(path).__name__}")
    path = paths.normalize(path)
    return tuple(path.split("/")) if path else ()


def _not_a_pattern(value: object) -> TypeError:
    return TypeError(f"expected a Pattern, not {type(value).__name__}")


def _build(head: Segments, tail: Segments | None) -> Pattern:
    """Make a pattern of segments that are valid and in canonical order."""
    segments = head if tail is None else (*head, "**", *tail)
    if len(segments) > MAX_SEGMENTS:
        message = f"invalid pattern: it has {len(segments)} segments, the limit is {MAX_SEGMENTS}"
        raise InvalidPatternError(message, reason="too-many-segments")
    pattern = object.__new__(Pattern)
    object.__setattr__(pattern, "head", head)
    object.__setattr__(pattern, "tail", tail)
    object.__setattr__(pattern, "_text", _bounded("/".join(segments)))
    return pattern


def _bounded(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        message = f"invalid pattern: it has {len(text)} characters, the limit is {MAX_CHARACTERS}"
        raise InvalidPatternError(message, reason="too-long")
    return text


def _parse(text: str) -> tuple[Segments, Segments | None]:
    _check_unicode(_bounded(text))
    segments = tuple(text.split("/")) if text else ()
    _check_segments(segments, text)
    # The count comes before the second `**`, as in the relays.
    if "**" not in segments or len(segments) > MAX_SEGMENTS:
        return segments, None
    if segments.count("**") > 1:
        message = f"invalid pattern {shown(text)}: `**` may be used once, it is used {segments.count('**')} times"
        raise InvalidPatternError(message, reason="multiple-globstars")
    middle = segments.index("**")
    head, tail = segments[:middle], segments[middle + 1 :]
    while head and head[-1] == "*":
        head, tail = head[:-1], ("*", *tail)
    return head, tail


def _check_segments(segments: Segments, text: str) -> None:
    for position, segment in enumerate(segments, 1):
        if not segment:
            message = f"invalid pattern {shown(text)}: segment {position} is empty; remove the extra `/`"
            raise InvalidPatternError(message, reason="empty-segment")
        if "*" in segment and segment != "**" and segment.count("*") > 1:
            message = (
                f"invalid pattern {shown(text)}: segment {position} is {shown(segment)}; "
                "expected at most one `*` in a segment, or exactly `**`"
            )
            raise InvalidPatternError(message, reason="invalid-segment")


def _check_unicode(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"invalid pattern {shown(text)}: it is not valid Unicode text (it has a lone surrogate)"
        raise InvalidPatternError(message, reason="invalid-unicode") from None


def _plain(path: str) -> Segments:
    """Split a path that becomes part of a pattern, where a ``*`` would change what it means."""
    segments = path_segments(path)
    _check_unicode(path)
    if "*" in path:
        position = next(position for position, segment in enumerate(segments, 1) if "*" in segment)
        message = (
            f"invalid path {shown(path)}: segment {position} is {shown(segments[position - 1])}; "
            "a path used in a pattern must not contain `*`"
        )
        raise InvalidPatternError(message, reason="invalid-segment")
    return segments


def _fits(head: Segments, tail: Segments | None, other: Segments, test: Callable[[str, str], bool]) -> bool:
    """Whether the segments of a pattern match those of a path, or cover those of a pattern without ``**``."""
    if tail is None:
        return len(head) == len(other) and all(map(test, head, other))
    if len(other) < len(head) + len(tail):
        return False
    return all(map(test, head, other)) and all(map(test, reversed(tail), reversed(other)))


def _ends_with(path: Segments, segments: Segments) -> bool:
    """Whether the last segments of a path match those of a pattern."""
    return len(segments) <= len(path) and all(map(segment_matches, segments, path[-len(segments) :]))


def _aligned(one: Pattern, other: Pattern) -> Iterator[tuple[list[_Pair], list[_Pair] | None]]:
    """Yield the pairs of segments that meet, for each way in which two patterns can meet.

    The second list is what comes after ``**``, None without one.
    """
    fixed = [len(pattern.head) for pattern in (one, other) if pattern.tail is None]
    shortest = max(len(pattern.head) + len(pattern.tail or ()) for pattern in (one, other))
    if fixed:
        lengths, is_open = range(shortest, min(fixed) + 1), False
    else:
        # Paths shorter than this have segments that meet the head of one pattern and the tail of the other.
        apart = max(map(len, (one.head, other.head))) + max(len(one.tail or ()), len(other.tail or ()))
        is_open = apart < MAX_SEGMENTS
        lengths = range(shortest, apart if is_open else MAX_SEGMENTS + 1)
    for length in lengths:
        yield list(zip(_stretched(one, length), _stretched(other, length), strict=True)), None
    if is_open:
        tails = itertools.zip_longest(reversed(one.tail or ()), reversed(other.tail or ()), fillvalue="*")
        yield list(itertools.zip_longest(one.head, other.head, fillvalue="*")), list(tails)[::-1]


def _stretched(pattern: Pattern, length: int) -> Segments:
    """Replace ``**`` by as many ``*`` as make the pattern that long."""
    if pattern.tail is None:
        return pattern.head
    return pattern.head + ("*",) * (length - len(pattern.head) - len(pattern.tail)) + pattern.tail
