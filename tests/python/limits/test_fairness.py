"""No connection has more than its share before the others have their turn, whatever it sends at once.

Counted, not timed: a handler notes whose call it is, in one list for all connections. While the loop is busy in a
posted call, both clients send, so that one turn finds the bytes of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import (
    DEADLINE,
    Client,
    Recorder,
    frame,
    open_websocket,
    read_frame,
    request,
    running,
    upgrade,
    upgrade_request,
)
from ws_client import eventually

from uwserve import Request, Server

pytestmark = pytest.mark.wss

REQUESTS_PER_TURN = 32  # kRequestsPerTurn
READS = 4  # of one socket in one visit
SHARE = 16 * 1024 // 7 + 1  # frames of one byte, of what was received earlier
WAITING = 64  # events in a queue
MESSAGES_PER_TURN = (READS + 1) * 1024  # kMessagesPerTurn a read, and one more read of what the last has left over


@contextlib.contextmanager
def busy(server: Server, *clients: Client) -> Iterator[None]:
    """The server's thread does nothing else meanwhile. ``clients`` have no handshake of TLS before them any more."""
    for client in clients:
        if hasattr(client.socket, "handshake"):
            client.socket.handshake()
    begun, go = threading.Event(), threading.Event()
    server.call_soon(lambda: (begun.set(), go.wait(DEADLINE)))
    assert begun.wait(DEADLINE)
    try:
        yield
    finally:
        go.set()


@contextlib.contextmanager
def turns(server: Server, calls: list[str]) -> Iterator[None]:
    """``calls`` gets a "turn" in each turn of the loop: a call that posts itself again waits for the next one."""
    ended = threading.Event()

    def turn() -> None:
        calls.append("turn")
        if not ended.is_set():
            server.call_soon(turn)

    server.call_soon(turn)
    try:
        yield
    finally:
        ended.set()


def most_in_a_turn(calls: list[str], name: str) -> int:
    """How many calls of ``name`` there were at most in one turn."""
    rest = calls[calls.index("turn") :]
    return max(map(len, "".join("x" if call == name else " " for call in rest if call in (name, "turn")).split(" ")))


def test_pipelined_requests_behind_an_answer_that_comes_late() -> None:
    """Two thousand of them were held; another connection's request is never behind more than a share."""
    calls: list[str] = []
    first: Future[str] = Future()
    count = 2000

    def fetch(request: Request) -> Any:
        calls.append(request.path)
        return first if request.path == "/first" else "x"

    with running(fetch=fetch, idle_timeout=0) as server, Client(server) as client, Client(server) as other:
        client.send(request("/first"))
        eventually(lambda: calls == ["/first"])
        client.send(request("/held") * count)
        eventually(lambda: server.buffered_bytes > 40_000, "the held requests")
        with busy(server, other):
            server.call_soon(first.set_result, "late")
            other.send(request("/tick"))
        assert other.reply().body == b"x"
        before = calls.index("/tick")
        assert calls[:before].count("/held") <= REQUESTS_PER_TURN, "held requests went ahead of another connection's"
        with turns(server, calls):
            assert [client.reply().body for _ in range(count + 1)] == [b"late"] + [b"x"] * count
        assert most_in_a_turn(calls, "/held") <= REQUESTS_PER_TURN


def test_pipelined_requests_of_one_read() -> None:
    """A thousand at once, whose handlers answer at once: all are answered, in order, in shares."""
    calls: list[str] = []
    count = 1000

    def fetch(request: Request) -> str:
        calls.append("tick" if request.path == "/tick" else "many")
        return request.path

    with running(fetch=fetch) as server, Client(server) as many, Client(server) as other:
        with busy(server, many, other):
            many.send(b"".join(request(f"/{i}") for i in range(count)))
            other.send(request("/tick"))
        assert [many.reply().body for _ in range(count)] == [b"/%d" % i for i in range(count)]
        assert other.reply().body == b"/tick"
        # One turn: the reads of a visit, and then one of what was held.
        assert calls.index("tick") <= REQUESTS_PER_TURN * (READS + 1)


def test_half_a_request_and_the_end_behind_many() -> None:
    """The FIN comes while requests wait for their turn: they are answered, and then the connection ends."""
    with running(fetch=lambda r: r.path, idle_timeout=0) as server, Client(server) as client:
        with busy(server, client):
            client.send(b"".join(request(f"/{i}") for i in range(500)) + b"GET /half HT")
            client.finish()
        assert [client.reply().body for _ in range(500)] == [b"/%d" % i for i in range(500)]
        assert client.at_end()


def test_messages_behind_a_handshake_that_is_accepted_late() -> None:
    """They are delivered in order, in shares, and the socket's own bytes behind them."""
    calls: list[str] = []
    decided: Future[None] = Future()
    asked = Recorder()
    count = 8000

    async def fetch(request: Request, server: Server) -> Any:
        asked(request.path)
        await asyncio.wrap_future(decided)
        server.upgrade(request)
        return None

    def message(ws: Any, message: bytes) -> None:
        calls.append("message")
        if message == b"last":
            ws.send(str(calls.count("message")))

    with (
        running(fetch=fetch, websocket={"message": message}, idle_timeout=0) as server,
        Client(server) as client,
    ):
        client.send(upgrade_request())
        asked.wait()
        client.send(frame(b"m", 2) * count + frame(b"last", 2))
        eventually(lambda: server.buffered_bytes >= 7 * count, "the messages behind the handshake")
        with turns(server, calls):
            decided.set_result(None)
            assert client.head().status == 101
            assert read_frame(client) == (1, str(count + 1).encode())
        assert most_in_a_turn(calls, "message") <= SHARE


