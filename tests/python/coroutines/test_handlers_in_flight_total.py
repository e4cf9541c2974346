"""Handlers in flight of all connections together: limits={"max_concurrent_handlers": ...}, and what they hold."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import http_client
import pytest
from loops import Gate
from test_handlers_in_flight import MIB, flood, handlers
from ws_client import TEXT, TIMEOUT, eventually, frame

import uwserve

pytestmark = pytest.mark.wss

FRAMES = b"".join(frame(TEXT, str(i)) for i in range(50))


def refused(live) -> int:
    return live.server.refused["concurrent_handlers"]


def ask(live, path: str = "/") -> http_client.Reply:
    with http_client.Client(live.server) as client:
        return client.ask(http_client.request(path))


def test_beyond_the_bound_a_socket_waits(waiting):
    """The first handler of a connection goes free; ten more run."""
    live, handler = waiting(limits={"max_concurrent_handlers": 10})
    client, _ = live.open()
    client.send_raw(FRAMES)
    eventually(lambda: refused(live) == 1)
    assert handlers(live)["running"] == 11
    assert handlers(live)["paused"] == 0
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 50)
    assert handlers(live)["running"] == 0


def test_beyond_the_bound_every_connection_gets_on(waiting):
    """One that has taken all there is does not stop another, which has one handler at a time."""
    live, handler = waiting(limits={"max_concurrent_handlers": 10})
    first, _ = live.open()
    first.send_raw(FRAMES)
    eventually(lambda: refused(live) == 1)
    second = live.connect()
    second.send_raw(FRAMES)
    eventually(lambda: len(handler.begun) == 12)
    assert handlers(live)["running"] == 12
    assert ask(live).status == 400  # from the server's own handler: it is not refused
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 100)


def test_sockets_that_wait_go_on_when_others_end(inside):
    """Handlers of one connection end, and those of another, which never end by themselves, get their place."""
    running: dict[str, list[asyncio.Future[None]]] = {"a": [], "b": []}

    async def message(ws, m):
        future = asyncio.get_running_loop().create_future()
        running[m].append(future)
        await future

    live = inside(message=message, limits={"max_concurrent_handlers": 4})
    a, _ = live.open()
    b, _ = live.open()
    a.send_raw(frame(TEXT, "a") * 20)
    eventually(lambda: refused(live) == 1)
    b.send_raw(frame(TEXT, "b") * 20)
    eventually(lambda: refused(live) == 2)
    assert {name: len(futures) for name, futures in running.items()} == {"a": 5, "b": 1}
    a.reset()
    live.wait_for("close")  # its handlers have no connection now, and still count
    assert handlers(live)["running"] == 6
    live.on_loop(lambda: [future.set_result(None) for future in running["a"]])
    eventually(lambda: len(running["b"]) == 5)
    live.on_loop(lambda: [future.set_result(None) for future in running["b"]])
    eventually(lambda: len(running["b"]) == 10)
    b.reset()
    live.wait_for("close")
    live.on_loop(lambda: [future.done() or future.set_result(None) for future in running["b"]])
    eventually(lambda: handlers(live)["running"] == 0)


def test_a_full_server_keeps_nothing_of_sockets_that_have_had_their_turn(inside: Any) -> None:
    """While some handlers use all that the server may run, other sockets take their turns, come and go: what does not
    wait any more has no place in the line of those that wait."""
    sockets: list[Any] = []

    async def message(ws: Any, message: str) -> None:
        if message == "wait":
            await gate.wait()
        await asyncio.sleep(0)
        ws.send(message)

    live = inside(
        message=message,
        open=lambda ws: sockets.append(weakref.ref(ws)),
        only=(),
        limits={"max_concurrent_handlers": 2},
    )
    gate = Gate(live)

    def ask(client: Any, times: int) -> None:
        for i in range(times):
            client.send(str(i))
            assert client.read_message() == str(i)

    busy = [live.connect() for _ in range(3)]
    for client in busy:  # the last one is the first in the line
        for _ in range(2):
            client.send("wait")
    eventually(lambda: live.server.stats()["handlers"]["running"] >= 4)
    asking = live.connect()
    ask(asking, 3)
    before = live.on_loop(lambda: sys.getrefcount(sockets[-1]()))
    ask(asking, 100)
    assert live.on_loop(lambda: sys.getrefcount(sockets[-1]())) <= before + 2
    left = sockets[:]
    for _ in range(200):
        client = live.connect()
        ask(client, 1)
        client.close()

    def kept() -> int:
        gc.collect()
        return sum(ws() is not None for ws in sockets[len(left) :])

    eventually(lambda: live.on_loop(kept) <= 80)
    gate.open()
    assert {client.read_message() for client in busy for _ in range(2)} == {"wait"}


def test_requests_are_refused_when_handlers_without_a_client_fill_it(inside):
    """Clients that ask and leave, again and again, leave their handlers behind: then 503, until those end."""
    events: list[asyncio.Event] = []

    async def fetch(request):
        if request.path == "/quick":
            return "quick"
        events.append(asyncio.Event())
        await events[-1].wait()
        return "done"

    live = inside(fetch=fetch, limits={"max_concurrent_handlers": 5})
    for i in range(5):
        client = http_client.Client(live.server)
        client.send(http_client.GET)
        eventually(lambda i=i: len(events) == i + 1)
        client.reset()  # a client that only sends its FIN may still wait for the answer
        eventually(lambda: live.server.pending_requests == 0)
    assert handlers(live)["running"] == 5
    reply = ask(live, "/quick")
    assert (reply.status, reply.get("Retry-After")) == (503, "1")
    assert refused(live) == 1
    live.on_loop(lambda: [event.set() for event in events])
    eventually(lambda: handlers(live)["running"] == 0)
    assert ask(live, "/quick").status == 200


def test_requests_of_clients_that_wait_are_not_bounded_by_it(inside):
    """Each has its connection, and those have a limit."""
    gate = asyncio.Event()

    async def fetch(request):
        await gate.wait()
        return "done"

    live = inside(fetch=fetch, limits={"max_concurrent_handlers": 2})
    clients = [http_client.Client(live.server) for _ in range(10)]
    for client in clients:
        client.send(http_client.GET)
    eventually(lambda: handlers(live)["running"] == 10)
    live.on_loop(gate.set)
    for client in clients:
        assert client.reply().body == b"done"
        client.socket.close()
    assert refused(live) == 0


def test_what_handlers_hold_is_bounded_by_max_buffered_bytes(waiting):
    """Twenty connections could hold 20 MiB. With 4 MiB for all, those with half a message are closed, as ever."""
    live, handler = waiting(limits={"max_buffered_bytes": 4 * MIB})
    clients = [live.open()[0] for _ in range(20)]
    senders = [flood(client, frame(TEXT, "x" * 300_000) * 5) for client in clients]
    eventually(lambda: refused(live) > 0)
    for _ in range(20):
        assert live.on_loop(lambda: handlers(live)["bytes"]) < 4 * MIB + 20 * 300_000
    handler.gate.open()
    for sender in senders:
        sender.join(TIMEOUT)
    eventually(lambda: handlers(live)["running"] == 0)
    eventually(lambda: live.server.buffered_bytes == 0)


def test_memory_that_others_free_is_noticed(waiting):
    """A socket that waits for memory goes on when another gives it back, although its own handler does not end."""
    live, handler = waiting(limits={"max_buffered_bytes": MIB})
    slow, ws = live.open()
    client, _ = live.open()

    def fill() -> None:
        while live.server.buffered_bytes < MIB - 30_000:
            ws.send(bytes(10_000))

    live.on_loop(fill)
    client.send("x" * 40_000)
    eventually(lambda: refused(live) == 1)
    client.send("y")
    live.on_loop(lambda: None)
    assert len(handler.begun) == 1
    slow.reset()
    eventually(lambda: len(handler.begun) == 2)
    handler.gate.open()


def test_coroutines_of_call_soon_are_the_applications_own(inside):
    live = inside(limits={"max_concurrent_handlers": 1})
    gate = asyncio.Event()

    async def own():
        await gate.wait()

    for _ in range(5):
        live.server.call_soon(own)
    live.on_loop(lambda: None)
    assert handlers(live)["running"] == 0
    live.on_loop(gate.set)


@pytest.mark.parametrize(("buffered", "most"), [(1 << 30, 262_144), (64 * MIB, 16_384), (0, 262_144)])
def test_the_default_follows_the_memory(buffered, most):
    from uwserve._options import limits as _limits

    assert _limits.figures({"max_buffered_bytes": buffered})["max_concurrent_handlers"] == most


@pytest.mark.parametrize("value", [-1, 1.5, "10"])
def test_it_is_a_number(value):
    with pytest.raises((TypeError, ValueError), match="max_concurrent_handlers"):
        uwserve.serve(port=0, limits={"max_concurrent_handlers": value})
