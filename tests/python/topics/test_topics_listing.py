"""``server.topics()`` and ``server.subscribers(topic)``: what is told, when a topic begins and ends, and the bounds."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

import uwserve
from uwserve import _core

pytestmark = pytest.mark.wss


def topics(live: Any) -> dict[str, dict[str, int]]:
    return live.on_loop(live.server.topics)


def test_counts(room: Any) -> None:
    """Every topic with a subscriber, sorted; who subscribes and how often something was published, by whomever."""
    live, pairs = room(3, "b", "a/1")
    _, first = pairs[0]
    live.on_loop(first.subscribe, "größe €")

    def publish() -> None:
        for _ in range(4):
            live.server.publish("b", "x")
        first.publish("b", bytes(20_000))
        first.publish("größe €", "only the publisher subscribes")
        live.server.publish("nobody", "x")

    live.on_loop(publish)
    told = topics(live)
    assert told == {
        "a/1": {"subscribers": 3, "publishes": 0},
        "b": {"subscribers": 3, "publishes": 5},
        "größe €": {"subscribers": 1, "publishes": 1},
    }
    assert list(told) == ["a/1", "b", "größe €"]
    assert {name: live.on_loop(live.server.subscriber_count, name) for name in told} == {
        name: topic["subscribers"] for name, topic in told.items()
    }


def test_subscribers(room: Any) -> None:
    """The very handles, by id."""
    live, pairs = room(5, "t")
    sockets = [ws for _, ws in pairs]
    assert live.on_loop(live.server.subscribers, "t") == sockets
    assert [ws.id for ws in live.on_loop(live.server.subscribers, "t")] == [1, 2, 3, 4, 5]
    live.on_loop(sockets[1].unsubscribe, "t")
    live.on_loop(sockets[3].terminate)
    assert live.on_loop(live.server.subscribers, "t") == [sockets[0], sockets[2], sockets[4]]
    assert live.on_loop(live.server.subscribers, "nobody's") == []


def leave_by(live: Any, how: str, client: Any, ws: Any) -> None:
    if how == "unsubscribe":
        assert live.on_loop(ws.unsubscribe, "t")
        return
    if how == "close":
        live.on_loop(ws.close)
    elif how == "terminate":
        live.on_loop(ws.terminate)
    elif how == "peer":
        client.send_close(1000)
    elif how == "fin":
        client.close()
    elif how == "reset":
        client.reset()
    elif how == "violation":
        client.send("x", mask=None)
    live.wait_for("close")
    live.on_loop(lambda: None)


@pytest.mark.parametrize("how", ["unsubscribe", "close", "terminate", "peer", "fin", "reset", "violation"])
def test_a_topic_begins_again(room: Any, how: str) -> None:
    """It goes with its last subscriber, however that leaves, and its count with it; a new one begins at 0."""
    live, pairs = room(2, "t")
    other, other_ws = live.open("/other")
    live.on_loop(live.server.publish, "t", "x")
    assert topics(live) == {"t": {"subscribers": 2, "publishes": 1}}
    leave_by(live, how, *pairs[0])
    live.on_loop(live.server.publish, "t", "x")
    assert topics(live) == {"t": {"subscribers": 1, "publishes": 2}}, "it still has one"
    leave_by(live, how, *pairs[1])
    assert topics(live) == {}
    live.on_loop(live.server.publish, "t", "x")
    assert topics(live) == {}
    for name in ("t", "u", "v"):  # whichever takes the place of the old one in memory
        live.on_loop(other_ws.subscribe, name)
        assert topics(live)[name] == {"subscribers": 1, "publishes": 0}
    live.on_loop(live.server.publish, "t", "x")
    assert topics(live)["t"]["publishes"] == 1
    assert other is not None


def test_a_connection_has_the_topics_that_the_application_gives_it(room: Any) -> None:
    """None by what its client sends; those of the application as long as it lives."""
    live, [(client, ws)] = room(1)
    longest = "t" * 65_535
    client.send("a topic")
    client.send(b"a topic")
    client.ping(b"a topic")
    client.pong(b"a topic")
    live.wait_for("pong")
    assert topics(live) == {}
    live.on_loop(ws.subscribe, longest)
    with pytest.raises(ValueError, match="topic must not be over 65,535 bytes, got 65536"):
        live.on_loop(ws.subscribe, longest + "t")
    assert topics(live) == {longest: {"subscribers": 1, "publishes": 0}}
    client.reset()
    live.wait_for("close")
    assert topics(live) == {}


def test_inside_close_and_handlers(serving: Any) -> None:
    """In the close handler the socket is no subscriber any more; a list that is being read outlives what it lists."""
    seen: list[Any] = []
    live = serving(
        open=lambda ws: ws.subscribe("t"),
        close=lambda ws, code, reason: seen.append((ws.server.topics(), ws.server.subscribers("t"))),
    )
    pairs = [live.open() for _ in range(3)]

    def close_all() -> None:
        for ws in live.server.subscribers("t"):
            ws.close()

    live.on_loop(close_all)
    assert [(told.get("t", {}).get("subscribers", 0), len(handles)) for told, handles in seen] == [
        (2, 2),
        (1, 1),
        (0, 0),
    ]
    assert len(pairs) == 3


def test_finalisers_may_unsubscribe(room: Any) -> None:
    """Making the answer runs the collector, and that runs whatever it runs."""
    live, pairs = room(50, *(f"topic {i}" for i in range(20)))

    class Leaves:
        def __init__(self, ws: Any) -> None:
            self.ws, self.me = ws, self

        def __del__(self) -> None:
            self.ws.unsubscribe("topic 0")
            self.ws.terminate()

    def ask() -> None:
        for _, ws in pairs[:25]:
            Leaves(ws)
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(3):
                live.server.topics()
                live.server.subscribers("topic 0")
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert live.server.subscribers("topic 0") == [ws for _, ws in pairs[25:]]

    live.on_loop(ask)
    assert topics(live)["topic 1"] == {"subscribers": 25, "publishes": 0}


def test_other_threads_are_refused(room: Any) -> None:
    """By name of the call and of both threads."""
    live, _ = room(1, "t")
    for name, args in (("topics", ()), ("subscribers", ("t",))):
        with pytest.raises(RuntimeError, match=rf"Server\.{name} .*'uwserve' .*{threading.current_thread().name}"):
            getattr(live.server, name)(*args)


def test_names_are_checked(room: Any) -> None:
    live, _ = room(1, "t")
    for bad, error in ((1, TypeError), ("", ValueError), ("x" * 65536, ValueError), ("\ud800", UnicodeEncodeError)):
        with pytest.raises(error):
            live.on_loop(live.server.subscribers, bad)


def test_without_a_loop() -> None:
    """Before it runs and after its end there is nobody, and that is no error; a bare core, too."""
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x")
    for _ in range(2):
        assert server.topics() == {}
        assert server.subscribers("t") == []
        server.stop()
    assert _core.ServerCore().topics() == {}


def test_many_topics_do_not_slow_stats(room: Any) -> None:
    """100,000 topics: listed whole, gone whole; stats() does not walk them, so its time stays what it was."""
    live, [(_, ws)] = room(1)
    count = 100_000

    def fill() -> None:
        for i in range(count):
            ws.subscribe(f"topic {i}")
            if i % 2:
                live.server.publish(f"topic {i}", "x")

    live.on_loop(fill, timeout=60)
    told = live.on_loop(live.server.topics, timeout=60)
    assert len(told) == count
    assert sum(topic["publishes"] for topic in told.values()) == count // 2
    assert live.server.stats()["publishes"] == count // 2
    live.on_loop(ws.terminate, timeout=60)
    assert topics(live) == {}
