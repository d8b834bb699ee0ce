"""The auth server with good and bad policies, and its endpoints for relay 0.14, key publishing and health checks."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import multiprocessing
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moq_token import (
    Algorithm,
    Claims,
    ConfigError,
    Key,
    KeyNotFoundError,
    Pattern,
    Patterns,
    RefusedError,
    UnavailableError,
)
from moq_token.server import Answer, AuthServer, Cap, CapKind, Grant, Policy, Question, Request, bounded, keys
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.publish import PublishedKeys
from tests import forge
from tests.sources_server import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from moq_token.kid import KeyId
    from moq_token.server.session import Session

NOW = 1_800_000_000
SECRET_KEY = forge.key(Algorithm.HS256)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def body(event: str = "connect", number: int = 0, **members: Any) -> bytes:  # noqa: ANN401 - as in JSON
    document = {"id": f"{number:032x}", "event": event, "node": "n", "transport": "quic", "path": "/room", **members}
    return json.dumps(document).encode()


def post(server: AuthServer, data: bytes | None = None) -> Coroutine[None, None, HttpResponse]:
    return server.handle(HttpRequest("POST", "/", {"content-type": "application/json"}, data or body()))


def get(server: AuthServer, target: str, *, method: str = "GET", local: bool = False, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(server.handle(HttpRequest(method, target, named, b"", local=local)))


def grant(**members: Any) -> Grant:  # noqa: ANN401 - those of a grant
    return Grant(subscribe=["**"], **members)


# -- whatever a policy does


class OddError(BaseException):
    """A BaseException that is not an Exception, and not a reason to exit."""


class UnprintableError(RefusedError):
    def __str__(self) -> str:
        raise ValueError("no text")


async def raise_in_a_group(_: Request) -> Grant:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises(RefusedError("inside of a group"))(None))
    return grant()


def raises(error: BaseException) -> Callable[[Any], Coroutine[None, None, Any]]:
    async def policy(_: object) -> Grant:
        raise error

    return policy


def raises_later(error: BaseException) -> Callable[[Any], Coroutine[None, None, Any]]:
    async def policy(_: object) -> Grant:
        await asyncio.sleep(0)
        raise error

    return policy


def returns(value: Any) -> Callable[[Any], Coroutine[None, None, Any]]:  # noqa: ANN401 - nonsense too
    async def policy(_: object) -> Any:  # noqa: ANN401
        return value

    return policy


async def hang(_: object) -> Any:  # noqa: ANN401
    await asyncio.Event().wait()


async def swallow(_: object) -> Any:  # noqa: ANN401
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            return grant()


async def cancel_itself(_: object) -> Any:  # noqa: ANN401
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def block(_: object) -> Any:  # noqa: ANN401
    time.sleep(0.1)  # noqa: ASYNC251 - that is what it is about
    return grant()


async def time_itself_out(_: object) -> Any:  # noqa: ANN401
    async with asyncio.timeout(0.001):
        await asyncio.Event().wait()


class Claimed(Grant, frozen=True):
    """A grant that fails when it is written."""

    def to_json(self, *, now: float) -> bytes:
        raise OddError(now)


class Interrupting:
    @property
    def __await__(self) -> Any:  # noqa: ANN401
        raise KeyboardInterrupt


class Loop:
    def __await__(self) -> Any:  # noqa: ANN401
        yield "nonsense"


FAULTS: dict[str, Callable[..., Any]] = {
    "Exception": raises(ValueError("jwt=secret")),
    "BaseException": raises(OddError("secret")),
    "GeneratorExit": raises(GeneratorExit()),
    "SystemExit": raises(SystemExit(3)),
    "a later SystemExit": raises_later(SystemExit(3)),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "a later KeyboardInterrupt": raises_later(KeyboardInterrupt()),
    "a property that raises KeyboardInterrupt": lambda _: Interrupting(),
    "an interrupt in a group": raises(BaseExceptionGroup("secret", [KeyboardInterrupt(), RefusedError("no")])),
    "StopIteration": raises(StopIteration()),
    "StopAsyncIteration": raises(StopAsyncIteration()),
    "CancelledError": raises(asyncio.CancelledError()),
    "TimeoutError": raises(TimeoutError()),
    "MemoryError": raises(MemoryError()),
    "RecursionError": raises(RecursionError()),
    "an ExceptionGroup with a refusal": raise_in_a_group,
    "a later BaseException": raises_later(OddError()),
    "a later CancelledError": raises_later(asyncio.CancelledError()),
    "UnavailableError": raises(UnavailableError("the database is down")),
    "a refusal without a text": raises(UnprintableError()),
    "None": returns(None),
    "a dict": returns({"subscribe": ["**"]}),
    "a refusal that is returned": returns(RefusedError("no")),
    "a coroutine function": returns(hang),
    "milliseconds": returns(grant(expires=NOW * 1000)),
    "an expired grant": returns(grant(expires=NOW)),
    "an old grant of an expired token": returns(grant(expires=5, claims=Claims(subscribe="", expires=5))),
    "a root with a star": returns(grant(root="a/*")),
    "mounts within each other": returns(grant(mounts={"a": "x", "a/b": "y"})),
    "claims that are none": returns(grant(claims="alice")),
    "a grant that fails later": returns(Claimed(subscribe=Patterns(["**"]))),
    "no coroutine": lambda _: grant(),
    "an awaitable of nonsense": lambda _: Loop(),
    "not even a call": lambda: None,
    "hang": hang,
    "swallow its cancellation": swallow,
    "cancel itself": cancel_itself,
    "a timeout of its own": time_itself_out,
}


@pytest.mark.parametrize("event", ["connect", "revalidate"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_policy_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str, event: str
) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.05)
    caplog.set_level(1)

    async def test() -> None:
        server = AuthServer(FAULTS[fault], clock=Clock())
        response = await post(server, body(event))
        assert response.status == 503
        assert response.headers == b"retry-after: 1\r\n"
        assert len(server.live.sessions) == 0
        # The session that was there stays, and its end is counted.
        assert (await post(server, body("end"))).status == 204

    run_virtual(test())
    assert "secret" not in caplog.text
    assert "never retrieved" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("Exception", "the policy raised ValueError (test_server_app.py, line "),
        ("BaseException", "the policy raised OddError (test_server_app.py, line "),
        ("UnavailableError", "the database is down"),
        ("CancelledError", "the policy cancelled itself"),
        (
            "milliseconds",
            "a grant that relays reject: invalid grant: `expires` is after the year 9999",
        ),
        ("no coroutine", "the policy returned Grant at once: write it as async def"),
        ("SystemExit", "the policy raised SystemExit (test_server_app.py, line "),
        ("a timeout of its own", "the policy raised TimeoutError"),
        ("hang", "the decision took longer than 0.05 s"),
        ("None", "the policy returned NoneType, not a Grant"),
        ("an expired grant", "the policy returned a grant that relays reject: invalid grant: it ended 0 s ago"),
    ],
)
def test_the_log_says_what_is_wrong_with_the_policy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str, said: str
) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.05)
    run_virtual(post(AuthServer(FAULTS[fault], clock=Clock())))
    (record,) = (record for record in caplog.records if record.name == "moq_token.server")
    assert said in record.getMessage()
    assert record.levelname == "WARNING"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_lookup_is_no_verdict(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.05)
    server = AuthServer(hang, lookup=FAULTS[fault])
    assert get(server, "/?root=room").status == 503
    assert get(server, "/?root=room&mtls=true").status == 503
    assert get(server, "/public/room").status == 503


def test_a_refusal_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its text can hold what a client has chosen, and log handlers other than those of ``serve`` do not escape it."""
    caplog.set_level(logging.INFO)
    server = AuthServer(raises(RefusedError("no\r\nforged: \x1b[31m\u2028\ud800")))
    assert run_virtual(post(server)).body == b"no\\r\\nforged: \\x1b[31m\\u2028\\ud800"
    assert caplog.messages == ["refused: no\\r\\nforged: \\x1b[31m\\u2028\\ud800"]


