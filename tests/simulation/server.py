"""The whole auth server in the simulation: the application with its operators' calls, asked in bytes."""

from __future__ import annotations

import asyncio
import errno
import functools
import math
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from moq_token.claims import Claims
from moq_token.contract import Answer as Told
from moq_token.contract import Event, Grant, Question, Request
from moq_token.errors import RefusedError, UnavailableError
from moq_token.server import verdict
from moq_token.server.app import AuthServer
from moq_token.server.denial import Denial
from moq_token.server.http import HttpRequest
from moq_token.server.identity import digest
from moq_token.server.state import State
from tests.simulation.aio import VirtualLoop
from tests.simulation.loop import promise
from tests.simulation.node import AuthNode, WatchedSessions
from tests.simulation.old_relay import OldRelay
from tests.simulation.oracle import Orders, concerns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from moq_token.server.api import Banned, Receipt
    from moq_token.server.http import HttpResponse
    from tests.simulation.node import Answer
    from tests.simulation.relay import Client, Relay

_DECISION_SECONDS = 0.26
_STORE_AGAIN_SECONDS = 10.1
_DIGEST_KEY = b"digest key"
_JSON = {"content-type": "application/json"}


class ServerNode(AuthNode):
    """One auth server as `moq-token serve` runs it, but for its sockets and its disk.

    ``is_quiet`` tells whether nothing but nudges has failed so far.
    """

    is_quiet: Callable[[], bool]

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the base
        super().__init__(*arguments, **options)
        self.old = OldRelay(self.loop, self)
        self.told_stored: list[Denial] = []  # receipts have said that they outlive a restart
        self.disk_is_full = False
        self._disk_changed = -_STORE_AGAIN_SECONDS

    def start(self) -> None:
        self.is_up = True
        self.started_at, self.down_since = self.loop.now, math.inf
        self.aio = VirtualLoop(self.loop)
        self._check_disk()
        self.aio.run(self._make)

    def _make(self) -> None:
        self.server = self.new_server(
            clock=lambda: self.machine.now().unix,
            steady=lambda: self.machine.now().steady,
            state=_Disk(self),
            lookup=self.look_up,
            max_age=self.policy.cadence,
            relays=[f"{relay.name}=http://127.0.0.1:9101" for relay in self.relays],
        )
        ending = self.server.revocations.ending
        ending.nudger = ending.unseen._nudger = _Nudger(self)  # type: ignore[assignment]  # noqa: SLF001
        ending.unseen.discover()
        self.sessions = self.server.live.sessions = WatchedSessions(self)
        self.denials = self.server.revocations.denials

    def new_server(self, **options: Any) -> AuthServer:  # noqa: ANN401 - those of the server
        server = AuthServer(self.ask_policy, caps=self.caps, **options)
        server.revocations.node = self.name
        return server

    def crash(self) -> None:
        super().crash()
        self.down_since = self.loop.now
        self.aio.kill()

    def policy_changed(self) -> None:
        """Take over the settings, as on SIGHUP."""
        if self.is_up:
            self.server.change_policy(self.ask_policy, lookup=self.look_up, max_age=self.policy.cadence)

    async def ask_policy(self, request: Request) -> Grant:
        if not self.has_keys:
            raise UnavailableError("no keys")
        client = self.client(request)
        grant = self.policy.grant(client, request.id, self.machine.now().unix)
        if grant is None:
            raise RefusedError("revoked", reason="bad-signature")
        return replace(grant, claims=Claims(subject=client.subject))

    async def look_up(self, question: Question) -> Told:
        if not self.has_keys:
            raise UnavailableError("no keys")
        return self.policy.told(question)

    def digest(self, client: Client) -> str:
        return digest(client.jwt, _DIGEST_KEY).hex()

    # -- relays

    def receive(self, request: Request, answer: Answer) -> None:
        if not self.is_up:
            answer(502, None)
            return

        asked_at, sets = self.loop.now, self.machine.sets
        is_known = request.id in {session.id for session in self.sessions}

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
            can_fail = not self.has_keys or sets != self.machine.sets or self.can_fail(request, asked_at)
            promise(response.status != 503 or can_fail, "an answer is missing for no reason", response)
            if response.status == 503 and request.event is Event.REVALIDATE:
                self.sessions.check_seen(request.id, self.machine.now())
            promise(request.event is not Event.END or response.status == 204, "an end is refused", response)
            secret = self.client(request).jwt.encode()
            promise(secret not in response.body + response.headers, "an answer shows a token")
            grant = None
            if response.status == 200:
                grant = Grant.from_json(response.body, now=self.machine.now().unix)
                if request.event is Event.CONNECT and not is_known:
                    self.admitted(request, asked_at)
            answer(response.status, grant)

        asked = HttpRequest("POST", "/", _JSON, request.to_json())
        self.do(lambda: self.server.handle(asked), answered)

    def ask(self, question: Question, answer: Callable[[HttpResponse], None]) -> None:
        """Answer a relay of the 0.14 line."""
        if not self.is_up:
            return

        def answered(response: HttpResponse) -> None:
            self.hear()
            promise(response.status not in {401, 403}, "relay 0.14 is told what it takes for an outage", response)
            promise(response.status != 503 or not self.has_keys, "an answer is missing for no reason", response)
            if response.status != 503:
                orders = self.orders.against_old(question.kid, question.root, self.machine.now().unix)
                denied = {order.role for order in orders}
                takes_public = question.kid is None and {"publish", "subscribe"} <= denied
                is_denied = None in denied or (takes_public and not question.mtls)
                is_refused = response.status == 404 if question.mtls else b'"public"' not in response.body
                if question.kid is not None:
                    is_refused = b'"key"' not in response.body
                promise(is_refused == is_denied, "relay 0.14 is told otherwise than was ordered", question, response)
            answer(response)

        asked = HttpRequest("GET", f"/?{question.to_query()}", {}, b"")
        self.do(lambda: self.server.handle(asked), answered)

    def check_capped(self, request: Request) -> None:
        """Check that a session was to be refused for the sessions on other nodes."""
        promise(False, "a cap refuses that is not reached", request.id)  # noqa: FBT003

    def can_fail(self, request: Request, asked_at: float) -> bool:
        """Tell whether a request may be unavailable that was asked at some time."""
        del request, asked_at
        return False

    def admitted(self, request: Request, asked_at: float) -> None:
        """Check a new session that is admitted."""

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
        self.advance()
        matched = {session.id for session in filter(verdict.concerns(denial), self.sessions)}
        stamped = self.denials.stamped(denial, self.machine.now().unix, self.name)
        self.ordered(stamped)
        asked_at = self.loop.now
        # A session with a certificate is never asked about again.
        old = [each for each in self.old.live if not each.question.mtls and _is_seen(stamped, each.question)]

        def banned(done: Banned) -> None:
            receipt = done.receipt
            self._check_stored(receipt, stamped, asked_at)
            self.check_receipt(receipt, stamped, matched)
            if stamped.refuses and self.orders.latest.get(stamped.id) == stamped:
                living = self.living(stamped, asked_at)
                promise(not (receipt.complete and living), "a receipt is complete while a session lives", living)
                if receipt.out_by is not None:
                    wait = receipt.out_by - self.machine.now().unix
                    check = functools.partial(self._check_out, living, old, stamped)
                    self.loop.after(max(0.0, wait) + 0.1, check)

        self.do(lambda: self.ban(denial), banned)

    async def ban(self, denial: Denial) -> Banned:
        return await self.server.revocations.ban(denial, others_by=self.server.questions.out_by(denial))

    def witnesses(self) -> Iterable[Relay]:
        """Return the relays whose sessions a receipt of this server is about."""
        return self.relays

    def living(self, denial: Denial, before: float) -> set[str]:
        """Return the sessions that a denial is for, admitted before some time, which really live."""
        return {
            session.id
            for relay in self.witnesses()
            for session in relay.live.values()
            # Where the clock is ahead, it may be over already.
            if relay.machine.now().unix < denial.until
            and session.admitted < before
            and concerns(denial, session.client, session.id, self.digest(session.client))
        }

    def check_receipt(self, receipt: Receipt, denial: Denial, matched: set[str]) -> None:
        """Check a receipt against the sessions that were in the table."""
        alive = set(receipt.alive)
        promise(alive <= matched and len(matched) == receipt.matched, "a receipt is about others", receipt, matched)
        promise(receipt.ended == len(matched - alive), "a receipt does not add up", receipt)
        promise(not (receipt.complete and alive), "a receipt is complete with sessions alive", receipt)
        if denial.refuses:
            live = {session_id for relay in self.relays for session_id in relay.live}
            promise(not (matched - alive) & live, "a receipt says that sessions are out which are not", receipt)

    def _check_out(self, alive: set[str], old: list[Any], denial: Denial) -> None:
        """Check that the rest is out at the time that a receipt has told, where nothing but nudges has failed."""
        unix = self.machine.now().unix
        if self.is_quiet() and self.orders.latest.get(denial.id) == denial and unix < denial.until:
            live = {session_id for relay in self.witnesses() for session_id in relay.live}
            promise(not alive & live, "a receipt says when sessions are out, and they are not", alive & live)
            left = [session.question for session in old if session in self.old.live]
            promise(not left, "a receipt says when sessions of relay 0.14 are out, and they are not", left)

    def lift(self, denial_id: str) -> None:
        if not self.is_up:
            return
        unix = self.machine.now().unix
        lifting = self.denials.lifting(denial_id, unix, node=self.name)
        self.check_lifting(denial_id, lifting, unix)
        if lifting is not None:
            self.ordered(lifting)
            asked_at = self.loop.now

            def lifted(done: Banned | None) -> None:
                assert done is not None
                self._check_stored(done.receipt, lifting, asked_at)

            self.do(lambda: self.server.revocations.lift(denial_id), lifted)
            self.loop.run(0.001)

    # -- the state directory

    def fill_disk(self, *, is_full: bool) -> None:
        self.disk_is_full = is_full
        self._disk_changed = self.loop.now

    def _check_stored(self, receipt: Receipt, denial: Denial, asked_at: float) -> None:
        """Check that a receipt tells truly whether a denial outlives a restart."""
        is_good = not self.disk_is_full and self._disk_changed < asked_at - _STORE_AGAIN_SECONDS
        promise(receipt.stored or not is_good, "a denial is not stored", denial)
        if receipt.stored:
            self.told_stored.append(denial)

    def _check_disk(self) -> None:
        """Begin again with what is on the disk, and check that it has all that it has to have."""
        stored = Orders()
        for text in self.disk:
            stored.hear(Denial.from_json(text))
        unix = self.machine.now().unix
        for denial in self.told_stored:
            known = stored.latest.get(denial.id)
            has_it = known is not None and (known == denial or known.replaces(denial))
            promise(has_it or denial.until < unix - 3600, "a denial is lost that was stored", denial)
        for denial in self.orders.latest.values():
            if stored.latest.get(denial.id) != denial:
                self.forgotten(denial)
        self.orders = stored

    def forgotten(self, denial: Denial) -> None:
        """Note that a restart has lost an order."""


