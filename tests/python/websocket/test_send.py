"""send, send_text, send_binary, ping, pong: every return value, every type, every size (S1, S2, S10, S11, S15)."""

from __future__ import annotations

import array
import hashlib
import os
import queue
import random
import threading

import pytest
from ws_client import BINARY, CONT, PING, PONG, TEXT, Frame, frame

pytestmark = pytest.mark.wss

MIB = 1 << 20


@pytest.fixture
def pair(serving):
    """An open connection: ``client, ws, call`` where ``call(fn, *args)`` runs on the loop's thread."""
    live = serving()
    client, ws = live.open()
    return client, ws, live.on_loop


@pytest.mark.parametrize(
    ("name", "data", "wire"),
    [
        ("send", "text", Frame(TEXT, b"text")),
        ("send", "é€😀", Frame(TEXT, "é€😀".encode())),
        ("send", "nul\0", Frame(TEXT, b"nul\0")),
        ("send", b"bytes", Frame(BINARY, b"bytes")),
        ("send", bytearray(b"array"), Frame(BINARY, b"array")),
        ("send", memoryview(b"0123456789")[2:5], Frame(BINARY, b"234")),
        ("send", array.array("H", [1, 2, 3]), Frame(BINARY, array.array("H", [1, 2, 3]).tobytes())),
        ("send", memoryview(array.array("d", [0.5] * 4)), Frame(BINARY, array.array("d", [0.5] * 4).tobytes())),
        ("send", memoryview(bytes(12)).cast("B", (3, 4)), Frame(BINARY, bytes(12))),
        ("send_text", "text", Frame(TEXT, b"text")),
        ("send_binary", b"bytes", Frame(BINARY, b"bytes")),
        ("send_binary", memoryview(b"view"), Frame(BINARY, b"view")),
        ("ping", b"ping", Frame(PING, b"ping")),
        ("ping", "ping", Frame(PING, b"ping")),
        ("ping", b"p" * 125, Frame(PING, b"p" * 125)),
        ("pong", bytearray(b"pong"), Frame(PONG, b"pong")),
        ("pong", b"p" * 125, Frame(PONG, b"p" * 125)),
    ],
)
def test_types(pair, name, data, wire):
    """The number of payload bytes is returned, and exactly they arrive."""
    client, ws, call = pair
    assert call(getattr(ws, name), data) == len(wire.payload)
    assert client.read_frame() == wire


@pytest.mark.parametrize(
    ("name", "data", "opcode"),
    [
        ("send", "", TEXT),
        ("send", b"", BINARY),
        ("send", bytearray(), BINARY),
        ("send_text", "", TEXT),
        ("send_binary", b"", BINARY),
        ("ping", b"", PING),
        ("pong", b"", PONG),
    ],
)
def test_empty_is_sent_and_returns_0(pair, name, data, opcode):
    client, ws, call = pair
    assert call(getattr(ws, name), data) == 0
    assert client.read_frame() == Frame(opcode, b"")


def test_ping_and_pong_without_argument(pair):
    client, ws, call = pair
    assert call(ws.ping) == 0
    assert call(ws.pong) == 0
    assert [client.read_frame().opcode for _ in range(2)] == [PING, PONG]


class Str(str):
    """A subclass is a str too."""


def test_subclasses(pair):
    client, ws, call = pair
    assert call(ws.send, Str("sub")) == 3
    assert call(ws.send_text, Str("sub")) == 3
    assert call(ws.send, type("B", (bytes,), {})(b"sub")) == 3
    assert client.read_messages(3) == ["sub", "sub", b"sub"]


