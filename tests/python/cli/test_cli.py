"""The command line, as ``python -m uwserve`` and as ``uwserve``: what it serves, what it refuses, its exit codes."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path

import pytest
from http_client import Client, frame, open_websocket, read_frame, request
from processes import SERVE, process

pytestmark = pytest.mark.plain("the servers run in processes of their own")

UWSERVE = Path(sys.executable).with_name("uwserve")


def test_help_and_version() -> None:
    commands = ("serve", "echo", "chat", "bench", "doctor")
    for command in ([sys.executable, "-m", "uwserve"], [UWSERVE]):
        for arguments in (["--help"], *([name, "--help"] for name in commands), ["--version"]):
            with process(*command, *arguments) as run:
                code, output, errors = run.end()
                assert (code, errors) == (0, "")
                assert "uwserve" in output
                if arguments == ["--help"]:
                    assert all(word in output for word in (*commands, "exit codes", "130", "143"))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["echo", "--port"],
        ["echo", "--port", "x"],
        ["echo", "--port", "65536"],
        ["echo", "--unix", "/tmp/x", "--port", "1"],
        ["chat", "--host", ""],
        ["echo", "--stop-timeout", "-1"],
        ["echo", "--stop-timeout", "nan"],
        ["chat", "--stop-timeout", "soon"],
        ["echo", "--fd", "3", "--port", "1"],
        ["chat", "--fd", "3", "--unix", "/tmp/x"],
        ["serve"],
        ["serve", "module"],
        ["serve", ":server"],
        ["echo", "--tls-key", "key.pem"],
        ["echo", "--tls-cert", ""],
        ["echo", "--dashboard-allow", "10.0.0.0/8"],
        ["echo", "--log-level", "loud"],
        ["serve", "--dashboard", "app:options"],
        ["echo", "--metrics", "x"],
        ["echo", "--reload"],
        ["serve", "a:b", "--reload-dir", "."],
        ["serve", "a:b", "--reload", "--port", "1", "--unix", "x"],
        ["serve", "a:b", "--reload", "--reload-dir", "nowhere"],
        ["bench", "ftp://x"],
        ["bench", "ws://x:99999"],
        ["bench", "ws://[::1"],
        ["bench", "--size", "0"],
        ["bench", "--seconds", "601"],
        ["doctor", "--connections", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with process(sys.executable, "-m", "uwserve", *arguments) as run:
        code, output, errors = run.end()
        assert (code, output) == (2, "")
        assert "uwserve" in errors
        assert "Traceback" not in errors
        assert arguments or "exit codes" in errors  # without anything it is the help


@pytest.mark.parametrize("command", ["echo", "chat"])
def test_echo_and_chat(command: str) -> None:
    with process(UWSERVE, command, "--port", "0") as run:
        port = run.port()
        with Client(port) as client:
            if command == "chat":
                page = client.ask()
                assert (page.status, page.get("Content-Type")) == (200, "text/html;charset=utf-8")
                assert b"uwserve chat" in page.body
                assert client.ask(request("/health")).json()["ok"] is True
                assert client.ask(request("/ws")).status == 426
            open_websocket(client, "/ws")
            sent = frame(b'{"type":"join","room":"r","name":"n"}') if command == "chat" else frame(b"x")
            client.send(sent)
            opcode, answer = read_frame(client)
            assert opcode == 1
            assert b'"joined"' in answer if command == "chat" else answer == b"x"
            client.send(frame(b"", 8))
            assert read_frame(client) == (8, b"")
            assert client.at_end()
        run.child.send_signal(signal.SIGINT)
        code, _, errors = run.end()
        assert code == 0
        assert "Traceback" not in errors


def test_stopping_with_open_connections(tmp_path: Path) -> None:
    """Ctrl-C tells them and says how long they have; --stop-timeout ends it with 0, a second signal with 130 or 143."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(SERVE))
    for command, patience, signals, wanted in (
        ("echo", "600", (signal.SIGINT, signal.SIGINT), 130),
        ("echo", "600", (signal.SIGINT, signal.SIGTERM), 143),
        ("echo", "0.3", (signal.SIGTERM,), 0),
        ("serve", "600", (signal.SIGTERM, signal.SIGTERM), 143),
    ):
        target = ["mine:server"] if command == "serve" else ["--port", "0"]
        with (
            process(UWSERVE, command, *target, "--stop-timeout", patience, cwd=tmp_path) as run,
            Client(run.port()) as client,
        ):
            open_websocket(client)
            run.child.send_signal(signals[0])
            assert read_frame(client) == (8, b"\x03\xe9Server closed")
            for number in signals[1:]:
                run.child.send_signal(number)
            code, output, errors = run.end()
            assert (code, output) == (wanted, "")
            again = "Ctrl-C again" if signals[0] == signal.SIGINT else "a second signal"
            assert f"stopping; 1 open connection has {patience} s to end, {again} cuts\n" in errors
            assert errors.lower().count("stopping") == 1
            assert ("cutting the connections that are left (2 s)" in errors) == (wanted != 0)


