"""What a handler returns and what the client gets: every result, size, error, header and status."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from http_client import GET, Client, Recorder, answer, pattern, request, running
from ws_client import eventually

from uwserve import Headers, Request, Response
from uwserve._http.request import Ready

pytestmark = pytest.mark.wss

TEXT = "text/plain;charset=utf-8"


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


@pytest.mark.parametrize(
    "result", [object(), 7, 1.5, True, {1, 2}, {"a": object()}, {"a": float("nan")}, iter("ab"), "\ud800"]
)
def test_a_result_that_is_no_answer(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """500 without a word about the inside, and the log says why; the connection goes on."""
    with running(fetch=lambda r: result) as server, Client(server) as client:
        for _ in range(2):
            reply = client.ask()
            assert (reply.status, reply.body) == (500, b"Internal Server Error\n")
    assert len(caplog.records) == 2
    assert caplog.records[0].name == "uwserve"
    assert "Traceback" in caplog.text


def test_a_coroutine_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """Also of a plain function: the run that was native until then goes on in an event loop."""

    async def work() -> str:
        await asyncio.sleep(0)
        return "x"

    assert answer(work).body == b"x"
    assert not caplog.records


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


@pytest.mark.parametrize(
    ("result", "hint"),
    [
        (lambda: Ready(1), "got Ready, which must be awaited"),
        (lambda: True, r"got bool; what server\.upgrade\(\) answers"),
        (lambda: ("x", 404), r"got tuple; a status goes into Response\(body, status\)"),
    ],
)
def test_hints(result: Callable[[], Any], hint: str) -> None:
    """What newcomers return is told what it should have been."""
    assert re.search(hint, answer(result, error=lambda e: str(e)).body.decode())


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


def test_development_shows_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("secret \ud800 detail")

    shown = answer(fails, development=True)
    assert shown.status == 500
    assert shown.get("Content-Type") == TEXT
    assert b"ValueError: secret" in shown.body
    assert b"in fails" in shown.body
    assert b"secret" not in answer(fails).body
    assert "ValueError" in caplog.text


# --- sizes ---

SIZES = [0, 1, 100, 12287, 12288, 12289, *range(15_500, 17_001, 100), 16_383, 16_384, 16_385, 32_768, 65_536, 300_000]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_sizes_around_the_cork_buffer(streamed: bool) -> None:
    """Byte-exact through upstream's 16 KiB cork buffer, alone, pipelined, and with a long head before the body."""

    def fetch(request: Request) -> Response:
        size = int(request.path[1:])
        return Response(
            iter([pattern(size)]) if streamed else pattern(size), headers={"X-Fill": "y" * int(request.query)}
        )

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
    reply = answer(lambda: Response(iter(["abc"]), headers=wrong[1:]))
    assert (reply.get("Content-Length"), reply.body) == (None, b"abc")


def test_heads_of_any_size() -> None:
    """A field beyond the cork buffer, before bodies of every kind of size."""

    def fetch(request: Request) -> Response:
        return Response(pattern(int(request.query)), headers={"X": "y" * int(request.path[1:])})

    with running(fetch=fetch) as server, Client(server) as client:
        for field in (15_000, 16_384, 100_000, 3_000_000):
            for size in (1, 13_000, 20_000, 1_000_000):
                reply = client.ask(request(f"/{field}?{size}"))
                assert (len(reply.get("X") or ""), reply.body) == (field, pattern(size))


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
    """Ordinary requests log nothing; only the server's own begin and end are there."""
    caplog.set_level(logging.DEBUG, logger="uwserve")
    assert answer("x").status == 200
    assert [record.getMessage().split()[0] for record in caplog.records] == ["Listening", "Stopping", "Stopped"]
