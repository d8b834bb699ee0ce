"""Draw what a token is for, in a picture that leaves room for text on one screen: the first one that people see."""

from __future__ import annotations

from scripts.pictures.svg import arrow, box, picture, text

NODES = {"backend": "signs tokens", "app": "", "relay": "", "auth server": "verifies tokens"}
# Between each node and the next: words, and whether they go to the right.
STEPS = [[("get a token", False), ("token", True)], [("dial with it", True)], [("may it?", True), ("grant", False)]]
WIDTH, BOX, GAP, MIDDLE = 600, 96, 70, 34


def figure() -> str:
    """Return the figure as SVG."""
    parts = []
    for number, (name, work) in enumerate(NODES.items()):
        x = 3 + number * (BOX + GAP)
        parts += [
            box(x, MIDDLE - 24, BOX, 48, "both" if work else "watch"),
            text(x + BOX / 2, MIDDLE - (1 if work else -5), name, "head center"),
            text(x + BOX / 2, MIDDLE + 15, work, "quiet small center"),
        ]
        for line, (words, is_right) in enumerate(STEPS[number] if number < len(STEPS) else []):
            start, end = x + BOX + 3, x + BOX + GAP - 3
            y = MIDDLE - 8 + 24 * line if len(STEPS[number]) > 1 else MIDDLE + 4
            parts += [
                arrow(start, end, y) if is_right else arrow(end, start, y),
                text((start + end) / 2, y - 5, words, "small center"),
            ]
    title = "An app gets a token from the backend, and dials a relay with it. The relay asks the auth server."
    return picture("overview", title, WIDTH, 2 * MIDDLE, parts)
