"""Everything that has a descriptor counts, and the application's reserve of them is real: under a low RLIMIT_NOFILE."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from typing import Any

import pytest
from http_client import GET, Client, upgrade_request
from ws_client import TIMEOUT, eventually

from uwserve._options import limits as _limits

# `open N` opens so many files at once; `stats` prints the counters.
SERVER = """
import json, os, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, hard))
import asyncio, uwserve

async def message(ws, m):
    await asyncio.sleep(0)

def fetch(request, server):
    if server.upgrade(request):
        return
    return "ok"

def make():
    options = {{"websocket": {{"message": message}}, "port": 0, "hostname": "127.0.0.1", "limits": {limits}}}
    return uwserve.serve(fetch=fetch, **options).start()

servers = [make() for _ in range({count})]
print(json.dumps([server.port for server in servers]))
for line in sys.stdin:
    what, *number = line.split()
    if what == "open":
        files = []
        failed = 0
        for _ in range(int(number[0])):
            try:
                files.append(open(os.devnull))
            except OSError:
                failed += 1
        highest = max([file.fileno() for file in files], default=0)
        for file in files:
            file.close()
        print(json.dumps({{"failed": failed, "highest": highest}}))
    else:
        print(json.dumps([[server.stats()["connections"]["open"], server.refused] for server in servers]))
"""


class Reserved:
    def __init__(self, script: Any, limit: int, count: int = 1, **limits: int) -> None:
        limits = {"max_connections_per_address": 0, "max_pending_heads": 0} | limits
        self.script = script(SERVER.format(limit=limit, limits=limits, count=count))
        self.ports = json.loads(self.script.line())

    def ask(self, what: str) -> Any:
        self.script.process.stdin.write(what + "\n")
        self.script.process.stdin.flush()
        return json.loads(self.script.line())

    def opens(self, count: int) -> bool:
        return self.ask(f"open {count}")["failed"] == 0

    def refused(self, cause: str) -> int:
        return sum(counts[cause] for _, counts in self.ask("stats"))

    def connections(self) -> int:
        return sum(count for count, _ in self.ask("stats"))


@pytest.fixture
def reserved(script):
    return lambda limit, count=1, **limits: Reserved(script, limit, count, **limits)


@pytest.fixture
def sockets():
    with contextlib.ExitStack() as stack:

        def connect(port: int, data: bytes = b"") -> socket.socket:
            """One that may have been refused: then it is reset, at once or when it is used."""
            client = stack.enter_context(socket.socket())
            client.settimeout(TIMEOUT)
            with contextlib.suppress(ConnectionError):
                client.connect(("127.0.0.1", port))
                client.sendall(data)
            return client

        yield connect


BAD = b"\0 nonsense\r\n\r\n"


def test_draining_connections_leave_the_reserve(reserved, sockets) -> None:
    """Idle clients up to the limit, and bad requests whose clients never close: open() works all the time."""
    server = reserved(256)
    for _ in range(180):
        sockets(server.ports[0], upgrade_request())
    for _ in range(10):
        for _ in range(40):
            sockets(server.ports[0], BAD)
        assert server.opens(60)
    eventually(lambda: server.connections() <= 192)


def test_new_connections_replace_draining_ones(reserved, sockets) -> None:
    """At the limit, a connection that has had its answer is ended for a new one, which is not refused."""
    server = reserved(1024, max_connections=20)
    for _ in range(20):
        assert sockets(server.ports[0], BAD).recv(100).startswith(b"HTTP/1.1 400")
    for _ in range(20):
        client = sockets(server.ports[0], GET)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert server.refused("connections") == 0
    with contextlib.suppress(OSError):
        assert sockets(server.ports[0], GET).recv(100) == b""
    assert server.refused("connections") == 1


def test_several_servers_share_the_reserve(reserved, sockets) -> None:
    """Each alone may have as many connections as the process: together they leave it, too."""
    server = reserved(256, count=2)
    for i in range(400):
        sockets(server.ports[i % 2], upgrade_request())
    eventually(lambda: server.refused("descriptors") > 0)
    assert server.opens(60)
    assert server.connections() <= 192


def test_without_max_connections_the_reserve_stays(reserved, sockets) -> None:
    server = reserved(256, max_connections=0)
    for _ in range(300):
        sockets(server.ports[0], GET)
    eventually(lambda: server.refused("descriptors") > 0)
    assert server.opens(60)
    assert server.refused("accept_errors") == 0


def test_the_reserve_is_an_option(reserved, sockets) -> None:
    server = reserved(256, reserved_descriptors=120)
    for _ in range(250):
        sockets(server.ports[0], GET)
    assert server.opens(115)
    assert server.connections() <= 136


def test_descriptors_that_come_free_are_used_again(reserved, sockets) -> None:
    """After an hour's worth of bad requests the numbers have not crept into the reserve."""
    server = reserved(256)
    port = server.ports[0]
    for _ in range(6):
        kept = [sockets(port, BAD) for _ in range(250)]
        for client in kept:
            client.close()
    eventually(lambda: server.connections() == 0)
    with Client(port) as client:
        assert client.ask().status == 200
    assert server.opens(60)
    for _ in range(300):
        sockets(port, GET)
    assert server.opens(60)


@pytest.mark.parametrize(
    ("limit", "reserve"), [(1024, 64), (256, 64), (100, 25), (4096, 256), (65536, 1024), (1 << 20, 1024)]
)
def test_the_default_of_the_reserve(monkeypatch: pytest.MonkeyPatch, limit: int, reserve: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    figures = _limits.figures({})
    assert figures["reserved_descriptors"] == reserve
    assert figures["max_connections"] == limit - reserve
