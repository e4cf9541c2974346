"""``serve``, ``echo`` and ``chat``: a server on this thread until signals stop it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from .. import Request, Response, Server, ServerWebSocket, _logs
from .._run.lifespan import StartupError
from . import child, console, parser, target
from .errors import CommandError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def yours(arguments: argparse.Namespace) -> int:
    """``uwserve serve module:attribute``."""
    from . import reload

    console.set_up(arguments)
    for name, meant in arguments.misspelt:
        _tell(f"{name} in the environment is no option of uwserve serve; did you mean {meant}?")
    if arguments.reload and not child.is_child():
        parser.listen_options(arguments)  # usage errors come at once
        parser.other_options(arguments)
        return reload.supervise(arguments)
    if (arguments.reload_dir or arguments.reload_include) and not arguments.reload:
        raise UsageError("--reload-dir and --reload-include need --reload")
    restarts = child.Restarts() if child.is_child() else None
    os.environ.update({name: text for name, text in arguments.environment.items() if name not in os.environ})
    return run(arguments, f"serve {arguments.target}", target.load(arguments), restarts)


def echo(arguments: argparse.Namespace) -> int:
    """``uwserve echo``."""

    def fetch(request: Request, server: Server) -> Response | None:
        if server.upgrade(request):
            return None
        return Response("uwserve echo: connect with a WebSocket client.\n", 426, {"Upgrade": "websocket"})

    def message(ws: ServerWebSocket, message: str | bytes) -> None:
        ws.send(message)

    console.set_up(arguments)
    options = _demo_options(arguments) | {"fetch": fetch, "websocket": {"message": message}}
    return run(arguments, "echo", target.bind("echo", options))


def chat(arguments: argparse.Namespace) -> int:
    """``uwserve chat``."""
    from ..demo import chat

    console.set_up(arguments)
    options = _demo_options(arguments)
    try:
        server = chat.create(**options)
    except OSError as error:
        raise target.cannot_listen("cannot listen", error, options) from error
    except (ValueError, TypeError, ImportError) as error:
        raise CommandError(f"cannot listen: {error}") from error
    return run(arguments, "chat", server)


def _demo_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Unlike a server of yours, a demonstration is for this machine unless told otherwise."""
    where = parser.listen_options(arguments)
    if not {"unix", "unix_mode", "fd"} & where.keys():
        where = {"port": 3000, "hostname": "127.0.0.1"} | where
    return where | parser.other_options(arguments)


class Signals:
    """Tells what each signal does, and keeps the exit code; ``last`` is when, on the monotonic clock."""

    def __init__(self, server: Server, timeout: float) -> None:
        self.code = 0
        self.last = float("-inf")
        self._server = server
        self._timeout = timeout

    def __call__(self, count: int, number: int) -> None:
        self.last = time.monotonic()
        waiting = self._server.pending_websockets + self._server.pending_requests
        has = "connection has" if waiting == 1 else "connections have"
        if count == 1:
            if waiting:
                _tell(f"stopping; {waiting} open {has} {self._timeout:g} s to end, {_again(number)} cuts")
                self._server._control.stopping.is_announced = True  # the library's own line would say it again
            return
        self.code = 128 + number
        if count == 2:
            _tell("cutting the connections that are left (2 s)")


def _again(number: int) -> str:
    return "Ctrl-C again" if number == signal.SIGINT else "a second signal"


def _tell(text: str, level: int = logging.WARNING) -> None:
    _logs.put(level, "%s", text, about=dict.fromkeys(console.ABOUT))


def run(arguments: argparse.Namespace, shown: str, server: Server, restarts: Any = None) -> int:
    """Until it has stopped; the exit code."""
    if arguments.access_log:
        from .access import AccessLog

        AccessLog(server)
    signals = Signals(server, arguments.stop_timeout)
    if restarts is not None:
        restarts.expect_late_signals(lambda: signals.last)

    def begin() -> None:
        """Called when the loop runs: from then on signals stop the server, as the banner says."""
        if server.stopping:  # in `startup`
            return
        if restarts is None or restarts.is_first:
            console.banner(arguments, shown, server)
        else:
            _tell(f"serving again on {server.url}", logging.INFO)
        if restarts is not None:
            restarts.serving(server)

    try:
        with server:
            server.call_soon(begin)
            server._control.run(arguments.stop_timeout, signals, 0.0 if restarts is None else child.MERGE)
    except StartupError as error:
        raise CommandError(str(error), traceback=True) from error.__cause__
    except KeyboardInterrupt:
        return signals.code or 130
    finally:
        _flush(sys.stdout.flush)
    return signals.code


def _flush(flush: Callable[[], None]) -> None:
    try:
        flush()
    except (BrokenPipeError, ValueError):  # the reader has gone
        pass
