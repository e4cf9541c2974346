"""Streamed bodies: every kind of piece and client, generators that raise or never end, and clients that leave."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from http_client import (
    GET,
    Client,
    ClosedError,
    Recorder,
    answer,
    fast_readers,
    pattern,
    request,
    running,
    upgrade_request,
)
from ws_client import eventually

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss


def test_streams_take_every_kind_of_piece() -> None:
    pieces = ["é", b"b", bytearray(b"c"), memoryview(b"xdex")[1:3], "", b""]
    reply = answer(lambda: Response(pieces))
    assert reply.body == "ébcde".encode()
    assert (reply.get("Transfer-Encoding"), reply.get("Content-Length"), reply.get("Content-Type")) == (
        "chunked",
        None,
        None,
    )
    assert answer(lambda: Response(iter([]))).body == b""
    assert answer(lambda: Response(itertools.repeat(b"xy", 5000))).body == b"xy" * 5000


def test_streams_to_http_1_0() -> None:
    """No chunks; the end of the connection is the end of the body."""
    reply = answer(lambda: Response(["a", "b"]), request(version="1.0"))
    assert reply.body == b"ab"
    assert (reply.get("Transfer-Encoding"), reply.get("Connection")) == (None, "close")


def test_head() -> None:
    """The same head as GET without a body, and the generator of a stream is closed without being run."""
    closed = Recorder()

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> str:
            closed("pulled")
            return "x"

        def close(self) -> None:
            closed("closed")

    results: dict[str, Any] = {"/small": "abc", "/large": pattern(1_000_000), "/none": None}

    def fetch(request: Request) -> Any:
        return Response(Source()) if request.path == "/stream" else results[request.path]

    with running(fetch=fetch) as server, Client(server) as client:
        for path, length in (("/small", "3"), ("/large", "1000000"), ("/none", None), ("/stream", None)):
            reply = client.ask(request(path, "HEAD"))
            assert (reply.get("Content-Length"), client.buffer) == (length, b""), path
            assert client.ask(request("/small")).body == b"abc"
    assert closed.items == ["closed"]


def test_a_generator_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """What was yielded arrives, the body is visibly incomplete, the traceback is logged, the server goes on."""

    def pieces() -> Iterator[Any]:
        yield "begun"
        raise RuntimeError("in the middle")

    def garbage() -> Iterator[Any]:
        yield "begun"
        yield 7

    for source, word in ((pieces, "in the middle"), (garbage, "int")):
        caplog.clear()
        with running(fetch=lambda r, s=source: "ok" if r.path == "/ok" else Response(s())) as server:
            with Client(server) as client:
                client.send(GET)
                assert client.head().status == 200
                rest = client.read_rest()
                assert rest.rstrip() in (b"5\r\nbegun", b"")
            with Client(server) as client:
                assert client.ask(request("/ok")).body == b"ok"
                assert server.pending_requests == 0
        assert word in caplog.text


def test_http_1_0_can_tell_a_failed_body(caplog: pytest.LogCaptureFixture) -> None:
    """There is neither a length nor a last chunk: an orderly end would say that this was all."""

    def pieces() -> Iterator[str]:
        yield "half"
        raise RuntimeError("no more")

    def read_all(client: Client) -> None:
        while client.socket.recv(4096):
            pass

    with running(fetch=lambda _: Response(pieces())) as server, Client(server) as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        with pytest.raises(OSError):
            read_all(client)
    assert "no more" in caplog.text


@pytest.mark.parametrize("way", ["reset", "fin"])
def test_a_client_that_leaves_a_stream(way: str) -> None:
    """The generator's finally runs, on the loop's thread; nothing of it stays."""
    closed = Recorder()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed(threading.current_thread().name)

    with running(fetch=lambda r: Response(pieces())) as server:
        with Client(server, receive_buffer=4096) as client:
            client.send(GET)
            client.read_exactly(50_000)
            if way == "reset":
                client.reset()
        assert closed.wait() == ["uwserve"]
        eventually(lambda: server.pending_requests == 0)


def test_an_endless_stream_does_not_starve_others() -> None:
    """Two readers take endless generators as fast as they can; another client's requests are still answered."""

    def fetch(request: Request) -> Any:
        return "ok" if request.path == "/ok" else Response(itertools.repeat(b"z" * 1000))

    with running(fetch=fetch) as server, fast_readers(server, "/", "/"), Client(server) as client:
        for _ in range(50):
            assert client.ask(request("/ok")).body == b"ok"


def test_stopping_cuts_an_endless_stream() -> None:
    closed = Recorder()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed("closed")

    with running(fetch=lambda r: Response(pieces())) as server, Client(server) as client:
        client.send(GET)
        client.read_exactly(1000)
        server.stop(True)
        assert closed.wait() == ["closed"]
        with pytest.raises((ClosedError, ConnectionResetError)):
            client.reply()


def test_nothing_else_answers_while_a_stream_runs() -> None:
    """Upgrade and respond inside the generator return False, and the response is intact (docs/coming-from/bun.md)."""
    answers = Recorder()

    def fetch(request: Request, server: Server) -> Response:
        def pieces() -> Iterator[str]:
            yield "a"
            answers(server.upgrade(request), server._control.core.respond(request, 200, [], b"x"), request.answered)
            yield "b"

        return Response(pieces())

    with running(fetch=fetch, websocket={}) as server, Client(server) as client:
        for count in (1, 2):
            assert client.ask(upgrade_request()).body == b"ab"
            assert answers.items == [(False, False, True)] * count


def test_a_source_whose_close_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Logged; the response was complete and the connection goes on."""

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> str:
            raise StopIteration

        def close(self) -> None:
            raise RuntimeError("close fails")

    with running(fetch=lambda r: Response(Source())) as server, Client(server) as client:
        for method in ("GET", "HEAD", "GET"):
            assert client.ask(request("/", method)).status == 200
    assert caplog.text.count("RuntimeError: close fails") == 3
