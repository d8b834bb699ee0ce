"""The guard in front of a real MoQ server, over QUIC on loopback: admission, forwarding, and the end of sessions."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import time
import tracemalloc
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

import moq

from moq_token import Claims, Key, KeyNotFoundError, UnavailableError
from moq_token.auth import AuthConfig, Authenticator, Grant
from moq_token.integrations.moq import GuardedSession, admission, door, exchange, guard
from moq_token.integrations.moq.tasks import Tasks
from tests.sources_server import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from moq_token import KeyId

MoqError = cast("type[Exception]", moq.Error)
KEY = Key.generate("EdDSA", "one")
STRANGER = Key.generate("EdDSA", "one")
OUTAGE = 502 + 64  # how far the transport's codes lie above those of HTTP
UNAUTHORIZED = "unauthorized"
PATIENCE = 60  # seconds
EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLIC = AuthConfig.from_mapping({"auth": {"public": "anon"}})


class Keys:
    """A source that returns one key for every id that starts with "one", and can be told to fail or to wait."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.flip_after = 0  # so many answers it goes down, or comes back
        self.answers: dict[str | None, Exception | None] = {}  # the last one for each id
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, kid: KeyId | None) -> Key:
        self.asked.set()
        await self.open.wait()
        if self.flip_after and len(self.answers) % self.flip_after == 0:
            self.error = None if self.error else UnavailableError("the key server is down")
        self.answers[kid] = self.error
        if self.error is not None:
            raise self.error
        if kid is None or not kid.startswith("one"):
            raise KeyNotFoundError("there is no such key", kid=kid)
        return KEY.with_kid(kid).to_public()

    async def aclose(self) -> None:
        pass


