"""Deny, kick and lift: put denials in force, store them, and end the sessions that they are for."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, TypeVar

from moq_token.errors import InvalidDenialError, shown
from moq_token.server import denials as limits
from moq_token.server.api import Banned, Receipt
from moq_token.server.denial import Denial, facts_of
from moq_token.server.denials import Denials
from moq_token.server.ending import WAIT_SECONDS
from moq_token.server.log import log
from moq_token.server.receipts import Pending
from moq_token.server.storing import Storing
from moq_token.server.turns import in_turns
from moq_token.server.verdict import concerns, takes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from moq_token.server.ending import Ending
    from moq_token.server.session import Session
    from moq_token.server.state import State

_T = TypeVar("_T")

KICK_SECONDS, KICK_CADENCES = 600, 3
"""How long the id of a kicked session is denied: the longer of these seconds and cadences, or until it expires."""

_MAX_BACKGROUND = 100


class Revocations:
    """The denials of one server, and what follows from a new one.

    Parameters
    ----------
    ending
        Ends sessions at their relays. It has the table of sessions and the clocks too.
    state
        Where denials are stored; None keeps them in memory only.

    Attributes
    ----------
    denials
        All that are known.
    storing
        What keeps them on the disk.
    node
        The name of this server in the denials that are set here.
    share
        Called with every denial that is set or lifted here, after it was stored, to carry it to other nodes.

    """

    def __init__(self, ending: Ending, *, state: State | None = None) -> None:
        self.storing: Storing = Storing(state)
        self.denials: Denials = self.storing.denials
        self.ending: Ending = ending
        self.node: str = ""
        self.share: Callable[[Sequence[Denial]], None] | None = None
        self._kicks: dict[str, str] = {}  # the denials of kicked sessions, by the id of the session
        self._live, self._now = ending.live, ending.now
        self._tasks: set[asyncio.Task[Any]] = set()

    async def ban(self, denial: Denial, *, dry_run: bool = False, others_by: float | None = None) -> Banned:
        """Put a denial in force, store it, and end the sessions that it is for; wait for their ends, 5 s at most.

        ``others_by`` is when sessions are out that are not known here. Raises ``InvalidDenialError``
        (``too-many``). A caller that is cancelled leaves the work going on.
        """
        denial = self.stamped(denial)
        if dry_run:
            return Banned(denial, await self.preview(denial, others_by))
        self.put(denial)
        return Banned(denial, await self.enforce(denial, others_by))

    def stamped(self, denial: Denial) -> Denial:
        """Return a denial as set now on this server."""
        return self.denials.stamped(denial, self._now().unix, self.node)

    def put(self, denial: Denial) -> bool:
        """Put a denial in force as it is, and return whether it counts. ``enforce()`` does the rest.

        Raises ``InvalidDenialError`` (``too-many``).
        """
        self.advance()
        self.denials.put(denial)
        return self.denials.get(denial.id) == denial

    async def preview(self, denial: Denial, others_by: float | None = None) -> Receipt:
        """Return whom a denial would be for."""
        return await self._preview(self._live(), concerns(denial), others_by)

    async def enforce(
        self, denial: Denial, others_by: float | None = None, *, share: bool = True, seconds: float | None = None
    ) -> Receipt:
        """Store a denial that is in force, and end the sessions that it is for, as ``ban()`` does.

        ``share`` is false for a denial of another node; ``seconds`` is how long to wait for the ends.
        """
        work = self._enforce([denial], self._live(), concerns(denial), others_by, share=share, seconds=seconds)
        return await self._apart(work)

    async def kick(
        self,
        sessions: Sequence[Session],
        *,
        reason: str,
        author: str,
        dry_run: bool = False,
        seconds: float | None = None,
    ) -> Receipt:
        """End live sessions, whose clients may connect again. Waits as ``ban()`` does, and raises as it does."""
        if dry_run:
            return await self._preview(sessions, _every)
        if not sessions:
            return Receipt(stored=self.storing.is_stored)
        self.advance()
        room = limits.MAX_DENIALS - len(self.denials)
        if len(sessions) > room:
            raise InvalidDenialError(
                f"these are {len(sessions)} sessions, of which {room} can be denied: ban what they have in common",
                reason="too-many",
            )
        return await self._apart(self._kick(sessions, reason, author, seconds))

    async def lift(self, denial_id: str, *, author: str = "") -> Banned | None:
        """Lift a denial and store that; None if none of that id is in force."""
        lifting = self.denials.lifting(denial_id, self._now().unix, node=self.node, author=author)
        if lifting is None:
            return None
        self.put(lifting)
        await self._apart(self._store([lifting]))
        return Banned(lifting, Receipt(stored=self.storing.is_stored))

    async def merge(self, denials: Iterable[Denial]) -> list[Denial]:
        """Take denials of other nodes: store those that change something, and end their sessions in the background.

        Returns those that are left out, as they are beyond the limits.
        """
        return await self._apart(self._merge(denials))

    def advance(self) -> None:
        """Forget the denials that have ended long enough ago, to make room for others."""
        for denial in self.denials.advance(self._now().unix):
            if denial.session is not None:
                self._kicks.pop(denial.session, None)

    def nudge(self, session: Session) -> None:
        """Have the relay of one session ask again, in the background: it was kicked to make room."""
        if session.place.node in self.ending.nudger.relays and len(self._tasks) < _MAX_BACKGROUND:
            _ = self._start(self.ending.end([session], _every, self._now().steady))

    def ended(self, session_id: str) -> None:
        """Note that a session has ended."""
        kick = self._kicks.pop(session_id, None)
        if kick is not None:
            self.denials.forget(kick)  # its id does not come back, and there can be many
        self.ending.ended(session_id)

    async def aclose(self) -> None:
        """Finish storing, stop waiting for ends, close every connection, and release the state directory."""
        await self.ending.stop()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=WAIT_SECONDS)
        self.ending.nudger.close()
        await self.storing.aclose()

    # -- one at a time

    async def _enforce(
        self,
        denials: Sequence[Denial],
        sessions: Iterable[Session],
        concerned: Callable[[Session], bool],
        others_by: float | None = None,
        *,
        share: bool = True,
        seconds: float | None = None,
    ) -> Receipt:
        started = self._now().steady
        storing = self._start(self._store(denials, share=share))
        discovering = self._start(self.ending.unseen.discover_once())
        narrows = any(not denial.refuses for denial in denials)
        pending = await self.ending.end(sessions, concerned, started, seconds, narrows=narrows)
        await asyncio.gather(storing, discovering)
        return self._receipt(pending, others_by)

    async def _kick(self, sessions: Sequence[Session], reason: str, author: str, seconds: float | None) -> Receipt:
        now = self._now().unix
        denials: list[Denial] = []
        async for session in in_turns(sessions):
            until = _kicked_until(session, now)
            denial = self.stamped(Denial(session=session.id, until=until, reason=reason, author=author))
            try:
                self.put(denial)
            except InvalidDenialError:  # the room was taken meanwhile
                for known in denials:
                    self.denials.forget(known.id)
                raise
            denials.append(denial)
            self._kicks[session.id] = denial.id
        receipt = await self._enforce(denials, sessions, _every, share=False, seconds=seconds)
        # Other nodes need not know of sessions that are over, which can be many.
        left = [denial for denial in denials if denial.session in self._kicks]
        if left and self.share is not None:
            self.share(left)
        return receipt

    async def _merge(self, denials: Iterable[Denial]) -> list[Denial]:
        self.advance()
        changed, left_out = [], []
        async for denial in in_turns(denials):
            try:
                if self.denials.put(denial):
                    changed.append(denial)
            except InvalidDenialError:
                left_out.append(denial)
        if left_out:
            message = "%d denials of other nodes are not in force here: there are too many"
            log.error(message, len(left_out), extra={"event": "too-many"})
        if changed:
            await self.storing.store()
            concerned = await _concerns_any(changed, self._now().unix)
            _ = self._start(self.ending.end(self._live(), concerned, self._now().steady, narrows=True))
        return left_out

    async def _store(self, changed: Sequence[Denial], *, share: bool = True) -> None:
        await self.storing.store()
        if share and self.share is not None:
            self.share(changed)

    async def _preview(
        self, sessions: Iterable[Session], concerned: Callable[[Session], bool], others_by: float | None = None
    ) -> Receipt:
        pending = self._pending()
        await self.ending.find(pending, sessions, concerned)
        return self._receipt(pending, others_by, dry_run=True)

    def _pending(self) -> Pending:
        return Pending(self._now().steady)

    def _receipt(self, pending: Pending, others_by: float | None = None, *, dry_run: bool = False) -> Receipt:
        unseen = self.ending.unseen
        starting, seconds = unseen.starting(self.node), unseen.unknown_seconds()
        if starting is not None and seconds < math.inf:
            # The sessions that are not known are refused at their next re-check, too.
            others_by = max(self._now().unix + seconds, others_by or 0)
        return pending.receipt(
            stored=self.storing.is_stored,
            dry_run=dry_run,
            others_by=others_by,
            unseen=unseen.unreachable(),
            starting=starting,
        )

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


def _kicked_until(session: Session, now: float) -> int:
    """Return when the denial of a kicked session ends, in Unix seconds.

    It is to be in force at the next re-check, also where the relay cannot ask for some time. The id of a session that
    has ended does not come back, and a client that does has another.
    """
    until = math.ceil(now + max(KICK_SECONDS, KICK_CADENCES * (session.revalidate or 0)))
    return max(until if session.expires is None else min(until, session.expires), 1)


def _every(_: Session) -> bool:
    return True


async def _concerns_any(denials: Sequence[Denial], now: float) -> Callable[[Session], bool]:
    """Return the test of whether one of the denials in force at ``now`` is for a session."""
    latest = {denial.id: denial for denial in denials}
    wanted = [denial for denial in latest.values() if not denial.lifted and now < denial.until]
    # To compare every session with every denial would take long.
    table = Denials()
    async for denial in in_turns(wanted):
        table.put(denial)
    ids = {denial.session for denial in wanted}

    def test(session: Session) -> bool:
        if None not in ids and session.id not in ids:
            return False  # the denials of a kick are of single ids
        verdict = table.match(facts_of(session), now)
        return verdict is not None and (
            verdict.refusing is not None or any(takes(denial, session) for denial in verdict.narrowing)
        )

    return test
