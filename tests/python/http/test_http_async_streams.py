"""Bodies of asynchronous iterables: every kind of source, piece and client, backpressure, and sources that fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from http_client import GET, Client, Recorder, fast_readers, pattern, request, upgrade_request
from loops import NAMES, running_in
from ws_client import eventually

from uwserve import Request, Response, Server

pytestmark = pytest.mark.parametrize("mode", ["start", *NAMES])


async def counting(count: int, *, turns: int = 0) -> AsyncIterator[str]:
    for number in range(count):
        for _ in range(turns):
            await asyncio.sleep(0)
        yield f"{number};"


def counted(count: int) -> bytes:
    return "".join(f"{number};" for number in range(count)).encode()


class Source:
    """An asynchronous iterator that is no generator; tells what is done to it."""

    def __init__(self, record: Recorder, *pieces: Any) -> None:
        self._record = record
        self._pieces = iter(pieces)

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        self._record("asked")
        await asyncio.sleep(0)
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self._record("closed")


class Again:
    """An asynchronous iterable that can be iterated many times."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __aiter__(self) -> AsyncIterator[str]:
        return counting(self._count, turns=1)


# --- what is sent ---


def test_every_kind_of_piece(mode: str) -> None:
    async def pieces() -> AsyncIterator[Any]:
        yield "é"
        yield b"b"
        await asyncio.sleep(0.001)
        yield bytearray(b"c")
        yield memoryview(b"xdex")[1:3]
        yield ""
        yield b""

    async def nothing() -> AsyncIterator[bytes]:
        for piece in ():
            yield piece

    sources = {"/": pieces, "/nothing": nothing, "/once": lambda: counting(7), "/turns": lambda: counting(7, turns=3)}
    with running_in(mode, fetch=lambda r: Response(sources[r.path]())) as server, Client(server) as client:
        for _ in range(2):
            reply = client.ask(GET)
            assert reply.chunks == ["é".encode(), b"b", b"c", b"de"]
            assert (reply.get("Transfer-Encoding"), reply.get("Content-Length")) == ("chunked", None)
            assert reply.get("Content-Type") is None
            assert client.ask(request("/nothing")).body == b""
            assert client.ask(request("/once")).body == client.ask(request("/turns")).body == counted(7)
        eventually(lambda: not server.running or server.stats()["handler_errors"]["stream"] == 0)


def test_what_was_given_arrives_while_the_source_waits(mode: str) -> None:
    """The head before the first piece, and each piece, to the last byte of its chunk, before the next one."""
    steps: Recorder = Recorder()

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(4):
            step = asyncio.Event()
            steps(asyncio.get_running_loop(), step)
            await step.wait()
            yield b"%d" % number * 40_000 ** (number % 2)

    with running_in(mode, fetch=lambda r: Response(pieces())) as server:
        for version in ("1.1", "1.0"):
            steps.items.clear()
            with Client(server) as client:
                client.send(request(version=version))
                assert client.head().status == 200
                for number in range(4):
                    loop, step = steps.wait(number + 1)[number]
                    assert client.buffer == b""
                    loop.call_soon_threadsafe(step.set)
                    data = b"%d" % number * 40_000 ** (number % 2)
                    chunk = b"%x\r\n%b\r\n" % (len(data), data) if version == "1.1" else data
                    assert client.read_exactly(len(chunk)) == chunk
                if version == "1.1":
                    assert client.read_until(b"\r\n\r\n") == b"0\r\n\r\n"
                else:
                    assert client.at_end()


def test_http_1_0_and_close(mode: str) -> None:
    """No chunks; the end of the connection is the end of the body."""
    with running_in(mode, fetch=lambda r: Response(counting(100, turns=1))) as server:
        with Client(server) as client:
            reply = client.ask(request(version="1.0"))
            assert reply.body == counted(100)
            assert (reply.get("Transfer-Encoding"), reply.get("Connection")) == (None, "close")
        with Client(server) as client:
            reply = client.ask(request("/", "GET", None, "Connection: close"))
            assert reply.body == counted(100)
            assert client.at_end()


def test_head(mode: str) -> None:
    """The same head as GET, and the source is closed without being asked for anything."""
    record = Recorder()
    fields = {"X-A": "b"}
    with (
        running_in(mode, fetch=lambda r: Response(Source(record, "x"), 200, fields)) as server,
        Client(server) as client,
    ):
        reply = client.ask(request("/", "HEAD"))
        assert (reply.get("X-A"), client.buffer) == ("b", b"")
        assert record.wait() == ["closed"]
        assert client.ask(GET).body == b"x"
        assert record.wait(4) == ["closed", "asked", "asked", "closed"]


def test_pipelined(mode: str) -> None:
    """What is asked for behind a body comes behind it, whole and in order; also at once after one that never waits."""

    def fetch(request: Request) -> Any:
        count = int(request.path[1:])
        return "plain" if count == 0 else Response(counting(count, turns=count % 3))

    counts = [5, 0, 1, 30, 0, 0, 2, 3000, 4, 6]
    with running_in(mode, fetch=fetch) as server, Client(server) as client:
        for _ in range(3):
            client.send(b"".join(request(f"/{count}") for count in counts))
            for count in counts:
                assert client.reply().body == (counted(count) if count else b"plain")
        assert server.pending_requests == 0


