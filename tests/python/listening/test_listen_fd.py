"""``serve(fd=...)``: listening on a socket that somebody else has bound, and restarts without a gap."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ws_client
from http_client import Client, frame, open_websocket, read_frame, request, upgrade
from processes import process

import uwserve
from uwserve import serve


def listening(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> socket.socket:
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen(100)
    return listener


@contextlib.contextmanager
def serving(fd: int, **options: Any) -> Iterator[uwserve.Server]:
    with serve(fd=fd, fetch=upgrade, websocket={"message": lambda ws, m: ws.send(m)}, **options) as server:
        yield server.start()


# --- one process ---


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_tcp(family: int, host: str) -> None:
    """port, hostname and url tell where it listens; the descriptor is taken over and closed at the end."""
    try:
        listener = listening(family, (host, 0))
    except OSError as error:
        pytest.skip(f"no {host} on this machine: {error}")
    port = listener.getsockname()[1]
    assert listener.getblocking()
    fd = listener.detach()
    os.set_inheritable(fd, True)
    with serving(fd) as server:
        shown = f"[{host}]" if ":" in host else host
        assert (server.port, server.hostname) == (port, host)
        assert server.url.endswith(f"://{shown}:{port}/")
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        with Client((host, port)) as client, Client((host, port)) as plain:
            assert plain.ask().body == b"plain"
            open_websocket(client)
            client.send(frame(b"x"))
            assert read_frame(client) == (1, b"x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix(tmp_path: Path, kind: str) -> None:
    """The path stays when the server stops: it belongs to whoever has bound it."""
    name = str(tmp_path / "s") if kind == "path" else f"\0uwserve-test-{os.getpid()}"
    with serving(listening(socket.AF_UNIX, name).detach()) as server:
        assert (server.port, server.hostname) == (None, None)
        assert server.url == (f"unix://{name}" if kind == "path" else f"abstract://{name[1:]}")
        with Client(name) as client:
            assert client.ask().body == b"plain"
    assert os.path.exists(name) if kind == "path" else True


def test_every_address() -> None:
    """A socket that listens everywhere: its URL is one that a client can use."""
    with serving(listening(address=("0.0.0.0", 0)).detach()) as server:
        assert server.hostname == "0.0.0.0"
        assert server.url.endswith(f"://localhost:{server.port}/")


def unbound() -> socket.socket:
    return socket.socket()


def connected() -> socket.socket:
    one, other = socket.socketpair()
    other.close()
    return one


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: os.fdopen(os.open(os.devnull, os.O_RDONLY)), "is not a socket"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "is not a stream socket"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), "is not a stream socket"),
        (unbound, "is a socket that does not listen"),
        (connected, "is a socket that does not listen"),
    ],
)
def test_descriptors_that_cannot_be_listened_on(make: Callable[[], Any], why: str) -> None:
    """OSError that says why; the descriptor is as it was, and the caller's."""
    with make() as thing:
        fd = thing.fileno()
        before = (os.get_blocking(fd), os.get_inheritable(fd))
        with pytest.raises(OSError, match=f"fd {fd} {why}"):
            serve(fd=fd, fetch=upgrade)
        assert (os.get_blocking(fd), os.get_inheritable(fd)) == before
    with pytest.raises(OSError, match=f"fd {fd} is not open"):
        serve(fd=fd, fetch=upgrade)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, r"fd must be in 0\.\.2147483647, got -1"),
        (1 << 31, ValueError, r"fd must be in 0\.\.2147483647, got 2147483648"),
        ("3", ValueError, "fd must be a descriptor's number or 'systemd', got '3'"),
        (True, TypeError, "fd must be an int or 'systemd', got bool"),
        (3.0, TypeError, "fd must be an int or 'systemd', got float"),
    ],
)
def test_bad_values(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        serve(fd=value)


@pytest.mark.parametrize(
    "other", [{"port": 0}, {"hostname": "x"}, {"unix": "/x"}, {"reuse_port": False}, {"ipv6Only": True}]
)
def test_it_stands_alone(other: dict[str, Any]) -> None:
    name = {"ipv6Only": "ipv6_only"}.get(next(iter(other)), next(iter(other)))
    with listening() as listener:
        with pytest.raises(TypeError, match=f"fd and {name} cannot both be given"):
            serve(fd=listener.fileno(), **other)
        assert listener.getsockname()


def test_reload_cannot_change_it() -> None:
    with serving(listening().detach()) as server, pytest.raises(ValueError, match="cannot change fd"):
        server.reload(fd=3)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "LISTEN_PID is not set"),
        ({"LISTEN_PID": "1"}, "LISTEN_FDS is not set"),
        ({"LISTEN_PID": "x", "LISTEN_FDS": "1"}, "LISTEN_PID is 'x', not a number"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "LISTEN_PID is 1, and this process is"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, "LISTEN_FDS is 0"),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1', not a number"),
    ],
)
def test_no_socket_of_systemd(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], why: str) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"fd='systemd': systemd has passed no socket to this process: {why}"):
        serve(fd="systemd")


