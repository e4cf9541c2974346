"""The end of a server: ``Stopped``, which users wait on, and ``Completion``, with which the facade brings it about."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from typing import Any


class Completion:
    """The end of one server. Any thread.

    ``check_can_wait()`` and ``check_can_await(loop)`` raise ``RuntimeError`` where waiting would last forever.
    """

    def __init__(
        self, check_can_wait: Callable[[], None], check_can_await: Callable[[asyncio.AbstractEventLoop], None]
    ) -> None:
        self.check_can_wait = check_can_wait
        self.check_can_await = check_can_await
        self.event = threading.Event()
        self.stopped = Stopped(self)
        self.awaiting = 0  # coroutines that await ``stopped``, or have not resumed since; changed under the lock
        self.lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end; at once if that has come."""
        with self.lock:
            if not self.event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def finish(self) -> None:
        """The server has ended."""
        none: list[Callable[[], None]] = []  # made here: a finaliser that ran inside might wait for the lock
        with self.lock:
            self.event.set()
            callbacks, self._callbacks = self._callbacks, none
        for callback in callbacks:
            callback()


class Stopped:
    """What ``server.stop()`` returns: ends with the server's last connection, after the last ``close`` handler.

    ``await`` it on any asyncio (or uvloop) event loop, or call ``wait()``. Both may be done many times.

    Threads: any.

    Bun: the promise that Server.stop returns.
    """

    __slots__ = ("_completion",)

    def __init__(self, completion: Completion) -> None:
        self._completion = completion

    def done(self) -> bool:
        """Return whether the server has ended.

        Returns:
            True once the server has stopped and its last connection is gone.

        Threads: any.
        """
        return self._completion.event.is_set()

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
        if self.done():
            return True
        self._completion.check_can_wait()
        return self._completion.event.wait(timeout)

    def __await__(self) -> Generator[Any, None, None]:
        if self.done():
            return
        import asyncio

        completion = self._completion
        loop = asyncio.get_running_loop()
        completion.check_can_await(loop)
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # that event loop is closed, and its coroutines with it
                pass

        completion.when_done(wake)
        with completion.lock:
            completion.awaiting += 1
        try:
            yield from future.__await__()
        finally:
            with completion.lock:
                completion.awaiting -= 1

    def __repr__(self) -> str:
        return f"<Stopped {'done' if self.done() else 'pending'}>"
