"""Client processes of the soak: threads that do one thing after the other, chosen at random from a seed.

What is done is checked as far as a client can: echoes come back, violations are answered with their code. A connection
that ends early is an error except where the action is meant to end it.
"""

from __future__ import annotations

import faulthandler
import itertools
import random
import socket
import ssl
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import vectors
from ws_client import BINARY, CLOSE, CONT, PING, TEXT, Client, ConnectionEnded, Frame, frame, handshake

OFFER = (("Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover; server_no_context_takeover"),)
# What their server allows is not what the table's servers do.
VIOLATIONS = [vector for vector in vectors.VECTORS if vector.server == "plain" and vector.code in (1002, 1007)]
HANGS_AFTER = 90.0  # seconds after the end of a phase
TLS_ONLY, DEFLATE_ONLY = {"resume", "no_hello", "half_hello"}, {"compressed", "bad_compression"}


class Talker(Client):
    """Answers the server's own pings, as anyone who means to stay connected does."""

    def read_frame(self) -> Frame:
        while (got := super().read_frame()).opcode == PING:
            self.pong(got.payload)
        return got


class Peer:
    """One thread's actions against one server."""

    def __init__(self, server: dict[str, Any], dice: random.Random) -> None:
        self.server, self.dice = server, dice
        self.address = ("127.0.0.1", server["port"])
        self.context = None
        if server["tls"]:  # its certificates are of an authority in another process, and not what is looked at here
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.session: Any = None
        self.kept: list[tuple[float, socket.socket]] = []  # connections that just lie there, and until when

    # --- connections ---

    def raw(self, receive_buffer: int | None = None, tls: bool = True) -> Any:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(20)
        sock.connect(self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context and tls:
            return self.context.wrap_socket(sock, session=self.session)
        return sock

    def client(self, extra: tuple[tuple[str, str], ...] = (), upgrade: bool = True, **options: Any) -> Talker:
        client = Talker.__new__(Talker)
        client.sock, client.buffer, client.answer = self.raw(**options), bytearray(), None
        if upgrade:
            client.send_raw(handshake("/ws", extra=extra))
            client.answer = client.read_answer()
            assert client.answer.status == 101, client.answer
        return client

    def finish(self, client: Client) -> None:
        """The closing handshake; what was published meanwhile comes before."""
        client.send_close(1000, "done")
        with client:
            while client.read_frame().opcode != CLOSE:
                pass

    def message(self, client: Client, *skipped: str) -> str | bytes:
        while (got := client.read_message()) in ("to all", *skipped):
            pass
        return got

    # --- actions ---

    def echo(self) -> None:
        client = self.client()
        for _ in range(self.dice.randrange(1, 30)):
            size = self.dice.choice((0, 1, 60, 125, 126, 1000, 20_000, 70_000))
            data = self.dice.choice((b"b" * size, "t" * size))
            client.send(data)
            assert self.message(client) == data
        self.finish(client)

    def fragments(self) -> None:
        client = self.client()
        data = self.dice.randbytes(self.dice.randrange(2, 40_000))
        cuts = sorted({0, len(data), *(self.dice.randrange(len(data)) for _ in range(self.dice.randrange(6)))})
        pieces = list(itertools.pairwise(cuts))
        for i, (a, b) in enumerate(pieces):
            client.send_raw(
                frame(CONT if i else BINARY, data[a:b], fin=i == len(pieces) - 1, mask=self.dice.randbytes(4))
            )
            if self.dice.random() < 0.1:
                client.send_raw(frame(10, b"unasked"))
        assert self.message(client) == data
        self.finish(client)

    def topics(self) -> None:
        clients = [self.client() for _ in range(self.dice.randrange(2, 6))]
        topic = f"topic-{self.dice.randrange(1 << 30)}"
        for client in clients:
            client.send(f"!subscribe {topic}")
            assert self.message(client) == f"subscribed {topic}"
        for i in range(10):
            clients[0].send(f"!publish {topic} {i} " + "x" * self.dice.choice((5, 500, 30_000)))
        for client in clients:
            for i in range(10):
                got = self.message(client)
                assert isinstance(got, str), got
                assert got.startswith(f"{i} "), got[:30]
            self.finish(client)

    def to_all(self) -> None:
        client = self.client()
        client.send("!publish all to all")
        assert client.read_message() == "to all"
        self.finish(client)

    def compressed(self) -> None:
        client = self.client(OFFER)
        assert client.answer and "permessage-deflate" in (client.answer.get("sec-websocket-extensions") or ""), (
            client.answer
        )
        for _ in range(self.dice.randrange(1, 10)):
            data = b"compress me " * self.dice.randrange(1, 3000)
            client.send_raw(frame(BINARY, vectors.deflated(data), rsv=4))
            while (got := client.read_frame()).opcode != BINARY:
                pass
            inflate = zlib.decompressobj(-15)
            assert (inflate.decompress(got.payload + b"\0\0\xff\xff") if got.rsv else got.payload) == data
        self.finish(client)

    def bad_compression(self) -> None:
        bomb = self.dice.random() < 0.5
        with self.client(OFFER) as client:
            data = vectors.deflated(b"\0" * 4_000_000) if bomb else b"\xff" * 50
            client.send_raw(frame(BINARY, data, rsv=4))
            self.closed_with(client, 1009 if bomb else 1007)

    def closed_with(self, client: Client, code: int) -> None:
        while (got := client.read_frame()).opcode != CLOSE:
            pass
        assert got.close_code == code, got

    def violate(self) -> None:
        vector = self.dice.choice(VIOLATIONS)
        with self.client() as client:
            client.send_raw(vector.sent)
            self.closed_with(client, vector.code)

    def slow(self) -> None:
        """Asks for much, reads a part of it slowly and leaves."""
        with self.client(receive_buffer=8192) as client:
            client.send("!large 900000")
            for _ in range(self.dice.randrange(5)):
                client.sock.recv(4096)
                time.sleep(0.01)

    def drained(self) -> None:
        client = self.client(receive_buffer=16384)
        client.send("!large 700000")
        assert len(self.message(client)) == 700_000
        self.finish(client)

    def reset(self) -> None:
        sock = self.client().sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    def cut(self) -> None:
        """Leaves in the middle of a frame."""
        with self.client() as client:
            client.send_raw(frame(TEXT, "x" * 1000)[: self.dice.randrange(1, 900)])

    def keep(self, sock: socket.socket, seconds: float) -> None:
        self.kept.append((time.monotonic() + seconds, sock))
        if len(self.kept) > 5:
            self.kept.pop(0)[1].close()

    def idle(self) -> None:
        """Never says anything again: the server ends it, or we later."""
        self.keep(self.client().sock, self.dice.choice((1, 5, 20)))

    def half_head(self) -> None:
        sock = self.raw()
        sock.sendall(handshake("/ws")[: self.dice.randrange(1, 100)])
        self.keep(sock, self.dice.choice((0.1, 3, 12)))

    def server_closes(self) -> None:
        with self.client() as client:
            client.send("!close 4001")
            self.closed_with(client, 4001)

    def terminated(self) -> None:
        with self.client() as client:
            client.send("!terminate")
            try:
                while True:
                    client.read_frame()
            except (ConnectionEnded, OSError):
                pass

    def pings(self) -> None:
        client = self.client()
        for i in range(20):
            client.send_raw(frame(PING, bytes([i])))
        for i in range(20):
            while (got := client.read_frame()).opcode != 10:
                pass
            assert got.payload == bytes([i])
        self.finish(client)

    def requests(self) -> None:
        with self.client(upgrade=False) as client:
            for path, body in ((b"/", b"page"), (b"/hello/you", b"hello you"), (b"/static", b"s"), (b"/later", None)):
                client.send_raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = client.read_answer()
                assert answer.status == 200, answer
                assert body is None or answer.body == body, answer
            size = self.dice.choice((0, 10, 5000, 200_000))
            client.send_raw(b"POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"p" * size)
            assert len(client.read_answer().body) == (size or 4)
            client.send_raw(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while client.sock.recv(65536):
                pass

    def refused(self) -> None:
        head = self.dice.choice(
            (
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
                b"BAD\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            )
        )
        with self.client(upgrade=False) as client:
            client.send_raw(head)
            assert 400 <= client.read_answer().status < 600

    def leave_early(self) -> None:
        """Asks for an answer that takes a while and does not wait for it."""
        sock = self.raw()
        sock.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.close()

    def resume(self) -> None:
        """TLS session resumption: the next handshake of this thread uses the session of this one."""
        client = self.client()
        client.send("x")
        assert self.message(client) == "x"
        self.session = client.sock.session
        self.finish(client)

    def no_hello(self) -> None:
        with self.raw(tls=False) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                sock.recv(1000)
            except ConnectionResetError:
                pass

    def half_hello(self) -> None:
        sock = self.raw(tls=False)
        sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: self.dice.randrange(1, 7)])
        self.keep(sock, self.dice.choice((0.1, 12)))

    # --- the loop ---

    def choices(self) -> list[Callable[[], None]]:
        names = [
            "echo", "echo", "fragments", "topics", "to_all", "violate", "violate", "slow", "drained", "reset", "cut",
            "idle", "half_head", "server_closes", "terminated", "pings", "requests", "refused", "leave_early",
            *TLS_ONLY, *DEFLATE_ONLY,
        ]  # fmt: skip
        if not self.server["tls"]:
            names = [name for name in names if name not in TLS_ONLY]
        if not self.server["deflate"]:
            names = [name for name in names if name not in DEFLATE_ONLY]
        return [getattr(self, name) for name in names]

    def run(self, until: float, pace: float, counts: Counter[str], failures: list[str]) -> None:
        choices = self.choices()
        while time.monotonic() < until:
            action = self.dice.choice(choices)
            try:
                action()
                counts[action.__name__] += 1
            except Exception:
                failures.append(f"{action.__name__} on {self.server['name']}: {traceback.format_exc(limit=-3)}")
            now = time.monotonic()
            for one in [one for one in self.kept if one[0] < now]:
                one[1].close()
                self.kept.remove(one)
            time.sleep(pace * self.dice.random() * 2)
        for _, sock in self.kept:
            sock.close()
        self.kept.clear()


def work(pipe: Connection, servers: list[dict[str, Any]], pace: float) -> None:
    """A client process: for each (seconds, seed) from the pipe, a thread a server; answers (counts, failures)."""
    while (order := pipe.recv()) is not None:
        seconds, seed = order
        faulthandler.dump_traceback_later(seconds + HANGS_AFTER)
        counts: Counter[str] = Counter()
        failures: list[str] = []
        until = time.monotonic() + seconds
        peers = [Peer(server, random.Random(f"{seed} {server['name']}")) for server in servers]
        threads = [threading.Thread(target=peer.run, args=(until, pace, counts, failures)) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        faulthandler.cancel_dump_traceback_later()
        pipe.send((counts, failures))
