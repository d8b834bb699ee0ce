"""A token source has a credential that is good: one request for all, renewed in time, kept over outages."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import signal
import threading
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    InvalidTokenError,
    NotAdmittedError,
    RefusedError,
    UnavailableError,
)
from moq_token.issuing import Credential, Issuer, TokenRequest, TokenSource, endpoint, fetch, token_source
from moq_token.issuing.fetch import read_members
from tests import forge
from tests.certificates import Authority, serving
from tests.serving import in_thread
from tests.unit.test_token_endpoint import running

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEY = forge.key(Algorithm.HS256)
SECRET = "hunter2-horse-battery"
LIFETIME = 100
EMPTY: Mapping[str, str] = {}
START = 1_700_000_000.0


class World:
    """A scripted endpoint, with a clock. It is a function for a token source, and counts its calls."""

    def __init__(self) -> None:
        self.now = START
        self.calls = 0
        self.error: Exception | None = None
        self.lifetime = LIFETIME
        self.lead = 0.0  # how far the clock of the endpoint is ahead

    def __call__(self) -> dict[str, object]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        issuer = Issuer(KEY, "https://relay.example", self.lifetime, clock=lambda: self.now + self.lead)
        members: dict[str, object] = {**issuer.grant("a", "b", subject=f"call {self.calls}").to_members()}
        return members

    async def call(self) -> dict[str, object]:
        await asyncio.sleep(0)
        return self()

    def source(self, jitter: float = 0.0) -> TokenSource:
        return TokenSource(self, clock=lambda: self.now, jitter=lambda: jitter)


@pytest.fixture
def world() -> World:
    return World()


def get_async(source: TokenSource) -> Credential:
    return asyncio.run(source.get())


@pytest.fixture(params=["async", "sync"])
def get(request: pytest.FixtureRequest) -> Callable[[TokenSource], Credential]:
    return get_async if request.param == "async" else TokenSource.get_sync


def number(credential: Credential) -> int:
    """Return which call gave a credential."""
    subject = KEY.verify(credential.token, now=0).subject
    assert subject is not None
    return int(subject.split()[1])


def test_a_credential_is_fetched_once_and_renewed_in_time(
    world: World, get: Callable[[TokenSource], Credential]
) -> None:
    source = world.source()
    for seconds, call in ((0, 1), (1, 1), (69, 1), (70, 2), (71, 2), (139, 2), (141, 3), (1000, 4)):
        world.now = START + seconds
        assert number(get(source)) == call, seconds
        assert world.calls == call


@given(st.floats(0, 1))
def test_renewal_is_spread(jitter: float) -> None:
    world = World()
    source = world.source(jitter)
    source.get_sync()
    due = START + LIFETIME * (0.7 + 0.15 * jitter)
    world.now = due - 0.01
    assert number(source.get_sync()) == 1
    world.now = due + 0.01
    assert number(source.get_sync()) == 2


@pytest.mark.parametrize("error", [UnavailableError("down"), OSError(SECRET), ValueError(SECRET), TimeoutError()])
def test_an_outage_is_survived_while_the_credential_is_good(
    world: World, get: Callable[[TokenSource], Credential], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    source = world.source()
    get(source)
    world.error = error
    with caplog.at_level(logging.INFO):
        for seconds in (75, 80, 94.9):
            world.now = START + seconds
            assert number(get(source)) == 1
        world.now = START + 96  # it is good until 100, but not handed out in the last 5 s
        with pytest.raises(UnavailableError):
            get(source)
        world.error = None
        world.now = START + 200
        assert number(get(source)) == world.calls
    assert [vars(record)["event"] for record in caplog.records] == ["credential-not-renewed", "credential-recovered"]
    assert SECRET not in caplog.text


def test_failures_are_not_repeated_at_once(world: World, get: Callable[[TokenSource], Credential]) -> None:
    source = world.source(jitter=1)
    world.error = UnavailableError("down")
    asked: list[float] = []
    for _ in range(2000):
        with pytest.raises(UnavailableError, match="down"):
            get(source) if world.now < START + 5 else source.get_sync()
        if len(asked) < world.calls:
            asked.append(world.now - START)
        world.now += 0.1
    pauses = [round(later - earlier) for earlier, later in pairwise(asked)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]


def test_an_outage_ends_as_soon_as_it_is_asked_again(world: World) -> None:
    source = world.source(jitter=1)
    world.error = UnavailableError("down")
    with pytest.raises(UnavailableError):
        source.get_sync()
    world.error = None
    with pytest.raises(UnavailableError):
        source.get_sync()
    world.now += 1
    assert number(source.get_sync()) == 2
    assert world.calls == 2


@pytest.mark.parametrize("error", [RefusedError("removed", reason="not-a-member"), NotAdmittedError("sign in")])
def test_a_refusal_counts_at_once(world: World, get: Callable[[TokenSource], Credential], error: RefusedError) -> None:
    source = world.source()
    get(source)
    world.error = error
    world.now += 75
    for _ in range(2):
        with pytest.raises(RefusedError) as caught:
            get(source)
        assert caught.value.reason == error.reason
    assert world.calls == 2


def test_a_credential_can_be_forgotten(world: World) -> None:
    source = world.source()
    assert [number(source.get_sync()) for _ in range(2)] == [1, 1]
    source.forget()
    assert [number(source.get_sync()) for _ in range(2)] == [2, 2]


@pytest.mark.parametrize("lead", [-1000, 1000])
def test_clocks_may_differ(world: World, lead: float) -> None:
    source = world.source()
    world.lead = lead
    for seconds, call in ((0, 1), (69, 1), (71, 2)):
        world.now = START + seconds
        assert number(source.get_sync()) == call


def test_a_clock_that_is_set_back_renews(world: World) -> None:
    source = world.source()
    source.get_sync()
    world.now -= 5000
    assert number(source.get_sync()) == 2
    world.error = UnavailableError("down")
    world.now += 75
    source.get_sync()
    world.now -= 5000
    world.error = None
    assert number(source.get_sync()) == 4


# -- many callers


def test_tasks_share_one_request(world: World) -> None:
    async def main() -> None:
        going = asyncio.Event()

        async def fetch() -> dict[str, object]:
            await going.wait()
            return world()

        source = TokenSource(fetch, clock=lambda: world.now)
        tasks = [asyncio.create_task(source.get()) for _ in range(50)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # the caller that started the request leaves
        await asyncio.sleep(0)
        going.set()
        found = await asyncio.gather(*tasks[1:])
        assert {number(credential) for credential in found} == {1}

    asyncio.run(main())
    assert world.calls == 1


def test_threads_and_event_loops_share_one_request(world: World) -> None:
    going, entered = threading.Event(), threading.Event()

    def fetch() -> dict[str, object]:
        entered.set()
        assert going.wait(100)
        return world()

    source = TokenSource(fetch, clock=lambda: world.now)
    found: list[Credential] = []
    gets: list[Callable[[TokenSource], Credential]] = [get_async, TokenSource.get_sync] * 5
    threads = [threading.Thread(target=lambda each=each: found.append(each(source))) for each in gets]
    for thread in threads:
        thread.start()
    assert entered.wait(100)
    going.set()
    for thread in threads:
        thread.join()
    assert [number(credential) for credential in found] == [1] * 10
    assert world.calls == 1


def test_a_renewal_holds_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_source, "PATIENCE_SECONDS", 0.01)
    going = threading.Event()
    started: list[int] = []

    def fetch() -> dict[str, object]:
        started.append(1)
        if len(started) > 1:
            assert going.wait(100)
        return world()

    source = TokenSource(fetch, clock=lambda: world.now, jitter=lambda: 0)
    assert number(source.get_sync()) == 1
    world.now += 75
    for _ in range(3):
        assert number(source.get_sync()) == 1
        assert number(get_async(source)) == 1
    going.set()
    for thread in threading.enumerate():
        if thread.name == "moq-token":
            thread.join()
    assert number(source.get_sync()) == 2
    assert len(started) == 2


def test_a_request_that_hangs_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_source, "_WAIT_SECONDS", 0.5)  # its thread has started by then
    going = threading.Event()
    started: list[int] = []

    def fetch() -> dict[str, object]:
        started.append(1)
        if len(started) == 1:
            going.wait(100)
        return world()

    source = TokenSource(fetch, clock=lambda: world.now)
    with pytest.raises(UnavailableError, match="did not answer in time"):
        source.get_sync()
    monkeypatch.setattr(token_source, "_WAIT_SECONDS", 60)
    assert number(source.get_sync()) == 1
    going.set()


def test_an_async_function(world: World) -> None:
    async def main() -> None:
        source = TokenSource(world.call, clock=lambda: world.now)
        assert number(await source.get()) == 1
        world.error = OSError(SECRET)
        world.now += 90
        assert number(await source.get()) == 1
        with pytest.raises(TypeError, match=r"use `await source.get\(\)`"):
            source.get_sync()

    asyncio.run(main())


def test_an_async_function_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_source, "TIMEOUT_SECONDS", 0.01)

    async def never() -> Credential:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(UnavailableError, match="raised TimeoutError"):
        asyncio.run(TokenSource(never).get())


def test_an_async_function_that_is_cancelled_ends_the_request(world: World) -> None:
    entered = asyncio.Event()

    async def fetch() -> dict[str, object]:
        if not entered.is_set():
            entered.set()
            await asyncio.Event().wait()
        return world()

    source = TokenSource(fetch, clock=lambda: world.now)

    async def leave() -> None:
        task = asyncio.create_task(source.get())
        await entered.wait()
        task.cancel()

    asyncio.run(leave())  # which cancels the request too, as its event loop ends
    world.now += 10
    assert number(get_async(source)) == 1


def test_a_request_that_hangs_is_given_up_by_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_source, "_WAIT_SECONDS", 0.01)
    going = threading.Event()

    def fetch() -> dict[str, object]:
        assert going.wait(100)
        return world()

    with pytest.raises(UnavailableError, match="did not answer in time"):
        get_async(TokenSource(fetch))
    going.set()


def test_the_sync_form_is_not_for_event_loops(world: World) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="an event loop is running"):
            world.source().get_sync()

    asyncio.run(main())


def test_credentials_of_an_issuer(world: World) -> None:
    issuer = Issuer(KEY, "https://relay.example", LIFETIME, clock=lambda: world.now)
    source = TokenSource(lambda: issuer.grant("a", "b", subject="alice"), clock=lambda: world.now, jitter=lambda: 0)
    first = source.get_sync()
    assert first.subject == "alice"
    world.now += 69
    assert source.get_sync() == first
    world.now += 2
    assert source.get_sync() != first
    # One that is not new is renewed sooner.
    kept = issuer.grant("a", "b", subject="alice")
    world.now += 50
    source = TokenSource(lambda: kept, clock=lambda: world.now, jitter=lambda: 0)
    source.get_sync()
    world.now += 60
    with pytest.raises(UnavailableError, match="has expired"):
        source.get_sync()


# -- over HTTP


def authorize(asked: TokenRequest) -> Claims:
    if asked.headers.get("authorization") != f"Bearer {SECRET}":
        raise NotAdmittedError("sign in first")
    return Claims(f"rooms/{asked.room_name}", "alice", subject="alice")


def test_a_real_endpoint(get: Callable[[TokenSource], Credential]) -> None:
    issuer = Issuer(KEY, "https://relay.example")
    with running(endpoint(issuer, authorize)) as port:
        url = f"http://127.0.0.1:{port}/"
        headers = {"Authorization": f"Bearer {SECRET}"}
        source = TokenSource(url, body={"room_name": "123"}, headers=headers)
        credential = get(source)
        assert credential.server_url == "https://relay.example/rooms/123"
        assert credential.url == f"{credential.server_url}?jwt={credential.token}"
        assert KEY.verify(credential.token).expires == credential.expires
        assert credential.expires_in == 3600
        refused = TokenSource(url)
        with pytest.raises(RefusedError, match=r"refused a credential \(401\): 'sign in first'") as caught:
            get(refused)
        assert caught.value.reason == "token-expected"
        assert SECRET not in repr(source)


class Scripted(http.server.BaseHTTPRequestHandler):
    answer: tuple[int, Mapping[str, str], bytes] = (200, {}, b"")
    asked: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def answering(
    status: int, body: object, headers: Mapping[str, str] = EMPTY, *, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, type[Scripted]]]:
    """Run a server that gives one answer, and yield its address."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler = type("Handler", (Scripted,), {"answer": (status, headers, sent), "asked": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with in_thread(server):
        yield f"127.0.0.1:{server.server_port}", handler


