"""Draws the charts of the README: ``python benchmarks/charts.py`` (or ``make charts``).

From the newest ``results/DATE.json`` and ``results/growth-DATE.json`` into ``charts/*.svg``. The same results give the
same bytes. Needs matplotlib: `pip install uwserve[bench]`.

One hue for uwserve and greys for all others, on a transparent ground, with text that can be read on white and on black;
no figure is told by colour alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from cases import CEILING, OURS
from goals import throughput
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

HERE = Path(__file__).resolve().parent
TEXT = "#7a828a"  # 4:1 and more on white and on GitHub's dark ground
GRID = "#7a828a40"
HUE = "#e8590c"
GREY = "#9aa2aa"
OUTLINE = "#7a828a"
FONT = "DejaVu Sans"  # comes with matplotlib; Verdana is as wide
NAMES = {CEILING: "uWebSockets (C++)", "uwserve-async": "uwserve, async def", "bun": "Bun", "node-ws": "ws (Node)"}


@dataclass(frozen=True)
class Panel:
    case: str
    title: str
    figure: Callable[[dict], float]
    is_more_better: bool = True


def user_cpu(result: dict) -> float:
    return result["server_cpu"]["user_us"]


def memory(result: dict) -> float:
    return result["pss_bytes_each"]


CHARTS: dict[str, tuple[str, Sequence[Panel]]] = {
    "echo": (
        "Echo, messages a second (longer is better)",
        (
            Panel("echo 200 x 20 B", "200 connections, 20 bytes", throughput),
            Panel("echo 50 x 128 B, depth 32", "50 connections, 128 bytes, 32 under way", throughput),
            Panel("echo 50 x 16 KiB, depth 4", "50 connections, 16 KiB, 4 under way", throughput),
            Panel("echo 4 x 1 MiB", "4 connections, 1 MiB", throughput),
            Panel("wss echo 200 x 20 B", "TLS: 200 connections, 20 bytes", throughput),
            Panel("deflate echo 50 x 1 KiB JSON", "compressed: 50 connections, 1 KiB of JSON", throughput),
        ),
    ),
    "fanout": (
        "Fan-out, deliveries a second (longer is better)",
        (
            Panel("fan-out 1 -> 1,000 x 64 B", "1,000 subscribers, 64 bytes", throughput),
            Panel("fan-out 1 -> 100 x 16 KiB", "100 subscribers, 16 KiB", throughput),
        ),
    ),
    "connections": (
        "10,000 connections",
        (
            Panel("hold 10,000", "handshakes a second (longer is better)", throughput),
            Panel("hold 10,000", "bytes of user memory each (shorter is better)", memory, False),
        ),
    ),
    "cpu": (
        "User CPU of an echo, µs (shorter is better)",
        (
            Panel("echo 200 x 20 B", "200 connections, 20 bytes", user_cpu, False),
            Panel("wss echo 200 x 20 B", "TLS: 200 connections, 20 bytes", user_cpu, False),
        ),
    ),
}


def style() -> None:
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "uwserve",
            "font.family": FONT,
            "font.size": 10,
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "axes.edgecolor": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "hatch.color": TEXT,
            "hatch.linewidth": 0.6,
        }
    )


def bars(document: dict, name: str) -> Figure | None:
    """A panel for each case that was measured; None: none was."""
    title, wanted = CHARTS[name]
    panels = [p for p in wanted if document["medians"].get(p.case)]
    if not panels:
        return None
    rows = [panels[i : i + 2] for i in range(0, len(panels), 2)]
    heights = [max(len(document["medians"][p.case]) for p in row) for row in rows]
    size = (10, 0.55 + sum(0.235 * h + 0.62 for h in heights))
    figure, grid = plt.subplots(
        len(rows), 2, figsize=size, height_ratios=[h + 1 for h in heights], squeeze=False, layout="constrained"
    )
    figure.suptitle(title, fontsize=13, fontweight="bold")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    for i, axes in enumerate(grid.flat):
        if i < len(panels):
            draw_panel(axes, panels[i], document["medians"][panels[i].case])
        else:
            axes.set_visible(False)
    return figure


def draw_panel(axes: Axes, panel: Panel, measured: dict[str, dict]) -> None:
    """Bars from the best to the worst; as long as their figure, the longest fills the panel."""
    figures = {name: panel.figure(result) for name, result in measured.items()}
    order = sorted(figures, key=figures.__getitem__, reverse=panel.is_more_better)
    longest = max(figures.values()) or 1
    for y, name in enumerate(order):
        is_ours = name.startswith(OURS)
        axes.barh(
            y,
            figures[name] / longest,
            height=0.72,
            color=HUE if name == OURS else "none" if is_ours or name == CEILING else GREY,
            edgecolor=HUE if is_ours else OUTLINE,
            hatch="////" if name == CEILING or (is_ours and name != OURS) else None,
            linewidth=0.8,
        )
        axes.text(
            figures[name] / longest + 0.012,
            y,
            label(figures[name]),
            va="center",
            color=HUE if is_ours else TEXT,
            fontweight="bold" if name == OURS else "normal",
            fontsize=9,
        )
    axes.set_yticks(range(len(order)), [NAMES.get(name, name) for name in order], fontsize=9.5)
    for tick, name in zip(axes.get_yticklabels(), order, strict=True):
        if name.startswith(OURS):
            tick.set_color(HUE)
            tick.set_fontweight("bold" if name == OURS else "normal")
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.22)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title(panel.title, fontsize=10.5, loc="left")


def label(value: float) -> str:
    """Three digits, or what there is before the point."""
    if value >= 10_000:
        scaled, unit = (value / 1e6, "M") if value >= 1e6 else (value / 1e3, "k")
        return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def growth(document: dict) -> Figure:
    """CPU time an event over what grows, both logarithmic: flat is free, a straight line up is in proportion."""
    curves = [(name, curve) for name, curve in document["curves"].items() if curve["servers"]]
    count = (len(curves) + 1) // 2
    figure, grid = plt.subplots(count, 2, figsize=(10, 0.9 + 2.75 * count), squeeze=False, layout="constrained")
    figure.suptitle("Server CPU a message or delivery, µs (lower is better)", fontsize=13, fontweight="bold")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    for axes, (name, curve) in zip(grid.flat, curves, strict=False):
        draw_curve(axes, name, curve["servers"])
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    return figure


LINES = {
    CEILING: {"linestyle": (0, (4, 2)), "marker": ""},
    "bun": {"linestyle": "-", "marker": "s"},
    "picows": {"linestyle": "-", "marker": "^"},
    "socketify": {"linestyle": "-", "marker": "D"},
}


def draw_curve(axes: Axes, title: str, servers: dict[str, list[dict]]) -> None:
    ends = []
    for name, points in servers.items():
        points = [p for p in points if p["cpu_us"]]
        if not points:
            continue
        line = {"marker": "o"} if name == OURS else LINES.get(name, {"marker": "x"})
        color = HUE if name == OURS else GREY
        axes.plot(
            [p["x"] for p in points],
            [p["cpu_us"] for p in points],
            color=color,
            linewidth=2.2 if name == OURS else 1.3,
            markersize=4,
            zorder=3 if name == OURS else 2,
            **line,
        )
        ends.append((points[-1]["cpu_us"], points[-1]["x"], name))
    axes.set_xscale("log")
    axes.set_yscale("log")
    name_lines(axes, sorted(ends))
    axes.set_title(title, fontsize=10.5, loc="left")
    axes.grid(visible=True, which="major", color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.minorticks_off()
    axes.tick_params(labelsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: amount(value))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: amount(value))


def name_lines(axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """At the right of each line, apart from each other."""
    low, high = axes.get_ylim()
    if high / low < 10:  # half a decade of noise should not look like a mountain
        middle = (low * high) ** 0.5
        low, high = middle / 10**0.5, middle * 10**0.5
    axes.set_ylim(low, high)
    right = max(x for _, x, _ in ends)
    gap = (high / low) ** 0.075
    places: list[float] = []
    for value, _, _ in ends:
        places.append(max(value, places[-1] * gap) if places else value)
    ceiling = high
    for i in reversed(range(len(places))):  # and none above the panel
        places[i] = min(places[i], ceiling)
        ceiling = places[i] / gap
    for (_, _, name), at in zip(ends, places, strict=True):
        axes.annotate(
            NAMES.get(name, name),
            (right, at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=HUE if name == OURS else TEXT,
            fontweight="bold" if name == OURS else "normal",
            annotation_clip=False,
        )


def amount(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def write(figure: Figure, path: Path, description: str) -> None:
    figure.savefig(path, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    plt.close(figure)
    text = path.read_text().replace(f"'{FONT}'", f"'{FONT}', Verdana, sans-serif")
    # What a screen reader says of it.
    start = text.index(">", text.index("<svg")) + 1
    text = f"{text[:start]}\n <title>{description}</title>{text[start:]}"
    # A line for each group, not one for each corner of a bar.
    lines = (line.strip() for line in text.splitlines())
    text = "".join(("\n" if line.startswith(("<svg ", "<g ")) else " ") + line for line in lines)
    path.write_text(text.strip() + "\n")


def draw_all(results: Path | None, grown: Path | None, folder: Path) -> list[Path]:
    """Returns what was written."""
    style()
    folder.mkdir(exist_ok=True)
    written = []
    figures: dict[str, tuple[Figure | None, str]] = {}
    if results:
        document = json.loads(results.read_text())
        for name, (title, _) in CHARTS.items():
            figures[name] = bars(document, name), f"{title}, {document['date'][:10]}"
    if grown:
        document = json.loads(grown.read_text())
        figures["growth"] = growth(document), f"How CPU time grows, {document['date'][:10]}"
    for name, (figure, description) in figures.items():
        if figure:
            write(figure, folder / f"{name}.svg", description)
            written.append(folder / f"{name}.svg")
    return written


def newest(pattern: str) -> Path | None:
    return max((HERE / "results").glob(pattern), default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the charts.")
    parser.add_argument("--results", type=Path, default=newest("20*.json"), help="of run.py (default: the newest)")
    parser.add_argument("--growth", type=Path, default=newest("growth-*.json"), help="of growth.py (the newest)")
    parser.add_argument("--folder", type=Path, default=HERE / "charts")
    options = parser.parse_args()
    if not options.results and not options.growth:
        parser.error("there are no results yet: make bench")
    for path in draw_all(options.results, options.growth, options.folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
