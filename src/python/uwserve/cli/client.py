"""A WebSocket client that is just enough for ``bench`` and ``doctor``: binary messages of one size, and their echoes.

A blocking socket for the handshake; after it, whoever holds the client reads and writes as he likes. What comes back is
compared as a whole, so that no frame is parsed: the frame of an echo is known (RFC 6455 section 5.2).
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
from typing import TYPE_CHECKING

from .errors import CommandError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes) -> bytes:
    """A client's binary frame. The mask is zero: it protects proxies from chosen bytes, and there are none here."""
    return b"\x82" + _length(len(payload), 0x80) + bytes(4) + payload


def answer(payload: bytes) -> bytes:
    """The same from a server."""
    return b"\x82" + _length(len(payload), 0) + payload


def _length(size: int, mask: int) -> bytes:
    if size < 126:
        return bytes([mask | size])
    return (
        bytes([mask | 126]) + size.to_bytes(2, "big") if size < 65536 else bytes([mask | 127]) + size.to_bytes(8, "big")
    )


class Echo:
    """A connection whose handshake is done. ``CommandError`` when it cannot be made."""

    def __init__(self, host: str, port: int, path: str = "/", *, tls: bool = False, timeout: float = 10.0) -> None:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"  # RFC 3986 section 3.2.2
        try:
            self.socket: socket.socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise CommandError(f"cannot connect to {where}: {error}") from error
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                context = ssl.create_default_context()
                context.check_hostname = False  # a measurement sends nothing that is worth protecting
                context.verify_mode = ssl.CERT_NONE
                self.socket = context.wrap_socket(self.socket, server_hostname=host)
            self._shake_hands(where, path)
        except OSError as error:
            self.socket.close()
            raise CommandError(f"no WebSocket at {where}{path}: {error}") from error
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def _shake_hands(self, where: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = [
            b"GET " + path.encode() + b" HTTP/1.1",
            b"Host: " + where.encode(),
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + key,
        ]
        self.socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)  # nothing behind the head may be taken
            if not byte or len(head) > 16384:
                raise CommandError(f"no WebSocket at {where}{path}: the connection ended in the handshake")
            head += byte
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        if " 101" not in status or accept not in head:
            raise CommandError(f"no WebSocket at {where}{path}: {status}")

    def send(self, payload: bytes) -> None:
        self.socket.sendall(frame(payload))

    def receive(self, size: int) -> bytes:
        """Exactly so many bytes; fewer at the end of the stream."""
        data = b""
        while len(data) < size and (piece := self.socket.recv(size - len(data))):
            data += piece
        return data
