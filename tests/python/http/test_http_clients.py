"""HTTP clients that are slow, silent, half-closed, or gone: what is cut, what is still owed, and what stays behind."""

from __future__ import annotations

import select
import time
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import DEADLINE, GET, Client, Recorder, echo, request, running
from ws_client import eventually

from uwserve import Request

pytestmark = pytest.mark.wss

UPLOAD = request("/a", "POST", b"body")


def wait_for_end(client: Client, drip: bytes = b"") -> float:
    """Seconds until the server ends the connection, while ``drip`` is sent ten times a second."""
    begun = time.monotonic()
    while not select.select([client.socket], [], [], 0.1)[0]:
        assert time.monotonic() < begun + DEADLINE
        if drip:
            client.send(drip)
    return time.monotonic() - begun


@pytest.mark.plain("waits for the raw socket, which session tickets make readable; test_tls has its like")
@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y"),
        (b"\r\n" * 3, b""),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"y"),
        (GET, b""),
    ],
    ids=["silence", "dripping head", "empty lines", "dripping body", "idle after a request"],
)
def test_a_slow_client_is_cut(sent: bytes, drip: bytes) -> None:
    """idle_timeout counts to the end of the head, and dripping does not extend it; half a request is answered with 408
    (RFC 9110 section 15.5.9), and who sent nothing gets nothing."""
    with running(fetch=echo, idle_timeout=1, keep_alive_timeout=1) as server, Client(server) as client:
        client.send(sent)
        if sent == GET:
            client.reply()
        assert 0.5 < wait_for_end(client, drip) < 8
        if drip == b"y":
            reply = client.reply()
            assert reply.status == 408
            assert reply.get("Connection") == "close"
            assert reply.body
        assert client.at_end()


def test_idle_after_an_answer_has_a_time_of_its_own() -> None:
    """keep_alive_timeout, until the first byte of the next head, which then has idle_timeout, as the first one had."""
    with (
        running(fetch=echo, idle_timeout=1) as server,
        Client(server) as kept,
        Client(server) as begun,
        Client(server) as silent,
    ):
        assert kept.ask().status == begun.ask().status == 200
        assert wait_for_end(silent, b"") < 8
        begun.send(b"\r\n")
        assert begun.at_end()
        assert kept.ask().status == 200, "cut after idle_timeout"
        server.reload(keep_alive_timeout=1)
        assert kept.ask().status == 200
        assert kept.at_end()


@pytest.mark.plain("waits for the raw socket, as above")
@pytest.mark.parametrize(("rate", "status"), [(240, 408), (3, 200), (0, 200)])
def test_a_slow_body(rate: int, status: int) -> None:
    """Some 10 bytes a second: too slow for the default, after the five seconds that every body has."""
    body = b"y" * 60
    with running(fetch=echo, idle_timeout=2, min_body_rate=rate) as server, Client(server) as client:
        client.send(request("/", "POST", body)[: -len(body)])
        begun = time.monotonic()
        for i in range(len(body)):
            if select.select([client.socket], [], [], 0.1)[0]:
                break
            client.send(body[i : i + 1])
        assert client.reply().status == status
        assert time.monotonic() - begun > 4.5
        assert server.refused["head_timeouts"] == (status == 408)


def test_a_connection_in_use_is_not_cut() -> None:
    """Requests keep a connection alive beyond idle_timeout."""
    with running(fetch=echo, idle_timeout=1) as server, Client(server) as client:
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            assert client.ask().status == 200
            select.select([client.socket], [], [], 0.2)


def test_half_closed_client_gets_its_whole_answer() -> None:
    """FIN says that no more requests come; the answers to those that came are still owed."""
    later: Future[bytes] = Future()
    asked = Recorder()

    def fetch(request: Request) -> Any:
        asked(request.path)
        return later if request.path == "/later" else b"x" * 20_000_000

    with running(fetch=fetch) as server:
        with Client(server, receive_buffer=4096) as client:
            client.send(request("/"))
            client.finish()
            assert len(client.reply().body) == 20_000_000
            assert client.at_end()
        with Client(server) as client:
            client.send(request("/later"))
            client.finish()
            asked.wait(2)
            later.set_result(b"late")
            assert client.reply().body == b"late"
            assert client.at_end()


@pytest.mark.parametrize("sent", [b"G", GET[:-2], UPLOAD[:-1], GET[:-2] + b"Connection: close\r\n"])
@pytest.mark.parametrize("way", ["fin", "reset"])
def test_a_client_that_leaves_inside_a_request(sent: bytes, way: str) -> None:
    """The handler never sees an incomplete request, and the connection does not stay."""
    seen = Recorder()
    with running(fetch=lambda r: seen(r.path) or "x") as server:
        with Client(server) as client:
            client.send(sent)
            if way == "reset":
                client.reset()
            else:
                client.finish()
                assert client.at_end()
        with Client(server) as client:
            client.ask(request("/second"))
        assert seen.items == ["/second"]
        assert server.pending_requests == 0


def test_a_client_that_leaves_before_the_answer() -> None:
    """The request says so, stays readable, and a late answer goes nowhere without harm."""
    later: Future[str] = Future()
    seen = Recorder()

    def fetch(request: Request) -> Any:
        seen(request)
        return later

    with running(fetch=fetch) as server:
        with Client(server) as client:
            client.send(request("/gone", "POST", b"body"))
            kept: Request = seen.wait()[0]
            assert not kept.answered
            assert server.pending_requests == 1
            client.reset()
        eventually(lambda: kept.answered, "noticing that the client left")
        later.set_result("too late")
        assert (kept.path, kept.body, kept.headers["host"]) == ("/gone", b"body", "a")
        eventually(lambda: server.pending_requests == 0, "pending_requests == 0")
