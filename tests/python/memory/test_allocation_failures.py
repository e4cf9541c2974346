"""Memory that runs out at any point of any call: MemoryError, at worst the end of that one connection.

A library is preloaded (cpp/support/failing_memory.cpp) that lets the extension's n-th request for memory fail, for
every n until a call needs no more. The process lives, another connection has lost nothing, and the next client is
served.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import PROGRAMS, ROOT
from processes import SANITIZED

pytestmark = [
    pytest.mark.plain("the servers run in processes of their own"),
    pytest.mark.skipif(SANITIZED, reason="the sanitizers' allocator cannot be replaced"),
]

CALLBACKS = ("connect", "messages", "large", "compressed", "memoryview", "post", "close", "break off")
PAGES = ("/", "/large", "/stream")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler, to build the library that lets memory run out")
    built = tmp_path_factory.mktemp("memory") / "failing_memory.so"
    source = ROOT / "tests" / "cpp" / "support" / "failing_memory.cpp"
    command = [*compiler.split(), "-std=c++20", "-O1", "-shared", "-fPIC", str(source), "-o", str(built), "-ldl"]
    subprocess.run(command, check=True, timeout=120)
    return built


def run(library: Path, where: str, what: str) -> None:
    environment = os.environ | {"LD_PRELOAD": str(library)}
    command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / "memory_failures.py"), where, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-4000:])
    # RuntimeError names the right thread; what Python's own allocations raise, its library may translate.
    allowed = {"python": ("TypeError", "RuntimeError"), "thread": ("RuntimeError",)}.get(where, ())
    assert done.stdout.startswith("well True"), done.stdout
    assert set(ast.literal_eval(done.stdout.removeprefix("well True "))) <= set(allowed), done.stdout


@pytest.mark.parametrize("where", ["handler", "thread"])
def test_in_every_call(library: Path, where: str) -> None:
    """Of ServerWebSocket, Server and Request, in a handler, and on another thread."""
    run(library, where, "all")


@pytest.mark.parametrize("what", CALLBACKS + PAGES)
def test_in_the_loop(library: Path, what: str) -> None:
    """While a client connects, sends, receives and leaves: the code that runs then has no caller to raise to."""
    run(library, "callbacks", what)


@pytest.mark.parametrize("what", ["forced", "with a deadline"])
def test_in_a_stop(library: Path, what: str) -> None:
    """Of many sockets: the close handlers of the others run, and the server ends."""
    run(library, "stop", what)


def test_of_pythons_own_objects(library: Path) -> None:
    """Python's allocations in every call, instead of those of C++."""
    pytest.importorskip("_testcapi", reason="this Python has no _testcapi, which lets its allocations fail")
    run(library, "python", "all")
