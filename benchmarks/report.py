"""How results look, and where they were made."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# By mode of the load generator, told apart by what it reports: heading, figure, digits, whether its ratio is shown.
Column = tuple[str, Callable[[dict], float], int, bool]
ECHO: Sequence[Column] = (
    ("messages/s", lambda r: r["messages_per_second"], 0, True),
    ("user us", lambda r: r["server_cpu"]["user_us"], 2, True),
    ("system us", lambda r: r["server_cpu"]["system_us"], 2, False),
    ("p50 ms", lambda r: r["latency_us"]["p50"] / 1e3, 2, False),
    ("p99 ms", lambda r: r["latency_us"]["p99"] / 1e3, 2, False),
    ("core", lambda r: r["server_cpu"]["core_share"], 2, False),
)
HOLD: Sequence[Column] = (
    ("bytes each", lambda r: r["pss_bytes_each"], 0, True),
    ("handshakes/s", lambda r: r["handshakes_per_second"], 0, True),
    ("user us", lambda r: r["server_cpu"]["user_us"], 0, False),
    ("system us", lambda r: r["server_cpu"]["system_us"], 0, False),
)
FAIR: Sequence[Column] = (
    ("p50 ms", lambda r: r["probe_latency_us"]["p50"] / 1e3, 2, False),
    ("p95 ms", lambda r: r["probe_latency_us"]["p95"] / 1e3, 2, True),
    ("max ms", lambda r: r["probe_latency_us"]["max"] / 1e3, 1, False),
    ("flood/s", lambda r: r["flood_messages_per_second"], 0, True),
)
IMPORT: Sequence[Column] = (
    ("import ms", lambda r: r["import_ms"], 1, False),
    ("bare start ms", lambda r: r["bare_ms"], 1, False),
)


def columns_of(result: dict) -> Sequence[Column]:
    if "latency_us" in result:
        return ECHO
    if "pss_bytes_each" in result:
        return HOLD
    return FAIR if "probe_latency_us" in result else IMPORT


def tables(medians: dict[str, dict[str, dict]], ceiling: str) -> str:
    """A table for each case; ``x`` columns are ratios to ``ceiling``, where that was measured."""
    parts = []
    for case, servers in medians.items():
        columns = columns_of(next(iter(servers.values())))
        base = servers.get(ceiling)
        rows = [["", *(cell for c in columns for cell in ([c[0], "x"] if c[3] and base else [c[0]]))]]
        for server, result in servers.items():
            row = [server]
            for _, figure, digits, compared in columns:
                row.append(f"{figure(result):,.{digits}f}")
                if compared and base:
                    row.append(f"{figure(result) / figure(base):.2f}" if figure(base) else "-")
            rows.append(row)
        parts.append(f"{case}\n{aligned(rows)}\n")
    return "\n".join(parts)


def goal_table(goals: list[dict]) -> str:
    rows = [["goal", "measured", "at most", ""]]
    rows += [[g["goal"], f"{g['measured']:,.4g}", f"{g['at_most']:,}", "met" if g["met"] else "MISSED"] for g in goals]
    return aligned(rows) + "\n"


def aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def machine() -> dict:
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
    return {
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "compiler": output(os.environ.get("CXX", "c++"), "--version").partition("\n")[0],
    }


def output(*command: str) -> str:
    """What a command prints; empty when it can't."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
