"""Closing, terminating, stopping and reloading inside every callback, of oneself and of others (L6-L9, T2, T3)."""

from __future__ import annotations

import gc
import weakref

import pytest
from ws_client import CLOSE, PING, PONG, TEXT, ConnectionEnded, close_frame, frame

pytestmark = pytest.mark.wss

CALLBACKS = ["open", "message", "ping", "pong", "drain", "close"]
ACTIONS = {
    "close": lambda ws: ws.close(4001, "inside"),
    "terminate": lambda ws: ws.terminate(),
    "both": lambda ws: (ws.close(4001, "inside"), ws.terminate()),
    "corked": lambda ws: ws.cork(lambda ws: (ws.send("x"), ws.close(4001, "inside"), ws.send("y"))),
    "send and close": lambda ws: (ws.send(b"z" * 100000), ws.close(4001, "inside"), ws.subscribe("t")),
}


def trigger(live, client, ws, name: str) -> None:
    """Make the callback ``name`` of an open socket happen."""
    if name == "message":
        client.send("go")
    elif name == "ping":
        client.ping(b"go")
    elif name == "pong":
        client.pong(b"go")
    elif name == "close":
        client.send_close(1000, "peer")
    elif name == "drain":

        def fill():
            while ws.send(b"x" * 65536) != -1:
                pass

        live.on_loop(fill)


def read_all(client) -> list:
    frames = []
    try:
        while True:
            frames.append(client.read_frame())
    except ConnectionEnded:
        return frames


@pytest.mark.parametrize("action", list(ACTIONS))
@pytest.mark.parametrize("name", CALLBACKS)
def test_close_inside_callback(serving, name, action):
    """L6, L8: a socket that closes itself inside each callback; close runs exactly once, the loop lives."""
    closes = []

    def act(ws, *_):
        ACTIONS[action](ws)

    handlers = {"close": lambda ws, code, reason: closes.append((code, reason))}
    if name == "close":
        handlers["close"] = lambda ws, code, reason: (closes.append((code, reason)), act(ws))
    else:
        handlers[name] = act
    live = serving(**handlers)
    if (name, action) == ("open", "terminate"):
        client = live.connect()  # the 101 had been accepted, and arrives
        assert read_all(client) == []
        assert live.wait_for("close")[1:] == (1006, "")
        return
    client = live.connect(receive_buffer=8192)
    ws = live.wait_for("open")[0]
    trigger(live, client, ws, name)
    frames = read_all(client)
    live.wait_for("close")
    live.on_loop(lambda: None)
    assert len(closes) == 1
    assert ws.ready_state == 3
    expected = (1000, "peer") if name == "close" else (1006, "") if action == "terminate" else (4001, "inside")
    assert closes[0] == expected
    if name != "drain":
        codes = [f.close_code for f in frames if f.opcode == CLOSE]
        assert codes == {1000: [1000], 1006: [], 4001: [4001]}[expected[0]] or action == "both", frames
    assert live.server.pending_websockets == 0
    other = live.connect("/again") if name != "open" else None
    if other:
        other.close()


