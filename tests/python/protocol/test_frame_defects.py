"""The frame parser on a live server: one test for each defect of the engine's that it removes, and the table of closes.

The parser itself is tested by itself, byte by byte, in cpp/uws/test_frames.cpp. Here it is seen that what it finds
reaches the wire and the handlers, and nothing else does.
"""

from __future__ import annotations

import struct
import zlib

import pytest
from processes import SANITIZED
from ws_client import BINARY, CLOSE, CONT, PING, PONG, TEXT, Frame, close_frame, close_payload, frame, masked

pytestmark = pytest.mark.wss

MASK = b"\x0a\x0b\x0c\x0d"
VALID = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def with_length(first: int, kind: int, length: bytes, payload: bytes = b"") -> bytes:
    """A frame whose length is spelled as told: ``kind`` is the 7-bit length, ``length`` the extended one."""
    return bytes([first, 0x80 | kind]) + length + MASK + masked(payload, MASK)


def fails(live, data: bytes, code: int, text: str = "", *, before: tuple = (), split: bool = False) -> None:
    """The connection fails with this code, on the wire as in the close handler; only ``before`` is delivered.

    What follows the violation in the same segment, and in later ones, is not.
    """
    client, ws = live.open()
    if split:
        for byte in data:
            client.send_raw(bytes([byte]))
    else:
        client.send_raw(data + frame(TEXT, "late") + frame(PING, b"late") + close_frame(4000))
    close = client.read_frame()
    while close.opcode == PONG and before:
        close = client.read_frame()
    assert close.opcode == CLOSE, close
    client.expect_end()
    for name, *expected in before:
        assert live.expect(name)[1:] == tuple(expected)
    got_ws, got_code, reason = live.expect("close")
    assert got_ws is ws
    assert (got_code, reason) == (close.close_code, close.close_reason)
    assert got_code == code
    assert text in reason
    assert reason
    live.no_events()


# --- one per defect ---


@pytest.mark.parametrize("data", [frame(o, b"\x03\xe8ab", mask=None) for o in (TEXT, BINARY, PING, PONG, CLOSE)])
def test_p1_unmasked(serving, data):
    """A frame without a mask was parsed with four bytes of its payload as the mask."""
    live = serving()
    fails(live, data, 1002, "unmasked")
    fails(live, frame(TEXT, b"", mask=None), 1002, "unmasked")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (with_length(0x81, 126, b"\x00\x05", b"hello"), "minimally"),
        (with_length(0x82, 126, b"\x00\x7d"), "minimally"),
        (with_length(0x82, 127, struct.pack("!Q", 5), b"hello"), "minimally"),
        (with_length(0x82, 127, struct.pack("!Q", 65535)), "minimally"),
        (with_length(0x82, 127, struct.pack("!Q", 1 << 63 | 5), b"hello"), "highest bit"),
    ],
)
def test_p2_lengths(serving, data, text, split):
    """Lengths in more bytes than they need were accepted."""
    cut = data[:4] if split and data[1] & 0x7F == 126 else data[:8] if split else data
    fails(serving(), cut if text == "minimally" else data[: 3 if split else None], 1002, text, split=split)


@pytest.mark.parametrize("inner", [TEXT, BINARY])
@pytest.mark.parametrize("outer", [TEXT, BINARY])
@pytest.mark.parametrize("between", [b"", frame(PING, b"p"), frame(CONT, b"c", fin=False)])
def test_p3_message_inside_a_message(serving, outer, inner, between):
    """A binary inside a fragmented text was delivered; so was a text, after a ping in between."""
    before = (("ping", b"p"),) if between == frame(PING, b"p") else ()
    data = frame(outer, b"a", fin=False) + between + frame(inner, b"\xff")
    fails(serving(), data, 1002, "inside", before=before)


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE, CONT])
def test_p4_rsv1(serving, opcode):
    """RSV1 on control and continuation frames was accepted, and the next message taken for a compressed one."""
    before = frame(TEXT, b"a", fin=False) if opcode == CONT else b""
    fails(serving(), before + frame(opcode, b"", rsv=4), 1002, "RSV1")


@pytest.mark.parametrize("code", VALID)
def test_p5_close_codes(serving, code):
    """1012 to 1014 and 3000 to 3999 were reported as 1006 and answered with an empty Close."""
    live = serving()
    client, ws = live.open()
    client.send_close(code, "r")
    assert client.read_close() == (code, "r")
    client.expect_end()
    assert live.expect("close") == (ws, code, "r")


