"""An auth server of the simulation: the real table, caps and denials, with everything around them made of memory."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from moq_token.algorithm import Algorithm
from moq_token.contract import Answer as Told
from moq_token.contract import Event, Grant, PublicPaths, Question, Request
from moq_token.errors import RefusedError
from moq_token.key import Key
from moq_token.patterns import Patterns
from moq_token.server.caps import Cap, CapKind
from moq_token.server.denial import Denial, Facts
from moq_token.server.denials import Denials
from moq_token.server.identity import Identity
from moq_token.server.session import Admission, Ended, Kicked, Lost
from moq_token.server.sessions import Sessions
from moq_token.server.spread import spread
from moq_token.server.verdict import concerns
from tests.simulation.loop import promise
from tests.simulation.oracle import CapRule, Orders, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.auth.lease import Instant
    from moq_token.server.session import Effect, Outcome, Refusal, Session
    from tests.simulation.loop import Loop, Machine
    from tests.simulation.relay import Client, Relay

    Answer = Callable[[int, Grant | None], None]

_PUBLISH, _SUBSCRIBE = Patterns(["**"]), Patterns(["**", "x/**"])
_NUDGE_SECONDS = 0.01
_KEYS = {kid: Key.generate(Algorithm.EDDSA, kid=kid).to_public() for kid in ("k1", "k2")}


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

    def told(self, question: Question) -> Told:
        """Return what relay 0.14 is told, which decides by itself."""
        if question.mtls:
            return Told()
        if question.kid is not None:
            return Told(key=_KEYS[question.kid])
        return Told(public=PublicPaths(subscribe=[""], publish=["anonymous"]))


class AuthNode:
    """One auth server: its engine alone, in the order of decision of the server."""

    def __init__(
        self, loop: Loop, machine: Machine, name: str, *, rules: Rules, policy: Policy, clients: dict[str, Client]
    ) -> None:
        self.loop, self.machine, self.name = loop, machine, name
        self.rules, self.policy, self.clients = rules, policy, clients
        self.caps = {CapKind(rule.kind): Cap(rule.limit, kick_oldest=rule.kicks) for rule in rules.caps}
        self.relays: list[Relay] = []
        self.has_keys = True
        self.disk: list[bytes] = []
        self.orders = Orders()
        self.is_up = False

    def start(self) -> None:
        """Begin again with what is on the disk."""
        self.is_up = True
        self.sessions = WatchedSessions(self)
        self.denials = Denials(map(Denial.from_json, self.disk))

    def crash(self) -> None:
        self.is_up = False

    # -- relays

    def receive(self, request: Request, answer: Answer) -> None:
        """Answer a relay."""
        if not self.is_up:
            answer(502, None)
            return
        if request.event is Event.END:
            self.sessions.handle(request, self.machine.now())
            answer(204, None)
        else:
            answer(*self._decide(request))
        self.check()

    def _decide(self, request: Request) -> tuple[int, Grant | None]:
        now = self.machine.now()
        client = self.client(request)
        if not self.has_keys:
            if request.event is Event.REVALIDATE:
                self.advance()
                self.sessions.seen(request.id, now)
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
        if verdict is not None:
            try:
                grant = verdict.apply(grant, request.path)
            except RefusedError as error:
                promise(error.reason == "banned", "a denial refuses with another reason", error.reason)
                self.check_refused(request)
                return 403, None
        admission = Admission.of(grant, Identity(token=digest, subject=client.subject), now=now.unix)
        outcome = self.sessions.handle(request, now, admission)
        self._nudge([effect.session.id for effect in outcome.effects if isinstance(effect, Kicked)])
        return (200, grant) if outcome.refused is None else (403, None)

    def _nudge(self, ids: list[str]) -> None:
        for relay in self.relays if ids else ():
            if relay.can_be_told:
                self.loop.after(_NUDGE_SECONDS, relay.nudge, ids)

    def client(self, request: Request) -> Client:
        assert request.remote is not None
        return self.clients[request.remote]

    def digest(self, client: Client) -> str:
        """Return by what a denial knows the token of a client."""
        return digest_of(client).hex()

    def advance(self) -> None:
        """Remove the sessions that are lost by now."""
        self.sessions.advance(self.machine.now())

    # -- operators

    def order(self, denial: Denial) -> None:
        """Ban or narrow: remember it, then tell the relays of the sessions that it is for."""
        if not self.is_up:
            return
        now = self.machine.now()
        self._put(self.denials.stamped(denial, now.unix, self.name))
        self.advance()
        self._nudge([session.id for session in filter(concerns(denial), self.sessions)])

    def lift(self, denial_id: str) -> None:
        if not self.is_up:
            return
        now = self.machine.now()
        lifting = self.denials.lifting(denial_id, now.unix, node=self.name)
        self.check_lifting(denial_id, lifting, now.unix)
        if lifting is not None:
            self._put(lifting)

    def _put(self, denial: Denial) -> None:
        promise(self.denials.put(denial), "an order changes nothing", denial)
        self.disk = [known.to_json() for known in self.denials]
        self.ordered(denial)
        self.check()

    def hear(self) -> None:
        """Note what was ordered on other nodes and is known here."""

    def ordered(self, denial: Denial) -> None:
        """Note what an operator has ordered here."""
        self.orders.hear(denial)

    # -- the promises

    def check(self) -> None:
        """Check what must hold after every step."""
        if not self.is_up:
            return
        self.hear()
        now = self.machine.now()
        self.denials.advance(now.unix)
        self.sessions.check()
        if not self.denials and not self.orders.latest:
            return
        in_force = {denial.id for denial in self.denials.in_force(now.unix)}
        ordered = {denial.id for denial in self.orders.latest.values() if not denial.lifted and now.unix < denial.until}
        promise(in_force == ordered, "other denials are in force than were ordered", in_force, ordered)

    def _ordered(self, request: Request, unix: float) -> list[Denial]:
        self.hear()
        if not self.orders.latest:
            return []
        client = self.client(request)
        return self.orders.against(client, request.id, self.digest(client), unix)

    def check_refused(self, request: Request) -> None:
        """Check that a session which a denial refuses was to be refused."""
        denied = {order.role for order in self._ordered(request, self.machine.now().unix)}
        is_denied = None in denied or {"publish", "subscribe"} <= denied
        promise(is_denied, "a session is refused that nobody has denied", request.id)

    def check_admitted(self, request: Request, admission: Admission, unix: float) -> None:
        """Check that a session which the denials admit was to be admitted, and with what."""
        ordered = self._ordered(request, unix)
        promise(
            not any(order.refuses for order in ordered), "a session is admitted that is denied", request.id, ordered
        )
        for role in ("publish", "subscribe"):
            taken = any(order.role == role for order in ordered)
            has = f'"{role}"'.encode() in admission.grant
            promise(has != taken, "a denial does not narrow as it says", role, ordered)

    def check_lifting(self, denial_id: str, lifting: Denial | None, unix: float) -> None:
        known = self.orders.latest.get(denial_id)
        can_be = known is not None and not known.lifted and unix < known.until
        promise((lifting is not None) == can_be, "a denial cannot be lifted, or is lifted twice", denial_id)


class WatchedSessions(Sessions):
    """The table of an auth server, compared with its oracle at every event."""

    def __init__(self, node: AuthNode) -> None:
        super().__init__(node.caps)
        self._node = node
        self._table = Table(node.rules.caps)
        self._handling = False
        self._used = [0, 0]
        self._reported = [0, 0]
        self.refused: set[str] = set()

    def advance(self, now: Instant) -> tuple[Effect, ...]:
        effects = super().advance(now)
        lost = sorted(effect.session.id for effect in effects if isinstance(effect, Lost))
        expected = sorted(self._table.lapse(now.steady))
        promise(lost == expected, "other sessions are lost than those whose lease has ended", lost, expected)
        return effects

    def check_seen(self, session_id: str, now: Instant) -> None:
        """Check that a session goes on about which nothing could be decided at this moment."""
        self._table.check_seen(session_id, now)

    def seen(self, session_id: str, now: Instant) -> Session | None:
        session = super().seen(session_id, now)
        self._table.seen(session_id, now)
        return session

    def kick(self, session_id: str, refusal: Refusal) -> tuple[Effect, ...]:
        effects = super().kick(session_id, refusal)
        promise(effects or not self._handling, "a session is kicked that is not there", session_id)
        if effects and not self._handling:  # for a newer session on another node
            self._table.sessions[session_id].kicked = refusal.reason
        return effects

    def handle(self, request: Request, now: Instant, admission: Admission | None = None) -> Outcome:
        if admission is not None:
            self._node.check_admitted(request, admission, now.unix)
        self._handling = True
        outcome = super().handle(request, now, admission)
        self._handling = False
        if admission is None:
            self._watch_end(request, now, outcome)
        else:
            self._watch_alive(request, now, admission, outcome)
        return outcome

    def _watch_alive(self, request: Request, now: Instant, admission: Admission, outcome: Outcome) -> None:
        connect = request.event is Event.CONNECT
        refused, kicked = self._table.alive(request.id, self._node.client(request), admission, now, connect=connect)
        promise(
            (None if outcome.refused is None else outcome.refused.reason) == refused,
            "a cap refuses what it should admit, or the other way round", request.id, outcome.refused, refused,
        )  # fmt: skip
        told = [effect.session.id for effect in outcome.effects if isinstance(effect, Kicked)]
        promise(told == kicked, "other sessions are kicked than the oldest", told, kicked)
        if refused is not None:
            self.refused.add(request.id)

    def _watch_end(self, request: Request, now: Instant, outcome: Outcome) -> None:
        assert request.usage is not None
        is_known = request.id in self._table.sessions
        is_first = self._table.end(request.id, now.steady)
        ends = [effect for effect in outcome.effects if isinstance(effect, Ended)]
        promise(len(ends) == is_first, "an end is not counted once", request.id, len(ends))
        for end in ends:
            promise((end.session is not None) == is_known, "an end is for another session", request.id)
            assert end.usage is not None
            self._used = [self._used[0] + end.usage.sent, self._used[1] + end.usage.received]
        if is_first:
            self._reported = [self._reported[0] + request.usage.sent, self._reported[1] + request.usage.received]

    def check(self) -> None:
        self._table.check({session.id: session for session in self})
        promise(self._used == self._reported, "the usage does not add up", self._used, self._reported)


_spread = functools.lru_cache(maxsize=4096)(spread)


def digest_of(client: Client) -> bytes:
    return _digest(client.jwt)


@functools.cache
def _digest(jwt: str) -> bytes:
    return hashlib.blake2b(jwt.encode(), digest_size=16).digest()
