"""How a socket ends: what the close handler is told and what is on the wire (S4-S6, S12, S15, P6, P8, P9)."""

from __future__ import annotations

import threading
import time

import pytest
from ws_client import BINARY, CLOSE, CONT, PING, TEXT, Frame, close_frame, close_payload, frame

pytestmark = pytest.mark.wss

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535, 65536, -1, 1 << 70]


# --- the peer closes ---


@pytest.mark.parametrize(
    ("sent", "seen", "answer"),
    [
        (close_frame(1000, "bye"), (1000, "bye"), close_payload(1000, "bye")),
        (close_frame(), (1005, ""), b""),
        (close_frame(1001), (1001, ""), close_payload(1001)),
        (close_frame(4999, "é" * 61), (4999, "é" * 61), close_payload(4999, "é" * 61)),
    ],
)
def test_peer_closes(serving, sent, seen, answer):
    """Code and reason reach the handler, once; the Close is echoed, then FIN."""
    live = serving()
    client, ws = live.open()
    client.send_raw(sent)
    assert client.read_frame() == Frame(CLOSE, answer)
    client.expect_end()
    assert live.expect("close") == (ws, *seen)
    assert ws.ready_state == 3
    live.no_events()


@pytest.mark.parametrize("code", VALID)
def test_peer_closes_with_each_code(serving, code):
    live = serving()
    client, _ = live.open()
    client.send_close(code, "r")
    assert client.read_close() == (code, "r")
    assert live.expect_close() == (code, "r")


@pytest.mark.parametrize("data", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_invalid_utf8(serving, data, fragmented):
    """1007 in the callback and on the wire; the message is not delivered."""
    live = serving()
    client, _ = live.open()
    if fragmented:
        client.send_raw(frame(TEXT, data[:1], fin=False) + frame(CONT, data[1:]))
    else:
        client.send_raw(frame(TEXT, data))
    assert client.read_close()[0] == 1007
    client.expect_end()
    code, reason = live.expect_close()
    assert code == 1007
    assert reason
    live.no_events()


def test_binary_is_not_checked_as_utf8(echo):
    client = echo.connect()
    client.send(b"\xff\xfe")
    assert client.read_message() == b"\xff\xfe"


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, "x" * 1001),
        frame(BINARY, b"", length=1001),
        frame(BINARY, b"", length=1 << 20),
        frame(BINARY, b"", length=1 << 40),
        frame(TEXT, "x" * 900, fin=False) + frame(CONT, "x" * 101),
        frame(TEXT, "x" * 900, fin=False) + frame(CONT, "", length=5000),
    ],
)
def test_too_big(serving, data):
    """1009, judged from the header: the payload need not arrive."""
    live = serving(max_payload_length=1000)
    client, _ = live.open()
    client.send("before")
    client.send_raw(data)
    assert client.read_close()[0] == 1009
    assert live.expect("message")[1] == "before"
    code, reason = live.expect_close()
    assert code == 1009
    assert reason
    live.no_events()


@pytest.mark.parametrize("data", [frame(TEXT, "x"), frame(TEXT, b"\x4b\x04\x00", rsv=4)], ids=["plain", "compressed"])
def test_nothing_but_empty_messages(serving, data):
    """A limit of 0 is one, as in Bun: empty messages and control frames pass, one byte is too many."""
    live = serving(max_payload_length=0, per_message_deflate=True, message=lambda ws, message: ws.send(b"got"))
    client = live.connect(extra=(("Sec-WebSocket-Extensions", "permessage-deflate"),))
    for empty in (frame(TEXT), frame(BINARY), frame(TEXT, b"\x02\x00", rsv=4), frame(TEXT, fin=False) + frame(CONT)):
        client.send_raw(empty)
        assert client.read_message() == b"got"
    client.round_trip()
    client.send_raw(data)
    assert client.read_close()[0] == 1009


@pytest.mark.parametrize(
    "data",
    [frame(3), frame(7, b"x"), frame(11), frame(TEXT, "x", rsv=1), frame(TEXT, "x", rsv=2), frame(PING, fin=False)],
)
def test_protocol_error(serving, data):
    """1002 in the callback, with a text, and on the wire; what came before is delivered (P6)."""
    live = serving(message=lambda ws, message: ws.send(message))
    client, _ = live.open()
    client.send_raw(frame(TEXT, "before") + data + frame(TEXT, "after"))
    assert client.read_message() == "before"
    assert client.read_close()[0] == 1002
    live.expect("message")
    code, reason = live.expect_close()
    assert code == 1002
    assert reason
    live.no_events()


