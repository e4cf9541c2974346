"""The tables of docs/coming-from/bun.md against the package: every symbol is there, and none is made up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from paths import ROOT

import uwserve
from uwserve import _bun_names
from uwserve._options.limits import LIMITS
from uwserve._options.serve import SERVE
from uwserve._options.tls import TLS
from uwserve._options.websocket import WEBSOCKET

PAGE = ROOT / "docs" / "coming-from" / "bun.md"


def members(cls: type, aliases: Mapping[str, str]) -> set[str]:
    annotated = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
    named = {name for name in dir(cls) if not name.startswith("_")} | annotated
    return {name for name in named if not name.startswith("_")} - set(aliases)


# heading -> (our names, aliases)
SECTIONS: dict[str, tuple[set[str], Mapping[str, str]]] = {
    "Options of `Bun.serve`": (set(SERVE), SERVE.aliases),
    "Options of `tls`": (set(TLS), TLS.aliases),
    "Members of `websocket`": (set(WEBSOCKET), WEBSOCKET.aliases),
    "Members of `Server`": (members(uwserve.Server, _bun_names.SERVER), _bun_names.SERVER),
    "Members of `ServerWebSocket`": (
        members(uwserve.ServerWebSocket, _bun_names.SERVER_WEBSOCKET),
        _bun_names.SERVER_WEBSOCKET,
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
    for left, names, _ in rows("Members of `Request`, `Headers`, `Response` and `CookieMap`"):
        (bun,), (name,) = left, names
        owner: Any = {
            "request": uwserve.Request,
            "await request": uwserve.Request,
            "headers": uwserve.Headers,
            "Response": uwserve.Response,
            "response": uwserve.Response("x"),
            "new Response(body, {status, headers, statusText})": uwserve,
            "new Bun": uwserve,
            "cookies": uwserve.CookieMap,
        }[bun.partition(".")[0]]
        assert hasattr(owner, name), f"{bun}: {name}"


def test_limits_are_told() -> None:
    """Our own options have second spellings, too; the page of limits has their names."""
    text = (ROOT / "docs" / "guide" / "tuning.md").read_text()
    for name in LIMITS:
        assert f"`{name}`" in text


GUIDE = (ROOT / "docs" / "guide" / "options.md").read_text()


def test_the_guide_tells_every_option() -> None:
    for name in (*SERVE, *WEBSOCKET):
        assert re.search(rf"`{name}[`(]", GUIDE), f"docs/guide/options.md does not tell of {name}"


@pytest.mark.parametrize(("heading", "table"), [("Of `serve`", SERVE), ("Of `websocket`", WEBSOCKET)])
def test_the_guide_tells_the_defaults(heading: str, table: Any) -> None:
    """Numbers and switches, as the table of options has them."""
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    told = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    cells = {name: cells[2] for cells in told for name in re.findall(r"`(\w+)`", cells[1])}
    checked = 0
    for name, default in table.defaults().items():
        if isinstance(default, int) and "proxy" not in name:
            shown = ("off", "`False`") if not default else ("`True`", str(default), f"{default >> 20} MiB")
            assert any(text in cells[name] for text in shown), f"{name}: {default} is not in {cells[name]!r}"
            checked += 1
    assert checked >= 8
