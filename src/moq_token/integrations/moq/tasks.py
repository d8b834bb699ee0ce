"""Tasks that end with the block that started them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self, cast

import moq

from moq_token.errors import raised_at

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

# The type stubs of moq-rs do not show that its error class is an exception.
MoqError: type[Exception] = cast("type[Exception]", moq.Error)
log: logging.Logger = logging.getLogger(__package__)


class Tasks:
    """Tasks that are cancelled at the end of the block. A task that fails is logged and does not stop the others."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Start a task that nobody waits for."""
        _ = self.task(work)

    def task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task, and return it for a caller that waits for it or cancels it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Wait until every task has ended."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, MoqError):  # a MoqError means that the peer has disconnected
            # Without its text and its traceback, which could hold a token.
            what = f"{type(error).__name__} ({raised_at(error)})"
            log.error("a task of the guard has failed: %s", what, extra={"event": "failed"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
