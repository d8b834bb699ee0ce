"""Schedules by the number: random ones from a seed, and the smallest one that still fails."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from tests.simulation.script import broken
from tests.simulation.world import CLIENTS, Step

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITS = (0.3, 1, 3, 9, 10, 11, 19, 21, 31, 45, 70)
_LONG_WAITS = (130, 400)
_VERY_LONG_WAIT = 3700
_FATES = ("good", "lose", "mute", "late", "slow", "twice")
_SHARED_CAPS = ("subject:1:kick", "subject:2:kick", "remote:1:kick", "subject:2", "remote:1")
_CAPS = ("token:1", "token:2", "subject:2", "remote:1", "subject:1:kick", "token:2:kick", "remote:2:kick", "token:0")
_BANS = ("subject", "token", "remote", "network", "path", "publish", "subscribe")
_OLD_BANS = ("kid", "kid", "kid-path", "path", "path-publish", "path-subscribe")
_TERMS = (5, 40, 600, 4000)


def schedule_of(seed: int, kind: str | None = None) -> list[Step]:
    """Return the schedule of a seed: always the same one. It is in a world of some kind if that is given."""
    return _Maker(random.Random(seed), kind).schedule()  # noqa: S311 - no secret


class _Maker:
    def __init__(self, chance: random.Random, kind: str | None) -> None:
        self._chance = chance
        self._next: list[Step] = []
        self._kind = kind or chance.choices(("engine", "server", "share", "require"), (93.5, 4, 2, 0.5))[0]
        self._is_shared = self._kind in {"share", "require"}
        self._nodes = chance.choice((2, 2, 3) if self._is_shared else (1, 1, 2))
        self._bans: list[tuple[str, int]] = []
        self._relays = self._nodes if self._is_shared else chance.choice((self._nodes, 2, 2))

    def schedule(self) -> list[Step]:
        chance = self._chance
        cadence = chance.choice((10, 10, 10, 5, 30, 0))
        expires = chance.choice((60, 300, 3000)) if cadence or chance.random() < 0.5 else 0
        caps: dict[str, str] = {}
        for text in chance.sample(
            _SHARED_CAPS if self._is_shared else _CAPS,
            chance.choice((1, 1, 1, 2) if self._is_shared else (0, 1, 1, 2)),
        ):
            caps.setdefault(text.partition(":")[0], text)
        order = sorted(caps, key=("token", "remote", "subject").index)
        world: Step = (
            "world",
            self._kind,
            self._nodes,
            self._relays,
            cadence,
            expires,
            *(caps[kind] for kind in order),
        )
        # A swarm: each schedule knows some kinds of steps only, so that those come together often.
        peace = chance.random()
        if peace < 0.2:
            all_kinds = _CALM if peace < 0.1 else _QUIET
        elif self._is_shared:
            all_kinds = (*_QUIET, *_STORE) if peace < 0.5 else _SHARED
        else:
            all_kinds = _KINDS
        if self._kind != "engine":
            all_kinds = (*all_kinds, *(_OLD if peace < 0.2 else (*_OLD, *_SERVER)))
        kinds = [kind for kind in all_kinds if chance.random() < 0.5]
        steps: list[Step] = [self._connect() for _ in range(chance.randint(1, 4))]
        for _ in range(chance.randint(4, 24)):
            what = chance.random()
            if self._next:
                steps.append(self._next.pop(0))
            elif what < 0.3:
                steps.append(self._connect())
            elif what < 0.55 or not kinds:
                steps.append(self._wait())
            else:
                steps.append(chance.choice(kinds)(self))
        return [world, *steps]

    def _relay(self) -> int:
        return self._chance.randrange(self._relays)

    def _node(self) -> int:
        return self._chance.randrange(self._nodes)

    def _client(self) -> int:
        if self._is_shared and self._chance.random() < 0.7:
            return self._chance.choice((0, 4))  # they have a subject and an address in common
        return self._chance.randrange(CLIENTS)

    def _connect(self) -> Step:
        return "connect", self._relay(), self._client()

    def _wait(self) -> Step:
        chance = self._chance.random()
        if chance < 0.003:
            return "wait", _VERY_LONG_WAIT
        return "wait", self._chance.choice(_WAITS if chance < 0.95 else _LONG_WAITS)

    def leave(self) -> Step:
        return "leave", self._relay(), self._chance.randrange(3)

    def net(self) -> Step:
        return "net", self._relay(), *(self._fate() for _ in range(self._chance.randint(1, 4)))

    def net_then_leave(self) -> Step:
        """Connect a session that ends while its events are under way."""
        relay = self._relay()
        self._next = [("connect", relay, self._client()), ("leave", relay, -1)]
        return "net", relay, self._fate()

    def cadence_then_crash(self) -> Step:
        """Shorten the cadence, and have a relay crash that has heard of it."""
        relay = self._relay()
        self._next = [("wait", 31), ("kill_relay", relay), ("wait", 9)]
        return "cadence", 3

    def cut_then_kick(self) -> Step:
        """Kick sessions that are about to be lost."""
        relay = self._relay()
        kick: Step = ("kick", relay % self._nodes, self._chance.choice((0, -1)), 4000)
        self._next = [("cut", relay), ("wait", self._chance.choice((11, 19))), kick, ("wait", 9)]
        return "connect", relay, self._client()

    def _fate(self) -> str:
        fate = self._chance.choice(_FATES)
        return f"{fate}:{self._chance.choice((0.5, 3, 9.5, 14))}" if fate in {"late", "slow", "twice"} else fate

    def link(self) -> Step:
        return self._chance.choice(("cut", "join")), self._relay()

    def listener(self) -> Step:
        return self._chance.choice(("deaf", "deaf", "listen")), self._relay()

    def relay_process(self) -> Step:
        return self._chance.choice(("kill_relay", "stop_relay", "start_relay", "start_relay")), self._relay()

    def node_process(self) -> Step:
        return self._chance.choice(("kill_node", "start_node", "restart_node", "restart_node")), self._node()

    def store_link(self) -> Step:
        return self._chance.choice(("cut_store", "mute_store", "join_store", "join_store")), self._node()

    def store_process(self) -> Step:
        return (
            self._chance.choice(("stop_store", "start_store", "start_store", "fail_over", "fail_over", "flush_store")),
        )

    def store_clock(self) -> Step:
        return "store_clock", self._chance.choice((-3600, 0, 3600))

    def disk(self) -> Step:
        return "disk", self._node(), self._chance.choice(("full", "full", "free"))

    def flush_then_kick(self) -> Step:
        """Have the store learn of two sessions again in the wrong order, and kick the older one."""
        older, newer = self._chance.sample(range(self._relays), 2)
        self._next = [("wait", 9), ("connect", newer, 4), ("wait", 1), ("flush_store",), ("wait", 11), self._connect()]
        return "connect", older, 0

    def flush_then_ban(self) -> Step:
        """Ban somebody on another node while the store knows nothing."""
        relay, node = self._chance.sample(range(self._relays), 2)
        client = self._client()
        self._next = [("flush_store",), ("ban", node, "subject", client, 600)]
        return "connect", relay, client

    def dial_then_ban(self) -> Step:
        """Ban somebody at a relay of the 0.14 line that has just been told to ask more often."""
        node = self._node()
        self._next = [("cadence", 3), ("ban", node, "kid", 1, 600), ("wait", 9)]
        return "dial", node, 1

    def disk_then_restart(self) -> Step:
        """Order something that cannot be stored at once, and restart."""
        node = self._node()
        self._next = [
            self.ban(),
            *self._chance.choice(([], [("disk", node, "free")], [("disk", node, "free"), ("wait", 11)])),
            ("restart_node", node),
        ]
        return "disk", node, "full"

    def dial(self) -> Step:
        return "dial", self._node(), self._chance.randrange(CLIENTS)

    def old_link(self) -> Step:
        return self._chance.choice(("cut_old", "join_old")), self._node()

    def old_ban(self) -> Step:
        """Deny what can be denied to relay 0.14."""
        ban = (self._chance.choice(_OLD_BANS), self._client())
        self._bans.append(ban)
        return "ban", self._node(), *ban, self._chance.choice(_TERMS)

    def clock(self) -> Step:
        return "clock", self._node(), self._chance.choice((-3600, 0, 3600))

    def keys(self) -> Step:
        return "keys", self._node(), self._chance.choice(("gone", "back"))

    def revoke(self) -> Step:
        return "revoke", self._client()

    def ban(self) -> Step:
        if not self._bans or self._chance.random() < 0.6:
            self._bans.append((self._chance.choice(_BANS), self._client()))
        return "ban", self._node(), *self._chance.choice(self._bans), self._chance.choice(_TERMS)

    def unban(self) -> Step:
        return ("unban", self._node(), *self._chance.choice(self._bans)) if self._bans else self.ban()

    def cadence(self) -> Step:
        return "cadence", self._chance.choice((3, 10, 30))

    def kick(self) -> Step:
        return "kick", self._node(), self._chance.randrange(4), self._chance.choice(_TERMS)


_Kinds: TypeAlias = "tuple[Callable[[_Maker], Step], ...]"
_CALM: _Kinds = (_Maker.leave, _Maker.revoke, _Maker.ban, _Maker.unban, _Maker.kick, _Maker.cadence)
_QUIET: _Kinds = (*_CALM, _Maker.listener)
_KINDS: _Kinds = (
    *_QUIET, _Maker.net, _Maker.net_then_leave, _Maker.cadence_then_crash, _Maker.cut_then_kick, _Maker.link,
    _Maker.relay_process, _Maker.node_process, _Maker.clock, _Maker.keys,
)  # fmt: skip
_STORE: _Kinds = (_Maker.store_link, _Maker.store_process, _Maker.flush_then_kick, _Maker.flush_then_ban)
_SHARED: _Kinds = (*_KINDS, *_STORE, _Maker.store_clock)
# What there is in worlds of whole servers, without trouble and with it.
_OLD: _Kinds = (_Maker.dial, _Maker.dial, _Maker.old_ban, _Maker.dial_then_ban)
_SERVER: _Kinds = (_Maker.old_link, _Maker.disk, _Maker.disk_then_restart, _Maker.cut_then_kick)


def shrink(failing: list[Step]) -> list[Step]:
    """Return the smallest schedule that Hypothesis finds by leaving out steps of a failing one, and fates of them."""

    @st.composite
    def weaker(draw: st.DrawFn) -> list[Step]:
        # 0 leaves a step out, so this is what shrinking tends to; nearly all numbers keep it.
        kept = [step for step in failing[1:] if draw(st.integers(0, 40))]
        return [failing[0], *(_fewer(draw, step) for step in kept)]

    effort = settings(
        max_examples=3000, deadline=None, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    try:
        return find(weaker(), lambda schedule: broken(schedule) is not None, settings=effort)
    except NoSuchExample:
        return failing


def _fewer(draw: st.DrawFn, step: Step) -> Step:
    if step[0] != "net":
        return step
    return *step[:2], *(fate if draw(st.integers(0, 40)) else "good" for fate in step[2:])
