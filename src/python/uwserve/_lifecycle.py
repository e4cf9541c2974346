"""How a server's run begins and ends: signals, the handle of a stop, and the end of the interpreter."""

from __future__ import annotations

import os
import threading
from weakref import WeakKeyDictionary, WeakSet, ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from types import FrameType, TracebackType
    from typing import Any

    from ._owner import Owner

EXIT_TIMEOUT = 5.0
"""Seconds that the interpreter's exit waits for a server's thread."""


class Stopped:
    """What ``server.stop()`` returns: ends with the server's last connection, after the last ``close`` handler.

    ``await`` it on any asyncio (or uvloop) event loop, or call ``wait()``. Both may be done many times.

    Threads: any.

    Bun: the promise that Server.stop returns.
    """

    __slots__ = ("_callbacks", "_event", "_lock", "_server")

    def __init__(self, server: Owner[Any]) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    def done(self) -> bool:
        """Tell whether the end has come.

        Returns:
            True once the server has stopped and its last connection is gone.

        Threads: any.
        """
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the end.

        Args:
            timeout: seconds to wait at most; None is for ever.

        Returns:
            True at the end, False when the time ran out.

        Raises:
            RuntimeError: on the server's own thread, where waiting would keep it from ever ending, and when no thread
                runs the server, whose connections then cannot end.

        Threads: any but the server's.
        """
        if self._event.is_set():
            return True
        self._server._check_can_wait()
        return self._event.wait(timeout)

    def __await__(self) -> Generator[Any, None, None]:
        if self._event.is_set():
            return
        import asyncio

        loop = asyncio.get_running_loop()
        self._server._check_can_await(loop)
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # that event loop is closed: nobody waits any more
                pass

        self._when_done(wake)
        yield from future.__await__()

    def _when_done(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _finish(self) -> None:
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def __repr__(self) -> str:
        return f"<Stopped {'done' if self.done() else 'pending'}>"


class Signals:
    """SIGINT and SIGTERM for the time of a ``run()`` on the main thread: ``handle(number)`` is called for each.

    What it raises comes up in whatever handler still runs. Handlers of Python run between bytecodes, so a signal must
    wake the loop: the wake-up descriptor does (``signal.set_wakeup_fd``). On exit everything is as it was before.
    """

    def __init__(self, handle: Callable[[int], None]) -> None:
        self._handle = handle
        self._previous: list[tuple[int, Any]] = []

    def __enter__(self) -> int:
        """Install; the descriptor to watch."""
        import signal
        import socket

        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous.append((number, signal.signal(number, self._on_signal)))
        return self._reader.fileno()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import signal

        for number, handler in reversed(self._previous):
            # None: it was not installed from Python and cannot be put back; the default is the nearest.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._handle(number)


_on_sigterm: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[StopOnSigterm]] = WeakKeyDictionary()
"""What SIGTERM calls, by the event loop that hears of it. One that ends without a word keeps no server alive."""


class StopOnSigterm:
    """SIGTERM stops the server, for the time of a ``serve_forever()`` on the main thread, with all others of its loop.

    Only when the signal has its default disposition: whoever handles it already goes on doing so.
    """

    __slots__ = ("__weakref__", "_installed", "_loop", "stop")

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        self._loop = loop
        self.stop = stop
        self._installed = False

    def __enter__(self) -> None:
        import signal

        if threading.current_thread() is not threading.main_thread():
            return
        if self._loop not in _on_sigterm:
            forget_closed_loops()
            if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                return
            self._loop.add_signal_handler(signal.SIGTERM, _call_all, self._loop)
        _on_sigterm.setdefault(self._loop, WeakSet()).add(self)
        self._installed = True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._installed:
            return
        stops = _on_sigterm.get(self._loop)
        if stops is None:
            return  # the garbage collector has the event loop, too, or another server has noticed that it is closed
        stops.discard(self)
        if not stops:
            _give_back(self._loop)


def forget_closed_loops() -> None:
    """SIGTERM is no matter of event loops any more that were closed under their servers."""
    for loop in tuple(_on_sigterm):
        if loop.is_closed():
            _give_back(loop)


def _give_back(loop: asyncio.AbstractEventLoop) -> None:
    """SIGTERM has its default disposition again; also where ``loop`` is one of uvloop's, which are closed without."""
    import signal

    if threading.current_thread() is not threading.main_thread():
        return  # the garbage collector's; the next server tries again
    del _on_sigterm[loop]
    loop.remove_signal_handler(signal.SIGTERM)
    if getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is loop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call_all(loop: asyncio.AbstractEventLoop) -> None:
    for one in tuple(_on_sigterm.get(loop, ())):
        one.stop()


class Once:
    """A call that happens once, by whichever of two threads comes first."""

    __slots__ = ("_function", "_lock", "done", "error")

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function
        self._lock = threading.Lock()
        self.done = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> None:
        with self._lock:
            function, self._function = self._function, None
        if function is None:
            return
        try:
            function()
        except Exception as exc:
            self.error = exc
        finally:
            self.done.set()


_running: set[ref[Owner[Any]]] = set()
"""Weak: what runs a server holds it, and one whose event loop was closed without a word is not to stay for this."""
_registered = False


def keep_until_exit(server: Owner[Any]) -> None:
    """Note that ``server`` runs: the interpreter's exit will stop it."""
    global _registered
    if not _registered:
        import atexit

        _registered = True
        atexit.register(_stop_all)
        os.register_at_fork(after_in_child=_running.clear)
    _running.add(ref(server, _running.discard))


def release(server: Owner[Any]) -> None:
    """``server`` does not run any more."""
    _running.discard(ref(server))


def _stop_all() -> None:
    servers = [server for one in tuple(_running) if (server := one()) is not None]
    for server in servers:
        server.stop(True)
    for server in servers:
        server._join(EXIT_TIMEOUT)
    for server in servers:
        server._drain()  # one whose event loop has ended without it
