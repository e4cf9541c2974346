"""``LoopAttachment``: the core as a reader of an event loop (asyncio, uvloop), and what may wait for the server's end.

The loop is the user's (``embedded``), or one that was made for a run (``runner``), which is then ``state.own_loop``.
"""

from __future__ import annotations

import threading

from .. import _logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from .block import Block
    from .lifespan import Lifespan
    from .state import RunState

OVER, WAITS_FOR_TASKS = 1, 2  # results of pump()

CUT_SECONDS = 2.0
"""How long a forced stop waits for coroutines to end, before it cancels them (again), and then leaves them behind."""


class LoopAttachment:
    """The server's event loop: attaching the core to it, and detaching it. On the loop's thread."""

    def __init__(self, state: RunState, lifespan: Lifespan | None) -> None:
        self.state = state
        self.lifespan = lifespan
        self.block: Block | None = None  # of `async with`
        self._descriptor = -1
        self._cut: asyncio.TimerHandle | None = None

    # --- before and after ---

    def claim(self, thread: threading.Thread) -> None:
        """Make ``thread`` the one that runs the server."""
        self.state.check_alive()
        self.release_closed()
        self.state.claim(thread)

    def release_closed(self) -> None:
        """Notice that the event loop was closed while the server ran in it: the server is then bound, as before."""
        state = self.state
        if state.loop is not None and state.loop.is_closed() and state.loop is not state.own_loop:
            from .signals import forget_closed_loops

            forget_closed_loops()
            self.leave()

    def set_event_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Coroutines of handlers run in ``loop`` from now on."""
        from .tasks import TOOLS

        self.state.core.set_event_loop(loop, TOOLS)

    def check_can_wait(self) -> None:
        """``RuntimeError`` where this thread would wait forever for the server's end."""
        self.state.check_process()
        self.release_closed()
        thread = self.state.thread
        if thread is not None and thread is threading.current_thread():
            raise RuntimeError(
                f"the server runs on this thread ({thread.name!r}): waiting here for its end would last forever"
            )
        if thread is None and not self.state.server.finished:
            raise RuntimeError("no thread runs the server: its connections cannot end; call run() or start()")

    def check_can_await(self, loop: asyncio.AbstractEventLoop) -> None:
        """``RuntimeError`` where this Task of ``loop`` would wait forever for the server's end."""
        self.state.check_process()
        span = self.lifespan
        if span is not None and span.loop is loop:
            import asyncio

            span.check_can_wait(asyncio.current_task())
            return
        if self.state.loop is not loop:
            self.check_can_wait()
            return
        import asyncio

        task: Any = asyncio.current_task()
        driver = task.get_coro() if task is not None else None
        if getattr(driver, "server", None) is self.state.server:
            raise RuntimeError("a handler cannot wait for its server's end, which waits for the handlers to end")

    # --- attached ---

    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """``startup``, and then connections are accepted; ``shutdown`` at once if the server was stopped meanwhile."""
        span = self.lifespan
        if span is not None:
            await span.start_in_loop()
            if self.state.server.finished:
                await span.end_in_loop()
                return
        self._attach(loop)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        core = self.state.core
        self.set_event_loop(loop)
        self._descriptor = core.attach_core()
        self.state.loop = loop
        try:
            loop.add_reader(self._descriptor, core.loop_reader(self.pumped))
        except BaseException:
            self.detach()
            raise

    def pumped(self, result: int) -> None:
        """A turn of the core's loop was the last one, or would be but for the coroutines that are left."""
        loop = self.state.loop
        if result == OVER:
            span = self.lifespan
            self.detach()
            if loop is not None and span is not None and span.is_due():
                span.end_soon(loop, self._leave_users)
            else:
                self._leave_users()
        elif result == WAITS_FOR_TASKS and self._cut is None and loop is not None:
            self._cut = loop.call_later(CUT_SECONDS, self._cut_tasks, False)

    def _cut_tasks(self, again: bool) -> None:
        """Coroutines that outlive a forced stop are cancelled, and in the end no longer waited for."""
        state = self.state
        if state.loop is None:
            return
        if not again:
            state.core.cancel_tasks()
            self._cut = state.loop.call_later(CUT_SECONDS, self._cut_tasks, True)
            return
        left = len(state.server.tasks)
        _logs.warning(f"the server ends without {left} coroutines of handlers that do not end when they are cancelled")
        state.core.forget_tasks()
        self.pumped(state.core.pump())

    def detach(self) -> None:
        """Remove the core from the event loop; the server ends when it can."""
        state = self.state
        loop = state.loop
        if loop is None:
            return
        is_open = not loop.is_closed()
        if is_open:
            loop.remove_reader(self._descriptor)
        state.loop = None
        try:
            state.core.detach_core()
        except RuntimeError:  # in a callback of the server
            state.loop = loop
            if is_open:
                loop.add_reader(self._descriptor, state.core.loop_reader(self.pumped))
            raise
        if is_open and self._cut is not None:
            self._cut.cancel()
        self._cut = None

    def _leave_users(self) -> None:
        if self.state.own_loop is None:
            self.leave()

    def leave(self) -> None:
        """``detach`` from the user's event loop; its thread no longer runs the server."""
        try:
            self.detach()
        finally:
            if self.block is not None:
                self.block.give_signal_back()
            if self.state.own_loop is None:
                self.state.core.forget_event_loop()
                self.state.unclaim()

    def signalled(self, count: int) -> None:
        """A signal, the ``count``-th, has stopped the server."""
        if self.lifespan is not None:
            self.lifespan.signalled(count)
