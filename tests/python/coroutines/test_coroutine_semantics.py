"""What a coroutine handler sees of asyncio, before and after it first suspends: as if it were a Task from the start."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from event_loops import LOOPS, Peer, embedded, run_on, until

from uwserve._run import tasks as _tasks

pytestmark = [
    pytest.mark.parametrize("loop_kind", LOOPS),
    pytest.mark.parametrize("spare", ["new", "parked", "fresh"]),
    pytest.mark.usefixtures("_spare"),
]

VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE", default="unset")


turns_before = 0
"""How many messages come before a test's own, each in a turn of its own: after them the Task of the next is parked."""


@pytest.fixture
def _spare(spare: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the test's first coroutine runs in; the last is what happens where looking for a Task goes unnoticed."""
    global turns_before
    turns_before = 0 if spare == "new" else 3
    if spare == "fresh":
        monkeypatch.setattr(_tasks, "TOOLS", (*_tasks.TOOLS[:-2], None, None))
    yield
    turns_before = 0


class Calls:
    """A message handler made of the functions that a test gives it: the n-th message runs the n-th."""

    def __init__(self, *functions: Any) -> None:
        self.functions = list(functions)
        self.results: asyncio.Queue[Any] = asyncio.Queue()
        self.seen = 0

    async def __call__(self, ws: Any, message: Any) -> None:
        self.seen += 1
        if message == "turn":
            return
        function = self.functions.pop(0)
        try:
            self.results.put_nowait(await function(ws))
        except BaseException as exc:
            self.results.put_nowait(exc)
            raise

    async def next(self) -> Any:
        return await asyncio.wait_for(self.results.get(), 10)

    async def come(self, peer: Peer) -> None:
        """The messages before the test's."""
        for number in range(turns_before):
            await peer.send("turn")
            await until(lambda number=number: self.seen > number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)


def conversation(loop_kind: str, *functions: Any, check: Any = None, **options: Any) -> list[Any]:
    """What each function returned or raised; every one gets its own message, all sent at once."""

    async def main() -> list[Any]:
        calls = Calls(*functions)
        async with embedded(message=calls, **options) as server, Peer(server) as peer:
            await calls.come(peer)
            await peer.send(*"x" * len(functions))
            results = [await calls.next() for _ in functions]
            if check is not None:
                await check(server)
            return results

    return run_on(loop_kind, main())


def test_each_has_a_task_of_its_own(loop_kind: str) -> None:
    """A Task that somebody has kept is not given to the next, whether the coroutine suspended or not."""

    async def eager(ws: Any) -> Any:
        return asyncio.current_task()

    async def suspending(ws: Any) -> Any:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        return before

    async def check(server: Any) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in results:
            assert task.done()
            assert task.exception() is None

    results: list[Any] = []

    async def main() -> None:
        calls = Calls(eager, suspending, eager, suspending, eager)
        async with embedded(message=calls) as server, Peer(server) as peer:
            await calls.come(peer)
            await peer.send(*"12345")
            results.extend([await calls.next() for _ in range(5)])
            assert len(set(map(id, results))) == 5
            assert all(isinstance(task, asyncio.Task) for task in results)
            await check(server)

    run_on(loop_kind, main())


def test_nothing_is_left_in_the_loop(loop_kind: str) -> None:
    """After its turn no Task of the server's is pending: all_tasks() can be waited for."""

    async def eager(ws: Any) -> Any:
        return None

    async def check(server: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        others = {task for task in asyncio.all_tasks() if "uwserve" in task.get_name()}
        assert not others
        assert not server.tasks

    conversation(loop_kind, eager, eager, eager, check=check)


def test_context_variables(loop_kind: str) -> None:
    """Set in one handler they are seen by it, later, and by nobody else; what the server was attached with, by all."""

    async def eager(ws: Any) -> Any:
        before = VARIABLE.get()
        VARIABLE.set("eager")
        return before

    async def equal(ws: Any) -> Any:  # equal to what was there, and yet another object
        before = VARIABLE.get()
        VARIABLE.set(Equal())
        return before

    async def suspending(ws: Any) -> Any:
        before = VARIABLE.get()
        VARIABLE.set("suspending")
        await asyncio.sleep(0)
        return before, VARIABLE.get()

    async def main() -> list[Any]:
        first = Equal()
        VARIABLE.set(first)
        calls = Calls(eager, equal, suspending, eager, equal, eager)
        async with embedded(message=calls) as server, Peer(server) as peer:
            await calls.come(peer)
            await peer.send(*"123456")
            results = [await calls.next() for _ in range(6)]
        assert VARIABLE.get() is first
        flat = [result[0] if isinstance(result, tuple) else result for result in results]
        assert all(value is first for value in flat), flat
        return [result for result in results if isinstance(result, tuple)]

    assert [after for _, after in run_on(loop_kind, main())] == ["suspending"]


class Equal:
    """All of them are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    __hash__ = None  # type: ignore[assignment]


def test_sleep_0_lets_others_run(loop_kind: str) -> None:
    """sleep(0) suspends for a turn of the loop, and the order of messages is that of their steps."""
    order: list[str] = []

    def step(name: str) -> Any:
        async def function(ws: Any) -> None:
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            order.append(f"{name} ends")

        return function

    conversation(loop_kind, step("a"), step("b"))
    assert order.index("b begins") < order.index("a ends") < order.index("b ends")


def test_wait_for_and_timeouts(loop_kind: str) -> None:
    """Timeouts that begin in the eager part end what suspends."""

    async def waits(ws: Any) -> Any:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        return "waited"

    async def in_time(ws: Any) -> Any:
        return await asyncio.wait_for(asyncio.sleep(0, "in time"), 10)

    assert sorted(conversation(loop_kind, waits, in_time)) == ["in time", "waited"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup begin with Python 3.11")
def test_timeout_and_task_group(loop_kind: str) -> None:
    async def times_out(ws: Any) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        assert asyncio.current_task().cancelling() == 0
        return "timed out"

    async def without_suspending(ws: Any) -> Any:
        async with asyncio.timeout(10):
            pass
        return "quick"

    async def group(ws: Any) -> Any:
        async def child(value: int) -> int:
            await asyncio.sleep(0)
            return value

        async with asyncio.TaskGroup() as tasks:
            children = [tasks.create_task(child(i)) for i in range(3)]
        return [task.result() for task in children]

    async def failing_group(ws: Any) -> Any:
        async def child() -> None:
            raise ZeroDivisionError

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())
                await asyncio.sleep(10)
        except BaseExceptionGroup as exc:  # noqa: F821  new in Python 3.11, as the test is
            return len(exc.exceptions)

    results = conversation(loop_kind, times_out, without_suspending, group, failing_group)
    assert sorted(map(str, results)) == ["1", "[0, 1, 2]", "quick", "timed out"]


def test_cancelled_before_it_was_a_task(loop_kind: str) -> None:
    """A cancellation between the eager step and the Task's first step ends what the coroutine waits for."""
    waited: list[asyncio.Future[Any]] = []

    async def cancelled(ws: Any) -> Any:
        task = asyncio.current_task()
        future = asyncio.get_running_loop().create_future()
        waited.append(future)
        asyncio.get_running_loop().call_soon(lambda: None)
        task.cancel("why")  # now: the Task has not begun
        try:
            await future
        except asyncio.CancelledError as exc:
            return "cancelled", exc.args[:1] if sys.version_info >= (3, 11) else ("why",)

    async def cancelled_in_sleep_0(ws: Any) -> Any:
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled in sleep(0)"

    async def with_a_result(ws: Any) -> Any:
        """The future has its result already, so the cancellation goes to the coroutine."""
        asyncio.current_task().cancel()
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            return "cancelled beside"

    async def next_one(ws: Any) -> Any:
        await asyncio.sleep(0)
        return "not touched"

    results = conversation(loop_kind, cancelled, cancelled_in_sleep_0, with_a_result, next_one)
    assert sorted(map(str, results)) == [
        "('cancelled', ('why',))",
        "cancelled beside",
        "cancelled in sleep(0)",
        "not touched",
    ]
    assert waited[0].cancelled()


def test_cancelled_and_yet_ended_at_once(loop_kind: str) -> None:
    """A coroutine that cancels its Task and never suspends: the next one does not get the cancellation."""

    async def cancels(ws: Any) -> Any:
        asyncio.current_task().cancel()
        return "cancelled itself"

    async def next_one(ws: Any) -> Any:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "not touched"

    assert (
        sorted(conversation(loop_kind, cancels, next_one, cancels, next_one))
        == ["cancelled itself"] * 2 + ["not touched"] * 2
    )


def test_done_callbacks_and_results_of_a_borrowed_task(loop_kind: str) -> None:
    """A Task that a coroutine borrowed and changed ends as the coroutine's: name, callbacks, result and exception."""
    done: list[Any] = []

    async def named(ws: Any) -> Any:
        asyncio.current_task().set_name("mine")
        asyncio.current_task().add_done_callback(lambda task: done.append((task.get_name(), task)))
        return None

    async def failing(ws: Any) -> Any:
        asyncio.current_task().add_done_callback(lambda task: done.append(("failing", task)))
        raise ZeroDivisionError("seen")

    async def check(server: Any) -> None:
        while len(done) < 2:
            await asyncio.sleep(0.001)

    async def plain(ws: Any) -> Any:
        return asyncio.current_task().get_name()

    errors: list[BaseException] = []
    results = conversation(loop_kind, named, failing, plain, check=check, ws_error=lambda exc, ws: errors.append(exc))
    assert [str(error) for error in errors] == ["seen"]
    assert results[2] != "mine"
    tasks = dict(done)
    assert tasks["mine"].result() is None
    assert isinstance(tasks["failing"].exception(), ZeroDivisionError)


def test_cancel_after_it_suspended(loop_kind: str) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def sleeper(ws: Any) -> Any:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(60)

    async def main() -> None:
        calls = Calls(sleeper)
        async with embedded(message=calls) as server, Peer(server) as peer:
            await calls.come(peer)
            await peer.send("x")
            while not tasks or tasks[0] not in server.tasks:
                await asyncio.sleep(0.001)
            assert tasks[0].get_name() == "uwserve websocket.message"
            assert "sleeper" in repr(tasks[0]) or "__call__" in repr(tasks[0])
            assert tasks[0].get_stack()
            assert tasks[0] in asyncio.all_tasks()
            tasks[0].cancel()
            assert isinstance(await calls.next(), asyncio.CancelledError)
            await asyncio.sleep(0.001)
            assert not server.tasks
            await peer.round_trip_ping()

    run_on(loop_kind, main())


def test_handlers_inside_handlers(loop_kind: str) -> None:
    """ws.close() runs an async close handler inside whatever calls it; each has a task of its own, and the outer one
    is the current one again after it."""
    seen: list[Any] = []

    async def close(ws: Any, code: int, reason: str) -> None:
        mine = asyncio.current_task()
        seen.append((code, mine))
        if code == 3001:
            await asyncio.sleep(0)
            assert asyncio.current_task() is mine

    async def message(ws: Any, message: str) -> None:
        before = asyncio.current_task()
        VARIABLE.set(message)
        ws.close(int(message))
        assert asyncio.current_task() is before
        assert VARIABLE.get() == message
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        seen.append(("message", before))

    async def main() -> None:
        sockets: list[Any] = []
        async with embedded(message=message, close=close, open=sockets.append) as server:
            for code in ("3000", "3001"):
                async with Peer(server) as peer:
                    await peer.send(code)
                    await peer.expect_close(int(code))
            async with Peer(server) as peer:
                me = asyncio.current_task()
                sockets[-1].close(3001)
                assert asyncio.current_task() is me
                await peer.expect_close(3001)
            async with Peer(server) as peer:
                asyncio.get_running_loop().call_soon(sockets[-1].close, 3000)
                await peer.expect_close(3000)
            while len(seen) < 6 or server.tasks:
                await asyncio.sleep(0.001)

    run_on(loop_kind, main())
    assert len({id(task) for _, task in seen}) == 6


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Task.uncancel begins with Python 3.11")
def test_cancelled_and_taken_back(loop_kind: str) -> None:
    """In one step: as of any Task, from Python 3.13 on nothing is left of it."""

    async def cancels(ws: Any) -> Any:
        task = asyncio.current_task()
        task.cancel()
        task.uncancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled"
        return "not cancelled"

    async def of_any_task() -> Any:
        return await asyncio.create_task(cancels(None))

    assert conversation(loop_kind, cancels) == [run_on(loop_kind, of_any_task())]
