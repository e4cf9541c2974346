"""websocket={"serial": True}: one coroutine of a connection after the other, and clients wait meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from loops import take_all
from ws_client import BINARY, PONG, TEXT, TIMEOUT, Frame, close_frame, frame, wait_until

import uwserve
from uwserve import _core

MIB = 1 << 20


class Gate:
    """Something for coroutines on the server's loop to wait for; opened from the test's thread."""

    def __init__(self, live):
        self.live = live
        self._event = asyncio.Event()

    async def wait(self):
        await self._event.wait()

    def open(self):
        self.live.on_loop(self._event.set)

    def close(self):
        self.live.on_loop(self._event.clear)


class Tape:
    """What handlers did, in order, as ``begin x`` and ``end x``."""

    def __init__(self):
        self.lines = []

    async def run(self, name, waiting):
        self.lines.append(f"begin {name}")
        try:
            await waiting
        finally:
            self.lines.append(f"end {name}")


def pairs(names):
    return [f"{what} {name}" for name in names for what in ("begin", "end")]


# --- order ---


def test_one_after_the_other(inside):
    """Each message's coroutine ends before the next one's begins, whether it suspends or not."""
    tape = Tape()

    async def message(ws, m):
        await tape.run(m, asyncio.sleep(0.001 if m.endswith("3") else 0))
        ws.send(m)

    live = inside(serial=True, message=message)
    client, _ = live.open()
    names = [str(i) for i in range(200)]
    for name in names:
        client.send(name)
    assert client.read_messages(200) == names
    assert tape.lines == pairs(names)


def test_without_it_they_overlap(inside):
    """Bun's way stays the default."""
    tape = Tape()

    async def message(ws, m):
        await tape.run(m, gate.wait())
        ws.send(m)

    live = inside(message=message)
    gate = Gate(live)
    client, _ = live.open()
    client.send("1")
    client.send("2")
    client.round_trip()
    assert tape.lines == ["begin 1", "begin 2"]
    gate.open()
    assert client.read_messages(2) == ["1", "2"]


def test_connections_do_not_wait_for_each_other(inside):
    live = inside(serial=True, message=lambda ws, m: slow(ws, m))
    gate = Gate(live)

    async def slow(ws, m):
        if m == "wait":
            await gate.wait()
        ws.send(m)

    one, _ = live.open()
    two, _ = live.open()
    one.send("wait")
    one.send("behind")
    for i in range(10):
        two.send(str(i))
    assert two.read_messages(10) == [str(i) for i in range(10)]
    gate.open()
    assert one.read_messages(2) == ["wait", "behind"]


def test_every_event_waits(inside):
    """drain, ping, pong and close come after what was there before them; the close handler with what it is told."""
    tape = Tape()

    async def message(ws, m):
        if m == "fill":
            while ws.buffered_amount < 4 * MIB:
                ws.send(bytes(MIB))
        await tape.run(m, gate.wait() if m == "fill" else asyncio.sleep(0))

    async def event(name):
        await tape.run(name, asyncio.sleep(0))

    live = inside(
        serial=True,
        message=message,
        drain=lambda ws: event("drain"),
        ping=lambda ws, data: event(f"ping {data}"),
        pong=lambda ws, data: event(f"pong {data}"),
        close=lambda ws, code, reason: event(f"close {code} {reason} {ws.ready_state}"),
    )
    gate = Gate(live)
    client, ws = live.open(receive_buffer=65536)
    client.send("fill")
    wait_until(lambda: tape.lines)
    client.ping(b"a")
    client.pong(b"b")
    client.send("behind")
    client.fill_until(lambda: live.on_loop(lambda: ws.buffered_amount) == 0)
    client.send_close(4000, "bye")
    live.on_loop(lambda: None)
    wait_until(lambda: ws.ready_state == 3)
    assert tape.lines == ["begin fill"]
    gate.open()
    wait_until(lambda: tape.lines[-1].startswith("end close"))
    assert tape.lines[1] == "end fill"
    names = [line[6:] for line in tape.lines if line.startswith("begin")]
    assert tape.lines == pairs(names)
    assert [name for name in names if name != "drain"] == [
        "fill",
        "ping b'a'",
        "pong b'b'",
        "behind",
        "close 4000 bye 3",
    ]
    assert names.count("drain") in (1, 2)
    assert names[-1].startswith("close")


