"""``max_buffered_bytes``: what is counted, what is refused beyond it, and that the sum returns to zero."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import GET, running
from http_client import Client as HttpClient
from ws_client import PONG, ConnectionEnded, Frame, eventually

pytestmark = pytest.mark.wss

MIB = 1 << 20
CHUNK = b"x" * 65536


def until(live: Any, expected: int) -> None:
    """The server's sum, once the loop has seen everything."""
    server = getattr(live, "server", live)
    try:
        eventually(lambda: server.buffered_bytes == expected)
    except AssertionError:
        raise AssertionError(f"{server.buffered_bytes} bytes are buffered, not {expected}") from None


def fill(ws: Any, most: int = 1 << 40) -> int:
    """Sends until it is refused, or `most` bytes are queued; the backlog."""
    while ws.buffered_amount < most and ws.send(CHUNK):
        pass
    return ws.buffered_amount


def drained(client: Any) -> None:
    """Reads in the background until the connection ends."""

    def read() -> None:
        try:
            while True:
                client.fill()
                client.buffer.clear()
        except (ConnectionEnded, OSError):
            pass

    threading.Thread(target=read, daemon=True).start()


# --- what is counted ---


def test_backlog_is_counted_to_the_byte(serving: Any, transport: Any) -> None:
    live = serving(**transport)
    assert live.server.buffered_bytes == 0
    pairs = [live.open(receive_buffer=8192) for _ in range(3)]
    total = sum(live.on_loop(fill, ws, MIB) for _, ws in pairs)
    assert total > 3 * MIB
    until(live, total)
    for client, _ in pairs:
        drained(client)
    until(live, 0)


@pytest.mark.parametrize("end", ["terminate", "close", "reset", "leave"])
def test_closing_gives_back(serving: Any, end: str) -> None:
    live = serving()
    client, ws = live.open(receive_buffer=8192)
    live.on_loop(fill, ws, MIB)
    until(live, live.on_loop(ws.get_buffered_amount))
    if end == "terminate":
        live.on_loop(ws.terminate)
    elif end == "close":
        live.on_loop(ws.close)
        assert live.server.buffered_bytes > 0  # it is still on its way
        drained(client)
    elif end == "reset":
        client.reset()
    else:
        client.close()
    until(live, 0)


def test_messages_of_topics_are_counted(room: Any) -> None:
    """Upstream's fan-out goes to the sockets without passing through us."""
    live, pairs = room(3, "news", backpressure_limit=0)
    stuck = pairs[0]

    def publish() -> None:
        for _ in range(400):
            live.server.publish("news", b"y" * 8192)

    drained(pairs[1][0])
    drained(pairs[2][0])
    live.on_loop(publish)
    live.on_loop(publish)
    eventually(lambda: live.on_loop(lambda: [ws.buffered_amount for _, ws in pairs[1:]]) == [0, 0])
    backlog = live.on_loop(stuck[1].get_buffered_amount)
    assert backlog > 0
    until(live, backlog)
    live.on_loop(stuck[1].terminate)
    until(live, 0)


def test_input_of_http_is_counted() -> None:
    """A head, a body that is being collected, and what comes behind a request that waits for its answer."""
    waiting: list[Future[str]] = []

    def fetch(request: Any) -> Any:
        if request.method == "POST":
            return str(len(request.body))
        waiting.append(Future())
        return waiting[-1]

    with running(fetch=fetch) as server, HttpClient(server) as head, HttpClient(server) as body:
        head.send(b"GET / HTTP/1.1\r\n")
        until(server, 16)
        body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        body.send(b"z" * 600_000)
        until(server, 600_016)
        body.send(b"z" * 400_000)
        assert body.reply().body == b"1000000"
        until(server, 16)
        head.send(b"Host: a\r\n\r\n" + GET * 100)
        eventually(lambda: waiting, "the request")
        until(server, len(GET) * 100)
        for i in range(101):
            eventually(lambda i=i: len(waiting) > i, "the next request")
            waiting[i].set_result("ok")
            assert head.reply().body == b"ok"
        until(server, 0)


