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


class Parking:
    """What a Task waits for that has no coroutine yet: a future in the sense of ``asyncio.isfuture()``.

    It is not cancelled: a Task is, at its next step, as one is that has not begun.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = True
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: contextvars.Context | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: contextvars.Context) -> None:
        self._callback, self._context = callback, context

    def cancel(self, msg: Any = None) -> bool:
        return False

    def result(self) -> None:
        return None

    def wake(self, task: Any) -> None:
        """The Task goes on in the loop's next turn; ``task`` is it when it is of use from now on."""
        if task is not None:
            task._log_destroy_pending = True
            asyncio.tasks._register_task(task)
        callback = self._callback
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)
            self._callback = None


_can_hide: bool | None = None


def _park(task: Any, loop: asyncio.AbstractEventLoop) -> Parking | None:
    """What a Task that nobody knows may wait for, so that nobody waits for it; None where that cannot be."""
    global _can_hide
    if _can_hide is False:
        return None
    asyncio.tasks._unregister_task(task)
    if _can_hide is None:
        _can_hide = task not in asyncio.all_tasks(loop)
        if not _can_hide:
            return None
    task._log_destroy_pending = False  # it may go with its loop
    return Parking(loop)


TOOLS = (
    _make_task,
    _park,
    asyncio.tasks._register_task,
    asyncio.tasks._unregister_task,
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


def run_factory(made: Any) -> tuple[Any, asyncio.AbstractEventLoop | None]:
    """What a factory has returned; if that is a coroutine, its result, and the event loop that it has run in."""
    if not hasattr(type(made), "__await__"):
        return made, None

    async def result() -> Any:
        return await made

    loop = new_event_loop()
    try:
        return loop.run_until_complete(result()), loop
    except BaseException:
        close_event_loop(loop)
        raise


def detach_from_parent(loop: Any) -> None:
    """In a forked child: give the copy of the parent's loop an epoll instance of its own, and nothing to watch.

    A copied descriptor refers to the parent's instance: what the child changes there, even by closing its loop, would
    be changed for the parent, which then misses its events.
    """
    import os
    import select

    selector = getattr(loop, "_selector", None)  # asyncio's; uvloop's method is public by its own lights
    number = selector.fileno() if selector is not None else loop._get_backend_id()
    with select.epoll() as fresh:
        os.dup2(fresh.fileno(), number, inheritable=False)


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
