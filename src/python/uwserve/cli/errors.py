"""What ends the command."""

from __future__ import annotations


class CommandError(Exception):
    """Something went wrong that is told in one line; ``traceback``: and where, as it is the application's."""

    def __init__(self, text: str, *, traceback: bool = False) -> None:
        super().__init__(text)
        self.traceback = traceback


class UsageError(CommandError):
    """A wrong argument that argparse cannot see."""
