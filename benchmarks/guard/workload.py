"""What the guard counts: a server and its clients on one thread, in lockstep, so that every run does the same.

Runs under callgrind (guard.py), from a folder with an unstripped uwserve: ``workload.py FOLDER``. Whatever a client
sends is in the kernel before the server reads, so a message never arrives in pieces and a burst always as one. Each
case warms up and then runs in WINDOWS windows of equal length; ``os.getppid()``, which callgrind is told to watch and
nothing else here calls, ends each one. Prints, in order, a line ``CASE UNITS`` for each window.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine

sys.path.insert(0, sys.argv[1])

import uwserve

WINDOWS = 3
REQUEST = (
    b"GET /%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SUBSCRIBERS = 50
PATIENCE = 1_000_000  # turns of the event loop in which an answer must come

Step = Callable[[], Coroutine[None, None, None]]


def frame(payload: bytes, opcode: int) -> bytes:
    """Of a client, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    assert size < 65536
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def echoed(payload: bytes, opcode: int) -> bytes:
    """The same, of a server."""
    size = len(payload)
    return bytes([0x80 | opcode]) + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


class Client:
    """One connection, without blocking."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)

    def send(self, data: bytes) -> None:
        sent = self._socket.send(data)
        assert sent == len(data), "a message does not fit into the kernel's buffer"

    async def read(self, length: int) -> bytes:
        data = b""
        for _ in range(PATIENCE):
            try:
                piece = self._socket.recv(length - len(data))
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            assert piece, "the server has closed the connection"
            data += piece
            if len(data) == length:
                return data
        raise AssertionError("the server does not answer")

    async def open(self, path: bytes, answer_size: int) -> bytes:
        """The answer; of which ``answer_size`` bytes are awaited, 0: whatever comes first."""
        self.send(REQUEST % path)
        if answer_size:
            return await self.read(answer_size)
        answer = await self.read(1)
        while not answer.endswith(b"\r\n\r\n"):
            answer += await self.read(1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return answer

    def close(self) -> None:
        self._socket.close()


def fetch(request, server):
    server.upgrade(request, data=request.path)


def opened(ws):
    if ws.data == "/subscriber":
        ws.subscribe("topic")


def message(ws, data):
    if ws.data == "/publisher":
        ws.server.publish("topic", data)
    else:
        ws.send(data)


async def run_case(name: str, units: int, step: Step, count: int) -> None:
    """``count`` steps of ``units`` messages each in a window."""
    for _ in range(count):
        await step()
    for _ in range(WINDOWS):
        os.getppid()  # what lies between two windows is a part of its own
        for _ in range(count):
            await step()
        os.getppid()
        print(name, units * count)


async def echo(server, name: str, payload: bytes, opcode: int, burst: int, count: int) -> None:
    client = Client(server.port)
    await client.open(b"echo", 0)
    request, answer = frame(payload, opcode) * burst, echoed(payload, opcode) * burst

    async def step() -> None:
        client.send(request)
        assert await client.read(len(answer)) == answer

    await run_case(name, burst, step, count)
    client.close()


async def fan_out(server, name: str, payload: bytes, burst: int, count: int) -> None:
    publisher = Client(server.port)
    await publisher.open(b"publisher", 0)
    subscribers = [Client(server.port) for _ in range(SUBSCRIBERS)]
    for subscriber in subscribers:
        await subscriber.open(b"subscriber", 0)
    request, answer = frame(payload, 2) * burst, echoed(payload, 2) * burst

    async def step() -> None:
        publisher.send(request)
        for subscriber in subscribers:
            assert await subscriber.read(len(answer)) == answer

    await run_case(name, burst * SUBSCRIBERS, step, count)
    for client in (publisher, *subscribers):
        client.close()
    while server.pending_websockets:
        await asyncio.sleep(0)


async def handshakes(server, name: str, count: int) -> None:
    first = Client(server.port)
    answer = await first.open(b"echo", 0)
    first.close()

    async def step() -> None:
        client = Client(server.port)
        await client.open(b"echo", len(answer))
        client.close()
        while server.pending_websockets:
            await asyncio.sleep(0)

    await run_case(name, 1, step, count)


async def main() -> None:
    async with uwserve.serve(
        port=0, hostname="127.0.0.1", fetch=fetch, websocket={"open": opened, "message": message}
    ) as server:
        await echo(server, "echo-text-20", b"twenty bytes of text", 1, 1, 300)
        await echo(server, "echo-binary-16384", bytes(16384), 2, 1, 100)
        await echo(server, "echo-pipelined-128", b"x" * 128, 1, 32, 20)
        await fan_out(server, "fan-out-64", bytes(64), 10, 5)
        await fan_out(server, "fan-out-16384", bytes(16384), 1, 5)
        await handshakes(server, "handshake", 50)


asyncio.run(main())
