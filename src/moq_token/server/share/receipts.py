"""What a node asks the others to do about their sessions, and how the receipts of all become one. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from moq_token.server.api import MAX_LISTED, KickRequest, Receipt, Unreachable
from moq_token.server.denial import Denial  # noqa: TC001 - msgspec reads the types
from moq_token.server.receipts import MAX_UNREACHABLE

if TYPE_CHECKING:
    from moq_token.server.share.questions import Answers

RECEIPT_SECONDS: Final = 5.0
"""How long the receipts of other nodes are waited for."""
OTHERS_WAIT_SECONDS: Final = 4.5
"""How long another node waits for the ends of its sessions, so that its receipt comes in time."""


_GONE = "it has stopped, and the sessions of its relay go on: start it again, or stop the relay"


class ListSessions(msgspec.Struct, frozen=True, tag="sessions"):
    """List the sessions of a node: a query of ``GET /sessions``."""

    query: str


class EndDenied(msgspec.Struct, frozen=True, tag="deny"):
    """Put a denial in force that was set on another node, and end the sessions that it is for."""

    denial: Denial
    dry_run: bool = False


class Kick(msgspec.Struct, frozen=True, tag="kick"):
    """Kick the sessions of a node that match a filter."""

    asked: KickRequest


Question: TypeAlias = ListSessions | EndDenied | Kick


class Reported(msgspec.Struct, frozen=True):
    """What a node has done: its receipt, or why there is none."""

    receipt: Receipt | None = None
    error: str = ""


def together(own: Receipt, answers: Answers, *, later: str) -> Receipt:
    """Return the receipt of all nodes: of the one that was asked, and what the others have answered.

    It is complete only if those of all are. ``later`` says what becomes of the nodes that could not be asked.
    """
    receipts, missing = [own], []
    if answers.problem is not None:
        missing.append(
            Unreachable(kind="share", node="", error=f"other servers were not asked: {answers.problem}; {later}")
        )
    unanswered = "was not asked" if answers.problem is not None else f"no answer within {RECEIPT_SECONDS:g} s"
    missing += [Unreachable(kind="server", node=node, error=unanswered) for node in answers.missing]
    gone = [node for node in answers.gone if node not in answers.answers]
    missing += [Unreachable(kind="server", node=node, error=_GONE) for node in gone]
    relays = list(own.unreachable)
    for node, answer in sorted(answers.answers.items()):
        try:
            reported = msgspec.json.decode(answer, type=Reported)
        except msgspec.MsgspecError:
            reported = Reported(error="the answer is not understood: run the same version on all servers")
        if reported.receipt is None:
            missing.append(Unreachable(kind="server", node=node, error=reported.error))
        else:
            receipts.append(reported.receipt)
            relays += [replace(each, server=node) for each in reported.receipt.unreachable]
    slowest = [each.slowest_ms for each in receipts if each.slowest_ms is not None]
    out_by = [each.out_by for each in receipts if each.out_by is not None]
    expires_by = [each.expires_by for each in receipts if each.expires_by is not None]
    # The times are known only if every server knows its own.
    is_known = not missing and all(each.complete or each.out_by is not None for each in receipts)
    ends = not missing and all(each.complete or each.expires_by is not None for each in receipts)
    return replace(
        own,
        matched=sum(each.matched for each in receipts),
        ended=sum(each.ended for each in receipts),
        alive=tuple(session for each in receipts for session in each.alive)[:MAX_LISTED],
        unreachable=tuple((missing + relays)[:MAX_UNREACHABLE]),
        slowest_ms=max(slowest, default=None),
        out_by=max(out_by) if out_by and is_known else None,
        expires_by=max(expires_by) if expires_by and ends else None,
        complete=not missing and all(each.complete for each in receipts),
    )
