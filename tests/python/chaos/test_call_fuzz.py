"""No object that Python can reach crashes or hangs, whatever is called on it, in whatever state.

The calls are random, from a seed, and made in a process of their own (call_fuzz.py). ``UWSERVE_FUZZ=seed,...`` runs
other seeds, ``UWSERVE_FUZZ_SECONDS`` longer; ``UWSERVE_FUZZ_LOG`` names a file that ends with the crash.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
from typing import Any

import pytest
from paths import PROGRAMS

import uwserve
from uwserve import _core

pytestmark = pytest.mark.plain("the servers run in processes of their own")

SEEDS = os.environ.get("UWSERVE_FUZZ", "1").split(",")
SECONDS = os.environ.get("UWSERVE_FUZZ_SECONDS", "2")
PROGRAM = (PROGRAMS / "call_fuzz.py").read_text()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("state", ["live", "in handler", "on the loop", "stopping", "stopped"])
def test_random_calls(script, state, seed):
    """From another thread, inside handlers, on the loop between them, on a server that stops, and after its end.

    A step may wait for something by itself, which depends on the other threads' timing; what hangs in the server hangs
    again. So a run that its watchdog ends is shown, and repeated once.
    """
    first = script(PROGRAM, seed, SECONDS, state)
    output, errors = first.process.communicate(timeout=float(SECONDS) + 40)
    if first.process.returncode == 1 and "\nTimeout (" in f"\n{errors}":
        print(f"seed {seed}, {state}:\n{errors}")
    else:
        assert (first.process.returncode, output[-6:]) == (0, "alive\n"), f"seed {seed}\n{output}\n{errors}"
        return
    assert script(PROGRAM, seed, SECONDS, state).finish(timeout=float(SECONDS) + 40).endswith("alive\n"), f"seed {seed}"


class Bare(_core.ServerCore[Any]):
    """Its ``__init__`` does not call ours."""

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("kind", [uwserve.Server, _core.ServerCore, _core.ServerControl, Bare])
def test_what_was_not_initialised(kind):
    """Each member raises TypeError or AttributeError, and says why; so does calling a class that leaves ours out."""
    bare = kind.__new__(kind)
    for name in dir(kind):
        if name.startswith("_") or name in ("check_close", "serve_forever"):  # one is static, one makes a coroutine
            continue
        with pytest.raises((TypeError, AttributeError)) as caught:
            getattr(bare, name)()
        assert str(caught.value), name
    with pytest.raises(TypeError, match=r"not initialised|not a server"):
        _core.ServerControl(bare)
    with pytest.raises(TypeError):
        Bare()


def test_a_core_without_hooks():
    """Initialised, but made without the facade: nothing can be started in it."""
    server = _core.ServerCore()
    core = _core.ServerControl(server)
    for call in (
        lambda: core.listen_tcp(["127.0.0.1"], 0, False, False),
        lambda: core.loop_reader(print),
        lambda: core.run_loop(),
        lambda: core.attach_core(),
        lambda: server.call_soon(print),
    ):
        with pytest.raises(RuntimeError):
            call()
    assert server.stats()["requests"]["total"] == 0


def test_a_control_object_keeps_its_server():
    """It refers to the server, which lives as long; made of anything else it raises TypeError."""
    core = _core.ServerControl(_core.ServerCore())
    gc.collect()
    assert core.forced is False
    for wrong in (None, 3, core, _core.ServerControl):
        with pytest.raises(TypeError):
            _core.ServerControl(wrong)
    with pytest.raises(TypeError):
        copy.copy(core)


def test_pybind11s_own_base_class():
    """What is no class of C++ is not made into one: an exception, and not the end of the process."""
    base = next(kind for kind in _core.ServerCore.__mro__ if kind.__name__ == "pybind11_object")
    for make in (base, lambda: base.__new__(base), lambda: type("Sub", (base,), {})(), lambda: copy.copy(base)()):
        with pytest.raises((RuntimeError, TypeError)):
            make()


def test_a_handlers_coroutine_that_is_called_by_hand(serving):
    """Its methods, which asyncio calls, called by hand: before it has suspended, and after."""
    outcomes = []

    def outcome(call, *arguments):
        try:
            return call(*arguments)
        except BaseException as exc:
            return type(exc).__name__

    async def message(ws, text):
        task = asyncio.current_task()
        coroutine = task.get_coro()
        outcomes.append(outcome(coroutine.ended, object()) if hasattr(coroutine, "ended") else "RuntimeError")
        await asyncio.sleep(0)
        outcomes.append(outcome(coroutine.throw, 3))
        for name in ("ended", "touch", "forget", "send", "close"):
            if hasattr(coroutine, name):
                outcome(getattr(coroutine, name), *([task] if name != "close" else []))
        ws.send("well")

    live = serving(message=message)
    client, _ = live.open()
    for _ in range(2):
        client.send("go")
        assert client.read_message() == "well"
    assert set(outcomes[::2]) <= {"RuntimeError", "AttributeError"}  # without a Task, or for lack of a Task's methods
    assert set(outcomes[1::2]) == {"TypeError"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_copies(serving, protocol):
    """Handles and servers are what they refer to: TypeError, and no half of one."""
    live = serving()
    _, ws = live.open()
    for thing in (ws, live.server):
        with pytest.raises(TypeError):
            pickle.dumps(thing, protocol)
        with pytest.raises(TypeError):
            copy.copy(thing)
        with pytest.raises(TypeError):
            copy.deepcopy(thing)