def _is_seen(denial: Denial, question: Question) -> bool:
    orders = Orders()
    orders.hear(denial)
    return bool(orders.against_old(question.kid, question.root, 0))


class _Disk(State):
    """The state directory in memory: what was saved is there after a crash."""

    def __init__(self, node: ServerNode) -> None:
        self._node = node
        self.digest_key = _DIGEST_KEY
        self.denials = tuple(map(Denial.from_json, node.disk))

    def save(self, denials: Iterable[Denial]) -> None:
        if self._node.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._node.disk = [denial.to_json() for denial in denials]

    def close(self) -> None:
        pass


class _Nudger:
    """Reaches the relays of this machine at their internal listeners."""

    def __init__(self, node: ServerNode) -> None:
        self._relays = {relay.name: relay for relay in node.relays}
        self.relays = node.server.revocations.ending.nudger.relays

    async def nudge(self, name: str, filters: Iterable[str]) -> set[str]:
        wanted = [text.removeprefix("id=") for text in filters]
        await asyncio.sleep(0.005)
        relay = self._relays[name]
        if not relay.can_be_told:
            raise UnavailableError("connection refused")
        named = set(relay.live) if "" in wanted else relay.live.keys() & wanted
        relay.nudge(sorted(named))
        await asyncio.sleep(0.005)
        return named

    def close(self) -> None:
        pass
