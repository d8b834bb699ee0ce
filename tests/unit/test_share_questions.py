"""What nodes of a share ask each other: who is waited for, and that nobody else can ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from moq_token.server.share.link import StoreError
from moq_token.server.share.names import Names
from moq_token.server.share.questions import (
    ANSWER,
    FRESH_SECONDS,
    MAX_MESSAGE_BYTES,
    MAX_QUESTIONS,
    QUESTION,
    Answers,
    Questions,
)
from tests.sharing import SECRET
from tests.sources_server import run_virtual

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from moq_token.server.share.caps import Call

NOW = 1_800_000_000.0


class Air:
    """Carries messages between nodes. `said` has all of them, as everybody at the store can see them."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.said: list[tuple[bytes, bytes]] = []
        self.ears: dict[bytes, list[Callable[[bytes], None]]] = {}

    def publish(self, channel: bytes, message: bytes) -> Future[object]:
        self.said.append((channel, message))
        for ear in self.ears.get(channel, []):
            ear(message)
        future: Future[object] = asyncio.get_running_loop().create_future()
        future.set_result(0)
        return future

    def call(self, call: Call) -> Future[object]:
        raise NotImplementedError

    async def failed(self, seconds: float) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


class Node:
    """A node that answers with its name, once it is let."""

    def __init__(self, air: Air, name: str, *, names: Names | None = None, ahead: float = 0.0) -> None:
        self.air, self.name = air, name
        self.now = NOW + ahead
        self.questions = Questions(names or air.names, name, b"all", clock=lambda: self.now)
        self.asked: list[bytes] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        for channel in b"all", self.questions.channel:
            air.ears.setdefault(channel, []).append(self.hear)

    def hear(self, message: bytes) -> None:
        self.questions.received(self.air, message[:1], message[1:], self.answer)

    async def answer(self, question: bytes) -> bytes:
        self.asked.append(question)
        await self.may_answer.wait()
        return msgspec.json.encode(self.name)

    async def ask(
        self, known: Sequence[str] = (), others: Sequence[str] | Exception = (), seconds: float = 5, body: bytes = b"1"
    ) -> Answers:
        async def find() -> Sequence[str]:
            if isinstance(others, Exception):
                raise others
            return others

        return await self.questions.ask(self.air, body, known, find, seconds)


def test_all_that_are_there_are_waited_for() -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two, three = (Node(air, name) for name in ("one", "two", "three"))
        assert await one.ask(["two"], ["two", "three"]) == Answers({"two": b'"two"', "three": b'"three"'})
        three.may_answer.clear()
        assert await one.ask(["two"], ["two", "three"], 0.01) == Answers({"two": b'"two"'}, ("three",))
        # A late answer of a question that is over is nobody's.
        three.may_answer.set()
        await asyncio.sleep(0)
        assert two.asked == three.asked == [b"1"] * 2

    run_virtual(run())


def test_one_that_has_joined_just_now_is_waited_for() -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, _, three = (Node(air, name) for name in ("one", "two", "three"))
        three.may_answer.clear()

        async def others() -> Sequence[str]:
            await asyncio.sleep(0.01)  # two has answered by now
            asyncio.get_running_loop().call_later(0.01, three.may_answer.set)
            return ["two", "three"]

        answers = await one.questions.ask(air, b"1", ["two"], others, 5)
        assert (set(answers.answers), answers.missing) == ({"two", "three"}, ())

    run_virtual(run())


def test_a_store_that_fails_while_nodes_are_asked() -> None:
    async def run() -> None:
        one = Node(Air(Names(SECRET)), "one")
        assert await one.ask(["two"], StoreError("it is full")) == Answers({}, ("two",), "it is full")
        assert (await one.ask(["two"], ["two"], body=b"1" * MAX_MESSAGE_BYTES)).problem is not None

    run_virtual(run())


def test_questions_are_bounded() -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two = Node(air, "one"), Node(air, "two")
        two.may_answer.clear()
        asking = [asyncio.create_task(one.ask((), ["two"])) for _ in range(MAX_QUESTIONS)]
        await asyncio.sleep(0)
        assert (await one.ask(["two"], ["two"])).problem is not None
        two.may_answer.set()
        assert {each.missing for each in await asyncio.gather(*asking)} == {()}
        assert (await one.ask((), ["two"])).problem is None

    run_virtual(run())


@pytest.mark.parametrize("passed", [0, FRESH_SECONDS, FRESH_SECONDS + 1, 2 * FRESH_SECONDS, 90_000])
def test_a_question_that_somebody_sends_again_is_not_answered(passed: float) -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two = Node(air, "one"), Node(air, "two")
        await one.ask((), ["two"])
        recorded = list(air.said)
        for each in one, two:
            each.now += passed
        await one.ask((), ["two"])  # which makes it forget what is old
        for channel, message in recorded:
            _ = air.publish(channel, message)
        await asyncio.sleep(0.01)
        assert len(two.asked) == 2

    run_virtual(run())


@pytest.mark.parametrize(("ahead", "is_answered"), [(0, True), (-250, True), (250, True), (-350, False), (350, False)])
def test_clocks_may_differ_a_little(ahead: float, is_answered: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001 - a row
    async def run() -> None:
        air = Air(Names(SECRET))
        one = Node(air, "one")
        Node(air, "two", ahead=ahead)
        assert (await one.ask((), ["two"], 0.05)).missing == (() if is_answered else ("two",))

    run_virtual(run())
    assert ("by the clocks it was asked" in caplog.text) is not is_answered


def test_others_can_neither_ask_nor_answer() -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two = Node(air, "one"), Node(air, "two")
        stranger = Node(air, "stranger", names=Names(SECRET + "!"))
        assert await stranger.ask((), ["one"], 0.01) == Answers({}, ("one",))
        assert (one.asked, two.asked) == ([], [])
        # Nor does a question make an answer, or the other way round.
        await one.ask((), ["two"])
        for channel, message in list(air.said):
            _ = air.publish(channel, (QUESTION if message[:1] == ANSWER else ANSWER) + message[1:])
            _ = air.publish(channel, message[:1] + b"x" + message[1:])
        await asyncio.sleep(0.01)
        assert len(two.asked) == 1
        assert one.asked == stranger.asked == []

    run_virtual(run())


def test_a_node_that_stops_answers_no_more() -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two = Node(air, "one"), Node(air, "two")
        two.may_answer.clear()
        asking = asyncio.create_task(one.ask((), ["two"], 0.05))
        await asyncio.sleep(0.01)
        await two.questions.aclose()
        assert (await asking).missing == ("two",)

    run_virtual(run())


def test_a_fault_of_a_node_is_logged_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        air = Air(Names(SECRET))
        one, two = Node(air, "one"), Node(air, "two")

        async def broken(_: bytes) -> bytes:
            raise RuntimeError("secret text")

        two.answer = broken  # type: ignore[assignment,method-assign]
        assert (await one.ask((), ["two"], 0.05)).missing == ("two",)

    run_virtual(run())
    assert "another server was not answered: RuntimeError" in caplog.text
    assert "secret text" not in caplog.text
