"""Which nodes a share has, as one of them knows. No I/O; the caller passes the time, in seconds of any steady clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moq_token.server.share.denials import GONE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NODES: Final = 10_000
"""Nodes that are asked, and whose answers are taken."""
LEASE_SECONDS: Final = 15.0
"""A node counts as gone when it has not renewed its lease for this time."""


class Nodes:
    """The nodes that were there, according to the store and to themselves.

    Attributes
    ----------
    there
        Those that had a lease when the store was last asked, this one included.
    gone
        Those that have stopped without leaving, and were not started again at the same place.

    """

    def __init__(self, own: str) -> None:
        self.there: tuple[str, ...] = ()
        self.gone: tuple[str, ...] = ()
        self._own = own
        # When each was last there. A store that has lost its data knows them again after their next pull.
        self._seen: dict[str, float] = {}
        self._stopped: dict[str, float] = {}  # when each of those that are gone was last there, or first named as gone

    def pulled(self, there: Iterable[object], gone: Iterable[object], now: float) -> None:
        """Take what the store says, to which others can have written too."""
        self.there = _names(there)
        named = dict.fromkeys(_names(gone), now)
        recent = {name: at for name, at in self._seen.items() if at > now - LEASE_SECONDS and name not in named}
        stopped = named | self._seen | self._stopped
        self._seen = (recent if len(recent) <= MAX_NODES else {}) | dict.fromkeys(self.there, now)
        places = {_place(name) for name in self.there}
        self._stopped = {
            name: at
            for name, at in list(stopped.items())[:MAX_NODES]
            if name not in self._seen and at > now - GONE_SECONDS and _place(name) not in places
        }
        self.gone = tuple(sorted(self._stopped))

    def joined(self, name: str, now: float) -> None:
        """Note that a node has joined."""
        if len(self._seen) < MAX_NODES:
            self._seen[name] = now

    def left(self, name: str) -> None:
        """Note that a node has left."""
        self._seen.pop(name, None)
        self._stopped.pop(name, None)

    def others(self) -> list[str]:
        """Return the nodes that are to answer a question."""
        return sorted(name for name in self._seen if name != self._own)


def _names(found: Iterable[object]) -> tuple[str, ...]:
    names = sorted(name.decode(errors="replace") for name in found if isinstance(name, bytes))
    return tuple(names[:MAX_NODES])


def _place(node: str) -> str:
    """Return the part of a name that stays the same when a node is started again."""
    return node.rpartition("-")[0] or node
