"""The types that the package promises are those it has: generics at run time, options in both spellings, the stub.

What mypy and pyright say of programs is in ``tests/typing``, and run by ``make lint``, as is mypy's stubtest.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from types import GenericAlias
from typing import Any, Generic, TypeVar

import pytest
from paths import ROOT

import uwserve
from uwserve import Server, ServerWebSocket, WebSocketHandler, _core, serve, stats, types
from uwserve._http.routes import METHODS
from uwserve._options.limits import LIMITS
from uwserve._options.own_pages import DASHBOARD
from uwserve._options.serve import SERVE
from uwserve._options.tls import TLS
from uwserve._options.websocket import DEFLATE_MODES, WEBSOCKET

PACKAGE = ROOT / "src" / "python" / "uwserve"


class User:
    name = "Ann"


# --- generic at run time ---


@pytest.mark.parametrize("cls", [Server, ServerWebSocket, WebSocketHandler, _core.ServerCore])
def test_subscripts(cls: Any) -> None:
    alias = cls[User]
    assert isinstance(alias, GenericAlias)
    assert alias.__origin__ is cls
    assert alias.__args__ == (User,)
    assert typing.get_origin(cls[int]) is cls


def test_annotations_work_unquoted() -> None:
    """As a program without ``from __future__ import annotations`` has them."""
    code = (
        "import typing\n"
        "from uwserve import Server, ServerWebSocket\n"
        "def message(ws: ServerWebSocket[int], message: str | bytes) -> None: ...\n"
        "def fetch(request: object, server: Server[int] | None = None) -> None: ...\n"
    )
    names: dict[str, Any] = {}
    exec(compile(code, "program", "exec", dont_inherit=True), names)
    hints = typing.get_type_hints(names["message"])
    assert hints["ws"] == ServerWebSocket[int]
    assert typing.get_type_hints(names["fetch"])["server"] == Server[int] | None


def test_handlers_derive_from_a_subscript() -> None:
    variable = TypeVar("variable")

    class Base(WebSocketHandler[variable], Generic[variable]):  # type: ignore[valid-type]
        def message(self, ws: Any, message: Any) -> None: ...

    class Chat(Base[User]):
        idle_timeout = 60

    assert Chat.__mro__[:3] == (Chat, Base, WebSocketHandler)
    assert Chat[int].__origin__ is Chat  # type: ignore[misc]
    with serve(websocket=Chat(), fetch=lambda request: None, port=0) as server:
        assert isinstance(server, Server)


def test_sockets_stay_as_they_were() -> None:
    """A subscript makes no instances, and the type cannot be derived from or changed."""
    with pytest.raises(TypeError):
        ServerWebSocket[int]()
    with pytest.raises(TypeError):
        type("Socket", (ServerWebSocket[int].__origin__,), {})


# --- the dicts of options ---


@pytest.mark.parametrize(
    ("typed", "table"),
    [
        (types.WebSocketOptions, WEBSOCKET),
        (types.TlsOptions, TLS),
        (types.LimitOptions, LIMITS),
        (types.DashboardOptions, DASHBOARD),
        (types.ServeOptions, SERVE),
    ],
)
def test_every_option_under_every_name(typed: Any, table: Any) -> None:
    """The table of options has no name that its type lacks, and lacks none that it has."""
    hints = typing.get_type_hints(typed)
    assert set(hints) == {*table, *table.aliases}
    for alias, name in table.aliases.items():
        assert hints[alias] == hints[name]


def test_options_of_reload() -> None:
    fixed = {name for option in SERVE.values() if option.fixed for name in (option.name, *option.aliases)}
    assert set(types.ServeOptions.__annotations__) - set(types.ReloadOptions.__annotations__) == fixed


def test_required_options() -> None:
    assert types.TlsOptions.__required_keys__ == {"key", "cert"}
    for typed in (types.WebSocketOptions, types.LimitOptions, types.ServeOptions, types.UpgradeOptions):
        assert not typed.__required_keys__


def test_literals() -> None:
    def literals(alias: Any) -> set[Any]:
        return {value for part in typing.get_args(alias) for value in typing.get_args(part) or [part]}

    assert literals(types.DeflateMode) - {bool} == set(DEFLATE_MODES)
    assert literals(types.BinaryType) == {"bytes", "bytearray", "memoryview"}
    assert set(typing.get_args(types.Method)) == set(METHODS)


def test_what_tls_tells() -> None:
    """The keys as the native half makes them."""
    source = (PACKAGE.parents[1] / "cpp" / "py" / "request" / "tls.cpp").read_text()
    made = source[source.index("Py_BuildValue") :]
    assert all(f'"{key}"' in made for key in types.TlsInfo.__annotations__)
    assert made[: made.index('"version"')].count("s:") == len(types.TlsInfo.__annotations__)


def test_upgrade_takes_what_its_type_has() -> None:
    given = list(inspect.signature(Server.upgrade).parameters)
    assert set(types.UpgradeOptions.__annotations__) == set(given[3:])


def test_buffers() -> None:
    for made in (b"", bytearray(), memoryview(b"")):
        assert isinstance(made, types.Buffer)
    assert not isinstance("", types.Buffer)


def test_aliases_take_a_subscript() -> None:
    for alias in (types.FetchHandler, types.Route, types.Routes, types.WebSocketOptions, types.UpgradeOptions):
        assert alias[User] is not None


def test_statistics_have_their_types() -> None:
    def check(value: Any, typed: Any) -> None:
        hints = typing.get_type_hints(typed)
        assert set(value) == set(hints)
        for key, hint in hints.items():
            if typing.is_typeddict(hint):
                check(value[key], hint)

    with serve(fetch=lambda request: None, port=0) as server:
        check(server.stats(), stats.ServerStats)


# --- exports and the stub ---


@pytest.mark.parametrize("module", [uwserve, types, stats], ids=lambda module: module.__name__)
def test_exports(module: Any) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), name


def test_exports_of_the_native_half_are_in_the_stub() -> None:
    """What ``uwserve`` exports from ``_core`` is there under that name, with a class in the stub."""
    declared = {node.name for node in stub().body if isinstance(node, ast.ClassDef)}
    native = [name for name in uwserve.__all__ if getattr(getattr(uwserve, name), "__module__", "") == _core.__name__]
    assert set(native) == {"Request", "ServerWebSocket"}
    assert set(native) <= declared


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "_core.pyi").read_text())


def declared_methods() -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in stub().body:
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                is_property = isinstance(part, ast.FunctionDef) and any(
                    isinstance(mark, ast.Attribute) or (isinstance(mark, ast.Name) and mark.id == "property")
                    for mark in part.decorator_list
                )
                if isinstance(part, ast.FunctionDef) and not is_property:
                    found.setdefault(f"{node.name}.{part.name}", []).append(part)
    return found


METHODS_OF_STUB = declared_methods()


@pytest.mark.parametrize("name", [name for name in METHODS_OF_STUB if "__" not in name])
def test_parameters_are_those_of_the_stub(name: str) -> None:
    """Names, kinds and defaults of a method's text signature; of overloads each must fit into it."""
    cls, _, method = name.partition(".")
    real = inspect.signature(getattr(getattr(_core, cls), method)).parameters
    declared: dict[str, set[str]] = {}
    for node in METHODS_OF_STUB[name]:
        given = node.args
        for kind, listed in (
            ("positional only", given.posonlyargs),
            ("either", given.args),
            ("keyword only", given.kwonlyargs),
            ("*", [given.vararg] if given.vararg else []),
        ):
            for argument in listed:
                declared.setdefault(argument.arg, set()).add(kind)
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: "positional only",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
        inspect.Parameter.KEYWORD_ONLY: "keyword only",
        inspect.Parameter.VAR_POSITIONAL: "*",
    }
    own = {"self"}  # which no caller names
    assert set(declared) - own == set(real) - own
    for parameter in real.values():
        if parameter.name not in own:
            assert declared[parameter.name] == {kinds[parameter.kind]}, parameter.name


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (Path(uwserve.__path__[0]) / "py.typed").exists()
    assert (Path(uwserve.__path__[0]) / "_core.pyi").exists()


def test_types_cost_nothing_at_import() -> None:
    """``import uwserve`` needs neither ``typing`` nor ``uwserve.types``, and nothing needs typing_extensions."""
    code = (
        "import sys; import uwserve; early = {'typing', 'uwserve.types'} & set(sys.modules); "
        "import uwserve.types; print(sorted(early), 'typing_extensions' in sys.modules)"
    )
    root = uwserve.__path__[0].rpartition("/")[0]
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({root!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[] False\n"
