"""The real relays of both generations ask the auth server of this package about clients that dial over QUIC.

`make interop` builds them, and names them in RUST_MOQ_RELAY (0.14) and RUST_MOQ_RELAY_SECOND (0.15 and later).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import moq as moq_rs
import pytest

from moq_token import Algorithm, Claims, Key, RefusedError
from moq_token.server import AuthServer, Cap, CapKind, Grant, Policy, Request
from moq_token.server.listen import TcpAddress, UnixAddress, listening, server_tls
from tests.certificates import Authority
from tests.interop.peers import missing
from tests.interop.relays import BAD_GATEWAY, MoqError, client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from moq_token.server.http import HttpRequest, HttpResponse
    from moq_token.server.listen import Address

pytestmark = [pytest.mark.rust, pytest.mark.timeout(120)]

_APP_CODES = 64  # the transport's codes lie this far above those of HTTP
OUTAGE = BAD_GATEWAY + _APP_CODES
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LISTENING = re.compile(r"listening addr=.*:(\d+) kind=\"quic\"")
SECONDS = 30.0


@pytest.fixture(scope="session")
def second() -> str:
    path = os.environ.get("RUST_MOQ_RELAY_SECOND")
    if not path:
        missing("a relay from 0.15 on, whose path is in RUST_MOQ_RELAY_SECOND")
    return path


@pytest.fixture(scope="session")
def first() -> str:
    path = os.environ.get("RUST_MOQ_RELAY")
    if not path:
        missing("a relay 0.14, whose path is in RUST_MOQ_RELAY")
    return path


@contextmanager
def relay(command: str, url: str, directory: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a relay that asks the auth server at a URL, and yield the URL to dial."""
    is_first = "0.14" in subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    arguments = (
        ["--server-bind", "127.0.0.1:0", "--tls-generate", "localhost", "--auth-api", url]
        if is_first
        else ["--listen", "127.0.0.1:0", "--listen-tls-generate", "localhost", "--stats-node", "n", "--auth-url", url]
    )
    log = directory / "relay.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [command, *arguments, *more],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            until = time.monotonic() + SECONDS
            while (found := LISTENING.search(COLOUR.sub("", log.read_text()))) is None:
                assert time.monotonic() < until, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield process, f"https://127.0.0.1:{found[1]}"
        finally:
            process.kill()


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
            details = moq_rs.protocol_error(error)
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
        details = moq_rs.protocol_error(error)
        return None if details is None else details.code


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def key(tmp_path: Path) -> Key:
    made = Key.generate(Algorithm.EDDSA, "pair")
    (tmp_path / "keys").mkdir()
    made.to_public().to_file(tmp_path / "keys" / "pair.jwk")
    return made


def token(key: Key, seconds: float = 600, **claims: Any) -> str:  # noqa: ANN401 - those of a token
    return key.sign(
        Claims(**{"root": "room", "publish": "", "subscribe": "", **claims, "expires": int(time.time() + seconds)})
    )


def url_of(address: Address, userinfo: str = "") -> str:
    return f"unix://{address.path}" if isinstance(address, UnixAddress) else f"http://{userinfo}{address}/"


# -- relays from 0.15 on


@pytest.mark.parametrize("kind", ["tcp", "unix", "basic"])
def test_admitted_and_refused(second: str, key: Key, tmp_path: Path, kind: str) -> None:
    async def test() -> None:
        secret = "relay:pa ss" if kind == "basic" else None
        server = AuthServer(Policy(tmp_path / "keys", public_subscribe=["lobby/**"]), secret=secret)
        asked = Asked(server)
        where = UnixAddress(str(tmp_path / "auth.sock")) if kind == "unix" else TcpAddress("127.0.0.1", 0)
        userinfo = "relay:pa%20ss@" if kind == "basic" else ""
        async with asked_at(asked, where) as address:
            with relay(second, url_of(address, userinfo), tmp_path) as (_, base):
                async with dialed(f"{base}/room/1?jwt={token(key)}"), dialed(f"{base}/lobby"):
                    await asked.until(lambda: asked.count("connect") == 2)
                    assert len(server.sessions) == 2
                await asked.until(lambda: asked.count("end") == 2)
                assert len(server.sessions) == 0
                for path in (
                    "/room",
                    f"/room?jwt={token(key)[:-4]}",
                    f"/other?jwt={token(key)}",
                    f"/room?jwt={token(key, -5)}",
                ):
                    assert await refused(base + path) != OUTAGE
                assert len(server.sessions) == 0

    run(test)


