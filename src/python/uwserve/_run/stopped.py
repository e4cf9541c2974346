"""``Stopped``, the handle of a stop, on which threads and coroutines wait for a server's end."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from typing import Any


class Stopped:
    """What ``server.stop()`` returns: ends with the server's last connection, after the last ``close`` handler.

    ``await`` it on any asyncio (or uvloop) event loop, or call ``wait()``. Both may be done many times.

    Threads: any.

    Bun: the promise that Server.stop returns.
    """

    __slots__ = ("_awaiting", "_callbacks", "_check_can_await", "_check_can_wait", "_event", "_lock")

    def __init__(
        self, check_can_wait: Callable[[], None], check_can_await: Callable[[asyncio.AbstractEventLoop], None]
    ) -> None:
        self._check_can_wait = check_can_wait  # RuntimeError where waiting would last forever
        self._check_can_await = check_can_await
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
        self._check_can_wait()
        return self._event.wait(timeout)

    def __await__(self) -> Generator[Any, None, None]:
        if self._event.is_set():
            return
        import asyncio

        loop = asyncio.get_running_loop()
        self._check_can_await(loop)
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # that event loop is closed, and its coroutines with it
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
        """Whether a coroutine waits for the end, or has not resumed since."""
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
