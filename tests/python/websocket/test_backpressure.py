"""A peer that does not read: queueing, drain, limits, and what close() then does (S3, S7-S9, S11, S12, P10)."""

from __future__ import annotations

import queue
import threading

import pytest
from ws_client import BINARY, CLOSE, PONG, TEXT, ConnectionEnded, Frame, close_payload, frame

pytestmark = pytest.mark.wss

MIB = 1 << 20


def fill(ws, size: int = 65536) -> int:
    """Send until backpressure; how many messages."""
    count = 1
    while ws.send(count.to_bytes(4, "big") * (size // 4)) != -1:
        count += 1
    return count


def read_until_close(client) -> None:
    while client.read_frame().opcode != CLOSE:
        pass


def test_buffered_amount(serving, transport):
    """0 without backlog; then what the kernel did not take, frame headers included; 0 after drain and after close."""
    live = serving(**transport)
    client, ws = live.open(receive_buffer=8192)

    def measure():
        assert ws.buffered_amount == ws.get_buffered_amount() == ws.getBufferedAmount() == 0
        fill(ws)
        before = ws.buffered_amount
        assert before > 0
        assert ws.send(b"x" * 1000) == -1
        assert ws.buffered_amount == before + 1004
        assert ws.send("") == -1
        assert ws.buffered_amount == before + 1006
        return True

    assert live.on_loop(measure)
    while client.read_message() != "":
        pass
    live.wait_for("drain")
    assert live.on_loop(ws.get_buffered_amount) == 0
    live.on_loop(fill, ws)
    live.on_loop(ws.terminate)
    assert ws.buffered_amount == 0


def test_buffered_amount_leaves_out_the_cork(serving):
    """In a handler, what is corked is not yet backlog."""
    amounts = []
    live = serving(message=lambda ws, message: amounts.extend([ws.send(b"x" * 1000), ws.buffered_amount]))
    client = live.connect()
    client.send("go")
    assert client.read_message() == b"x" * 1000
    assert amounts == [1000, 0]


def test_drain_comes_once_per_backlog(serving):
    """Reading everything ends in a drain with nothing buffered; sending works as before."""
    live = serving()
    client, ws = live.open(receive_buffer=8192)
    for _ in range(3):
        count = live.on_loop(fill, ws)
        for i in range(count):
            assert client.read_message() == (i + 1).to_bytes(4, "big") * 16384
        client.round_trip()
        live.wait_for("ping")
    assert live.on_loop(ws.get_buffered_amount) == 0
    assert live.on_loop(ws.send, "x") == 1
    assert client.read_message() == "x"


def test_drain_is_called_when_empty(serving):
    buffered: queue.Queue = queue.Queue()
    live = serving(drain=lambda ws: buffered.put(ws.buffered_amount))
    client, ws = live.open(receive_buffer=8192)
    count = live.on_loop(fill, ws)
    client.read_messages(count)
    while buffered.get(timeout=10):
        pass


def test_order_is_kept_under_backpressure(serving, transport):
    """Messages of all sizes and both kinds, pings and pongs between, in the order of the calls."""
    live = serving(**transport)
    client, ws = live.open(receive_buffer=8192)

    def send_all():
        sent = []
        for i in range(600):
            size = (i * 7919) % 40000
            data = i.to_bytes(4, "big") + bytes(size)
            ws.send(data)
            sent.append(Frame(BINARY, data))
            if i % 50 == 0:
                ws.send(f"t{i}")
                ws.ping(b"p%d" % i)
                sent += [Frame(TEXT, b"t%d" % i), Frame(9, b"p%d" % i)]
        return sent

    for expected in live.on_loop(send_all):
        assert client.read_frame() == expected


@pytest.mark.parametrize("limit", [1024, 65536, 0])
def test_limit(serving, limit):
    """S7: with a backlog nothing goes over the limit; 0 is no limit."""
    live = serving(backpressure_limit=limit)
    _client, ws = live.open(receive_buffer=8192)

    def push():
        fill(ws, 1024)
        results = [ws.send(b"x" * 1024) for _ in range(5000)]
        return results, ws.buffered_amount

    results, buffered = live.on_loop(push)
    if limit:
        assert results[-1] == 0
        assert buffered <= max(limit, 1028)
    else:
        assert set(results) == {-1}
        assert buffered > 4 * MIB


def test_close_on_backpressure_limit(serving, transport):
    """S12: the socket is closed with 1006 and a reason, soon, and not inside send()."""
    live = serving(backpressure_limit=65536, close_on_backpressure_limit=True, **transport)
    _client, ws = live.open(receive_buffer=8192)

    def push():
        while ws.send(b"x" * 32768) != 0:
            pass
        return ws.ready_state, ws.send(b"x" * 32768)

    assert live.on_loop(push) == (1, 0)
    code, reason = live.expect_close()
    assert code == 1006
    assert "ackpressure" in reason
    assert ws.ready_state == 3


def test_close_on_backpressure_limit_while_paused(serving):
    """S12: also when the socket is not being read."""
    live = serving(backpressure_limit=65536, close_on_backpressure_limit=True)
    _client, ws = live.open(receive_buffer=8192)
    live.on_loop(ws.pause)

    def push():
        while ws.send(b"x" * 32768) != 0:
            pass

    live.on_loop(push)
    assert live.expect_close()[0] == 1006


def test_close_on_backpressure_limit_by_publish(serving):
    """S12: a subscriber over the limit is closed; the others get everything."""
    live = serving(backpressure_limit=65536, close_on_backpressure_limit=True)
    _slow, slow_ws = live.open("/slow", receive_buffer=8192)
    fast, fast_ws = live.open("/fast")
    live.on_loop(slow_ws.subscribe, "t")
    live.on_loop(fast_ws.subscribe, "t")
    for i in range(2000):
        live.server.publish("t", i.to_bytes(4, "big") * 4096)
        assert fast.read_message() == i.to_bytes(4, "big") * 4096
        if not live.events.empty():
            break
    ws, code, _reason = live.expect("close")
    assert (ws, code) == (slow_ws, 1006)
    assert fast_ws.ready_state == 1


@pytest.mark.parametrize("backlog", [1, 2 * MIB])
def test_close_with_backlog_delivers_everything(serving, transport, backlog):
    """S4: close() with a backlog: all of it, then the Close frame, then FIN. Nothing is sent after it."""
    live = serving(backpressure_limit=4 * MIB, **transport)
    client, ws = live.open(receive_buffer=8192)

    def send_and_close():
        fill(ws)
        while ws.buffered_amount < backlog:
            assert ws.send(b"x" * 65536) == -1
        ws.close(4000, "done")
        return ws.send("never"), ws.ping(), ws.ready_state

    assert live.on_loop(send_and_close) == (0, 0, 3)
    assert live.expect_close() == (4000, "done")
    frames = client.read_to_end()
    assert frames[-1] == Frame(CLOSE, close_payload(4000, "done"))
    assert all(len(f.payload) == 65536 for f in frames[:-1])
    live.no_events()


def test_close_with_backlog_over_the_limit(serving, transport):
    """S3: one message far over the limit is queued, then close(): upstream would drop the queue and the Close frame."""
    live = serving(backpressure_limit=1000, **transport)
    client, ws = live.open(receive_buffer=8192)

    def send_and_close():
        assert ws.send(b"x" * (8 * MIB)) == -1
        assert ws.buffered_amount > 1000
        ws.close(1001, "later")

    live.on_loop(send_and_close)
    assert live.expect_close() == (1001, "later")
    assert client.read_message() == b"x" * (8 * MIB)
    assert client.read_close() == (1001, "later")
    client.expect_end()


def test_peer_closes_while_backlog_is_over_the_limit(serving):
    """S3: the answer to the peer's Close is not lost either."""
    live = serving(backpressure_limit=1000)
    client, ws = live.open(receive_buffer=8192)
    live.on_loop(ws.send, b"x" * (8 * MIB))
    client.send_close(1000, "bye")
    assert live.wait_for("close")[1:] == (1000, "bye")
    assert client.read_message() == b"x" * (8 * MIB)
    assert client.read_close() == (1000, "bye")
    client.expect_end()


def test_terminate_with_backlog(serving, transport):
    """S5: terminate() with a backlog and a peer that does not read: closed before it returns, no Close frame."""
    live = serving(**transport)
    client, ws = live.open(receive_buffer=8192)

    def go():
        fill(ws)
        ws.terminate()
        return ws.ready_state, list(live.events.queue)[-1][2:], live.server.pending_websockets

    assert live.on_loop(go) == (3, (1006, ""), 0)
    with pytest.raises(ConnectionEnded):
        read_until_close(client)


def test_terminate_after_close(serving):
    """S5: while a Close frame waits behind a backlog, terminate() is a no-op, and stop(True) cuts it."""
    live = serving()
    _client, ws = live.open(receive_buffer=8192)

    def go():
        fill(ws)
        ws.close()
        ws.terminate()
        return ws.ready_state

    assert live.on_loop(go) == 3
    assert live.expect_close() == (1000, "")
    live.no_events()


def test_pong_flood_is_bounded(serving):
    """S8: a peer that pings without end and never reads is not answered into unlimited memory, even without a limit."""
    amounts: list[int] = []
    live = serving(
        backpressure_limit=0,
        ping=lambda ws, data: amounts.append(ws.buffered_amount),
        limits={"max_control_frames_per_second": 0},  # the flood goes as far as the reading does
    )
    client, ws = live.open(receive_buffer=8192)
    flood = frame(9, b"p" * 125) * 4000
    stop = threading.Event()
    sent = 0
    client.sock.settimeout(0.5)
    try:
        for _ in range(60):  # 30 MB
            client.sock.sendall(flood)
            sent += 1
    except TimeoutError:
        stop.set()
    assert stop.is_set(), "the server read on although its answers went nowhere"
    assert max(amounts) < 3 * MIB
    assert live.on_loop(ws.get_buffered_amount) < 3 * MIB
    # Once the peer reads, it is served again.
    client.sock.settimeout(10)
    pongs = 0
    while pongs < sent * 4000:
        got = client.read_frame()
        assert got == Frame(PONG, b"p" * 125)
        pongs += 1
    live.events.queue.clear()


def test_slow_reader_does_not_delay_others(serving):
    """S9: thousands of sends to a blocked socket; another connection is served all the same."""
    live = serving(message=lambda ws, message: ws.send(message), backpressure_limit=0)
    _slow, slow_ws = live.open(receive_buffer=8192)
    fast = live.connect()

    def push():
        for _ in range(20000):
            slow_ws.send(b"x" * 100)

    live.on_loop(fill, slow_ws)
    live.on_loop(push)
    fast.send("hi")
    assert fast.read_message() == "hi"
