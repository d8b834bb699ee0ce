"""Draw the figure of how tokens work: one token, and what it grants at each path that a client can dial."""

from __future__ import annotations

from moq_token import Claims, Permissions, UnauthorizedError
from scripts.pictures.svg import box, legend, picture, text

CLAIMS = Claims("rooms/123", publish="alice", subscribe="")
# The tree of broadcasts: name, depth, and the path that is dialed when a client dials this node.
NODES = [
    ("/", 0, ""),
    ("rooms", 1, "rooms"),
    ("123", 2, "rooms/123"),
    ("alice", 3, "rooms/123/alice"),
    ("camera", 4, "rooms/123/alice/camera"),
    ("bob", 3, "rooms/123/bob"),
    ("456", 2, "rooms/456"),
]
WIDTH, TOP, ROW, INDENT, BOX, LEFT, ANSWERS = 352, 136, 46, 22, 72, 8, 172


def ask(path: str) -> Permissions | str:
    """Return what the token allows at a path, or the reason why it is refused."""
    try:
        return CLAIMS.authorize(path)
    except UnauthorizedError as error:
        return error.reason


def covers(path: str) -> tuple[bool, bool]:
    """Return whether the broadcast at this path may be published, and whether it may be subscribed to."""
    at_top = CLAIMS.authorize("")
    return at_top.can_publish(path), at_top.can_subscribe(path)


def words(answer: Permissions | str) -> list[str]:
    """Return the lines that tell what is allowed."""
    if isinstance(answer, str):
        return [f"refused: {answer}"]
    roles = (("publish", answer.publish), ("subscribe", answer.subscribe))
    return [
        f"{role} {', '.join(str(prefix or '“” (all)') for prefix in prefixes)}" for role, prefixes in roles if prefixes
    ]


def figure() -> str:
    """Return the figure as SVG."""
    parts = [
        text(LEFT, 18, f"root {CLAIMS.root}", "mono head"),
        text(LEFT, 38, "publish “alice”   subscribe “”", "mono head"),
        legend(LEFT, 54, "both", "may be published and watched"),
        legend(LEFT, 80, "watch", "may be watched"),
        text(LEFT, TOP - 14, "broadcasts", "quiet"),
        text(ANSWERS, TOP - 14, "who dials this path may", "quiet"),
    ]
    last: dict[int, int] = {}
    for row, (name, depth, path) in enumerate(NODES):
        x, y = LEFT + depth * INDENT, TOP + row * ROW
        publish, watch = covers(path)
        kind = "both" if publish else "watch" if watch else ""
        if depth:
            parts.append(f'<path class="line" d="M{x - INDENT + 14} {last[depth - 1] + 30}V{y + 15}H{x}"/>')
        last[depth] = y
        parts += [
            box(x, y, BOX, 30, kind),
            text(x + 10, y + 20, name, "mono"),
        ]
        lines = words(ask(path))
        for line, each in enumerate(lines):
            middle = y + 20 - 7 * (len(lines) - 1) + 15 * line
            parts.append(text(ANSWERS, middle, each, "small quiet" if isinstance(ask(path), str) else "small"))
    title = "What one token allows at each path that a client dials"
    return picture("paths", title, WIDTH, TOP + ROW * len(NODES), parts)
