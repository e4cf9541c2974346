"""await ws.closed() and await ws.drained(), in the event loops of other threads: nothing is shared but the GIL."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading

import loops
import pytest
from ws_client import TIMEOUT, Client

import uwserve

pytestmark = pytest.mark.wss


def fill(ws):
    """Send until there is a backlog of some MiB; the number of bytes buffered."""
    while ws.send(bytes(1 << 20)) != 0 and ws.buffered_amount < 8 << 20:
        pass
    return ws.buffered_amount


# --- closed ---


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda c, ws: c.send_close(1000, "bye"), (1000, "bye")),
        (lambda c, ws: c.send_close(None), (1005, "")),
        (lambda c, ws: c.finish(), (1006, "")),
        (lambda c, ws: c.reset(), (1006, "")),
        (lambda c, ws: c.send_raw(b"\xff\xff"), (1002, "Received a frame with a reserved bit set")),
        (lambda c, ws: ws.close(4000, "é"), (4000, "é")),
        (lambda c, ws: ws.terminate(), (1006, "")),
        (lambda c, ws: ws.server.stop(True), (1001, "Server closed")),
    ],
    ids=["close", "empty close", "fin", "reset", "violation", "ws.close", "terminate", "stop"],
)
def test_closed(serving, elsewhere, end, expected):
    """Whatever ends a socket resolves it, with what the close handler is told; and again, at once, afterwards."""
    live = serving()
    client, ws = live.open()
    waiting = [elsewhere.start(ws.closed()) for _ in range(3)]
    assert not any(future.done() for future in waiting)
    end(client, ws)
    for future in waiting:
        result = future.result(TIMEOUT)
        assert result == expected
        assert (result.code, result.reason) == expected
        assert type(result) is uwserve.Closed
    assert live.expect_close() == expected
    assert elsewhere.run(ws.closed()) == expected


def test_closed_comes_after_the_close_handler(serving, elsewhere):
    entered, go_on = threading.Event(), threading.Event()

    def close(ws, code, reason):
        entered.set()
        assert go_on.wait(TIMEOUT)

    live = serving(close=close)
    client, ws = live.open()
    future = elsewhere.start(ws.closed())
    client.send_close(1000)
    assert entered.wait(TIMEOUT)
    elsewhere.turn()
    assert not future.done()
    go_on.set()
    assert future.result(TIMEOUT) == (1000, "")


def test_closed_inside_the_close_handler(serving, elsewhere):
    """There it is closed already."""
    results = []
    live = serving(close=lambda ws, code, reason: results.append(elsewhere.run(ws.closed())))
    client, _ = live.open()
    client.send_close(1000, "bye")
    live.expect_close()
    live.on_loop(lambda: None)
    assert results == [(1000, "bye")]


def test_closed_while_all_are_told(serving):
    """A stop with a deadline closes all, then calls their handlers: in the first, each tells how it ended."""
    sockets, seen = [], []

    def close(ws, code, reason):
        for other in sockets:
            with pytest.raises(StopIteration) as caught:
                other.closed().send(None)
            seen.append(caught.value.value)

    live = serving(close=close)
    sockets += [live.open()[1] for _ in range(3)]
    live.server.stop(timeout=TIMEOUT, code=1012, reason="later")
    for _ in sockets:
        assert live.expect_close() == (1012, "later")
    live.on_loop(lambda: None)
    assert seen == [(1012, "later")] * 9
    sockets.clear()


def test_closed_after_the_server(serving, elsewhere):
    live = serving()
    _, ws = live.open()
    live.server.stop(True)
    live.expect_close()
    live.stop()
    assert elsewhere.run(ws.closed()) == (1001, "Server closed")
    with pytest.raises(uwserve.ConnectionClosed) as caught:
        elsewhere.run(ws.drained())
    assert (caught.value.code, caught.value.reason) == (1001, "Server closed")


def test_closed_of_a_server_nobody_runs(elsewhere):
    """Its sockets are closed on the thread that stops it."""
    opened = []
    server = uwserve.serve(
        port=0,
        hostname="127.0.0.1",
        fetch=lambda request, server: server.upgrade(request) and None,
        websocket={"open": opened.append, "message": lambda ws, message: raise_(KeyboardInterrupt())},
    )
    runner = threading.Thread(target=lambda: pytest.raises(KeyboardInterrupt, server.run))
    runner.start()
    with Client(("127.0.0.1", server.port)) as client:
        client.send("x")
        runner.join(TIMEOUT)
        assert not server.running
        ws = opened.pop()
        future = elsewhere.start(ws.closed())
        elsewhere.run(ws.drained())
        server.stop(True)
        assert future.result(TIMEOUT) == (1001, "Server closed")
    server._control.drain()
    assert server.finished


def raise_(exc):
    raise exc


# --- drained ---


def test_drained_at_once(serving, elsewhere):
    live = serving()
    _, ws = live.open()
    assert elsewhere.run(ws.drained()) is None
    assert elsewhere.run(ws.drained(below=0)) is None
    assert elsewhere.run(ws.drained(1 << 40)) is None


def test_drained(serving, elsewhere):
    """Marks resolve as the backlog falls under them, after the drain handler."""
    amounts = []
    live = serving(drain=lambda ws: amounts.append(ws.buffered_amount))
    client, ws = live.open(receive_buffer=65536)
    backlog = live.on_loop(fill, ws)

    async def wait(mark):
        await ws.drained(mark)
        return len(amounts)

    assert elsewhere.run(ws.drained(backlog)) is None
    futures = {mark: elsewhere.start(wait(mark)) for mark in (0, 1 << 20, 4 << 20)}
    live.on_loop(lambda: None)
    assert not any(future.done() for future in futures.values())
    client.fill_until(futures[0].done)
    for mark, future in futures.items():
        seen = future.result(TIMEOUT)
        assert seen and min(amounts[:seen]) <= mark


@pytest.mark.parametrize("end", ["close", "terminate", "reset", "stop"])
def test_drained_when_it_closes(serving, elsewhere, end):
    live = serving()
    client, ws = live.open(receive_buffer=65536)
    live.on_loop(fill, ws)
    futures = [elsewhere.start(ws.drained(mark)) for mark in (0, 5)]
    live.on_loop(lambda: None)
    expected = {"close": (4000, "x"), "terminate": (1006, ""), "reset": (1006, ""), "stop": (1001, "Server closed")}[
        end
    ]
    if end == "close":
        ws.close(4000, "x")
    elif end == "terminate":
        ws.terminate()
    elif end == "stop":
        live.server.stop(True)
    else:
        client.reset()
    for future in futures:
        with pytest.raises(uwserve.ConnectionClosed) as caught:
            future.result(TIMEOUT)
        assert (caught.value.code, caught.value.reason) == expected


def test_backpressure_by_drained(serving, elsewhere):
    """A producer that waits is never far ahead of its reader, and nothing is lost."""
    live = serving()
    client, ws = live.open(receive_buffer=65536)
    sizes = [50_000 + i for i in range(400)]
    highest = []

    async def produce():
        for size in sizes:
            while live.server._control.state.thread is None:
                raise AssertionError("the server ended")
            ws.send(bytes(size))
            await ws.drained(100_000)
        return "done"

    future = elsewhere.start(produce())
    for size in sizes:
        assert len(client.read_message()) == size
        highest.append(live.on_loop(lambda: ws.buffered_amount))
    assert future.result(TIMEOUT) == "done"
    assert max(highest) < 400_000


@pytest.mark.parametrize("below", [-1, 1 << 62, "1", 1.5, None, True])
def test_bad_marks(serving, elsewhere, below):
    live = serving()
    _, ws = live.open()
    with pytest.raises((TypeError, ValueError), match="below"):
        ws.drained(below)


# --- cancellation, loops that go, leaks ---


def test_cancelled_waiters_leave_nothing(serving, elsewhere):
    """The ones beside them are woken as ever."""
    live = serving()
    client, ws = live.open(receive_buffer=65536)
    live.on_loop(fill, ws)

    async def cancel_all():
        tasks = [asyncio.ensure_future(w) for _ in range(50) for w in (ws.drained(), ws.closed())]
        await asyncio.sleep(0)
        for task in tasks[:-2]:
            task.cancel()
        await asyncio.wait(tasks[:-2])
        assert all(task.cancelled() for task in tasks[:-2])
        return tasks[-2:]

    drained, closed = elsewhere.run(cancel_all())
    assert len([referrer for referrer in gc.get_referents(ws) if type(referrer).__name__ == "_Waiter"]) == 2
    client.fill_until(drained.done)
    assert not closed.done()
    client.close()

    async def result():
        return await closed

    assert elsewhere.run(result())[0] == 1006


def test_timeouts(serving, elsewhere):
    live = serving()
    _, ws = live.open()

    async def wait():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.closed(), 0.01)

    elsewhere.run(wait())
    assert not [referrer for referrer in gc.get_referents(ws) if type(referrer).__name__ == "_Waiter"]


def test_a_loop_that_has_gone(serving):
    """Waiters of a closed event loop are in nobody's way."""
    live = serving()
    client, ws = live.open()
    gone = loops.LoopThread("asyncio")
    future = gone.start(ws.closed())
    gone.stop(check=False)
    client.send_close(1000)
    assert live.expect_close() == (1000, "")
    assert not future.done()


