"""Publish and subscribe: order, timing, slow readers and many of everything (T1, T2, T6-T8, S7, S13)."""

from __future__ import annotations

import threading

import pytest
from ws_client import BINARY, Client

import uwserve

pytestmark = pytest.mark.wss

MIB = 1 << 20


def test_unsubscribe_after_publish(room):
    """T1: publish, then unsubscribe or close in the same turn: still delivered; after it: not."""
    live, pairs = room(3, "t")

    def turn():
        live.server.publish("t", "1")
        live.server.publish("t", b"2" * 20000)
        live.server.publish("t", "3")
        pairs[0][1].unsubscribe("t")
        pairs[1][1].close(4000)
        live.server.publish("t", "4")

    live.on_loop(turn)
    sent = ["1", b"2" * 20000, "3"]
    assert live.messages_until_now(pairs[0][0], pairs[0][1]) == sent
    assert pairs[1][0].read_messages(3) == sent
    assert pairs[1][0].read_close()[0] == 4000
    assert pairs[2][0].read_messages(4) == [*sent, "4"]


def test_last_words(serving):
    """T1: publish, unsubscribe from the last topic, close, in a handler: everyone gets what was before."""

    def message(ws, text):
        ws.subscribe("t")
        ws.publish("t", "mine")
        live.server.publish("t", "all")
        ws.unsubscribe("t")
        ws.send("direct")
        ws.close()

    live = serving(message=message)
    client, _ = live.open()
    other, other_ws = live.open()
    live.on_loop(other_ws.subscribe, "t")
    client.send("go")
    assert client.read_messages(2) == ["all", "direct"]
    assert client.read_close()[0] == 1000
    assert other.read_messages(2) == ["mine", "all"]


def test_subscribe_after_publish(room):
    """Subscribing after a publish in the same turn does not deliver it."""
    live, pairs = room(1, "t")
    late, late_ws = live.open()

    def turn():
        live.server.publish("t", "early")
        live.server.publish("t", b"e" * 20000)
        late_ws.subscribe("t")
        live.server.publish("t", "late")

    live.on_loop(turn)
    assert pairs[0][0].read_messages(3) == ["early", b"e" * 20000, "late"]
    assert live.messages_until_now(late, late_ws) == ["late"]


def test_resubscribe_between_publishes(room):
    live, pairs = room(1, "t")
    client, ws = pairs[0]

    def turn():
        for i in range(6):
            live.server.publish("t", str(i))
            (ws.unsubscribe if i % 2 == 0 else ws.subscribe)("t")

    live.on_loop(turn)
    assert live.messages_until_now(client, ws) == ["0", "2", "4"]


@pytest.mark.parametrize("corked", [False, True])
def test_order_across_topics_and_sizes(room, corked):
    """Per socket, sends and publishes over several topics, small and large, arrive in the order of the calls."""
    live, pairs = room(3, "a", "b", "c")
    expected: list = []

    def turn(_=None):
        for i in range(300):
            size = (3, 200, 5000, 16383, 16384, 20000, 70000)[i % 7]
            data = i.to_bytes(4, "big") + bytes(size)
            expected.append(data)
            if i % 5 == 0:
                for _, ws in pairs:
                    ws.send(data)
            else:
                live.server.publish("abc"[i % 3], data)

    live.on_loop(pairs[0][1].cork, turn) if corked else live.on_loop(turn)
    for client, _ in pairs:
        for i, data in enumerate(expected):
            assert client.read_message() == data, i


def test_order_from_a_handler(room):
    """Inside a handler (corked): send, publish, send."""

    def message(ws, _):
        for i in range(100):
            ws.send(f"s{i}")
            live.server.publish("t", f"p{i}")
            if i % 10 == 0:
                live.server.publish("t", f"{i}".encode() * 9000)

    live, pairs = room(2, "t", message=message)
    pairs[0][0].send("go")
    for client, sends in ((pairs[0][0], True), (pairs[1][0], False)):
        for i in range(100):
            if sends:
                assert client.read_message() == f"s{i}"
            assert client.read_message() == f"p{i}"
            if i % 10 == 0:
                assert client.read_message() == f"{i}".encode() * 9000


