"""The end of the interpreter stops the servers that still run; a forked child abandons those of its parent."""

from __future__ import annotations

import os
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Running(Protocol):
        """A server that runs, as far as its end is concerned."""

        def stop(self, force: bool = False, *, timeout: float | None = None) -> object: ...
        def join(self, timeout: float | None) -> None: ...
        def drain(self) -> None: ...
        def abandon_in_child(self) -> None: ...


EXIT_TIMEOUT = 5.0
"""Seconds that the interpreter's exit waits for a server's thread."""

_running: set[ref[Running]] = set()
"""Weak references: a server that runs is referred to by its thread or event loop, and when an event loop was closed
without stopping it, this set must not keep it alive."""
_registered = False


def keep_until_exit(server: Running) -> None:
    """Note that ``server`` runs: the interpreter's exit will stop it."""
    global _registered
    if not _registered:
        import atexit

        _registered = True
        atexit.register(_stop_all)
        os.register_at_fork(after_in_child=_begin_child)
    _running.add(ref(server, _running.discard))


def release(server: Running) -> None:
    """``server`` does not run any more."""
    _running.discard(ref(server))


def _alive() -> list[Running]:
    return [server for one in tuple(_running) if (server := one()) is not None]


def _begin_child() -> None:
    servers = _alive()
    _running.clear()
    for server in servers:
        server.abandon_in_child()


def _stop_all() -> None:
    servers = _alive()
    for server in servers:
        server.stop(True)
    for server in servers:
        server.join(EXIT_TIMEOUT)
    for server in servers:
        server.drain()  # when its event loop has ended before the server
