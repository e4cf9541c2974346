"""The side of ``--reload`` that serves: a process that the supervisor (``reload``) starts anew after each change.

They talk over a pair of sockets, whose number is in the environment. The supervisor sends the listening sockets that
earlier processes have bound, by what they were asked to listen on; this process sends those it binds itself, and takes
the others instead of binding: the kernel's queue of each lives on in the supervisor, and no client is refused while
the application restarts. When the supervisor says so, or is gone, the server stops.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

from .. import _core
from .._run import listening
from .._run import signals as signals  # its hook of forks comes before the one here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .. import Server

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)
VARIABLE = "UWSERVE_RELOAD_FD"
RESTART, FIRST, SERVING, LISTEN = b"restart", b"first", b"serving", b"listen "
CODE, REASON = 1012, "Service Restart"
GRACE = 3.0
"""Seconds that connections have to end in a restart; requests under way, too."""
MERGE = 0.3
"""Seconds in which the same signal counts once: one to the whole process group comes from its sender, and from the
supervisor, which cannot know that it did."""
KEPT = 64
"""Listening sockets of one application at most."""


def is_child() -> bool:
    return VARIABLE in os.environ


class Restarts:
    """The connection to the supervisor. Made before the application is imported, as it may bind servers then."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # which the supervisor waits for
        self._supervisor = socket.socket(fileno=int(os.environ.pop(VARIABLE)))
        self._supervisor.set_inheritable(False)
        self._sockets: dict[str, list[int]] = {}
        self.is_first = False
        self._late: Callable[[int, Any], None] | None = None  # the handler of signals that come late
        while True:  # LISTEN with descriptors, for each; then whether a banner is wanted
            data, descriptors, _, _ = socket.recv_fds(self._supervisor, 1 << 16, KEPT)
            if not data.startswith(LISTEN):
                self.is_first = data == FIRST
                break
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._sockets[data[len(LISTEN) :].decode()] = descriptors
        listening.supply = self.supply
        os.register_at_fork(after_in_child=self._begin_child)
        atexit.register(_ignore_signals)  # before the application's: it is called last
        self._server: Server | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._listen_to_supervisor, name="uwserve reload", daemon=True).start()

    def _begin_child(self) -> None:
        """In a process that the application forks: nothing of the supervisor's, and signals as in any other."""
        listening.supply = None
        atexit.unregister(_ignore_signals)
        self._supervisor.close()
        for descriptors in self._sockets.values():
            for descriptor in descriptors:
                os.close(descriptor)
        self._sockets.clear()
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if self._late is not None and signal.getsignal(number) is self._late:
                signal.signal(number, default)

    def supply(self, options: Mapping[str, Any]) -> list[int]:
        """Listening sockets for these options: an earlier process's, or new ones, which the supervisor gets, too."""
        where = [options[name] for name in ("hostname", "port", "reuse_port", "ipv6_only")]
        unix: bytes | None = options["unix"]
        key = json.dumps(where if unix is None else unix.decode("latin-1"))
        kept = self._sockets.get(key)
        if kept is not None:
            return [os.dup(descriptor) for descriptor in kept]
        try:
            made = _bind_tcp(options) if unix is None else [_bind_unix(unix, options["unix_mode"])]
        except OSError as error:
            raise error if unix is None else listening.with_address(error, options) from None
        socket.send_fds(self._supervisor, [LISTEN + key.encode()], [each.fileno() for each in made])
        return [each.detach() for each in made]

    def serving(self, server: Server) -> None:
        """The server's loop runs: from now on a restart stops it gently."""
        with self._lock:
            self._server = server
        self._supervisor.send(SERVING)

    def expect_late_signals(self, last: Callable[[], float]) -> None:
        """From now on the supervisor's copy of the ``last`` signal says nothing new to a server that has ended."""

        def handle(number: int, frame: object) -> None:
            if time.monotonic() - last() >= MERGE:
                raise SystemExit(128 + number)

        self._late = handle
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handle)

    def _listen_to_supervisor(self) -> None:
        while True:
            try:
                data = self._supervisor.recv(64)
            except OSError:
                data = b""
            with self._lock:
                server = self._server
            if server is None:  # still importing, and no longer needed
                os._exit(0)
            if not data:
                break
            server.stop(timeout=GRACE, code=CODE, reason=REASON)
        # The supervisor has ended, and with it the need for this process.
        if not server.stop(timeout=GRACE).wait(GRACE + 2):
            os._exit(1)


def _ignore_signals() -> None:
    """The interpreter's own end is short, and its handlers are gone then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _bind_unix(path: bytes, mode: int | None) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.startswith(b"\0") and _is_left_over(path):
            os.unlink(path)
        made.bind(path)
        if mode is not None:
            os.chmod(path, mode)  # no client can connect before listen()
        made.listen(socket.SOMAXCONN)
    except BaseException:
        made.close()
        raise
    return made


def _is_left_over(path: bytes) -> bool:
    """Whether it is a socket on which no process listens any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _bind_tcp(options: Mapping[str, Any]) -> list[socket.socket]:
    """Bound by a core, and so by its rules (all addresses of a name, one port); what it listens on is copied."""
    core = _core.ServerControl(_core.ServerCore())
    no_hook: Any = None
    core.set_hooks(no_hook, no_hook, no_hook, no_hook, no_hook)  # it never runs
    listening.bind(core, options)
    copies = [socket.socket(fileno=os.dup(descriptor)) for descriptor in core.listening_descriptors()]
    core.stop_core(True)
    return copies
