"""Waiting for a socket: ``await ws.drained()``, ``await ws.closed()``.

The core calls back, once, on the server's thread; here that becomes a future of the event loop in which the caller
runs, the server's own or any other thread's. Nothing of this runs unless a coroutine waits.
"""

from __future__ import annotations

from collections import namedtuple

from .. import _core
from .._checks import integer
from .._native_members import add_methods

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from typing import Any, NamedTuple

    from .._core import ServerWebSocket

    class _Outcome(NamedTuple):
        code: int
        """The close code, an int (RFC 6455 section 7.4)."""
        reason: str
        """The reason that came with it (RFC 6455 section 7.1.6), a str; "" without one."""

else:
    _Outcome = namedtuple("Closed", ("code", "reason"))
    _Outcome.code.__doc__ = "The close code, an int (RFC 6455 section 7.4)."
    _Outcome.reason.__doc__ = 'The reason that came with it (RFC 6455 section 7.1.6), a str; "" without one.'


class Closed(_Outcome):
    """How a connection ended, with the ``close`` handler's arguments: ``await ws.closed()`` returns it.

    A named tuple of ``code``, the close code as int (RFC 6455 section 7.4; 1006 without a Close frame), and
    ``reason``, a str.

    Bun: the arguments of the handler ``close``.
    """

    __slots__ = ()


class ConnectionClosed(Exception):
    """The socket is closed: the awaited event cannot happen any more.

    Args:
        code: the close code (RFC 6455 section 7.4); 1006 without a Close frame.
        reason: the reason that came with it, or ``""``.
    """

    code: int
    """The close code (RFC 6455 section 7.4); 1006 without a Close frame."""
    reason: str
    """The reason that came with it, or ``""``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection is closed ({self.code}{' ' + self.reason if self.reason else ''})"


class _Waiter:
    """The callback for one waiting coroutine."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        from asyncio import get_running_loop

        self._loop = get_running_loop()
        self.future: asyncio.Future[tuple[int, str] | None] = self._loop.create_future()

    def __call__(self, outcome: tuple[int, str] | None) -> None:
        from asyncio import _get_running_loop

        if _get_running_loop() is self._loop:
            self._resolve(outcome)
            return
        try:
            self._loop.call_soon_threadsafe(self._resolve, outcome)
        except RuntimeError:  # that event loop is closed, and its coroutines with it
            pass

    def _resolve(self, outcome: tuple[int, str] | None) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


async def _wait(ws: ServerWebSocket, below: int | None) -> tuple[int, str] | bool | None:
    outcome = _core.add_waiter(ws, None, below)
    if outcome is not None:
        return outcome
    waiter = _Waiter()
    try:
        outcome = _core.add_waiter(ws, waiter, below)
        return await waiter.future if outcome is None else outcome
    except RuntimeError:
        outcome = _core.add_waiter(ws, None, below)  # the server has ended just now, and the socket with it
        if outcome is None:
            raise
        return outcome
    finally:
        _core.remove_waiter(ws, waiter)


_check_below = integer(0, (1 << 62) - 1, "bytes")


async def _until_closed(ws: ServerWebSocket) -> Closed:
    return Closed(*await _wait(ws, None))  # type: ignore[misc]


def _closed(self: ServerWebSocket) -> Coroutine[Any, Any, Closed]:
    return _until_closed(self)


async def _until_drained(ws: ServerWebSocket, below: int) -> None:
    outcome = await _wait(ws, below)
    if isinstance(outcome, tuple):
        raise ConnectionClosed(*outcome)


def _drained(self: ServerWebSocket, below: int = 0) -> Coroutine[Any, Any, None]:
    return _until_drained(self, _check_below("below", below))


def add_waiting(cls: type) -> None:
    """Give ``cls``, the native ``ServerWebSocket``, these methods."""
    add_methods(cls, closed=_closed, drained=_drained)
