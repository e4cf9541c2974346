"""Programs that exit or fail with a server in each of its states: bound, running in each mode, stopping, with sockets.

Whatever happens, the process ends quickly with the exit code that it would have had without a server, and clients see
the end of their connections. More of this is in test_process.py (signals, exit with a running server) and test_fork.py.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_client import Client, open_websocket, read_frame
from processes import SERVE, Process, process

pytestmark = pytest.mark.plain("the servers run in processes of their own")

CLOSE_1001 = (8, b"\x03\xe9Server closed")


@contextlib.contextmanager
def script(text: str) -> Iterator[Process]:
    """A program that begins with ``SERVE``."""
    with process(sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(SERVE) + textwrap.dedent(text)) as started:
        yield started


# --- a module that fails while it is imported ---

BOUND = """
from uwserve import serve
server = serve(fetch=lambda r: "x", port=0, hostname="127.0.0.1")
"""
FAILURES = {
    "bound": BOUND + "1 / 0\n",
    "started": BOUND + "server.start()\n1 / 0\n",
    "stopped": BOUND + "server.start()\nserver.stop(timeout=100)\n1 / 0\n",
    "in a context": BOUND + "with server:\n    1 / 0\n",
    "exit": BOUND + "server.start()\nraise SystemExit(5)\n",
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("command", [["-c", "import mine"], ["-m", "uwserve", "serve", "mine:server"]])
def test_a_module_that_fails_with_a_server(tmp_path: Path, how: str, command: list[str]) -> None:
    (tmp_path / "mine.py").write_text(FAILURES[how])
    with process(sys.executable, "-X", "faulthandler", *command, cwd=tmp_path) as run:
        code, output, errors = run.end()
        assert (code, output) == ((5, "") if how == "exit" else (1, ""))
        assert "Fatal" not in errors
        assert ("ZeroDivisionError" in errors) == (how != "exit")


def test_a_failed_import_may_be_tried_again(tmp_path: Path) -> None:
    """The port of the server that was bound meanwhile is free again, once its traceback is gone."""
    (tmp_path / "mine.py").write_text(
        "import os\nfrom uwserve import serve\n"
        "server = serve(fetch=lambda r: 'x', port=int(os.environ.get('AGAIN', 0)), hostname='127.0.0.1')\n"
        "if 'AGAIN' not in os.environ:\n    os.environ['AGAIN'] = str(server.port)\n    1 / 0\n"
    )
    program = """
        import gc
        try:
            import mine
        except ZeroDivisionError:
            pass
        gc.collect()
        import mine
        print(mine.server.port == int(__import__("os").environ["AGAIN"]))
    """
    with process(sys.executable, "-c", textwrap.dedent(program), cwd=tmp_path) as run:
        assert run.end() == (0, "True\n", "")


# --- the interpreter's end, by run mode ---

ENDS = {
    # In a daemon thread of the program's own.
    "run() in a daemon thread": (
        "threading.Thread(target=server.run, daemon=True).start(); print(server.port); sys.stdin.readline()",
        0,
        CLOSE_1001,
    ),
    # In a thread that the interpreter waits for.
    "run() in a thread": (
        "threading.Thread(target=server.run).start(); print(server.port); sys.stdin.readline();server.stop(timeout=60)",
        0,
        CLOSE_1001,
    ),
    "start(), and a stop under way": (
        "server.start(); print(server.port); sys.stdin.readline(); server.stop(timeout=60)",
        0,
        CLOSE_1001,
    ),
    "run(), left by an exception": (
        "server.call_soon(print, server.port)\n"
        "threading.Thread(target=lambda: (sys.stdin.readline(), server.call_soon(sys.exit, 4)), daemon=True).start()\n"
        "server.run()",
        4,
        None,
    ),
    "run(), os._exit in a handler": (
        "import os\n"
        "server.call_soon(print, server.port)\n"
        "threading.Thread(target=lambda: (sys.stdin.readline(), server.call_soon(os._exit, 3)), daemon=True).start()\n"
        "server.run()",
        3,
        None,
    ),
    "start(), os._exit": (
        "import os; server.start(); print(server.port, flush=True); sys.stdin.readline(); os._exit(6)",
        6,
        None,
    ),
    "start(), and atexit handlers that use the server": (
        "import atexit\n"
        "atexit.register(lambda: (server.publish('t', 'x'), server.stop(), server.stop(timeout=9)))\n"
        "server.start()\n"
        "atexit.register(lambda: (server.publish('t', 'x'), server.stop(timeout=9)))\n"
        "print(server.port)\n"
        "sys.stdin.readline()",
        0,
        CLOSE_1001,
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_the_interpreter(how: str) -> None:
    """With an open socket: it ends at once when its client leaves, with its own exit code, and says nothing."""
    program, expected, told = ENDS[how]
    with script(program) as server, Client(server.port()) as client:
        open_websocket(client)
        assert server.child.stdin
        server.child.stdin.write(b"\n")
        server.child.stdin.flush()
        if told:
            assert read_frame(client) == told
        assert client.at_end()
        client.__exit__()
        assert server.end() == (expected, "", "")


def test_exit_with_a_bound_server_and_clients_that_wait() -> None:
    """It never ran: who has connected sees the end."""
    with script("print(server.port); sys.stdin.readline()") as server, Client(server.port()) as client:
        assert server.child.stdin
        server.child.stdin.write(b"\n")
        server.child.stdin.flush()
        assert client.at_end()
        assert server.end() == (0, "", "")


def test_a_failed_run_can_be_stopped() -> None:
    """KeyboardInterrupt out of run(), then stop(timeout=...) and another run(): the sockets get their end."""
    program = """
        def message(ws, message):
            raise KeyboardInterrupt
        server.reload(websocket={"message": message})
        server.call_soon(print, server.port)
        try:
            server.run()
        except KeyboardInterrupt:
            stopped = server.stop(timeout=60)
            print(stopped.done(), server.running, server.stopping)
            server.run()
            print(stopped.done(), server.finished)
    """
    from http_client import frame

    with script(program) as server, Client(server.port()) as client:
        open_websocket(client)
        client.send(frame(b"x"))
        assert read_frame(client) == CLOSE_1001
        assert client.at_end()
        client.__exit__()
        assert server.end() == (0, "False False True\nTrue True\n", "")
