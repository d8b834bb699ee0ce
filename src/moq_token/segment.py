"""One segment of a pattern: plain text, ``*``, or ``pre*suf``. What ``**`` means is for the pattern to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def segment_matches(segment: str, text: str) -> bool:
    """Whether the segment of a pattern matches the segment of a path."""
    if "*" not in segment:
        return segment == text
    start, _, end = segment.partition("*")
    return len(text) >= len(start) + len(end) and text.startswith(start) and text.endswith(end)


def segment_covers(outer: str, inner: str) -> bool:
    """Whether the segment of a pattern matches all that another one matches."""
    if "*" not in inner:
        return segment_matches(outer, inner)
    if "*" not in outer:
        return False
    start, _, end = outer.partition("*")
    inner_start, _, inner_end = inner.partition("*")
    return inner_start.startswith(start) and inner_end.endswith(end)


def segments_overlap(one: str, other: str) -> bool:
    """Whether some segment matches both."""
    if "*" not in other:
        return segment_matches(one, other)
    if "*" not in one:
        return segment_matches(other, one)
    start, _, end = one.partition("*")
    other_start, _, other_end = other.partition("*")
    starts = start.startswith(other_start) or other_start.startswith(start)
    return starts and (end.endswith(other_end) or other_end.endswith(end))


def intersect_segments(one: str, other: str) -> list[str]:
    """Return the segments, none covering another, that together match what two segments both match."""
    if not segments_overlap(one, other):
        return []
    if "*" not in one or "*" not in other:
        return [other if "*" in one else one]
    start, _, end = one.partition("*")
    other_start, _, other_end = other.partition("*")
    start, end = max(start, other_start, key=len), max(end, other_end, key=len)
    # A text too short for both without overlapping matches too, where the end of the one is the beginning of the other.
    shortest = max(len(one), len(other)) - len("*")
    total = len(start) + len(end)
    return [f"{start}*{end}", *(start + end[n:] for n in _shared_lengths(start, end) if total - n >= shortest)]


def _shared_lengths(start: str, end: str) -> Iterator[int]:
    """Yield the lengths at which the end of one text is the start of the other, in linear time."""
    # The borders of the joined text (Knuth, Morris and Pratt); `*` stands in neither and keeps them apart.
    text = f"{end}*{start}"
    borders = [0] * len(text)
    for i in range(1, len(text)):
        length = borders[i - 1]
        while length and text[i] != text[length]:
            length = borders[length - 1]
        borders[i] = length + (text[i] == text[length])
    length = borders[-1]
    while length:
        yield length
        length = borders[length - 1]