@pytest.mark.parametrize("code", INVALID)
def test_p5_invalid_close_codes(serving, code):
    live = serving()
    fails(live, frame(CLOSE, close_payload(code)), 1002, "code")
    fails(live, frame(CLOSE, close_payload(code, "reason")), 1002, "code")


def test_p5_close_of_one_byte(serving):
    """It was taken for one without a code."""
    fails(serving(), frame(CLOSE, b"\x03"), 1002, "one byte")


def test_p5_close_with_a_bad_reason(serving):
    fails(serving(), frame(CLOSE, close_payload(1000, b"a\xff")), 1007, "UTF-8")
    fails(serving(), frame(CLOSE, close_payload(1000, b"a\xe2\x82")), 1007, "UTF-8")


def test_p6_peer_that_goes_on_sending(serving, transport):
    """The Close frame was not sent; and no reset may destroy it on its way to a peer that sends megabytes before it
    reads."""
    live = serving(**transport)
    client, _ = live.open()
    client.send_raw(frame(TEXT, "before") + frame(11))
    live.expect("message")
    code, reason = live.expect_close()
    client.send_raw(frame(BINARY, bytes(1 << 20)) * 8)
    assert client.read_close() == (code, reason) == (1002, "Received a frame with a reserved opcode")
    client.expect_end()
    live.no_events()


def test_p6_behind_what_was_sent_before(serving):
    """The Close frame follows everything that was sent before the violation."""
    live = serving(message=lambda ws, message: ws.send(message) and ws.send(b"x" * 50_000))
    client, _ = live.open()
    client.send_raw(frame(TEXT, "a") + frame(TEXT, "b") + frame(TEXT, b"\xff"))
    assert client.read_messages(4) == ["a", b"x" * 50_000, "b", b"x" * 50_000]
    assert client.read_close() == (1007, "Received invalid UTF-8")
    client.expect_end()


def test_p6_behind_what_was_published_before(serving):
    """So does what was published to the socket in the same turn."""

    def message(ws, data):
        ws.subscribe("topic")
        live.server.publish("topic", data)

    live = serving(message=message)
    client, _ = live.open()
    client.send_raw(frame(TEXT, "a") + frame(TEXT, "b") + frame(11))
    assert client.read_messages(2) == ["a", "b"]
    assert client.read_close()[0] == 1002
    client.expect_end()


def test_p6_nothing_inside_a_half_written_frame(serving):
    """With a backlog, no Close frame can follow: what did arrive is the beginning of what was sent, nothing else."""
    size = 32 << 20
    live = serving(message=lambda ws, message: ws.send(b"x" * size), backpressure_limit=64 << 20)
    client, _ = live.open(receive_buffer=8192)
    client.send("go")
    live.expect("message")
    client.send_raw(frame(11))
    assert live.expect_close()[0] == 1002
    got = bytearray(client.buffer)
    client.buffer.clear()
    try:
        while data := client.sock.recv(1 << 20):
            got += data
    except ConnectionError:
        pass
    assert len(got) < size
    assert bytes(got)[10:].strip(b"x") == b""


MEMORY = """
import socket
import uwserve
from ws_client import Client, BINARY, TEXT, CONT, frame

def reserved():
    # bytes of private memory, touched or not
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * 4096

sizes = []
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request, server: server.upgrade(request),
                       websocket={{"message": lambda ws, message: sizes.append(len(message)) or ws.send("ok")}})
server.start()
address = ("127.0.0.1", server.port)
def one(first):
    client = Client(address)
    client.send_raw(first)
    return client
{body}
server.stop(True)
"""


quarantined = pytest.mark.skipif(SANITIZED, reason="sanitizers keep freed memory in quarantine")


@quarantined
def test_p7_declared_length_reserves_nothing(script):
    """The whole declared length was reserved at the first byte: 16 MB for one."""
    body = """
def settle():
    client = one(b"")
    client.round_trip()
    return client
def partial():
    return one(frame(BINARY, b"x", length=16 << 20)), one(frame(BINARY, b"x", fin=False))
clients = [partial(), settle()]
before = reserved()
clients += [partial() for _ in range(100)]
clients += [settle()]
print((reserved() - before) // 200)
"""
    grown = int(script(MEMORY.format(body=body)).finish())
    assert grown < 16 * 1024, f"{grown} bytes for each connection that sent one byte"


