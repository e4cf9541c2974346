"""Which servers there are to compare, where each comes from, and how it is started."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from programs import HERE, BenchmarkError, Server, run

BUN_VERSION = "1.4.5"
WS_VERSION = "8.23.0"
BUFFERUTIL_VERSION = "4.1.0"
UWEBSOCKETS_VERSION = "20.44 on uwserve's socket layer"
SERVERS = HERE / "servers"

# Distributions whose versions are told, the server's own first. In the order of the tables.
PYTHON_RIVALS = {
    "picows": ("picows", "aiofastnet", "uvloop"),
    "socketify": ("socketify",),
    "aiohttp": ("aiohttp", "uvloop"),
    "websockets": ("websockets", "uvloop"),
    "tornado": ("tornado", "uvloop"),
    "granian": ("granian", "uvloop"),
    "uvicorn": ("uvicorn", "websockets", "httptools", "uvloop"),
}
NAMES = ("uws-c++", "uwserve", "uwserve-async", "bun", "node-ws", *PYTHON_RIVALS)
PYTHON = frozenset(PYTHON_RIVALS)  # what calls itself a Python server, uwserve's own apart
ON_UWEBSOCKETS = frozenset({"socketify"})


class Rivals:
    """Installs servers below ``folder`` when they are first asked for; what is there already is used as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.skipped: dict[str, str] = {}

    def servers(self, names: list[str] | None = None) -> list[Server]:
        """The servers that can be run here, in the order of ``NAMES``; why others can't is in ``skipped``."""
        for name in names or ():
            if name not in NAMES:
                raise BenchmarkError(f"no server {name!r}; there are {', '.join(NAMES)}")
        found = []
        for name in NAMES:
            if names and name not in names:
                continue
            try:
                found.append(self._make(name))
            except BenchmarkError as error:
                self.skipped[name] = str(error)
        return found

    def _make(self, name: str) -> Server:
        if name in PYTHON_RIVALS:
            return self._from_pypi(name)
        if name == "uws-c++":
            return Server(name, (str(self.folder / "programs" / "uws-server"),), UWEBSOCKETS_VERSION)
        if name == "bun":
            return self._bun()
        if name == "node-ws":
            return self._node_ws()
        version = run(sys.executable, "-c", "import uwserve; print(uwserve.__version__)", cwd=self.folder).strip()
        file = "uwserve_async_echo.py" if name == "uwserve-async" else "uwserve_echo.py"
        return Server(name, (sys.executable, str(SERVERS / file)), version)

    def _from_pypi(self, name: str) -> Server:
        """All in one environment."""
        python = self.folder / "rivals" / "bin" / "python"
        stamp = self.folder / "rivals" / "requirements.txt"
        wanted = HERE / "requirements.txt"
        if not stamp.exists() or stamp.read_text() != wanted.read_text():
            run(sys.executable, "-m", "venv", "--clear", self.folder / "rivals")
            run(python, "-m", "pip", "install", "-q", "-r", wanted)
            shutil.copyfile(wanted, stamp)
        code = "import sys; from importlib.metadata import version as v; print(*(v(n) for n in sys.argv[1:]))"
        found = run(python, "-c", code, *PYTHON_RIVALS[name]).split()
        versions = [version if i == 0 else f"{PYTHON_RIVALS[name][i]} {version}" for i, version in enumerate(found)]
        return Server(name, (str(python), str(SERVERS / f"{name}_echo.py")), ", ".join(versions))

    def _bun(self) -> Server:
        machine = {"x86_64": "x64", "aarch64": "aarch64"}.get(platform.machine(), platform.machine())
        package = f"@oven/bun-linux-{machine}"
        self._from_npm("bun", f"{package}@{BUN_VERSION}")
        binary = self.folder / "bun" / "node_modules" / package / "bin" / "bun"
        return Server("bun", (str(binary), str(SERVERS / "bun_echo.js")), run(binary, "--version").strip())

    def _node_ws(self) -> Server:
        node = shutil.which("node")
        if not node:
            raise BenchmarkError("node was not found")
        self._from_npm("node", f"ws@{WS_VERSION}", f"bufferutil@{BUFFERUTIL_VERSION}")
        # Node looks for modules beside the program.
        program = self.folder / "node" / "node_ws_echo.js"
        shutil.copyfile(SERVERS / "node_ws_echo.js", program)
        version = f"{WS_VERSION}, bufferutil {BUFFERUTIL_VERSION}, Node {run(node, '--version').strip().lstrip('v')}"
        return Server("node-ws", (node, str(program)), version)

    def _from_npm(self, folder: str, *packages: str) -> None:
        stamp = self.folder / folder / "installed"
        wanted = "\n".join(packages)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        if not shutil.which("npm"):
            raise BenchmarkError("npm was not found, by which this one comes")
        quiet = ("--silent", "--no-fund", "--no-audit")
        (self.folder / folder).mkdir(exist_ok=True)
        run("npm", "install", *quiet, "--prefix", self.folder / folder, *packages)
        stamp.write_text(wanted)