def test_tls_with_the_certificate_of_the_relay(second: str, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    tls = server_tls(*authority.issue("server", "127.0.0.1"), authority.root)

    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"])))
        async with listening(asked.handle, TcpAddress("127.0.0.1", 0), tls) as running:
            for name, issuer in (("relay", authority), ("other", stranger)):
                cert, key = issuer.issue(name, "127.0.0.1")
                arguments = ["--connect-tls-root", authority.root, "--connect-tls-cert", cert, "--connect-tls-key", key]
                with relay(second, f"https://{running.address}/", tmp_path, *arguments) as (_, base):
                    if issuer is authority:
                        async with dialed(f"{base}/room"):
                            await asked.until(lambda: asked.count("connect") == 1)
                    else:
                        assert await refused(f"{base}/room") == OUTAGE

    run(test)


def test_a_wrong_secret_is_an_outage(second: str, tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"]), secret="relay:right"))
        async with asked_at(asked) as address:
            with relay(second, url_of(address, "relay:wrong@"), tmp_path) as (_, base):
                assert await refused(f"{base}/room") == OUTAGE

    run(test)


def test_expired_to_the_second(second: str, key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(tmp_path / "keys")))
        async with asked_at(asked) as address:
            with relay(second, url_of(address), tmp_path) as (_, base):
                ends = int(time.time()) + 4
                signed = key.sign(Claims("room", "", "", expires=ends))
                async with dialed(f"{base}/room?jwt={signed}") as session:
                    _, closed = await session.closed()
                    assert ends - 0.1 <= closed < ends + 1
                await asked.until(lambda: asked.ends() == ["expired"])

    run(test)


def test_rechecked_refused_and_narrowed(second: str, tmp_path: Path) -> None:
    """A re-check repeats the question; a refusal or a smaller grant ends the session."""

    async def test() -> None:
        verdict: dict[str, str] = {}

        async def decide(request: Request) -> Grant:
            now = verdict.get(request.path, "")
            if now == "refuse":
                raise RefusedError("suspended", reason="suspended")
            role = {"subscribe": ["a/**"]} if now == "narrow" else {"publish": ["**"], "subscribe": ["**"]}
            return Grant(**role, expires=int(time.time()) + 60, revalidate=1)  # type: ignore[arg-type]

        asked = Asked(AuthServer(decide))
        async with asked_at(asked) as address:
            with relay(second, url_of(address), tmp_path) as (_, base):
                async with (
                    dialed(f"{base}/refuse") as one,
                    dialed(f"{base}/narrow") as two,
                    dialed(f"{base}/stay") as three,
                ):
                    await asked.until(lambda: asked.count("revalidate") >= 3)
                    assert one.is_up
                    assert two.is_up
                    verdict.update({"/refuse": "refuse", "/narrow": "narrow"})
                    await one.closed()
                    await two.closed()
                    await asked.until(lambda: asked.count("end") == 2)
                    assert sorted(map(str, asked.ends())) == ["grant narrowed", "refused"]
                    assert three.is_up
                    assert len(asked.server.sessions) == 1

    run(test)


def test_an_outage_is_survived_until_the_grant_ends_and_not_longer(second: str, tmp_path: Path) -> None:
    async def test() -> None:
        seconds = {"/short": 4, "/long": 60}
        ends: dict[str, int] = {}

        async def decide(request: Request) -> Grant:
            ends[request.path] = int(time.time()) + seconds[request.path]
            return Grant(subscribe=["**"], expires=ends[request.path], revalidate=1)

        asked = Asked(AuthServer(decide))
        async with asked_at(asked) as address:
            with relay(second, url_of(address), tmp_path) as (_, base):
                async with dialed(f"{base}/short") as short, dialed(f"{base}/long") as long:
                    await asked.until(lambda: asked.count("revalidate") >= 2)
                    asked.is_out = True
                    _, closed = await short.closed()
                    assert ends["/short"] - 0.1 <= closed < ends["/short"] + 1
                    assert long.is_up
                    asked.is_out = False
                    seen = asked.count("revalidate")
                    await asked.until(lambda: asked.count("revalidate") > seen)
                    assert long.is_up

    run(test)


def test_a_restart_loses_no_session(second: str, key: Key, tmp_path: Path) -> None:
    """The new server learns of the sessions from their re-checks, even if they exceed a limit."""
    count = 40

    async def test() -> None:
        def fresh() -> Asked:
            policy = Policy(tmp_path / "keys", expires="1m", revalidate="2s")
            return Asked(AuthServer(policy, caps={CapKind.REMOTE: Cap(count)}))

        signed = token(key)
        before, after = fresh(), fresh()
        sessions: list[Any] = []
        # Not a port: while nobody listens on it, another process could take it.
        async with asked_at(before, UnixAddress(str(tmp_path / "auth.sock"))) as address:
            context = relay(second, url_of(address), tmp_path)
            _, base = context.__enter__()
            try:
                for _ in range(count):
                    entered = dialed(f"{base}/room?jwt={signed}")
                    sessions.append((entered, await entered.__aenter__()))
                await before.until(lambda: len(before.server.sessions) == count)
                assert await refused(f"{base}/room?jwt={signed}") != OUTAGE  # the cap
            except BaseException:
                context.__exit__(None, None, None)
                raise
        try:
            async with asked_at(after, address):
                await after.until(lambda: len(after.server.sessions) == count)
                assert all(session.is_up for _, session in sessions)
                assert not after.ends()
                for entered, _ in sessions:
                    with suppress(MoqError):
                        await entered.__aexit__(None, None, None)
                await after.until(lambda: len(after.server.sessions) == 0)
        finally:
            context.__exit__(None, None, None)

    run(test)


def test_a_rotated_key_ends_its_sessions(second: str, key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        new = Key.generate(Algorithm.ES256, "new")
        new.to_public().to_file(tmp_path / "keys" / "new.jwk")
        asked = Asked(AuthServer(Policy(tmp_path / "keys", expires="1m", revalidate="1s")))
        async with asked_at(asked) as address:
            with relay(second, url_of(address), tmp_path) as (_, base):
                async with (
                    dialed(f"{base}/room?jwt={token(key)}") as old_session,
                    dialed(f"{base}/room?jwt={token(new)}") as new_session,
                ):
                    await asked.until(lambda: asked.count("revalidate") >= 2)
                    assert old_session.is_up
                    (tmp_path / "keys" / "pair.jwk").unlink()
                    await old_session.closed()
                    await asked.until(lambda: asked.ends() == ["refused"])
                    assert new_session.is_up

    run(test)


def test_the_stop_of_a_relay_ends_its_sessions(second: str, tmp_path: Path) -> None:
    async def test() -> None:
        asked = Asked(AuthServer(Policy(public_subscribe=["**"])))
        async with asked_at(asked) as address:
            with relay(second, url_of(address), tmp_path) as (process, base):
                async with dialed(f"{base}/room") as session:
                    await asked.until(lambda: asked.count("connect") == 1)
                    process.send_signal(signal.SIGTERM)
                    await session.closed()
                    await asked.until(lambda: asked.ends() == ["shutdown"])
                    assert len(asked.server.sessions) == 0

    run(test)


# -- relay 0.14


def test_the_first_generation_is_admitted_and_refused(first: str, key: Key, tmp_path: Path) -> None:
    async def test() -> None:
        Key.generate(Algorithm.HS256, "shared").to_file(tmp_path / "keys" / "shared.jwk")
        shared = Key.from_file(tmp_path / "keys" / "shared.jwk")
        policy = Policy(tmp_path / "keys", public_subscribe=["lobby/**"], expires="1m", revalidate="1s")
        asked = Asked(AuthServer(policy, share_secrets=True))
        async with asked_at(asked) as address:
            with relay(first, url_of(address), tmp_path) as (_, base):
                async with (
                    dialed(f"{base}/room?jwt={token(key)}") as one,
                    dialed(f"{base}/room?jwt={token(shared)}") as two,
                    dialed(f"{base}/lobby") as three,
                ):
                    await asked.until(lambda: len(asked.asked) >= 6)  # asked, and asked again
                    assert one.is_up
                    assert two.is_up
                    assert three.is_up
                    asked.is_out = True
                    await asyncio.sleep(1.5)
                    assert one.is_up
                    asked.is_out = False
                    (tmp_path / "keys" / "pair.jwk").unlink()
                    await one.closed()
                    assert two.is_up
                    assert three.is_up
                for path in (
                    "/room",
                    f"/room?jwt={token(key)}",
                    f"/other?jwt={token(shared)}",
                    f"/lobby?jwt={token(shared)}",
                ):
                    assert await refused(base + path) != OUTAGE

    run(test)


def test_the_first_generation_gets_no_secret_unasked(first: str, tmp_path: Path) -> None:
    async def test() -> None:
        shared = Key.generate(Algorithm.HS256, "shared")
        shared.to_file(tmp_path / "shared.jwk")
        asked = Asked(AuthServer(Policy(tmp_path / "shared.jwk")))
        async with asked_at(asked) as address:
            with relay(first, url_of(address), tmp_path) as (_, base):
                assert await refused(f"{base}/room?jwt={token(shared)}") != OUTAGE

    run(test)
