"""Start a coroutine as a task that runs at once, until it first waits."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")
_EAGER = sys.version_info >= (3, 12)


def start(coroutine: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> asyncio.Task[_T]:
    """Run a coroutine as a task of its own. One that never waits is done when this returns (from Python 3.12 on)."""
    if _EAGER:
        return asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
    return loop.create_task(coroutine)