@pytest.mark.parametrize("action", ["close", "terminate"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_close_others_inside_callback(serving, name, action):
    """L6: each callback of one socket closes all the others, while their frames wait in the same iteration."""
    closed = []
    sockets = []

    def act(ws, *_):
        if ws.data != "/actor":
            return
        for other in sockets:
            if other is not ws:
                ACTIONS[action](other)

    handlers = {name: act}
    if name == "close":
        handlers["close"] = lambda ws, code, reason: (closed.append(ws), act(ws))
    else:
        handlers["close"] = lambda ws, code, reason: closed.append(ws)
    live = serving(**handlers)
    pairs = [live.open(f"/{i}") for i in range(20)]
    sockets.extend(ws for _, ws in pairs)
    actor = live.connect("/actor", receive_buffer=8192)
    ws = live.wait_for("open")[0]
    for client, _ in pairs:
        client.send_raw(frame(TEXT, "1") + frame(PING, b"2") + frame(TEXT, "3"))
    trigger(live, actor, ws, name)
    if name == "drain":
        actor.fill_until(lambda: len(closed) >= 20)
    for client, _ in pairs:
        frames = read_all(client)
        codes = [f.close_code for f in frames if f.opcode == CLOSE]
        assert codes == ([4001] if action == "close" else [])
    live.on_loop(lambda: None)
    assert len(set(closed)) == len(closed) == (21 if name == "close" else 20)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", CALLBACKS)
def test_stop_inside_callback(serving, name, force):
    """server.stop() inside each callback: every socket gets its close exactly once and the server ends."""
    closes = []
    holder = []

    def act(ws, *_):
        if ws.data == "/actor":
            holder[0].server.stop(force)

    handlers = {name: act}
    if name == "close":
        handlers["close"] = lambda ws, code, reason: (closes.append(ws), act(ws))
    else:
        handlers["close"] = lambda ws, code, reason: closes.append(ws)
    live = serving(**handlers)
    holder.append(live)
    others = [live.open(f"/{i}") for i in range(5)]
    actor = live.connect("/actor", receive_buffer=8192)
    ws = live.wait_for("open")[0]
    trigger(live, actor, ws, name)
    if name == "drain":
        actor.fill_until(lambda: live.server.stopping)
    if not force:
        for client, _ in others:
            client.send_close()
        if name != "close":
            actor.send_close()
    for client in (actor, *(client for client, _ in others)):
        read_all(client)
        client.close()
    assert live.server.stop().wait(10)
    assert len(set(closes)) == len(closes) == 6


@pytest.mark.parametrize("name", CALLBACKS)
def test_reload_inside_callback(serving, name):
    """reload() inside each callback: the handler that runs is not freed under itself; new handlers act from then on."""
    calls = []

    class Handler:
        """Nothing but the server's options refers to it."""

        def __init__(self, generation):
            self.generation = generation

        def act(self, ws, *_):
            calls.append(self.generation)
            if self.generation < 3:
                live.server.reload(websocket=options(self.generation + 1))
            calls.append(self.generation)  # still alive

    def options(generation):
        handler = Handler(generation)
        given = {key: value for key, value in live.recorded({}).items() if key != name}
        wrapped = {"close": lambda ws, code, reason: handler.act(ws)} if name == "close" else {name: handler.act}
        if name in ("message", "ping", "pong"):
            wrapped = {name: lambda ws, data: handler.act(ws)}
        elif name in ("open", "drain"):
            wrapped = {name: lambda ws: handler.act(ws)}
        return given | wrapped

    live = serving()
    live.server.reload(websocket=options(0))
    for _ in range(4):
        client = live.connect(receive_buffer=8192)
        if name == "open":
            continue
        ws = live.wait_for("open")[0]
        before = len(calls)
        trigger(live, client, ws, name)
        while len(calls) == before and len(calls) < 8:
            if name == "drain":
                client.fill()
                client.buffer.clear()
            live.on_loop(lambda: None)
    live.on_loop(lambda: None)
    assert [*dict.fromkeys(calls)] == [0, 1, 2, 3]
    live.server.reload(websocket={})


@pytest.mark.parametrize("name", ["open", "message", "ping", "pong", "close"])
def test_exception_and_close_inside_callback(serving, name, logged):
    """Closing and then raising: logged, closed once."""

    def act(ws, *_):
        ws.close(4001)
        raise RuntimeError(f"in {name}")

    handlers = {"close": lambda ws, code, reason: act(ws)} if name == "close" else {}
    if name in ("message", "ping", "pong"):
        handlers[name] = lambda ws, data: act(ws)
    elif name == "open":
        handlers[name] = lambda ws: act(ws)
    live = serving(**handlers)
    client = live.connect()
    ws = live.wait_for("open")[0]
    trigger(live, client, ws, name)
    read_all(client)
    live.wait_for("close")
    live.no_events()
    assert f"in {name}" in "".join(logged)


def test_close_chain(serving):
    """Each socket's close handler closes the next: a chain of 200, each close once, in order."""
    order = []

    def closed(ws, code, reason):
        order.append(ws.data)
        if (i := int(ws.data[1:]) + 1) < len(sockets):
            sockets[i].close()

    live = serving(close=closed)
    pairs = [live.open(f"/{i}") for i in range(200)]
    sockets = [ws for _, ws in pairs]
    live.on_loop(sockets[0].close)
    assert order == [f"/{i}" for i in range(200)]
    for client, _ in pairs:
        assert client.read_close() == (1000, "")
    sockets.clear()


def test_mutual_close_handlers(serving):
    """Two sockets whose close handlers close each other."""
    live = serving(close=lambda ws, code, reason: [other.terminate() for other in sockets])
    sockets = [live.open()[1] for _ in range(2)]
    live.on_loop(sockets[0].close)
    live.expect_close()
    live.expect_close()
    live.no_events()
    sockets.clear()


def test_publish_and_subscribe_inside_close(serving):
    """L9, T3: (un)subscribing and publishing inside close, by itself and by others."""
    results = []

    def closed(ws, code, reason):
        results.append((ws.subscribe("t"), ws.unsubscribe("t"), ws.is_subscribed("t"), ws.subscriptions))
        results.append(ws.publish("t", f"{ws.data} left"))

    live = serving(close=closed)
    leaver, leaver_ws = live.open("/leaver")
    stayer, stayer_ws = live.open("/stayer")
    live.on_loop(lambda: (leaver_ws.subscribe("t"), stayer_ws.subscribe("t")))
    leaver.send_close()
    assert stayer.read_message() == "/leaver left"
    assert results == [(False, False, False, []), 12]
    assert live.on_loop(live.server.subscriber_count, "t") == 1
    assert leaver.read_close()[0] == 1000
    live.on_loop(stayer_ws.terminate)
    assert results[2:] == [(False, False, False, []), 0]


def test_finalizer_calls_methods(serving):
    """A finaliser of ws.data that calls every method, run by GC or by the last reference, in and out of callbacks."""
    ran = []

    class Data:
        def __init__(self, ws):
            self.ws = ws  # a cycle: only GC ends it

        def __del__(self):
            ws = self.ws
            ran.append((ws.ready_state, ws.send("x"), ws.subscribe("t"), ws.publish("t", "x"), ws.subscriptions))
            ws.close()
            ws.terminate()
            ws.cork(lambda ws: ws.send("y"))

    def opened(ws):
        ws.data = Data(ws)
        ws.data = None if ws.data.ws.remote_address is None else ws.data

    live = serving(open=opened)
    count = 20
    for _ in range(count):
        client, ws = live.open()
        client.send_close()
        client.read_close()
        live.wait_for("close")
        client.close()
        del ws
    live.on_loop(gc.collect)
    assert ran == [(3, 0, False, 0, [])] * count


def test_data_replaced_by_finalizer(serving):
    """Setting ws.data runs the old value's finaliser, which sets ws.data again."""
    live = serving()
    _client, ws = live.open()

    class Resets:
        def __del__(self):
            ws.data = "from the finaliser"

    def go():
        ws.data = Resets()
        ws.data = 5
        first = ws.data
        ws.data = Resets()
        del ws.data
        return first, ws.data

    assert live.on_loop(go) == ("from the finaliser", "from the finaliser")


def test_finalizer_of_handler_closes(serving):
    """reload() drops a handler whose finaliser closes every socket."""
    sockets = []

    class Handler:
        def __call__(self, ws, message):
            live.server.reload(websocket={})

        def __del__(self):
            for ws in sockets:
                ws.terminate()

    live = serving()
    pairs = [live.open() for _ in range(5)]
    sockets.extend(ws for _, ws in pairs)
    live.server.reload(websocket={"message": Handler()})
    pairs[0][0].send("go")
    for client, _ in pairs:
        client.expect_end()
    assert [ws.ready_state for ws in sockets] == [3] * 5
    sockets.clear()


def test_deep_recursion_in_handler(serving, logged):
    """A handler that recurses through cork() until RecursionError: logged, the socket lives."""

    def dive(ws):
        ws.cork(dive)

    live = serving(message=lambda ws, message: dive(ws))
    client = live.connect()
    client.send("go")
    client.round_trip()
    assert "RecursionError" in "".join(logged)


def test_long_chain_of_handles(script):
    """A long chain of handles, each in the next one's ws.data, are freed without exhausting the stack."""
    process = script(
        """
        import threading, uwserve
        from ws_client import Client
        last = None
        def opened(ws):
            global last
            ws.data, last = last, ws
            ws.close()
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                               websocket={"open": opened}).start()
        for _ in range(6000):
            with Client(("127.0.0.1", server.port)) as client:
                client.read_close()
        server.stop(True).wait(10)
        assert uwserve._core.live_handles() == 6000
        threading.stack_size(128 * 1024)
        def drop():
            global last
            last = None
        thread = threading.Thread(target=drop)
        thread.start()
        thread.join()
        print(uwserve._core.live_handles())
        """
    )
    assert process.finish() == "0\n"


def test_weak_references(serving):
    """A handle can be weakly referenced; the engine keeps it while the socket is open, nobody afterwards."""
    gone = []
    live = serving()
    client = live.connect()
    ref = weakref.ref(live.expect("open")[0], gone.append)
    gc.collect()
    live.on_loop(lambda: None)
    assert ref() is not None
    client.send_close()
    client.read_close()
    live.expect("close")
    live.on_loop(gc.collect)
    assert ref() is None
    assert gone == [ref]


def test_pong_answers_before_ping_handler(serving):
    """The ping handler runs after the automatic pong was queued: what it sends comes behind it."""
    live = serving(ping=lambda ws, data: ws.send(data))
    client = live.connect()
    client.send_raw(frame(PING, b"abc") + close_frame())
    assert client.read_frame().opcode == PONG
    assert client.read_message() == b"abc"
