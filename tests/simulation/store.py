"""The store that auth servers share, and their connections to it, which can fail in every way."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from moq_token.server.share.link import StoreError
from tests.share_model import StoreModel
from tests.simulation.loop import START

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moq_token.server.share.caps import Call
    from tests.simulation.aio import VirtualLoop
    from tests.simulation.loop import Loop

HOP_SECONDS = 0.001
DEADLINE_SECONDS = 0.25
REPLICATED_SECONDS = 1.0
# The key of a cap: its tag and a digest.
_LEASES = re.compile(rb":[trs]:[0-9a-f]{32}$")


def _nothing(*_: object) -> None:
    pass


class Store:
    """A store, a replica that is up to one second behind, and who listens."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.model = StoreModel()
        self._replica = self.model.copy()
        self._replicated = 0.0
        self.is_up = True
        self.ahead = self.ghosts_until = 0.0
        self.links: list[StoreLink] = []
        self.before_admission: Callable[[], None] = _nothing
        self.after_admission: Callable[[bytes, Sequence[bytes]], None] = _nothing
        """Called for every new session, and then with it and those that are kicked for it, each after the tag."""

    def set_clock(self, ahead: float) -> None:
        if ahead < self.ahead:
            # Leases that nobody renews any more last longer by what the clock was set back.
            self.ghosts_until = self._loop.now + self.ahead - ahead
        self.ahead = ahead

    def _now(self) -> int:
        return int((START + self._loop.now + self.ahead) * 1000)

    def call(self, call: Call) -> object:
        if self._loop.now - self._replicated > REPLICATED_SECONDS:
            self._replica, self._replicated = self.model.copy(), self._loop.now
        is_admission = call.arguments[0] == b"admit"
        if is_admission:
            self.before_admission()
        answer = self.model.call(call, self._now())
        messages, self.model.messages = self.model.messages, []
        for channel, message in messages:
            self.publish(channel, message)
        if is_admission:
            self.after_admission(
                bytes(call.arguments[2]), [message[1:] for _, message in messages if message[:1] == b"K"]
            )
        return answer

    def counted(self, tag: bytes = b"") -> set[bytes]:
        """Return the sessions that hold a lease now: in the caps with a tag, or in all."""
        now = self._now()
        leases = [held for key, held in self.model.sorted.items() if _LEASES.search(key) and key[-34:-33].endswith(tag)]
        return {session for held in leases for session, end in held.items() if end > now}

    def denials(self) -> set[bytes]:
        """Return the digests of all denials."""
        return {digest for records in self.model.hashes.values() for digest in records}

    def publish(self, channel: bytes, message: bytes) -> None:
        for link in self.links:
            link.tell(channel, message)

    def fail_over(self) -> None:
        """Have the replica go on, which has not heard of the last writes."""
        self.model = self._replica.copy()
        self.break_links()

    def break_links(self) -> None:
        for link in list(self.links):
            link.fail("the connection was lost")


class Wire:
    """The way from one auth server to the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_cut = False
        self.is_mute = False
        """Calls arrive and are done, and no answer comes back."""
        self.good_since: float | None = 0.0
        """Since when calls are answered; None where they are not."""
        self.bad_since: float | None = None

    @property
    def is_open(self) -> bool:
        return self.store.is_up and not self.is_cut

    @property
    def is_good(self) -> bool:
        return self.is_open and not self.is_mute

    def note(self, now: float, *, is_new: bool = False) -> None:
        """Note in what state it is after a change. ``is_new``: connections were lost."""
        if not self.is_good:
            self.good_since, self.bad_since = None, now if self.bad_since is None else self.bad_since
        elif self.good_since is None or is_new:
            self.good_since, self.bad_since = now, None

    def connector(self, loop: Loop, aio: VirtualLoop) -> Callable[..., Any]:
        async def connect(channels: Sequence[bytes], received: Callable[[bytes], None]) -> StoreLink:
            await asyncio.sleep(HOP_SECONDS)
            if not self.is_good:
                await asyncio.sleep(DEADLINE_SECONDS)
                raise StoreError("connection refused")
            link = StoreLink(self, loop, aio, channels, received)
            self.store.links.append(link)
            return link

        return connect


class StoreLink:
    """One connection (see ``moq_token.server.share.link.Link``)."""

    def __init__(
        self, wire: Wire, loop: Loop, aio: VirtualLoop, channels: Sequence[bytes], received: Callable[[bytes], None]
    ) -> None:
        self._wire, self._loop, self._aio = wire, loop, aio
        self._channels, self._received = channels, received
        self._waiting: list[asyncio.Future[object]] = []
        self._failure = aio.create_future()
        self._failure.add_done_callback(lambda failure: failure.exception())

    def call(self, call: Call) -> asyncio.Future[object]:
        return self._send(lambda: self._wire.store.call(call))

    def publish(self, channel: bytes, message: bytes) -> asyncio.Future[object]:
        return self._send(lambda: self._wire.store.publish(channel, message))

    def _send(self, work: Callable[[], object]) -> asyncio.Future[object]:
        future = self._aio.create_future()
        if self._failure.done():
            future.set_exception(StoreError("the connection was lost"))
            return future
        self._waiting.append(future)
        self._loop.after(HOP_SECONDS, self._arrive, work, future)
        self._loop.after(DEADLINE_SECONDS, self._aio.run, lambda: self._too_late(future))
        return future

    def _arrive(self, work: Callable[[], object], future: asyncio.Future[object]) -> None:
        if self._wire.is_open:  # even if the other side has given up
            answer = work()
            if not self._wire.is_mute:
                self._loop.after(HOP_SECONDS, self._aio.run, lambda: self._answered(future, answer))

    def _answered(self, future: asyncio.Future[object], answer: object) -> None:
        if not future.done():
            future.set_result(answer)
            self._waiting.remove(future)

    def _too_late(self, future: asyncio.Future[object]) -> None:
        if not future.done():
            self.fail("no answer within 250 ms")

    def fail(self, problem: str) -> None:
        if self in self._wire.store.links:
            self._wire.store.links.remove(self)
        if self._failure.done() or self._aio.is_killed:
            return
        for future in self._waiting:
            if not future.done():
                future.set_exception(StoreError(problem))
        self._waiting.clear()
        self._failure.set_exception(StoreError(problem))

    def tell(self, channel: bytes, message: bytes) -> None:
        """Deliver what was published."""
        if channel in self._channels and self._wire.is_good:
            self._loop.after(HOP_SECONDS, self._aio.run, lambda: self._hear(message))

    def _hear(self, message: bytes) -> None:
        if not self._failure.done():
            self._received(message)

    async def failed(self, seconds: float) -> None:
        await asyncio.wait((self._failure,), timeout=seconds)
        if self._failure.done():
            self._failure.result()

    async def aclose(self) -> None:
        self.fail("closed")
