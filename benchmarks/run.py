"""The benchmarks: ``python benchmarks/run.py`` (or ``make bench``). Method and caveats: README.md beside this file.

All servers take their turn in every round, each in a fresh process on one core while the load is on another, so that
the medians over the rounds can be compared with each other however busy the machine is. Prints tables and writes
``results/DATE.json``; every round goes to ``rounds-DATE.json`` below ``build/bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import goals
import machine
import recorded
import report
from cases import CASES, IMPORT, OURS, Case
from programs import HERE, BenchmarkError, Programs, Server, UnableError, put_load, running
from results import Results
from rivals import Rivals


def measure(case: Case, server: Server, programs: Programs, seconds: float) -> dict:
    server_cores, load_cores = machine.separate_cores()
    log = programs.folder / f"{server.name}.log"
    options = ["--warmup", 0.3, "--seconds", seconds, *case.options]
    arguments = list(case.arguments)
    for flag, is_on, values in (("--tls", case.tls, programs.certificate), ("--deflate", case.deflate, list)):
        if is_on:
            arguments += [flag, *values()]
            options.append(flag)
    with running(server, server_cores, log, *arguments) as (pid, port):
        result = put_load(programs.load, load_cores, case.mode, "--port", port, "--pid", pid, *options)
    if case.mode == "fair" and not result["probe_latency_us"]["samples"]:
        raise BenchmarkError("the probe's echo did not come back in time even once")
    return result


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
                if not results.is_wanted(case, server.name):
                    continue
                show(f"round {number + 1}/{rounds}: {case.name}, {server.name}")
                try:
                    results.add(case.name, server.name, measure(case, server, programs, seconds))
                except UnableError as error:
                    results.cannot(case.name, server.name, str(error))
                except BenchmarkError as error:
                    results.fail(case.name, server.name, number, str(error))
            if number == 0 and rounds > 1:
                results.drop_hopeless(case)
        if with_import:
            results.add(IMPORT, OURS, import_times())
    show("")
    return results


def check(servers: list[Server], programs: Programs) -> int:
    """Has the conversation with each server, plain, over TLS, and compressed; the exit status."""
    import asyncio

    from conversation import converse

    authority = programs.authority()
    status = 0
    for server in servers:
        for tls in ((), ("--tls", *map(str, programs.certificate()))):
            for deflate in ((), ("--deflate",)):
                name = " ".join([server.name, *(word[2:] for word in (*tls[:1], *deflate))])
                try:
                    with running(server, None, programs.folder / f"{server.name}.log", *tls, *deflate) as (_, port):
                        asyncio.run(converse(port, authority if tls else None, bool(deflate)))
                    print(f"{name}: right")
                except UnableError as error:
                    print(f"{name}: not possible, {error}")
                except Exception as error:
                    print(f"{name}: WRONG, {type(error).__name__}: {error}")
                    status = 1
    return status


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure uwserve beside its rivals.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=1.2, help="length of a timed measurement (default 1.2)")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases whose name has it; may be repeated")
    parser.add_argument("--server", action="append", metavar="NAME", help="only this server; may be repeated")
    parser.add_argument("--check", action="store_true", help="only see whether every server answers as it should")
    parser.add_argument(
        "--folder", type=Path, default=HERE.parent / "build" / "bench", help="where programs and rivals go"
    )
    parser.add_argument("--output", default=HERE / "results", help="folder for the result; '' writes none")
    return parser.parse_args()


def main() -> int:
    options = parse()
    machine.raise_fd_limit()
    started = datetime.now(timezone.utc)
    load_before = os.getloadavg()
    versions = machine.versions()

    def wanted(name: str) -> bool:
        return not options.case or any(text in name for text in options.case)

    cases = [c for c in CASES if wanted(c.name)]
    try:
        programs, rivals = Programs(options.folder.resolve()), Rivals(options.folder.resolve())
        servers = rivals.servers(options.server)
        if options.check:
            return check(servers, programs)
        with_import = any(s.name == OURS for s in servers) and wanted(IMPORT)
        results = run_rounds(cases, servers, programs, options.rounds, options.seconds, with_import)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server_cores, load_cores = machine.separate_cores()
    document = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine.describe() | {"load_average": [load_before, os.getloadavg()]},
        "versions": versions | {s.name: s.version for s in servers},
        "method": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "server_cores": sorted(server_cores),
            "load_cores": sorted(load_cores),
            "order": "every server once per round, each in a fresh process; medians over the rounds",
            "cases": {
                c.name: {
                    "mode": c.mode,
                    "options": c.options,
                    "arguments": c.arguments,
                    "tls": c.tls,
                    "deflate": c.deflate,
                    "unit": c.unit,
                }
                for c in cases
            },
        },
        "goals": goals.reached(results.medians()),
        "medians": results.medians(),
        "once": results.once,
        "unable": results.unable,
        "skipped": rivals.skipped,
        "errors": results.errors,
    }
    print(report.whole(document))
    if options.output:
        path = Path(options.output) / f"{started:%Y-%m-%d-%H%M}.json"
        recorded.write(document, path, 3)
        rounds = options.folder / f"rounds-{path.name}"
        rounds.write_text(json.dumps(document | {"rounds": results.rounds}) + "\n")
        print(f"written: {path}; with every round: {rounds}")
    return 1 if results.errors else 0


if __name__ == "__main__":
    sys.exit(main())
