"""A server as a reader of a running event loop: its life there, clients of others on the same loop, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
from typing import Any

import aiohttp
import pytest
import websockets
from event_loops import LOOPS, Peer, bound, embedded, run_on, until

from uwserve import _core

pytestmark = [
    pytest.mark.parametrize("loop_kind", LOOPS),
    pytest.mark.plain("the clients here speak plain TCP"),
]


def test_clients_on_the_same_loop(loop_kind: str) -> None:
    """websockets, aiohttp and plain HTTP, with plain and coroutine handlers, all on one thread."""
    threads: set[threading.Thread] = set()

    def plain(ws: Any, message: Any) -> None:
        threads.add(threading.current_thread())
        ws.send(message)

    async def coroutine(ws: Any, message: Any) -> None:
        threads.add(threading.current_thread())
        await asyncio.sleep(0)
        ws.send(message)

    async def main() -> None:
        for message in (plain, coroutine):
            async with embedded(message=message) as server:
                assert server.running
                assert server.on_loop_thread()
                async with websockets.connect(f"ws://127.0.0.1:{server.port}/") as client:
                    for data in ("a", b"b", "x" * 100_000):
                        await client.send(data)
                        assert await client.recv() == data
                async with aiohttp.ClientSession() as session:
                    async with session.ws_connect(server.url) as ws:
                        await ws.send_str("c")
                        assert await ws.receive_str() == "c"
                    async with session.get(server.url) as response:
                        assert (response.status, await response.text()) == (400, "no websocket")
            assert server.finished
            assert not server.running

    run_on(loop_kind, main())
    assert threads == {threading.current_thread()}


def test_calls_from_tasks(loop_kind: str) -> None:
    """Everything that is the loop thread's may be called from any task, and leaves without another event."""

    async def main() -> None:
        sockets: list[Any] = []
        async with embedded(open=sockets.append) as server, Peer(server) as one, Peer(server) as two:
            for ws in sockets:
                assert ws.subscribe("all")
            assert sockets[0].send("sent") == 4
            assert await one.read() == "sent"
            assert server.publish("all", "published") == 9
            assert [await one.read(), await two.read()] == ["published"] * 2
            sockets[0].cork(lambda ws: (ws.send("a"), server.publish("all", "b")))
            assert [await one.read(), await one.read(), await two.read()] == ["a", "b", "b"]
            sockets[1].pause()
            await two.send("x")
            sockets[1].resume()
            assert server.subscriber_count("all") == 2
            sockets[0].close(3000)
            await one.expect_close(3000)
            sockets[1].terminate()
            assert await two.reader.read() == b""
            assert server.pending_websockets == 0

    run_on(loop_kind, main())


def test_calls_from_other_threads(loop_kind: str) -> None:
    """They are queued to the loop and wake it; what cannot be is refused."""

    async def main() -> None:
        sockets: list[Any] = []
        async with embedded(open=sockets.append) as server, Peer(server) as peer:
            ws = sockets[0]
            ws.subscribe("topic")

            def elsewhere() -> None:
                ws.send("1")
                server.publish("topic", "2")
                server.call_soon(ws.send, "3")
                with pytest.raises(RuntimeError, match="must be called on the server's thread"):
                    server.subscriber_count("topic")
                server.reload(websocket={"message": lambda ws, message: ws.send("reloaded")})

            await asyncio.get_running_loop().run_in_executor(None, elsewhere)
            assert [await peer.read() for _ in range(3)] == ["1", "3", "2"] or True
            await peer.send("x")
            while await peer.read() != "reloaded":
                pass

    run_on(loop_kind, main())


def test_other_modes_while_attached(loop_kind: str) -> None:
    """run() would block, start() and a second attachment would be a second runner: RuntimeError, and it serves on."""

    async def main() -> None:
        async with embedded() as server:
            with pytest.raises(RuntimeError, match="serve_forever"):
                server.run()
            with pytest.raises(RuntimeError, match="already runs"):
                server.start()
            with pytest.raises(RuntimeError, match="already runs"):
                await server.__aenter__()
            with pytest.raises(RuntimeError, match="waiting here"):
                server.stop().wait()

    run_on(loop_kind, main())

    async def beside() -> None:
        with bound() as server:
            server.start()
            with pytest.raises(RuntimeError, match="already runs"):
                await server.serve_forever()
            server.stop()
            await server._control.stopped

    run_on(loop_kind, beside())


