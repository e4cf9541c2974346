"""Whole processes: ``startup`` under the command, threads that are left, SIGTERM in a block, gevent."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import Any

import pytest
from processes import Process, process
from ws_client import Client

pytestmark = pytest.mark.plain("the servers run in processes of their own")

APP = """
import asyncio, os, sys, threading, time
import uwserve
kind = {kind!r}

def hang():
    print("hanging", flush=True)
    time.sleep(1000)

async def hang_later():
    print("hanging", flush=True)
    await asyncio.sleep(1000)

async def fail():
    raise LookupError("no database")

async def make():
    options = dict(port=0, hostname="127.0.0.1", fetch=lambda r: "x", shutdown=lambda: print("shutdown", flush=True))
    if kind != "serve":
        options["startup"] = {{"hang": hang, "hang_later": hang_later, "fail": fail}}[kind]
    return options
"""


def app(tmp_path: Any, kind: str) -> Any:
    (tmp_path / "app.py").write_text(APP.format(kind=kind))
    return process(sys.executable, "-m", "uwserve", "serve", "app:make", cwd=tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["hang", "hang_later"])
def test_a_signal_in_startup_ends_the_process(tmp_path: Any, kind: str, number: signal.Signals) -> None:
    """At the first signal, with exit code 0, as after any stop; no banner, and no ``shutdown``."""
    with app(tmp_path, kind) as run:
        assert run.line() == "hanging"
        run.child.send_signal(number)
        code, output, errors = run.end()
        assert (code, output) == (0, ""), errors
        assert "Traceback" not in errors


def test_a_startup_that_fails_under_the_command(tmp_path: Any) -> None:
    with app(tmp_path, "fail") as run:
        code, output, errors = run.end()
        assert (code, output) == (1, "")
        assert errors.endswith("uwserve: startup failed: LookupError: no database\n")
        assert 'raise LookupError("no database")' in errors


def test_shutdown_under_the_command(tmp_path: Any) -> None:
    with app(tmp_path, "serve") as run:
        while "127.0.0.1" not in run.line():
            pass
        run.child.send_signal(signal.SIGTERM)
        code, output, errors = run.end()
        assert code == 0, errors
        assert "shutdown" in output.splitlines()


def test_threads_that_are_left_are_named() -> None:
    """A process that does not end says what it waits for."""
    program = """
import sys, threading
from uwserve import serve
from uwserve._run import app_threads
app_threads.NAME_SECONDS = 0.05
done = threading.Event()
def lost():
    done.wait()
def message(*arguments):
    pass
def up():
    threading.Thread(target=lost, name="driver").start()
server = serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x", startup=up)
server.call_soon(server.stop)
server.run()
import logging
class Handler(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
        done.set()
logging.getLogger("uwserve").addHandler(Handler())
"""
    with process(sys.executable, "-c", program) as run:
        line = run.line()
        assert line.startswith(
            "the process waits for 1 thread that the application has left: 'driver' at <string>:8 in lost"
        )
        assert run.end()[0] == 0


# --- SIGTERM and `async with` ---

BLOCK = """
import asyncio, os, signal, sys, uvloop
from uwserve import serve
kind, waits, handles = sys.argv[1:4]

def fetch(request, server):
    return None if server.upgrade(request) else "x"

async def main():
    if handles == "own":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: (print("own", flush=True), server.stop()))
    async with serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"message": lambda ws, m: ws.send(m)},
                     shutdown=lambda: print("shutdown", flush=True)) as server:
        if handles == "later":
            signal.signal(signal.SIGTERM, lambda *a: (print("later", flush=True), server.stop(True)))
        print(server.port, flush=True)
        if waits == "serve_forever":
            await server.serve_forever()
            await asyncio.sleep(0.01)
            print("goes on", flush=True)
        elif waits == "task":
            await asyncio.gather(asyncio.sleep(1000))
        else:
            await server._control.stopped
    await asyncio.sleep(0)
    print("behind", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)

(uvloop.run if kind == "uvloop" else asyncio.run)(main())
print("end", flush=True)
"""


def block(*arguments: str) -> contextlib.AbstractContextManager[Process]:
    return process(sys.executable, "-c", BLOCK, *arguments)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("waits", ["task", "serve_forever"])
def test_sigterm_stops_a_block_gracefully(kind: str, waits: str) -> None:
    """Clients get 1001, the block ends, the code after it runs; the exit code is 0."""
    with block(kind, waits, "none") as run:
        with Client(("127.0.0.1", run.port())) as client:
            client.round_trip()
            run.child.send_signal(signal.SIGTERM)
            assert client.read_close() == (1001, "Server closed")
        code, output, errors = run.end()
    goes_on = "goes on\n" if waits == "serve_forever" else ""
    assert (code, output) == (0, f"shutdown\n{goes_on}behind True\nend\n"), errors


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("handles", ["own", "later"])
def test_a_program_that_handles_sigterm_in_a_block_goes_on(kind: str, handles: str) -> None:
    """A handler from before, and one that is installed inside, are called; ours is not."""
    with block(kind, "stopped", handles) as run:
        run.port()
        run.child.send_signal(signal.SIGTERM)
        code, output, errors = run.end()
    assert (code, output) == (0, f"{handles}\nshutdown\nbehind False\nend\n"), errors


def test_gevent_is_refused() -> None:
    """``start()`` would never return where threads are greenlets."""
    pytest.importorskip("gevent", reason="gevent is not installed")
    program = """
from gevent import monkey
monkey.patch_all()
from uwserve import serve
server = serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x")
try:
    server.start()
except RuntimeError as exc:
    print(exc)
server.call_soon(server.stop)
server.run()
print("ran")
"""
    with process(sys.executable, "-c", program) as run:
        code, output, errors = run.end()
    assert code == 0, errors
    first, last = output.splitlines()
    assert first.startswith("start() needs a thread, but gevent has replaced threads by greenlets") and last == "ran"
