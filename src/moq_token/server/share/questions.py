"""The questions that the nodes of a share ask each other, as messages through the store."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from moq_token.errors import shown
from moq_token.server.log import log
from moq_token.server.share.link import StoreError
from moq_token.server.share.nodes import MAX_NODES

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Sequence

    from moq_token.server.share.link import Link
    from moq_token.server.share.names import Names

MAX_QUESTIONS: Final = 64
"""Questions to other nodes at the same time, and questions of others that are being answered."""
MAX_MESSAGE_BYTES: Final = 256 * 1024
"""A message of a node to another. Longer ones are neither sent nor read."""
FRESH_SECONDS: Final = 300
"""How long a question is answered, by the clocks of both nodes. It is answered once, so it cannot be replayed."""

QUESTION: Final = b"Q"
ANSWER: Final = b"A"


class Answers(msgspec.Struct, frozen=True):
    """What other nodes have answered, by node, and which have not. ``problem`` says why they could not be asked.

    ``gone`` are those that have stopped without leaving.
    """

    answers: dict[str, bytes]
    missing: tuple[str, ...] = ()
    problem: str | None = None
    gone: tuple[str, ...] = ()


class _Message(msgspec.Struct):
    number: str
    node: str
    body: msgspec.Raw
    at: float


class _Asked:
    """One question, and the nodes that are to answer it, as far as they are known."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.answers: dict[str, bytes] = {}
        self.done = asyncio.Event()
        self._expected = set(nodes)
        self._are_all = False

    def expect(self, nodes: Sequence[str]) -> None:
        """Note that these are all nodes that there are."""
        self._expected, self._are_all = set(nodes), True
        self._check()

    def answered(self, node: str, body: bytes) -> None:
        if len(self.answers) < MAX_NODES:
            self.answers[node] = body
            self._check()

    def missing(self) -> tuple[str, ...]:
        return tuple(sorted(self._expected - self.answers.keys()))

    def _check(self) -> None:
        if self._are_all and not self.missing():
            self.done.set()


class Questions:
    """Asks the other nodes, and answers them.

    Parameters
    ----------
    names
        What follows from the secret of the share: messages are sealed.
    node
        The name of this node.
    everybody
        The channel on which all nodes listen.
    clock
        Returns the time in Unix seconds.

    """

    def __init__(self, names: Names, node: str, everybody: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._names, self._node, self._everybody, self._clock = names, node, everybody, clock
        self._asked: dict[str, _Asked] = {}
        self._heard: dict[str, float] = {}  # when questions were heard that may still be fresh, the first one first
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def channel(self) -> bytes:
        """The channel on which this node takes answers."""
        return self._channel(self._node)

    def _channel(self, node: str) -> bytes:
        return self._names.key(b"node:" + node.encode())

    async def ask(
        self,
        link: Link,
        question: bytes,
        known: Sequence[str],
        others: Callable[[], Awaitable[Sequence[str]]],
        seconds: float,
    ) -> Answers:
        """Ask the other nodes, and wait for their answers. Both are JSON.

        ``known`` are the nodes as far as they are known, ``others`` returns all. The question is sent before this
        suspends.
        """
        number, asked = secrets.token_hex(8), _Asked(known)
        if len(self._asked) >= MAX_QUESTIONS:
            return Answers({}, asked.missing(), "too many questions to other servers are waiting for answers")
        if not self._send(link, self._everybody, QUESTION, self._message(number, question)):
            return Answers({}, asked.missing(), "the question to other servers is too long")
        self._asked[number] = asked
        problem = None
        try:
            async with asyncio.timeout(seconds):
                asked.expect(await others())
                await asked.done.wait()
        except TimeoutError:
            pass
        except StoreError as error:
            problem = str(error)
        finally:
            del self._asked[number]
        return Answers(asked.answers, asked.missing(), problem)

    def received(self, link: Link, kind: bytes, sealed: bytes, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Take a message of another node. What is not understood is ignored."""
        document = self._names.open(sealed, kind)
        if document is None:
            return
        with suppress(msgspec.MsgspecError):
            message = msgspec.json.decode(document, type=_Message)
            if kind == ANSWER:
                asked = self._asked.get(message.number)
                if asked is not None:
                    asked.answered(message.node, bytes(message.body))
            elif self._is_to_be_answered(message):
                task = asyncio.get_running_loop().create_task(self._answer(link, message, answer))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)

    def _message(self, number: str, body: bytes) -> _Message:
        return _Message(number, self._node, msgspec.Raw(body), self._clock())

    def _is_to_be_answered(self, message: _Message) -> bool:
        if message.node == self._node or len(self._answering) >= MAX_QUESTIONS:
            return False
        now = self._clock()
        if abs(now - message.at) > FRESH_SECONDS:
            text = "a question of the server %s is not answered: by the clocks it was asked %d s ago"
            log.warning(text, shown(message.node), now - message.at, extra={"event": "share"})
            return False
        if message.number in self._heard:
            return False
        # Twice the time, because the clock of the asking node may be that far ahead.
        while self._heard and next(iter(self._heard.values())) < now - 2 * FRESH_SECONDS:
            del self._heard[next(iter(self._heard))]
        self._heard[message.number] = now
        return True

    async def _answer(self, link: Link, message: _Message, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        try:
            body = await answer(bytes(message.body))
        except Exception as error:  # noqa: BLE001 - the asking node names those that did not answer
            log.error("another server was not answered: %s", type(error).__name__, extra={"event": "fault"})
            return
        if not self._send(link, self._channel(message.node), ANSWER, self._message(message.number, body)):
            log.warning("the answer to another server is too long", extra={"event": "share", "node": message.node})

    def _send(self, link: Link, channel: bytes, kind: bytes, message: _Message) -> bool:
        sealed = self._names.seal(msgspec.json.encode(message), kind)
        if len(sealed) >= MAX_MESSAGE_BYTES:
            return False
        link.publish(channel, kind + sealed).add_done_callback(looked_at)
        return True

    async def aclose(self) -> None:
        """Stop answering."""
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(tuple(self._answering))


def looked_at(future: Future[object]) -> None:
    """Look at a failure, which the link reports too, or asyncio would log it."""
    if not future.cancelled():
        future.exception()