def test_bodies_of_clients_that_leave(serving: Any) -> None:
    with running(fetch=lambda r: "ok") as server:
        for _ in range(20):
            with HttpClient(server) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"z" * 300_000)
                eventually(lambda: server.buffered_bytes > 0, "the body")
        until(server, 0)


def test_calls_of_other_threads_are_counted(serving: Any) -> None:
    """While the loop is busy they wait in memory; past the limit they are refused before they are copied."""
    live = serving(limits={"max_buffered_bytes": MIB})
    client, ws = live.open()
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(10)

    live.server.call_soon(block)
    assert entered.wait(10)
    try:
        answers = [ws.send(CHUNK) for _ in range(20)]
        assert answers == [65536] * 16 + [0] * 4
        assert live.server.buffered_bytes == MIB
        assert live.server.publish("nobody", b"x") == 0
        assert ws.publish("nobody", b"x") == 0
        assert live.server.refused["sends_buffered_bytes"] == 6
    finally:
        leave.set()
    assert client.read_messages(16) == [CHUNK] * 16
    until(live, 0)


# --- what is refused ---


def test_sends_beyond_it_are_dropped(serving: Any, logged: Any) -> None:
    """Ten slow peers whose own limits would allow ten times that; a healthy one does not notice."""
    live = serving(backpressure_limit=0, limits={"max_buffered_bytes": 4 * MIB}, message=lambda ws, m: ws.send(m))
    pairs = [live.open(receive_buffer=8192) for _ in range(10)]
    healthy = live.connect()
    live.on_loop(lambda: [fill(ws, 2 * MIB) for _, ws in pairs])
    total = live.on_loop(lambda: sum(ws.buffered_amount for _, ws in pairs))
    # Over by less than one message for each of them: those that it has found without a backlog.
    assert 3 * MIB < total <= 4 * MIB + 10 * (len(CHUNK) + 4)
    assert live.server.refused["sends_buffered_bytes"] >= 8
    assert live.server.refused["sends_backpressure"] == 0
    for i in range(50):
        healthy.send(f"still there {i}")
        assert healthy.read_message() == f"still there {i}"
    for client, _ in pairs:
        drained(client)
    until(live, 0)
    assert live.on_loop(pairs[0][1].send, "again") == 5


@pytest.mark.parametrize("size", [1000, 40_000])
def test_fan_out_beyond_it_is_dropped(room: Any, size: int) -> None:
    """Small messages go out in batches inside upstream, large ones from here: neither exceeds the limit by much."""
    live, pairs = room(8, "news", backpressure_limit=0, limits={"max_buffered_bytes": 4 * MIB})

    def publish() -> None:
        for _ in range(1 + 200_000 // size):
            live.server.publish("news", b"y" * size)

    for _ in range(100):
        live.on_loop(publish)
    total = live.on_loop(lambda: sum(ws.buffered_amount for _, ws in pairs))
    assert 3 * MIB < total < 6 * MIB
    until(live, total)
    for _, ws in pairs:
        live.on_loop(ws.terminate)
    until(live, 0)


def test_bodies_beyond_it_get_503() -> None:
    """Bodies have half of it: one that grows over that is refused, and its memory serves the others."""
    with running(fetch=lambda r: str(len(r.body)), limits={"max_buffered_bytes": MIB}) as server:
        clients = [HttpClient(server) for _ in range(4)]
        for client in clients:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 250000\r\nExpect: 100-continue\r\n\r\n")
            client.read_until(b"\r\n\r\n")  # a head that came later would be refused at once
        for client in clients[:2]:
            client.send(b"z" * 249_000)
        until(server, 498_000)
        clients[2].send(b"z" * 249_000)
        reply = clients[2].reply()
        assert (reply.status, reply.body, reply.get("Connection")) == (503, b"server is short of memory", "close")
        until(server, 498_000)
        with HttpClient(server) as small:
            assert small.ask().status == 200
        for client in clients[:2]:
            client.send(b"z" * 1000)
            assert client.reply().body == b"250000"
        clients[3].send(b"z" * 250_000)
        assert clients[3].reply().body == b"250000"
        assert server.refused["http_503"] == 1
        for client in clients:
            client.__exit__()
        until(server, 0)


def test_pipelines_wait_while_memory_is_short() -> None:
    """Bytes behind a request in progress are not refused: they are not read."""
    waiting: list[Future[str]] = []

    def fetch(request: Any) -> Any:
        waiting.append(Future())
        return waiting[-1]

    with running(fetch=fetch, limits={"max_buffered_bytes": 20_000}) as server, HttpClient(server) as client:
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):  # read on to the end, the server would take these 26 MB
            client.send(GET * 1_000_000)
        client.socket.settimeout(20)
        assert 20_000 < server.buffered_bytes <= 20_000 + 128 * 1024
        for done in range(300):
            eventually(lambda done=done: len(waiting) > done, "the next request")
            waiting[done].set_result("ok")
            assert client.reply().body == b"ok"
        assert server.refused["http_503"] == 0
        client.reset()
        until(server, 0)


