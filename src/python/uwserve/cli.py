"""The ``uwserve`` command: two servers to try, and one to run yours.

Exit codes: 0 after a stop by signal, 1 when serving fails, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from . import Request, Response, Server, ServerWebSocket, __version__, _stopping, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class CommandError(Exception):
    """Something went wrong that is told in one line."""


class UsageError(CommandError):
    """A wrong argument that argparse cannot see."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's arguments); returns the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        server = arguments.make(arguments)
    except CommandError as failure:
        print(f"uwserve: {failure}", file=sys.stderr)
        return 2 if isinstance(failure, UsageError) else 1
    try:
        with server:
            # Once the loop runs, so that who reads this line can rely on the signals.
            server.call_soon(_say, f"uwserve {arguments.shown} on {server.url}")
            server._run(arguments.stop_timeout, lambda: _say_how_to_hurry(server, arguments.stop_timeout))
    except KeyboardInterrupt:
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command's grammar."""
    parser = argparse.ArgumentParser(
        prog="uwserve",
        description="A WebSocket server for Python with Bun's API. Ctrl-C (or SIGTERM) tells open connections to close "
        "and waits for them; a second one cuts them.",
    )
    parser.add_argument("--version", action="version", version=f"uwserve {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    echo = commands.add_parser("echo", help="send every message back", description="Send every message back.")
    _add_address(echo)
    echo.set_defaults(make=make_echo, shown="echo")

    chat = commands.add_parser(
        "chat", help="a chat with rooms, page included", description="A chat with rooms: open the printed URL."
    )
    _add_address(chat)
    chat.set_defaults(make=make_chat, shown="chat")

    yours = commands.add_parser(
        "serve",
        help="run a server of yours",
        description="Run MODULE:ATTRIBUTE, found from the current directory. The attribute is a Server that "
        "uwserve.serve() returned, a dict of its options, or a function without arguments that returns either.",
    )
    yours.add_argument("target", metavar="module:attribute")
    yours.set_defaults(make=make_yours, shown="serve")
    for command in (echo, chat, yours):
        command.add_argument(
            "--stop-timeout",
            type=_seconds,
            default=_stopping.TIMEOUT,
            metavar="SECONDS",
            help=f"how long a stop waits for open connections (default: {_stopping.TIMEOUT:g})",
        )
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, help="the TCP port, 0 for any free one (default: 3000)")
    parser.add_argument("--host", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--unix", metavar="PATH", help="listen on a unix socket instead")
    parser.add_argument(
        "--fd",
        metavar="NUMBER|systemd",
        help="listen on an inherited socket instead: a descriptor, or systemd's first",
    )


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not in 0..65535")
    return port


def _seconds(text: str) -> float:
    try:
        return _stopping.check_timeout("the timeout", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, at least 0") from None


def _listen_options(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.fd is not None:
        if any(value is not None for value in (arguments.port, arguments.host, arguments.unix)):
            raise UsageError("--fd cannot be given together with --port, --host or --unix")
        return {"fd": int(arguments.fd) if arguments.fd.isdecimal() else arguments.fd}
    if arguments.unix is not None:
        if arguments.port is not None or arguments.host is not None:
            raise UsageError("--unix cannot be given together with --port or --host")
        if not arguments.unix:
            raise UsageError("--unix needs a path")
        return {"unix": arguments.unix}
    if arguments.host == "":
        raise UsageError("--host needs an address or a host name")
    return {
        "port": 3000 if arguments.port is None else arguments.port,
        "hostname": arguments.host or "127.0.0.1",
    }


def _bind(make: Callable[..., Server], arguments: argparse.Namespace, **options: Any) -> Server:
    listen = _listen_options(arguments)
    try:
        return make(**options, **listen)
    except OSError as error:
        raise CommandError(f"cannot listen: {error}") from error
    except ValueError as error:  # of --fd: the rest was checked
        raise CommandError(f"cannot listen: {error}") from error


def make_echo(arguments: argparse.Namespace) -> Server:
    """``uwserve echo``."""

    def fetch(request: Request, server: Server) -> Response | None:
        if server.upgrade(request):
            return None
        return Response("uwserve echo: connect with a WebSocket client.\n", 426, {"Upgrade": "websocket"})

    def message(ws: ServerWebSocket, message: str | bytes) -> None:
        ws.send(message)

    return _bind(serve, arguments, fetch=fetch, websocket={"message": message})


def make_chat(arguments: argparse.Namespace) -> Server:
    """``uwserve chat``."""
    from .demo import chat

    return _bind(chat.create, arguments)


def make_yours(arguments: argparse.Namespace) -> Server:
    """``uwserve serve module:attribute``."""
    module_name, colon, attribute = arguments.target.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{arguments.target!r} is not of the form module:attribute")
    try:
        value = _find(module_name, attribute)
        if callable(value):
            value = value()
        if isinstance(value, dict):
            value = _serve_dict(arguments.target, value)
    except OSError as error:  # most often the address is in use
        raise CommandError(f"{arguments.target}: {error}") from error
    if not isinstance(value, Server):
        raise CommandError(
            f"{arguments.target} must be a Server, a dict of options or a function that returns one, "
            f"got {type(value).__name__}"
        )
    if value.running or value.finished:
        raise CommandError(f"{arguments.target}: the server is {'stopped' if value.finished else 'running'} already")
    arguments.shown = f"serve {arguments.target}"
    return value


def _serve_dict(target: str, options: dict[str, Any]) -> Server:
    try:
        return serve(options)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{target}: {error}") from error


def _find(module_name: str, attribute: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # a module that it imports is missing: the traceback tells where
        raise CommandError(
            f"there is no module {error.name!r} (looked in {os.getcwd()} and the installed ones)"
        ) from None
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise CommandError(f"module {module_name!r} has no attribute {attribute!r}") from None
    return value


def _say(text: str) -> None:
    print(text, flush=True)


def _say_how_to_hurry(server: Server, timeout: float) -> None:
    waiting = server.pending_websockets + server.pending_requests
    if waiting:
        has = "connection has" if waiting == 1 else "connections have"
        print(f"uwserve: stopping; {waiting} open {has} {timeout:g} s to end, Ctrl-C again cuts", file=sys.stderr)
