"""The command's grammar. What a sub-command does is in the module that its ``run`` names, imported when it runs."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__, _checks
from .._options import own_pages
from .._options.address import unix_mode
from .._options.serve import SERVE
from .._run import stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEVELS = ("debug", "info", "warning", "error", "critical")

_EXIT_CODES = """
exit codes:
  0    stopped as asked: the first Ctrl-C or SIGTERM tells open connections to close (WebSockets get 1001) and waits
       for them, at most --stop-timeout
  1    could not start: the address is in use, a certificate cannot be read, the application does not import, ...
  2    wrong usage
  130  Ctrl-C came twice: open connections were cut; 143 when the second signal was SIGTERM
"""


def _runs(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        code: int = getattr(importlib.import_module(f"uwserve.cli.{module}"), function)(arguments)
        return code

    return run


class Parser(argparse.ArgumentParser):
    """argparse's parser, with suggestions for misspelt options and commands."""

    commands: dict[str, Parser]

    def unknown(self, rest: Sequence[str]) -> NoReturn:
        """Refuse unknown arguments."""
        known = [text for action in self._actions for text in action.option_strings]
        told = []
        for text in rest:
            close = difflib.get_close_matches(text.partition("=")[0], known, 1) if text.startswith("-") else []
            told.append(f"{text} (did you mean {close[0]}?)" if close else text)
        self.error(f"unrecognized arguments: {' '.join(told)}")

    def error(self, message: str) -> NoReturn:
        wrong = re.fullmatch(r"argument command: invalid choice: '(.*?)' .*", message, re.DOTALL)
        if wrong:
            close = difflib.get_close_matches(wrong[1], self.commands, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.commands)}"
            if ":" in wrong[1] or wrong[1].endswith(".py"):
                hint = f"did you mean `uwserve serve {wrong[1]}`?"
            message = f"there is no command {wrong[1]!r}; {hint}"
        super().error(message)


