"""A raw HTTP client and servers in context managers, for the tests of HTTP, life cycle and demo.

The client knows no leniency: it reads exactly one response as RFC 9112 delimits it and keeps what follows. Nothing here
sleeps; every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tls_transport

from uwserve import Request, Response, Server, serve

DEADLINE = 20.0
"""Seconds any single wait may take; generous, because sanitizer builds are slow."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Reply:
    """One response as it came over the wire."""

    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The only value of a field; an assertion fails when it is there twice."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)


class ClosedError(Exception):
    """The server closed the connection in the middle of a response, or before it."""


class Client:
    """A TCP or unix connection and the bytes read from it that belong to no response yet."""

    def __init__(self, address: Server | int | str | bytes | tuple[str, int], *, receive_buffer: int = 0) -> None:
        if isinstance(address, Server):
            assert address.port is not None
            address = address.port
        if isinstance(address, int):
            address = ("127.0.0.1", address)
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        else:
            family = socket.AF_UNIX
        self.socket: Any = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls_transport.wrap(self.socket)
        self.buffer = bytearray()
        self.ended = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_pieces(self, data: bytes, size: int = 1) -> None:
        """Each piece in a packet of its own, as far as the kernel lets us say so (TCP_NODELAY)."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])

    def finish(self) -> None:
        """Nothing more to send: FIN, but still reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave without a good-bye: RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def fill(self) -> bool:
        """Read some more; False at the end of the stream."""
        if self.ended:
            return False
        data = self.socket.recv(1 << 18)
        self.buffer += data
        self.ended = not data
        return bool(data)

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and including ``end``."""
        start = 0
        while True:
            found = self.buffer.find(end, start)
            if found >= 0:
                return self._take(found + len(end))
            start = max(0, len(self.buffer) - len(end) + 1)
            if not self.fill():
                raise ClosedError(bytes(self.buffer[:200]))

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self.fill():
                raise ClosedError(f"{len(self.buffer)} of {count} bytes")
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = bytes(memoryview(self.buffer)[:count])
        del self.buffer[:count]
        return taken

    def read_rest(self) -> bytes:
        """All bytes until the server ends the connection."""
        while self.fill():
            pass
        return self._take(len(self.buffer))

    def at_end(self) -> bool:
        """True when the server ends the connection without sending anything more; a reset counts as an end."""
        try:
            return not self.buffer and not self.fill()
        except ConnectionResetError:
            return True

    def reply(self, method: str = "GET") -> Reply:
        """The next final response to a request with ``method``; what follows it stays in the buffer."""
        reply = self.head()
        if method == "HEAD" or reply.status < 200 or reply.status in (204, 304):
            return reply
        if "chunked" in (reply.get("Transfer-Encoding") or ""):
            assert reply.get("Content-Length") is None
            while size := int(self.read_until(b"\r\n"), 16):
                reply.chunks.append(self.read_exactly(size))
                assert self.read_exactly(2) == b"\r\n"
            assert self.read_exactly(2) == b"\r\n"
            reply.body = b"".join(reply.chunks)
            return reply
        length = reply.get("Content-Length")
        reply.body = self.read_rest() if length is None else self.read_exactly(int(length))
        return reply

    def head(self) -> Reply:
        """The next response head, interim ones included."""
        lines = self.read_until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            assert colon, line
            assert name, line
            assert name == name.strip(), line
            fields.append((name, value.strip()))
        return Reply(int(status), reason, version, fields, b"")

    def ask(self, request: bytes = GET) -> Reply:
        """Send one request and read its response."""
        self.send(request)
        return self.reply(request.split(b" ", 1)[0].decode("latin-1"))


def request(
    path: str = "/", method: str = "GET", body: bytes | None = None, *fields: str, version: str = "1.1"
) -> bytes:
    """The bytes of a well-formed request; ``fields`` are whole lines."""
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def upgrade_request(path: str = "/", *fields: str) -> bytes:
    """The bytes of a WebSocket handshake."""
    return request(
        path,
        "GET",
        None,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *fields,
    )


def echo(request: Request) -> Response:
    """A handler that tells what it got."""
    return Response.json(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "version": request.http_version,
            "headers": request.header_items,
            "length": len(request.body),
            "body": request.body[:64].decode("latin-1"),
        }
    )


@contextlib.contextmanager
def bound(**options: Any) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1 (or as ``options`` say) that does not run; stopped at the end."""
    if "unix" not in options:
        options = {"port": 0, "hostname": "127.0.0.1"} | options
    if options.keys().isdisjoint(("fetch", "routes", "websocket", "metrics", "dashboard")):
        options["fetch"] = echo  # nothing to serve is an error
    with serve(**options) as server:  # its end also joins the server's thread
        yield server
        if server.running:
            assert server.stop(True).wait(DEADLINE), "the server did not stop"


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Server]:
    """A server that runs in a background thread; stopped, with its connections, at the end."""
    with bound(**options) as server:
        server.start()
        yield server


def open_websocket(client: Client, path: str = "/") -> None:
    """Make the connection a WebSocket."""
    client.send(upgrade_request(path))
    assert client.head().status == 101


def read_frame(client: Client) -> tuple[int, bytes]:
    """(opcode, payload) of the next unfragmented frame from the server."""
    first, second = client.read_exactly(2)
    assert first & 0x80
    assert not second & 0x80
    length = second
    if second == 126:
        length = int.from_bytes(client.read_exactly(2), "big")
    elif second == 127:
        length = int.from_bytes(client.read_exactly(8), "big")
    return first & 0x0F, client.read_exactly(length)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A masked client frame of up to 125 bytes (with a mask of zeros)."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def expect_1001(*clients: Client) -> None:
    """Each reads the Close frame of a forced stop, and leaves."""
    for client in clients:
        assert read_frame(client) == (8, (1001).to_bytes(2, "big") + b"Server closed")
        client.__exit__()


@contextlib.contextmanager
def fast_readers(server: Server, *paths: str) -> Iterator[None]:
    """Clients in threads, one a path, that take endless answers as fast as they come; they leave at the end."""
    ended = threading.Event()

    def drain(path: str) -> None:
        with Client(server) as client:
            client.send(request(path))
            while not ended.is_set() and client.fill():
                client.buffer.clear()

    readers = [threading.Thread(target=drain, args=(path,)) for path in paths]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        ended.set()
        for reader in readers:
            reader.join()


class Recorder:
    """A list that another thread can wait for."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, *item: Any) -> None:
        with self._changed:
            self.items.append(item[0] if len(item) == 1 else item)
            self._changed.notify_all()

    def wait(self, count: int = 1) -> list[Any]:
        """The items, once there are ``count``."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.items) >= count, DEADLINE), self.items
            return list(self.items)


def upgrade(request: Request, server: Server) -> Any:
    """A ``fetch`` that opens WebSockets and answers everything else with ``plain``."""
    return None if server.upgrade(request) else "plain"


def answer(result: Any, sent: bytes = GET, **options: Any) -> Reply:
    """The reply to one request whose handler returns ``result``, or what ``result()`` returns or raises."""
    fetch: Callable[..., Any] = (lambda r: result()) if callable(result) else (lambda r: result)
    with running(fetch=fetch, **options) as server, Client(server) as client:
        return client.ask(sent)


def pattern(size: int) -> bytes:
    """Bytes in which a lost, doubled or moved block shows."""
    return b"".join(i.to_bytes(4, "big") for i in range(size // 4 + 1))[:size]


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
