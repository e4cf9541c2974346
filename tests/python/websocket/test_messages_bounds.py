"""What waits for ws.messages() is bounded and pushes back on the client; together with other reasons not to read."""

from __future__ import annotations

import threading
import time

import pytest
from deflate_client import deflate
from loops import take, take_all
from ws_client import BINARY, PONG, TEXT, TIMEOUT, Frame, eventually, frame

pytestmark = pytest.mark.wss

MIB = 1 << 20
OFFER = (("Sec-WebSocket-Extensions", "permessage-deflate"),)


class Sender(threading.Thread):
    """Sends from a thread of its own; ``sent`` grows as the peer lets it."""

    def __init__(self, client, data):
        super().__init__()
        self.client, self.data, self.sent = client, memoryview(data), 0
        self.start()

    def run(self):
        while self.sent < len(self.data):
            self.client.send_raw(self.data[self.sent : self.sent + 65536])
            self.sent += 65536

    def is_stuck(self):
        """True when it does not get on."""
        before = self.sent
        for _ in range(20):
            time.sleep(0.005)
            if self.sent != before:
                return False
        return before < len(self.data)


# --- bounds ---


def test_a_flood_is_pushed_back(serving, elsewhere):
    """Nobody takes them: the client can't send on, memory stays bounded. Then nothing is lost or out of order."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    payload = "x" * 1000
    count = 40_000
    flood = b"".join(frame(TEXT, f"{i} {payload}") for i in range(count))
    sender = Sender(client, flood)
    eventually(sender.is_stuck)
    assert 64 * 1000 < live.server.buffered_bytes < 300_000
    live.no_events()
    highest = 0

    async def consume():
        nonlocal highest
        for i in range(count):
            message = await iterator.__anext__()
            assert message.startswith(f"{i} ")
            if i % 1000 == 0:
                highest = max(highest, live.server.buffered_bytes)

    elsewhere.run(consume(), 60)
    sender.join(TIMEOUT)
    assert highest < 300_000
    eventually(lambda: live.server.buffered_bytes == 0)


def test_tiny_messages_in_one_segment(serving, elsewhere):
    """The parser stops: 20,000 messages in one read make no 20,000 objects."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    client.send_raw(b"".join(frame(BINARY, i.to_bytes(2, "big")) for i in range(20_000)))
    eventually(lambda: live.server.buffered_bytes > 10_000)
    live.on_loop(lambda: None)
    assert live.server.buffered_bytes < 64 * 200 + 140_000
    client.ping(b"behind them")
    assert elsewhere.run(take(iterator, 20_000), 30) == [i.to_bytes(2, "big") for i in range(20_000)]
    assert client.read_frame() == Frame(PONG, b"behind them")


def test_large_messages_pass(serving, elsewhere):
    """Each is larger than the bound; they come one after the other."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    sent = [bytes([i]) * (3 * MIB) for i in range(6)]
    sender = threading.Thread(target=lambda: [client.send(message) for message in sent])
    sender.start()
    eventually(lambda: live.server.buffered_bytes > 3 * MIB)
    live.on_loop(lambda: None)
    assert live.server.buffered_bytes < 3 * MIB + 300_000
    assert elsewhere.run(take(iterator, 6)) == sent
    sender.join(TIMEOUT)


def test_compressed_bombs(serving, elsewhere):
    """A hundred megabytes in one segment of a hundred kilobytes: inflated as they are taken."""
    live = serving(per_message_deflate=True)
    client, ws = live.open(extra=OFFER)
    iterator = ws.messages()
    client.send_raw(frame(BINARY, deflate(bytes(MIB)), rsv=4) * 100)
    eventually(lambda: live.server.buffered_bytes > MIB)
    live.on_loop(lambda: None)
    assert live.server.buffered_bytes < 2 * MIB + 300_000
    for _ in range(10):
        assert elsewhere.run(take(iterator, 10)) == [bytes(MIB)] * 10
        assert live.server.buffered_bytes < 2 * MIB + 300_000


def test_max_buffered_bytes(serving, elsewhere):
    """What waits counts among the bytes of all sockets; past that limit, a socket that adds to it gets 1013."""
    live = serving(limits={"max_buffered_bytes": 3 * MIB})
    iterators = []
    for i in range(1, 4):
        client, ws = live.open()
        iterators.append(ws.messages())
        client.send(bytes(700_000))
        eventually(lambda i=i: 700_000 * i < live.on_loop(lambda: live.server.buffered_bytes) < 700_000 * i + 1000)
    client, ws = live.open()
    too_much = ws.messages()
    client.send(bytes(700_000))
    assert client.read_close()[0] == 1013
    assert live.expect_close()[0] == 1013
    assert live.server.refused["websocket_1013"] == 1
    assert elsewhere.run(take_all(too_much)) == []
    client, ws = live.open()
    small = ws.messages()
    client.send("a few bytes pass")
    assert elsewhere.run(take(small, 1)) == ["a few bytes pass"]
    for iterator in iterators:
        assert elsewhere.run(take(iterator, 1)) == [bytes(700_000)]
    eventually(lambda: live.server.buffered_bytes == 0)


# --- together with pause() ---


def test_pause_and_resume(serving, elsewhere):
    """Both reasons not to read, in any order: it is read when neither holds."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(1000)))
    eventually(lambda: live.server.buffered_bytes > 1000)
    live.on_loop(ws.pause)
    taken = elsewhere.run(take(iterator, 64))
    live.on_loop(lambda: None)
    assert live.on_loop(lambda: None) is None
    more = elsewhere.start(take(iterator, 936))
    for _ in range(20):
        live.no_events()
    assert not more.done()
    live.on_loop(ws.resume)
    assert taken + more.result(TIMEOUT) == [str(i) for i in range(1000)]
    live.on_loop(lambda: (ws.pause(), ws.resume(), ws.pause()))
    client.send("paused")
    last = elsewhere.start(take(iterator, 1))
    for _ in range(20):
        live.no_events()
    assert not last.done()
    ws.resume()
    assert last.result(TIMEOUT) == ["paused"]


def test_pausing_handler_during_redelivery(serving, elsewhere):
    """What was kept of a read stays in front of the kernel's bytes when the handler pauses amid it."""
    live = serving(message=lambda ws, message: (ws.pause(), live.server.call_soon(ws.resume)))
    client, ws = live.open()
    iterators = [ws.messages()]
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(2000)))
    eventually(lambda: live.server.buffered_bytes > 1000)
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(2000, 2100)))
    iterators.clear()
    assert [live.expect("message")[1] for _ in range(2100)] == [str(i) for i in range(2100)]


@pytest.mark.parametrize("end", ["close", "terminate", "stop", "reset"])
def test_ends_while_not_read(serving, elsewhere, end):
    """A socket that is not read, for a queue that nobody empties, can be closed, cut and stopped; a reset is seen."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(1000)))
    eventually(lambda: live.server.buffered_bytes > 1000)
    expected = {"close": (4000, ""), "terminate": (1006, ""), "stop": (1001, "Server closed"), "reset": (1006, "")}[end]
    if end == "close":
        ws.close(4000)
        assert client.read_close() == (4000, "")
        client.send_close(4000)
        client.expect_end()
    elif end == "terminate":
        ws.terminate()
    elif end == "stop":
        live.server.stop(True)
    else:
        client.reset()
    assert live.expect_close() == expected
    assert elsewhere.run(take_all(iterator)) == [str(i) for i in range(64)]
