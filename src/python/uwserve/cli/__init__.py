"""The ``uwserve`` command: a server of yours, two to try, a small measurement, and what this machine is like.

Exit codes: 0 after a stop that was asked for, 1 when serving fails, 2 for wrong usage, and 128 plus the number of the
signal (130 for Ctrl-C, 143 for SIGTERM) when a second one cut the open connections. ``import uwserve`` imports nothing
from here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's arguments); returns the exit code."""
    from .parser import make_parser

    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest:
        (parser.commands.get(arguments.command) or parser).unknown(rest)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        if arguments.command == "serve":
            from . import environment

            environment.apply(parser, arguments, argv)
        code: int = arguments.run(arguments)
    except CommandError as failure:
        return _fail(arguments, failure)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # of `uwserve doctor | head`
        sys.stderr.close()
        return 1
    return code


def _fail(arguments: object, failure: CommandError) -> int:
    """Tell it in one line; with its traceback if it is the application's own, or everything is to be known."""
    code = 2 if isinstance(failure, UsageError) else 1
    cause = failure.__cause__
    level = getattr(arguments, "log_level", None)
    told = cause if cause is not None and (failure.traceback or level == "debug") else None
    if getattr(arguments, "log_json", False):
        import logging

        info = (type(told), told, told.__traceback__) if told is not None else None
        logging.getLogger("uwserve").critical("%s", failure, exc_info=info)
        return code
    if told is not None:
        import traceback

        frames = told.__traceback__
        while failure.traceback and frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(told), told, frames)
    print(f"uwserve: {failure}", file=sys.stderr)
    return code


def _is_ours(filename: str) -> bool:
    return filename.startswith((__file__.rpartition("/")[0], "<frozen ")) or filename.endswith("importlib/__init__.py")
