"""The guard in front of a real MoQ server, over QUIC on loopback: who comes in, what is carried, and when it ends."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

import moq

from moq_token import Claims, Key, KeyNotFoundError, UnavailableError
from moq_token.auth import AuthConfig, Authenticator
from moq_token.integrations.moq import GuardedSession, guard
from tests.sources_server import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from moq_token import KeyId

MoqError = cast("type[Exception]", moq.Error)
KEY = Key.generate("EdDSA", "one")
STRANGER = Key.generate("EdDSA", "one")
OUTAGE = 502 + 64  # how far the transport's codes lie above those of HTTP
UNAUTHORIZED = "unauthorized"

pytestmark = pytest.mark.timeout(120)


class Keys:
    """A source of one key, which can be made to fail and to wait."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails: Callable[[int], bool] = lambda call: False  # noqa: ARG005 - by default it never does
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, kid: KeyId | None) -> Key:
        await self.open.wait()
        self.calls += 1
        if self.fails(self.calls):
            raise UnavailableError("the key server is down")
        if kid != KEY.kid:
            raise KeyNotFoundError("there is no such key", kid=kid)
        return KEY.to_public()

    async def aclose(self) -> None:
        pass


class Relay:
    """A guarded server, and those it has admitted."""

    def __init__(self, port: str, keys: Keys) -> None:
        self.port = port
        self.keys = keys
        self.sessions: list[GuardedSession] = []

    def dial(self, token: str = "", path: str = "rooms/123") -> moq.Client:
        return moq.connect(
            f"https://localhost:{self.port}/{path}{'?jwt=' if token else ''}{token}",
            tls_verify=False,
            websocket_enabled=False,
            reconnect=False,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),
        )

    async def verdict(self, token: str = "", path: str = "rooms/123") -> str | int:
        """Dial, and return "admitted", "unauthorized" or another code that the session was closed with."""
        before = len(self.sessions)
        try:
            async with self.dial(token, path) as client:
                assert client.session is not None
                closed = asyncio.ensure_future(client.session.closed())
                while not closed.done():
                    if self._has(path, before):
                        closed.cancel()
                        return "admitted"
                    await asyncio.wait([closed], timeout=0.02)
                await closed
        except MoqError as error:
            details = moq.protocol_error(error)
            return UNAUTHORIZED if moq.is_auth(error) or details is None else details.code
        raise AssertionError("the session closed, and nobody said why")

    def _has(self, path: str, before: int) -> bool:
        return any(session.path.strip("/") == path for session in self.sessions[before:])


@asynccontextmanager
async def relay(config: AuthConfig | None = None) -> AsyncIterator[Relay]:
    keys = Keys()
    async with (
        Authenticator(config or AuthConfig(), keys=keys) as authenticator,
        moq.Server("127.0.0.1:0", tls_generate=["localhost"]) as server,
    ):
        made = Relay(server.local_addr.rpartition(":")[2], keys)

        async def collect() -> None:
            async with aclosing(guard(server, authenticator)) as sessions:
                async for session in sessions:
                    made.sessions.append(session)

        task = asyncio.create_task(collect())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def sign(key: Key = KEY, root: str = "rooms/123", **claims: object) -> str:
    return key.sign(Claims(root, **{"publish": "", "subscribe": "", **claims}))  # type: ignore[arg-type]


@on_loop
async def test_verdicts() -> None:
    async with relay() as here:
        assert await here.verdict(sign()) == "admitted"
        assert here.sessions[-1].grant.kid == "one"
        assert here.sessions[-1].grant.root == "rooms/123"
        for token in (
            "",
            "nonsense",
            sign(STRANGER),
            sign(expires=int(time.time()) - 1),
            sign(KEY.with_kid("two")),
            sign(KEY.with_kid(None)),
            sign(root="elsewhere"),
        ):
            assert await here.verdict(token) == UNAUTHORIZED
        here.keys.fails = lambda _: True
        assert await here.verdict(sign()) == OUTAGE
        here.keys.fails = lambda _: False
        assert await here.verdict(sign()) == "admitted"


@on_loop
async def test_a_slow_key_server_holds_up_nobody_else() -> None:
    async with relay(AuthConfig.from_mapping({"auth": {"public": "anon"}})) as here:
        here.keys.open.clear()
        waiting = [asyncio.create_task(here.verdict(sign(), "rooms/123")) for _ in range(5)]
        assert await here.verdict(path="anon") == "admitted"
        assert not any(task.done() for task in waiting)
        here.keys.open.set()
        assert await asyncio.gather(*waiting) == ["admitted"] * 5


