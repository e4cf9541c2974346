"""Context variables: each connection has its own, from `fetch` to `close`; no other code sees them."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import logging
import threading
from collections.abc import Iterator
from typing import Any

import asgiref.local
import pytest
from event_loops import Peer, embedded, run_on, until
from http_client import Client as HttpClient
from server_modes import ask, connect, serving, two_clients, upgrade
from ws_client import TIMEOUT, eventually

import uwserve
from uwserve import Response

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")
OUTSIDE: contextvars.ContextVar[str] = contextvars.ContextVar("OUTSIDE", default="unset")


def echo_user(ws: Any, message: str) -> None:
    """A message sets the name, an empty one leaves it; the answer is the name."""
    before = USER.get()
    if message:
        USER.set(message)
    ws.send(f"{before} {USER.get()}")


def test_of_one_connection(mode: str) -> None:
    """What a plain handler has set, later handlers of the same connection see, and of another do not."""
    with serving(mode, fetch=upgrade, websocket={"message": echo_user}) as server:
        with connect(server) as first, connect(server) as second:
            for name in ("alice", "", "anna", ""):
                first.send(name)
                second.send("")
                assert second.read_message() == "nobody nobody"
                first.read_message()
            second.send("bob")
            assert second.read_message() == "nobody bob"
            first.send("")
            assert first.read_message() == "anna anna"
        with connect(server) as third:
            third.send("")
            assert third.read_message() == "nobody nobody"


def test_from_fetch_to_close(mode: str) -> None:
    """One Context from the request that is upgraded to the last handler; tokens of one are reset in another."""
    tokens: dict[Any, Any] = {}
    closed: list[Any] = []

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        token = USER.set(request.query)
        assert server.upgrade(request, data=request.query)
        tokens[request.query] = token

    def opening(ws: Any) -> None:
        assert USER.get() == ws.data
        USER.set(USER.get() + ", open")

    def message(ws: Any, message: str) -> None:
        assert USER.get() == f"{ws.data}, open"
        ws.send(USER.get())

    def seen(ws: Any, data: bytes) -> None:
        assert USER.get() == f"{ws.data}, open"
        ws.send("a ping or a pong")

    def close(ws: Any, code: int, reason: str) -> None:
        name = USER.get()
        USER.reset(tokens[ws.data])
        closed.append((ws.data, name, USER.get()))

    websocket = {"open": opening, "message": message, "ping": seen, "pong": seen, "close": close}
    with serving(mode, fetch=fetch, websocket=websocket) as server:
        with connect(server, "/?alice") as first, connect(server, "/?bob") as second:
            for client, name in ((first, "alice"), (second, "bob"), (first, "alice")):
                client.send("x")
                assert client.read_message() == f"{name}, open"
                client.pong(b"x")
                assert client.read_message() == "a ping or a pong"
        eventually(lambda: len(closed) == 2)
    assert sorted(closed) == [("alice", "alice, open", "nobody"), ("bob", "bob, open", "nobody")]


def test_coroutines_start_from_it(mode: str) -> None:
    """A coroutine handler begins with its connection's variables, as a Task of it would; what it sets is its own."""

    def opening(ws: Any) -> None:
        if ws.data:
            USER.set(ws.data)

    async def message(ws: Any, message: str) -> None:
        before = USER.get()
        USER.set(message)
        if message == "suspend":
            await asyncio.sleep(0)
        assert USER.get() == message
        ws.send(before)

    with (
        serving(mode, fetch=upgrade, websocket={"open": opening, "message": message}) as server,
        connect(server, "/?alice") as first,
        connect(server) as second,
    ):
        for text in ("eager", "suspend", "eager"):
            first.send(text)
            second.send(text)
            assert first.read_message() == "alice"
            assert second.read_message() == "nobody"


def test_a_coroutine_that_upgrades(mode: str) -> None:
    """The connection begins with what the coroutine has set when it calls upgrade(), before or after it suspended."""

    async def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        if request.query == "bob":
            await asyncio.sleep(0)
        if request.query:
            USER.set(request.query)
        assert server.upgrade(request)

    websocket = {"open": lambda ws: ws.send(USER.get()), "message": echo_user}
    with serving(mode, fetch=fetch, websocket=websocket) as server:
        for name in ("alice", "bob", ""):
            with connect(server, f"/?{name}") as client:
                assert client.read_message() == (name or "nobody")
                client.send("")
                assert client.read_message() == f"{name or 'nobody'} {name or 'nobody'}"


