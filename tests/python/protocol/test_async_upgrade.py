"""server.upgrade() after awaits in fetch, for as long as the client waits; what it sends meanwhile is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from event_loops import HANDSHAKE, LOOPS, Peer, embedded, run_on

import uwserve

pytestmark = [
    pytest.mark.parametrize("loop_kind", LOOPS),
    pytest.mark.plain("the clients here speak plain TCP"),
]


class Gate:
    """A fetch that waits until the test lets it upgrade."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.upgraded: list[bool] = []

    async def __call__(self, request: uwserve.Request, server: uwserve.Server) -> Any:
        self.entered.set()
        await self.go.wait()
        await asyncio.sleep(0)
        self.upgraded.append(server.upgrade(request, data="late"))


def test_upgrade_after_awaits(loop_kind: str) -> None:
    """Frames that came meanwhile follow open, in order."""
    seen: list[Any] = []

    async def open(ws: Any) -> None:
        seen.append(("open", ws.data))

    async def message(ws: Any, message: str) -> None:
        seen.append(message)
        ws.send(message)

    async def main() -> None:
        gate = Gate()
        async with embedded(fetch=gate, open=open, message=message) as server:
            peer = Peer(server)
            await peer.connect()
            await peer.send("1", "2")
            await gate.entered.wait()
            await peer.send("3")
            await asyncio.sleep(0.01)
            assert not seen
            gate.go.set()
            assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert [await peer.read() for _ in range(3)] == ["1", "2", "3"]
            await peer.__aexit__()
        assert gate.upgraded == [True]
        assert seen == [("open", "late"), "1", "2", "3"]

    run_on(loop_kind, main())


def test_what_comes_meanwhile_is_bounded(loop_kind: str) -> None:
    """Megabytes before the upgrade are not held: TCP waits, and they arrive whole."""
    received: list[int] = []

    async def main() -> None:
        gate = Gate()
        async with embedded(fetch=gate, message=lambda ws, message: received.append(len(message))) as server:
            peer = Peer(server)
            await peer.connect()
            await gate.entered.wait()
            frame = peer.message("x" * 60_000)
            peer.writer.write(frame * 200)
            sending = asyncio.ensure_future(peer.writer.drain())
            await asyncio.wait([sending], timeout=0.1)
            assert server.buffered_bytes < 1 << 20
            gate.go.set()
            await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 10)
            await sending
            while len(received) < 200:
                await asyncio.sleep(0.001)
            await peer.__aexit__()
        assert received == [60_000] * 200

    run_on(loop_kind, main())


def test_a_client_that_leaves(loop_kind: str) -> None:
    """upgrade() answers False; the coroutine is not cancelled."""

    async def main() -> None:
        gate = Gate()
        async with embedded(fetch=gate) as server:
            peer = Peer(server)
            await peer.connect()
            await gate.entered.wait()
            await peer.__aexit__()
            while server.pending_requests:
                await asyncio.sleep(0.001)
            gate.go.set()
            while not gate.upgraded:
                await asyncio.sleep(0.001)
        assert gate.upgraded == [False]

    run_on(loop_kind, main())


@pytest.mark.parametrize("status", [200, 302, 401, 403, 503])
def test_rejecting(loop_kind: str, status: int) -> None:
    async def fetch(request: uwserve.Request) -> Any:
        await asyncio.sleep(0)
        return uwserve.Response("no", status, {"X-Why": "because"})

    async def main() -> None:
        async with embedded(fetch=fetch) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(HANDSHAKE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"X-Why: because" in head
            writer.close()

    run_on(loop_kind, main())


def test_longer_than_the_idle_timeout(loop_kind: str) -> None:
    """The idle timeout of HTTP counts for the answer: server.timeout(request, 0) lets a slow decision take its time."""

    async def main() -> None:
        outcome: list[bool] = []

        async def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
            if request.path == "/":
                server.timeout(request, 0)
            await asyncio.sleep(2.5)
            outcome.append(server.upgrade(request))

        async with embedded(fetch=fetch, idle_timeout=1) as server:
            peer = Peer(server)
            await peer.connect()
            assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            await peer.__aexit__()
        assert outcome == [True]

    run_on(loop_kind, main())


def test_a_cancelled_decision_is_answered(loop_kind: str) -> None:
    async def fetch(request: uwserve.Request) -> Any:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def main() -> None:
        async with embedded(fetch=fetch) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(HANDSHAKE)
            assert (await reader.readline()).startswith(b"HTTP/1.1 500")
            writer.close()

    run_on(loop_kind, main())
