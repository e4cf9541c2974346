"""Child processes for tests: output that can be waited for, and an end that is certain."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from http_client import DEADLINE

# Under a sanitizer freed memory stays in quarantine, and preloaded runtimes take descriptors: what a test says about
# resident memory does not hold then. `make asan` and `make tsan` set this.
SANITIZED = "UWSERVE_SANITIZED" in os.environ


def bare_environment() -> dict[str, str]:
    """For other people's programs: a sanitizer's runtime, preloaded for Python, is not for them."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


SERVE = """
    import sys, threading
    from uwserve import serve
    def fetch(request, server):
        return None if server.upgrade(request) else "plain"
    server = serve(fetch=fetch, port=0, hostname="127.0.0.1", websocket={"message": lambda ws, m: ws.send(m)})
"""


class Process:
    """A child process whose output can be waited for."""

    def __init__(self, *command: str | Path, cwd: Path | None = None) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.child = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.seen = b""

    def line(self, timeout: float = DEADLINE) -> str:
        """The next line of its output."""
        assert self.child.stdout
        end = time.monotonic() + timeout
        while b"\n" not in self.seen:
            assert select.select([self.child.stdout], [], [], end - time.monotonic())[0], "no output"
            data = os.read(self.child.stdout.fileno(), 4096)
            assert data, self.child.communicate()
            self.seen += data
        line, _, self.seen = self.seen.partition(b"\n")
        return line.decode()

    def port(self, timeout: float = DEADLINE) -> int:
        """The port in the URL, or the number, that ends the next line."""
        return int(self.line(timeout).rstrip("/").rpartition(":")[2])

    def end(self) -> tuple[int, str, str]:
        """(exit code, the rest of the output, the errors) once it has ended."""
        output, errors = self.child.communicate(timeout=DEADLINE)
        return self.child.returncode, (self.seen + output).decode(), errors.decode()


@contextlib.contextmanager
def process(*command: str | Path, cwd: Path | None = None) -> Iterator[Process]:
    started = Process(*command, cwd=cwd)
    try:
        yield started
    finally:
        started.child.kill()
        started.child.communicate()
