"""Bans, kicks and narrowings of a running auth server, with relays over real sockets."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from moq_token import Algorithm, Claims, ConfigError, InvalidDenialError, Key
from moq_token.server import AuthServer, Cap, CapKind, Policy, ending, storing, turns
from moq_token.server.admin import Admin
from moq_token.server.denial import Denial, Facts, Matcher
from moq_token.server.http import HttpRequest, HttpResponse
from moq_token.server.listen import UnixAddress, listening
from moq_token.server.log import JsonFormatter
from moq_token.server.metrics import Metrics
from moq_token.server.nudges import parse_relay
from moq_token.server.share.node import ServerNode
from moq_token.server.state import State
from tests import forge
from tests.relays import ANY, FakeRelay, relay
from tests.sharing import session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
    from pathlib import Path

    from moq_token.contract import Grant, Request
    from moq_token.server.api import Receipt

KEY = Key.generate(Algorithm.HS256, "k1")
END = 4_000_000_000
JSON = {"content-type": "application/json", "host": "localhost"}


def token(subject: str = "alice", key: Key = KEY, **claims: Any) -> str:  # noqa: ANN401 - those of a token
    members = {"root": "", "publish": "", "subscribe": "", "expires": END, "subject": subject, **claims}
    return key.sign(Claims(**members))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 100))


class World:
    """An auth server, its admin listener, and relays."""

    def __init__(self, server: AuthServer, relays: list[FakeRelay], metrics: Metrics) -> None:
        self.server, self.relays, self.metrics = server, relays, metrics
        self.admin = Admin(server, metrics)

    async def ask(self, method: str, target: str, status: int = 200, /, **body: Any) -> Any:  # noqa: ANN401 - JSON
        body = {name.rstrip("_"): value for name, value in body.items()}
        data = json.dumps(body).encode() if method == "POST" else b""
        response = await self.admin.handle(HttpRequest(method, target, JSON, data))
        assert response.status == status, response.body
        return json.loads(response.body)

    async def ban(self, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        answer = await self.ask("POST", "/bans", **{"for_": "1h", **body})
        receipt: dict[str, Any] = answer["receipt"]
        return receipt


@asynccontextmanager
async def world(
    tmp_path: Path,
    *nodes: str,
    state: bool = False,
    revalidate: str | None = "1h",
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[World]:
    (tmp_path / "keys").mkdir(exist_ok=True)
    KEY.to_file(tmp_path / "keys" / "k1.jwk")
    policy = Policy(
        str(tmp_path / "keys"), public_subscribe=["lobby/**"], expires="2h", revalidate=revalidate, spread=0
    )
    metrics = Metrics()
    stored = State(str(tmp_path / "state")) if state else None
    server = AuthServer(policy, metrics=metrics, state=stored, **options)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.lifespan())
        running = await stack.enter_async_context(listening(server.handle, ANY))
        port = running.address.port  # type: ignore[union-attr]
        pairs = [await stack.enter_async_context(relay(node, port)) for node in nodes]
        server.revocations.ending.change_relays({known.node: known for _, known in pairs})
        for fake, _ in pairs:
            await fake.until(lambda fake=fake: bool(fake.calls))  # type: ignore[misc]
            fake.calls.clear()
        yield World(server, [fake for fake, _ in pairs], metrics)


@pytest.fixture(autouse=True)
def _wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for ends that come for as long as a busy machine may take."""
    monkeypatch.setattr(ending, "WAIT_SECONDS", 60)


@contextmanager
def in_vain(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.2) -> Iterator[None]:
    """Wait only for a short time in the block, for ends that do not come."""
    with monkeypatch.context() as patch:
        patch.setattr(ending, "WAIT_SECONDS", seconds)
        yield


# -- with relays that can be told


