"""What ``send``, ``ping`` and ``pong`` answer is what becomes of the frame, in every state that a socket can be in."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from ws_client import PING, PONG, TEXT, Frame, eventually

pytestmark = pytest.mark.wss

KIB = 1024
LIMIT = 64 * KIB
END = Frame(TEXT, b"<end>")


def frames_until_end(client: Any, live: Any, ws: Any) -> list[Frame]:
    """All that it was sent, reading meanwhile, so that there is room for a last message."""
    frames: list[Frame] = []

    def finish() -> None:
        eventually(lambda: live.on_loop(ws.get_buffered_amount) == 0)
        live.on_loop(ws.send, "<end>")

    thread = threading.Thread(target=finish)
    thread.start()
    while (got := client.read_frame()) != END:
        frames.append(got)
    thread.join()
    return frames


@pytest.mark.parametrize("place", ["loop", "cork", "another's cork", "paused", "drain"])
@pytest.mark.parametrize("seed", [1, 2])
def test_to_a_peer_that_reads_now_and_then(serving, place, seed):
    """A length or -1 arrives, once and in order; 0 does not, and is counted."""
    chance = random.Random(seed)
    accepted: list[bytes] = []
    refused: list[int] = []

    def some(ws: Any) -> None:
        for _ in range(chance.choice((1, 5, 30))):
            number = len(accepted) + len(refused) + 1
            kind = chance.choice(("send", "send_text", "send_binary", "ping", "pong"))
            size = 20 if kind in ("ping", "pong") else chance.choice((8, 1000, 8000, 16 * KIB, 40_000, 70_000))
            data: Any = b"%08d" % number
            data = data.ljust(size, b"x")
            answer = getattr(ws, kind)(data.decode() if kind == "send_text" else data)
            assert answer in (0, -1, size), (kind, size, answer)
            if answer > 0:
                assert ws.buffered_amount == 0
            elif answer == -1:
                assert ws.buffered_amount > 0
            accepted.append(data) if answer else refused.append(number)

    live = serving(backpressure_limit=LIMIT, drain=some if place == "drain" else None)
    _, other = live.open("/other")
    client, ws = live.open(receive_buffer=4096)
    got: list[bytes] = []
    for _ in range(60):
        if place == "paused":
            live.on_loop(ws.pause)
        if "cork" in place:
            live.on_loop((ws if place == "cork" else other).cork, lambda _: some(ws))
        else:
            live.on_loop(some, ws)
        while chance.random() < 0.9 and live.on_loop(ws.get_buffered_amount):
            got.append(client.read_frame().payload)
    if place == "drain":
        live.on_loop(lambda: live.server.reload(websocket=live.recorded({"backpressure_limit": LIMIT})))
    got += [frame.payload for frame in frames_until_end(client, live, ws)]
    assert refused
    assert got == accepted
    assert live.on_loop(live.server.stats)["dropped_sends"] == len(refused)


def test_after_the_end(serving):
    """Inside ``close`` and after it, by either side: 0, and nothing is sent."""
    answers: list[Any] = []

    def ask(ws: Any) -> None:
        answers.append(
            [ws.send("x"), ws.send_text("x"), ws.send_binary(b"x"), ws.ping(b"x"), ws.pong(b"x"), ws.buffered_amount]
        )

    live = serving(close=lambda ws, *_: ask(ws))
    for end in ("close", "terminate", "peer"):
        client, ws = live.open()
        client.send_close() if end == "peer" else live.on_loop(getattr(ws, end))
        live.wait_for("close")
        live.on_loop(ask, ws)
        frames = client.read_to_end()
        assert [frame.opcode for frame in frames] == ([] if end == "terminate" else [8])
    assert answers == [[0] * 6] * 6


def test_about_to_be_closed(serving):
    """close_on_backpressure_limit has decided, and the end comes after this turn: whatever is asked, it is 0."""
    live = serving(backpressure_limit=LIMIT, close_on_backpressure_limit=True)
    _client, ws = live.open(receive_buffer=4096)
    other = live.open("/other")[1]

    def turn() -> list[int]:
        ws.subscribe("t")
        while ws.send(bytes(16_000)):
            pass
        return [
            ws.send("x"),
            ws.send(bytes(50_000)),
            ws.ping(b"x"),
            ws.pong(b"x"),
            other.publish("t", "x"),
            live.server.publish("t", bytes(20_000)),
        ]

    assert live.on_loop(turn) == [0] * 6
    assert live.expect_close()[0] == 1006


@pytest.mark.parametrize("kind", ["ping", "pong"])
def test_control_frames_behind_a_backlog(serving, kind):
    """They wait their turn like messages, and are refused like them."""
    live = serving(backpressure_limit=LIMIT)
    client, ws = live.open(receive_buffer=4096)

    def fill() -> list[int]:
        while ws.send(bytes(8000)):
            pass
        return [getattr(ws, kind)(b"%03d" % i) for i in range(3000)]

    answers = live.on_loop(fill)
    assert set(answers) == {0, -1}
    assert answers == sorted(answers)
    opcode = PING if kind == "ping" else PONG
    got = [frame.payload for frame in frames_until_end(client, live, ws) if frame.opcode == opcode]
    assert got == [b"%03d" % i for i, answer in enumerate(answers) if answer]


def test_a_ping_is_answered_however_much_waits(serving):
    """One message may be over the limit by itself. The peer's Pings are answered behind it, or it would give us up."""
    live = serving(backpressure_limit=LIMIT)
    client, ws = live.open(receive_buffer=4096)
    assert live.on_loop(ws.send, bytes(8 << 20)) == -1
    client.ping(b"are you there")
    live.wait_for("ping")
    assert len(client.read_message()) == 8 << 20
    assert client.read_frame() == Frame(PONG, b"are you there")


def test_answers_within_one_turn(serving):
    """Counts and truths change with the call, not at the end of the turn."""
    live = serving()
    _, ws = live.open()
    server = live.server

    def turn() -> list[Any]:
        return [
            server.subscriber_count("t"),
            ws.subscribe("t"),
            server.subscriber_count("t"),
            ws.subscribe("t"),
            server.subscriber_count("t"),
            ws.is_subscribed("t"),
            server.publish("t", "x"),
            ws.unsubscribe("t"),
            ws.unsubscribe("t"),
            server.subscriber_count("t"),
            server.publish("t", "y"),
            ws.subscribe("u"),
            ws.close(),
            server.subscriber_count("u"),
            ws.unsubscribe("u"),
            ws.is_subscribed("u"),
            ws.subscribe("u"),
            ws.subscriptions,
            server.publish("u", "z"),
            server.pending_websockets,
        ]

    assert live.on_loop(turn) == [
        *(0, True, 1, True, 1, True, 1, True, False, 0, 0),
        *(True, None, 0, False, False, False, [], 0, 0),
    ]
