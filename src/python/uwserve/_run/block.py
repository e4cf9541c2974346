"""SIGTERM in an ``async with`` block of a server: the server stops, and then the block ends.

The block may wait for anything. If it waits for the server's end, by ``serve_forever()`` or ``await server.stop()``,
nothing else has to be done. Otherwise its Task is cancelled once the server has ended, and the cancellation ends with
the block, as with ``asyncio.timeout``: the code after it runs. On the loop's thread.
"""

from __future__ import annotations

import asyncio
import sys

from .signals import StopOnSigterm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .stopped import Completion


class Block:
    """From before ``startup`` to after ``shutdown``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[], None],
        completion: Completion,
        is_serving: Callable[[], bool],
    ) -> None:
        """``stop`` is called at each SIGTERM; ``is_serving``: a ``serve_forever()`` runs, which stops the server."""
        self._loop = loop
        self._stop = stop
        self._completion = completion
        self._is_serving = is_serving
        self._task: Any = asyncio.current_task()
        self._signal = StopOnSigterm(loop, self._on_signal)
        self._has_signal = self._is_inside = self._has_cancelled = False
        self._cancelling = 0
        self._signal.__enter__()

    def enter(self) -> None:
        """The code of the block begins."""
        self._is_inside = True
        if sys.version_info >= (3, 11) and self._task is not None:
            self._cancelling = self._task.cancelling()
        if self._has_signal and self._completion.event.is_set():  # in `startup`
            self._loop.call_soon(self._leave)

    def exit(self) -> None:
        """It has ended."""
        self._is_inside = False

    def close(self, exc: BaseException | None) -> bool:
        """The server has ended, too. Whether ``exc`` is only the cancellation that the block made."""
        self.give_signal_back()
        if not self._has_cancelled:
            return False
        if sys.version_info >= (3, 11) and self._task.uncancel() > self._cancelling:
            return False
        return isinstance(exc, asyncio.CancelledError)

    def give_signal_back(self) -> None:
        """The server has ended, or its loop. May be called twice."""
        self._signal.__exit__(None, None, None)

    def _on_signal(self) -> None:
        if self._is_serving():  # serve_forever() stops the server itself
            return
        if not self._has_signal:
            self._has_signal = True
            self._completion.when_done(self._leave_soon)
        self._stop()

    def _leave_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._leave)
        except RuntimeError:  # the loop is closed
            pass

    def _leave(self) -> None:
        if self._is_inside and self._task is not None and not self._completion.awaiting:
            self._has_cancelled = self._task.cancel() or self._has_cancelled
