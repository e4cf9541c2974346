"""``close(ws, code, reason)`` passed on to another socket: the other side closes with every code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
from ws_client import CLOSE, Frame, close_payload

from uwserve import testing

pytestmark = pytest.mark.wss

NONE = (0, 1005, 1006)


@pytest.mark.parametrize("reason", ["", "forwarded"])
@pytest.mark.parametrize("code", NONE)
def test_a_close_without_a_status(serving, code, reason):
    """An empty Close and FIN; the handler runs inside the call and sees what went out: 1005 and no reason."""
    live = serving()
    client, ws = live.open()
    inside = live.on_loop(lambda: (ws.close(code, reason), ws.ready_state, list(live.events.queue)))
    assert inside == (None, 3, [("close", ws, 1005, "")])
    assert client.read_frame() == Frame(CLOSE, b"")
    client.expect_end()
    assert live.on_loop(live.server.stats)["closes"] == {1005: 1}


@pytest.mark.parametrize("code", NONE)
def test_out_of_a_handler_and_a_thread(serving, code):
    live = serving(message=lambda ws, _: (ws.send("last"), ws.close(code)))
    client = live.connect()
    client.send("go")
    assert client.read_message() == "last"
    assert client.read_frame() == Frame(CLOSE, b"")
    client, ws = live.open() if live.wait_for("close") else None
    ws.close(code, "from another thread")
    assert client.read_frame() == Frame(CLOSE, b"")
    assert live.expect_close() == (1005, "")


@pytest.mark.parametrize(
    ("end", "seen", "forwarded"),
    [
        (lambda client: client.send_close(None), (1005, ""), b""),
        (lambda client: client.finish(), (1006, ""), b""),
        (lambda client: client.reset(), (1006, ""), b""),
        (lambda client: client.send_close(1000, "bye"), (1000, "bye"), close_payload(1000, "bye")),
        (lambda client: client.send_close(4321, "é" * 61), (4321, "é" * 61), close_payload(4321, "é" * 61)),
        (lambda client: client.send_raw(b"\x81\x01x"), None, None),  # not masked: 1002 and why
    ],
    ids=["no status", "FIN", "RST", "1000", "4321", "1002"],
)
def test_a_relay(serving, end, seen, forwarded):
    """Two sockets, each closed with what the other's handler got: no code leaves one of them open."""
    pair: list[Any] = []

    def closed(ws: Any, code: int, reason: str) -> None:
        for other in pair:
            if other is not ws and other.ready_state == 1:
                other.close(code, reason)

    live = serving(close=closed)
    left, ws = live.open()
    pair.append(ws)
    right, ws = live.open()
    pair.append(ws)
    end(left)
    _, code, reason = live.wait_for("close")
    assert (code, reason) == seen if seen else code == 1002
    assert right.read_frame() == Frame(CLOSE, close_payload(code, reason) if forwarded is None else forwarded)
    live.clients.remove(left)
    left.close()


def test_other_codes_name_what_is_possible(serving):
    live = serving()
    _, ws = live.open()
    with pytest.raises(ValueError, match=r"1000-1003, 1007-1014 or 3000-4999 .*, or 0, 1005 or 1006 .*, got 1015"):
        live.on_loop(ws.close, 1015)
    with pytest.raises(ValueError, match=r"code must be 1000-1003, 1007-1014 or 3000-4999 \(RFC 6455 7.4\), got 1005"):
        live.server.stop(timeout=1, code=1005)


@pytest.mark.plain("its client speaks plain TCP")
def test_what_a_client_library_sees(serving):
    live = serving(message=lambda ws, code: ws.close(int(code), "ignored"))

    async def run(code: int) -> websockets.exceptions.ConnectionClosed:
        async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{live.server.port}/") as ws:
            await ws.send(str(code))
            with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
                await ws.recv()
            return caught.value

    for code in NONE:
        error = asyncio.run(asyncio.wait_for(run(code), 20))
        assert error.rcvd is not None
        assert (error.rcvd.code, error.rcvd.reason) == (1005, "")


def test_messages_end_with_it(serving):
    """``messages()`` ends, and ``closed()`` tells the same code."""
    told: list[Any] = []

    async def opened(ws: Any) -> None:
        async for message in ws.messages():
            ws.close(int(message))
        told.append(await ws.closed())

    live = serving(open=opened, only=())
    client = live.connect()
    client.send("1006")
    assert client.read_frame() == Frame(CLOSE, b"")
    client.expect_end()
    live.on_loop(lambda: None)
    assert told == [(1005, "")]


@pytest.mark.plain("the server that it makes speaks plain TCP")
@pytest.mark.parametrize("code", NONE)
def test_the_testing_client(code):
    """It sends one, too, and the server answers in kind."""
    seen: list[Any] = []
    with (
        testing.serving(
            fetch=lambda request, server: server.upgrade(request) and None,
            websocket={"close": lambda ws, code, reason: seen.append((code, reason))},
        ) as server,
        server.connect() as ws,
    ):
        assert ws.close(code, "ignored") == (1005, "")
    assert seen == [(1005, "")]
