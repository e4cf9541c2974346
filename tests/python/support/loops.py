"""Event loops for tests: asyncio's and uvloop's, and one that runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from http_client import running
from ws_client import TIMEOUT

from uwserve import Server, serve

try:
    import uvloop
except ImportError:
    uvloop = None

NAMES = [
    "asyncio",
    pytest.param("uvloop", marks=pytest.mark.skipif(uvloop is None, reason="uvloop is not installed")),
]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop() if name == "uvloop" else asyncio.new_event_loop()


class LoopThread:
    """An event loop that runs in a thread until it is stopped; no task may be left then."""

    def __init__(self, name: str) -> None:
        self.loop = new_loop(name)
        self._thread = threading.Thread(target=self._run, name=f"loop {name}")
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A ``concurrent.futures.Future`` of it; returns when its first step was taken."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        self.turn()
        return future

    def turn(self) -> None:
        """The loop has run what was ready before."""
        for _ in range(2):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(TIMEOUT)

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout: float = TIMEOUT) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def tasks(self) -> int:
        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return self.run(count())

    def stop(self, check: bool = True) -> None:
        if self.loop.is_closed():
            return
        left = self.tasks() if check else 0
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)
        self.loop.close()
        assert not left, f"{left} tasks left"


async def take(iterator: Any, count: int) -> list[Any]:
    return [await iterator.__anext__() for _ in range(count)]


async def take_all(iterator: Any) -> list[Any]:
    return [message async for message in iterator]


class Gate:
    """Something for coroutines on the server's loop to wait for; opened from the test's thread."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        self.live.on_loop(self._event.set)


class Tape:
    """What handlers did, in order, as ``begin x`` and ``end x``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def run(self, name: str, waiting: Any) -> None:
        self.lines.append(f"begin {name}")
        try:
            await waiting
        finally:
            self.lines.append(f"end {name}")


def pairs(names: list[str]) -> list[str]:
    """The tape of those, one after the other."""
    return [f"{what} {name}" for name in names for what in ("begin", "end")]


@contextlib.contextmanager
def running_in(mode: str, **options: Any) -> Iterator[Server]:
    """A server that runs in another thread: by ``start()``, or inside an event loop of that kind."""
    if mode == "start":
        with running(**options) as server:
            yield server
        return
    loop = LoopThread(mode)
    ended = False
    try:
        server = serve(**{"port": 0, "hostname": "127.0.0.1"} | options)
        loop.run(server.__aenter__())
        try:
            yield server
        finally:
            loop.run(server.__aexit__(None, None, None))
        ended = True
    finally:
        loop.stop(check=ended)
