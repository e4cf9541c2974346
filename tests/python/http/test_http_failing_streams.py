"""Streamed bodies, asynchronous or not, whose iterators fail in unusual ways, or are never begun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from http_client import GET, Client, Recorder, request
from loops import NAMES, running_in
from ws_client import eventually

from uwserve import Request, Response

pytestmark = pytest.mark.parametrize("mode", ["start", *NAMES])


class Source:
    """An iterator that raises GeneratorExit itself: at once, or after a piece (and a turn of the loop)."""

    def __init__(self, record: Recorder, at_once: bool = True) -> None:
        self.record = record
        self.at_once = at_once
        self.asked = 0

    def step(self) -> bytes:
        self.asked += 1
        if self.at_once or self.asked > 1:
            raise GeneratorExit("on purpose")
        return b"first"


class Asynchronous(Source):
    def __aiter__(self) -> Asynchronous:
        return self

    async def __anext__(self) -> bytes:
        if not self.at_once:
            await asyncio.sleep(0)
        return self.step()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.record("closed")


class Plain(Source):
    def __iter__(self) -> Plain:
        return self

    def __next__(self) -> bytes:
        return self.step()

    def close(self) -> None:
        self.record("closed")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("kind", [Plain, Asynchronous])
def test_a_source_that_raises_generator_exit(mode: str, kind: Any, at_once: bool, caplog: Any) -> None:
    """It fails as with any other exception: the connection is cut, the iterator closed, the failure logged."""
    record = Recorder()

    def fetch(request: Request) -> Any:
        return "ok" if request.path == "/ok" else Response(kind(record, at_once))

    with running_in(mode, fetch=fetch) as server:
        with Client(server) as client:
            client.send(GET)
            client.head()
            assert client.read_rest() == (b"" if at_once else b"5\r\nfirst\r\n")
        assert record.wait() == ["closed"]
        eventually(lambda: server.pending_requests == 0 and "GeneratorExit: on purpose" in caplog.text)
        with Client(server) as client:
            assert client.ask(request("/ok")).body == b"ok"
    assert "Exception in a streamed body" in caplog.text


@pytest.mark.parametrize("kind", [Plain, Asynchronous])
def test_an_answer_that_cannot_be_sent(mode: str, kind: Any, logged: Any) -> None:
    """A status that is none any more: 500, and the iterator is closed nevertheless."""
    record, sources = Recorder(), []

    def fetch(request: Request) -> Response:
        sources.append(kind(record))
        response = Response(sources[-1])
        response.status = 700
        return response

    with running_in(mode, fetch=fetch) as server, Client(server) as client:
        for count in (1, 2):
            assert client.ask(GET).status == 500
            assert record.wait(count) == ["closed"] * count
        assert server.pending_requests == 0
    assert [source.asked for source in sources] == [0, 0]
    assert [line.splitlines()[-1] for line in logged] == ["ValueError: status must be an int in 200..599, got 700"] * 2
    logged.clear()