class Events(logging.Handler):
    """The log of the guard, with methods to wait for records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._changed.set()

    def of(self, event: str) -> list[logging.LogRecord]:
        return [record for record in self.records if vars(record)["event"] == event]

    async def wait(self, event: str, count: int = 1) -> list[logging.LogRecord]:
        async with asyncio.timeout(PATIENCE):
            while len(self.of(event)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(event)


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[Events]:
    caplog.set_level(logging.INFO, "moq_token.integrations.moq")
    logger, handler = logging.getLogger("moq_token.integrations.moq"), Events()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Relay:
    """A guarded server, the sessions that it has admitted, and its clients."""

    def __init__(self, port: str, keys: Keys, hub: moq.OriginProducer) -> None:
        self.port = port
        self.keys = keys
        self.hub = hub
        self.sessions: list[GuardedSession] = []
        self.admitted: dict[str, asyncio.Event] = {}

    def dial(
        self, token: str = "", path: str = "rooms/123", scheme: str = "https", host: str = "localhost"
    ) -> moq.Client:
        return moq.connect(
            f"{scheme}://{host}:{self.port}/{path}{'?jwt=' if token else ''}{token}",
            tls_verify=False,
            websocket_enabled=False,
            reconnect=False,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),
        )

    async def verdict(self, token: str = "", path: str = "rooms/123", scheme: str = "https") -> str | int:
        """Dial, and return "admitted", "unauthorized" or another code that the session was closed with."""
        admitted = self.admitted[path] = asyncio.Event()
        try:
            async with self.dial(token, path, scheme) as client:
                assert client.session is not None
                waits = asyncio.ensure_future(client.session.closed()), asyncio.ensure_future(admitted.wait())
                await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                closed, _ = await asyncio.gather(*waits, return_exceptions=True)
                if isinstance(closed, MoqError):
                    raise closed
        except MoqError as error:
            details = moq.protocol_error(error)
            return UNAUTHORIZED if moq.is_auth(error) or details is None else details.code
        assert admitted.is_set(), "nobody said anything"
        return "admitted"


@asynccontextmanager
async def relay(
    config: AuthConfig | None = None,
    origin: moq.OriginProducer | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Relay]:
    """Run a guarded server; ``origin`` is used by the server itself, for both roles."""
    keys, hub = Keys(), moq.OriginProducer()
    async with (
        Authenticator(config or AuthConfig(), keys=keys, clock=clock) as authenticator,
        moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=origin) as server,
    ):
        made = Relay(server.local_addr.rpartition(":")[2], keys, hub)

        async def collect() -> None:
            async with aclosing(guard(server, authenticator, hub=hub)) as sessions:
                async for session in sessions:
                    made.sessions.append(session)
                    made.admitted.setdefault(session.path.strip("/"), asyncio.Event()).set()

        task = asyncio.create_task(collect())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def sign(key: Key = KEY, root: str = "rooms/123", **claims: object) -> str:
    return key.sign(Claims(root, **{"publish": "", "subscribe": "", **claims}))  # type: ignore[arg-type]


def announce(client: moq.Client, name: str) -> tuple[moq.BroadcastProducer, moq.TrackProducer]:
    """Publish a broadcast with one track, for as long as the caller keeps what is returned."""
    broadcast = client.create_broadcast(name)
    track = broadcast.publish_track("words")
    broadcast.announce()
    return broadcast, track


async def watch(client: moq.Client, name: str) -> moq.TrackConsumer:
    broadcast: moq.BroadcastConsumer = await client.announced_broadcast(name)
    return await broadcast.subscribe_track("words")


async def write_watched(track: moq.TrackProducer, payload: bytes) -> None:
    """Write a frame once the subscription has arrived: one from before could be dropped, or end the subscription."""
    async with asyncio.timeout(PATIENCE):
        await track.used()
    track.write_frame(payload)


async def read(track: moq.TrackConsumer) -> bytes:
    async with asyncio.timeout(PATIENCE):
        frame = await track.read_frame()
    assert frame is not None
    return bytes(frame.payload)


@asynccontextmanager
async def withdrawing(client: moq.Client, name: str) -> AsyncIterator[None]:
    """Wait at the end of the block until the client has heard that an announced broadcast is withdrawn.

    The client listens from before the block: later it might find neither the broadcast nor that it was withdrawn.
    """
    async with client.announced(name) as updates, asyncio.timeout(PATIENCE):
        async for update in updates:
            if update.active:
                break
        yield
        async for update in updates:
            if not update.active:
                break


async def repeat(track: moq.TrackProducer, payload: bytes) -> None:
    """Write the same frame again and again, for viewers that come at some time."""
    while True:
        track.write_frame(payload)
        await asyncio.sleep(0.02)


async def repeat_datagram(track: moq.TrackProducer, payload: bytes, timestamp_us: int) -> None:
    """Send the same datagram again and again, because datagrams may be lost."""
    while True:
        track.append_datagram(payload, timestamp_us)
        await asyncio.sleep(0.02)


async def read_until(client: moq.Client, wanted: bytes) -> None:
    """Watch "cam" until the wanted frame comes. A client may first show what it still has from the last time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(MoqError):
                track = await watch(client, "cam")
                async with track:
                    while (frame := await track.read_frame()) is not None:
                        if frame.payload == wanted:
                            return


# -- admission


@on_loop
async def test_verdicts() -> None:
    async with relay() as here:
        assert await here.verdict(sign()) == "admitted"
        grant = here.sessions[-1].grant
        assert isinstance(grant, Grant)
        assert (grant.kid, grant.root) == ("one", "rooms/123")
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
        here.keys.error = UnavailableError("the key server is down")
        assert await here.verdict(sign()) == OUTAGE
        here.keys.error = None
        assert await here.verdict(sign()) == "admitted"
        assert len(here.sessions) == 2


@on_loop
async def test_a_client_without_a_url_says_where_it_wants_to_go() -> None:
    async with relay() as here:
        assert await here.verdict(sign(), scheme="moqt") == "admitted"
        assert here.sessions[-1].path == "/rooms/123"
        assert await here.verdict(scheme="moqt") == UNAUTHORIZED