GOOD = {"url": "https://relay.example/a?jwt=x.y.z", "token": "x.y.z", "expires_in": 60}


def test_what_is_sent() -> None:
    with answering(200, GOOD) as (address, handler):
        TokenSource(f"http://user:{SECRET}@{address}/a/b?c=d", headers={"X-Key": "é"}).get_sync()
        ((path, headers, body),) = handler.asked
    assert (path, body) == ("/a/b?c=d", b"{}")
    assert headers["content-type"] == "application/json"
    assert headers["authorization"].startswith("Basic ")
    assert headers["x-key"] == "é"


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (500, b"", {}, "answered 500"),
        (404, b"", {}, "answered 404"),
        (302, b"", {"location": "http://127.0.0.1:1/"}, "redirects, which is not followed"),
        (307, b"", {"location": "/"}, "redirects, which is not followed"),
        (200, b"", {}, "not valid JSON"),
        (200, b"<html>", {}, "not valid JSON"),
        (200, b"[]", {}, "must be a JSON object"),
        (200, {}, {}, "no `token`"),
        (200, b" " * (fetch.MAX_ANSWER_BYTES + 1), {}, "more than 262144 bytes"),
    ],
)
def test_answers_that_are_no_credential(status: int, body: object, headers: dict[str, str], message: str) -> None:
    with answering(status, body, headers) as (address, handler):
        with pytest.raises(UnavailableError, match=message) as caught:
            TokenSource(f"http://user:{SECRET}@{address}/a?{SECRET}").get_sync()
        assert SECRET not in str(caught.value)
        assert len(handler.asked) == 1


