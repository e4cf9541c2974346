"""Each file in ``examples/`` runs as it is, on a port of its own, and does with a real client what it says."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
from example_processes import EXAMPLES, example
from http_client import DEADLINE, Client, request
from processes import process
from websockets.sync.client import connect

pytestmark = pytest.mark.plain("the servers run in processes of their own")

NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def websocket(port: int, path: str = "/") -> Any:
    return connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE)


def test_every_example_is_in_the_index_and_tested() -> None:
    index = (EXAMPLES / "README.md").read_text()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_examples*.py"))
    for name in NAMES:
        assert f"[`{name}`]({name})" in index, name
        assert f'example("{name}"' in tests or f'EXAMPLES / "{name}"' in tests, name


def test_echo(tmp_path: Path) -> None:
    with example("echo.py", tmp_path) as run:
        with Client(run.port) as client:
            assert client.ask().status == 426
        with websocket(run.port) as ws:
            for message in ("text é", b"\0binary", "", "x" * 100_000):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE) == message


def test_topics(tmp_path: Path) -> None:
    """Messages go to the others of the same topic, and the clock ticks from another thread."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(example("topics.py", tmp_path)).port
        one, two, clock = (stack.enter_context(websocket(port, path)) for path in ("/news", "/news", "/clock"))
        for ws, topic in ((one, "news"), (two, "news"), (clock, "clock")):
            assert ws.recv(timeout=DEADLINE) == f"you hear {topic}"
        one.send("extra")
        assert two.recv(timeout=DEADLINE) == "extra"
        two.send(b"bytes")
        assert one.recv(timeout=DEADLINE) == b"bytes"
        assert str(clock.recv(timeout=DEADLINE)).count(":") == 2
        with Client(port) as client:
            assert client.ask(request("/news")).body == b"2 clients hear news\n"


def test_http_and_ws(tmp_path: Path) -> None:
    with example("http_and_ws.py", tmp_path) as run:
        with Client(run.port) as client:
            assert b"A note" in client.ask().body
            assert client.ask(request("/notes/a")).status == 404
            assert client.ask(request("/notes/a", "PUT", b'{"x":1}')).status == 204
            assert client.ask(request("/notes/a")).json() == {"x": 1}
            assert client.ask(request("/notes/a", "PUT", b"{")).status == 400
            assert client.ask(request("/notes/a", "DELETE")).status == 405
            assert client.ask(request("/count")).body == b"".join(b"%d\n" % i for i in range(10))
            assert client.ask(request("/slow")).body == b"done\n"
            assert client.ask(request("/old")).get("Location") == "/"
            assert client.ask(request("/elsewhere")).status == 404
        with websocket(run.port, "/ws") as ws:
            ws.send("12345")
            answer = str(ws.recv(timeout=DEADLINE))
            assert "127.0.0.1" in answer
            assert answer.endswith("sent 5")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "notebook.py"])
def test_importing_an_example_starts_nothing(name: str, tmp_path: Path) -> None:
    code = f"import runpy; runpy.run_path({str(EXAMPLES / name)!r}); print('imported')"
    with process(sys.executable, "-c", code, cwd=tmp_path) as run:
        assert run.end() == (0, "imported\n", "")
