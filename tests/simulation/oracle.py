"""What one auth server must know and answer, worked out again in the simplest way from the events that reached it.

Nothing here is taken from the engine: lists are searched from end to end, and nothing is ever forgotten early.
"""

from __future__ import annotations

import math
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.loop import promise

if TYPE_CHECKING:
    from moq_token.auth.lease import Instant
    from moq_token.server.denial import Denial
    from moq_token.server.session import Admission, Session
    from tests.simulation.relay import Client

LATE_SECONDS = 30


class CapRule(NamedTuple):
    """A cap: which member of a client it counts, how many, and whether a newcomer ends the oldest."""

    kind: str
    limit: int
    kicks: bool


class Believed:
    """A session that the auth server has to count as live."""

    def __init__(self, client: Client, admission: Admission, now: Instant) -> None:
        self.holds = holds(client)
        self.admission = admission
        self.lease = _lease(admission, now)
        self.kicked: str | None = None


def holds(client: Client) -> dict[str, str]:
    """Return what a client has that a cap can count."""
    return {"token": client.jwt, "subject": client.subject, "remote": client.remote.partition(":")[0]}


class Table:
    """The sessions that one auth server must know."""

    def __init__(self, caps: tuple[CapRule, ...]) -> None:
        self.caps = caps
        self.sessions: dict[str, Believed] = {}
        self.ended: dict[str, float] = {}

    def lapse(self, steady: float) -> list[str]:
        lost = [name for name, one in self.sessions.items() if one.lease is not None and one.lease <= steady]
        for name in lost:
            del self.sessions[name]
        self.ended = {name: at for name, at in self.ended.items() if at > steady - LATE_SECONDS}
        return lost

    def alive(
        self, name: str, client: Client, admission: Admission, now: Instant, *, connect: bool
    ) -> tuple[str | None, list[str]]:
        """Return the reason to refuse a session that the policy admits, and the sessions that are kicked for it."""
        if name in self.ended:
            return None, []
        known = self.sessions.get(name)
        if known is not None:
            if known.kicked is None:
                known.admission, known.lease = admission, _lease(admission, now)
            return known.kicked, []
        newcomer = Believed(client, admission, now)
        kicked: list[str] = []
        if connect:
            for rule in self.caps:
                if len(self._holders(rule, newcomer)) >= rule.limit and not (rule.kicks and rule.limit):
                    return f"{rule.kind}-limit", []
            for rule in self.caps:
                holders = self._holders(rule, newcomer)
                while len(holders) >= rule.limit:
                    oldest = holders.pop(0)
                    self.sessions[oldest].kicked = f"{rule.kind}-limit"
                    kicked.append(oldest)
        self.sessions[name] = newcomer
        return None, kicked

    def seen(self, name: str, now: Instant) -> None:
        """Renew the lease of a session about which nothing could be decided."""
        known = self.sessions.get(name)
        if known is not None and known.kicked is None:
            known.lease = _lease(known.admission, now)

    def check_seen(self, name: str, now: Instant) -> None:
        """Check that a session goes on about which nothing could be decided at this moment."""
        known = self.sessions.get(name)
        if known is not None and known.kicked is None:
            promise(known.lease == _lease(known.admission, now), "a session is lost that was seen", name)

    def end(self, name: str, steady: float) -> bool:
        """Return whether this is the first report of the end."""
        if name in self.ended:
            return False
        self.ended[name] = steady
        self.sessions.pop(name, None)
        return True

    def _holders(self, rule: CapRule, newcomer: Believed) -> list[str]:
        held = newcomer.holds[rule.kind]
        return [name for name, one in self.sessions.items() if one.kicked is None and one.holds[rule.kind] == held]

    def check(self, sessions: dict[str, Session]) -> None:
        """Compare with the sessions that the engine knows."""
        mine = {name: one.lease for name, one in self.sessions.items()}
        theirs = {name: session.lease for name, session in sessions.items()}
        promise(mine == theirs, "the table has other sessions or leases than the events say", mine, theirs)


def _lease(grant: Admission, now: Instant) -> int | None:
    """Two cadences after the last sight, or without one at the end of the grant."""
    if grant.revalidate is not None:
        return math.ceil(now.steady + 2 * grant.revalidate)
    if grant.expires is None:
        return None
    return max(math.ceil(now.steady + grant.expires - now.unix), math.floor(now.steady) + 1)


class Orders:
    """What operators have ordered, as one auth server has heard of it."""

    def __init__(self) -> None:
        self.latest: dict[str, Denial] = {}

    def hear(self, denial: Denial) -> None:
        known = self.latest.get(denial.id)
        if known is None or _age(denial) >= _age(known):
            self.latest[denial.id] = denial

    def against(self, client: Client, session: str, digest: str, unix: float) -> list[Denial]:
        """Return the orders in force that a session falls under."""
        return [
            denial for denial in self.latest.values()
            if not denial.lifted and unix < denial.until and concerns(denial, client, session, digest)
        ]  # fmt: skip

    def against_old(self, kid: str | None, path: str, unix: float) -> list[Denial]:
        """Return the orders in force that a question of relay 0.14 falls under, which shows nothing else."""
        return [
            denial for denial in self.latest.values()
            if not denial.lifted and unix < denial.until
            and denial.subject is denial.session is denial.token is denial.remote is None
            and denial.kid in {None, kid}
            and (denial.path is None or path.startswith(denial.path.removesuffix("**")))
        ]  # fmt: skip


def _age(denial: Denial) -> tuple[float, str, bool]:
    return denial.at, denial.node, denial.lifted


def concerns(denial: Denial, client: Client, session: str, digest: str) -> bool:
    address = client.remote.partition(":")[0]
    return (
        denial.kid is None  # the tokens of relays from 0.15 on are no JWTs here
        and denial.subject in {None, client.subject}
        and denial.session in {None, session}
        and denial.token in {None, digest}
        and (denial.remote is None or IPv4Address(address) in IPv4Network(denial.remote))
        and (denial.path is None or client.path.startswith(f"/{denial.path.removesuffix('**')}"))
    )
