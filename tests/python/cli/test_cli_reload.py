"""``uwserve serve --reload``: after a change the application starts anew, and nobody is refused meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_client import DEADLINE, Client, open_websocket, read_frame
from processes import process
from ws_client import eventually

from uwserve.cli import child

pytest.importorskip("watchfiles", reason="watchfiles is not installed (pip install 'uwserve[reload]')")

pytestmark = pytest.mark.plain("the servers run in processes of their own")

UWSERVE = Path(sys.executable).with_name("uwserve")

APP = """
import os
from uwserve import serve

def fetch(request, server):
    return None if server.upgrade(request) else f"VERSION {{os.getpid()}}"

options = {{"port": {port}, "hostname": "127.0.0.1", "fetch": fetch, "websocket": {{"message": lambda ws, m: None}}}}

def make_server():
    return serve(options)
"""


class Reloading:
    """A supervised application in a folder, and what it has said."""

    def __init__(self, folder: Path, run: Any) -> None:
        self.folder = folder
        self.run = run
        self.errors = b""

    def write(self, version: str, source: str = APP, port: int = 0) -> None:
        text = source.format(port=port).replace("VERSION", version)
        temporary = self.folder / "new"
        temporary.write_text(text)
        temporary.replace(self.folder / "app.py")

    def said(self, text: str) -> str:
        """Wait until it has said that; what it said before is returned and forgotten."""
        end = time.monotonic() + DEADLINE
        while text.encode() not in self.errors:
            assert select.select([self.run.child.stderr], [], [], max(0, end - time.monotonic()))[0], self.errors
            data = os.read(self.run.child.stderr.fileno(), 65536)
            assert data, (text, self.errors)
            self.errors += data
        before, _, self.errors = self.errors.partition(text.encode())
        return before.decode()


@contextlib.contextmanager
def reloading(
    folder: Path, target: str = "app:options", *arguments: str, port: int = 0, **options: Any
) -> Iterator[Reloading]:
    (folder / "app.py").write_text(APP.format(port=port).replace("VERSION", "one"))
    with process(UWSERVE, "serve", target, "--reload", *arguments, cwd=folder, **options) as run:
        yield Reloading(folder, run)
        if run.child.poll() is None:
            run.child.send_signal(signal.SIGTERM)
            run.child.wait(DEADLINE)


def ask(address: Any) -> tuple[str, int]:
    """The version that answers, and its process."""
    with Client(address) as client:
        version, pid = client.ask().body.decode().split()
        return version, int(pid)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("target", ["app:options", "app:make_server"])
def test_changes(tmp_path: Path, target: str) -> None:
    """The new version on the same port, of which 0 was asked for; clients are told 1012; the old process has ended."""
    with reloading(tmp_path, target) as app:
        port = app.run.port()
        version, first = ask(port)
        assert version == "one"
        with Client(port) as client:
            open_websocket(client)
            app.write("two")
            assert read_frame(client) == (8, b"\x03\xf4Service Restart")
        app.said("app.py changed, restarting")
        assert ask(port)[0] == "two"
        app.said(f"serving again on http://127.0.0.1:{port}/")
        assert not is_alive(first)


def test_nobody_is_refused(tmp_path: Path) -> None:
    """Connections made while the application restarts wait, and are answered by either version."""
    with reloading(tmp_path) as app:
        port = app.run.port()
        end = threading.Event()
        seen: list[str] = []
        failures: list[BaseException] = []

        def hammer() -> None:
            while not end.is_set():
                try:
                    seen.append(ask(port)[0])
                except Exception as error:
                    failures.append(error)

        thread = threading.Thread(target=hammer)
        thread.start()
        try:
            for version in ("two", "three"):
                app.write(version)
                eventually(lambda version=version: version in seen)
        finally:
            end.set()
            thread.join()
        assert not failures
        assert list(dict.fromkeys(seen)) == ["one", "two", "three"]


def test_mistakes_wait_for_the_next_change(tmp_path: Path) -> None:
    """A syntax error is shown; a client who comes meanwhile is answered by the version that works again."""
    with reloading(tmp_path) as app:
        port = app.run.port()
        ask(port)
        app.write("two", "def broken(:\n")
        app.said("SyntaxError")
        app.said("waiting for a change")
        with Client(port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            app.write("three")
            assert client.reply().body.startswith(b"three ")


def test_mistakes_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise ValueError('not yet')\n")
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
        app = Reloading(tmp_path, run)
        app.said("ValueError: not yet")
        app.said("waiting for a change")
        app.write("one")
        assert ask(run.port())[0] == "one"
        run.child.send_signal(signal.SIGINT)
        assert run.end()[0] == 0


def test_stops_while_it_waits(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("1 / 0\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
            Reloading(tmp_path, run).said("waiting for a change")
            run.child.send_signal(number)
            assert run.end()[0] == 0


def test_signals_end_both(tmp_path: Path) -> None:
    """The first gracefully, the second by force; the codes are those of the application."""
    for signals, wanted in (
        ((signal.SIGTERM,), 0),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGINT, signal.SIGTERM), 143),
    ):
        with reloading(tmp_path, "app:options", "--stop-timeout", "600") as app:
            port = app.run.port()
            _, pid = ask(port)
            with Client(port) as client:
                open_websocket(client)
                app.run.child.send_signal(signals[0])
                assert read_frame(client) == (8, b"\x03\xe9Server closed")
                if len(signals) == 1:
                    client.socket.close()
                elif signals[0] != signals[1]:
                    app.run.child.send_signal(signals[1])
                else:  # at once it would be taken for the first one's copy
                    until_it_counts(lambda: app.run.child.send_signal(signal.SIGINT), app.run.child.stderr, b"cutting")
                assert app.run.child.wait(DEADLINE) == wanted
            assert not is_alive(pid)


def until_it_counts(again: Callable[[], object], stream: Any, text: bytes) -> None:
    """Do that again, at intervals that are not taken for one, until the answer is there."""
    end = time.monotonic() + DEADLINE
    seen = b""
    while text not in seen:
        assert time.monotonic() < end, seen
        again()
        while text not in seen and select.select([stream], [], [], 2 * child.MERGE)[0]:
            seen += os.read(stream if isinstance(stream, int) else stream.fileno(), 4096)


def read_for(seconds: float, stream: Any) -> bytes:
    """What comes in that time."""
    end = time.monotonic() + seconds
    seen = b""
    while select.select([stream], [], [], max(0, end - time.monotonic()))[0] and (
        data := os.read(stream.fileno(), 4096)
    ):
        seen += data
    return seen


def test_a_signal_to_the_whole_group_counts_once(tmp_path: Path) -> None:
    """Of systemd, or `kill -- -PGID`: the application gets it, and the supervisor's copy; it is one request to stop."""
    patient = "from uwserve.cli import child\nchild.MERGE = 60\n"  # on a busy machine the copy may take its time
    (tmp_path / "app.py").write_text(patient + APP.format(port=0).replace("VERSION", "one"))
    for is_connected in (True, False):
        command = ("setsid", UWSERVE, "serve", "app:options", "--reload", "--stop-timeout", "600")
        with process(*command, cwd=tmp_path) as run, contextlib.ExitStack() as stack:
            port = run.port()
            if is_connected:
                client = stack.enter_context(Client(port))
                open_websocket(client)
            os.killpg(run.child.pid, signal.SIGTERM)
            if is_connected:
                assert read_frame(client) == (8, b"\x03\xe9Server closed")
                Reloading(tmp_path, run).said("a second signal cuts")
                # What cuts would have come by now: the copy is sent at once.
                assert b"cutting" not in read_for(child.MERGE, run.child.stderr)
                client.socket.close()
            code, _, errors = run.end()
            assert (code, "cutting" in errors) == (0, False), errors


