"""``terminate()``: what was accepted before still arrives, no Close frame does, and the handler sees 1006 at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ws_client import ConnectionEnded, eventually

pytestmark = pytest.mark.wss

SIZES = (3, 200, 5000, 16 * 1024, 70_000)


def words_to(ws: Any) -> list[Any]:
    """Send and publish to it; what was accepted, in order."""
    accepted: list[Any] = []
    for i, size in enumerate(SIZES):
        text, data = f"{i}" * size, bytes([i]) * size
        accepted += [text] if ws.send(text) else []
        accepted += [data] if ws.server.publish("t", data) else []
        accepted += [b"last"] if ws.send_binary(b"last") else []
    assert len(accepted) == 3 * len(SIZES)
    return accepted


def arrives(client: Any, accepted: list[Any]) -> None:
    assert client.read_messages(len(accepted)) == accepted
    client.expect_end()


@pytest.mark.parametrize("place", ["open", "message", "ping", "pong", "cork", "another's cork", "outside"])
def test_what_was_accepted_arrives(serving, transport, place):
    """Inside each handler, corked or not, and outside of them."""
    accepted: list[Any] = []

    def end(ws: Any, *_: Any) -> None:
        ws.subscribe("t")
        accepted.extend(words_to(ws))
        ws.terminate()
        assert ws.ready_state == 3
        assert ws.send("late") == 0

    only = {place: end} if place in ("open", "message", "ping", "pong") else {}
    live = serving(**only, **transport)
    other = live.open("/other")[1] if place == "another's cork" else None
    client = live.connect()
    ws = live.expect("open")[0]
    if place == "message":
        client.send("go")
    elif place in ("ping", "pong"):
        getattr(client, place)(b"go")
    elif place == "cork":
        live.on_loop(ws.cork, end)
    elif place == "another's cork":
        live.on_loop(other.cork, lambda _: end(ws))
    elif place == "outside":
        live.on_loop(end, ws)
    assert live.wait_for("close")[1:] == (1006, "")
    if place == "ping":
        assert client.read_frame().payload == b"go"
    arrives(client, accepted)


def test_in_a_later_upgrade(serving):
    """``open`` ends it while a coroutine's upgrade() is on the stack: the 101 arrives, and what was sent."""
    accepted: list[Any] = []

    async def fetch(request: Any, server: Any) -> None:
        assert server.upgrade(request)

    def opened(ws: Any) -> None:
        ws.subscribe("t")
        accepted.extend(words_to(ws))
        ws.terminate()

    live = serving(fetch=fetch, open=opened)
    client = live.connect()
    assert live.wait_for("close")[1:] == (1006, "")
    arrives(client, accepted)


def test_from_another_thread(serving):
    """In order behind what that thread has sent."""
    live = serving()
    client, ws = live.open()

    def work() -> None:
        for i in range(50):
            assert ws.send(f"{i}") > 0
        ws.terminate()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    arrives(client, [f"{i}" for i in range(50)])
    assert live.wait_for("close")[1:] == (1006, "")


def test_while_its_input_is_unread(serving, transport):
    """What the kernel has taken arrives although not all that the peer sent was read: no reset overtakes it."""
    live = serving(**transport)
    client, ws = live.open(receive_buffer=4096)
    live.on_loop(ws.pause)
    client.send(bytes(20_000))
    sent = live.on_loop(lambda: [ws.send(bytes(8000)) for _ in range(8)])
    assert sent == [8000] * 8
    live.on_loop(ws.terminate)
    assert live.expect_close() == (1006, "")
    arrives(client, [bytes(8000)] * 8)


def test_a_backlog_is_tried_once_more(serving):
    """The peer has read meanwhile: what it made room for goes, in whole or in part, and never anything out of order."""
    live = serving(backpressure_limit=0)
    client, ws = live.open(receive_buffer=4096)
    sent = live.on_loop(lambda: [ws.send(i.to_bytes(4, "big") * 16_384) for i in range(200)])
    assert sent[-1] == -1
    before = live.on_loop(ws.get_buffered_amount)

    def end() -> None:
        # Out of the loop's sight: nothing but terminate() sees that there is room now.
        while len(client.buffer) < 2 << 20:
            client.fill()
        ws.terminate()

    live.on_loop(end)
    assert live.wait_for("close")[1:] == (1006, "")
    numbers = []
    try:
        while len(numbers) < 200:
            numbers.append(int.from_bytes(client.read_message()[:4], "big"))
    except ConnectionEnded:
        pass
    assert numbers == list(range(len(numbers)))
    assert len(numbers) * 65_546 + len(client.buffer) > 200 * 65_546 - before


def test_a_peer_that_does_not_read(serving, transport):
    """It returns at once with what the kernel does not take lost, and leaves nothing behind."""
    live = serving(backpressure_limit=0, **transport)
    client, ws = live.open(receive_buffer=4096)

    def end() -> tuple[int, Any]:
        while ws.buffered_amount < 1 << 20:
            ws.send(bytes(65_536))
        ws.terminate()
        return ws.buffered_amount, ws.ready_state

    assert live.on_loop(end) == (0, 3)
    assert live.wait_for("close")[1:] == (1006, "")
    eventually(lambda: live.on_loop(live.server.stats)["buffered_bytes"] == 0)
    client.close()
