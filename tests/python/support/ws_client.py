"""A WebSocket client on a plain socket, for tests that must control every bit.

Nothing here validates what it sends: that is the point. What it reads is checked only as far as the server's framing
goes (lengths, no mask), so that a test sees exactly what was on the wire. Every wait has a deadline.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tls_transport

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TIMEOUT = 10.0


class Frame(NamedTuple):
    """One frame off the wire."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int:
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005

    @property
    def close_reason(self) -> str:
        return self.payload[2:].decode()


class HttpAnswer(NamedTuple):
    """Status line and headers (names lower-cased) of a response, and its body when it has a Content-Length."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        return values[0] if values else None


class ConnectionEnded(Exception):
    """The server closed before what was being read was complete."""


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def handshake(
    path: str = "/",
    *,
    key: str = KEY,
    method: str = "GET",
    version: str = "HTTP/1.1",
    drop: tuple[str, ...] = (),
    replace: dict[str, str] | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The bytes of an opening handshake; ``drop`` and ``replace`` name fields by their lower-case name."""
    fields = {
        "host": ("Host", "localhost"),
        "upgrade": ("Upgrade", "websocket"),
        "connection": ("Connection", "Upgrade"),
        "sec-websocket-key": ("Sec-WebSocket-Key", key),
        "sec-websocket-version": ("Sec-WebSocket-Version", "13"),
    }
    for name in drop:
        del fields[name]
    for name, value in (replace or {}).items():
        fields[name] = (fields[name][0], value)
    lines = [f"{method} {path} {version}", *(f"{n}: {v}" for n, v in (*fields.values(), *extra)), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def masked(payload: bytes, mask: bytes) -> bytes:
    if not payload:
        return b""
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
    length: int | None = None,
) -> bytes:
    """A client's frame. ``mask=None`` leaves it unmasked; ``length`` announces another length than the payload has."""
    data = payload.encode() if isinstance(payload, str) else bytes(payload)
    size = len(data) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask is not None else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (data if mask is None else mask + masked(data, mask))


def close_payload(code: int, reason: str | bytes = b"") -> bytes:
    return struct.pack("!H", code) + (reason.encode() if isinstance(reason, str) else reason)


def close_frame(code: int | None = None, reason: str | bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else close_payload(code, reason))


class Client:
    """A connection. With ``upgrade`` (the default) it is a WebSocket when the constructor returns."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        path: str = "/",
        *,
        upgrade: bool = True,
        extra: tuple[tuple[str, str], ...] = (),
        behind: bytes = b"",
        receive_buffer: int | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.sock: Any = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.buffer = bytearray()
        self.answer: HttpAnswer | None = None
        try:
            self.sock.settimeout(timeout)
            if receive_buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.connect(address)
            if not isinstance(address, str):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = tls_transport.wrap(self.sock)
            if upgrade:
                key = base64.b64encode(os.urandom(16)).decode()
                self.send_raw(handshake(path, key=key, extra=extra) + behind)
                self.answer = self.read_answer()
                if self.answer.status != 101:
                    raise AssertionError(f"no upgrade: {self.answer}")
                assert self.answer.get("sec-websocket-accept") == accept_of(key)
        except BaseException:
            self.sock.close()
            raise

    # --- out ---

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send(self, data: bytes | str, **bits: object) -> None:
        self.send_raw(frame(TEXT if isinstance(data, str) else BINARY, data, **bits))  # type: ignore[arg-type]

    def ping(self, data: bytes = b"") -> None:
        self.send_raw(frame(PING, data))

    def pong(self, data: bytes = b"") -> None:
        self.send_raw(frame(PONG, data))

    def send_close(self, code: int | None = 1000, reason: str | bytes = b"") -> None:
        self.send_raw(close_frame(code, reason))

    # --- in ---

    def fill_until(self, condition: Callable[[], object]) -> None:
        """Read and drop what arrives until ``condition()``: the last bytes may come before the drain handler runs."""

        def done() -> bool:
            while not condition() and select.select([self.sock], [], [], 0)[0]:
                self.fill()
                self.buffer.clear()
            return bool(condition())

        eventually(done)

    def fill(self) -> None:
        """Wait for more bytes."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            raise ConnectionEnded("reset") from None
        if not data:
            raise ConnectionEnded(f"end of stream after {bytes(self.buffer[:200])!r}")
        self.buffer += data

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def read_answer(self) -> HttpAnswer:
        """The next HTTP response, but for chunked bodies."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.fill()
        lines = self.take(end + 4).decode("latin-1").split("\r\n")
        headers = []
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        answer = HttpAnswer(int(lines[0].split()[1]), headers, b"")
        length = answer.get("content-length")
        return answer._replace(body=self.take(int(length))) if length else answer

    def read_frame(self) -> Frame:
        first, second = self.take(2)
        assert not second & 0x80, "a server must not mask"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.take(2))
            assert size > 125, "not the shortest length"
        elif size == 127:
            (size,) = struct.unpack("!Q", self.take(8))
            assert size > 65535, "not the shortest length"
        return Frame(first & 0x0F, self.take(size), bool(first & 0x80), first >> 4 & 7)

    def read_message(self) -> str | bytes:
        """The next message, whole in one frame, as str or bytes."""
        got = self.read_frame()
        assert got.fin, got[:1]
        assert got.rsv == 0, got[:1]
        assert got.opcode in (TEXT, BINARY), got
        return got.payload.decode() if got.opcode == TEXT else got.payload

    def read_messages(self, count: int) -> list[str | bytes]:
        return [self.read_message() for _ in range(count)]

    def read_close(self) -> tuple[int, str]:
        """The next frame, which must be a Close: its code (1005 for none) and reason."""
        got = self.read_frame()
        assert got.opcode == CLOSE, got
        return got.close_code, got.close_reason

    def read_to_end(self) -> list[Frame]:
        """All frames up to the end of the stream, which must fall between two frames."""
        frames = []
        while True:
            if not self.buffer:
                try:
                    self.fill()
                except ConnectionEnded:
                    return frames
            frames.append(self.read_frame())

    def read_frames_of_buffer(self) -> list[Frame]:
        """All frames of what was read already, which must end between two frames."""
        frames, at, view = [], 0, memoryview(self.buffer)
        while at < len(view):
            size, start = view[at + 1], at + 2
            if size in (126, 127):
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(view[start : start + width], "big"), start + width
            assert start + size <= len(view), "half a frame"
            frames.append(Frame(view[at] & 0x0F, bytes(view[start : start + size]), bool(view[at] & 0x80)))
            at = start + size
        return frames

    def expect_end(self) -> None:
        """The server has closed and nothing more comes."""
        try:
            self.fill()
        except ConnectionEnded:
            pass
        assert not self.buffer, bytes(self.buffer[:200])

    def expect_silence(self) -> None:
        """Nothing more has come. For when a reply to something later was read already, so that no waiting is needed."""
        self.sock.setblocking(False)
        try:
            self.buffer += self.sock.recv(4096)
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(TIMEOUT)
        assert not self.buffer, bytes(self.buffer[:200])

    def round_trip(self) -> None:
        """A ping and its pong: all that was sent before has been parsed."""
        token = os.urandom(8)
        self.ping(token)
        got = self.read_frame()
        assert got == Frame(PONG, token), got

    # --- ends ---

    def finish(self) -> None:
        """FIN without a Close frame."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST without a Close frame."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def eventually(condition: Callable[[], Any], what: str = "the condition", deadline: float = 20.0) -> Any:
    """Poll for a state nobody announces (a counter, memory, a kernel table); fails by name at the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen within {deadline} s"
        time.sleep(0.005)
