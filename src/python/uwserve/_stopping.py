"""How a server stops: the arguments of ``stop()``, and what each signal does.

The stop itself is the core's. Mild to hard: ``stop()`` waits until everybody has left, a deadline tells every socket
and cuts what is left when its time is over, ``stop(True)`` tells them and cuts after two seconds.
"""

from __future__ import annotations

import os
import time

from . import _logs
from ._checks import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._owner import Owner
    from ._server import Server

TIMEOUT = 30.0
"""The default deadline of a stop, in seconds."""
CODE = 1001
"""The close code of such a stop: going away (RFC 6455 section 7.4.1)."""
REASON = "Server closed"


def check_timeout(label: str, value: object) -> float:
    """Seconds, as a finite float of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(label, "a number of seconds", value)
    try:
        seconds = float(value)
    except OverflowError:
        seconds = float("inf")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{label} must be a finite number of seconds, at least 0, got {value!r}")
    return seconds


def stop(server: Server, force: object, timeout: float | None, code: int | None, reason: str | None) -> None:
    """``server.stop()``, whose docstring tells."""
    if not isinstance(force, bool):
        got = type(force).__name__
        raise TypeError(f"close_active_connections must be a bool, got {got} (stop(timeout=...) sets a deadline)")
    if timeout is None and code is None and reason is None:
        _tell(server, ", closing its connections" if force else "")
        server.stop_core(force)
        return
    if force:
        raise TypeError("stop(): close_active_connections=True cannot be given together with timeout, code or reason")
    seconds = TIMEOUT if timeout is None else check_timeout("timeout", timeout)
    code = CODE if code is None else code
    reason = REASON if reason is None else reason
    server.check_close(code, reason)
    _tell(server, f", its connections within {seconds:g} seconds")
    server.stop_within(seconds, code, reason)


def _tell(server: Server, how: str) -> None:
    """Log the first stop of a server, before its end is logged."""
    if not server._stop_told and server._pid == os.getpid():
        server._stop_told = True
        _logs.stopping(server, how)


class StopBySignals:
    """What a server does at each further SIGINT or SIGTERM; the one place that says it, for every run mode.

    Called once for each: the first is a stop with a deadline of ``timeout`` seconds, the second is ``stop(True)``; from
    the third on it raises ``KeyboardInterrupt``. Before each, ``notice(count, number)`` is called. On the main thread.

    ``merge``: seconds in which the same signal again is the same request, for a process that may get each twice.
    ``after(count)`` is called when the server has been stopped.
    """

    def __init__(
        self,
        server: Owner,
        timeout: float,
        notice: Callable[[int, int], None] | None = None,
        merge: float = 0.0,
        after: Callable[[int], None] | None = None,
    ) -> None:
        self._server = server
        self._timeout = timeout
        self._notice = notice
        self._merge = merge
        self._after = after
        self._count = 0
        self._last = (-1, 0.0)  # the signal that counted last, and when

    def __call__(self, number: int = 0) -> None:
        now = time.monotonic()
        last, moment = self._last
        if number == last and now - moment < self._merge:
            return
        self._last = (number, now)
        self._count += 1
        count = self._count  # the next signal's handler may run inside this one's notice
        if self._notice is not None:
            self._notice(count, number)
        if count > 2:
            raise KeyboardInterrupt
        if count == 2:
            self._server.stop(True)
        else:
            self._server.stop(timeout=self._timeout)
        if self._after is not None:
            self._after(count)
