"""Upgrades that do not happen in their own request's fetch: deferred, queued, inside other callbacks (L1-L5)."""

from __future__ import annotations

import concurrent.futures
import queue
import socket

import pytest
from ws_client import BINARY, TEXT, ConnectionEnded, close_frame, frame, handshake

import uwserve

pytestmark = pytest.mark.wss


@pytest.fixture
def held(serving):
    """A server whose fetch returns a Future; ``held.requests`` has the requests, ``held.futures`` the futures."""
    requests: queue.Queue = queue.Queue()

    def fetch(request):
        future = concurrent.futures.Future()
        requests.put((request, future))
        return future

    live = serving(fetch=fetch, message=lambda ws, message: ws.send(message))
    live.requests = requests
    return live


def begin(live, behind: bytes = b""):
    client = live.connect(upgrade=False)
    client.send_raw(handshake() + behind)
    request, future = live.requests.get(timeout=10)
    return client, request, future


def test_frames_arrive_meanwhile(held):
    """L13: what the client sends before the deferred upgrade is delivered after open, in order, also in parts."""
    client, request, future = begin(held, frame(TEXT, "1") + frame(TEXT, "2")[:3])
    client.send_raw(frame(TEXT, "2")[3:] + frame(BINARY, b"3" * 70000))
    held.on_loop(lambda: None)
    assert held.on_loop(held.server.upgrade, request) is True
    client.send("4")
    assert client.read_answer().status == 101
    assert client.read_messages(4) == ["1", "2", b"3" * 70000, "4"]
    future.set_result("ignored")
    client.round_trip()
    client.expect_silence()


def test_more_arrives_than_is_held(held):
    """Megabytes sent before the upgrade are neither lost nor held without bound: TCP waits."""
    client, request, future = begin(held)
    data = bytes(range(256)) * 16384
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # the kernel might grow it to all of it
    pool = concurrent.futures.ThreadPoolExecutor(1)
    sending = pool.submit(client.send, data)
    client.sock.settimeout(30)
    with pytest.raises(concurrent.futures.TimeoutError):
        sending.result(0.2)  # blocked: the server does not read on
    assert held.on_loop(held.server.upgrade, request) is True
    assert client.read_answer().status == 101
    assert client.read_message() == data
    sending.result(10)
    pool.shutdown()
    future.set_result(None)


def test_upgrade_from_call_soon_sends_in_open(serving):
    """L1: an upgrade outside any cork; open's sends follow the 101."""
    requests = queue.Queue()

    def fetch(request):
        future = concurrent.futures.Future()
        requests.put((request, future))
        return future

    live = serving(fetch=fetch, open=lambda ws: (ws.send("a"), ws.send(b"b" * 40000), ws.send("c")))
    client = live.connect(upgrade=False)
    client.send_raw(handshake())
    request, _future = requests.get(timeout=10)
    live.on_loop(live.server.upgrade, request)
    assert client.read_answer().status == 101
    assert client.read_messages(3) == ["a", b"b" * 40000, "c"]


@pytest.mark.parametrize("connection", ["close", "Upgrade, close", "close, Upgrade"])
def test_connection_close_deferred(held, connection):
    """L1: a deferred upgrade of a request with ``Connection: close`` (upstream: double free)."""
    client = held.connect(upgrade=False)
    head = handshake(replace={"connection": connection})
    client.send_raw(head[:40])
    held.on_loop(lambda: None)
    client.send_raw(head[40:])
    request, future = held.requests.get(timeout=10)
    upgraded = held.on_loop(held.server.upgrade, request)
    assert upgraded is ("Upgrade" in connection)
    if upgraded:
        assert client.read_answer().status == 101
        client.send("x")
        assert client.read_message() == "x"
    else:
        future.set_result("plain")
        assert client.read_answer().body == b"plain"
        client.expect_end()


def test_http_1_0_deferred(held):
    """L1: the same for HTTP/1.0."""
    client = held.connect(upgrade=False)
    client.send_raw(handshake(version="HTTP/1.0"))
    request, future = held.requests.get(timeout=10)
    assert held.on_loop(held.server.upgrade, request) is False
    future.set_result("plain")
    assert client.read_answer().body == b"plain"