@pytest.mark.parametrize("ending", ["finish", "reset", "close"])
def test_connection_is_cut(serving, transport, ending):
    """FIN and RST without a Close frame: 1006, no reason, nothing on the wire; a half-sent frame is not delivered."""
    live = serving(**transport)
    client, ws = live.open()
    client.send_raw(frame(TEXT, "whole") + frame(TEXT, "half")[:-1])
    assert live.expect("message")[1] == "whole"
    getattr(client, ending)()
    assert live.expect("close") == (ws, 1006, "")
    if ending == "finish":
        client.expect_end()
    live.no_events()


def test_nothing_is_delivered_behind_a_close(serving):
    """Frames behind the peer's Close are ignored."""
    live = serving()
    client, _ = live.open()
    client.send_raw(close_frame(1000) + frame(TEXT, "x") + frame(PING) + close_frame(1001))
    assert client.read_close() == (1000, "")
    assert live.expect_close() == (1000, "")
    client.expect_end()
    live.no_events()


# --- we close ---


@pytest.mark.parametrize("code", VALID)
def test_server_closes_with_each_code(serving, code):
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.close, code, "reason")
    assert client.read_close() == (code, "reason")
    assert live.expect_close() == (code, "reason")


@pytest.mark.parametrize(
    ("args", "kwargs", "seen"),
    [
        ((), {}, (1000, "")),
        ((1001,), {}, (1001, "")),
        ((), {"code": 4000}, (4000, "")),
        ((), {"reason": "r"}, (1000, "r")),
        ((3000, "é" * 61 + "x"), {}, (3000, "é" * 61 + "x")),
    ],
)
def test_server_closes(serving, args, kwargs, seen):
    """Close frame, then FIN at once; the handler runs inside the call with ready_state 3; a second close is a no-op."""
    inside = []

    def closed(ws, code, reason):
        inside.append((code, reason, ws.ready_state, ws.close(), ws.terminate()))

    live = serving(close=closed)
    client, ws = live.open()

    def go():
        assert ws.close(*args, **kwargs) is None
        assert inside == [(*seen, 3, None, None)]
        assert ws.ready_state == 3
        assert ws.close(4001, "again") is None
        assert ws.terminate() is None

    live.on_loop(go)
    assert client.read_close() == seen
    client.expect_end()
    assert len(inside) == 1


@pytest.mark.parametrize("code", [code for code in INVALID if code not in (0, 1005, 1006)])
def test_invalid_codes(serving, code):
    """ValueError that names the code, on an open and on a closed socket; nothing happens to the socket (S15)."""
    live = serving()
    client, ws = live.open()
    for _ in range(2):
        with pytest.raises(ValueError, match="code"):
            live.on_loop(ws.close, code)
        client.round_trip() if ws.ready_state == 1 else None
        live.on_loop(ws.close)


@pytest.mark.parametrize(
    ("args", "error", "names"),
    [
        ((None,), TypeError, "code"),
        (("1000",), TypeError, "code"),
        ((1000.0,), TypeError, "code"),
        ((True,), TypeError, "code"),
        ((1000, None), TypeError, "reason"),
        ((1000, b"x"), TypeError, "reason"),
        ((1000, "x" * 124), ValueError, "reason"),
        ((1000, "é" * 62), ValueError, "reason"),
        ((1000, "\ud800"), ValueError, "surrogate"),
        ((1000, "x", 1), TypeError, "close"),
    ],
)
def test_bad_close_arguments(serving, args, error, names):
    live = serving()
    client, ws = live.open()
    with pytest.raises(error, match=names):
        live.on_loop(ws.close, *args)
    client.round_trip()
    assert ws.ready_state == 1
    with pytest.raises(TypeError):
        live.on_loop(ws.terminate, 1)


def test_close_sends_what_was_sent_before(serving):
    """Order: messages, Close, FIN; sends after close() return 0 and are not on the wire (S4)."""
    results = []

    def message(ws, _):
        results.append(ws.send("a"))
        results.append(ws.send(b"b" * 20000))
        ws.close(1000, "c")
        results.extend([ws.send("d"), ws.ping(), ws.send(b"e" * 20000)])

    live = serving(message=message)
    client = live.connect()
    client.send("go")
    assert client.read_messages(2) == ["a", b"b" * 20000]
    assert client.read_close() == (1000, "c")
    client.expect_end()
    assert results == [1, 20000, 0, 0, 0]


