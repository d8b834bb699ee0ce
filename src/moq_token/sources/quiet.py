"""Keep other packages' log records about our requests out of the log, because they hold credentials.

httpx2 logs the URL of each request, and httpcore2, at level DEBUG, every header of the answer: a ``Location`` can
repeat the query, and a server can return any header that it was sent.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A filter acts on the records of the very logger that it is added to, so that each is named.
_LOGGERS = (
    "httpx2",
    *(f"httpcore2.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")),
    "hishel.core.spec",
)
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop those records while this is entered, for this task alone: other users of the packages keep theirs."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_passes)  # once: adding it again changes nothing
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _passes(_: logging.LogRecord) -> bool:
    return not _quiet.get()
