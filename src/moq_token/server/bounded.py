"""Asking a policy, whatever it does: it is bounded in time, and only what it says on purpose is a verdict."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

from moq_token.errors import RefusedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from moq_token.contract import Question, Request

DECISION_SECONDS = 8.0
"""How long a decision may take. A relay gives up after 10 s."""
MAX_WAITING = 1000
"""Decisions that wait for something at the same time. Beyond that they are unavailable at once."""


class Bounded:
    """Asks policies, and counts the decisions that are waiting."""

    def __init__(self) -> None:
        self._waiting = 0

    async def ask(self, policy: Callable[[Any], Awaitable[Any]], asked: Request | Question) -> Any:  # noqa: ANN401 - a policy may return anything
        """Await a policy, and make everything that is neither an answer nor a verdict an :class:`UnavailableError`."""
        try:
            deciding = policy(asked)
            if isinstance(deciding, types.CoroutineType):
                # Most decisions wait for nothing, and need neither a time limit nor a place among those that wait.
                try:
                    pending = deciding.send(None)
                except StopIteration as done:
                    return done.value
                deciding = _Rest(deciding, pending)
            return await self._wait(deciding)
        except (RefusedError, UnavailableError):
            raise
        except TimeoutError:
            raise UnavailableError(f"the decision took longer than {DECISION_SECONDS:.0f} s") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the client has gone
            raise UnavailableError("the policy cancelled itself") from None
        except Exception as error:  # noqa: BLE001 - a bug of the policy must not become a verdict
            # Only the type: the text could hold a token.
            raise UnavailableError(f"the policy raised {type(error).__name__}") from None

    async def _wait(self, deciding: Awaitable[Any]) -> Any:  # noqa: ANN401 - as above
        if self._waiting >= MAX_WAITING:
            if isinstance(deciding, _Rest):
                deciding.close()
            raise UnavailableError("too many decisions are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(DECISION_SECONDS):
                return await deciding
        finally:
            self._waiting -= 1


class _Rest:
    """What is left of a coroutine that has begun: it awaits what the coroutine was waiting for, and goes on with it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], pending: object) -> None:
        self._coroutine = coroutine
        self._pending = pending

    def __await__(self) -> Generator[Any, Any, Any]:
        pending = self._pending
        while True:
            try:
                value = yield pending
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation above all
                send: Callable[[Any], Any] = self._coroutine.throw
                value = error
            else:
                send = self._coroutine.send
            try:
                pending = send(value)
            except StopIteration as done:
                return done.value

    def close(self) -> None:
        """Give it up."""
        self._coroutine.close()