def test_waiting_at_the_very_end(serving, elsewhere):
    """Waiters that register while the server ends: each gets an answer."""
    for _ in range(20):
        live = serving()
        pairs = [live.open() for _ in range(5)]

        async def wait(sockets):
            waiting = [f() for ws in sockets for f in (ws.closed, ws.drained)]
            return await asyncio.gather(*waiting, return_exceptions=True)

        sockets = [ws for _, ws in pairs]
        futures = [asyncio.run_coroutine_threadsafe(wait(sockets), elsewhere.loop) for _ in range(3)]
        live.server.stop(True)
        for future in futures:
            for outcome in future.result(TIMEOUT):
                assert outcome is None or outcome == (1001, "Server closed") or outcome.code == 1001
        live.stop()


def test_without_an_event_loop(serving):
    """As a coroutine it needs one; nothing is left behind without."""
    live = serving()
    _, ws = live.open()
    with pytest.raises(RuntimeError, match="no running event loop"):
        ws.closed().send(None)
    with pytest.raises(RuntimeError, match="no running event loop"):  # another thread asks the server's
        ws.drained().send(None)
    assert live.on_loop(next_step, ws.drained()) == "ended"  # there the answer is known


def next_step(coroutine):
    try:
        coroutine.send(None)
    except StopIteration:
        return "ended"
    return "suspended"


