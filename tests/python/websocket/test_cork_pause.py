"""cork, pause and resume (S6, S13; docs/coming-from/bun.md)."""

from __future__ import annotations

import pytest
from ws_client import PING, PONG, TEXT, Frame, frame

pytestmark = pytest.mark.wss


@pytest.fixture(params=["outside", "message", "drain"])
def within(request, serving):
    """``within(fn)``: runs ``fn(ws)`` outside any handler, in a message handler, in a drain handler; its result."""
    live = serving(
        message=lambda ws, _: results.append(run(ws)), drain=lambda ws: results.append(run(ws)) if armed else None
    )
    results: list = []
    armed: list = []
    current: list = []
    client, ws = live.open(receive_buffer=8192)

    def run(ws):
        try:
            return current[0](ws)
        except BaseException as exc:
            return exc

    def call(fn):
        current[:] = [fn]
        if request.param == "outside":
            live.on_loop(lambda: results.append(run(ws)))
        elif request.param == "message":
            client.send("go")
            live.wait_for("message")
        else:

            def fill():
                count = 1
                while ws.send(bytes(65536)) != -1:
                    count += 1
                armed.append(1)
                return count

            for _ in range(live.on_loop(fill)):
                assert client.read_message() == bytes(65536)
            live.wait_for("drain")
        live.on_loop(lambda: None)
        armed.clear()
        result = results.pop()
        assert not results
        if isinstance(result, BaseException):
            raise result
        return result

    call.client, call.live, call.ws = client, live, ws
    return call


def test_value_and_argument(within):
    """cork calls callback(ws) and returns its value."""
    marker = object()
    assert within(lambda ws: ws.cork(lambda same: (same is ws, marker))) == (True, marker)


def test_exception(within):
    """An exception of the callback is cork's; what was sent before it arrives; the socket works on."""

    def fails(ws):
        ws.send("before")
        raise LookupError("out of cork")

    with pytest.raises(LookupError, match="out of cork"):
        within(lambda ws: ws.cork(fails))
    assert within.client.read_message() == "before"
    assert within(lambda ws: ws.cork(lambda ws: ws.send("after"))) == 5
    assert within.client.read_message() == "after"


def test_nesting(within):
    """cork in cork in cork: order kept, values returned."""

    def level(ws, n):
        ws.send(f"in {n}")
        value = ws.cork(lambda ws: level(ws, n - 1)) + 1 if n else 0
        ws.send(f"out {n}")
        return value

    assert within(lambda ws: ws.cork(lambda ws: level(ws, 5))) == 5
    assert within.client.read_messages(12) == [f"in {n}" for n in range(5, -1, -1)] + [f"out {n}" for n in range(6)]


def test_other_socket_inside(within):
    """Corking and sending on another socket inside a cork: both get everything, each in order."""
    other, other_ws = within.live.open()

    def both(ws):
        for i in range(50):
            ws.send(f"a{i}")
            other_ws.send(f"b{i}")
            other_ws.cork(lambda o, i=i: (o.send(f"c{i}"), ws.send(f"d{i}"), o.send(b"e" * 5000)))

    within(lambda ws: ws.cork(both))
    for i in range(50):
        assert within.client.read_messages(2) == [f"a{i}", f"d{i}"]
        assert other.read_messages(3) == [f"b{i}", f"c{i}", b"e" * 5000]


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_close_inside_cork(within, how):
    """S6: close() in a cork outside on_data: what was sent, Close and FIN, at once."""

    def leave(ws):
        ws.send("last")
        getattr(ws, how)()
        return ws.send("never"), ws.ready_state

    assert within(lambda ws: ws.cork(leave)) == (0, 3)
    if how == "close":
        assert within.client.read_message() == "last"
        assert within.client.read_close() == (1000, "")
        within.client.expect_end()
    assert within.live.wait_for("close")[1:] == ((1000, "") if how == "close" else (1006, ""))


def test_close_other_inside_cork(within):
    """Closing another socket inside a cork, which is itself corked."""
    other, other_ws = within.live.open()

    def leave(ws):
        ws.send("1")
        other_ws.cork(lambda o: (o.send("bye"), o.close(4000, "r")))
        ws.send("2")

    within(lambda ws: ws.cork(leave))
    assert other.read_message() == "bye"
    assert other.read_close() == (4000, "r")
    other.expect_end()
    assert within.client.read_messages(2) == ["1", "2"]


