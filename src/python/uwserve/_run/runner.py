"""``Runner``: runs a server on this thread or on a background one.

Coroutines need an event loop. ``run()`` and ``start()`` make one when a handler is a coroutine function, or as soon as
a handler returns a coroutine: the native loop then returns, and the same run goes on inside the event loop, as a reader
of it.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from contextlib import suppress

from .. import _logs
from .app_threads import check_are_real
from .stopping import StopBySignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .event_loop import LoopAttachment
    from .signals import Signals


class Runner:
    """The run modes on a thread."""

    def __init__(self, attachment: LoopAttachment, has_coroutine_handlers: Callable[[], bool]) -> None:
        self._attachment = attachment
        self._state = attachment.state
        self._lifespan = attachment.lifespan
        self._has_coroutine_handlers = has_coroutine_handlers
        self._signals: Signals | None = None  # of a run() on the main thread
        self._main: asyncio.Task[None] | None = None  # in a loop of our own: lasts as long as the run

    def run(self, stop_timeout: float, notice: Callable[[int, int], None] | None = None, merge: float = 0.0) -> None:
        """Run on this thread; ``notice`` and ``merge`` are those of ``StopBySignals``."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "run() would block the asyncio event loop of this thread: await serve_forever(), or use start()"
            )
        self._attachment.claim(threading.current_thread())
        try:
            if threading.current_thread() is threading.main_thread():
                from .signals import Signals

                stop = StopBySignals(self._state.stop, stop_timeout, notice, merge, self._attachment.signalled)
                self._signals = Signals(stop)
                with self._signals as descriptor:
                    self._turn(descriptor)
            else:
                self._turn(-1)
        finally:
            self._signals = None
            self._state.unclaim()

    def start(self) -> None:
        """Run on a background thread; returns when ``startup`` has ended."""
        check_are_real("start()")
        context = contextvars.copy_context()  # handlers see the variables that are set here, as with run()
        thread = threading.Thread(target=context.run, args=(self._run_in_background,), name="uwserve", daemon=True)
        self._attachment.claim(thread)
        try:
            thread.start()
        except BaseException:
            self._state.unclaim()
            raise
        if self._lifespan is None:
            return
        try:
            error = self._lifespan.wait_until_started()
        except BaseException:  # Ctrl-C, while `startup` hangs
            self._state.stop(True)
            raise
        if error is not None:
            self.join(None)
            raise self._lifespan.error_of(error) from error

    def join(self, timeout: float | None) -> None:
        """Wait until the loop's thread has left the loop."""
        self._attachment.release_closed()
        thread = self._state.thread
        if thread is None or thread is threading.current_thread():
            return
        if thread.name == "uwserve" and thread.daemon:
            thread.join(timeout)
        else:  # run() on the user's thread, which continues after the run
            self._state.stopped.wait(timeout)

    def drain(self) -> None:
        """Let the closing handshakes end that a run left behind when an exception ended it; it takes some seconds."""
        if not self._state.server.finished and self._state.thread is None:
            self._attachment.claim(threading.current_thread())
            try:
                self._turn(-1)
            finally:
                self._state.unclaim()

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve in ``loop``, which does not run, and is closed when the run ends: an async factory has run in it."""
        self._attachment.set_event_loop(loop)
        self._state.own_loop = loop

    def want_event_loop(self) -> None:
        """A handler has returned a coroutine, and there is no event loop, or a closed one."""
        from .tasks import new_event_loop

        self._attachment.release_closed()
        if self._state.own_loop is None:
            self._state.own_loop = new_event_loop()
        self._attachment.set_event_loop(self._state.own_loop)

    def abandon_in_child(self) -> None:
        """In a forked child: detach the run's event loop from the parent's; the run ends in its next turn."""
        loop = self._state.own_loop
        if loop is None or loop.is_closed():
            return
        from .tasks import detach_from_parent

        detach_from_parent(loop)
        if self._main is not None:
            self._main.cancel()

    # --- one run ---

    def _run_in_background(self) -> None:
        try:
            self._turn(-1)
        except BaseException as exc:  # SystemExit and KeyboardInterrupt out of a handler, too: the thread ends here
            if self._lifespan is None or not self._lifespan.has_failed():  # start() raises that
                _logs.log_exception("the server's thread, which ends", exc)
        finally:
            self._state.unclaim()

    def _turn(self, descriptor: int) -> None:
        """A run, with ``startup`` before it and ``shutdown`` after it: then it is the server's only one.

        An exception that ends it ends the server first, by force, as ``shutdown`` comes after the last connection.
        """
        span = self._lifespan
        try:
            self._turn_loops(descriptor)
        except BaseException:
            if span is not None and not self._state.is_forked() and not self._state.server.finished:
                self._state.stop(True)
                with suppress(BaseException):  # the first one counts
                    self._turn_loops(descriptor)
            raise
        finally:
            if span is not None and not self._state.is_forked():
                span.end()

    def _turn_loops(self, descriptor: int) -> None:
        """Natively until the server has ended or a coroutine comes, then in an event loop."""
        state, span = self._state, self._lifespan
        if state.own_loop is None and self._has_coroutine_handlers() and not state.server.finished:
            self.want_event_loop()
        if state.own_loop is None and span is not None and not span.start():
            self.want_event_loop()
        if state.own_loop is None:
            state.core.run_loop(descriptor, None if self._signals is None else self._signals.rearm)
        loop = state.own_loop
        if loop is None:
            return
        if state.server.finished and not (span is not None and span.is_waiting()):  # its last coroutine came too late
            state.own_loop = None
            loop.close()
            state.core.forget_event_loop()
        else:
            self._turn_event_loop(loop, descriptor)

    def _turn_event_loop(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        from .tasks import close_event_loop

        state = self._state
        try:
            if descriptor >= 0:  # readable after a signal: the loop wakes, and Python runs the signal's handler
                loop.add_reader(descriptor, _drain_descriptor, descriptor)
            try:
                self._main = loop.create_task(self._live(loop))
                try:
                    loop.run_until_complete(self._main)
                except BaseException:
                    if self._lifespan is not None and not state.is_forked() and not self._main.done():
                        self._state.stop(True)
                        with suppress(BaseException):
                            loop.run_until_complete(self._main)
                    raise
            finally:
                self._main = None
                state.check_process()  # a handler forked, and this is the child: nothing here belongs to it
                if descriptor >= 0:
                    loop.remove_reader(descriptor)
                self._attachment.detach()
        finally:
            state.own_loop = None
            if not state.is_forked():
                close_event_loop(loop)
                state.core.forget_event_loop()

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        """A run inside a loop of our own."""
        if self._signals is not None:
            self._signals.note_wakeup_fd()
        await self._attachment.open(loop)
        if not self._state.stopped.done():
            await self._state.stopped


def _drain_descriptor(descriptor: int) -> None:
    try:
        os.read(descriptor, 4096)
    except BlockingIOError:
        pass
