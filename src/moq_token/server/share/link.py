"""The connection to the store as the rest of the share sees it: what is asked of it, and how it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Sequence

    from moq_token.server.share.caps import Call


class StoreError(Exception):
    """The store cannot be reached, or cannot do what is asked of it. The text holds no secret."""


class Link(Protocol):
    """A connection to the store. What has failed once stays failed: make a new one."""

    def call(self, call: Call, /) -> Future[object]:
        """Send a call with all others of this turn of the event loop, in order. The future raises ``StoreError``.

        It fails after 250 ms without an answer, and all others that wait with it.
        """
        ...

    def publish(self, channel: bytes, message: bytes, /) -> Future[object]:
        """Send a message to those that listen on a channel, in order with the calls."""
        ...

    async def failed(self, seconds: float, /) -> None:
        """Wait this many seconds. Raises ``StoreError`` as soon as the connection has failed."""
        ...

    async def aclose(self) -> None:
        """Close the connection. Calls without an answer fail."""
        ...


# Takes the channels to listen on and what is called with each message; raises StoreError.
Connect: TypeAlias = "Callable[[Sequence[bytes], Callable[[bytes], None]], Awaitable[Link]]"