@pytest.mark.parametrize(
    ("is_worker", "caps", "warnings"),
    [(True, {CapKind.TOKEN: Cap(1)}, 1), (True, None, 0), (True, {}, 0), (False, {CapKind.TOKEN: Cap(1)}, 0)],
)
def test_a_worker_process_warns_that_its_caps_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_worker: bool,  # noqa: FBT001
    caps: dict[CapKind, Cap] | None,
    warnings: int,
) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object() if is_worker else None)

    async def test() -> None:
        async with AuthServer(hang, caps=caps).lifespan():
            pass

    asyncio.run(test())
    assert [record.__dict__["event"] for record in caplog.records] == ["workers"] * warnings


def test_a_decision_takes_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 30.0)
    go = asyncio.Event()

    async def wait(_: Request) -> Grant:
        await go.wait()
        return grant()

    async def test() -> None:
        server = AuthServer(wait)
        asked = asyncio.create_task(post(server))
        await asyncio.sleep(0)
        go.set()
        assert (await asked).status == 200

    run_virtual(test())


def test_a_policy_that_blocks_is_answered_and_blocks_no_verdict() -> None:
    async def test() -> None:
        server = AuthServer(block)
        answers = await asyncio.gather(*(post(server, body(number=number)) for number in range(3)))
        assert [answer.status for answer in answers] == [200, 200, 200]

    run_virtual(test())


