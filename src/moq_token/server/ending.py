"""End live sessions: have their relays ask again about them, and wait for the ends that the relays report."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

from moq_token.errors import UnavailableError
from moq_token.server.nudges import FEW, Nudger, queries
from moq_token.server.receipts import Pending
from moq_token.server.turns import in_turns
from moq_token.server.unseen import Unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from moq_token.auth.lease import Instant
    from moq_token.server.metrics import Metrics
    from moq_token.server.nudges import Relay
    from moq_token.server.session import Session
    from moq_token.server.sessions import Sessions

WAIT_SECONDS: Final = 5.0
"""How long a receipt waits for the ends of sessions."""

# The pause before a relay is told again about sessions that have not ended: a session that was being admitted when the
# relay was told first was not there yet.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
# And the time that it takes to ask about each of them, so that it does not ask twice.
_SESSION_SECONDS = 0.001


class Ending:
    """Ends the sessions of one server at their relays.

    Parameters
    ----------
    live
        Returns the table of live sessions.
    now
        Returns the time on both clocks.
    relays
        The internal listeners of the relays, by node.
    metrics
        Where the time is counted that sessions take to end.

    """

    def __init__(
        self,
        live: Callable[[], Sessions],
        now: Callable[[], Instant],
        relays: Mapping[str, Relay],
        metrics: Metrics | None = None,
    ) -> None:
        self.nudger: Nudger = Nudger(relays)
        self.live: Callable[[], Sessions] = live
        self.now: Callable[[], Instant] = now
        self._metrics = metrics
        self.unseen: Unseen = Unseen(self.nudger, lambda session_id: live().is_known(session_id), now)
        self._waiting: dict[_Wait, None] = {}

    async def end(
        self,
        sessions: Iterable[Session],
        concerned: Callable[[Session], bool],
        started: float,
        seconds: float | None = None,
        *,
        narrows: bool = False,
    ) -> Pending:
        """Tell the relays of the concerned sessions until these have ended, for a while (``WAIT_SECONDS``).

        What is to end them is in force already, so that sessions that come meanwhile need not be found. The while is
        counted from ``started``, when the call came (monotonic seconds). ``narrows`` counts a session too whose relay
        got a smaller grant, which ends it.
        """
        wait = _Wait(Pending(started), narrows=narrows)
        self._waiting[wait] = None  # before the first turn: a session may end as soon as it is found
        telling: set[asyncio.Task[None]] = set()
        try:
            await self.find(wait.pending, sessions, concerned)
            paths = await self._paths(wait.pending)
            telling = {asyncio.create_task(self._end_at(node, wait, paths[node])) for node in wait.pending.nodes}
            for task in telling:
                task.add_done_callback(lambda _: wait.changed.set())
            # A relay that cannot be told at all is not waited for.
            await wait.until(
                lambda: wait.pending.is_over() or all(task.done() for task in telling),
                started + (WAIT_SECONDS if seconds is None else seconds) - self.now().steady,
            )
        finally:
            del self._waiting[wait]
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)
        return wait.pending

    async def find(self, pending: Pending, sessions: Iterable[Session], concerned: Callable[[Session], bool]) -> None:
        """Add the concerned ones of some live sessions to those that are to end."""
        table = self.live()
        async for session in in_turns(sessions):
            # The end of one that has ended meanwhile is not reported again.
            if concerned(session) and table.get(session.id) is session:
                pending.add(session)

    def ended(self, session_id: str, *, narrowed: bool = False) -> None:
        """Note that a session has ended, or (``narrowed``) that its relay got what a denial has left of its grant."""
        now = self.now().steady
        for wait in list(self._waiting):
            took = None if narrowed and not wait.narrows else wait.pending.ended(session_id, now)
            if took is not None:
                wait.changed.set()
                if self._metrics is not None:
                    self._metrics.revoked(took)

    async def stop(self) -> None:
        """Stop discovering, and waiting for ends."""
        await self.unseen.stop()
        for wait in self._waiting:
            wait.stop()

    # -- relays

    def change_relays(self, relays: Mapping[str, Relay]) -> None:
        """Replace the internal listeners of the relays."""
        before = self.nudger.relays
        self.nudger.change(relays)
        self.unseen.add(node for node, relay in relays.items() if before.get(node) != relay)
        self.unseen.discover()

    async def _end_at(self, node: str, wait: _Wait, paths: Counter[str]) -> None:
        """Tell one relay, again and again, until all of its sessions have ended."""
        pending, relay = wait.pending, self.nudger.relays.get(node)
        if relay is None:
            pending.missed(node, None, "unknown relay: give its internal listener with --relay")
            return
        # Until it has answered, the receipt must not say that it was told.
        pending.missed(node, relay.url, f"no answer within {WAIT_SECONDS:g} s")
        pause = min(_FIRST_PAUSE_SECONDS + _SESSION_SECONDS * len(pending.at(node)), _LONGEST_PAUSE_SECONDS)
        while (sessions := pending.at(node)) and not wait.stopped:
            try:
                await self.nudger.nudge(node, queries(sessions, paths))
            except UnavailableError as error:
                pending.missed(node, relay.url, str(error))
            except KeyError:
                return  # the relay was removed from the settings meanwhile
            else:
                pending.reached(node)
            await wait.until(lambda: pending.is_over(node), pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _paths(self, pending: Pending) -> dict[str, Counter[str]]:
        """Count the live sessions of relays by their paths, for the choice of filters."""
        paths: dict[str, Counter[str]] = defaultdict(Counter)
        if pending.most > FEW:
            async for session in in_turns(self.live()):
                paths[session.place.node][session.path] += 1
        return paths


class _Wait:
    """One call that waits for the ends of sessions."""

    def __init__(self, pending: Pending, *, narrows: bool) -> None:
        self.pending, self.narrows = pending, narrows
        self.changed = asyncio.Event()
        self.stopped = False

    def stop(self) -> None:
        """Wait no longer."""
        self.stopped = True
        self.changed.set()

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so, or for a while."""
        try:
            async with asyncio.timeout(seconds):
                while not (done() or self.stopped):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            pass
