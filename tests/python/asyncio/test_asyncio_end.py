"""The end of a server inside an event loop: stops, cancellations, exceptions, and loops that end without it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from event_loops import HANDSHAKE, LOOPS, Peer, bound, embedded, run_on, until

import uwserve

pytestmark = [
    pytest.mark.parametrize("loop_kind", LOOPS),
    pytest.mark.plain("the clients here speak plain TCP"),
]


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
            peer.writer.close()  # the server would wait seconds for it
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
    from uwserve._run import event_loop

    monkeypatch.setattr(event_loop, "CUT_SECONDS", 0.05)
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
            await server._control.stopped

    for text in ("now", "later"):
        run_on(loop_kind, main(text))
    assert len(errors) == 2
    assert "waits for the handlers to end" in str(errors[0])


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
    stopped = server.stop(True)
    client.close()  # the server would wait seconds for it
    assert stopped.wait(10)

    again = bound()

    async def attach() -> None:
        await again.__aenter__()

    run_on(loop_kind, attach())

    async def talk() -> None:
        async with again, Peer(again):
            pass

    run_on(loop_kind, talk())
    assert again.finished


class Unusual(BaseException):
    """Neither an Exception nor one of the two that end a run."""


@pytest.mark.parametrize("error", [GeneratorExit, Unusual])
@pytest.mark.parametrize("kind", ["plain", "eager", "suspended"])
def test_no_others_go_through_the_loop(loop_kind: str, error: type[BaseException], kind: str, caplog: Any) -> None:
    """They are logged, as asyncio does it with what its callbacks raise, and the server goes on."""

    def plain(ws: Any, message: str) -> None:
        ws.send("here")
        raise error("on purpose")

    async def coroutine(ws: Any, message: str) -> None:
        ws.send("here")
        if kind == "suspended":
            await asyncio.sleep(0)
        raise error("on purpose")

    async def main() -> None:
        handler = plain if kind == "plain" else coroutine
        async with embedded(message=handler) as server, Peer(server) as peer:
            for count in (1, 2):
                await peer.send("x")
                assert await peer.read() == "here"
                await until(lambda count=count: caplog.text.count(f"{error.__name__}: on purpose") == count)
            assert server.stats()["handler_errors"]["message"] == 2

    run_on(loop_kind, main())


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