def test_a_full_queue_is_unavailable_but_not_for_those_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_WAITING", 3)
    go = asyncio.Event()

    async def wait(request: Request) -> Grant:
        if request.path == "/slow":
            await go.wait()
        return grant()

    async def test() -> None:
        server = AuthServer(wait)
        slow = [asyncio.create_task(post(server, body(number=number, path="/slow"))) for number in range(5)]
        await asyncio.sleep(0.01)
        assert (await post(server)).status == 200 if hasattr(asyncio, "eager_task_factory") else True
        go.set()
        statuses = [answer.status for answer in await asyncio.gather(*slow)]
        assert sorted(statuses) == [200, 200, 200, 503, 503]
        assert (await post(server, body(path="/slow"))).status == 200  # the places are free again

    run_virtual(test())


def test_decisions_that_ignore_their_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.01)
    monkeypatch.setattr(bounded, "_MAX_RUNNING", 3)
    calls = 0

    async def stubborn(_: Request) -> Grant:
        nonlocal calls
        calls += 1
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return grant()

    async def test() -> None:
        server = AuthServer(stubborn)
        for number in range(5):
            assert (await post(server, body(number=number))).status == 503
        assert calls == 3
        go.set()
        await asyncio.sleep(0.01)
        assert (await post(server)).status == 200

    go = asyncio.Event()
    run_virtual(test())


def test_thousands_that_start_slowly_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.05)

    async def test() -> None:
        server = AuthServer(hang)
        answers = await asyncio.gather(*(post(server, body(number=number)) for number in range(3000)))
        assert {answer.status for answer in answers} == {503}

    run_virtual(test())


def test_a_client_that_goes_ends_its_decision() -> None:
    ended = asyncio.Event()

    async def wait(_: Request) -> Grant:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async def test() -> None:
        asked = asyncio.create_task(post(AuthServer(wait)))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await ended.wait()

    run_virtual(test())


KINDS = st.sampled_from([*FAULTS, "refuse", "grant"])


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["connect", "revalidate", "end"]), st.integers(0, 3), KINDS), min_size=1, max_size=12
    ),
    steps=st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=4),
    kick_oldest=st.booleans(),
)
def test_403_is_a_verdict_and_401_is_never_said(
    events: list[tuple[str, int, str]], steps: list[float], *, kick_oldest: bool
) -> None:
    refused = False

    async def decide(request: Request) -> Any:  # noqa: ANN401
        nonlocal refused
        kind = request.query
        if kind == "refuse":
            refused = True
            raise RefusedError("no", reason="suspended")
        if kind == "grant":
            return Grant(subscribe=["**"], expires=int(clock.now) + 100, revalidate=10)
        if kind == "an expired grant":
            return grant(expires=int(clock.now))
        return await FAULTS[str(kind)](request)

    clock, steady = Clock(), Clock()

    async def test() -> None:
        nonlocal refused
        caps = {CapKind.REMOTE: Cap(1, kick_oldest=kick_oldest)}
        server = AuthServer(decide, caps=caps, clock=clock, steady=steady)
        for index, (event, number, kind) in enumerate(events):
            step = steps[index % len(steps)]
            clock.now, steady.now = clock.now + step, steady.now + abs(step)
            refused, live = False, {session.id: session.kicked for session in server.live.sessions}
            data = body(event, number, query=kind, remote="192.0.2.1:1", reason="x", duration=1, bytes={})
            response = await post(server, data)
            assert response.status in {200, 204, 403, 503}
            if response.status != 403 or refused:
                continue
            # A cap: a new session where one is live, or one that was told to make room.
            assert event != "end"
            assert kind == "grant"
            assert live
            assert event == "connect" or live[f"{number:032x}"] is not None

    # Short: those that hang are of no interest here.
    before, bounded.DECISION_SECONDS = bounded.DECISION_SECONDS, 0.005
    try:
        run_virtual(test())
    finally:
        bounded.DECISION_SECONDS = before