NOT_CONTIGUOUS = memoryview(bytes(100))[::2]


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "error", "names"),
    [
        ("send", (), {}, TypeError, "data"),
        ("send", ("a", True, 1), {}, TypeError, "send"),
        ("send", ("a",), {"nonsense": 1}, TypeError, "nonsense"),
        ("send", ("a",), {"data": "b"}, TypeError, "data"),
        ("send", ("a", 1), {}, TypeError, "compress"),
        ("send", ("a",), {"compress": None}, TypeError, "compress"),
        ("send", (None,), {}, TypeError, "data"),
        ("send", (5,), {}, TypeError, "data"),
        ("send", (1.5,), {}, TypeError, "data"),
        ("send", (["a"],), {}, TypeError, "data"),
        ("send", (object(),), {}, TypeError, "data"),
        ("send", (NOT_CONTIGUOUS,), {}, TypeError, "contiguous"),
        ("send", ("\ud800",), {}, UnicodeEncodeError, "surrogate"),
        ("send_text", (b"x",), {}, TypeError, "str"),
        ("send_text", (bytearray(b"x"),), {}, TypeError, "str"),
        ("send_text", ("\udfff",), {}, UnicodeEncodeError, "surrogate"),
        ("send_binary", ("x",), {}, TypeError, "bytes"),
        ("send_binary", (NOT_CONTIGUOUS,), {}, TypeError, "contiguous"),
        ("send_binary", (5,), {}, TypeError, "bytes"),
        ("ping", (5,), {}, TypeError, "data"),
        ("ping", (b"p" * 126,), {}, ValueError, "125"),
        ("ping", ("é" * 63,), {}, ValueError, "125"),
        ("ping", (b"", True), {}, TypeError, "ping"),
        ("pong", (None,), {}, TypeError, "data"),
        ("pong", (b"p" * 126,), {}, ValueError, "125"),
        ("pong", (NOT_CONTIGUOUS,), {}, TypeError, "contiguous"),
    ],
)
def test_bad_arguments(pair, name, args, kwargs, error, names):
    """S15: the error says which argument, on an open and on a closed socket; nothing is sent."""
    client, ws, call = pair
    with pytest.raises(error, match=names):
        call(lambda: getattr(ws, name)(*args, **kwargs))
    client.round_trip()
    client.expect_silence()
    call(ws.close)
    with pytest.raises(error, match=names):
        call(lambda: getattr(ws, name)(*args, **kwargs))