def test_from_every_kind_of_handler(mode: str) -> None:
    """Plain functions, coroutines that have suspended or not, routes; errors' answers may stream, too."""

    async def late(request: Request) -> Response:
        await asyncio.sleep(0.001)
        return Response(counting(3))

    async def at_once(request: Request) -> Response:
        return Response(counting(3))

    def failing(request: Request) -> Any:
        raise ZeroDivisionError

    options: dict[str, Any] = {
        "routes": {"/late": late, "/at-once": at_once, "/again": Response(Again(3)), "/failing": failing},
        "fetch": lambda r: Response(counting(3)),
        "error": lambda exc: Response(counting(3), 500),
    }
    with running_in(mode, **options) as server, Client(server) as client:
        for path in ("/late", "/at-once", "/again", "/again", "/failing", "/"):
            assert client.ask(request(path)).body == counted(3), path


def test_a_response_used_twice(mode: str) -> None:
    """An iterable can be sent again, an iterator not: RuntimeError, and 500."""
    kept = {"/again": Response(Again(3)), "/once": Response(counting(3))}
    options: dict[str, Any] = {"error": lambda exc: Response(str(exc), 500)}
    with running_in(mode, fetch=lambda r: kept[r.path], **options) as server, Client(server) as client:
        for _ in range(2):
            assert client.ask(request("/again")).body == counted(3)
        assert client.ask(request("/once")).body == counted(3)
        reply = client.ask(request("/once"))
        assert (reply.status, reply.body[:42]) == (500, b"the body of this Response has been sent al")


# --- backpressure and fairness ---


def test_the_source_is_not_ahead_of_its_client(mode: str) -> None:
    """A client that does not read stops the source, and what is kept for it is a piece at most; nothing is lost."""
    size, count = 65536, 1000
    data, given = pattern(size), [0]

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(count):
            given[0] += 1
            if number % 2:
                await asyncio.sleep(0)
            yield data

    with running_in(mode, fetch=lambda r: "ok" if r.path == "/ok" else Response(pieces())) as server:
        with Client(server, receive_buffer=65536) as slow, Client(server) as other:
            slow.send(GET)
            eventually(lambda: server.buffered_bytes > 0)
            stalled_at = given[0]
            for _ in range(50):
                assert other.ask(request("/ok")).body == b"ok"
            assert given[0] == stalled_at < count // 2
            assert server.buffered_bytes <= size + 4096
            assert slow.reply().body == data * count
        assert given[0] == count


def test_sources_that_never_wait_do_not_starve_others(mode: str) -> None:
    """Two endless ones, of small and of empty pieces, and readers as fast as can be: others are still answered.

    What runs between two turns of the loop is measured in CPU time, which a busy machine does not stretch.
    """
    turns: list[float] = []
    sources_left = [2]

    def turn() -> None:
        turns.append(time.thread_time())
        if sources_left[0]:
            asyncio.get_running_loop().call_soon(turn)

    async def endless(piece: bytes) -> AsyncIterator[bytes]:
        if not turns:
            turn()
        try:
            for number in itertools.count():
                yield piece if number % 100_000 else b"."
        finally:
            sources_left[0] -= 1

    sources = {"/small": b"z" * 1000, "/empty": b""}
    with running_in(mode, fetch=lambda r: Response(endless(sources[r.path])) if r.path != "/ok" else "ok") as server:
        with fast_readers(server, *sources), Client(server) as client:
            for _ in range(50):
                assert client.ask(request("/ok")).body == b"ok"
        eventually(lambda: server.pending_requests == 0 and not sources_left[0])
    assert max(after - before for before, after in itertools.pairwise(turns)) < 0.05


