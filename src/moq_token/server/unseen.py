"""Sessions that may be live although they are not in the table: after a restart, or when leases have ended.

Their relays are told to ask again about those, until they have. Meanwhile no receipt can say that everybody is out.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from moq_token.errors import UnavailableError
from moq_token.server.api import Unreachable
from moq_token.server.nudges import FEW, by_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from moq_token.auth.lease import Instant
    from moq_token.server.nudges import Nudger
    from moq_token.server.session import Session

ASKING_SECONDS: Final = 1.0
"""How long a relay that was told may take to ask about its sessions, before it is told again."""

KNOWN_CADENCES: Final = 2
"""So many cadences after the start, all sessions have asked again, and are known."""
ASSUMED_CADENCE_SECONDS: Final = 60
"""The cadence of a policy that does not tell it."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 30.0
_TURN_SECONDS = 0.02
# All relays of a large network at once would take many connections.
_TOGETHER = 64


class _Relay:
    def __init__(self, lost: set[str] | None, until: float) -> None:
        self.lost = lost  # the ids of the sessions that it may have; None is for any
        self.until = until  # when the grants of these have ended (Unix seconds)
        self.problem = "not reached yet"


class Unseen:
    """What is known of the sessions that may be live although they are not in the table.

    Parameters
    ----------
    nudger
        Tells relays to ask again.
    is_known
        Tells whether a session is in the table, or has ended a short while ago.
    now
        Returns the time on both clocks.

    Attributes
    ----------
    cadence
        How often relays ask again about their sessions, in seconds. None if they do not by themselves.

    """

    def __init__(self, nudger: Nudger, is_known: Callable[[str], bool], now: Callable[[], Instant]) -> None:
        self.cadence: float | None = None
        self._nudger, self._is_known, self._now = nudger, is_known, now
        self._started = now().steady
        self._relays: dict[str, _Relay] = {}
        self._together = asyncio.Semaphore(_TOGETHER)
        self._work: asyncio.Task[None] | None = None
        self.add(nudger.relays)

    def add(self, nodes: Iterable[str]) -> None:
        """Add relays that may have any sessions."""
        self._relays |= {node: _Relay(None, math.inf) for node in nodes}

    def add_lost(self, session: Session) -> None:
        """Add the relay of a session whose lease has ended: it may be cut off, and the session live."""
        node = session.place.node
        if node not in self._nudger.relays:
            return
        relay = self._relays.setdefault(node, _Relay(set(), -math.inf))
        relay.until = max(relay.until, math.inf if session.expires is None else session.expires)
        if relay.lost is not None:
            relay.lost = relay.lost | {session.id} if len(relay.lost) < FEW else None
        self.discover()

    def discover(self) -> None:
        """Have the relays ask again, in the background, until each was reached and has asked.

        So the table is whole soon after a restart, also for sessions that have no cadence.
        """
        if self._relays and (self._work is None or self._work.done()):
            self._work = asyncio.create_task(self._discover_all())

    async def discover_once(self) -> None:
        """Tell each relay once, and wait a short time until it has asked."""
        await asyncio.gather(*(self._discover(node) for node in list(self._relays)))

    def unreachable(self) -> list[Unreachable]:
        """Return the relays that may have sessions which are not in the table."""
        now, relays = self._now().unix, self._nudger.relays
        return [
            Unreachable(
                node=node, url=relays[node].url, error=f"{each.problem}; it may have sessions that are not known here"
            )
            for node, each in self._relays.items()
            if node in relays and now < each.until
        ]

    def starting(self, node: str) -> Unreachable | None:
        """Return the entry of a receipt for this server, called ``node``, while it may not know all sessions."""
        if not self.unknown_seconds():
            return None
        if self.cadence is None:
            lack, fix = "the sessions from before", "set `serve --revalidate`, or `--relay` for each relay"
        else:
            lack, fix = "all sessions yet", "they come back with their next re-check"
        seconds = self._now().steady - self._started
        error = f"started {seconds:.0f} s ago and does not know {lack}: {fix}"
        return Unreachable(kind="start", node=node, error=error)

    def unknown_seconds(self) -> float:
        """Return for how long there may be sessions from before the start that are not known here.

        They come back with their re-checks. Relays that are known are told to ask at once, and a receipt names those
        that could not be told.
        """
        if self._nudger.relays:
            return 0.0
        if self.cadence is None:
            return math.inf
        return max(0.0, self._started + KNOWN_CADENCES * self.cadence - self._now().steady)

    async def stop(self) -> None:
        """Stop what goes on in the background."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait((self._work,))

    async def _discover_all(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while self._relays:
            await self.discover_once()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _discover(self, node: str) -> None:
        relay = self._relays.get(node)
        if relay is None:
            return
        lost = relay.lost
        try:
            async with self._together:
                asking = await self._nudger.nudge(node, [""] if lost is None else [by_id(each) for each in lost])
        except UnavailableError as error:
            relay.problem = str(error)
        except KeyError:
            self._relays.pop(node, None)  # it was removed from the settings meanwhile
        else:
            relay.problem = "it has not asked about them yet"
            if await self._have_come(asking) and self._relays.get(node) is relay and relay.lost == lost:
                del self._relays[node]
        if self._relays.get(node) is relay and self._now().unix >= relay.until:
            del self._relays[node]

    async def _have_come(self, sessions: Iterable[str]) -> bool:
        """Wait until sessions are known, for a short time, and return whether all are."""
        left = [each for each in sessions if not self._is_known(each)]
        for _ in range(round(ASKING_SECONDS / _TURN_SECONDS)):
            if not left:
                return True
            await asyncio.sleep(_TURN_SECONDS)
            left = [each for each in left if not self._is_known(each)]
        return not left
