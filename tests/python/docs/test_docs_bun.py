"""The tables of docs/coming-from/bun.md against the package: every symbol is there, and none is made up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from paths import ROOT

import uwserve
from uwserve import _aliases, _options, _tls

PAGE = ROOT / "docs" / "coming-from" / "bun.md"

# Of the native half of a server; see docs/tools/reference.py, which lists what the facade uses of it.
FACADE = re.compile(r"^\s+\"attach_core\".*?\n\s+\)\n", re.DOTALL | re.MULTILINE).search(
    (ROOT / "docs" / "tools" / "reference.py").read_text()
)
assert FACADE
INTERNAL = set(re.findall(r'"(\w+)"', FACADE[0]))


def members(cls: type, aliases: Mapping[str, str]) -> set[str]:
    annotated = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
    named = {name for name in dir(cls) if not name.startswith("_")} | annotated
    return {name for name in named if not name.startswith("_")} - set(aliases) - INTERNAL


# heading -> (our names, aliases)
SECTIONS: dict[str, tuple[set[str], Mapping[str, str]]] = {
    "Options of `Bun.serve`": (set(_options.SERVE), _aliases.SERVE_OPTIONS),
    "Options of `tls`": (set(_tls.TLS), _aliases.TLS_OPTIONS),
    "Members of `websocket`": (set(_options.WEBSOCKET), _aliases.WEBSOCKET_OPTIONS),
    "Members of `Server`": (members(uwserve.Server, _aliases.SERVER), _aliases.SERVER),
    "Members of `ServerWebSocket`": (
        members(uwserve.ServerWebSocket, _aliases.SERVER_WEBSOCKET),
        _aliases.SERVER_WEBSOCKET,
    ),
}


def rows(heading: str) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The names in code in each of the three columns of the table below ``heading``."""
    text = PAGE.read_text().partition(f"### {heading}\n")[2]
    assert text, heading
    for line in text.partition("\n#")[0].splitlines():
        if line.startswith("|") and not line.startswith(("|--", "| Bun ")):
            cells = line.strip("|").split("|")
            assert len(cells) == 3, line
            yield tuple(re.findall(r"`([^`]+)`", cell) for cell in cells)  # type: ignore[misc]


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_name_of_ours_is_there(heading: str) -> None:
    ours, _ = SECTIONS[heading]
    told = {name for _, names, _ in rows(heading) for name in names}
    assert told - ours == set(), "in the table, but not in the package"
    assert ours - told == set(), "in the package, but not in the table"


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_spelling_of_bun_is_there(heading: str) -> None:
    _, aliases = SECTIONS[heading]
    for left, names, _ in rows(heading):
        if left:  # a name of Bun's works here, as it is or by an alias
            (bun,), (name,) = left, names
            assert aliases.get(bun, bun) == name
    told = {name for left, _, notes in rows(heading) for name in left + notes}
    assert set(aliases) <= told


def test_requests_and_responses() -> None:
    for left, names, _ in rows("Members of `Request`, `Headers` and `Response`"):
        (bun,), (name,) = left, names
        owner: Any = {
            "request": uwserve.Request,
            "await request": uwserve.Request,
            "headers": uwserve.Headers,
            "Response": uwserve.Response,
            "response": uwserve.Response("x"),
            "new Response(body, {status, headers, statusText})": uwserve,
        }[bun.partition(".")[0]]
        assert hasattr(owner, name), f"{bun}: {name}"


def test_limits_are_told() -> None:
    """Our own options have second spellings, too; the page of limits has their names."""
    text = (ROOT / "docs" / "guide" / "tuning.md").read_text()
    for name in _aliases.LIMIT_OPTIONS.values():
        assert f"`{name}`" in text


def test_the_guide_tells_every_option() -> None:
    text = (ROOT / "docs" / "guide" / "options.md").read_text()
    for name in (*_options.SERVE, *_options.WEBSOCKET):
        assert re.search(rf"`{name}[`(]", text), f"docs/guide/options.md does not tell of {name}"
