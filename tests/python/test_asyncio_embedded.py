"""A server as a reader of a running event loop: its life there, clients of others on the same loop, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import socket
import threading
from typing import Any

import aiohttp
import pytest
import websockets
from event_loops import HANDSHAKE, LOOPS, Peer, bound, embedded, run_on

import uwserve
from uwserve import _core

pytestmark = [
    pytest.mark.parametrize("loop_kind", LOOPS),
    pytest.mark.plain("the clients here speak plain TCP"),
]


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


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


def test_serve_forever_alone_and_beside(loop_kind: str) -> None:
    """It attaches by itself, ends with a graceful stop, and several tasks may wait in it."""

    async def main() -> None:
        server = bound()
        waiting = [asyncio.ensure_future(server.serve_forever()) for _ in range(3)]
        await until(lambda: server.running)
        async with Peer(server) as peer:
            stopped = server.stop()
            assert not stopped.done()
            done, _ = await asyncio.wait(waiting, timeout=0.01)
            assert not done
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", server.port)
            await peer.send_raw(peer.frame(8, b"\x03\xe8"))
            await peer.expect_close(1000)
        await asyncio.gather(*waiting)
        await stopped
        assert server.finished
        await server.serve_forever()
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(RuntimeError, match="the server has stopped"):
                await stack.enter_async_context(server)

    run_on(loop_kind, main())


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a block"])
def test_cancelled(loop_kind: str, inside: bool) -> None:
    """Clients see 1001, close handlers run, and the cancellation goes on."""
    closes: list[Any] = []

    async def close(ws: Any, code: int, reason: str) -> None:
        await asyncio.sleep(0.001)
        closes.append((code, reason))

    async def serve_in_a_block(server: uwserve.Server) -> None:
        async with server:
            await server.serve_forever()

    async def main() -> None:
        server = bound(close=close)
        task = asyncio.ensure_future(serve_in_a_block(server) if inside else server.serve_forever())
        await until(lambda: server.running)
        async with Peer(server) as peer:
            task.cancel()
            await peer.expect_close(1001)
            await peer.send_raw(peer.frame(8, b"\x03\xe9"))
            with pytest.raises(asyncio.CancelledError):
                await task
        assert server.finished
        assert not server.running

    run_on(loop_kind, main())
    assert closes == [(1001, "Server closed")]


def test_an_exception_ends_the_block(loop_kind: str) -> None:
    async def main() -> None:
        server = bound()
        with pytest.raises(ZeroDivisionError):
            async with server, Peer(server):
                raise ZeroDivisionError
        assert server.finished

    run_on(loop_kind, main())


def test_stop_waits_for_coroutines(loop_kind: str) -> None:
    """A graceful stop ends after the last coroutine, of close handlers, too; a forced one cancels them."""
    ended: list[str] = []

    async def message(ws: Any, message: str) -> None:
        try:
            await asyncio.sleep(0.02 if message == "short" else 60)
            ended.append(message)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def close(ws: Any, code: int, reason: str) -> None:
        await asyncio.sleep(0.03)
        ended.append("closed")

    async def main(text: str, force: bool) -> None:
        async with embedded(message=message, close=close) as server, Peer(server) as peer:
            await peer.send(text)
            await until(lambda: server.tasks)
            stopped = server.stop(force)
            if not force:
                await peer.send_raw(peer.frame(8, b"\x03\xe8"))
            await peer.expect_close(1001 if force else 1000)
            peer.writer.close()
            await stopped
            assert server.finished
            assert not server.tasks

    run_on(loop_kind, main("short", False))
    assert ended == ["short", "closed"]
    ended.clear()
    run_on(loop_kind, main("long", True))
    assert ended == ["cancelled", "closed"]


def test_coroutines_that_will_not_end(loop_kind: str, logged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced stop waits for them for a while, cancels again, and ends without them."""
    from uwserve import _modes

    monkeypatch.setattr(_modes, "CUT_SECONDS", 0.05)
    release: list[asyncio.Event] = []

    async def message(ws: Any, message: str) -> None:
        event = asyncio.Event()
        release.append(event)
        while not event.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await event.wait()

    async def main() -> None:
        async with embedded(message=message) as server, Peer(server) as peer:
            await peer.send("x")
            await until(lambda: server.tasks)
            stopped = server.stop(True)
            peer.writer.close()
            await stopped
            assert server.finished
        release[0].set()
        await asyncio.sleep(0.01)

    run_on(loop_kind, main())
    assert any("without 1 coroutines" in line for line in logged)
    logged.clear()


def test_a_handler_cannot_wait_for_the_end(loop_kind: str) -> None:
    errors: list[BaseException] = []

    async def message(ws: Any, message: str) -> None:
        if message == "later":
            await asyncio.sleep(0)
        try:
            await ws.server.stop(True)
        except RuntimeError as exc:
            errors.append(exc)

    async def main(text: str) -> None:
        count = len(errors)
        async with embedded(message=message) as server, Peer(server) as peer:
            await peer.send(text)
            await until(lambda: errors[count:])
            peer.writer.close()
            await server._stopped

    for text in ("now", "later"):
        run_on(loop_kind, main(text))
    assert len(errors) == 2
    assert "waits for the handlers to end" in str(errors[0])


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
            await server._stopped

    run_on(loop_kind, beside())


def test_a_loop_that_ends_without_the_server(loop_kind: str) -> None:
    """The server notices at the next call: it is bound again, can be run in another way, and be stopped."""
    server = bound()
    client = socket.create_connection(("127.0.0.1", server.port))

    async def main() -> None:
        await server.__aenter__()
        client.sendall(HANDSHAKE)
        await until(lambda: server.pending_websockets == 1)

    run_on(loop_kind, main())
    with pytest.raises(RuntimeError, match="no thread runs the server"):
        server.stop().wait(0)
    assert not server.running
    server.start()
    assert server.stop(True).wait(10)
    client.close()

    again = bound()

    async def attach() -> None:
        await again.__aenter__()

    run_on(loop_kind, attach())

    async def talk() -> None:
        async with again, Peer(again):
            pass

    run_on(loop_kind, talk())
    assert again.finished


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["plain", "eager", "suspended"])
def test_exits_go_through_the_loop(loop_kind: str, error: type[BaseException], kind: str) -> None:
    """KeyboardInterrupt and SystemExit out of a handler end the event loop's run, as out of any callback."""

    def plain(ws: Any, message: str) -> None:
        raise error

    async def coroutine(ws: Any, message: str) -> None:
        if kind == "suspended":
            await asyncio.sleep(0)
        raise error

    import uvloop

    loop = uvloop.new_event_loop() if loop_kind == "uvloop" else asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    server = bound(message=plain if kind == "plain" else coroutine)

    async def main() -> None:
        async with server, Peer(server) as peer:
            await peer.send("x")
            await asyncio.sleep(10)

    task = loop.create_task(main())
    with pytest.raises(error):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert server.finished
    loop.close()


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
            pump = server.pump
            monkeypatch.setattr(server, "pump", lambda: pumps.append(1) or pump())
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
            pump = server.pump
            monkeypatch.setattr(server, "pump", lambda: pumps.append(1) or pump())
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
