"""A relay: its half of the contract, written from what relay 0.17 was seen to do and not from our own code."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from moq_token.contract import Event, Request, Usage
from tests.simulation.loop import promise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.contract import Grant
    from moq_token.patterns import Patterns
    from tests.simulation.loop import Loop, Machine
    from tests.simulation.node import AuthNode

HOP_SECONDS = 0.01
TIMEOUT_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 60.0
MAX_LATE_SECONDS = 15.0
"""The network delays nothing by more, so that no event comes later than 30 s after the end of its session."""
_GOLDEN = 0.618034


class Client:
    """Somebody who dials: a token of somebody, from some address."""

    def __init__(self, number: int) -> None:
        self.name = f"c{number}"
        self.jwt = f"secret-token-{number % 3}"
        self.subject = f"subject-{number % 2}"
        self.remote = f"192.0.2.{number % 4}:{1000 + number}"
        self.path = f"/room{number % 2}/cam"
        # What it shows to relay 0.14: a token of some key, nothing, or a certificate.
        self.kid = (None, "k1", "k2", None, "k1", None)[number % 6]
        self.has_certificate = number % 6 == 5


class Live:
    """One session on a relay, from its first question on."""

    def __init__(self, session_id: str, client: Client) -> None:
        self.id = session_id
        self.client = client
        self.grant: Grant | None = None
        self.asked = self.admitted = 0.0
        self.ended: str | None = None
        self.asking = self.again = False
        self.asks = 0  # counts the questions, so that an answer to an earlier one is not taken
        self.failures = 0
        self.had_failure = False
        self.due = self.end = 0  # count the timers, so that earlier ones do nothing
        self.sets = 0  # how often the clock had been set when the latest grant came


class Relay:
    """Sessions of clients, about which an auth server is asked."""

    def __init__(self, loop: Loop, machine: Machine, node: AuthNode, name: str) -> None:
        self.loop, self.machine, self.node, self.name = loop, machine, node, name
        self.live: dict[str, Live] = {}
        self.fates: deque[str] = deque()
        self.is_cut = False
        self.is_deaf = False  # nobody reaches its internal listener
        self.is_up = True
        self.starts = 0
        self.sessions = 0
        self.ends: list[tuple[str, str]] = []
        self.left: deque[tuple[float, Live]] = deque(maxlen=16)
        """The latest sessions that have ended, and when."""
        self._jitter = 0.0

    @property
    def can_be_told(self) -> bool:
        return self.is_up and not self.is_cut and not self.is_deaf

    # -- what happens to it

    def connect(self, client: Client) -> None:
        if not self.is_up:
            return
        self.sessions += 1
        session = Live(f"{self.name}-{self.sessions}", client)
        session.asked = self.loop.now
        self._ask(session, Event.CONNECT)

    def leave(self, number: int) -> None:
        if self.live:
            sessions = list(self.live.values())
            self._close(sessions[number % len(sessions)], "closed")

    def stop(self) -> None:
        """Shut down in order: every session is reported as ended."""
        for session in list(self.live.values()):
            self._close(session, "shutdown")
        self.crash()

    def crash(self) -> None:
        """Be killed: nothing is reported."""
        self.live.clear()
        self.is_up = False
        self.starts += 1

    def start(self) -> None:
        self.is_up = True

    def nudge(self, ids: Iterable[str]) -> None:
        """Check sessions again at once, as the internal listener is asked to."""
        for name in list(ids):
            session = self.live.get(name)
            if session is not None:
                if session.asking:
                    session.again = True
                else:
                    self._ask(session, Event.REVALIDATE)

    def clock_was_set(self) -> None:
        for session in self.live.values():
            self._set_end(session)

    # -- asking

    def _request(self, session: Live, event: Event, reason: str | None = None) -> Request:
        client = session.client
        is_end = event is Event.END
        return Request(
            id=session.id, event=event, node=self.name, transport="quic", remote=client.remote, path=client.path,
            query=f"jwt={client.jwt}", reason=reason,
            duration=self.loop.now - session.admitted if is_end else None,
            usage=Usage(1, 2) if is_end else None,
        )  # fmt: skip

    def _ask(self, session: Live, event: Event) -> None:
        session.asking = True
        session.asks += 1
        self._send(self._request(session, event), session)
        self.loop.after(TIMEOUT_SECONDS, self._answered, self.starts, session, session.asks, 0, None)

    def _send(self, request: Request, session: Live | None) -> None:
        """Send a request, as the next fate wants it. The answer goes to the session."""
        kind, _, number = (self.fates.popleft() if self.fates else "good").partition(":")
        seconds = min(float(number or 0), MAX_LATE_SECONDS)
        if session is not None and kind != "good":
            session.had_failure = True
        if self.is_cut or kind == "lose":
            if session is not None:
                session.had_failure = True
            return
        back = -1.0 if kind == "mute" else HOP_SECONDS + (seconds if kind == "slow" else 0)
        there = HOP_SECONDS + (seconds if kind == "late" else 0)
        self.loop.after(
            there, self._arrive, request, session, (self.starts, 0 if session is None else session.asks), back
        )
        if kind == "twice":
            self.loop.after(there + seconds, self._arrive, request, None, (0, 0), -1.0)

    def _arrive(self, request: Request, session: Live | None, asked: tuple[int, int], back: float) -> None:
        def answer(status: int, grant: Grant | None) -> None:
            if session is not None and back >= 0:
                starts, ask = asked
                self.loop.after(back, self._answered, starts, session, ask, status, grant)

        self.node.receive(request, answer)

    def _answered(self, starts: int, session: Live, ask: int, status: int, grant: Grant | None) -> None:
        """Take an answer; status 0 is none within the time."""
        if starts != self.starts or session.ended is not None or ask != session.asks or not session.asking:
            return
        session.asking = False
        if session.grant is None:
            self._admit(session, status, grant)
            return
        if status == 200 and grant is not None:
            self._apply(session, session.grant, grant)
        elif status in {401, 403}:
            self._close(session, "refused")
        else:
            session.failures += 1
            session.had_failure = True
            self._set_due(session)
        again, session.again = session.again, False
        if again and session.id in self.live:
            self._ask(session, Event.REVALIDATE)

    def _admit(self, session: Live, status: int, grant: Grant | None) -> None:
        if status != 200 or grant is None:
            session.ended = "not admitted"
            return
        if grant.expires is not None and grant.expires <= self.machine.now().unix:
            promise(
                session.sets != self.machine.sets or session.had_failure, "a grant has ended when it arrives", grant
            )
            session.ended = "not admitted"
            return
        session.grant = grant
        session.admitted = self.loop.now
        self.live[session.id] = session
        self._take(session, grant)

    def _apply(self, session: Live, before: Grant, grant: Grant) -> None:
        if grant.expires is not None and grant.expires <= self.machine.now().unix:
            self._close(session, "invalid")
        elif not (_covers(grant.publish, before.publish) and _covers(grant.subscribe, before.subscribe)):
            self._close(session, "grant narrowed")
        else:
            self._take(session, grant)

    def _take(self, session: Live, grant: Grant) -> None:
        session.grant = grant
        session.failures = 0
        session.had_failure = False
        session.sets = self.machine.sets
        self._set_due(session)
        self._set_end(session)

    def _set_due(self, session: Live) -> None:
        """Wake for the next check."""
        assert session.grant is not None
        cadence = math.inf if session.grant.revalidate is None else session.grant.revalidate
        wait = cadence
        if session.failures:
            self._jitter = (self._jitter + _GOLDEN) % 1
            wait = min(2.0 ** (session.failures - 1), cadence, MAX_BACKOFF_SECONDS) * (0.75 + self._jitter / 2)
        session.due += 1
        if wait < math.inf:
            self.loop.after(wait, self._check, self.starts, session, session.due)

    def _set_end(self, session: Live) -> None:
        """Wake for the end of the grant, which the clock of the machine tells."""
        assert session.grant is not None
        session.end += 1
        if session.grant.expires is not None:
            left = max(0.0, session.grant.expires - self.machine.now().unix)
            self.loop.after(left, self._expire, self.starts, session, session.end)

    def _check(self, starts: int, session: Live, due: int) -> None:
        if starts == self.starts and session.ended is None and due == session.due and not session.asking:
            self._ask(session, Event.REVALIDATE)

    def _expire(self, starts: int, session: Live, end: int) -> None:
        if starts == self.starts and session.ended is None and end == session.end:
            self._close(session, "expired")

    def _close(self, session: Live, reason: str) -> None:
        session.ended = reason
        del self.live[session.id]
        self.ends.append((session.id, reason))
        self.left.append((self.loop.now, session))
        was_set = session.sets != self.machine.sets
        if reason == "expired":
            assert session.grant is not None
            promise(
                session.had_failure or was_set or session.grant.revalidate is None,
                "a session expires although every re-check was answered", session.id,
            )  # fmt: skip
        elif reason == "invalid":
            promise(was_set or session.had_failure, "a session gets a grant that has ended", session.id)
        self._send(self._request(session, Event.END, reason), None)


def _covers(patterns: Patterns, before: Patterns) -> bool:
    return patterns is before or patterns.contains(before)
