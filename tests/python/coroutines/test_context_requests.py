"""Context variables of requests and their bodies, and what they take: they are their own, and go with their owner."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from concurrent.futures import Future
from typing import Any

import pytest
from event_loops import Peer, embedded, run_on, until
from http_client import Client as HttpClient
from http_client import read_frame, request, upgrade_request
from server_modes import connect, serving, upgrade
from test_context_variables import USER, echo_user
from ws_client import TIMEOUT, eventually

import uwserve
from uwserve import Response


@pytest.mark.parametrize("how", ["plain", "eager", "suspends"])
def test_requests_are_apart(mode: str, how: str) -> None:
    """Each request begins anew, even on the same connection: behind a proxy the next one is another client's."""

    def plain(request: uwserve.Request) -> Any:
        before = USER.get()
        USER.set(request.query)
        return f"{before} {USER.get()}"

    async def coroutine(request: uwserve.Request) -> Any:
        before = USER.get()
        USER.set(request.query)
        if how == "suspends":
            await asyncio.sleep(0)
        return f"{before} {USER.get()}"

    with serving(mode, fetch=plain if how == "plain" else coroutine) as server, HttpClient(server) as client:
        for name in ("alice", "bob", ""):
            assert client.ask(request(f"/?{name}")).body.decode() == f"nobody {name}"


def test_an_upgrade_by_anothers_handler() -> None:
    """A request that waits, upgraded in another connection's handler, does not begin with that one's variables."""
    waiting: list[Any] = []

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        if request.query != "wait":
            return upgrade(request, server)
        waiting.append(request)
        return Future()

    def message(ws: Any, message: str) -> None:
        USER.set(message)
        assert ws.server.upgrade(waiting.pop())

    websocket = {"open": lambda ws: ws.send(USER.get()), "message": message}
    with serving("start", fetch=fetch, websocket=websocket) as server, connect(server) as first:
        assert first.read_message() == "nobody"
        with HttpClient(server) as second:
            second.send(upgrade_request("/?wait"))
            eventually(lambda: waiting)
            first.send("alice")
            assert b" 101 " in second.read_until(b"\r\n\r\n")
            assert read_frame(second)[1] == b"nobody"


def test_streamed_bodies_belong_to_their_request(mode: str) -> None:
    """A generator's pieces are made in its request's Context, although they come between other people's messages."""

    def body(name: str) -> Any:
        for number in range(40):
            yield f"{USER.get()}\n".encode() * 20_000
            if number == 20:
                USER.set(f"{name}, later")

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        if request.path != "/stream":
            return upgrade(request, server)
        USER.set(request.query)
        return Response(body(request.query))

    with serving(mode, fetch=fetch, websocket={"message": echo_user}) as server, connect(server) as client:
        clients = [HttpClient(server) for _ in range(2)]
        for http, name in zip(clients, ("alice", "bob"), strict=True):
            http.send(request(f"/stream?{name}"))
        client.send("carol")
        assert client.read_message() == "nobody carol"
        for http, name in zip(clients, ("alice", "bob"), strict=True):
            with http:
                assert set(http.reply().body.split(b"\n")) == {name.encode(), f"{name}, later".encode(), b""}


def test_asynchronous_bodies_belong_to_their_request(mode: str) -> None:
    async def body() -> Any:
        for _ in range(3):
            yield USER.get() + "\n"
            await asyncio.sleep(0)

    def fetch(request: uwserve.Request) -> Any:
        USER.set(request.query)
        return Response(body())

    with serving(mode, fetch=fetch) as server:
        for name in ("alice", "bob"):
            with HttpClient(server) as client:
                assert client.ask(request(f"/?{name}")).body.decode() == f"{name}\n" * 3


def test_a_future_that_another_handler_resolves() -> None:
    """The rest of the request, its error handler included, runs in its own Context and not in that of the resolver."""
    waiting: Future[Any] = Future()
    seen: list[str] = []

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        if request.query != "wait":
            return upgrade(request, server)
        USER.set("alice")
        return waiting

    def error(exc: BaseException) -> Any:
        seen.append(USER.get())
        return "failed"

    def message(ws: Any, message: str) -> None:
        USER.set("bob")
        waiting.set_exception(ValueError())

    options: Any = {"fetch": fetch, "error": error, "websocket": {"message": message}}
    with serving("start", **options) as server, HttpClient(server) as first, connect(server) as second:
        first.send(request("/?wait"))
        second.round_trip()
        second.send("x")
        assert first.reply().body == b"failed"
    assert seen == ["alice"]


# --- memory ---


class Value:
    pass


VALUE: contextvars.ContextVar[Any] = contextvars.ContextVar("VALUE", default=None)


def contexts() -> int:
    return sum(type(found) is contextvars.Context for found in gc.get_objects())


def test_who_sets_none_has_none() -> None:
    """Connections whose handlers set no variable do not have a Context each."""
    opened = [0]

    def opening(ws: Any) -> None:
        opened[0] += 1

    with serving("start", fetch=upgrade, websocket={"open": opening, "message": echo_user}) as server:
        gc.collect()
        before = contexts()
        clients = [connect(server) for _ in range(50)]
        try:
            for client in clients:
                client.send("")
                client.read_message()
            gc.collect()
            assert contexts() <= before + 2
            for client in clients:
                client.send("x")
                client.read_message()
            assert contexts() >= before + 50
        finally:
            for client in clients:
                client.close()
    gc.collect()
    assert contexts() <= before + 2


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_it_goes_with_its_connection(loop_kind: str) -> None:
    """Also when a variable refers to the socket, which refers to the Context."""
    values: list[weakref.ref[Any]] = []

    async def main() -> None:
        def message(ws: Any, message: str) -> None:
            value: Any = Value()
            value.ws = ws
            VALUE.set(value)
            values.append(weakref.ref(value))

        async with embedded(message=message) as server:
            async with Peer(server) as peer:
                await peer.send("x")
                await peer.round_trip_ping()
                gc.collect()
                assert values[0]() is not None
            await asyncio.wait_for(until(lambda: not server.pending_websockets), TIMEOUT)
            gc.collect()
            assert values[0]() is None

    run_on(loop_kind, main())


def test_a_request_leaves_nothing(mode: str) -> None:
    values: list[weakref.ref[Any]] = []

    def fetch(request: uwserve.Request) -> Any:
        value = Value()
        VALUE.set(value)
        values.append(weakref.ref(value))
        return "x"

    with serving(mode, fetch=fetch) as server, HttpClient(server) as client:
        for _ in range(5):
            client.ask()
        gc.collect()
        assert [value() for value in values] == [None] * 5
