"""An auth server of the simulation: the real table, caps and denials, with everything around them made of memory."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from moq_token.contract import Event, Grant, Request
from moq_token.errors import RefusedError
from moq_token.patterns import Patterns
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial, Facts
from moq_token.server.denials import Denials
from moq_token.server.identity import Identity
from moq_token.server.session import Admission, Ended, Kicked, Lost, Outcome
from moq_token.server.sessions import Sessions
from moq_token.server.spread import spread
from moq_token.server.verdict import affected
from tests.simulation.loop import promise
from tests.simulation.oracle import CapRule, Orders, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import Loop, Machine
    from tests.simulation.relay import Client, Relay

    Answer = Callable[[int, Grant | None], None]

_PUBLISH, _SUBSCRIBE = Patterns(["**"]), Patterns(["**", "x/**"])


class Rules(NamedTuple):
    """What all auth servers of a world are configured with."""

    cadence: int | None = 10
    expires: int | None = 60
    caps: tuple[CapRule, ...] = ()


class Policy:
    """The policy of a world: who holds a token that was not revoked may do everything."""

    def __init__(self, rules: Rules) -> None:
        self.cadence, self._expires = rules.cadence, rules.expires
        self.revoked: set[str] = set()

    def grant(self, client: Client, session: str, unix: float) -> Grant | None:
        if client.jwt in self.revoked:
            return None
        cadence, expires = self.cadence, self._expires
        return Grant(
            publish=_PUBLISH,
            subscribe=_SUBSCRIBE,
            expires=None if expires is None else int(unix) + _spread(expires, session),
            revalidate=None if cadence is None else _spread(cadence, session),
        )


class AuthNode:
    """One auth server, with its state directory."""

    def __init__(
        self, loop: Loop, machine: Machine, name: str, *, rules: Rules, policy: Policy, clients: dict[str, Client]
    ) -> None:
        self.loop, self.machine, self.name = loop, machine, name
        self.rules, self.policy, self.clients = rules, policy, clients
        self.relays: list[Relay] = []
        self.has_keys = True
        self.disk: list[bytes] = []
        self.orders = Orders()
        self.start()

    def start(self) -> None:
        """Begin again with what is on the disk."""
        self.is_up = True
        self.sessions = Sessions(
            {CapKind(rule.kind): Cap(rule.limit, kick_oldest=rule.kicks) for rule in self.rules.caps}
        )
        self.denials = Denials(Denial.from_json(record) for record in self.disk)
        self.table = Table(self.rules.caps)
        self.used = [0, 0]
        self.reported = [0, 0]

    def crash(self) -> None:
        self.is_up = False

    # -- relays

    def receive(self, request: Request, answer: Answer) -> None:
        """Answer a relay, in the order of decision of the server."""
        if not self.is_up:
            answer(502, None)
            return
        if request.event is Event.END:
            self._end(request)
            answer(204, None)
            return
        status, grant = self._decide(request)
        self.check()
        answer(status, grant)

    def _decide(self, request: Request) -> tuple[int, Grant | None]:
        now = self.machine.now()
        assert request.remote is not None
        client = self.clients[request.remote]
        if not self.has_keys:
            return 503, None
        grant = self.policy.grant(client, request.id, now.unix)
        if grant is None:
            return 403, None
        digest = digest_of(client)
        facts = Facts(
            session=request.id,
            token=digest.hex(),
            subject=client.subject,
            address=request.address,
            path=request.path,
        )
        verdict = self.denials.match(facts, now.unix)
        ordered = self.orders.against(client, request.id, digest.hex(), now.unix)
        if verdict is not None:
            try:
                grant = verdict.apply(grant, request.path)
            except RefusedError as error:
                denied = {order.role for order in ordered}
                is_denied = error.reason == "banned" and (None in denied or {"publish", "subscribe"} <= denied)
                promise(is_denied, "a session is refused that nobody has denied", request.id, ordered)
                return 403, None
        promise(
            all(not order.refuses for order in ordered), "a session is admitted that is denied", request.id, ordered
        )
        for role in ("publish", "subscribe"):
            taken = any(order.role == role for order in ordered)
            promise(bool(getattr(grant, role)) != taken, "a denial does not narrow as it says", role, ordered)
        admission = Admission.of(grant, Identity(token=digest, subject=client.subject), now=now.unix)
        outcome = self.sessions.handle(request, now, admission)
        self._lapsed(outcome, now.steady)
        connect = request.event is Event.CONNECT
        refused, kicked = self.table.alive(request.id, client, grant, now, connect=connect)
        promise(
            (None if outcome.refused is None else outcome.refused.reason) == refused,
            "a cap refuses what it should admit, or the other way round", request.id, outcome.refused, refused,
        )  # fmt: skip
        told = [effect.session.id for effect in outcome.effects if isinstance(effect, Kicked)]
        promise(told == kicked, "other sessions are kicked than the oldest", told, kicked)
        for session_id in kicked:
            self._nudge([session_id])
        return (200, grant) if outcome.refused is None else (403, None)

    def _end(self, request: Request) -> None:
        now = self.machine.now()
        assert request.usage is not None
        is_known = request.id in self.table.sessions
        outcome = self.sessions.handle(request, now)
        self._lapsed(outcome, now.steady)
        is_known = request.id in self.table.sessions
        is_first = self.table.end(request.id, now.steady)
        ends = [effect for effect in outcome.effects if isinstance(effect, Ended)]
        promise(len(ends) == is_first, "an end is not counted once", request.id, len(ends))
        for end in ends:
            promise((end.session is not None) == is_known, "an end is for another session", request.id)
            assert end.usage is not None
            self.used[0] += end.usage.sent
            self.used[1] += end.usage.received
        if is_first:
            self.reported[0] += request.usage.sent
            self.reported[1] += request.usage.received
        self.check()

    def _lapsed(self, outcome: Outcome, steady: float) -> None:
        lost = sorted(effect.session.id for effect in outcome.effects if isinstance(effect, Lost))
        expected = sorted(self.table.lapse(steady))
        promise(lost == expected, "other sessions are lost than those whose lease has ended", lost, expected)

    def _nudge(self, ids: list[str]) -> None:
        for relay in self.relays:
            if relay.is_up and not relay.is_cut:
                self.loop.after(0.01, relay.nudge, ids)

    # -- operators

    def order(self, denial: Denial) -> None:
        """Ban or narrow: remember it, then tell the relays of the sessions that it is for."""
        if not self.is_up:
            return
        now = self.machine.now()
        self._put(self.denials.stamped(denial, now.unix, self.name))
        self._nudge([session.id for session in affected(denial, self._live())])

    def lift(self, denial_id: str) -> None:
        if not self.is_up:
            return
        now = self.machine.now()
        lifting = self.denials.lifting(denial_id, now.unix, node=self.name)
        if lifting is not None:
            self._put(lifting)
        else:
            known = self.orders.latest.get(denial_id)
            promise(known is None or known.lifted or known.until <= now.unix, "a denial cannot be lifted", denial_id)

    def _put(self, denial: Denial) -> None:
        promise(self.denials.put(denial), "an order changes nothing", denial)
        self.disk = [known.to_json() for known in self.denials]
        self.orders.hear(denial)
        self.check()

    def _live(self) -> Sessions:
        now = self.machine.now()
        self._lapsed(Outcome(None, self.sessions.advance(now)), now.steady)
        return self.sessions

    # -- the promises

    def check(self) -> None:
        """Check what must hold after every step."""
        if not self.is_up:
            return
        now = self.machine.now()
        self.denials.advance(now.unix)
        self.table.check({session.id: session for session in self.sessions})
        promise(self.used == self.reported, "the usage does not add up", self.used, self.reported)
        in_force = {denial.id for denial in self.denials.in_force(now.unix)}
        ordered = {denial.id for denial in self.orders.latest.values() if not denial.lifted and now.unix < denial.until}
        promise(in_force == ordered, "other denials are in force than were ordered", in_force, ordered)


_spread = functools.lru_cache(maxsize=4096)(spread)


def digest_of(client: Client) -> bytes:
    return _digest(client.jwt)


@functools.cache
def _digest(jwt: str) -> bytes:
    return hashlib.blake2b(jwt.encode(), digest_size=16).digest()