@pytest.mark.parametrize("ending", ["finish", "reset"])
def test_client_gone(held, ending):
    """L2: the client left before the deferred upgrade: False, nothing is called, nothing leaks."""
    client, request, future = begin(held)
    getattr(client, ending)()
    if ending == "finish":
        client.close()
    deadline = 2000
    while not request.answered and deadline:
        held.on_loop(lambda: None)
        deadline -= 1
    if not request.answered:
        pytest.fail("the request was not noticed to be gone")
    assert held.on_loop(held.server.upgrade, request) is False
    future.set_result("late")
    held.no_events()
    assert held.server.pending_requests == 0


def test_upgrade_in_the_done_callback(held):
    """The Future's value may come after the upgrade, or instead of it."""
    client, request, future = begin(held)
    held.on_loop(lambda: (held.server.upgrade(request, data="x"), future.set_result("ignored")))
    assert client.read_answer().status == 101
    assert held.expect("open")[0].data == "x"
    client.send("hi")
    assert client.read_message() == "hi"


def test_exception_after_upgrade(held, logged):
    """A Future that fails after the upgrade is logged; the socket lives on."""
    client, request, future = begin(held)
    held.on_loop(held.server.upgrade, request)
    future.set_exception(ZeroDivisionError("late"))
    assert client.read_answer().status == 101
    client.send("hi")
    assert client.read_message() == "hi"


def test_upgrade_other_request_inside_fetch(serving):
    """L3: request B is upgraded inside the fetch of request A (upstream: abort). Both connections work."""
    waiting = []

    def fetch(request, server):
        if request.path == "/b":
            waiting.append((request, future := concurrent.futures.Future()))
            return future
        assert server.upgrade(waiting.pop()[0], data="b") is True
        return "a"

    live = serving(fetch=fetch, message=lambda ws, message: ws.send(message))
    b = live.connect(upgrade=False)
    b.send_raw(handshake("/b") + frame(TEXT, "early"))
    live.on_loop(lambda: None)
    while not waiting:
        live.on_loop(lambda: None)
    a = live.connect(upgrade=False)
    a.send_raw(handshake("/a") + handshake("/b", drop=("upgrade",)))
    assert a.read_answer().body == b"a"
    assert b.read_answer().status == 101
    assert b.read_message() == "early"
    b.send("late")
    assert b.read_message() == "late"
    while not waiting:
        live.on_loop(lambda: None)
    waiting.pop()[1].set_result("second on a")
    assert a.read_answer().body == b"second on a"


def test_upgrade_both_inside_fetch(serving):
    """L3: A's fetch upgrades B first and then A itself."""
    waiting = []

    def fetch(request, server):
        if request.path == "/b":
            waiting.append(request)
            return concurrent.futures.Future()
        assert server.upgrade(waiting.pop()) is True
        assert server.upgrade(request) is True
        return None

    live = serving(fetch=fetch, message=lambda ws, message: ws.send(message))
    b = live.connect(upgrade=False)
    b.send_raw(handshake("/b"))
    while not waiting:
        live.on_loop(lambda: None)
    a = live.connect("/a", behind=frame(TEXT, "behind a"))
    assert b.read_answer().status == 101
    assert a.read_message() == "behind a"
    for client in (a, b):
        client.send("x")
        assert client.read_message() == "x"


@pytest.mark.parametrize("where", ["message", "ping", "pong", "close", "open", "drain"])
def test_upgrade_inside_other_callback(serving, where):
    """L3, L4: a waiting request is upgraded inside each callback of another socket."""
    waiting, done = [], []

    def fetch(request, server):
        if request.path == "/wait":
            waiting.append(request)
            return concurrent.futures.Future()
        server.upgrade(request, data=request.path)
        return None

    def act(ws, *_):
        if waiting and ws.data == "/actor":
            request = waiting.pop()
            done.append(live.server.upgrade(request, data="late"))

    handlers = {where: act, "message": act if where == "message" else lambda ws, message: ws.send(message)}
    live = serving(fetch=fetch, **handlers)
    waiter = live.connect(upgrade=False)
    waiter.send_raw(handshake("/wait") + frame(TEXT, "early"))
    while not waiting:
        live.on_loop(lambda: None)
    actor = live.connect("/actor")
    ws = live.wait_for("open")[0]
    if where == "message":
        actor.send("go")
    elif where == "ping":
        actor.ping()
    elif where == "pong":
        actor.pong()
    elif where == "close":
        actor.send_close()
    elif where == "drain":

        def fill():
            while ws.send(b"x" * 65536) != -1:
                pass

        live.on_loop(fill)
        while not done:
            actor.fill()
            actor.buffer.clear()
            live.on_loop(lambda: None)
    assert waiter.read_answer().status == 101
    assert done == [True]
    if where != "message":
        assert waiter.read_message() == "early"
        waiter.send("x")
        assert waiter.read_message() == "x"