def test_no_orphan(tmp_path: Path) -> None:
    """The supervisor is killed: the application ends, too, whether it serves, is stuck, or still imports."""
    stuck = "import time\nwhile True: time.sleep(0.1)\n"
    with reloading(tmp_path) as app:
        _, pid = ask(app.run.port())
        app.run.child.kill()
        eventually(lambda: not is_alive(pid))
    (tmp_path / "app.py").write_text(f"import os\nprint(os.getpid(), flush=True)\n{stuck}")
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
        pid = int(run.line())
        run.child.kill()
        eventually(lambda: not is_alive(pid))
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        "def fetch(request):\n    print(os.getpid(), flush=True)\n    while True: time.sleep(0.1)\n"
        "options = {'port': 0, 'hostname': '127.0.0.1', 'fetch': fetch}\n"
    )
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run, Client(run.port()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not (line := run.line()).isdecimal():  # the rest of the banner
            pass
        run.child.kill()
        eventually(lambda: not is_alive(int(line)))


def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        port = app.run.port()
        _, pid = ask(port)
        app.write(
            "two",
            APP.replace(
                "def fetch(request, server):",
                "def fetch(request, server):\n    import time\n    while request.path == '/stuck': time.sleep(0.1)\n",
            ),
        )
        app.said("serving again")
        assert not is_alive(pid)
        _, pid = ask(port)
        with Client(port) as client:
            client.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
            app.write("three")
            app.said("does not stop: killed")
            assert "does not stop" not in app.said("serving again")
        assert ask(port)[0] == "three"
        assert not is_alive(pid)


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """Both processes get the signal of the terminal: it counts once."""
    import pty

    (tmp_path / "app.py").write_text(APP.format(port=0).replace("VERSION", "one"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(UWSERVE, [str(UWSERVE), "serve", "app:options", "--reload", "--stop-timeout", "600", "--no-color"])
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + DEADLINE
        while text not in seen:
            assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], seen
            seen += os.read(terminal, 4096)

    try:
        until(b"twice to cut")
        port = int(seen.split(b"http://127.0.0.1:")[1].split(b"/")[0])
        with Client(port) as client:
            open_websocket(client)
            os.write(terminal, b"\x03")
            assert read_frame(client) == (8, b"\x03\xe9Server closed")
            until(b"Ctrl-C again cuts")
            assert b"cutting" not in seen
            until_it_counts(lambda: os.write(terminal, b"\x03"), terminal, b"cutting")
        end = time.monotonic() + DEADLINE
        while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < end
            with contextlib.suppress(OSError):  # EIO: nobody has the terminal any more
                if select.select([terminal], [], [], 0.05)[0]:
                    os.read(terminal, 4096)
        assert os.waitstatus_to_exitcode(done[1]) == 130
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


def test_unix_and_inherited_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with reloading(tmp_path, "app:options", "--unix", str(path)) as app:
        app.run.line()
        assert ask(str(path))[0] == "one"
        app.write("two")
        app.said("serving again")
        assert ask(str(path))[0] == "two"
    assert not path.exists()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        (tmp_path / "app.py").write_text(APP.format(port=0).replace("VERSION", "one"))
        command = [UWSERVE, "serve", "app:options", "--reload", "--fd", str(listener.fileno())]
        run = subprocess.Popen(
            command, cwd=tmp_path, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            port = listener.getsockname()[1]
            assert ask(port)[0] == "one"
            holder = type("Holder", (), {"child": run})()
            app = Reloading(tmp_path, holder)
            app.write("two")
            app.said("serving again")
            assert ask(port)[0] == "two"
        finally:
            run.terminate()
            assert run.wait(DEADLINE) == 0
            assert run.stderr
            run.stderr.close()


def test_which_files_count(tmp_path: Path) -> None:
    """Python's, and those that are asked for; of the folders that are."""
    (tmp_path / "watched").mkdir()
    with reloading(tmp_path, "app:options", "--reload-dir", "watched", "--reload-include", "*.html") as app:
        port = app.run.port()
        _, first = ask(port)
        app.write("two")  # not in a watched folder
        (tmp_path / "watched" / "notes.txt").write_text("no")
        (tmp_path / "watched" / "page.html").write_text("yes")
        app.said("page.html changed, restarting")
        app.said("serving again")
        version, second = ask(port)
        assert version == "two"
        assert first != second


def test_without_watchfiles(tmp_path: Path) -> None:
    """The extra is named."""
    (tmp_path / "watchfiles.py").write_text("raise ImportError('blocked')\n")
    (tmp_path / "app.py").write_text(APP.format(port=0))
    with process(sys.executable, "-m", "uwserve", "serve", "app:options", "--reload", cwd=tmp_path) as run:
        code, output, errors = run.end()
        assert (code, output) == (1, "")
        assert "pip install 'uwserve[reload]'" in errors
        assert errors.count("\n") == 1


def test_the_copy_of_a_signal_comes_late(tmp_path: Path) -> None:
    """The application's server has ended, and the process is about to: that one must not become its exit code."""
    late = (
        "import atexit, os\nfrom uwserve.cli import child\nchild.MERGE = 600\n"
        "atexit.register(lambda: (os.kill(os.getpid(), 15), print('late', flush=True)))\n"
    )
    (tmp_path / "app.py").write_text(late + APP.format(port=0).replace("VERSION", "one"))
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
        ask(run.port())
        run.child.send_signal(signal.SIGTERM)
        code, output, errors = run.end()
    assert (code, output.splitlines()[-1]) == (0, "late"), errors


def test_a_watch_that_fails_is_told(tmp_path: Path) -> None:
    """The kernel's watches are used up, for one: the application serves on."""
    (tmp_path / "watchfiles.py").write_text(
        "class DefaultFilter: pass\n"
        "def watch(*folders, **options):\n    raise OSError('OS file watch limit reached')\n    yield\n"
    )
    (tmp_path / "app.py").write_text(APP.format(port=0).replace("VERSION", "one"))
    with process(sys.executable, "-m", "uwserve", "serve", "app:options", "--reload", cwd=tmp_path) as run:
        assert ask(run.port())[0] == "one"
        run.child.send_signal(signal.SIGTERM)
        code, _, errors = run.end()
    assert code == 0
    assert "nothing is reloaded: OSError: OS file watch limit reached\n" in errors
    assert "Traceback" not in errors


def test_json_of_both_processes(tmp_path: Path) -> None:
    """The supervisor's lines have the form of the application's, and what ends it at once, too."""
    keys = {"time", "level", "logger", "message", "connection", "remote_address", "method", "path"}
    (tmp_path / "app.py").write_text("1 / 0\n")
    with process(UWSERVE, "serve", "app:options", "--reload", "--log-json", cwd=tmp_path) as run:
        app = Reloading(tmp_path, run)
        lines = (app.said("waiting for a change") + 'waiting for a change"}').splitlines()
        run.child.send_signal(signal.SIGTERM)
        assert run.end()[0] == 0
    assert '"logger": "uwserve.reload"' in lines[-1]
    assert re.search(r'"time": "[-\dT:]+\.\d{3}Z", "level": "warning"', lines[-1])
    for arguments in (["--reload", "--reload-dir", "nowhere"], ["--reload-dir", "."]):
        with process(UWSERVE, "serve", "app:options", "--log-json", *arguments, cwd=tmp_path) as run:
            code, output, errors = run.end()
        assert (code, output) == (2, "")
        told = json.loads(errors)
        assert told["level"] == "critical"
        assert "--reload-dir" in told["message"]
        assert keys <= set(told)
