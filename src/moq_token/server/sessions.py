"""The sessions that relays have reported: a state machine that takes an event and the time, and gives a verdict.

No I/O and no clock: the caller passes the time, and acts on the effects that it gets back. Losing the table loses no
session, as relays report their sessions again with the next re-check: a counter refuses a newcomer, and never ends a
session that is there, unless the operator has asked for that (``kick-oldest``).

Leases are kept in monotonic seconds: when the clock of the machine is set, no session is lost, and none outlives its
lease. Unix seconds are only shown.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from moq_token.contract import Event, Peer
from moq_token.server.caps import CapKind, Counter
from moq_token.server.groups import Groups
from moq_token.server.session import (
    Admission,
    Effect,
    Ended,
    Kicked,
    Lost,
    Outcome,
    Place,
    Session,
    Untracked,
    bounded_name,
    cut,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moq_token.auth.lease import Instant
    from moq_token.contract import Request
    from moq_token.server.caps import Caps
    from moq_token.server.session import Refusal

LEASE_CADENCES: Final = 2
"""A session is lost after so many of its cadences without an event."""
LATE_SECONDS: Final = 30
"""How long after the end of a session its late events are still recognized."""
MAX_ENDED: Final = 100_000
"""Ended sessions that are remembered for late events; beyond that the oldest is forgotten early."""
MAX_SESSIONS: Final = 250_000
"""Sessions in the table. One beyond them is admitted, but neither listed nor counted."""

_MAX_PLACES = 4096
_MAX_GRANT_BYTES = 4096
# A session is entered in the calendar within this time, so that the calendar has few seconds.
_HORIZON_SECONDS = 3600


class Sessions:
    """The table of live sessions.

    Parameters
    ----------
    caps
        The caps, by what they count. A session without a token, address or subject is not counted for that cap.

    The cost of an event does not depend on the number of sessions: each has one place in a calendar of leases, which is
    visited when it is due.

    """

    def __init__(self, caps: Caps | None = None) -> None:
        self._sessions: dict[str, Session] = {}
        self._caps = [Counter(kind, caps[kind]) for kind in CapKind if caps and kind in caps]
        self._ended: set[str] = set()
        self._ended_order: deque[tuple[float, str]] = deque()
        self._calendar: Groups[int] = Groups()
        self._visited: int | None = None  # the last second of the calendar that has been visited
        self._places: dict[Place, Place] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, session_id: str) -> Session | None:
        """Return the live session of that id, if there is one."""
        return self._sessions.get(bounded_name(session_id))

    def is_known(self, session_id: str) -> bool:
        """Return whether a session is in the table, or has ended a short while ago."""
        key = bounded_name(session_id)
        return key in self._sessions or key in self._ended

    def advance(self, now: Instant) -> tuple[Effect, ...]:
        """Remove the sessions whose lease has ended at ``now``, and forget ended ones in time."""
        while self._ended_order and self._ended_order[0][0] <= now.steady - LATE_SECONDS:
            self._ended.discard(self._ended_order.popleft()[1])
        second = math.floor(now.steady)
        if second == self._visited:
            return ()
        lost: list[Effect] = []
        for due in self._due(second):
            for session in self._calendar.pop(due):
                if session.lease is None or session.lease > second:
                    self._enter(session, second)
                else:
                    self._remove(session)
                    lost.append(Lost(session))
        self._visited = second
        return tuple(lost)

    def handle(self, request: Request, now: Instant, admission: Admission | None = None) -> Outcome:
        """Take one event at ``now``, and say what follows.

        A ``connect`` or ``revalidate`` is to be passed when the policy has admitted it, with what it has decided; an
        ``end`` always. Events may be late, repeated, out of order or missing.
        """
        effects = self.advance(now)
        key = bounded_name(request.id)
        if request.event is Event.END:
            return Outcome(None, effects + self._end(key, request, now))
        if admission is None:
            raise TypeError("a connect or revalidate needs its admission")
        if key in self._ended:
            return Outcome(None, effects)  # it came late: the session is over, and takes no place
        session = self._sessions.get(key)
        if session is not None:
            if session.kicked is None:
                self._refresh(session, admission, now)
            return Outcome(session.kicked, effects)
        session = self._session(key, request, admission, now)
        is_new = request.event is Event.CONNECT
        refusal = self._refusal(session) if is_new else None
        if refusal is not None:
            return Outcome(refusal, effects)
        if len(self._sessions) >= MAX_SESSIONS:
            return Outcome(None, (*effects, Untracked(key)))
        if is_new:
            effects += self._make_room(session)
        self._register(session, now)
        return Outcome(None, effects)

    def newcomer(self, request: Request, now: Instant, admission: Admission) -> Session | None:
        """Return the session that this ``connect`` adds if it is handled now; None if it adds none."""
        if self.is_known(request.id):
            return None
        session = self._session(bounded_name(request.id), request, admission, now)
        return None if self._refusal(session) is not None else session

    def seen(self, session_id: str, now: Instant) -> Session | None:
        """Return a session that goes on by its last grant, as its re-check could not be decided, with a new lease.

        None for one that is unknown or was kicked.
        """
        session = self.get(session_id)
        if session is None or session.kicked is not None:
            return None
        self._renew(session, now)
        return session

    def kick(self, session_id: str, refusal: Refusal) -> tuple[Effect, ...]:
        """Refuse the next re-check of a session, as a newer one has its place. Unknown ids have no effect."""
        session = self.get(session_id)
        return () if session is None or session.kicked is not None else (self._kick(session, refusal),)

    def _kick(self, session: Session, refusal: Refusal) -> Kicked:
        session.kicked = refusal
        self._release(session)
        return Kicked(session, refusal.reason)

    def _refusal(self, newcomer: Session) -> Refusal | None:
        for cap in self._caps:
            if cap.rejects(newcomer):
                return cap.refusal
        return None

    def _session(self, key: str, request: Request, admission: Admission, now: Instant) -> Session:
        place = Place(
            node=cut(request.node),
            transport=cut(request.transport),
            local=request.local,
            server_name=cut(request.server_name),
            alpn=cut(request.alpn),
            role=cut(request.role),
        )
        if len(self._places) >= _MAX_PLACES:
            self._places.clear()
        return Session(
            id=key,
            place=self._places.setdefault(place, place),
            remote=request.remote,
            path=cut(request.path),
            tls=None if request.tls is None else _cut_peer(request.tls),
            token=admission.token,
            jti=None if admission.jti is None else bounded_name(admission.jti),
            kid=admission.kid,
            subject=None if admission.subject is None else bounded_name(admission.subject),
            issued=admission.issued,
            tier=cut(admission.tier),
            grant=_kept(admission.grant),
            root=cut(admission.root),
            revalidate=admission.revalidate,
            expires=admission.expires,
            first=now.unix,
            last=now.unix,
            began=now.steady,
            lease=_lease(admission, now),
        )

    def _make_room(self, newcomer: Session) -> tuple[Effect, ...]:
        """Kick the oldest sessions where one more would exceed a cap. No cap rejects the newcomer."""
        kicked: list[Effect] = []
        for cap in self._caps:
            while cap.is_full(newcomer):  # ends: each kick frees a place
                kicked.append(self._kick(cap.oldest(newcomer), cap.refusal))
        return tuple(kicked)

    def _register(self, session: Session, now: Instant) -> None:
        self._sessions[session.id] = session
        for cap in self._caps:
            cap.add(session)
        self._enter(session, math.floor(now.steady))

    def _refresh(self, session: Session, admission: Admission, now: Instant) -> None:
        """Record that a session is alive. Its token, address and subject stay as they were at the start."""
        session.grant, session.tier, session.root = _kept(admission.grant), cut(admission.tier), cut(admission.root)
        session.revalidate, session.expires = admission.revalidate, admission.expires
        self._renew(session, now)

    def _renew(self, session: Session, now: Instant) -> None:
        session.last = now.unix
        session.lease = _lease(session, now)
        # A lease that has become longer is noticed when the old one is due.
        if session.lease is not None and session.lease < session.due:
            self._calendar.remove(session.due, session)
            self._enter(session, math.floor(now.steady))

    def _end(self, key: str, request: Request, now: Instant) -> tuple[Effect, ...]:
        if key in self._ended:
            return ()
        self._ended.add(key)
        self._ended_order.append((now.steady, key))
        if len(self._ended) > MAX_ENDED:
            self._ended.discard(self._ended_order.popleft()[1])
        session = self._sessions.get(key)
        if session is not None:
            self._calendar.remove(session.due, session)
            self._remove(session)
        return (Ended(session, request.reason, request.duration, request.usage),)

    def _remove(self, session: Session) -> None:
        del self._sessions[session.id]
        if session.kicked is None:
            self._release(session)

    def _release(self, session: Session) -> None:
        """Stop counting the session."""
        for cap in self._caps:
            cap.remove(session)

    def _due(self, second: int) -> Iterable[int]:
        """Return the unvisited seconds of the calendar up to the given one."""
        visited = second if self._visited is None else self._visited
        if second - visited <= _HORIZON_SECONDS:
            return range(visited + 1, second + 1)
        return sorted(due for due in self._calendar if due <= second)

    def _enter(self, session: Session, second: int) -> None:
        """Enter the session in the calendar, at the end of its lease or at the horizon before."""
        horizon = second + _HORIZON_SECONDS
        session.due = horizon if session.lease is None else min(session.lease, horizon)
        self._calendar.add(session.due, session)


def _lease(admission: Admission | Session, now: Instant) -> int | None:
    """Return the monotonic second at which the session counts as lost if it is not seen again, None for never."""
    if admission.revalidate is not None:
        return math.ceil(now.steady + LEASE_CADENCES * admission.revalidate)
    if admission.expires is not None:
        return max(math.ceil(now.steady + admission.expires - now.unix), math.floor(now.steady) + 1)
    return None


def _cut_peer(tls: Peer) -> Peer:
    return Peer(name=cut(tls.name), fingerprint=cut(tls.fingerprint), expires=tls.expires, issuer=cut(tls.issuer))


def _kept(grant: bytes) -> bytes:
    # A copy: what msgspec has written keeps the memory of the larger buffer that it was written in.
    return bytes(memoryview(grant)) if len(grant) <= _MAX_GRANT_BYTES else b""