@pytest.mark.parametrize("compress", [False, True])
def test_compress_is_accepted_without_compression(pair, compress):
    """Compression was not negotiated, so nothing is compressed (RSV1 stays 0)."""
    client, ws, call = pair
    text = "a" * 1000
    assert call(lambda: ws.send(text, compress)) == 1000
    assert call(lambda: ws.send(data=text, compress=compress)) == 1000
    assert call(lambda: ws.send_text(text, compress=compress)) == 1000
    assert call(lambda: ws.send_binary(b"b", compress=compress)) == 1
    assert client.read_messages(4) == [text, text, text, b"b"]


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 262144])
@pytest.mark.parametrize("kind", [str, bytes])
def test_echo_of_every_length_form(echo, size, kind):
    """The three length forms at their borders, both ways."""
    client = echo.connect()
    message = os.urandom(size // 2 + 1).hex()[:size]
    data = message if kind is str else message.encode()
    client.send(data)
    assert client.read_message() == data


def test_sent_object_may_change_afterwards(pair):
    """send() has copied when it returns: a bytearray can be changed or resized at once."""
    client, ws, call = pair

    def send():
        data = bytearray(b"a" * 5000)
        for size in (5000, 300000):
            data[:] = b"a" * size
            ws.send(data)
            data[:] = b"b" * size
            data.clear()

    call(send)
    assert client.read_messages(2) == [b"a" * 5000, b"a" * 300000]


def test_every_size_from_every_context(serving):
    """S1, S2: sizes around the cork buffer and upstream's 16 KiB path, corked in a handler and uncorked outside."""
    sizes = [*range(16360, 16400, 7), 16383, 16384, 16385, 32768, 100000, 5, 0, 70000, 3]

    def burst(ws):
        for size in sizes:
            assert ws.send(b"\xaa" * size) in (size, -1)

    live = serving(message=lambda ws, message: burst(ws))
    client, ws = live.open()
    client.send("go")
    assert [len(m) for m in client.read_messages(len(sizes))] == sizes
    live.on_loop(burst, ws)
    assert [len(m) for m in client.read_messages(len(sizes))] == sizes
    live.on_loop(ws.cork, burst)
    assert [len(m) for m in client.read_messages(len(sizes))] == sizes


@pytest.mark.parametrize("subscribed", [False, True])
def test_large_to_a_full_socket(serving, transport, subscribed):
    """S1: a large message to a socket whose kernel buffer is (nearly) full arrives whole, as does what follows."""
    live = serving(**transport)
    client, ws = live.open(receive_buffer=8192)
    rng = random.Random(1)

    def fill():
        if subscribed:
            ws.subscribe("t")
        sizes = []
        # With one byte more or less each time, the kernel's room ends at any offset of a frame's header.
        while len(sizes) < 400:
            sizes.append(rng.choice([1, 2, 3, 130, 16384, 16385, 20000]))
            ws.send(bytes([len(sizes) & 255]) * sizes[-1])
        return sizes

    sizes = live.on_loop(fill)
    for i, size in enumerate(sizes, 1):
        assert client.read_message() == bytes([i & 255]) * size, i


def test_backpressure_returns_minus_one_and_zero_at_the_limit(serving, transport):
    """Bytes while the kernel takes them, -1 when queued, 0 over the limit; nothing accepted is lost (S11)."""
    live = serving(backpressure_limit=1 * MIB, **transport)
    client, ws = live.open(receive_buffer=8192)

    def fill():
        results = []
        for i in range(2000):
            results.append(ws.send(i.to_bytes(4, "big") * 4096))
            if results[-1] == 0:
                return results
            assert ws.buffered_amount <= 1 * MIB
        raise AssertionError("never dropped")

    results = live.on_loop(fill)
    accepted = len(results) - 1
    assert set(results) == {16384, -1, 0}
    assert results == sorted(results, key=[16384, -1, 0].index), "in this order"
    for i in range(accepted):
        assert client.read_message() == i.to_bytes(4, "big") * 4096
    live.wait_for("drain")
    assert live.on_loop(ws.send, "after") == 5
    assert client.read_message() == "after"


def test_small_after_drop(serving):
    """What still fits under the limit is taken after a larger one was dropped."""
    live = serving(backpressure_limit=MIB)
    client, ws = live.open(receive_buffer=8192)

    def fill():
        while ws.send(b"x" * 65536) != 0:
            pass
        room = MIB - ws.buffered_amount
        assert ws.send(b"y" * (room + 1)) == 0
        assert ws.send(b"y" * (room - 20)) == -1
        assert ws.ping(b"p" * 50) == 0
        return ws.buffered_amount

    assert live.on_loop(fill) <= MIB + 2
    while (message := client.read_message())[0] == b"x"[0]:
        pass
    assert set(message) == {b"y"[0]}


def test_any_one_message_to_an_idle_socket(serving):
    """A single message larger than the limit is taken by a socket without backlog (as in Bun), and arrives."""
    live = serving(backpressure_limit=1000)
    client, ws = live.open(receive_buffer=8192)
    assert live.on_loop(ws.send, b"x" * (8 * MIB)) == -1
    assert live.on_loop(ws.send, b"y") == 0
    assert client.read_message() == b"x" * (8 * MIB)
    live.wait_for("drain")
    assert live.on_loop(ws.send, b"z") == 1
    assert client.read_message() == b"z"


def test_8_mb_both_ways(serving, transport):
    """8 MB in, 8 MB out, text and binary: identical."""
    live = serving(message=lambda ws, message: ws.send(message), **transport)
    client = live.connect()
    data = os.urandom(8 * MIB)
    text = ("é" + "x" * 1022) * 8192
    for message in (data, text):
        sender = threading.Thread(target=client.send, args=(message,))
        sender.start()
        assert client.read_message() == message
        sender.join()


def test_2048_messages_with_refill_in_drain(serving, transport):
    """2,048 x 4 KB, refilled in drain: identical, in order, and the backlog stays where the first -1 left it."""
    pending = [random.Random(i).randbytes(4096) for i in range(2048)]
    expected = hashlib.sha256(b"".join(pending)).digest()
    backlog: list[int] = []
    pending.reverse()

    def refill(ws):
        while pending:
            if ws.send(pending.pop()) == -1:
                backlog.append(ws.buffered_amount)
                return

    live = serving(message=lambda ws, message: refill(ws), drain=refill, **transport)
    client = live.connect(receive_buffer=16384)
    client.send("go")
    got = hashlib.sha256()
    for _ in range(2048):
        got.update(client.read_message())
    assert got.digest() == expected
    assert backlog
    assert max(backlog) <= 64 * 1024


def test_fragmented_input(echo):
    """A message in any number of fragments, with control frames between, is one message (P7)."""
    client = echo.connect()
    client.send_raw(frame(TEXT, "a", fin=False) + frame(CONT, "", fin=False) + frame(CONT, "b", fin=True))
    assert client.read_message() == "ab"
    data = os.urandom(200000)
    client.send_raw(frame(BINARY, data[:1], fin=False))
    for i in range(1, 99991, 9999):
        client.send_raw(frame(CONT, data[i : i + 9999], fin=False))
        client.round_trip()
    client.send_raw(frame(CONT, data[99991:]))
    assert client.read_message() == data
    # A code point cut by the fragmentation, twice.
    euro = "€".encode()
    client.send_raw(frame(TEXT, euro[:1], fin=False) + frame(CONT, euro[1:2], fin=False) + frame(CONT, euro[2:]))
    assert client.read_message() == "€"
    client.send_raw(frame(TEXT, "", fin=False) + frame(CONT, ""))
    assert client.read_message() == ""


def test_frames_cut_anywhere(echo):
    """Frames that arrive a byte at a time."""
    client = echo.connect()
    stream = frame(TEXT, "hello") + frame(BINARY, b"b" * 130) + frame(PING, b"p") + frame(TEXT, "", mask=b"\0\0\0\0")
    for byte in stream:
        client.send_raw(bytes([byte]))
    assert client.read_messages(2) == ["hello", b"b" * 130]
    assert client.read_frame() == Frame(PONG, b"p")
    assert client.read_message() == ""


def test_masks(echo):
    """Every mask is undone, whatever the payload's alignment."""
    client = echo.connect()
    for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 1000):
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\x01\x7f\xfe"):
            data = bytes(range(256))[:size] if size < 256 else os.urandom(size)
            client.send(data, mask=mask)
            assert client.read_message() == data, (size, mask)


