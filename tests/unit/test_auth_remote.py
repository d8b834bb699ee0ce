"""The relay's side of the contract: when it asks, that it reports each end once, and a misbehaving auth server."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from moq_token import Claims, Key, NotAdmittedError, RefusedError, UnauthorizedError, UnavailableError
from moq_token.auth import AuthConfig, Rejection, RemoteAuthenticator, RemoteConfig, remote
from moq_token.contract import Event, Request, Token, Usage
from moq_token.server import AuthServer, Policy, keys
from moq_token.server.listen import listening, parse_address
from tests.sources_server import Server, on_loop, on_virtual_loop, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sources_server import Request as HttpRequest

NOW = 1_000_000_000
SECRET = "eyJhbGciOiJIUzI1NiJ9.e30.secret-of-the-client"
CONFIG = RemoteConfig("http://127.0.0.1:1/")
ALL = {"publish": ["**"], "subscribe": ["**"]}
Answer = tuple[int, object]


def request(**members: Any) -> Request:  # noqa: ANN401 - the members of a request
    return Request(**{"id": "s1", "event": Event.END, "node": "?", "transport": "quic", "path": "/demo", **members})


class Scripted:
    """An auth server in this process, that answers as its script says; the last answer is repeated."""

    def __init__(self, *answers: Answer | Exception | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[float, dict[str, Any]]] = []

    async def send(self, document: bytes) -> tuple[int, bytes]:
        asked = json.loads(document)
        self.requests.append((asyncio.get_running_loop().time(), asked))
        if asked["event"] == "end":
            return 204, b""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer[0], json.dumps(answer[1]).encode()

    @property
    def events(self) -> list[tuple[float, str]]:
        return [(round(at, 3), asked["event"]) for at, asked in self.requests]


def authenticator(sender: remote.Sender, **options: Any) -> RemoteAuthenticator:  # noqa: ANN401 - its own options
    loop = asyncio.get_running_loop()
    clock: Callable[[], float] = lambda: NOW + loop.time()  # noqa: E731
    options = {"clock": clock, "steady": loop.time, "jitter": lambda: 1.0, **options}
    return RemoteAuthenticator(CONFIG, node="relay-1", sender=sender, **options)


def grant(expires: int | None = 60, revalidate: int | None = 1, **members: object) -> Answer:
    times = {"expires": None if expires is None else NOW + expires, "revalidate": revalidate}
    return 200, ALL | times | members


# -- one session, in simulated time


@on_virtual_loop
async def test_a_session_from_its_connect_to_its_end() -> None:
    server = Scripted(grant(), grant(), (503, None), grant(), (403, None))
    async with authenticator(server) as here:
        session = await here.connect(request(query=f"jwt={SECRET}", remote="192.0.2.1:5"))
        assert (session.path, session.grant.root) == ("/demo", "demo")
        assert await session.ended() == "refused"
        assert session.close("closed", Usage(3, 4)) == "refused"
        session.close("closed", Usage(5, 6))
    assert server.events == [
        (0, "connect"), (1, "revalidate"), (2, "revalidate"), (3, "revalidate"), (4, "revalidate"), (4, "end")
    ]  # fmt: skip
    connect, revalidate, end = (server.requests[index][1] for index in (0, 1, -1))
    assert connect == {
        "id": "s1", "event": "connect", "node": "relay-1", "transport": "quic", "remote": "192.0.2.1:5",
        "path": "/demo", "query": f"jwt={SECRET}",
    }  # fmt: skip
    assert revalidate == connect | {"event": "revalidate"}
    told = {"event": "end", "reason": "refused", "duration": 4.0, "bytes": {"sent": 3, "received": 4}}
    assert end == connect | told
    assert list(end)[:5] == ["id", "event", "reason", "duration", "bytes"]


@on_virtual_loop
async def test_a_session_that_leaves_is_reported_with_its_own_reason() -> None:
    server = Scripted(grant())
    async with authenticator(server) as here:
        session = await here.connect(request())
        waiting = asyncio.create_task(session.ended())
        await asyncio.sleep(1.5)
        assert session.close("x" * 1000) == "x" * 200
        assert await waiting == "x" * 200
    assert server.events == [(0, "connect"), (1, "revalidate"), (1.5, "end")]


@on_virtual_loop
async def test_a_recheck_that_hangs_does_not_delay_the_end() -> None:
    server = Scripted(grant(expires=8), None)
    async with authenticator(server) as here:
        session = await here.connect(request())
        assert await session.ended() == "expired"
        session.close("closed")
    assert server.events == [(0, "connect"), (1, "revalidate"), (8, "end")]


@on_virtual_loop
async def test_nudges() -> None:
    server = Scripted(grant(None, None), grant(None, None), grant(None, None, publish=["a/**"]))
    async with authenticator(server) as here:
        session = await here.connect(request())
        waiting = asyncio.create_task(session.ended())
        await asyncio.sleep(100)
        session.nudge()
        await asyncio.sleep(100)
        assert not waiting.done()
        session.nudge()
        assert await waiting == "grant narrowed"
        session.close("closed")
    assert server.events == [(0, "connect"), (100, "revalidate"), (200, "revalidate"), (200, "end")]


@on_virtual_loop
async def test_the_tier_moves_with_a_recheck() -> None:
    server = Scripted(grant(tier="gold"), grant(tier="silver"))
    async with authenticator(server) as here:
        session = await here.connect(request())
        waiting = asyncio.create_task(session.ended())
        assert session.tier == "gold"
        await asyncio.sleep(1.5)
        assert session.tier == "silver"
        session.close("closed")
        await waiting


@on_virtual_loop
async def test_a_clock_that_is_set_forward_is_noticed() -> None:
    ahead = 0
    server = Scripted(grant(3600, None))
    async with authenticator(server, clock=lambda: NOW + ahead) as here:
        session = await here.connect(request())
        waiting = asyncio.create_task(session.ended())
        await asyncio.sleep(1)
        ahead = 3600
        assert await waiting == "expired"
        assert asyncio.get_running_loop().time() <= 1 + remote.CLOCK_SECONDS


@on_virtual_loop
async def test_an_abandoned_admission_is_reported() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def send(self, document: bytes) -> tuple[int, bytes]:
            asked.set()
            await answer.wait()
            return await super().send(document)

    server = Slow(grant())
    async with authenticator(server) as here:
        waiting = asyncio.create_task(here.connect(request()))
        await asked.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        answer.set()
        await asyncio.sleep(1)
    assert waiting.cancelled()
    assert server.events == [(0, "connect"), (0, "end")]
    assert server.requests[1][1]["reason"] == "dropped"


@on_virtual_loop
async def test_ends_are_waited_for_at_the_close_but_not_for_ever() -> None:
    class Deaf(Scripted):
        async def send(self, document: bytes) -> tuple[int, bytes]:
            if b'"end"' in document:
                await asyncio.sleep(5 if b"s1" in document else 10**6)
            return await super().send(document)

    server = Deaf(grant())
    async with authenticator(server) as here:
        for name in ("s1", "s2"):
            (await here.connect(request(id=name))).close("shutdown")
    assert [(at, asked["id"]) for at, asked in server.requests if asked["event"] == "end"] == [(5, "s1")]
    assert asyncio.get_running_loop().time() == remote.END_SECONDS
    assert len(asyncio.all_tasks()) == 1


@on_virtual_loop
async def test_reports_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(remote, "MAX_ENDS", 2)
    server = Scripted(grant())
    async with authenticator(server) as here:
        for session in [await here.connect(request(id=f"{number}")) for number in range(5)]:
            session.close("closed")
    assert [event for _, event in server.events].count("end") == 2
    assert [vars(record)["event"] for record in caplog.records] == ["end-dropped"] * 3


@on_virtual_loop
async def test_a_close_in_the_middle_of_a_recheck_leaves_nothing_behind() -> None:
    async with authenticator(Scripted(grant(), None)) as here:
        session = await here.connect(request())
        waiting = asyncio.create_task(session.ended())
        await asyncio.sleep(1.5)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(RuntimeError, match="async with"):
        await here.connect(request())


# -- who gets in


@pytest.mark.parametrize(
    ("answer", "raised", "status"),
    [
        ((403, None), RefusedError, 401),
        ((401, None), RefusedError, 401),
        ((200, {}), RefusedError, 401),
        ((200, {"put": ["a"]}), RefusedError, 401),
        ((500, ALL), UnavailableError, 502),
        ((404, None), UnavailableError, 502),
        ((302, ALL), UnavailableError, 502),
        ((204, ALL["publish"]), UnavailableError, 502),
        ((200, ALL | {"expires": NOW}), UnavailableError, 502),
        ((200, ALL | {"revalidate": 1}), UnavailableError, 502),
        ((200, ALL | {"expires": NOW + 1, "revalidate": 0}), UnavailableError, 502),
        ((200, ALL | {"publish": ["a//b"]}), UnavailableError, 502),
        (UnavailableError("no connection"), UnavailableError, 502),
    ],
)
@on_virtual_loop
async def test_who_is_not_admitted_and_has_no_end(
    answer: Answer | Exception, raised: type[RefusedError | UnavailableError], status: int
) -> None:
    server = Scripted(answer)
    async with authenticator(server) as here:
        with pytest.raises(raised) as caught:
            await here.connect(request(query=f"jwt={SECRET}"))
    assert Rejection.of(caught.value).status == status
    assert server.events == [(0, "connect")]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "role", "why"),
    [
        ({"root": "a/*"}, None, "`root`"),
        ({"mounts": {"a": "x", "a/b": "y"}}, None, "`mounts`"),
        ({"mounts": {"": "x"}}, None, "`mounts`"),
        ({"mounts": {f"{number}": "x" for number in range(101)}}, None, "100 mounts"),
        ({"publish": []}, "publisher", "no publisher access"),
        ({"subscribe": []}, "subscriber", "no subscriber access"),
    ],
)
@on_virtual_loop
async def test_grants_that_no_session_can_be_made_of(members: dict[str, Any], role: str | None, why: str) -> None:
    server = Scripted(grant(**members))
    async with authenticator(server) as here:
        with pytest.raises(UnauthorizedError, match=why):
            await here.connect(request(role=role))
    assert server.events == [(0, "connect"), (0, "end")]
    assert server.requests[1][1]["reason"] == "dropped"


@on_loop
async def test_rules_for_everybody() -> None:
    config = RemoteConfig(None, ["anon/**"], ["anon/**", "*/chat"])
    async with RemoteAuthenticator(config) as here:
        session = await here.connect(request(path="/anon/room"))
        assert session.grant.can_publish("a/b")
        session.nudge()
        session.close("closed")
        session = await here.connect(request(path="/x"))
        assert (list(session.grant.publish), list(map(str, session.grant.subscribe))) == ([], ["chat"])
        session = await here.connect(request(path="/"))
        assert (session.grant.can_publish("anon/x"), session.grant.can_publish("x")) == (True, False)
        with pytest.raises(UnauthorizedError):
            await here.connect(request(path="/x/y"))
        for members in ({"query": f"a=b&jwt={SECRET}"}, {"token": Token(7, b"x")}, {"query": "jwt=x"}):
            with pytest.raises(NotAdmittedError) as caught:
                await here.connect(request(path="/anon", **members))
            assert caught.value.reason == "no-key-source"
        for query in ("jwt=", "JWT=x", "xjwt=x", "", None):
            await here.connect(request(path="/anon", query=query))


# -- over HTTP


async def connect_over_http(server: Server, path: str = "/", **members: object) -> None:
    async with RemoteAuthenticator(RemoteConfig(f"{server.url}{path}")) as here:
        (await here.connect(request(query=f"jwt={SECRET}", **members))).close("closed")


GRANT = json.dumps(ALL).encode()


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\0" * 100_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n" + GRANT,
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + GRANT,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n" + GRANT,
        b"HTTX/1.1 200 OK\r\n\r\n" + GRANT,
        reply(b" " * 300_000 + GRANT),
        reply(b"[" * 100_000),
        reply(GRANT, 302, location="/elsewhere"),
        reply(b"<html>login</html>"),
        reply(b'{"publish": ["**"], "publish": ["**"]}'),
        reply(b"\xff\xfe" + GRANT),
    ],
    ids=range(13),
)
@on_loop
async def test_hostile_answers_admit_nobody(script: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def misbehave(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(script)
        writer.close()

    async with Server() as server:
        server.scripts["/"] = misbehave
        with pytest.raises(UnavailableError) as caught:
            await connect_over_http(server)
        assert server.count("/") == 1
    shown = caplog.text + "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert len(str(caught.value)) < 500


@on_loop
async def test_nothing_secret_is_logged_or_kept_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Server() as server:
        server.scripts["/?key=hidden"] = reply(b"jwt=" + SECRET.encode(), 500, x_echo=SECRET)
        config = RemoteConfig(f"http://user:hidden@127.0.0.1:{server.port}/?key=hidden")
        async with RemoteAuthenticator(config) as here:
            with pytest.raises(UnavailableError) as caught:
                await here.connect(request(query=f"jwt={SECRET}", token=Token(0, SECRET.encode())))
        assert server.requests[0].headers["authorization"] == "Basic dXNlcjpoaWRkZW4="
        assert SECRET.encode() in server.requests[0].body
    found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(found.format()) + caplog.text + repr(config) + repr(request(query=SECRET))
    assert "the auth server is unavailable" in shown
    for secret in (SECRET, "hidden", "dXNlcj"):
        assert secret not in shown


@on_loop
async def test_an_outage_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moq_token.auth")
    async with Server() as server, RemoteAuthenticator(RemoteConfig(server.url)) as here:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await here.connect(request())
        server.scripts["/"] = reply(GRANT)
        await here.connect(request())
    assert [vars(record)["event"] for record in caplog.records] == ["outage", "recovery"]


# -- with a real auth server


@pytest.mark.parametrize("where", ["127.0.0.1:0", "unix"])
@on_loop
async def test_with_our_auth_server(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0)
    key = Key.generate("EdDSA", "one")
    key.to_public().to_file(tmp_path / "one.jwk")
    socket = tmp_path / "s"
    policy = Policy(tmp_path / "one.jwk", expires="1h", revalidate="1m")
    server = AuthServer(policy, secret=None if where == "unix" else "user:p w")
    address = parse_address(f"unix:{socket}" if where == "unix" else where)
    async with listening(server.handle, address) as running:
        url = f"unix://{socket}" if where == "unix" else f"http://user:p%20w@{running.address}/"
        async with RemoteAuthenticator(RemoteConfig(url)) as here:
            dialed = request(path="/rooms/1", query=f"jwt={key.sign(Claims('rooms', publish=['*/cam'], subscribe=''))}")
            session = await here.connect(dialed)
            assert [session.grant.can_publish(name) for name in ("cam", "x", "cam/x")] == [True, False, False]
            assert session.grant.can_subscribe("any/thing")
            waiting = asyncio.create_task(session.ended())
            Key.generate("EdDSA", "one").to_public().to_file(tmp_path / "other.jwk")
            (tmp_path / "other.jwk").replace(tmp_path / "one.jwk")
            session.nudge()
            assert await waiting == "refused"
            assert len(server.live.sessions) == 1
            session.close("closed")
            with pytest.raises(RefusedError):
                await here.connect(dialed)
        assert len(server.live.sessions) == 0


def test_arguments_of_the_wrong_type() -> None:
    wrong: list[Any] = [None, "http://127.0.0.1:1/", AuthConfig(key="keys")]
    for config in wrong:
        with pytest.raises(TypeError, match="`config` must be a RemoteConfig, not "):
            RemoteAuthenticator(config)
    with pytest.raises(TypeError, match="`node` must be a str, not int"):
        RemoteAuthenticator(CONFIG, node=5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    async def test() -> None:
        async with RemoteAuthenticator(CONFIG) as authenticator:
            for request in wrong:
                with pytest.raises(TypeError, match="`request` must be a Request, not "):
                    await authenticator.connect(request)

    asyncio.run(test())
