"""An event loop of asyncio in virtual time, so that the server itself can run in the simulation."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import BrokenPromiseError, promise

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from tests.simulation.loop import Loop


# The loop that runs, or has run last. To tell asyncio takes a system call before Python 3.12.
_latest: VirtualLoop | None = None


def leave_loops() -> None:
    """Have no loop run any more, so that asyncio can be used otherwise."""
    _switch_to(None)


def _switch_to(loop: Any) -> None:  # noqa: ANN401 - asyncio asks for its own class
    global _latest  # noqa: PLW0603
    if loop is not _latest:
        _latest = loop
        asyncio._set_running_loop(loop)  # noqa: SLF001


class VirtualLoop:
    """The event loop of one process, with the methods that the server uses. Once killed, nothing of it goes on."""

    def __init__(self, loop: Loop) -> None:
        self._self: Any = self  # asyncio asks for its own class
        self._loop = loop
        self._tasks: list[asyncio.Task[Any]] = []
        self.is_killed = False

    def kill(self) -> None:
        self.is_killed = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
                # What it does when it is closed has no effect any more.
                with contextlib.suppress(BaseException):
                    coroutine: Any = task.get_coro()
                    coroutine.close()
        self._tasks.clear()

    def _run(self, handle: asyncio.Handle) -> None:
        if self.is_killed or handle.cancelled():
            return
        _switch_to(self)
        handle._run()  # noqa: SLF001

    def run(self, function: Callable[[], object]) -> None:
        """Call a function as if the loop had called it."""
        self._run(asyncio.Handle(function, (), self._self))

    # -- what asyncio and the server use

    def time(self) -> float:
        return self._loop.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.is_killed

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._self, context)
        self._loop.after(0, self._run, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._loop.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self._self, context)
        self._loop.after(max(0.0, when - self._loop.now), self._run, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: the handle says so itself when its time has come."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401
        task = asyncio.Task(coro, loop=self._self, **options)
        if len(self._tasks) > 100:
            self._tasks = [each for each in self._tasks if not each.done()]
        self._tasks.append(task)
        return task

    def run_in_executor(self, _executor: object, func: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        """Call the function at once. The loop hears of it a little later."""
        future = self.create_future()
        try:
            result = func(*args)
        except OSError as error:
            self.call_later(0.002, future.set_exception, error)
        else:
            self.call_later(0.002, future.set_result, result)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_killed and not isinstance(context.get("exception"), BrokenPromiseError):
            with contextlib.suppress(BrokenPromiseError):
                promise(False, "the server lets an error fall", context)  # noqa: FBT003
