"""Long work on the event loop, in pieces, so that relays get their answers meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

_T = TypeVar("_T")

PIECE: Final = 20
"""Items that are worked on before the event loop gets its turn. One takes some tens of microseconds, or some
milliseconds if a session is compared with a thousand patterns that start as its path does."""


async def in_turns(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Iterate over the items that there are now, and let the event loop do other work after each piece of them.

    What happens meanwhile is for the caller to consider: an item may be out of date when it is its turn.
    """
    for number, item in enumerate(tuple(items), 1):
        yield item
        if number % PIECE == 0:
            await asyncio.sleep(0)
