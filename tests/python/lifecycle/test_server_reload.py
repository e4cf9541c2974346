"""A server that is reloaded, called from other threads, or lost: what changes together, and what stays behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from http_client import (
    DEADLINE,
    GET,
    Client,
    Recorder,
    bound,
    descriptors,
    expect_1001,
    frame,
    open_websocket,
    read_frame,
    request,
    running,
    upgrade,
    upgrade_request,
)

from uwserve import Request, Server, serve

pytestmark = pytest.mark.wss

# --- reload ---


def test_reload() -> None:
    """Handlers and limits change together, for open sockets too, from any thread; the port stays."""
    first: dict[str, Any] = {"message": lambda ws, message: ws.send("first " + message)}
    second: dict[str, Any] = {"message": lambda ws, message: ws.send("second " + message)}
    with running(fetch=upgrade, websocket=first) as server, Client(server) as client, Client(server) as plain:
        port = server.port
        open_websocket(client)
        client.send(frame(b"a"))
        assert read_frame(client) == (1, b"first a")
        assert plain.ask(request("/", "POST", b"12345678901")).status == 200
        server.reload(fetch=lambda r: "new", websocket=second, max_request_body_size=10, id="new", development=True)
        client.send(frame(b"b"))
        assert read_frame(client) == (1, b"second b")
        assert plain.ask().body == b"new"
        assert plain.ask(request("/", "POST", b"12345678901")).status == 413
        assert (server.port, server.id, server.development) == (port, "new", True)


def test_reload_inside_a_handler() -> None:
    """It takes effect at once for the next request; the one that reloads is still answered."""

    def fetch(request: Request, server: Server) -> str:
        server.reload(fetch=lambda r: "new")
        return "old"

    with running(fetch=fetch) as server, Client(server) as client:
        client.send(GET * 3)
        assert [client.reply().body for _ in range(3)] == [b"old", b"new", b"new"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"port": 1}, ValueError, "cannot change port"),
        ({"hostname": "x"}, ValueError, "cannot change hostname"),
        ({"unix": "x"}, ValueError, "cannot change unix"),
        ({"reusePort": True}, ValueError, "cannot change reusePort"),
        ({"nope": 1}, TypeError, "nope"),
        ({"fetch": 7}, TypeError, "fetch"),
        ({"websocket": {"idle_timeout": -1}}, ValueError, "idle_timeout"),
        ({"routes": {"bad": "x"}}, ValueError, "bad"),
    ],
)
def test_a_bad_reload_changes_nothing(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """Not even the good options beside the bad one."""
    with running(fetch=lambda r: "old", id="old") as server, Client(server) as client:
        with pytest.raises(error, match=text):
            server.reload(**({"id": "new", "fetch": lambda r: "new"} | options))
        assert client.ask().body == b"old"
        assert server.id == "old"


def test_reload_after_the_end() -> None:
    with bound() as server:
        server.stop()
        with pytest.raises(RuntimeError, match="stopped"):
            server.reload(id="x")


# --- call_soon, and losing a server ---


def test_call_soon(caplog: pytest.LogCaptureFixture) -> None:
    """In order, on the loop's thread, with arguments; an exception is logged and the next call still runs."""
    ran = Recorder()
    with bound() as server:
        server.call_soon(ran, "before the start")
        server.start()
        for i in range(1000):
            server.call_soon(ran, i)
        server.call_soon(lambda: {}["missing"])
        server.call_soon(lambda: ran(threading.current_thread().name))
        assert ran.wait(1002) == ["before the start", *range(1000), "uwserve"]
        for wrong in ((), (7,), (None,)):
            with pytest.raises(TypeError):
                server.call_soon(*wrong)
    assert "missing" in caplog.text
    with pytest.raises(RuntimeError):
        server.call_soon(print)


def in_a_cycle(server: Server) -> None:
    server.reload(fetch=lambda r: server.port)


NO_HANDSHAKE = pytest.mark.plain("nobody runs the server, so there is no handshake")


@pytest.mark.parametrize(
    "way", ["dropped", "cycle", pytest.param("with connections", marks=NO_HANDSHAKE), "stopped", "ran"]
)
def test_a_lost_server_leaves_no_descriptor(way: str) -> None:
    """Collected while it listens, with clients waiting, after a run: all descriptors go with it."""

    def lose() -> None:
        server = serve(port=0, hostname="127.0.0.1", fetch=upgrade, websocket={})
        if way == "cycle":
            in_a_cycle(server)
        elif way == "with connections":
            with Client(server) as client:
                client.send(upgrade_request())
        elif way == "stopped":
            server.stop()
        elif way == "ran":
            server.start()
            with Client(server) as client:
                open_websocket(client)
                stopped = server.stop(True)
                expect_1001(client)
            assert stopped.wait(DEADLINE)
            server._control.join(DEADLINE)

    lose()
    gc.collect()
    before = descriptors()
    for _ in range(5):
        lose()
    gc.collect()
    assert descriptors() == before


def test_handlers_are_released() -> None:
    """A stopped server that is still referenced by nobody but its own closures is garbage."""

    class Canary:
        pass

    def make() -> Callable[[], Any]:
        canary = Canary()
        routes = {"/x": lambda r: str(canary)}
        with running(fetch=lambda r: f"{canary}{server.port}", routes=routes) as server, Client(server) as client:
            assert client.ask().status == 200
            assert client.ask(request("/x")).status == 200
        return weakref.ref(canary)

    gone = make()
    gc.collect()
    assert gone() is None