def test_the_endpoint_says_when_to_ask_again() -> None:
    now = [START]
    with answering(429, b"", {"retry-after": "90"}) as (address, handler):
        source = TokenSource(f"http://{address}/", clock=lambda: now[0])
        for seconds, asked in ((0, 1), (89, 1), (90, 2)):
            now[0] = START + seconds
            with pytest.raises(UnavailableError, match="answered 429"):
                source.get_sync()
            assert len(handler.asked) == asked


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b'{"error": 5}',
        b'{"detail": [5]}',
        b'{"error": {"message": 5, "reason": "a\\nb"}}',
        {"error": {}},
    ],
)
def test_refusals_of_any_form(status: int, body: object) -> None:
    with answering(status, body) as (address, _), pytest.raises(RefusedError, match=f"({status})") as caught:
        TokenSource(f"http://{address}/").get_sync()
    assert caught.value.reason == "refused"


@pytest.mark.parametrize(
    ("body", "message", "reason"),
    [
        ({"error": {"message": "not a member", "reason": "mine"}}, "(403): 'not a member'", "mine"),
        ({"detail": "not a member"}, "(403): 'not a member'", "refused"),
        ({"detail": "x" * 9999}, "…", "refused"),
        ({"error": {"message": "not a member"}, "detail": "other"}, "(403): 'not a member'", "refused"),
    ],
)
def test_a_refusal_has_the_message_of_the_endpoint(body: object, message: str, reason: str) -> None:
    with answering(403, body) as (address, _), pytest.raises(RefusedError) as caught:
        TokenSource(f"http://{address}/").get_sync()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500
    assert caught.value.reason == reason


