"""Edge cases of the shutdown in an event loop: work that is posted last, coroutines that start late or ignore their
cancellation, stops from inside handlers, SIGTERM, several servers of one loop, forks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import signal
import threading
import weakref
from typing import Any

import pytest
from event_loops import LOOPS, SECONDS, Peer, bound, run_on, until
from loops import new_loop
from ws_client import TEXT, Client, ConnectionEnded, frame, handshake

import uwserve
from uwserve._run import event_loop
from uwserve._run import tasks as _tasks


@pytest.fixture(params=LOOPS)
def loop_kind(request: Any) -> Any:
    return request.param


def connected(port: int) -> Client:
    return Client(("127.0.0.1", port), "/")


# --- what is posted last ---


def test_a_coroutine_posted_by_the_last_close_handler(loop_kind: str) -> None:
    """It is waited for, inside an event loop of the user's."""
    done: list[str] = []

    async def late() -> None:
        await asyncio.sleep(0.01)
        done.append("late")

    async def message(ws: Any, text: str) -> None:
        server.stop()
        server.call_soon(ws.terminate)

    server = bound(message=message, close=lambda ws, code, reason: server.call_soon(late))

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve_forever())
        peer = Peer(server)
        async with peer:
            await peer.send("end")
            await serving

    run_on(loop_kind, main())
    assert done == ["late"]
    assert server.finished


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_coroutines_posted_at_the_end_of_run(steps: int) -> None:
    """The native loop ends when a coroutine comes: also when it comes last of all, posted by what was posted."""
    done: list[str] = []

    async def late() -> None:
        await asyncio.sleep(0)
        done.append("late")

    def post(left: int) -> None:
        server.call_soon(*((post, left - 1) if left else (late,)))

    def message(ws: Any, text: str) -> None:
        server.stop()
        server.call_soon(ws.terminate)

    server = bound(message=message, close=lambda ws, code, reason: post(steps))
    thread = threading.Thread(target=server.run)
    thread.start()
    with connected(server.port) as client:
        client.send("end")
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert done == ["late"]
    assert server.finished


def test_a_function_that_posts_itself_for_ever() -> None:
    """It does not keep a server from ending."""
    server = bound()

    def again() -> None:
        server.call_soon(again)

    with server.start():
        server.call_soon(again)
        assert server.stop().wait(SECONDS)


def test_coroutines_after_the_cut(loop_kind: str, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A coroutine that starts when none is waited for any more holds nothing up."""
    monkeypatch.setattr(event_loop, "CUT_SECONDS", 0.02)
    started: list[str] = []
    release: list[asyncio.Event] = []

    async def other() -> None:
        started.append("other")
        await release[0].wait()

    async def message(ws: Any, text: str) -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await release[0].wait()
        server.call_soon(other)
        await release[0].wait()

    server = bound(message=message)

    async def main() -> None:
        release.append(asyncio.Event())
        async with server, Peer(server) as peer:
            await peer.send("x")
            await until(lambda: server.tasks)
            server.stop(True)
            await server.stop()
        release[0].set()
        await asyncio.sleep(0.01)

    run_on(loop_kind, main())
    assert server.finished


def test_forgotten_tasks_may_be_followed_by_others() -> None:
    started: list[str] = []

    async def other() -> None:
        started.append("other")
        await asyncio.sleep(0)
        started.append("on")

    async def main() -> None:
        async with bound() as server:
            server._control.core.forget_tasks()
            server.call_soon(other)
            await until(lambda: len(started) == 2)

    run_on("asyncio", main())


def test_a_handler_that_swallows_cancellations(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The server's thread ends without it."""
    monkeypatch.setattr(event_loop, "CUT_SECONDS", 0.05)
    monkeypatch.setattr(_tasks, "LEFT_SECONDS", 0.05)

    async def message(ws: Any, text: str) -> None:
        ws.send("here")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    server = bound(message=message).start()
    thread = server._control.state.thread
    with connected(server.port) as client:
        client.send("x")
        assert client.read_message() == "here"
        server.stop(True)
        client.read_close()
    thread.join(SECONDS)
    assert not thread.is_alive()


# --- ends in the wrong place ---


@pytest.mark.parametrize("when", ["now", "later"])
def test_a_handler_cannot_leave_the_block(loop_kind: str, when: str) -> None:
    """``async with`` is not left by a handler, which its end would wait for; the server goes on."""
    errors: list[BaseException] = []
    stack = contextlib.AsyncExitStack()

    async def message(ws: Any, text: str) -> None:
        if when == "later":
            await asyncio.sleep(0)
        await server.__aexit__(None, None, None)

    def failed(exc: BaseException, ws: Any) -> None:
        errors.append(exc)
        ws.send("failed")

    server = bound(message=message, ws_error=failed)

    async def main() -> None:
        await stack.enter_async_context(server)
        async with Peer(server) as peer:
            for _ in range(2):
                await peer.send("x")
                assert await peer.read() == "failed"
        await stack.aclose()

    run_on(loop_kind, main())
    assert [type(error) for error in errors] == [RuntimeError] * 2
    assert server.finished


def test_cancelled_twice(loop_kind: str) -> None:
    """A second cancellation does not take the loop away from a server that is still telling its clients."""
    server = bound()

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve_forever())
        other = asyncio.ensure_future(server.serve_forever())
        async with Peer(server) as peer:
            serving.cancel()
            await peer.expect_close(1001)
            serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await other

    run_on(loop_kind, main())
    assert server.finished


