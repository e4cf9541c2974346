"""Pings without an end and lifetimes, on the wire.

The schedules themselves are tested in C++, where the clock can be moved (cpp/uws/test_liveness.cpp): silent clients
that are published to, the meeting with idle_timeout, the spread of lifetimes.
"""

from __future__ import annotations

import time

import ws_client
from ws_client import PING, Frame


def test_pings_without_an_idle_timeout(serving):
    """A Ping after each second without a frame from the peer; it is not closed, and a frame begins the second anew."""
    live = serving(idle_timeout=0, ping_interval=1, message=lambda ws, m: ws.send(m))
    client, ws = live.open()
    begun = time.monotonic()
    assert client.read_frame() == Frame(PING, b"")
    assert 1 <= time.monotonic() - begun < 4
    client.send("still here")
    assert client.read_message() == "still here"
    for _ in range(2):
        assert client.read_frame() == Frame(PING, b"")
    assert ws.ready_state == 1
    live.expect("message")
    live.no_events()


def test_lifetime(serving):
    """A socket that is busy all the time is closed with 1001 at its age; close() hears it once."""
    live = serving(max_lifetime=1, message=lambda ws, m: ws.send(m))
    client, _ = live.open()
    begun = time.monotonic()
    while True:
        client.send("x")
        got = client.read_frame()
        if got.opcode == ws_client.CLOSE:
            break
    assert (got.close_code, got.close_reason) == (1001, "Maximum lifetime reached")
    assert 1 <= time.monotonic() - begun < 4
    client.expect_end()
    _, code, reason = live.wait_for("close")
    assert (code, reason) == (1001, "Maximum lifetime reached")


def test_reload_changes_both_for_open_sockets(serving):
    """From off: the interval begins with the reload, and so does the age."""
    live = serving(idle_timeout=0)
    client, _ = live.open()
    live.server.reload(websocket=live.recorded({"idle_timeout": 0, "ping_interval": 1}))
    assert client.read_frame() == Frame(PING, b"")
    live.server.reload(websocket=live.recorded({"idle_timeout": 0, "max_lifetime": 1}))
    frame = client.read_frame()
    while frame == Frame(PING, b""):  # sent before the reload
        frame = client.read_frame()
    assert (frame.opcode, frame.close_code) == (ws_client.CLOSE, 1001)


def test_a_lifetime_ends_inside_no_handler(serving, logged):
    """The close handler that it calls may raise, close others and stop the server."""
    closed: list = []

    def close(ws, code, reason):
        closed.append(code)
        live.server.stop(timeout=5)
        raise KeyError("in close")

    live = serving(max_lifetime=1, close=close)
    first, second = live.connect(), live.connect()
    for client in (first, second):
        assert client.read_close()[0] == 1001
        client.close()
    assert live.server.stop().wait(10)
    assert closed == [1001, 1001]
    assert "KeyError" in "".join(logged)
