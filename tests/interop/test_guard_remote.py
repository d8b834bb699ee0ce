"""The guard with an auth server, over QUIC on loopback: its requests, what it enforces, and the end of sessions."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

pytest.importorskip("moq", exc_type=ImportError, reason="moq-rs is not built for this interpreter")

import moq

from moq_token import Claims, Key
from moq_token.auth import RemoteAuthenticator, RemoteConfig
from moq_token.contract import Event, Request
from moq_token.contract import Grant as RemoteGrant
from moq_token.errors import RefusedError
from moq_token.integrations.moq import GuardedSession, admission, guard
from moq_token.integrations.moq.view import View
from moq_token.server import AuthServer, Grant
from moq_token.server.listen import listening, parse_address
from tests.interop.peers import auth_server
from tests.sources_server import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.interop.peers import CommandLine

MoqError = cast("type[Exception]", moq.Error)
KEY = Key.generate("EdDSA", "one")
PATIENCE = 60  # seconds
OUTAGE = 502 + 64  # how far the transport's codes lie above those of HTTP
RELAY = Path(__file__).parents[2] / "examples" / "relay.py"


class Auth:
    """An auth server whose policy a test can replace, with the requests that it received."""

    def __init__(self) -> None:
        self.grant: Callable[[Request], Grant] = lambda _: Grant(publish=["**"], subscribe=["**"])
        self.requests: list[Request] = []
        self._changed = asyncio.Event()
        self._server = AuthServer(self.decide)

    async def handle(self, request: Any) -> Any:  # noqa: ANN401 - what the server has
        answer = await self._server.handle(request)
        self.requests.append(Request.from_json(request.body))
        self._changed.set()
        return answer

    async def decide(self, request: Request) -> Grant:
        return self.grant(request)

    async def told(self, event: Event, count: int = 1) -> Request:
        """Wait for the event of that number."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [request for request in self.requests if request.event is event]) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]


class Relay:
    def __init__(self, port: str, auth: Auth, sessions: asyncio.Queue[GuardedSession], url: str) -> None:
        self.auth = auth
        self.auth_url = url
        self.sessions = sessions
        self._port = port

    def dial(self, path: str = "rooms/1", query: str = "", scheme: str = "https") -> moq.Client:
        return moq.connect(
            f"{scheme}://localhost:{self._port}/{path}{query}",
            tls_verify=False,
            websocket_enabled=False,
            reconnect=False,
            publish=moq.OriginProducer(),
            subscribe=moq.OriginProducer(),
        )

    async def admitted(self) -> GuardedSession:
        async with asyncio.timeout(PATIENCE):
            return await self.sessions.get()


@asynccontextmanager
async def relay(hub: moq.OriginProducer | None = None, config: RemoteConfig | None = None) -> AsyncIterator[Relay]:
    auth = Auth()
    async with listening(auth.handle, parse_address("127.0.0.1:0")) as running:
        url = f"http://{running.address}/"
        async with (
            RemoteAuthenticator(config or RemoteConfig(url), node="relay-1") as authenticator,
            moq.Server("127.0.0.1:0", tls_generate=["localhost"]) as listener,
        ):
            sessions: asyncio.Queue[GuardedSession] = asyncio.Queue()

            async def collect() -> None:
                async with aclosing(guard(listener, authenticator, hub=hub)) as guarded:
                    async for session in guarded:
                        sessions.put_nowait(session)

            task = asyncio.create_task(collect())
            try:
                yield Relay(listener.local_addr.rpartition(":")[2], auth, sessions, url)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def ending(client: moq.Client) -> int | str | None:
    """Wait until the session is closed, and return "unauthorized" or the code."""
    try:
        async with asyncio.timeout(PATIENCE), client:
            assert client.session is not None
            await client.session.closed()
    except MoqError as error:
        details = moq.protocol_error(error)
        return "unauthorized" if moq.is_auth(error) or details is None else details.code
    return None


def announce(client: moq.Client | moq.OriginProducer, name: str) -> tuple[moq.BroadcastProducer, moq.TrackProducer]:
    broadcast = client.create_broadcast(name)
    track = broadcast.publish_track("words")
    broadcast.announce()
    return broadcast, track


