"""A world of relays, auth servers, clients and operators, and the steps that can happen in it.

A schedule is a list of steps, each a line of text: the same text gives the same run, with nothing left to chance.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from moq_token.server.denial import Denial
from tests.simulation.loop import START, BrokenPromiseError, Loop, Machine, promise
from tests.simulation.node import AuthNode, Policy, Rules
from tests.simulation.oracle import CapRule, holds
from tests.simulation.relay import MAX_LATE_SECONDS, Client, Relay
from tests.simulation.server import ServerNode
from tests.simulation.shared import NAMES, SharedNode
from tests.simulation.store import Store, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Step: TypeAlias = "tuple[str | float, ...]"

CLIENTS = 6
KINDS = {"engine": AuthNode, "server": ServerNode, "share": SharedNode}
QUIET = frozenset(("deaf", "listen"))
"""Steps in which only nudges fail."""
CALM = frozenset(("wait", "connect", "leave", "ban", "unban", "kick", "revoke", "cadence"))
"""Steps without trouble: as long as there are no others, caps hold exactly."""
SCRIPTS = Path(__file__).with_name("scripts")


class World:
    """Everything there is, made by the step ``world``."""

    def __init__(self, kind: str, nodes: int, relays: int, cadence: int, expires: int, *caps: str) -> None:
        """Make auth servers, each on its machine, and relays beside them. A cadence or an end of 0 is none.

        ``kind`` is ``engine`` for its state machines alone, which is quick, ``server`` for all of it, or ``share`` for
        servers that share a store.
        """
        self.loop = Loop()
        self.clients = [Client(number) for number in range(CLIENTS)]
        rules = Rules(cadence or None, expires or None, tuple(map(_cap, caps)))
        self.policy = Policy(rules)
        self.machines = [Machine(self.loop, number) for number in range(nodes)]
        by_remote = {client.remote: client for client in self.clients}
        self.nodes = [
            KINDS[kind](self.loop, machine, f"n{number}", rules=rules, policy=self.policy, clients=by_remote)
            for number, machine in enumerate(self.machines)
        ]
        self.relays = []
        for number in range(relays):
            node = self.nodes[number % nodes]
            relay = Relay(self.loop, node.machine, node, f"r{number}")
            node.relays.append(relay)
            self.relays.append(relay)
        self.rules = rules
        self.is_calm = self.is_quiet = True
        self.store = Store(self.loop)
        everywhere: dict[bytes, Denial] = {}
        for node in self.nodes:
            if isinstance(node, ServerNode):
                node.is_quiet = lambda: self.is_quiet
            if isinstance(node, SharedNode):
                node.wire, node.everywhere, node.is_full = Wire(self.store), everywhere, self._is_full
            node.start()
        self.loop.run(0.1)
        self._longest = cadence

    # -- steps

    def wait(self, seconds: float) -> None:
        self.loop.run(seconds)

    def connect(self, relay: int, client: int) -> None:
        self.relays[relay].connect(self.clients[client])
        self.loop.run(0.1)

    def leave(self, relay: int, session: int) -> None:
        self.relays[relay].leave(session)
        self.loop.run(0.1)

    def net(self, relay: int, *fates: str) -> None:
        """Say what becomes of the next requests of a relay: good, lose, mute, late:S, slow:S or twice:S."""
        self.relays[relay].fates.extend(fates)

    def cut(self, relay: int) -> None:
        self.relays[relay].is_cut = True

    def join(self, relay: int) -> None:
        self.relays[relay].is_cut = False

    def deaf(self, relay: int) -> None:
        """Have nobody reach the internal listener of a relay."""
        self.relays[relay].is_deaf = True

    def listen(self, relay: int) -> None:
        self.relays[relay].is_deaf = False

    def kill_relay(self, relay: int) -> None:
        self.relays[relay].crash()

    def stop_relay(self, relay: int) -> None:
        self.relays[relay].stop()

    def start_relay(self, relay: int) -> None:
        self.relays[relay].start()

    def kill_node(self, node: int) -> None:
        self.nodes[node].crash()

    def start_node(self, node: int) -> None:
        if not self.nodes[node].is_up:
            self.nodes[node].start()

    def restart_node(self, node: int) -> None:
        self.kill_node(node)
        self.start_node(node)

    def cut_store(self, node: int) -> None:
        self._wire(node).is_cut = True

    def mute_store(self, node: int) -> None:
        """Lose the answers of the store to a node, but not its calls."""
        self._wire(node).is_mute = True

    def join_store(self, node: int) -> None:
        self._wire(node).is_cut = self._wire(node).is_mute = False

    def stop_store(self) -> None:
        self.store.is_up = False
        self.store.break_links()

    def start_store(self) -> None:
        self.store.is_up = True

    def fail_over(self) -> None:
        self.store.fail_over()

    def flush_store(self) -> None:
        self.store.model.flush()

    def _wire(self, number: int) -> Wire:
        node = self.nodes[number]
        return node.wire if isinstance(node, SharedNode) else Wire(self.store)

    def clock(self, node: int, ahead: float) -> None:
        """Set the clock of a machine to so many seconds before or after the true time."""
        machine = self.machines[node]
        machine.set_clock(ahead - machine.ahead)
        for relay in self.nodes[node].relays:
            relay.clock_was_set()

    def keys(self, node: int, has_keys: str) -> None:
        """Take the keys of the policy away, or give them back."""
        self.nodes[node].has_keys = has_keys == "back"

    def cadence(self, seconds: int) -> None:
        """Configure the policy anew."""
        if self.policy.cadence is not None:
            self.policy.cadence = seconds
            self._longest = max(self._longest, seconds)

    def revoke(self, client: int) -> None:
        self.policy.revoked.add(self.clients[client].jwt)

    def ban(self, node: int, kind: str, client: int, seconds: float) -> None:
        self.nodes[node].order(self._denial(node, kind, client, seconds))
        self._agree()

    def unban(self, node: int, kind: str, client: int) -> None:
        self.nodes[node].lift(self._denial(node, kind, client, 1).id)
        self._agree()

    def _agree(self) -> None:
        """Let all nodes hear of an order, and check that they have."""
        self.loop.run(0.1)
        for each in self.nodes if self.is_calm else ():
            if isinstance(each, SharedNode):
                each.check_agreed(START + self.loop.now)

    def kick(self, node: int, session: int, seconds: float) -> None:
        """Deny one session for a while."""
        known = [each.id for each in self.nodes[node].sessions]
        if known:
            until = self._until(node, seconds)
            self.nodes[node].order(Denial(session=known[session % len(known)], until=until))
            self._agree()

    def _denial(self, node: int, kind: str, client: int, seconds: float) -> Denial:
        someone = self.clients[client]
        address = someone.remote.partition(":")[0]
        matchers: dict[str, dict[str, Any]] = {
            "subject": {"subject": someone.subject},
            "token": {"token": self.nodes[node].digest(someone)},
            "remote": {"remote": address},
            "network": {"remote": f"{address}/31"},
            "path": {"path": f"{someone.path.split('/')[1]}/**"},
            "publish": {"subject": someone.subject, "role": "publish"},
            "subscribe": {"subject": someone.subject, "role": "subscribe"},
        }
        return Denial(until=self._until(node, seconds), **matchers[kind])

    def _check_leases(self) -> None:
        """Check that the store counts the sessions that the nodes know, and no others."""
        shared = [node for node in self.nodes if isinstance(node, SharedNode)]
        if not shared or not self.rules.caps:
            return
        known = {
            NAMES.digest(b"session", session.id.encode())
            for node in shared
            for session in node.sessions
            if session.kicked is None
        }
        counted = self.store.counted()
        promise(known == counted, "the store counts other sessions than the nodes", known ^ counted)
        held = repr((self.store.model.sorted, self.store.model.hashes))
        is_secret = not any(text in held for text in ("secret", "subject", "192.0.2", "room"))
        promise(is_secret, "the store holds something personal in clear", held)

    def _until(self, node: int, seconds: float) -> int:
        return int(self.machines[node].now().unix + seconds)

    # -- the promises

    def check(self) -> None:
        for node in self.nodes:
            node.check()
        if self.is_calm:
            for group in [self.nodes] if isinstance(self.nodes[0], SharedNode) else [[node] for node in self.nodes]:
                self._check_caps(group)

    def _check_caps(self, nodes: Sequence[AuthNode]) -> None:
        """Check the sessions that really live, where nothing has troubled the nodes that count together."""
        held = [holds(session.client) for node in nodes for relay in node.relays for session in relay.live.values()]
        for rule in self.rules.caps:
            counts = Counter(each[rule.kind] for each in held)
            promise(all(count <= rule.limit for count in counts.values()), "a cap is exceeded", rule, counts)

    def _is_full(self, client: Client) -> bool:
        """Whether a cap may refuse a client for the sessions on all relays."""
        if not self.is_calm:
            return True
        held = [holds(session.client) for relay in self.relays for session in relay.live.values()]
        mine = holds(client)
        return any(sum(each[rule.kind] == mine[rule.kind] for each in held) >= rule.limit for rule in self.rules.caps)

    def settle(self) -> None:
        """Heal everything, wait until all is known again, and check that everybody knows the truth."""
        for number, relay in enumerate(self.relays):
            relay.is_cut = relay.is_deaf = False
            relay.fates.clear()
            relay.start()
            self.start_node(number % len(self.nodes))
        for node in self.nodes:
            node.has_keys = True
        self.store.is_up = True
        for number in range(len(self.nodes)):
            self.join_store(number)
        cadence = self._longest
        if not cadence:
            self.loop.run(31)
            self.check()
            return
        # What is still under way arrives, and has a lease of two cadences.
        self.loop.run(MAX_LATE_SECONDS + 2 + 2 * cadence)
        self.check()
        for node in self.nodes:
            node.advance()
        self._check_leases()
        for node in self.nodes:
            if isinstance(node, SharedNode):
                node.check_agreed(START + self.loop.now)
            known = {session.id for session in node.sessions if session.kicked is None}
            live = {session.id for relay in node.relays for session in relay.live.values()}
            promise(known == live, "the table does not heal", known, live)
            unix = node.machine.now().unix
            for relay in node.relays:
                for session in relay.live.values():
                    orders = node.orders.against(session.client, session.id, node.digest(session.client), unix)
                    # One that has been in force for less than a cadence may still be on its way.
                    late = [order for order in orders if order.refuses and order.at < unix - 2 * cadence]
                    promise(not late, "a denied session is not out", session.id, late)


def _cap(text: str) -> CapRule:
    kind, limit, *kicks = text.split(":")
    return CapRule(kind, int(limit), bool(kicks))


def replay(schedule: Iterable[Step]) -> World:
    """Let the steps of a schedule happen, and heal the world at the end. Raises :class:`BrokenPromiseError`."""
    name, *arguments = next(steps := iter(schedule))
    assert name == "world"
    world = World(*arguments)  # type: ignore[arg-type]
    try:
        for name, *arguments in steps:
            world.is_calm &= name in CALM
            world.is_quiet &= name in CALM | QUIET
            getattr(world, str(name))(*arguments)
            world.check()
        world.settle()
    finally:
        for node in world.nodes:
            node.crash()
    return world


def broken(schedule: Sequence[Step]) -> str | None:
    """Return the promise that a schedule breaks, None if it breaks none."""
    try:
        replay(schedule)
    except BrokenPromiseError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the engine may raise nothing
        return f"the engine fails: {error!r}"
    return None


def to_text(schedule: Iterable[Step]) -> str:
    return "".join(
        f"{' '.join(f'{part:g}' if isinstance(part, float) else str(part) for part in step)}\n" for step in schedule
    )


def from_text(text: str) -> list[Step]:
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [tuple(map(_part, line)) for line in lines if line]


def _part(text: str) -> str | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
