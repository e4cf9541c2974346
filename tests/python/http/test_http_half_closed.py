"""Clients that send their requests and FIN: every request that arrived whole is answered, and then the connection ends.

The FIN may come while a request waits for its answer, between two answers, or while answers wait for their reader.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import DEADLINE, Client, Recorder, pattern, request, running, upgrade_request
from ws_client import eventually

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss

SMALL = pattern(12_000)


class Later:
    """A fetch that answers when told to: ``answer(i, body)``, on the server's thread."""

    def __init__(self) -> None:
        self.asked = Recorder()
        self.futures: list[Future[Any]] = []

    def __call__(self, request: Request, server: Server) -> Future[Any]:
        self.futures.append(Future())
        self.asked(request.path)
        return self.futures[-1]


def test_between_two_answers() -> None:
    """FIN and the answer that lets the next held request be taken, in one turn of the loop."""
    later = Later()

    def fetch(request: Request, server: Server) -> Any:
        return later(request, server) if request.path == "/1" else request.path

    with running(fetch=fetch, idle_timeout=0) as server:
        for _ in range(10):
            later.__init__()
            busy, go = threading.Event(), threading.Event()
            with Client(server) as client:
                client.send(request("/1") + request("/2") + request("/3", "POST", b"body"))
                later.asked.wait()
                server.call_soon(lambda busy=busy, go=go: (busy.set(), go.wait(DEADLINE)))
                assert busy.wait(DEADLINE)
                client.finish()
                server.call_soon(later.futures[0].set_result, "/1")
                go.set()
                assert [client.reply().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
                assert client.at_end()


@pytest.mark.parametrize("last", [request("/2"), request("/2", "POST", b"abc"), request("/2", "POST", b"z" * 100_000)])
def test_while_a_request_waits(last: bytes) -> None:
    """Both answered late; nothing but the last answer ends the connection."""
    later = Later()
    with running(fetch=later, idle_timeout=0) as server, Client(server) as client:
        client.send(request("/1") + last)
        later.asked.wait(1)
        client.finish()
        server.call_soon(later.futures[0].set_result, "one")
        assert client.reply().body == b"one"
        later.asked.wait(2)
        server.call_soon(later.futures[1].set_result, "two")
        assert client.reply().body == b"two"
        assert client.at_end()
        assert server.pending_requests == 0


@pytest.mark.parametrize("first_later", [True, False])
def test_while_answers_wait_for_their_reader(first_later: bool) -> None:
    """Requests that are held back because the client does not read are not lost by its FIN."""
    later = Later()
    count = 1500  # 18 MB of answers

    def fetch(request: Request, server: Server) -> Any:
        return later(request, server) if request.path == "/1" else SMALL

    with running(fetch=fetch, idle_timeout=0) as server, Client(server, receive_buffer=4096) as client:
        if first_later:
            client.send(request("/1") + request("/x") * count)
            later.asked.wait()
            client.finish()
            server.call_soon(later.futures[0].set_result, "one")
            assert client.reply().body == b"one"
        else:
            client.send(request("/x") * count)
            client.finish()
        for i in range(count):
            assert client.reply().body == SMALL, i
        assert client.at_end()


def test_behind_a_late_answer_that_does_not_fit() -> None:
    """The FIN comes when the answer was given but most of it has not left, with nothing pipelined behind it."""
    later = Later()
    with running(fetch=later, idle_timeout=0) as server, Client(server, receive_buffer=4096) as client:
        client.send(request("/1"))
        later.asked.wait()
        fields = [(f"x-{i}", "h" * 60_000) for i in range(150)]
        later.futures[0].set_result(Response("end", headers=fields))
        eventually(lambda: server.pending_requests == 0)
        client.finish()
        assert client.reply().body == b"end"
        assert client.at_end()


def test_a_handshake_held_behind_a_request() -> None:
    """Nobody can hold half a WebSocket: upgrade() says so, and what fetch returns is the answer."""
    later = Later()
    upgraded = Recorder()

    def fetch(request: Request, server: Server) -> Any:
        if request.path == "/1":
            return later(request, server)
        upgraded(server.upgrade(request))
        return "half-closed"

    with running(fetch=fetch, idle_timeout=0, websocket={}) as server, Client(server) as client:
        client.send(request("/1") + upgrade_request("/2"))
        later.asked.wait()
        client.finish()
        server.call_soon(later.futures[0].set_result, "one")
        assert client.reply().body == b"one"
        assert client.reply().body == b"half-closed"
        assert client.at_end()
        assert upgraded.items == [False]
        assert server.pending_websockets == 0
