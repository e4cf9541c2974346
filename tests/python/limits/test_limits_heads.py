"""``max_pending_heads``: of the connections whose first request has not arrived, the oldest go."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import GET, Client, open_websocket, running, upgrade
from ws_client import eventually

from uwserve import Server

pytestmark = pytest.mark.wss


def is_reset(client: Client) -> bool:
    """Waits for the server's reset."""
    with pytest.raises(ConnectionResetError):
        client.socket.recv(1)
    return True


def is_open(client: Client) -> bool:
    """Nothing has come, not even an end."""
    client.socket.setblocking(False)
    try:
        data = client.socket.recv(1)
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(20)
    raise AssertionError(data)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_the_oldest_goes(begun: bytes) -> None:
    with (
        running(fetch=lambda r: "ok", limits={"max_pending_heads": 3}) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for _ in range(5):
            clients.append(stack.enter_context(Client(server)))
            clients[-1].send(begun)
        assert is_reset(clients[0])
        assert is_reset(clients[1])
        assert server.refused["pending_heads"] == 2
        for client in clients[2:]:
            assert is_open(client)
            client.send(GET[len(begun) :])
            assert client.reply().status == 200


def test_age_counts_not_activity() -> None:
    """Bytes do not make a connection younger: a head that trickles in is as old as its connection."""
    with (
        running(fetch=lambda r: "ok", limits={"max_pending_heads": 2}) as server,
        Client(server) as old,
        Client(server) as young,
    ):
        for i in range(10):
            old.send(GET[i : i + 1])
        with Client(server) as newest:
            assert newest.ask().status == 200  # it was in the list when `old` had to go
            assert is_reset(old)
            assert young.ask().status == 200


def test_who_has_sent_a_head_is_safe() -> None:
    """Keep-alive connections, requests being answered, bodies on their way and WebSockets do not count."""
    waiting: list[Any] = []

    def fetch(request: Any, server: Server) -> Any:
        if request.path == "/wait":
            waiting.append(Future())
            return waiting[-1]
        return upgrade(request, server)

    with (
        running(
            fetch=fetch, websocket={"message": lambda ws, m: ws.send(m)}, limits={"max_pending_heads": 1}
        ) as server,
        contextlib.ExitStack() as stack,
    ):
        kept = stack.enter_context(Client(server))
        assert kept.ask().status == 200
        pending = stack.enter_context(Client(server))
        pending.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: waiting, "the request")
        body = stack.enter_context(Client(server))
        body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert body.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        ws = stack.enter_context(Client(server))
        open_websocket(ws)
        slow = [stack.enter_context(Client(server)) for _ in range(3)]
        assert is_reset(slow[0])
        assert is_reset(slow[1])
        assert server.refused["pending_heads"] == 2
        body.send(b"body")
        assert body.reply().status == 200
        assert kept.ask().status == 200
        waiting[-1].set_result("late")
        assert pending.reply().body == b"late"
        assert slow[2].ask().status == 200
        ws.send(b"\x81\x82\0\0\0\0hi")
        assert ws.read_exactly(4) == b"\x81\x02hi"


def test_slow_clients_cannot_keep_others_out() -> None:
    """Far more of them than there are places, coming on between requests of somebody who is not slow."""
    with (
        running(fetch=lambda r: "ok", limits={"max_pending_heads": 10}) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(60):
            slow = stack.enter_context(Client(server))
            slow.send(b"GET / HTTP/1.1\r\nX: ")
            with Client(server) as client:
                assert client.ask().status == 200
        # With ten places, the oldest fifty of them at least have gone.
        assert server.refused["pending_heads"] >= 50


def test_reload_and_off() -> None:
    with running(fetch=lambda r: "ok", limits={"max_pending_heads": 0}) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        with Client(server) as client:
            assert client.ask().status == 200
        assert server.refused["pending_heads"] == 0
        server.reload(limits={"max_pending_heads": 5})
        with Client(server) as client:  # the next one that comes makes room
            assert client.ask().status == 200
        for client in clients[:16]:
            assert is_reset(client)
        assert server.refused["pending_heads"] == 16
        for client in clients[16:]:
            assert client.ask().status == 200


def test_clients_that_leave_are_forgotten() -> None:
    with running(fetch=lambda r: "ok", limits={"max_pending_heads": 2}) as server:
        for _ in range(30):
            with Client(server) as client:
                client.socket.sendall(b"GET")
                client.socket.shutdown(socket.SHUT_WR)
                assert client.socket.recv(1) == b""
        with Client(server) as one, Client(server) as two:
            assert one.ask().status == two.ask().status == 200
        assert server.refused["pending_heads"] == 0


def test_timeouts_are_told_apart() -> None:
    """A request that had begun is an incomplete one; silence is only silence; idle keep-alive is neither."""
    with (
        running(fetch=lambda r: "ok", idle_timeout=1, keep_alive_timeout=1) as server,
        Client(server) as begun,
        Client(server) as body,
        Client(server) as silent,
        Client(server) as kept,
    ):
        begun.send(b"GET / HTTP/1.1\r\n")
        body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert kept.ask().status == 200
        assert [client.reply().status for client in (begun, body)] == [408, 408]
        for client in (silent, kept):
            with contextlib.suppress(ConnectionResetError):
                assert client.socket.recv(1) == b""
        counts = server.refused
        assert (counts["head_timeouts"], counts["idle_timeouts"]) == (2, 1)
