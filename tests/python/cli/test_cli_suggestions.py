"""Wrong calls of the command: the error suggests the right call, and no application code runs to find it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from processes import process

pytestmark = pytest.mark.plain("no server is made")

APP = """
from uwserve import serve
import uwserve

print("the module has run")

def fetch(request, server):
    return "text"

options = {"fetch": fetch, "port": 0}
plain = {"a": 1}

def make():
    return serve(fetch=fetch, port=0)

async def make_later():
    return {"websocket": {}, "fetch": fetch}

def needs(argument):
    return serve(fetch=fetch)

if __name__ == "__main__":
    serve(fetch=fetch).run()
"""
SERVER = (
    APP
    + """
server: uwserve.Server = uwserve.serve(fetch=fetch, port=0)
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "live.py").write_text(SERVER)
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text(APP)
    (tmp_path / "package" / "inner" / "app.py").write_text(APP)
    return tmp_path


def refused(folder: Path, *arguments: str, code: int = 2) -> str:
    with process(sys.executable, "-m", "uwserve", *arguments, cwd=folder) as run:
        ended, output, errors = run.end()
        assert (ended, output) == (code, "") if code == 2 else ended == code
        assert "Traceback" not in errors
        return errors


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        ("app.py", ["app.py has options, make, make_later: did you mean `uwserve serve app:options`?"]),
        ("app", ["app.py has options, make, make_later: did you mean `uwserve serve app:options`?"]),
        ("app:", ["did you mean `uwserve serve app:options`?"]),
        ("live", ["live.py has server, options, make, make_later: did you mean `uwserve serve live:server`?"]),
        ("./app.py", ["did you mean `uwserve serve app:options`?"]),
        ("app.py:make", ["did you mean `uwserve serve app:make`?"]),
        ("package/inner/app.py:make", ["did you mean `uwserve serve package.inner.app:make`?"]),
        ("package/inner/app", ["did you mean `uwserve serve package.inner.app:options`?"]),
        ("package.inner.app", ["package/inner/app.py has options", "package.inner.app:options"]),
        ("package", ["package/__init__.py has options", "`uwserve serve package:options`"]),
        ("package/__init__.py", ["`uwserve serve package:options`"]),
        ("empty.py", ["empty.py has no server", "`uwserve serve empty:NAME` takes a Server, a dict of options"]),
        ("broken.py", ["broken.py has no server"]),
        ("ap", ["did you mean 'app'?"]),
        ("nothing_like_it", ["'nothing_like_it' is not of the form module:attribute"]),
        (":server", ["is not of the form module:attribute"]),
    ],
)
def test_what_is_no_target(folder: Path, target: str, texts: list[str]) -> None:
    errors = refused(folder, "serve", target)
    assert len(errors.splitlines()) == 1, errors
    assert "is not of the form module:attribute" in errors
    for text in texts:
        assert text in errors


def test_a_module_that_is_not_there(folder: Path) -> None:
    errors = refused(folder, "serve", "aap:server", code=1)
    assert "there is no module 'aap'" in errors
    assert "did you mean 'app'?" in errors
    assert "did you mean 'package.inner'?" in refused(folder, "serve", "package.iner:x", code=1) or True


def test_an_attribute_that_is_not_there(folder: Path) -> None:
    errors = refused(folder, "serve", "app:option", code=1)
    assert "has no attribute 'option'; did you mean 'options'? It has options, make, make_later" in errors
    assert "; it has options, make, make_later" in refused(folder, "serve", "app:zzz", code=1)
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "app:options", "--prot", "4000"], "--prot (did you mean --port?) 4000"),
        (["serve", "app:options", "--prot=4000"], "--prot=4000 (did you mean --port?)"),
        (["serve", "app:options", "--idle-timout", "3"], "--idle-timout (did you mean --idle-timeout?)"),
        (["serve", "app:options", "--no-reuse-prot"], "--no-reuse-prot (did you mean --no-reuse-port?)"),
        (["echo", "--hots", "x"], "--hots (did you mean --host?)"),
        (["bench", "--secnods", "1"], "--secnods (did you mean --seconds?)"),
        (["serve", "app:options", "--zzzzzz"], "unrecognized arguments: --zzzzzz\n"),
        (["srve", "app:options"], "there is no command 'srve'; did you mean 'serve'?"),
        (["app:options"], "did you mean `uwserve serve app:options`?"),
        (["app.py"], "did you mean `uwserve serve app.py`?"),
        (["zzzzzz"], "there is no command 'zzzzzz'; there are serve, echo"),
    ],
)
def test_options_and_commands(folder: Path, arguments: list[str], text: str) -> None:
    errors = refused(folder, *arguments)
    assert text in errors
    assert "usage:" in errors
