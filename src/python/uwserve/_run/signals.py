"""Signals while a server runs on the main thread, and their handlers in a forked child.

``Signals`` serves ``run()``: SIGINT and SIGTERM, and a wake-up descriptor of its own. ``StopOnSigterm`` serves a server
inside an event loop: SIGTERM only, and the loop's own wake-up descriptor. The main thread installs and removes them.
Imported when a server needs it, as ``signal`` is slow to import.

A forked child inherits handlers and the wake-up descriptor, which is the parent's: a signal sent to the child would
wake, or even stop, the parent, and the child would live on. So everything that is installed is in ``_installed``, and a
child begins with what was there before, by hooks of ``os.register_at_fork``. SIGINT and SIGTERM are blocked from just
before the fork until then: a signal that is sent to the child at once waits for its right handler. (A child that is
made by ``posix_spawn``, or by ``subprocess`` without ``preexec_fn``, runs no hooks and no handlers: exec resets them.)
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from weakref import WeakKeyDictionary, WeakSet, ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


def current_wakeup_fd() -> int:
    """The descriptor that Python writes signals to, -1 for none. Main thread."""
    number = signal.set_wakeup_fd(-1)
    if number >= 0:
        _set_wakeup_fd(number)
    return number


def _set_wakeup_fd(number: int) -> None:
    """Back to ``number``, or to none when that has been closed meanwhile."""
    try:
        signal.set_wakeup_fd(number, warn_on_full_buffer=False)
    except (OSError, ValueError):
        signal.set_wakeup_fd(-1)


class Signals:
    """SIGINT and SIGTERM for the time of a ``run()`` on the main thread: ``handle(number)`` is called for each.

    An exception in it is raised inside the handler that runs at that moment. Python runs signal handlers between
    bytecodes, so a signal must wake the loop, by the wake-up descriptor (``signal.set_wakeup_fd``). On exit everything
    is restored.
    """

    def __init__(self, handle: Callable[[int], None]) -> None:
        self._handle = handle
        self._previous: list[tuple[int, Any]] = []
        self._previous_fd = -1
        self._wakeup_fds: set[int] = set()  # that of this run, and that of the event loop made for it

    def __enter__(self) -> int:
        """Install; returns the descriptor to watch."""
        import socket

        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        _installed.append(self)
        self._wakeup_fds.add(self._writer.fileno())
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous.append((number, signal.getsignal(number)))
            signal.signal(number, self.on_signal)
        return self._reader.fileno()

    def __exit__(self, *_: object) -> None:
        if self not in _installed:  # in a forked child, where forget() has run
            return
        _installed.remove(self)
        for number, handler in reversed(self._previous):
            signal.signal(number, _given(handler))
        _set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler that is installed."""
        self._handle(number)

    def note_wakeup_fd(self) -> None:
        """The event loop of this run has set its wake-up descriptor: remember it, for a forked child."""
        self._wakeup_fds.add(current_wakeup_fd())

    def rearm(self) -> None:
        """Restore what ``asyncio.run()`` in a handler has removed: a loop that had handlers resets them at its end.

        A handler that a program has set meanwhile stays.
        """
        if "asyncio" not in sys.modules or self not in _installed:
            return
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is default:
                signal.signal(number, self.on_signal)
        if current_wakeup_fd() < 0:
            signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def forget(self) -> None:
        """In a forked child: everything as it was before, but for what the program has set since."""
        for number, handler in reversed(self._previous):
            if signal.getsignal(number) == self.on_signal:
                signal.signal(number, _given(handler))
        if current_wakeup_fd() in self._wakeup_fds:
            _set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()


def _given(handler: Any) -> Any:
    """The value of ``getsignal``, for ``signal``. A handler not installed from Python (None) becomes the default."""
    return signal.SIG_DFL if handler is None else handler


class _OnSigterm:
    """The handler of SIGTERM of one event loop, which stops all servers in ``stops``.

    It runs between two bytecodes of the main thread, so the stop itself is left to the loop, if there still is one. The
    loop's own handler only wakes it: Python's handler shows whether the program has replaced ours meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self.stops: WeakSet[StopOnSigterm] = WeakSet()
        loop.add_signal_handler(signal.SIGTERM, _wake)
        self._wakeup_fd = current_wakeup_fd()  # the loop's
        signal.signal(signal.SIGTERM, self.on_signal)
        signal.siginterrupt(signal.SIGTERM, False)  # as in asyncio

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        loop = self._loop()
        if loop is not None and self.stops:
            try:
                loop.call_soon_threadsafe(self._stop_all)
                return
            except RuntimeError:  # it is closed
                pass
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # there is no server left to stop
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop_all(self) -> None:
        for one in tuple(self.stops):
            one.stop()

    def give_back(self) -> None:
        """SIGTERM has its default disposition again, unless the program has installed a handler meanwhile."""
        if signal.getsignal(signal.SIGTERM) != self.on_signal:
            return
        loop = self._loop()
        if loop is not None:
            loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # for uvloop, whose closed loops do not reset it

    def forget(self) -> None:
        """In a forked child, which leaves the parent's loop alone."""
        if signal.getsignal(signal.SIGTERM) == self.on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._wakeup_fd >= 0 and current_wakeup_fd() == self._wakeup_fd:
            signal.set_wakeup_fd(-1)


def _wake() -> None:
    """The event loop calls this for SIGTERM: it is awake, so Python's handler has run."""


_on_sigterm: WeakKeyDictionary[asyncio.AbstractEventLoop, _OnSigterm] = WeakKeyDictionary()
"""By event loop, weakly: a loop that is never closed keeps no server alive."""


class StopOnSigterm:
    """SIGTERM stops the server, while it runs inside an event loop on the main thread, with all others of its loop.

    Only if the signal has its default disposition: an existing handler stays in place.
    """

    __slots__ = ("__weakref__", "_loop", "_shared", "stop")

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        self._loop = loop
        self._shared: _OnSigterm | None = None
        self.stop = stop

    def __enter__(self) -> None:
        loop = self._loop
        if threading.current_thread() is not threading.main_thread():
            return
        shared = _on_sigterm.get(loop)
        if shared is None:
            forget_closed_loops()
            if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                return
            shared = _on_sigterm[loop] = _OnSigterm(loop)
        shared.stops.add(self)
        self._shared = shared

    def __exit__(self, *_: object) -> None:
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.stops.discard(self)
        if not shared.stops and threading.current_thread() is threading.main_thread():
            _on_sigterm.pop(self._loop, None)  # absent after the event loop was collected, and in a child
            shared.give_back()


def forget_closed_loops() -> None:
    """Drop the SIGTERM handling of event loops that were closed while their servers still ran."""
    if threading.current_thread() is not threading.main_thread():
        return  # the garbage collector may run this on any thread; the next server tries again
    for loop in tuple(_on_sigterm):
        if loop.is_closed():
            _on_sigterm.pop(loop).give_back()


# --- forks ---

_installed: list[Signals] = []
"""The innermost last: a handler may run another server."""
_masks = threading.local()


def _before_fork() -> None:
    if _installed or _on_sigterm:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


def _after_fork() -> None:
    before = getattr(_masks, "before", None)
    if before is not None:
        _masks.before = None
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_child() -> None:
    """The thread that forked is the child's main thread."""
    try:
        for one in reversed(_installed):
            one.forget()
        _installed.clear()
        for shared in tuple(_on_sigterm.values()):
            shared.forget()
        _on_sigterm.clear()
    finally:
        _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
