"""How a server's run ends: the handle of a stop, and the end of the interpreter. Signals are in ``_signals``."""

from __future__ import annotations

import threading
from weakref import ref

from ._signals import call_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
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

    __slots__ = ("_awaiting", "_callbacks", "_event", "_lock", "_server")

    def __init__(self, server: Owner[Any]) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._awaiting = 0  # on the loop's thread, most of the time
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
        with self._lock:
            self._awaiting += 1
        try:
            yield from future.__await__()
        finally:
            with self._lock:
                self._awaiting -= 1

    def _is_awaited(self) -> bool:
        """Whether some coroutine waits for the end, or has not resumed since. For ``_block``."""
        return self._awaiting > 0

    def _when_done(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _finish(self) -> None:
        none: list[Callable[[], None]] = []  # made here: a finaliser that ran inside might wait for the lock
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, none
        for callback in callbacks:
            callback()

    def __repr__(self) -> str:
        return f"<Stopped {'done' if self.done() else 'pending'}>"


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
        call_in_child(_begin_child)
    _running.add(ref(server, _running.discard))


def release(server: Owner[Any]) -> None:
    """``server`` does not run any more."""
    _running.discard(ref(server))


def _begin_child() -> None:
    servers = [server for one in tuple(_running) if (server := one()) is not None]
    _running.clear()
    for server in servers:
        server._abandon_in_child()


def _stop_all() -> None:
    servers = [server for one in tuple(_running) if (server := one()) is not None]
    for server in servers:
        server.stop(True)
    for server in servers:
        server._join(EXIT_TIMEOUT)
    for server in servers:
        server._drain()  # one whose event loop has ended without it
