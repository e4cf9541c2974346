"""The command's output on the terminal: the log, in colour, plain or as JSON, and the banner of a server that runs.

The log goes to stderr, the banner to stdout. Only the logger ``uwserve`` is set up, and with ``--log-json`` the root
logger, too, so that whatever is logged is an object a line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import argparse

    from .. import Server

_COLOURS = {
    logging.DEBUG: "2",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}
ABOUT = ("connection", "remote_address", "method", "path")
"""The attributes of every record of the library's."""


def has_colour(stream: TextIO, no_color: bool) -> bool:
    """``--no-color`` and NO_COLOR (no-color.org) are no; FORCE_COLOR is yes; otherwise the terminal decides."""
    if no_color or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class TextFormatter(logging.Formatter):
    """``12:30:01.123 INFO  Text``; in files with the date."""

    def __init__(self, colour: bool, date: bool) -> None:
        super().__init__()
        self._colour = colour
        self._date = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime(self._date, time.localtime(record.created)) + f".{int(record.msecs):03d}"
        level = f"{record.levelname:<7}"
        text = record.getMessage()
        if self._colour:
            moment = f"\x1b[2m{moment}\x1b[0m"
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
            status = getattr(record, "status", None)
            if isinstance(status, int) and status >= 400:
                text = f"\x1b[{'31' if status >= 500 else '33'}m{text}\x1b[0m"
        lines = [f"{moment} {level} {text}"]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One object: ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``; what it is about; any ``exc_info``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ABOUT:
            told[name] = getattr(record, name, None)
        for name in ("status", "duration_ms", "url"):
            if hasattr(record, name):
                told[name] = getattr(record, name)
        if record.exc_info:
            told["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


class _Console(logging.StreamHandler[Any]):
    """To stderr; what the banner says is not said again."""

    def filter(self, record: logging.LogRecord) -> bool:
        return bool(super().filter(record)) and not str(record.msg).startswith("Listening on ")


def set_up(arguments: argparse.Namespace) -> None:
    """Logging for this process."""
    handler = _Console(sys.stderr)
    library = logging.getLogger("uwserve")
    library.setLevel(arguments.log_level.upper())
    if arguments.log_json:
        handler.setFormatter(JsonFormatter())
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(True)
        return
    handler.setFormatter(TextFormatter(has_colour(sys.stderr, arguments.no_color), not sys.stderr.isatty()))
    library.addHandler(handler)
    library.propagate = False  # the application may set up the root logger


def banner(arguments: argparse.Namespace, shown: str, server: Server) -> None:
    """Where the server is, and what else there is at that address."""
    if arguments.log_json:
        text = "uwserve %s on %s"
        logging.getLogger("uwserve").info(text, shown, server.url, extra={**dict.fromkeys(ABOUT), "url": server.url})
        return
    print(f"uwserve {shown} on {_strong(server.url, arguments)}")
    for name, text in _facts(arguments, server):
        print(f"  {name:<10} {text}")
    sys.stdout.flush()


def _facts(arguments: argparse.Namespace, server: Server) -> list[tuple[str, str]]:
    """Facts about the server that differ from the defaults."""
    options = server._control.options
    base = server.url.rstrip("/") if server.port is not None else ""
    facts: list[tuple[str, str]] = []
    if server.hostname in ("0.0.0.0", "::"):
        facts.append(("listens", f"on all addresses, {server.hostname}"))
    elif len(server.addresses) > 1:
        facts.append(("listens", "on " + " and ".join(address for address, _ in server.addresses)))
    if options["tls"] is not None:
        facts.append(("TLS", "1.2 and 1.3; WebSockets at wss://"))
    if options["dashboard"] is not None:
        facts.append(("dashboard", _strong(base + options["dashboard"].path, arguments)))
    if options["metrics"] is not None:
        facts.append(("metrics", base + options["metrics"]))
    if options["development"]:
        facts.append(("mode", "development: answers show tracebacks"))
    if server._control.has_coroutine_handlers():
        facts.append(("handlers", f"coroutines, on {_event_loop()}"))
    if arguments.reload:
        facts.append(("reload", "when a file changes"))
    if sys.stdout.isatty():
        facts.append(("stop", "Ctrl-C, twice to cut open connections"))
    return facts


def _event_loop() -> str:
    from importlib.util import find_spec

    return "uvloop" if find_spec("uvloop") else "asyncio"


def _strong(text: str, arguments: argparse.Namespace) -> str:
    return f"\x1b[1;36m{text}\x1b[0m" if has_colour(sys.stdout, arguments.no_color) else text
