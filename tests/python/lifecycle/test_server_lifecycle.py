"""Starting and stopping a server: what each state allows, and that every stop ends."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest
from http_client import (
    DEADLINE,
    GET,
    Client,
    Recorder,
    bound,
    expect_1001,
    frame,
    open_websocket,
    read_frame,
    request,
    running,
    upgrade,
    upgrade_request,
)
from ws_client import eventually

from uwserve import Request, Response, Server, serve

pytestmark = pytest.mark.wss


def refused(server: Server) -> bool:
    """Nobody listens on the server's port any more."""
    try:
        Client(server).__exit__()
    except ConnectionError:  # refused, or reset in the instant of closing
        return True
    return False


# --- running ---


def test_it_runs_once() -> None:
    with bound(fetch=upgrade) as server:
        server.start()
        for call in (server.start, server.run):
            with pytest.raises(RuntimeError, match="already runs, in thread 'uwserve'"):
                call()
        with Client(server) as client:
            assert client.ask().body == b"plain"


def test_run_on_another_thread_and_again_after_nothing() -> None:
    """run() returns when the server has stopped, on whatever thread; afterwards both modes refuse."""
    with bound(fetch=upgrade) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        with Client(server) as client:
            assert client.ask().body == b"plain"
        assert server.stop().wait(DEADLINE)
        thread.join(DEADLINE)
        assert not thread.is_alive()
        for call in (server.start, server.run):
            with pytest.raises(RuntimeError, match="stopped"):
                call()
        assert (server.running, server.stopping, server.finished) == (False, True, True)


def test_run_refuses_to_block_an_event_loop() -> None:
    """run() inside a coroutine raises; start() is the way there."""

    async def main() -> None:
        with bound() as server:
            with pytest.raises(RuntimeError, match=r"start\(\)"):
                server.run()
            server.start()
            await server.stop()

    asyncio.run(main())


def test_stop_before_start() -> None:
    """It ends at once: the port is free, waiting returns, running is refused."""
    with bound() as server:
        stopped = server.stop()
        assert stopped.done()
        assert stopped.wait(0)
        assert refused(server)
        with pytest.raises(RuntimeError, match="stopped"):
            server.start()


@pytest.mark.plain("nobody runs the server, so there is no handshake")
def test_waiting_without_a_runner_or_on_the_loop() -> None:
    """Waits that could never end raise instead."""
    with bound(fetch=lambda r: "x") as server, Client(server) as client:
        client.send(GET)
        eventually(lambda: True)
        server.stop()
        if not server.finished:
            with pytest.raises(RuntimeError, match="no thread runs the server"):
                server.stop().wait()
    raised = Recorder()

    def fetch(request: Request, server: Server) -> str:
        with pytest.raises(RuntimeError, match="runs on this thread"):
            server.stop().wait()
        raised(True)
        return "x"

    with running(fetch=fetch) as server, Client(server) as client:
        assert client.ask().body == b"x"
        assert raised.items == [True]


def test_context_manager() -> None:
    """The end of the block stops the server and its connections, also by an exception."""
    server = serve(port=0, hostname="127.0.0.1", fetch=upgrade, websocket={}).start()
    client = Client(server)
    open_websocket(client)
    reader = threading.Thread(target=expect_1001, args=(client,))
    reader.start()

    def fail() -> None:
        with server:
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert server.finished
    reader.join(DEADLINE)
    assert client.socket.fileno() == -1


# --- stopping ---


def test_graceful_stop_lets_everything_finish() -> None:
    """Requests in flight are answered, sockets go on talking, idle connections and the port close; then it ends."""
    later: Future[str] = Future()
    seen = Recorder()

    def fetch(request: Request, server: Server) -> Any:
        if server.upgrade(request):
            return None
        seen(request.path)
        return later if request.path == "/later" else "now"

    events = Recorder()
    websocket: dict[str, Any] = {
        "message": lambda ws, message: ws.send(message),
        "close": lambda ws, code, reason: events("close", code),
    }
    with running(fetch=fetch, websocket=websocket) as server:
        with Client(server) as idle, Client(server) as busy, Client(server) as talking:
            idle.ask()
            open_websocket(talking)
            busy.send(request("/later"))
            seen.wait(2)
            stopped = server.stop()
            assert server.stop() is stopped
            assert idle.at_end()
            assert refused(server)
            assert server.stopping
            assert not stopped.done()
            assert not stopped.wait(0.01)
            talking.send(frame(b"still here"))
            assert read_frame(talking) == (1, b"still here")
            later.set_result("done")
            reply = busy.reply()
            assert (reply.body, reply.get("Connection")) == (b"done", "close")
            assert busy.at_end()
            assert not stopped.done()
            talking.send(frame((1000).to_bytes(2, "big"), 8))
            assert read_frame(talking)[0] == 8
        assert stopped.wait(DEADLINE)
        assert events.items == [("close", 1000)]
        assert stopped.wait()


def test_no_upgrade_while_stopping() -> None:
    """A handshake that was already sent when the server began to stop is refused with an answer, not dropped."""
    later: Future[None] = Future()
    asked = Recorder()

    def fetch(request: Request, server: Server) -> Any:
        if request.path == "/first":
            asked(request)
            return later
        return None if server.upgrade(request) else Response("stopping", 503)

    with running(fetch=fetch, websocket={}) as server, Client(server) as client:
        client.send(request("/first") + upgrade_request("/second"))
        asked.wait()
        server.stop()
        eventually(lambda: server.stopping)
        later.set_result(None)
        assert client.reply().status == 204
        assert client.at_end()


