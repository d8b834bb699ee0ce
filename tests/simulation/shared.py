"""Auth servers that share their caps and denials through a store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from moq_token.contract import Event
from moq_token.server.app import AuthServer
from moq_token.server.identity import digest
from moq_token.server.share import everywhere
from moq_token.server.share.names import Names
from moq_token.server.share.node import ServerNode as Member
from moq_token.server.share.sharing import Sharing
from tests.simulation.loop import promise
from tests.simulation.server import ServerNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from moq_token.contract import Request
    from moq_token.server.api import Banned, Receipt
    from moq_token.server.denial import Denial
    from tests.simulation.relay import Client, Relay
    from tests.simulation.store import Wire

NAMES = Names("the secret of the simulated nodes")

TAGS = {"token": b"t", "remote": b"r", "subject": b"s"}
"""What caps are called in the keys of the store."""
ATTACH_SECONDS = 2.0
"""How long it takes at most until a node asks the store again that can be reached again."""
_MISSED_SECONDS = 3590.0


class SharedNode(ServerNode):
    """An auth server with a share.

    ``everywhere`` has all that operators have ordered on any of them; ``is_full`` says whether a client may be refused;
    ``excuse`` is told of a session that is admitted, which the store may not count.
    """

    wire: Wire
    everywhere: dict[bytes, Denial]
    is_full: Callable[[Client], bool]
    excuse: Callable[[Iterable[bytes]], None]
    nodes: Sequence[SharedNode]
    required = False

    def start(self) -> None:
        super().start()
        # What `lifespan` does. A block that is never left could not be killed.
        sharing = self.server.share
        assert sharing is not None
        sharing._node = Member(self.server)  # noqa: SLF001
        self.do(sharing._run, lambda _: None)  # noqa: SLF001

    def new_server(self, **options: Any) -> AuthServer:  # noqa: ANN401 - those of the server
        connect = self.wire.connector(self.loop, self.aio)
        sharing = Sharing(connect, NAMES, self.caps, node=self.name, required=self.required)
        return AuthServer(self.ask_policy, caps=self.caps, share=sharing, **options)

    def digest(self, client: Client) -> str:
        return digest(client.jwt, NAMES.token_key).hex()

    async def ban(self, denial: Denial) -> Banned:
        share, server = self.server.share, self.server
        assert share is not None
        others_by = server.questions.out_by(denial)
        return await everywhere.ban(share, server.revocations, denial, dry_run=False, others_by=others_by)

    def witnesses(self) -> Iterable[Relay]:
        return [relay for node in self.nodes if node.can_be_missed(self.started_at) for relay in node.relays]

    def can_be_missed(self, since: float) -> bool:
        """Tell whether another node, which has started at a time, knows of this one."""
        gone_since = min(self.down_since, math.inf if self.wire.bad_since is None else self.wire.bad_since)
        return gone_since > max(since, self.loop.now - _MISSED_SECONDS)

    def check_receipt(self, receipt: Receipt, denial: Denial, matched: set[str]) -> None:
        """Check the receipt of all nodes. There are fewer sessions than are listed."""
        del denial
        promise(receipt.matched >= len(matched), "a receipt leaves out sessions of the node", receipt, matched)
        promise(receipt.matched - receipt.ended == len(receipt.alive), "a receipt does not add up", receipt)
        promise(not (receipt.complete and receipt.alive), "a receipt is complete with sessions alive", receipt)

    def ordered(self, denial: Denial) -> None:
        super().ordered(denial)
        self.everywhere[denial.to_json()] = denial

    def hear(self) -> None:
        for denial in self.denials:
            if self.orders.latest.get(denial.id) != denial:
                promise(denial.to_json() in self.everywhere, "a denial comes from nowhere", denial)
                self.orders.hear(denial)

    def check_capped(self, request: Request) -> None:
        promise(self.wire.is_good, "a store refuses that does not answer", request.id)
        promise(self.is_full(self.client(request)), "a cap refuses that is not reached", request.id)

    def admitted(self, request: Request, asked_at: float) -> None:
        del asked_at
        self.excuse([NAMES.digest(b"session", request.id.encode())])

    def forgotten(self, denial: Denial) -> None:
        """Expect an order no more that was not stored, nor those that it has replaced, unless somebody has them."""
        others = [other for other in self.nodes if other.is_up and other is not self]
        known = {*self.disk, *(each.to_json() for other in others for each in other.denials)}
        stored = self.wire.store.denials()
        for text, each in list(self.everywhere.items()):
            if each.id == denial.id and text not in known and NAMES.digest(b"denial", text) not in stored:
                del self.everywhere[text]

    def check_agreed(self, unix: float) -> None:
        """Check that this node knows all orders that can be in force somewhere, where clocks are an hour off."""
        latest: dict[str, Denial] = {}
        for denial in self.everywhere.values():
            known = latest.get(denial.id)
            if known is None or denial.replaces(known):
                latest[denial.id] = denial
        for denial in latest.values():
            if denial.until > unix - 3600:
                mine = self.denials.get(denial.id)
                is_known = mine == denial or (mine is None and denial.lifted)
                promise(is_known, "the nodes do not agree about a denial", self.name, mine, denial)
                is_stored = NAMES.digest(b"denial", denial.to_json()) in self.wire.store.denials()
                promise(is_stored, "the store does not know a denial", denial)


class RequiringNode(SharedNode):
    """An auth server that admits no new session without the store (``--require-share``)."""

    required = True

    def can_fail(self, request: Request, asked_at: float) -> bool:
        if request.event is not Event.CONNECT:
            return False
        since = self.wire.good_since
        return since is None or max(since, self.started_at) > asked_at - ATTACH_SECONDS

    def admitted(self, request: Request, asked_at: float) -> None:
        """Check that the store was asked."""
        since = self.wire.bad_since
        is_asked = (
            since is None
            or since > asked_at - 0.26
            or any(
                # One whose end has come already takes no place.
                request.id == name
                for relay in self.relays
                for name, _ in relay.ends
            )
        )
        promise(is_asked, "a session is admitted without the store, which is required", request.id)
        super().admitted(request, asked_at)