@on_loop
async def test_only_what_is_granted_is_carried() -> None:
    async with relay() as here:
        alice, viewer = sign(publish="alice", subscribe=()), sign(publish=(), subscribe=["alice/open", "mallory"])
        async with here.dial(alice) as publisher, here.dial(viewer) as watcher, here.dial(sign()) as everybody:
            kept = []
            for client, name in (
                (publisher, "alice/open"),
                (publisher, "alice/closed"),
                (publisher, "alicex"),
                (publisher, "mallory"),
                (watcher, "mallory"),
            ):
                broadcast = client.create_broadcast(name)
                kept.append((broadcast, broadcast.publish_track("words")))
                broadcast.announce()
            assert await watcher.announced_broadcast("alice/open")
            assert await everybody.announced_broadcast("alice/closed")
            for client, name in (
                (watcher, "alice/closed"),
                (watcher, "mallory"),
                (everybody, "alicex"),
                (everybody, "mallory"),
                (publisher, "alice/open/x"),
            ):
                with pytest.raises(MoqError):
                    await client.request_broadcast(name)


@on_loop
async def test_another_room_hears_nothing() -> None:
    async with (
        relay() as here,
        here.dial(sign()) as one,
        here.dial(sign(root="rooms/12"), "rooms/12") as two,
        here.dial(sign(root=""), "") as top,
    ):
        broadcast = one.create_broadcast("cam")
        track = broadcast.publish_track("words")
        broadcast.announce()
        assert await top.announced_broadcast("rooms/123/cam")
        for name in ("cam", "3/cam", "rooms/123/cam"):
            with pytest.raises(MoqError):
                await two.request_broadcast(name)
        del track


@on_loop
async def test_a_session_ends_with_its_token() -> None:
    async with relay() as here:
        expires = int(time.time()) + 2
        async with here.dial(sign(expires=expires)) as client:
            assert client.session is not None
            with pytest.raises(MoqError) as caught:
                await client.session.closed()
            assert moq.is_auth(caught.value)
            assert 0 <= time.time() - expires < 2
        await here.sessions[0].closed()


@on_loop
async def test_leaving_the_loop_ends_everything() -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as clients:
        async with relay() as here:
            client = await clients.enter_async_context(here.dial(sign()))
            async with asyncio.timeout(5):
                while not here.sessions:  # noqa: ASYNC110 - the guard tells nobody but whoever iterates it
                    await asyncio.sleep(0.01)
        assert client.session is not None
        async with asyncio.timeout(5):
            with suppress(MoqError):
                await client.session.closed()
    assert asyncio.all_tasks() == before


async def fire(count: int) -> None:
    """Dial from many clients at once, good and bad, while the key server fails and comes back."""
    tokens: dict[str, set[str | int]] = {
        sign(): {"admitted", OUTAGE},
        sign(STRANGER): {UNAUTHORIZED, OUTAGE},
        sign(expires=1): {UNAUTHORIZED, OUTAGE},
        "": {UNAUTHORIZED},
    }
    async with relay() as here:
        verdicts: dict[str, set[str | int]] = {token: set() for token in tokens}
        pending = asyncio.Semaphore(50)
        here.keys.fails = lambda call: call // 10 % 2 == 1

        async def dial(number: int) -> None:
            token = list(tokens)[number % len(tokens)]
            async with pending:
                verdicts[token].add(await here.verdict(token, f"rooms/123/{number}"))

        await asyncio.gather(*map(dial, range(count)))
        for token, found in verdicts.items():
            assert found <= tokens[token], (token[:5], found)
        assert OUTAGE in set().union(*verdicts.values())
        here.keys.fails = lambda _: False
        assert await here.verdict(sign()) == "admitted"


@on_loop
async def test_under_fire() -> None:
    before = asyncio.all_tasks()
    await fire(60)
    assert asyncio.all_tasks() == before


@pytest.mark.slow
@pytest.mark.timeout(600)
@on_loop
async def test_under_heavy_fire() -> None:
    """500 clients at a time leave no task behind, and the second time no more memory than the first."""
    before = asyncio.all_tasks()
    await fire(500)
    gc.collect()
    tracemalloc.start()
    await fire(500)
    gc.collect()
    assert asyncio.all_tasks() == before
    assert tracemalloc.get_traced_memory()[0] < 2 * 1024 * 1024
    tracemalloc.stop()
