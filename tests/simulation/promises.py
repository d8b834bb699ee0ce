"""What must hold in a world: after every step, and when all trouble is over."""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.loop import START, promise
from tests.simulation.oracle import holds
from tests.simulation.relay import MAX_LATE_SECONDS
from tests.simulation.server import ServerNode
from tests.simulation.shared import ATTACH_SECONDS, NAMES, TAGS, SharedNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.node import AuthNode
    from tests.simulation.oracle import CapRule
    from tests.simulation.relay import Client, Live
    from tests.simulation.world import World

_KINDS = {tag: kind for kind, tag in TAGS.items()}
_TOGETHER_SECONDS = 1.0
"""Of sessions that began within so much time, any counts as the oldest."""


class Promises:
    """The promises about a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        if world.shared:
            world.store.before_admission = self._excuse
            world.store.after_admission = self._admitted

    def check(self) -> None:
        """Check what must hold after every step."""
        world = self._world
        for node in world.nodes:
            node.check()
        if world.is_calm:
            for group in [world.nodes] if world.shared else [[node] for node in world.nodes]:
                self._check_caps(group)
        elif world.shared:
            self._check_bound()

    def _check_caps(self, nodes: Sequence[AuthNode]) -> None:
        """Check the sessions that really live, where nothing has troubled the nodes that count together."""
        held = [holds(session.client) for node in nodes for relay in node.relays for session in relay.live.values()]
        for rule in self._world.rules.caps:
            counts = Counter(each[rule.kind] for each in held)
            promise(all(count <= rule.limit for count in counts.values()), "a cap is exceeded", rule, counts)

    # -- caps that are shared, in trouble

    def _check_bound(self) -> None:
        """Check that a cap is exceeded by no more than what the store had lost, or was not told.

        All other sessions were counted whenever a session was admitted, so they are within the limit.
        """
        world = self._world
        if not world.rules.caps:
            return
        for rule in world.rules.caps:
            counted = world.store.counted(TAGS[rule.kind])
            sure = [each for each in world.live() if _name(each) in counted - world.excused[rule.kind]]
            counts = Counter(holds(each.client)[rule.kind] for each in sure)
            is_within = all(count <= rule.limit for count in counts.values())
            promise(is_within, "a cap is exceeded by more than what was lost", rule, counts)

    def _excuse(self) -> None:
        """Note the sessions that live, or will when their relay has the answer, and that the store does not count."""
        self._world.excuse(_name(each) for each in self._world.live())
        self._world.excuse(_digest(session.id) for node in self._world.shared for session in node.sessions)

    def _admitted(self, newcomer: bytes, kicked: Sequence[bytes]) -> None:
        """Check that the oldest was kicked of those that the store counts, on whichever node it is."""
        self._excuse()
        world = self._world
        if not kicked or not world.is_only_store:
            return
        live = {_name(each): each for each in world.live()}
        for each in kicked:
            oldest, kind = live.get(each[1:]), _KINDS[each[:1]]
            if oldest is None:
                continue  # its end is still under way
            counted = world.store.counted(each[:1]) - {newcomer}
            for other in (live[name] for name in counted if name in live):
                is_older = oldest.asked <= other.asked + _TOGETHER_SECONDS
                is_other = holds(oldest.client)[kind] != holds(other.client)[kind]
                promise(is_older or is_other, "another session is kicked than the oldest of all nodes", other.id)

    def _check_leases(self, *, exactly: bool) -> None:
        """Check that the store counts the sessions that the nodes know, and no others if ``exactly``."""
        world = self._world
        if not world.shared or not world.rules.caps:
            return
        known = {_digest(session.id) for node in world.shared for session in node.sessions if session.kicked is None}
        counted = world.store.counted()
        promise(known <= counted, "the store does not count all sessions that the nodes know", known - counted)
        if exactly and world.loop.now > world.store.ghosts_until:
            promise(known == counted, "the store counts other sessions than the nodes", counted - known)
        held = repr((world.store.model.sorted, world.store.model.hashes))
        is_secret = not any(text in held for text in ("secret", "subject", "192.0.2", "room"))
        promise(is_secret, "the store holds something personal in clear", held)

    # -- when all trouble is over

    def settle(self) -> None:
        """Heal everything, wait until all is known again, and check that everybody knows the truth."""
        world = self._world
        self._heal()
        cadence = world.longest
        if not cadence:
            world.loop.run(31)
            self.check()
            return
        waited = 0.0
        if world.is_only_store:
            waited = ATTACH_SECONDS + cadence
            world.loop.run(waited)
            self._check_leases(exactly=False)
        # What is still under way arrives, and has a lease of two cadences.
        world.loop.run(MAX_LATE_SECONDS + 2 + 2 * cadence - waited)
        self.check()
        for node in world.nodes:
            node.advance()
        self._check_leases(exactly=True)
        for node in world.nodes:
            self._check_known(node, cadence)
        if world.shared and world.loop.now > world.store.ghosts_until:
            self._probe()

    def _heal(self) -> None:
        world = self._world
        for number, relay in enumerate(world.relays):
            relay.is_cut = relay.is_deaf = False
            relay.fates.clear()
            relay.start()
            world.start_node(number % len(world.nodes))
        for number, node in enumerate(world.nodes):
            node.has_keys = True
            world.join_old(number)
            world.disk(number, "free")
            world.join_store(number)
        world.start_store()

    def _check_known(self, node: AuthNode, cadence: int) -> None:
        world = self._world
        if isinstance(node, SharedNode):
            node.check_agreed(START + world.loop.now)
        if isinstance(node, ServerNode):
            stored = set(node.disk)
            lacking = [denial for denial in node.denials if denial.to_json() not in stored]
            promise(not lacking, "a denial is not stored once the disk takes it", lacking)
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

    def _probe(self) -> None:
        """Connect new sessions, about which all nodes must decide together again."""
        world = self._world
        world.is_healed = True
        for number in range(len(world.relays)):
            client = world.clients[4 * number % len(world.clients)]
            before = {session.id for session in world.live()}
            full = {rule: self._count(rule, client) >= rule.limit for rule in world.rules.caps}
            world.connect(number, 4 * number % len(world.clients))
            is_admitted = any(session.id not in before for session in world.live())
            rejects = any(is_full and not (rule.kicks and rule.limit) for rule, is_full in full.items())
            promise(not (is_admitted and rejects), "a cap does not heal", full)
            for rule in full if is_admitted else ():
                promise(self._count(rule, client) <= rule.limit, "a cap makes no room once it has healed", rule)

    def _count(self, rule: CapRule, client: Client) -> int:
        mine = holds(client)[rule.kind]
        return sum(holds(session.client)[rule.kind] == mine for session in self._world.live())


def _name(session: Live) -> bytes:
    """Return what stands for a session in the store."""
    return _digest(session.id)


@functools.lru_cache(maxsize=4096)
def _digest(session_id: str) -> bytes:
    return NAMES.digest(b"session", session_id.encode())