@pytest.mark.parametrize("who", ["server", "client"])
def test_closing_handshakes_are_done_however_short_memory_is(serving: Any, who: str) -> None:
    """The Close frame joins the backlog, whoever begins, and is read at its end."""
    live = serving(backpressure_limit=0, limits={"max_buffered_bytes": MIB})
    pairs = [live.open(receive_buffer=8192) for _ in range(3)]
    live.on_loop(lambda: [fill(ws) for _, ws in pairs])
    live.server.reload(limits={"max_buffered_bytes": 1000}, websocket=live.recorded({"backpressure_limit": 0}))
    assert live.on_loop(pairs[0][1].send, "no") == 0
    for client, ws in pairs:
        if who == "server":
            live.on_loop(ws.close, 1001, "bye")
        else:
            client.send_close(1001, "bye")
        assert live.wait_for("close")[1:] == (1001, "bye")
    for client, _ in pairs:
        frames = client.read_to_end()
        assert (frames[-1].close_code, frames[-1].close_reason) == (1001, "bye")
    until(live, 0)


# --- and all of it together ---


def test_random_traffic_returns_to_zero(serving: Any) -> None:
    """Sends, publishes, partial bodies, slow and fast readers, closes of all kinds, in any order."""
    chance = random.Random(11)
    live = serving(backpressure_limit=MIB, limits={"max_buffered_bytes": 3 * MIB})
    pairs: list[tuple[Any, Any]] = []
    for step in range(400):
        action = chance.random()
        if action < 0.2 or not pairs:
            client = live.connect(receive_buffer=8192)
            ws = live.wait_for("open")[0]  # closes of others may be told before
            live.on_loop(ws.subscribe, "t")
            if chance.random() < 0.5:
                drained(client)
            pairs.append((client, ws))
        elif action < 0.6:
            live.on_loop(chance.choice(pairs)[1].send, b"x" * chance.choice((10, 5000, 100_000)))
        elif action < 0.8:
            live.on_loop(live.server.publish, "t", b"x" * chance.choice((100, 9000, 50_000)))
        elif action < 0.9:
            client, ws = pairs.pop(chance.randrange(len(pairs)))
            chance.choice(
                (client.reset, lambda ws=ws: live.on_loop(ws.terminate), lambda ws=ws: live.on_loop(ws.close))
            )()
            client.close()
        else:
            with HttpClient(live.address) as half:
                half.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n" + b"z" * chance.randrange(9999)
                )
        if step % 50 == 0:
            live.on_loop(lambda: None)
            assert live.server.buffered_bytes <= 5 * MIB
    for client, ws in pairs:
        live.on_loop(ws.terminate)
        client.close()
    until(live, 0)


def test_a_socket_that_was_slow_is_charged_for_nothing_once_it_has_caught_up(serving: Any) -> None:
    live = serving(message=lambda ws, m: ws.send(m))
    client, ws = live.open(receive_buffer=8192)

    def send_all() -> int:
        count = 0
        while ws.buffered_amount < MIB:
            ws.send(CHUNK)
            count += 1
        return count

    for _ in range(3):
        count = live.on_loop(send_all)
        assert live.server.buffered_bytes > 0
        assert client.read_messages(count) == [CHUNK] * count
        until(live, 0)
        client.ping(b"p")
        assert client.read_frame() == Frame(PONG, b"p")
