"""Draw the figure of how tokens work: one token, and what it grants at each path that a client can dial."""

from __future__ import annotations

from html import escape

from moq_token import Claims, Permissions, UnauthorizedError

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
WIDTH, TOP, ROW, INDENT, BOX, LEFT, ANSWERS = 720, 96, 46, 30, 92, 14, 262

LABEL = 'role="img" aria-labelledby="moq-paths-title"'
STYLE = """
  .moq text { font: 13px system-ui, sans-serif; fill: var(--md-default-fg-color, #222); }
  .moq .head { font-weight: 600; }
  .moq .mono { font-family: ui-monospace, monospace; }
  .moq .quiet { fill: var(--md-default-fg-color--light, #666); }
  .moq .line { stroke: var(--md-default-fg-color--lighter, #bbb); fill: none; }
  .moq .node { stroke: var(--md-default-fg-color--light, #666); fill: none; }
  .moq .both { fill: #2e9d62; fill-opacity: .28; }
  .moq .watch { fill: #3b82d0; fill-opacity: .24; }
"""


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


def words(answer: Permissions | str) -> str:
    if isinstance(answer, str):
        return f"refused: {answer}"
    roles = (("publish", answer.publish), ("subscribe", answer.subscribe))
    return "; ".join(
        f"{role} {', '.join(str(prefix or '“” (all)') for prefix in prefixes)}" for role, prefixes in roles if prefixes
    )


def figure() -> str:
    """Return the figure as SVG, in the colors of the page."""
    height = TOP + ROW * len(NODES) + 26
    parts = [
        f'<svg class="moq" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {LABEL}>',
        '<title id="moq-paths-title">What one token allows at each path that a client dials</title>',
        f"<style>{STYLE}</style>",
        _text(LEFT, 22, f"root {CLAIMS.root}   publish “alice”   subscribe “”", "mono head"),
        _legend(LEFT, 36, "both", "may be published and watched"),
        _legend(LEFT + 240, 36, "watch", "may be watched"),
        _text(LEFT, TOP - 14, "broadcasts", "quiet"),
        _text(ANSWERS, TOP - 14, "a client that dials this path may", "quiet"),
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
            f'<rect class="node {kind}" x="{x}" y="{y}" width="{BOX}" height="30" rx="6"/>',
            _text(x + 10, y + 20, name, "mono"),
            _text(ANSWERS, y + 20, words(ask(path)), "quiet" if isinstance(ask(path), str) else ""),
        ]
    return "\n".join([*parts, "</svg>", ""])


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" xml:space="preserve">{escape(text, quote=False)}</text>'


def _legend(x: int, y: int, kind: str, text: str) -> str:
    return f'<rect class="node {kind}" x="{x}" y="{y}" width="18" height="18" rx="4"/>\n{_text(x + 26, y + 14, text)}'
