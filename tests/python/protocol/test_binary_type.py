"""binary_type and the lifetime of what the message handler is given (L11, rule 7)."""

from __future__ import annotations

import array
import gc
import os

import pytest
from ws_client import BINARY, CONT, TEXT, eventually, frame

pytestmark = pytest.mark.wss

SIZES = [0, 1, 125, 126, 5000, 16383, 16384, 16385, 70000, 400_000, 3_000_000]
TYPES = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}


@pytest.fixture
def taking(serving):
    """``taking(binary_type, take)``: a server that applies ``take`` to each binary message inside the handler."""

    def make(binary_type, take, **options):
        def message(ws, data):
            if not isinstance(data, str):
                live.taken.append(take(data))

        def opened(ws):
            ws.binary_type = binary_type

        live = serving(open=opened, message=message, **options)
        live.taken = []
        return live

    return make


def deliver(live, client, *frames: bytes) -> None:
    """Send, and wait until the handler has run."""
    client.send_raw(b"".join(frames))
    client.round_trip()
    live.events.queue.clear()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("bytes", "bytes"),
        ("bytearray", "bytearray"),
        ("memoryview", "memoryview"),
        ("nodebuffer", "bytes"),
        ("uint8array", "bytearray"),
        ("arraybuffer", "memoryview"),
    ],
)
def test_types(taking, given, name):
    """Ours and Bun's names; the canonical one is read back; text is str whatever the type."""
    live = taking(given, lambda data: (type(data), bytes(data)))
    client, ws = live.open()
    assert ws.binary_type == ws.binaryType == name
    for size in SIZES:
        data = os.urandom(size)
        deliver(live, client, frame(BINARY, data))
        assert live.taken.pop() == (TYPES[name], data), size
    client.send("text")
    assert live.wait_for("message")[1] == "text"


@pytest.mark.parametrize("value", ["", "Bytes", "blob", 5, None, b"bytes"])
def test_bad_values(serving, value):
    live = serving()
    _, ws = live.open()
    error = ValueError if isinstance(value, str) else TypeError
    with pytest.raises(error, match="binary_type"):
        ws.binary_type = value
    with pytest.raises(TypeError, match="binary_type"):
        del ws.binary_type
    assert ws.binary_type == "bytes"


def test_changes_at_the_next_message(serving):
    """Set inside a handler, it counts from the next message on, also in the same segment."""
    types = []

    def message(ws, data):
        types.append(type(data))
        ws.binary_type = "bytearray" if type(data) is bytes else "bytes"

    live = serving(message=message)
    client = live.connect()
    deliver(live, client, *[frame(BINARY, b"x")] * 4)
    assert types == [bytes, bytearray, bytes, bytearray]


def test_bytes_are_yours(taking):
    """bytes and bytearray may be kept for ever; a bytearray may be changed."""
    for kind in ("bytes", "bytearray"):
        live = taking(kind, lambda data: data)
        client = live.connect()
        sent = [os.urandom(size) for size in SIZES]
        for data in sent:
            deliver(live, client, frame(BINARY, data))
        assert live.taken == sent
        if kind == "bytearray":
            for data in live.taken:
                data += b"more"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fragments", [1, 5])
