"""The goals that uwserve has set itself: one table, and what was reached of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cases import CEILING, IMPORT, OURS
from rivals import ON_UWEBSOCKETS, PYTHON

Medians = dict[str, dict[str, dict]]  # by case and server


def throughput(result: dict) -> float:
    for name in ("messages", "deliveries", "handshakes"):
        if f"{name}_per_second" in result:
            return result[f"{name}_per_second"]
    raise KeyError("no throughput")


@dataclass(frozen=True)
class Figure:
    text: str
    value: Callable[[dict], float]
    more_is_better: bool


FIGURES = {
    "throughput": Figure("events/s", throughput, True),
    "user CPU": Figure("user CPU, us", lambda r: r["server_cpu"]["user_us"], False),
    "memory": Figure("user memory, bytes", lambda r: r["pss_bytes_each"], False),
    "fairness": Figure("p95, ms", lambda r: r["probe_latency_us"]["p95"] / 1e3, False),
    "import": Figure("ms", lambda r: r["import_ms"], False),
}

# Whom a goal compares with: which servers, of which the best one counts.
REFERENCES: dict[str, Callable[[str], bool]] = {
    "uws-c++": lambda name: name == CEILING,
    "bun": lambda name: name == "bun",
    "the best other Python server": lambda name: name in PYTHON,
    "the best Python server without uWebSockets": lambda name: name in PYTHON and name not in ON_UWEBSOCKETS,
    "the leanest Python rival": lambda name: name in PYTHON,
    "the best rival": lambda name: name != CEILING and not name.startswith(OURS),
    "the best of all": lambda name: not name.startswith(OURS),
}


@dataclass(frozen=True)
class Goal:
    """``factor`` times what the reference has; without a reference the factor is the figure itself."""

    case: str
    figure: str
    factor: float
    reference: str | None = None


GOALS = (
    Goal("echo 200 x 20 B", "throughput", 0.95, "uws-c++"),
    Goal("echo 200 x 20 B", "user CPU", 0.8, "bun"),
    Goal("echo 200 x 20 B", "user CPU", 1.5),
    Goal("echo 50 x 128 B, depth 32", "throughput", 1.3, "bun"),
    Goal("echo 50 x 128 B, depth 32", "throughput", 10, "the best other Python server"),
    Goal("echo 50 x 128 B, depth 32", "throughput", 0.6, "uws-c++"),
    Goal("echo 50 x 16 KiB, depth 4", "throughput", 0.85, "uws-c++"),
    Goal("echo 50 x 16 KiB, depth 4", "throughput", 1.5, "the best rival"),
    Goal("echo 4 x 1 MiB", "throughput", 1, "the best of all"),
    Goal("fan-out 1 -> 1,000 x 64 B", "throughput", 1, "uws-c++"),
    Goal("fan-out 1 -> 1,000 x 64 B", "throughput", 8, "the best Python server without uWebSockets"),
    Goal("fan-out 1 -> 100 x 16 KiB", "throughput", 1.1, "the best of all"),
    Goal("hold 10,000", "throughput", 0.9, "uws-c++"),
    Goal("hold 10,000", "memory", 1, "bun"),
    Goal("hold 10,000", "memory", 0.5, "the leanest Python rival"),
    Goal("hold 10,000", "memory", 1024),
    Goal("hold 10,000, an object each", "memory", 1024),
    Goal("deflate echo 50 x 1 KiB JSON", "throughput", 1.5, "bun"),
    Goal("wss echo 200 x 20 B", "throughput", 1, "uws-c++"),
    Goal("wss echo 200 x 20 B", "throughput", 1, "bun"),
    Goal("wss echo 200 x 20 B", "user CPU", 1, "bun"),
    Goal("fair 20 B", "fairness", 50),
    Goal("fair 20 B, 8 us of work", "fairness", 50),
    Goal(IMPORT, "import", 60),
)


def reached(medians: Medians) -> list[dict]:
    """Each goal whose case was measured: the limit, what was measured, and whether it is met.

    ``met`` is None where nobody was measured to compare with. ``reference`` tells who turned out to be it.
    """
    return [row for goal in GOALS if (row := _reached(goal, medians.get(goal.case, {}))) is not None]


def best(names: list[str], figure: str, measured: dict[str, dict]) -> str | None:
    """Of these servers the one with the best figure; None: there is none."""
    value = FIGURES[figure].value
    choose = max if FIGURES[figure].more_is_better else min
    return choose(names, key=lambda name: value(measured[name])) if names else None


def _reached(goal: Goal, measured: dict[str, dict]) -> dict | None:
    if OURS not in measured:
        return None
    figure = FIGURES[goal.figure]
    ours = figure.value(measured[OURS])
    row: dict = {"case": goal.case, "goal": _text(goal), "figure": figure.text, "measured": ours}
    limit: float | None = goal.factor
    if goal.reference:
        rival = best([n for n in measured if REFERENCES[goal.reference](n)], goal.figure, measured)
        theirs = figure.value(measured[rival]) if rival else None
        limit = theirs and theirs * goal.factor
        row |= {"reference": rival, "of_reference": theirs, "ratio": ours / theirs if theirs else None}
    row["at_least" if figure.more_is_better else "at_most"] = limit
    row["met"] = None if limit is None else ours >= limit if figure.more_is_better else ours <= limit
    return row


def _text(goal: Goal) -> str:
    sense = "at least" if FIGURES[goal.figure].more_is_better else "at most"
    if goal.reference is None:
        return f"{goal.figure} {sense} {goal.factor:,g}"
    factor = "" if goal.factor == 1 else f"{goal.factor:g} x "
    return f"{goal.figure} {sense} {factor}{goal.reference}"
