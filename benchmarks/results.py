"""What was measured, its medians, and which rivals are out of reach of the best."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import goals
from cases import CEILING, OURS, Case
from rivals import ON_UWEBSOCKETS, PYTHON

# A rival that is further than this from the best of its kind in the first round is not measured again in that case:
# it cannot be the best, and it costs time. Its figure is told all the same.
REACH = 0.6


@dataclass
class Results:
    """``rounds[case][server]`` is a list with one object a round."""

    rounds: dict[str, dict[str, list[dict]]] = field(default_factory=dict)
    unable: dict[str, dict[str, str]] = field(default_factory=dict)  # why a server cannot do a case
    errors: list[str] = field(default_factory=list)
    once: dict[str, list[str]] = field(default_factory=dict)  # by case: who was measured in the first round only

    def add(self, case: str, server: str, measured: dict) -> None:
        self.rounds.setdefault(case, {}).setdefault(server, []).append(measured)

    def cannot(self, case: str, server: str, reason: str) -> None:
        self.unable.setdefault(case, {})[server] = reason

    def fail(self, case: str, server: str, number: int, reason: str) -> None:
        """Only this once; a later round may do better."""
        self.errors.append(f"round {number + 1}, {case}, {server}: {reason}")

    def is_wanted(self, case: Case, server: str) -> bool:
        if case.servers is not None and server not in case.servers:
            return False
        return server not in self.unable.get(case.name, ()) and server not in self.once.get(case.name, ())

    def medians(self) -> dict[str, dict[str, dict]]:
        """Of each figure on its own, over the rounds."""
        return {
            case: {server: middle(rounds) for server, rounds in servers.items()}
            for case, servers in self.rounds.items()
        }

    def drop_hopeless(self, case: Case) -> None:
        """After the first round: who is out of reach is not measured again in this case."""
        measured = {name: middle(rounds) for name, rounds in self.rounds.get(case.name, {}).items()}
        kept = {CEILING, "bun"} | {name for name in measured if name.startswith(OURS)}
        for figure in (case.figure, "memory") if case.mode == "hold" else (case.figure,):
            for kind in KINDS:
                kept |= in_reach([name for name in measured if kind(name)], figure, measured)
        self.once[case.name] = [name for name in measured if name not in kept]


def in_reach(names: list[str], figure: str, measured: dict[str, dict]) -> set[str]:
    """Those whose figure is not much worse than the best one's."""
    leader = goals.best(names, figure, measured)
    if leader is None:
        return set()
    value = goals.FIGURES[figure].value
    best = value(measured[leader])
    if goals.FIGURES[figure].more_is_better:
        return {name for name in names if value(measured[name]) >= REACH * best}
    return {name for name in names if REACH * value(measured[name]) <= best}


KINDS = (
    lambda name: name in PYTHON and name not in ON_UWEBSOCKETS,
    lambda name: name in PYTHON,
    lambda name: name not in PYTHON and name != CEILING and not name.startswith(OURS),
)


def middle(rounds: list[dict]) -> dict:
    """Medians, but CPU time an event is taken over all events: the kernel samples it, so more of it is more exact."""
    result = {
        name: middle([r[name] for r in rounds]) if isinstance(value, dict) else median(r[name] for r in rounds)
        for name, value in rounds[0].items()
    }
    events = next((name for name in ("messages", "deliveries") if name in result), None)
    if events and "server_cpu" in result:
        total = sum(r[events] for r in rounds)
        for name in ("user_us", "system_us"):
            result["server_cpu"][name] = sum(r["server_cpu"][name] * r[events] for r in rounds) / total
    return result
