"""Whether the store can be asked, and when to try again. The caller passes the time, in seconds of any steady clock."""

from __future__ import annotations

import math
from typing import Final

DEADLINE_SECONDS: Final = 0.25
"""How long a decision waits for the store. Then this node decides by what it knows."""
RETRY_SECONDS: Final = 1.0
"""Attempts to reach the store begin so far apart at least. Nobody waits for them."""


class Health:
    """The state of the store, as this node sees it.

    ``problem`` says what is wrong, None for nothing. A store that was not reached yet has a problem too.
    """

    def __init__(self) -> None:
        self.problem: str | None = "not connected yet"
        self._tried = -math.inf

    def trying(self, now: float) -> None:
        """Note that an attempt to reach the store begins."""
        self._tried = now

    def failed(self, problem: str) -> bool:
        """Note a failure. Returns whether it is news: another problem than before."""
        is_news = problem != self.problem
        self.problem = problem
        return is_news

    def recovered(self) -> None:
        """Note that the store has answered, and that this node is up to date."""
        self.problem = None

    def pause(self, now: float) -> float:
        """Return how long to wait before the store is tried again, in seconds.

        That is not at all after a connection that has lasted: the store may only have moved to another server.
        """
        return max(0.0, self._tried + RETRY_SECONDS - now)
