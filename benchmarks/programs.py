"""What the benchmarks run: the load generator and the servers, made below one folder, started and stopped.

Nothing is installed into the environment that runs this; uwserve is the one that is installed there.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUN_VERSION = "1.4.5"
UWEBSOCKETS_PACKAGE = "socketify==0.0.28"  # as in pyproject.toml: its data are the headers
UWEBSOCKETS_VERSION = "20.44 on uwserve's socket layer"
START_SECONDS = 20.0


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


class Programs:
    """Builds and installs below ``folder``; what is there already is used as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._build()
        self.load = folder / "programs" / "load" / "uwserve-load"

    def servers(self, names: list[str] | None) -> list[Server]:
        """The servers that can be run here; why others can't is in ``skipped``."""
        makers = {
            "uws-c++": self._uws,
            "uwserve": self._uwserve,
            "bun": self._bun,
            "picows": lambda: self._rival("picows"),
            "aiohttp": lambda: self._rival("aiohttp"),
            "websockets": lambda: self._rival("websockets"),
        }
        for name in names or ():
            if name not in makers:
                raise BenchmarkError(f"no server {name!r}; there are {', '.join(makers)}")
        found = []
        for name, make in makers.items():
            if names and name not in names:
                continue
            try:
                found.append(make())
            except BenchmarkError as error:
                self.skipped[name] = str(error)
        return found

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

    def _uws(self) -> Server:
        return Server("uws-c++", (str(self.folder / "programs" / "uws-server"),), UWEBSOCKETS_VERSION)

    def _uwserve(self) -> Server:
        version = run(sys.executable, "-c", "import uwserve; print(uwserve.__version__)", cwd=self.folder).strip()
        return Server("uwserve", (sys.executable, str(HERE / "servers" / "uwserve_echo.py")), version)

    def _rival(self, name: str) -> Server:
        """From PyPI, all in one environment; made when the first is asked for."""
        python = self.folder / "rivals" / "bin" / "python"
        stamp = self.folder / "rivals" / "requirements.txt"
        wanted = HERE / "requirements.txt"
        if not stamp.exists() or stamp.read_text() != wanted.read_text():
            run(sys.executable, "-m", "venv", "--clear", self.folder / "rivals")
            run(python, "-m", "pip", "install", "-q", "-r", wanted)
            shutil.copyfile(wanted, stamp)
        code = f"from importlib.metadata import version as v; print(v({name!r}), 'uvloop', v('uvloop'))"
        return Server(name, (str(python), str(HERE / "servers" / f"{name}_echo.py")), run(python, "-c", code).strip())

    def _bun(self) -> Server:
        machine = {"x86_64": "x64", "aarch64": "aarch64"}.get(platform.machine(), platform.machine())
        package = f"@oven/bun-linux-{machine}"
        binary = self.folder / "bun" / "node_modules" / package / "bin" / "bun"
        if not binary.exists():
            if not shutil.which("npm"):
                raise BenchmarkError("npm was not found, which Bun's binary comes by")
            run(
                "npm",
                "install",
                "--silent",
                "--no-fund",
                "--no-audit",
                "--prefix",
                self.folder / "bun",
                f"{package}@{BUN_VERSION}",
            )
        return Server("bun", (str(binary), str(HERE / "servers" / "bun_echo.js")), run(binary, "--version").strip())


@contextlib.contextmanager
def running(server: Server, cores: set[int], log: Path, *arguments: str):
    """A fresh process of a server, on those cores; gives (pid, port)."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*server.command, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
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
