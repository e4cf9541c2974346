"""Binary telemetry, and what to do with a client that reads more slowly than samples come: drop old ones, on purpose.

A sample is binary: its number and how many were dropped for this client before it (two unsigned 32-bit integers), then
a waveform of 2,048 32-bit floats; big-endian (network order). ``ws.buffered_amount`` says what waits in memory for a
client. Past HIGH bytes it is sent nothing; only the newest QUEUE samples are kept for it, and ``drain`` sends them as
soon as the client has read. So it always gets fresh samples, memory is bounded, and other clients notice nothing.

PORT=3000 python examples/telemetry.py, ws://localhost:3000/ is the stream, http://localhost:3000/ tells who is behind.
"""

import asyncio
import contextlib
import itertools
import math
import os
import struct
from collections import deque
from typing import Any

from uwserve import Request, Server, ServerWebSocket, WebSocketHandler, serve

HIGH = 256 * 1024
QUEUE = 16
POINTS = 2048
HEAD = struct.Struct("!II")


class Client:
    """What is kept for one client: its ``ws.data``."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.waiting: deque[tuple[int, bytes]] = deque(maxlen=QUEUE)
        self.dropped = 0


class Telemetry(WebSocketHandler):
    """The stream. ``clients`` and everything else is used on the server's thread only."""

    def __init__(self) -> None:
        self.clients: set[ServerWebSocket] = set()

    def open(self, ws: ServerWebSocket) -> None:
        ws.data = Client(ws.id)
        self.clients.add(ws)

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        self.clients.discard(ws)

    def drain(self, ws: ServerWebSocket) -> None:
        self.flush(ws)

    def sample(self, number: int, waveform: bytes) -> None:
        """A new sample, for everybody."""
        for ws in self.clients:
            client: Client = ws.data
            if len(client.waiting) == QUEUE:
                client.dropped += 1  # the deque forgets its oldest by itself
            client.waiting.append((number, waveform))
            self.flush(ws)

    def flush(self, ws: ServerWebSocket) -> None:
        client: Client = ws.data
        while client.waiting and ws.buffered_amount < HIGH:
            number, waveform = client.waiting.popleft()
            ws.send_binary(HEAD.pack(number, client.dropped) + waveform)

    def state(self) -> list[dict[str, Any]]:
        return [
            {"client": ws.data.name, "dropped": ws.data.dropped, "buffered": ws.buffered_amount} for ws in self.clients
        ]


async def measure(telemetry: Telemetry, rate: float) -> None:
    """The instrument: ``rate`` samples a second."""
    waveforms = [
        struct.pack(f"!{POINTS}f", *(math.sin(phase / 8 + point / 40) for point in range(POINTS)))
        for phase in range(50)
    ]
    for number in itertools.count():
        telemetry.sample(number, waveforms[number % len(waveforms)])
        await asyncio.sleep(1 / rate)


async def main() -> None:
    telemetry = Telemetry()

    def fetch(request: Request, server: Server) -> list[dict[str, Any]] | None:
        return None if server.upgrade(request) else telemetry.state()

    port = int(os.environ.get("PORT", "3000"))
    async with serve(fetch=fetch, websocket=telemetry, port=port, hostname="127.0.0.1") as server:
        print(f"telemetry on {server.url}", flush=True)
        await measure(telemetry, rate=float(os.environ.get("RATE", "50")))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C: the clients were told 1001
        asyncio.run(main())
