"""``server.stats()`` when things go wrong: closes, drops, refusals, exceptions; each against what really happened."""

from __future__ import annotations

from typing import Any

import pytest
from counters import settled
from http_client import GET, running, upgrade
from http_client import Client as HttpClient
from ws_client import BINARY, TEXT, frame, handshake

from uwserve import Response

pytestmark = pytest.mark.wss

MIB = 1 << 20

CLOSES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]


def test_closes_by_code(serving: Any) -> None:
    """From either side, with every code there is; without one; without a Close frame; by violations; by force."""
    live = serving(max_payload_length=100)
    expected: dict[int, int] = {}

    def closed(code: int, *clients: Any) -> None:
        assert live.expect_close()[0] == code
        expected[code] = expected.get(code, 0) + 1
        for client in clients:
            client.close()

    for code in CLOSES:
        client, ws = live.open()
        client.send_close(code)
        client.read_close()
        closed(code, client)
        client, ws = live.open()
        live.on_loop(ws.close, code)
        closed(code, client)
    client, _ = live.open()
    client.send_close(None)
    closed(1005, client)
    client, _ = live.open()
    client.close()
    closed(1006)
    client, ws = live.open()
    live.on_loop(ws.terminate)
    closed(1006, client)
    for raw, code in [(frame(3), 1002), (frame(TEXT, b"\xff"), 1007), (frame(BINARY, bytes(101)), 1009)]:
        client, _ = live.open()
        client.send_raw(raw)
        closed(code, client)
    clients = [live.open()[0] for _ in range(5)]
    live.server.stop(True)
    for _ in clients:
        closed(1001)
    stats = live.server.stats()
    assert stats["closes"] == expected
    assert list(stats["closes"]) == sorted(expected)
    assert sum(expected.values()) == stats["websockets"]["total"]
    assert stats["websockets"]["open"] == 0
    assert stats["refused"]["websocket_1002"] == stats["refused"]["websocket_1007"] == 1


def fill(ws: Any, size: int = 65536) -> tuple[int, int]:
    """Sends until it is dropped: how many were accepted, and how many of those met backpressure."""
    accepted = waited = 0
    while answer := ws.send(bytes(size)):
        accepted += 1
        waited += answer == -1
    return accepted, waited


def test_dropped_and_backpressured_sends(serving: Any) -> None:
    live = serving(backpressure_limit=MIB)
    _, ws = live.open(receive_buffer=8192)
    accepted, waited = live.on_loop(fill, ws)
    assert waited
    for _ in range(3):
        assert live.on_loop(ws.send, bytes(65536)) == 0
    settled(
        live.server,
        {
            "sent.binary_messages": accepted,
            "sent.binary_bytes": accepted * 65536,
            "backpressured_sends": waited,
            "dropped_sends": 4,
            "refused.sends_backpressure": 4,
        },
    )
    assert live.server.stats()["buffered_bytes"] == live.server.buffered_bytes > 0
    live.on_loop(ws.terminate)
    assert ws.send("closed") == 0  # not dropped by a limit
    settled(live.server, {"dropped_sends": 4, "buffered_bytes": 0})


@pytest.mark.parametrize(("size", "count"), [(1000, 150), (20_000, 50)])
def test_publishes_to_slow_subscribers(room: Any, size: int, count: int) -> None:
    """Each receiver that is over its limit is one dropped message; the others get theirs."""
    live, pairs = room(1, "news", backpressure_limit=MIB)
    slow, slow_ws = live.open("/slow", receive_buffer=8192)

    def publish() -> int:
        slow_ws.subscribe("news")
        accepted, _ = fill(slow_ws)
        for _ in range(count):
            live.server.publish("news", bytes(size))
        return accepted

    accepted = live.on_loop(publish)
    client, ws = pairs[0]
    assert live.messages_until_now(client, ws) == [bytes(size)] * count
    stats = live.server.stats()
    to_slow = stats["sent"]["binary_messages"] - count - accepted
    assert to_slow + stats["dropped_sends"] == count + 1
    assert stats["dropped_sends"] > 1
    assert slow is not None