def test_forced_stop() -> None:
    """1001 "Server closed" to every socket and its close callback; requests in flight are cut; then it ends."""
    events = Recorder()
    asked = Recorder()

    def fetch(request: Request, server: Server) -> Any:
        if server.upgrade(request):
            return None
        asked(True)
        return Future()

    websocket: dict[str, Any] = {"close": lambda ws, code, reason: events(code, reason)}
    with ExitStack() as stack:
        server = stack.enter_context(running(fetch=fetch, websocket=websocket))
        pending, one, two = (stack.enter_context(Client(server)) for _ in range(3))
        open_websocket(one)
        open_websocket(two)
        pending.send(GET)
        asked.wait()
        stopped = server.stop()
        assert not stopped.done()
        assert server.stop(True) is stopped
        assert pending.at_end()
        expect_1001(one, two)
        assert stopped.wait(DEADLINE)
    assert events.items == [(1001, "Server closed")] * 2
    assert server.pending_requests == server.pending_websockets == 0


def test_forced_stop_with_a_peer_that_does_not_leave() -> None:
    """It reads nothing and keeps its side open, with megabytes on their way to it: the stop ends all the same."""

    def opened(ws: Any) -> None:
        ws.send(b"x" * 8_000_000)

    with running(fetch=upgrade, websocket={"open": opened}) as server, Client(server, receive_buffer=4096) as client:
        client.send(upgrade_request())
        eventually(lambda: server.pending_websockets == 1)
        begun = time.monotonic()
        assert server.stop(True).wait(DEADLINE)
        assert time.monotonic() - begun < 8


def test_stop_is_idempotent_from_many_threads() -> None:
    with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
        open_websocket(client)
        threads = [threading.Thread(target=server.stop, args=(i % 3 == 0,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect_1001(client)
        assert server.stop().wait(DEADLINE)
        assert server.stop(False).done()


def test_stopped_is_awaitable() -> None:
    """On a foreign event loop, by several tasks at once, and again when it is over."""

    async def main() -> None:
        with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
            open_websocket(client)
            stopped = server.stop()
            waiters = [asyncio.ensure_future(_await(stopped)) for _ in range(3)]
            cancelled = asyncio.ensure_future(_await(stopped))
            done, _ = await asyncio.wait(waiters, timeout=0.01)
            assert not done
            cancelled.cancel()
            server.stop(True)
            expect_1001(client)
            await asyncio.wait_for(asyncio.gather(*waiters), DEADLINE)
            await stopped
            assert cancelled.cancelled()

    async def _await(stopped: Any) -> None:
        await stopped

    asyncio.run(main())


STOPPERS = ("fetch", "error", "stream", "open", "message", "drain", "ping", "pong", "close", "ws_error", "call_soon")


@pytest.mark.parametrize("kind", ["graceful", "forced", "deadline"])
@pytest.mark.parametrize("where", STOPPERS)
def test_stop_inside_a_handler(where: str, kind: str) -> None:
    """Every handler may stop its server: no hang, no crash, and every open socket gets its one close."""
    closes = Recorder()
    force = kind == "forced"
    arguments = {"graceful": {}, "forced": {"close_active_connections": True}, "deadline": {"timeout": DEADLINE}}[kind]
    with bound(max_request_body_size=10) as server:

        def stop(*args: Any) -> None:
            server.stop(**arguments)

        def pieces() -> Any:
            yield "begun"
            stop()
            yield "ended"

        def fetch(request: Request, server: Server) -> Any:
            if server.upgrade(request):
                return None
            if where == "error":
                raise KeyError
            if where == "stream":
                return Response(pieces())
            stop()
            return "bye"

        def close(ws: Any, code: int, reason: str) -> None:
            if where == "close":
                stop()
            closes(code)

        websocket: dict[str, Any] = {"close": close}
        if where in ("open", "message", "ping", "pong"):
            websocket[where] = stop
        if where == "ws_error":
            websocket |= {"message": lambda ws, message: 1 / 0, "error": stop}
        if where == "drain":  # the client reads nothing until all of it is sent
            websocket |= {"message": lambda ws, message: ws.send(bytes(12_000_000)), "drain": stop}
        server.reload(fetch=fetch, websocket=websocket, error=lambda e: stop() or "error")
        server.start()
        with Client(server) as bystander, Client(server) as client:
            if where in ("fetch", "error", "stream"):
                client.send(GET)
                expected = {"fetch": b"bye", "error": b"error", "stream": b"begunended"}[where]
                if not force:
                    assert client.reply().body == expected
                assert client.at_end() or force
            else:
                open_websocket(bystander) if where != "open" else None
                client.send(upgrade_request())
                assert client.head().status == 101
                sent = {"ping": frame(b"x", 9), "pong": frame(b"x", 10), "close": frame(b"", 8)}
                client.send(sent.get(where, b"" if where in ("open", "call_soon") else frame(b"x")))
                if where == "drain":
                    assert len(read_frame(client)[1]) == 12_000_000
                if where == "call_soon":
                    server.call_soon(stop)
                eventually(lambda: server.stopping)
        assert server.stop(**arguments).wait(DEADLINE)
        count = 0 if where in ("fetch", "error", "stream") else 1 if where == "open" else 2
        assert len(closes.items) == count
        assert server.pending_websockets == 0