async def finds(client: moq.Client, name: str) -> bool:
    """Return whether a track of a broadcast is available. Paths beneath an announced name exist, but have no tracks."""
    try:
        broadcast = await client.request_broadcast(name)
        await broadcast.subscribe_track("words")
    except MoqError:
        return False
    return True


@on_loop
async def test_what_the_auth_server_is_told() -> None:
    async with relay() as here:
        async with here.dial("rooms/a%20b/%C3%A9", "?jwt=a%2Eb&x=1") as client:
            session = await here.admitted()
            assert isinstance(session.grant, RemoteGrant)
            assert session.path == "/rooms/a%20b/%C3%A9"
            assert session.grant.root == "rooms/a%20b/%C3%A9"
            kept = announce(client, "cam")
            del kept
        end = await here.auth.told(Event.END)
        connect = here.auth.requests[0]
        assert (connect.node, connect.transport, connect.server_name) == ("relay-1", "quic", "localhost")
        assert (connect.path, connect.query) == ("/rooms/a%20b/%C3%A9", "jwt=a%2Eb&x=1")
        assert len(connect.id) == 32
        assert (end.id, end.path, end.query, end.reason) == (connect.id, connect.path, connect.query, "closed")
        assert end.usage is not None
        assert end.usage.sent > 0
        assert end.duration is not None
        async with here.dial("", scheme="moqt"):
            await here.admitted()
        assert (await here.auth.told(Event.CONNECT, 2)).path == "/"
        assert (await here.auth.told(Event.CONNECT, 2)).query is None
        await here.auth.told(Event.END, 2)
    assert [request.event for request in here.auth.requests] == ["connect", "end"] * 2


@on_loop
async def test_patterns_are_enforced() -> None:
    def decide(request: Request) -> Grant:
        if request.query == "publisher":
            return Grant(publish=["alice", "x/*", "cam*.hang", "deep/**/leaf"])
        return Grant(subscribe=["**"] if request.query == "all" else ["*.hang", "alice"])

    names = ["alice", "x", "x/1", "x/1/2", "cam1.hang", "cam", "bob", "deep/leaf", "deep/a/b/leaf", "deep/a"]
    async with relay() as here:
        here.auth.grant = decide
        async with here.dial(query="?publisher") as publisher, here.dial(query="?all") as viewer, here.dial() as some:
            kept = [announce(publisher, name) for name in names]
            for client, expected in (
                (viewer, ["alice", "x/1", "cam1.hang", "deep/leaf", "deep/a/b/leaf"]),
                (some, ["alice", "cam1.hang"]),
            ):
                for name in expected:  # they may come in another order
                    await client.announced_broadcast(name)
                assert [name for name in names if await finds(client, name)] == expected
            del kept


@on_loop
async def test_root_and_mounts() -> None:
    hub = moq.OriginProducer()
    async with relay(hub) as here:
        here.auth.grant = lambda _: Grant(publish=["**"], subscribe=["**"], root="home", mounts={"svc": "pid/room"})
        kept = [announce(hub, name) for name in ("pid/room/c", "home/own", "home/svc/hidden", "pid/other")]
        async with here.dial() as client:
            await client.announced_broadcast("svc/c")
            await client.announced_broadcast("own")
            mine = [announce(client, name) for name in ("svc/mine", "mine")]
            await hub.consume().announced_broadcast("home/mine")
            names = ["own", "svc/c", "svc/hidden", "c", "svc/mine", "pid/other"]
            assert [name for name in names if await finds(client, name)] == ["own", "svc/c"]
            del kept
            with pytest.raises(MoqError):
                await hub.consume().request_broadcast("pid/room/mine")
            del mine


