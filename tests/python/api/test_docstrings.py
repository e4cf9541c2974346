"""Every public name says what it does, in one style, so that ``help(name)`` is enough to use it.

A docstring is a summary, what there is to know, the sections Args, Returns and Raises (entries indented), and then
paragraphs ``Threads: ...`` and ``Bun: ...`` or ``RFC ...``. Bun's spellings are second names of the same objects.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

import uwserve
from uwserve import _bun_names, _core, metrics, stats, types
from uwserve._options.websocket import WEBSOCKET
from uwserve._run.stopped import Stopped

SOURCE = ROOT / "src" / "python" / "uwserve"
FACADE = "For the facade"  # what the native half has for the facade alone
SECTIONS = ("Args", "Returns", "Raises")
WITH_THREADS = ("Server", "ServerWebSocket", "WebSocketHandler", "Messages", "Stopped")
# Ours alone: no member of Bun's and no section of an RFC says what these do.
WITHOUT_SOURCE = {
    f"{cls}.{member}"
    for cls, listed in {
        "Messages": "aclose",
        "Request": "answered tls",
        "Response": "abandon asynchronous reusable stream stream_async streamed",
        "Server": "addresses bufferedBytes buffered_bytes call_soon finished on_loop_thread refused running stats "
        "stopping subscribers tasks topics",
        "ServerCollector": "collect describe",
        "ServerWebSocket": "id messages server",
        "Stopped": "done wait",
    }.items()
    for member in listed.split()
}
WITHOUT_COUNTERPART = ("Messages", "ServerCollector", "ConnectionClosed", "exposition", "registry")
CONSTRUCTED = ("ConnectionClosed", "Headers", "Response", "ServerCollector")

CLASSES: dict[str, type] = {
    "Messages": _core.Messages,
    "Stopped": Stopped,
    "ServerCollector": metrics.ServerCollector,
    **{name: value for name in uwserve.__all__ if inspect.isclass(value := getattr(uwserve, name))},
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "serve": uwserve.serve,
    "exposition": metrics.exposition,
    "registry": metrics.registry,
}


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public members that classes of ours give to ``cls``, as they stand in the class."""
    seen = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("uwserve"):
            continue
        for name, value in vars(base).items():
            if (
                name in seen
                or name.startswith("_")
                or not (callable(value) or inspect.isdatadescriptor(value) or is_method(value))
            ):
                continue
            if inspect.ismemberdescriptor(value) and not value.__doc__:
                continue  # a slot of a Python class: documented below its annotation
            seen.add(name)
            yield name, getattr(cls, name) if is_method(value) else value


def is_method(value: object) -> bool:
    return isinstance(value, (classmethod, staticmethod))


def doc_of(value: Any) -> str:
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def is_internal(value: Any) -> bool:
    return doc_of(value).startswith(FACADE)


MEMBERS = [
    pytest.param(name, member, value, id=f"{name}.{member}")
    for name, cls in CLASSES.items()
    for member, value in members(cls)
]
PUBLIC = [param for param in MEMBERS if not is_internal(param.values[2])]
CALLABLE = [
    pytest.param(*param.values[1:], getattr(CLASSES[str(param.values[0])], str(param.values[1])), id=param.id)
    for param in PUBLIC
    if callable(param.values[2])
] + [pytest.param(name, function, function, id=name) for name, function in FUNCTIONS.items()]


def section(doc: str, title: str) -> str | None:
    """What is indented below ``title:``."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    return found[1] if found else None


def entries(text: str) -> list[str]:
    return re.findall(r"^    (\*{0,2}\w+):", text, re.MULTILINE)


def parameters(function: Any) -> list[str]:
    """Their names as a section Args lists them."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    listed = inspect.signature(function).parameters.values()
    return [stars.get(parameter.kind, "") + parameter.name for parameter in listed if parameter.name != "self"]


def check_style(doc: str) -> None:
    lines = doc.splitlines()
    assert lines, "no docstring"
    assert lines[0].rstrip().endswith("."), f"the summary is a sentence of one line: {lines[0]!r}"
    assert len(lines) == 1 or lines[1] == "", "a summary stands alone"
    assert max(map(len, lines)) <= 120
    assert [title for title in SECTIONS if section(doc, title)] == re.findall(r"^(Args|Returns|Raises):$", doc, re.M)
    paragraphs = [found[1] for found in re.finditer(r"^(Threads|Bun): \S", doc, re.MULTILINE)]
    assert paragraphs in ([], ["Threads"], ["Bun"], ["Threads", "Bun"])


def test_there_is_something_to_look_at() -> None:
    assert len(PUBLIC) > 100
    assert {"ServerWebSocket.send", "ServerWebSocket.sendText", "Server.stats", "Request.json"} <= {
        str(param.id) for param in PUBLIC
    }


