"""Publish and subscribe: who gets what, and what the calls return (docs/coming-from/bun.md; T4, T5)."""

from __future__ import annotations

import pytest
from ws_client import BINARY, TEXT

import uwserve

pytestmark = pytest.mark.wss


def test_subscribe_and_unsubscribe(serving):
    """Return values; topics are exact and case-sensitive."""
    live = serving()
    _, ws = live.open()

    def check():
        assert ws.subscriptions == []
        assert ws.subscribe("a") is True
        assert ws.subscribe("a") is True
        assert ws.subscribe("A") is True
        assert ws.subscribe("é/+#*") is True
        assert sorted(ws.subscriptions) == ["A", "a", "é/+#*"]
        assert ws.is_subscribed("a") is True
        assert ws.is_subscribed("+") is False
        assert ws.unsubscribe("b") is False
        assert ws.unsubscribe("a") is True
        assert ws.unsubscribe("a") is False
        assert ws.is_subscribed("a") is False
        assert ws.unsubscribe("A") is True
        assert ws.unsubscribe("é/+#*") is True
        assert ws.subscriptions == []

    for _ in range(2):
        live.on_loop(check)


@pytest.mark.parametrize("topic", ["", None, 5, b"t", "\ud800", "x" * 65536])
def test_bad_topics(serving, topic):
    """Every method that takes a topic names it in the error."""
    live = serving()
    _, ws = live.open()
    error = TypeError if not isinstance(topic, str) else ValueError
    calls = [
        lambda: ws.subscribe(topic),
        lambda: ws.unsubscribe(topic),
        lambda: ws.is_subscribed(topic),
        lambda: ws.publish(topic, "x"),
        lambda: ws.publish_text(topic, "x"),
        lambda: ws.publish_binary(topic, b"x"),
        lambda: live.server.publish(topic, "x"),
        lambda: live.server.subscriber_count(topic),
    ]
    for call in calls:
        with pytest.raises(error, match=r"topic|surrogate"):
            live.on_loop(call)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("publish", (), {}),
        ("publish", ("t",), {}),
        ("publish", ("t", 5), {}),
        ("publish", ("t", "x", 1), {}),
        ("publish", ("t", "x", True, 1), {}),
        ("publish", ("t", "x"), {"nonsense": 1}),
        ("publish", ("t", memoryview(bytes(9))[::2]), {}),
        ("publish_text", ("t", b"x"), {}),
        ("publish_binary", ("t", "x"), {}),
        ("subscribe", (), {}),
        ("subscribe", ("a", "b"), {}),
    ],
)
def test_bad_publish_arguments(serving, name, args, kwargs):
    live = serving()
    _, ws = live.open()
    with pytest.raises(TypeError):
        live.on_loop(lambda: getattr(ws, name)(*args, **kwargs))
    if name == "publish":
        with pytest.raises(TypeError):
            live.on_loop(lambda: live.server.publish(*args, **kwargs))


def test_publish_reaches_the_others(room):
    """Bytes of the payload are returned; the publisher itself gets nothing."""
    live, pairs = room(3, "t")
    a, ws = pairs[0]
    assert live.on_loop(ws.publish, "t", "héllo") == 6
    assert live.on_loop(ws.publish_text, "t", "text") == 4
    assert live.on_loop(ws.publish_binary, "t", b"\0\1") == 2
    assert live.on_loop(ws.publish, "t", bytearray(b"array")) == 5
    for client, _ in pairs[1:]:
        assert client.read_messages(4) == ["héllo", "text", b"\0\1", b"array"]
    assert live.messages_until_now(a, ws) == []


def test_publish_empty(room):
    """An empty message is delivered; its payload has 0 bytes."""
    live, pairs = room(2, "t")
    assert live.on_loop(pairs[0][1].publish, "t", "") == 0
    assert live.on_loop(live.server.publish, "t", b"") == 0
    assert pairs[1][0].read_messages(2) == ["", b""]


def test_publisher_need_not_subscribe(room):
    """T4: without any subscription, and with an unrelated one."""
    live, pairs = room(1, "t")
    _, ws = live.open()
    assert live.on_loop(ws.publish, "t", "1") == 1
    live.on_loop(ws.subscribe, "unrelated")
    assert live.on_loop(ws.publish, "t", "22") == 2
    assert live.on_loop(ws.publish, "nobody", "x") == 0
    assert pairs[0][0].read_messages(2) == ["1", "22"]


@pytest.mark.parametrize("size", [10, 16384, 100000])
@pytest.mark.parametrize("to_self", [False, True])
def test_publish_to_self(room, to_self, size):
    """With publish_to_self the publisher gets it too, if it is subscribed; alone and excluded it is 0."""
    live, pairs = room(2, "t", publish_to_self=to_self)
    (a, wa), (b, wb) = pairs
    data = b"x" * size
    assert live.on_loop(wa.publish, "t", data) == size
    assert b.read_message() == data
    live.on_loop(wb.unsubscribe, "t")
    assert live.on_loop(wa.publish, "t", data) == (size if to_self else 0)
    assert live.messages_until_now(a, wa) == ([data, data] if to_self else [])
    live.on_loop(wa.unsubscribe, "t")
    assert live.on_loop(wa.publish, "t", data) == 0
    assert live.messages_until_now(a, wa) == live.messages_until_now(b, wb) == []


def test_server_publish(room):
    """server.publish: 0 without subscribers, bytes otherwise; to everyone."""
    live, pairs = room(3, "t")
    assert live.on_loop(live.server.publish, "nobody", "x") == 0
    assert live.on_loop(live.server.publish, "t", "é") == 2
    assert live.on_loop(lambda: live.server.publish(topic="t", data=b"b", compress=False)) == 1
    for client, _ in pairs:
        assert client.read_messages(2) == ["é", b"b"]


def test_before_any_socket():
    """T5: publish and subscriber_count before there ever was a socket, and before the server runs."""
    with uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x") as server:
        assert server.publish("t", "x") == 0
        assert server.subscriber_count("t") == 0
        server.start()


def test_counts(room):
    """subscriber_count follows subscribe, unsubscribe, close, terminate and a peer's end, at once."""
    live, pairs = room(4, "t", "u")
    sockets = [ws for _, ws in pairs]

    def check():
        count = live.server.subscriber_count
        assert (count("t"), count("u"), count("v")) == (4, 4, 0)
        sockets[0].subscribe("t")
        assert count("t") == 4
        sockets[0].unsubscribe("t")
        assert (count("t"), count("u")) == (3, 4)
        sockets[1].close()
        assert (count("t"), count("u")) == (2, 3)
        sockets[2].terminate()
        assert (count("t"), count("u")) == (1, 2)

    live.on_loop(check)
    pairs[3][0].send_close()
    live.wait_for("close")
    live.wait_for("close")
    live.wait_for("close")
    assert live.on_loop(live.server.subscriber_count, "t") == 0
    assert live.on_loop(live.server.subscriber_count, "u") == 1


def test_text_stays_text(room):
    """Kinds are kept through topics, also large."""
    live, pairs = room(1, "t")
    live.on_loop(live.server.publish, "t", "é" * 20000)
    live.on_loop(live.server.publish, "t", b"b" * 40000)
    frames = [pairs[0][0].read_frame() for _ in range(2)]
    assert [f.opcode for f in frames] == [TEXT, BINARY]