@pytest.mark.parametrize(
    ("refusal", "verdict"),
    [(RefusedError("suspended", reason="suspended"), "unauthorized"), (ZeroDivisionError(), OUTAGE)],
)
@on_loop
async def test_who_does_not_get_in(refusal: Exception, verdict: str | int, caplog: pytest.LogCaptureFixture) -> None:
    def decide(_: Request) -> Grant:
        raise refusal

    caplog.set_level(logging.CRITICAL, "moq_token.server")
    async with relay() as here:
        here.auth.grant = decide
        assert await ending(here.dial()) == verdict
        assert [request.event for request in here.auth.requests] == ["connect"]


@on_loop
async def test_a_grant_that_cannot_be_used_is_dropped() -> None:
    async with relay() as here:
        here.auth.grant = lambda _: Grant(publish=["**"], mounts={str(number): "x" for number in range(101)})
        assert await ending(here.dial()) == "unauthorized"
        assert (await here.auth.told(Event.END)).reason == "dropped"


@on_loop
async def test_who_was_admitted_but_has_no_session_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_UNSEEN", 0)
    async with relay() as here:
        assert await ending(here.dial()) == OUTAGE
        assert (await here.auth.told(Event.END)).reason == "dropped"


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        (Grant(publish=["**"], subscribe=["a/**"]), "grant narrowed"),
        (Grant(publish=["**"]), "grant narrowed"),
        (Grant(publish=["**"], subscribe=["**"], root="elsewhere"), "root changed"),
        (Grant(publish=["**"], subscribe=["**"], mounts={"a": "b"}), "mounts changed"),
        (Grant(publish=["**"], subscribe=["**"], peer=True), "peer changed"),
        (None, "refused"),
    ],
)
@on_loop
async def test_a_recheck_ends_a_session_that_may_do_less(grant: Grant | None, reason: str) -> None:
    def decide(_: Request) -> Grant:
        if grant is None:
            raise RefusedError("no")
        return grant

    async with relay() as here:
        waiting = asyncio.create_task(ending(here.dial()))
        session = await here.admitted()
        here.auth.grant = lambda _: Grant(publish=["**"], subscribe=["**"], tier="gold")
        session.nudge()
        await here.auth.told(Event.REVALIDATE)
        here.auth.grant = decide
        session.nudge()
        assert await waiting == "unauthorized"
        assert (await here.auth.told(Event.END)).reason == reason
    assert [request.event for request in here.auth.requests] == ["connect", "revalidate", "revalidate", "end"]


@on_loop
async def test_a_session_ends_with_its_grant_also_in_an_outage() -> None:
    expires = 0

    def admit(_: Request) -> Grant:
        nonlocal expires
        expires = int(time.time()) + 5
        return Grant(publish=["**"], expires=expires)

    def down(_: Request) -> Grant:
        raise ZeroDivisionError

    async with relay() as here:
        here.auth.grant = admit
        waiting = asyncio.create_task(ending(here.dial()))
        session = await here.admitted()
        here.auth.grant = down
        session.nudge()
        await here.auth.told(Event.REVALIDATE)
        assert await waiting == "unauthorized"
        assert time.time() >= expires
        assert (await here.auth.told(Event.END)).reason == "expired"


@on_loop
async def test_a_shutdown_ends_every_session_once() -> None:
    before = asyncio.all_tasks()
    async with relay() as here:
        waiting = [asyncio.create_task(ending(here.dial())) for _ in range(5)]
        for _ in range(5):
            await here.admitted()
    await asyncio.gather(*waiting)
    ends = [request for request in here.auth.requests if request.event is Event.END]
    assert [end.reason for end in ends] == ["shutdown"] * 5
    assert len({end.id for end in ends}) == 5
    assert asyncio.all_tasks() == before


@on_loop
async def test_rules_for_everybody_need_no_auth_server() -> None:
    async with relay(config=RemoteConfig(None, [], ["anon/**"])) as here:
        async with here.dial("anon/x"):
            assert (await here.admitted()).grant.publish is not None
        assert await ending(here.dial("anon/x", "?jwt=x")) == "unauthorized"
        assert await ending(here.dial("other")) == "unauthorized"
        assert here.auth.requests == []


