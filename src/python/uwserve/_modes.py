"""Who turns a server's loop: this thread, a background one, or a running event loop (asyncio, uvloop).

Coroutines need an event loop. ``run()`` and ``start()`` make one when a handler is a coroutine function, or as soon as
a coroutine comes: the native loop then returns, and the same run goes on inside the event loop, as a reader of it.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading

from . import _logs, _stopping
from ._generics import DataT
from ._owner import Owner
from ._signals import Signals, StopOnSigterm, forget_closed_loops

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

OVER, WAITS_FOR_TASKS = 1, 2  # what pump() tells

CUT_SECONDS = 2.0
"""How long a forced stop waits for coroutines to end, before it cancels them (again), and then leaves them behind."""


class RunModes(Owner[DataT]):
    """The part of ``Server`` that runs it."""

    def __init__(self) -> None:
        super().__init__()
        self._descriptor = -1
        self._signals: Signals | None = None  # of a run() on the main thread
        self._main: asyncio.Task[None] | None = None  # in a loop of our own: lasts as long as the run
        self._cut: asyncio.TimerHandle | None = None

    def _has_coroutine_handlers(self) -> bool:
        raise NotImplementedError

    # --- on this thread, and in the background ---

    def run(self, *, stop_timeout: float = _stopping.TIMEOUT) -> None:
        """Run on this thread until the server is stopped and its last connection is gone.

        With coroutine handlers it runs in an event loop of its own on this thread, uvloop's when that is installed. On
        the main thread SIGINT and SIGTERM stop it: the first is ``stop(timeout=stop_timeout)``, the second
        ``stop(True)``, the third raises ``KeyboardInterrupt``. The previous handlers are put back at the end.

        Args:
            stop_timeout: seconds that the first signal gives, a finite number of at least 0.

        Returns:
            None, when the server has ended.

        Raises:
            RuntimeError: it already runs or has stopped, in a running asyncio event loop (which it would block), in a
                fork.
            TypeError: stop_timeout is no number. ValueError for one out of range.
            BaseException: ``KeyboardInterrupt`` and ``SystemExit`` of a handler end the run.

        Threads: any, one at a time; it becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        self._run(_stopping.check_timeout("stop_timeout", stop_timeout))

    def start(self) -> Self:
        """Run in a background daemon thread named ``uwserve``, in an event loop of its own with coroutine handlers.

        A server that still runs when the interpreter exits is stopped then.

        Returns:
            The server itself, at once.

        Raises:
            RuntimeError: it already runs or has stopped, or in a child made by fork.

        Threads: any; the new thread becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        context = contextvars.copy_context()  # what is set here is set in handlers, too, as run() has it
        thread = threading.Thread(target=context.run, args=(self._run_in_background,), name="uwserve", daemon=True)
        self._claim(thread)
        try:
            thread.start()
        except BaseException:
            self._unclaim()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(True)
        if not self.on_loop_thread():
            self._join(None)
            self._drain()

    def _run(self, stop_timeout: float, notice: Callable[[int, int], None] | None = None, merge: float = 0.0) -> None:
        """``run()``; ``notice`` and ``merge`` are those of ``StopBySignals``."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "run() would block the asyncio event loop of this thread: await serve_forever(), or use start()"
            )
        self._claim(threading.current_thread())
        try:
            if threading.current_thread() is threading.main_thread():
                self._signals = Signals(_stopping.StopBySignals(self, stop_timeout, notice, merge))
                with self._signals as descriptor:
                    self._turn(descriptor)
            else:
                self._turn(-1)
        finally:
            self._signals = None
            self._unclaim()

    def _run_in_background(self) -> None:
        try:
            self._turn(-1)
        except BaseException as exc:  # SystemExit and KeyboardInterrupt out of a handler: nobody else would see them
            _logs.log_exception("the server's thread, which ends", exc)
        finally:
            self._unclaim()

    def _turn(self, descriptor: int) -> None:
        """Natively until the server is over or a coroutine comes, then in an event loop."""
        if self._own_loop is None and self._has_coroutine_handlers() and not self.finished:
            self._event_loop_wanted()
        if self._own_loop is None:
            self.run_loop(descriptor, None if self._signals is None else self._signals.rearm)
        loop = self._own_loop
        if loop is None:
            return
        if self.finished:  # its last coroutine came too late
            self._own_loop = None
            loop.close()
            self.forget_event_loop()
        else:
            self._turn_event_loop(loop, descriptor)

    def _turn_event_loop(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        from ._tasks import close_event_loop

        try:
            self._attach(loop)
            if descriptor >= 0:  # a signal has come; that the loop wakes lets Python run its handler
                loop.add_reader(descriptor, _drain_descriptor, descriptor)
            try:
                self._main = loop.create_task(self._until_stopped())
                loop.run_until_complete(self._main)
            finally:
                self._main = None
                self._check_process()  # a handler forked, and this is the child: nothing here is its own
                if descriptor >= 0:
                    loop.remove_reader(descriptor)
                self._detach()
        finally:
            self._own_loop = None
            if self._pid == os.getpid():
                close_event_loop(loop)
                self.forget_event_loop()

    async def _until_stopped(self) -> None:
        if self._signals is not None:
            self._signals.note_wakeup_fd()
        await self._stopped

    def _abandon_in_child(self) -> None:
        """In a forked child: the event loop of the run is made the child's own, and the run ends when it goes on."""
        loop = self._own_loop
        if loop is None or loop.is_closed():
            return
        from ._tasks import detach_from_parent

        detach_from_parent(loop)
        if self._main is not None:
            self._main.cancel()

    def _event_loop_wanted(self) -> None:
        """The hook the core calls when a coroutine has come and there is no event loop, or a closed one."""
        from ._tasks import TOOLS, new_event_loop

        self._let_go_of_closed_loop()
        if self._own_loop is None:
            self._own_loop = new_event_loop()
        self.set_event_loop(self._own_loop, TOOLS)

    # --- inside an event loop ---

    async def __aenter__(self) -> Self:
        """Serve inside the running event loop (asyncio or uvloop) from here on, on its thread."""
        import asyncio

        self._claim_and_attach(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, open connections with it, and wait until the last ``close`` handler has ended.

        A cancellation meanwhile is passed on then: the wait is a matter of seconds. ``RuntimeError`` in a handler,
        whose end the server would wait for.
        """
        if self._loop is not None:
            self._check_can_await(self._loop)
        try:
            self.stop(True)
            if self._loop is not None:
                await self._end()
        finally:
            self._leave()

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
        SIGTERM is ``stop(timeout=stop_timeout)`` meanwhile, a second one ``stop(True)``, if nobody else handles it.

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

        on_signal = _stopping.StopBySignals(self, _stopping.check_timeout("stop_timeout", stop_timeout))
        if self.finished and self._pid == os.getpid():
            return
        loop = asyncio.get_running_loop()
        is_new = self._loop is not loop
        if is_new:
            self._claim_and_attach(loop)
        try:
            with StopOnSigterm(loop, on_signal):
                await self._stopped
        except asyncio.CancelledError:
            self.stop(True)
            await self._end()
            raise
        finally:
            if is_new:
                self._leave()

    def _claim_and_attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._claim(threading.current_thread())
        try:
            if self._own_loop is not None:  # of a run that was broken off; its coroutines end with it
                self.forget_event_loop()
                self._own_loop.close()
                self._own_loop = None
            self._attach(loop)
        except BaseException:
            self._unclaim()
            raise

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
            self._detach()
            if self._own_loop is None:
                self._leave()
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

    def _leave(self) -> None:
        """``_detach`` from a loop of the user's."""
        try:
            self._detach()
        finally:
            if self._own_loop is None:
                self.forget_event_loop()
                self._unclaim()

    def _let_go_of_closed_loop(self) -> None:
        """Notice that the event loop was closed under the server, which then is bound, as before it was attached."""
        if self._loop is not None and self._loop.is_closed() and self._loop is not self._own_loop:
            forget_closed_loops()
            self._leave()

    def _drain(self) -> None:
        """Let the closing handshakes end that a run left behind when an exception ended it; a matter of seconds."""
        if not self.finished and self._thread is None:
            self._claim(threading.current_thread())
            try:
                self._turn(-1)
            finally:
                self._unclaim()


def _drain_descriptor(descriptor: int) -> None:
    try:
        os.read(descriptor, 4096)
    except BlockingIOError:
        pass
