"""What operators ask of one server, done by all servers of its share, and answered once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from moq_token.server.api import Banned, Listing, Receipt
from moq_token.server.share.receipts import RECEIPT_SECONDS, EndDenied, Kick, ListSessions, together

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from moq_token.server.api import KickRequest, ListedSession
    from moq_token.server.denial import Denial
    from moq_token.server.revocations import Revocations
    from moq_token.server.share.receipts import Question
    from moq_token.server.share.sharing import Sharing

_BAN_LATER = "they take it from the store when it is back"
_KICK_LATER = "kick again when the store is back"


class _Part(msgspec.Struct):
    """The listing of another node."""

    sessions: list[msgspec.Raw]
    count: int


async def listing(share: Sharing, own: Listing, query: str, limit: int) -> Listing:
    """Return the sessions of all nodes, the own ones first."""
    answers = await share.ask(msgspec.json.encode(ListSessions(query)))
    sessions: list[ListedSession | msgspec.Raw] = list(own.sessions)
    count, missing = own.count, [*answers.missing, *(node for node in answers.gone if node not in answers.answers)]
    for node, answer in sorted(answers.answers.items()):
        try:
            other = msgspec.json.decode(answer, type=_Part)
        except msgspec.MsgspecError:
            missing.append(node)
        else:
            sessions += other.sessions
            count += other.count
    return Listing(sessions[:limit], count, tuple(sorted(missing)))


async def ban(
    share: Sharing, revocations: Revocations, denial: Denial, *, dry_run: bool, others_by: float | None
) -> Banned:
    """Put a denial in force on all nodes, as ``Revocations.ban()`` does on one."""
    denial = revocations.stamped(denial)
    if not dry_run:
        revocations.put(denial)

    async def own() -> Receipt:
        return await (revocations.preview if dry_run else revocations.enforce)(denial, others_by)

    return Banned(denial, await _receipt(share, EndDenied(denial, dry_run), own(), later=_BAN_LATER))


async def kick(share: Sharing, asked: KickRequest, own: Awaitable[Receipt]) -> Receipt:
    """Kick the sessions of all nodes. ``own`` does it on this one."""
    return await _receipt(share, Kick(asked), own, later=_KICK_LATER)


async def _receipt(share: Sharing, question: Question, own: Awaitable[Receipt], *, later: str) -> Receipt:
    # Asked first: a node that has heard of a denial by other ways would end the sessions before it counts them.
    asking = asyncio.create_task(share.ask(msgspec.json.encode(question), RECEIPT_SECONDS))
    try:
        receipt = await own
        return together(receipt, await asking, later=later)
    finally:
        asking.cancel()