# -- keys


class Source:
    """A source that is scripted: a key, or an error that it raises."""

    def __init__(self, given: Key | Exception) -> None:
        self.given = given
        self.asked = 0

    async def get(self, kid: KeyId | None, /) -> Key:
        self.asked += 1
        if isinstance(self.given, Exception):
            raise self.given
        if kid is not None and str(kid) != self.given.kid:
            raise KeyNotFoundError("there is no such key", kid=str(kid))
        return self.given

    async def aclose(self) -> None:
        """Close nothing."""


def token(key: Key = SECRET_KEY, **claims: Any) -> str:  # noqa: ANN401 - those of a token
    return key.sign(Claims(**{"root": "room", "subscribe": "", "expires": NOW + 100, **claims}))


def test_keys_that_cannot_be_read_at_the_moment_are_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    source, clock = Source(SECRET_KEY), Clock()
    policy = Policy(source, clock=clock)
    assert policy.keys is not None
    ticks = Clock(0)
    monkeypatch.setattr(policy.keys, "_clock", ticks)
    server = AuthServer(policy, clock=clock)

    def ask(query: str = f"jwt={token()}") -> int:
        return asyncio.run(post(server, body(query=query))).status

    assert ask() == 200
    assert get(server, "/readyz") == HttpResponse(200, b"ok\n")
    source.given = UnavailableError("the disk is gone")
    assert ask() == 200
    ready = get(server, "/readyz")
    assert (ready.status, ready.body) == (
        200,
        b"degraded: the disk is gone (1 keys are used as they were last read)\n",
    )
    # Another key was never read: that is no verdict.
    assert ask(f"jwt={token(SECRET_KEY.with_kid('other'))}") == 503
    ticks.now += 3601
    assert ask() == 503
    ready = get(server, "/readyz")
    assert (ready.status, ready.body) == (503, b"not ready: the disk is gone\n")
    source.given = KeyNotFoundError("it was withdrawn")
    assert ask() == 403
    source.given = SECRET_KEY
    assert ask() == 200
    source.given = KeyNotFoundError("it was withdrawn")
    source.given = UnavailableError("the disk is gone")
    assert ask() == 200