def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 5.0)
    times = iter([0.0, 6.0])
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with answering(200, GOOD) as (address, _), pytest.raises(UnavailableError, match="did not answer within 5 s"):
        fetch.Fetch(f"http://{address}/", None, None)()


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "authority")
    tls = serving(authority.issue("endpoint", "127.0.0.1"))
    with answering(200, GOOD, tls=tls) as (address, _):
        url = f"https://user:{SECRET}@{address}/"
        with pytest.raises(UnavailableError, match="certificate of the server is not trusted") as caught:
            TokenSource(url).get_sync()
        assert SECRET not in str(caught.value)
        monkeypatch.setenv("SSL_CERT_FILE", authority.root)
        assert TokenSource(url).get_sync().url == GOOD["url"]


def test_nobody_answers() -> None:
    with answering(200, GOOD) as (address, _):
        pass
    with pytest.raises(UnavailableError, match="connection refused") as caught:
        TokenSource(f"http://user:{SECRET}@{address}/?{SECRET}").get_sync()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "server_url", "expires"),
    [
        (GOOD, "https://relay.example/a", START + 60),
        ({"server_url": "https://r/a", "participant_token": "x.y.z", "expires": START + 9}, "https://r/a", START + 9),
        (
            {"server_url": "https://r/a", "token": KEY.sign(Claims("a", "b", expires=int(START) + 7))},
            "https://r/a",
            START + 7,
        ),
    ],
)
def test_answers_of_several_forms(members: dict[str, object], server_url: str, expires: float) -> None:
    credential = read_members(members, START)
    assert (credential.server_url, credential.expires) == (server_url, expires)
    assert credential.url == members.get("url", f"{server_url}?jwt={credential.token}")
    assert credential.expires_in == expires - START