def test_handlers_inside_handlers(mode: str) -> None:
    """close() runs another socket's close handler inside this message handler: in that one's Context, and its own."""
    sockets: dict[str, Any] = {}
    seen: list[Any] = []

    def opening(ws: Any) -> None:
        sockets[ws.data] = ws
        if ws.data == "named":
            USER.set("its own")

    def message(ws: Any, message: str) -> None:
        USER.set("alice")
        for name in ("plain", "named", "self"):
            sockets[name].close()
            seen.append(USER.get())

    def close(ws: Any, code: int, reason: str) -> None:
        seen.append((ws.data, USER.get()))
        USER.set(f"closed {ws.data}")

    with serving(mode, fetch=upgrade, websocket={"open": opening, "message": message, "close": close}) as server:
        with connect(server, "/?plain"), connect(server, "/?named"), connect(server, "/?self") as client:
            client.send("x")
            client.read_close()
        with connect(server, "/?later"):
            eventually(lambda: "later" in sockets)
            sockets["later"].server.call_soon(sockets["later"].close)
            eventually(lambda: len(seen) == 7)
    assert seen == [
        ("plain", "nobody"),
        "alice",
        ("named", "its own"),
        "alice",
        ("self", "alice"),
        "closed self",
        ("later", "nobody"),
    ]


def test_a_coroutine_inside_a_plain_handler(mode: str) -> None:
    """An async close handler that a plain message handler runs leaves no Task and no Context behind in it."""
    sockets: list[Any] = []
    seen: list[Any] = []

    def message(ws: Any, message: str) -> None:
        USER.set(message)
        sockets[0].close()
        seen.append((USER.get(), asyncio.current_task() if asyncio._get_running_loop() else None))
        USER.set("later")
        ws.send("done")

    async def close(ws: Any, code: int, reason: str) -> None:
        seen.append(USER.get())
        USER.set("closed")

    with (
        serving(mode, fetch=upgrade, websocket={"open": sockets.append, "message": message, "close": close}) as server,
        connect(server),
        connect(server) as client,
    ):
        eventually(lambda: len(sockets) == 2)
        client.send("alice")
        assert client.read_message() == "done"
        eventually(lambda: len(seen) == 2)
    assert ("alice", None) in seen
    assert "nobody" in seen


def test_what_handlers_start_from(mode: str) -> None:
    """The Context in which run(), start() or `async with` was called; what is set there later is not seen."""
    if mode in ("run", "start"):
        token = OUTSIDE.set("set")
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request: OUTSIDE.get())
        if mode == "start":
            server.start()
        else:
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(server.run,), daemon=True).start()
        OUTSIDE.reset(token)
        with server, HttpClient(server) as client:
            assert client.ask().body == b"set"
        return

    async def main() -> None:
        OUTSIDE.set("set")
        seen: list[str] = []
        async with embedded(message=lambda ws, message: seen.append(OUTSIDE.get())) as server, Peer(server) as peer:
            OUTSIDE.set("later")
            await peer.send("x")
            await until(lambda: seen)
            assert seen == ["set"]

    run_on(mode, main())


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_the_program_around_sees_nothing(loop_kind: str) -> None:
    """In an event loop of the user's: neither its Tasks nor its callbacks, whatever calls the handler."""

    async def main() -> None:
        sockets: list[Any] = []

        def close(ws: Any, code: int, reason: str) -> None:
            USER.set("closed")

        def setting(ws: Any, message: str) -> None:
            USER.set(message)

        async with embedded(open=sockets.append, message=setting, close=close) as server, Peer(server) as peer:
            await peer.send("alice")
            await peer.round_trip_ping()
            assert USER.get() == "nobody"
            sockets[0].close()
            assert USER.get() == "nobody"
            seen: list[str] = []
            asyncio.get_running_loop().call_soon(lambda: seen.append(USER.get()))
            await until(lambda: seen)
            assert seen == ["nobody"]

    run_on(loop_kind, main())


