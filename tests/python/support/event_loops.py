"""Servers inside an event loop, for tests that are run on asyncio and on uvloop; and a client on the same loop."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import Any

import uvloop

import uwserve

LOOPS = ("asyncio", "uvloop")
SECONDS = 20
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def run_on(kind: str, coroutine: Any) -> Any:
    """``asyncio.run`` on a loop of that kind, bounded in time; warnings about what was left behind are errors."""
    failures: list[dict[str, Any]] = []

    async def bounded() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        return await asyncio.wait_for(coroutine, SECONDS)

    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    try:
        result = loop.run_until_complete(bounded())
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not failures, failures
    assert not left, left
    return result


async def until(condition: Any) -> None:
    """Lets the loop run until it is true; the test's own time limit ends it otherwise."""
    while not condition():
        await asyncio.sleep(0.001)


def upgrade(request: uwserve.Request, server: uwserve.Server) -> Any:
    return None if server.upgrade(request) else uwserve.Response("no websocket", 400)


def bound(**options: Any) -> uwserve.Server:
    """A server on a free port; what serve() does not know are options of ``websocket``."""
    top = {name: options.pop(name) for name in ("fetch", "routes", "error", "idle_timeout", "unix") if name in options}
    if "ws_error" in options:
        options["error"] = options.pop("ws_error")
    if "unix" not in top:
        top |= {"port": 0, "hostname": "127.0.0.1"}
    return uwserve.serve({"fetch": upgrade} | top | {"websocket": options})


def embedded(**options: Any) -> uwserve.Server:
    """For ``async with``."""
    return bound(**options)


class Peer:
    """A WebSocket client of a few lines, on the server's own loop."""

    def __init__(self, server: uwserve.Server) -> None:
        self._port = server.port
        self.reader: Any = None

    async def __aenter__(self) -> Peer:
        await self.connect()
        while True:
            line = await self.reader.readline()
            assert line, "the server hung up"
            if line == b"\r\n":
                return self

    async def connect(self) -> None:
        """Sends the handshake; does not wait for the answer."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.writer.write(HANDSHAKE)

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    @staticmethod
    def frame(opcode: int, payload: bytes) -> bytes:
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        return head + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload))

    @classmethod
    def message(cls, text: str) -> bytes:
        return cls.frame(1, text.encode())

    @classmethod
    def ping(cls, data: bytes = b"p") -> bytes:
        return cls.frame(9, data)

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, *texts: str) -> None:
        """Messages, all in one write."""
        await self.send_raw(b"".join(map(self.message, texts)))

    async def read_frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)

    async def read(self) -> str:
        """The next message; pongs are skipped."""
        while True:
            opcode, payload = await asyncio.wait_for(self.read_frame(), SECONDS)
            if opcode != 10:
                assert opcode in (1, 2), (opcode, payload)
                return payload.decode()

    async def round_trip_ping(self) -> None:
        await self.send_raw(self.ping(b"trip"))
        while await asyncio.wait_for(self.read_frame(), SECONDS) != (10, b"trip"):
            pass

    async def expect_close(self, code: int) -> None:
        """A Close frame with this code is the next frame but for messages and pongs."""
        while True:
            opcode, payload = await asyncio.wait_for(self.read_frame(), SECONDS)
            if opcode == 8:
                assert struct.unpack("!H", payload[:2]) == (code,), payload
                return
