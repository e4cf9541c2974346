"""Each call of a coroutine handler has a Task of its own: what one client's handler leaves there, no other's finds.

A call leaves all that can be left on a Task and keeps no reference to it; the next call, for another client, must have
a Task like one that nothing has happened to, and not the same one.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import asgiref.local
import pytest
from server_modes import ask, connect, serving, two_clients, upgrade
from ws_client import TIMEOUT, eventually

from uwserve import Response
from uwserve._run import tasks as _tasks

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")
SHARED = _tasks.TOOLS[-1] is not None
SPOILT = "spoilt"


@pytest.fixture(params=["shared", "fresh"])
def tools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where looks are noticed, and where they cannot be (CPython 3.14)."""
    if request.param == "fresh":
        monkeypatch.setattr(_tasks, "TOOLS", (*_tasks.TOOLS[:-2], None, None))
    return


# --- what can be left, and found ---


class Traces:
    """Of the calls of handlers, by everything that libraries keep things by."""

    def __init__(self) -> None:
        self.by_task: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self.by_id: dict[int, str] = {}
        self.references: list[weakref.ref[Any]] = []
        self.coroutines: list[Any] = []
        self.contexts: list[Any] = []
        self.called: list[Any] = []
        self.local = asgiref.local.Local()

    def leave(self, task: Any) -> None:
        self.by_task[task] = SPOILT
        # As those who use ids must: an address is another object's as soon as the first one is gone.
        self.by_id[id(task)] = SPOILT
        weakref.finalize(task, self.by_id.pop, id(task), None)
        self.references.append(weakref.ref(task))
        self.coroutines.append(task.get_coro())
        if hasattr(task, "get_context"):
            self.contexts.append(task.get_context())
        task.add_done_callback(lambda _: self.called.append(SPOILT))
        task.set_name(SPOILT)
        task.cancel(SPOILT)
        if hasattr(task, "uncancel"):
            task.cancel()
            task.uncancel()
        task.secret = SPOILT
        for name in set(dir(task)) - {"get_loop", "done"}:  # which all_tasks() calls, until this one has ended
            try:
                setattr(task, name, SPOILT)
            except (AttributeError, TypeError, ValueError):
                pass
        VARIABLE.set(SPOILT)
        self.local.user = SPOILT

    def found(self, task: Any) -> list[str]:
        if task is None:
            return ["no task"]
        answers = {
            "weak key": task in self.by_task,
            "id": id(task) in self.by_id,
            "object": any(reference() is task for reference in self.references),
            "coroutine": any(coroutine is task.get_coro() for coroutine in self.coroutines),
            "context": hasattr(task, "get_context") and any(c is task.get_context() for c in self.contexts),
            "variable": VARIABLE.get() != "unset",
            "local": hasattr(self.local, "user"),
            "attributes": hasattr(task, "secret"),
        }
        return [name for name, answer in answers.items() if answer] + differences(task)


def differences(task: Any) -> list[str]:
    """The attributes of the Task, whatever they are in this Python, that are not as those of a new one."""
    loop = task.get_loop()

    async def nothing() -> None:
        pass

    coroutine = nothing()
    new = type(task)(coroutine, loop=loop, name="uwserve")
    mine, theirs = summary(task), summary(new)
    new.cancel()
    return [f"{name}: {mine.get(name)!r}" for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]


def summary(task: Any) -> dict[str, Any]:
    its_own = {"_coro", "get_coro", "__class__", "__doc__", "__module__", "__init_subclass__", "__slots__"}
    of_its_stage = {"_fut_waiter", "_log_destroy_pending", "_source_traceback", "__sizeof__"}
    return {
        name: value if isinstance(value := getattr(task, name), (str, int, bool, list, tuple, dict)) else type(value)
        for name in dir(task)
        if name not in its_own | of_its_stage
    }


# --- the ways to come by a Task ---


def table() -> Any:
    return asyncio.tasks._current_tasks  # type: ignore[attr-defined]


def references() -> Any:
    return getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", None))


def handler_tasks(objects: Any) -> list[Any]:
    return [found for found in objects if isinstance(found, _tasks.HandlerTask)]


