"""The whole auth server in the simulation: the application with its operators' calls, asked in bytes."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from moq_token.claims import Claims
from moq_token.contract import Event, Grant, Request
from moq_token.errors import RefusedError, UnavailableError
from moq_token.server.app import AuthServer
from moq_token.server.denial import Denial
from moq_token.server.http import HttpRequest
from moq_token.server.identity import digest
from moq_token.server.nudges import parse_relay
from moq_token.server.verdict import concerns
from tests.simulation.aio import VirtualLoop
from tests.simulation.loop import promise
from tests.simulation.node import AuthNode, WatchedSessions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from moq_token.server.api import Banned
    from moq_token.server.http import HttpResponse
    from tests.simulation.node import Answer
    from tests.simulation.relay import Client

_DECISION_SECONDS = 0.26
_DIGEST_KEY = b"digest key"
_JSON = {"content-type": "application/json"}


class ServerNode(AuthNode):
    """One auth server as `moq-token serve` runs it, but for its sockets and its disk.

    ``is_quiet`` tells whether nothing but nudges has failed so far.
    """

    is_quiet: Callable[[], bool]

    def start(self) -> None:
        self.is_up = True
        self.aio = VirtualLoop(self.loop)
        self.aio.run(self._make)

    def _make(self) -> None:
        self.server = self.new_server(
            clock=lambda: self.machine.now().unix, steady=lambda: self.machine.now().steady, state=_Disk(self)
        )
        self.server.revocations.ending.nudger = _Nudger(self)  # type: ignore[assignment]
        self.sessions = self.server.live.sessions = WatchedSessions(self)
        self.denials = self.server.revocations.denials

    def new_server(self, **options: Any) -> AuthServer:  # noqa: ANN401 - those of the server
        server = AuthServer(self.ask_policy, caps=self.caps, **options)
        server.revocations.node = self.name
        return server

    def crash(self) -> None:
        super().crash()
        self.aio.kill()

    async def ask_policy(self, request: Request) -> Grant:
        if not self.has_keys:
            raise UnavailableError("no keys")
        client = self.client(request)
        grant = self.policy.grant(client, request.id, self.machine.now().unix)
        if grant is None:
            raise RefusedError("revoked", reason="bad-signature")
        return replace(grant, claims=Claims(subject=client.subject))

    def digest(self, client: Client) -> str:
        return digest(client.jwt, _DIGEST_KEY).hex()

    # -- relays

    def receive(self, request: Request, answer: Answer) -> None:
        if not self.is_up:
            answer(502, None)
            return

        asked_at, sets = self.loop.now, self.machine.sets

        def answered(response: HttpResponse) -> None:
            self.check()
            promise(self.loop.now - asked_at <= _DECISION_SECONDS, "a decision takes too long", request.id)
            if response.status == 403:
                is_revoked = self.client(request).jwt in self.policy.revoked
                if not is_revoked and request.id not in self.sessions.refused:
                    check = self.check_capped if response.body.startswith(b"too many") else self.check_refused
                    check(request)
            promise(response.status in {200, 204, 403, 503}, "the server answers something else", response)
            # When the clock is set while other nodes are asked, a grant can have ended before it is given.
            can_fail = not self.has_keys or sets != self.machine.sets
            promise(response.status != 503 or can_fail, "an answer is missing for no reason", response)
            promise(request.event is not Event.END or response.status == 204, "an end is refused", response)
            secret = self.client(request).jwt.encode()
            promise(secret not in response.body + response.headers, "an answer shows a token")
            grant = None
            if response.status == 200:
                grant = Grant.from_json(response.body, now=self.machine.now().unix)
            answer(response.status, grant)

        asked = HttpRequest("POST", "/", _JSON, request.to_json())
        self.do(lambda: self.server.handle(asked), answered)

    def check_capped(self, request: Request) -> None:
        """Check that a session was to be refused for the sessions on other nodes."""
        promise(False, "a cap refuses that is not reached", request.id)  # noqa: FBT003

    def do(self, work: Callable[[], Coroutine[Any, Any, Any]], done: Callable[[Any], None]) -> None:
        async def run() -> None:
            done(await work())

        def begin() -> None:
            _ = self.aio.create_task(run())

        self.aio.run(begin)

    def advance(self) -> None:
        self.aio.run(self.server.live.current)

    # -- operators

    def order(self, denial: Denial) -> None:
        if not self.is_up:
            return
        now = self.machine.now()
        self.advance()
        matched = {session.id for session in filter(concerns(denial), self.sessions)}
        self.ordered(self.denials.stamped(denial, now.unix, self.name))
        self.do(lambda: self.server.revocations.ban(denial), functools.partial(self._banned, matched))

    def _banned(self, matched: set[str], banned: Banned) -> None:
        receipt = banned.receipt
        alive = set(receipt.alive)
        promise(receipt.stored, "a denial is not stored")
        promise(alive <= matched and len(matched) == receipt.matched, "a receipt is about others", receipt, matched)
        promise(receipt.ended == len(matched - alive), "a receipt does not add up", receipt)
        promise(receipt.complete == (not alive), "a receipt is complete with sessions alive", receipt)
        if banned.denial.refuses:
            live = {session_id for relay in self.relays for session_id in relay.live}
            promise(not (matched - alive) & live, "a receipt says that sessions are out which are not", receipt)
            if receipt.out_by is not None:
                wait = receipt.out_by - self.machine.now().unix
                self.loop.after(max(0.0, wait) + 0.1, self._check_out, alive, banned.denial)

    def _check_out(self, alive: set[str], denial: Denial) -> None:
        """Check that the rest is out at the time that a receipt has told, where nothing but nudges has failed."""
        unix = self.machine.now().unix
        if self.is_quiet() and self.orders.latest.get(denial.id) == denial and unix < denial.until:
            live = {session_id for relay in self.relays for session_id in relay.live}
            promise(not alive & live, "a receipt says when sessions are out, and they are not", alive & live)

    def lift(self, denial_id: str) -> None:
        if not self.is_up:
            return
        unix = self.machine.now().unix
        lifting = self.denials.lifting(denial_id, unix, node=self.name)
        self.check_lifting(denial_id, lifting, unix)
        if lifting is not None:
            self.ordered(lifting)
            self.do(lambda: self.server.revocations.lift(denial_id), lambda _: None)
            self.loop.run(0.001)


class _Disk:
    """The state directory: what was saved is there after a crash."""

    digest_key = _DIGEST_KEY

    def __init__(self, node: ServerNode) -> None:
        self._node = node
        self.denials = tuple(map(Denial.from_json, node.disk))

    def save(self, denials: Iterable[Denial]) -> None:
        self._node.disk = [denial.to_json() for denial in denials]

    def close(self) -> None:
        pass


class _Nudger:
    """Reaches the relays of this machine at their internal listeners."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node
        self.relays = {f"r{number}": parse_relay(f"r{number}=http://127.0.0.1:9101") for number in range(4)}

    async def nudge(self, name: str, filters: Sequence[str]) -> None:
        await asyncio.sleep(0.005)
        relay = next((relay for relay in self._node.relays if relay.name == name), None)
        if relay is None or not relay.can_be_told:
            raise UnavailableError("connection refused")
        relay.nudge([text.removeprefix("id=") for text in filters])

    def close(self) -> None:
        pass