def test_a_handler_may_drop_what_waits_behind_it() -> None:
    """Closed, or paused and resumed, in the midst of a share."""
    asked = Recorder()
    decided: list[Future[None]] = []
    got: dict[str, int] = {}

    async def fetch(request: Request, server: Server) -> Any:
        decided.append(Future())
        asked(request.path)
        await asyncio.wrap_future(decided[-1])
        server.upgrade(request, data=request.path)
        return None

    def message(ws: Any, message: bytes) -> None:
        got[ws.data] = got.get(ws.data, 0) + 1
        if got[ws.data] == 100:
            if ws.data == "/pause":
                ws.pause()
                server.call_soon(ws.resume)
            else:
                getattr(ws, ws.data[1:])()
        if message == b"last":
            ws.send("got it")

    with running(fetch=fetch, websocket={"message": message}, idle_timeout=0) as server:
        for times, path in enumerate(("/close", "/terminate", "/pause"), 1):
            with Client(server) as client:
                client.send(upgrade_request(path))
                asked.wait(times)
                client.send(frame(b"m", 2) * 3000 + frame(b"last", 2))
                eventually(lambda: server.buffered_bytes >= 21_000, "the messages behind the handshake")
                decided[-1].set_result(None)
                if path == "/pause":
                    assert client.head().status == 101
                    assert read_frame(client) == (1, b"got it")
                    assert got[path] == 3001
                else:
                    eventually(lambda: server.pending_websockets == 0 and server.buffered_bytes == 0, path)
                    assert got[path] == 100


def test_messages_that_waited_for_a_serial_handler() -> None:
    """What was read before the socket was paused is parsed in order, in shares, while others are served."""
    calls: list[str] = []
    gate: Future[None] = Future()
    count = 20_000

    def fetch(request: Request, server: Server) -> None:
        server.upgrade(request)

    async def message(ws: Any, message: bytes) -> None:
        is_first = "message" not in calls
        calls.append("message")
        if is_first:
            await asyncio.wrap_future(gate)
        if message == b"last":
            ws.send(str(calls.count("message")))

    with (
        running(fetch=fetch, websocket={"message": message, "serial": True}, idle_timeout=0) as server,
        Client(server) as client,
    ):
        open_websocket(client)
        with busy(server):
            client.send(frame(b"m", 2) * count + frame(b"last", 2))
        eventually(lambda: server.buffered_bytes > 10_000, "the messages that wait")
        with turns(server, calls):
            gate.set_result(None)
            assert read_frame(client) == (1, str(count + 1).encode())
        assert most_in_a_turn(calls, "message") <= WAITING + SHARE + MESSAGES_PER_TURN


def test_messages_of_one_read() -> None:
    """Sixty thousand at once: in order, in shares, Pings among them, and not one is lost when the client breaks off."""
    calls: list[str] = []
    got: list[bytes] = []
    closed = Recorder()
    count = 60_000

    def message(ws: Any, message: bytes) -> None:
        calls.append("message")
        got.append(message)
        ws.send(message)

    handlers = {"message": message, "close": lambda ws, code, reason: closed(len(got), server.buffered_bytes)}
    sent = [b"%d" % i for i in range(count)]
    data = b"".join(frame(payload, 2) for payload in sent)
    with running(fetch=upgrade, websocket=handlers | {"backpressure_limit": 0}) as server:
        for ending in ("finish", "reset"):
            got.clear()
            closed.items.clear()
            with Client(server) as client:
                open_websocket(client)
                with turns(server, calls):
                    client.send(data)
                    if ending == "reset":
                        client.reset()
                        received = closed.wait()[0][0]
                        assert got == sent[:received]
                    else:
                        client.finish()
                        assert closed.wait() == [(count, 0)]
                        assert got == sent
        assert most_in_a_turn(calls, "message") <= MESSAGES_PER_TURN


def test_a_paused_socket_keeps_what_was_read() -> None:
    """What a turn has left over waits while the socket is paused, is charged, and comes first afterwards."""
    got: list[bytes] = []
    paused = Recorder()

    def message(ws: Any, message: bytes) -> None:
        got.append(message)
        if message == b"5":
            ws.pause()
            paused(ws)
        if message == b"last":
            ws.send("done")

    with running(fetch=upgrade, websocket={"message": message}) as server, Client(server) as client:
        open_websocket(client)
        sent = [b"%d" % i for i in range(5000)] + [b"last"]
        client.send(b"".join(frame(payload, 2) for payload in sent))
        ws = paused.wait()[0]
        eventually(lambda: server.buffered_bytes > 0, "what waits to be charged")
        assert len(got) < len(sent)
        server.call_soon(ws.resume)
        assert read_frame(client) == (1, b"done")
        assert got == sent
        eventually(lambda: server.buffered_bytes == 0)
