"""Docstrings as HTML. They are reStructuredText of a plain kind (literals, lists, tables, literal blocks), with
sections ``Args:``, ``Returns:``, ``Raises:`` and paragraphs that begin with ``Threads:`` or ``Bun:``.

``docutils`` reads them; what it complains about fails the build, with the name of the docstring.
"""

from __future__ import annotations

import inspect
import re

from docutils.core import publish_parts
from docutils.utils import SystemMessage

SETTINGS = {
    "report_level": 2,
    "halt_level": 2,
    "initial_header_level": 4,
    "input_encoding": "unicode",
    "embed_stylesheet": False,
    "smart_quotes": False,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "warning_stream": False,
}
ITEMS = ("Args", "Attributes", "Raises")
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")
PARAGRAPH = re.compile(r"(Threads|Bun|Source|Note): ")
LITERAL = re.compile(r"``.+?``|`[^`\s][^`]*`", re.DOTALL)


class DocstringError(ValueError):
    """A docstring that is no proper text."""


def to_html(text: str, name: str) -> str:
    """The body of the docstring ``text`` of ``name``. ``DocstringError`` for what docutils cannot read."""
    try:
        parts = publish_parts(_sections(_escaped(inspect.cleandoc(text))), writer="html5", settings_overrides=SETTINGS)
    except SystemMessage as error:
        raise DocstringError(f"the docstring of {name}: {error}") from None
    html = str(parts["body"])
    html = re.sub(r'<span class="docutils literal">(.*?)</span>(?!</span>)', _code, html, flags=re.DOTALL)
    return html.replace('<pre class="literal-block">', '<pre class="docstring">')


def _sections(text: str) -> str:
    """Headings of sections in bold, and their items as lists."""
    out: list[str] = []
    section = ""
    for line in text.split("\n"):
        if heading := SECTION.fullmatch(line):
            section = heading[1]
            out += [f"**{section}**", ""]
            continue
        if line and not line.startswith(" "):
            if section:
                out.append("")
            section = ""
            line = PARAGRAPH.sub(r"**\1:** ", line) if not out or not out[-1].strip() else line
        if not section:
            out.append(line)
        elif section in ITEMS and (item := re.fullmatch(r"    (\S[^:]*): (.*)", line)):
            out.append(f"- ``{item[1].strip('`').replace(chr(92), '')}``: {item[2]}")
        elif section in ITEMS:
            out.append(f"  {line.strip()}".rstrip())
        else:
            out.append(line.removeprefix("    "))
    return "\n".join(out)


def _code(match: re.Match[str]) -> str:
    return "<code>" + re.sub(r"</?span[^>]*>", "", match[1]) + "</code>"


def _escaped(text: str) -> str:
    """``text`` in which ``*``, ``_`` and ``|`` mean nothing outside literals, and single backquotes are literals."""
    lines = text.split("\n")
    out: list[str] = []
    block: int | None = None  # the indentation of the line that announced a literal block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        out.append(line if block is not None or _is_rule(line) else _escaped_line(line))
        if block is None and line.rstrip().endswith("::"):
            block = indent
    return "\n".join(out)


def _is_rule(line: str) -> bool:
    return bool(re.fullmatch(r"\s*=+(\s+=+)*\s*", line))


def _escaped_line(line: str) -> str:
    bullet = re.match(r"\s*[*-] ", line)
    start = bullet.end() if bullet else 0
    pieces, at = [line[:start]], start
    for literal in LITERAL.finditer(line, start):
        pieces.append(_escaped_words(line[at : literal.start()]))
        pieces.append("``" + literal[0].strip("`") + "``")
        at = literal.end()
    pieces.append(_escaped_words(line[at:]))
    return "".join(pieces)


def _escaped_words(text: str) -> str:
    return re.sub(r"([*|])", r"\\\1", re.sub(r"(?<=\w)_(?!\w)", r"\\_", text))
