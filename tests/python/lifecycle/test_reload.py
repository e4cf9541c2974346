"""server.reload: handlers and limits change for open sockets; everything else stays (docs/coming-from/bun.md)."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from ws_client import TEXT, frame, handshake

import uwserve

pytestmark = pytest.mark.wss


def test_handlers_of_open_sockets(serving):
    """The next callback is the new handler's; handlers that are not given are gone."""
    live = serving(message=lambda ws, message: ws.send("old " + message))
    client, ws = live.open()
    client.send("a")
    assert client.read_message() == "old a"
    live.expect("message")
    live.server.reload(websocket={"message": lambda ws, message: ws.send("new " + message)})
    client.send("b")
    assert client.read_message() == "new b"
    live.server.reload(websocket={})
    client.send("c")
    client.round_trip()
    live.no_events()
    live.server.reload(websocket=live.recorded({}))
    client.send_close()
    assert live.expect("close")[0] is ws


def test_inside_a_segment(serving):
    """A reload between two frames of one segment counts from the second on."""
    live = serving()

    def first(ws, message):
        ws.send("first " + message)
        live.server.reload(websocket={"message": lambda ws, message: ws.send("second " + message)})

    live.server.reload(websocket={"message": first})
    client = live.connect(behind=b"".join(frame(TEXT, str(i)) for i in range(3)))
    assert client.read_messages(3) == ["first 0", "second 1", "second 2"]


def test_subscriptions_survive(serving):
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.subscribe, "t")
    live.server.reload(websocket={"publish_to_self": True})
    assert live.on_loop(lambda: ws.subscriptions) == ["t"]
    assert live.on_loop(live.server.publish, "t", "x") == 1
    assert live.on_loop(ws.publish, "t", "y") == 1
    assert client.read_messages(2) == ["x", "y"]


def test_limits_of_open_sockets(serving):
    """max_payload_length and backpressure_limit count for open sockets at once."""
    live = serving(max_payload_length=100)
    client, ws = live.open(receive_buffer=8192)
    live.server.reload(
        websocket={"max_payload_length": 1000, "backpressure_limit": 1024, "message": lambda ws, m: ws.send(m)}
    )
    client.send("x" * 1000)
    assert client.read_message() == "x" * 1000

    def fill():
        while ws.send(b"x" * 500) != 0:
            pass
        return ws.buffered_amount

    assert live.on_loop(fill) <= 1024
    live.server.reload(websocket={"max_payload_length": 10})
    other = live.connect()
    other.send("x" * 11)
    assert other.read_close()[0] == 1009


def test_protocols_and_enabled(serving):
    """Protocols for new handshakes; without ``websocket`` it stays, with None upgrades end, open sockets live on."""
    live = serving(protocols=("a",))
    client, ws = live.open(extra=(("Sec-WebSocket-Protocol", "a, b"),))
    assert ws.protocol == "a"
    live.server.reload(websocket=live.recorded({"protocols": ["b"], "message": lambda ws, m: ws.send(m)}))
    other, other_ws = live.open(extra=(("Sec-WebSocket-Protocol", "a, b"),))
    assert (ws.protocol, other_ws.protocol) == ("a", "b")
    live.server.reload(development=True)
    other.send("still")
    assert other.read_message() == "still"
    live.server.reload(websocket=None)
    refused = live.connect(upgrade=False)
    refused.send_raw(handshake())
    assert refused.read_answer().status == 400
    client.round_trip()


def test_fetch_and_routes(serving):
    """HTTP is replaced too; the port stays."""
    live = serving(fetch=lambda request: "old", routes={"/r": lambda request: "old route"})
    port = live.server.port
    client = live.connect(upgrade=False)

    def get(path):
        client.send_raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client.read_answer().body

    assert (get("/"), get("/r")) == (b"old", b"old route")
    live.server.reload(fetch=lambda request: "new")
    assert (get("/"), get("/r")) == (b"new", b"old route")
    live.server.reload(routes={"/r": "static"})
    assert (get("/"), get("/r")) == (b"new", b"static")
    assert live.server.port == port


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"port": 1}, ValueError, "port"),
        ({"hostname": "x"}, ValueError, "hostname"),
        ({"unix": "x"}, ValueError, "unix"),
        ({"nonsense": 1}, TypeError, "nonsense"),
        ({"websocket": {"nonsense": 1}}, TypeError, "nonsense"),
        ({"websocket": {"idle_timeout": 961}}, ValueError, "idle_timeout"),
        ({"websocket": {"message": 5}}, TypeError, "message"),
        ({"fetch": 5}, TypeError, "fetch"),
        ({"fetch": lambda r: "new", "websocket": {"max_payload_length": -1}}, ValueError, "max_payload_length"),
    ],
)
def test_bad_options_change_nothing(serving, options, error, names):
    live = serving(message=lambda ws, message: ws.send(message))
    client = live.connect()
    with pytest.raises(error, match=names):
        live.server.reload(**options)
    client.send("x")
    assert client.read_message() == "x"
    live.connect()


def test_from_many_threads(serving):
    """Reloads from threads and traffic at once: every message is answered by one generation, whole."""
    live = serving()
    generations = [f"{i}" for i in range(4)]

    def options(generation):
        return {"message": lambda ws, message: (ws.send(generation), ws.send(generation))}

    live.server.reload(websocket=options("0"))
    client = live.connect()
    threads = [
        threading.Thread(target=lambda g=g: [live.server.reload(websocket=options(g)) for _ in range(100)])
        for g in generations
    ]
    for thread in threads:
        thread.start()
    for _ in range(500):
        client.send("x")
        first, second = client.read_messages(2)
        assert first == second
        assert first in generations
    for thread in threads:
        thread.join()


def test_no_leak(serving):
    """After 1,000 reloads only the last generation of handlers is alive."""
    live = serving()
    client = live.connect()
    refs = []

    class Handler:
        def __call__(self, ws, message):
            ws.send(message)

    for _ in range(1000):
        handler = Handler()
        refs.append(weakref.ref(handler))
        live.server.reload(websocket={"message": handler}, fetch=lambda request, kept=handler: "x")
        del handler
    client.send("x")
    assert client.read_message() == "x"
    gc.collect()
    assert sum(ref() is not None for ref in refs) == 1
    live.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        live.server.reload(websocket={})


def test_before_the_run():
    """reload on a bound server that does not run yet."""
    with uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "old") as server:
        server.reload(fetch=lambda r, s: s.upgrade(r) and None, websocket={"message": lambda ws, m: ws.send(m)})
        server.start()
        from ws_client import Client

        with Client(("127.0.0.1", server.port)) as client:
            client.send("x")
            assert client.read_message() == "x"


def test_inside_fetch_and_open(serving):
    """A reload in the middle of a handshake: the socket opens with the new handlers."""

    def fetch(request, server):
        server.reload(websocket={"open": lambda ws: ws.send("new open"), "message": lambda ws, m: ws.send("new")})
        return server.upgrade(request) and None

    live = serving(fetch=fetch, open=lambda ws: ws.send("old open"))
    client = live.connect(behind=frame(TEXT, "x"))
    assert client.read_messages(2) == ["new open", "new"]
    live.no_events()
