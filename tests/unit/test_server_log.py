"""The log of the auth server: a pipe that is not read, and what is dropped for it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading

import pytest

from moq_token.server import log as log_module
from moq_token.server.log import JsonFormatter, ThreadedHandler

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes hold another number of bytes there")

_LINES = 3000
_TEXT = "x" * 100


def record(number: int) -> logging.LogRecord:
    return logging.LogRecord("moq_token.server", logging.INFO, "", 0, "%d %s", (number, _TEXT), None)


def test_lines_beyond_the_bound_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_LINES", 100)
    reading, writing = os.pipe()
    with io.FileIO(writing, "w") as stream, os.fdopen(reading) as pipe:
        handler = ThreadedHandler(stream)
        handler.setFormatter(JsonFormatter())
        for number in range(_LINES):  # more than pipe and queue hold
            handler.emit(record(number))
        numbers: list[int] = []
        dropped = 0
        while len(numbers) + dropped < _LINES:
            line = json.loads(pipe.readline())
            if line.get("event") == "log-dropped":
                dropped += line["lines"]
            else:
                numbers.append(int(line["message"].split()[0]))
        handler.close()
    assert numbers == sorted(set(numbers))
    assert dropped > 0


def test_the_end_does_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CLOSE_SECONDS", 0.01)
    reading, writing = os.pipe()
    stream = io.FileIO(writing, "w")
    handler = ThreadedHandler(stream)
    for number in range(_LINES):
        handler.emit(record(number))
    handler.close()
    os.close(reading)  # which ends the write that hangs
    for thread in threading.enumerate():
        if thread.name == "log":
            thread.join()
    stream.close()


def test_what_is_queued_is_written_before_the_end() -> None:
    reading, writing = os.pipe()
    stream = io.FileIO(writing, "w")
    handler = ThreadedHandler(stream)
    for number in range(10):
        handler.emit(record(number))
    handler.close()
    stream.close()
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "".join(f"{number} {_TEXT}\n" for number in range(10))


def test_an_interrupt_while_the_log_starts_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its exit, Python closes each handler that has been made, which must not wait for a thread that never ran."""

    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    closed_at_exit: list[object] = vars(logging)["_handlerList"]
    before = list(closed_at_exit)
    with pytest.raises(KeyboardInterrupt):
        ThreadedHandler(io.BytesIO())
    assert closed_at_exit == before
