"""The code blocks of README.md, CONTRIBUTING.md and docs/, and the instructions to their tests in comments before them.

A comment directly above a block says how it is run; readers of the built pages do not see it::

    <!-- setup
    python code that goes before a fragment
    -->
    <!-- client
    python code that talks to the server of the block; see docs_runner.py for what it has
    -->
    <!-- own client -->         the block talks to its server and stops it by itself
    <!-- then
    python code that goes after it
    -->
    <!-- needs: modules -->     it runs where these are installed
    <!-- not run: why -->
    <!-- config: NAME -->       a proxy's configuration, for test_docs_proxies.py

Blocks may be indented, as in tabs and lists.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paths import ROOT

FENCE = re.compile(r"^( *)(`{3,}|~{3,})\s*([^\s`]*)[^`]*$")
DIRECTIVE = re.compile(r"(setup|client|own client|then|needs:|not run:|config:)\s*(.*)", re.DOTALL)


@dataclass
class Block:
    """One fenced block, and its comments by kind."""

    path: Path
    line: int
    language: str
    text: str
    told: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Everything in which a block is run."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md") if (ROOT / name).exists()]
    return top + sorted((ROOT / "docs").rglob("*.md"))


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page in order. ``ValueError`` for a fence without end and a comment that belongs to no block."""
    lines = path.read_text().split("\n")
    told: dict[str, str] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.lstrip().startswith("<!--"):
            comment = [line]
            while "-->" not in lines[number]:
                number += 1
                comment.append(lines[number])
            kind, text = _directive("\n".join(comment))
            if kind:
                told[kind] = text
        elif fence := FENCE.match(line):
            begun, end = number, f"{fence[1]}{fence[2]}"
            number += 1
            while lines[number] != end:
                number += 1
                if number == len(lines):
                    raise ValueError(f"{path.name}:{begun + 1}: the block does not end")
            text = textwrap.dedent("\n".join(lines[begun + 1 : number])) + "\n"
            yield Block(path, begun + 1, fence[3], text, told)
            told = {}
        elif line.strip() and told:
            raise ValueError(f"{path.name}:{number + 1}: a comment for a block ({', '.join(told)}) is followed by text")
        number += 1
    if told:
        raise ValueError(f"{path.name}: a comment for a block ({', '.join(told)}) at the end")


def _directive(comment: str) -> tuple[str, str]:
    inner = comment.strip().removeprefix("<!--").removesuffix("-->")
    if "\n" in inner:
        first, _, rest = inner.partition("\n")
        inner = f"{first.strip()}\n{textwrap.dedent(rest)}"
    match = DIRECTIVE.fullmatch(inner.strip())
    return (match[1].rstrip(":"), match[2].strip("\n") + "\n") if match else ("", "")


def every_block() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]
