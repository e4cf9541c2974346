"""A server inside a running event loop (asyncio, uvloop): the core is a reader of the loop.

The loop is the user's, or the server's own one (``_modes``), which is then ``_own_loop``.
"""

from __future__ import annotations

import os
import threading

from . import _logs, _stopping
from ._generics import DataT
from ._owner import Owner
from ._signals import StopOnSigterm, forget_closed_loops

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from typing_extensions import Self

    from ._block import Block

OVER, WAITS_FOR_TASKS = 1, 2  # what pump() tells

CUT_SECONDS = 2.0
"""How long a forced stop waits for coroutines to end, before it cancels them (again), and then leaves them behind."""


class Embedded(Owner[DataT]):
    """The part of ``Server`` that runs it in an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._descriptor = -1
        self._cut: asyncio.TimerHandle | None = None
        self._block: Block | None = None  # of `async with`
        self._serving = 0  # calls of serve_forever() under way

    async def __aenter__(self) -> Self:
        """Serve inside the running event loop (asyncio or uvloop) from here on, on its thread.

        On the main thread SIGTERM is ``stop(timeout=30)`` meanwhile, a second one ``stop(True)``, unless the program
        handles that signal. The block ends when the server has ended: if it awaits anything but the server's end, that
        await is cancelled, and the cancellation does not leave the block.
        """
        import asyncio

        from ._block import Block

        loop = asyncio.get_running_loop()
        self._check_can_begin()
        block = Block(self, loop)
        try:
            await self._begin(loop)
        except BaseException:
            block.close(None)
            raise
        self._block = block
        block.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Stop, open connections with it, and wait until the last ``close`` handler has ended.

        A cancellation meanwhile is passed on then: the wait is a matter of seconds. ``RuntimeError`` in a handler,
        whose end the server would wait for.
        """
        if self._loop is not None:
            self._check_can_await(self._loop)
        block, self._block = self._block, None
        if block is not None:
            block.exit()
        is_own = False
        try:
            self.stop(True)
            if self._loop is not None or (self._lifespan is not None and self._lifespan.is_ending()):
                await self._end()
        finally:
            self._leave()
            if block is not None:
                is_own = block.close(exc)
        return is_own

    async def _end(self) -> None:
        """Wait for the end of a forced stop; what cancels that is raised afterwards."""
        import asyncio

        cancelled: asyncio.CancelledError | None = None
        while not self._stopped.done():
            try:
                await self._stopped
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled

    async def serve_forever(self, *, stop_timeout: float = _stopping.TIMEOUT) -> None:
        """Serve inside the running event loop (asyncio or uvloop) until the server has stopped.

        Nothing polls. It may be used alone or inside ``async with``; several tasks may wait so. When it is cancelled,
        the server is stopped, open connections with it (1001), and ``CancelledError`` goes on. On the main thread
        SIGTERM is ``stop(timeout=stop_timeout)`` meanwhile, a second one ``stop(True)``, unless the program handles it.

        Args:
            stop_timeout: seconds that the first SIGTERM gives, a finite number of at least 0.

        Returns:
            None, when the server has ended; at once if it had.

        Raises:
            RuntimeError: it runs elsewhere, or in a child made by fork.
            TypeError: stop_timeout is no number. ValueError for one out of range.

        Threads: that of the event loop, which becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        import asyncio

        seconds = _stopping.check_timeout("stop_timeout", stop_timeout)
        on_signal = _stopping.StopBySignals(self, seconds, after=self._signalled)
        if self.finished and self._pid == os.getpid():
            return
        loop = asyncio.get_running_loop()
        is_new = self._loop is not loop and (self._lifespan is None or self._lifespan.loop is not loop)
        if is_new:
            self._check_can_begin()
        self._serving += 1
        try:
            with StopOnSigterm(loop, on_signal):
                if is_new:
                    is_new = False
                    await self._begin(loop)
                    is_new = True
                if not self._stopped.done():
                    await self._stopped
        except asyncio.CancelledError:
            self.stop(True)
            await self._end()
            raise
        finally:
            self._serving -= 1
            if is_new:
                self._leave()

    def _check_can_begin(self) -> None:
        """What ``_claim`` checks, before anything is done."""
        self._check_alive()
        self._let_go_of_closed_loop()
        if self._thread is not None:
            raise RuntimeError(f"the server already runs, in thread {self._thread.name!r}")

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._claim(threading.current_thread())
        try:
            if self._own_loop is not None:  # of a run that was broken off; its coroutines end with it
                self.forget_event_loop()
                self._own_loop.close()
                self._own_loop = None
            await self._open(loop)
        except BaseException:
            self._unclaim()
            raise

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """``startup``, and then connections are accepted; ``shutdown`` at once if the server was stopped meanwhile."""
        span = self._lifespan
        if span is not None:
            await span.start_in_loop()
            if self.finished:
                await span.end_in_loop()
                return
        self._attach(loop)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        from ._tasks import TOOLS

        self.set_event_loop(loop, TOOLS)
        self._descriptor = self.attach_core()
        self._loop = loop
        try:
            loop.add_reader(self._descriptor, self.loop_reader(self._pumped))
        except BaseException:
            self._detach()
            raise

    def _pumped(self, state: int) -> None:
        """A turn of the core's loop was the last one, or would be."""
        if state == OVER:
            loop, span = self._loop, self._lifespan
            self._detach()
            if loop is not None and span is not None and span.is_due():
                span.end_soon(loop, self._leave_own)
            else:
                self._leave_own()
        elif state == WAITS_FOR_TASKS and self._cut is None and self._loop is not None:
            self._cut = self._loop.call_later(CUT_SECONDS, self._cut_tasks, False)

    def _cut_tasks(self, again: bool) -> None:
        """Coroutines that outlive a forced stop are cancelled, and at last no longer waited for."""
        if self._loop is None:
            return
        if not again:
            self.cancel_tasks()
            self._cut = self._loop.call_later(CUT_SECONDS, self._cut_tasks, True)
            return
        left = len(self.tasks)
        _logs.warning(f"the server ends without {left} coroutines of handlers that do not end when they are cancelled")
        self.forget_tasks()
        self._pumped(self.pump())

    def _detach(self) -> None:
        """The event loop is done with the core: its reader goes, and the server ends when it can."""
        loop = self._loop
        if loop is None:
            return
        is_open = not loop.is_closed()
        if is_open:
            loop.remove_reader(self._descriptor)
        self._loop = None
        try:
            self.detach_core()
        except RuntimeError:  # in a callback of the server's
            self._loop = loop
            if is_open:
                loop.add_reader(self._descriptor, self.loop_reader(self._pumped))
            raise
        if is_open and self._cut is not None:
            self._cut.cancel()
        self._cut = None

    def _leave_own(self) -> None:
        if self._own_loop is None:
            self._leave()

    def _leave(self) -> None:
        """``_detach`` from a loop of the user's."""
        try:
            self._detach()
        finally:
            if self._block is not None:
                self._block.give_signal_back()
            if self._own_loop is None:
                self.forget_event_loop()
                self._unclaim()

    def _let_go_of_closed_loop(self) -> None:
        """Notice that the event loop was closed under the server, which then is bound, as before it was attached."""
        if self._loop is not None and self._loop.is_closed() and self._loop is not self._own_loop:
            forget_closed_loops()
            self._leave()

    def _signalled(self, count: int) -> None:
        """A signal has stopped the server; ``count`` of them have by now."""
        if self._lifespan is not None:
            if count > 1:
                self._lifespan.hurry()
            self._lifespan.interrupt()
