"""Coroutine handlers in run() and start(): the event loop that comes with them, at once or when one comes."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import sys
import threading
from typing import Any

import pytest
from event_loops import bound, upgrade
from http_client import Client as HttpClient
from http_client import request
from processes import process
from ws_client import Client

import uwserve

DEADLINE = 20


@contextlib.contextmanager
def started(**options: Any) -> Any:
    """A server in the background; its clients are gone before it waits for their Close frames."""
    clients: list[Client] = []
    with bound(**options) as server, contextlib.ExitStack() as stack:
        server.start()
        server.connect = (
            lambda: clients.append(stack.enter_context(Client(("127.0.0.1", server.port), "/"))) or clients[-1]
        )
        yield server


async def echo(ws: Any, message: Any) -> None:
    await asyncio.sleep(0)
    ws.send(message)


def returns_a_coroutine(ws: Any, message: Any) -> Any:
    return echo(ws, message)


@pytest.mark.parametrize("message", [echo, returns_a_coroutine], ids=["async def", "plain def"])
def test_start(message: Any) -> None:
    """Also when only the first message shows that an event loop is needed, with clients connected before."""
    with started(message=message) as server:
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            for data in ("a", "b" * 70_000, "c"):
                client.send(data)
        for client in clients:
            assert client.read_messages(3) == ["a", "b" * 70_000, "c"]
        client.close()
    assert server.finished


def test_reload_to_coroutines_and_back() -> None:
    with started(message=lambda ws, message: ws.send("plain")) as server:
        client = server.connect()
        for handler, answer in ((echo, "x"), (lambda ws, message: ws.send("plain"), "plain"), (echo, "x")):
            server.reload(websocket={"message": handler})
            client.send("x")
            assert client.read_message() == answer


def test_every_handler(logged: Any) -> None:
    """Each as a coroutine function that suspends; errors of all of them reach ``error``."""
    seen: queue.Queue[Any] = queue.Queue()

    def handler(name: str) -> Any:
        async def function(ws: Any, *args: Any) -> None:
            await asyncio.sleep(0)
            seen.put((name, *args))
            if name != "open":
                raise ZeroDivisionError(name)

        return function

    async def error(exc: BaseException, ws: Any) -> None:
        await asyncio.sleep(0)
        seen.put(("error", str(exc)))
        if str(exc) == "close":
            raise ValueError("error itself")

    names = ("open", "message", "ping", "pong", "close")
    with started(ws_error=error, **{name: _named(handler(name), name) for name in names}) as server:
        client = server.connect()
        assert seen.get(timeout=DEADLINE) == ("open",)
        for name, send in (
            ("message", lambda: client.send("m")),
            ("ping", lambda: client.ping(b"p")),
            ("pong", lambda: client.pong(b"q")),
        ):
            send()
            assert seen.get(timeout=DEADLINE)[0] == name
            assert seen.get(timeout=DEADLINE) == ("error", name)
        server.stop(True)
        assert seen.get(timeout=DEADLINE) == ("close", 1001, "Server closed")
        assert seen.get(timeout=DEADLINE) == ("error", "close")
    assert any("error itself" in line for line in logged)
    logged.clear()


def _named(function: Any, name: str) -> Any:
    if name == "open":

        async def one(ws: Any) -> None:
            await function(ws)

        return one
    if name == "close":

        async def three(ws: Any, code: int, reason: str) -> None:
            await function(ws, code, reason)

        return three

    async def two(ws: Any, data: Any) -> None:
        await function(ws, data)

    return two


@pytest.mark.parametrize("when", ["eager", "suspended"])
def test_open_that_raises_closes(when: str, logged: Any) -> None:
    async def open(ws: Any) -> None:
        if when == "suspended":
            await asyncio.sleep(0)
        raise ZeroDivisionError

    with started(open=open) as server:
        client = server.connect()
        assert client.read_close()[0] == 1011
    assert "ZeroDivisionError" in logged[0]
    logged.clear()


def test_http_handlers(logged: Any) -> None:
    """fetch, routes and error as coroutine functions, eager and suspended, and bodies that are awaited."""

    async def fetch(request: uwserve.Request) -> Any:
        if request.path == "/json":
            return {"got": await request.json()}
        if request.path == "/slow":
            await asyncio.sleep(0.001)
            return "slow"
        await asyncio.sleep(0)
        raise ZeroDivisionError(request.path)

    async def route(request: uwserve.Request, server: uwserve.Server) -> Any:
        return request.params["name"]

    async def error(exc: BaseException) -> Any:
        await asyncio.sleep(0)
        if str(exc) == "/twice":
            raise ValueError("twice")
        return uwserve.Response(f"failed: {exc}", 503)

    with started(fetch=fetch, routes={"/r/:name": route}, error=error) as server, HttpClient(server) as client:
        assert client.ask(request("/r/x")).body == b"x"
        assert client.ask(request("/slow")).body == b"slow"
        reply = client.ask(request("/boom"))
        assert (reply.status, reply.body) == (503, b"failed: /boom")
        assert client.ask(request("/twice")).status == 500
    assert any("twice" in line for line in logged)
    logged.clear()


RUN = """
import asyncio, os, signal, sys, threading, uwserve