def elsewhere(look: Callable[[Any], Any]) -> list[Any]:
    """What another thread finds while this handler runs."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=lambda: found.append(look(loop)))
    thread.start()
    thread.join(TIMEOUT)
    return found


def eagerly() -> list[Any]:
    async def nothing() -> None:
        pass

    coroutine = nothing()
    if sys.version_info < (3, 12):
        coroutine.close()
        return [asyncio.current_task()]
    asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    return handler_tasks(asyncio.all_tasks())


WAYS: dict[str, Callable[[], list[Any]]] = {
    "current_task": lambda: [asyncio.current_task()],
    "current_task(loop)": lambda: [asyncio.current_task(asyncio.get_running_loop())],
    "all_tasks": lambda: handler_tasks(asyncio.all_tasks()),
    "all_tasks(loop)": lambda: handler_tasks(asyncio.all_tasks(asyncio.get_running_loop())),
    "table.get": lambda: [table().get(asyncio.get_running_loop())],
    "table[]": lambda: [table()[asyncio.get_running_loop()]],
    "in table": lambda: [asyncio.current_task()] if asyncio.get_running_loop() in table() else [],
    "table.values": lambda: handler_tasks(table().values()),
    "table.items": lambda: handler_tasks(value for _, value in list(table().items())),
    "table.copy": lambda: handler_tasks([table().copy().get(asyncio.get_running_loop())]),
    "references": lambda: handler_tasks(list(references())),
    "reference": lambda: handler_tasks([found() for found in list(references().data)]),
    "thread, current_task": lambda: elsewhere(asyncio.current_task),
    "thread, all_tasks": lambda: [task for tasks in elsewhere(asyncio.all_tasks) for task in handler_tasks(tasks)],
    "eager task": eagerly,
    "gc": lambda: [found for found in handler_tasks(gc.get_objects()) if not found.done()],
    "gc, referrers": lambda: handler_tasks(gc.get_referrers(asyncio.get_running_loop())),
}
ALWAYS_FINDS = set(WAYS) - {"table.values", "table.items", "table.copy", "gc", "gc, referrers"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_however_it_is_found(loop_kind: str, way: str) -> None:
    """What is left on a Task that was come by in that way is found by no other call, in no way."""
    if way == "gc, referrers" and loop_kind == "uvloop":
        pytest.skip("uvloop's loop is not in the garbage collector's hands")
    seen: list[Any] = []
    traces = Traces()

    async def message(ws: Any, message: str) -> None:
        try:
            if message == "leave":
                tasks = WAYS[way]()
                assert tasks or way not in ALWAYS_FINDS
                for task in tasks:
                    if not hasattr(task, "secret"):  # of a call that has ended, and not freed yet
                        traces.leave(task)
                seen.append(len(tasks))
            else:
                seen.append(traces.found(asyncio.current_task()))
        except Exception as exc:
            seen.append(repr(exc))

    with two_clients(loop_kind, message=message) as (first, second):
        for _ in range(2):  # warm up: the Task of the next turn is one that was parked
            first.send("look")
            eventually(lambda: len(seen) % 4 == 1)
            first.send("leave")
            first.send("look")
            second.send("look")
            eventually(lambda: len(seen) % 4 == 0)
    assert [found for found in seen if found != [] and not isinstance(found, int)] == []


# --- everywhere ---


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", ["open", "message", "close", "ping", "pong", "error", "drain", "fetch", "route"])
def test_in_every_handler(mode: str, kind: str) -> None:
    """The second client's handler finds nothing of the first one's, whatever handler it is."""
    traces = Traces()
    seen: list[list[str]] = []

    async def handler(*arguments: Any) -> Any:
        task = asyncio.current_task()
        seen.append(traces.found(task))
        traces.leave(task)
        return Response.json(seen[-1]) if kind in ("fetch", "route") else None

    async def failing(ws: Any, message: str) -> None:
        raise ValueError(message)

    async def filling(ws: Any, message: str) -> None:
        ws.send(b"x" * (8 << 20))

    websocket: dict[str, Any] = {"message": lambda ws, message: None}
    if kind in ("open", "message", "close", "ping", "pong", "error", "drain"):
        websocket[kind] = handler
    if kind == "error":
        websocket["message"] = failing
    if kind == "drain":
        websocket["message"] = filling
    options: dict[str, Any] = {"fetch": handler if kind == "fetch" else upgrade, "websocket": websocket}
    if kind == "route":
        options["routes"] = {"/route": handler}
    with serving(mode, **options) as server:
        for number in range(1, 4):
            if kind in ("fetch", "route"):
                assert ask(server, f"/{kind}") == []
                continue
            with connect(server) as client:
                if kind == "ping":
                    client.ping(b"x")
                elif kind == "pong":
                    client.pong(b"x")
                elif kind in ("message", "error"):
                    client.send("x")
                elif kind == "drain":
                    client.send("x")
                    client.fill_until(lambda number=number: len(seen) >= number)
                elif kind == "close":
                    client.send_close(1000)
                eventually(lambda number=number: len(seen) >= number)
    assert len(seen) >= 3
    assert [found for found in seen if found] == []


@pytest.mark.usefixtures("tools")
def test_when_a_library_keeps_the_user_by_task(mode: str) -> None:
    """As reported: an anonymous message must not see the name of the client before, whichever of its calls looked."""
    users: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
    local = asgiref.local.Local()

    async def message(ws: Any, message: str) -> None:
        task: Any = asyncio.current_task()
        if message:
            users[task] = local.user = task.user = message
        ws.send(f"{users.get(task)} {getattr(local, 'user', None)} {getattr(task, 'user', None)}")

    with two_clients(mode, message=message) as (first, second):
        for _ in range(3):
            first.send("alice")
            second.send("")
            assert first.read_message() == "alice alice alice"
            assert second.read_message() == "None None None"
            first.send("")
            assert first.read_message() == "None None None"


@pytest.mark.usefixtures("tools")
def test_many_at_once(mode: str) -> None:
    """In one burst of messages, of calls that suspend, look, or do neither, no two have the same Task."""
    live: list[Any] = []
    users: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
    wrong: list[Any] = []
    done = [0]

    async def message(ws: Any, message: str) -> None:
        number = int(message)
        if number % 3:
            task: Any = asyncio.current_task()
            wrong.extend([users[task]] if task in users else [])
            users[task] = number
            if number % 2:
                live.append(task)
            if number % 5 == 0:
                await asyncio.sleep(0)
                wrong.extend([] if users[task] == number and asyncio.current_task() is task else [number])
        done[0] += 1

    with two_clients(mode, message=message) as (first, second):
        for number in range(0, 600, 2):
            first.send(str(number))
            second.send(str(number + 1))
        eventually(lambda: done[0] == 600)
    assert not wrong
    assert len(set(map(id, live))) == len(live)
    assert all(task.done() for task in live)


def test_a_task_that_was_not_seen_costs_none(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the probe is for: a thousand calls that look for nothing are served by a few Tasks."""
    if not SHARED:
        pytest.skip("looking for the current task goes unnoticed in this Python: each call has a fresh Task")
    made = [0]

    def make_task(*arguments: Any) -> Any:
        made[0] += 1
        return _tasks._make_task(*arguments)

    monkeypatch.setattr(_tasks, "TOOLS", (make_task, *_tasks.TOOLS[1:]))

    async def message(ws: Any, message: str) -> None:
        ws.send(message)

    with serving(mode, fetch=upgrade, websocket={"message": message}) as server, connect(server) as client:
        for number in range(1000):
            client.send(str(number))
            if number % 100 == 99:
                client.read_messages(100)
    assert made[0] <= 3


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("factory", ["plain", "eager"])
def test_a_task_factory_makes_them_all(loop_kind: str, factory: str) -> None:
    """One for each call, also when it is set while the server runs; an eager one steps nothing before its time."""
    if factory == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks begin with Python 3.12")
    made: list[Any] = []
    traces = Traces()

    def make(loop: Any, coroutine: Any, **options: Any) -> Any:
        kwargs = {"eager_start": True} if factory == "eager" else {}
        task: Any = asyncio.Task(coroutine, loop=loop, **(options | kwargs))
        made.append(task)
        return task

    async def message(ws: Any, message: str) -> None:
        if message == "set":
            asyncio.get_running_loop().set_task_factory(make)
        else:
            task = asyncio.current_task()
            found = task not in made or traces.found(task)
            if message == "suspend":
                traces.by_task[task] = SPOILT
                await asyncio.sleep(0)
            else:
                traces.leave(task)
            assert asyncio.current_task() is task
            ws.send(str(found))
            return
        ws.send("set")

    with (
        serving(loop_kind, fetch=upgrade, websocket={"message": message}) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        first.send("set")
        assert first.read_message() == "set"
        for client, text in ((first, "leave"), (second, "leave"), (first, "suspend"), (second, "leave")):
            client.send(text)
            assert client.read_message() == "[]"
        server.call_soon(lambda: asyncio.get_running_loop().set_task_factory(None))
        first.round_trip()
    assert len(made) >= 4
