"""Every byte a handler sends arrives once, in order, the Close frame last; HTTP answers arrive whole and in order.

Sizes around every internal boundary, slow and fast readers, nested corks, publishes to oneself, answers now and later,
streams and handshakes that wait, all on one server at once. From a seed: a failure repeats with the same choices.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import Client, read_frame, request, running, upgrade_request
from ws_client import TEXT, frame

from uwserve import Request, Response, Server, ServerWebSocket

pytestmark = pytest.mark.wss

CLIENTS = 12  # of either kind
SIZES = [0, 10, 100, 1000, 5000, 12_000, 16_370, 16_384, 20_000, 70_000, 400_000]
BODIES = [0, 80, 8000, 12_288, 16_000, 100_000, 2_000_000]
UNLIMITED = 1 << 29


def numbered(n: int, size: int) -> bytes:
    return struct.pack(">I", n) + bytes([n & 255]) * size


def content(name: int, size: int) -> bytes:
    return b"%08d" % name * (size // 8)


class Handlers:
    """What the server does, at random. Runs on its thread only."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sockets: list[ServerWebSocket] = []
        self.parked: list[tuple[Request, Future[Any]]] = []
        self.server: Server

    def put(self, ws: ServerWebSocket) -> None:
        """The next message of that socket."""
        if ws.ready_state == 1:
            size = self.random.choice(SIZES if self.random.random() < 0.4 else [5, 50])
            assert ws.send(numbered(ws.data["next"], size))
            ws.data["next"] += 1

    def publish(self, ws: ServerWebSocket) -> None:
        """The same by way of its own topic."""
        size = self.random.choice([0, 10, 3000, 15_000, 20_000])
        if ws.ready_state == 1 and self.server.publish(ws.data["topic"], numbered(ws.data["next"], size)):
            ws.data["next"] += 1

    def work(self, ws: ServerWebSocket, depth: int = 0) -> None:
        for _ in range(self.random.randrange(1, 6)):
            target = ws if self.random.random() < 0.5 else self.random.choice(self.sockets)
            what = self.random.random()
            if what < 0.2 and depth < 3:
                target.cork(lambda ws: self.work(ws, depth + 1))
            elif what < 0.35:
                self.publish(target)
            elif what < 0.45:
                self.settle(1)
            else:
                self.put(target)

    def open(self, ws: ServerWebSocket) -> None:
        self.sockets.append(ws)
        ws.data = {"next": 0, "topic": f"of {id(ws)}"}
        if self.random.random() < 0.6:
            ws.subscribe(ws.data["topic"])
        if self.random.random() < 0.5:
            self.put(ws)

    def message(self, ws: ServerWebSocket, message: str) -> None:
        self.work(ws)
        if message == "end":
            self.put(ws)
            if self.random.random() < 0.5:
                self.end(ws)
            else:
                ws.cork(lambda ws: (self.put(ws), self.end(ws)))

    def end(self, ws: ServerWebSocket) -> None:
        ws.close(3000, str(ws.data["next"]))

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        self.sockets.remove(ws)

    def drain(self, ws: ServerWebSocket) -> None:
        if self.random.random() < 0.3:
            self.put(ws)

    def pieces(self, body: bytes) -> Iterator[bytes]:
        while body:
            size = self.random.choice([1, 100, 5000, 20_000, 200_000])
            yield body[:size]
            body = body[size:]
            if self.random.random() < 0.1:
                yield b""

    def fetch(self, request: Request, server: Server) -> Any:
        self.server = server
        if self.random.random() < 0.5:
            self.parked.append((request, Future()))
            server.call_soon(self.settle)
            return self.parked[-1][1]
        return self.answer(request)

    def answer(self, request: Request) -> Any:
        if request.is_upgrade:
            assert self.server.upgrade(request)
            return None
        body = content(*map(int, request.path[1:].split("-")))
        return body if self.random.random() < 0.5 else Response(self.pieces(body))

    def settle(self, most: int = 100) -> None:
        """Answers some of the requests that wait."""
        for _ in range(min(most, len(self.parked))):
            waiting, future = self.parked.pop(self.random.randrange(len(self.parked)))
            future.set_result(self.answer(waiting))


def websocket_client(server: Server, rnd: random.Random) -> None:
    """Asks a few times for anything, then for the end; checks every message's number and content."""
    with Client(server, receive_buffer=rnd.choice([0, 4096])) as client:
        early = frame(TEXT, "go") * rnd.randrange(3)
        client.send(upgrade_request() + early)
        assert client.head().status == 101
        asked = threading.Thread(
            target=lambda: [client.send(frame(TEXT, text)) for text in ["go"] * rnd.randrange(10) + ["end"]]
        )
        asked.start()
        count = 0
        while (got := read_frame(client))[0] != 8:
            assert got == (2, numbered(count, len(got[1]) - 4)), f"message {count}"
            count += 1
        assert got[1] == struct.pack(">H", 3000) + str(count).encode()
        assert client.at_end()
        asked.join()


def http_client(server: Server, rnd: random.Random) -> None:
    """A pipeline, whole or in small pieces, whose answers must come back whole and in order."""
    wanted = [(rnd.randrange(10**8), rnd.choice(BODIES)) for _ in range(rnd.randrange(1, 8))]
    half_close = rnd.random() < 0.3
    fields = [[] for _ in wanted[1:]] + [[] if half_close else ["Connection: close"]]
    data = b"".join(request(f"/{a}-{b}", "GET", None, *field) for (a, b), field in zip(wanted, fields, strict=True))
    with Client(server, receive_buffer=rnd.choice([0, 4096])) as client:
        client.send(data) if rnd.random() < 0.5 else client.send_pieces(data, rnd.choice([1, 40]))
        if half_close:
            client.finish()
        for name, size in wanted:
            assert client.reply().body == content(name, size), (name, size)
        assert client.at_end()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_byte_exact(seed: int) -> None:
    handlers = Handlers(seed)
    failures: list[str] = []

    def run(client: Callable[[Server, random.Random], None], number: int) -> None:
        try:
            client(server, random.Random(seed * 1000 + number))
        except BaseException as exc:
            failures.append(f"{client.__name__} {number}: {exc!r}"[:500])

    websocket = {name: getattr(handlers, name) for name in ("open", "message", "close", "drain")}
    with running(fetch=handlers.fetch, websocket=websocket | {"backpressure_limit": UNLIMITED}) as server:
        threads = [
            threading.Thread(target=run, args=(client, number))
            for number in range(CLIENTS)
            for client in (websocket_client, http_client)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, f"seed {seed}: {failures}"
        assert server.pending_requests == server.pending_websockets == 0