@pytest.mark.parametrize(("name", "member", "value"), MEMBERS)
def test_every_member_is_documented(name: str, member: str, value: Any) -> None:
    doc = doc_of(value)
    if is_internal(value):
        assert name == "Server"
        assert len(doc) > len(FACADE) + 10
        return
    check_style(doc)
    if name in WITH_THREADS and name != "WebSocketHandler":  # all on the server's, as the class says
        assert re.search(r"^Threads: ", doc, re.MULTILINE), "on which threads?"
    has_source = re.search(r"\bBun: |\bRFC \d+", doc) is not None
    assert has_source == (f"{name}.{member}" not in WITHOUT_SOURCE), "what does it mirror?"


def returns_nothing(function: Any) -> bool:
    """Its annotation says so, that of the stub for a native function: a section would only repeat it.

    An ``object`` is the result of a method of ``WebSocketHandler``, which is ignored, as the class says.
    """
    if hasattr(function, "__annotations__"):
        return function.__annotations__.get("return") in ("None", "object")
    return function.__name__ in NATIVE_WITHOUT_RESULT


@pytest.mark.parametrize(("member", "value", "function"), CALLABLE)
def test_every_callable_tells_how_to_call_it(member: str, value: Any, function: Any) -> None:
    doc = doc_of(value)
    check_style(doc)
    assert entries(section(doc, "Args") or "") == parameters(function)
    assert section(doc, "Returns") or returns_nothing(function), "what does it return?"


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_every_export_is_documented(name: str) -> None:
    value: Any = CLASSES.get(name) or FUNCTIONS[name]
    doc = doc_of(value)
    check_style(doc)
    assert ("Bun: " in doc) == (name not in WITHOUT_COUNTERPART), "what does it mirror?"
    if name in CONSTRUCTED:
        assert entries(section(doc, "Args") or "") == parameters(value)
    if name in ("serve", *WITH_THREADS, "Request", "Response", "Headers"):
        assert re.search(r"^Threads: ", doc, re.MULTILINE)


@pytest.mark.parametrize("cls", [*CLASSES.values(), _core.ServerCore, _core.TlsConfig], ids=lambda cls: cls.__name__)
def test_signatures(cls: type) -> None:
    """``inspect.signature`` answers for the facade's own functions, too."""
    inspect.signature(cls if cls.__init__ is not object.__init__ else len)
    for name, value in members(cls):
        if callable(value):
            listed = list(inspect.signature(value).parameters)
            assert is_method(inspect.getattr_static(cls, name)) or listed[0] == "self", name


# What Bun calls the same thing, where that is not among the aliases.
SAME_NAMES = {
    "ServerWebSocket": "data subscriptions send publish subscribe unsubscribe ping pong cork close terminate",
    "Server": "upgrade publish stop reload timeout url",
    "Headers": "append set delete get keys values",
    "Response": "json redirect",
    "Request": "method url headers bytes text json",
    "WebSocketHandler": "open message close drain ping pong",
}
ALIASES = {"ServerWebSocket": _bun_names.SERVER_WEBSOCKET, "Server": _bun_names.SERVER, "Headers": _bun_names.HEADERS}
OURS = {"bufferedBytes"}  # a spelling for Bun's programs of what Bun does not have


@pytest.mark.parametrize("name", SAME_NAMES)
def test_counterparts_are_named(name: str) -> None:
    cls = CLASSES[name]
    mirrored = {same: same for same in SAME_NAMES[name].split()}
    mirrored |= {own: alias for alias, own in ALIASES.get(name, {}).items() if alias not in OURS}
    for own, theirs in mirrored.items():
        assert f"Bun: {name}.{theirs}." in doc_of(inspect.getattr_static(cls, own)), own
    for alias, own in ALIASES.get(name, {}).items():
        assert doc_of(inspect.getattr_static(cls, alias)) == doc_of(inspect.getattr_static(cls, own))


NATIVE_WITHOUT_RESULT = {
    node.name
    for cls in ast.parse((SOURCE / "_core.pyi").read_text()).body
    if isinstance(cls, ast.ClassDef)
    for node in cls.body
    if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Constant) and node.returns.value is None
}


# --- what has no docstring at run time: the text below an annotation or an assignment ---


def described(body: list[ast.stmt]) -> Iterator[tuple[str, str | None]]:
    """Each public name that is annotated in ``body``, with the text below it."""
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            yield statement.target.id, str(below.value.value) if is_text else None  # type: ignore[union-attr]


def class_bodies(file: str) -> dict[str, list[ast.stmt]]:
    tree = ast.parse((SOURCE / file).read_text())
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize(
    ("file", "name"),
    [("_http/response.py", "Response"), ("_websocket/handler.py", "WebSocketHandler")],
)
def test_annotated_attributes(file: str, name: str) -> None:
    texts = dict(described(class_bodies(file)[name]))
    assert texts
    for attribute, text in texts.items():
        assert text, attribute
        assert text.splitlines()[0].endswith("."), attribute
        if name == "WebSocketHandler":
            theirs = {own: alias for alias, own in WEBSOCKET.aliases.items()}.get(attribute)
            ours = attribute in ("ping_interval", "max_lifetime", "serial", "max_concurrent_handlers", "protocols")
            assert f"Bun: {'none; ours' if ours else theirs}." in text, attribute


