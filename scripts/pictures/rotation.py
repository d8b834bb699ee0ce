"""Draw a rotation on a time line: each key signs until the next one comes, and verifies until its overlap has ended."""

from __future__ import annotations

from scripts.pictures.svg import box, legend, picture, text

DAY = 9.8
ROTATED = (0, 10, 20)  # the days on which `keys rotate` runs
OVERLAP, END = 5, 30
LEFT, TOP, ROW, WIDTH = 50, 66, 44, 352


def figure() -> str:
    """Return the figure as SVG."""
    height = TOP + ROW * len(ROTATED) + 58
    parts = [
        legend(8, 10, "both", "signs and verifies"),
        legend(160, 10, "watch", "only verifies (overlap)"),
    ]
    ends = (*ROTATED[1:], END)
    for row, (start, end) in enumerate(zip(ROTATED, ends, strict=True)):
        y, last = TOP + row * ROW, min(end + OVERLAP, END)
        parts += [
            text(8, y + 20, f"key {row + 1}", "head"),
            f'<path class="line dashed" d="M{_at(start):g} 48V{height - 42}"/>',
            box(_at(start), y, (end - start) * DAY, 30, "both"),
            text(_at(start) + 8, y + 20, "signs tokens", "small"),
        ]
        if last > end:
            parts += [box(_at(end), y, (last - end) * DAY, 30, "watch"), text(_at(end) + 4, y + 20, "overlap", "small")]
        if last < END:
            parts.append(text(_at(last) + 6, y + 20, "pruned", "quiet small"))
        parts.append(text(_at(start), height - 24, f"day {start}", "quiet small"))
        parts.append(text(_at(start), height - 8, "keys rotate", "mono small"))
    title = "Three keys: each signs for ten days, and verifies for the overlap of five days after that"
    return picture("rotation", title, WIDTH, height, parts)


def _at(day: int) -> float:
    return LEFT + day * DAY
