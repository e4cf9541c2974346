"""``uwserve serve --reload`` of a server with ``startup`` and ``shutdown``: each process calls its own, in order."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from http_client import DEADLINE, GET, Client, open_websocket, read_frame
from processes import process
from test_cli_reload import UWSERVE, Reloading, ask, is_alive
from ws_client import eventually

pytestmark = pytest.mark.plain("the servers run in processes of their own")

APP = """
import asyncio, os
from uwserve import serve

tape = open("tape", "a", buffering=1)

def note(what):
    print("VERSION", what, file=tape)

KIND startup(server):
    note("startup")
    BODY

KIND shutdown():
    note("shutdown")

def fetch(request, server):
    return None if server.upgrade(request) else f"VERSION {{os.getpid()}}"

websocket = {{"message": lambda ws, m: None, "close": lambda ws, code, reason: note(f"close {{code}}")}}
options = {{"port": {port}, "hostname": "127.0.0.1", "fetch": fetch, "websocket": websocket}}
options |= {{"startup": startup, "shutdown": shutdown}}

def make_server():
    return serve(**options)
"""


def source(kind: str = "def", body: str = "") -> str:
    return APP.replace("KIND", kind).replace("BODY", body)


@pytest.mark.parametrize("target", ["app:options", "app:make_server"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_startup_and_shutdown_of_each_process(tmp_path: Path, target: str, kind: str) -> None:
    """``shutdown`` has ended, after the last ``close``, when the next process begins. A ``startup`` that raises is
    shown, and leaves its clients to the next change."""

    def tape() -> list[str]:
        return (tmp_path / "tape").read_text().splitlines()

    (tmp_path / "app.py").write_text("")
    with process(UWSERVE, "serve", target, "--reload", "--stop-timeout", "600", cwd=tmp_path) as run:
        app = Reloading(tmp_path, run)
        said = app.said("waiting for a change")  # there is nothing in it
        assert "in the environment" not in said  # of the variable that the supervisor has set
        app.write("one", source(kind))
        port = run.port()
        version, first = ask(port)
        assert (version, tape()) == ("one", ["one startup"])
        with Client(port) as client:
            open_websocket(client)
            app.write("two", source(kind))
            assert read_frame(client) == (8, b"\x03\xf4Service Restart")
        assert ask(port)[0] == "two"
        assert not is_alive(first)
        app.said("serving again on")
        told = ["one startup", "one close 1012", "one shutdown", "two startup"]
        assert tape() == told

        app.write("three", source(kind, 'raise LookupError("no database")'))
        said = app.said("the application has ended with code 1; waiting for a change")
        assert "startup failed: LookupError: no database\n" in said
        assert 'raise LookupError("no database")\n' in said  # the line of the traceback
        assert "serving again" not in said
        told += ["two shutdown", "three startup"]
        assert tape() == told
        assert run.child.poll() is None
        with Client(port) as client:
            client.send(GET)
            app.write("four", source(kind))
            assert client.reply().body.startswith(b"four ")
        told += ["four startup"]
        assert tape() == told
        run.child.send_signal(signal.SIGTERM)
        assert run.child.wait(DEADLINE) == 0
        assert tape() == [*told, "four shutdown"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_change_while_startup_runs(tmp_path: Path, kind: str) -> None:
    """Its process is replaced without ``shutdown``, as ``startup`` has not returned, and without a wait."""
    tape = tmp_path / "tape"
    waits = "await asyncio.Event().wait()" if kind == "async def" else "import threading; threading.Event().wait()"
    (tmp_path / "app.py").write_text("")
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
        app = Reloading(tmp_path, run)
        app.said("waiting for a change")
        app.write("one", source(kind, waits))
        eventually(lambda: tape.exists() and tape.read_text() == "one startup\n")
        app.write("two", source(kind))
        assert ask(run.port())[0] == "two"
        assert tape.read_text() == "one startup\ntwo startup\n"
