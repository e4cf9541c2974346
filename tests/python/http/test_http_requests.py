"""Requests as they arrive: in any pieces, pipelined, with bodies.

Every byte goes through a raw socket. Where the exact pieces matter the client sits on a unix socket, whose kernel says
when the server has read what was sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import struct
import termios
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import tls_transport
from http_client import DEADLINE, GET, Client, Recorder, echo, request, running

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss

UPLOAD = request("/a/b?c=d", "POST", b"one\r\n\r\ntwo\x00\xff", "X-One: 1", "Content-Type: text/plain")


@pytest.fixture
def server() -> Iterator[Server]:
    with running(fetch=echo) as server:
        yield server


@pytest.fixture
def unix_client(tmp_path: Path) -> Iterator[Client]:
    path = tmp_path / "s"
    with running(fetch=echo, unix=path), Client(str(path)) as client:
        yield client


def send_exactly(client: Client, *pieces: bytes) -> None:
    """Each piece reaches the server in a read of its own: on a unix socket SIOCOUTQ counts what it has not read."""
    for piece in pieces:
        client.send(piece)
        end = time.monotonic() + DEADLINE
        while struct.unpack("i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            assert time.monotonic() < end
            time.sleep(0)


def check_upload(client: Client) -> None:
    got = client.reply().json()
    assert (got["method"], got["path"], got["query"], got["version"]) == ("POST", "/a/b", "c=d", "1.1")
    assert got["headers"] == [["host", "a"], ["x-one", "1"], ["content-type", "text/plain"], ["content-length", "12"]]
    assert got["body"] == "one\r\n\r\ntwo\x00\xff"


# --- pieces ---


def test_byte_by_byte(unix_client: Client) -> None:
    """A request in reads of one byte each is the same request; three in a row on one connection."""
    for _ in range(3):
        send_exactly(unix_client, *(UPLOAD[i : i + 1] for i in range(len(UPLOAD))))
        check_upload(unix_client)


def test_split_at_every_position(unix_client: Client) -> None:
    for cut in range(1, len(UPLOAD)):
        send_exactly(unix_client, UPLOAD[:cut], UPLOAD[cut:])
        check_upload(unix_client)


def test_split_across_requests(unix_client: Client) -> None:
    """Two requests cut anywhere: the end of one and the beginning of the next in one read."""
    both = UPLOAD + UPLOAD
    for cut in range(1, len(both), 3):
        send_exactly(unix_client, both[:cut], both[cut:])
        check_upload(unix_client)
        check_upload(unix_client)


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_empty_lines_before_a_request(unix_client: Client, lines: int) -> None:
    """RFC 9112 section 2.2: up to four are skipped, whole or byte by byte."""
    data = b"\r\n" * lines + UPLOAD
    unix_client.send(data)
    check_upload(unix_client)
    send_exactly(unix_client, *(data[i : i + 1] for i in range(len(data))))
    check_upload(unix_client)


@pytest.mark.parametrize("before", [b"", UPLOAD], ids=["the first head", "a later one"])
def test_too_many_empty_lines(server: Server, before: bytes) -> None:
    """What is no request at all ends, as a 400: whole, byte by byte, and without end."""
    for lines in (b"\r\n" * 5, b"\r\n" * 100_000):
        with Client(server) as client:
            client.send(before)
            if before:
                assert client.reply().status == 200
            with contextlib.suppress(OSError):
                client.send_pieces(lines, 1 if len(lines) < 100 else len(lines))
            reply = client.reply()
            assert (reply.status, reply.get("Connection")) == (400, "close")
            assert b"empty lines" in reply.body
            assert client.at_end()


def test_a_head_of_nearly_16_kib(unix_client: Client) -> None:
    fill = request("/", "GET", None, "X: ")
    head = request("/", "GET", None, "X: " + "y" * (16 * 1024 - len(fill)))
    assert len(head) == 16 * 1024
    unix_client.send(head)
    assert unix_client.reply().status == 200
    send_exactly(unix_client, *(head[i : i + 1000] for i in range(0, len(head), 1000)))
    assert unix_client.reply().status == 200


def test_a_hundred_fields(server: Server) -> None:
    with Client(server) as client:
        reply = client.ask(request("/", "GET", None, *(f"X-{i}: {i}" for i in range(99))))
        assert len(reply.json()["headers"]) == 100


# --- one connection, many requests ---


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with Client(server) as client:
        client.send(b"".join(request(f"/{i}", "POST", b"x" * i) for i in range(200)))
        for i in range(200):
            got = client.reply().json()
            assert (got["path"], got["length"]) == (f"/{i}", i)
        assert client.ask().status == 200


def test_pipelined_requests_are_handled_one_at_a_time() -> None:
    """The next one is dispatched only after the answer to the one before, which may come much later."""
    asked: list[Future[str]] = []
    seen = Recorder()

    def fetch(request: Request, server: Server) -> Future[str]:
        answer: Future[str] = Future()
        asked.append(answer)
        seen(request.path, server.pending_requests)
        return answer

    with running(fetch=fetch) as server, Client(server) as client:
        client.send(b"".join(request(f"/{i}") for i in range(5)))
        for i in range(5):
            assert seen.wait(i + 1)[i:] == [(f"/{i}", 1)]
            asked[i].set_result(f"answer {i}")
            assert client.reply().body == f"answer {i}".encode()


def test_large_pipeline_behind_a_pending_request() -> None:
    """More than the server is willing to hold waits in the kernel and is not lost."""
    first: Future[str] = Future()
    seen = Recorder()

    def fetch(request: Request) -> Any:
        seen(request.path)
        return first if request.path == "/first" else str(len(request.body))

    with running(fetch=fetch) as server, Client(server) as client:
        client.send(request("/first"))
        seen.wait()
        client.send(b"".join(request("/x", "POST", b"y" * 30_000) for _ in range(20)))
        first.set_result("first")
        assert client.reply().body == b"first"
        assert [client.reply().body for _ in range(20)] == [b"30000"] * 20


def test_close_is_not_forgotten(server: Server) -> None:
    """``Connection: close`` holds although the next request was read together with it, and that one is not run."""
    for field in (
        "Connection: close",
        "connection: Close",
        "Connection: foo , cLOSE",
        "Connection: a\r\nConnection: close",
    ):
        with Client(server) as client:
            client.send(request("/1", "GET", None, field) + request("/2"))
            reply = client.reply()
            assert reply.json()["path"] == "/1"
            assert reply.get("Connection") == "close"
            assert client.at_end()


def test_a_handler_may_close_the_connection() -> None:
    with running(fetch=lambda r: Response("bye", headers={"Connection": "close"})) as server, Client(server) as client:
        client.send(GET + GET)
        reply = client.reply()
        assert (reply.body, reply.get("Connection")) == (b"bye", "close")
        assert client.at_end()


def test_http_1_0_closes(server: Server) -> None:
    """Also with keep-alive asked for, and without a Host."""
    for head in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: b\r\n\r\n"):
        with Client(server) as client:
            client.send(head)
            reply = client.reply()
            assert (reply.status, reply.json()["version"], reply.get("Connection")) == (200, "1.0", "close")
            assert client.at_end()


def test_other_forms_of_the_target() -> None:
    """Absolute form (its authority is the host) and OPTIONS * (RFC 9112 section 3.2)."""
    with running(fetch=lambda r: r.url) as server, Client(server) as client:
        scheme = b"https" if tls_transport.enabled() else b"http"  # the connection's, whatever the client wrote
        assert client.ask(request("http://example.org:81/x?y")).body == scheme + b"://example.org:81/x?y"
        assert client.ask(request("http://example.org")).body == scheme + b"://example.org/"
        assert client.ask(request("*", "OPTIONS")).body == scheme + b"://a"
        assert client.ask(request("/p?q=%20")).body == scheme + b"://a/p?q=%20"


# --- bodies ---


def test_expect_continue(server: Server) -> None:
    """100 comes before the body is sent; not when the body is there already; not to HTTP/1.0; not without a body."""
    asking = request("/", "POST", None, "Expect: 100-continue", "Content-Length: 3")
    with Client(server) as client:
        client.send(asking)
        assert client.head().status == 100
        client.send(b"abc")
        assert client.reply().json()["body"] == "abc"
        client.send(asking + b"abc" + request("/", "POST", None, "Expect: 100-Continue", "Content-Length: 0"))
        assert client.head().status in (100, 200) and client.buffer is not None
    with Client(server) as client:
        client.send(asking + b"abc")
        assert client.reply().json()["body"] == "abc"
    with Client(server) as client:
        client.send(request("/", "POST", b"abc", "Expect: 100-continue", version="1.0"))
        assert client.reply().json()["body"] == "abc"


def test_bodies_up_to_the_limit() -> None:
    """Exactly max_request_body_size is accepted; one more byte is 413 before any of it is sent."""
    with running(fetch=echo, max_request_body_size=1000) as server:
        with Client(server) as client:
            for size in (0, 1, 999, 1000):
                assert client.ask(request("/", "POST", b"x" * size)).json()["length"] == size
        with Client(server) as client:
            client.send(request("/", "POST", None, "Content-Length: 1001", "Expect: 100-continue"))
            assert client.reply().status == 413
            assert client.at_end()


def test_a_refused_upload_still_reads_its_answer() -> None:
    """The client sends the whole body before it reads: the 413 must not be destroyed by a reset."""
    with running(fetch=echo, max_request_body_size=1000) as server:
        for _ in range(5):
            with Client(server) as client:
                client.send(request("/", "POST", b"x" * 300_000))
                assert client.reply().status == 413


def test_large_bodies_arrive_identical() -> None:
    body = bytes(range(256)) * 4096 * 8  # 8 MiB
    with running(fetch=lambda r: hashlib.sha256(r.body).hexdigest()) as server, Client(server) as client:
        for _ in range(2):
            assert client.ask(request("/", "PUT", body)).body.decode() == hashlib.sha256(body).hexdigest()


def test_body_accessors(caplog: pytest.LogCaptureFixture) -> None:
    async def read(request: Request) -> Any:
        return await request.bytes(), await request.text(), await request.json()

    def fetch(request: Request) -> Any:
        try:
            read(request).send(None)
        except StopIteration as stop:
            return repr(stop.value)

    with running(fetch=fetch) as server, Client(server) as client:
        assert client.ask(request("/", "POST", b'{"a":1}')).body == b"""(b'{"a":1}', '{"a":1}', {'a': 1})"""
        assert client.ask(request("/", "POST", b"not json")).status == 400
    assert "JSONDecodeError" not in caplog.text