@quarantined
def test_p7_peak_is_given_back(script):
    """The largest message's memory was kept for the connection's life."""
    body = """
piece = bytes(1 << 20)
stream = frame(BINARY, piece, fin=False) + frame(CONT, piece, fin=False) * 8 + frame(CONT, piece)
def large():
    client = one(stream)
    assert client.read_message() == "ok"
    return client
clients = [large()]
before = reserved()
clients += [large() for _ in range(12)]
assert sizes == [10 << 20] * 13, sizes
print((reserved() - before) >> 20)
"""
    grown = int(script(MEMORY.format(body=body)).finish())
    assert grown < 60, f"{grown} MiB after 12 connections have sent 10 MiB each"


@pytest.mark.parametrize("data", [b"\xff", b"\xc0", b"\xe0\x80", b"\xed\xa0", b"\xf4\x90", b"\xf8", b"\xe2\x28"])
@pytest.mark.parametrize("at", [0, 1, 100, 70_000])
def test_p11_first_bad_byte(serving, data, at):
    """Invalid UTF-8 was noticed at the end of the message only: here the rest of the frame never comes."""
    live = serving()
    client, _ = live.open()
    client.send_raw(frame(TEXT, "é" * (at // 2) + "a" * (at % 2), fin=False))
    client.send_raw(frame(CONT, data, length=1 << 20))
    assert client.read_close() == (1007, "Received invalid UTF-8")
    client.expect_end()
    assert live.expect_close() == (1007, "Received invalid UTF-8")
    live.no_events()


# --- messages ---


@pytest.mark.parametrize(
    "text", ["", "a", "ab", "a" * 17, "x" * 5000, "é", "€", "😀" * 40, "a" * 2000 + "ÿ" + "b" * 2000]
)
def test_text_of_every_kind(echo, text):
    """Whole, in fragments that cut characters, and in segments: the same str."""
    client = echo.connect()
    data = text.encode()
    client.send_raw(frame(TEXT, data))
    assert client.read_message() == text
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)] or [b""]
    client.send_raw(frame(TEXT, pieces[0], fin=False))
    for piece in pieces[1:]:
        client.send_raw(frame(PING) + frame(CONT, piece, fin=False))
    client.send_raw(frame(CONT))
    for _ in pieces[1:]:
        assert client.read_frame() == Frame(PONG, b"")
    assert client.read_message() == text
    whole = frame(TEXT, data)
    for start in range(0, len(whole), 997):
        client.send_raw(whole[start : start + 997])
    assert client.read_message() == text


def test_limit_is_exact(serving):
    """As many bytes as the limit are a message, one more are not; controls are exempt."""
    live = serving(max_payload_length=5, message=lambda ws, message: ws.send(message))
    client, _ = live.open()
    client.send("12345")
    client.send_raw(frame(BINARY, b"123", fin=False) + frame(PING, b"p" * 125) + frame(CONT, b"45"))
    assert client.read_message() == "12345"
    assert client.read_frame() == Frame(PONG, b"p" * 125)
    assert client.read_message() == b"12345"
    for data in (frame(TEXT, "123456"), frame(TEXT, "123", fin=False) + frame(CONT, "456")):
        other, _ = live.connect(), live.wait_for("open")
        other.send_raw(data)
        assert other.read_close() == (1009, "Received too big message")
        assert live.wait_for("close")[1:] == (1009, "Received too big message")


@pytest.mark.parametrize("how", ["close", "terminate", "raise"])
@pytest.mark.parametrize("where", ["message", "ping", "pong"])
def test_nothing_behind_a_close_of_our_own(serving, logged, how, where):
    """A handler that closes its socket is the last one to see a frame, also one in pieces."""

    def handler(ws, data):
        if how == "raise":
            ws.close(4001)
            raise RuntimeError("on purpose")
        getattr(ws, how)()

    live = serving(**{where: handler})
    opcode = {"message": TEXT, "ping": PING, "pong": PONG}[where]
    first = frame(TEXT, b"a", fin=False) + frame(CONT, b"b") if where == "message" else frame(opcode, b"ab")
    client, _ = live.open()
    client.send_raw(first + frame(opcode, b"cd") + frame(11))
    assert live.expect(where)[1] in ("ab", b"ab")
    assert live.expect_close()[0] == {"close": 1000, "terminate": 1006, "raise": 4001}[how]
    client.read_to_end()
    live.no_events()


def test_message_views_of_messages_in_pieces(serving):
    """A zero-copy view of an assembled message: good in the handler; a slice of it keeps the memory."""
    kept = []

    def message(ws, data):
        kept.append(data[10:])
        ws.send(bytes(data))

    live = serving(open=lambda ws: setattr(ws, "binary_type", "memoryview"), message=message)
    client, _ = live.open()
    for fill in (b"a", b"b"):
        client.send_raw(frame(BINARY, fill * 30_000, fin=False) + frame(CONT, fill * 30_000))
        assert client.read_message() == fill * 60_000
    assert [bytes(view) for view in kept] == [b"a" * 59_990, b"b" * 59_990]
    kept.clear()


# --- what close(ws, code, reason) and the wire see ---


TABLE = [
    (frame(TEXT, b"\xff"), 1007, "UTF-8"),
    (frame(TEXT, b"a\xff", length=1000), 1007, "UTF-8"),
    (frame(TEXT, b"\xe2\x82"), 1007, "UTF-8"),
    (frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"a", fin=False), 1007, "UTF-8"),
    (frame(BINARY, b"", length=1001), 1009, "too big"),
    (frame(BINARY, b"", length=1 << 62), 1009, "too big"),
    (frame(TEXT, b"a" * 900, fin=False) + frame(CONT, b"", length=101), 1009, "too big"),
    (frame(TEXT, b"x", rsv=4), 1002, "compress"),
    (frame(TEXT, b"x", rsv=2), 1002, "reserved bit"),
    (frame(PING, b"x", rsv=1), 1002, "reserved bit"),
    (frame(3), 1002, "opcode"),
    (frame(15), 1002, "opcode"),
    (frame(PING, b"x", fin=False), 1002, "fragmented"),
    (frame(CLOSE, b"", fin=False), 1002, "fragmented"),
    (frame(PONG, b"x" * 126), 1002, "125"),
    (frame(CLOSE, close_payload(1000, "x" * 124)), 1002, "125"),
    (frame(CONT, b"x"), 1002, "outside"),
    (frame(CONT, b"x", fin=False), 1002, "outside"),
]


