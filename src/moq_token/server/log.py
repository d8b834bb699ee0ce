"""The log of the auth server, as lines for people or as JSON for programs."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

log: logging.Logger = logging.getLogger("moq_token.server")

# The attributes that every record has. What a record has besides them is its `extra`.
_USUAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, message, and the ``extra`` of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. A traceback is left out: its frames could show a token."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps(line | _extra(record), default=str, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """One line for people: time, level, message, and the ``extra`` of the record as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record, with everything that could break a line escaped."""
        extra = " ".join(f"{name}={json.dumps(value, default=str)}" for name, value in _extra(record).items())
        message = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in record.getMessage())
        return f"{_utc(record.created)} {record.levelname.lower():<7} {message}{' ' if extra else ''}{extra}"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03}Z"
