"""Keep the denials of a server on its disk: write them after each change, and again after the disk has failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from moq_token.server.denials import Denials
from moq_token.server.keys import Problem
from moq_token.server.log import log

if TYPE_CHECKING:
    from moq_token.server.state import State

STORE_AGAIN_SECONDS: Final = 10.0
"""After how long denials are stored again that could not be stored."""
CLOSE_SECONDS: Final = 5.0
"""How long the end waits for a disk that does not answer."""


class Storing:
    """The denials of one server, and the state directory that keeps them; None keeps them in memory only."""

    def __init__(self, state: State | None) -> None:
        self.denials: Denials = Denials(() if state is None else state.denials)
        self._state = state
        self._lock = asyncio.Lock()
        self._fault: str | None = None
        self._again: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def is_stored(self) -> bool:
        """Whether denials outlive a restart."""
        return self._state is not None and self._fault is None

    async def store(self) -> None:
        """Write all denials. If the disk does not take them, that is logged, and they are written later."""
        if not await self._save():
            log.error("denials could not be stored: %s", self._fault, extra={"event": "not-stored"})
            if not self._closing.is_set() and (self._again is None or self._again.done()):
                self._again = asyncio.create_task(self._store_again())

    async def _save(self) -> bool:
        if self._state is None:
            return True
        async with self._lock:
            # Those of another call are stored with this one, and again with its own.
            snapshot = list(self.denials)
            try:
                await asyncio.to_thread(self._state.save, snapshot)
            except OSError as error:
                self._fault = error.strerror or type(error).__name__
                return False
            self._fault = None
            return True

    async def _store_again(self) -> None:
        """Store the denials once the disk takes them, such as when it has space again."""
        while self._fault is not None:
            try:
                async with asyncio.timeout(STORE_AGAIN_SECONDS):
                    await self._closing.wait()
            except TimeoutError:
                await self._save()
            else:
                return
        log.info("denials are stored again", extra={"event": "stored"})

    def problems(self) -> list[Problem]:
        """Return what operators should know: denials that could not be stored."""
        if self._fault is None:
            return []
        return [Problem(f"denials could not be stored, and a restart loses them: {self._fault}", is_fatal=False)]

    async def aclose(self) -> None:
        """Release the state directory, after what is being written."""
        self._closing.set()
        if self._again is not None:
            await asyncio.wait((self._again,), timeout=CLOSE_SECONDS)
        if self._state is not None:
            self._state.close()
