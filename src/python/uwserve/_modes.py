"""Runs a server's loop, on this thread or on a background one; ``_embedded`` is about a running event loop.

Coroutines need an event loop. ``run()`` and ``start()`` make one when a handler is a coroutine function, or as soon as
a coroutine comes: the native loop then returns, and the same run goes on inside the event loop, as a reader of it.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from contextlib import suppress

from . import _logs, _stopping, _threads
from ._embedded import Embedded
from ._generics import DataT
from ._signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


class RunModes(Embedded[DataT]):
    """The part of ``Server`` that runs it on a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._signals: Signals | None = None  # of a run() on the main thread
        self._main: asyncio.Task[None] | None = None  # in a loop of our own: lasts as long as the run

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
            The server itself, at once; with ``startup``, when that has ended.

        Raises:
            RuntimeError: it already runs or has stopped, in a child made by fork, where gevent or eventlet have
                replaced threads, or ``startup`` raised.

        Threads: any; the new thread becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        _threads.check_are_real("start()")
        context = contextvars.copy_context()  # what is set here is set in handlers, too, as run() has it
        thread = threading.Thread(target=context.run, args=(self._run_in_background,), name="uwserve", daemon=True)
        self._claim(thread)
        try:
            thread.start()
        except BaseException:
            self._unclaim()
            raise
        if self._lifespan is not None:
            self._lifespan.wait_until_started()
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
                stop = _stopping.StopBySignals(self, stop_timeout, notice, merge, self._signalled)
                self._signals = Signals(stop)
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
            if self._lifespan is None or not self._lifespan.has_failed():  # start() raises that
                _logs.log_exception("the server's thread, which ends", exc)
        finally:
            self._unclaim()

    def _turn(self, descriptor: int) -> None:
        """A run, with ``startup`` before it and ``shutdown`` behind it: then it is the server's only one.

        An exception that ends it ends the server first, by force, as ``shutdown`` comes after the last connection.
        """
        span = self._lifespan
        try:
            self._turn_loops(descriptor)
        except BaseException:
            if span is not None and self._pid == os.getpid() and not self.finished:
                self.stop(True)
                with suppress(BaseException):  # the first one counts
                    self._turn_loops(descriptor)
            raise
        finally:
            if span is not None and self._pid == os.getpid():
                span.end()

    def _turn_loops(self, descriptor: int) -> None:
        """Natively until the server is over or a coroutine comes, then in an event loop."""
        span = self._lifespan
        if self._own_loop is None and self._has_coroutine_handlers() and not self.finished:
            self._event_loop_wanted()
        if self._own_loop is None and span is not None and not span.start():
            self._event_loop_wanted()
        if self._own_loop is None:
            self.run_loop(descriptor, None if self._signals is None else self._signals.rearm)
        loop = self._own_loop
        if loop is None:
            return
        if self.finished and not (span is not None and span.is_waiting()):  # its last coroutine came too late
            self._own_loop = None
            loop.close()
            self.forget_event_loop()
        else:
            self._turn_event_loop(loop, descriptor)

    def _turn_event_loop(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        from ._tasks import close_event_loop

        try:
            if descriptor >= 0:  # a signal has come; that the loop wakes lets Python run its handler
                loop.add_reader(descriptor, _drain_descriptor, descriptor)
            try:
                self._main = loop.create_task(self._live(loop))
                try:
                    loop.run_until_complete(self._main)
                except BaseException:
                    if self._lifespan is not None and self._pid == os.getpid() and not self._main.done():
                        self.stop(True)
                        with suppress(BaseException):
                            loop.run_until_complete(self._main)
                    raise
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

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve in ``loop``, which does not run, and is closed when the run ends: an async factory has run in it."""
        from ._tasks import TOOLS

        self.set_event_loop(loop, TOOLS)
        self._own_loop = loop

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        """A run inside a loop of our own."""
        if self._signals is not None:
            self._signals.note_wakeup_fd()
        await self._open(loop)
        if not self._stopped.done():
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