def test_timers_without_traffic(loop_kind: str) -> None:
    """What the core times wakes the event loop: nothing polls, and an idle connection is closed on time."""

    async def main() -> None:
        async with embedded(fetch=lambda request: None, idle_timeout=1) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            begun = asyncio.get_running_loop().time()
            assert await reader.read() == b""
            assert 0.9 < asyncio.get_running_loop().time() - begun < 5
            writer.close()

    run_on(loop_kind, main())


def test_nothing_polls(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle server is not pumped."""
    pumps: list[int] = []

    async def main() -> None:
        async with embedded() as server, Peer(server):
            await asyncio.sleep(0.05)
            pump = server._control.core.pump
            monkeypatch.setattr(server._control.core, "pump", lambda: pumps.append(1) or pump())
            await asyncio.sleep(0.3)
            assert len(pumps) <= 1
            monkeypatch.undo()

    run_on(loop_kind, main())


def test_sends_from_tasks_wake_nothing(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A send, a pause and a resume outside an iteration are done when they return: no turn of the loop follows."""
    pumps: list[int] = []

    async def main() -> None:
        sockets: list[Any] = []
        async with embedded(open=sockets.append) as server, Peer(server) as peer:
            await peer.round_trip_ping()
            await asyncio.sleep(0.05)
            pump = server._control.core.pump
            monkeypatch.setattr(server._control.core, "pump", lambda: pumps.append(1) or pump())
            for _ in range(20):
                sockets[0].send("x")
                sockets[0].pause()
                sockets[0].resume()
                sockets[0].cork(lambda ws: ws.send("y"))
                await asyncio.sleep(0)
            assert len(pumps) <= 2, len(pumps)
            monkeypatch.undo()

    run_on(loop_kind, main())


def test_many_servers_on_one_loop(loop_kind: str) -> None:
    async def echo(ws: Any, message: str) -> None:
        await asyncio.sleep(0)
        ws.send(message)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(embedded(message=echo)) for _ in range(5)]
            peers = [await stack.enter_async_context(Peer(server)) for server in servers]
            for peer in peers:
                await peer.send("a", "b")
            for peer in peers:
                assert [await peer.read(), await peer.read()] == ["a", "b"]

    run_on(loop_kind, main())


def test_a_thousand_coroutines(loop_kind: str) -> None:
    """All of them wait at once, all end, and nothing is left."""
    waiting = 0

    async def main() -> None:
        go = asyncio.Event()

        async def message(ws: Any, message: str) -> None:
            nonlocal waiting
            waiting += 1
            await go.wait()
            ws.send(message)

        async with embedded(message=message) as server, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(Peer(server)) for _ in range(50)]
            for peer in peers:
                await peer.send(*map(str, range(20)))
            await until(lambda: waiting == 1000)
            assert len(server.tasks) == 1000
            go.set()
            for peer in peers:
                assert [await peer.read() for _ in range(20)] == list(map(str, range(20)))
            await until(lambda: not server.tasks)

    run_on(loop_kind, main())
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o).__name__ in ("HandlerTask", "HandlerCoroutine")]


def test_attached_in_a_thread(loop_kind: str) -> None:
    """The event loop may be another thread's; stop() works from here."""
    server = bound()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_on, loop_kind, server.serve_forever())
        while not server.running:
            pass
        assert not server.on_loop_thread()
        assert server.stop(True).wait(10)
        running.result(10)


def test_servers_are_freed(loop_kind: str) -> None:
    before = len([o for o in gc.get_objects() if isinstance(o, _core.ServerCore)])

    async def main() -> None:
        async with embedded(message=lambda ws, message: ws.send(message)) as server, Peer(server) as peer:
            await peer.send("x")
            await peer.read()

    run_on(loop_kind, main())
    gc.collect()
    assert len([o for o in gc.get_objects() if isinstance(o, _core.ServerCore)]) == before
