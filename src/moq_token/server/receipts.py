"""What has become of the sessions that are to end: a record that takes events and the time. No I/O and no clock."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from moq_token.server.api import MAX_LISTED, Receipt, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moq_token.server.session import Session

ASKING_SECONDS: Final = 10
"""How long the re-check of a relay may take."""
MAX_UNREACHABLE: Final = 100
"""Relays in one receipt."""

_UNTOLD = "it asks this server, and cannot be told of this ban: ban a key or a path there"


class _Left(NamedTuple):
    """A session that has not ended: its relay, when its next re-check is over, and when its grant ends."""

    node: str
    out_by: float | None
    expires: int | None


class Pending:
    """The live sessions that a denial is for, until they have ended.

    Parameters
    ----------
    started
        When the denial came, in monotonic seconds.

    """

    def __init__(self, started: float) -> None:
        self._alive: dict[str, _Left] = {}
        self._matched = 0
        self._nodes: dict[str, dict[str, Session]] = {}
        self._started = started
        self._slowest: float | None = None
        self._unreachable: dict[str, Unreachable] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._alive

    def add(self, session: Session) -> None:
        """Add one that is to end."""
        self._alive[session.id] = _Left(session.place.node, _out_by(session), session.expires)
        self._nodes.setdefault(session.place.node, {})[session.id] = session
        self._matched += 1

    @property
    def most(self) -> int:
        """How many sessions have not ended of the relay that has the most of them."""
        return max(map(len, self._nodes.values()), default=0)

    @property
    def nodes(self) -> list[str]:
        """The relays with sessions that have not ended."""
        return sorted(self._nodes)

    def at(self, node: str) -> list[Session]:
        """Return the sessions of a relay that have not ended."""
        return list(self._nodes.get(node, {}).values())

    def is_over(self, node: str | None = None) -> bool:
        """Whether all sessions have ended: of one relay, or of all."""
        return node not in self._nodes if node is not None else not self._nodes

    def ended(self, session_id: str, now: float) -> float | None:
        """Note the end of a session at ``now``, once; return after how many seconds, None for any other session."""
        left = self._alive.pop(session_id, None)
        if left is None:
            return None
        of_node = self._nodes[left.node]
        del of_node[session_id]
        if not of_node:
            del self._nodes[left.node]
        took = max(0.0, now - self._started)
        self._slowest = took if self._slowest is None else max(self._slowest, took)
        return took

    def reached(self, node: str) -> None:
        """Note that a relay was told."""
        self._unreachable.pop(node, None)

    def missed(self, node: str, url: str | None, error: str) -> None:
        """Note that a relay could not be told. It may be told later."""
        self._unreachable[node] = Unreachable(node=node, url=url, error=error)

    def receipt(
        self,
        *,
        stored: bool,
        dry_run: bool = False,
        others_by: float | None = None,
        unseen: Iterable[Unreachable] = (),
        starting: Unreachable | None = None,
    ) -> Receipt:
        """Return what is known at this moment.

        ``others_by`` is when sessions that are not known are out (Unix seconds), infinity for those at relays 0.14
        that cannot be told. ``unseen`` are
        the relays that were not reached since the start, and may have sessions that are not known; so may the server
        itself, as ``starting`` says.
        """
        # A relay whose sessions have all ended was told, even if its answer was lost.
        unreachable = {node: self._unreachable[node] for node in self.nodes if node in self._unreachable}
        missing = {relay.node: relay for relay in unseen}
        named = sorted((missing | unreachable).values(), key=lambda relay: relay.node)
        first: tuple[Unreachable, ...] = () if starting is None else (starting,)
        if others_by == math.inf:
            first += (Unreachable(kind="relay-0.14", node="", error=_UNTOLD),)
            others_by = None
        out_by = [math.inf if left.out_by is None else left.out_by for left in self._alive.values()]
        expires = [math.inf if left.expires is None else left.expires for left in self._alive.values()]
        return Receipt(
            matched=self._matched,
            ended=self._matched - len(self._alive),
            alive=tuple(sorted(islice(self._alive, MAX_LISTED))),
            unreachable=(*first, *named)[:MAX_UNREACHABLE],
            slowest_ms=None if self._slowest is None else round(self._slowest * 1000),
            out_by=_latest(out_by if others_by is None else [*out_by, others_by]),
            expires_by=None if missing or starting else _latest(expires),
            complete=not self._alive and not missing and not first,
            dry_run=dry_run,
            stored=stored,
        )


def _latest(times: list[float]) -> int | None:
    latest = max(times, default=math.inf)
    return None if latest == math.inf else math.ceil(latest)


def _out_by(session: Session) -> float | None:
    """Return when a denied session is out (Unix seconds): at its next re-check, if it succeeds, or when it expires."""
    if session.revalidate is None:
        return session.expires
    check = session.last + session.revalidate + ASKING_SECONDS
    return check if session.expires is None else min(check, session.expires)