def test_refused_and_declined_upgrades() -> None:
    """By the server, by cause; by the handler; a plain request is neither."""
    with running(
        fetch=lambda r, s: Response("no", 401) if r.path == "/secret" else upgrade(r, s), websocket={}
    ) as server:
        requests = {
            handshake(replace={"sec-websocket-version": "8"}): 426,
            handshake(drop=("sec-websocket-key",)): 200,  # upgrade() is False, and fetch answers
            handshake("/secret"): 401,
            GET: 200,
        }
        for sent, status in requests.items():
            with HttpClient(server) as client:
                assert client.ask(sent).status == status
        with HttpClient(server) as client:
            client.send(b"BROKEN\r\n\r\n")
            assert client.reply().status == 400
        settled(
            server,
            {
                "declined_upgrades": 3,
                "refused.handshake_version": 1,
                "refused.handshake_invalid": 1,
                "refused.http_400": 1,
                "requests.total": 4,
                "websockets.total": 0,
            },
        )


@pytest.mark.parametrize("with_hook", [True, False])
def test_handler_errors(serving: Any, logged: list[str], with_hook: bool) -> None:
    """Each by its handler, whether or not ``error`` takes it; one out of ``error`` counts there, too."""

    def fails(*_: Any) -> None:
        raise KeyError("on purpose")

    def error(exc: BaseException, ws: Any) -> None:
        if ws.data == "/worse":
            raise RuntimeError("in error")

    options: dict[str, Any] = {
        "message": lambda ws, message: fails(),
        "close": lambda ws, code, reason: fails(),
        "ping": lambda ws, data: fails(),
        "pong": lambda ws, data: fails(),
        "open": lambda ws: fails() if ws.data == "/open" else None,
    }
    live = serving(**options, **({"error": error} if with_hook else {}))
    client, _ = live.open()
    client.send("a")
    client.send("b")
    client.ping()
    client.pong()
    client.send_close(1000)
    live.wait_for("close")
    bad = live.connect("/open")
    bad.read_close()
    live.wait_for("close")
    worse = live.connect("/worse")
    worse.send("c")
    live.wait_for("message")
    live.server.call_soon(fails)
    live.on_loop(lambda: None)
    errors = live.server.stats()["handler_errors"]
    told = {name: count for name, count in errors.items() if count}
    hook = {"error": 1} if with_hook else {}
    assert told == {"open": 1, "message": 3, "close": 2, "ping": 1, "pong": 1, "call_soon": 1} | hook
    assert logged


def test_errors_of_requests(logged: list[str]) -> None:
    def fetch(request: Any) -> Any:
        if request.path == "/stream":
            return Response(iter([b"a", 1]))
        raise KeyError("on purpose")

    def error(exc: BaseException) -> Any:
        raise RuntimeError("in error")

    with running(fetch=fetch, routes={"/route": fetch}) as server:
        for path in ("/", "/route", "/late"):
            with HttpClient(server) as client:
                assert client.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status == 500
        settled(server, {"handler_errors.fetch": 3, "handler_errors.error": 0})
        server.reload(error=error)
        with HttpClient(server) as client:
            assert client.ask(GET).status == 500
        settled(server, {"handler_errors.fetch": 4, "handler_errors.error": 1})
        with HttpClient(server) as client:
            client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_rest()
        settled(server, {"handler_errors.stream": 1, "requests.total": 5})
    assert len(logged) == 6


def test_frames_that_are_no_messages(serving: Any) -> None:
    """A message that breaks off, or that breaks the protocol, is not counted; what came before it is."""
    live = serving()
    client, _ = live.open()
    client.send("whole")
    client.send_raw(frame(TEXT, "half", fin=False))
    client.close()
    live.wait_for("close")
    client, _ = live.open()
    client.send_raw(frame(BINARY, b"abc") + frame(TEXT, b"\xc3") + frame(TEXT, "after"))
    assert live.wait_for("close")[1] == 1007
    settled(live.server, {"received.text_messages": 1, "received.binary_messages": 1, "received.bytes": 8})