def test_inbound_after_close_is_ignored(serving):
    """After our close() the peer's frames are not delivered, in the same segment or later."""
    live = serving(message=lambda ws, message: ws.close(4000, "enough"))
    client, _ = live.open()
    client.send_raw(frame(TEXT, "1") + frame(TEXT, "2") + frame(PING, b"x"))
    assert live.expect("message")[1] == "1"
    assert live.expect_close() == (4000, "enough")
    assert client.read_close() == (4000, "enough")
    client.send_raw(frame(TEXT, "3") + close_frame(4000))
    client.expect_end()
    live.no_events()


def test_peer_that_does_not_answer_the_close(serving):
    """We close; the peer never answers. pending_websockets is 0 at once, a forced stop does not wait for it."""
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.close)
    assert client.read_close() == (1000, "")
    assert live.server.pending_websockets == 0
    began = time.monotonic()
    client.close()
    assert live.server.stop(True).wait(10)
    assert time.monotonic() - began < 8


def test_terminate(serving, transport):
    """No Close frame; close(1006, "") inside the call."""
    live = serving(**transport)
    client, ws = live.open()
    inside = live.on_loop(lambda: (ws.terminate(), ws.ready_state, list(live.events.queue)))
    assert inside == (None, 3, [("close", ws, 1006, "")])
    client.expect_end()


def test_open_raising(serving, logged):
    """open raising: 1011, the close handler runs, it is logged; upgrade() still was True."""
    live = serving(open=lambda ws: 1 / 0)
    client = live.connect()
    assert client.read_close() == (1011, "")
    client.expect_end()
    live.expect("open")
    assert live.expect_close() == (1011, "")
    assert "ZeroDivisionError" in "".join(logged)


def test_open_raising_after_close(serving, logged):
    """open closes and then raises: closed once, with its own code."""

    def opened(ws):
        ws.close(4000, "mine")
        raise ValueError("after close")

    live = serving(open=opened)
    client = live.connect()
    assert client.read_close() == (4000, "mine")
    live.expect("open")
    assert live.expect_close() == (4000, "mine")
    live.no_events()
    assert "after close" in "".join(logged)


def test_forced_stop(serving):
    """server.stop(True): 1001 "Server closed" to every socket, after what was sent."""
    live = serving()
    pairs = [live.open() for _ in range(5)]
    live.on_loop(lambda: [ws.send(f"last {i}") for i, (_, ws) in enumerate(pairs)])
    live.server.stop(True)
    for i, (client, _) in enumerate(pairs):
        assert client.read_message() == f"last {i}"
        assert client.read_close() == (1001, "Server closed")
        client.expect_end()
        client.close()
    assert sorted(live.expect_close() for _ in pairs) == [(1001, "Server closed")] * 5


def test_idle_timeout(serving):
    """Idle: 1006 with the text, nothing on the wire. Pings keep a live peer; 0 is off (P8); sends do not count (P9).

    Also one that reload() made shorter, which counts from the next frame on, and one that stands still while paused.
    """
    text = "WebSocket timed out from inactivity"
    servers = {
        "silent": serving(idle_timeout=1, send_pings=False),  # raised to 8
        "pushed": serving(idle_timeout=8, send_pings=False),
        "pinged": serving(idle_timeout=8),
        "talking": serving(idle_timeout=8, send_pings=False),
        "off": serving(idle_timeout=0),
        "reloaded": serving(idle_timeout=0),
        "paused": serving(idle_timeout=8, send_pings=False),
    }
    began = time.monotonic()
    open_ = {name: live.open() for name, live in servers.items()}
    reloaded = servers["reloaded"]
    reloaded.server.reload(websocket=reloaded.recorded({"idle_timeout": 8, "send_pings": False}))
    open_["reloaded"][0].round_trip()
    open_["paused"][1].pause()
    stop = threading.Event()

    def talk():
        while not stop.wait(1):
            for name in ("talking", "pushed"):
                ws = open_[name][1]
                if name == "talking":
                    open_[name][0].pong()
                else:
                    ws.send("push")

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        for name in ("silent", "pushed", "reloaded"):
            assert servers[name].wait_for("close", 16)[1:] == (1006, text), name
            assert 6.5 < time.monotonic() - began < 15, name
        frames = open_["silent"][0].read_to_end()
        assert frames == [], "no Close frame"
        # The pinged client answers by hand.
        got = open_["pinged"][0].read_frame()
        assert got.opcode == PING
        open_["pinged"][0].send_raw(frame(10, got.payload))
        got = open_["pinged"][0].read_frame()
        assert got.opcode == PING, "the pong kept it alive, the next ping comes"
        assert time.monotonic() - began > 7
        for name in ("talking", "off", "paused"):
            assert open_[name][1].ready_state == 1, name
    finally:
        stop.set()
        talker.join()