def test_many_small_messages_in_one_segment(serving):
    """Thousands of frames in one read: all answered, in order."""
    live = serving(message=lambda ws, message: ws.send(message))
    client = live.connect()
    count = 20000
    reader: queue.Queue = queue.Queue()
    thread = threading.Thread(target=lambda: reader.put(client.read_messages(count)))
    thread.start()
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(count)))
    assert reader.get(timeout=20) == [str(i) for i in range(count)]
    thread.join()


def test_max_payload_exactly(serving):
    """Exactly the limit is accepted, reassembled too; control frames are exempt."""
    live = serving(max_payload_length=100, message=lambda ws, message: ws.send(message))
    client = live.connect()
    client.send("x" * 100)
    assert client.read_message() == "x" * 100
    client.send_raw(frame(TEXT, "x" * 60, fin=False) + frame(PING, b"p" * 125) + frame(CONT, "y" * 40))
    assert client.read_frame() == Frame(PONG, b"p" * 125)
    assert client.read_message() == "x" * 60 + "y" * 40


def test_huge_message_is_refused(pair):
    """S10: over 256 MiB raises ValueError; nothing is truncated."""
    _, ws, call = pair
    data = memoryview(bytearray(1)).cast("B")
    with pytest.raises(ValueError, match="data"):
        call(ws.send, bytes(256 * MIB + 1))
    assert call(ws.send, data) == 1
