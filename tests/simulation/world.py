"""A world of relays, auth servers, clients and operators, and the steps that can happen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from moq_token.server.denial import Denial
from tests.simulation.loop import START, Loop, Machine
from tests.simulation.node import AuthNode, Policy, Rules
from tests.simulation.oracle import CapRule, holds
from tests.simulation.relay import Client, Live, Relay
from tests.simulation.server import ServerNode
from tests.simulation.shared import TAGS, RequiringNode, SharedNode
from tests.simulation.store import Store, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

Step: TypeAlias = "tuple[str | float, ...]"

CLIENTS = 6
_END_SECONDS = 0.05
"""The end of a session has reached its node and the store after so long, where nothing is in trouble."""
KINDS = {"engine": AuthNode, "server": ServerNode, "share": SharedNode, "require": RequiringNode}
QUIET = frozenset(("deaf", "listen"))
"""Steps in which only nudges fail."""
CALM = frozenset(("wait", "connect", "leave", "dial", "ban", "unban", "kick", "revoke", "cadence"))
"""Steps without trouble: as long as there are no others, caps hold exactly."""
STORE = frozenset(("cut_store", "mute_store", "join_store", "stop_store", "start_store", "fail_over", "flush_store"))
"""Steps in which only the store fails, or the way to it."""


class World:
    """Everything there is, made by the step ``world``."""

    def __init__(self, kind: str, nodes: int, relays: int, cadence: int, expires: int, *caps: str) -> None:
        """Make auth servers, each on its machine, and relays beside them. A cadence or an end of 0 is none.

        ``kind`` is ``engine`` for its state machines alone, which is quick, ``server`` for all of it, ``share`` for
        servers that share a store, or ``require`` for such that admit nobody without it.
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
        self.is_calm = self.is_quiet = self.is_only_store = True
        self.is_healed = False
        self.longest = cadence  # of the cadences so far
        self.excused: dict[str, set[bytes]] = {rule.kind: set() for rule in rules.caps}
        """By the kind of cap, the sessions that the store did not count at some time when another one was admitted: the
        cap can be exceeded by so many."""
        self.store = Store(self.loop)
        self.shared = [node for node in self.nodes if isinstance(node, SharedNode)]
        everywhere: dict[bytes, Denial] = {}
        for node in self.nodes:
            if isinstance(node, ServerNode):
                node.is_quiet = lambda: self.is_quiet
        for node in self.shared:
            node.wire, node.nodes, node.everywhere = Wire(self.store), self.shared, everywhere
            node.is_full, node.excuse = self._is_full, self.excuse
        for node in self.nodes:
            node.start()
        self.loop.run(0.1)

    def begin(self, step: str) -> None:
        """Note which kinds of steps there have been."""
        self.is_calm &= step in CALM
        self.is_quiet &= step in CALM | QUIET
        self.is_only_store &= step in CALM | QUIET | STORE

    def live(self) -> list[Live]:
        """Return the sessions that really live."""
        return [session for relay in self.relays for session in relay.live.values()]

    def excuse(self, sessions: Iterable[bytes]) -> None:
        """Note which of some sessions the store does not count now."""
        names = set(sessions)
        for kind in self.excused:
            self.excused[kind] |= names - self.store.counted(TAGS[kind])

    def _is_full(self, client: Client) -> bool:
        """Whether a cap may refuse a client for the sessions on all relays, and those whose end is under way."""
        if not self.is_calm and not self.is_healed:
            return True
        since = self.loop.now - _END_SECONDS
        leaving = [session for relay in self.relays for at, session in relay.left if at > since]
        held = [holds(session.client) for session in [*self.live(), *leaving]]
        mine = holds(client)
        return any(sum(each[rule.kind] == mine[rule.kind] for each in held) >= rule.limit for rule in self.rules.caps)

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
        self._set_wire(node, is_cut=True)

    def mute_store(self, node: int) -> None:
        """Lose the answers of the store to a node, but not its calls."""
        self._set_wire(node, is_mute=True)

    def join_store(self, node: int) -> None:
        self._set_wire(node, is_cut=False, is_mute=False)

    def stop_store(self) -> None:
        self.store.is_up = False
        self.store.break_links()
        self._note()

    def start_store(self) -> None:
        self.store.is_up = True
        self._note()

    def fail_over(self) -> None:
        self.store.fail_over()
        self._note(is_new=True)

    def flush_store(self) -> None:
        self.store.model.flush()

    def store_clock(self, ahead: float) -> None:
        """Set the clock of the store to so many seconds before or after the true time."""
        self.store.set_clock(ahead)

    def _set_wire(self, number: int, **states: bool) -> None:
        node = self.nodes[number]
        if isinstance(node, SharedNode):
            for name, value in states.items():
                setattr(node.wire, name, value)
            self._note()

    def _note(self, *, is_new: bool = False) -> None:
        for node in self.shared:
            node.wire.note(self.loop.now, is_new=is_new)

    def dial(self, node: int, client: int) -> None:
        """Connect at the relay of the 0.14 line on the machine of an auth server."""
        server = self.nodes[node]
        if isinstance(server, ServerNode):
            server.old.dial(self.clients[client])
            self.loop.run(0.1)

    def cut_old(self, node: int) -> None:
        """Cut the relay of the 0.14 line off."""
        self._set_old(node, is_cut=True)

    def join_old(self, node: int) -> None:
        self._set_old(node, is_cut=False)

    def _set_old(self, number: int, *, is_cut: bool) -> None:
        node = self.nodes[number]
        if isinstance(node, ServerNode):
            node.old.is_cut = is_cut

    def disk(self, node: int, state: str) -> None:
        """Have the disk of an auth server take nothing more (``full``), or again (``free``)."""
        server = self.nodes[node]
        if isinstance(server, ServerNode):
            server.fill_disk(is_full=state == "full")

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
            self.longest = max(self.longest, seconds)
            for node in self.nodes:
                if isinstance(node, ServerNode):
                    node.policy_changed()

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
        for each in self.shared if self.is_calm else ():
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
            "kid": {"kid": someone.kid or "k1"},
            "kid-path": {"kid": someone.kid or "k1", "path": f"{someone.path.split('/')[1]}/**"},
            "path": {"path": f"{someone.path.split('/')[1]}/**"},
            "publish": {"subject": someone.subject, "role": "publish"},
            "subscribe": {"subject": someone.subject, "role": "subscribe"},
            "path-publish": {"path": "**", "role": "publish"},
            "path-subscribe": {"path": "**", "role": "subscribe"},
        }
        return Denial(until=self._until(node, seconds), **matchers[kind])

    def _until(self, node: int, seconds: float) -> int:
        return int(self.machines[node].now().unix + seconds)


def _cap(text: str) -> CapRule:
    kind, limit, *kicks = text.split(":")
    return CapRule(kind, int(limit), bool(kicks))
