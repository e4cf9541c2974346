"""The table of ``vectors.py`` against a running server: each vector whole, byte by byte and at every split point
(of long payloads: at their ends, and now and then between).

Each run is a connection of its own. They go over a unix socket, where SIOCOUTQ tells how much of what was sent the
server has not read yet: the next piece leaves only when that is nothing, so every split is really seen by the server,
and no test waits for a time to pass. Many runs are under way at once.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tls_transport
import vectors
from vector_shapes import LATER, OFFER, OPCODE_OF, SERVERS, Vector
from ws_client import CLOSE, TEXT, handshake

AT_ONCE = 100
SECONDS = 60.0
GROUPS = sorted({vector.group for vector in vectors.VECTORS})


def chops(vector: Vector, every: bool) -> Iterator[tuple[str, list[bytes]]]:
    """The ways to send a vector: (name, pieces). The handshake goes before the first piece, alone or with it."""
    sent = vector.sent
    yield "whole", [b"", sent]
    yield "behind the handshake", [sent]
    # What follows a violation is not split: it must not be looked at.
    size = len(sent.removesuffix(LATER))
    if size <= 300:
        yield "byte by byte", [b"", *(sent[i : i + 1] for i in range(size)), sent[size:]]
        points = [p for p in range(1, size + 1) if size <= 64 or p <= 16 or p > size - 16 or p % 7 == 0]
    else:  # long: the headers, the middle and the end
        step = size // 7
        yield f"{step} bytes at a time", [b"", *(sent[i : i + step] for i in range(0, len(sent), step))]
        points = [*range(1, 17), *range(size // 2, size // 2 + 4), *range(size - 16, size)]
    for point in points if every else points[len(points) // 2 : len(points) // 2 + 1]:
        yield f"split at {point}", [b"", sent[:point], sent[point:]]
        if point % 8 == 3:
            yield f"handshake and {point}", [sent[:point], sent[point:]]


class Run:
    """One connection that sends the pieces of one vector and keeps what comes back."""

    def __init__(self, vector: Vector, name: str, pieces: list[bytes]) -> None:
        self.vector, self.name = vector, f"{vector.name} ({name})"
        self.pieces = [piece for piece in pieces[1:] if piece]
        self.first = pieces[0]
        self.events: list[tuple[Any, ...]] = []
        self.received = bytearray()
        self.ended = False
        self.finished = not vector.fin  # whether its FIN, if any, has left

    def start(self, path: str, number: int, wrap: Any) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        self.sock = wrap(sock, server_hostname="localhost") if wrap else sock
        offer = OFFER if self.vector.server == "deflate" else ()
        self.send(handshake(f"/{number}", extra=offer) + self.first)
        self.sock.setblocking(False)

    def send(self, data: bytes) -> None:
        try:
            self.sock.setblocking(True)
            self.sock.sendall(data)
        except OSError:  # also what TLS makes of a connection that has ended
            self.pieces.clear()  # it has seen enough
        finally:
            self.sock.setblocking(False)

    def unread(self) -> int:
        """Bytes that the server has not taken from its socket."""
        return struct.unpack("i", fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]

    def advance(self) -> bool:
        """Do what can be done now; whether that was anything."""
        moved = False
        try:
            while data := self.sock.recv(1 << 17):
                self.received += data
                moved = True
            self.ended = moved = True
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.ended = moved = True
        if not self.ended and (self.pieces or not self.finished) and self.unread() == 0:
            moved = True
            if self.pieces:
                self.send(self.pieces.pop(0))
            else:
                socket.socket.shutdown(self.sock, socket.SHUT_WR)  # of TLS too, without its own goodbye
                self.finished = True
        return moved

    @property
    def done(self) -> bool:
        return self.ended and bool(self.events) and self.events[-1][0] == "close"

    def problem(self) -> str:
        """What was not as the vector says, or nothing."""
        vector = self.vector
        *events, close = self.events or [("nothing",)]
        if events != list(vector.events):
            return f"callbacks {shown(events)}, expected {shown(vector.events)}"
        if close[:2] != ("close", vector.code):
            return f"last callback {close}, expected close {vector.code}"
        if (not close[2]) if vector.reason is None else close[2] != vector.reason:
            return f"close reason {close[2]!r}, expected {vector.reason or 'some text'!r}"
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            return f"no handshake: {head[:80]!r}"
        try:
            frames = list(read_frames(rest))
        except ValueError as error:
            return f"{error} in {rest[:100]!r}"
        answers = list(frames)
        if vector.wire is not None:
            opcode, payload = answers.pop() if answers else (None, b"")
            code = struct.unpack("!H", payload[:2])[0] if len(payload) > 1 else None
            if opcode != CLOSE or (payload if isinstance(vector.wire, bytes) else code) != vector.wire:
                return f"last frame {(opcode, payload)}, expected Close {vector.wire!r}"
        return "" if answers == vector.answers else f"frames {shown(answers)}, expected {shown(vector.answers)}"


def shown(items: Any) -> str:
    text = repr(list(items))
    return text if len(text) < 200 else f"{text[:200]}... ({len(items)})"


def read_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        if data[0] & 0xF0 != 0x80 or len(data) < 2 or data[1] & 0x80:
            raise ValueError(f"frame header {data[:2].hex()}")
        size, start = data[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            raise ValueError("half a frame")
        yield data[0] & 0x0F, data[start : start + size]
        data = data[start + size :]


def drive(runs: list[Run], path: str, wrap: Any) -> None:
    """Every run to its end, AT_ONCE of them at a time."""
    deadline = time.monotonic() + SECONDS
    active: list[Run] = []
    poller = select.poll()
    waiting = list(enumerate(runs))[::-1]
    while active or waiting:
        while waiting and len(active) < AT_ONCE:
            number, run = waiting.pop()
            run.start(path, number, wrap)
            poller.register(run.sock, select.POLLIN)
            active.append(run)
        moved = False
        for run in active[:]:
            moved |= not run.ended and run.advance()
            if run.ended and run.sock.fileno() >= 0:
                poller.unregister(run.sock)
                run.sock.close()
            if run.done:
                moved = True
                active.remove(run)
        if not moved:
            poller.poll(1)
        if time.monotonic() > deadline:
            names = [f"{run.name}: {run.problem()}" for run in active[:5]]
            for run in active:
                run.sock.close()
            pytest.fail(f"{len(active)} runs did not end within {SECONDS} s:\n" + "\n".join(names), pytrace=False)


def handlers() -> dict[str, Any]:
    """Handlers that record into ``ws.data`` and echo."""

    def message(ws: Any, message: str | bytes) -> None:
        is_text = isinstance(message, str)
        ws.data.append(("text" if is_text else "binary", message.encode() if is_text else message))
        ws.send(message)

    return {
        "message": message,
        "ping": lambda ws, data: ws.data.append(("ping", data)),
        "pong": lambda ws, data: ws.data.append(("pong", data)),
        "close": lambda ws, code, reason: ws.data.append(("close", code, reason)),
    }


@pytest.mark.parametrize("group", GROUPS)
def test_vectors(serving, tmp_path, group):
    run_group(serving, tmp_path, group, every=True, tls=None)


@pytest.mark.parametrize("group", GROUPS)
def test_vectors_over_tls(serving, tmp_path, group):
    """The same in TLS records: each piece is one. The parser behind is the same, so one split in the middle will do."""
    wrap = tls_transport.client_context().wrap_socket
    run_group(serving, tmp_path, group, every=False, wrap=wrap, tls=tls_transport.server_options())


def run_group(serving: Any, tmp_path: Any, group: str, every: bool, wrap: Any = None, **options: Any) -> None:
    chosen = [vector for vector in vectors.VECTORS if vector.group == group]
    failures, total = [], 0
    for kind in sorted({vector.server for vector in chosen}):
        runs = [Run(vector, *chop) for vector in chosen if vector.server == kind for chop in chops(vector, every)]

        def fetch(request: Any, server: Any, runs: list[Run] = runs) -> Any:
            upgraded = server.upgrade(request, data=runs[int(request.path[1:])].events)
            return None if upgraded else "no upgrade"

        path = str(tmp_path / kind)
        live = serving(start=False, fetch=fetch, unix=path, **SERVERS[kind], **options)
        live.server.reload(websocket=handlers() | SERVERS[kind])
        live.server.start()
        drive(runs, path, wrap)
        total += len(runs)
        failures += [f"{run.name}: {problem}" for run in runs if (problem := run.problem())]
        live.stop()
    assert not failures, f"{len(failures)} of {total} runs:\n" + "\n".join(failures[:40])


def test_the_table_is_sound():
    """Names are unique, good vectors are well-formed, and bad ones are not told apart by what follows."""
    names = [(vector.group, vector.name) for vector in vectors.VECTORS]
    assert len(set(names)) == len(names)
    assert OPCODE_OF["text"] == TEXT
    for vector in vectors.VECTORS:
        assert vector.code == 1006 or vector.wire is not None, vector.name
        assert len(vector.sent) < 200_000, vector.name
