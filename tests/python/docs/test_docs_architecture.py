"""docs/architecture.md and docs/upstream-defects.md, compared with the tree: files, folders, tests, defect codes."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from paths import ROOT

ARCHITECTURE = ROOT / "docs" / "architecture.md"
DEFECTS = ROOT / "docs" / "upstream-defects.md"

CODE = re.compile(r"\b([HLPSTUZ])(\d{1,2})(?:-\1?(\d{1,2}))?\b")  # with ranges: S4-S6
FILE = re.compile(r"`([\w./-]+\.(?:h|cpp|py|pyi|txt))`")
TEST = re.compile(r"`(cpp/)?(test_\w+)::(\w+)`")
CITING = (".h", ".cpp", ".py", ".pyi", ".md", ".cmake", ".txt")
WALKS = ("A message in", "A message out", "A publish", "An upgrade", "A close", "A stop")


def section(page: Path, heading: str) -> str:
    """What follows ``heading``, up to the next one of its level or above."""
    level = heading.index(" ")
    text = page.read_text().split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in ``text``, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, next_line in zip(lines, [*lines[1:], ""], strict=True)
        if not line.startswith("|--") and not next_line.startswith("|--")
    ]


@functools.lru_cache
def names_below(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.rglob("*") if path.is_file())


def exists(name: str) -> bool:
    """A path from the top or within a language's sources, or the name of a file in the sources or the tests."""
    if "/" in name:
        return any((ROOT / folder / name).is_file() for folder in ("", "src/cpp", "src/python/uwserve"))
    return any(name in names_below(ROOT / folder) for folder in ("src", "tests/python", "tests/cpp"))


@functools.lru_cache
def names_of_tests(module: str, *, native: bool) -> frozenset[str]:
    """The names of the tests of a module, wherever it is."""
    folder, suffix, pattern = ("cpp", "cpp", r"^TEST\((\w+)\)") if native else ("python", "py", r"^def (test_\w+)\(")
    found = sorted((ROOT / "tests" / folder).rglob(f"{module}.{suffix}"))
    return frozenset(name for path in found for name in re.findall(pattern, path.read_text(), re.MULTILINE))


# --- codes of defects ---

CODED = [row for row in rows(DEFECTS.read_text()) if re.fullmatch(r"[A-Z]\d+", row[0])]
coded = pytest.mark.parametrize("row", CODED, ids=[row[0] for row in CODED])


def cited() -> dict[str, list[str]]:
    """Each code that is cited, with the files that cite it."""
    found: dict[str, list[str]] = {}
    for folder in ("src", "tests", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in CITING or path in (DEFECTS, Path(__file__).resolve()):
                continue
            for family, first, last in CODE.findall(path.read_text()):
                for number in range(int(first), int(last or first) + 1):
                    found.setdefault(f"{family}{number}", []).append(str(path.relative_to(ROOT)))
    return found


def test_the_codes_cited_are_the_codes_defined() -> None:
    codes = [row[0] for row in CODED]
    assert len(codes) == len(set(codes)), "a code is defined twice"
    found = cited()
    assert len(found) > 50
    assert not {code: sorted(set(files)) for code, files in found.items() if code not in codes}
    assert not set(codes) - set(found), "defined, but cited nowhere"


@coded
def test_a_defect_has_its_remedy_and_its_test(row: list[str]) -> None:
    assert len(row) == 6
    assert all(row)
    files = FILE.findall(row[4])
    assert files
    assert not [name for name in files if not exists(name)]
    tests = TEST.findall(row[5])
    assert tests
    assert not [name for native, module, name in tests if name not in names_of_tests(module, native=bool(native))]


# --- the architecture ---


@pytest.mark.parametrize("page", [ARCHITECTURE, DEFECTS], ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    assert not [name for name in FILE.findall(page.read_text()) if not exists(name)]


def test_every_folder_of_the_source_is_a_room() -> None:
    table = rows(section(ARCHITECTURE, "## Rooms"))
    listed = {name for row in table for name in re.findall("`([^`]+)`", row[0])}
    assert not [name for name in listed if not (ROOT / name).is_dir()]
    with_files = {path.parent for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert not {path.relative_to(ROOT).as_posix() for path in with_files} - listed


@pytest.mark.parametrize("name", WALKS)
def test_every_step_of_a_walk_names_a_file(name: str) -> None:
    steps = re.split(r"^\d+\. ", section(ARCHITECTURE, f"### {name}"), flags=re.MULTILINE)[1:]
    assert len(steps) > 2
    assert not [step for step in steps if not FILE.findall(step)]