def test_a_thousand_waiters(serving, elsewhere):
    live = serving()
    client, ws = live.open()

    async def wait():
        return await asyncio.gather(*(ws.closed() for _ in range(1000)))

    future = elsewhere.start(wait())
    client.send_close(1000, "all")
    assert future.result(TIMEOUT) == [(1000, "all")] * 1000


def test_a_waiter_in_a_cycle_is_collected(serving):
    """A coroutine that waits for a socket, held by that socket's data, of a server nobody can reach."""
    opened = []
    server = uwserve.serve(
        port=0,
        hostname="127.0.0.1",
        fetch=lambda r, s: s.upgrade(r) and None,
        websocket={"open": opened.append, "message": lambda ws, message: raise_(KeyboardInterrupt())},
    )
    runner = threading.Thread(target=lambda: pytest.raises(KeyboardInterrupt, server.run))
    runner.start()
    client = Client(("127.0.0.1", server.port))
    client.send("x")
    runner.join(TIMEOUT)
    loop = asyncio.new_event_loop()
    ws = opened.pop()
    ws.data = (waiting := ws.closed(), ws, server)

    async def first_step():
        ws.data += (asyncio.ensure_future(waiting),)
        await asyncio.sleep(0)

    loop.run_until_complete(first_step())
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending"
    runner = server = ws = waiting = None
    gc.collect()
    loop.close()
    client.close()  # nothing_left counts the handles


# --- the exception ---


def test_connection_closed():
    error = uwserve.ConnectionClosed(1001, "Server closed")
    assert str(error) == "the connection is closed (1001 Server closed)"
    assert str(uwserve.ConnectionClosed(1006, "")) == "the connection is closed (1006)"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, copy.reason) == (uwserve.ConnectionClosed, 1001, "Server closed")
    assert isinstance(error, Exception) and not isinstance(error, OSError)
    assert uwserve.Closed(1000, "x") == (1000, "x")
