"""async for message in ws.messages(): order, bounds, pushing back, giving back; consumed in another thread's loop."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from deflate_client import deflate
from loops import take, take_all
from ws_client import CONT, TEXT, TIMEOUT, close_frame, frame

pytestmark = pytest.mark.wss

MIB = 1 << 20
OFFER = (("Sec-WebSocket-Extensions", "permessage-deflate"),)


# --- what arrives ---


def test_messages(serving, elsewhere):
    """In order, with their types; the handler gets none; empty and fragmented ones count."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    sent = ["a", b"b", "", b"", "é€😀", bytes(70000), "x" * 70000]
    future = elsewhere.start(take(iterator, len(sent) + 1))
    for message in sent:
        client.send(message)
    client.send_raw(frame(TEXT, "fr", fin=False) + frame(CONT, "ag", fin=False) + frame(CONT, "ment"))
    assert future.result(TIMEOUT) == [*sent, "fragment"]
    live.no_events()
    assert live.server.buffered_bytes == 0


@pytest.mark.parametrize(
    ("binary_type", "expected"), [("bytes", bytes), ("bytearray", bytearray), ("memoryview", bytes)]
)
def test_binary_types(serving, elsewhere, binary_type, expected):
    live = serving(open=lambda ws: setattr(ws, "binary_type", binary_type))
    client, ws = live.open()
    future = elsewhere.start(take(ws.messages(), 2))
    client.send(b"small")
    client.send(bytes(100_000))
    messages = future.result(TIMEOUT)
    assert messages == [b"small", bytes(100_000)]
    assert {type(message) for message in messages} == {expected}


def test_messages_wait_from_the_call_on(serving, elsewhere):
    live = serving()
    client, ws = live.open()
    client.send("for the handler")
    assert live.expect("message")[1] == "for the handler"
    iterator = ws.messages()
    client.send("for the iterator")
    client.round_trip()
    live.expect("ping")
    assert elsewhere.run(take(iterator, 1)) == ["for the iterator"]
    live.no_events()


def test_an_iterator_is_its_own(serving):
    live = serving()
    _, ws = live.open()
    iterator = ws.messages()
    assert iterator.__aiter__() is iterator
    with pytest.raises(RuntimeError, match="iterated already"):
        ws.messages()
    del iterator
    ws.messages()
    assert ws.messages() is not None


def test_compressed_messages(serving, elsewhere):
    live = serving(per_message_deflate=True)
    client, ws = live.open(extra=OFFER)
    future = elsewhere.start(take(ws.messages(), 3))
    for text in ("one", "two" * 10000, "é" * 500):
        client.send_raw(frame(TEXT, deflate(text.encode()), rsv=4))
    assert future.result(TIMEOUT) == ["one", "two" * 10000, "é" * 500]


# --- the end ---


@pytest.mark.parametrize("end", ["close", "fin", "ws.close", "terminate", "stop"])
def test_received_before_the_close(serving, elsewhere, end):
    """They come, then the iteration ends. It also ends when it has been waiting."""
    live = serving()
    client, ws = live.open()
    _, idle = live.open()
    waiting = elsewhere.start(take_all(idle.messages()))
    iterator = ws.messages()
    for i in range(10):
        client.send(str(i))
    client.round_trip()
    live.expect("ping")
    if end == "close":
        client.send_close(1000)
    elif end == "fin":
        client.finish()
    elif end == "ws.close":
        ws.close()
    elif end == "terminate":
        ws.terminate()
    else:
        live.server.stop(True)
    live.wait_for("close")
    assert elsewhere.run(take_all(iterator)) == [str(i) for i in range(10)]
    assert elsewhere.run(take_all(iterator)) == []
    assert elsewhere.run(take_all(ws.messages())) == []
    idle.close()
    assert waiting.result(TIMEOUT) == []


def test_after_the_server(serving, elsewhere):
    """What is there outlives the server."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    client.send("x")
    client.round_trip()
    live.stop()
    assert elsewhere.run(take_all(iterator)) == ["x"]
    assert elsewhere.run(take_all(ws.messages())) == []


def test_close_frame_behind_a_flood(serving, elsewhere):
    """More than the queue takes, then Close, in one segment: all of it is seen."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(3000)) + close_frame(1000, "bye"))
    assert elsewhere.run(take_all(iterator)) == [str(i) for i in range(3000)]
    assert live.expect_close() == (1000, "bye")
    assert client.read_close() == (1000, "bye")


# --- leaving early ---


def test_break_gives_back(serving, elsewhere):
    """What waits goes to the handler, in order, before what arrives afterwards."""
    live = serving()
    client, ws = live.open()

    async def first():
        async for message in ws.messages():
            return message
        return None

    future = elsewhere.start(first())
    client.send_raw(b"".join(frame(TEXT, str(i)) for i in range(500)))
    assert future.result(TIMEOUT) == "0"
    client.send("last")
    assert [live.expect("message")[1] for _ in range(500)] == [*map(str, range(1, 500)), "last"]
    live.on_loop(lambda: None)
    assert live.server.buffered_bytes == 0


@pytest.mark.parametrize("how", ["aclose", "del", "exception"])
def test_other_ways_out(serving, elsewhere, how):
    live = serving()
    client, ws = live.open()

    async def leave():
        iterator = ws.messages()
        assert await iterator.__anext__() == "0"
        if how == "aclose":
            assert await iterator.aclose() is None
            assert await take_all(iterator) == []
            await iterator.aclose()
        elif how == "exception":
            async for _ in iterator:
                del iterator
                raise ZeroDivisionError

    future = elsewhere.start(leave())
    for i in range(10):
        client.send(str(i))
    if how == "exception":
        with pytest.raises(ZeroDivisionError):
            future.result(TIMEOUT)
    else:
        future.result(TIMEOUT)
    first = 2 if how == "exception" else 1
    assert [live.expect("message")[1] for _ in range(first, 10)] == [str(i) for i in range(first, 10)]


