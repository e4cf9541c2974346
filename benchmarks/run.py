"""The benchmarks: ``python benchmarks/run.py`` (or ``make bench``). Method and caveats: README.md beside this file.

All servers take their turn in every round, each in a fresh process on one core while the load is on another, so that
the medians over the rounds can be compared with each other however busy the machine is. Prints tables and writes
``results/DATE.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import report
from programs import BenchmarkError, Programs, Server, put_load, running

HERE = Path(__file__).resolve().parent
CEILING = "uws-c++"


@dataclass(frozen=True)
class Case:
    """One measurement that servers take in turn."""

    name: str
    mode: str  # of uwserve-load
    options: tuple[object, ...]
    arguments: tuple[str, ...] = ()  # of the server
    servers: tuple[str, ...] | None = None  # None: all


CASES = (
    Case("echo 200 x 20 B", "echo", ("--connections", 200, "--size", 20, "--depth", 1, "--min-cpu", 2)),
    Case("hold 10,000", "hold", ("--connections", 10_000, "--seconds", 1)),
    Case(
        "hold 10,000, an object each",
        "hold",
        ("--connections", 10_000, "--seconds", 1),
        arguments=("data",),
        servers=("uwserve",),
    ),
    Case("fair 20 B", "fair", ("--size", 20)),
    Case("fair 20 B, 8 us of work", "fair", ("--size", 20), arguments=("work",), servers=("uwserve",)),
)
IMPORT = "import uwserve"


@dataclass
class Results:
    """What was measured: ``rounds[case][server]`` is a list with one object a round."""

    rounds: dict[str, dict[str, list[dict]]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, case: str, server: str, measured: dict) -> None:
        self.rounds.setdefault(case, {}).setdefault(server, []).append(measured)

    def medians(self) -> dict[str, dict[str, dict]]:
        """Of each figure on its own, over the rounds."""
        return {
            case: {server: middle(rounds) for server, rounds in servers.items()}
            for case, servers in self.rounds.items()
        }


def middle(rounds: list[dict]) -> dict:
    """Medians, but CPU time an event is taken over all events: the kernel samples it, so more of it is more exact."""
    result = {
        name: middle([r[name] for r in rounds]) if isinstance(value, dict) else median(r[name] for r in rounds)
        for name, value in rounds[0].items()
    }
    if "messages" in result:
        total = sum(r["messages"] for r in rounds)
        for name in ("user_us", "system_us"):
            result["server_cpu"][name] = sum(r["server_cpu"][name] * r["messages"] for r in rounds) / total
    return result


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


def raise_fd_limit() -> None:
    """Servers inherit it; the hold case needs 10,000 descriptors and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(case: Case, server: Server, programs: Programs, seconds: float) -> dict:
    server_cores, load_cores = separate_cores()
    log = programs.folder / f"{server.name}.log"
    options = list(case.options)
    if "--seconds" not in options:
        options += ["--seconds", seconds]
    with running(server, server_cores, log, *case.arguments) as (pid, port):
        return put_load(programs.load, load_cores, case.mode, "--port", port, "--pid", pid, *options)


def import_times(count: int = 10) -> dict:
    """Milliseconds that ``import uwserve`` adds to a bare start of the interpreter, medians of ``count``."""

    def start(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tempfile.gettempdir())
        return (time.perf_counter() - begun) * 1e3

    start(IMPORT)  # writes the bytecode
    pairs = [(start("pass"), start(IMPORT)) for _ in range(count)]
    bare, whole = (median(p[i] for p in pairs) for i in (0, 1))
    return {"bare_ms": bare, "import_ms": whole - bare}


