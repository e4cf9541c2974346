"""Suggestions for a wrong ``module:attribute``: found in the source, which is read and not run."""

from __future__ import annotations

import ast
import difflib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import Server
from .._options.serve import SERVE

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = frozenset(("fetch", "routes", "websocket"))
LIMIT = 5
"""How many names one line of help has."""


def hint_of_form(target: str) -> str:
    """For what is not of the form module:attribute: the command that was meant, as far as files tell."""
    module, _, attribute = target.partition(":")
    if not module:
        return ""
    path = _file_of(module)
    dotted = _dotted(module)
    if path is None:
        return f"; {_close_module(dotted)}" if _close_module(dotted) else ""
    names = in_source(path)
    if attribute:
        return f"; did you mean {_command(dotted, attribute)}?"
    if names:
        return f"; {path} has {_listed(names)}: did you mean {_command(dotted, names[0])}?"
    return (
        f"; {path} has no server that could be seen in its source: "
        f"{_command(dotted, 'NAME')} takes a Server, a dict of options or a function that returns one"
    )


def hint_of_module(name: str) -> str:
    """For a module that is not there."""
    return f"; {close}" if (close := _close_module(name)) else ""


def hint_of_attribute(module: object, attribute: str) -> str:
    """For an attribute that an imported module does not have."""
    names = [name for name, value in vars(module).items() if not name.startswith("_") and _is_target(module, value)]
    close = difflib.get_close_matches(attribute, [*names, *vars(module)], 1)
    text = f"; did you mean {close[0]!r}?" if close else ""
    return f"{text} It has {_listed(names)}" if names and text else f"; it has {_listed(names)}" if names else text


def in_source(path: Path) -> list[str]:
    """The names at the top level of a file that could be served, servers first."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = sorted(_names(tree), key=lambda pair: pair[0])
    return list(dict.fromkeys(name for _, name in found))


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(rank, name): 0 a call of serve(), 1 a dict of its options, 2 a function that calls serve() or returns a dict."""
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            rank = 0 if _is_serve(node.value) else 1 if _is_options(node.value) else None
            if rank is not None:
                yield from ((rank, target.id) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _required(node.args):
            if any(_is_serve(part) or _is_options(part) for part in ast.walk(node)):
                yield 2, node.name


def _is_serve(node: ast.AST | None) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    return (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) == "serve"


def _is_options(node: ast.AST | None) -> bool:
    keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} if isinstance(node, ast.Dict) else set()
    return bool(keys & OPTIONS)


def _required(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(default is None for default in arguments.kw_defaults)


def _is_target(module: object, value: Any) -> bool:
    if isinstance(value, dict):
        return not OPTIONS.isdisjoint(value) and all(SERVE.aliases.get(key, key) in SERVE for key in value)
    if isinstance(value, Server):
        return True
    code = getattr(value, "__code__", None)
    own = getattr(value, "__module__", None) == getattr(module, "__name__", "")
    return code is not None and own and code.co_argcount <= len(getattr(value, "__defaults__", None) or ())


def _file_of(module: str) -> Path | None:
    """The source of what was named as a file (``src/app.py``) or as a module (``src.app``), below this directory."""
    base = Path(module.removesuffix(".py") if module.endswith(".py") else module.replace(".", "/"))
    for path in (base.with_name(base.name + ".py") if base.name else None, base / "__init__.py"):
        if path is not None and path.is_file():
            return path
    return None


def _dotted(module: str) -> str:
    path = os.path.normpath(module.removesuffix(".py"))
    return path.removesuffix("/__init__").replace("/", ".").strip(".")


def _close_module(name: str) -> str:
    head, _, last = name.rpartition(".")
    folder = Path(*head.split(".")) if head else Path()
    if not folder.is_dir():
        return ""
    there = [path.stem for path in folder.glob("*.py")] + [path.parent.name for path in folder.glob("*/__init__.py")]
    close = difflib.get_close_matches(last, there, 1)
    return f"did you mean {'.'.join([head, close[0]] if head else [close[0]])!r}?" if close else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LIMIT} more" if len(names) > LIMIT else ""
    return ", ".join(names[:LIMIT]) + more


def _command(module: str, attribute: str) -> str:
    return f"`uwserve serve {shlex.quote(f'{module}:{attribute}')}`"
