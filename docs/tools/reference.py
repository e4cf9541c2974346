"""The API reference: a page of Markdown for each class and module.

Signatures, types and docstrings come from the sources and from the stub ``_core.pyi``, read by griffe; the installed
package is asked for the names that its modules export. A public name without a
docstring is an error, and so is one that is on no page.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import griffe
from docstrings import DocstringError, to_html

from uwserve import _bun_names
from uwserve._options.websocket import WEBSOCKET

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "uwserve"

NO_API = frozenset(("cli", "dashboard", "demo"))
"""Modules without a leading underscore that are no API."""

ALIASES = {
    "ServerWebSocket": _bun_names.SERVER_WEBSOCKET,
    "Server": _bun_names.SERVER,
    "Headers": _bun_names.HEADERS,
    "Response": _bun_names.RESPONSE,
    "CookieMap": _bun_names.COOKIE_MAP,
    "WebSocketHandler": WEBSOCKET.aliases,
}
OWN_PAGE = ("serve", "Server", "ServerWebSocket", "WebSocketHandler", "Request", "Response", "Headers")


@dataclass
class Reference:
    """The pages, and where each name is: ``names["Server.stop"] == "Server.md#Server.stop"``."""

    pages: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def public_modules(package: griffe.Module) -> dict[str, list[str]]:
    """The modules of the API with their public names: what ``__all__`` says."""
    found = {PACKAGE: list(importlib.import_module(PACKAGE).__all__)}
    for name, module in sorted(package.modules.items()):
        if name.startswith("_") or name in NO_API:
            continue
        exports = module.exports
        if exports is None:
            raise ValueError(f"{PACKAGE}.{name} has no __all__: is it public?")
        found[f"{PACKAGE}.{name}"] = [str(export) for export in exports]
    return found


def make() -> Reference:
    """Read everything and write every page."""
    package = griffe.load(PACKAGE, search_paths=[ROOT / "src" / "python"], allow_inspection=False)
    assert isinstance(package, griffe.Module)
    reference = Reference()
    modules = public_modules(package)
    names = [name for name in modules.pop(PACKAGE) if name != "__version__"]
    for name in names:
        if name in OWN_PAGE:
            _page(reference, f"{name}.md", f"`{name}`", "", [(name, package[name])])
    others = [name for name in names if name not in OWN_PAGE]
    intro = "Names of `uwserve` that the others return, raise or take."
    _page(reference, "others.md", "Other names", intro, [(name, package[name]) for name in others])
    for path, exports in modules.items():
        module = package[path.partition(".")[2]]
        intro = _html(reference, path, module.docstring.value if module.docstring else None)
        qualified = [(f"{path.partition('.')[2]}.{name}", module[name]) for name in exports]
        _page(reference, f"{path.partition('.')[2]}.md", f"`{path}`", intro, qualified)
    reference.pages["index.md"] = _index(reference)
    reference.titles["index.md"] = "Overview"
    return reference


def _index(reference: Reference) -> str:
    lines = [
        "# API reference",
        "",
        "Made from the docstrings: `help(uwserve.ServerWebSocket.send)` says the same in a terminal. Bun's spellings",
        "are second names of the same members, see [Coming from Bun](../coming-from/bun.md).",
        "",
    ]
    for page, title in reference.titles.items():
        links = [f"[`{name}`]({at})" for name, at in reference.names.items() if at.startswith(f"{page}#")]
        lines += [f"## [{title}]({page})", "", ", ".join(links), ""]
    return "\n".join(lines)


def _page(
    reference: Reference, page: str, title: str, intro: str, objects: list[tuple[str, griffe.Object | griffe.Alias]]
) -> None:
    parts = [f"# {title}", intro]
    alone = len(objects) == 1
    for name, found in objects:
        target = found.final_target if isinstance(found, griffe.Alias) else found
        reference.names[name] = f"{page}#{name}"
        if alone:
            parts[0] = f"# {title} {{ #{name} }}"
        else:
            parts.append(f"## `{name.rpartition('.')[2]}` {{ #{name} }}")
        parts += _object(reference, page, name, target)
    reference.pages[page] = "\n\n".join(part for part in parts if part) + "\n"
    reference.titles[page] = title


def _object(reference: Reference, page: str, name: str, target: griffe.Object) -> Iterator[str]:
    if isinstance(target, griffe.Class):
        yield from _class(reference, page, name, target)
        return
    if isinstance(target, griffe.Function):
        yield _signature(target, name.rpartition(".")[2])
    elif isinstance(target, griffe.Attribute) and (target.annotation or target.value):
        kind = f": {target.annotation}" if target.annotation else ""
        value = f" = {target.value}" if target.value else ""
        yield _code(f"{name.rpartition('.')[2]}{kind}{value}")
    yield _html(reference, name, _docstring(target))


def _class(reference: Reference, page: str, name: str, target: griffe.Class) -> Iterator[str]:
    shown = [str(base) for base in target.bases if not str(base).rpartition(".")[2].startswith(("_", "ServerCore"))]
    fields = getattr(getattr(importlib.import_module(PACKAGE), target.name, None), "_fields", ())
    if fields:  # a named tuple: its docstring tells of them
        yield "".join(f'<a id="{name}.{field}"></a>' for field in fields)
        reference.names |= {f"{name}.{field}": f"{page}#{name}.{field}" for field in fields}
        shown = list(fields)
    yield _code(f"class {target.name}" + (f"({', '.join(shown)})" if shown else ""))
    yield _html(reference, name, _docstring(target))
    aliases = {canonical: alias for alias, canonical in ALIASES.get(name, {}).items()}
    is_typed_dict = _is_typed_dict(target)
    members = _members(name, target)
    yield from _contents(members)
    for member in members:
        anchor = f"{name}.{member.name}"
        reference.names[anchor] = f"{page}#{anchor}"
        yield f"### `{member.name}` {{ #{anchor} }}"
        if isinstance(member, griffe.Function):
            yield _signature(member, member.name)
        elif isinstance(member, griffe.Attribute):
            kind = f": {member.annotation}" if member.annotation else ""
            shows = member.value and "class-attribute" in member.labels and "instance-attribute" not in member.labels
            yield _code(f"{member.name}{kind}" + (f" = {member.value}" if shows else ""))
        if member.name in aliases:
            yield f"Bun's spelling: `{aliases[member.name]}`"
            reference.names[f"{name}.{aliases[member.name]}"] = f"{page}#{anchor}"
        text = _docstring(member)
        if text is None and (is_typed_dict or _is_enum(target)):
            continue  # its name and the class tell it
        yield _html(reference, anchor, text)


def _contents(members: list[griffe.Object]) -> Iterator[str]:
    if len(members) > 3:
        yield " · ".join(f"`{member.name}`" for member in members)


def _members(name: str, target: griffe.Class) -> list[griffe.Object]:
    """What is public: first what is read, then what is called, in the order of the source, own members first."""
    hidden = set(ALIASES.get(name, ()))
    found: dict[str, griffe.Object] = {}
    for owner in (target, *target.mro()):
        members = {key: m.final_target if isinstance(m, griffe.Alias) else m for key, m in owner.members.items()}
        for key, variants in owner.overloads.items():
            if key not in members:  # a stub has no implementation beside them
                members[key] = variants[0]
                variants[0].overloads = list(variants)
        for key, member in sorted(members.items(), key=lambda item: item[1].lineno or 0):
            if not key.startswith("_") and key not in hidden and str(member.path).startswith(PACKAGE):
                found.setdefault(key, member)
    return sorted(found.values(), key=lambda member: isinstance(member, griffe.Function))


def _is_typed_dict(target: griffe.Class) -> bool:
    return any(str(base).startswith("TypedDict") for base in target.bases) or any(
        isinstance(base, griffe.Class) and _is_typed_dict(base) for base in target.resolved_bases
    )


def _is_enum(target: griffe.Class) -> bool:
    return any("Enum" in str(base) for base in target.bases)


def _docstring(target: griffe.Object) -> str | None:
    return target.docstring.value if target.docstring else None


def _html(reference: Reference, name: str, text: str | None) -> str:
    if not text:
        reference.errors.append(f"{name} has no docstring")
        return ""
    try:
        return f'<div class="docstring">\n{to_html(text, name)}\n</div>'
    except DocstringError as error:
        reference.errors.append(str(error))
        return ""


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _signature(function: griffe.Function, name: str) -> str:
    """As it is called: without ``self``; each overload in a line of its own."""
    variants = function.overloads or [function]
    return _code("\n".join(_one_signature(variant, name) for variant in variants))


def _one_signature(function: griffe.Function, name: str) -> str:
    kind = griffe.ParameterKind
    parts: list[str] = []
    parameters = [p for p in function.parameters if p.name not in ("self", "cls")]
    for index, parameter in enumerate(parameters):
        star = {kind.var_positional: "*", kind.var_keyword: "**"}.get(parameter.kind, "")
        before = parameters[index - 1].kind if index else None
        if parameter.kind is kind.keyword_only and before not in (kind.keyword_only, kind.var_positional):
            parts.append("*")
        text = star + parameter.name + (f": {parameter.annotation}" if parameter.annotation else "")
        if parameter.default is not None and not star:
            text += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
        parts.append(text)
        after = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind is kind.positional_only and after is not kind.positional_only:
            parts.append("/")
    returns = f" -> {function.returns}" if function.returns else ""
    prefix = "async def " if "async" in function.labels else "def "
    line = f"{prefix}{name}({', '.join(parts)}){returns}"
    if len(line) <= 100:
        return line
    return f"{prefix}{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"
