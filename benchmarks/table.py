"""The README's table of performance, in Markdown: ``python benchmarks/table.py`` (or ``make bench-table``).

From the newest ``results/DATE.json``, or from the file that is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cases import CEILING, IMPORT, OURS
from goals import FIGURES, best
from report import short
from rivals import ON_UWEBSOCKETS, PYTHON

HERE = Path(__file__).resolve().parent

# Case, figure, what the row is called.
ROWS = (
    ("echo 200 x 20 B", "throughput", "echo, 200 connections, 20 bytes: messages/s"),
    ("echo 200 x 20 B", "user CPU", "... user CPU a message, µs"),
    ("echo 50 x 128 B, depth 32", "throughput", "echo, 50 connections, 128 bytes, 32 under way"),
    ("echo 50 x 16 KiB, depth 4", "throughput", "echo, 50 connections, 16 KiB, 4 under way"),
    ("echo 4 x 1 MiB", "throughput", "echo, 4 connections, 1 MiB"),
    ("fan-out 1 -> 1,000 x 64 B", "throughput", "fan-out to 1,000, 64 bytes: deliveries/s"),
    ("fan-out 1 -> 100 x 16 KiB", "throughput", "fan-out to 100, 16 KiB: deliveries/s"),
    ("deflate echo 50 x 1 KiB JSON", "throughput", "echo, compressed, 1 KiB of JSON: messages/s"),
    ("wss echo 200 x 20 B", "throughput", "echo over TLS, 200 connections, 20 bytes: messages/s"),
    ("wss echo 200 x 20 B", "user CPU", "... user CPU a message, µs"),
    ("hold 10,000", "throughput", "handshakes/s"),
    ("hold 10,000", "memory", "idle connection, 10,000 of them: bytes of user memory"),
    ("fair 20 B", "fairness", "one client floods: another's echo, 95th percentile, ms"),
)
# The last two may be the same.
COLUMNS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("C++", lambda name: name == CEILING),
    ("uwserve", lambda name: name == OURS),
    ("Bun", lambda name: name == "bun"),
    ("best other Python server", lambda name: name in PYTHON),
    ("best without uWebSockets", lambda name: name in PYTHON and name not in ON_UWEBSOCKETS),
)


def markdown(document: dict) -> str:
    """The table, and below it the goals that were missed."""
    medians, once = document["medians"], document.get("once", {})
    lines = ["| | " + " | ".join(title for title, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for case, figure, title in ROWS:
        if measured := medians.get(case):
            lines.append(
                f"| {title} | "
                + " | ".join(_cell(measured, figure, belongs, once.get(case, ())) for _, belongs in COLUMNS)
                + " |"
            )
    lines.append("")
    if any("\\*" in line for line in lines):
        lines += ["\\* measured in the first round only: out of reach of the best of its kind.", ""]
    ours = medians.get(IMPORT, {}).get(OURS)
    if ours:
        lines += [f"`import uwserve` takes {ours['import_ms']:.0f} ms.", ""]
    missed = [goal for goal in document["goals"] if goal["met"] is False]
    met = sum(goal["met"] is True for goal in document["goals"])
    lines.append(
        f"Of the goals in `benchmarks/goals.py` {met} are met and {len(missed)} missed{':' if missed else '.'}"
    )
    if missed:
        lines += ["", "| missed | goal | measured | limit |", "|---|---|---|---|"]
        lines += [
            f"| {g['case']} | {g['goal']} | {short(g['measured'])} | {short(g.get('at_least', g.get('at_most')))} |"
            for g in missed
        ]
    versions = ", ".join(_version(*item) for item in document["versions"].items() if item[1])
    machine = document["machine"]
    lines += [
        "",
        f"{document['date'][:10]}, {document['method']['rounds']} rounds; {machine['cores']} virtual cores of "
        f"{machine['cpu']}, Linux {machine['kernel']}. {versions}.",
    ]
    return "\n".join(lines)


def _version(name: str, version: str | dict[str, str]) -> str:
    if isinstance(version, str):
        return f"{name} {version}"
    return f"{name}: " + ", ".join(f"{part} {version[part]}" for part in ("codec", "pgo") if part in version)


def _cell(measured: dict[str, dict], figure: str, belongs: Callable[[str], bool], once: Sequence[str]) -> str:
    """The figure of the best of these servers; its ratio to the ceiling; its name where it could be several.

    With an asterisk when it is of one round only (``once``).
    """
    name = best([n for n in measured if belongs(n)], figure, measured)
    if name is None:
        return "-"
    value = FIGURES[figure].value
    text = _figure(value(measured[name]))
    if name != CEILING and CEILING in measured and value(measured[CEILING]):
        text += f" ({_figure(value(measured[name]) / value(measured[CEILING]))})"
    text = f"**{text}**" if name == OURS else text
    text += " \\*" if name in once else ""
    return f"{name} {text}" if name in PYTHON else text


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the README's table.")
    parser.add_argument("results", type=Path, nargs="?", default=max((HERE / "results").glob("20*.json"), default=None))
    results = parser.parse_args().results
    if results is None:
        parser.error("there are no results yet: make bench")
    print(markdown(json.loads(results.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
