"""What a handler returns and what the client gets: every kind of result, every size, streams, errors, headers, statuses."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_client import GET, Client, ClosedError, Recorder, Reply, eventually, request, running

from uwserve import Headers, Request, Response, Server

TEXT = "text/plain;charset=utf-8"


def answer(result: Any, sent: bytes = GET, **options: Any) -> Reply:
    """The reply to one request whose handler returns ``result``, or what ``result()`` returns or raises."""
    fetch: Callable[..., Any] = (lambda r: result()) if callable(result) else (lambda r: result)
    with running(fetch=fetch, **options) as server, Client(server) as client:
        return client.ask(sent)


def pattern(size: int) -> bytes:
    """Bytes in which a lost, doubled or moved block shows."""
    return b"".join(i.to_bytes(4, "big") for i in range(size // 4 + 1))[:size]


# --- kinds of results ---


@pytest.mark.parametrize(
    ("result", "status", "kind", "body"),
    [
        ("text é €", 200, TEXT, "text é €".encode()),
        ("", 200, TEXT, b""),
        (b"\0\xff", 200, "application/octet-stream", b"\0\xff"),
        (bytearray(b"ab"), 200, "application/octet-stream", b"ab"),
        (memoryview(b"abcd")[::2], 200, "application/octet-stream", b"ac"),
        ({"a": ["é", None]}, 200, "application/json;charset=utf-8", '{"a":["é",null]}'.encode()),
        ([], 200, "application/json;charset=utf-8", b"[]"),
        (None, 204, None, b""),
        (Response("x", 418, {"X-Y": "z"}), 418, TEXT, b"x"),
        (Response(), 200, None, b""),
        (Response.json([1], 201), 201, "application/json;charset=utf-8", b"[1]"),
        (Response("<p>", headers={"content-type": "text/html"}), 200, "text/html", b"<p>"),
    ],
)
def test_result(result: Any, status: int, kind: str | None, body: bytes) -> None:
    reply = answer(result)
    assert (reply.status, reply.get("Content-Type"), reply.body) == (status, kind, body)
    assert reply.get("Content-Length") == (None if status == 204 else str(len(body)))
    assert reply.get("Date")
    assert reply.get("Server") is None
    assert reply.get("uWebSockets") is None


@pytest.mark.parametrize("result", [object(), 7, 1.5, True, {1, 2}, {"a": object()}, {"a": float("nan")}, iter("ab"), "\ud800"])
def test_a_result_that_is_no_answer(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """500 without a word about the inside, and the log says why; the connection goes on."""
    with running(fetch=lambda r: result) as server, Client(server) as client:
        for _ in range(2):
            reply = client.ask()
            assert (reply.status, reply.body) == (500, b"Internal Server Error\n")
    assert len(caplog.records) == 2
    assert caplog.records[0].name == "uwserve"
    assert caplog.records[0].exc_info


def test_a_coroutine_is_refused_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    """No "never awaited" warning (warnings are errors here), and a text that says what to do."""

    async def work() -> str:
        return "x"

    assert answer(work).status == 500
    assert "coroutine" in caplog.text


def test_futures(caplog: pytest.LogCaptureFixture) -> None:
    """A Future answers when it is done, from any thread: results of all kinds, exceptions, cancellation, nesting."""
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    inner.set_result("inner")
    cancelled: concurrent.futures.Future[Any] = concurrent.futures.Future()
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:

        def fetch(request: Request) -> Any:
            results: dict[str, Any] = {
                "/dict": lambda: pool.submit(lambda: {"a": 1}),
                "/none": lambda: pool.submit(lambda: None),
                "/large": lambda: pool.submit(lambda: pattern(3_000_000)),
                "/raises": lambda: pool.submit(lambda: 1 // 0),
                "/exit": lambda: pool.submit(exit_quietly),
                "/inner": lambda: pool.submit(lambda: inner),
                "/done": lambda: inner,
                "/cancelled": lambda: cancelled,
                "/garbage": lambda: pool.submit(object),
            }
            return results[request.path]()

        def exit_quietly() -> None:
            raise SystemExit(3)

        with running(fetch=fetch) as server, Client(server) as client:
            for path, status, body in [
                ("/dict", 200, b'{"a":1}'),
                ("/none", 204, b""),
                ("/large", 200, pattern(3_000_000)),
                ("/raises", 500, b"Internal Server Error\n"),
                ("/exit", 500, b"Internal Server Error\n"),
                ("/inner", 200, b"inner"),
                ("/done", 200, b"inner"),
                ("/cancelled", 500, b"Internal Server Error\n"),
                ("/garbage", 500, b"Internal Server Error\n"),
                ("/dict", 200, b'{"a":1}'),
            ]:
                reply = client.ask(request(path))
                assert (reply.status, reply.body) == (status, body), path
            assert server.pending_requests == 0
    assert "ZeroDivisionError" in caplog.text


# --- errors ---


def test_the_error_hook() -> None:
    """It gets the exception and answers; an ``error`` that fails itself leaves 500 and both tracebacks."""
    assert answer(lambda: 1 // 0, error=lambda e: Response(type(e).__name__, 503)).body == b"ZeroDivisionError"
    assert answer(object(), error=lambda e: {"error": str(e)}).json()["error"].startswith("fetch must return")
    assert answer(lambda: 1 // 0, error=lambda e: None).status == 204
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    future.set_exception(KeyError("k"))
    assert answer(future, error=lambda e: repr(e)).body == b"KeyError('k')"


def test_an_error_hook_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    for hook in (lambda e: {}["missing"], lambda e: object()):
        caplog.clear()
        reply = answer(lambda: 1 // 0, error=hook)
        assert (reply.status, reply.body) == (500, b"Internal Server Error\n")
        assert "ZeroDivisionError" in caplog.text
        assert "KeyError" in caplog.text or "error must return" in caplog.text


def test_an_error_hook_that_answers_later() -> None:
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    with running(fetch=lambda r: 1 // 0, error=lambda e: future) as server, Client(server) as client:
        client.send(GET)
        eventually(lambda: server.pending_requests == 1)
        future.set_result("later")
        assert client.reply().body == b"later"


def test_development_shows_the_traceback() -> None:
    def fails() -> None:
        raise ValueError("secret \ud800 detail")

    shown = answer(fails, development=True)
    assert shown.status == 500
    assert shown.get("Content-Type") == TEXT
    assert b"ValueError: secret" in shown.body
    assert b"in fails" in shown.body
    assert b"secret" not in answer(fails).body


# --- sizes ---

SIZES = [0, 1, 100, 12287, 12288, 12289, *range(15_500, 17_001, 100), 16_383, 16_384, 16_385, 32_768, 65_536, 300_000]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_sizes_around_the_cork_buffer(streamed: bool) -> None:
    """Byte-exact through upstream's 16 KiB cork buffer, alone, pipelined, and with a long head before the body."""

    def fetch(request: Request) -> Response:
        size = int(request.path[1:])
        return Response(iter([pattern(size)]) if streamed else pattern(size), headers={"X-Fill": "y" * int(request.query)})

    with running(fetch=fetch) as server, Client(server) as client:
        for fill in ("0", "3000", "14000"):
            for size in SIZES:
                assert client.ask(request(f"/{size}?{fill}")).body == pattern(size), (size, fill)
        client.send(b"".join(request(f"/{size}?0") for size in SIZES))
        for size in SIZES:
            assert client.reply().body == pattern(size)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_20_megabytes_for_a_slow_reader(streamed: bool, version: str) -> None:
    """A reader with a tiny window gets all of it, while another client is served between."""
    body = pattern(20_000_000)
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]

    def fetch(request: Request) -> Any:
        return "small" if request.path == "/small" else Response(iter(pieces) if streamed else body)

    with running(fetch=fetch) as server, Client(server, receive_buffer=4096) as slow, Client(server) as other:
        slow.send(request("/", version=version))
        slow.fill()
        assert other.ask(request("/small")).body == b"small"
        reply = slow.reply()
        assert reply.body == body
        if version == "1.0":
            assert slow.at_end()