@pytest.mark.parametrize(
    "members",
    [
        {**GOOD, "token": 5},
        {**GOOD, "token": "", "participant_token": None},
        {**GOOD, "url": None},
        {**GOOD, "url": "no"},
        {**GOOD, "url": "https://relay.example/\n"},
        {**GOOD, "url": "https://relay.example/é"},
        {**GOOD, "expires_in": "60"},
        {**GOOD, "expires_in": True},
        {**GOOD, "expires_in": 0},
        {**GOOD, "expires_in": float("inf")},
        {**GOOD, "expires_in": None, "expires": START - 1},
        {**GOOD, "expires_in": None},
        {**GOOD, "expires_in": None, "token": KEY.sign(Claims("a", "b"))},
    ],
)
def test_invalid_answers(members: dict[str, object]) -> None:
    with pytest.raises(UnavailableError, match=r"^the answer has"):
        read_members(members, START)


# -- settings


@pytest.mark.parametrize(
    "url",
    ["", "app.example.com", "http://app.example.com/token", "ftp://a", "unix:///x", f"https://a b/{SECRET}"],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TokenSource(url)
    assert SECRET not in str(caught.value)


def test_invalid_settings() -> None:
    for headers in ({"X-Key": f"a\r\n{SECRET}"}, {f"X {SECRET}": "a"}):
        with pytest.raises(ConfigError, match="invalid name or value") as caught:
            TokenSource("https://a", headers=headers)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="are for a URL"):
        TokenSource(lambda: GOOD, body={})
    with pytest.raises(TypeError, match="expected a URL or a function"):
        TokenSource(5)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="must return a Credential or a dict, not str"):
        TokenSource(lambda: "token").get_sync()  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"body": [SECRET]}, "`body` must be a dict, not list"),
        ({"body": {"a": object()}}, "`body` must contain values that JSON has"),
        ({"body": {"a": f"{SECRET}\ud800"}}, "`body` must contain values that JSON has"),
        ({"headers": [("a", SECRET)]}, "`headers` must be a dict, not list"),
        ({"headers": {"authorization": None}}, "`headers` must contain str only"),
        ({"headers": {5: SECRET}}, "`headers` must contain str only"),
    ],
)
def test_settings_of_the_wrong_type(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        TokenSource("https://a", **settings)
    assert SECRET not in str(caught.value)


def test_a_lambda_around_an_async_function(world: World) -> None:
    for get in get_async, TokenSource.get_sync:
        with pytest.raises(UnavailableError, match="pass an `async def` function"):
            get(TokenSource(lambda: world.call()))  # noqa: PLW0108 - as users write it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_during_a_request_asks_again(world: World) -> None:
    asked, going = threading.Event(), threading.Event()

    def fetch() -> dict[str, object]:
        asked.set()
        going.wait()
        return world()

    source = TokenSource(fetch)
    thread = threading.Thread(target=source.get_sync)
    thread.start()
    asked.wait()
    with source._lock:  # noqa: SLF001 - another thread may hold it while a process forks
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(30)  # ends a process that waits forever
            going.set()
            status = int(source.get_sync().expires_in != LIFETIME)
        finally:
            os._exit(status)
    going.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_errors_of_tokens_are_refusals() -> None:
    def fail() -> Credential:
        raise InvalidTokenError("no")

    with pytest.raises(InvalidTokenError):
        TokenSource(fail).get_sync()
