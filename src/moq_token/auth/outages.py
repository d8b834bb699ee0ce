"""Track the services that a relay depends on, so that each outage and each recovery is logged once."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moq_token.errors import Error, UnavailableError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

# Clients choose key ids, so the number of outages that are remembered is bounded. Further ones are not logged.
MAX_OUTAGES = 64


class Outages:
    """The sources that failed when they were last asked, and since when."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._since: dict[str, float] = {}

    @contextmanager
    def watch(self, source: str) -> Iterator[None]:
        """Log it where a ``UnavailableError`` leaves the block for the first time, and where it ends."""
        try:
            yield
        except UnavailableError as error:
            self._failed(source, str(error))
            raise
        except Error:
            self._answered(source)
            raise
        self._answered(source)

    def _failed(self, source: str, cause: str) -> None:
        if source in self._since or len(self._since) >= MAX_OUTAGES:
            return
        self._since[source] = time.monotonic()
        extra = {"event": "outage", "source": source, "cause": cause}
        self._log.warning("%s is unavailable: %s", source, cause, extra=extra)

    def _answered(self, source: str) -> None:
        if not self._since:
            return
        since = self._since.pop(source, None)
        if since is not None:
            seconds = round(time.monotonic() - since, 1)
            extra = {"event": "recovery", "source": source, "seconds": seconds}
            self._log.info("%s is available again after %.1f s", source, seconds, extra=extra)
