"""Draw a tree of broadcasts, and which patterns match each."""

from __future__ import annotations

from moq_token import Pattern
from scripts.pictures.svg import box, picture, text

PATTERNS = ("alice", "alice/**", "*/camera", "cam*", "**")
# The tree: name, depth, whole path.
NODES = [
    ("/", 0, ""),
    ("alice", 1, "alice"),
    ("camera", 2, "alice/camera"),
    ("hd", 3, "alice/camera/hd"),
    ("bob", 1, "bob"),
    ("camera", 2, "bob/camera"),
    ("cam7", 1, "cam7"),
]
WIDTH, TOP, ROW, INDENT, BOX, LEFT, COLUMNS, COLUMN = 352, 60, 40, 16, 62, 4, 122, 46


def figure() -> str:
    """Return the figure as SVG."""
    parts = [text(LEFT, 48, "broadcasts", "quiet")]
    # Two rows of headings, in turn, since they are wider than their columns.
    parts += [
        text(COLUMNS + n * COLUMN + COLUMN / 2, 48 if n % 2 else 28, each, "mono head small center")
        for n, each in enumerate(PATTERNS)
    ]
    last: dict[int, int] = {}
    for row, (name, depth, path) in enumerate(NODES):
        x, y = LEFT + depth * INDENT, TOP + row * ROW
        if depth:
            parts.append(f'<path class="line" d="M{x - INDENT + 8} {last[depth - 1] + 28}V{y + 14}H{x}"/>')
        last[depth] = y
        parts += [box(x, y, BOX, 28), text(x + 8, y + 19, name, "mono")]
        for column, pattern in enumerate(PATTERNS):
            matches = Pattern(pattern).matches(path)
            parts += [
                box(COLUMNS + column * COLUMN + 2, y, COLUMN - 4, 28, "both" if matches else ""),
                text(COLUMNS + column * COLUMN + COLUMN / 2, y + 19, "yes" if matches else "no", "small center"),
            ]
    return picture("patterns", "Which patterns match which broadcasts", WIDTH, TOP + ROW * len(NODES) + 6, parts)
