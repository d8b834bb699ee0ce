"""Tasks that end with the block that started them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self, cast

import moq

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

# The generated class is declared in a way that hides its base class.
MoqError = cast("type[Exception]", moq.Error)
log = logging.getLogger(__package__)


class Tasks:
    """Tasks that end with the block they are started in. One that fails is logged, and leaves the others alone."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Start one that nobody waits for."""
        _ = self.task(work)

    def task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start one, and return it to be waited for or cancelled."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Wait until all have ended by themselves."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, MoqError):  # that says that what it worked on has gone
            log.error("a task of the guard has failed", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