def test_messages_wait_for_open(inside):
    tape = Tape()
    live = inside(
        serial=True,
        open=lambda ws: tape.run("open", gate.wait()),
        message=lambda ws, m: tape.run(m, asyncio.sleep(0)),
        close=lambda ws, code, reason: tape.run("close", asyncio.sleep(0)),
    )
    gate = Gate(live)
    client, _ = live.open()
    client.send("1")
    client.send("2")
    client.send_close(1000)
    assert client.read_close() == (1000, "")
    assert tape.lines == ["begin open"]
    gate.open()
    wait_until(lambda: tape.lines[-1] == "end close")
    assert tape.lines == pairs(["open", "1", "2", "close"])


def test_plain_handlers_among_coroutines(inside):
    """A plain handler also waits for the coroutine before it."""
    tape = Tape()

    def message(ws, m):
        if m.startswith("plain"):
            tape.lines.append(m)
            ws.send(m)
            return None
        return tape.run(m, gate.wait())

    live = inside(serial=True, message=message)
    gate = Gate(live)
    client, _ = live.open()
    for m in ("plain 1", "slow", "plain 2", "plain 3"):
        client.send(m)
    assert client.read_message() == "plain 1"
    wait_until(lambda: tape.lines[-1] == "begin slow")
    gate.open()
    assert client.read_messages(2) == ["plain 2", "plain 3"]
    assert tape.lines == ["plain 1", "begin slow", "end slow", "plain 2", "plain 3"]


# --- how coroutines end ---


@pytest.mark.parametrize("how", ["raise", "cancel", "base"])
def test_the_next_one_comes_however_it_ends(inside, logged, how):
    tape, tasks = Tape(), []

    async def message(ws, m):
        tasks.append(asyncio.current_task())
        await tape.run(m, gate.wait() if m == "0" else asyncio.sleep(0))
        if m == "0" and how == "raise":
            raise ZeroDivisionError
        ws.send(m)

    live = inside(serial=True, message=message)
    gate = Gate(live)
    client, _ = live.open()
    for i in range(3):
        client.send(str(i))
    wait_until(lambda: tape.lines)
    if how == "cancel":
        live.on_loop(tasks[0].cancel)
    else:
        gate.open()
    expected = ["1", "2"] if how in ("raise", "cancel") else ["0", "1", "2"]
    assert client.read_messages(len(expected)) == expected
    assert tape.lines == pairs(["0", "1", "2"])
    assert len(logged) == (how == "raise")
    tasks.clear()


def test_an_error_handler_is_waited_for(inside):
    """The error handler's coroutine belongs to the message that failed."""
    tape = Tape()

    async def message(ws, m):
        await tape.run(m, asyncio.sleep(0))
        if m != "2":
            raise ValueError(m)
        ws.send("done")

    async def eager(ws, m):
        tape.lines.append(f"fails at once {m}")
        raise ValueError(m)

    live = inside(
        serial=True,
        message=lambda ws, m: eager(ws, m) if m == "0" else message(ws, m),
        error=lambda ws, exc: tape.run(f"error {exc}", asyncio.sleep(0.001)),
    )
    client, _ = live.open()
    for i in range(3):
        client.send(str(i))
    assert client.read_message() == "done"
    assert tape.lines == ["fails at once 0", *pairs(["error 0", "1", "error 1"]), "begin 2", "end 2"]


def test_open_that_fails(inside, logged):
    """Closed with 1011; the close handler after it, once; messages behind it are handled as those of any closed one."""
    tape = Tape()

    async def open(ws):
        await tape.run("open", gate.wait())
        raise ZeroDivisionError

    live = inside(
        serial=True,
        open=open,
        message=lambda ws, m: tape.run(m, asyncio.sleep(0)),
        close=lambda ws, code, reason: tape.run(f"close {code}", asyncio.sleep(0)),
    )
    gate = Gate(live)
    client, _ = live.open()
    client.send("1")
    client.round_trip()
    gate.open()
    assert client.read_close()[0] == 1011
    wait_until(lambda: tape.lines[-1].startswith("end close"))
    assert tape.lines == pairs(["open", "1", "close 1011"])
    assert len(logged) == 1