@on_loop
async def test_the_log_says_why_and_never_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token, forged = sign(), sign(STRANGER)
    async with relay() as here:
        await here.verdict(token)
        await here.verdict(forged)
        await here.verdict(path="a\nb")
    assert "refused at '/rooms/123': bad-signature" in caplog.text
    assert "token-expected" in caplog.text
    for secret in (token, forged, *token.split("."), *forged.split(".")):
        assert secret not in caplog.text


@on_loop
async def test_a_slow_key_server_holds_up_nobody_else() -> None:
    async with relay(PUBLIC) as here:
        here.keys.open.clear()
        waiting = [asyncio.create_task(here.verdict(sign(root=""), f"rooms/{number}")) for number in range(5)]
        assert await here.verdict(path="anon") == "admitted"
        assert not any(task.done() for task in waiting)
        here.keys.open.set()
        assert await asyncio.gather(*waiting) == ["admitted"] * 5


@on_loop
async def test_of_too_many_the_one_that_has_waited_longest_has_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_PENDING", 3)
    async with relay(PUBLIC) as here:
        here.keys.open.clear()
        waiting = []
        for number in range(4):
            here.keys.asked.clear()
            waiting.append(asyncio.create_task(here.verdict(sign(root=""), f"rooms/{number}")))
            await here.keys.asked.wait()
        assert await waiting[0] == OUTAGE
        assert not any(task.done() for task in waiting[1:])
        # A client that needs no key is still admitted, and the next waiting one is refused instead.
        assert await here.verdict(path="anon") == "admitted"
        assert await waiting[1] == OUTAGE
        here.keys.open.set()
        assert await asyncio.gather(*waiting[2:]) == ["admitted"] * 2


@on_loop
async def test_a_source_that_never_answers_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PENDING_SECONDS", 0.1)
    async with relay() as here:
        here.keys.open.clear()
        assert await here.verdict(sign()) == OUTAGE
        monkeypatch.undo()  # the next client has as long as usual
        here.keys.open.set()
        assert await here.verdict(sign()) == "admitted"


@on_loop
async def test_a_source_with_a_bug_lets_nobody_in_and_keeps_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    async with relay() as here:
        here.keys.error = ZeroDivisionError("hidden")
        assert await here.verdict(sign()) == OUTAGE
        assert "could not decide: ZeroDivisionError (test_guard.py, line " in caplog.text
        assert "hidden" not in caplog.text
        here.keys.error = None
        assert await here.verdict(sign()) == "admitted"


@on_loop
async def test_the_host_counts_for_domains() -> None:
    config = AuthConfig.from_mapping({"auth": {"public": "127", "domains": ["0.0.1"]}})
    async with relay(config) as here, here.dial(host="127.0.0.1", path="anon") as client:
        async with asyncio.timeout(PATIENCE):
            await here.admitted.setdefault("127/anon", asyncio.Event()).wait()
        del client
        assert await here.verdict(path="127/anon") == "admitted"
        assert await here.verdict(path="anon") == UNAUTHORIZED