def test_callbacks_run_in_their_callers_context(mode: str) -> None:
    """server.call_soon() and loop.call_soon() in a handler keep its variables, and what they set is gone; cork() is a
    call like any other."""
    seen: list[Any] = []

    def callback(name: str) -> None:
        seen.append((name, USER.get()))
        USER.set("from the callback")

    def message(ws: Any, message: str) -> None:
        if message:
            USER.set(message)
            ws.server.call_soon(callback, "server")
            if (loop := asyncio._get_running_loop()) is not None:
                loop.call_soon(callback, "loop")
            ws.cork(lambda ws: seen.append(("cork", USER.get())))
        ws.send(USER.get())

    with (
        serving(mode, fetch=upgrade, websocket={"message": message}) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        first.send("alice")
        assert first.read_message() == "alice"
        eventually(lambda: len(seen) == (2 if mode in ("run", "start") else 3))
        second.send("")
        assert second.read_message() == "nobody"
        first.send("")
        assert first.read_message() == "alice"
        server.call_soon(callback, "thread")
        eventually(lambda: ("thread", "nobody") in seen)
    assert {found for found in seen if found[0] != "thread"} <= {(n, "alice") for n in ("cork", "server", "loop")}


def test_error_handlers_and_logs(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error handler, and a logging filter for unhandled errors, see the variables of the handler that failed."""
    seen: list[Any] = []
    logged: list[str] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            logged.append(USER.get())
            return True

    def failing(ws: Any, message: str) -> None:
        USER.set(message)
        raise ValueError(message)

    async def failing_later(ws: Any, data: bytes) -> None:
        USER.set("later")
        await asyncio.sleep(0)
        raise ValueError(data)

    def error(exc: Exception, ws: Any) -> None:
        seen.append(USER.get())
        USER.set(USER.get() + "!")
        ws.send("failed")
        raise exc

    log_filter = Filter()
    logging.getLogger("uwserve").addFilter(log_filter)
    try:
        websocket = {"message": failing, "pong": failing_later, "error": error}
        with (
            serving(mode, fetch=upgrade, websocket=websocket) as server,
            connect(server) as first,
            connect(server) as second,
        ):
            for client, name in ((first, "alice"), (second, "bob"), (first, "anna")):
                client.send(name)
                assert client.read_message() == "failed"
            second.pong(b"x")
            assert second.read_message() == "failed"
        assert seen == ["alice", "bob", "anna", "bob!"]
        assert logged == ["alice!", "bob!", "anna!", "bob!!"]
    finally:
        logging.getLogger("uwserve").removeFilter(log_filter)


def test_decimal_and_copies(mode: str) -> None:
    """decimal's precision is a context variable, too; copy_context() and nested Context.run() work as anywhere."""

    def message(ws: Any, message: str) -> None:
        if message:
            decimal.setcontext(decimal.Context(prec=int(message)))
            copy = contextvars.copy_context()
            copy.run(USER.set, "inner")
            assert USER.get() == "nobody"
            assert copy.run(USER.get) == "inner"
        ws.send(str(decimal.Decimal(1) / 3))

    with two_clients(mode, message=message) as (first, second):
        first.send("5")
        assert first.read_message() == "0.33333"
        second.send("")
        assert second.read_message() == "0." + "3" * 28
        first.send("")
        assert first.read_message() == "0.33333"


def test_a_local_of_asgiref(mode: str) -> None:
    """As Django and others use it, in plain and coroutine handlers, of sockets and requests."""
    local = asgiref.local.Local()

    def touch(name: str) -> str:
        before = getattr(local, "user", "nobody")
        if name:
            local.user = name
        return str(before)

    async def coroutine(ws: Any, data: bytes) -> None:
        ws.send(touch(data.decode()))

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        return Response.json(touch("http")) if request.path == "/http" else upgrade(request, server)

    websocket = {"message": lambda ws, message: ws.send(touch(message)), "ping": coroutine}
    with (
        serving(mode, fetch=fetch, websocket=websocket) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        assert ask(server, "/http") == "nobody"
        assert ask(server, "/http") == "nobody"
        first.send("alice")
        assert first.read_message() == "nobody"
        second.send("")
        assert second.read_message() == "nobody"
        first.ping(b"anna")
        assert {first.read_frame().payload for _ in range(2)} == {b"alice", b"anna"}
        second.ping(b"bob")
        assert {second.read_frame().payload for _ in range(2)} == {b"nobody", b"bob"}


def upgrade_as(request: Any, server: Any) -> None:
    assert server.upgrade(request, data=request.path)


async def answer_user(ws: Any, message: str) -> None:
    if message == "break":
        answer_user.__code__ = takes_nothing.__code__
    ws.send(USER.get())


async def takes_nothing() -> None:
    """The code of a function that a reloader has replaced, badly."""


@pytest.fixture(autouse=True)
def repaired() -> Iterator[None]:
    code = answer_user.__code__
    yield
    answer_user.__code__ = code


def test_a_handler_that_cannot_be_called_leaves_no_context_behind(mode: str) -> None:
    """A spare Task's Context is entered from one coroutine to the next. A connection with variables of its own comes in
    between, and the call of its handler raises: both Contexts are left, in order, and everybody has their own."""

    code: Any = answer_user
    whole = answer_user.__code__
    begun, go_on = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def open(ws: Any) -> None:
        if ws.data == "/own":
            USER.set("own")

    def block() -> None:
        begun.set()
        assert go_on.wait(TIMEOUT)

    def repair(error: Exception, ws: Any) -> None:
        raised.append(error)
        code.__code__ = whole

    websocket = {"message": answer_user, "open": open, "error": repair}
    with (
        serving(mode, fetch=upgrade_as, websocket=websocket) as server,
        connect(server) as other,
        connect(server, "/own") as own,
    ):
        for _ in range(3):
            other.send("x")
            own.send("x")
            assert (other.read_message(), own.read_message()) == ("nobody", "own")
        other.send("x")  # so that the loop finds it first
        assert other.read_message() == "nobody"
        server.call_soon(block)
        assert begun.wait(TIMEOUT)
        other.send("break")
        own.send("this one fails")
        go_on.set()
        assert other.read_message() == "nobody"
        eventually(lambda: len(raised) == 1)
        for _ in range(3):
            other.send("x")
            own.send("x")
            assert (other.read_message(), own.read_message()) == ("nobody", "own")
        seen: list[str] = []
        server.call_soon(lambda: seen.append(USER.get()))
        eventually(lambda: seen == ["nobody"])
