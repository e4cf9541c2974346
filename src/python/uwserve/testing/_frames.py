"""WebSocket frames as a strict client writes and reads them (RFC 6455 section 5).

``FrameReader`` accepts bytes in any pieces and returns whole frames. Whatever a server must not send raises
``ProtocolError``.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from ._errors import ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "Close", PING: "Ping", PONG: "Pong"}
MAX_CONTROL = 125
NO_STATUS, ABNORMAL = 1005, 1006
WITHOUT_STATUS = (0, NO_STATUS, ABNORMAL)  # arguments that mean a Close frame without a code


class Frame(NamedTuple):
    """One frame; ``compressed`` is its bit RSV1 (RFC 7692 section 6)."""

    opcode: int
    payload: bytes
    fin: bool
    compressed: bool


def encode(opcode: int, payload: bytes, *, fin: bool = True, compressed: bool = False) -> bytes:
    """A client's frame: masked, with a random key (section 5.3)."""
    size = len(payload)
    first = (0x80 if fin else 0) | (0x40 if compressed else 0) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    key = os.urandom(4)
    pattern = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return head + key + (int.from_bytes(payload, "little") ^ pattern).to_bytes(size, "little")


def close_payload(code: int, reason: str) -> bytes:
    """The body of a Close frame (section 5.5.1). ``ValueError`` for what must not be sent."""
    if code in WITHOUT_STATUS:
        return b""
    if not can_be_sent(code):
        raise ValueError(
            f"code must be one that may be sent (1000-1003, 1007-1014, 3000-4999), or 0, 1005 or 1006 for none, "
            f"got {code}"
        )
    body = struct.pack("!H", code) + reason.encode()
    if len(body) > MAX_CONTROL:
        raise ValueError(f"reason must have at most 123 bytes of UTF-8, got {len(body) - 2}")
    return body


def can_be_sent(code: int) -> bool:
    """Whether a Close frame may carry ``code`` (section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a Close frame's body; 1005 when it is empty."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise ProtocolError("the body of a Close frame has one byte (RFC 6455 section 5.5.1)")
    code = int.from_bytes(payload[:2], "big")
    if not can_be_sent(code):
        raise ProtocolError(f"a Close frame has the code {code}, which must not be sent (RFC 6455 section 7.4)")
    return code, utf8(payload[2:], "the reason of a Close frame")


def utf8(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{what} is not UTF-8 (RFC 6455 section 8.1): {error}") from None


class FrameReader:
    """Frames from received bytes, ``received`` first. ``max_size`` bounds the payload of a frame, in bytes."""

    def __init__(self, max_size: int, compression: bool, received: bytes) -> None:
        self.buffer = bytearray(received)
        self._max_size = max_size
        self._compression = compression
        self._in_message = False

    def next(self) -> Frame | None:
        """The next frame, or ``None`` until more bytes are in ``buffer``."""
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        opcode, size, start = buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            announced, size = size, int.from_bytes(buffer[2:start], "big")
            if size < (126 if announced == 126 else 1 << 16):
                raise ProtocolError("a length is not in its shortest form (RFC 6455 section 5.2)")
        self._check(opcode, buffer[0], buffer[1], size)
        if len(buffer) < start + size:
            return None
        payload = bytes(memoryview(buffer)[start : start + size])
        frame = Frame(opcode, payload, bool(buffer[0] & 0x80), bool(buffer[0] & 0x40))
        del buffer[: start + size]
        if opcode < CLOSE:
            self._in_message = not frame.fin
        return frame

    def _check(self, opcode: int, first: int, second: int, size: int) -> None:
        if opcode not in NAMES:
            raise ProtocolError(f"a frame has the reserved opcode {opcode} (RFC 6455 section 5.2)")
        name = NAMES[opcode]
        if second & 0x80:
            raise ProtocolError(f"a {name} frame from the server is masked (RFC 6455 section 5.1)")
        if first & 0x30 or (first & 0x40 and not (self._compression and opcode in (TEXT, BINARY))):
            raise ProtocolError(f"a {name} frame has a reserved bit set (RFC 6455 section 5.2)")
        if opcode >= CLOSE and (not first & 0x80 or size > MAX_CONTROL):
            raise ProtocolError(f"a {name} frame is fragmented or over 125 bytes (RFC 6455 section 5.5)")
        if opcode < CLOSE and (opcode == CONTINUATION) != self._in_message:
            raise ProtocolError(f"a {name} frame {'inside' if self._in_message else 'outside'} a fragmented message")
        if size > self._max_size:
            raise ProtocolError(f"a {name} frame has {size} bytes, over max_size={self._max_size}")
