"""The program of test_call_fuzz.py: each attribute and method of each object that Python can reach, with any argument.

``call_fuzz.py SEED SECONDS STATE``. Prints what it is about to do to the file ``UWSERVE_FUZZ_LOG`` names, if set.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import faulthandler
import gc
import logging
import operator
import os
import pickle
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import ws_client

import uwserve
from uwserve import _core

seed, seconds, state = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
rng = random.Random(f"{seed} {state}")
faulthandler.dump_traceback_later(seconds + 25, exit=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # a handler of it, called by hand, sends it again
logging.getLogger("uwserve").addHandler(logging.NullHandler())
logging.getLogger("uwserve").propagate = False
sys.unraisablehook = lambda unraisable: None
threading.excepthook = lambda args: None
warnings.simplefilter("ignore")
log = Path(os.environ["UWSERVE_FUZZ_LOG"]).open("w", buffering=1) if "UWSERVE_FUZZ_LOG" in os.environ else None  # noqa: SIM115

# --- objects that misbehave ---


class Nasty:
    """Every protocol of it raises, re-enters, or answers nonsense."""

    def _act(self, *arguments: Any, **named: Any) -> Any:
        choice = rng.randrange(6)
        if choice == 0:
            raise ZeroDivisionError
        if choice == 1:
            raise BaseException("nasty")
        if choice == 2 and depth[0] < 3:
            step()
        if choice == 3:
            gc.collect(0)
        return rng.choice((0, -1, 1 << 70, "x", b"x", None, True, self, 1.5))

    __index__ = __bool__ = __hash__ = __len__ = __iter__ = __next__ = __call__ = __float__ = __str__ = __repr__ = _act
    __getitem__ = __enter__ = __exit__ = __await__ = __aiter__ = __anext__ = __int__ = __buffer__ = __contains__ = _act
    cancel = done = cancelled = exception = result = send = throw = close = wake = get_loop = is_closed = get_coro = (
        _act
    )
    set_result = add_done_callback = call_soon_threadsafe = create_future = keys = items = read = _act

    def __eq__(self, other: object) -> Any:
        return self._act()

    def __del__(self) -> None:
        if depth[0] < 3 and rng.random() < 0.2:
            step()


class NastyStr(str):
    __eq__ = Nasty.__eq__
    __hash__ = str.__hash__


class NastyBytes(bytes):
    def __del__(self) -> None:
        if depth[0] < 3 and rng.random() < 0.2:
            step()


class NastyInt(int):
    __index__ = __bool__ = Nasty._act


def released() -> memoryview:
    view = memoryview(b"released")
    view.release()
    return view


async def coroutine() -> Any:
    await asyncio.sleep(0)
    return rng.choice((None, Nasty()))


async def agenerator() -> Any:
    yield b"x"


def generator() -> Any:
    yield b"x"
    yield Nasty()


def value() -> Any:
    """An argument."""
    kind = rng.randrange(34)
    if kind < 6:
        return rng.choice(
            (None, True, False, 0, 1, -1, 3, 1000, 1005, 4999, 65535, 1 << 31, 1 << 63, 1 << 200, -(1 << 64))
        )
    if kind < 10:
        return rng.choice(
            ("", "t", "a topic", "\ud800", "x" * 200, "é" * 70, "\0", "text", "bytes", "memoryview", "send")
        )
    if kind < 13:
        return rng.choice((b"", b"x", b"x" * 20000, bytearray(b"x"), memoryview(b"x"), memoryview(b"xyzxyz")[::2]))
    if kind == 13:
        return released()
    if kind == 14:
        return rng.choice((float("nan"), float("inf"), 0.5, -1.0, 1e300, 1j))
    if kind == 15:
        return rng.choice(({}, [], (), set(), {"code": 1000}, [("a", "b")], ("x",) * 8, {"websocket": {}}, range(3)))
    if kind == 16:
        return rng.choice((Nasty(), NastyStr("t"), NastyBytes(b"x" * 30000), NastyInt(3)))
    if kind == 17:
        return rng.choice((Nasty, object, type, ValueError, ValueError("x"), BaseException(), asyncio.CancelledError))
    if kind == 18:
        return rng.choice(
            (lambda *a, **k: Nasty()._act(), print_nothing, iter([b"x", Nasty()]), generator(), agenerator())
        )
    if kind == 19:
        made = coroutine()
        trash.append(made)
        return made
    if kind == 20:
        return uwserve.Response(rng.choice(("x", b"x", None)))
    if kind == 21:
        return (Nasty()._act,) * 8
    if kind == 22:
        ended: concurrent.futures.Future[Any] = concurrent.futures.Future()  # one that has not would be waited for
        ended.set_result(rng.choice((None, "x", Nasty())))
        return rng.choice((loop, ended))
    return pick()


def print_nothing(*arguments: Any, **named: Any) -> None:
    pass


# --- what there is to call ---

depth = [0]
known: list[Any] = []
trash: list[Any] = []
BLOCKING = {
    "run", "wait", "wait_until_started", "join", "start", "serve_forever", "_end", "__exit__", "__aexit__", "result",
    "exception", "acquire", "acquire_lock", "_acquire_restore", "_wait_for_tstate_lock", "run_loop", "pump",
    "attach_core",
}  # fmt: skip
# They end the process, or Python's own modules, as they are meant to.
FORBIDDEN = {
    "__class__",
    "__dict__",
    "_exit",
    "__subclasshook__",
    "__init_subclass__",
    "mro",
    "__setattr__",
    "__delattr__",
}
# Python's own arithmetic with our numbers would take for ever, or all memory: ReadyState is an int.
FORBIDDEN |= {"__pow__", "__rpow__", "__lshift__", "__rlshift__", "__mul__", "__rmul__", "to_bytes", "__round__"}
OURS = ("uwserve",)
# The parts of a server that its one private attribute leads to: no code of a user gets there by mistake.
PRIVATE = {"Control", "Embedded", "LoopAttachment", "RunState", "Runner", "Stopping"}


def is_ours(kind: type) -> bool:
    module = getattr(kind, "__module__", None)
    if not isinstance(module, str) or (module.startswith("uwserve._run.") and kind.__name__ in PRIVATE):
        return False
    return module.startswith(OURS) or kind.__name__.startswith("pybind11")


def pick() -> Any:
    return rng.choice(known) if known else None


def remember(thing: Any) -> None:
    kind = type(thing)
    if is_ours(kind) or (isinstance(thing, type) and is_ours(thing)):
        if len(known) < 300:
            known.append(thing)
        else:
            known[rng.randrange(len(known))] = thing


def discover() -> None:
    """All that the collector sees of ours, and what it does not but is one attribute away."""
    for thing in gc.get_objects():
        if is_ours(type(thing)):
            remember(thing)
    remember(_core.ServerWebSocket)
    for module in [module for name, module in list(sys.modules.items()) if name.startswith(OURS)]:
        for thing in list(vars(module).values()):
            if isinstance(thing, type) and is_ours(thing):
                remember(thing)


def uninitialised(kind: type) -> Any:
    if issubclass(kind, (asyncio.Task, asyncio.Future)):
        return None  # asyncio's own, without __init__, crash CPython 3.11
    how = rng.randrange(5)
    if how == 0:
        return kind.__new__(kind)
    if how == 1:
        return object.__new__(kind)
    if how == 2:
        return kind(*(value() for _ in range(rng.randrange(3))))
    if how == 3:
        sub = type("Sub", (kind,), {"__init__": lambda self, *a: None} if rng.random() < 0.5 else {})
        return rng.choice((sub, sub.__new__))() if rng.random() < 0.5 else sub.__new__(sub)
    return kind.__call__()


def copied(thing: Any) -> Any:
    how = rng.randrange(4)
    if how == 0:
        return copy.copy(thing)
    if how == 1:
        return copy.deepcopy(thing) if not isinstance(thing, type) else None
    if how == 2:
        return pickle.dumps(thing, rng.randrange(6))
    return thing.__reduce_ex__(rng.randrange(6))


def step() -> None:
    """One thing done to one object. Whatever it raises is fine."""
    depth[0] += 1
    try:
        thing = pick()
        what = rng.randrange(20)
        if what == 0:
            kind = thing if isinstance(thing, type) else type(thing)
            if is_ours(kind) and kind not in (uwserve.Server,):
                remember(uninitialised(kind))
            elif is_ours(kind):
                remember(kind.__new__(kind))
            return
        if what == 1:
            remember(copied(thing))
            return
        if what == 2:
            rng.choice((repr, hash, len, iter, next, bool, list, dir, vars, gc.get_referents, memoryview, bytes))(thing)
            return
        if what == 3:
            operator.eq(thing, value())
            return
        name = rng.choice(dir(thing))
        if name in FORBIDDEN or name in BLOCKING or isinstance(thing, concurrent.futures.Future):
            return
        if log:
            log.write(f"{type(thing).__name__} {thing!r:.60} {name}\n" if not isinstance(thing, Nasty) else "")
        if what == 4 and not isinstance(thing, type) and not name.startswith("_"):
            if not isinstance(thing, uwserve.Server) or name in ("data",):
                setattr(thing, name, value())
            return
        attribute = getattr(thing, name)
        remember(attribute)
        if callable(attribute) and not isinstance(attribute, type):
            if name == "__init__" and isinstance(thing, uwserve.Server) and rng.random() < 0.5:
                return
            arguments = [value() for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 2, 3, 4)))]
            named = {rng.choice(NAMES): value()} if rng.random() < 0.1 else {}
            if name == "stop" and state != "stopping" and thing is server:
                return
            remember(attribute(*arguments, **named))
    except (KeyboardInterrupt, SystemExit):
        pass
    except BaseException:
        pass
    finally:
        depth[0] -= 1


NAMES = [
    "code",
    "reason",
    "data",
    "topic",
    "compress",
    "headers",
    "protocol",
    "callback",
    "below",
    "timeout",
    "seconds",
]

# --- a live server ---


met = threading.Event()  # a client's socket has come to a handler


def handler(ws: Any, *rest: Any) -> None:
    remember(ws)
    met.set()
    for thing in rest:
        remember(thing)
    if state == "in handler" and time.monotonic() < end:
        for _ in range(30):
            step()
    if rest and isinstance(rest[0], memoryview) and rng.random() < 0.3:
        trash.append(rest[0][1:])
    if rng.random() < 0.2:
        remember(ws.messages())


async def async_handler(ws: Any, *rest: Any) -> None:
    remember(asyncio.current_task().get_coro())  # type: ignore[union-attr]
    handler(ws, *rest)
    if rng.random() < 0.5:
        await asyncio.sleep(0)
    if rng.random() < 0.1:
        iterator = ws.messages()
        remember(iterator)
        waits = iterator.__anext__()
        remember(waits)
        try:
            await asyncio.wait_for(asyncio.ensure_future(waits), 0.01)
        except Exception:
            pass


async def fetch(request: Any, server: Any) -> Any:
    remember(request)
    remember(request.headers)
    if state == "in handler":
        for _ in range(10):
            step()
    await asyncio.sleep(0)
    if request.path == "/ws":
        return None if server.upgrade(request) else "no"
    return rng.choice(("text", uwserve.Response(generator()), uwserve.Response(agenerator())))


def options() -> dict[str, Any]:
    return {
        "open": handler,
        "message": rng.choice((handler, async_handler)),
        "close": rng.choice((handler, async_handler)),
        "ping": handler,
        "serial": rng.random() < 0.3,
    }


loop = asyncio.new_event_loop()
end = time.monotonic() + seconds
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket=options())
remember(server)
remember(_core.TimedCall(print_nothing))
address = ("127.0.0.1", server.port)


def clients() -> None:
    """Real ones, which come and go."""
    side = random.Random(seed)
    while time.monotonic() < end and not server.finished:
        try:
            with ws_client.Client(address, "/ws") as client:
                for _ in range(side.randrange(8)):
                    client.send(side.choice(("text", b"b", b"x" * 40000, "")))
                    client.ping(b"p")
                client.sock.settimeout(0.05)
                if side.random() < 0.5:
                    client.send_close(1000)
                client.sock.recv(4096)
        except (OSError, ws_client.ConnectionEnded, AssertionError):
            pass
        try:
            import socket

            with socket.create_connection(address, 0.2) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                plain.settimeout(0.05)
                plain.recv(100)
        except OSError:
            pass


def fuzz() -> None:
    count = 0
    while time.monotonic() < end:
        if count % 500 == 0:
            discover()
            trash.clear()
        count += 1
        step()


server.start()
threading.Thread(target=clients, daemon=True).start()
met.wait(10)
discover()
if state == "on the loop":

    def some() -> None:
        for _ in range(200):
            step()
        if time.monotonic() < end:
            server.call_soon(some)
        else:
            over.set()

    over = threading.Event()
    server.call_soon(some)
    over.wait(seconds + 1)  # a step may have ended the server, and nothing runs on it then
elif state == "stopped":
    server.stop(True).wait(20)
    loop.close()
    fuzz()
else:
    fuzz()
if state == "stopping":
    with contextlib.suppress(Exception):  # a second __init__ may have taken any options
        server.stop(True)
log = None
print("alive", flush=True)
os._exit(0)
