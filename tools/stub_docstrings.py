"""Write the docstrings of the installed extension into its stub, where editors look: ``stub_docstrings.py [--check]``.

The one source of a docstring is the C++ or Python that puts it on the member (``src/cpp/py/*_docs.h``). A stub cannot
import it, and an editor reads nothing else, so it stands in ``_core.pyi`` a second time, word for word. What only the
facade uses has comments in the stub instead. With ``--check`` nothing is written: exit code 1, and what differs.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

STUB = Path(__file__).resolve().parent.parent / "src" / "python" / "uwserve" / "_core.pyi"
INTERNAL = "For the "  # "For the facade.", "For the dashboard.": so begins the docstring of what no user calls


def wanted(owner: object, name: str) -> str | None:
    """The docstring at run time of a public member of a class; None for what is not meant for users."""
    found = inspect.getattr_static(owner, name)
    found = found.__func__ if isinstance(found, staticmethod) else found
    text = inspect.cleandoc(getattr(found, "__doc__", None) or "").strip()
    return text if text and not name.startswith("_") and not text.startswith(INTERNAL) else None


def literal(text: str, indent: str) -> list[str]:
    """The lines of a docstring."""
    mark = 'r"""' if "\\" in text else '"""'
    if '"""' in text or text.endswith("\\"):
        raise ValueError(f"no docstring in triple quotes can hold {text!r}")
    lines = (mark + text).split("\n")
    if len(lines) > 1 or text.endswith('"'):
        lines.append("")
    lines[-1] += '"""'
    return [(indent + line).rstrip() for line in lines]


def is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_accessor(node: ast.FunctionDef) -> bool:
    """A setter or deleter: the getter has the docstring of both."""
    return any(isinstance(mark, ast.Attribute) for mark in node.decorator_list)


def edits(tree: ast.Module, lines: list[str], module: object) -> Iterator[tuple[int, int, list[str]]]:
    """What is to stand in place of which lines: first and last, counted from 1; none when last is before first."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        owner = getattr(module, node.name)
        if text := wanted(module, node.name):
            first = node.body[0]
            start = first.lineno if is_text(first) else node.lineno + 1
            yield start, (first.end_lineno or 0) if is_text(first) else node.lineno, literal(text, "    ")
        documented: set[str] = set()
        for part, below in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                if text := wanted(owner, part.target.id):
                    end = part.end_lineno or 0
                    yield end + 1, ((below.end_lineno or 0) if below and is_text(below) else end), literal(text, "    ")
            elif isinstance(part, ast.FunctionDef) and not is_accessor(part) and part.name not in documented:
                documented.add(part.name)  # of overloads the first
                if text := wanted(owner, part.name):
                    yield function_edit(part, lines, text)


def function_edit(node: ast.FunctionDef, lines: list[str], text: str) -> tuple[int, int, list[str]]:
    body = node.body[0]
    if is_text(body):
        return body.lineno, body.end_lineno or 0, literal(text, " " * body.col_offset)
    line = lines[body.lineno - 1]
    if not re.fullmatch(r"\.\.\.", line[body.col_offset :]):
        raise ValueError(f"line {body.lineno}: a function without a docstring ends in '...', without a comment")
    header = line[: body.col_offset].rstrip()
    return body.lineno, body.lineno, [header, *literal(text, " " * (node.col_offset + 4))]


def rewritten(stub: str, module: object) -> str:
    """The stub with the docstrings of ``module``, everything else as it is."""
    lines = stub.splitlines()
    for start, end, new in reversed(list(edits(ast.parse(stub), lines, module))):
        lines[start - 1 : end] = new
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when the stub differs")
    parser.add_argument("--stub", type=Path, default=STUB, help="another stub than that of this tree")
    options = parser.parse_args()
    import uwserve  # its facade completes the native types

    stub = options.stub.read_text()
    new = rewritten(stub, uwserve._core)
    if options.check:
        sys.stdout.writelines(difflib.unified_diff(stub.splitlines(True), new.splitlines(True), "stub", "run time"))
        return 1 if new != stub else 0
    if new != stub:
        options.stub.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