def make_parser() -> Parser:
    parser = Parser(
        prog="uwserve",
        description="A WebSocket server for Python with Bun's API.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"uwserve {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="command", parser_class=Parser)
    parser.commands = commands.choices  # of parser_class

    def add(name: str, short: str, long: str, module: str, function: str, epilog: str = "") -> Parser:
        command: Parser = commands.add_parser(
            name,
            help=short,
            description=textwrap.fill(long, 100),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=_runs(module, function), command=name)
        return command

    _add_serve(add)
    for name, short, long in (
        ("echo", "send every message back", "Send every message back."),
        ("chat", "a chat with rooms, page included", "A chat with rooms: open the printed URL."),
    ):
        command = add(name, short, long, "run", name, _EXIT_CODES)
        _add_serving(command, "127.0.0.1", "3000")
        command.set_defaults(reload=False)
    _add_bench(add)
    doctor = add(
        "doctor",
        "what this installation and this machine can do",
        "Tell the versions, what is built in, what the kernel allows, and what to change for so many connections. "
        "Exit code 1 if something is broken.",
        "doctor",
        "doctor",
    )
    doctor.add_argument(
        "--connections", type=_positive, default=10_000, metavar="N", help="to plan for (default: 10000)"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    completion = add(
        "completion",
        "a script that completes this command in a shell",
        "Print a script that completes this command. For bash it goes into ~/.bash_completion, for zsh into a file "
        "_uwserve in a folder of fpath, for fish into ~/.config/fish/completions/uwserve.fish.",
        "completion",
        "completion",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _add_serve(add: Callable[..., Parser]) -> None:
    yours = add(
        "serve",
        "run a server of yours",
        "Run MODULE:ATTRIBUTE, found from the current directory. The attribute is a Server that uwserve.serve() "
        "returned, a dict of its options, or a function without arguments that returns either. Options given here "
        "replace those of a dict. A Server is already bound, so the options of its address cannot be replaced. "
        "Each option may also be an environment variable, UWSERVE_PORT for --port. An option overrides its variable, "
        "and the variable overrides the application's code. PORT and HOST apply if the code gives no port or host.",
        "run",
        "yours",
        _EXIT_CODES,
    )
    yours.add_argument("target", metavar="module:attribute")
    _add_serving(yours, "the application's, else HOST, else 0.0.0.0", "the application's, else PORT, else 3000")
    _add_server_options(yours)
    yours.add_argument(
        "--env-file",
        action="append",
        metavar="FILE",
        help="NAME=value lines for the environment; variables that are set keep their values; repeatable",
    )
    group = yours.add_argument_group("development")
    group.add_argument(
        "--reload",
        action="store_true",
        help="restart when a file changes; the listening socket stays open, WebSockets are closed with 1012. "
        "Needs the extra uwserve[reload]",
    )
    group.add_argument(
        "--reload-dir", action="append", metavar="DIR", help="watch this instead of the current directory; repeatable"
    )
    group.add_argument(
        "--reload-include", action="append", metavar="GLOB", help="also names like this, beside *.py; repeatable"
    )


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    """A flag for every option of serve() with a text for it, by the type of its default."""
    group = parser.add_argument_group("options of serve(), see its documentation (default: the application's)")
    for name, option in SERVE.items():
        told, default = option.help, option.default
        if told is None:
            continue
        flag = "--" + name.replace("_", "-")
        more: dict[str, Any] = {"dest": name, "default": None, "help": told}
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **more)
        elif isinstance(default, (int, float)):
            more["help"] = f"{told} (else {default})"
            group.add_argument(flag, type=_number, metavar="NUMBER", **more)
        elif isinstance(default, str):
            more["help"] = f"{told} (else {default})" if default else told
            group.add_argument(flag, metavar="TEXT", **more)
        elif isinstance(default, tuple):
            more["help"] = f"{told}; repeatable"
            group.add_argument(flag, action="append", metavar="TEXT", **more)
        elif isinstance(default, dict):
            more["help"] = f"{told}; repeatable"
            group.add_argument(flag, action="append", metavar="NAME=NUMBER", type=_pair, **more)


def _add_serving(parser: argparse.ArgumentParser, host: str, port: str) -> None:
    group = parser.add_argument_group("where to listen")
    group.add_argument("--host", help=f"an address or name (default: {host})")
    group.add_argument("--port", type=_port, help=f"the TCP port, 0 for any free one (default: {port})")
    group.add_argument("--unix", metavar="PATH", help="a unix socket instead")
    group.add_argument(
        "--unix-mode", type=_mode, metavar="MODE", help="its permission bits, octal: 660 (default: the umask's)"
    )
    group.add_argument(
        "--fd", metavar="NUMBER|systemd", help="an inherited socket instead: a descriptor, or systemd's first"
    )
    group = parser.add_argument_group("TLS")
    group.add_argument("--tls-cert", metavar="FILE", help="the certificate chain, PEM")
    group.add_argument("--tls-key", metavar="FILE", help="its private key, PEM (default: in the same file)")
    group = parser.add_argument_group("what is to be known")
    group.add_argument(
        "--metrics",
        nargs="?",
        const="/metrics",
        type=_path,
        metavar="PATH",
        help="metrics for Prometheus (at /metrics)",
    )
    group.add_argument(
        "--dashboard",
        nargs="?",
        const=True,
        type=_path,
        metavar="PATH",
        help=f"a live view of the server, for this machine only (at {own_pages.PATH})",
    )
    group.add_argument(
        "--dashboard-allow", action="append", metavar="NETWORK", help="who else may see it, 10.0.0.0/8; repeatable"
    )
    group.add_argument(
        "--log-level",
        choices=LEVELS,
        default="info",
        metavar="LEVEL",
        help=f"the least that is logged: {', '.join(LEVELS)} (default: info)",
    )
    group.add_argument("--log-json", action="store_true", help="log JSON, an object a line, and print nothing else")
    group.add_argument(
        "--access-log",
        action="store_true",
        help="log each request with its status and duration; costs some µs each",
    )
    group.add_argument(
        "--no-color",
        action="store_true",
        help="plain text on a terminal, too (also: NO_COLOR; FORCE_COLOR for the opposite)",
    )
    parser.add_argument(
        "--stop-timeout",
        type=_seconds,
        default=stopping.TIMEOUT,
        metavar="SECONDS",
        help=f"how long a stop waits for open connections (default: {stopping.TIMEOUT:g})",
    )


def _add_bench(add: Callable[..., Parser]) -> None:
    bench = add(
        "bench",
        "a small load against a URL, or an echo server of its own",
        "Send messages to an echo server and wait for each to come back, on several connections. The client is Python "
        "and takes more time than the server: the figures are good for comparing settings on one machine, not for "
        "telling how fast the server is. For that, see benchmarks/ in the source distribution.",
        "bench",
        "bench",
    )
    bench.add_argument("url", nargs="?", help="ws://host:port/path of an echo server (default: one in another process)")
    bench.add_argument("--connections", type=_positive, default=32, metavar="N", help="how many (default: 32)")
    bench.add_argument(
        "--size", type=_size, default=64, metavar="BYTES", help="of a message, 1 to 1048576 (default: 64)"
    )
    bench.add_argument("--seconds", type=_duration, default=5.0, metavar="SECONDS", help="at most 600 (default: 5)")
    bench.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _pair(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")
    return name, _number(value)


def _in(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        number = _number(text)
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{number} is not in {low}..{high}")
        return number

    return check


_port = _in(0, 65535)
_positive = _in(1, 10_000_000)
_size = _in(1, 1 << 20)


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path, which begins with / (module:attribute goes first)")
    return text


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an octal number, such as 660") from None
    try:
        return unix_mode("the mode", mode)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        return _checks.seconds("the timeout", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, at least 0") from None


def _duration(text: str) -> float:
    seconds = _seconds(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not over 0 and at most 600 seconds")
    return seconds


def listen_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those of ``serve()`` that say where to listen, as far as they were given. ``UsageError`` for two answers."""
    from .errors import UsageError

    if arguments.fd is not None:
        if any(value is not None for value in (arguments.port, arguments.host, arguments.unix, arguments.unix_mode)):
            raise UsageError("--fd cannot be given together with --port, --host, --unix or --unix-mode")
        return {"fd": int(arguments.fd) if arguments.fd.isdecimal() else arguments.fd}
    if arguments.unix is not None:
        if arguments.port is not None or arguments.host is not None:
            raise UsageError("--unix cannot be given together with --port or --host")
        if not arguments.unix:
            raise UsageError("--unix needs a path")
        return {"unix": arguments.unix} | _mode_of(arguments)
    if arguments.host == "":
        raise UsageError("--host needs an address or a host name")
    given = {"port": arguments.port, "hostname": arguments.host}
    given = {name: value for name, value in given.items() if value is not None}
    if given and arguments.unix_mode is not None:
        raise UsageError("--unix-mode cannot be given together with --port or --host")
    return given | _mode_of(arguments)


def _mode_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {} if arguments.unix_mode is None else {"unix_mode": arguments.unix_mode}


def other_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The other options of ``serve()``, as far as they were given."""
    from .errors import UsageError

    options: dict[str, Any] = {}
    if arguments.tls_key is not None and arguments.tls_cert is None:
        raise UsageError("--tls-key needs --tls-cert")
    if arguments.tls_cert is not None:
        for option, path in (("--tls-cert", arguments.tls_cert), ("--tls-key", arguments.tls_key)):
            if path == "":
                raise UsageError(f"{option} needs a file")
        options["tls"] = {"cert": arguments.tls_cert, "key": arguments.tls_key or arguments.tls_cert}
    if arguments.metrics is not None:
        options["metrics"] = arguments.metrics
    if arguments.dashboard_allow and arguments.dashboard is None:
        raise UsageError("--dashboard-allow needs --dashboard")
    if arguments.dashboard is not None:
        options["dashboard"] = {} if arguments.dashboard is True else {"path": arguments.dashboard}
        if arguments.dashboard_allow:
            options["dashboard"]["allow"] = [*own_pages.LOCAL, *arguments.dashboard_allow]
    for name, row in SERVE.items():
        value = getattr(arguments, name, None) if row.help is not None else None
        if value is not None:
            options[name] = dict(value) if isinstance(row.default, dict) else value
            try:
                row.check(name, options[name])
            except (TypeError, ValueError) as error:
                raise UsageError(f"--{name.replace('_', '-')}: {error}") from None
    return options
