"""The architecture, checked by reading the tree: who includes what, and what the stub promises.

Needs no running server; ``make lint`` runs it alone.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from uwserve import _core

CPP = ROOT / "src" / "cpp"
PYTHON = ROOT / "src" / "python" / "uwserve"
SOURCE_SUFFIXES = {".h", ".cpp", ".py", ".pyi", ".html", ".txt", ".cmake"}
UPSTREAM_HEADERS = {
    f"{name}.h"
    for name in [
        "App",
        "AsyncSocket",
        "AsyncSocketData",
        "HttpContext",
        "HttpParser",
        "HttpResponse",
        "HttpRouter",
        "Loop",
        "LoopData",
        "MoveOnlyFunction",
        "PerMessageDeflate",
        "TopicTree",
        "Utilities",
        "WebSocket",
        "WebSocketContext",
        "WebSocketData",
        "WebSocketExtensions",
        "WebSocketHandshake",
        "WebSocketProtocol",
    ]
}


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE))


def files(folder: Path, *suffixes: str) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    assert found, f"nothing in {folder.name}"
    return found


def named(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """(path relative to the layer, what it includes) of each C++ file of a layer."""
    for path in files(folder, ".h", ".cpp"):
        yield str(path.relative_to(CPP)), includes(path)


def tracked() -> list[Path]:
    """The files of the repository, or of the tree where that is not to be had."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]
    return [
        path
        for folder in ("src", "tests", "examples", "vendor")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    ]


# --- who includes what ---


def test_usockets_knows_neither_python_nor_uwebsockets() -> None:
    for name, included in named(CPP / "usockets"):
        assert not any(
            "Python.h" in header or header.startswith(("pybind11", "uws/", "py/", "../")) for header in included
        ), name
        assert not included & UPSTREAM_HEADERS, name
        if "usockets/tls/" not in name:
            assert not any(header.startswith("openssl/") for header in included), name


def test_uws_is_the_one_door_to_uwebsockets() -> None:
    doors = set()
    for layer in ("usockets", "uws", "py"):
        for name, included in named(CPP / layer):
            if included & UPSTREAM_HEADERS or any("uWebSockets" in header for header in included):
                doors.add(name)
            if layer == "uws":
                assert not any("Python.h" in header or header.startswith("pybind11") for header in included), name
    assert doors == {"uws/upstream/uwebsockets.h"}


BELOW_UWS = (
    r"\bus_\w+|\bUS_[A-Z]\w+|\buWS\b|\b(TopicTree|ContextData|UpstreamAccess|\w+Access::\w+)\b"
    r"|\b(loop_data|websocket_data|subscriber_of|message_buffer_of|topics_of)\("
    r"|\bws(\(\))?->(send|end|close|cork|subscribe|unsubscribe|isSubscribed|getBufferedAmount|publish)\("
)


def test_the_binding_calls_uws_only() -> None:
    """No function of the socket layer and no name of uWebSockets in py: everything goes through uws."""
    reaching = {
        name for name, _ in named(CPP / "py") if re.search(BELOW_UWS, re.sub(r"//.*", "", (CPP / name).read_text()))
    }
    assert not reaching


def test_py_touches_neither_openssl_nor_epoll() -> None:
    for name, included in named(CPP / "py"):
        assert not any(
            header.startswith(("openssl/", "sys/epoll", "sys/eventfd", "sys/timerfd")) for header in included
        ), name
        assert not re.search(r"\b(epoll_\w+|SSL_\w+)\s*\(", (CPP / name).read_text()), name


def test_pybind11_stays_in_cold_files() -> None:
    cold = {
        "py/module.cpp",
        "py/server/bind.cpp",
        "py/server/stats.cpp",
        "py/server/tls_config.cpp",
        "py/server/bind.h",
        "py/server/stats.h",
        "py/server/tls_config.h",
    }
    for name, included in named(CPP / "py"):
        if name not in cold:
            assert not any(header.startswith("pybind11") for header in included), name
            assert "py::" not in (CPP / name).read_text(), name
            assert "py/server/bind.h" not in included or name == "py/request/request.cpp", name


# What of Python's C API may run code, and lets a thread end there in CPython before 3.14 (py/interpreter/at_exit.h).
RUNS_CODE = (
    r"PyObject_(Call\w*|Vectorcall\w*|Get(Iter|Attr\w*|Item|Buffer)|SetAttr\w*|HasAttr\w*|IsInstance|IsTrue|Str|Repr)"
    r"|PyIter_(Send|Next)|PySequence_(Fast|List|Tuple)|PyImport_\w+|PyErr_(WriteUnraisable|NormalizeException)"
    r"|PyEval_RestoreThread|PyMemoryView_From\w+|Py(Dict|List|Set|Tuple)_(New|Pack)|Py_BuildValue|PyContext_Copy\w*"
    r"|PyBuffer_Release|tp_alloc|Py_END_ALLOW_THREADS|gil_scoped_\w+"
)


