"""The machine: its cores and limits, what it is, and the versions of what was used."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTORS = 65_536  # more than any case needs


def separate_cores() -> tuple[set[int], set[int]]:
    """One core for the server, up to two others for the load, on other physical cores where there are any."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return set(cores), set(cores)
    server = cores[0]
    others = [c for c in cores[1:] if c not in siblings(server)] or cores[1:]
    return {server}, set(others[:2])


def siblings(core: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    found: set[int] = set()
    try:
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        pass  # not told: take every core for a physical one
    return found


def raise_fd_limit() -> int:
    """Servers inherit it. Returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def describe() -> dict:
    cpu = memory = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = line.partition(":")[2].strip()
    return {
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "memory": memory,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
    }


def versions() -> dict:
    """``build``, of the package that is measured: what compresses, what compiled it, with a profile or not."""
    core = "import json; from uwserve import _core; print(json.dumps({'codec': _core.codec} | _core.build))"
    return {
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "compiler": output(os.environ.get("CXX", "c++"), "--version").partition("\n")[0],
        "build": json.loads(output(sys.executable, "-c", core, cwd=tempfile.gettempdir()) or "{}"),
    }


def output(*command: str, cwd: str | None = None) -> str:
    """What a command prints; empty when it can't."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=cwd).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
