"""An auth server that waits for its share while other things happen."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from moq_token.contract import Grant, Request
from moq_token.server import AuthServer, Cap, CapKind
from moq_token.server.denial import Denial
from moq_token.server.http import HttpRequest
from moq_token.server.metrics import Metrics
from moq_token.server.share import sharing as sharing_module
from moq_token.server.share.denials import SharedDenials
from moq_token.server.share.names import Names
from moq_token.server.share.sharing import Sharing
from tests.share_link import ModelLink
from tests.share_model import StoreModel
from tests.sharing import SECRET, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from moq_token.server.share.caps import Call


END = int(time.time()) + 3600


async def decide(_: Request) -> Grant:
    return Grant(subscribe=["**"], expires=int(time.time()) + 3600, revalidate=60)


class Together:
    """A server, and the one link of its share."""

    def __init__(self, *, required: bool = False, metrics: Metrics | None = None) -> None:
        self.store = StoreModel()
        self.link: ModelLink | None = None
        caps = {CapKind.REMOTE: Cap(1)}
        self.share = share = Sharing(self.connect, Names(SECRET), caps, required=required)
        self.server = AuthServer(decide, caps=caps, share=share, metrics=metrics)

    async def connect(self, _: Sequence[bytes], receive: Callable[[bytes], None]) -> ModelLink:
        self.link = ModelLink(self.store, time.time, receive)
        return self.link

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ModelLink]:
        async with self.server.lifespan():
            assert self.link is not None
            yield self.link

    def places(self) -> int:
        return sum(len(scores) for key, scores in self.store.sorted.items() if b"}:r:" in key)

    async def ask(self, event: str, session_id: str = "1", remote: str = "192.0.2.1:1") -> int:
        session = {"id": session_id, "event": event, "node": "n", "transport": "quic", "path": "/a", "remote": remote}
        body = msgspec.json.encode(session)
        answer = await self.server.handle(HttpRequest("POST", "/", {"content-type": "application/json"}, body))
        return answer.status

    async def waiting(self, link: ModelLink) -> asyncio.Task[int]:
        """Start a connect, which has a place in the store, and does not know yet."""
        link.is_held = True
        task = asyncio.create_task(self.ask("connect"))
        while not self.places():  # noqa: ASYNC110 - a turn of the loop or two
            await asyncio.sleep(0)
        return task


def test_places_follow_the_sessions() -> None:
    async def run() -> None:
        together = Together()
        async with together.running():
            assert [await together.ask("connect", each) for each in ("1", "1", "2")] == [200, 200, 403]
            assert await together.ask("end", "2") == 204
            assert together.places() == 1
            assert await together.ask("end", "1") == 204
            assert together.places() == 0
            assert await together.ask("connect", "1") == 200  # late: it takes no place
            assert together.places() == 0
            assert await together.ask("revalidate", "3") == 200
            assert together.places() == 1
            together.store.flush()
            assert await together.ask("revalidate", "3") == 200
            assert together.places() == 1

    asyncio.run(run())


def test_an_end_while_the_store_is_asked_gives_the_place_back() -> None:
    async def run() -> None:
        together = Together()
        async with together.running() as link:
            connecting = await together.waiting(link)
            assert await together.ask("end") == 204
            link.let_go()
            assert await connecting == 200
            assert together.places() == 0

    asyncio.run(run())


def test_a_ban_while_the_store_is_asked_refuses() -> None:
    async def run() -> None:
        together = Together()
        async with together.running() as link:
            connecting = await together.waiting(link)
            await together.server.revocations.merge([Denial(path="a", until=int(time.time()) + 60, at=1.0)])
            link.let_go()
            assert await connecting == 403
            assert together.places() == 0

    asyncio.run(run())


def test_denials_without_room_are_fetched_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moq_token.server.denials.MAX_DENIALS", 2)
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 0.01)

    async def run() -> None:
        together, operations = Together(), list[object]()
        call = together.store.call

        def counted(asked: Call, now: int) -> object:
            operations.append(asked.arguments[0])
            return call(asked, now)

        monkeypatch.setattr(together.store, "call", counted)
        other = SharedDenials(Names(SECRET))
        denials = {each.id: each for each in (Denial(subject=f"s{n}", until=END, at=1.0) for n in range(4))}
        for denial in denials.values():
            together.store.call(other.put(denial), int(time.time() * 1000))
        async with together.running():
            known = together.server.revocations.denials
            await until(lambda: len(known) == 2)
            first = {denial.id for denial in known}
            await until(lambda: operations.count(b"pull") > operations.count(b"fetch") + 3)  # not again and again
            known.forget(min(first))
            await until(lambda: len(known) == 2)
            assert len({denial.id for denial in known} - first) == 1

    asyncio.run(run())


def test_a_caller_that_goes_away_leaves_no_place() -> None:
    async def run() -> None:
        together = Together()
        async with together.running() as link:
            connecting = await together.waiting(link)
            connecting.cancel()
            await asyncio.wait((connecting,))
            link.let_go()
            assert together.places() == 0

    asyncio.run(run())


@pytest.mark.parametrize("required", [False, True])
def test_what_is_required_of_a_share_that_is_gone(
    required: bool,  # noqa: FBT001 - a row
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        together = Together(required=required)
        async with together.running() as link:
            assert await together.ask("connect") == 200
            await link.aclose()
            # The first finds out, the next know. Sessions that are there go on, and ends are taken.
            new = [await together.ask("connect", f"2{number}", f"192.0.2.{number}:1") for number in range(2, 5)]
            assert new == [503 if required else 200] * 3
            assert await together.ask("revalidate") == 200
            assert await together.ask("end") == 204
            await until(lambda: together.share.problem)

    asyncio.run(run())
    meanwhile = "no new session is admitted" if required else "this server decides by itself"
    lost = [record.getMessage() for record in caplog.records if getattr(record, "event", None) == "share-lost"]
    assert lost[0].startswith(f"the share cannot be reached, {meanwhile}: ")


@pytest.mark.parametrize("required", [False, True])
def test_a_session_whose_answer_was_lost_keeps_its_place_only_if_it_is_admitted(required: bool) -> None:  # noqa: FBT001 - a row
    async def run() -> None:
        together = Together(required=required)
        async with together.running() as link:
            connecting = await together.waiting(link)
            link.lose()
            assert await connecting == (503 if required else 200)
            assert together.places() == (0 if required else 1)

    asyncio.run(run())


def test_a_server_whose_lease_ends_while_it_is_asked_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "PULL_SECONDS", 0.01)

    async def run() -> None:
        together = Together()
        async with together.running():
            together.store.call(SharedDenials(Names(SECRET)).pull("other-1", 0.2), int(time.time() * 1000))
            await together.share.ask(b"{}", 0.01)
            answers = await together.share.ask(b"{}", 0.5)
            assert (answers.missing, answers.gone) == ((), ("other-1",))

    asyncio.run(run())


def test_metrics() -> None:
    async def run() -> None:
        metrics = Metrics()
        together = Together(metrics=metrics)
        async with together.running() as link:
            assert b"moq_token_share_up 1.0" in metrics.render()
            await link.aclose()
            assert await together.ask("connect") == 200
            await until(lambda: together.share.problem)
            text = metrics.render()
            assert b"moq_token_share_up 0.0" in text
            assert b"moq_token_share_alone_total 1.0" in text

    asyncio.run(run())


def test_a_server_stops_although_its_link_fails_in_an_unknown_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(_: Call) -> None:
        raise ZeroDivisionError

    async def run() -> None:
        async with asyncio.timeout(60):
            async with Together().running() as link:
                monkeypatch.setattr(link, "call", call)

    asyncio.run(run())
