"""How a server stops: the arguments of ``stop()``, and what each signal does.

The core does the stopping. From mild to hard: ``stop()`` waits until all connections have ended; a stop with a deadline
sends every WebSocket a Close and cuts the connections that are left at the deadline; ``stop(True)`` sends the Close and
cuts after two seconds.
"""

from __future__ import annotations

import time

from .. import _logs
from .._checks import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .state import RunState

TIMEOUT = 30.0
"""The default deadline of a stop, in seconds."""
CODE = 1001
"""The close code of such a stop: going away (RFC 6455 section 7.4.1)."""
REASON = "Server closed"


class Stopping:
    """The stops of one server. Any thread."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self.is_announced = False  # the log has the first stop, or does not need it

    def stop(
        self, force: object = False, timeout: float | None = None, code: int | None = None, reason: str | None = None
    ) -> None:
        """``server.stop()``, where the arguments are documented."""
        core = self._state.core
        if not isinstance(force, bool):
            got = type(force).__name__
            raise TypeError(f"close_active_connections must be a bool, got {got} (stop(timeout=...) sets a deadline)")
        if timeout is None and code is None and reason is None:
            self._announce(", closing its connections" if force else "")
            core.stop_core(force)
            return
        if force:
            raise TypeError(
                "stop(): close_active_connections=True cannot be given together with timeout, code or reason"
            )
        limit = TIMEOUT if timeout is None else seconds("timeout", timeout)
        code = CODE if code is None else code
        reason = REASON if reason is None else reason
        core.check_close(code, reason)
        self._announce(f", its connections within {limit:g} seconds")
        core.stop_within(limit, code, reason)

    def stop_silently(self) -> None:
        """A forced stop of a server that could not start."""
        self.is_announced = True
        self._state.core.stop_core(True)

    def _announce(self, how: str) -> None:
        """Log the first stop of a server, before its end is logged."""
        state = self._state
        if not self.is_announced and not state.is_forked() and state.listening is not None:
            self.is_announced = True
            _logs.stopping(state.listening.url, how)


class StopBySignals:
    """The action of each SIGINT and SIGTERM, in every run mode. Called once for each, on the main thread.

    The first is a stop with a deadline of ``timeout`` seconds, the second is ``stop(True)``; from the third on
    ``KeyboardInterrupt`` is raised. ``stop`` is the server's. ``notice(count, number)`` is called before each of them,
    ``after(count)`` when the server has been stopped. Within ``merge`` seconds the same signal counts once, for a
    process that may get each twice.
    """

    def __init__(
        self,
        stop: Callable[..., object],
        timeout: float,
        notice: Callable[[int, int], None] | None = None,
        merge: float = 0.0,
        after: Callable[[int], None] | None = None,
    ) -> None:
        self._stop = stop
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
            self._stop(True)
        else:
            self._stop(timeout=self._timeout)
        if self._after is not None:
            self._after(count)
