"""Handlers whose coroutines wait: bounded for each connection, by number and by what they hold, and counted."""

from __future__ import annotations

import asyncio
import threading

import pytest
from ws_client import BINARY, PING, PONG, TEXT, TIMEOUT, Frame, close_frame, eventually, frame

import uwserve

pytestmark = pytest.mark.wss

# The memory that 50,000 handlers in flight take is far over this.
MIB = 1 << 20


def numbered(count: int) -> bytes:
    """The messages "0", "1", ..."""
    return b"".join(frame(TEXT, str(i)) for i in range(count))


@pytest.fixture
def paused(waiting):
    """``paused(count, **options)``: the server and handler of ``waiting``, a client that has sent so many numbered
    messages and is not read now, and its socket."""

    def make(count, **options):
        live, handler = waiting(**options)
        client, ws = live.open()
        client.send_raw(numbered(count))
        eventually(lambda: handlers(live)["paused"] == 1)
        return live, handler, client, ws

    return make


def handlers(live):
    return live.server.stats()["handlers"]


def flood(client, frames: bytes) -> threading.Thread:
    def send() -> None:
        try:
            client.send_raw(frames)
        except OSError:
            pass

    thread = threading.Thread(target=send)
    thread.start()
    return thread


# --- the bound of a connection ---


def test_a_flood_starts_256_handlers_and_then_waits(waiting):
    """The client that sends 50,000 tiny messages is not read; when handlers end, all come."""
    live, handler = waiting()
    client, _ = live.open()
    count = 50_000
    sender = flood(client, numbered(count))
    eventually(lambda: handlers(live)["paused"] == 1)
    assert handlers(live)["running"] == 256
    live.on_loop(lambda: None)
    assert len(handler.begun) == 256
    assert live.server.buffered_bytes < MIB
    handler.gate.open()
    eventually(lambda: len(handler.ended) == count)
    sender.join(TIMEOUT)
    assert sorted(map(int, handler.begun)) == list(range(count))
    assert handler.most == 256
    told = handlers(live)
    assert (told["running"], told["bytes"]) == (0, 0)
    assert told["total"] >= 256
    assert live.server.buffered_bytes == 0
    assert live.server.refused["concurrent_handlers"] == 0


def test_messages_in_flight_are_bounded_by_their_bytes_and_charged(waiting):
    """1 MiB of messages is reached by three of 400 kB, and they are in buffered_bytes until their handlers end."""
    live, handler = waiting()
    client, _ = live.open()
    sender = flood(client, b"".join(frame(BINARY, bytes(400_000)) for _ in range(12)))
    eventually(lambda: handlers(live)["paused"] == 1)
    live.on_loop(lambda: None)
    assert len(handler.begun) == 3
    assert handlers(live)["bytes"] == 1_200_000
    assert 1_200_000 <= live.server.buffered_bytes < 1_200_000 + 2 * MIB
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 12)
    sender.join(TIMEOUT)
    assert handlers(live)["bytes"] == 0
    eventually(lambda: live.server.buffered_bytes == 0)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (7, 7), (0, 1000)])
def test_the_option_says_how_many(waiting, limit, most):
    live, handler = waiting(max_concurrent_handlers=limit)
    client, _ = live.open()
    client.send_raw(numbered(1000))
    eventually(lambda: handlers(live)["running"] == most)
    live.on_loop(lambda: None)
    assert len(handler.begun) == most
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 1000)
    assert handler.most == most
    assert handlers(live)["paused"] == (1 if limit == 7 else handlers(live)["paused"])


def test_pings_start_handlers_too(waiting):
    live, handler = waiting(message=None, ping=None)
    live.server.reload(websocket=live.recorded({"ping": handler, "max_concurrent_handlers": 5}))
    client, _ = live.open()
    client.send_raw(b"".join(frame(PING, str(i)) for i in range(50)))
    eventually(lambda: handlers(live)["paused"] == 1)
    assert handlers(live)["running"] == 5
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 50)
    for i in range(50):
        assert client.read_frame() == Frame(PONG, str(i).encode())


