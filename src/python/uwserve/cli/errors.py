"""Errors that end the command."""

from __future__ import annotations


class CommandError(Exception):
    """An error that is reported in one line; with ``traceback`` also the place, because it is in the application."""

    def __init__(self, text: str, *, traceback: bool = False) -> None:
        super().__init__(text)
        self.traceback = traceback


class UsageError(CommandError):
    """A wrong argument that argparse cannot see."""
