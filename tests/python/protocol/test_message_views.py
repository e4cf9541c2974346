"""Views of messages that share one read with others: what is kept, dropped or released between the frames of a segment.

A slice that is kept takes the receive buffer over while the parser is still in it. So these send everything in one
piece and act on one message's view while later messages of the same read are handled.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from ws_client import BINARY, CONT, TEXT, frame

pytestmark = pytest.mark.wss

LARGE = 20_000


def fill(i: int, size: int = LARGE) -> bytes:
    return bytes([i]) * size


@pytest.fixture
def acting(serving):
    """``acting(*acts)``: the n-th message of a connection goes to the n-th act, with the socket; all are echoed."""

    def make(*acts: Any):
        def opened(ws):
            ws.binary_type = "memoryview"
            ws.data = iter(acts)

        def message(ws, data):
            act = next(ws.data, None)
            if act is not None:
                act(ws, data)
            ws.send(bytes(data) if not isinstance(data, str) else data)

        return serving(open=opened, message=message)

    return make


@pytest.mark.parametrize("second", ["text", "small", "large", "ping"])
def test_kept_and_dropped_in_one_read(acting, second):
    """A slice is kept by one handler and dropped by the next, while the parser still works on the memory."""
    kept: list[Any] = []
    live = acting(lambda ws, view: kept.append(view[10:20]), lambda ws, view: kept.clear())
    middle = {
        "text": frame(TEXT, "t"),
        "small": frame(BINARY, b"s"),
        "large": frame(BINARY, fill(7)),
        "ping": frame(9, b"p") + frame(TEXT, "t"),
    }[second]
    expected: list[str | bytes] = [fill(1), {"small": b"s", "large": fill(7)}.get(second, "t")]
    tail = [fill(i, size) for i, size in enumerate((10, LARGE, 5, 100_000, 70_000), 20)]
    for _ in range(20):
        client = live.connect()
        client.send_raw(frame(BINARY, fill(1)) + middle + b"".join(frame(BINARY, data) for data in tail))
        got = []
        while len(got) < len(expected) + len(tail):
            read = client.read_frame()
            if read.opcode != 10:
                got.append(read.payload.decode() if read.opcode == TEXT else read.payload)
        assert got == expected + tail
        assert not kept
        client.close()
        live.wait_for("close")


def test_each_of_many_kept(acting):
    """Every message of a read is kept, in order and beside the ones that follow it."""
    kept: list[Any] = []
    count = 30
    live = acting(*[lambda ws, view: kept.append(view[1:])] * count)
    client = live.connect()
    sent = [fill(i, LARGE + i) for i in range(count)]
    client.send_raw(b"".join(frame(BINARY, data) for data in sent))
    assert client.read_messages(count) == sent
    assert [bytes(view) for view in kept] == [data[1:] for data in sent]
    kept.clear()


@pytest.mark.parametrize("ending", ["close", "terminate", "stop"])
def test_dropped_while_the_connection_ends(acting, ending):
    """The handler that drops the kept slice also ends the connection, with more frames behind it."""
    kept: list[Any] = []

    def end(ws, view):
        kept.clear()
        live.server.stop(True) if ending == "stop" else getattr(ws, ending)()

    live = acting(lambda ws, view: kept.append(view[:]), end)
    client = live.connect()
    client.send_raw(b"".join(frame(BINARY, fill(i)) for i in range(5)))
    live.wait_for("close")
    assert not kept
    client.close()


@pytest.mark.parametrize("fragmented", [False, True])
def test_with_statement(acting, fragmented):
    """``with view:`` releases it, whatever its size and wherever it lies."""
    seen: list[bytes] = []

    def use(ws, view):
        with view:
            seen.append(bytes(view))

    sizes = (10, LARGE, 400_000)

    def message(ws, data):
        use(ws, data)
        ws.send("done")

    live = acting()
    live.server.reload(
        websocket=live.recorded({"open": lambda ws: setattr(ws, "binary_type", "memoryview"), "message": message})
    )
    client = live.connect()
    for size in sizes:
        data = fill(3, size)
        half = size // 2
        parts = (
            [frame(BINARY, data[:half], fin=False), frame(CONT, data[half:])] if fragmented else [frame(BINARY, data)]
        )
        client.send_raw(b"".join(parts))
        assert client.read_message() == "done"
    assert seen == [fill(3, size) for size in sizes]


@pytest.mark.parametrize("fragmented", [False, True])
def test_owner_outlives_the_handler(acting, fragmented):
    """view.obj may be kept, but it gives no access to memory that is no longer the message's."""
    owners: list[Any] = []
    live = acting(lambda ws, view: owners.append(view.obj))
    client = live.connect()
    data = fill(5, 2 * LARGE)
    parts = [frame(BINARY, data[:LARGE], fin=False), frame(CONT, data[LARGE:])] if fragmented else [frame(BINARY, data)]
    client.send_raw(b"".join(parts))
    assert client.read_message() == data
    client.send_raw(frame(BINARY, fill(6, 2 * LARGE)))
    assert client.read_message() == fill(6, 2 * LARGE)
    client.close()
    live.wait_for("close")
    try:
        content = bytes(memoryview(owners[0]))
    except (BufferError, ValueError):
        content = data
    assert content == data
    owners.clear()
    gc.collect()