# --- closing ---


def test_close_by_the_handler_itself(inside):
    """The socket closes at once, its close handler runs when the coroutine has ended, and what waited before that."""
    tape = Tape()

    async def message(ws, m):
        tape.lines.append(f"begin {m}")
        if m in ("now", "later"):
            if m == "later":
                await asyncio.sleep(0.001)
            ws.close(4000, m)
            assert ws.ready_state == 3
            assert ws.send("never") == 0
            assert await ws.closed() == (4000, m)
            with pytest.raises(uwserve.ConnectionClosed):
                await ws.drained()
        tape.lines.append(f"end {m}")

    def close(ws, code, reason):
        tape.lines.append(f"close {code} {reason}")

    live = inside(serial=True, message=message, close=close)
    for m in ("now", "later"):
        tape.lines.clear()
        client, _ = live.open()
        client.send_raw(frame(TEXT, m) + frame(TEXT, "behind"))
        assert client.read_close() == (4000, m)
        wait_until(lambda: tape.lines[-1].startswith("close"))
        behind = pairs(["behind"]) if m == "later" else []  # at once: nothing behind it was received
        assert tape.lines == [f"begin {m}", f"end {m}", *behind, f"close 4000 {m}"]
        live.wait_for("close")


def test_queued_messages_of_a_closed_socket(inside):
    """They are handled, in order, with a socket that is closed; then its close handler, and the server can end."""
    got = []

    async def message(ws, m):
        await gate.wait()
        got.append((m, ws.ready_state, ws.send("x")))

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append((code, reason)))
    gate = Gate(live)
    client, ws = live.open()
    for i in range(10):
        client.send(str(i))
    client.send_close(1000, "bye")
    assert client.read_close() == (1000, "bye")
    client.close()
    wait_until(lambda: live.server.pending_websockets == 0)
    stopped = live.server.stop()
    assert not stopped.wait(0.05)
    assert not got
    gate.open()
    assert stopped.wait(TIMEOUT)
    assert got == [*((str(i), 3, 0) for i in range(10)), (1000, "bye")]


def test_terminate_while_queued(inside):
    got = []

    async def message(ws, m):
        await gate.wait()
        got.append(m)

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append((code, reason)))
    gate = Gate(live)
    client, ws = live.open()
    for i in range(5):
        client.send(str(i))
    wait_until(lambda: live.server.buffered_bytes > 0)
    live.on_loop(lambda: None)
    waiting = live.on_loop(lambda: live.server.buffered_bytes)
    ws.terminate()
    client.expect_end()
    assert not got
    assert waiting > 0
    gate.open()
    wait_until(lambda: got and got[-1] == (1006, ""))
    assert got[:-1] == [str(i) for i in range(len(got) - 1)]
    assert live.server.buffered_bytes == 0


def test_forced_stop(inside):
    """What waits is dropped; each close handler runs, exactly once, also for sockets that had closed before."""
    got = []

    async def message(ws, m):
        try:
            await asyncio.sleep(3600)
        finally:
            got.append(f"cancelled {m}")

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append((ws.data, code, reason)))
    first, _ = live.open("/first")
    second, _ = live.open("/second")
    for client in (first, second):
        for i in range(5):
            client.send(str(i))
    first.send_close(4000, "early")
    assert first.read_close() == (4000, "early")
    wait_until(lambda: live.server.buffered_bytes > 500)
    stopped = live.server.stop(True)
    first.close()
    second.close()
    assert stopped.wait(TIMEOUT)
    assert sorted(map(str, got)) == sorted(
        map(str, ["cancelled 0", "cancelled 0", ("/first", 4000, "early"), ("/second", 1001, "Server closed")])
    )
    assert live.server.buffered_bytes == 0


def test_forced_stop_inside_a_coroutine(inside):
    """The coroutine that stops the server by force goes on; the close handler runs inside that call."""
    got = []

    async def message(ws, m):
        ws.server.stop(True)
        got.append(("after", ws.ready_state))

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append((code, reason)))
    client, _ = live.open()
    client.send("x")
    client.read_close()
    client.close()
    assert live.server.stop().wait(TIMEOUT)
    assert got == [(1001, "Server closed"), ("after", 3)]


