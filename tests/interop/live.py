"""Relays that ask an auth server, and clients that dial them over QUIC and stay."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import moq

from moq_token import Claims
from moq_token.server import Request
from moq_token.server.listen import TcpAddress, UnixAddress, listening
from tests.interop.peers import program
from tests.interop.relays import MoqError, client, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from moq_token import Key
    from moq_token.server import AuthServer
    from moq_token.server.http import HttpRequest, HttpResponse
    from moq_token.server.listen import Address
    from tests.interop.relays import Relay

FIRST = "RUST_MOQ_RELAY", ("--server-bind", "127.0.0.1:0", "--tls-generate", "localhost", "--auth-api")
SECOND = "RUST_MOQ_RELAY_SECOND", ("--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost", "--auth-url")
"""The program of a generation of relays, and its arguments up to the URL of its auth server."""

SECONDS = 30.0
_AT_ONCE = 16


@contextmanager
def relay(generation: tuple[str, tuple[str, ...]], url: str, directory: Path, *more: str) -> Iterator[Relay]:
    """Run a relay that asks the auth server at a URL."""
    variable, arguments = generation
    with running(program(variable), *arguments, url, *more, directory=directory) as started:
        yield started


class Asked:
    """An auth server in this process, which records its requests and can be told to fail."""

    def __init__(self, server: AuthServer) -> None:
        self.server = server
        self.events: list[Request] = []
        self.asked: list[str] = []
        self.is_out = False
        self.changed = asyncio.Condition()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        if self.is_out:
            raise ValueError("out")  # which is answered with 500
        self.asked.append(request.target)
        response = await self.server.handle(request)
        if request.method == "POST":
            self.events.append(Request.from_json(request.body))
        async with self.changed:
            self.changed.notify_all()
        return response

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self.changed:
            await self.changed.wait_for(condition)

    def ends(self) -> list[str | None]:
        return [event.reason for event in self.events if event.event == "end"]

    def count(self, event: str) -> int:
        return sum(each.event == event for each in self.events)


@asynccontextmanager
async def asked_at(asked: Asked, address: Address = TcpAddress("127.0.0.1", 0)) -> AsyncIterator[Address]:  # noqa: B008
    async with listening(asked.handle, address) as running:
        yield running.address


class Session:
    """A client of the relay that stays until it is closed."""

    def __init__(self, dialed: Any) -> None:  # noqa: ANN401 - of moq-rs
        self._closed = asyncio.ensure_future(self._wait(dialed))
        self.since = time.time()

    @staticmethod
    async def _wait(dialed: Any) -> tuple[int | None, float]:  # noqa: ANN401
        try:
            await dialed.session.closed()
        except MoqError as error:
            details = moq.protocol_error(error)
            return (None if details is None else details.code), time.time()
        return 0, time.time()

    async def closed(self) -> tuple[int | None, float]:
        """Wait until the relay closes the session, and return the code and the time."""
        async with asyncio.timeout(SECONDS):
            return await asyncio.shield(self._closed)

    @property
    def is_up(self) -> bool:
        return not self._closed.done()

    def give_up(self) -> None:
        self._closed.cancel()


@asynccontextmanager
async def dialed(url: str) -> AsyncIterator[Session]:
    async with client(url) as connected:
        session = Session(connected)
        try:
            yield session
        finally:
            session.give_up()


async def refused(url: str) -> int | None:
    """Dial a URL that is not admitted, and return the code."""
    try:
        async with dialed(url) as session:
            return (await session.closed())[0]
    except MoqError as error:
        details = moq.protocol_error(error)
        return None if details is None else details.code


async def all_dialed(stack: AsyncExitStack, urls: Iterable[str]) -> list[Session]:
    """Dial URLs, a few at a time, and return the sessions in the same order. They stay until the stack is left."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(url: str) -> Session:
        async with places:
            return await stack.enter_async_context(dialed(url))

    return await asyncio.gather(*map(one, urls))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test()

    asyncio.run(bounded())


def token(key: Key, seconds: float = 600, **claims: Any) -> str:  # noqa: ANN401 - those of a token
    return key.sign(
        Claims(**{"root": "room", "publish": "", "subscribe": "", **claims, "expires": int(time.time() + seconds)})
    )


def url_of(address: Address, userinfo: str = "") -> str:
    return f"unix://{address.path}" if isinstance(address, UnixAddress) else f"http://{userinfo}{address}/"
