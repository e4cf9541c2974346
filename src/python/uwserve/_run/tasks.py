"""The Tasks in which handlers' coroutines run, and the functions of asyncio that the core calls to start them.

Imported when a server needs an event loop, not before: a server of plain functions needs no asyncio.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable
    from typing import Any


class HandlerTask(asyncio.Task):  # type: ignore[type-arg]
    """A Task whose coroutine is a driver of the core, which makes the Task before there is a coroutine to run."""

    __slots__ = ()


def _make_task(driver: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    factory = getattr(loop, "get_task_factory", None)
    if factory is None or factory() is None:
        return HandlerTask(driver, loop=loop, name="uwserve")
    task: Any = loop.create_task(driver, name="uwserve")
    if not isinstance(task, asyncio.Task):
        raise TypeError(f"the event loop's task factory must make an asyncio.Task, got {type(task).__name__}")
    return task


def _hide(task: Any) -> None:
    """Hide it from all_tasks() and from the warning about pending Tasks when its loop is closed."""
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False


def _reveal(task: Any) -> None:
    task._log_destroy_pending = True
    asyncio.tasks._register_task(task)


class IdleFuture:
    """The future on which a Task without a coroutine waits; one in the sense of ``asyncio.isfuture()``.

    It is never cancelled itself: its Task is, at the next step, like a Task that has not begun.
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

    def wake(self) -> None:
        """The Task continues in the loop's next turn."""
        callback = self._callback
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)
            self._callback = None


class _Seen:
    """For a trial of asyncio's tables: a key that replaces itself when it is looked up, and a Task of its loop."""

    def __init__(self, table: dict[Any, Any]) -> None:
        self.table = table
        self.loop = object()

    def __hash__(self) -> int:
        return hash(self.loop)

    def __eq__(self, other: object) -> bool:
        if other is self.loop and self.table.pop(self, self) is not self:
            self.table[self.loop] = self
        return other is self.loop

    def get_loop(self) -> object:
        return self.loop

    def done(self) -> bool:
        return False


def _tables() -> tuple[Any, Any]:
    """asyncio's dictionary of current tasks and its set of all; None where changes to them have no effect, so that each
    coroutine needs a Task of its own."""
    tasks: Any = asyncio.tasks
    table = getattr(tasks, "_current_tasks", None)
    references = getattr(getattr(tasks, "_scheduled_tasks", getattr(tasks, "_all_tasks", None)), "data", None)
    native = getattr(sys.modules.get("_asyncio"), "Task", None)
    if type(table) is not dict or type(references) is not set or HandlerTask.__base__ is not native:
        return None, None
    trial: Any = _Seen(table)
    loop: Any = trial.loop

    def reference() -> Any:
        return trial

    table[trial] = None
    references.add(reference)
    try:
        seen = asyncio.current_task(loop) is trial and table.get(loop) is trial and asyncio.all_tasks(loop) == {trial}
    finally:
        table.pop(loop, None)
        references.discard(reference)
    return (table, references) if seen else (None, None)


TOOLS = (
    _make_task,
    _hide,
    _reveal,
    IdleFuture,
    asyncio.current_task,
    asyncio.tasks._enter_task,
    asyncio.tasks._leave_task,
    asyncio._get_running_loop,
    *_tables(),
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
    """The result of a factory, which may be a coroutine, and the event loop in which that has run."""
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

    selector = getattr(loop, "_selector", None)  # asyncio's; uvloop has a method
    number = selector.fileno() if selector is not None else loop._get_backend_id()
    with select.epoll() as fresh:
        os.dup2(fresh.fileno(), number, inheritable=False)


LEFT_SECONDS = 2.0
"""How long the Tasks that are left have to end once they are cancelled."""


def close_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop that was made for a run, as ``asyncio.run`` does: its last Tasks are cancelled and awaited."""
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
