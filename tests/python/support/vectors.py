"""Protocol vectors: what a client sends after its handshake, and what the server makes of it. Data only.

Each ``Vector`` names the rule, the bytes, the callbacks they cause in order, and how the connection ends. The server
echoes messages, so what it must put on the wire follows from that (``Vector.answers``): an echo for a message, a pong
for a ping, then its Close frame. Every vector ends its connection; those without a violation do so with CLOSE 1000.

``test_vectors`` runs them whole, byte by byte and at every split point; the corpus of the fuzz targets is made of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from vector_shapes import EVENT_OF, Event, Vector, bad, binary, fragments, good, head, ping, pong, text
from ws_client import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, close_payload, frame

# --- RFC 6455 section 5.2: base framing ---


def framing() -> Iterator[Vector]:
    group = "5.2 framing"
    for size in (0, 1, 125, 126, 127, 128, 255, 256, 65535, 65536):
        yield good(group, f"text of {size}", frame(TEXT, b"*" * size), text(b"*" * size))
        data = bytes(i * 7 & 255 for i in range(size))
        yield good(group, f"binary of {size}", frame(BINARY, data), binary(data))
    yield good(group, "mask of zeros", frame(TEXT, "zero", mask=bytes(4)), text("zero"))
    yield good(group, "mask of ones", frame(BINARY, b"\0\xff" * 20, mask=b"\xff" * 4), binary(b"\0\xff" * 20))
    for size in range(1, 40):  # each remainder of a vector of 32 and of the mask
        data = bytes(range(size))
        yield good(group, f"mask over {size}", frame(BINARY, data, mask=b"\x9d\0\xff\x11"), binary(data))
    several = b"".join(frame(BINARY, bytes([i]) * i) for i in range(12))
    yield good(group, "twelve in a row", several, *(binary(bytes([i]) * i) for i in range(12)))
    for opcode, name in ((TEXT, "text"), (BINARY, "binary"), (PING, "ping"), (CLOSE, "close"), (CONT, "continuation")):
        yield bad(
            group, f"unmasked {name}", frame(opcode, b"1234" if opcode != CLOSE else close_payload(1000), mask=None)
        )
    yield bad(group, "unmasked empty text", frame(TEXT, mask=None))
    first = frame(TEXT, "a", fin=False)
    yield bad(group, "unmasked continuation of a message", first + frame(CONT, "b", mask=None))
    yield bad(group, "text, then unmasked", frame(TEXT, "fine") + frame(TEXT, "not", mask=None), text("fine"))
    yield bad(group, "unmasked ping inside a message", first + frame(PING, b"x", mask=None))
    for size in (0, 1, 125):
        data = b"x" * size
        masked = frame(BINARY, data)[-size:] if size else b""
        yield bad(group, f"{size} in 16 bits of length", head(BINARY, b"\x7e" + struct.pack("!H", size)) + masked)
    for size in (0, 125, 126, 65535):
        masked = frame(BINARY, b"x" * size)[-size:] if size else b""
        yield bad(group, f"{size} in 64 bits of length", head(BINARY, b"\x7f" + struct.pack("!Q", size)) + masked)
    for size in (1 << 63, (1 << 64) - 1, (1 << 63) + 5):
        yield bad(group, f"length {size:#x}", head(BINARY, b"\x7f" + struct.pack("!Q", size)))
    for size in (1 << 32, (1 << 32) + 5, (1 << 63) - 1):  # also those that are small in 32 bits
        yield bad(group, f"length {size:#x}", head(BINARY, b"\x7f" + struct.pack("!Q", size)), code=1009)


def reserved() -> Iterator[Vector]:
    group = "5.2 reserved"
    before = frame(TEXT, "before")
    for rsv in range(1, 8):
        for opcode, name in ((TEXT, "text"), (BINARY, "binary"), (PING, "ping"), (PONG, "pong")):
            yield bad(group, f"RSV {rsv:03b} on {name}", before + frame(opcode, "x", rsv=rsv), text("before"))
        yield bad(group, f"RSV {rsv:03b} on close", before + frame(CLOSE, close_payload(1000), rsv=rsv), text("before"))
        yield bad(group, f"RSV {rsv:03b} on an empty text", frame(TEXT, rsv=rsv))
        yield bad(group, f"RSV {rsv:03b} on continuation", frame(TEXT, "a", fin=False) + frame(CONT, "b", rsv=rsv))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield bad(group, f"opcode {opcode}", before + frame(opcode, "x"), text("before"))
        yield bad(group, f"opcode {opcode}, empty", frame(opcode))
        yield bad(group, f"opcode {opcode}, not final", frame(opcode, "x", fin=False))
        yield bad(group, f"opcode {opcode} inside a message", frame(TEXT, "a", fin=False) + frame(opcode, "x"))


# --- section 5.4: fragmentation ---


def fragmentation() -> Iterator[Vector]:
    group = "5.4 fragments"
    for opcode, event in ((TEXT, text), (BINARY, binary)):
        name = EVENT_OF[opcode]
        yield good(group, f"{name} in two", b"".join(fragments(opcode, "frag", "ment")), event(b"fragment"))
        yield good(group, f"{name} in ten", b"".join(fragments(opcode, *"0123456789")), event(b"0123456789"))
        yield good(group, f"{name} of three empty", b"".join(fragments(opcode, "", "", "")), event(b""))
        yield good(group, f"{name}, empty first", b"".join(fragments(opcode, "", "x")), event(b"x"))
        yield good(group, f"{name}, empty middle", b"".join(fragments(opcode, "x", "", "y")), event(b"xy"))
        yield good(group, f"{name}, empty last", b"".join(fragments(opcode, "x", "")), event(b"x"))
        one, two, three = fragments(opcode, "on", "et", "wo")
        both = frame(PING, b"1") + frame(PONG, b"2") + frame(PING)
        yield good(group, f"{name} with controls", one + both + two + both + three,
                   ping(b"1"), pong(b"2"), ping(), ping(b"1"), pong(b"2"), ping(), event(b"onetwo"))  # fmt: skip
        yield bad(group, f"{name} inside a text", frame(TEXT, "a", fin=False) + frame(opcode, "b"))
        yield bad(group, f"{name} inside a binary", frame(BINARY, "a", fin=False) + frame(opcode, "b"))
        yield bad(group, f"{name} inside a text behind a ping",
                  frame(TEXT, "a", fin=False) + frame(PING, b"p") + frame(opcode, "b"), ping(b"p"))  # fmt: skip
        yield bad(group, f"{name} begun twice", frame(TEXT, "a", fin=False) + frame(opcode, "b", fin=False))
        yield bad(group, f"{name} inside an empty beginning", frame(TEXT, "", fin=False) + frame(opcode, "b"))
        done = b"".join(fragments(opcode, "a", "b"))
        yield bad(group, f"continuation behind a {name}", done + frame(CONT, "c"), event(b"ab"))
        yield good(group, f"message behind a {name}", done + frame(TEXT, "c"), event(b"ab"), text("c"))
    for fin in (True, False):
        yield bad(group, f"stray continuation, final {fin}", frame(CONT, "x", fin=fin))
        yield bad(group, f"empty stray continuation, final {fin}", frame(CONT, "", fin=fin))
        yield bad(group, f"stray continuation behind a text, final {fin}",
                  frame(TEXT, "a") + frame(CONT, "x", fin=fin), text("a"))  # fmt: skip
    many = b"".join(fragments(BINARY, *(bytes([i]) for i in range(60))))
    yield good(group, "sixty of one byte", many, binary(bytes(range(60))))
    ends = b"".join(fragments(TEXT, "a" * 126, "b" * 125, "c" * 200))
    yield good(group, "lengths of two kinds", ends, text("a" * 126 + "b" * 125 + "c" * 200))
    yield good(group, "close inside a message", frame(TEXT, "a", fin=False))
    yield good(group, "a large one", b"".join(fragments(BINARY, *[b"z" * 5000] * 15)), binary(b"z" * 75000))


# --- section 5.5: control frames ---


def controls() -> Iterator[Vector]:
    group = "5.5 controls"
    for size in (0, 1, 124, 125):
        data = bytes(i ^ 0xA5 for i in range(size))
        yield good(group, f"ping of {size}", frame(PING, data), ping(data))
        yield good(group, f"pong of {size}", frame(PONG, data), pong(data))
    yield good(group, "ten pings", b"".join(frame(PING, bytes([i])) for i in range(10)),
               *(ping(bytes([i])) for i in range(10)))  # fmt: skip
    yield good(group, "ping, text, ping", frame(PING, b"1") + frame(TEXT, "t") + frame(PING, b"2"),
               ping(b"1"), text("t"), ping(b"2"))  # fmt: skip
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        payload = close_payload(1000, "x" * 124) if opcode == CLOSE else b"x" * 126
        yield bad(group, f"{name} of 126", frame(opcode, payload))
        yield bad(group, f"{name} of 65536", head(opcode, b"\x7f" + struct.pack("!Q", 65536)), open_end=True)
        yield bad(group, f"{name} of 5 in 16 bits", head(opcode, b"\x7e\0\5") + b"12345")
        yield bad(group, f"{name}, not final", frame(opcode, close_payload(1000), fin=False))
        yield bad(group, f"{name}, empty, not final", frame(opcode, fin=False))
        yield bad(group, f"{name}, not final, inside a message",
                  frame(TEXT, "a", fin=False) + frame(opcode, close_payload(1000), fin=False))  # fmt: skip
    yield good(group, "pings under a limit of 20", frame(PING, b"p" * 125), ping(b"p" * 125), server="small")


# --- sections 5.5.1 and 7.4: closing ---

VALID_CODES = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3001, 3999, 4000, 4001, 4999)
INVALID_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 32768, 65535)


def closing() -> Iterator[Vector]:
    group = "7.4 closing"

    def closed(name: str, payload: bytes, code: int, reason: str, *events: Event, before: bytes = b"") -> Vector:
        sent = before + frame(CLOSE, payload)
        return Vector(group, name, sent, events, code, reason, payload)

    for code in VALID_CODES:
        yield closed(f"code {code}", close_payload(code), code, "")
        yield closed(f"code {code} and a reason", close_payload(code, "bye"), code, "bye")
    yield closed("no body", b"", 1005, "")
    yield closed("longest reason", close_payload(1000, "r" * 123), 1000, "r" * 123)
    yield closed("reason in UTF-8", close_payload(4000, "κόσμε \U0001f600"), 4000, "κόσμε \U0001f600")
    yield closed("reason with a NUL", close_payload(1000, "a\0b"), 1000, "a\0b")
    yield closed("behind a text", close_payload(1000), 1000, "", text("t"), before=frame(TEXT, "t"))
    for name, after in (
        ("text", frame(TEXT, "late")),
        ("ping", frame(PING, b"late")),
        ("close", close_frame(4000, "late")),
        ("violation", frame(3, "late", rsv=7, mask=None)),
        ("half a frame", frame(TEXT, "late")[:5]),
        ("invalid UTF-8", frame(TEXT, b"\xff")),
    ):
        one = closed(f"{name} behind it", close_payload(1001, "x"), 1001, "x")
        yield one._replace(sent=one.sent + after)
        two = closed(f"{name} behind an empty one", b"", 1005, "")
        yield two._replace(sent=two.sent + after)
    for code in INVALID_CODES:
        yield bad(group, f"code {code}", close_frame(code))
        yield bad(group, f"code {code} and a reason", close_frame(code, "bye"))
    yield bad(group, "body of one byte", frame(CLOSE, b"\3"))
    for name, reason in (
        ("byte", b"a\xff"),
        ("surrogate", b"\xed\xa0\x80"),
        ("cut", b"caf\xc3"),
        ("overlong", b"\xc0\xaf"),
    ):
        yield bad(group, f"reason with a bad {name}", close_frame(1000, reason), code=1007)
    yield bad(group, "bad reason inside a message", frame(TEXT, "a", fin=False) + close_frame(1000, b"\xff"), code=1007)


def endings() -> Iterator[Vector]:
    group = "7.1 ends without Close"
    message = frame(TEXT, "whole")
    for name, sent, events in (
        ("nothing", b"", ()),
        ("a message", message, (text("whole"),)),
        ("a ping", frame(PING, b"x"), (ping(b"x"),)),
        ("half a header", message + b"\x81", (text("whole"),)),
        ("half a length", message + head(TEXT, b"\x7e\1\0")[:3], (text("whole"),)),
        ("half a mask", message + frame(TEXT, "x")[:4], (text("whole"),)),
        ("half a payload", message + frame(TEXT, "xy")[:-1], (text("whole"),)),
        ("half a message", message + frame(TEXT, "x", fin=False), (text("whole"),)),
        ("half a close", message + close_frame(1000, "bye")[:-1], (text("whole"),)),
    ):
        yield Vector(group, f"end behind {name}", sent, events, 1006, "", None, fin=True)


# --- section 8.1: UTF-8 ---

VALID_UTF8 = (
    "κόσμε", "\u0000", "\u007f", "\u0080", "\u07ff", "\u0800", "\uffff", "\ud7ff", "\ue000", "\ufffd", "\ufeff",
    "\U00010000", "\U0010ffff", "a\U0001f600b", "\ufdd0\ufffe", "é" * 40, "日本語" * 12, "a" * 31 + "é", "a" * 63 + "€",
)  # fmt: skip
# What comes before the first bad byte may begin a character; the last byte of `bad` is the one that can't be.
INVALID_UTF8 = (
    ("lone continuation", b"", b"\x80"), ("lone last continuation", b"", b"\xbf"), ("C0", b"", b"\xc0"),
    ("C1", b"", b"\xc1"), ("F5", b"", b"\xf5"), ("F8", b"", b"\xf8"), ("FC", b"", b"\xfc"), ("FE", b"", b"\xfe"),
    ("FF", b"", b"\xff"), ("overlong of three", b"\xe0", b"\x9f"), ("surrogate", b"\xed", b"\xa0"),
    ("last surrogate", b"\xed", b"\xbf"), ("overlong of four", b"\xf0", b"\x8f"), ("beyond U+10FFFF", b"\xf4", b"\x90"),
    ("two cut", b"\xc3", b"("), ("three cut at 2", b"\xe2", b"("), ("three cut at 3", b"\xe2\x82", b"("),
    ("four cut at 2", b"\xf0", b"("), ("four cut at 3", b"\xf0\x9f", b"("), ("four cut at 4", b"\xf0\x9f\x98", b"("),
    ("two begun twice", b"\xc3", b"\xc3"), ("four begun in three", b"\xe2\x82", b"\xf0"),
)  # fmt: skip


def utf8() -> Iterator[Vector]:
    group = "8.1 UTF-8"
    for i, value in enumerate(VALID_UTF8):
        data = value.encode()
        yield good(group, f"valid {i}", frame(TEXT, data), text(data))
        pieces = fragments(TEXT, *(data[k : k + 1] for k in range(len(data))))
        yield good(group, f"valid {i} in fragments of one byte", b"".join(pieces), text(data))
    kappa = "κόσμε".encode()
    for cut in range(1, len(kappa)):
        one, two = fragments(TEXT, kappa[:cut], kappa[cut:])
        yield good(group, f"cut at {cut} with a ping", one + frame(PING) + two, ping(), text(kappa))
    yield good(
        group, "anything in a binary", frame(BINARY, b"\xff\xc0\x80\xed\xa0\x80"), binary(b"\xff\xc0\x80\xed\xa0\x80")
    )
    yield good(group, "anything in a fragmented binary", b"".join(fragments(BINARY, b"\xff\xc0", b"\x80")),
               binary(b"\xff\xc0\x80"))  # fmt: skip
    for name, before, wrong in INVALID_UTF8:
        for lead in ("", "né" * 20):
            data = lead.encode() + before + wrong
            label = f"{name} behind {len(lead)}"
            yield bad(group, f"{label}, whole", frame(TEXT, data + b"after"), code=1007)
            yield bad(group, f"{label}, at the end", frame(TEXT, data), code=1007)
            # Nothing behind the bad byte is sent: the server must not wait for it.
            yield bad(
                group, f"{label}, first bad byte", frame(TEXT, data, length=len(data) + 100), code=1007, open_end=True
            )
            begun = frame(TEXT, "ok", fin=False)
            yield bad(group, f"{label}, first bad byte of a continuation",
                      begun + frame(CONT, data, fin=False, length=len(data) + 9), code=1007, open_end=True)  # fmt: skip
            yield bad(group, f"{label}, first fragment of many", frame(TEXT, data, fin=False), code=1007, open_end=True)
        if before:
            one, two = frame(TEXT, before, fin=False), frame(CONT, wrong, fin=False, length=50)
            yield bad(group, f"{name} across fragments", one + two, code=1007, open_end=True)
            yield bad(group, f"{name} across fragments and a ping", one + frame(PING, b"!") + two, ping(b"!"),
                      code=1007, open_end=True)  # fmt: skip
            yield bad(group, f"{name} cut by the end", frame(TEXT, b"x" + before), code=1007)
            yield bad(group, f"{name} cut by the end of fragments", one + frame(CONT, b""), code=1007)
    yield bad(group, "behind a good message", frame(TEXT, "fine") + frame(TEXT, b"\xff"), text("fine"), code=1007)
    long = "né".encode() * 20000
    yield bad(group, "deep in a long one", frame(TEXT, long + b"\xff", length=200_000), code=1007, open_end=True)


# --- limits ---


def limits() -> Iterator[Vector]:
    group = "10.4 limits"
    small = {"server": "small"}
    yield good(group, "exactly the limit", frame(BINARY, b"x" * 20), binary(b"x" * 20), **small)
    yield good(group, "exactly the limit in fragments", b"".join(fragments(TEXT, "a" * 12, "b" * 8)),
               text("a" * 12 + "b" * 8), **small)  # fmt: skip
    yield good(group, "the limit, twice", frame(TEXT, "x" * 20) * 2, text("x" * 20), text("x" * 20), **small)
    for opcode in (TEXT, BINARY):
        name = EVENT_OF[opcode]
        over = frame(opcode, b"x" * 21)
        yield bad(group, f"{name} of one more", over, code=1009, **small)
        yield bad(group, f"{name} judged by its header", over[:6], code=1009, open_end=True, **small)
        announced = frame(opcode, b"", length=1 << 20)
        yield bad(group, f"{name} of 1 MiB judged by its header", announced, code=1009, open_end=True, **small)
        begun = frame(opcode, b"x" * 12, fin=False)
        yield bad(group, f"fragmented {name}, one more", begun + frame(CONT, b"y" * 9), code=1009, **small)
        yield bad(group, f"fragmented {name} judged by its header", begun + frame(CONT, b"y" * 9, fin=False)[:6],
                  code=1009, open_end=True, **small)  # fmt: skip
        yield bad(group, f"full {name}, then one", frame(opcode, b"x" * 20, fin=False) + frame(CONT, b"y"),
                  code=1009, **small)  # fmt: skip
    yield good(group, "full, then empty", frame(TEXT, "x" * 20, fin=False) + frame(CONT), text("x" * 20), **small)
    yield bad(group, "behind a good one", frame(TEXT, "ok") + frame(TEXT, "x" * 21), text("ok"), code=1009, **small)
    yield bad(group, "17 MiB by default", frame(BINARY, b"", length=17 << 20), code=1009, open_end=True)


# --- RFC 7692 ---


def deflated(data: bytes, level: int = 6, wbits: int = -15) -> bytes:
    """Section 7.2.1: compressed on its own, without the tail."""
    squeeze = zlib.compressobj(level, zlib.DEFLATED, wbits)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


HELLO = bytes.fromhex("f248cdc9c90700")


def compression() -> Iterator[Vector]:
    group = "7692 deflate"
    on = {"server": "deflate"}
    examples = (
        ("7.2.3.1 one block", HELLO),
        ("7.2.3.3 no compression", bytes.fromhex("000500faff48656c6c6f00")),
        ("7.2.3.4 BFINAL", bytes.fromhex("f348cdc9c9070000")),
        ("7.2.3.5 two blocks", bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))),
    )
    for name, data in examples:
        yield good(group, name, frame(TEXT, data, rsv=4), text("Hello"), **on)
        for cut in range(len(data) + 1):
            pieces = fragments(TEXT, data[:cut], data[cut:], rsv=4)
            yield good(group, f"{name} in fragments at {cut}", b"".join(pieces), text("Hello"), **on)
        for_three = frame(TEXT, data, rsv=4) + frame(TEXT, "plain") + frame(BINARY, HELLO, rsv=4)
        yield good(group, f"{name}, plain, compressed", for_three, text("Hello"), text("plain"), binary(b"Hello"), **on)
    yield good(group, "7.2.3.2 context takeover", frame(TEXT, HELLO, rsv=4)
               + frame(TEXT, bytes.fromhex("f200110000"), rsv=4), text("Hello"), text("Hello"), **on)  # fmt: skip
    yield good(group, "empty", frame(TEXT, b"\0", rsv=4), text(""), **on)
    yield good(group, "empty, twice", frame(TEXT, b"\0", rsv=4) * 2, text(""), text(""), **on)
    yield good(group, "empty, final block", frame(TEXT, b"\3\0", rsv=4), text(""), **on)
    yield good(group, "nothing at all", frame(TEXT, b"", rsv=4), text(""), **on)
    yield good(group, "not compressed", frame(TEXT, "plain") + frame(BINARY, b""), text("plain"), binary(b""), **on)
    one, two, three = fragments(TEXT, HELLO[:2], HELLO[2:4], HELLO[4:], rsv=4)
    yield good(group, "with controls inside", one + frame(PING, b"p") + two + frame(PONG) + three,
               ping(b"p"), pong(), text("Hello"), **on)  # fmt: skip
    yield good(group, "nothing, in fragments", b"".join(fragments(BINARY, b"", b"", b"\0", rsv=4)), binary(b""), **on)
    data = bytes(i * i >> 3 & 255 for i in range(3000))
    for level in (0, 1, 9):
        yield good(group, f"3000 at level {level}", frame(BINARY, deflated(data, level), rsv=4), binary(data), **on)
    for wbits in range(9, 16):
        yield good(
            group, f"window of {wbits}", frame(BINARY, deflated(data * 2, 6, -wbits), rsv=4), binary(data * 2), **on
        )
    utf = "κόσμε €".encode() * 30
    yield good(group, "UTF-8", frame(TEXT, deflated(utf), rsv=4), text(utf), **on)
    yield good(group, "exactly the limit", frame(BINARY, deflated(b"x" * 100_000), rsv=4), binary(b"x" * 100_000), **on)

    yield bad(group, "one more than the limit", frame(BINARY, deflated(b"x" * 100_001), rsv=4), code=1009, **on)
    yield bad(group, "a bomb", frame(BINARY, deflated(b"x" * 20_000_000), rsv=4), code=1009, **on)
    bomb = deflated(b"\0" * 5_000_000)
    yield bad(group, "a bomb in fragments", b"".join(fragments(TEXT, bomb[:50], bomb[50:], rsv=4)), code=1009, **on)
    for name, wrong in (
        ("block type 3", b"\x06\x00"), ("stored lengths", bytes.fromhex("000500ffff48656c6c6f00")),
        ("distance too far", bytes.fromhex("4a046210") + b"\0"), ("noise", b"\xff" * 30),
        ("noise behind a good start", HELLO[:3] + b"\xff" * 20),
    ):  # fmt: skip
        yield bad(group, f"undecodable: {name}", frame(BINARY, wrong, rsv=4), code=1007, **on)
        second = frame(TEXT, HELLO, rsv=4) + frame(TEXT, wrong, rsv=4)
        yield bad(group, f"undecodable behind a good one: {name}", second, text("Hello"), code=1007, **on)  # fmt: skip
    yield bad(group, "invalid UTF-8 inside", frame(TEXT, deflated(b"abc\xff"), rsv=4), code=1007, **on)
    yield bad(group, "UTF-8 cut inside", frame(TEXT, deflated(b"abc\xe2\x82"), rsv=4), code=1007, **on)
    yield good(group, "any bytes in a binary", frame(BINARY, deflated(b"abc\xff"), rsv=4), binary(b"abc\xff"), **on)
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        yield bad(group, f"RSV1 on {name}", frame(opcode, close_payload(1000), rsv=4), **on)
        inside = frame(TEXT, HELLO[:3], rsv=4, fin=False) + frame(opcode, close_payload(1000), rsv=4)
        yield bad(group, f"RSV1 on {name} inside a message", inside, **on)
    for last in (True, False):
        again = frame(TEXT, HELLO[:3], rsv=4, fin=False) + frame(CONT, HELLO[3:], rsv=4, fin=last)
        yield bad(group, f"RSV1 on continuation, final {last}", again, **on)
        late = frame(TEXT, "a", fin=False) + frame(CONT, HELLO, rsv=4, fin=last)
        yield bad(group, f"RSV1 only on continuation, final {last}", late, **on)
    for rsv in (1, 2, 3, 5, 6, 7):
        yield bad(group, f"RSV {rsv:03b}", frame(TEXT, HELLO, rsv=rsv), **on)


GROUPS = (framing, reserved, fragmentation, controls, closing, endings, utf8, limits, compression)
VECTORS: tuple[Vector, ...] = tuple(vector for group in GROUPS for vector in group())
