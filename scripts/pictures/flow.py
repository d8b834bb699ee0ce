"""Draw who talks to whom, from the sign-in of a user to the end of a session."""

from __future__ import annotations

import math

from moq_token import Claims
from scripts.pictures.svg import arrow, box, picture, text

CLAIMS = Claims("rooms/123", publish="alice", subscribe="")
LANES = {"app": 62, "backend": 200, "relay": 338, "auth server": 476}
KEEPS = {"backend": "private key", "auth server": "public keys"}
STEPS = [
    ("app", "backend", "ask for a token", "sign it"),
    ("backend", "app", "URL with a token", ""),
    ("app", "relay", "dial the URL", ""),
    ("relay", "auth server", "may it connect?", "verify token"),
    ("auth server", "relay", "{grant}", ""),
    ("relay", "app", "connected", ""),
    ("relay", "auth server", "still? (each minute)", "look up bans"),
]
WIDTH, TOP, ROW = 560, 88, 40


def grant() -> str:
    """Return what the token of the picture grants, in short."""
    permissions = CLAIMS.authorize("/rooms/123")
    return f"publish {permissions.publish[0]}, watch {permissions.subscribe[0] or 'all'}"


def figure() -> str:
    """Return the figure as SVG."""
    height = TOP + ROW * len(STEPS) + 8
    parts = []
    for name, x in LANES.items():
        parts += [
            f'<path class="line" d="M{x} 60V{height - 8}"/>',
            box(x - 54, 8, 108, 32, "both" if name in KEEPS else "watch"),
            text(x, 29, name, "head center"),
            text(x, 55, KEEPS.get(name, ""), "quiet small center"),
        ]
    for row, (sender, receiver, words, work) in enumerate(STEPS):
        y, start, end = TOP + row * ROW, LANES[sender], LANES[receiver]
        side = 3 if end > start else -3
        answer = sender != "app" and receiver in {"app", "relay"}
        parts += [
            arrow(start + side, end - side, y + 8, "dashed" if answer else ""),
            text(start + math.copysign(69, side), y, words.format(grant=grant()), "small center"),
        ]
        if work:
            parts.append(text(end + 7, y + 26, work, "quiet small"))
    title = "An app gets a token from the backend, and connects to a relay, which asks the auth server"
    return picture("flow", title, WIDTH, height, parts)