@on_loop
async def test_rejecting_a_client_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    cancelled = asyncio.Event()

    async def hang(_request: moq.Request, _code: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(admission, "REJECTING_SECONDS", 0.05)
    monkeypatch.setattr(moq.Request, "reject", hang)
    monkeypatch.setattr(moq.Request, "cancel", lambda _: cancelled.set())
    async with relay() as here, here.dial() as client:
        await events.wait("refused")
        async with asyncio.timeout(PATIENCE):
            await cancelled.wait()
        del client


@on_loop
async def test_the_log_has_fields_for_programs(events: Events) -> None:
    expires = int(time.time()) + 3600
    async with relay() as here:
        token = sign(publish=["a", "b", "c", "d"], subscribe=(), expires=expires)
        async with here.dial(sign(), "rooms/123" + "/x" * 500) as client:
            long = (await events.wait("admitted"))[0]
            del client
        assert await here.verdict(token) == "admitted"
        assert await here.verdict(sign(STRANGER)) == UNAUTHORIZED
        here.keys.error = UnavailableError("the key server is down")
        assert await here.verdict(sign()) == OUTAGE
        here.keys.error = ZeroDivisionError()
        assert await here.verdict(sign()) == OUTAGE
        await events.wait("ended", 2)
    assert len(vars(long)["path"]) < 300
    assert len(long.getMessage()) < 600
    assert fields(events.of("admitted")[1]) == {
        "path": "/rooms/123", "kid": "one", "expires": expires, "transport": "quic"
    }  # fmt: skip
    admitted = events.of("admitted")[1].getMessage()
    assert admitted == (
        "admitted at '/rooms/123': may publish 'a', 'b', 'c' and 1 more, may subscribe to nothing; key 'one'"
    )
    forged, down, failed = events.of("refused")
    assert fields(forged) == {"path": "/rooms/123", "reason": "bad-signature", "status": 401}
    assert fields(down) == fields(failed) == {"path": "/rooms/123", "reason": "unavailable", "status": 502}
    assert [record.levelname for record in events.of("failed")] == ["ERROR"]
    assert fields(events.of("ended")[0])["reason"] == "left"


def fields(record: logging.LogRecord) -> dict[str, object]:
    names = ("path", "kid", "expires", "transport", "reason", "status")
    return {name: vars(record)[name] for name in names if name in vars(record)}


# -- sessions that the loop has not taken


@asynccontextmanager
async def busy_loop() -> AsyncIterator[tuple[Relay, AsyncGenerator[GuardedSession]]]:
    """Run a guarded server whose loop has taken one session and is busy with it."""
    async with (
        Authenticator(PUBLIC) as authenticator,
        moq.Server("127.0.0.1:0", tls_generate=["localhost"]) as server,
        aclosing(guard(server, authenticator)) as sessions,
    ):
        here = Relay(server.local_addr.rpartition(":")[2], Keys(), moq.OriginProducer())
        async with here.dial(path="anon"):
            assert (await anext(sessions)).path == "/anon"
        yield here, sessions


@on_loop
async def test_ended_sessions_do_not_wait_for_the_loop(events: Events) -> None:
    async with busy_loop() as (here, sessions):
        for number in range(10):
            async with here.dial(path=f"anon/{number}"):
                await events.wait("admitted", number + 2)
        await events.wait("ended", 11)
        async with here.dial(path="anon/last") as client:
            async with asyncio.timeout(PATIENCE):
                session = await anext(sessions)
            assert session.path == "/anon/last"
            del client


@on_loop
async def test_a_busy_loop_is_an_outage_for_further_clients(monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    monkeypatch.setattr(admission, "MAX_UNSEEN", 2)
    async with AsyncExitStack() as clients, busy_loop() as (here, sessions):
        await events.wait("ended")
        first = await clients.enter_async_context(here.dial(path="anon/1"))
        await clients.enter_async_context(here.dial(path="anon/2"))
        await events.wait("admitted", 3)
        assert await here.verdict(path="anon/3") == OUTAGE
        assert first.session is not None
        first.session.shutdown()
        await events.wait("ended", 2)
        await clients.enter_async_context(here.dial(path="anon/4"))
        await events.wait("admitted", 4)
        async with asyncio.timeout(PATIENCE):
            assert [(await anext(sessions)).path for _ in range(2)] == ["/anon/2", "/anon/4"]


# -- forwarding


@on_loop
async def test_only_what_is_granted_is_carried() -> None:
    async with relay() as here:
        alice, viewer = sign(publish="alice", subscribe=()), sign(publish=(), subscribe=["alice/open", "mallory"])
        async with here.dial(alice) as publisher, here.dial(viewer) as watcher, here.dial(sign()) as everybody:
            kept = [
                announce(client, name)
                for client, name in (
                    (publisher, "alicex"),
                    (publisher, "mallory"),
                    (watcher, "mallory"),
                    (publisher, "alice/closed"),
                    (publisher, "alice/open"),
                )
            ]
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
            # A client may ask for paths beneath an announced name, and gets the answer that nothing is there.
            beneath = await watcher.request_broadcast("alice/open/beneath")
            with pytest.raises(MoqError):
                await beneath.subscribe_track("words")
            del kept


@on_loop
async def test_another_room_hears_nothing() -> None:
    async with (
        relay() as here,
        here.dial(sign()) as one,
        here.dial(sign(root="rooms/12"), "rooms/12") as two,
        here.dial(sign(root=""), "") as top,
    ):
        kept = announce(one, "cam")
        assert await top.announced_broadcast("rooms/123/cam")
        for name in ("cam", "3/cam", "rooms/123/cam"):
            with pytest.raises(MoqError):
                await two.request_broadcast(name)
        del kept


@on_loop
async def test_a_role_that_is_not_granted_does_not_get_the_servers_own_origin() -> None:
    origin = moq.OriginProducer()
    secret = origin.create_broadcast("secret")
    secret.announce()
    async with (
        relay(origin=origin) as here,
        here.dial(sign(subscribe=())) as publisher,
        here.dial(sign(publish=())) as viewer,
    ):
        kept = announce(viewer, "intruder"), announce(publisher, "cam")
        await viewer.announced_broadcast("cam")  # all that was announced before has been heard of
        for client, name in ((publisher, "secret"), (viewer, "secret"), (publisher, "intruder"), (publisher, "cam")):
            with pytest.raises(MoqError):
                await client.request_broadcast(name)
        for name in ("intruder", "cam"):
            with pytest.raises(MoqError):
                await origin.consume().request_broadcast(name)
        del kept


@on_loop
async def test_the_server_takes_part_through_the_hub() -> None:
    async with relay() as here, here.dial(sign()) as client:
        clock = here.hub.create_broadcast("rooms/123/clock")
        ticks = clock.publish_track("words")
        clock.announce()
        watched = await watch(client, "clock")
        await write_watched(ticks, b"tick")
        assert await read(watched) == b"tick"
        kept = announce(client, "cam")
        own = await (await here.hub.consume().announced_broadcast("rooms/123/cam")).subscribe_track("words")
        await write_watched(kept[1], b"hello")
        assert await read(own) == b"hello"
        async with withdrawing(client, "clock"):
            clock.close()


@on_loop
async def test_a_track_is_pulled_once_and_only_while_it_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    copy_group = exchange.copy_group

    async def counted(original: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
        copied.append(original.sequence)
        await copy_group(original, copy)

    monkeypatch.setattr(exchange, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(exchange, "copy_group", counted)
    async with AsyncExitStack() as clients, relay() as here:
        publisher, *viewers = [await clients.enter_async_context(here.dial(sign())) for _ in range(6)]
        _, track = kept = announce(publisher, "cam")
        for number in range(2):  # and again when they come back
            picture = f"picture {number}".encode()
            reading = [asyncio.create_task(read_until(viewer, picture)) for viewer in viewers]
            async with asyncio.timeout(PATIENCE):
                await track.used()
            group = track.create_group(number)
            group.write_frame(picture)
            group.finish()
            await asyncio.gather(*reading)
            async with asyncio.timeout(PATIENCE):
                await track.unused()
        assert copied.count(1) == 2  # into the hub, and out of it
        del kept


@on_loop
async def test_another_publisher_takes_over() -> None:
    async with relay() as here, here.dial(sign(publish=())) as viewer, here.dial(sign()) as first:
        kept = announce(first, "cam")
        watched = await watch(viewer, "cam")
        await write_watched(kept[1], b"first")
        assert await read(watched) == b"first"
        async with here.dial(sign()) as second, Tasks() as tasks:
            other = announce(second, "cam")
            tasks.start(repeat(other[1], b"second"))
            kept[0].close()
            # If the second is there in time, moq-rs moves the subscription to it; otherwise the subscription ends.
            async with asyncio.timeout(PATIENCE):
                with suppress(MoqError):
                    while (frame := await watched.read_frame()) is not None and frame.payload != b"second":
                        pass
            await read_until(viewer, b"second")
            del other


@on_loop
async def test_a_publisher_is_seen_again_when_another_one_at_its_path_leaves() -> None:
    """Which one is seen while both are there is the choice of moq-rs, also in relays."""
    async with relay() as here, here.dial(sign(publish=())) as viewer, here.dial(sign()) as first, Tasks() as tasks:
        kept = announce(first, "cam")
        tasks.start(repeat(kept[1], b"first"))
        for _ in range(3):
            await read_until(viewer, b"first")
            async with here.dial(sign()) as second, Tasks() as others:
                other = announce(second, "cam")
                others.start(repeat(other[1], b"second"))
                await watch(second, "cam")
                del other
        await read_until(viewer, b"first")
        del kept


@on_loop
async def test_datagrams_and_old_groups_are_carried() -> None:
    async with relay() as here, here.dial(sign()) as publisher, here.dial(sign(publish=())) as viewer:
        _, track = kept = announce(publisher, "cam")
        old = track.dynamic()
        watched = await watch(viewer, "cam")
        await track.used()
        async with asyncio.timeout(PATIENCE), Tasks() as tasks:
            tasks.start(repeat_datagram(track, b"soon", 7))
            datagram = await watched.recv_datagram()
        assert datagram is not None
        assert (datagram.payload, datagram.timestamp_us) == (b"soon", 7)

        live = track.create_group(9)
        live.write_frame(b"now", 11)
        live.finish()
        broadcast = await viewer.announced_broadcast("cam")
        fetching = asyncio.create_task(broadcast.fetch_group("words", 3))
        request = await old.requested_group()
        assert request.sequence == 3
        group = request.accept()
        group.write_frame(b"then")
        group.finish()
        async with asyncio.timeout(PATIENCE):
            assert [frame.payload async for frame in await fetching] == [b"then"]
        del kept


@on_loop
async def test_a_session_publishes_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_BROADCASTS", 2)
    async with relay() as here, here.dial(sign()) as one, here.dial(sign()) as two:
        kept = [announce(one, name) for name in ("a", "b")]
        for name in ("a", "b"):
            await two.announced_broadcast(name)
        kept += [announce(one, "c"), announce(two, "d")]
        await one.announced_broadcast("d")
        with pytest.raises(MoqError):
            await two.request_broadcast("c")
        async with withdrawing(two, "a"):
            kept[0][0].close()
        kept.append(announce(one, "e"))
        await two.announced_broadcast("e")


@on_loop
async def test_a_burst_of_announcements_stays_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_BROADCASTS", 3)
    async with relay() as here, here.dial(sign()) as one, here.dial(sign()) as two:
        kept = [announce(one, f"{number}") for number in range(50)]
        seen: set[str] = set()
        async with asyncio.timeout(PATIENCE), two.announced() as updates:
            async for update in updates:
                seen.add(update.prefix)
                if len(seen) == 3:
                    break
        kept.append(announce(two, "last"))
        await one.announced_broadcast("last")
        found = []
        for number in range(50):
            with suppress(MoqError):
                found.append(await two.request_broadcast(f"{number}"))
        assert len(found) == 3
        del kept


@on_loop
async def test_a_broadcast_has_no_more_tracks_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_TRACKS", 2)
    async with relay() as here, here.dial(sign()) as publisher, here.dial(sign(publish=())) as viewer:
        broadcast = publisher.create_broadcast("cam")
        tracks = {name: broadcast.publish_track(name) for name in ("a", "b", "c")}
        broadcast.announce()
        watched = await viewer.announced_broadcast("cam")
        kept = []
        for name in ("a", "b"):
            kept.append(await watched.subscribe_track(name))
            await write_watched(tracks[name], name.encode())
            assert await read(kept[-1]) == name.encode()
        with pytest.raises(MoqError):
            await read(await watched.subscribe_track("c"))
        del kept


@on_loop
async def test_a_track_has_no_more_fetches_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_FETCHES", 2)
    async with relay() as here, here.dial(sign()) as publisher, here.dial(sign(publish=())) as viewer:
        _, track = kept = announce(publisher, "cam")
        old = track.dynamic()
        watched = await watch(viewer, "cam")
        await track.used()
        broadcast = await viewer.announced_broadcast("cam")
        waiting = [asyncio.create_task(broadcast.fetch_group("words", number)) for number in range(2)]
        requests = [await old.requested_group() for _ in waiting]
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(MoqError):
                await broadcast.fetch_group("words", 2)
        for request in requests:
            group = request.accept()
            group.write_frame(b"then")
            group.finish()
        for fetched in await asyncio.gather(*waiting):
            assert [frame.payload async for frame in fetched] == [b"then"]
        del kept, watched


# -- the end of sessions


@on_loop
async def test_a_session_ends_when_the_clock_is_set_forward(monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    monkeypatch.setattr(door, "CLOCK_SECONDS", 0.02)
    ahead = 0
    async with relay(clock=lambda: 1_000_000_000 + ahead) as here, here.dial(sign(expires=1_000_003_600)) as client:
        await events.wait("admitted")
        ahead = 3600
        assert client.session is not None
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(MoqError) as caught:
                await client.session.closed()
        assert moq.is_auth(caught.value)
        assert fields((await events.wait("ended"))[0])["reason"] == "expired"


@on_loop
async def test_a_session_stays_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    now, asked, enough = 1_000_000_000.0, 0, asyncio.Event()

    def clock() -> float:
        nonlocal asked
        asked += 1
        if asked > 5:
            enough.set()
        return now

    monkeypatch.setattr(door, "CLOCK_SECONDS", 0.02)
    async with relay(clock=clock) as here, here.dial(sign(expires=1_000_000_001)) as client:
        await events.wait("admitted")
        now -= 1000
        asked = 0
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
        assert not events.of("ended")
        del client


@on_loop
async def test_a_session_ends_with_its_token(events: Events) -> None:
    began: float | None = None  # the time stands still until both are admitted, however long that takes

    def clock() -> float:
        return 1_000_000_000.0 if began is None else 1_000_000_000.0 + time.monotonic() - began

    async with relay(clock=clock) as here:
        expires = 1_000_000_001
        async with here.dial(sign()) as viewer, here.dial(sign(expires=expires)) as client:
            kept = announce(client, "cam")
            await viewer.announced_broadcast("cam")
            await events.wait("admitted", 2)
            assert client.session is not None
            async with withdrawing(viewer, "cam"):
                began = time.monotonic()
                async with asyncio.timeout(door.CLOCK_SECONDS - 5):  # not only when it looks whether the clock was set
                    with pytest.raises(MoqError) as caught:
                        await client.session.closed()
            assert moq.is_auth(caught.value)
            assert clock() >= expires
            del kept
        for session in here.sessions:
            await session.closed()


@on_loop
async def test_leaving_the_loop_ends_everything() -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as clients:
        async with relay() as here:
            client = await clients.enter_async_context(here.dial(sign()))
            kept = announce(client, "cam")
            await here.hub.consume().announced_broadcast("rooms/123/cam")
        assert client.session is not None
        async with asyncio.timeout(PATIENCE):
            with suppress(MoqError):
                await client.session.closed()
        del kept
    assert asyncio.all_tasks() == before


@on_loop
async def test_the_loop_ends_with_the_server() -> None:
    before = asyncio.all_tasks()
    async with Authenticator(PUBLIC) as authenticator:
        server = moq.Server("127.0.0.1:0", tls_generate=["localhost"])
        with pytest.raises(RuntimeError, match="not listening"):
            await anext(guard(server, authenticator))
        async with server:
            sessions = guard(server, authenticator)
            port = server.local_addr.rpartition(":")[2]
            async with Relay(port, Keys(), moq.OriginProducer()).dial(path="anon"):
                session = await anext(sessions)
        async with asyncio.timeout(PATIENCE):
            assert [session async for session in sessions] == []
            await session.closed()
    assert asyncio.all_tasks() == before


# -- under load


async def fire(count: int) -> None:
    """Dial from many valid and invalid clients while the key server fails and recovers, and check every result."""
    expires = int(time.time()) + 3600
    kinds: list[tuple[str, Callable[[str], str]]] = [
        ("admitted", lambda kid: sign(KEY.with_kid(kid), expires=expires)),
        (UNAUTHORIZED, lambda kid: sign(STRANGER.with_kid(kid))),
        (UNAUTHORIZED, lambda kid: sign(KEY.with_kid(kid), expires=1)),
        (UNAUTHORIZED, lambda _: ""),
    ]
    async with relay() as here:

        async def dial(number: int) -> tuple[str | int, str | int]:
            verdict, make = kinds[number % len(kinds)]
            kid = f"one-{number}"
            found = await here.verdict(make(kid), f"rooms/123/{number}")
            return found, OUTAGE if here.keys.answers.get(kid) is not None else verdict

        here.keys.open.clear()
        clients = asyncio.gather(*map(dial, range(count)))
        await here.keys.asked.wait()
        here.keys.flip_after = 7
        here.keys.open.set()
        verdicts = await clients
        assert [found for found, _ in verdicts] == [right for _, right in verdicts]
        assert {right for _, right in verdicts} == {"admitted", UNAUTHORIZED, OUTAGE}
        assert len(here.sessions) == sum(right == "admitted" for _, right in verdicts)
        here.keys.flip_after, here.keys.error = 0, None
        assert await here.verdict(sign()) == "admitted"


@on_loop
async def test_under_fire() -> None:
    before = asyncio.all_tasks()
    await fire(40)
    assert asyncio.all_tasks() == before


@pytest.mark.slow
@pytest.mark.timeout(600)
@on_loop
async def test_under_heavy_fire() -> None:
    """After 500 clients at a time, no task is left, and the second round uses no more memory than the first."""
    before = asyncio.all_tasks()
    await fire(500)
    gc.collect()
    tracemalloc.start()
    await fire(500)
    gc.collect()
    assert asyncio.all_tasks() == before
    assert tracemalloc.get_traced_memory()[0] < 2 * 1024 * 1024
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
@on_loop
async def test_many_sessions_end_with_their_tokens() -> None:
    async with relay() as here:
        expires = int(time.time()) + 10

        async def stay(number: int) -> float:
            async with here.dial(sign(expires=expires), f"rooms/123/{number}") as client:
                assert client.session is not None
                with pytest.raises(MoqError) as caught:
                    await client.session.closed()
                assert moq.is_auth(caught.value)
                return time.time()

        ends = await asyncio.gather(*map(stay, range(500)))
        assert len(here.sessions) == 500
        assert all(0 <= end - expires < 2 for end in ends)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says there how much memory is resident")
@on_loop
async def test_a_relay_does_not_grow(tmp_path: Path) -> None:
    """Measure the memory of moq-rs, which tracemalloc does not see, in a process without the clients."""
    KEY.to_public().to_file(tmp_path / "key.jwk")
    config = tmp_path / "relay.toml"
    config.write_text(
        f"[server]\nbind = '127.0.0.1:0'\ntls.generate = 'localhost'\n[auth]\nkey = '{tmp_path}/key.jwk'\n"
    )
    command = sys.executable, str(EXAMPLES / "relay.py"), str(config)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    port = (await process.stdout.readline()).decode().strip().rpartition(":")[2]
    reading = asyncio.create_task(process.stdout.read())
    clients = Relay(port, Keys(), moq.OriginProducer())

    async def come_and_go(number: int) -> None:
        if number % 2:
            assert await clients.verdict(path=f"rooms/123/{number}") == UNAUTHORIZED
            return
        async with clients.dial(sign()) as client:
            kept = announce(client, f"cam-{number}")
            await client.announced_broadcast("clock")
            del kept

    def size() -> int:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20

    async def wave() -> int:
        await asyncio.gather(*map(come_and_go, range(100)))
        return size()

    try:
        async with clients.dial(sign()) as standing:
            kept = announce(standing, "clock")
            sizes = [await wave() for _ in range(8)]
            del kept
    finally:
        process.terminate()
    await reading
    assert await process.wait() == 0
    assert sizes[-1] - sizes[3] < 10, sizes  # MiB