def test_aliases_of_types() -> None:
    """Each alias of ``uwserve.types`` is described below its definition, each class by its docstring."""
    texts = dict(described(ast.parse((SOURCE / "types.py").read_text()).body))
    for name in types.__all__:
        value = getattr(types, name)
        if name == "DataT":
            continue
        text = doc_of(value) if inspect.isclass(value) else texts[name]
        assert text, name
        assert text.splitlines()[0].endswith("."), name


@pytest.mark.parametrize("name", stats.__all__)
def test_statistics(name: str) -> None:
    assert doc_of(getattr(stats, name)).splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", [uwserve, metrics, stats, types], ids=lambda module: module.__name__)
def test_modules(module: Any) -> None:
    assert doc_of(module).splitlines()[0].endswith(".")


# --- the stub is the source of those of native members ---


def test_the_stub_has_every_docstring() -> None:
    """Those that the extension was built with, and those of the members that the facade puts on native types."""
    told: dict[str, str | None] = {}
    for cls, body in class_bodies("_core.pyi").items():
        told |= {f"{cls}.{name}": text for name, text in described(body)}
        for node in body:
            if isinstance(node, ast.FunctionDef):
                told[f"{cls}.{node.name}"] = told.get(f"{cls}.{node.name}") or ast.get_docstring(node)
    native = [cls for cls in vars(_core).values() if inspect.isclass(cls)]
    seen = {f"{cls.__name__}.{name}": value for cls in native for name, value in members(cls)}
    assert len(seen) > 100
    for name, value in seen.items():
        if name.partition(".")[2] in ALIASES["ServerWebSocket"] and name not in told:
            continue  # another name of a member that is there
        assert inspect.cleandoc(told[name] or "") == doc_of(value), name


def header_of(stub: str, folder: Path) -> str:
    """What the build makes of it."""
    source, made = folder / "_core.pyi", folder / "docstrings.h"
    source.write_text(stub)
    subprocess.run([sys.executable, ROOT / "tools" / "docstring_header.py", source, made], timeout=60, check=True)
    return made.read_text()


KINDS = '''
class Thing:
    """A "thing" of C:\\\\."""
    def __new__(cls, first: int, /) -> Thing: ...
    def __class_getitem__(cls, item: object, /) -> object:
        """Subscript."""
    x: int
    """A member.

    With more to say.
    """
    y: str
    @property
    def size(self) -> int:
        """Its size."""
    @size.setter
    def size(self, value: int) -> None: ...
    @staticmethod
    def check(code: int) -> None:
        """Check."""
    def call(self, fn: object, /, *args: object, key: bytes = b"", at: int = -1) -> int:
        """Call."""
    @overload
    def _send_(self, data: str = "a") -> int:
        """Send."""
    @overload
    def _send_(self, data: bytes = ...) -> int: ...
    # All overloads: def both(self, one=None, /, *, two={})
    @overload
    def both(self, one: int, /) -> None:
        """Both."""
    def silent(self) -> None: ...
'''


def test_the_header_has_signatures_and_texts(tmp_path: Path) -> None:
    native, pybind = header_of(KINDS, tmp_path).split("namespace pybind {")
    found = dict(re.findall(r'char (k\w+)\[\] = R"docs\((.*?)\)docs";', native, re.DOTALL))
    assert found == {
        "kThing": 'Thing(first, /)\n--\n\nA "thing" of C:\\.',
        "kThing_class_getitem": "__class_getitem__($type, item, /)\n--\n\nSubscript.",
        "kThing_x": "A member.\n\nWith more to say.",
        "kThing_size": "Its size.",
        "kThing_check": "check(code)\n--\n\nCheck.",
        "kThing_call": "call($self, fn, /, *args, key=b'', at=-1)\n--\n\nCall.",
        "kThing_send": "_send_($self, /, data='a')\n--\n\nSend.",
        "kThing_both": "both($self, one=None, /, *, two={})\n--\n\nBoth.",
    }
    assert dict(re.findall(r'char (k\w+)\[\] = R"docs\((.*?)\)docs";', pybind, re.DOTALL)) == {
        "kThing_call": "call(self, fn, /, *args, key=b'', at=-1)\n--\n\nCall.",
        "kThing_send": "_send_(self, data='a')\n--\n\nSend.",
        "kThing_both": "both(self, one=None, /, *, two={})\n--\n\nBoth.",
    }


def test_the_header_is_written_when_it_changes(tmp_path: Path) -> None:
    """So an edit of types alone compiles nothing."""
    stub = (SOURCE / "_core.pyi").read_text()
    first = header_of(stub, tmp_path)
    made = tmp_path / "docstrings.h"
    os.utime(made, (1, 1))
    assert header_of(stub.replace("-> SocketAddress | None", "-> object"), tmp_path) == first
    assert made.stat().st_mtime == 1
    assert "Sends one message: a str" in header_of(stub.replace("Send one message", "Sends one message"), tmp_path)
    assert made.stat().st_mtime != 1
