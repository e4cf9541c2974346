"""The files of ``examples/`` as processes: started as they are, on a free port, and ended by SIGINT, cleanly."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from http_client import DEADLINE
from paths import ROOT
from processes import Process, process

from uwserve.testing import WebSocketClient, connect

START = 60.0
"""Seconds for an example to import what it needs: FastAPI is large."""
EXAMPLES = ROOT / "examples"


class Example:
    """A running example; ``port`` is the one that the first line of its output ends with."""

    def __init__(self, run: Process) -> None:
        self.run = run
        self.errors = ""
        """What must be on its standard error at the end: nothing, or something with this in it."""
        self.port = run.port(START)

    def pid(self) -> int:
        return self.run.child.pid  # ``env`` becomes the example

    def wait_for_error(self, text: str) -> None:
        """Wait until ``text`` is on its standard error, and take the line away from there."""
        assert self.run.child.stderr
        end = time.monotonic() + DEADLINE
        seen = b""
        while text.encode() not in seen:
            assert select.select([self.run.child.stderr], [], [], end - time.monotonic())[0], seen
            seen += os.read(self.run.child.stderr.fileno(), 4096)
        while not seen.endswith(b"\n"):
            seen += os.read(self.run.child.stderr.fileno(), 4096)

    def connect(self, path: str = "/", **options: Any) -> WebSocketClient:
        return connect(f"ws://127.0.0.1:{self.port}{path}", timeout=DEADLINE, **options)


@contextlib.contextmanager
def example(name: str, folder: Path, **variables: object) -> Iterator[Example]:
    """The example ``name``, run in ``folder`` with these environment variables, which ends without a word."""
    assignments = [f"{key}={value}" for key, value in ({"PORT": 0} | variables).items()]
    with process("env", *assignments, sys.executable, "-X", "faulthandler", EXAMPLES / name, cwd=folder) as run:
        running = Example(run)
        yield running
        run.child.send_signal(signal.SIGINT)
        code, _, errors = run.end()
        assert code == 0, errors
        assert running.errors in errors if running.errors else not errors, errors
