"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cases import CEILING
from goals import throughput

# By mode of the load generator, told apart by what it reports: heading, figure, digits, whether its ratio is shown.
Column = tuple[str, Callable[[dict], float], int, bool]
USER: Column = ("user us", lambda r: r["server_cpu"]["user_us"], 2, True)
SYSTEM: Column = ("system us", lambda r: r["server_cpu"]["system_us"], 2, False)
LATENCY: Sequence[Column] = (
    ("p50 ms", lambda r: r["latency_us"]["p50"] / 1e3, 2, False),
    ("p99 ms", lambda r: r["latency_us"]["p99"] / 1e3, 2, False),
    ("core", lambda r: r["server_cpu"]["core_share"], 2, False),
    ("load", lambda r: r["load_cpu"]["core_share"], 2, False),
)
ECHO: Sequence[Column] = (("messages/s", throughput, 0, True), USER, SYSTEM, *LATENCY)
FANOUT: Sequence[Column] = (("deliveries/s", throughput, 0, True), USER, SYSTEM, *LATENCY)
HOLD: Sequence[Column] = (
    ("bytes each", lambda r: r["pss_bytes_each"], 0, True),
    ("handshakes/s", throughput, 0, True),
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
    if "deliveries" in result:
        return FANOUT
    if "latency_us" in result:
        return ECHO
    if "pss_bytes_each" in result:
        return HOLD
    return FAIR if "probe_latency_us" in result else IMPORT


def whole(document: dict) -> str:
    """Everything that a run has to say, from its result file."""
    parts = [tables(document["medians"], CEILING, document.get("once", {})), goal_table(document["goals"])]
    for case, servers in document.get("unable", {}).items():
        parts += [f"-  {case}, {server}: {reason}" for server, reason in servers.items()]
    if any(document.get("once", {}).values()):
        parts.append("*  measured in the first round only: out of reach of the best of its kind")
    parts += [f"skipped {name}: {reason}" for name, reason in document["skipped"].items()]
    parts += [f"failed: {error}" for error in document["errors"]]
    return "\n".join(parts)


def tables(medians: dict[str, dict[str, dict]], ceiling: str, once: dict[str, list[str]]) -> str:
    """A table for each case; ``x`` columns are ratios to ``ceiling``, where that was measured."""
    parts = []
    for case, servers in medians.items():
        columns = columns_of(next(iter(servers.values())))
        base = servers.get(ceiling)
        rows = [["", *(cell for c in columns for cell in ([c[0], "x"] if c[3] and base else [c[0]]))]]
        for server, result in servers.items():
            row = [server + (" *" if server in once.get(case, ()) else "")]
            for _, figure, digits, compared in columns:
                row.append(f"{figure(result):,.{digits}f}")
                if compared and base:
                    row.append(f"{figure(result) / figure(base):.2f}" if figure(base) else "-")
            rows.append(row)
        parts.append(f"{case}\n{aligned(rows)}\n")
    return "\n".join(parts)


def goal_table(goals: list[dict]) -> str:
    rows = [["goal", "", "measured", "limit", "compared with", "x", ""]]
    for goal in goals:
        limit = goal.get("at_least", goal.get("at_most"))
        ratio = goal.get("ratio")
        rows.append(
            [
                goal["case"],
                goal["goal"],
                short(goal["measured"]),
                short(limit) if limit is not None else "?",
                goal.get("reference") or "",
                f"{ratio:.2f}" if ratio is not None else "",
                {True: "met", False: "MISSED", None: "not known"}[goal["met"]],
            ]
        )
    return aligned(rows, left=2) + "\n"


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def aligned(rows: list[list[str]], left: int = 1) -> str:
    """Columns, the first ``left`` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