def test_a_ban_ends_exactly_the_right_sessions_of_all_relays(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", "b") as here:
            for number, fake in enumerate(here.relays):
                assert await fake.dial(f"{number}-alice", query=f"jwt={token()}")
                assert await fake.dial(f"{number}-bob", query=f"jwt={token('bob')}")
                assert await fake.dial(f"{number}-nobody", "/lobby/x")
            receipt = await here.ban(subject="alice", reason="spam")
            assert (receipt["matched"], receipt["ended"], receipt["complete"]) == (2, 2, True)
            assert (receipt["alive"], receipt["unreachable"], receipt["out_by"]) == ([], [], None)
            assert receipt["stored"] is False
            for number, fake in enumerate(here.relays):
                assert fake.ended == {f"{number}-alice": "refused"}
                assert {*fake.calls} == {f"id={number}-alice"}  # again to one that does not end soon
                assert fake.live == {f"{number}-bob", f"{number}-nobody"}
            # It stays so for new sessions, until it is lifted.
            first = here.relays[0]
            assert not await first.dial("again", query=f"jwt={token()}")
            (banned,) = (await here.ask("GET", "/bans"))["bans"]
            assert banned["subject"] == "alice"
            lifted = await here.ask("DELETE", f"/bans/{banned['id']}")
            assert lifted["denial"]["lifted"]
            assert (await here.ask("GET", "/bans"))["bans"] == []
            await here.ask("DELETE", f"/bans/{banned['id']}", 404)
            assert await first.dial("again", query=f"jwt={token()}")
            text = here.metrics.render().decode()
            assert "moq_token_revoke_seconds_count 2.0" in text
            assert "moq_token_denials 0.0" in text
            assert 'moq_token_decisions_total{event="revalidate",reason="banned",verdict="refused"} 2.0' in text

    run(work())


def test_many_sessions_are_covered_by_few_calls_which_end_no_others(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            for number in range(80):
                assert await fake.dial(f"{number}", "/room", query=f"jwt={token('alice' if number % 2 else 'bob')}")
                await fake.dial(f"{number}-lobby", "/lobby/x")
            fake.slow.clear()  # so that there is no second call for those that have not ended yet
            receipt = await here.ban(subject="alice")
            fake.slow.set()
            assert (receipt["ended"], receipt["complete"]) == (40, True)
            assert fake.calls == ["path=room"]
            assert len(fake.live) == 120

    run(work())


def test_a_session_that_was_being_admitted_is_told_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            fake.blind = 2
            receipt = await here.ban(subject="alice")
            assert (receipt["ended"], receipt["complete"]) == (1, True)
            assert len(fake.calls) >= 3

    run(work())


def test_the_end_can_come_before_the_answer_to_the_nudge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            fake.slow.clear()
            receipt = await here.ban(subject="alice")
            assert (receipt["ended"], receipt["complete"], receipt["unreachable"]) == (1, True, [])
            fake.slow.set()

    run(work())
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []  # such as an error nobody has seen


def test_two_bans_at_the_same_time_and_the_same_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            await fake.dial("2", query=f"jwt={token('bob')}")
            fake.status = 503
            with in_vain(monkeypatch):
                assert not (await here.ban(subject="alice"))["complete"]
            fake.status = 202
            receipts = await asyncio.gather(
                here.ban(subject="alice"), here.ban(kid="k1"), here.ban(subject="alice", reason="again")
            )
            assert [receipt["matched"] for receipt in receipts] == [1, 2, 1]
            assert all(receipt["complete"] for receipt in receipts)
            assert len((await here.ask("GET", "/bans"))["bans"]) == 2

    run(work())


def test_a_kick_ends_sessions_whose_clients_may_come_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            for number in range(3):
                await fake.dial(f"{number}", f"/room/{number}", query=f"jwt={token()}")
            tried = await here.ask("POST", "/kick", path="room/1", dry_run=True)
            assert (tried["matched"], tried["alive"], tried["dry_run"], fake.ended) == (1, ["1"], True, {})
            receipt = await here.ask("POST", "/kick", path="room/1")
            assert (receipt["ended"], receipt["complete"], fake.ended) == (1, True, {"1": "refused"})
            assert await fake.dial("new", "/room/1", query=f"jwt={token()}")
            assert (await here.ask("GET", "/bans"))["bans"] == []
            assert (await here.ask("POST", "/kick", id="nobody"))["matched"] == 0

    run(work())


def test_a_narrowing_ends_those_that_lose_something(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            await fake.dial("2", query=f"jwt={token(publish=())}")
            receipt = await here.ban(subject="alice", role="publish")
            assert (receipt["matched"], receipt["complete"]) == (1, True)
            await fake.until(lambda: bool(fake.ended))  # it may have the answer a little after the receipt
            assert fake.ended == {"1": "grant narrowed"}
            assert await fake.dial("3", query=f"jwt={token()}")
            listed = await here.ask("GET", "/sessions?id=3")
            assert "publish" not in listed["sessions"][0]["grant"]
            # Now there is nothing left for anybody.
            assert (await here.ban(subject="alice", role="subscribe"))["matched"] == 2
            assert not await fake.dial("4", query=f"jwt={token()}")

    run(work())


def test_the_oldest_session_that_makes_room_is_ended_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", caps={CapKind.SUBJECT: Cap(1, kick_oldest=True)}) as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            assert await fake.dial("2", query=f"jwt={token()}")
            await fake.until(lambda: "1" in fake.ended)
            assert (fake.ended, fake.live) == ({"1": "refused"}, {"2"})

    run(work())


# -- with relays that cannot


@pytest.mark.parametrize("fault", ["refused", "status", "silent", "unknown"])
def test_a_relay_that_cannot_be_told_is_named(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.nudges.REQUEST_SECONDS", 1)

    async def work() -> None:
        async with world(tmp_path, "a", "b") as here:
            lost, good = here.relays
            server = here.server
            await lost.dial("1", query=f"jwt={token()}")
            await good.dial("2", query=f"jwt={token()}")
            known = dict(server.revocations.ending.nudger.relays)
            if fault == "refused":
                known["a"] = parse_relay("a=http://127.0.0.1:1")
            elif fault == "unknown":
                del known["a"]
            elif fault == "status":
                lost.status = 404
            else:
                lost.slow.clear()
                lost.blind = 1000
            server.revocations.ending.nudger.change(known)  # not new, but moved
            with in_vain(monkeypatch, 2):  # for the first, while the second has to end
                receipt = await here.ban(subject="alice")
            assert (receipt["matched"], receipt["ended"], receipt["alive"]) == (2, 1, ["1"])
            assert receipt["complete"] is False
            (named,) = receipt["unreachable"]
            assert named["node"] == "a"
            assert named.get("url") == (None if fault == "unknown" else known["a"].url)
            messages = {"refused": "connect", "status": "404", "silent": "no answer", "unknown": "--relay"}
            assert messages[fault] in named["error"].lower()
            session = server.live.sessions.get("1")
            assert session is not None
            assert receipt["out_by"] == -int(-(session.last + 3600 + 10) // 1)
            lost.slow.set()

    run(work())


def test_without_a_cadence_the_rest_is_out_when_the_grant_ends(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, revalidate=None) as here:
            body = {"id": "1", "event": "connect", "node": "n", "transport": "quic", "path": "/x"}
            await post(here.server, body | {"query": f"jwt={token()}"})
            assert (await here.ban(subject="alice", dry_run=True))["out_by"] == END

    run(work())


async def post(server: AuthServer, body: dict[str, Any]) -> HttpResponse:
    return await server.handle(HttpRequest("POST", "/", JSON, json.dumps(body).encode()))


def test_a_relay_that_can_be_told_again_within_the_time_is_not_named(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            fake.status = 503
            banning = asyncio.create_task(here.ban(subject="alice"))
            await fake.until(lambda: bool(fake.calls))
            fake.status = 202
            receipt = await banning
            assert (receipt["complete"], receipt["unreachable"]) == (True, [])

    run(work())


def test_after_a_restart_the_relays_report_their_sessions_again(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", revalidate=None) as here:
            (fake,) = here.relays
            await fake.dial("1", query=f"jwt={token()}")
            await fake.dial("2", query=f"jwt={token('bob')}")
            here.server.live.sessions.__init__()  # type: ignore[misc] # as after a restart
            assert (await here.ban(subject="alice"))["matched"] == 0
            known = dict(here.server.revocations.ending.nudger.relays)
            here.server.revocations.ending.change_relays({})
            here.server.revocations.ending.change_relays(known)
            await fake.until(lambda: "1" in fake.ended)
            assert fake.live == {"2"}
            while here.server.live.sessions.get("2") is None:  # noqa: ASYNC110 - the table has no event
                await asyncio.sleep(0)
            # A relay that was never reached may have sessions that nobody knows.
            gone = parse_relay("gone=http://127.0.0.1:1")
            here.server.revocations.ending.change_relays({**known, "gone": gone})
            receipt = await here.ban(subject="bob")
            assert (receipt["matched"], receipt["ended"], receipt["complete"]) == (1, 1, False)
            (named,) = receipt["unreachable"]
            assert (named["node"], named["url"]) == ("gone", gone.url)
            assert "it may have sessions that are not known here" in named["error"]

    run(work())


async def banned_after(seconds: float, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - those of the server
    """Ban somebody unknown at a server that was started so many seconds ago; return the receipt."""
    now = 0.0
    server = AuthServer(**options, clock=lambda: 1000.0 + now, steady=lambda: now)
    now = seconds
    receipt = (await server.revocations.ban(Denial(subject="alice", until=END))).receipt
    await server.revocations.aclose()
    told: dict[str, Any] = json.loads(msgspec.json.encode(receipt))
    return told


def test_a_server_that_was_just_started_does_not_know_all_sessions() -> None:
    async def custom(_: Request) -> Grant:
        raise NotImplementedError

    async def work() -> None:
        minutely = {"decide": Policy(expires="1h", revalidate="1m")}
        for options, seconds in (
            (minutely, 119.0),
            ({"decide": custom}, 119.0),
            ({"decide": custom, "max_age": 5}, 9.0),
        ):
            receipt = await banned_after(seconds, **options)
            assert (receipt["matched"], receipt["complete"], receipt["expires_by"]) == (0, False, None)
            assert receipt["out_by"] == 1000 + seconds + 1  # two cadences after the start
            (named,) = receipt["unreachable"]
            assert (named["kind"], named["node"]) == ("start", "")
            assert f"started {seconds:.0f} s ago and does not know all sessions yet" in named["error"]
            assert (await banned_after(seconds + 1, **options))["complete"]
        # Without a cadence, sessions from before the start do not come back by themselves.
        receipt = await banned_after(1e6, decide=Policy(expires="1h"))
        assert (receipt["complete"], receipt["out_by"]) == (False, None)
        assert "--revalidate" in receipt["unreachable"][0]["error"]
        # Relay 0.14 reports no sessions.
        assert (await banned_after(1.0, decide=Policy(expires="1h"), contract="get"))["complete"]

    run(work())


def test_relay_0_14_is_named_if_it_asks_and_cannot_be_told() -> None:
    async def work() -> None:
        now = 1000.0
        policy = Policy(public_subscribe=["**"], expires="1h", revalidate="10s", spread=0)
        server = AuthServer(policy, clock=lambda: now, steady=lambda: now)

        async def banned(**members: Any) -> Receipt:  # noqa: ANN401 - those of a denial
            denial = Denial(**members, until=END)
            banned = await server.revocations.ban(denial, others_by=server.questions.out_by(denial))
            return banned.receipt

        now += 1000
        assert (await banned(subject="alice")).complete  # no such relay has asked
        assert (await server.handle(HttpRequest("GET", "/?root=room&transport=quic", {}, b""))).status == 200
        for members in ({"subject": "alice"}, {"remote": "192.0.2.1", "path": "x"}, {"kid": "k", "issued_before": 5}):
            receipt = await banned(**members)
            (named,) = receipt.unreachable
            assert (named.kind, receipt.complete, receipt.out_by) == ("relay-0.14", False, None)
        for members in ({"kid": "k"}, {"path": "x"}, {"kid": "k", "path": "x/**"}):
            receipt = await banned(**members)
            assert (receipt.unreachable, receipt.complete, receipt.out_by) == ((), True, now + 10)
        now += 20
        assert (await banned(subject="alice")).complete  # its sessions would have asked again
        await server.revocations.aclose()

    run(work())


def test_a_server_that_has_reached_all_relays_knows_all_sessions(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            assert (await here.ban(subject="alice"))["complete"]

    run(work())


# -- other ways in


def test_a_ban_outlives_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        stolen = token("carol")
        async with world(tmp_path, "a", state=True) as here:
            assert (await here.ban(token=stolen, reason="stolen"))["stored"] is True
            assert not await here.relays[0].dial("1", query=f"jwt={stolen}")
        async with world(tmp_path, "a", state=True) as here:
            assert not await here.relays[0].dial("1", query=f"jwt={stolen}")
            assert await here.relays[0].dial("2", query=f"jwt={token('carol', issued=5)}")
        kept = "".join(path.read_text() for path in (tmp_path / "state").iterdir())
        assert not any(part in kept for part in stolen.split("."))

    run(work())


def test_a_ban_that_cannot_be_stored_is_in_force_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", state=True) as here:

            def fail(*_: object) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(State, "save", fail)
                assert (await here.ban(subject="alice"))["stored"] is False
            assert not await here.relays[0].dial("1", query=f"jwt={token()}")
            (problem,) = here.server.revocations.storing.problems()
            assert "No space left" in problem.message
            assert (await here.ban(subject="bob"))["stored"] is True
            assert here.server.revocations.storing.problems() == []

    run(work())


def test_denials_are_stored_when_the_disk_has_space_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "STORE_AGAIN_SECONDS", 0.01)
    attempts: list[object] = []
    save = State.save

    def fail_twice(state: State, denials: Iterable[Denial]) -> None:
        attempts.append(denials)
        if len(attempts) < 3:
            raise OSError(28, "No space left on device")
        save(state, denials)

    monkeypatch.setattr(State, "save", fail_twice)

    async def work() -> None:
        async with world(tmp_path, "a", state=True) as here:
            assert (await here.ban(subject="alice"))["stored"] is False
            async with asyncio.timeout(60):
                while here.server.revocations.storing.problems():  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.005)
        state = State(str(tmp_path / "state"))
        assert [denial.subject for denial in state.denials] == ["alice"]
        state.close()
        assert len(attempts) == 3

    run(work())


def test_denials_of_other_nodes_end_sessions_too(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            shared: list[Denial] = []
            here.server.revocations.share = shared.extend
            await fake.dial("1", query=f"jwt={token()}")
            denial = Denial(subject="alice", until=END, at=1.0, node="elsewhere")
            assert await here.server.revocations.merge([denial, denial]) == []
            await fake.until(lambda: "1" in fake.ended)
            assert shared == []
            await here.ban(subject="bob")
            assert [each.subject for each in shared] == ["bob"]

    run(work())


def test_only_kicks_that_have_not_ended_a_session_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            shared: list[Denial] = []
            here.server.revocations.share = shared.extend
            for number in range(2):
                await fake.dial(f"{number}", query=f"jwt={token()}")
            assert (await here.ask("POST", "/kick", id="0"))["ended"] == 1
            assert shared == []
            fake.status = 500
            with in_vain(monkeypatch):
                assert (await here.ask("POST", "/kick", subject="alice"))["alive"] == ["1"]
            assert [each.session for each in shared] == ["1"]

    run(work())


@pytest.mark.parametrize(
    ("revalidate", "expires", "seconds"),
    [(None, None, 600), (1, None, 600), (60, 86_400, 600), (300, 86_400, 900), (3600, 7200, 7200), (60, 30, 30)],
)
def test_a_kick_is_in_force_for_the_next_re_checks(revalidate: int | None, expires: int | None, seconds: int) -> None:
    async def work() -> None:
        server = AuthServer(Policy(), clock=lambda: 1000.0)
        one = session("1", revalidate=revalidate, expires=None if expires is None else 1000 + expires)
        await server.revocations.kick([one], reason="", author="", seconds=0)
        assert [denial.until for denial in server.revocations.denials] == [1000 + seconds]

    run(work())


def test_denials_that_have_ended_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.denials.MAX_DENIALS", 2)
    ended = [Denial(subject=name, until=1) for name in "xy"]

    async def work() -> None:
        async with world(tmp_path, "a") as here:
            known = here.server.revocations
            # A server that sets none itself takes those of others for as long as it runs.
            assert await known.merge(ended) == []
            assert await known.merge([Denial(subject="alice", until=END)]) == []
            assert not await here.relays[0].dial("1", query=f"jwt={token()}")
            assert await here.relays[0].dial("2", query=f"jwt={token('bob')}")
            assert await known.merge(ended[:1]) == []
            assert (await here.ask("POST", "/kick", subject="bob"))["ended"] == 1
            assert await known.merge(ended[:1]) == []
            assert [denial.subject for denial in ServerNode(here.server).denials()] == ["alice"]

    run(work())


def test_many_denials_of_other_nodes_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    matches = Matcher.matches

    def counted(matcher: Matcher, facts: Facts) -> bool:
        compared.append(facts.session)
        return matches(matcher, facts)

    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            for number in range(40):
                assert await fake.dial(f"{number}", query=f"jwt={token(f'user-{number}')}")
            denials = [Denial(remote=f"198.51.100.{number}", until=END) for number in range(40)]
            denials += [
                Denial(session="2", subject="user-3", until=END),
                Denial(subject="user-1", role="publish", until=END),
            ]
            denials += [Denial(subject="user-4", until=END), Denial(subject="user-5", until=1)]
            monkeypatch.setattr(Matcher, "matches", counted)
            assert await here.server.revocations.merge(denials) == []
            # Each session with those that can match it, not with all: that would block the event loop for long.
            assert len(compared) < 100
            await fake.until(lambda: {"1", "4"} <= {*fake.ended})
            assert {*fake.ended} == {"1", "4"}
            assert {*fake.calls} == {"id=1", "id=4"}  # again to one that does not end soon

    run(work())


def test_a_caller_that_goes_away_leaves_the_ban_in_force_and_stored(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", state=True) as here:
            banning = asyncio.create_task(here.ban(subject="alice"))
            await asyncio.sleep(0)
            banning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await banning
        async with world(tmp_path, "a", state=True) as here:
            assert not await here.relays[0].dial("1", query=f"jwt={token()}")

    run(work())


def test_another_valid_signature_of_a_banned_token_is_banned_too(tmp_path: Path) -> None:
    key = Key.generate(Algorithm.ES256, "ec")

    async def work() -> None:
        async with world(tmp_path, "a") as here:
            key.to_file(tmp_path / "keys" / "ec.jwk")
            stolen = token(key=key)
            signed, _, signature = stolen.rpartition(".")
            raw = forge.unb64(signature)
            other = forge.ORDERS[Algorithm.ES256] - int.from_bytes(raw[32:])
            twin = f"{signed}.{forge.b64(raw[:32] + other.to_bytes(32))}"
            assert await here.relays[0].dial("1", query=f"jwt={twin}")
            assert (await here.ban(token=stolen))["ended"] == 1
            assert not await here.relays[0].dial("2", query=f"jwt={twin}")

    run(work())


def test_tokens_that_were_issued_before(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:
            (fake,) = here.relays
            await here.ban(issued_before=1000, everybody=True)
            for number, (issued, admitted) in enumerate([(999, False), (1000, True), (None, False)]):
                assert await fake.dial(f"{number}", query=f"jwt={token(issued=issued)}") is admitted
            assert await fake.dial("public", "/lobby/x")

    run(work())


def test_what_is_denied_to_relay_0_14(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a") as here:

            async def answered(query: str) -> Any:  # noqa: ANN401 - JSON
                response = await here.server.handle(
                    HttpRequest("GET", f"/?transport=quic&{query}", {}, b"", local=True)
                )
                return response.status, json.loads(response.body) if response.status == 200 else None

            public = {"public": {"subscribe": [""]}}
            assert await answered("root=lobby/x") == (200, public)
            receipt = await here.ban(path="lobby/x", dry_run=True)
            assert receipt["out_by"] is not None
            assert (await here.ban(subject="alice"))["out_by"] is None  # such a relay does not say
            await here.ban(path="lobby/x")
            assert await answered("root=lobby/x") == (200, {})
            assert await answered("root=lobby/x&mtls=true") == (404, None)
            assert await answered("root=lobby/y") == (200, public)
            await here.ban(path="lobby/y", role="subscribe")
            assert await answered("root=lobby/y") == (200, {})
            await here.ban(kid="k1")
            assert await answered("root=lobby/z&kid=k1") == (200, {})

    run(work())


# -- the API


@pytest.mark.parametrize(
    ("call", "body", "status", "message"),
    [
        ("POST /bans", {}, 422, "say how long"),
        ("POST /bans", {"for": "1h"}, 422, "at least one of"),
        ("POST /bans", {"subject": "a"}, 422, "say how long"),
        ("POST /bans", {"subject": "a", "for": "60"}, 422, "unit is missing"),
        ("POST /bans", {"subject": "a", "for": "0"}, 422, "longer than 0s"),
        ("POST /bans", {"subject": "a", "for": "10000y"}, 422, "year 10000"),
        ("POST /bans", {"subject": "a", "until": 5}, 422, "in the past"),
        ("POST /bans", {"subject": "a", "for": "1h", "until": END}, 422, "exclude each other"),
        ("POST /bans", {"subject": 1, "for": "1h"}, 422, "invalid body"),
        ("POST /bans", {"subjekt": "a", "for": "1h"}, 422, "subjekt"),
        ("POST /bans", {"token": "x"}, 422, "not a JWT"),
        ("POST /bans", {"token": " ", "for": "1h"}, 422, "`token`"),
        ("POST /bans", {"token": token(expires=None)}, 422, "no `exp`"),
        ("POST /bans", {"token": token(expires=5)}, 422, "has expired"),
        ("POST /bans", {"remote": "1.2.3.4:5", "for": "1h"}, 422, "without a port"),
        ("POST /bans", {"issued_before": 5, "for": "1h"}, 422, "everybody"),
        ("POST /bans", [], 422, "invalid body"),
        ("POST /bans", b"{", 400, "JSON object"),
        ("POST /bans", b"\xff", 400, "JSON object"),
        ("POST /kick", {}, 422, "say which sessions"),
        ("POST /kick", {"token": "zz"}, 422, "digest"),
        ("POST /kick", {"path": "a/**/b/**"}, 422, "`path`"),
        ("POST /kick", {"remote": "x"}, 422, "`remote`"),
        ("POST /kick", {"subject": "a", "author": "x\ny"}, 422, "`author` must be one line"),
        ("POST /kick", {"subject": "a", "reason": "x" * 257, "dry_run": True}, 422, "`reason` must be one line"),
        ("POST /kick", {"x" * 9999: 1}, 422, "unknown field"),
        ("GET /sessions?nonsense=1", None, 400, "unknown filter"),
        ("GET /sessions?limit=0", None, 400, "`limit`"),
        ("GET /sessions?limit=10001", None, 400, "`limit`"),
        ("GET /sessions?remote=x", None, 422, "`remote`"),
        ("GET /sessions?%ff", None, 400, "percent-encoded"),
        ("DELETE /bans/nothing", None, 404, "GET /bans"),
        ("DELETE /bans/../x", None, 404, "GET /bans"),
        ("PUT /bans", None, 405, "method not allowed"),
        ("DELETE /sessions", None, 405, "method not allowed"),
        ("GET /kick", None, 405, "method not allowed"),
    ],
)
def test_what_the_api_refuses(tmp_path: Path, call: str, body: object, status: int, message: str) -> None:
    async def work() -> None:
        async with world(tmp_path) as here:
            method, target = call.split(" ")
            data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            response = await here.admin.handle(HttpRequest(method, target, JSON, data))
            assert response.status == status
            error = json.loads(response.body)["error"]
            assert message in error["message"]
            assert len(error["message"]) <= 500
            assert error["reason"]
            assert len(here.server.revocations.denials) == 0

    run(work())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:4441"}, 415),
        ({"host": "localhost", "content-type": "text/plain"}, 415),
        ({"host": "localhost", "content-type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "evil.example", "content-type": "application/json"}, 403),
        ({"host": "localhost.evil.example", "content-type": "application/json"}, 403),
        ({"host": "127.0.0.1.nip.io:80", "content-type": "application/json"}, 403),
        ({"host": "192.0.2.1", "content-type": "application/json"}, 403),
        ({"host": "", "content-type": "application/json"}, 403),
        ({"host": "[::1]:4441", "content-type": "application/json; charset=utf-8"}, 200),
        ({"host": "[::1]", "content-type": "application/json"}, 200),
        ({"host": "LOCALHOST", "content-type": "application/json"}, 200),
        ({"host": "127.0.0.1:1", "content-type": "application/json"}, 200),
    ],
)
def test_a_web_page_cannot_use_the_api(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async def work() -> None:
        async with world(tmp_path) as here:
            body = b'{"subject":"a","for":"1h"}'
            assert (await here.admin.handle(HttpRequest("POST", "/bans", headers, body))).status == status
            for target in "/sessions", "/bans", "/", "/status":
                read = (await here.admin.handle(HttpRequest("GET", target, headers, b""))).status
                assert read == (403 if status == 403 else 200)
            assert (await here.admin.handle(HttpRequest("GET", "/metrics", headers, b""))).status == 200

    run(work())


def test_the_listing_of_sessions(tmp_path: Path) -> None:
    async def work() -> None:
        async with world(tmp_path, "a", "b") as here:
            one, two = here.relays
            await one.dial("1", "/room/x", f"jwt={token(id='j', issued=7)}", "192.0.2.9:5")
            await two.dial("2", "/room", f"jwt={token('bob')}", "[2001:db8::1]:5")
            await two.dial("3", "/lobby/x", None, None)
            whole = await here.ask("GET", "/sessions")
            assert whole["count"] == 3
            first = next(each for each in whole["sessions"] if each["id"] == "1")
            known = {"node": "a", "path": "/room/x", "remote": "192.0.2.9:5", "subject": "alice", "jti": "j"}
            assert first.items() >= {**known, "kid": "k1", "issued": 7, "transport": "quic"}.items()
            for query, ids in [
                ("node=b", "23"),
                ("subject=bob", "2"),
                ("jti=j", "1"),
                ("kid=k1", "12"),
                (f"token={first['token']}", "1"),
                ("remote=192.0.2.0/24", "1"),
                ("remote=2001:db8::1", "2"),
                ("path=room/**", "12"),
                ("path=room/**&node=b", "2"),
                ("id=nobody", ""),
                ("transport=tcp", ""),
            ]:
                listed = await here.ask("GET", f"/sessions?{query}")
                assert ("".join(sorted(each["id"] for each in listed["sessions"])), listed["count"]) == (ids, len(ids))
            limited = await here.ask("GET", "/sessions?limit=2")
            assert (len(limited["sessions"]), limited["count"]) == (2, 3)

    run(work())


def test_no_token_is_shown_and_every_call_is_logged(tmp_path: Path) -> None:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("moq_token.server")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    secret = token("mallory")

    async def work() -> None:
        answers = []
        async with world(tmp_path, "a") as here:
            await here.relays[0].dial("1", query=f"jwt={secret}")
            answers += [
                await here.ask("POST", "/bans", token=secret, author="op", dry_run=True),
                await here.ask("POST", "/bans", token=secret, author="op", reason="stolen"),
                await here.ask("GET", "/bans"),
                await here.ask("GET", "/sessions"),
                await here.ask("POST", "/kick", subject="mallory", author="op", dry_run=True),
                await here.ask("POST", "/kick", subject="mallory", author="op"),
            ]
            banned = answers[1]["denial"]
            assert banned["until"] == END  # until the token expires
            await here.ask("DELETE", f"/bans/{banned['id']}?author=op2")
            await here.ask("DELETE", "/bans/0123?author=op2", 404)
            await here.ask("POST", "/kick", 422, id=5)
        shown = f"{answers}{told.getvalue()}"
        assert not any(part in shown for part in secret.split("."))

    try:
        run(work())
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    audit = [(line["action"], line.get("author")) for line in lines if line.get("event") == "admin"]
    done = [("ban", "op"), ("ban", "op"), ("bans", None), ("sessions", None), ("kick", "op"), ("kick", "op")]
    assert audit == [*done, ("unban", "op2"), ("DELETE /bans/0123", None), ("POST /kick", None)]
    # A dry run is told as such, and has no receipt, which would read as if nobody had ended.
    told_of = [line["message"].partition(":")[0] for line in lines if line.get("event") == "admin"]
    assert "kick: subject 'mallory', sessions: 0" in [line["message"] for line in lines]
    listed = ["bans are listed", "sessions are listed"]
    failed = ["an operation failed", "an operation failed"]
    assert told_of == ["a dry run of ban", "ban", *listed, "a dry run of kick", "kick", "unban", *failed]
    assert [line["action"] for line in lines if line.get("event") == "receipt"] == ["ban", "kick"]


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system does not tell who calls")
def test_the_log_names_the_process_that_calls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = ["GET /bans", "POST /bans", "DELETE /bans/0123", "POST /kick"]
    body = {"subject": "alice", "for": "1h"}

    async def work() -> None:
        async with world(tmp_path, "a") as here:
            address = UnixAddress(str(tmp_path / "admin"))
            async with listening(here.admin.handle, address):
                reader, writer = await asyncio.open_unix_connection(address.path)
                for call in calls:
                    data = (
                        json.dumps(body | ({} if "bans" in call else {"for": ""})).encode() if "POST" in call else b""
                    )
                    head = f"{call} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split()[0]))
                writer.close()

    caplog.set_level(logging.INFO)
    run(work())
    told = [record for record in caplog.records if getattr(record, "event", None) == "admin"]
    assert len(told) == len(calls)
    assert {(record.pid, record.uid, record.gid) for record in told} == {(os.getpid(), os.getuid(), os.getgid())}  # type: ignore[attr-defined]


def test_too_many_denials_are_an_error_and_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.denials.MAX_DENIALS", 2)

    async def work() -> None:
        async with world(tmp_path, "a") as here:
            for number in range(3):
                await here.relays[0].dial(f"{number}", query=f"jwt={token()}")
            refused = await here.ask("POST", "/kick", 409, subject="alice")
            assert refused["error"]["reason"] == "too-many"
            await here.ban(subject="x")
            await here.ban(subject="y")
            assert (await here.ask("POST", "/bans", 409, subject="z", **{"for": "1h"}))["error"]["reason"] == "too-many"
            await here.ban(subject="y", reason="again")
            assert len(here.relays[0].live) == 3
            with pytest.raises(InvalidDenialError):
                here.server.revocations.denials.put(Denial(subject="z", until=END))
            known = here.server.revocations.denials.get(Denial(subject="y", until=END).id)
            assert known is not None
            later = Denial(subject="y", until=END, at=known.at + 1)
            too_many = Denial(subject="z", until=END)
            assert await here.server.revocations.merge([too_many, later]) == [too_many]
            assert here.server.revocations.denials.get(later.id) == later

    run(work())


def test_bans_from_python(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(ConfigError, match="NODE=http"):
            AuthServer(Policy(), relays=["nonsense"])
        server = AuthServer(Policy(public_subscribe=["**"]), state=State(str(tmp_path / "s")), relays=["=unix:/none"])
        async with server.lifespan():
            banned = await server.revocations.ban(Denial(path="room/**", until=END, reason="closed"))
            assert (banned.receipt.matched, banned.receipt.stored) == (0, True)
            body = {"id": "1", "event": "connect", "node": "", "transport": "quic", "path": "/room/x"}
            assert (await post(server, body)).status == 403
            assert await server.revocations.lift(banned.denial.id) is not None
            assert (await post(server, body)).status == 200

    run(work())


# -- with many sessions


MANY = 1000


@asynccontextmanager
async def crowd(tmp_path: Path) -> AsyncIterator[World]:
    """Make a server with many sessions of relays that it does not know."""
    held = token()
    async with world(tmp_path) as here:
        for number in range(MANY):
            body = {"id": f"{number}", "event": "connect", "node": "n", "transport": "quic", "path": "/x"}
            await post(here.server, body | {"query": f"jwt={held}", "remote": "192.0.2.1:443"})
        yield here


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/bans", {"remote": "192.0.2.0/24", "for": "1h"}),
        ("POST", "/bans", {"path": "x", "for": "1h", "dry_run": True}),
        ("POST", "/bans", {"path": "x", "role": "publish", "for": "1h"}),
        ("POST", "/kick", {"path": "x"}),
        ("POST", "/kick", {"path": "x", "dry_run": True}),
        ("GET", "/sessions?remote=192.0.2.0/24", {}),
        ("GET", "/status", {}),
    ],
)
def test_what_concerns_many_sessions_lets_relays_have_their_answers_meanwhile(
    tmp_path: Path, method: str, target: str, body: dict[str, Any]
) -> None:
    async def work() -> None:
        async with crowd(tmp_path) as here:
            request = HttpRequest(method, target, JSON, json.dumps(body).encode() if body else b"")
            asked = asyncio.create_task(here.admin.handle(request))
            answered = 0
            while not asked.done() and answered < MANY // turns.PIECE:
                await asyncio.sleep(0)
                revalidate = {"event": "revalidate", "node": "n", "transport": "quic", "path": "/lobby/x"}
                assert (await post(here.server, {"id": f"new-{answered}", **revalidate})).status == 200
                answered += 1
            assert answered == MANY // turns.PIECE
            assert (await asked).status == 200

    run(work())


def test_sessions_that_come_and_go_while_a_ban_looks_for_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        async with crowd(tmp_path) as here:
            asked = asyncio.create_task(here.ban(path="x"))
            while not len(here.server.revocations.denials):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)  # it has found some
            # It is in force before its sessions are found: they are refused when their relay happens to ask.
            last = {"id": f"{MANY - 1}", "node": "n", "transport": "quic", "path": "/x"}
            asking = {"query": f"jwt={token('late')}", "remote": "192.0.2.1:443"}
            assert (await post(here.server, {**last, **asking, "event": "revalidate"})).status == 403
            assert (await post(here.server, {**last, **asking, "id": "new", "event": "connect"})).status == 403
            assert (await post(here.server, {**last, "event": "end"})).status == 204
            receipt = await asked
            assert (receipt["matched"], receipt["ended"], len(receipt["alive"])) == (MANY - 1, 0, 100)

    run(work())


def test_a_kick_of_many_leaves_nothing_behind_if_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with crowd(tmp_path) as here:
            denials = here.server.revocations.denials
            monkeypatch.setattr("moq_token.server.denials.MAX_DENIALS", MANY)
            asked = asyncio.create_task(here.ask("POST", "/kick", 409, path="x"))
            while not len(denials):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            denials.put(Denial(subject="somebody", until=END))  # another operator is quicker
            assert (await asked)["error"]["reason"] == "too-many"
            assert [denial.subject for denial in denials] == ["somebody"]

    run(work())
