"""``RunState``: which process, thread and event loop a server belongs to; the parts of a server share it.

A server is claimed by the thread that is going to run it, and belongs to no thread before and after. ``thread`` is that
thread; ``loop`` the event loop to which the core is attached, as a reader; ``own_loop`` one that was made for a run and
is closed with it.
"""

from __future__ import annotations

import os
import threading

from .app_threads import log_remaining
from .at_exit import keep_until_exit, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from .._core import ServerControl, ServerCore
    from .at_exit import Running
    from .listening import Listening
    from .stopped import Completion, Stopped


class RunState:
    """The state that ``Stopping``, ``Lifespan``, ``LoopAttachment``, ``Embedded`` and ``Runner`` share."""

    completion: Completion
    stopped: Stopped

    def __init__(self, server: ServerCore[Any], core: ServerControl, running: Running) -> None:
        self.server = server
        self.core = core
        self.stop = running.stop
        self.pid = os.getpid()
        self.listening: Listening | None = None  # until it is bound
        self.thread: threading.Thread | None = None  # the one that runs the loop
        self.loop: asyncio.AbstractEventLoop | None = None
        self.own_loop: asyncio.AbstractEventLoop | None = None
        self._running = running
        self._lock = threading.Lock()

    def is_on_thread(self) -> bool:
        """Whether this is the thread that runs the server."""
        return self.thread is threading.current_thread()

    def is_forked(self) -> bool:
        return self.pid != os.getpid()

    def check_process(self) -> None:
        if self.is_forked():
            raise RuntimeError("this server belongs to the parent process: it cannot be used after a fork")

    def check_alive(self) -> None:
        self.check_process()
        if self.server.finished:
            raise RuntimeError("the server has stopped")

    def check_unclaimed(self) -> None:
        if self.thread is not None:
            raise RuntimeError(f"the server already runs, in thread {self.thread.name!r}")

    def claim(self, thread: threading.Thread) -> None:
        """Make ``thread`` the one that runs the loop."""
        with self._lock:  # no code inside runs a finaliser, which might wait for this lock
            running = self.thread
            if running is None:
                self.thread = thread
        if running is not None:
            raise RuntimeError(f"the server already runs, in thread {running.name!r}")
        keep_until_exit(self._running)

    def unclaim(self) -> None:
        release(self._running)
        with self._lock:
            self.thread = None
        if self.server.finished:
            log_remaining()
