"""The table of docs/security.md: what a peer can make the server keep or do. Each cell is compared with the package."""

from __future__ import annotations

import ast
import functools
import re
from typing import Any

import pytest
from paths import ROOT, TESTS

import uwserve
from uwserve._options import limits
from uwserve._options.serve import SERVE
from uwserve._options.websocket import WEBSOCKET
from uwserve._run.refusals import REFUSALS

HEADING = "## What a peer can make the server keep or do"
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}
# An option, and its default after "=".
OPTION = re.compile(r"`((?:websocket\.|limits\.)?[a-z_]+)`(?: = (\d+)(?: (s|KiB|MiB)\b)?)?")


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.split(HEADING + "\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == "| what | bound by default | beyond it | counter | test |"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


ROWS = rows()
row = pytest.mark.parametrize("cells", ROWS, ids=[cells[0][:50] for cells in ROWS])


def default_of(name: str) -> Any:
    group, _, option = name.rpartition(".")
    if group == "limits":
        return limits.figures({})[option]
    return (WEBSOCKET if group else SERVE)[option].default


@functools.lru_cache
def names_in(module: str) -> set[str]:
    (path,) = TESTS.glob(f"*/{module}.py")
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@functools.lru_cache
def stats() -> dict[str, Any]:
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request: "ok")
    try:
        return dict(server.stats())
    finally:
        server.stop(True)


@row
def test_no_cell_is_empty(cells: list[str]) -> None:
    assert len(cells) == 5
    assert all(cells), cells


@row
def test_options_exist_and_have_that_default(cells: list[str]) -> None:
    named = OPTION.findall(cells[1])
    for name, figure, unit in named:
        if name == "net.core.somaxconn":
            continue
        default = default_of(name)  # KeyError: there is no such option
        if figure:
            assert default == int(figure) * UNITS[unit], name
    assert named or re.search(r"\d|none|nothing|one", cells[1]), "a bound is an option or a figure"


@row
def test_the_counter_is_in_stats(cells: list[str]) -> None:
    (path,) = re.findall(r"`([a-z0-9_.]+)`", cells[3])
    value: Any = stats()
    for key in path.split("."):
        value = value[key]
    assert isinstance(value, (int, dict)), path


@row
def test_the_test_exists(cells: list[str]) -> None:
    named = re.findall(r"`(cpp/)?(test_\w+)::(\w+)`", cells[4])
    assert named
    for native, module, test in named:
        if native:
            (path,) = (ROOT / "tests" / "cpp").glob(f"*/{module}.cpp")
            assert f"TEST({test})" in path.read_text(), f"{module} has no {test}"
        else:
            assert test in names_in(module), f"{module} has no {test}"


def test_every_limit_and_every_cause_is_in_the_table() -> None:
    """Every limit, and every cause of a refusal, is in the table, except responses to malformed requests."""
    text = "\n".join("|".join(cells) for cells in ROWS)
    for name in limits.LIMITS:
        assert f"`limits.{name}`" in text, name
    malformed = {
        "http_400",
        "http_417",
        "http_421",
        "http_505",
        "handshake_invalid",
        "handshake_version",
        "websocket_1002",
        "websocket_1007",
        "websocket_1011",
        "backpressure_closes",
    }
    for cause in set(REFUSALS) - malformed:
        assert f"`refused.{cause}`" in text, cause