def test_sockets_that_cannot_be_inherited() -> None:
    """One line that says why, and exit code 1."""
    for fd, why in (("0", "fd 0 is not a socket"), ("99", "fd 99 is not open"), ("x", "must be a descriptor's number")):
        with process(UWSERVE, "echo", "--fd", fd) as run:
            code, output, errors = run.end()
            assert (code, output) == (1, "")
            assert why in errors
            assert errors.count("\n") == 1, errors


def test_serve_module(tmp_path: Path) -> None:
    """A Server, a dict in Bun's spelling, a function that returns one; dotted attributes."""
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(SERVE)
        + "options = {'port': 0, 'hostname': '127.0.0.1', 'fetch': lambda request: 'from a dict'}\n"
        "def make(): return server\nclass Box: make = staticmethod(make)\n"
    )
    for attribute, body in (
        ("server", b"plain"),
        ("options", b"from a dict"),
        ("make", b"plain"),
        ("Box.make", b"plain"),
    ):
        with process(sys.executable, "-m", "uwserve", "serve", f"mine:{attribute}", cwd=tmp_path) as run:
            with Client(run.port()) as client:
                assert client.ask().body == body
            run.child.send_signal(signal.SIGTERM)
            assert run.end()[0] == 0


def test_serve_failures_exit_with_1(tmp_path: Path) -> None:
    """One line that names the target, no traceback."""
    (tmp_path / "bad.py").write_text("number = 7\noptions = {'prot': 1}\n")
    for target, word in (
        ("nowhere:x", "nowhere"),
        ("bad:missing", "missing"),
        ("bad:number", "int"),
        ("bad:options", "prot"),
    ):
        with process(sys.executable, "-m", "uwserve", "serve", target, cwd=tmp_path) as run:
            code, output, errors = run.end()
            assert (code, output) == (1, "")
            assert word in errors
            assert errors.count("\n") == 1, errors
    for command in ("echo", "chat"):
        with (
            process(UWSERVE, command, "--port", "0") as first,
            process(UWSERVE, command, "--port", str(first.port())) as second,
        ):
            code, _, errors = second.end()
            assert code == 1
            assert errors.startswith("uwserve: cannot listen: ")
            assert "in use" in errors
            assert errors.endswith(" (--port chooses another)\n")


def test_a_server_that_runs_in_its_import(tmp_path: Path) -> None:
    """It has run without the command's options: that is said when it has stopped, and how to do better."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(SERVE) + "print(server.port, flush=True)\nserver.run()\n")
    with process(sys.executable, "-m", "uwserve", "serve", "mine:server", cwd=tmp_path) as run:
        with Client(run.port()) as client:
            assert client.ask().body == b"plain"
        run.child.send_signal(signal.SIGINT)
        code, output, errors = run.end()
    assert (code, output) == (1, "")
    assert errors.splitlines()[-1] == (
        "uwserve: mine:server: the server has run, and stopped, while its module was imported: "
        'put server.run() under if __name__ == "__main__"'
    )
