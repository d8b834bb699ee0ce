"""The places of sessions in the caps of a share, with a link in place of the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from moq_token.errors import UnavailableError
from moq_token.server.caps import REFUSALS, Cap, CapKind
from moq_token.server.share import places as places_module
from moq_token.server.share.link import StoreError
from moq_token.server.share.names import Names
from moq_token.server.share.places import Places
from tests.sharing import ONE_PER_TOKEN, SECRET, instant, session

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.server.caps import Caps
    from moq_token.server.session import Refusal
    from moq_token.server.share.caps import Call

KICKING: Caps = {CapKind.TOKEN: Cap(1, kick_oldest=True)}
NOT_COUNTED: dict[str, Any] = {"token": None}


class FakeLink:
    """Answers each call as ``answer`` does at that time; an exception is a failure, None is no answer yet."""

    def __init__(self, answer: Callable[[Call], object] = lambda _: [0]) -> None:
        self.answer = answer
        self.operations: list[bytes | int] = []
        self.made: list[asyncio.Future[object]] = []

    def call(self, call: Call) -> asyncio.Future[object]:
        self.operations.append(call.arguments[0])
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.made.append(future)
        answer = self.answer(call)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future


class Node:
    """The places of one node, and which of its sessions were ended for newer ones."""

    def __init__(self, caps: Caps = ONE_PER_TOKEN, *, required: bool = False) -> None:
        self.kicked: list[tuple[str, str]] = []
        self.places = Places(caps, Names(SECRET), self._kick, lambda: "refused", required=required)

    def _kick(self, session_id: str, refusal: Refusal) -> None:
        self.kicked.append((session_id, refusal.reason))

    def attach(self, link: FakeLink) -> FakeLink:
        self.places.attach(link)  # type: ignore[arg-type]
        return link

    async def admit(self, session_id: str, **members: Any) -> Refusal | None:  # noqa: ANN401 - those of a session
        return await self.places.admit(session(session_id, **members), instant())

    def kick_of(self, session_id: str) -> bytes:
        """Return the message of the store that a session was ended for a newer one."""
        return b"t" + Names(SECRET).digest(b"session", session_id.encode())


async def turns() -> None:
    """Let callbacks of futures run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_the_store_is_not_told_of_a_session_that_no_cap_counts() -> None:
    async def run() -> None:
        node = Node()
        assert await node.admit("1", **NOT_COUNTED) is None
        assert node.places.alone == 0
        link = node.attach(FakeLink())
        assert await node.admit("1", **NOT_COUNTED) is None
        node.places.refresh(session("1", **NOT_COUNTED), instant())
        node.places.release(session("1", **NOT_COUNTED), instant())
        assert link.operations == []

    asyncio.run(run())


@pytest.mark.parametrize("members", [{}, NOT_COUNTED], ids=["counted", "not counted"])
def test_a_new_session_is_unavailable_without_a_store_that_is_required(members: dict[str, Any]) -> None:
    async def run() -> None:
        node = Node(required=True)
        with pytest.raises(UnavailableError, match="refused"):
            await node.admit("1", **members)
        node.attach(FakeLink())
        assert await node.admit("1", **members) is None
        node.places.detach()
        with pytest.raises(UnavailableError, match="refused"):
            await node.admit("2", **members)
        assert node.places.alone == 0

    asyncio.run(run())


@pytest.mark.parametrize("answer", [StoreError("no answer"), [7], b"OK"], ids=str)
def test_without_an_answer_of_the_store_a_node_decides_alone(answer: object) -> None:
    async def run() -> None:
        node = Node()
        assert await node.admit("1") is None
        link = node.attach(FakeLink(lambda _: answer))
        assert await node.admit("2") is None
        assert (node.places.alone, link.operations) == (2, [b"admit"])
        strict = Node(required=True)
        link = strict.attach(FakeLink(lambda _: answer))
        with pytest.raises(UnavailableError):
            await strict.admit("1")
        assert link.operations == [b"admit", b"release"]  # the store may have counted it

    asyncio.run(run())


def test_a_session_whose_admission_is_cancelled_gives_its_place_back() -> None:
    async def run() -> None:
        node = Node()
        link = node.attach(FakeLink(lambda _: None))
        admitting = asyncio.create_task(node.admit("1"))
        await turns()
        admitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await admitting
        assert link.operations == [b"admit", b"release"]

    asyncio.run(run())


def test_the_store_is_told_of_ended_sessions_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places_module, "MAX_OWED", 2)

    async def run() -> None:
        node = Node()
        for number in "123":  # one more than is remembered
            node.places.release(session(number), instant())
        failing = node.attach(FakeLink(lambda _: StoreError("busy")))
        await turns()
        node.places.detach()
        good = node.attach(FakeLink())
        await turns()
        assert failing.operations == good.operations == [b"release"] * 2
        node.places.detach()
        assert node.attach(FakeLink()).operations == []

    asyncio.run(run())


def test_a_session_is_ended_once_for_a_newer_one() -> None:
    async def run() -> None:
        node = Node(KICKING)
        link = node.attach(FakeLink())
        for number in "12":
            assert await node.admit(number) is None
        for message in (
            node.kick_of("1"),
            node.kick_of("1"),
            node.kick_of("another"),
            b"?" + node.kick_of("2")[1:],
            b"",
        ):
            node.places.kick(message)
        assert node.kicked == [("1", "token-limit")]
        link.answer = lambda _: [0, node.kick_of("2")]
        assert await node.admit("3") is None
        assert node.kicked == [("1", "token-limit"), ("2", "token-limit")]

    asyncio.run(run())


def test_a_refused_or_ended_session_is_not_ended_for_a_newer_one() -> None:
    async def run() -> None:
        node = Node(KICKING)
        link = node.attach(FakeLink(lambda _: [1]))
        assert await node.admit("refused") == REFUSALS[CapKind.TOKEN]
        link.answer = lambda _: [0]
        assert await node.admit("ended") is None
        node.places.release(session("ended"), instant())
        for name in ("refused", "ended"):
            node.places.kick(node.kick_of(name))
        assert node.kicked == []

    asyncio.run(run())


def test_a_renewal_tells_that_a_session_was_ended() -> None:
    async def run() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        node = Node(KICKING)
        node.places.refresh(session("1"), instant())  # without the store, nothing is renewed
        for answer in ([0], StoreError("busy"), b"?", [7], None):
            link = node.attach(FakeLink(lambda _, answer=answer: answer))  # type: ignore[misc]
            node.places.refresh(session("1"), instant())
            link.made[-1].cancel()
            await turns()
        assert (node.kicked, faults) == ([], [])
        link = node.attach(FakeLink(lambda _: [1]))
        node.places.refresh(session("1"), instant())
        await turns()
        assert (link.operations, node.kicked, faults) == ([b"refresh"], [("1", "token-limit")], [])
        node.places.kick(node.kick_of("1"))  # it was unknown here until its renewal
        assert node.kicked == [("1", "token-limit")] * 2

    asyncio.run(run())