def test_upgrade_while_stream_in_flight(serving):
    """Upgrade while a streamed response is in flight: False, and the response is intact."""
    kept, results = [], []

    def fetch(request, server):
        kept.append(request)

        def body():
            for i in range(50):
                results.append(server.upgrade(request))
                yield b"%05d" % i * 200

        return uwserve.Response(body())

    live = serving(fetch=fetch)
    client = live.connect(upgrade=False)
    client.send_raw(handshake(replace={"connection": "Upgrade, close"}))
    answer = client.read_answer()
    assert answer.status == 200
    assert answer.get("transfer-encoding") == "chunked"
    body = bytearray()
    while size := int(read_line(client), 16):
        body += client.take(size)
        assert client.take(2) == b"\r\n"
    assert bytes(body) == b"".join(b"%05d" % i * 200 for i in range(50))
    assert results == [False] * 50
    live.no_events()


def read_line(client) -> bytes:
    while b"\r\n" not in client.buffer:
        client.fill()
    end = client.buffer.index(b"\r\n")
    return client.take(end + 2)[:-2]


def test_upgrade_while_large_body_in_flight(serving):
    """The same for a body that is larger than the socket takes at once."""
    kept = []

    def fetch(request, server):
        kept.append(request)
        return b"x" * (8 << 20)

    live = serving(fetch=fetch)
    client = live.connect(upgrade=False, receive_buffer=8192)
    client.send_raw(handshake())
    client.fill()
    assert live.on_loop(live.server.upgrade, kept[0]) is False
    answer = client.read_answer()
    assert answer.status == 200
    assert answer.body == b"x" * (8 << 20)


def test_pipelined_requests_then_handshake(serving):
    """H6: requests in front of the handshake in one segment are answered in order, frames behind it delivered."""

    def fetch(request, server):
        return None if server.upgrade(request) else request.path

    live = serving(fetch=fetch, message=lambda ws, message: ws.send(message))
    client = live.connect(upgrade=False)
    plain = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(5))
    client.send_raw(plain + handshake("/up") + frame(TEXT, "hi") + close_frame(1000))
    for i in range(5):
        assert client.read_answer().body == b"/%d" % i
    assert client.read_answer().status == 101
    assert client.read_message() == "hi"
    assert client.read_close() == (1000, "")
    client.expect_end()


def test_stop_while_upgrade_is_pending(held):
    """A forced stop cuts the waiting request; upgrade() afterwards is False."""
    client, request, future = begin(held)
    held.server.stop(True).wait(10)
    with pytest.raises(ConnectionEnded):
        client.read_answer()
    assert held.server.upgrade(request) is False
    future.set_result(None)


def test_close_inside_open_of_deferred_upgrade(serving):
    """S6: close() in the open handler of a deferred upgrade: Close frame and FIN, at once."""
    waiting = []

    def fetch(request):
        waiting.append(request)
        return concurrent.futures.Future()

    live = serving(fetch=fetch, open=lambda ws: (ws.send("last"), ws.close(1001, "no")))
    client = live.connect(upgrade=False)
    client.send_raw(handshake() + frame(TEXT, "never delivered"))
    while not waiting:
        live.on_loop(lambda: None)
    assert live.on_loop(live.server.upgrade, waiting[0]) is True
    assert client.read_answer().status == 101
    assert client.read_message() == "last"
    assert client.read_close() == (1001, "no")
    client.expect_end()
    live.expect("open")
    assert live.expect_close() == (1001, "no")
    live.no_events()
