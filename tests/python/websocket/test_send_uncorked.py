"""Messages that the cork buffer cannot take: too large, behind others in it, or held by another socket's handler.

They go out from where they lie; whatever the kernel leaves of them, each socket gets its own, in order.
"""

from __future__ import annotations

import threading
import time
from random import Random

import pytest
from ws_client import frame

pytestmark = pytest.mark.wss

MIB = 1 << 20
CORK = 16 * 1024
# Around what is copied behind its header, the three forms of a length, and what fits into the cork buffer.
SIZES = (0, 1, 125, 126, 512, 513, 5000, CORK - 11, CORK - 10, CORK - 4, CORK, CORK + 1, 65_535, 65_536, 300_000, MIB)
ACTIONS = 100


class Script:
    """Sends by every way there is, and knows what each socket must get."""

    def __init__(self, seed: int, live, sockets) -> None:
        self.random = Random(seed)
        self.live = live
        self.sockets = sockets
        self.expected: list[list[bytes]] = [[] for _ in sockets]
        self.results: list[int] = []

    def run(self, own: int) -> None:
        """As the handler of socket ``own``, or beside any."""
        for _ in range(ACTIONS):
            size = self.random.choice(SIZES)
            payload = self.random.randbytes(min(size, 64)).ljust(size, b".")
            action = self.random.choice(("own", "own", "other", "all", "others"))
            if action in ("own", "other"):
                to = own if action == "own" else self.random.randrange(len(self.sockets))
                self.results.append(self.sockets[to].send(payload))
                self.expected[to].append(payload)
            else:
                publish = self.live.server.publish if action == "all" else self.sockets[own].publish
                self.results.append(publish("t", payload))
                for i, expected in enumerate(self.expected):
                    if action == "all" or i != own:
                        expected.append(payload)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_inside", [True, False], ids=["handler", "beside"])
def test_every_way_keeps_the_order(serving, seed, is_inside) -> None:
    script = None

    def message(ws, text) -> None:
        script.run(0)

    live = serving(message=message, backpressure_limit=256 * MIB)
    pairs = [live.open(f"/{i}", receive_buffer=16 * 1024) for i in range(3)]
    live.on_loop(lambda: [ws.subscribe("t") for _, ws in pairs])
    script = Script(seed, live, [ws for _, ws in pairs])
    if is_inside:
        pairs[0][0].send("go")
        while not script.results:
            live.on_loop(lambda: None)
        live.on_loop(lambda: None)  # it may have been seen half-way
    else:
        live.on_loop(script.run, 0)
    for (client, _), expected in zip(pairs, script.expected, strict=True):
        for number, payload in enumerate(expected):
            is_same = client.read_message() == payload  # pytest would show megabytes
            assert is_same, f"message {number} of {len(payload)} bytes"
        client.round_trip()  # and nothing else
    assert -1 in script.results, "nobody had to wait: the test shows less than it should"


def test_one_large_message_takes_what_was_corked_along(room) -> None:
    def message(ws, text) -> None:
        for number in range(3):
            ws.send(f"{number}")
            ws.send(b"." * (CORK - 8 + number))
        ws.send("end")

    _, pairs = room(1, message=message)
    client = pairs[0][0]
    client.send("go")
    expected: list[str | bytes] = []
    for number in range(3):
        expected += [f"{number}", b"." * (CORK - 8 + number)]
    assert client.read_messages(7) == [*expected, "end"]


def test_to_another_socket_and_closed_at_once(room) -> None:
    """The Close frame comes behind what was sent without the cork buffer."""
    others = []

    def message(ws, text) -> None:
        for other in others:
            other.send("small")
            other.send(b"." * 100_000)
            other.close(4001, "enough")
            assert other.send("late") == 0

    _, pairs = room(3, message=message)
    others += [ws for _, ws in pairs[1:]]
    pairs[0][0].send("go")
    for client, _ in pairs[1:]:
        assert client.read_messages(2) == ["small", b"." * 100_000]
        assert client.read_close() == (4001, "enough")


@pytest.mark.parametrize("answered", ["all", "odd", "even", "first", "last", "none"])
def test_large_replies_to_the_messages_of_one_read(room, answered) -> None:
    """The kernel may keep their ends for what follows, but not when nothing does."""
    count = 7
    takes = {
        "all": lambda n: True,
        "odd": lambda n: n % 2,
        "even": lambda n: n % 2 == 0,
        "first": lambda n: n == 0,
        "last": lambda n: n == count - 1,
        "none": lambda n: False,
    }[answered]

    def message(ws, data) -> None:
        if takes(data[0]):
            ws.send(data)
            ws.send(f"{data[0]}")

    _live, pairs = room(1, message=message)
    client = pairs[0][0]
    payloads = [bytes([number]) + b"." * (CORK + 1000 * number) for number in range(count)]
    took = []
    for _ in range(5):
        begun = time.monotonic()
        client.send_raw(b"".join(frame(2, payload) for payload in payloads))
        for number, payload in enumerate(payloads):
            if takes(number):
                assert client.read_messages(2) == [payload, f"{number}"]
        took.append(time.monotonic() - begun)
    assert min(took) < 0.2, "the kernel has kept the end until its timer went off, each time"
    client.round_trip()


def test_a_reset_takes_no_large_reply_along(room) -> None:
    """terminate() with input unread resets the connection; what was sent before has left."""

    def message(ws, data) -> None:
        if data[0] == 0:
            ws.send(data)
        elif data[0] == 1:
            ws.terminate()

    for _ in range(10):
        _live, pairs = room(1, message=message)
        client = pairs[0][0]
        payloads = [bytes([number]) + b"." * 20_000 for number in range(8)]
        client.send_raw(b"".join(frame(2, payload) for payload in payloads))
        assert client.read_messages(1) == [payloads[0]]


def test_large_messages_to_a_dead_connection_are_dropped(serving) -> None:
    """Who sends until it is told to stop must come to an end."""
    gone, results = threading.Event(), []

    def message(ws, text) -> None:
        gone.wait(10)
        while len(results) < 1000 and (not results or results[-1]):
            results.append(ws.send(b"." * 65_536))

    live = serving(message=message, backpressure_limit=MIB)
    client, _ = live.open()
    client.send("go")
    client.reset()
    gone.set()
    live.on_loop(lambda: None)
    assert results[-1] == 0
