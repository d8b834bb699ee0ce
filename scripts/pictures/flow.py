"""Draw who talks to whom, from the sign-in of a user to the end of a session."""

from __future__ import annotations

from scripts.pictures.svg import arrow, box, picture, text

LANES = {"app": 43, "backend": 130, "relay": 217, "auth server": 309}
KEEPS = {"backend": "private key", "auth server": "public keys"}
STEPS = [
    ("app", "backend", "get a token", "sign it"),
    ("backend", "app", "signed URL", ""),
    ("app", "relay", "dial the URL", ""),
    ("relay", "auth server", "may it connect?", "verify token"),
    ("auth server", "relay", "a grant", ""),
    ("relay", "app", "connected", ""),
    ("relay", "auth server", "may it stay?", "look up bans"),
]
WIDTH, TOP, ROW = 352, 88, 40


def figure() -> str:
    """Return the figure as SVG."""
    height = TOP + ROW * len(STEPS) + 8
    parts = []
    for name, x in LANES.items():
        parts += [
            f'<path class="line" d="M{x} 60V{height - 8}"/>',
            box(x - 41, 8, 82, 32, "both" if name in KEEPS else "watch"),
            text(x, 29, name, "head center"),
            text(x, 55, KEEPS.get(name, ""), "quiet small center"),
        ]
    for row, (sender, receiver, words, work) in enumerate(STEPS):
        y, start, end = TOP + row * ROW, LANES[sender], LANES[receiver]
        side = 3 if end > start else -3
        answer = sender != "app" and receiver in {"app", "relay"}
        parts += [
            arrow(start + side, end - side, y + 8, "dashed" if answer else ""),
            text((start + end) / 2, y, words, "small center"),
        ]
        if work:
            parts.append(text(end - 6, y + 24, work, "quiet small end"))
    title = "An app gets a token from the backend, and connects to a relay, which asks the auth server"
    return picture("flow", title, WIDTH, height, parts)
