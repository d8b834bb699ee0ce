"""Whether the store can be asked, and when to try again. The caller passes the time, in seconds of any steady clock."""

from __future__ import annotations

import math
from typing import Final

DEADLINE_SECONDS: Final = 0.25
"""How long a decision waits for the store. Then this node decides by what it knows."""
RETRY_SECONDS: Final = 1.0
"""The pause between two attempts to reach a store that has failed. Nobody waits for it meanwhile."""


class Health:
    """The state of the store, as this node sees it.

    ``problem`` says what is wrong, None for nothing. A store that was not reached yet has a problem too.
    """

    def __init__(self) -> None:
        self.problem: str | None = "not connected yet"
        self._retry = -math.inf

    @property
    def is_up(self) -> bool:
        """Whether decisions are to ask the store."""
        return self.problem is None

    def failed(self, problem: str, now: float) -> bool:
        """Note a failure. Returns whether it is news: another problem than before."""
        is_news = problem != self.problem
        self.problem = problem
        self._retry = now + RETRY_SECONDS
        return is_news

    def recovered(self) -> None:
        """Note that the store has answered, and that this node is up to date."""
        self.problem = None

    def pause(self, now: float) -> float:
        """Return how long to wait before the store is tried again, in seconds."""
        return max(0.0, self._retry - now)
