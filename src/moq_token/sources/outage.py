"""Log when a source of keys stops working, and when it works again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from moq_token.sources.memory import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.errors import UnavailableError

# A source of which one key works and another one does not would otherwise fill the log.
_RECORDS_AT_ONCE, _RECORDS_PER_SECOND = 10, 1 / 60

_log = logging.getLogger("moq_token.sources")


class Outage:
    """Logs the start and the end of each outage of one source, once each; also where stale keys are used meanwhile.

    A record has the fields ``event`` (``source-unavailable`` or ``source-recovered``), ``source`` (without
    credentials), and ``cause`` or ``seconds``.
    """

    def __init__(self, source: str, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._since: float | None = None
        self._logged = False
        self._records = Bucket(_RECORDS_PER_SECOND, _RECORDS_AT_ONCE, clock)

    def note(self, failure: UnavailableError | None) -> None:
        """Record that a key was returned, despite this failure if it is not None."""
        if failure is not None:
            self.failed(failure)
        elif self._since is not None:
            self.ended()

    def failed(self, error: UnavailableError) -> None:
        """Record that keys could not be read."""
        if self._since is not None:
            return
        self._since = self._clock()
        self._logged = self._records.take(self._source)
        if self._logged:
            fields = {"event": "source-unavailable", "source": self._source, "cause": str(error)}
            _log.warning("keys are unavailable: %s", error, extra=fields)

    def ended(self) -> None:
        """Record that the source has answered."""
        if self._since is None:
            return
        seconds = round(max(0.0, self._clock() - self._since), 3)
        self._since = None
        if self._logged:
            fields = {"event": "source-recovered", "source": self._source, "seconds": seconds}
            _log.info("keys are available again after %.0f s: %s", seconds, self._source, extra=fields)
