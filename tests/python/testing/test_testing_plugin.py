"""``uwserve.testing.plugin`` as a user has it: pytest in a process of its own, on a file of a few lines."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain("the servers run in processes of their own")

THREE_LINES = """
    def test_echo(serving):
        with serving(websocket={"message": lambda ws, message: ws.send(message)}).connect("/path") as ws:
            ws.send("x"); assert ws.receive() == "x"
"""


def run(folder: Path, source: str, *arguments: str, conftest: str = "") -> tuple[int, str]:
    """(exit code, output) of pytest over a file with ``source`` in a folder of its own."""
    (folder / "test_mine.py").write_text(textwrap.dedent(source))
    if conftest:
        (folder / "conftest.py").write_text(textwrap.dedent(conftest))
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--rootdir", str(folder), *arguments]
    result = subprocess.run([*command, "test_mine.py"], cwd=folder, capture_output=True, text=True, timeout=100)
    return result.returncode, result.stdout + result.stderr


PLUGIN = 'pytest_plugins = ["uwserve.testing.plugin"]'


def test_three_lines(tmp_path: Path) -> None:
    code, output = run(tmp_path, THREE_LINES, conftest=PLUGIN)
    assert code == 0, output
    assert "1 passed" in output


def test_by_option(tmp_path: Path) -> None:
    code, output = run(tmp_path, THREE_LINES, "-p", "uwserve.testing.plugin")
    assert code == 0, output


def test_it_is_not_loaded_by_itself(tmp_path: Path) -> None:
    code, output = run(tmp_path, THREE_LINES)
    assert code == 1
    assert "fixture 'serving' not found" in output


def test_failures(tmp_path: Path) -> None:
    """What handlers raise fails the test that provoked it, with the handler's lines, and no other."""
    source = """
        import pytest

        def broken(ws, message):
            ws.send("answer")
            raise ZeroDivisionError("in broken")

        def test_answered_and_raised(serving):
            with serving(websocket={"message": broken}).connect() as ws:
                ws.send("x")
                assert ws.receive() == "answer"

        def test_waits(serving):
            ws = serving(websocket={"message": lambda ws, message: 1 // 0}).connect()
            ws.send("x")
            ws.receive()

        def test_at_the_end(serving):
            def close(ws, code, reason):
                raise LookupError("in close")
            serving(websocket={"close": close}).connect()

        def test_opted_out(serving):
            with serving(websocket={"message": broken}, raise_errors=False).connect() as ws:
                ws.send("x")
                assert ws.receive() == "answer"

        def test_expected(serving):
            server = serving(websocket={"message": broken})
            server.connect().send("x")
            server.expect_error(ZeroDivisionError, "in broken")

        def test_skipped(serving):
            serving(fetch=lambda request: 1 // 0).get()
            pytest.skip("says the test")

        def test_both(serving):
            assert serving(fetch=lambda request: {}["both"]).get().status == 200

        def test_two_servers(serving):
            one, two = serving(fetch=lambda request: "one"), serving(fetch=lambda request: "two")
            assert one.get().text + two.get().text == "onetwo"
    """
    code, output = run(tmp_path, source, "-rA", "--tb=short", conftest=PLUGIN)
    assert code == 1, output
    outcomes = {
        line.split("::")[1].split(" ")[0]: line.split(" ")[0]
        for line in output.splitlines()
        if "test_mine.py::" in line
    }
    assert outcomes == {
        "test_answered_and_raised": "FAILED",
        "test_waits": "FAILED",
        "test_at_the_end": "ERROR",
        "test_opted_out": "PASSED",
        "test_expected": "PASSED",
        "test_two_servers": "PASSED",
        "test_both": "FAILED",
        "test_skipped": "ERROR",
    }
    assert 'raise ZeroDivisionError("in broken")' in output
    assert "KeyError: 'both'" in output
    assert "AssertionError: assert 500 == 200" in output
    assert "1 skipped" in output
