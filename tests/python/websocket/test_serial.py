"""websocket={"serial": True}: one coroutine of a connection after the other, and clients wait meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from loops import Gate, Tape, pairs
from ws_client import TEXT, TIMEOUT, eventually, frame

import uwserve

pytestmark = pytest.mark.wss

MIB = 1 << 20


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
    eventually(lambda: tape.lines)
    client.ping(b"a")
    client.pong(b"b")
    client.send("behind")
    client.fill_until(lambda: live.on_loop(lambda: ws.buffered_amount) == 0)
    client.send_close(4000, "bye")
    live.on_loop(lambda: None)
    eventually(lambda: ws.ready_state == 3)
    assert tape.lines == ["begin fill"]
    gate.open()
    eventually(lambda: tape.lines[-1].startswith("end close"))
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
    eventually(lambda: tape.lines[-1] == "end close")
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
    eventually(lambda: tape.lines[-1] == "begin slow")
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
    eventually(lambda: tape.lines)
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
        error=lambda exc, ws: tape.run(f"error {exc}", asyncio.sleep(0.001)),
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
    eventually(lambda: tape.lines[-1].startswith("end close"))
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
        eventually(lambda: tape.lines[-1].startswith("close"))
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
    client, _ws = live.open()
    for i in range(10):
        client.send(str(i))
    client.send_close(1000, "bye")
    assert client.read_close() == (1000, "bye")
    client.close()
    eventually(lambda: live.server.pending_websockets == 0)
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
    eventually(lambda: live.server.buffered_bytes > 0)
    live.on_loop(lambda: None)
    waiting = live.on_loop(lambda: live.server.buffered_bytes)
    ws.terminate()
    client.expect_end()
    assert not got
    assert waiting > 0
    gate.open()
    eventually(lambda: got and got[-1] == (1006, ""))
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
    eventually(lambda: live.server.buffered_bytes > 500)
    stopped = live.server.stop(True)
    first.close()
    second.close()
    assert stopped.wait(TIMEOUT)
    assert sorted(map(str, got)) == sorted(
        map(str, ["cancelled 0", "cancelled 0", ("/first", 4000, "early"), ("/second", 1001, "Server closed")])
    )
    assert live.server.buffered_bytes == 0


def test_forced_stop_inside_a_coroutine(inside):
    """The coroutine that stops the server by force goes on; the close handler runs in the loop's next turn."""
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
    assert got == [("after", 3), (1001, "Server closed")]


def test_a_coroutine_that_never_ends(inside, logged):
    """It holds its connection's events, but no forced stop, even if it refuses to be cancelled."""
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
    eventually(lambda: live.server.buffered_bytes > 0)
    stopped = live.server.stop(True)
    client.close()
    assert stopped.wait(TIMEOUT)
    assert got[:2] in (["refused", 1001], [1001, "refused"])


@pytest.mark.parametrize("in_time", [True, False])
def test_stop_with_a_deadline(inside, in_time):
    """What waits is handled in the time there is, before the close handlers; the rest is dropped at the deadline."""
    got = []

    async def message(ws, m):
        await gate.wait()
        got.append(m)

    live = inside(serial=True, message=message, close=lambda ws, code, reason: got.append(code))
    gate = Gate(live)
    client, _ = live.open()
    for i in range(5):
        client.send(str(i))
    eventually(lambda: live.on_loop(lambda: live.server.buffered_bytes) > 4 * 60)
    stopped = live.server.stop(timeout=TIMEOUT if in_time else 0.05, code=1012)
    assert client.read_close()[0] == 1012
    client.send_close(1012)
    client.close()
    if in_time:
        live.on_loop(lambda: None)
        assert not got
        gate.open()
    assert stopped.wait(TIMEOUT)
    assert got == (["0", "1", "2", "3", "4", 1012] if in_time else [1012])
