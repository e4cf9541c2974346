"""The Task that is parked between the turns of the loop: it serves many coroutines and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import uvloop
from event_loops import LOOPS, Peer, embedded, run_on, until
from test_coroutine_semantics import Calls, conversation

from uwserve._run import tasks as _tasks

pytestmark = pytest.mark.parametrize("loop_kind", LOOPS)


def test_no_current_task_between(loop_kind: str) -> None:
    """Plain functions on the loop's thread run outside any task, also between two coroutines of one iteration."""
    seen: list[Any] = []

    async def main() -> None:
        async def message(ws: Any, message: Any) -> None:
            seen.append(asyncio.current_task() is not None)

        def ping(ws: Any, data: bytes) -> None:
            seen.append(asyncio.current_task())

        async with embedded(message=message, ping=ping) as server, Peer(server) as peer:
            server.call_soon(lambda: seen.append(asyncio.current_task()))
            await peer.send_raw(peer.message("1") + peer.ping() + peer.message("2") + peer.ping())
            while len(seen) < 5:
                await asyncio.sleep(0.001)

    run_on(loop_kind, main())
    assert seen.count(None) == 3
    assert seen.count(True) == 2


def test_tasks_are_freed(loop_kind: str) -> None:
    references: list[weakref.ref[Any]] = []

    async def suspending(ws: Any) -> None:
        references.append(weakref.ref(asyncio.current_task()))
        await asyncio.sleep(0)

    async def eager(ws: Any) -> None:
        references.append(weakref.ref(asyncio.current_task()))

    conversation(loop_kind, *[suspending, eager] * 20)
    gc.collect()
    assert [reference() for reference in references] == [None] * 40


def test_one_task_for_all_turns(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unseen Task is parked in between and serves again; a call that looks, or suspends, uses one up."""
    made = [0]

    def make_task(*arguments: Any) -> Any:
        made[0] += 1
        return _tasks._make_task(*arguments)

    monkeypatch.setattr(_tasks, "TOOLS", (make_task, *_tasks.TOOLS[1:]))

    async def eager(ws: Any) -> None:
        ws.send("eager")

    async def looking(ws: Any) -> None:
        asyncio.current_task()

    async def suspending(ws: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> list[int]:
        counts = []
        functions = [*[eager] * 5, suspending, *[eager] * 5, looking, *[eager] * 5]
        calls = Calls(*functions)
        async with embedded(message=calls) as server, Peer(server) as peer:
            for _ in functions:
                await peer.send("x")
                await calls.next()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert not any("uwserve" in task.get_name() for task in asyncio.all_tasks())
                counts.append(made[0])
        return counts

    counts = run_on(loop_kind, main())
    if _tasks.TOOLS[-1] is None:
        assert counts == list(range(1, 18))
    else:
        assert counts == [1] * 6 + [2] * 6 + [3] * 5


def test_a_loop_that_ends_with_a_parked_task(loop_kind: str) -> None:
    """Closed under the server: no word of a Task that is destroyed while it waits, and it goes with the server."""
    seen: list[Any] = []
    loop = uvloop.new_event_loop() if loop_kind == "uvloop" else asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    messages: list[Any] = []

    async def message(ws: Any, message: Any) -> None:
        messages.append(message)

    server = embedded(message=message)

    async def main(server: Any) -> None:
        await server.__aenter__()
        async with Peer(server) as peer:
            for _ in range(3):
                await peer.send("x")
                await asyncio.sleep(0.001)
            await until(lambda: len(messages) == 3)
            await asyncio.sleep(0)

    loop.run_until_complete(main(server))
    loop.close()
    server.stop(True)
    assert server.finished
    del server
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, _tasks.HandlerTask)]
    assert not seen


def test_the_reader_takes_nothing(loop_kind: str) -> None:
    server = embedded()
    reader = server._control.core.loop_reader(lambda state: None)
    with pytest.raises(TypeError, match="no arguments"):
        reader(1)
    with pytest.raises(TypeError, match="no arguments"):
        reader(state=1)
    assert reader() is None  # not attached: nothing to do
    server.stop(True)
