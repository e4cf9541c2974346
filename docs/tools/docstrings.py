"""Docstrings as HTML. They are reStructuredText of a plain kind: literals, lists, tables, literal blocks.

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
LITERAL = re.compile(r"``.+?``|`[^`\s][^`]*`", re.DOTALL)


class DocstringError(ValueError):
    """A docstring that is no proper text."""


def to_html(text: str, name: str) -> str:
    """The body of the docstring ``text`` of ``name``. ``DocstringError`` for what docutils cannot read."""
    try:
        parts = publish_parts(_escaped(inspect.cleandoc(text)), writer="html5", settings_overrides=SETTINGS)
    except SystemMessage as error:
        raise DocstringError(f"the docstring of {name}: {error}") from None
    html = str(parts["body"])
    html = re.sub(r'<span class="docutils literal">(.*?)</span>(?!</span>)', _code, html, flags=re.DOTALL)
    return html.replace('<pre class="literal-block">', '<pre class="docstring">')


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
