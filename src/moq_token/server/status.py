"""What the status page shows about a server as a whole: health, and the live sessions by relay and by key."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from moq_token import __version__
from moq_token.server.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.server.keys import Problem
    from moq_token.server.session import Session

MAX_GROUPS: Final = 100
"""Relays and keys that are listed; the ones with the most sessions."""


async def status(sessions: Iterable[Session], problems: list[Problem], *, started: float, now: float) -> dict[str, Any]:
    """Return the status as members for JSON. Times are in Unix seconds."""
    nodes: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    count = 0
    async for session in in_turns(sessions):
        count += 1
        nodes[session.place.node] += 1
        if session.kid is not None:
            keys[session.kid] += 1
    health = "not ready" if any(problem.is_fatal for problem in problems) else "degraded" if problems else "ready"
    return {
        "version": __version__,
        "now": now,
        "started": started,
        "health": health,
        "problems": [problem.message for problem in problems],
        "sessions": count,
        "nodes": [{"node": node, "sessions": number} for node, number in _most(nodes)],
        "keys": [{"kid": kid, "sessions": number} for kid, number in _most(keys)],
    }


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))[:MAX_GROUPS]
