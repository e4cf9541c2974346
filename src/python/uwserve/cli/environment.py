"""``UWSERVE_*``, ``PORT`` and ``HOST``: options of ``uwserve serve`` from the environment, and from ``--env-file``.

The order of precedence: an option of the command line, its ``UWSERVE_`` variable, the application's own code, ``PORT``
and ``HOST``, the default. ``PORT`` and ``HOST`` come from a platform, or from a shell, which does not know the
application: they apply only if its code gives none, as ``PORT`` does in Bun.

Only the command reads the environment; ``uwserve.serve()`` never does.
"""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import child
from .errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .parser import Parser

PREFIX = "UWSERVE_"
ELSEWHERE = {
    "fd": ("unix", "unix_mode", "port", "host"),
    "unix": ("fd", "port", "host"),
    "port": ("fd", "unix", "unix_mode"),
    "host": ("fd", "unix", "unix_mode"),
}
"""Options that say where to listen, and the variables that mean another kind of place: the option wins over these."""
TRUE, FALSE = frozenset(("1", "true", "yes", "on")), frozenset(("0", "false", "no", "off"))
OF_THE_COMMAND_LINE = frozenset(("help", "env_file"))
"""Options without a variable, which would be read too late."""


def variable(action: argparse.Action) -> str | None:
    """The variable of an option: ``UWSERVE_STOP_TIMEOUT`` of ``--stop-timeout``."""
    if not action.option_strings or action.dest in OF_THE_COMMAND_LINE:
        return None
    return PREFIX + action.option_strings[-1 if action.nargs != 0 else 0].lstrip("-").replace("-", "_").upper()


def apply(parser: Parser, arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Complete ``arguments`` of ``uwserve serve`` by the environment."""
    file = read_files(arguments.env_file or ())
    environment = file | os.environ
    arguments.environment = file
    given = _on_the_command_line(parser, argv)
    found: dict[str, Any] = {}
    names = set()
    for action in parser.commands["serve"]._actions:
        name = variable(action)
        if name is None:
            continue
        names.add(name)
        text = environment.get(name, "")
        if text and action.dest not in given and action.dest not in found:
            found[action.dest] = _value(name, action, text)
    elsewhere = {name for place, names in ELSEWHERE.items() if place in given for name in names}
    for dest, value in found.items():
        if dest not in elsewhere:
            setattr(arguments, dest, value)
    arguments.misspelt = [
        (name, close[0])
        for name in sorted(environment)
        if name.startswith(PREFIX)
        and name not in (*names, child.VARIABLE)
        and (close := difflib.get_close_matches(name, names, 1, 0.85))
    ]


def open_places(environment: Mapping[str, str]) -> dict[str, Any]:
    """What ``PORT`` and ``HOST`` say, under the names of ``serve()``; for an application that says nothing itself."""
    places: dict[str, Any] = {}
    port, host = environment.get("PORT", ""), environment.get("HOST", "")
    if port:
        if not (port.isascii() and port.isdigit() and int(port[:20]) <= 65535):
            raise UsageError(f"PORT={port!r} in the environment is not a port, 0 to 65535")
        places["port"] = int(port)
    if host:
        places["hostname"] = host
    return places


def _on_the_command_line(parser: Parser, argv: Sequence[str] | None) -> dict[str, Any]:
    """The options that were given, without defaults."""
    command = parser.commands["serve"]
    kept = [(action, action.default) for action in command._actions]
    try:
        for action in command._actions:
            action.default = argparse.SUPPRESS
        return vars(parser.parse_known_args(argv)[0])
    finally:
        for action, default in kept:
            action.default = default


def _value(name: str, action: argparse.Action, text: str) -> Any:
    """What ``text`` means to the option."""
    flag = action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction)
    lower = text.lower()
    if flag or action.nargs == "?":
        if lower in TRUE:
            return True if flag else action.const
        if lower in FALSE:
            return False if flag else None
        if flag:
            raise UsageError(f"{name}={text!r} in the environment is neither true (1, yes, on) nor false (0, no, off)")
    if isinstance(action, argparse._AppendAction):
        return [_converted(name, action, part.strip()) for part in text.split(",") if part.strip()]
    return _converted(name, action, text)


def _converted(name: str, action: argparse.Action, text: str) -> Any:
    value: Any = text
    if callable(action.type):
        try:
            value = action.type(text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{name} in the environment: {error}") from None
    if action.choices is not None and value not in action.choices:
        raise UsageError(f"{name}={text!r} in the environment is not one of {', '.join(map(str, action.choices))}")
    return value


# --- files ---


def read_files(paths: Sequence[str]) -> dict[str, str]:
    """The variables of all files; a later file wins."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--env-file {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
        found.update(_variables(path, text))
    return found


def _variables(path: str, text: str) -> Iterator[tuple[str, str]]:
    r"""``NAME=value`` lines. Quotes around a value are taken off; in double ones ``\n``, ``\"`` and ``\\`` are read."""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            raise CommandError(f"--env-file {path}, line {number}: {line!r} is not NAME=value")
        mark = value[:1]
        if mark in ("'", '"'):
            end = _closing(value, mark)
            rest = value[end + 1 :].strip() if end > 0 else "?"
            if rest and not rest.startswith("#"):
                raise CommandError(f"--env-file {path}, line {number}: the quote of {name} does not close at its end")
            value = value[1:end]
            if mark == '"':
                value = _unescaped(value)
        else:
            value = value.partition(" #")[0].rstrip()
        yield name, value


def _closing(value: str, mark: str) -> int:
    """Where the quote that begins ``value`` ends; -1 if it does not."""
    index = 1
    while index < len(value):
        if value[index] == "\\" and mark == '"':
            index += 1
        elif value[index] == mark:
            return index
        index += 1
    return -1


def _unescaped(value: str) -> str:
    parts = value.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace('\\"', '"') for part in parts)