def test_view_is_released(taking, size, fragments):
    """A memoryview kept past the handler raises ValueError: every use."""
    live = taking("memoryview", lambda view: (view, view.readonly, view.format, view.nbytes))
    client = live.connect()
    step = size // fragments + 1
    parts = [b"x" * step] * (size // step) + [b"x" * (size % step)]
    frames = [frame(BINARY if i == 0 else CONT, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)]
    deliver(live, client, *frames)
    view, readonly, kind, nbytes = live.taken.pop()
    assert (readonly, kind, nbytes) == (True, "B", size)
    for use in (lambda: view[:1], lambda: bytes(view), view.tobytes, lambda: len(view), lambda: memoryview(view)):
        with pytest.raises(ValueError, match="released"):
            use()


def test_view_cannot_be_written(taking):
    def write(view):
        with pytest.raises(TypeError):
            view[0] = 1
        return bytes(view)

    live = taking("memoryview", write)
    client = live.connect()
    for size in (10, 100_000):
        deliver(live, client, frame(BINARY, b"y" * size))
        assert live.taken.pop() == b"y" * size


def halves(view):
    return view[: len(view) // 2], view[len(view) // 2 :]


def of_bytes(part):
    return bytes(part)


TAKES = {
    "slices": (halves, lambda kept: b"".join(map(bytes, kept))),
    "cast": (lambda view: view.cast("B", (view.nbytes,)), bytes),
    "second view": (memoryview, bytes),
    "reversed slice": (lambda view: view[::-1], lambda kept: bytes(kept)[::-1]),
    "slice of slice": (lambda view: memoryview(view[1:])[1:], lambda kept: b"zz" + bytes(kept)),
}


@pytest.mark.parametrize("size", [100, 20_000, 300_000, 3_000_000])
@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("take", list(TAKES))
def test_exports_survive(taking, size, fragments, take):
    """L11: slices and other exports that survive the handler keep the message's content, whatever follows."""
    keep, content = TAKES[take]
    live = taking("memoryview", lambda view: keep(view) if view[0] == b"z"[0] else bytes(view))
    client = live.connect()
    sent = []
    for i in range(4):
        data = b"zz" + os.urandom(size - 2)
        sent.append(data)
        if fragments:
            third = size // 3
            deliver(
                live,
                client,
                frame(BINARY, data[:third], fin=False),
                frame(CONT, data[third : 2 * third], fin=False),
                frame(CONT, data[2 * third :]),
            )
        else:
            deliver(live, client, frame(BINARY, data))
        # Thousands of further messages through the same buffers, on this connection and another.
        noise = b"".join(frame(BINARY, bytes([i]) * n) for n in (10, 5000, 20000, 60000) * 10)
        deliver(live, client, noise)
        other = live.connect()
        deliver(live, other, frame(BINARY, b"\xee" * 500_000))
        other.close()
    kept = [t for t in live.taken if not isinstance(t, bytes)]
    noise_seen = [t for t in live.taken if isinstance(t, bytes)]
    assert len(kept) == 4
    assert [content(k) for k in kept] == sent
    assert len(noise_seen) == 4 * 41
    assert all(len(set(t)) == 1 for t in noise_seen), "and what followed was intact"
    client.close()
    live.wait_for("close")
    assert [content(k) for k in kept] == sent
    del kept
    live.taken.clear()
    gc.collect()


def test_exports_survive_thousands_of_messages(taking):
    """The same with 5,000 messages behind one kept slice."""
    live = taking("memoryview", lambda view: view[:] if view[0] == 1 else None)
    client = live.connect()
    data = b"\1" + os.urandom(100_000)
    deliver(live, client, frame(BINARY, data))
    for _ in range(50):
        deliver(live, client, frame(BINARY, b"\2" * 3000) * 100)
    assert bytes(live.taken[0]) == data


@pytest.mark.parametrize("size", [100, 300_000])
def test_exports_survive_the_server(taking, size):
    """Kept slices stay valid after the connection and the server are gone."""
    live = taking("memoryview", lambda view: view[1:])
    client = live.connect()
    data = os.urandom(size)
    deliver(live, client, frame(BINARY, data))
    deliver(live, client, frame(BINARY, data[: size // 2], fin=False), frame(CONT, data[size // 2 :]))
    live.stop()
    gc.collect()
    assert [bytes(view) for view in live.taken] == [data[1:]] * 2


@pytest.mark.parametrize("size", [100, 300_000])
@pytest.mark.parametrize("how", ["close", "terminate", "stop"])
def test_view_while_the_socket_closes(taking, size, how):
    """L11: the view stays good to the end of the handler that closes its socket, and the slice beyond it."""

    def take(view):
        ws = sockets[-1]
        kept = view[:]
        if how == "stop":
            live.server.stop(True)
        else:
            getattr(ws, how)()
        return kept, bytes(view)

    live = taking("memoryview", take)
    client, ws = live.open()
    sockets = [ws]
    data = os.urandom(size)
    client.send(data)
    assert live.wait_for("close")
    eventually(lambda: live.taken, "the handler's end")
    client.close()
    if how != "stop":
        live.on_loop(lambda: None)
    kept, seen = live.taken[0]
    assert bytes(kept) == seen == data
    sockets.clear()


def test_sending_the_view_back(taking):
    """The usual use: a view goes straight into send, publish, an array and a slice assignment."""
    target = bytearray(200_000)

    def take(view):
        ws = sockets[0]
        ws.send(view)
        ws.send(view[1:-1])
        target[: len(view)] = view
        return array.array("B", view)

    live = taking("memoryview", take)
    client, ws = live.open()
    sockets = [ws]
    for size in (10, 150_000):
        data = os.urandom(size)
        client.send(data)
        assert client.read_message() == data
        assert client.read_message() == data[1:-1]
        assert target[:size] == data
    client.send_raw(frame(TEXT, "x"))
    live.wait_for("message")
    sockets.clear()


def test_view_released_by_the_handler(taking):
    """The handler may release the view itself."""
    live = taking("memoryview", lambda view: view.release())
    client = live.connect()
    for size in (10, 100_000):
        deliver(live, client, frame(BINARY, bytes(size)))
    assert live.taken == [None, None]
    client.round_trip()


def test_handler_raises_with_the_view(taking, logged):
    """A handler that raises: the traceback may hold the view, which is released all the same."""
    views = []

    def take(view):
        views.append(view)
        raise ValueError("with view")

    live = taking("memoryview", take)
    client = live.connect()
    for size in (10, 100_000):
        deliver(live, client, frame(BINARY, bytes(size)))
    for view in views:
        with pytest.raises(ValueError, match="released"):
            bytes(view)
    assert len(logged) == 2
