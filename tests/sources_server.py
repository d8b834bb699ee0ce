"""A web server on loopback that answers by a script and counts requests, and a clock that tests set."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import selectors
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""


if TYPE_CHECKING:
    Handler = Callable[[Request, asyncio.StreamWriter], bytes | Awaitable[None]]


def reply(body: bytes | str = b"", status: int = 200, /, **headers: str) -> bytes:
    """Return the bytes of a response; header names are written with underscores."""
    body = body.encode() if isinstance(body, str) else body
    lines = {"content_length": str(len(body))} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body


class Server:
    """Answer each path by its script: with bytes, or by a function, which may write itself and never end.

    Without a script, the answer is 404.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: dict[str, bytes | Handler] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self._arrival = asyncio.Event()
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: list[asyncio.WriteTransport] = []

    def count(self, path: str | None = None) -> int:
        return sum(path is None or request.path == path for request in self.requests)

    async def received(self, count: int) -> None:
        """Wait until this many requests have arrived."""
        while len(self.requests) < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in self._transports:
            transport.abort()  # what waits for a client that reads no more would outlive the loop
        for _ in range(3):  # a transport ends in the turn of the loop after, one of TLS in that after its inner one
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._transports.append(writer.transport)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                    pairs = (line.partition(":") for line in head[1:] if line)
                    headers = {name.lower(): value.strip() for name, _, value in pairs}
                    body = await reader.readexactly(int(headers.get("content-length", "0")))
                    method, path, _ = head[0].split(" ")
                    request = Request(path, headers, method, body)
                    self.requests.append(request)
                    self._arrival.set()
                    script = self.scripts.get(request.path, reply("", 404))
                    answer = script if isinstance(script, bytes) else script(request, writer)
                    if isinstance(answer, bytes):
                        writer.write(answer)
                        await writer.drain()
                    else:
                        await answer
                        break  # it said how it ends
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


class Clock:
    """A clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class _NoWaiting(selectors.DefaultSelector):
    """Lets the time of its loop pass instead of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.loop.now += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that skips waiting times. For code that waits only for time, not for sockets or threads."""

    def __init__(self) -> None:
        selector = _NoWaiting()
        self.now = 0.0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now


def run_virtual(work: Coroutine[object, None, _T]) -> _T:
    """Run a coroutine on an event loop of its own, in simulated time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def on_virtual_loop(test: Callable[_P, Coroutine[None, None, None]]) -> Callable[_P, None]:
    """Run a test on an event loop of its own, in simulated time."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
    """Answer nothing, for as long as the client waits."""
    del writer
    await asyncio.Event().wait()


def on_loop(test: Callable[_P, Coroutine[None, None, None]]) -> Callable[_P, None]:
    """Run a test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run
