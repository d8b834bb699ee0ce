"""A link of a share to a store in memory, whose answers a test can hold back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from moq_token.server.share.link import StoreError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from moq_token.server.share.caps import Call
    from tests.share_model import StoreModel


class ModelLink:
    """See ``moq_token.server.share.link.Link``. A call takes effect when it is sent, as in a store."""

    def __init__(self, store: StoreModel, clock: Callable[[], float], receive: Callable[[bytes], None]) -> None:
        self._store, self._clock, self._receive = store, clock, receive
        self._failure: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: list[tuple[Future[object], object]] = []
        self.is_held = False

    def call(self, call: Call) -> Future[object]:
        future: Future[object] = asyncio.get_running_loop().create_future()
        if self._failure.done():
            future.set_exception(StoreError("the connection is closed"))
            return future
        before = len(self._store.messages)
        answer = self._store.call(call, int(self._clock() * 1000))
        for _, message in self._store.messages[before:]:
            self._receive(message)
        self._waiting.append((future, answer))
        if not self.is_held:
            self.let_go()
        return future

    def let_go(self) -> None:
        """Give the answers that were held back."""
        self.is_held = False
        for future, answer in self._waiting:
            if not future.done():
                future.set_result(answer)
        self._waiting.clear()

    def lose(self) -> None:
        """Lose the answers that were held back, as when the store takes too long."""
        self.is_held = False
        for future, _ in self._waiting:
            future.set_exception(StoreError("no answer within 250 ms"))
        self._waiting.clear()

    def publish(self, channel: bytes, message: bytes) -> Future[object]:  # noqa: ARG002 - there is one node
        future: Future[object] = asyncio.get_running_loop().create_future()
        future.set_result(0)
        return future

    async def failed(self, seconds: float) -> None:
        await asyncio.wait((self._failure,), timeout=seconds)
        if self._failure.done():
            raise StoreError("the connection is closed")

    async def aclose(self) -> None:
        if not self._failure.done():
            self._failure.set_result(None)