@pytest.fixture
def unremembered_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each request ask the source of its key, so that no test has to wait."""
    monkeypatch.setattr(keys, "FRESH_SECONDS", 0)


@pytest.mark.usefixtures("unremembered_keys")
def test_a_withdrawn_key_is_not_remembered_for_the_next_outage() -> None:
    source, clock = Source(SECRET_KEY), Clock()
    server = AuthServer(Policy(source, clock=clock), clock=clock)
    data = body(query=f"jwt={token()}")
    for given_, expected in (
        (SECRET_KEY, 200),
        (KeyNotFoundError("it was withdrawn"), 403),
        (UnavailableError("the disk is gone"), 503),
    ):
        source.given = given_
        assert asyncio.run(post(server, data)).status == expected


@pytest.mark.usefixtures("unremembered_keys")
@pytest.mark.parametrize("kind", ["directory", "file", "set"])
def test_key_files(tmp_path: Path, kind: str) -> None:
    """A missing or invalid key is a refusal. An unreadable one is not: the old key is used meanwhile."""
    directory = tmp_path / "keys"
    directory.mkdir()
    path = directory / f"{SECRET_KEY.kid}.jwk"
    clock = Clock()
    text = SECRET_KEY.to_json()
    path.write_text(f'{{"keys":[{text}]}}' if kind == "set" else text)
    server = AuthServer(Policy(directory if kind == "directory" else path, clock=clock), clock=clock)
    data = body(query=f"jwt={token()}")

    def ask(server: AuthServer = server) -> int:
        return asyncio.run(post(server, data)).status

    assert ask() == 200
    good = path.read_text()
    for bad in "", "no key", '{"kty":"oct"}':
        path.write_text(bad)
        assert ask() == 403, bad
    path.write_text(good)
    assert ask() == 200
    path.unlink()
    assert ask() == 403
    path.write_text(good)
    assert ask() == 200
    # A link to itself cannot be read.
    path.unlink()
    path.symlink_to(path)
    assert ask() == 200
    assert b"degraded: " in get(server, "/readyz").body
    fresh = AuthServer(Policy(directory if kind == "directory" else path, clock=clock), clock=clock)
    assert ask(fresh) == 503
    path.unlink()
    if kind == "directory":
        directory.rmdir()
        assert ask(fresh) == 503
        assert get(fresh, "/readyz").status == 503


@pytest.mark.usefixtures("unremembered_keys")
def test_a_rotated_key_ends_what_it_signed_and_nothing_else(tmp_path: Path) -> None:
    old, new = SECRET_KEY.with_kid("old"), Key.generate("HS256", "new")
    for key in old, new:
        key.to_file(tmp_path / f"{key.kid}.jwk")
    clock = Clock()
    server = AuthServer(Policy(tmp_path, clock=clock), clock=clock)

    def recheck(key: Key, number: int, event: str = "revalidate") -> int:
        return asyncio.run(post(server, body(event, number, query=f"jwt={tokens[str(key.kid)]}"))).status

    tokens = {str(key.kid): token(key) for key in (old, new)}
    assert [recheck(key, number, "connect") for number, key in enumerate((old, new))] == [200, 200]
    (tmp_path / "old.jwk").unlink()
    assert [recheck(key, number) for number, key in enumerate((old, new))] == [403, 200]
    # The same id with another secret: what was remembered does not count.
    Key.generate("HS256", "new").to_file(tmp_path / "new.jwk", overwrite=True)
    assert recheck(new, 1) == 403


def test_a_remembered_token_ends_at_its_end_and_clocks_may_step() -> None:
    clock = Clock()
    server = AuthServer(Policy(Source(SECRET_KEY), clock=clock), clock=clock)
    data = body("revalidate", query=f"jwt={token(not_before=NOW - 50)}")

    def ask() -> int:
        return asyncio.run(post(server, data)).status

    for now, expected in ((0, 200), (99.9, 200), (100, 403), (1e9, 403), (99, 200), (-50, 200), (-51, 403), (0, 200)):
        clock.now = NOW + now
        assert ask() == expected, now


def test_caps_refuse_newcomers_and_never_a_session_that_is_there() -> None:
    clock = Clock()
    policy = Policy(public_subscribe=["**"], expires="1h", revalidate="1m", spread=0, clock=clock)
    server = AuthServer(policy, caps={CapKind.REMOTE: Cap(1)}, clock=clock)

    def ask(event: str, number: int) -> int:
        return asyncio.run(post(server, body(event, number, remote="[::ffff:192.0.2.1]:5"))).status

    assert [ask("connect", number) for number in (1, 1, 2)] == [200, 200, 403]
    assert ask("revalidate", 3) == 200  # its server was restarted
    assert ask("end", 1) == 204
    assert ask("connect", 1) == 200  # it comes late, and takes no place


# -- relay 0.14


def test_the_first_generation(tmp_path: Path) -> None:
    public = Key.generate("EdDSA", "pair")
    for key in public, SECRET_KEY.with_kid("shared"):
        key.to_file(tmp_path / f"{key.kid}.jwk")
    rules: dict[str, Any] = {
        "public_subscribe": ["lobby/**", "exact/*"],
        "mtls_publish": ["edge/**"],
        "mtls_subscribe": ["edge/**"],
    }
    server = AuthServer(Policy(tmp_path, **rules, tier="gold", expires="1h", revalidate="90s"))
    answer = get(server, "/?root=room&kid=pair&transport=quic")
    assert answer.headers == b"cache-control: no-store, max-age=90\r\n"
    assert answer.content_type == "application/json"
    assert Answer.from_json(answer.body).key == public.to_public()
    assert b'"d"' not in answer.body
    # Without a token: the public rules, except those that relay 0.14 cannot express.
    assert json.loads(get(server, "/?root=lobby/x").body) == {"public": {"subscribe": [""]}, "tier": "gold"}
    assert json.loads(get(server, "/?root=").body) == {"public": {"subscribe": ["lobby"]}, "tier": "gold"}
    assert json.loads(get(server, "/?root=exact").body) == {"tier": "gold"}
    for refused in "nosuch", "a/b c", "":
        assert get(server, f"/?root=room&kid={refused}").body == b"{}"
    # A certificate: `{}` would admit it with everything.
    assert json.loads(get(server, "/?root=edge/1&mtls=true").body) == {"tier": "gold"}
    for root in "room", "":
        assert get(server, f"/?root={root}&mtls=true").status == 404
    for wrong, status in (("", 422), ("root=a&root=b", 400), ("root=a&mtls=1", 422), ("root=%ff", 400)):
        assert get(server, f"/?{wrong}").status == status


@pytest.mark.parametrize("kind", ["directory", "file"])
@pytest.mark.parametrize(("local", "share"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_secret_is_shared_only_here_and_when_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, *, local: bool, share: bool
) -> None:
    path = tmp_path / f"{SECRET_KEY.kid}.jwk"
    SECRET_KEY.to_file(path)
    policy = Policy(tmp_path if kind == "directory" else path, public_subscribe=["**"])
    server = AuthServer(policy, share_secrets=share, published=PublishedKeys(tmp_path))
    caplog.set_level("INFO")
    answer = Answer.from_json(get(server, f"/?root=room&kid={SECRET_KEY.kid}", local=local).body)
    assert (answer.key == SECRET_KEY) is (local and share)
    assert ("--share-secrets" in caplog.text) is not (local and share)
    # Who has no token is not concerned.
    answer = Answer.from_json(get(server, "/?root=room", local=local).body)
    assert answer.public is not None
    assert list(answer.public.subscribe) == [""]
    assert get(server, f"/keys/{SECRET_KEY.kid}.jwk", local=True).status == 404
    assert json.loads(get(server, "/.well-known/jwks.json", local=True).body) == {"keys": []}


def test_public_rules() -> None:
    server = AuthServer(Policy(public_subscribe=["lobby/**"], public_publish=["lobby/in/**", "lobby/*"]))
    assert json.loads(get(server, "/public/lobby").body) == {"subscribe": [""], "publish": ["in"]}
    assert json.loads(get(server, "/public/room/x").body) == {"subscribe": [], "publish": []}
    assert json.loads(get(server, "/public/").body) == {"subscribe": ["lobby"], "publish": ["lobby/in"]}
    assert get(AuthServer(grant_all), "/public/").status == 404  # a policy without `lookup`


async def grant_all(_: Request) -> Grant:
    return grant()


def test_options_that_could_never_work_are_refused() -> None:
    wrong: list[dict[str, Any]] = [{"contract": "put"}, {"secret": "password"}, {"secret": ":"}, {"relays": ["x"]}]
    for options in wrong:
        with pytest.raises(ConfigError):
            AuthServer(hang, **options)
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        Cap(-1, kick_oldest=True)


def test_a_lookup_of_ones_own() -> None:
    class Own:
        async def __call__(self, _: Request) -> Grant:
            return grant()

        async def lookup(self, question: Question) -> Answer:
            if question.root == "x":
                raise RefusedError("suspended", reason="suspended")
            return Answer(alias="y")

    server = AuthServer(Own(), max_age=0.2)
    assert get(server, "/?root=a").body == b'{"alias":"y"}'
    assert get(server, "/?root=a").headers == b"cache-control: no-store, max-age=1\r\n"
    assert get(server, "/?root=x").body == b"{}"
    assert get(server, "/?root=x&mtls=true").status == 404


# -- keys for others


def test_published_keys(tmp_path: Path) -> None:
    pair = Key.generate("ES256", "pair")
    pair.to_file(tmp_path / "pair.jwk")
    SECRET_KEY.to_file(tmp_path / "secret.jwk")
    (tmp_path / "broken.jwk").write_text("no key")
    (tmp_path / "note.txt").write_text("no key file")
    server = AuthServer(grant_all, published=PublishedKeys(tmp_path))
    one, every = get(server, "/keys/pair.jwk"), get(server, "/.well-known/jwks.json")
    assert Key.from_str(one.body.decode()) == pair.to_public()
    assert [key["kid"] for key in json.loads(every.body)["keys"]] == ["pair"]
    for path, answer in (("/keys/pair.jwk", one), ("/.well-known/jwks.json", every)):
        assert b"cache-control: public, max-age=60\r\n" in answer.headers
        tag = answer.headers.split(b"etag: ")[1].split(b"\r\n")[0].decode()
        for known in tag, f"W/{tag}", f'"x", {tag}', "*":
            again = get(server, path, if_none_match=known)
            assert (again.status, again.body) == (304, b"")
            assert tag.encode() in again.headers
        assert get(server, path, if_none_match='"x"').status == 200
        assert get(server, path, method="HEAD").status == 200
        assert get(server, path, method="POST").status == 405
    for name in ("secret", "broken", "nosuch", "../pair", "%2e%2e/pair", "", "a" * 200):
        assert get(server, f"/keys/{name}.jwk").status == 404, name
    for path in ("/keys/pair", "/keys/", "/.well-known/jwks.jsonx", "/.well-known/"):
        assert get(server, path).status == 404, path
    # A key that was added or withdrawn is seen, with another tag.
    Key.generate("ES256", "next").to_file(tmp_path / "next.jwk")
    assert get(server, "/.well-known/jwks.json", if_none_match=tag).status == 200
    for file in list(tmp_path.iterdir()):
        file.unlink()
    tmp_path.rmdir()
    assert get(server, "/.well-known/jwks.json").status == 503
    assert get(server, "/keys/pair.jwk").status == 503


def test_keys_are_published_only_when_asked_for() -> None:
    for path in "/keys/pair.jwk", "/.well-known/jwks.json":
        assert get(AuthServer(grant_all), path).status == 404


# -- contracts, secret, health


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        ("both", {"POST": 200, "GET": 200, "HEAD": 200, "PUT": 405}),
        ("post", {"POST": 200, "GET": 404, "HEAD": 404}),
        ("get", {"POST": 405, "GET": 200, "HEAD": 200, "PUT": 405}),
    ],
)
def test_contracts(contract: Any, expected: dict[str, int]) -> None:  # noqa: ANN401 - one of three texts
    server = AuthServer(Policy(public_subscribe=["**"]), contract=contract)
    for method, status in expected.items():
        headers = {"content-type": "application/json"}
        request = HttpRequest(method, "/?root=a", headers, body())
        assert asyncio.run(server.handle(request)).status == status, method
    assert get(server, "/public/a").status == (404 if contract == "post" else 200)
    assert get(server, "/healthz").status == 200


def test_the_shared_secret_is_no_verdict(tmp_path: Path) -> None:
    server = AuthServer(Policy(public_subscribe=["**"]), secret="relay:pä ss", published=PublishedKeys(tmp_path))
    right = "Basic " + base64.b64encode("relay:pä ss".encode()).decode()
    for given_ in (None, "", "Basic", "Basic eDp5", right.lower(), f"{right} ", right[6:], "Bearer x", "\xff"):
        headers = {"content-type": "application/json"} | ({} if given_ is None else {"authorization": given_})
        for method, target in (("POST", "/"), ("GET", "/?root=a"), ("GET", "/.well-known/jwks.json")):
            response = asyncio.run(server.handle(HttpRequest(method, target, headers, body())))
            assert response.status == 400
    headers = {"content-type": "application/json", "authorization": right}
    assert asyncio.run(server.handle(HttpRequest("POST", "/", headers, body()))).status == 200
    assert get(server, "/healthz").status == get(server, "/readyz").status == 200


def test_health_of_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DECISION_SECONDS", 0.01)

    class Sick:
        def __init__(self, problems: Callable[..., Any]) -> None:
            self.problems = problems

        async def __call__(self, _: Request) -> Grant:
            return grant()

    async def broken() -> None:
        raise ValueError("secret")

    async def slow() -> None:
        await asyncio.sleep(10)

    for problems in broken, slow:
        server = AuthServer(Sick(problems))
        assert get(server, "/healthz").status == 200
        ready = get(server, "/readyz")
        assert ready.status == 503
        assert b"secret" not in ready.body
    assert get(AuthServer(grant_all), "/readyz").status == 200


def test_ready_names_the_keys_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SECRET_KEY.to_file("good.jwk")
    (tmp_path / "bad.jwk").symlink_to("bad.jwk")
    server = AuthServer(Policy("."))
    assert get(server, "/readyz").body == b"ok\n"
    assert asyncio.run(post(server, body(query=f"jwt={token(SECRET_KEY.with_kid('bad'))}"))).status == 503
    ready = get(server, "/readyz")
    assert (ready.status, ready.body.count(b"\n")) == (200, 1)
    assert b"bad.jwk': Too many levels of symbolic links" in ready.body
    (tmp_path / "bad.jwk").unlink()
    assert asyncio.run(post(server, body(query=f"jwt={token(SECRET_KEY.with_kid('bad'))}"))).status == 403
    assert get(server, "/readyz").body == b"ok\n"
    missing = AuthServer(Policy("nosuch.jwk"))
    assert b"degraded: the key file 'nosuch.jwk'" in get(missing, "/readyz").body


def test_rules_of_patterns_are_not_widened() -> None:
    policy = Policy(public_subscribe=[Pattern("a/*/c"), Pattern("a/b")])
    assert policy.public_paths("a") is None


def test_a_place_is_given_back_if_the_clock_is_set_beyond_the_grant_meanwhile() -> None:
    """Found by the simulation."""
    clock = Clock()
    released = []

    class Places:
        async def admit(self, session: Session, _now: object) -> None:
            assert session.id
            clock.now += 3600

        def release(self, session: Session, _now: object) -> None:
            released.append(session.id)

    async def decide(_request: Request) -> Grant:
        return Grant(subscribe=["**"], expires=int(clock.now) + 60)

    share = SimpleNamespace(node="n", names=SimpleNamespace(token_key=b"key"), places=Places(), publish=None)
    server = AuthServer(decide, share=share, clock=clock)  # type: ignore[arg-type]
    response = asyncio.run(post(server, body("connect", 1)))
    assert (response.status, released) == (503, [f"{1:032x}"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"decide": None}, "`decide` must be an async function from a Request to a Grant, or a Policy, not NoneType"),
        ({"decide": "policy:decide"}, "not str"),
        ({"decide": Policy}, "not the class Policy"),
        ({"lookup": 5}, "`lookup` must be an async function from a Question to an Answer, not int"),
        ({"caps": {"token": 3}}, "`caps` must be a mapping such as"),
        ({"caps": {"room": Cap(3)}}, "`caps` must be a mapping such as"),
        ({"secret": b"user:password"}, "`secret` must be a str, user:password, not bytes"),
        ({"state": "bans"}, "`state` must be a State"),
    ],
    ids=str,
)
def test_arguments_are_checked_where_they_are_passed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError) as caught:
        AuthServer(**{"decide": hang, **arguments})
    assert said in str(caught.value)
    assert "password'" not in str(caught.value)


def test_values_of_the_wrong_type() -> None:
    limits: list[Any] = ["3", 3.0, True, None]
    for limit in limits:
        with pytest.raises(TypeError, match="the limit of a cap must be an int, not "):
            Cap(limit)
    with pytest.raises(TypeError, match="`tier` must be a str or None, not int"):
        Policy(tier=cast("Any", 5))
    AuthServer(hang, caps={cast("Any", "token"): Cap(3)})
