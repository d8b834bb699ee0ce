"""What a share asks of the auth server that it belongs to, also for the other nodes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from moq_token.errors import InvalidDenialError
from moq_token.server.api import Listing, Receipt
from moq_token.server.log import log
from moq_token.server.operations import FaultError, Operations
from moq_token.server.share.receipts import OTHERS_WAIT_SECONDS, EndDenied, Kick, ListSessions, Reported

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moq_token.server.app import AuthServer
    from moq_token.server.denial import Denial
    from moq_token.server.session import Refusal
    from moq_token.server.share.receipts import Question


MAX_ANSWERED: Final = 1000
MAX_ANSWER_BYTES: Final = 192 * 1024
"""Sessions in an answer to another node, and its size: that of a message is bounded too."""


class Node(Protocol):
    """A node of a share, as the share sees it."""

    def kicked(self, session_id: str, refusal: Refusal, /) -> None:
        """End a session to make room for a newer one on another node."""
        ...

    def denials(self) -> Iterable[Denial]:
        """Return all denials that this node knows."""
        ...

    def denied(self, denials: Sequence[Denial], /) -> None:
        """Take denials of other nodes. They may be known already."""
        ...

    def has_sessions(self) -> bool:
        """Whether there are sessions that go on when this node stops."""
        ...

    async def answer(self, question: bytes, /) -> bytes:
        """Answer a question of another node. Both are JSON."""
        ...


class ServerNode:
    """An auth server as a node."""

    def __init__(self, server: AuthServer) -> None:
        self._server = server
        self._operations = Operations(server)
        self._denied: list[Denial] = []
        self._merging: asyncio.Task[None] | None = None

    def kicked(self, session_id: str, refusal: Refusal) -> None:
        """See ``Node.kicked()``."""
        self._server.live.kick(session_id, refusal)

    def denials(self) -> Iterable[Denial]:
        """See ``Node.denials()``."""
        self._server.revocations.advance()  # those that have ended would be sent again and again
        return self._server.revocations.denials

    def denied(self, denials: Sequence[Denial]) -> None:
        """See ``Node.denied()``. Those that come while others are being stored are stored together."""
        self._denied += denials
        if self._merging is None or self._merging.done():
            self._merging = asyncio.get_running_loop().create_task(self._merge())

    async def _merge(self) -> None:
        while self._denied:
            denials, self._denied = self._denied, []
            left_out = await self._server.revocations.merge(denials)
            if left_out and self._server.share is not None:
                self._server.share.left_out(left_out)

    def has_sessions(self) -> bool:
        """See ``Node.has_sessions()``."""
        return len(self._server.live.sessions) > 0

    async def answer(self, question: bytes) -> bytes:
        """See ``Node.answer()``. The questions are those of ``moq_token.server.share.receipts``."""
        try:
            asked: Question = msgspec.json.decode(question, type=ListSessions | EndDenied | Kick)
            if isinstance(asked, ListSessions):
                return await self._listing(asked.query)
            if isinstance(asked, EndDenied):
                receipt = await self._ban(asked.denial, dry_run=asked.dry_run)
            else:
                receipt = await self._operations.kick_here(asked.asked, OTHERS_WAIT_SECONDS)
        except msgspec.MsgspecError:
            return b"null"  # a node of another version asks for what this one does not know
        except (FaultError, InvalidDenialError) as error:
            return msgspec.json.encode(Reported(error=str(error)))
        return msgspec.json.encode(Reported(receipt))

    async def _ban(self, denial: Denial, *, dry_run: bool) -> Receipt:
        revocations, others_by = self._server.revocations, self._server.questions.out_by(denial)
        if dry_run:
            return await revocations.preview(denial, others_by)
        extra = {"event": "admin", "action": "ban", "denial": denial.id, "author": denial.author, "node": denial.node}
        log.info("ban by another server: %s", denial.whom(), extra=extra)
        if not revocations.put(denial):
            return Receipt(stored=revocations.storing.is_stored)  # lifted or changed meanwhile
        return await revocations.enforce(denial, others_by, share=False, seconds=OTHERS_WAIT_SECONDS)

    async def _listing(self, query: str) -> bytes:
        """List sessions. Long lists are cut, and the count beside them is of all."""
        listing = await self._operations.sessions(query)
        sessions = listing.sessions[:MAX_ANSWERED]
        while len(answer := msgspec.json.encode(Listing(sessions, listing.count))) > MAX_ANSWER_BYTES:
            sessions = sessions[: len(sessions) // 2]
        return answer
