"""serial: what waits is bounded; together with ws.messages() and reload(); many connections, and nothing left."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from loops import Gate, Tape, take_all
from ws_client import BINARY, PONG, TEXT, TIMEOUT, Frame, close_frame, eventually, frame

import uwserve
from uwserve import _core

pytestmark = pytest.mark.wss

# --- bounds ---


def test_a_slow_coroutine_slows_its_client_down(inside):
    """Memory stays bounded while TCP pushes back; then everything comes, in order."""
    got = []

    async def message(ws, m):
        if len(got) % 500 == 0:
            await gate.wait()
        got.append(int(m.split()[0]))

    live = inside(serial=True, message=message)
    gate = Gate(live)
    client, _ws = live.open()
    count = 30_000
    flood = b"".join(frame(TEXT, f"{i} " + "x" * 1000) for i in range(count))
    sender = threading.Thread(target=client.send_raw, args=(flood,))
    sender.start()
    eventually(lambda: live.server.buffered_bytes > 64 * 1000)
    sender.join(0.2)
    assert sender.is_alive()
    assert live.server.buffered_bytes < 300_000
    assert not got
    highest = 0
    gate.open()
    while len(got) < count:
        highest = max(highest, live.on_loop(lambda: live.server.buffered_bytes))
    sender.join(TIMEOUT)
    assert got == list(range(count))
    assert highest < 300_000
    assert live.server.buffered_bytes == 0


def test_pings_are_bounded_too(inside):
    pings = []

    async def message(ws, m):
        await gate.wait()

    async def ping(ws, data):
        pings.append(data)

    live = inside(serial=True, message=message, ping=ping)
    gate = Gate(live)
    client, _ = live.open()
    client.send("x")
    client.send_raw(b"".join(frame(9, str(i).encode()) for i in range(500)))
    eventually(lambda: live.server.buffered_bytes > 64 * 60)
    for _ in range(5):
        live.on_loop(lambda: None)
    assert live.server.buffered_bytes < 40_000
    gate.open()
    assert [client.read_frame() for _ in range(500)] == [Frame(PONG, str(i).encode()) for i in range(500)]
    eventually(lambda: len(pings) == 500)
    assert pings == [str(i).encode() for i in range(500)]


def test_memoryviews(inside):
    """One that had to wait is a view of its own copy; it dies like every other."""
    got, views = [], []

    def message(ws, m):
        got.append((type(m), bytes(m)))
        views.append(m)
        return gate.wait() if len(got) == 1 else None

    live = inside(serial=True, open=lambda ws: setattr(ws, "binary_type", "memoryview"), message=message)
    gate = Gate(live)
    client, _ = live.open()
    for size in (3, 50_000, 5):
        client.send(bytes([size % 251]) * size)
    eventually(lambda: live.server.buffered_bytes > 50_000)
    gate.open()
    eventually(lambda: len(got) == 3)
    assert got == [(memoryview, bytes([size % 251]) * size) for size in (3, 50_000, 5)]
    live.on_loop(lambda: None)
    for view in views:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


# --- messages() together with it ---


def test_iterating_in_open(inside):
    """The open handler's coroutine takes the messages; pings do not wait for it, the close handler does."""
    tape = Tape()

    async def open(ws):
        tape.lines.append("open")
        async for m in ws.messages():
            ws.send(m)
            tape.lines.append(m)
        await asyncio.sleep(0.001)
        tape.lines.append("open ends")

    async def ping(ws, data):
        await asyncio.sleep(0)
        tape.lines.append("ping")

    live = inside(serial=True, open=open, ping=ping, close=lambda ws, code, reason: tape.lines.append(f"close {code}"))
    client, _ws = live.open()
    client.send("1")
    assert client.read_message() == "1"
    client.round_trip()
    eventually(lambda: "ping" in tape.lines)
    client.send_raw(frame(TEXT, "2") + frame(TEXT, "3") + close_frame(1000))
    assert client.read_close() == (1000, "")
    eventually(lambda: tape.lines[-1].startswith("close"))
    assert tape.lines == ["open", "1", "ping", "2", "3", "open ends", "close 1000"]


