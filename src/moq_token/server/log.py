"""The log of the auth server, as lines for people or as JSON for programs."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from typing import Any, BinaryIO, Final

MAX_LINES: Final = 10_000
"""Lines that wait to be written. Further ones are dropped and counted."""
CLOSE_SECONDS: Final = 1.0
"""How long the end waits for lines that are still to be written."""

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


class ThreadedHandler(logging.Handler):
    """Write records to a stream from a thread, so that a pipe that nobody reads does not delay decisions.

    Errors of the stream are ignored: there is no other place to report them. It must be unbuffered: a buffer whose
    lock is held by a thread that hangs in a write aborts the interpreter when it exits.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._dropped = 0
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()
        # Last, as it makes Python close this handler at its exit, which waits for the thread.
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, formatted: the thread sees nothing but its text."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as every handler of logging does it
            self.handleError(record)

    def close(self) -> None:
        """Write what is queued, for at most ``CLOSE_SECONDS``."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_SECONDS)
            self._writer.join(CLOSE_SECONDS)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"{line}\n".encode(errors="backslashreplace"))
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._stream.write(f"{self.format(_dropped(dropped))}\n".encode())


def _dropped(lines: int) -> logging.LogRecord:
    message, extra = "%d log lines were dropped: they were not read in time", {"event": "log-dropped", "lines": lines}
    return log.makeRecord(log.name, logging.WARNING, "", 0, message, (lines,), None, extra=extra)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03}Z"
