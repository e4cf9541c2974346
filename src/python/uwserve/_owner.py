"""Which thread a server belongs to, and what that allows.

A server is claimed by the thread that is going to run it, and belongs to nobody before and after. Ownership:
``_thread`` is that thread; ``_loop`` the event loop the core is attached to, whose reader it is; ``_own_loop`` one that
was made for a run, which ends with it (both are set in ``_modes``).
"""

from __future__ import annotations

import os
import threading

from . import _core
from ._generics import DataT
from ._lifecycle import Once, Stopped, keep_until_exit, release
from ._public import PublicMembers, is_public
from ._threads import name_those_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from ._lifespan import Lifespan


class Owner(_core.ServerCore[DataT], metaclass=PublicMembers):
    """The part of ``Server`` that knows its thread."""

    _stopped: Stopped
    _lifespan: Lifespan | None
    _stop_told: bool

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # the one that runs the loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: asyncio.AbstractEventLoop | None = None

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if is_public(type(self), name)]

    # Of the classes that derive from it.

    def stop(
        self,
        close_active_connections: bool = False,
        *,
        timeout: float | None = None,
        code: int | None = None,
        reason: str | None = None,
    ) -> Stopped:
        """See ``Server.stop``."""
        raise NotImplementedError

    def _let_go_of_closed_loop(self) -> None:
        raise NotImplementedError

    def _drain(self) -> None:
        raise NotImplementedError

    def _abandon_in_child(self) -> None:
        raise NotImplementedError

    # Who may do what.

    def on_loop_thread(self) -> bool:
        """Tell whether this is the thread that runs the server, which handlers are called on.

        Returns:
            True on it, else False.

        Threads: any.

        Bun: none; ours.
        """
        return self._thread is threading.current_thread()

    def _claim(self, thread: threading.Thread) -> None:
        """Make ``thread`` the one that runs the loop."""
        self._check_alive()
        self._let_go_of_closed_loop()
        with self._lock:  # what may run other Python code, such as a finaliser, would come back to this lock
            running = self._thread
            if running is None:
                self._thread = thread
        if running is not None:
            raise RuntimeError(f"the server already runs, in thread {running.name!r}")
        keep_until_exit(self)

    def _unclaim(self) -> None:
        release(self)
        with self._lock:
            self._thread = None
        if self.finished:
            name_those_left()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this server belongs to the parent process: it cannot be used after a fork")

    def _check_alive(self) -> None:
        self._check_process()
        if self.finished:
            raise RuntimeError("the server has stopped")

    def _check_can_wait(self) -> None:
        self._check_process()
        self._let_go_of_closed_loop()
        thread = self._thread
        if thread is not None and thread is threading.current_thread():
            raise RuntimeError(
                f"the server runs on this thread ({thread.name!r}): waiting here for its end would last forever"
            )
        if thread is None and not self.finished:
            raise RuntimeError("no thread runs the server: its connections cannot end; call run() or start()")

    def _check_can_await(self, loop: asyncio.AbstractEventLoop) -> None:
        self._check_process()
        span = self._lifespan
        if span is not None and span.loop is loop:
            import asyncio

            span.check_can_wait(asyncio.current_task())
            return
        if self._loop is not loop:
            self._check_can_wait()
            return
        import asyncio

        task: Any = asyncio.current_task()
        driver = task.get_coro() if task is not None else None
        if getattr(driver, "server", None) is self:
            raise RuntimeError("a handler cannot wait for its server's end, which waits for the handlers to end")

    def _join(self, timeout: float | None) -> None:
        """Wait until the loop's thread has left the loop."""
        self._let_go_of_closed_loop()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        if thread.name == "uwserve" and thread.daemon:
            thread.join(timeout)
        else:  # a thread of the user's, in run(): it goes on after the loop
            self._stopped.wait(timeout)

    def _on_loop(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the loop's thread and wait for it; here when it is this thread, or nothing runs."""
        self._let_go_of_closed_loop()
        once = Once(function)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self.call_soon(once)
            while not once.done.wait(0.05):
                if self._thread is None:  # the run ended before it came to it
                    break
        once()
        once.done.wait()
        if once.error is not None:
            raise once.error
