"""``--reload``: a supervisor that restarts the serving process when a file changes, and keeps what it listens on.

Nothing of the application runs here. One process serves at a time (``child``); after a change it is told to stop, its
WebSockets with 1012 (Service Restart, of RFC 6455's registry), and when it has ended the next one starts with the
listening sockets of the last. A process that does not come up, because of a syntax error for one, is not tried again
before the next change; its clients wait in the kernel's queue meanwhile.

All that happens comes to the main thread as a signal, and it waits for nothing else: SIGINT and SIGTERM from outside,
SIGCHLD when the process has ended, SIGUSR1 from the thread that watches the files.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import child
from .errors import CommandError, UsageError
from .parser import listen_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

_log = logging.getLogger("uwserve.reload")
_SI_KERNEL = 0x80
"""siginfo's si_code of a signal that the kernel sent: the terminal's Ctrl-C, which the child gets, too."""


def supervise(arguments: argparse.Namespace) -> int:
    """Until a signal ends it, or the application ends by itself; the exit code."""
    try:
        watchfiles = importlib.import_module("watchfiles")
    except ImportError as error:
        raise CommandError(f"--reload needs the package watchfiles ({error}): pip install 'uwserve[reload]'") from error
    folders = arguments.reload_dir or [os.getcwd()]
    for folder in folders:
        if not os.path.isdir(folder):
            raise UsageError(f"--reload-dir {folder}: there is no such directory")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, child.SIGNALS)
    supervisor = Supervisor(arguments)
    names = ["*.py", *(arguments.reload_include or ())]

    def watch() -> None:
        default = watchfiles.DefaultFilter()

        def is_wanted(change: Any, path: str) -> bool:
            return default(change, path) and any(fnmatch.fnmatch(os.path.basename(path), name) for name in names)

        changes: Iterable[set[tuple[Any, str]]]
        changes = watchfiles.watch(
            *folders, watch_filter=is_wanted, stop_event=stop, raise_interrupt=False, debounce=400
        )
        try:
            for changed in changes:
                supervisor.changed(sorted(path for _, path in changed))
        except Exception as error:  # a folder has gone, or the kernel's watches are used up
            _log.error("changes are not seen any more, nothing is reloaded: %s: %s", type(error).__name__, error)

    stop = threading.Event()
    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    try:
        return supervisor.run()
    finally:
        stop.set()
        supervisor.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Supervisor:
    """The serving process, and the sockets it listens on. On the main thread, but for ``changed``."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._deadline: float | None = None  # of a process that was told to end
        self._killed = False  # after that deadline: there is only its end to wait for
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._sockets: dict[bytes, list[int]] = {}
        self._paths: set[str] = set()  # of unix sockets that are ours to remove
        self._is_first = True
        self._is_serving = False
        self._lock = threading.Lock()
        self._changes: list[str] = []
        self._main = threading.get_ident()
        given = listen_options(arguments).get("fd")
        self._inherited = [_systemd() if given == "systemd" else given] if given is not None else []

    def changed(self, paths: list[str]) -> None:
        """Files have changed. The watching thread."""
        with self._lock:
            self._changes += paths
        signal.pthread_kill(self._main, signal.SIGUSR1)

    def run(self) -> int:
        self._start()
        stopping = 0
        while True:
            info = self._next_signal()
            if info is None:
                _log.warning("the application does not stop: killed")
                self._killed = True
                self._kill()
            elif info.si_signo in (signal.SIGINT, signal.SIGTERM):
                stopping += 1
                if self._process is None:
                    return 0
                if info.si_code != _SI_KERNEL:
                    self._process.send_signal(info.si_signo)
            elif info.si_signo == signal.SIGCHLD:
                if self._process is None or self._process.poll() is None:
                    continue
                code = self._ended()
                if stopping:
                    return code
                if self._deadline is not None:
                    self._deadline = None
                    self._start()
                elif code in (0, 2):
                    return code
                else:
                    _log.warning("the application has ended with code %d; waiting for a change", code)
            elif not stopping:
                with self._lock:
                    paths, self._changes = sorted(set(self._changes)), []
                if paths:
                    self._restart(paths)

    def _next_signal(self) -> signal.struct_siginfo | None:
        """``None`` when a process that was to end has not."""
        if self._deadline is None or self._killed:
            return signal.sigwaitinfo(child.SIGNALS)
        return signal.sigtimedwait(child.SIGNALS, max(0.0, self._deadline - time.monotonic()))

    def _restart(self, paths: list[str]) -> None:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        _log.info("%s%s changed, restarting", os.path.relpath(paths[0]), more)
        if self._process is None:
            self._start()
            return
        self._take_messages()
        self._deadline = time.monotonic() + child.GRACE + 3
        if self._is_serving and self._control is not None:
            try:
                self._control.send(child.RESTART)
            except OSError:  # it is ending
                pass
        else:
            self._kill()  # it has no clients yet

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for key, descriptors in self._sockets.items():
                socket.send_fds(ours, [child.LISTEN + key], descriptors)
            ours.send(child.FIRST if self._is_first else child.SERVING)
            environment = os.environ | {child.VARIABLE: str(theirs.fileno())}
            command = [sys.executable, "-m", "uwserve", *_arguments(self._inherited)]
            self._process = subprocess.Popen(command, env=environment, pass_fds=(theirs.fileno(), *self._inherited))
        self._control = ours
        self._is_serving = False
        ours.setblocking(False)

    def _take_messages(self) -> None:
        """Listening sockets that it has bound, and that it serves."""
        while self._control is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, child.KEPT)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                return
            if data == child.SERVING:
                self._is_serving = True
                self._is_first = False
            elif data.startswith(child.LISTEN) and descriptors:
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                key = data[len(child.LISTEN) :]
                if key in self._sockets or len(self._sockets) >= child.KEPT:
                    for descriptor in descriptors:
                        os.close(descriptor)
                    continue
                self._sockets[key] = descriptors
                path = json.loads(key)
                if isinstance(path, str) and not path.startswith("\0"):
                    self._paths.add(path)

    def _ended(self) -> int:
        """Its exit code, as a shell has it."""
        assert self._process is not None
        self._take_messages()
        code = self._process.wait()
        self._process = None
        self._killed = False
        if self._control is not None:
            self._control.close()
            self._control = None
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._control is not None:
            self._control.close()
        for descriptors in self._sockets.values():
            for descriptor in descriptors:
                os.close(descriptor)
        for path in self._paths:
            Path(os.fsdecode(path.encode("latin-1"))).unlink(missing_ok=True)


def _arguments(inherited: list[Any]) -> list[str]:
    """The command line again; ``--fd systemd`` by number, as systemd meant another process."""
    given = sys.argv[1:]
    if inherited:
        given = [f"--fd={inherited[0]}" if text == "--fd=systemd" else text for text in given]
        given = [
            str(inherited[0]) if text == "systemd" and given[i - 1] == "--fd" else text for i, text in enumerate(given)
        ]
    return given


def _systemd() -> int:
    from .._options.address import check_fd

    try:
        number = check_fd("--fd", "systemd")
    except ValueError as error:
        raise CommandError(f"cannot listen: {error}") from error
    assert number is not None
    return number
