"""Shared by the tests of isolation: every way to run a server, and clients that take turns."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from http_client import Client as HttpClient
from http_client import request
from loops import running_in
from ws_client import TIMEOUT, Client

import uwserve

MODES = ("run", "start", "asyncio", "uvloop")


@contextlib.contextmanager
def serving(mode: str, **options: Any) -> Iterator[uwserve.Server]:
    """A server that runs in another thread, in that way."""
    if mode != "run":
        with running_in(mode, **options) as server:
            yield server
        return
    server = uwserve.serve({"port": 0, "hostname": "127.0.0.1"} | options)
    thread = threading.Thread(target=server.run, name="run")
    thread.start()
    try:
        yield server
    finally:
        server.stop(True)
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def upgrade(request: uwserve.Request, server: uwserve.Server) -> Any:
    return None if server.upgrade(request, data=request.query) else uwserve.Response("no websocket", 400)


def connect(server: uwserve.Server, path: str = "/") -> Client:
    assert server.port is not None
    return Client(("127.0.0.1", server.port), path)


@contextlib.contextmanager
def two_clients(mode: str, **handlers: Any) -> Iterator[tuple[Client, Client]]:
    """Two clients of a server that runs in that way, with these handlers of its WebSockets."""
    with (
        serving(mode, fetch=upgrade, websocket=handlers) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        yield first, second


def ask(server: uwserve.Server, path: str) -> Any:
    """One request on a connection of its own: the JSON of the answer."""
    with HttpClient(server) as client:
        return client.ask(request(path)).json()