def test_more_than_the_cork_holds(within):
    """S2: more than the cork buffer, in small and large pieces."""
    sizes = [100] * 500 + [16000, 1, 16384, 2, 300000, 3]
    within(lambda ws: ws.cork(lambda ws: [ws.send(bytes(n)) for n in sizes]))
    assert [len(within.client.read_message()) for _ in sizes] == sizes


def test_corked_messages_go_out_in_one_write(serving):
    """A cork is one segment: a client that reads once has them all."""
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.cork, lambda ws: [ws.send(f"message {i}") for i in range(100)])
    client.fill()
    assert len(client.buffer) == sum(2 + len(f"message {i}") for i in range(100))


@pytest.mark.parametrize("callback", [None, 5, "x", object()])
def test_bad_callbacks(serving, callback):
    live = serving()
    _, ws = live.open()
    with pytest.raises(TypeError, match="callback"):
        live.on_loop(ws.cork, callback)
    with pytest.raises(TypeError):
        live.on_loop(ws.cork, lambda ws, more: None)
    with pytest.raises(TypeError):
        live.on_loop(ws.cork)
    with pytest.raises(TypeError):
        live.on_loop(ws.cork, print, print)


# --- pause and resume ---


def test_pause(serving):
    """While paused nothing is read; everything comes after resume, in order. Both are idempotent. Sending goes on."""
    live = serving(message=lambda ws, message: ws.send(message))
    client, ws = live.open()
    live.on_loop(lambda: (ws.pause(), ws.pause()))
    for i in range(100):
        client.send(str(i))
    client.ping(b"p")
    for _ in range(20):
        live.no_events()
    assert live.on_loop(ws.send, "sent while paused") == 17
    assert client.read_message() == "sent while paused"
    client.expect_silence()
    live.on_loop(lambda: (ws.resume(), ws.resume()))
    assert client.read_messages(100) == [str(i) for i in range(100)]
    assert client.read_frame() == Frame(PONG, b"p")


def test_pause_inside_a_handler(serving):
    """pause() in a message handler: frames of the same segment still come, later segments wait."""
    live = serving(message=lambda ws, message: ws.pause())
    client, ws = live.open()
    client.send("1")
    live.expect("message")
    client.send("2")
    for _ in range(20):
        live.no_events()
    live.on_loop(ws.resume)
    assert live.expect("message")[1] == "2"


@pytest.mark.parametrize("how", ["close", "terminate", "finish", "reset", "stop"])
def test_end_while_paused(serving, how):
    """A paused socket can be closed, terminated and stopped; resume notices the peer's end."""
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.pause)
    if how == "close":
        live.on_loop(ws.close)
        assert client.read_close()[0] == 1000
        assert live.expect_close() == (1000, "")
        client.send_close(1000)
        client.expect_end()
    elif how == "terminate":
        live.on_loop(ws.terminate)
        assert live.expect_close() == (1006, "")
        client.expect_end()
    elif how == "stop":
        live.server.stop(True)
        assert client.read_close() == (1001, "Server closed")
        assert live.expect_close() == (1001, "Server closed")
        client.close()
        assert live.server.stop().wait(3)
    else:
        getattr(client, how)()
        live.on_loop(ws.resume)
        assert live.expect_close() == (1006, "")


def test_pause_and_drain(serving):
    """A paused socket still drains: pausing is about reading only."""
    live = serving()
    client, ws = live.open(receive_buffer=8192)

    def fill():
        ws.pause()
        count = 1
        while ws.send(bytes(65536)) != -1:
            count += 1
        return count

    client.read_messages(live.on_loop(fill))
    live.expect("drain")


def test_pause_under_load(serving):
    """pause and resume at every message of a long stream: nothing is lost or reordered."""
    live = serving(message=lambda ws, message: (ws.pause(), live.server.call_soon(ws.resume), ws.send(message)))
    client = live.connect()
    for batch in range(20):
        client.send_raw(b"".join(frame(TEXT, f"{batch}.{i}") for i in range(10)))
        assert client.read_messages(10) == [f"{batch}.{i}" for i in range(10)]
    client.send_raw(frame(PING, b"x"))
    assert client.read_frame() == Frame(PONG, b"x")
