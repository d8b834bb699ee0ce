"""The places of sessions in the caps of a share: the store is asked for them, told of renewals, and given them back.

Without the store, a node decides about its sessions alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from moq_token.errors import UnavailableError
from moq_token.server.share.caps import SharedCaps
from moq_token.server.share.link import StoreError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from moq_token.auth.lease import Instant
    from moq_token.server.caps import Caps
    from moq_token.server.session import Refusal, Session
    from moq_token.server.share.caps import Call, Kick
    from moq_token.server.share.link import Link
    from moq_token.server.share.names import Names

MAX_OWED: Final = 10_000
"""Ended sessions that the store is told of later, when it is back."""


class Places:
    """The places that the sessions of one node have in the caps of its share.

    Parameters
    ----------
    caps, names, required
        Those of ``Sharing``.
    kicked
        Called with the id of a session that was ended for a newer one, and with the reason.
    problem
        Returns what keeps this node from the store.

    Attributes
    ----------
    required
        Whether a new session is unavailable rather than admitted without the store.
    alone
        How many decisions about new sessions were made without the store.

    """

    def __init__(
        self,
        caps: Caps,
        names: Names,
        kicked: Callable[[str, Refusal], None],
        problem: Callable[[], str | None],
        *,
        required: bool,
    ) -> None:
        self.required: bool = required
        self.alone: int = 0
        self._caps = SharedCaps(caps, names)
        self._kicked, self._problem = kicked, problem
        self._link: Link | None = None
        # Sessions that a newer one may end, by what stands for them in the store.
        self._kickable: dict[bytes, str] = {}
        self._owed: deque[Call] = deque(maxlen=MAX_OWED)

    def attach(self, link: Link) -> None:
        """Ask the store over this link from now on, and tell it of the sessions that have ended meanwhile."""
        self._link = link
        owed, self._owed = self._owed, deque(maxlen=MAX_OWED)
        for call in owed:
            self._give_back(call)

    def detach(self) -> None:
        """Decide alone from now on."""
        self._link = None

    async def admit(self, session: Session, now: Instant) -> Refusal | None:
        """Take a place for a new session in each of its caps, within 250 ms.

        Returns why there is none; None also if the store cannot be asked. Raises ``UnavailableError`` if it has to
        be (``required``).
        """
        call = self._caps.call(b"admit", session, now)
        if call is None and not self.required:
            return None
        link = self._link
        if link is None:
            self._decide_alone(self._problem())
            return None
        if call is None:
            return None
        self._remember(session)
        try:
            answer = await link.call(call)
            refusal, kicks = self._caps.verdict(session, answer)
        except (StoreError, ValueError) as error:
            if self.required:
                self.release(session, now)  # it is not admitted, and the store may have counted it
            self._decide_alone(str(error))
            return None
        except asyncio.CancelledError:
            self.release(session, now)
            raise
        for kick in kicks:
            self._end(kick)
        if refusal is not None:
            self._forget(session)
        return refusal

    def refresh(self, session: Session, now: Instant) -> None:
        """Renew the leases of a session that is alive. Its node is told if it was ended for a newer one."""
        call = self._caps.call(b"refresh", session, now)
        if call is None:
            return
        self._remember(session)
        if self._link is not None:
            self._link.call(call).add_done_callback(partial(self._refreshed, session))

    def release(self, session: Session, now: Instant) -> None:
        """Give back the places of a session that is over."""
        call = self._caps.call(b"release", session, now)
        if call is None:
            return
        self._forget(session)
        self._give_back(call)

    def kick(self, message: bytes) -> None:
        """Take a message of the store about a session that was ended for a newer one. Other messages are ignored."""
        try:
            kick = self._caps.kick(message)
        except ValueError:
            return
        self._end(kick)

    def _decide_alone(self, problem: str | None) -> None:
        """Go on without the store, if that is allowed."""
        if self.required:
            raise UnavailableError(f"the share cannot be asked: {problem}")
        self.alone += 1

    def _refreshed(self, session: Session, future: Future[object]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        try:
            refusal, _ = self._caps.verdict(session, future.result())
        except ValueError:
            return
        if refusal is not None:
            self._kicked(session.id, refusal)

    def _give_back(self, call: Call) -> None:
        if self._link is None:
            self._owed.append(call)
        else:
            self._link.call(call).add_done_callback(partial(self._given_back, call))

    def _given_back(self, call: Call, future: Future[object]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._owed.append(call)

    def _remember(self, session: Session) -> None:
        if self._caps.kicks:
            self._kickable[self._caps.digest(session.id)] = session.id

    def _forget(self, session: Session) -> None:
        if self._caps.kicks:
            self._kickable.pop(self._caps.digest(session.id), None)

    def _end(self, kick: Kick) -> None:
        session_id = self._kickable.pop(kick.digest, None)
        if session_id is not None:
            self._kicked(session_id, kick.refusal)
