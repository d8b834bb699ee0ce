"""An auth server behind each of its fronts, in a process: ``python -m tests.doors PORT`` runs its own protocol.

``tests.doors:app`` is what uvicorn and granian serve.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from moq_token import RefusedError
from moq_token.server import Answer, AuthServer, Grant, Question, Request, http
from moq_token.server.listen import TcpAddress, listening
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
REQUEST_SECONDS = 1.0  # how long a request may take in these processes, so that tests of it are quick
PATIENCE = 100.0

COMMANDS = {
    "own": ["-m", "tests.doors", "{port}"],
    "uvicorn": ["-m", "uvicorn", "tests.doors:app", "--port", "{port}", "--no-access-log"],
    "granian": ["-m", "granian", "--interface", "asgi", "--port", "{port}", "tests.doors:app"],
}


class Decide:
    """Grants everything, but refuses ``/no`` and waits for ``/slow``."""

    async def __call__(self, request: Request) -> Grant:
        if request.path == "/no":
            raise RefusedError("no", reason="suspended")
        if request.path == "/slow":
            await asyncio.sleep(0.2)
        return Grant(subscribe=["**"])

    async def lookup(self, question: Question) -> Answer:
        return Answer(tier=question.root)


server = AuthServer(Decide())
app = server.asgi


async def main(port: int) -> None:
    async with listening(server.handle, TcpAddress(HOST, port)):
        await asyncio.Event().wait()


@contextmanager
def running(door: str) -> Iterator[int]:
    """Run an auth server behind one of its fronts, and yield its port."""
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in COMMANDS[door])]
    environment = {**os.environ, "DOORS_REQUEST_SECONDS": str(REQUEST_SECONDS)}
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + PATIENCE
            while not _listens(port):
                assert process.poll() is None, "it ended at its start"
                assert time.monotonic() < until, "it does not listen"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


if seconds := os.environ.get("DOORS_REQUEST_SECONDS"):
    http.REQUEST_SECONDS = float(seconds)
if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