@pytest.mark.rust
def test_with_the_auth_server_of_the_originals(moq_auth: CommandLine, tmp_path: Path) -> None:
    KEY.to_public().to_file(tmp_path / "one.jwk")
    token = KEY.sign(Claims("rooms", publish=["*/cam"], subscribe="", expires="1h"))

    async def visit(url: str) -> None:
        async with RemoteAuthenticator(RemoteConfig(url)) as authenticator:

            def dialed(name: str, query: str | None) -> Request:
                return Request(
                    id=name, event=Event.CONNECT, node="", transport="quic", path="/rooms/1", query=query,
                    remote="127.0.0.1:7",
                )  # fmt: skip

            session = await authenticator.connect(dialed("a", f"jwt={token}"))
            assert [session.grant.can_publish(name) for name in ("cam", "x", "")] == [True, False, False]
            assert session.grant.can_subscribe("any/thing")
            waiting = asyncio.create_task(session.ended())
            # The limit counts live sessions, so that it shows that ends are understood.
            with pytest.raises(RefusedError):
                await authenticator.connect(dialed("b", f"jwt={token}"))
            session.close("closed")
            assert await waiting == "closed"
        async with RemoteAuthenticator(RemoteConfig(url)) as authenticator:
            session = await authenticator.connect(dialed("c", f"jwt={token}"))
            (tmp_path / "one.jwk").unlink()
            async with asyncio.timeout(PATIENCE):
                assert await session.ended() == "refused"
            session.close("closed")
            for query in (f"jwt={token}", None):
                with pytest.raises(RefusedError):
                    await authenticator.connect(dialed("d", query))

    limits = ("--revalidate", "1s", "--expires", "1h", "--limit-token", "1")
    with auth_server(moq_auth, tmp_path / "s", "--key-dir", tmp_path, *limits):
        asyncio.run(visit(f"unix://{tmp_path}/s"))


# -- what a session can see


@pytest.mark.parametrize(
    ("name", "path"),
    [("a", "r/a"), ("/a//b/", "r/a/b"), ("", "r"), ("m", None), ("m/x", None), ("mx", "r/mx")],
)
def test_where_what_is_published_goes(name: str, path: str | None) -> None:
    assert View(Grant(publish=["**"], root="/r/"), {"/m/": "x"}).published(name) == path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("r/a", ["a"]),
        ("r/m/a", []),
        ("x", ["m"]),
        ("x/y", ["m/y"]),
        ("xy", []),
        ("r", [""]),
        ("r/n/q", ["n/q", "k"]),
        ("other", []),
    ],
)
def test_what_is_seen_where(path: str, names: list[str]) -> None:
    assert View(Grant(subscribe=["**"], root="r"), {"m": "x", "k": "r/n/q"}).seen(path) == names


def test_grants_count_for_the_names_that_the_client_uses() -> None:
    view = View(Grant(subscribe=["m/*"], publish=["p"], root="r"), {"m": "x"})
    assert (view.seen("x/y"), view.seen("x/y/z"), view.seen("r/y")) == (["m/y"], [], [])
    assert (view.published("p"), view.published("q")) == ("r/p", None)


# -- examples/relay.py


@on_loop
async def test_the_example_relay_reports_the_ends_of_its_sessions(tmp_path: Path) -> None:
    auth = Auth()
    async with listening(auth.handle, parse_address("127.0.0.1:0")) as running:
        config = tmp_path / "relay.toml"
        url = json.dumps(f"http://{running.address}")
        listen = '[listen]\nbind = "localhost:0"\n[listen.tls]\ngenerate = ["localhost"]\n'
        config.write_text(f"{listen}[auth]\nurl = {url}\n")
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(RELAY), str(config), stdout=subprocess.PIPE, env=os.environ
        )
        assert process.stdout is not None
        port = (await process.stdout.readline()).decode().strip().rpartition(":")[2]
        waiting = asyncio.create_task(ending(Relay(port, auth, asyncio.Queue(), "").dial()))
        await auth.told(Event.CONNECT)
        while b"admitted" not in (line := await process.stdout.readline()):
            assert line, "it ended"
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        await waiting
        assert (await auth.told(Event.END)).reason == "shutdown"