@pytest.mark.parametrize("size", [100, 20000])
def test_slow_subscriber(room, size):
    """A subscriber that does not read delays and reorders nobody; it gets a gapless beginning (T8, S7)."""
    live, pairs = room(2, "t", backpressure_limit=256 * 1024)
    fast = pairs[0][0]
    slow = live.connect(receive_buffer=8192)
    slow_ws = live.expect("open")[0]
    live.on_loop(slow_ws.subscribe, "t")
    results = set()
    count = 16 * MIB // size if size > 1000 else 30000
    step = max(1, count // 200)
    for start in range(0, count, step):

        def some(start=start):
            for i in range(start, min(start + step, count)):
                results.add(live.server.publish("t", i.to_bytes(4, "big") + bytes(size - 4)))

        live.on_loop(some)
        assert live.on_loop(slow_ws.get_buffered_amount) <= 256 * 1024 + size + 14
        for i in range(start, min(start + step, count)):
            assert fast.read_message()[:4] == i.to_bytes(4, "big")
    assert size in results
    if size > 1000:
        assert results == {size, -1, 0}, results
    # What the slow one got is the first messages, without a gap, and then those after it reads again.
    live.on_loop(slow_ws.unsubscribe, "t")
    numbers = []
    live.on_loop(lambda: None)
    slow.send("now")
    live.wait_for("message")
    seen_end = False
    while not seen_end:
        message = slow.read_message()
        numbers.append(int.from_bytes(message[:4], "big"))
        if live.on_loop(slow_ws.get_buffered_amount) == 0:
            live.on_loop(slow_ws.send, "<end>")
            while (message := slow.read_message()) != "<end>":
                numbers.append(int.from_bytes(message[:4], "big"))
            seen_end = True
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    gap = next((i for i, n in enumerate(numbers) if n != i), len(numbers))
    assert gap > 10


def test_publish_returns_minus_one_with_backpressure(room):
    """-1 when any subscriber has backpressure, whatever the message's size."""
    live, pairs = room(1, "t")
    _slow = live.connect(receive_buffer=8192)
    slow_ws = live.expect("open")[0]

    def turn():
        slow_ws.subscribe("t")
        while slow_ws.send(bytes(65536)) != -1:
            pass
        return live.server.publish("t", "x"), pairs[0][1].publish("t", b"y" * 50000), live.server.publish("u", "x")

    assert live.on_loop(turn) == (-1, -1, 0)
    assert pairs[0][0].read_message() == "x"


def test_ten_thousand_topics(room):
    """Ten thousand topics on one socket, and one topic each on others; all are left at close."""
    live, pairs = room(2)
    client, ws = pairs[0]
    names = [f"topic/{i}" for i in range(10000)]

    def subscribe():
        for name in names:
            ws.subscribe(name)
        return len(ws.subscriptions)

    def publish():
        for name in names:
            assert live.server.publish(name, name) == len(name)

    assert live.on_loop(subscribe) == 10000
    live.on_loop(publish)
    for name in names:
        assert client.read_message() == name
    assert live.on_loop(lambda: sorted(ws.subscriptions)) == sorted(names)
    live.on_loop(ws.close)
    assert live.on_loop(lambda: sum(live.server.subscriber_count(name) for name in names)) == 0


def test_longest_topic(room):
    topic = "x" * 65535
    live, pairs = room(1, topic)
    assert live.on_loop(live.server.publish, topic, "found") == 5
    assert pairs[0][0].read_message() == "found"


def test_published_from_outside_arrives_at_once(room):
    """T6: a publish outside any callback is delivered without waiting for other traffic or a timer."""
    live, pairs = room(2, "t")
    for client, _ in pairs:
        client.sock.settimeout(2)
    for i in range(20):
        live.server.publish("t", str(i))
        for client, _ in pairs:
            assert client.read_message() == str(i)


def test_flood_in_one_turn(room):
    """T7: a hundred thousand publishes in one turn (9 MB queued) arrive whole and in order."""
    live, pairs = room(2, "t", backpressure_limit=0)

    def flood():
        for i in range(100_000):
            live.server.publish("t", i.to_bytes(4, "big") * 23)

    live.on_loop(flood, timeout=30)
    for client, _ in pairs:
        for i in range(100_000):
            got = client.read_frame()
            assert got.opcode == BINARY
            assert got.payload == i.to_bytes(4, "big") * 23


def test_publish_before_run():
    """T6: sockets exist and the server's loop runs again after a break-off: publishes meanwhile are delivered."""
    sockets = []
    ended = []

    def message(ws, text):
        sockets.append(ws)
        ws.subscribe("t")
        raise KeyboardInterrupt

    server = uwserve.serve(
        port=0,
        hostname="127.0.0.1",
        fetch=lambda r, s: s.upgrade(r) and None,
        websocket={"message": message, "close": lambda ws, code, reason: ended.append(code)},
    )
    answers = []

    def talk():
        with Client(("127.0.0.1", server.port)) as client:
            client.send("go")
            answers.append(client.read_message())
            answers.append(client.read_message())
            client.send_close()
            client.read_close()
        server.stop()

    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        server.run()
    assert server.publish("t", "between") == 7
    assert sockets[0].send("runs") == 4
    server.run()
    thread.join()
    assert answers == ["between", "runs"]
    assert ended == [1000]
    sockets.clear()