# --- streams ---


def test_streams_take_every_kind_of_piece() -> None:
    pieces = ["é", b"b", bytearray(b"c"), memoryview(b"xdex")[1:3], "", b""]
    reply = answer(lambda: Response(pieces))
    assert reply.body == "ébcde".encode()
    assert (reply.get("Transfer-Encoding"), reply.get("Content-Length"), reply.get("Content-Type")) == ("chunked", None, None)
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

    def pieces() -> Iterator[str]:
        try:
            yield "never"
            closed("ran")
        finally:
            closed("closed")

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> str:
            closed("pulled")
            return "x"

        def close(self) -> None:
            closed("closed")

    results: dict[str, Any] = {"/small": "abc", "/large": pattern(1_000_000), "/none": None}
    with running(fetch=lambda r: results.get(r.path) or (None if r.path == "/none" else Response(Source()))) as server:
        with Client(server) as client:
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
    ended = threading.Event()

    def drain(server: Server) -> None:
        with Client(server) as client:
            client.send(GET)
            while not ended.is_set() and client.fill():
                client.buffer.clear()

    with running(fetch=lambda r: "ok" if r.path == "/ok" else Response(itertools.repeat(b"z" * 1000))) as server:
        readers = [threading.Thread(target=drain, args=(server,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            with Client(server) as client:
                for _ in range(50):
                    assert client.ask(request("/ok")).body == b"ok"
        finally:
            ended.set()
            for reader in readers:
                reader.join()


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


# --- heads ---


def test_headers_on_the_wire() -> None:
    """Order and repetition are kept; several Set-Cookie stay several; white space around values goes."""
    headers = Headers([("X-A", " 1 "), ("Set-Cookie", "a=1"), ("x-a", "2"), ("Set-Cookie", "b=2"), ("X-L", "\xe9")])
    reply = answer(Response("x", headers=headers))
    assert reply.get_all("x-a") == ["1", "2"]
    assert reply.get_all("set-cookie") == ["a=1", "b=2"]
    assert reply.get("X-L") == "\xe9"


def test_framing_is_the_servers_own() -> None:
    """A handler cannot contradict the body's length; Content-Length stays one, and right."""
    wrong = [("Content-Length", "99"), ("Transfer-Encoding", "chunked"), ("Date", "never")]
    for result in (Response("abc", headers=wrong), Response("abc" * 10_000, headers=wrong)):
        reply = answer(result)
        assert reply.get("Content-Length") == str(len(reply.body))
        assert reply.get("Transfer-Encoding") is None
        assert reply.get("Date") != "never"
    reply = answer(lambda: Response(iter(["abc"]), headers=wrong))
    assert (reply.get("Content-Length"), reply.body) == (None, b"abc")


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\rb", "a\0b"])
def test_injection_is_refused(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """CR, LF and NUL never reach the wire: the handler that tries gets ValueError."""
    raised = Recorder()

    def fetch(request: Request) -> Response:
        response = Response("x")
        for attempt in (
            lambda: Response("x", headers={"X": text}),
            lambda: Response("x", headers={text: "x"}),
            lambda: response.headers.set("X", text),
            lambda: Response.redirect(text),
        ):
            try:
                attempt()
            except ValueError as error:
                raised(str(error))
        response.headers._pairs.append(("X", text))  # past the facade: the core checks again
        return response

    reply = answer(lambda: fetch(None))  # type: ignore[arg-type]
    assert reply.status == 500
    assert reply.get("X") is None
    assert len(raised.items) == 4
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("status", [200, 201, 204, 205, 299, 304, 404, 426, 500, 599])
def test_statuses(status: int) -> None:
    """204 and 304 end with the head and keep the connection usable."""
    with running(fetch=lambda r: Response(status=status)) as server, Client(server) as client:
        for _ in range(3):
            reply = client.ask()
            assert (reply.status, reply.body, bool(reply.reason)) == (status, b"", True)
            assert reply.get("Transfer-Encoding") is None
            assert reply.get("Content-Length") == (None if status in (204, 304) else "0")


def test_logging_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Ordinary requests log nothing."""
    caplog.set_level(logging.DEBUG, logger="uwserve")
    assert answer("x").status == 200
    assert not caplog.records