# As systemd does it: descriptor 3, and the variables, in the process that becomes the server.
ACTIVATE = """
import os, socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(100)
fd = listener.detach()
if fd != 3:
    os.dup2(fd, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.plain("the server runs in a process of its own")
def test_systemd() -> None:
    """Socket activation, through the command."""
    with process(sys.executable, "-c", ACTIVATE, "-m", "uwserve", "echo", "--fd", "systemd") as server:
        with Client(server.port()) as client:
            open_websocket(client)
            client.send(frame(b"x"))
            assert read_frame(client) == (1, b"x")
            client.send(frame(b"", 8))
            assert read_frame(client)[0] == 8
            assert client.at_end()
        server.child.terminate()
        code, _, errors = server.end()
        assert code == 0, errors


# --- a restart without a gap ---

GENERATION = """
import os, sys
from uwserve import serve
name, fd = sys.argv[1], int(sys.argv[2])
def fetch(request, server):
    if server.upgrade(request):
        return None
    return name
server = serve(fd=fd, fetch=fetch, websocket={"message": lambda ws, m: ws.send(name + m)})
server.call_soon(print, name)
server.run(stop_timeout=20)
"""


class Generation:
    """One server process on the shared socket; the constructor returns when it serves."""

    def __init__(self, name: str, listener: socket.socket) -> None:
        command = [sys.executable, "-c", textwrap.dedent(GENERATION), name, str(listener.fileno())]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[listener.fileno()], text=True)
        assert self.child.stdout
        assert self.child.stdout.readline() == f"{name}\n"

    def retire(self) -> None:
        """SIGTERM, and wait for its end."""
        self.child.terminate()
        assert self.child.wait(30) == 0

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate()


class Traffic:
    """Clients that ask without a pause, each time on a new connection; whoever is not answered says so."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.answered: dict[str, int] = {}
        self.problems: list[BaseException] = []
        self.over = threading.Event()
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self._work, args=(work,)) for work in (self._ask, self._talk) * 3]
        for thread in self.threads:
            thread.start()

    def _work(self, work: Callable[[], str]) -> None:
        while not self.over.is_set():
            try:
                name = work()
            except BaseException as problem:
                self.problems.append(problem)
                self.over.set()
                return
            with self.changed:
                self.answered[name] = self.answered.get(name, 0) + 1
                self.changed.notify_all()

    def _ask(self) -> str:
        with Client(self.address) as client:
            return client.ask(request()).body.decode()

    def _talk(self) -> str:
        """A WebSocket that stays until its server goes; each message is answered, or the Close frame comes first."""
        with ws_client.Client(self.address) as client:
            name = ""
            for i in range(200):
                client.send(f" {i}")
                got = client.read_frame()
                if got.opcode == ws_client.CLOSE:
                    assert got.close_code == 1001
                    break
                name, _, number = got.payload.decode().partition(" ")
                assert number == str(i)
            return name or "closed at once"

    def wait_for(self, name: str, more: int) -> None:
        with self.changed:
            wanted = self.answered.get(name, 0) + more
            assert self.changed.wait_for(lambda: self.answered.get(name, 0) >= wanted or self.over.is_set(), 30)
        assert not self.problems, self.problems

    def end(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.problems, self.problems


@pytest.mark.plain("the servers run in processes of their own")
def test_a_restart_without_a_gap() -> None:
    """Three generations of a server on one socket: no connection is refused, no request is without its answer."""
    with listening() as listener, contextlib.ExitStack() as stack:
        generations = [Generation("g0", listener)]
        stack.callback(generations[0].kill)
        traffic = Traffic(listener.getsockname())
        stack.callback(traffic.over.set)
        for i in range(1, 4):
            traffic.wait_for(f"g{i - 1}", 100)
            generations.append(Generation(f"g{i}", listener))
            stack.callback(generations[-1].kill)
            generations[-2].retire()
        traffic.wait_for("g3", 100)
        traffic.end()