def test_handlers_that_do_not_wait_are_not_counted(inside):
    async def message(ws, m):
        ws.send(m)

    live = inside(message=message, max_concurrent_handlers=1)
    client, _ = live.open()
    client.send_raw(numbered(500))
    assert client.read_messages(500) == [str(i) for i in range(500)]
    assert handlers(live) == {"running": 0, "total": 0, "bytes": 0, "paused": 0}


def test_iterating_in_open_does_not_stop_its_own_messages(inside):
    """The open handler runs as long as the connection: it is no part of the bound."""

    async def open(ws):
        async for m in ws.messages():
            ws.send(m)

    live = inside(open=open, message=None, max_concurrent_handlers=1)
    client, _ = live.open()
    client.send_raw(numbered(300))
    assert client.read_messages(300) == [str(i) for i in range(300)]
    assert handlers(live)["running"] == 1
    client.close()
    eventually(lambda: handlers(live)["running"] == 0)


def test_one_connection_does_not_stop_another(waiting):
    live, handler = waiting(max_concurrent_handlers=3)
    first, _ = live.open()
    second, _ = live.open()
    first.send_raw(b"".join(frame(TEXT, "1") for _ in range(100)))
    eventually(lambda: handlers(live)["paused"] == 1)
    second.send_raw(frame(TEXT, "2"))
    eventually(lambda: handler.begun == ["1", "1", "1", "2"])


def test_order_is_kept_over_a_pause(paused):
    _, handler, _, _ = paused(5000, max_concurrent_handlers=10)
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 5000)
    assert handler.begun == [str(i) for i in range(5000)]


def test_a_drain_waits_in_the_queue(paused):
    """An event that comes although the socket is not read starts no handler over the bound."""
    drains = []

    async def drain(ws):
        drains.append(1)

    live, handler, client, ws = paused(2, drain=drain, max_concurrent_handlers=2)
    size = 8 * MIB
    live.on_loop(ws.send, bytes(size))
    client.read_frame()
    eventually(lambda: live.on_loop(lambda: ws.buffered_amount) == 0)
    assert not drains
    handler.gate.open()
    eventually(lambda: drains == [1])


# --- ends ---


@pytest.mark.parametrize("how", ["reset", "close", "terminate", "server closes"])
def test_the_close_handler_runs_although_handlers_never_end(paused, how):
    live, handler, client, ws = paused(3, max_concurrent_handlers=2)
    if how == "reset":
        live.on_loop(ws.send, bytes(64))
        client.reset()
        eventually(lambda: live.on_loop(ws.send, b"x") == 0)
    elif how == "close":
        live.on_loop(ws.close, 4000, "enough")
    elif how == "terminate":
        live.on_loop(ws.terminate)
    else:
        live.server.stop(timeout=0.1)
    live.wait_for("close")
    assert handlers(live)["running"] == 2 or how == "server closes"
    handler.gate.open()


def test_what_waited_is_delivered_before_close(waiting):
    """A drain that waits in the queue of a crowded socket comes before its close handler."""
    seen = []
    live, handler = waiting(
        drain=lambda ws: seen.append("drain"),
        close=lambda ws, code, reason: seen.append("close"),
        max_concurrent_handlers=1,
    )
    client, ws = live.open()
    client.send("1")
    eventually(lambda: handlers(live)["paused"] == 1)
    live.on_loop(ws.send, bytes(8 * MIB))
    client.read_frame()
    eventually(lambda: live.on_loop(lambda: ws.buffered_amount) == 0)
    live.on_loop(ws.terminate)
    eventually(lambda: seen == ["drain", "close"])
    handler.gate.open()


def test_a_client_that_leaves_while_it_is_not_read_is_noticed(paused):
    """A reset ends the connection also while its socket is not read."""
    live, handler, client, _ = paused(1, max_concurrent_handlers=1)
    client.reset()
    live.wait_for("close")
    handler.gate.open()