def test_without_a_handler_they_are_dropped(serving, elsewhere):
    opened = []
    import uwserve

    server = uwserve.serve(
        port=0,
        hostname="127.0.0.1",
        fetch=lambda request, server: server.upgrade(request) and None,
        websocket={"open": opened.append},
    ).start()
    from ws_client import Client

    with Client(("127.0.0.1", server.port)) as client:
        client.send("ignored")
        client.round_trip()
        iterator = opened[0].messages()
        client.send("1")
        client.send("2")
        client.round_trip()
        assert elsewhere.run(take(iterator, 1)) == ["1"]
        del iterator
        done = threading.Event()
        server.call_soon(done.set)
        assert done.wait(TIMEOUT)
        assert server.buffered_bytes == 0
        iterator = opened[0].messages()
        client.send("3")
        assert elsewhere.run(take(iterator, 1)) == ["3"]
        del iterator
        opened.clear()
        server.stop(True)
    server._control.join(TIMEOUT)


def test_closing_a_socket_gives_back_before_the_close_handler(serving, elsewhere):
    """A break and a Close at once: messages, then close."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    for i in range(10):
        client.send(str(i))
    client.round_trip()
    live.expect("ping")
    iterators = [iterator]
    del iterator

    def both():
        iterators.clear()
        ws.close(4000)

    live.on_loop(both)
    assert [live.expect("message")[1] for _ in range(10)] == [str(i) for i in range(10)]
    assert live.expect_close() == (4000, "")


# --- tasks ---


def test_cancelling_loses_nothing(serving, elsewhere):
    """Timeouts around every wait, also ones that strike as the message arrives."""
    live = serving()
    client, ws = live.open()
    got = []

    async def consume():
        iterator = ws.messages()
        while len(got) < 2000:
            try:
                got.append(await asyncio.wait_for(iterator.__anext__(), 0.0005))
            except asyncio.TimeoutError:
                pass

    future = elsewhere.start(consume())
    for i in range(2000):
        client.send(str(i))
        if i % 10 == 0:
            client.round_trip()
    future.result(TIMEOUT)
    assert got == [str(i) for i in range(2000)]


def test_cancelled_in_the_same_turn(serving, elsewhere):
    """The task is cancelled after its future was resolved: the next one gets the message."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()

    async def consume():
        task = asyncio.ensure_future(take(iterator, 1))
        await asyncio.sleep(0)
        live.server.call_soon(lambda: None)
        client.send("x")
        while live.server.buffered_bytes == 0:  # this loop does not turn meanwhile
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await take(iterator, 1)

    assert elsewhere.run(consume()) == ["x"]


def test_two_tasks(serving, elsewhere):
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()

    async def both():
        first = asyncio.ensure_future(take(iterator, 1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await take(iterator, 1)
        with pytest.raises(RuntimeError, match="another task"):
            await iterator.aclose()
        client.send("x")
        return await first

    assert elsewhere.run(both()) == ["x"]


def test_by_hand(serving):
    """The awaitable's own protocol: send, throw, close; reuse; no event loop."""
    live = serving()
    client, ws = live.open()
    iterator = ws.messages()
    with pytest.raises(RuntimeError, match="no running event loop"):
        iterator.__anext__().send(None)
    client.send("1")
    client.send(b"2")
    client.send("3")
    client.round_trip()
    with pytest.raises(StopIteration) as caught:
        iterator.__anext__().send(None)
    assert caught.value.value == "1"
    with pytest.raises(StopIteration) as caught:
        next(iterator.__anext__())
    assert caught.value.value == b"2"
    waiting = iterator.__anext__()
    with pytest.raises(ZeroDivisionError):
        waiting.throw(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError, match="late"):
        waiting.throw(ZeroDivisionError, "late")
    with pytest.raises(TypeError, match="BaseException"):
        waiting.throw(5)
    waiting.close()
    with pytest.raises(StopIteration) as caught:
        next(waiting)
    assert caught.value.value == "3"
    with pytest.raises(StopIteration) as caught:
        next(iterator.aclose())
    assert caught.value.value is None
    with pytest.raises(StopAsyncIteration):
        next(iterator.__anext__())


def test_a_thousand_connections(serving, elsewhere):
    """One consumer each, in the other thread; echoes by it, which are handed over."""
    live = serving()
    pairs = [live.open(f"/{i}") for i in range(1000)]

    async def echo(ws):
        async for message in ws.messages():
            ws.send(message)
        return (await ws.closed()).code

    async def all_of_them():
        return await asyncio.gather(*(echo(ws) for _, ws in pairs))

    future = elsewhere.start(all_of_them())
    for round_ in range(3):
        for i, (client, _) in enumerate(pairs):
            client.send(f"{round_} {i}")
        for i, (client, _) in enumerate(pairs):
            assert client.read_message() == f"{round_} {i}"
    for client, _ in pairs:
        client.send_close(1000)
    assert future.result(30) == [1000] * 1000
    assert live.server.buffered_bytes == 0
    pairs.clear()


def test_no_wakeup_is_lost(serving, elsewhere):
    """Threads that change at every turn: a message that comes while the consumer is about to wait."""
    live = serving()
    client, ws = live.open()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        future = elsewhere.start(take(ws.messages(), 3000))
        for i in range(0, 3000, 3):
            client.send(str(i))
            client.send_raw(frame(TEXT, str(i + 1)) + frame(TEXT, str(i + 2)))
        assert future.result(30) == [str(i) for i in range(3000)]
    finally:
        sys.setswitchinterval(interval)
