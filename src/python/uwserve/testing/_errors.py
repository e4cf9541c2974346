"""Exceptions of handlers, on their way from the server's thread to the test.

``HandlerErrors`` gets every exception that the server logs (``_logs.watchers``), which are those that no ``error``
handler took, and keeps those of its own server: they are logged on the thread that runs it. A client that waits for
bytes watches ``fileno()`` beside its socket, so that a handler that raised instead of answering ends the wait at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from .. import _logs

if TYPE_CHECKING:
    from .. import Server

E = TypeVar("E", bound=BaseException)


class ProtocolError(Exception):
    """The server sent what RFC 6455 forbids; the text says what, and in which section that is."""


class HandlerErrors:
    """The exceptions of one server's handlers that the test has not seen yet. Any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._errors: list[BaseException] = []
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        _logs.watchers.append(self._heard)

    def close(self) -> None:
        """Stop watching. The exceptions so far stay."""
        with self._changed:
            if self._descriptor >= 0:
                _logs.watchers.remove(self._heard)
                os.close(self._descriptor)
                self._descriptor = -1

    def _heard(self, exc: BaseException) -> None:
        if threading.current_thread() is not self._server._control.state.thread:
            return
        with self._changed:
            if self._descriptor >= 0:
                self._errors.append(exc)
                self._changed.notify_all()
                os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        """A descriptor that is readable while there are errors; -1 once closed."""
        return self._descriptor

    def settle(self) -> None:
        """Return when the handler that just raised has returned and what it sent is on the wire."""
        for _ in range(2):  # the end of the turn in which a function runs is certain when the next one runs
            done = threading.Event()
            try:
                self._server.call_soon(done.set)
            except RuntimeError:  # the server has ended
                return
            done.wait(1)

    def all(self) -> list[BaseException]:
        """A copy of the list."""
        with self._changed:
            return list(self._errors)

    def throw(self) -> None:
        """Raise the first error, if there is one, and forget them all: the test has been told."""
        with self._changed:
            errors, self._errors = self._errors, []
            self._acknowledge()
        if not errors:
            return
        first = errors[0]
        if not isinstance(first, Exception):  # in the test it would end the whole run
            raise RuntimeError(f"{first!r} in a handler ended the server's thread") from first
        if len(errors) > 1 and sys.version_info >= (3, 11):
            first.add_note(f"handlers raised {len(errors) - 1} more: {', '.join(map(repr, errors[1:]))}")
        raise first

    def expect(self, kind: type[E], match: str | None, timeout: float) -> E:
        """Wait for an error of ``kind`` whose text ``match`` (a pattern) is found in, and forget that one."""

        def find() -> E | None:
            for error in self._errors:
                if isinstance(error, kind) and (match is None or re.search(match, str(error))):
                    return error
            return None

        end = time.monotonic() + timeout
        with self._changed:
            while (found := find()) is None:
                if not self._changed.wait(max(0.0, end - time.monotonic())) and find() is None:
                    wanted = kind.__name__ + (f" matching {match!r}" if match is not None else "")
                    others = f"; they raised {self._errors!r}" if self._errors else ""
                    raise AssertionError(f"no handler raised {wanted} within {timeout:g} s{others}")
            self._errors.remove(found)
            if not self._errors:
                self._acknowledge()
            return found

    def _acknowledge(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)
