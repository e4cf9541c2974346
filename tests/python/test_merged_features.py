"""Features that meet: each of these works alone."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from isolated import MODES, connect, serving
from loops import Gate
from ws_client import TIMEOUT, eventually

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


def test_a_full_server_keeps_nothing_of_sockets_that_have_had_their_turn(inside: Any) -> None:
    """While some handlers use all that the server may run, other sockets take their turns, come and go: what does not
    wait any more has no place in the line of those that wait."""
    sockets: list[Any] = []

    async def message(ws: Any, message: str) -> None:
        if message == "wait":
            await gate.wait()
        await asyncio.sleep(0)
        ws.send(message)

    live = inside(
        message=message,
        open=lambda ws: sockets.append(weakref.ref(ws)),
        only=(),
        limits={"max_concurrent_handlers": 2},
    )
    gate = Gate(live)

    def ask(client: Any, times: int) -> None:
        for i in range(times):
            client.send(str(i))
            assert client.read_message() == str(i)

    busy = [live.connect() for _ in range(3)]
    for client in busy:  # the last one is the first in the line
        for _ in range(2):
            client.send("wait")
    eventually(lambda: live.server.stats()["handlers"]["running"] >= 4)
    asking = live.connect()
    ask(asking, 3)
    before = live.on_loop(lambda: sys.getrefcount(sockets[-1]()))
    ask(asking, 100)
    assert live.on_loop(lambda: sys.getrefcount(sockets[-1]())) <= before + 2
    left = sockets[:]
    for _ in range(200):
        client = live.connect()
        ask(client, 1)
        client.close()

    def kept() -> int:
        gc.collect()
        return sum(ws() is not None for ws in sockets[len(left) :])

    eventually(lambda: live.on_loop(kept) <= 80)
    gate.open()
    assert {client.read_message() for client in busy for _ in range(2)} == {"wait"}


def upgrade_as(request: Any, server: Any) -> None:
    assert server.upgrade(request, data=request.path)


async def answer_user(ws: Any, message: str) -> None:
    if message == "break":
        answer_user.__code__ = takes_nothing.__code__
    ws.send(USER.get())


async def takes_nothing() -> None:
    """The code of a function that a reloader has replaced, badly."""


@pytest.fixture(autouse=True)
def repaired() -> Iterator[None]:
    code = answer_user.__code__
    yield
    answer_user.__code__ = code


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_that_cannot_be_called_leaves_no_context_behind(mode: str) -> None:
    """A spare Task's Context is entered from one coroutine to the next. A connection with variables of its own comes in
    between, and the call of its handler raises: both Contexts are left, in order, and everybody has their own."""

    code: Any = answer_user
    whole = answer_user.__code__
    begun, go_on = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def open(ws: Any) -> None:
        if ws.data == "/own":
            USER.set("own")

    def block() -> None:
        begun.set()
        assert go_on.wait(TIMEOUT)

    def repair(error: Exception, ws: Any) -> None:
        raised.append(error)
        code.__code__ = whole

    websocket = {"message": answer_user, "open": open, "error": repair}
    with (
        serving(mode, fetch=upgrade_as, websocket=websocket) as server,
        connect(server) as other,
        connect(server, "/own") as own,
    ):
        for _ in range(3):
            other.send("x")
            own.send("x")
            assert (other.read_message(), own.read_message()) == ("nobody", "own")
        other.send("x")  # so that the loop finds it first
        assert other.read_message() == "nobody"
        server.call_soon(block)
        assert begun.wait(TIMEOUT)
        other.send("break")
        own.send("this one fails")
        go_on.set()
        assert other.read_message() == "nobody"
        eventually(lambda: len(raised) == 1)
        for _ in range(3):
            other.send("x")
            own.send("x")
            assert (other.read_message(), own.read_message()) == ("nobody", "own")
        seen: list[str] = []
        server.call_soon(lambda: seen.append(USER.get()))
        eventually(lambda: seen == ["nobody"])
