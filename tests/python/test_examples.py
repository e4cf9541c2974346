"""Each file in ``examples/`` runs as it is, on a port of its own, and does with a real client what it says."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_client import DEADLINE, Client, request
from processes import process
from websockets.sync.client import connect

pytestmark = pytest.mark.plain("the servers run in processes of their own")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextlib.contextmanager
def example(name: str, tmp_path: Path) -> Iterator[int]:
    """The port that a copy of the example listens on; SIGINT at the end, which must be clean."""
    text = (EXAMPLES / name).read_text()
    assert text.count("port=3000") == 1
    copy = tmp_path / name
    copy.write_text(text.replace("port=3000", "port=0"))
    with process(sys.executable, "-X", "faulthandler", copy, cwd=tmp_path) as run:
        yield run.port()
        run.child.send_signal(signal.SIGINT)
        code, _, errors = run.end()
        assert (code, errors) == (0, "")


def websocket(port: int, path: str = "/") -> Any:
    return connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE)


def test_every_example_is_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"echo.py", "topics.py", "http_and_ws.py", "chat.py"}


def test_echo(tmp_path: Path) -> None:
    with example("echo.py", tmp_path) as port:
        with Client(port) as client:
            assert client.ask().status == 426
        with websocket(port) as ws:
            for message in ("text é", b"\0binary", "", "x" * 100_000):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE) == message


def test_topics(tmp_path: Path) -> None:
    """Messages go to the others of the same topic, and the clock ticks from another thread."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(example("topics.py", tmp_path))
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
    with example("http_and_ws.py", tmp_path) as port:
        with Client(port) as client:
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
        with websocket(port, "/ws") as ws:
            ws.send("12345")
            answer = str(ws.recv(timeout=DEADLINE))
            assert "127.0.0.1" in answer
            assert answer.endswith("sent 5")


def test_chat(tmp_path: Path) -> None:
    with example("chat.py", tmp_path) as port:
        with Client(port) as client:
            assert b"<title>uwserve chat</title>" in client.ask().body
        with websocket(port, "/ws") as ws:
            ws.send('{"type":"join","room":"r","name":"n"}')
            assert '"joined"' in ws.recv(timeout=DEADLINE)


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES.glob("*.py")])
def test_importing_an_example_starts_nothing(name: str, tmp_path: Path) -> None:
    code = f"import runpy; runpy.run_path({str(EXAMPLES / name)!r}); print('imported')"
    with process(sys.executable, "-c", code, cwd=tmp_path) as run:
        assert run.end() == (0, "imported\n", "")
