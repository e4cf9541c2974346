"""Exceptions of handlers, passed from the server's thread to the test.

``HandlerErrors`` receives every exception that the library logs (``_logs.watchers``), which no ``error`` handler has
handled. It keeps those of its own server, which are logged on that server's thread. A client that waits for bytes also
polls ``fileno()``, so a handler that raises instead of answering ends the wait at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from .. import _logs

if TYPE_CHECKING:
    from .. import Server

E = TypeVar("E", bound=BaseException)


class ProtocolError(Exception):
    """The server violated RFC 6455; the text names the violation and the section."""


class HandlerErrors:
    """The exceptions of one server's handlers that were not raised in the test yet. Any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._errors: list[BaseException] = []
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        _logs.watchers.append(self._add)

    def close(self) -> None:
        """Stop watching. The exceptions so far stay."""
        with self._changed:
            if self._descriptor >= 0:
                _logs.watchers.remove(self._add)
                os.close(self._descriptor)
                self._descriptor = -1

    def _add(self, exc: BaseException) -> None:
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
        """Return when the handler that just raised has returned and everything it sent is written."""
        for _ in range(2):  # the turn of the loop that ran the first function has ended when the second one runs
            done = threading.Event()
            try:
                self._server.call_soon(done.set)
            except RuntimeError:  # the server has ended
                return
            done.wait(1)

    def all(self) -> list[BaseException]:
        with self._changed:
            return list(self._errors)

    def throw(self) -> None:
        """Raise the first error, if there is one, and forget all of them."""
        with self._changed:
            errors, self._errors = self._errors, []
            self._acknowledge()
        if not errors:
            return
        first = errors[0]
        if not isinstance(first, Exception):  # raised in the test, it would end the whole run
            raise RuntimeError(f"{first!r} in a handler ended the server's thread") from first
        if len(errors) > 1 and sys.version_info >= (3, 11):
            first.add_note(f"handlers raised {len(errors) - 1} more: {', '.join(map(repr, errors[1:]))}")
        raise first

    def expect(self, kind: type[E], match: str | None, timeout: float) -> E:
        """Wait for an error of ``kind`` whose text contains a match of the pattern ``match``, and forget that error."""

        def find() -> E | None:
            matching = (e for e in self._errors if isinstance(e, kind) and re.search(match or "", str(e)))
            return next(matching, None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None, timeout)  # an exception with __len__ may be false
            found = find()
            if found is None:
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
