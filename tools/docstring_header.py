"""Write the docstrings of the stub into a C++ header for the extension: ``docstring_header.py _core.pyi docstrings.h``.

The build runs it (src/cpp/py/CMakeLists.txt) with nothing but the standard library. ``ServerWebSocket.send`` becomes
``docs::kServerWebSocket_send``, its class ``docs::kServerWebSocket``; underscores around a name are left out. The
docstring of a method starts with the text signature that inspect.signature() reads, where "$self" stands for an
instance that a bound method has already. pybind11 binds methods in its own way and must not have the "$": for it there
is ``docs::pybind``.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HEADER = """// Made by tools/docstring_header.py from the docstrings of _core.pyi.
#pragma once

namespace uwserve::docs {{

{}
namespace pybind {{

{}
}}  // namespace pybind

}}  // namespace uwserve::docs
"""


def text_of(node: ast.stmt | None) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return None


def all_overloads(node: ast.FunctionDef, lines: list[str]) -> ast.FunctionDef:
    """The function with the parameters of all its overloads, where a comment above the first one spells them out."""
    start = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
    spelled_out = re.fullmatch(r" *# All overloads: (def .*)", lines[start - 2])
    common = ast.parse(f"{spelled_out[1]}: ...").body[0] if spelled_out else node
    assert isinstance(common, ast.FunctionDef)
    return common


def signature(name: str, node: ast.FunctionDef, first: str | None) -> str:
    """The start of a docstring that CPython takes as its text signature; ``first`` replaces the first parameter."""
    given = copy.deepcopy(node.args)
    for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg):
        if parameter:
            parameter.annotation = None
    if first is not None:
        given.posonlyargs = given.posonlyargs or [given.args.pop(0)]
        given.posonlyargs[:1] = [ast.arg(first)] if first else []
    return f"{name}({ast.unparse(given)})\n--\n\n"


def docstrings(cls: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str, str | None]]:
    """Name, docstring and, where that is another one, docstring for pybind11 of the class and of its members."""
    if text := text_of(cls.body[0]):
        made = [node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__new__"]
        yield cls.name, "".join(signature(cls.name, node, "") for node in made) + text, None
    for node, below in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and (text := text_of(below)):
            yield f"{cls.name}_{node.target.id.strip('_')}", text, None
        elif isinstance(node, ast.FunctionDef) and (text := text_of(node.body[0])):
            name = f"{cls.name}_{node.name.strip('_')}"
            marks = {ast.unparse(mark) for mark in node.decorator_list}
            common = all_overloads(node, lines)
            if "property" in marks:
                yield name, text, None
            elif "staticmethod" in marks:
                yield name, signature(node.name, common, None) + text, None
            elif node.name == "__class_getitem__":  # a class method without a decorator
                yield name, signature(node.name, common, "$type") + text, None
            else:
                yield name, signature(node.name, common, "$self") + text, signature(node.name, common, None) + text


def header(stub: str) -> str:
    def constant(name: str, text: str) -> str:
        return f'inline constexpr char k{name}[] = R"docs({text})docs";\n'

    lines, body = stub.splitlines(), ast.parse(stub).body
    found = [item for cls in body if isinstance(cls, ast.ClassDef) for item in docstrings(cls, lines)]
    found += [
        (node.name, signature(node.name, node, None) + text, None)
        for node in body
        if isinstance(node, ast.FunctionDef) and (text := text_of(node.body[0]))
    ]
    return HEADER.format(
        "\n".join(constant(name, text) for name, text, _ in found),
        "\n".join(constant(name, text) for name, _, text in found if text is not None),
    )


def main(stub: Path, written: Path) -> None:
    made = header(stub.read_text(encoding="utf-8"))
    # An edit of declarations alone compiles nothing anew.
    if not written.exists() or written.read_text(encoding="utf-8") != made:
        written.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
