"""Run the auth server in a separate process, as a supervisor does, and servers of the standard library in threads."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from socketserver import BaseServer

_Server = TypeVar("_Server", bound="BaseServer")

SECONDS = 100
ROOT = Path(__file__).parents[1]
PATIENT = "tests.patient"


class Process:
    """A running `serve`, with its log as JSON."""

    def __init__(self, popen: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
        self.popen = popen
        self.log: list[dict[str, Any]] = []
        self._lines = lines
        self.address = self.until("listening")["address"]

    def until(self, event: str) -> dict[str, Any]:
        """Read the log up to an event."""
        while (line := self._lines.get(timeout=SECONDS)) is not None:
            self.log.append(json.loads(line))
            if self.log[-1].get("event") == event:
                return self.log[-1]
        raise AssertionError(f"it ended without {event}: {self.log}")

    @property
    def told(self) -> str:
        """The log so far."""
        return "\n".join(line["message"] for line in self.log)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def stop(self, number: int = SIGTERM) -> int:
        """Send a signal, read the rest of the log, and return the exit status."""
        self.signal(number)
        while (line := self._lines.get(timeout=SECONDS)) is not None:
            self.log.append(json.loads(line))
        return self.popen.wait(SECONDS)

    def ask(self, target: str) -> tuple[int, str]:
        return ask(self.address, target)

    def connect(
        self, path: str, query: str | None = None, *, tls: ssl.SSLContext | None = None, headers: str = ""
    ) -> tuple[int, str]:
        """Ask about a new session, as a relay from 0.15 on."""
        session = {"id": "1", "event": "connect", "node": "n", "transport": "quic", "path": path}
        body: dict[str, object] = {**session, **({} if query is None else {"query": query})}
        return ask(self.address, "/", body, tls=tls, headers=headers)


@contextlib.contextmanager
def serving(
    *argv: str, cwd: Path, environ: dict[str, str] | None = None, module: str = "moq_token"
) -> Iterator[Process]:
    """Run `serve` with these flags. By default it listens on a free port."""
    listen = [] if "--listen" in argv or "--config" in argv else ["--listen", "127.0.0.1:0"]
    command = [sys.executable, "-m", module, "serve", "--log", "json", *listen, *argv]
    with (
        subprocess.Popen(
            command, cwd=cwd, env={**environment(), **(environ or {})}, stderr=subprocess.PIPE, text=True
        ) as popen,
        _read(popen) as lines,
    ):
        yield Process(popen, lines)


def environment() -> dict[str, str]:
    """Return the environment in which a process finds the same package as this one, in any working directory."""
    given = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(each).resolve()) for each in given if each)}


@contextlib.contextmanager
def _read(popen: subprocess.Popen[str]) -> Iterator[queue.SimpleQueue[str | None]]:
    """Read the log of a process all the time, because the process stops when the pipe is full; None is its end."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        assert popen.stderr is not None
        for line in popen.stderr:
            lines.put(line)
        lines.put(None)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield lines
    finally:
        popen.kill()
        thread.join()


def dial(address: str, tls: ssl.SSLContext | None = None) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        try:
            connection.connect(address.removeprefix("unix:"))
        except BaseException:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS)
    return connection if tls is None else tls.wrap_socket(connection, server_hostname=host)


def ask(
    address: str,
    target: str,
    body: dict[str, object] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    headers: str = "",
) -> tuple[int, str]:
    """Send one request, and return the status and the body of the answer."""
    data = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    with dial(address, tls) as connection:
        connection.sendall(f"{head}{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head_, _, rest = answer.partition(b"\r\n\r\n")
    return int(head_.split(b" ")[1]), rest.decode()


@contextlib.contextmanager
def in_thread(server: _Server) -> Iterator[_Server]:
    """Run a server of the standard library in a thread, and close it at the end."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
