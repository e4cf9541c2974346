"""What closes a socket while a Task is made, entered, parked or woken finds nothing half-changed.

Python code runs in each of these, and in it the garbage collector and handlers of signals. Coroutines that come of it
begin in the loop's next turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from event_loops import LOOPS, Peer, embedded, run_on, until

from uwserve._run import tasks as _tasks

pytestmark = pytest.mark.parametrize("loop_kind", LOOPS)


class Bomb:
    """Garbage that closes a socket when it is found."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws
        self.me = self

    def __del__(self) -> None:
        self.ws.close()


@pytest.fixture
def restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("threshold", [23, 67, 151])
def test_garbage_that_closes(loop_kind: str, threshold: int) -> None:
    """The collector runs at many places; each close handler runs once, and the loop goes on."""
    opened, closed = [0], [0]

    async def main() -> None:
        def opening(ws: Any) -> None:
            opened[0] += 1

        async def message(ws: Any, message: Any) -> None:
            Bomb(ws)
            await asyncio.sleep(0)  # becomes a Task: the next one needs a new spare
            ws.send(message)

        async def close(ws: Any, code: int, reason: str) -> None:
            closed[0] += 1

        async with embedded(open=opening, message=message, close=close) as server:
            gc.set_threshold(threshold, 1000, 1000)
            for _ in range(60):
                async with Peer(server) as peer:
                    # How many objects a message makes, and so when the collector runs, depends on the Python version.
                    with contextlib.suppress(ConnectionError):
                        answered = b"x"
                        while answered:
                            await peer.send_raw(peer.message("x") * 20)
                            answered = await peer.reader.read(65536)
            gc.set_threshold(700, 10, 10)
            await until(lambda: closed[0] == 60)

    run_on(loop_kind, main())
    assert opened == closed == [60]


@pytest.mark.parametrize("place", ["_make_task", "_hide", "IdleFuture", "wake", "_reveal"])
def test_a_signal_meanwhile(loop_kind: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler closes the socket at that very place: once, with its coroutine, and others are served."""
    sockets: list[Any] = []
    closed: list[int] = []
    kept: list[Any] = []
    raised = [0]

    def on_signal(number: int, frame: Any) -> None:
        sockets[0].close()

    def once() -> None:
        if sockets and not raised[0]:
            raised[0] += 1
            signal.raise_signal(signal.SIGUSR1)

    real_wake = _tasks.IdleFuture.wake

    def wake(parking: Any) -> None:
        once()
        real_wake(parking)

    def spied(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            once()
            return function(*arguments)

        return call if getattr(function, "__name__", None) == place else function

    if place == "wake":
        monkeypatch.setattr(_tasks.IdleFuture, "wake", wake)
    monkeypatch.setattr(_tasks, "TOOLS", tuple(spied(tool) for tool in _tasks.TOOLS))

    async def main() -> None:
        async def message(ws: Any, message: Any) -> None:
            if ws not in sockets:
                sockets.append(ws)
            if message == "keep":
                kept.append(asyncio.current_task())  # somebody's from now on: the next coroutine needs another
            ws.send(message)

        async def close(ws: Any, code: int, reason: str) -> None:
            await asyncio.sleep(0)
            closed.append(code)

        async def talk(peer: Peer) -> None:
            for text in ("x", "x", "keep") * 3:
                await peer.send_raw(peer.message(text))
                await asyncio.sleep(0.002)  # turns of the loop, in which spares are parked

        async with embedded(message=message, close=close) as server, Peer(server) as first:
            await talk(first)
            await until(lambda: closed)
            async with Peer(server) as second:
                await talk(second)
                await until(lambda: len(sockets) > 1)

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        run_on(loop_kind, main())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert raised == [1]
    assert closed[0] == 1000
    assert len(closed) == 2


def test_a_spare_is_not_found(loop_kind: str) -> None:
    """In no turn, not even before it is parked: waiting for all_tasks() waits for no Task without a coroutine."""
    found: list[Any] = []
    messages = [0]

    async def main() -> None:
        async def message(ws: Any, message: Any) -> None:
            messages[0] += 1
            ws.send(message)

        async def spy() -> None:
            while messages[0] < 30:
                found.extend(task for task in asyncio.all_tasks() if isinstance(task, _tasks.HandlerTask))
                await asyncio.sleep(0)

        async with embedded(message=message) as server, Peer(server) as peer:
            spying = asyncio.create_task(spy())
            while not spying.done():
                await peer.send_raw(peer.message("x"))
                await asyncio.sleep(0.001)
            await spying

    run_on(loop_kind, main())
    assert not found


def test_the_current_task_is_one_of_all(loop_kind: str) -> None:
    """Parked before or not; and in between it is not."""
    inside: list[bool] = []

    async def main() -> None:
        async def message(ws: Any, message: Any) -> None:
            inside.append(asyncio.current_task() in asyncio.all_tasks())

        async with embedded(message=message) as server, Peer(server) as peer:
            for number in range(1, 6):
                await peer.send_raw(peer.message("x"))
                await until(lambda number=number: len(inside) == number)
                await asyncio.sleep(0.002)
                assert not any(isinstance(task, _tasks.HandlerTask) for task in asyncio.all_tasks())

    run_on(loop_kind, main())
    assert inside == [True] * 5
