"""The clients of chaos_calls.py: they come, send anything, read some of it, and go in any way."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable

from http_client import request as http_request
from ws_client import Client, ConnectionEnded, frame, handshake


class Crowd:
    """Each connection has a tag of its own, with which every message that its socket is sent begins; or with ``t:``."""

    def __init__(
        self,
        seed: int,
        address: tuple[str, int],
        going_on: Callable[[], bool],
        problem: Callable[[str], None],
        counts: dict[str, int],
    ) -> None:
        self.seed = seed
        self.address = address
        self.going_on = going_on
        self.problem = problem
        self.counts = counts

    def client(self, number: int) -> None:
        side = random.Random(f"{self.seed} {number} {self.counts['servers']}")
        while self.going_on():
            tag = f"c{number}n{side.randrange(1 << 30)}"
            with contextlib.suppress(OSError, ConnectionEnded):
                if side.random() < 0.2:
                    self.page(side)
                else:
                    self.talk(side, tag)

    def page(self, side: random.Random) -> None:
        with socket.create_connection(self.address, 5) as plain:
            plain.sendall(http_request("/page") * side.randrange(1, 4))
            plain.settimeout(0.02)
            while plain.recv(1 << 16):
                pass

    def talk(self, side: random.Random, tag: str) -> None:
        client = Client(self.address, upgrade=False, receive_buffer=side.choice((None, 8192)))
        with client:
            client.sock.sendall(handshake("/" + tag) + (self.frames(side) if side.random() < 0.3 else b""))
            client.sock.settimeout(1)
            if client.read_answer().status != 101:
                return
            for _ in range(side.randrange(20)):
                client.sock.settimeout(side.choice((0.001, 0.02)))
                with contextlib.suppress(socket.timeout):
                    if side.random() < 0.6:
                        client.sock.sendall(self.frames(side))
                    elif data := client.sock.recv(1 << 16):
                        client.buffer += data
                    else:
                        return
                self.check(client, tag)
            if side.random() < 0.3:
                client.reset()
            elif side.random() < 0.3:
                client.send_close(1000)
            elif side.random() < 0.2:
                client.finish()

    def check(self, client: Client, tag: str) -> None:
        """Each whole frame of what was read."""
        view = bytes(client.buffer)
        start = 0
        while len(view) - start >= 2:
            first, size = view[start], view[start + 1]
            head = {126: 4, 127: 10}.get(size, 2)
            if size >= 126:
                size = int.from_bytes(view[start + 2 : start + head], "big")
            if len(view) - start < head + size:
                break
            payload = view[start + head : start + head + size]
            start += head + size
            self.counts["frames"] += 1
            if first & 15 in (1, 2) and not payload.startswith((f"{tag}:".encode(), b"t:")):
                self.problem(f"{tag} got {payload[:40]!r}")
            if first not in (0x81, 0x82, 0x88, 0x89, 0x8A):
                self.problem(f"{tag} got a frame that begins with {first:#x}")
        del client.buffer[:start]

    def frames(self, side: random.Random) -> bytes:
        out = []
        for _ in range(side.randrange(6)):
            size = side.choice((0, 1, 100, 126, 5000, 16_384, 70_000))
            kind = side.randrange(8)
            if kind < 5:
                out.append(frame(side.choice((1, 2)), b"m" * size))
            elif kind == 5:
                out.append(frame(9, b"p"))
            elif kind == 6:
                out += [frame(2, bytes(size), fin=False), frame(10, b""), frame(0, bytes(size))]
            elif side.random() < 0.1:
                out.append(os.urandom(20))
        return b"".join(out)
