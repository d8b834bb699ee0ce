"""A relay with an internal listener, in this process: it asks an auth server over HTTP, and can be nudged."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from moq_token import Pattern, RefusedError
from moq_token.auth import RemoteAuthenticator, RemoteConfig
from moq_token.contract import Event, Request
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.listen import TcpAddress, listening
from moq_token.server.nudges import Relay, parse_relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from moq_token.auth.remote import RemoteSession

ANY = TcpAddress("127.0.0.1", 0)


class FakeRelay:
    """Sessions that go on until the auth server ends them. ``ended`` has why, by the id of the session."""

    def __init__(self, node: str, authenticator: RemoteAuthenticator) -> None:
        self.node = node
        self.calls: list[str] = []
        self.ended: dict[str, str] = {}
        self.blind = 0  # so many nudges find no session, as while it is being admitted
        self.slow = asyncio.Event()  # answers to nudges wait for it
        self.slow.set()
        self.status = 202
        self._news = asyncio.Event()
        self._authenticator = authenticator
        self._sessions: dict[str, tuple[str, RemoteSession]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def dial(
        self, session_id: str, path: str = "/room", query: str | None = None, remote: str | None = "192.0.2.1:5"
    ) -> bool:
        """Connect a session. Return whether it was admitted."""
        asked = Request(
            id=session_id, event=Event.CONNECT, node="", transport="quic", path=path, query=query, remote=remote
        )
        try:
            session = await self._authenticator.connect(asked)
        except RefusedError:
            return False
        self._sessions[session_id] = path, session
        self._tasks[session_id] = asyncio.create_task(self._run(session_id, session))
        return True

    async def _run(self, session_id: str, session: RemoteSession) -> None:
        reason = await session.ended()
        del self._sessions[session_id]
        self.ended[session_id] = session.close(reason)
        self._news.set()

    async def nudged(self, request: HttpRequest) -> HttpResponse:
        """Answer at the internal listener."""
        path, _, query = request.target.partition("?")
        assert (request.method, path, request.body) == ("POST", "/sessions/revalidate", b"")
        self.calls.append(query)
        self._news.set()
        if self.status != 202:
            return HttpResponse(self.status)
        wanted = dict(parse_qsl(query))
        found = []
        if self.blind:
            self.blind -= 1
        else:
            for session_id, (dialed, session) in self._sessions.items():
                if wanted.get("id") in {None, session_id} and Pattern(wanted.get("path", "**")).matches(dialed):
                    session.nudge()
                    found.append(session_id)
        await self.slow.wait()
        return HttpResponse(202 if found else 200, json.dumps({"ids": found}).encode(), "application/json")

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for calls and ends until something is so."""
        while not done():
            self._news.clear()
            await self._news.wait()

    @property
    def live(self) -> set[str]:
        return set(self._sessions)

    async def stop(self) -> None:
        for _, session in list(self._sessions.values()):
            session.close("shutdown")
        await asyncio.gather(*self._tasks.values())


@asynccontextmanager
async def relay(node: str, server_port: int) -> AsyncIterator[tuple[FakeRelay, Relay]]:
    """Run a relay, and yield it with its internal listener."""
    async with AsyncExitStack() as stack:
        config = RemoteConfig(f"http://127.0.0.1:{server_port}/")
        fake = FakeRelay(node, await stack.enter_async_context(RemoteAuthenticator(config, node=node)))
        running = await stack.enter_async_context(listening(fake.nudged, ANY))
        stack.push_async_callback(fake.stop)
        yield fake, parse_relay(f"{node}=http://{running.address}")
