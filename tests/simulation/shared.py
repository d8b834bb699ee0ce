"""Auth servers that share their caps and denials through a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moq_token.server.app import AuthServer
from moq_token.server.identity import digest
from moq_token.server.share.names import Names
from moq_token.server.share.node import ServerNode as Member
from moq_token.server.share.sharing import Sharing
from tests.simulation.loop import promise
from tests.simulation.server import ServerNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from moq_token.contract import Request
    from moq_token.server.denial import Denial
    from tests.simulation.relay import Client
    from tests.simulation.store import Wire

NAMES = Names("the secret of the simulated nodes")


class SharedNode(ServerNode):
    """An auth server with a share.

    ``everywhere`` has all that operators have ordered on any of them; ``is_full`` says whether a client may be refused.
    """

    wire: Wire
    everywhere: dict[bytes, Denial]
    is_full: Callable[[Client], bool]

    def start(self) -> None:
        super().start()
        # What `lifespan` does. A block that is never left could not be killed.
        sharing = self.server.share
        assert sharing is not None
        sharing._node = Member(self.server)  # noqa: SLF001
        self.do(sharing._run, lambda _: None)  # noqa: SLF001

    def new_server(self, **options: Any) -> AuthServer:  # noqa: ANN401 - those of the server
        sharing = Sharing(self.wire.connector(self.loop, self.aio), NAMES, self.caps, node=self.name)
        return AuthServer(self.ask_policy, caps=self.caps, share=sharing, **options)

    def digest(self, client: Client) -> str:
        return digest(client.jwt, NAMES.token_key).hex()

    def ordered(self, denial: Denial) -> None:
        super().ordered(denial)
        self.everywhere[denial.to_json()] = denial

    def hear(self) -> None:
        for denial in self.denials:
            if self.orders.latest.get(denial.id) != denial:
                promise(denial.to_json() in self.everywhere, "a denial comes from nowhere", denial)
                self.orders.hear(denial)

    def check_capped(self, request: Request) -> None:
        promise(self.wire.is_open and not self.wire.is_mute, "a store refuses that does not answer", request.id)
        promise(self.is_full(self.client(request)), "a cap refuses that is not reached", request.id)

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
