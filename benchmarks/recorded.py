"""Writes the files in ``results``: JSON with one line for each case and server, so that a run is short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(document: dict[str, Any], path: Path, levels: int) -> None:
    """A value that is ``levels`` deep in ``document``, is an item of a list, or fits in a line, is on one line."""
    path.write_text(text(document, levels) + "\n")


def text(value: Any, levels: int, indent: str = "") -> str:
    line = json.dumps(value)
    if levels == 0 or not isinstance(value, dict | list) or len(indent) + len(line) <= 120:
        return line
    inner = indent + " "
    if isinstance(value, list):
        items, ends = [text(item, 0) for item in value], "[]"
    else:
        items = [f"{json.dumps(key)}: {text(item, levels - 1, inner)}" for key, item in value.items()]
        ends = "{}"
    return ends[0] + "\n" + ",\n".join(inner + item for item in items) + "\n" + indent + ends[1]