def show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def run_rounds(
    cases: list[Case], servers: list[Server], programs: Programs, rounds: int, seconds: float, with_import: bool
) -> Results:
    results = Results()
    for number in range(rounds):
        # Another one begins each round: whoever always came after the heaviest might pay for it.
        turn = servers[number % len(servers) :] + servers[: number % len(servers)] if servers else []
        for case in cases:
            for server in turn:
                if case.servers is not None and server.name not in case.servers:
                    continue
                show(f"round {number + 1}/{rounds}: {case.name}, {server.name}")
                try:
                    results.add(case.name, server.name, measure(case, server, programs, seconds))
                except BenchmarkError as error:
                    results.errors.append(f"round {number + 1}, {case.name}, {server.name}: {error}")
        if with_import:
            results.add(IMPORT, "uwserve", import_times())
    show("")
    return results


def goals(results: Results) -> list[dict]:
    """The goals that uwserve has set itself, as far as they were measured."""
    medians = results.medians()

    def value(case: str, *path: str) -> float | None:
        found = medians.get(case, {}).get("uwserve")
        for name in path:
            found = found and found[name]
        return found

    fair = value("fair 20 B", "probe_latency_us", "p95")
    work = value("fair 20 B, 8 us of work", "probe_latency_us", "p95")
    wanted = [
        ("user CPU of an echo, us", value("echo 200 x 20 B", "server_cpu", "user_us"), 1.5),
        ("user memory of an idle connection, bytes", value("hold 10,000", "pss_bytes_each"), 1024),
        ("the same with an object in ws.data, bytes", value("hold 10,000, an object each", "pss_bytes_each"), 1024),
        ("another's echo beside a flood, p95, ms", fair and fair / 1e3, 50),
        ("the same when a message costs 8 us of Python", work and work / 1e3, 50),
        ("import uwserve, ms", value(IMPORT, "import_ms"), 60),
    ]
    return [
        {"goal": name, "measured": measured, "at_most": limit, "met": measured <= limit}
        for name, measured, limit in wanted
        if measured is not None
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure uwserve beside its rivals.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a timed measurement (default 3)")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases whose name has it; may be repeated")
    parser.add_argument("--server", action="append", metavar="NAME", help="only this server; may be repeated")
    parser.add_argument(
        "--folder", type=Path, default=HERE.parent / "build" / "bench", help="where programs and rivals go"
    )
    parser.add_argument("--output", default=HERE / "results", help="folder for the result; '' writes none")
    return parser.parse_args()


def main() -> int:
    options = parse()
    raise_fd_limit()
    started = datetime.now(timezone.utc)
    load_before = os.getloadavg()
    versions = report.versions()

    def wanted(name: str) -> bool:
        return not options.case or any(text in name for text in options.case)

    cases = [c for c in CASES if wanted(c.name)]
    try:
        programs = Programs(options.folder.resolve())
        servers = programs.servers(options.server)
        with_import = any(s.name == "uwserve" for s in servers) and wanted(IMPORT)
        results = run_rounds(cases, servers, programs, options.rounds, options.seconds, with_import)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    reached = goals(results)
    print(report.tables(results.medians(), CEILING))
    print(report.goal_table(reached))
    for name, reason in programs.skipped.items():
        print(f"skipped {name}: {reason}")
    for error in results.errors:
        print(f"failed: {error}")
    if options.output:
        server_cores, load_cores = separate_cores()
        document = {
            "date": started.isoformat(timespec="seconds"),
            "machine": report.machine() | {"load_average": [load_before, os.getloadavg()]},
            "versions": versions | {s.name: s.version for s in servers},
            "method": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "server_cores": sorted(server_cores),
                "load_cores": sorted(load_cores),
                "order": "every server once per round, each in a fresh process; medians over the rounds",
                "cases": {c.name: {"mode": c.mode, "options": c.options, "arguments": c.arguments} for c in cases},
            },
            "goals": reached,
            "medians": results.medians(),
            "rounds": results.rounds,
            "skipped": programs.skipped,
            "errors": results.errors,
        }
        path = Path(options.output) / f"{started:%Y-%m-%d-%H%M}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {path}")
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
