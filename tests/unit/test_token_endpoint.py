"""The token endpoint, in a real server, and without one where time or a broken client matters."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    ExpiredTokenError,
    InvalidClaimsError,
    InvalidTokenError,
    KeyNotFoundError,
    NotAdmittedError,
    RefusedError,
    Scope,
    UnauthorizedError,
    UnavailableError,
)
from moq_token.issuing import Issuer, TokenRequest, asgi, endpoint, request
from moq_token.issuing.rate import MAX_CALLERS, Rate, network_of
from tests import forge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

KEY = forge.key(Algorithm.HS256)
ISSUER = Issuer(KEY, "https://relay.example.com", "10m")
JSON = {"Content-Type": "application/json"}
APP = "https://app.example.com"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)["error"]
        return found


def authorize(asked: TokenRequest) -> Claims:
    """Let users enter any room whose name has no `!`. The header says who they are."""
    user = asked.headers.get("x-user")
    if user is None:
        raise NotAdmittedError("sign in first")
    if "!" in (asked.room_name or ""):
        raise RefusedError("not a member of this room", reason="not-a-member")
    return Claims(f"rooms/{asked.room_name or 'lobby'}", publish=user, subscribe="", subject=user)


@contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:  # noqa: ANN401 - any ASGI application
    """Run an application in a server, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(
    port: int, body: object = None, headers: dict[str, str] | None = None, method: str = "POST", target: str = "/"
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    try:
        sent = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        connection.request(method, target, sent, {**JSON, **(headers or {})})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(endpoint(ISSUER, authorize, origins=[APP], per_minute=1000), lifespan="on") as port:
        yield port


ALICE = {"X-User": "alice"}


def test_a_member_gets_a_credential(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "moq_token.issuing"):
        answer = ask(port, {"room_name": "123", "participant_identity": "mallory", "more": [1]}, ALICE)
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    members = json.loads(answer.body)
    assert list(members) == ["server_url", "participant_token", "url", "token", "expires", "expires_in"]
    assert members["server_url"] == "https://relay.example.com/rooms/123"
    assert members["url"] == f"{members['server_url']}?jwt={members['token']}"
    assert members["participant_token"] == members["token"]
    assert members["expires_in"] == 600
    claims = KEY.verify(members["token"])
    assert (claims.root, claims.publish, claims.subscribe) == ("rooms/123", ("alice",), ("",))
    assert claims.subject == "alice"
    assert claims.expires == members["expires"]
    (record,) = [record for record in caplog.records if record.name == "moq_token.issuing"]
    assert (vars(record)["jti"], vars(record)["subject"]) == (claims.id, "alice")
    assert members["token"].rpartition(".")[2] not in caplog.text + str([vars(each) for each in caplog.records])


# What `TokenSource.endpoint` of livekit-client 2.23 (npm) sends if all its options are set.
LIVEKIT = (
    b'{"room_name":"7","participant_name":"Alice A","participant_identity":"alice","participant_metadata":"m",'
    b'"participant_attributes":{"a":"b"},'
    b'"room_config":{"agents":[{"agent_name":"ag","metadata":"am","deployment":"d"}]}}'
)


def test_a_client_for_livekit_gets_what_it_reads(port: int) -> None:
    answer = ask(port, LIVEKIT, ALICE)
    members = json.loads(answer.body)
    assert answer.status == 201
    assert members["server_url"] == "https://relay.example.com/rooms/7"
    assert KEY.verify(members["participant_token"]).expires is not None  # without it, the client keeps no token


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"room_name": null}'])
def test_the_members_are_optional(port: int, body: bytes) -> None:
    answer = ask(port, body, ALICE)
    assert json.loads(answer.body)["server_url"] == "https://relay.example.com/rooms/lobby"


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        ({}, {}, 401, "token-expected"),
        ({"room_name": "!"}, ALICE, 403, "not-a-member"),
        (b"{", ALICE, 400, "bad-json"),
        (b"\xff", ALICE, 400, "bad-json"),
        (b'{"room_name": "a", "room_name": "b"}', ALICE, 400, "bad-json"),
        (b"[" * 16_000, ALICE, 400, "bad-json"),
        ([], ALICE, 422, "bad-member"),
        (None, {**ALICE, "Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (None, {**ALICE, "Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        (None, {**ALICE, "Content-Type": ""}, 415, "unsupported-media-type"),
        ({"room_name": 7}, ALICE, 422, "bad-member"),
        ({"participant_identity": ["x"]}, ALICE, 422, "bad-member"),
        (b" " * (request.MAX_BODY_BYTES + 1), ALICE, 413, "too-large"),
        ({"room_name": "/../"}, ALICE, 500, "internal"),
    ],
)
def test_refusals(port: int, body: object, headers: dict[str, str], status: int, reason: str) -> None:
    answer = ask(port, body, headers)
    assert (answer.status, answer.error["reason"]) == (status, reason)
    assert answer.error["message"]
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_types_with_parameters_and_in_any_case(port: int) -> None:
    assert ask(port, {}, {**ALICE, "Content-Type": "Application/JSON; charset=utf-8"}).status == 201


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods(port: int, method: str) -> None:
    answer = ask(port, {}, ALICE, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert (answer.body == b"") == (method == "HEAD")


# -- pages of other origins


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-user"}


def test_a_listed_origin_may_ask_and_read(port: int) -> None:
    answer = ask(port, b"", {"Origin": APP, **PREFLIGHT}, "OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == "content-type,x-user"
    assert answer.headers["access-control-allow-credentials"] == "true"
    for body in {}, {"room_name": "!"}:
        answer = ask(port, body, {**ALICE, "Origin": APP})
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{APP}.evil.example", "http://app.example.com", f"{APP}:444", "", "*"]
)
def test_other_origins_may_not(port: int, origin: str) -> None:
    for answer in (
        ask(port, b"", {"Origin": origin, **PREFLIGHT}, "OPTIONS"),
        ask(port, {}, {**ALICE, "Origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["vary"] == "origin"


def test_nothing_is_said_about_origins_if_none_is_listed() -> None:
    app = endpoint(ISSUER, authorize)
    answer = call(app, headers={"origin": APP, "x-user": "a"})
    assert answer.status == 201
    assert not {"vary", "access-control-allow-origin"} & set(answer.headers)


@pytest.mark.parametrize("names", ["x\r\nset-cookie: a=b", "é", "x" * 2000, "a b", ""])
def test_odd_names_of_headers_are_not_repeated(names: str) -> None:
    app = endpoint(ISSUER, authorize, origins=[APP])
    asked = {"origin": APP, **PREFLIGHT, "access-control-request-headers": names}
    assert "access-control-allow-headers" not in call(app, method="OPTIONS", headers=asked).headers


def test_options_without_a_preflight(port: int) -> None:
    answer = ask(port, b"", {}, "OPTIONS")
    assert (answer.status, answer.headers["allow"]) == (204, "OPTIONS, POST")


# -- without a server


def call(
    app: Callable[..., Any],
    body: bytes = b"{}",
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    client: str | None = "192.0.2.1",
    **scope: Any,  # noqa: ANN401 - as servers add
) -> Answer:
    """Ask an application, and return its answer; status 0 if it answers nothing."""
    fields = {"content-type": "application/json", **(headers or {})}
    scope |= {"type": "http", "method": method, "client": None if client is None else (client, 1)}
    scope["headers"] = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, sent[1]["body"])


def raising(error: BaseException) -> Callable[[TokenRequest], Claims]:
    def authorize(_: TokenRequest) -> Claims:
        raise error

    return authorize


SECRET = "hunter2-horse-battery"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RefusedError("no"), 403, "refused"),
        (RefusedError(reason="mine"), 403, "mine"),
        (UnauthorizedError("no"), 403, "no-access"),
        (InvalidTokenError("no"), 401, "malformed"),
        (ExpiredTokenError(expires=5), 401, "expired"),
        (KeyNotFoundError(f"the key file '/srv/{SECRET}.jwk' does not exist"), 401, "unknown-key"),
        (NotAdmittedError(), 401, "token-expected"),
        (NotAdmittedError("no", reason="no-session"), 401, "no-session"),
        (UnavailableError(SECRET), 503, "unavailable"),
        (TimeoutError(SECRET), 503, "unavailable"),
        (ValueError(SECRET), 500, "internal"),
        (ConnectionResetError(SECRET), 500, "internal"),
        (InvalidClaimsError(SECRET), 500, "internal"),
        (ExceptionGroup(SECRET, [ValueError(SECRET)]), 500, "internal"),
        (SystemExit(SECRET), 500, "internal"),
        (asyncio.CancelledError(SECRET), 500, "internal"),
        (BaseExceptionGroup(SECRET, [SystemExit(SECRET)]), 500, "internal"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_authorize_raises(
    error: BaseException, status: int, reason: str, *, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plain = raising(error)

    async def wrapped(asked: TokenRequest) -> Claims:
        return plain(asked)

    answer = call(endpoint(ISSUER, wrapped if is_async else plain))
    assert (answer.status, answer.error["reason"]) == (status, reason)
    assert SECRET not in answer.body.decode() + str(answer.headers)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert bool(caplog.records) == (status >= 500)
    if not isinstance(error, UnavailableError | InvalidClaimsError):
        assert SECRET not in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


UNCONFIGURED = """
import asyncio
from moq_token import Key
from moq_token.issuing import Issuer, endpoint
app = endpoint(Issuer(Key.generate("HS256"), "https://relay.example.com"), lambda asked: asked.nothing)
async def receive():
    return {"type": "http.request", "body": b"{}"}
async def send(message):
    pass
headers = [(b"content-type", b"application/json")]
asyncio.run(app({"type": "http", "method": "POST", "headers": headers}, receive, send))
"""


def test_a_bug_is_seen_where_logging_is_not_configured() -> None:
    """As under uvicorn, which configures the loggers of its own only."""
    done = subprocess.run([sys.executable, "-c", UNCONFIGURED], capture_output=True, text=True, check=True)
    assert done.stderr == "no credential is issued: AttributeError in <string>, line 5\n"


def test_a_request_that_is_cancelled_is_not_answered() -> None:
    async def hang(_: TokenRequest) -> Claims:
        await asyncio.sleep(30)
        raise AssertionError

    async def test() -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}"}

        async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI has it
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "headers": headers}
        asking = asyncio.create_task(endpoint(ISSUER, hang)(scope, receive, send))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert sent == []

    asyncio.run(test())


def test_authorize_can_be_of_any_form() -> None:
    claims = Claims("a", "b", subject="c")

    async def function(_: TokenRequest) -> Claims:
        await asyncio.sleep(0)
        return claims

    class Plain:
        def __call__(self, _: TokenRequest) -> Claims:
            return claims

    class Asynchronous:
        async def __call__(self, _: TokenRequest) -> Claims:
            return claims

    def late(asked: TokenRequest) -> Awaitable[Claims]:
        return function(asked)

    for form in (function, lambda _: claims, Plain(), Asynchronous(), late):
        assert call(endpoint(ISSUER, form)).status == 201


def test_a_plain_function_does_not_hold_up_the_event_loop() -> None:
    names = []

    def decide(_: TokenRequest) -> Claims:
        names.append(threading.current_thread().name)
        return Claims("a", "b", subject="c")

    assert call(endpoint(ISSUER, decide)).status == 201
    assert names != [threading.main_thread().name]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (None, "`authorize` must return Claims, not NoneType"),
        ("token", "`authorize` must return Claims, not str"),
        (Claims("a", "b"), "`subject`"),
        (Claims("a", subject="c"), "grant"),
        (Claims("a", "b", subject="c", expires=5), "would be expired already"),
        (Claims("a", "b", subject="c", expires="25h"), "above the maximum"),
        (Claims("elsewhere", "b", subject="c"), "outside the scope"),
    ],
)
def test_claims_that_cannot_be_issued(
    claims: Any,  # noqa: ANN401 - of any type
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = Issuer(KEY.with_scope(Scope("a", "")), "https://relay.example.com")
    answer = call(endpoint(issuer, lambda _: claims))
    assert (answer.status, answer.error["message"]) == (500, "internal error")
    (record,) = caplog.records
    assert said in record.getMessage()


def test_authorize_sees_what_the_server_knows() -> None:
    seen: list[TokenRequest] = []

    def decide(asked: TokenRequest) -> Claims:
        seen.append(asked)
        return Claims("a", "b", subject="c")

    headers = {"Cookie": "session=1", "Authorization": f"Bearer {SECRET}"}
    call(
        endpoint(ISSUER, decide),
        b'{"room_name": "r", "participant_identity": "i", "participant_name": "n"}',
        headers=headers,
        path_params={"room": "123"},
        session={"user": "alice"},
    )
    (asked,) = seen
    assert (asked.room_name, asked.participant_identity, asked.members["participant_name"]) == ("r", "i", "n")
    assert asked.headers["cookie"] == "session=1"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.path_params == {"room": "123"}
    assert asked.peer == "192.0.2.1"
    assert asked.scope["session"] == {"user": "alice"}
    assert SECRET not in repr(asked)


# -- rates


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_subject_has_a_rate() -> None:
    clock = Clock()
    app = endpoint(ISSUER, authorize, per_minute=3, clock=clock)
    for user in "alice", "bob":
        assert [call(app, headers={"x-user": user}).status for _ in range(3)] == [201] * 3
    answer = call(app, headers={"x-user": "alice"}, client="192.0.2.2")
    assert (answer.status, answer.error["reason"], answer.headers["retry-after"]) == (429, "rate-limit", "20")
    clock.now = 20
    assert [call(app, headers={"x-user": "alice"}, client="192.0.2.3").status for _ in range(2)] == [201, 429]


@pytest.mark.parametrize(
    ("headers", "body"), [({}, b"{}"), (ALICE, b"{"), (ALICE, b'{"room_name": "!"}'), ({"content-type": "x"}, b"")]
)
def test_each_address_has_a_rate_of_refused_requests(headers: dict[str, str], body: bytes) -> None:
    clock = Clock()
    asked = []

    def decide(each: TokenRequest) -> Claims:
        asked.append(each)
        return authorize(each)

    app = endpoint(ISSUER, decide, per_minute=3, clock=clock)
    statuses = [call(app, body, headers=headers).status for _ in range(5)]
    assert all(400 <= status < 429 for status in statuses[:3])
    assert statuses[3:] == [429, 429]
    assert len(asked) <= 3  # beyond its rate, an address costs nothing
    assert call(app, headers=ALICE).status == 429
    assert call(app, headers=ALICE, client="192.0.2.2").status == 201
    clock.now = 20
    assert call(app, headers=ALICE).status == 201


def test_outages_and_answered_requests_do_not_count_against_an_address() -> None:
    clock = Clock()
    outage = endpoint(ISSUER, raising(UnavailableError("down")), per_minute=2, clock=clock)
    assert {call(outage).status for _ in range(5)} == {503}
    app = endpoint(ISSUER, authorize, per_minute=2, clock=clock)
    assert {call(app, headers={"x-user": str(index)}).status for index in range(9)} == {201}


def test_a_unix_socket_has_no_address_to_count() -> None:
    app = endpoint(ISSUER, authorize, per_minute=1, clock=Clock())
    assert {call(app, client=None).status for _ in range(5)} == {401}


def test_the_rate_needs_bounded_memory() -> None:
    rate = Rate(1, 60, Clock())
    for caller in range(MAX_CALLERS + 10):
        assert rate.take(caller) == 0
    assert len(rate._paid) == MAX_CALLERS  # noqa: SLF001 - what is bounded
    assert rate.take(MAX_CALLERS) == 60
    assert rate.take(0) == 0  # forgotten


def test_who_asked_last_is_remembered_longest() -> None:
    rate = Rate(2, 60, Clock())
    rate.take("busy")
    for caller in range(MAX_CALLERS - 1):
        rate.take(caller)
    rate.take("busy")
    for other in "another", "one more":
        rate.take(other)
    assert rate.wait("busy") == 30
    assert rate.wait(0) == 0


@given(st.integers(1, 20), st.lists(st.floats(0, 30), max_size=60))
def test_no_minute_has_more_than_twice_the_count(count: int, pauses: list[float]) -> None:
    clock = Clock()
    rate = Rate(count, 60, clock)
    taken = []
    for pause in pauses:
        clock.now += pause
        wait = rate.take("a")
        if wait == 0:
            taken.append(clock.now)
        else:
            assert wait <= 60 / count + 1e-6
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= 2 * count


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("testclient", "testclient", True),
    ],
)
def test_networks_of_ipv6_are_one_caller(address: str, other: str, *, same: bool) -> None:
    assert (network_of(address) == network_of(other)) == same