def test_cancelled_handlers_make_room(inside):
    tasks = []

    async def message(ws, m):
        tasks.append(asyncio.current_task())
        await asyncio.sleep(3600)

    live = inside(message=message, max_concurrent_handlers=2)
    client, _ = live.open()
    client.send_raw(numbered(6))
    for count in (2, 4, 6):
        eventually(lambda count=count: len(tasks) == count)
        live.on_loop(lambda: [task.cancel() for task in tasks])
    eventually(lambda: handlers(live)["running"] == 0)


def test_failing_handlers_make_room(inside):
    failed = []

    async def message(ws, m):
        await asyncio.sleep(0)
        raise ValueError(m)

    async def error(exc, ws):
        await asyncio.sleep(0)
        failed.append(str(exc))

    live = inside(message=message, error=error, max_concurrent_handlers=2)
    client, _ = live.open()
    client.send_raw(numbered(500))
    eventually(lambda: len(failed) == 500)
    eventually(lambda: handlers(live)["running"] == 0)


def test_a_stop_ends_them(waiting):
    live, handler = waiting(max_concurrent_handlers=2)
    client, _ = live.open()
    client.send_raw(b"".join(frame(TEXT, "x" * 100_000) for _ in range(6)))
    eventually(lambda: handlers(live)["paused"] == 1)
    live.server.stop(True)
    live.wait_for("close")
    eventually(lambda: handlers(live)["running"] == 0)
    eventually(lambda: live.server.buffered_bytes == 0)
    assert handler.ended == []


# --- other reasons not to read ---


def test_together_with_pause_and_resume(paused):
    live, handler, _, ws = paused(10, max_concurrent_handlers=2)
    live.on_loop(ws.pause)
    handler.gate.open()
    eventually(lambda: handlers(live)["running"] == 0)
    live.on_loop(lambda: None)
    assert len(handler.begun) == 2
    live.on_loop(ws.resume)
    eventually(lambda: len(handler.ended) == 10)


def test_resume_does_not_lift_the_bound(paused):
    live, handler, client, ws = paused(10, max_concurrent_handlers=2)
    live.on_loop(ws.pause)
    live.on_loop(ws.resume)
    client.send("more")
    live.on_loop(lambda: None)
    assert len(handler.begun) == 2
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 11)


def test_together_with_serial(waiting):
    live, handler = waiting(serial=True, max_concurrent_handlers=1)
    client, _ = live.open()
    client.send_raw(numbered(200) + close_frame(1000))
    eventually(lambda: handlers(live)["running"] == 1)
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 200)
    assert handler.begun == [str(i) for i in range(200)]
    assert handler.most == 1
    live.wait_for("close")


def test_a_socket_that_we_do_not_read_is_not_idle(paused):
    """Its silence is ours: it lives on past idle_timeout, and is read again."""
    _, handler, client, _ = paused(1, max_concurrent_handlers=1, idle_timeout=8, send_pings=False)
    client.send("2")
    client.sock.settimeout(10)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(TIMEOUT)
    handler.gate.open()
    eventually(lambda: handler.ended == ["0", "2"])


# --- reload ---


def test_reload_raises_the_bound_of_sockets_that_wait(paused):
    live, handler, _, _ = paused(20, max_concurrent_handlers=2)
    live.server.reload(websocket=live.recorded({"message": handler, "max_concurrent_handlers": 15}))
    eventually(lambda: handlers(live)["running"] == 15)
    live.server.reload(websocket=live.recorded({"message": handler, "max_concurrent_handlers": 0}))
    eventually(lambda: handlers(live)["running"] == 20)
    handler.gate.open()
    eventually(lambda: len(handler.ended) == 20)


@pytest.mark.parametrize("value", [-1, 1 << 31, 1.5, True, "256", None])
def test_it_is_a_number(value):
    with pytest.raises((TypeError, ValueError), match="max_concurrent_handlers"):
        uwserve.serve(port=0, websocket={"max_concurrent_handlers": value})