def test_a_coroutine_that_never_ends(inside, logged):
    """It holds its connection's events, and a forced stop is not held by it, nor by one that refuses to be cancelled."""
    got = []

    async def message(ws, m):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                got.append("refused")
                if len(got) > 2:
                    raise

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append(code))
    client, _ = live.open()
    client.send("x")
    client.send("y")
    wait_until(lambda: live.server.buffered_bytes > 0)
    stopped = live.server.stop(True)
    client.close()
    assert stopped.wait(TIMEOUT)
    assert got[:2] in (["refused", 1001], [1001, "refused"])


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
    client, ws = live.open()
    count = 30_000
    flood = b"".join(frame(TEXT, f"{i} " + "x" * 1000) for i in range(count))
    sender = threading.Thread(target=client.send_raw, args=(flood,))
    sender.start()
    wait_until(lambda: live.server.buffered_bytes > 64 * 1000)
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
    wait_until(lambda: live.server.buffered_bytes > 64 * 60)
    for _ in range(5):
        live.on_loop(lambda: None)
    assert live.server.buffered_bytes < 40_000
    gate.open()
    assert [client.read_frame() for _ in range(500)] == [Frame(PONG, str(i).encode()) for i in range(500)]
    wait_until(lambda: len(pings) == 500)
    assert pings == [str(i).encode() for i in range(500)]


def test_memoryviews(inside):
    """One that had to wait is a view of its own copy."""
    got = []

    def message(ws, m):
        got.append((type(m), bytes(m)))
        return gate.wait() if len(got) == 1 else None

    live = inside(serial=True, open=lambda ws: setattr(ws, "binary_type", "memoryview"), message=message)
    gate = Gate(live)
    client, _ = live.open()
    for size in (3, 50_000, 5):
        client.send(bytes([size % 251]) * size)
    wait_until(lambda: live.server.buffered_bytes > 50_000)
    gate.open()
    wait_until(lambda: len(got) == 3)
    assert got == [(memoryview, bytes([size % 251]) * size) for size in (3, 50_000, 5)]


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
    client, ws = live.open()
    client.send("1")
    assert client.read_message() == "1"
    client.round_trip()
    wait_until(lambda: "ping" in tape.lines)
    client.send_raw(frame(TEXT, "2") + frame(TEXT, "3") + close_frame(1000))
    assert client.read_close() == (1000, "")
    wait_until(lambda: tape.lines[-1].startswith("close"))
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
    client, ws = live.open()
    client.ping(b"1")
    client.send("m")
    client.ping(b"2")
    for name in (b"1", b"2"):
        assert client.read_frame() == Frame(PONG, name)
    gate.open()
    wait_until(lambda: len(tape.lines) == 4)
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
    wait_until(lambda: tape.lines == ["begin 1", "begin 2"])
    live.server.reload(websocket=live.recorded({"message": message, "serial": True}))
    client.send("3")
    client.send("4")
    wait_until(lambda: len(tape.lines) == 3)
    client.send("5")
    wait_until(lambda: live.server.buffered_bytes > 100)
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
    wait_until(lambda: live.server.pending_websockets == 0)
    live.events.queue.clear()
    live.on_loop(gc.collect)


def test_no_handle_is_left(inside):
    """A coroutine that refers to its socket, its task in the socket's data: freed when it has ended."""
    probe = _core.ServerCore()
    before = probe.live_handles

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
    wait_until(lambda: live.server.pending_websockets == 0)
    live.on_loop(lambda: None)

    def is_clean():
        live.events.queue.clear()
        gc.collect()
        return probe.live_handles <= before

    wait_until(is_clean)


def test_take_all_in_open_without_message_handler(inside):
    """Without serial, too: from the open handler's first wait on, messages wait for ws.messages()."""
    got = []

    async def open(ws):
        await gate.wait()
        got.append(await take_all(ws.messages()))

    live = inside(open=open, only=("open", "close"))
    gate = Gate(live)
    client, ws = live.open()
    client.send("1")
    client.send(b"2")
    client.round_trip()
    gate.open()
    client.send_raw(frame(BINARY, b"3") + close_frame(1000))
    assert live.expect_close() == (1000, "")
    wait_until(lambda: got)
    assert got == [["1", b"2", b"3"]]
