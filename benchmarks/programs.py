"""What the benchmarks run: the load generator and the servers, made below one folder, started and stopped.

Nothing is installed into the environment that runs this; uwserve is the one that is installed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
UWEBSOCKETS_PACKAGE = "socketify==0.0.28"  # as in pyproject.toml: its data are the headers
START_SECONDS = 20.0
CANNOT = 3  # the exit status of a server that cannot do what is asked


class BenchmarkError(Exception):
    """Something that was to be measured could not be run; the text says what and why."""


@dataclass(frozen=True)
class Server:
    name: str
    command: tuple[str, ...]
    version: str


def run(*command: object, **options) -> str:
    """Run a command of the set-up and return its output; its end is in the error when it fails."""
    done = subprocess.run(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if done.returncode:
        raise BenchmarkError(f"{command[0]} failed:\n" + "\n".join(done.stdout.splitlines()[-15:]))
    return done.stdout


class UnableError(BenchmarkError):
    """A server said that it cannot do what a case needs (status 3)."""


class Programs:
    """Builds below ``folder``; what is there already is used as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._has_certificate = False
        folder.mkdir(parents=True, exist_ok=True)
        self._build()
        self.load = folder / "programs" / "load" / "uwserve-load"

    def authority(self) -> Path:
        """Who signed the certificate."""
        self.certificate()
        return self.folder / "tls-authority.pem"

    def certificate(self) -> tuple[Path, Path]:
        """(certificate, key) of a server on 127.0.0.1; they are made anew in every run."""
        certificate, key = self.folder / "tls-cert.pem", self.folder / "tls-key.pem"
        if not self._has_certificate:
            import trustme

            authority = trustme.CA()
            server = authority.issue_cert("127.0.0.1", "localhost")
            authority.cert_pem.write_to_path(self.folder / "tls-authority.pem")
            certificate.write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
            server.private_key_pem.write_to_path(key)
            self._has_certificate = True
        return certificate, key

    def _build(self) -> None:
        headers = self.folder / "headers"
        if not headers.is_dir():
            run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", headers, UWEBSOCKETS_PACKAGE)
        # cmake and ninja come with the test extra, into the folder of this interpreter.
        environment = {**os.environ, "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")}
        cmake = shutil.which("cmake", path=environment["PATH"])
        if not cmake:
            raise BenchmarkError("cmake was not found; pip install 'uwserve[test]' brings it")
        programs = self.folder / "programs"
        if not (programs / "CMakeCache.txt").exists():
            include = headers / "socketify" / "uWebSockets" / "src"
            generator = ["-G", "Ninja"] if shutil.which("ninja", path=environment["PATH"]) else []
            run(cmake, "-S", HERE, "-B", programs, *generator, f"-DUWEBSOCKETS_INCLUDE_DIR={include}", env=environment)
        run(cmake, "--build", programs, env=environment)


@contextlib.contextmanager
def running(server: Server, cores: set[int] | None, log: Path, *arguments: object):
    """A fresh process of a server, on those cores (None: any); gives (pid, port)."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*server.command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
    try:
        yield process.pid, _port_of(process, server, log)
        if process.poll() is not None:
            raise BenchmarkError(f"{server.name} ended by itself, status {process.returncode}; see {log}")
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _port_of(process: subprocess.Popen, server: Server, log: Path) -> int:
    line = b""
    deadline = time.monotonic() + START_SECONDS
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 100) if ready else b""
        if not piece:
            if ready and process.wait(START_SECONDS) == CANNOT:
                raise UnableError(log.read_text().strip().rpartition("\n")[2])
            raise BenchmarkError(f"{server.name} did not print its port; see {log}")
        line += piece
    return int(line)


def put_load(program: Path, cores: set[int], mode: str, *options: object) -> dict:
    """One run of the load generator, on those cores; gives what it measured."""
    command = [str(program), mode, *map(str, options)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=180, preexec_fn=lambda: os.sched_setaffinity(0, cores)
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError("the load generator did not end in three minutes") from None
    if done.returncode:
        raise BenchmarkError(done.stderr.strip().splitlines()[0] if done.stderr else f"status {done.returncode}")
    return json.loads(done.stdout)["result"]