def fetch(request, server):
    return None if server.upgrade(request) else "x"

async def message(ws, m):
    try:
        await asyncio.sleep(0)
        if m == "exit": raise SystemExit(7)
        if m == "interrupt": raise KeyboardInterrupt
        ws.send(m)
        if m == "loop": ws.send(type(asyncio.get_running_loop()).__module__)
        if m == "long": await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

async def close(ws, code, reason):
    await asyncio.sleep(0)
    print("closed", code, flush=True)

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"message": message, "close": close})
with server:
    before = signal.getsignal(signal.SIGTERM)
    print(server.port, flush=True)
    try:
        server.run()
        print("returned", flush=True)
    except BaseException as exc:
        print(type(exc).__name__, flush=True)
    assert signal.getsignal(signal.SIGTERM) is before
print("finished", server.finished, flush=True)
"""


@pytest.fixture
def program(tmp_path: Any) -> Any:
    import subprocess
    import sys

    path = tmp_path / "program.py"
    path.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.port = int(process.stdout.readline())
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def talk(program: Any, message: str, wait: bool = True) -> Client:
    client = Client(("127.0.0.1", program.port), "/")
    client.send(message)
    if wait:
        assert client.read_message() == message
    return client


def rest_of(program: Any) -> str:
    out, err = program.communicate(timeout=DEADLINE)
    assert not err, err
    return out


@pytest.mark.plain("a program with a server of its own")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_signals_stop_run(program: Any, number: str) -> None:
    """As without coroutines: clients are told, and may leave; handlers are put back."""
    client = talk(program, "loop")
    assert client.read_message() == "uvloop"
    program.send_signal(getattr(signal, number))
    assert client.read_close()[0] == 1001
    client.close()
    assert rest_of(program).split("\n") == ["closed 1001", "returned", "finished True", ""]


@pytest.mark.plain("a program with a server of its own")
def test_a_second_signal_cancels(program: Any) -> None:
    """The first leaves coroutines their time, here a minute."""
    client = talk(program, "long")
    program.send_signal(signal.SIGTERM)
    assert client.read_close()[0] == 1001
    client.close()
    program.send_signal(signal.SIGTERM)
    assert sorted(rest_of(program).split("\n")) == ["", "cancelled", "closed 1001", "finished True", "returned"]


@pytest.mark.plain("a program with a server of its own")
@pytest.mark.parametrize(("message", "name"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
def test_exits_end_the_run(program: Any, message: str, name: str) -> None:
    client = talk(program, message, wait=False)
    assert client.read_close()[0] == 1001
    client.close()
    assert rest_of(program).split("\n") == [name, "closed 1001", "finished True", ""]


EMBEDDED = """
import asyncio, contextlib, uvloop
from uwserve import serve

def fetch(request, server):
    server.upgrade(request)

def closed(ws, code, reason):
    print("closed", code)

async def main():
    async with serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"close": closed}) as server:
        asyncio.get_running_loop().call_soon(print, server.port)
        await server.serve_forever()

with contextlib.suppress(KeyboardInterrupt):
    LIBRARY.run(main())
"""


@pytest.mark.plain("a program with a server of its own")
@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_a_program_of_asyncio(library: str, number: int) -> None:
    """As in the documentation: clients are told, and nothing is on the terminal."""
    with (
        process(sys.executable, "-W", "error", "-c", EMBEDDED.replace("LIBRARY", library)) as run,
        Client(("127.0.0.1", run.port())) as client,
    ):
        run.child.send_signal(number)
        assert client.read_close()[0] == 1001
        client.close()
        assert run.end() == (0, "closed 1001\n", "")


def test_run_in_a_thread_of_ones_own() -> None:
    server = bound(message=echo)
    thread = threading.Thread(target=server.run)
    thread.start()
    with Client(("127.0.0.1", server.port), "/") as client:
        client.send("x")
        assert client.read_message() == "x"
        stopped = server.stop(True)
    assert stopped.wait(DEADLINE)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not server.running


def test_call_soon_takes_coroutines() -> None:
    done = threading.Event()

    async def function(value: int) -> None:
        await asyncio.sleep(0)
        assert value == 1
        done.set()

    with started(fetch=upgrade) as server:
        server.call_soon(function, 1)
        assert done.wait(DEADLINE)


def test_call_soon_coroutine_that_raises(logged: list[str]) -> None:
    """It belongs to no socket: it is logged, and no socket's ``error`` hears of it."""
    heard: list[Any] = []
    ended = threading.Event()

    async def function() -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(ended.set))
        raise ZeroDivisionError

    with started(ws_error=lambda *args: heard.append(args)) as server:
        server.call_soon(function)
        assert ended.wait(DEADLINE)
    assert not heard
    assert len(logged) == 1
    assert "ZeroDivisionError" in logged[0]
