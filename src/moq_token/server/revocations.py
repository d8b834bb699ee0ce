"""Deny, kick and lift: put denials in force, store them, tell the relays, and wait for the ends of the sessions."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

from moq_token.errors import InvalidDenialError, UnavailableError, shown
from moq_token.server import denials as limits
from moq_token.server.api import Banned, Receipt, Unreachable
from moq_token.server.denial import Denial, facts_of
from moq_token.server.denials import Denials
from moq_token.server.keys import Problem
from moq_token.server.log import log
from moq_token.server.nudges import Nudger, queries
from moq_token.server.receipts import Pending
from moq_token.server.verdict import affected, takes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from moq_token.auth.lease import Instant
    from moq_token.server.metrics import Metrics
    from moq_token.server.nudges import Relay
    from moq_token.server.session import Session
    from moq_token.server.state import State

_T = TypeVar("_T")

WAIT_SECONDS: Final = 5.0
"""How long a receipt waits for the ends of sessions."""
KICK_SECONDS, KICK_CADENCES = 600, 3
"""The id of a kicked session is denied for so long, and for so many of its cadences, unless it expires before."""
STORE_AGAIN_SECONDS: Final = 10.0
"""After how long denials are stored again that could not be stored."""

# The pause before a relay is told again about sessions that have not ended: a session that was being admitted when the
# relay was told first was not there yet.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
# And the time that it takes to ask about each of them, so that it does not ask twice.
_SESSION_SECONDS = 0.001
_MAX_BACKGROUND = 100
# All relays of a large network at once would take many connections.
_DISCOVERED_TOGETHER, _LONGEST_DISCOVERY_SECONDS = 64, 30.0


class Revocations:
    """The denials of one server, and what follows from a new one.

    Parameters
    ----------
    live
        Returns the live sessions.
    now
        Returns the time on both clocks.
    state
        Where denials are stored; None keeps them in memory only.
    relays
        The internal listeners of the relays, by node.
    metrics
        Where the time is counted that sessions take to end.

    Attributes
    ----------
    denials
        All that are known.
    node
        The name of this server in the denials that are set here.
    share
        Called with every denial that is set or lifted here, after it was stored, to carry it to other nodes.

    """

    def __init__(
        self,
        live: Callable[[], Iterable[Session]],
        now: Callable[[], Instant],
        *,
        state: State | None = None,
        relays: Mapping[str, Relay] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.denials: Denials = Denials(() if state is None else state.denials)
        self.node: str = ""
        self.share: Callable[[Sequence[Denial]], None] | None = None
        self.nudger: Nudger = Nudger(relays or {})
        # The relays that were not reached since the start, with the last error.
        self._unseen: dict[str, str] = dict.fromkeys(self.nudger.relays, "not reached yet")
        self._kicks: dict[str, str] = {}  # the denials of kicked sessions, by the id of the session
        self._live, self._now = live, now
        self._state = state
        self._metrics = metrics
        self._storing = asyncio.Lock()
        self._discovering = asyncio.Semaphore(_DISCOVERED_TOGETHER)
        self._fault: str | None = None
        self._waiting: dict[_Wait, None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._discovery: asyncio.Task[None] | None = None
        self._storing_again: asyncio.Task[None] | None = None
        self._closing = False

    def change_relays(self, relays: Mapping[str, Relay]) -> None:
        """Replace the internal listeners of the relays."""
        before = self.nudger.relays
        self.nudger.change(relays)
        new = {node: "not reached yet" for node, relay in relays.items() if before.get(node) != relay}
        self._unseen = {node: error for node, error in self._unseen.items() if node in relays} | new
        if new:
            self.discover()

    def discover(self) -> None:
        """Have every relay ask again about all of its sessions, in the background, until each was reached once.

        So the table of sessions is whole soon after a restart, also for sessions that have no cadence.
        """
        if self._unseen and (self._discovery is None or self._discovery.done()):
            self._discovery = asyncio.create_task(self._discover_all())

    @property
    def is_stored(self) -> bool:
        """Whether denials outlive a restart."""
        return self._state is not None and self._fault is None

    async def ban(self, denial: Denial, *, dry_run: bool = False, others_by: float | None = None) -> Banned:
        """Put a denial in force, store it, and end the sessions that it is for; wait for their ends, 5 s at most.

        ``others_by`` is when sessions are out that are not known here. Raises :class:`InvalidDenialError`
        (``too-many``). A caller that is cancelled leaves the work going on.
        """
        denial = self.stamped(denial)
        if dry_run:
            return Banned(denial, self.preview(denial, others_by))
        self.put(denial)
        return Banned(denial, await self.enforce(denial, others_by))

    def stamped(self, denial: Denial) -> Denial:
        """Return a denial as set now on this server."""
        return self.denials.stamped(denial, self._now().unix, self.node)

    def preview(self, denial: Denial, others_by: float | None = None) -> Receipt:
        """Return whom a denial would be for."""
        return self._pending(affected(denial, self._live())).receipt(
            stored=self.is_stored, dry_run=True, others_by=others_by, unseen=self._unseen_relays()
        )

    def put(self, denial: Denial) -> bool:
        """Put a denial in force, as it is; return whether it counts. Raises :class:`InvalidDenialError` (``too-many``).

        :meth:`enforce` does the rest.
        """
        self.advance()
        self.denials.put(denial)
        return self.denials.get(denial.id) == denial

    async def enforce(
        self, denial: Denial, others_by: float | None = None, *, share: bool = True, seconds: float | None = None
    ) -> Receipt:
        """Store a denial that is in force, and end the sessions that it is for, as :meth:`ban` does.

        ``share`` is false for a denial of another node.
        """
        return await self._apart(self._deny([denial], others_by, share=share, seconds=seconds))

    async def kick(
        self,
        sessions: Sequence[Session],
        *,
        reason: str,
        author: str,
        dry_run: bool = False,
        seconds: float | None = None,
    ) -> Receipt:
        """End live sessions, whose clients may connect again. Waits and raises as :meth:`ban` does."""
        if dry_run:
            return self._pending(sessions).receipt(stored=self.is_stored, dry_run=True)
        if not sessions:
            return self._pending(()).receipt(stored=self.is_stored)
        self.advance()
        room = limits.MAX_DENIALS - len(self.denials)
        if len(sessions) > room:
            raise InvalidDenialError(
                f"these are {len(sessions)} sessions, of which {room} can be denied: ban what they have in common",
                reason="too-many",
            )
        now = self._now().unix
        denials = [
            self.denials.stamped(
                Denial(
                    session=session.id,
                    until=_kicked_until(session, now),
                    reason=reason,
                    author=author,
                ),
                now,
                self.node,
            )
            for session in sessions
        ]
        self._kicks |= {denial.session: denial.id for denial in denials if denial.session is not None}
        for denial in denials:
            self.put(denial)
        return await self._apart(self._kick(denials, seconds))

    async def lift(self, denial_id: str, *, author: str = "") -> Banned | None:
        """Lift a denial and store that; None if none of that id is in force."""
        lifting = self.denials.lifting(denial_id, self._now().unix, node=self.node, author=author)
        if lifting is None:
            return None
        self.put(lifting)
        await self._apart(self._store([lifting]))
        return Banned(lifting, Receipt(stored=self.is_stored))

    async def merge(self, denials: Iterable[Denial]) -> list[Denial]:
        """Take denials of other nodes: store those that change something, and end their sessions in the background.

        Returns those that are left out, as they are beyond the limits.
        """
        self.advance()
        changed, left_out = [], []
        for denial in denials:
            try:
                if self.denials.put(denial):
                    changed.append(denial)
            except InvalidDenialError:
                left_out.append(denial)
        if left_out:
            message = "%d denials of other nodes are not in force here: there are too many"
            log.error(message, len(left_out), extra={"event": "too-many"})
        if changed:
            await self._apart(self._store(changed, share=False))
            sessions = _together(changed, self._live(), self._now().unix)
            if sessions:
                _ = self._start(self._end(sessions))
        return left_out

    def advance(self) -> None:
        """Forget the denials that have ended long enough ago, to make room for others."""
        for denial in self.denials.advance(self._now().unix):
            if denial.session is not None:
                self._kicks.pop(denial.session, None)

    def nudge(self, session: Session) -> None:
        """Have the relay of one session ask again, in the background: it was kicked to make room."""
        if session.place.node in self.nudger.relays and len(self._tasks) < _MAX_BACKGROUND:
            _ = self._start(self._end([session]))

    def ended(self, session_id: str) -> None:
        """Note that a session has ended, or that its relay got what a denial has left of its grant."""
        kick = self._kicks.pop(session_id, None)
        if kick is not None:
            self.denials.forget(kick)  # its id does not come back, and there can be many
        now = self._now().steady
        for wait in list(self._waiting):
            took = wait.pending.ended(session_id, now)
            if took is not None:
                wait.changed.set()
                if self._metrics is not None:
                    self._metrics.revoked(took)

    def problems(self) -> list[Problem]:
        """Return what operators should know: denials that could not be stored."""
        if self._fault is None:
            return []
        return [Problem(f"denials could not be stored, and a restart loses them: {self._fault}", is_fatal=False)]

    async def aclose(self) -> None:
        """Finish storing, stop waiting for ends, close every connection, and release the state directory."""
        self._closing = True
        for task in (self._discovery, self._storing_again):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        for wait in self._waiting:
            wait.stop()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=WAIT_SECONDS)
        self.nudger.close()
        if self._state is not None:
            self._state.close()

    # -- one at a time

    async def _deny(
        self, denials: Sequence[Denial], others_by: float | None, *, share: bool = True, seconds: float | None = None
    ) -> Receipt:
        started = self._now().steady
        sessions = _together(denials, self._live(), self._now().unix)
        storing = self._start(self._store(denials, share=share))
        asking = [self._start(self._discover(node)) for node in list(self._unseen)]
        pending = await self._end(sessions, started, seconds)
        await asyncio.gather(storing, *asking)
        return pending.receipt(stored=self.is_stored, others_by=others_by, unseen=self._unseen_relays())

    async def _kick(self, denials: Sequence[Denial], seconds: float | None) -> Receipt:
        receipt = await self._deny(denials, None, share=False, seconds=seconds)
        # Other nodes need not know of sessions that are over, which can be many.
        left = [denial for denial in denials if denial.session in self._kicks]
        if left and self.share is not None:
            self.share(left)
        return receipt

    async def _store(self, changed: Sequence[Denial], *, share: bool = True) -> None:
        if self._state is not None:
            async with self._storing:
                # Those of another call are stored with this one, and again with its own.
                snapshot = list(self.denials)
                try:
                    await asyncio.to_thread(self._state.save, snapshot)
                except OSError as error:
                    self._fault = error.strerror or type(error).__name__
                    if changed:
                        log.error("denials could not be stored: %s", self._fault, extra={"event": "not-stored"})
                    if not self._closing and (self._storing_again is None or self._storing_again.done()):
                        self._storing_again = asyncio.create_task(self._store_again())
                else:
                    self._fault = None
        if share and self.share is not None:
            self.share(changed)

    async def _store_again(self) -> None:
        """Store the denials once the disk takes them, such as when it has space again."""
        while self._fault is not None:
            await asyncio.sleep(STORE_AGAIN_SECONDS)
            await self._apart(self._store((), share=False))
        log.info("denials are stored again", extra={"event": "stored"})

    async def _end(
        self, sessions: Sequence[Session], started: float | None = None, seconds: float | None = None
    ) -> Pending:
        """Tell the relays of the sessions until they have ended, for 5 s or the seconds given."""
        limit = WAIT_SECONDS if seconds is None else seconds
        wait = _Wait(self._pending(sessions, started))
        self._waiting[wait] = None
        telling = {asyncio.create_task(self._end_at(node, wait)) for node in wait.pending.nodes}
        for task in telling:
            task.add_done_callback(lambda _: wait.changed.set())
        try:
            # A relay that cannot be told at all is not waited for.
            await wait.until(lambda: wait.pending.is_over() or all(task.done() for task in telling), limit)
        finally:
            del self._waiting[wait]
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)
        return wait.pending

    async def _end_at(self, node: str, wait: _Wait) -> None:
        """Tell one relay, again and again, until all of its sessions have ended."""
        pending, relay = wait.pending, self.nudger.relays.get(node)
        if relay is None:
            pending.missed(node, None, "unknown relay: give its internal listener with --relay")
            return
        # Until it has answered, the receipt must not say that it was told.
        pending.missed(node, relay.url, f"no answer within {WAIT_SECONDS:g} s")
        pause = min(_FIRST_PAUSE_SECONDS + _SESSION_SECONDS * len(pending.at(node)), _LONGEST_PAUSE_SECONDS)
        while (sessions := pending.at(node)) and not wait.stopped:
            known = (session for session in self._live() if session.place.node == node)
            try:
                await self.nudger.nudge(node, queries(sessions, known))
            except UnavailableError as error:
                pending.missed(node, relay.url, str(error))
            except KeyError:
                return  # the relay was removed from the settings meanwhile
            else:
                pending.reached(node)
            await wait.until(lambda: pending.is_over(node), pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _discover_all(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while self._unseen:
            await asyncio.gather(*(self._discover(node) for node in list(self._unseen)))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_DISCOVERY_SECONDS)

    async def _discover(self, node: str) -> None:
        """Have a relay ask again about all of its sessions."""
        async with self._discovering:
            try:
                await self.nudger.nudge(node, [""])
            except UnavailableError as error:
                if node in self._unseen:
                    self._unseen[node] = str(error)
            except KeyError:
                pass  # the relay was removed from the settings meanwhile
            else:
                self._unseen.pop(node, None)

    def _unseen_relays(self) -> list[Unreachable]:
        relays = self.nudger.relays
        return [
            Unreachable(node=node, url=relays[node].url, error=f"not reached since the start: {error}")
            for node, error in self._unseen.items()
            if node in relays
        ]

    def _pending(self, sessions: Iterable[Session], started: float | None = None) -> Pending:
        return Pending(sessions, self._now().steady if started is None else started)

    async def _apart(self, work: Coroutine[Any, Any, _T]) -> _T:
        return await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a revocation failed: %s", shown(repr(task.exception())), extra={"event": "fault"})


class _Wait:
    """One call that waits for the ends of sessions."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
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


def _kicked_until(session: Session, now: float) -> int:
    """Return when the denial of a kicked session ends, in Unix seconds.

    It is to be in force at the next re-check, also where the relay cannot ask for some time. The id of a session that
    has ended does not come back, and a client that does has another.
    """
    until = math.ceil(now + max(KICK_SECONDS, KICK_CADENCES * (session.revalidate or 0)))
    return max(until if session.expires is None else min(until, session.expires), 1)


def _together(denials: Sequence[Denial], sessions: Iterable[Session], now: float) -> list[Session]:
    """Return the sessions that one of the denials in force at ``now`` is for."""
    latest = {denial.id: denial for denial in denials}
    wanted = [denial for denial in latest.values() if not denial.lifted and now < denial.until]
    if len(wanted) == 1:
        return affected(wanted[0], sessions)
    # To compare every session with every denial would block the event loop for long.
    table = Denials(wanted)
    ids = {denial.session for denial in wanted}
    found = []
    for session in sessions:
        if None not in ids and session.id not in ids:
            continue  # the denials of a kick are of single ids
        verdict = table.match(facts_of(session), now)
        if verdict is not None and (verdict.refusing or any(takes(denial, session) for denial in verdict.narrowing)):
            found.append(session)
    return found
