"""The Tasks that handlers' coroutines run in, and what of asyncio the core calls to start them.

Imported when a server meets an event loop, not before: a server of plain functions needs no asyncio.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class HandlerTask(asyncio.Task):  # type: ignore[type-arg]
    """A Task whose coroutine is a driver of the core's, and which the core makes before it has one to run.

    A coroutine that never suspends borrows such a Task for the time of its only step. What it changes about the Task
    must stay with it: the driver is told, and the Task is not used for another.
    """

    def _touch(self) -> None:
        driver: Any = self.get_coro()
        if driver is not None:
            driver.touch(self)

    def cancel(self, msg: Any = None) -> bool:
        """As of every Task."""
        self._touch()
        return super().cancel(msg)

    def set_name(self, value: object, /) -> None:
        """As of every Task."""
        self._touch()
        super().set_name(value)

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: contextvars.Context | None = None) -> None:
        """As of every Task."""
        self._touch()
        super().add_done_callback(fn, context=context)


def _make_task(driver: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    return HandlerTask(driver, loop=loop, name="uwserve")


TOOLS = (
    _make_task,
    asyncio.current_task,
    asyncio.tasks._enter_task,
    asyncio.tasks._leave_task,
    asyncio._get_running_loop,
)
"""In the order of the core's LoopTools."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's when that is installed, else asyncio's own."""
    try:
        import uvloop  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


LEFT_SECONDS = 2.0
"""How long what is left in a loop of ours has to end once it is cancelled."""


def close_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The end of a loop of ours, as ``asyncio.run`` does it: what is left is cancelled, and waited for."""
    try:
        tasks = asyncio.all_tasks(loop)
        done: set[asyncio.Task[Any]] = set()
        for task in tasks:
            task.cancel()
        if tasks:
            done, _ = loop.run_until_complete(asyncio.wait(tasks, timeout=LEFT_SECONDS))
        for task in done:
            if not task.cancelled() and task.exception() is not None and not isinstance(task, HandlerTask):
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception when the server's event loop ended",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
