"""Every member of a closed socket and of one whose server is gone; what GC may and may not take (rules 2, 3; L10)."""

from __future__ import annotations

import gc

import pytest

import uwserve

pytestmark = pytest.mark.wss

MEMBERS_AFTER_CLOSE = {
    "ready_state": 3,
    "readyState": 3,
    "subscriptions": [],
    "buffered_amount": 0,
    "protocol": "",
    "binary_type": "bytes",
    "data": "/path",
}
CALLS_AFTER_CLOSE = [
    ("send", ("x",), 0),
    ("send", (b"x" * 100000,), 0),
    ("send_text", ("x",), 0),
    ("send_binary", (b"x",), 0),
    ("sendText", ("x",), 0),
    ("sendBinary", (b"x",), 0),
    ("ping", (), 0),
    ("ping", (b"x",), 0),
    ("pong", (b"x",), 0),
    ("subscribe", ("t",), False),
    ("unsubscribe", ("t",), False),
    ("is_subscribed", ("t",), False),
    ("isSubscribed", ("t",), False),
    ("publish", ("t", "x"), 0),
    ("publish_text", ("t", "x"), 0),
    ("publish_binary", ("t", b"x"), 0),
    ("get_buffered_amount", (), 0),
    ("getBufferedAmount", (), 0),
    ("close", (), None),
    ("close", (4000, "again"), None),
    ("terminate", (), None),
    ("pause", (), None),
    ("resume", (), None),
]


def check_closed(ws, remote_address="127.0.0.1", posted: bool = False) -> None:
    """``posted``: on another thread, where a publish is handed over and answers with the payload's size."""
    for name, value in MEMBERS_AFTER_CLOSE.items():
        assert getattr(ws, name) == value, name
    assert ws.remote_address == ws.remoteAddress == remote_address
    for name, args, value in CALLS_AFTER_CLOSE:
        result = getattr(ws, name)(*args)
        if posted and name.startswith("publish"):
            value = 1
        assert result == value, name
        assert type(result) is type(value), name
    assert ws.cork(lambda same: (same is ws, same.send("x"))) == (True, 0)
    with pytest.raises(ZeroDivisionError):
        ws.cork(lambda _: 1 / 0)
    ws.binary_type = "memoryview"
    assert ws.binary_type == ws.binaryType == "memoryview"
    ws.binary_type = "bytes"
    ws.data = ("new",)
    assert ws.data == ("new",)
    ws.data = "/path"
    assert "closed" in repr(ws)


@pytest.mark.parametrize("ending", ["ours", "peer's", "fin", "terminate"])
@pytest.mark.parametrize("where", ["in close", "later", "other thread"])
def test_every_member_after_close(serving, ending, where):
    """Inside close, later on the loop's thread, and from another thread: the same answers."""
    checked = []

    def closed(ws, code, reason):
        if where == "in close":
            check_closed(ws)
        checked.append(code)

    live = serving(close=closed)
    client, ws = live.open("/path")
    live.on_loop(ws.subscribe, "t")
    if ending == "ours":
        live.on_loop(ws.close)
    elif ending == "terminate":
        live.on_loop(ws.terminate)
    elif ending == "fin":
        client.finish()
    else:
        client.send_close()
    live.expect_close()
    if where == "later":
        live.on_loop(check_closed, ws)
    elif where == "other thread":
        check_closed(ws, posted=True)
    live.no_events()
    assert len(checked) == 1


def test_server_is_gone(serving):
    """A socket kept after its server has ended: [3, 0, 0, False], and everything else as after a close."""
    live = serving()
    _client, ws = live.open("/path")
    live.on_loop(ws.subscribe, "t")
    live.stop()
    assert [ws.ready_state, ws.publish("t", "x"), ws.send("x"), ws.subscribe("t")] == [3, 0, 0, False]
    check_closed(ws)
    assert ws.server is live.server
    assert ws.server.finished


def test_server_object_is_gone():
    """The Server object itself has lost its last other reference; the handle keeps what it needs."""
    server = uwserve.serve(
        port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r, data=r.path) and None, websocket={}
    ).start()
    kept = []
    server.reload(websocket={"open": kept.append})
    from ws_client import Client

    with Client(("127.0.0.1", server.port), "/path") as client:
        client.round_trip()
        stopped = server.stop(True)
        assert client.read_close()[0] == 1001
    stopped.wait(10)
    server._control.join(10)
    ws = kept.pop()
    del server, kept, stopped
    gc.collect()
    assert [ws.ready_state, ws.publish("t", "x"), ws.send("x"), ws.subscribe("t")] == [3, 0, 0, False]
    check_closed(ws)


def test_publish_on_a_closed_socket(serving):
    """A closed socket may publish while the server runs: it reaches every subscriber."""
    live = serving()
    _a, closed = live.open()
    b, other = live.open()
    live.on_loop(lambda: (closed.subscribe("t"), other.subscribe("t"), closed.close()))
    assert live.on_loop(closed.publish, "t", "hello") == 5
    assert live.on_loop(closed.publish_text, "t", "text") == 4
    assert live.on_loop(closed.publish_binary, "t", b"bin") == 3
    assert live.on_loop(closed.publish, "other", "x") == 0
    assert b.read_messages(3) == ["hello", "text", b"bin"]


