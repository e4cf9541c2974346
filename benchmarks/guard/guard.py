"""Guards the hot path: ``make bench-guard`` fails when it costs more than what `make bench-guard-record` has recorded.

    guard.py check|record FOLDER    FOLDER: an unstripped uwserve, as ``make`` installs it there

Runs workload.py under callgrind and takes two figures of each of its cases, for one message, delivery or handshake:

    instructions   that the extension itself executes, with uWebSockets and the socket layer, which are part of it
    calls          that it makes of functions outside: Python's, libc's (system calls, memory, copies), OpenSSL's

What runs outside (the interpreter, libc's variants for each processor) is not counted, and the clock is one of ours, so
both are the same to the last digit in every run of the same build. They still depend on the compiler and on what
Python's headers inline: there is one record for each minor version of CPython, major one of the compiler, and kind of
processor. Each case takes the cheapest of its windows.

Exit status 1: a figure has risen by more than 5 %. 2: it could not be measured, or nothing is recorded for this
environment, with the reason; ``--if-possible`` makes that a 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from callgrind import Profile, read

HERE = Path(__file__).resolve().parent
MOST = 1.05
SHOWN = 12  # functions of a case that has become more expensive
RECORDED = 0.005  # functions with a smaller share of a case are recorded together
OTHERS = "(all others)"
TIMEOUT = 900  # seconds; it takes some twenty on an idle machine


class GuardError(Exception):
    """Why nothing could be compared."""


@dataclass
class Case:
    """One message of a case, delivery or handshake: figures, and what they are made of."""

    instructions: float
    calls: float
    functions: dict[str, float]
    called: dict[str, float]

    @classmethod
    def of(cls, profile: Profile, units: int) -> Case:
        return cls(
            profile.instructions / units,
            profile.calls.total() / units,
            {name: count / units for name, count in profile.functions.items()},
            {name: count / units for name, count in profile.calls.items()},
        )


# --- measuring ---


def extension_in(folder: Path) -> Path:
    found = list((folder / "uwserve").glob("_core*.so"))
    if len(found) != 1:
        raise GuardError(f"there is no extension in {folder}")
    return found[0]


def compiler_of(extension: Path) -> str:
    """What the compiler has written into ``.comment``; stripping keeps that."""
    data = extension.read_bytes()
    clang = re.search(rb"clang version (\d+)", data)
    gcc = re.search(rb"GCC: \([^)]*\) (\d+)", data)
    if clang:
        return f"clang-{clang[1].decode()}"
    if gcc:
        return f"gcc-{gcc[1].decode()}"
    raise GuardError(f"{extension} does not tell which compiler has made it")


def environment(extension: Path) -> str:
    tag = sysconfig.get_config_var("SOABI").split("-")
    return f"{tag[0]}-{tag[1]}_{compiler_of(extension)}_{platform.machine()}"


def make_clock(folder: Path) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    library = folder / "clock.so"
    command = [*compiler.split(), "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "clock.cpp")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise GuardError(f"{compiler} could not make the clock:\n{done.stderr.strip()}")
    return library


def measure(folder: Path) -> dict[str, Case]:
    extension = extension_in(folder)
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise GuardError("valgrind was not found (Debian: apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch) / "part"
        command = [
            valgrind,
            "--tool=callgrind",
            "--dump-before=getppid",
            "--compress-strings=no",
            "--compress-pos=no",
            f"--callgrind-out-file={part}",
            # Neither what is installed nor what the shell says may change the run.
            *(sys.executable, "-s", "-S", "-B", str(HERE / "workload.py"), str(folder)),
        ]
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_", "UWSERVE_"))}
        variables |= {"PYTHONHASHSEED": "0", "LD_PRELOAD": str(make_clock(Path(scratch)))}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=variables)
        except subprocess.TimeoutExpired:
            raise GuardError(f"the workload has not ended in {TIMEOUT} s under valgrind") from None
        if done.returncode:
            raise GuardError("the workload failed under valgrind:\n" + "\n".join(done.stderr.splitlines()[-15:]))
        cases: dict[str, Case] = {}
        for number, line in enumerate(done.stdout.splitlines()):
            name, units = line.split()
            # Every second part is a window; the first is what lies before all of them.
            case = Case.of(read(Path(f"{part}.{2 * number + 2}"), extension.name), int(units))
            if not case.instructions:
                raise GuardError(f"{name}: valgrind has not seen {extension.name}")
            if name not in cases or case.instructions < cases[name].instructions:
                cases[name] = case
        return cases


# --- records ---


def rounded(figures: dict[str, float], least: float) -> dict[str, float]:
    kept = {name: round(value, 2) for name, value in figures.items() if value >= least}
    rest = round(sum(figures.values()) - sum(kept.values()), 2)
    ordered = dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))
    return ordered | ({OTHERS: rest} if rest > 0 else {})


def write_record(path: Path, cases: dict[str, Case]) -> None:
    record = {
        name: {
            "instructions": round(case.instructions, 2),
            "calls": round(case.calls, 3),
            "functions": rounded(case.functions, RECORDED * case.instructions),
            "called": rounded(case.called, RECORDED * case.calls),
        }
        for name, case in cases.items()
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Case]:
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in HERE.glob("*.json"))) or "none"
        raise GuardError(
            f"nothing is recorded for {path.stem} (recorded: {known}).\n"
            "Check out a revision whose speed is known to be good, run `make bench-guard-record` there, and commit\n"
            f"benchmarks/guard/{path.name}. Until then the hot path is not guarded here."
        )
    return {name: Case(**figures) for name, figures in json.loads(path.read_text()).items()}


# --- comparing ---


def change(before: float, now: float) -> str:
    return f"{before:12,.2f} {now:12,.2f} {100 * (now / before - 1) if before else float('inf'):+8.1f} %"


def explain(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """By function, the largest rise first."""
    recorded = {name for name in before if name != OTHERS}
    merged = {name: value for name, value in now.items() if name in recorded}
    appeared = {name: value for name, value in now.items() if name not in recorded}
    rises = [(merged.get(name, 0.0) - before[name], name, before[name], merged.get(name, 0.0)) for name in recorded]
    # What was too small to be recorded by itself is new only as far as it exceeds what all of that was.
    rises += [(value, name, 0.0, value) for name, value in appeared.items() if value > before.get(OTHERS, 0.0)]
    rises.sort(key=lambda rise: (-rise[0], rise[1]))
    return [
        f"    {was:12,.2f} {is_now:12,.2f} {rise:+10,.2f}  {name[:90]}"
        for rise, name, was, is_now in rises[:SHOWN]
        if rise >= 0.01  # records are rounded
    ]


def compare(before: dict[str, Case], now: dict[str, Case]) -> bool:
    """Prints the table; true when nothing has become more expensive than allowed."""
    print(f"{'for one message, delivery or handshake':<34} {'recorded':>12} {'now':>12} {'change':>10}")
    risen: list[tuple[str, str]] = []
    fallen = False
    for name, case in now.items():
        if name not in before:
            raise GuardError(f"the record has no case {name}: make bench-guard-record")
        for figure in ("instructions", "calls"):
            was, is_now = getattr(before[name], figure), getattr(case, figure)
            print(f"{name:<20} {figure:<13} {change(was, is_now)}")
            if is_now > MOST * was:
                risen.append((name, figure))
            fallen |= is_now * MOST < was
    for name, figure in risen:
        what = "functions" if figure == "instructions" else "called"
        print(f"\n{name}: {figure} have risen by more than {round(100 * (MOST - 1))} %; by function:")
        print("\n".join(explain(getattr(before[name], what), getattr(now[name], what))))
    if risen:
        print("\nIf that is what it must cost, say why where it is changed, and record it: make bench-guard-record")
    elif fallen:
        print("\nSome of it has become cheaper: make bench-guard-record keeps it so.")
    return not risen


def main() -> int:
    parser = argparse.ArgumentParser(description="Guards the number of instructions of the hot path.")
    parser.add_argument("action", choices=("check", "record"))
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--if-possible", action="store_true", help="exit status 0 instead of 2, so that other machines are not stopped"
    )
    options = parser.parse_args()
    try:
        folder = options.folder.resolve()
        path = HERE / f"{environment(extension_in(folder))}.json"
        if options.action == "record":
            write_record(path, measure(folder))
            print(f"written: {path}")
            return 0
        before = read_record(path)
        return 0 if compare(before, measure(folder)) else 1
    except GuardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 0 if options.if_possible else 2


if __name__ == "__main__":
    sys.exit(main())
