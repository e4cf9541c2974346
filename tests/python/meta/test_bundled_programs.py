"""Programs that take the package along: PyInstaller by its own hooks, and clear words where something is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest
from dashboard_client import PAGE, head
from http_client import DEADLINE, Client
from paths import ROOT
from processes import SANITIZED, process

import uwserve

pytestmark = pytest.mark.plain("programs of their own")

HERE = Path(uwserve.__file__).parent

APP = """
import asyncio
from uwserve import serve

async def fetch(request, server):
    await asyncio.sleep(0)
    return "from a packed program"

try:
    serve(fetch=fetch, port=0, hostname="no.such.host.invalid")
except OSError as error:
    print(type(error).__name__, flush=True)
server = serve(fetch=fetch, port=0, hostname="127.0.0.1", dashboard=True)
server.call_soon(lambda: print(server.port, flush=True))
server.run()
"""


def hooks() -> Path:
    entries = importlib.metadata.distribution("uwserve").entry_points
    (entry,) = (entry for entry in entries if entry.group == "pyinstaller40")
    assert entry.name == "hook-dirs"
    (folder,) = entry.load()()
    return Path(folder)


def test_the_hooks_are_found_and_name_what_there_is() -> None:
    """Every kind of file that is no module, and every module that the extension imports by itself."""
    text = (hooks() / "hook-uwserve.py").read_text()
    suffixes = {path.suffix for path in HERE.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".py", ".so"}}
    named = set(re.findall(r'"\*\*/\*(\.\w+)"', text))
    assert named == suffixes - {"", ".pyi", ".typed"}
    sources = "\n".join(path.read_text() for path in (ROOT / "src" / "cpp" / "py").rglob("*.cpp"))
    imported = set(re.findall(r'(?:PyImport_ImportModule>?|module_::import|import_from)\("([\w.]+)"', sources))
    assert {"asyncio", "socket", "threading"} <= imported <= set(re.findall(r'"([\w.]+)"', text.partition("hidden")[2]))


@pytest.mark.timeout(600)
def test_pyinstaller(tmp_path: Path) -> None:
    """A folder of a program, made by the real tool: its page, a coroutine, and a module that only the core imports."""
    if importlib.util.find_spec("PyInstaller") is None or SANITIZED:
        pytest.skip("PyInstaller is not installed, or would pack a sanitizer's runtime: no program was made")
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", "--onedir", "app.py"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "dist" / "app", moved)  # nothing of where it was made is needed
    with process(moved / "app", cwd=moved) as run:
        assert run.line() == "gaierror"
        port = run.port()
        with Client(port) as client:
            assert client.ask().body == b"from a packed program"
            page = client.ask(head(PAGE))
            assert page.status == 200
            assert b"<title>" in page.body


def in_isolation(*arguments: str, cwd: Path, path: Path | str = "") -> subprocess.CompletedProcess[str]:
    """A Python that finds no installed package."""
    command = [sys.executable, "-S", *arguments]
    environment = {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_zip_archive_says_what_it_cannot_do(tmp_path: Path) -> None:
    """`zipapp`: a package inside the archive is an error of one line; a package beside it works."""
    source = tmp_path / "source"
    shutil.copytree(HERE, source / "uwserve", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "__main__.py").write_text("import uwserve\nprint(uwserve.__version__)\n")
    zipapp.create_archive(source, tmp_path / "whole.pyz")
    done = in_isolation("whole.pyz", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: uwserve cannot be imported from a zip archive (")
    assert "whole.pyz" in last
    beside = tmp_path / "lib"
    beside.mkdir()
    (source / "uwserve").rename(beside / "uwserve")
    zipapp.create_archive(source, tmp_path / "own.pyz")
    if SANITIZED:
        pytest.skip("the extension needs the sanitizer's runtime, which is not preloaded here")
    assert in_isolation("own.pyz", cwd=tmp_path, path=beside).stdout.strip() == uwserve.__version__


@pytest.mark.parametrize("left", ["another Python's", "nothing"])
def test_a_missing_extension_is_named(tmp_path: Path, left: str) -> None:
    package = tmp_path / "uwserve"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__", "_core.*.so"))
    if left != "nothing":
        (package / "_core.cpython-27-x86_64-linux-gnu.so").touch()
    done = in_isolation("-c", "import uwserve", cwd=tmp_path, path=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: uwserve's extension _core.")
    assert str(package) in last
    assert ("only _core.cpython-27-x86_64-linux-gnu.so, for another Python" in last) == (left != "nothing")
    assert ("it is not there" in last) == (left == "nothing")


def test_a_broken_extension_speaks_for_itself(tmp_path: Path) -> None:
    package = tmp_path / "uwserve"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (extension,) = package.glob("_core.*.so")
    extension.write_bytes(b"not an extension")
    done = in_isolation("-c", "import uwserve", cwd=tmp_path, path=tmp_path)
    assert done.stderr.strip().splitlines()[-1].startswith(f"ImportError: {extension}: ")


def test_missing_pages_say_how_to_pack_them(tmp_path: Path) -> None:
    if SANITIZED:
        pytest.skip("the extension needs the sanitizer's runtime, which is not preloaded here")
    package = tmp_path / "uwserve"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__", "*.html"))
    for program in (
        "from uwserve import serve; serve(port=0, dashboard=True)",
        "from uwserve.demo import chat; chat.create(port=0)",
    ):
        done = in_isolation("-c", program, cwd=tmp_path, path=tmp_path)
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(
            "FileNotFoundError: [Errno 2] a page of uwserve's is missing: a packed program must take"
        )
        assert "--include-package-data=uwserve" in last
        assert ".html" in last