# -- bounds of time


def conversation(app: Callable[..., Any], *messages: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Send messages of a client to an application, and return what it answers. None never comes."""
    sent: list[dict[str, Any]] = []
    coming = list(messages)

    async def receive() -> dict[str, Any]:
        message = coming.pop(0)
        if message is None:
            await asyncio.Event().wait()
        assert message is not None
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"x-user", b"alice")]
    scope = {"type": "http", "method": "POST", "client": ("192.0.2.1", 1), "headers": headers}
    asyncio.run(app(scope, receive, send))
    return sent


def test_a_body_in_pieces() -> None:
    app = endpoint(ISSUER, authorize)
    first = {"type": "http.request", "body": b'{"room_name"', "more_body": True}
    sent = conversation(app, first, {"type": "http.request", "body": b': "9"}'})
    assert json.loads(sent[1]["body"])["server_url"] == "https://relay.example.com/rooms/9"


def test_a_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "REQUEST_SECONDS", 0.01)
    sent = conversation(endpoint(ISSUER, authorize), {"type": "http.request", "body": b"{", "more_body": True}, None)
    assert sent[0]["status"] == 408


def test_a_body_without_end() -> None:
    piece = {"type": "http.request", "body": b" " * 1024, "more_body": True}
    assert conversation(endpoint(ISSUER, authorize), *[piece] * 17)[0]["status"] == 413


def test_a_client_that_leaves() -> None:
    first = {"type": "http.request", "body": b"{", "more_body": True}
    assert conversation(endpoint(ISSUER, authorize), first, {"type": "http.disconnect"}) == []


def test_a_decision_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: TokenRequest) -> Claims:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(asgi, "AUTHORIZE_SECONDS", 0.01)
    assert call(endpoint(ISSUER, never)).status == 503


def test_too_many_decisions_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "MAX_WAITING", 2)
    statuses: list[int] = []

    async def main() -> None:
        going = asyncio.Event()

        async def wait(_: TokenRequest) -> Claims:
            await going.wait()
            return Claims("a", "b", subject="c")

        app = endpoint(ISSUER, wait)

        async def one() -> None:
            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"{}"}

            async def send(message: Any) -> None:  # noqa: ANN401 - of ASGI
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    going.set()

            headers = [(b"content-type", b"application/json")]
            await app({"type": "http", "method": "POST", "headers": headers}, receive, send)

        await asyncio.gather(*(one() for _ in range(3)))

    asyncio.run(main())
    assert statuses == [503, 201, 201]


def test_an_error_of_the_server_holds_no_frame_with_the_token() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(_: object) -> None:
        raise RuntimeError("closed")

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json"), (b"x-user", b"a")]}
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(endpoint(ISSUER, authorize)(scope, receive, send))
    names = []
    traceback = caught.value.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "_serve" not in names


# -- settings and frameworks


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.com", f"{APP}/", f"{APP}/path", "", "https://user@app.example.com", f"{APP}?"]
)
def test_invalid_origins(origin: str) -> None:
    with pytest.raises(ConfigError, match="`origins`: expected an origin"):
        endpoint(ISSUER, authorize, origins=[origin])


def test_invalid_settings() -> None:
    with pytest.raises(ConfigError, match="`per_minute`"):
        endpoint(ISSUER, authorize, per_minute=0)
    wrong: list[Any] = [APP, None, 5]
    for origins in wrong:
        with pytest.raises(TypeError, match="`origins` must be a list of origins, not "):
            endpoint(ISSUER, authorize, origins=origins)
    with pytest.raises(TypeError, match="`origins` must contain str only, not int"):
        endpoint(ISSUER, authorize, origins=[5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="`per_minute` must be an int, not str"):
        endpoint(ISSUER, authorize, per_minute="30")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected an Issuer"):
        endpoint(KEY, authorize)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a function"):
        endpoint(ISSUER, None)  # type: ignore[arg-type]


def test_starlette_and_fastapi_route_to_it() -> None:
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Route

    def authorize(asked: TokenRequest) -> Claims:
        return Claims(f"rooms/{asked.path_params['room']}", "a", subject="a")

    app = endpoint(ISSUER, authorize)
    fastapi = FastAPI()
    fastapi.router.routes.append(Route("/rooms/{room}/token", app))
    for outer in Starlette(routes=[Route("/rooms/{room}/token", app)]), fastapi:
        with running(outer, lifespan="on") as port:
            answer = ask(port, target="/rooms/7/token")
            assert (answer.status, json.loads(answer.body)["server_url"][-8:]) == (201, "/rooms/7")
            assert ask(port, target="/rooms/7/token", method="GET").status == 405


def test_websockets_are_refused() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(endpoint(ISSUER, authorize)({"type": "websocket"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]