def test_waiting_in_a_forked_child() -> None:
    server = bound().start()
    with connected(server.port):
        stopped = server.stop()
        pid = os.fork()
        if pid == 0:
            try:
                stopped.wait(SECONDS)
            except RuntimeError as error:
                os._exit(0 if "fork" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        server.stop(True)
    assert stopped.wait(SECONDS)


def test_an_exit_that_no_run_can_raise(caplog: Any) -> None:
    """SystemExit of a handler, called while nobody runs the server, is logged; it does not end a later run."""
    sockets: list[Any] = []

    def message(ws: Any, text: str) -> None:
        sockets.append(ws)
        raise KeyboardInterrupt

    def close(ws: Any, code: int, reason: str) -> None:
        raise SystemExit(5)

    server = bound(message=message, close=close)
    with Client(("127.0.0.1", server.port), upgrade=False) as client:
        client.send_raw(handshake() + frame(TEXT, "x"))
        with pytest.raises(KeyboardInterrupt):
            server.run()
    sockets.pop().close()
    assert "SystemExit: 5" in caplog.text
    with server:
        pass
    assert server.finished


# --- event loops that are closed under a server ---


def closed_under(loop_kind: str, server: uwserve.Server, meanwhile: Any) -> None:
    """``serve_forever()`` in a loop that is closed without a word, after ``meanwhile(loop)`` in a thread."""

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve_forever())
        left.append(serving)
        await until(lambda: server.running)
        await asyncio.to_thread(meanwhile)
        await asyncio.get_running_loop().shutdown_default_executor()

    left: list[Any] = []
    loop = new_loop(loop_kind)
    loop.run_until_complete(main())
    left.pop()._log_destroy_pending = False  # asyncio would complain, and be right
    loop.close()


def test_sigterm_when_a_loop_was_closed_before(loop_kind: str) -> None:
    """uvloop's leave their signal handler behind: it is in nobody's way."""
    lost, server = bound(), bound()
    closed_under(loop_kind, lost, lambda: None)

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    run_on(loop_kind, main())
    assert server.finished
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    lost.stop(True)
    assert lost.finished


def test_a_program_that_handles_sigterm_goes_on(loop_kind: str) -> None:
    """Also after a loop that was closed: what is put back is what that loop has left."""

    def own(number: int, frame: Any) -> None:
        server.stop()

    lost, server = bound(), bound()
    closed_under(loop_kind, lost, lambda: None)
    before = signal.signal(signal.SIGTERM, own)
    try:

        async def main() -> None:
            serving = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGTERM) is own
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

        run_on(loop_kind, main())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
        lost.stop(True)
        gc.collect()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize("has_clients", [False, True])
def test_a_server_whose_loop_was_closed_is_garbage(loop_kind: str, has_clients: bool) -> None:
    """Nothing keeps it when nobody has it any more, its connections do not either; and SIGTERM is as it was."""
    clients: list[Client] = []

    def make() -> weakref.ref[uwserve.Server]:
        server = bound(open=lambda ws: sockets.append((ws, server)))
        sockets: list[Any] = []

        def connect() -> None:
            if has_clients:
                clients.append(connected(server.port))

        closed_under(loop_kind, server, connect)
        return weakref.ref(server)

    dropped = make()
    for _ in range(3):
        gc.collect()
    assert dropped() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    for client in clients:
        with pytest.raises(ConnectionEnded):
            client.read_frame()
        client.close()


def test_a_server_that_runs_needs_no_reference(loop_kind: str) -> None:
    """The event loop that it is attached to has it."""

    async def main() -> None:
        server = bound(message=lambda ws, text: ws.server.stop(True))
        await server.__aenter__()
        peer, dropped = Peer(server), weakref.ref(server)
        del server
        for _ in range(3):
            gc.collect()
        async with peer:
            await peer.send("stop")
            await peer.expect_close(1001)
            peer.writer.close()
            await until(lambda: dropped() is None or dropped().finished)

    run_on(loop_kind, main())


# --- several servers, and others' code ---


def test_sigterm_stops_all_servers_of_a_loop(loop_kind: str) -> None:
    servers = [bound(), bound()]

    async def main() -> None:
        both = [asyncio.ensure_future(server.serve_forever()) for server in servers]
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.gather(*both)

    run_on(loop_kind, main())
    assert all(server.finished for server in servers)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("touches", [False, True])
def test_a_log_handler_between_two_coroutines(loop_kind: str, touches: bool, caplog: Any) -> None:
    """What a handler of logging does to context variables, or to a task, happens to no coroutine of a socket."""
    variable = contextvars.ContextVar("variable", default="clean")
    seen: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.getMessage().startswith("Closed"):
                return
            variable.set("from the log")
            with contextlib.suppress(RuntimeError):
                task = asyncio.current_task()
                if touches and task is not None:
                    task.set_name("logging")

    async def message(ws: Any, text: str) -> None:
        seen.append((text, variable.get()))
        if text == "close":
            others[0].terminate()

    others: list[uwserve.ServerWebSocket] = []
    logger = logging.getLogger("uwserve")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)

    async def main() -> None:
        server = bound(message=message, open=others.append)
        async with server, Peer(server), Peer(server) as first, Peer(server) as second:
            await first.send("a", "close", "b")
            await second.send("c")
            await until(lambda: len(seen) == 4)
            await second.send("d")
            await until(lambda: len(seen) == 5)

    try:
        run_on(loop_kind, main())
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        others.clear()
    assert {value for _, value in seen[:2]} == {"clean"}
    assert {value for text, value in seen if text in "cd"} == {"clean"}