@pytest.mark.plain("aiohttp is not told to trust the certificate")
def test_a_hundred_clients(mode: str) -> None:
    """All at once, by another implementation; each gets its own body, and no Task is left."""

    async def pieces(name: str) -> AsyncIterator[str]:
        for number in range(50):
            if number % 5 == 0:
                await asyncio.sleep(0.001)
            yield f"{name} {number}\n" * (number % 7)

    async def read(session: aiohttp.ClientSession, url: str, name: str) -> None:
        async with session.get(f"{url}{name}") as response:
            expected = "".join(f"{name} {number}\n" * (number % 7) for number in range(50))
            assert await response.text() == expected

    async def main(url: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
            await asyncio.gather(*(read(session, url, f"n{number % 100}") for number in range(300)))

    with running_in(mode, fetch=lambda r: Response(pieces(r.path[1:]))) as server:
        asyncio.run(asyncio.wait_for(main(server.url), 60))
        assert server.pending_requests == 0


def test_how_long_a_source_may_wait(mode: str) -> None:
    """idle_timeout counts from piece to piece; timeout(request, seconds) is that of one answer, to its end."""

    def fetch(request: Request, server: Server) -> Response:
        async def pieces() -> AsyncIterator[str]:
            for _ in range(4):
                await asyncio.sleep(0.4)
                yield "in time;"
            await asyncio.sleep(2.5)
            yield "late"

        if request.path == "/patient":
            server.timeout(request, 0)
        return Response(pieces())

    times = {"idle_timeout": 1, "keep_alive_timeout": 1}
    with running_in(mode, fetch=fetch, **times) as server, Client(server) as cut, Client(server) as patient:
        patient.send(request("/patient"))
        cut.send(request("/cut"))
        assert cut.head().status == 200
        assert cut.read_rest().count(b"in time") == 4
        assert patient.reply().body == b"in time;" * 4 + b"late"
        assert patient.at_end()  # the next request has the usual time


# --- sources that fail ---


async def raises_at_once() -> AsyncIterator[str]:
    raise RuntimeError("at once")
    yield ""


async def raises_later() -> AsyncIterator[str]:
    yield "begun"
    await asyncio.sleep(0.001)
    raise RuntimeError("in the middle")


async def gives_garbage() -> AsyncIterator[Any]:
    yield "begun"
    yield 7


class GivesNoAwaitable:
    def __aiter__(self) -> GivesNoAwaitable:
        return self

    def __anext__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (raises_at_once, "RuntimeError: at once"),
        (raises_later, "RuntimeError: in the middle"),
        (gives_garbage, "TypeError: a piece of a streamed body must be str or a bytes-like object, not int"),
        (GivesNoAwaitable, "can't be used in 'await' expression"),
    ],
)
def test_a_source_that_raises(mode: str, source: Any, word: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was yielded arrives, the body is visibly incomplete; it is logged and counted, and the server goes on."""
    with running_in(mode, fetch=lambda r: "ok" if r.path == "/ok" else Response(source())) as server:
        with Client(server) as client:
            client.send(GET)
            assert client.head().status == 200
            assert client.read_rest() in (b"5\r\nbegun\r\n", b"")
        with Client(server) as client:
            assert client.ask(request("/ok")).body == b"ok"
            eventually(lambda: server.pending_requests == 0)
        errors = Recorder()
        server.call_soon(lambda: errors(server.stats()["handler_errors"]))
        assert errors.wait()[0]["stream"] == 1
    assert word in caplog.text
    assert caplog.text.count("Exception in a streamed body") == 1


def test_an_aiter_that_raises(mode: str) -> None:
    """Before the head was sent: the error path, as for an exception of the handler."""

    class Source:
        def __aiter__(self) -> AsyncIterator[str]:
            raise RuntimeError("no iterator")

    class NoIterator:
        def __aiter__(self) -> int:
            return 7

    sources = {"/": Source, "/7": NoIterator}
    options: dict[str, Any] = {"error": lambda exc: Response(str(exc), 500)}
    with running_in(mode, fetch=lambda r: Response(sources[r.path]()), **options) as server, Client(server) as client:
        assert client.ask(GET).body == b"no iterator"
        assert b"not an async iterator" in client.ask(request("/7")).body


def test_an_aclose_that_fails(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """Logged; the response was complete and the connection goes on."""

    class Failing(Source):
        async def aclose(self) -> None:
            await asyncio.sleep(0)
            raise RuntimeError("aclose fails")

    record = Recorder()
    with running_in(mode, fetch=lambda r: Response(Failing(record, "x"))) as server, Client(server) as client:
        for method in ("GET", "HEAD", "GET"):
            assert client.ask(request("/", method)).status == 200
        eventually(lambda: caplog.text.count("RuntimeError: aclose fails") == 3)


def test_a_source_whose_task_is_cancelled(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """By itself: the connection is cut, its finally runs, and nothing is logged, as of any Task."""
    record = Recorder()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "begun"
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            record("finally")

    with running_in(mode, fetch=lambda r: Response(pieces())) as server, Client(server) as client:
        client.send(GET)
        assert client.head().status == 200
        assert client.read_rest() == b"5\r\nbegun\r\n"
        assert record.wait() == ["finally"]
        eventually(lambda: server.pending_requests == 0)
    assert "Exception" not in caplog.text


def test_nothing_else_answers_while_a_body_is_sent(mode: str) -> None:
    """Upgrades and answers inside the generator are refused, and the response is intact."""
    answers = Recorder()

    def fetch(request: Request, server: Server) -> Response:
        async def pieces() -> AsyncIterator[str]:
            for turns in (0, 1):
                yield "a"
                await asyncio.sleep(0)
                answers(server.upgrade(request), server._control.core.respond(request, 200, [], b"x"), request.answered)
                with contextlib.suppress(RuntimeError):
                    answers(server._control.core.push_piece(request, "wanted, so it is sent") if turns else None)
                answers(server._control.core.respond_pushed(request, 200, [], print))

        return Response(pieces())

    with running_in(mode, fetch=fetch, websocket={}) as server, Client(server) as client:
        body = client.ask(upgrade_request()).body
        assert body == b"aawanted, so it is sent"
        assert answers.items == [(False, False, True), None, False, (False, False, True), True, False]
        assert client.ask(upgrade_request()).body == body