def test_pings_that_waited_for_the_iterator(inside):
    """What was queued before ws.messages() is called does not wait for its end."""
    tape = Tape()

    async def open(ws):
        await gate.wait()
        tape.lines.append("iterating")
        async for m in ws.messages():
            tape.lines.append(m)

    live = inside(serial=True, open=open, ping=lambda ws, data: tape.lines.append(f"ping {data}"))
    gate = Gate(live)
    client, _ws = live.open()
    client.ping(b"1")
    client.send("m")
    client.ping(b"2")
    for name in (b"1", b"2"):
        assert client.read_frame() == Frame(PONG, name)
    gate.open()
    eventually(lambda: len(tape.lines) == 4)
    assert tape.lines[0] == "iterating"
    assert [line for line in tape.lines if line.startswith("ping")] == ["ping b'1'", "ping b'2'"]
    assert "m" in tape.lines


# --- reload ---


def test_reload(inside):
    """On: from the next event. Off: what waits still comes one after the other."""
    tape = Tape()

    async def message(ws, m):
        await tape.run(m, gate.wait())
        ws.send(m)

    live = inside(message=message)
    gate = Gate(live)
    client, _ = live.open()
    client.send("1")
    client.send("2")
    eventually(lambda: tape.lines == ["begin 1", "begin 2"])
    live.server.reload(websocket=live.recorded({"message": message, "serial": True}))
    client.send("3")
    client.send("4")
    eventually(lambda: len(tape.lines) == 3)
    client.send("5")
    eventually(lambda: live.server.buffered_bytes > 100)
    assert tape.lines[2:] == ["begin 3"]
    live.server.reload(websocket=live.recorded({"message": message}))
    assert tape.lines[2:] == ["begin 3"]
    gate.open()
    assert sorted(client.read_messages(5)) == ["1", "2", "3", "4", "5"]
    assert tape.lines.index("end 3") < tape.lines.index("begin 4")
    assert tape.lines.index("begin 4") < tape.lines.index("begin 5")


@pytest.mark.parametrize("value", [1, "yes", None])
def test_it_is_a_bool(value):
    with pytest.raises(TypeError, match="serial"):
        uwserve.serve(port=0, websocket={"serial": value})


# --- many, and nothing left ---


def test_a_thousand_connections(inside):
    """Each in order; with fragments and messages that wait; nothing is left afterwards."""
    running = {}

    async def message(ws, m):
        assert not running.get(ws.data)
        running[ws.data] = True
        await asyncio.sleep(0)
        if m.endswith("7"):
            await asyncio.sleep(0.001)
        running[ws.data] = False
        ws.send(m)

    live = inside(serial=True, message=message)
    clients = [live.connect(f"/{i}") for i in range(1000)]
    for client in clients:
        client.send_raw(b"".join(frame(TEXT, f"{i // 10}", fin=False) + frame(0, f"{i % 10}") for i in range(30)))
    for client in clients:
        assert client.read_messages(30) == [f"{i // 10}{i % 10}" for i in range(30)]
    assert live.server.buffered_bytes == 0
    for client in clients:
        client.send_close(1000)
        client.close()
    eventually(lambda: live.server.pending_websockets == 0)
    live.events.queue.clear()
    live.on_loop(gc.collect)


def test_no_handle_is_left(inside):
    """A coroutine that refers to its socket, its task in the socket's data: freed when it has ended."""
    before = _core.live_handles()

    async def message(ws, m):
        ws.data = (asyncio.current_task(), ws)
        await asyncio.sleep(0)

    live = inside(serial=True, message=message)
    for _ in range(20):
        client = live.connect()
        client.send("1")
        client.send("2")
        client.send_close(1000)
        client.read_close()
        client.close()
    eventually(lambda: live.server.pending_websockets == 0)
    live.on_loop(lambda: None)

    def is_clean():
        live.events.queue.clear()
        gc.collect()
        return _core.live_handles() <= before

    eventually(is_clean)


def test_take_all_in_open_without_message_handler(inside):
    """Without serial, too: from the open handler's first wait on, messages wait for ws.messages()."""
    got = []

    async def open(ws):
        await gate.wait()
        got.append(await take_all(ws.messages()))

    live = inside(open=open, only=("open", "close"))
    gate = Gate(live)
    client, _ws = live.open()
    client.send("1")
    client.send(b"2")
    client.round_trip()
    gate.open()
    client.send_raw(frame(BINARY, b"3") + close_frame(1000))
    assert live.expect_close() == (1000, "")
    eventually(lambda: got)
    assert got == [["1", b"2", b"3"]]