def test_bad_arguments_after_close(serving):
    """Arguments are still checked: a mistake does not hide behind a closed socket."""
    live = serving()
    _client, ws = live.open()
    live.on_loop(ws.close)
    for name, args, error in (
        ("send", (5,), TypeError),
        ("subscribe", ("",), ValueError),
        ("subscribe", (b"t",), TypeError),
        ("publish", ("", "x"), ValueError),
        ("close", (5,), ValueError),
        ("ping", (b"x" * 126,), ValueError),
        ("cork", (None,), TypeError),
    ):
        with pytest.raises(error):
            live.on_loop(lambda name=name, args=args: getattr(ws, name)(*args))
    with pytest.raises(ValueError, match="binary_type"):
        ws.binary_type = "nonsense"


def test_handle_cannot_be_made():
    """ServerWebSocket and Request are made by the server only."""
    for cls in (uwserve.ServerWebSocket, uwserve.Request):
        with pytest.raises(TypeError):
            cls()
        with pytest.raises(TypeError):
            cls.__new__(cls)


def test_read_only_members(serving):
    _client, ws = serving().open()
    for name in ("ready_state", "remote_address", "subscriptions", "protocol", "buffered_amount", "server"):
        with pytest.raises(AttributeError):
            setattr(ws, name, 1)
    with pytest.raises(AttributeError):
        ws.nonsense  # noqa: B018
    assert hash(ws) == hash(ws)
    assert ws == ws
    assert ws != 1


def test_unbound_methods():
    """Methods called on something else: TypeError, not a crash."""
    for name in ("send", "ping", "close", "terminate", "subscribe", "publish", "cork", "pause"):
        with pytest.raises(TypeError):
            getattr(uwserve.ServerWebSocket, name)(object(), "x", "y")
    for name in ("data", "ready_state", "subscriptions", "buffered_amount", "binary_type"):
        with pytest.raises(TypeError):
            getattr(uwserve.ServerWebSocket, name).__get__(object())


def test_remote_address(serving, tmp_path):
    """IPv4 text; None on a unix socket; both also after the close."""
    for options, address in (({}, "127.0.0.1"), ({"unix": str(tmp_path / "s")}, None)):
        live = serving(**options)
        _, ws = live.open()
        assert ws.remote_address == address
        live.on_loop(ws.terminate)
        assert ws.remote_address == address


def test_cycles_are_collected(serving):
    """ws.data that refers back to ws is no leak."""
    live = serving()
    for i in range(50):
        client, ws = live.open()
        ws.data = [ws, i]
        client.send_close()
        client.read_close()
        live.expect("close")
        client.close()
        del ws
    live.on_loop(gc.collect)
    live.on_loop(gc.collect)
    assert uwserve._core.live_handles() == 0


def test_open_socket_survives_gc(serving):
    """GC while sockets are open takes nothing away, also when it runs inside a handler."""
    live = serving(message=lambda ws, message: (gc.collect(), ws.send(f"{ws.data} {gc.collect() >= 0}")))
    clients = [live.connect(f"/{i}") for i in range(5)]
    live.events.queue.clear()
    for _ in range(2):
        gc.collect()
        for i, client in enumerate(clients):
            client.send("go")
            assert client.read_message() == f"/{i} True"


def test_server_never_run():
    """A bound server that never ran is closed by its collection; its port is free again."""
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x", websocket={})
    port = server.port
    del server
    gc.collect()
    with uwserve.serve(port=port, hostname="127.0.0.1", fetch=lambda r: "x") as again:
        assert again.port == port


def test_dropping_the_server_with_open_sockets(script):
    """L10: ``del server`` with open sockets and a running thread: it goes on until stopped; exit is clean."""
    assert (
        script(
            """
            import gc, threading, uwserve
            from ws_client import Client
            kept = []
            def leave():
                client.read_close()
                client.close()
            server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                websocket={"open": kept.append, "message": lambda ws, m: ws.send(m),
                           "close": lambda ws, c, r: print("close", c, r)}).start()
            address = ("127.0.0.1", server.port)
            del server
            gc.collect()
            client = Client(address)
            client.send("x")
            assert client.read_message() == "x"
            threading.Thread(target=leave, daemon=True).start()
            print("exiting")
            """
        ).finish(20)
        == "exiting\nclose 1001 Server closed\n"
    )


def test_dropping_a_server_that_broke_off(script):
    """L10: a run ended by KeyboardInterrupt, then the server is dropped with open sockets: they are closed."""
    assert (
        script(
            """
            import gc, socket, threading, uwserve
            from ws_client import Client, handshake, frame
            kept = []
            def message(ws, m):
                kept.append(ws)
                raise KeyboardInterrupt
            server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                websocket={"message": message})
            address = ("127.0.0.1", server.port)
            clients = []
            def connect():
                for _ in range(5):
                    clients.append(Client(address))
                clients[0].send("go")
            thread = threading.Thread(target=connect)
            thread.start()
            try:
                server.run()
            except KeyboardInterrupt:
                print("interrupted")
            thread.join()
            ws = kept.pop()
            print(ws.ready_state, ws.send("from no thread at all"))
            del server, message
            gc.collect()
            print(ws.ready_state)
            del ws
            gc.collect()
            for client in clients:
                client.read_to_end()
            print("ended")
            """
        ).finish(20)
        == "interrupted\n1 21\n1\nended\n"
    )
