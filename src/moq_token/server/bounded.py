"""Ask a policy, with a time limit. Only an answer or a refusal is a verdict; any other failure is an outage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from moq_token.errors import RefusedError, UnavailableError, raised_at
from moq_token.server.tasks import start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DECISION_SECONDS = 8.0
"""How long a decision may take. A relay gives up after 10 s."""
MAX_WAITING = 1000
"""Decisions that wait for something at the same time. A further one that has to wait is unavailable at once."""

# Timed-out decisions that ignore their cancellation keep running. Beyond this number, no new one is started.
_MAX_RUNNING = 2 * MAX_WAITING


class Bounded:
    """Asks policies, and counts the decisions that are waiting."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def ask(self, policy: Callable[..., Awaitable[Any]], *asked: object) -> Any:  # noqa: ANN401 - a policy may return anything
        """Await a policy, and make everything that is neither an answer nor a verdict an ``UnavailableError``.

        The policy runs in a task of its own, so that it can neither cancel its caller nor outlast its time by ignoring
        its cancellation.
        """
        if len(self._running) >= _MAX_RUNNING:
            raise UnavailableError("too many timed-out decisions are still running")
        deciding = start(_ask(policy, asked), asyncio.get_running_loop())
        if not deciding.done():
            await self._wait(deciding)
        try:
            return deciding.result()
        except (RefusedError, UnavailableError):
            raise
        except asyncio.CancelledError:
            raise UnavailableError("the policy cancelled itself") from None
        except BaseException as error:  # noqa: BLE001 - a bug of the policy must not become a verdict
            # Where it was raised, and nothing of its text, which could hold a token.
            raise UnavailableError(f"the policy raised {type(error).__name__} ({raised_at(error)})") from None

    async def _wait(self, deciding: asyncio.Task[Any]) -> None:
        is_full = len(self._running) >= MAX_WAITING
        self._running.add(deciding)
        deciding.add_done_callback(self._ended)
        try:
            if not is_full:
                await asyncio.wait((deciding,), timeout=DECISION_SECONDS)
        finally:
            if not deciding.done():
                deciding.cancel()
        if is_full:
            raise UnavailableError("too many decisions are waiting")
        if not deciding.done():
            raise UnavailableError(f"the decision took longer than {DECISION_SECONDS:g} s")

    def _ended(self, deciding: asyncio.Task[Any]) -> None:
        self._running.discard(deciding)
        if not deciding.cancelled():
            deciding.exception()  # looked at, or asyncio would log it with its frames, which hold the request


async def _ask(policy: Callable[..., Awaitable[Any]], asked: tuple[object, ...]) -> Any:  # noqa: ANN401 - as above
    try:
        answer = policy(*asked)
        if not hasattr(answer, "__await__"):
            raise UnavailableError(f"the policy returned {type(answer).__name__} at once: write it as async def")
        return await answer
    except (SystemExit, KeyboardInterrupt) as error:
        # In a task, these would end the event loop: one request would stop the server. Signals do that without them.
        raise UnavailableError(f"the policy raised {type(error).__name__} ({raised_at(error)})") from None