def test_python_is_called_where_its_end_is_thought_of() -> None:
    for name, _ in named(CPP / "py"):
        text = re.sub(r"//.*", "", (CPP / name).read_text())
        if name != "py/interpreter/at_exit.h":
            assert not re.search(rf"\b({RUNS_CODE})\b(?!>\()", text), name


# Where a reference is counted by hand, because the C API's structure wants a raw one: allocation and deallocation of
# the types, the exception that run() hands on, owners that die without the GIL, results dropped on the hot path.
COUNTS_BY_HAND = {
    "py/interpreter/ref.h",
    "py/interpreter/types.h",
    "py/websocket/messages.cpp",
    "py/module.cpp",
    "py/coroutines/first_step.h",
    "py/server/core.cpp",
}


def test_reference_counts_are_in_few_files() -> None:
    counting = {
        str(path.relative_to(CPP))
        for path in files(CPP, ".h", ".cpp")
        if re.search(r"\bPy_X?(INCREF|DECREF)\b", path.read_text())
    }
    assert counting <= COUNTS_BY_HAND, counting - COUNTS_BY_HAND


def test_python_layers() -> None:
    """The facade imports only itself and the standard library; some files, if it is there, one library more each."""
    optional = {"metrics.py": "prometheus_client", "tasks.py": "uvloop", "plugin.py": "pytest"}
    optional |= {f"hook-uwserve{part}.py": "PyInstaller" for part in ("", ".cli")}  # only PyInstaller runs them
    for path in files(PYTHON, ".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                allowed = ("uwserve", "typing_extensions", optional.get(path.name))
                assert top in sys.stdlib_module_names or top in allowed, f"{path.name}: {name}"


# Imports that wait until an option asks for an optional part, which itself imports the package.
OPTIONAL_PARTS = {
    ("uwserve._options.own_pages", "uwserve.metrics"),
    ("uwserve._run.own_routes", "uwserve.metrics"),
    ("uwserve._run.own_routes", "uwserve.dashboard"),
}


def modules() -> dict[str, Path]:
    """The facade's modules by name."""
    found = {}
    for path in files(PYTHON, ".py"):
        parts = ["uwserve", *path.relative_to(PYTHON).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The facade's modules that a module imports: at its top, in functions, and for type checkers."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            names = [alias.name for alias in node.names if alias.name != "_core"]  # the extension imports no module
            found.update(inside if (inside := f"{source}.{name}") in known else source for name in names)
    # The public types of annotations describe the whole package; only type checkers follow these imports.
    return {other for other in found & set(known) if other != "uwserve.types" and (name, other) not in OPTIONAL_PARTS}


def test_no_modules_import_each_other() -> None:
    """The import graph of the facade has no cycle, so it can be read from the bottom up."""
    known = modules()
    graph = {name: imports(name, path, known) for name, path in known.items()}
    assert len(graph) > 50
    while leaves := [name for name, needed in graph.items() if not needed & set(graph)]:
        for name in leaves:
            del graph[name]
    assert not graph, {name: needed & set(graph) for name, needed in graph.items()}


def test_no_method_waits_for_a_class_that_derives() -> None:
    """No part of the facade is a class in pieces, with stubs for the other pieces."""
    for path in files(PYTHON, ".py"):
        assert "NotImplementedError" not in path.read_text(), path.name


def test_users_see_users_members() -> None:
    """Whatever only the facade needs is behind one private attribute."""
    from uwserve import Request, Server, ServerWebSocket, serve
    from uwserve._run.stopped import Stopped

    own = {name for base in Server.__mro__ for name in vars(base) if name.startswith("_") and not name.endswith("_")}
    assert own <= {"_pybind11_conduit_v1_"}
    server = serve(port=0, hostname="127.0.0.1", fetch=lambda request: None)
    assert set(vars(server)) == {"_control"}
    server.stop(True)
    for kind, private in ((ServerWebSocket, set()), (Request, set()), (Stopped, {"_completion"})):
        assert {name for name in dir(kind) if name.startswith("_") and not name.endswith("_")} == private


# What CPython gets of its own.
OF_PYTHON = {"PyVectorcall_Call", "PyObject_SelfIter", "Py_GenericAlias"}


def test_no_function_is_registered_that_could_throw_into_python() -> None:
    """Methods, getters, slots and vectorcalls go through the wrapper of py/interpreter/exception_barrier.h."""
    seen = 0
    for name, _ in named(CPP / "py"):
        text = re.sub(r"//.*", "", (CPP / name).read_text())
        methods = re.findall(r'\{\s*"\w+",\s*([^",]+),\s*METH_', text)
        accessors = [
            part
            for pair in re.findall(r'\{\s*"\w+",\s*([^",]+),\s*([^",]+),\s*(?:docs::\w+|"[^"]*"|nullptr),', text)
            for part in pair
            if not part.startswith(("METH_", "T_", "nullptr", "offsetof"))
        ]
        slots = re.findall(r"\{\s*Py_(?!tp_doc|tp_methods|tp_members|tp_getset)\w+,\s*([^}]+)\}", text)
        called = re.findall(r"->(?:vector)?call = ([^;]+);", text)
        for function in methods + accessors + slots + called:
            bare = re.sub(r"reinterpret_cast<void \*>\((\w+)\)", r"\1", function.strip()).removeprefix("uwserve::")
            assert bare in OF_PYTHON or bare.startswith(("raw_call<", "raw_fastcall<", "raw_slot<")), f"{name}: {bare}"
            seen += 1
        if "module.cpp" not in name and "exception_barrier.h" not in name:
            assert "as_function" not in text, name
    assert seen > 100
    module = (CPP / "py" / "module.cpp").read_text()
    assert "tp_new = raw_call<" in module


def test_upstreams_traps_are_not_stepped_on() -> None:
    """Calls of uWebSockets' that end the process, or leave a lock behind, when memory runs out in them."""
    for name, _ in named(CPP):
        text = re.sub(r"//.*", "", (CPP / name).read_text())
        assert "iterateTopics" not in text, f"{name}: topics_of() walks without a lock"
        if name != "uws/websocket/close.cpp":
            assert not re.search(r"\bws(\(\))?->end\(", text), f"{name}: send_close() does not lose the close handler"
        if name not in ("uws/websocket/cork.h", "uws/http/response.cpp", "uws/http/upgrade_response.cpp"):
            assert not re.search(r"->cork\(", text), f"{name}: cork_while() leaves nothing corked"
        if name != "uws/topics/fan_out.cpp":
            assert not re.search(r"ws->subscribe\(", text), f"{name}: Topics::subscribe() undoes what is half done"


# --- provenance ---


def test_no_upstream_text() -> None:
    """Upstream's authorship marks are in licences and notices only: none of its source is in the repository."""
    marks = re.compile("Authored by (Alex|Jarred)|Alex Hult(?:man)|Intellectual (?:property) of third")
    for path in tracked():
        if path.name in ("LICENSE", "NOTICE") or path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        assert not marks.search(text), path
    for path in (ROOT / "vendor").rglob("*"):
        assert path.suffix not in (".h", ".hpp", ".c", ".cpp", ".patch", ".diff"), path


def test_no_machine_paths() -> None:
    """Nothing that names a place on somebody's machine."""
    place = re.compile(r"(?<![\w.])/(work|home|root|Users|opt|tmp/w)/\w")
    for path in tracked():
        if path.suffix in SOURCE_SUFFIXES | {".md", ".toml", ".json", ".ini", ".yml", ""}:
            for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
                assert not place.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


# --- the stub and the examples ---


def stub() -> ast.Module:
    return ast.parse((PYTHON / "_core.pyi").read_text())


def stub_members(name: str) -> set[str]:
    for node in stub().body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            members = set()
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    members.add(part.name)
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    members.add(part.target.id)
                elif isinstance(part, ast.Assign):
                    members.update(target.id for target in part.targets if isinstance(target, ast.Name))
            return {member for member in members if not member.startswith("_")}
    raise AssertionError(f"{name} is not in the stub")


@pytest.mark.parametrize("name", ["ServerWebSocket", "Request", "ServerCore", "ServerControl"])
def test_stub_and_class_agree(name: str) -> None:
    """The stub has what the class has and nothing else. Bun's spellings come from the one table of aliases."""
    from uwserve import _bun_names

    added = set(_bun_names.SERVER_WEBSOCKET) if name == "ServerWebSocket" else set()
    real = {member for member in vars(getattr(_core, name)) if not member.startswith("_")} - added
    assert real == stub_members(name) - added


def test_stub_names_the_exports() -> None:
    public = {name for name in vars(_core) if not name.startswith("_")}
    declared = {node.name for node in stub().body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    declared |= {
        node.target.id for node in stub().body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert public == declared


def test_examples_compile() -> None:
    for path in files(ROOT / "examples", ".py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path.name
        compile(path.read_text(), path.name, "exec")
