"""The live sessions of a server, and what follows from their events for the share, denials, metrics and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moq_token.auth.lease import Instant
from moq_token.errors import RefusedError
from moq_token.server.ending import Ending
from moq_token.server.log import log
from moq_token.server.revocations import Revocations
from moq_token.server.session import Ended, Kicked, Lost, Untracked
from moq_token.server.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from moq_token.contract import Request
    from moq_token.server.caps import Caps
    from moq_token.server.metrics import Metrics
    from moq_token.server.nudges import Relay
    from moq_token.server.session import Admission, Effect, Refusal, Session
    from moq_token.server.share.sharing import Sharing
    from moq_token.server.state import State


class LiveSessions:
    """The table of sessions with the clocks of the server, and what has to follow from its changes.

    The parameters are those of ``AuthServer``.
    """

    def __init__(
        self,
        caps: Caps | None,
        *,
        share: Sharing | None,
        state: State | None,
        relays: Mapping[str, Relay],
        metrics: Metrics | None,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._steady = steady
        self.sessions: Sessions = Sessions(caps)
        self.share: Sharing | None = share
        ending = Ending(self.current, self.now, relays, metrics)
        self.revocations: Revocations = Revocations(ending, state=state)
        self._metrics = metrics
        if share is not None:
            self.revocations.node, self.revocations.share = share.node, share.publish
        if metrics is not None:
            metrics.watch(self.current)
            metrics.watch_denials(lambda: len(self.revocations.denials.in_force(clock())))
            if share is not None:
                metrics.watch_share(lambda: share.problem is None, lambda: share.places.alone)

    def now(self) -> Instant:
        """Return the time on both clocks."""
        return Instant(self._clock(), self._steady())

    def current(self) -> Sessions:
        """Return the table of live sessions, after removing those that were lost meanwhile."""
        self._follow(self.sessions.advance(self.now()))
        return self.sessions

    async def take_place(self, asked: Request, admission: Admission) -> Session | None:
        """Return the session that has taken a place in the caps of all nodes; None if it adds none.

        Raises ``RefusedError`` if there is no place.
        """
        if self.share is None:
            return None
        now = self.now()
        # A session that is lost by now must not keep the newcomer from asking the others for its place.
        self._follow(self.sessions.advance(now))
        newcomer = self.sessions.newcomer(asked, now, admission)
        if newcomer is not None:
            refusal = await self.share.places.admit(newcomer, now)
            if refusal is not None:
                raise RefusedError(refusal.message, reason=refusal.reason)
        return newcomer

    def release(self, newcomer: Session) -> None:
        """Give back the place that a session has taken in the caps of all nodes."""
        if self.share is not None:
            self.share.places.release(newcomer, self.now())

    def handle(
        self, asked: Request, now: Instant, admission: Admission | None = None, newcomer: Session | None = None
    ) -> None:
        """Record an event, as ``Sessions.handle()`` does, and do what follows from it.

        ``newcomer`` is what has taken a place in the caps of all nodes. Raises ``RefusedError`` if a cap is
        reached, or the session was kicked.
        """
        outcome = self.sessions.handle(asked, now, admission)
        if self.share is not None and admission is not None:
            self._keep_place(self.share, asked, newcomer, now)
        if outcome.effects:
            self._follow(outcome.effects)
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.message, reason=outcome.refused.reason)

    def seen(self, asked: Request) -> None:
        """Note that a session is alive whose re-check could not be decided."""
        now = self.now()
        self._follow(self.sessions.advance(now))
        session = self.sessions.seen(asked.id, now)
        if session is not None and self.share is not None:
            self.share.places.refresh(session, now)

    def kick(self, session_id: str, refusal: Refusal) -> None:
        """End a session to make room for a newer one on another node."""
        self._follow(self.sessions.kick(session_id, refusal))

    def _keep_place(self, share: Sharing, asked: Request, newcomer: Session | None, now: Instant) -> None:
        """Tell the other nodes what has become of a session."""
        session = self.sessions.get(asked.id)
        if session is None and newcomer is not None:
            share.places.release(newcomer, now)  # refused by this node, or its end came while the others were asked
        elif session is not None and newcomer is None and session.kicked is None:
            share.places.refresh(session, now)

    def _follow(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if self.share is not None and not isinstance(effect, Untracked) and effect.session is not None:
                self.share.places.release(effect.session, self.now())
            if isinstance(effect, Kicked):
                extra = {"event": "kicked", "reason": effect.reason, "id": effect.session.id}
                log.info("a session is ended to make room for a newer one", extra=extra)
                self.revocations.nudge(effect.session)
            elif isinstance(effect, Lost):
                log.info(
                    "a session was lost: its relay did not report its end",
                    extra={"event": "lost", "id": effect.session.id},
                )
                self.revocations.ending.unseen.add_lost(effect.session)
                if self._metrics is not None:
                    self._metrics.lost()
            elif isinstance(effect, Untracked):
                log.warning("the table of sessions is full", extra={"event": "untracked", "id": effect.id})
            else:
                self._ended(effect)

    def _ended(self, effect: Ended) -> None:
        if self._metrics is not None:
            self._metrics.ended()
        if effect.session is not None:
            self.revocations.ended(effect.session.id)