@pytest.mark.parametrize(("data", "code", "text"), TABLE)
def test_close_table(serving, transport, data, code, text):
    live = serving(max_payload_length=1000, **transport)
    fails(live, data, code, text)
    fails(live, frame(PONG, b"p") + data, code, text, before=(("pong", b"p"),))


# --- compressed messages ---

DEFLATE = (("Sec-WebSocket-Extensions", "permessage-deflate"),)


def deflated(data: bytes) -> bytes:
    """As RFC 7692 has it: without the last four bytes of the empty block."""
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (frame(TEXT, b"\xff\xff\xff", rsv=4), 1007, "inflated"),
        (frame(BINARY, b"\xff", rsv=4, fin=False) + frame(CONT, b"\xff\xff"), 1007, "inflated"),
        (frame(TEXT, deflated(b"a\xffb"), rsv=4), 1007, "UTF-8"),
        (frame(TEXT, deflated(b"a\xe2\x82"), rsv=4), 1007, "UTF-8"),
        (frame(BINARY, deflated(bytes(1001)), rsv=4), 1009, "inflated"),
        (frame(BINARY, deflated(bytes(1 << 20)), rsv=4), 1009, "inflated"),
        (frame(BINARY, b"", rsv=4, length=5000), 1009, "too big"),
        (frame(TEXT, deflated(b"a"), rsv=4, fin=False) + frame(CONT, rsv=4), 1002, "RSV1"),
        (frame(PING, rsv=4), 1002, "RSV1"),
        (frame(CLOSE, rsv=4), 1002, "RSV1"),
        (frame(TEXT, rsv=6), 1002, "reserved bit"),
    ],
)
def test_compressed(serving, data, code, text):
    """The same table for what is compressed; before, a message of exactly the limit and its neighbours arrive."""
    live = serving(per_message_deflate=True, max_payload_length=1000)
    client, _ = live.open(extra=DEFLATE)
    packed = deflated("é".encode() * 500)
    client.send_raw(frame(TEXT, packed, rsv=4) + frame(TEXT, "plain"))
    client.send_raw(frame(TEXT, packed[:3], rsv=4, fin=False) + frame(PING, b"p") + frame(CONT, packed[3:]))
    assert client.read_frame() == Frame(PONG, b"p")
    client.send_raw(data + frame(TEXT, "late"))
    got_code, reason = client.read_close()
    client.expect_end()
    assert [live.expect(name)[1] for name in ("message", "message", "ping", "message")] == [
        "é" * 500,
        "plain",
        b"p",
        "é" * 500,
    ]
    assert live.expect_close() == (got_code, reason)
    assert got_code == code
    assert text in reason
    live.no_events()
