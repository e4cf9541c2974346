"""Random calls of everything, from everywhere, while real clients come and go.

``chaos_calls.py SEED SECONDS MODE [uvloop]``.

MODE is ``run``, ``start`` or ``asyncio``. Servers live for about a second each, one after the other, until the time is
over. Handlers (plain ones and coroutines), two foreign threads and ``messages()`` in another thread's event loop call
what there is; servers are stopped and reloaded from anywhere, processes are forked. What must hold:

- the process lives, and each server ends within 20 seconds of its stop;
- every socket that was opened is closed, once;
- no handler runs under another's, but for the socket that the outer one closes, or the request that it upgrades;
- a client reads well-formed frames of its own socket's messages, and those of topics: nothing of another connection.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import gc
import logging
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from chaos_clients import Crowd

import uwserve
from uwserve import _core

SEED, SECONDS, MODE = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
BEGUN = time.monotonic()
SLOW = 10 if "UWSERVE_SANITIZED" in os.environ else 1  # sanitizers are
faulthandler.enable()
faulthandler.dump_traceback_later(SECONDS + 120 * SLOW, exit=True)
logging.getLogger("uwserve").addHandler(logging.NullHandler())
logging.getLogger("uwserve").propagate = False
logging.getLogger("asyncio").setLevel(logging.CRITICAL)
sys.unraisablehook = lambda unraisable: None
problems: list[str] = []
counts = {"opened": 0, "calls": 0, "servers": 0, "frames": 0, "forks": 0, "iterated": 0}


def problem(text: str) -> None:
    if len(problems) < 20:
        problems.append(text)


def nothing() -> None:
    pass


class Bomb:
    """Calls something when it is collected."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.cycle = self

    def __del__(self) -> None:
        self.act()


class Round:
    """One server, its handlers, and what was noticed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sockets: dict[int, Any] = {}
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.waiting: list[Any] = []
        self.futures: list[concurrent.futures.Future[Any]] = []
        self.stack: list[Any] = []  # of handlers that run, on the loop's thread
        self.named: list[Any] = []  # sockets that a call on the stack names
        self.kept: list[Any] = []
        self.ends_at = time.monotonic() + 0.3 + self.rng.random()
        self.server = uwserve.serve(
            port=0,
            hostname="127.0.0.1",
            fetch=self.fetch,
            websocket=self.options(),
            error=lambda exc: uwserve.Response("error", status=500),
            limits={"max_buffered_bytes": 50_000_000},
        )
        self.address = ("127.0.0.1", self.server.port)

    # --- calls ---

    def act(self, ws: Any, most: int = 3) -> None:
        for _ in range(self.rng.randrange(most)):
            if len(self.stack) > 4:
                return
            self.call(self.pick(ws))

    def pick(self, ws: Any) -> Any:
        others = list(self.sockets.values())
        return self.rng.choice(others) if others and (ws is None or self.rng.random() < 0.4) else ws

    def text(self, ws: Any) -> str:
        """A message that only this socket's client may get."""
        return f"{ws.data}:" + "x" * self.rng.choice((0, 1, 120, 5000, 16_383, 16_384, 40_000))

    def naming(self, ws: Any, call: Callable[[], Any]) -> None:
        self.named.append(ws)
        try:
            call()
        finally:
            self.named.remove(ws)

    def call(self, ws: Any) -> None:
        """One call of anything. On any thread; where it may not be, RuntimeError is what it says."""
        rng, server = self.rng, self.server
        counts["calls"] += 1
        what = rng.randrange(34)
        topic = f"t{rng.randrange(4)}"
        if ws is None:
            server.publish(topic, "t:" + "y" * rng.choice((1, 100, 20_000)))
        elif what < 7:
            text = self.text(ws)
            rng.choice((ws.send, ws.send_text, lambda t: ws.send(t.encode(), True)))(text)
        elif what == 7:
            ws.publish(topic, "t:" + "z" * rng.choice((0, 300, 17_000)))
        elif what == 8:
            server.publish(topic, b"t:" + bytes(rng.choice((0, 300, 17_000))))
        elif what in (9, 10):
            ws.subscribe(topic)
        elif what == 11:
            ws.unsubscribe(topic), ws.is_subscribed(topic), server.subscriber_count(topic)
        elif what == 12:
            ws.ping(b"p"), ws.pong(b"q")
        elif what == 13 and rng.random() < 0.3:
            self.naming(ws, lambda: ws.close(rng.choice((1000, 3999)), "r" * rng.randrange(124)))
        elif what == 14 and rng.random() < 0.3:
            self.naming(ws, ws.terminate)
        elif what in (15, 16):
            ws.cork(lambda corked: self.act(corked, 5))
        elif what == 17:
            ws.pause()
            server.call_soon(ws.resume)
        elif what == 18:
            ws.resume()
        elif what == 19:
            server.call_soon(self.act, ws)
        elif what == 20:
            server.call_soon(self.later, ws)
        elif what == 21 and rng.random() < 0.2:
            server.reload(websocket=self.options())
        elif what == 22 and rng.random() < 0.1:
            gc.collect()
        elif what == 23 and rng.random() < 0.3:
            self.kept.append(Bomb(lambda: self.act(ws)) if rng.random() < 0.5 else [ws])
            del self.kept[:-20]
        elif what == 24 and self.waiting:
            request = self.waiting.pop()
            self.naming(request, lambda: server.upgrade(request, data=request.path[1:]))
        elif what == 25 and self.futures:
            future = self.futures.pop()
            if not future.done():
                future.set_result(rng.choice(("late", uwserve.Response(iter([b"a", b"b" * 70_000])), None)))
        elif what == 26:
            iterator = ws.messages()
            self.kept.append(iterator)
            del self.kept[:-20]
        elif what == 27 and self.kept:
            del self.kept[rng.randrange(len(self.kept))]
        elif what == 28:
            ws.binary_type = rng.choice(("bytes", "bytearray", "memoryview"))
        elif what == 29:
            server.stats(), ws.subscriptions, ws.buffered_amount, ws.remote_address, repr(ws), server.refused
        elif what == 30 and rng.random() < 0.05 and time.monotonic() > self.ends_at - 0.3:
            self.stop()
        elif what == 31 and rng.random() < 0.1:
            raise ValueError("chaos")
        elif what == 32 and rng.random() < 0.02:
            self.fork()
        elif what == 33:
            _core.add_waiter(ws, lambda outcome: self.act(ws), rng.choice((None, 0, 1000)))

    async def later(self, ws: Any) -> None:
        await asyncio.sleep(self.rng.choice((0, 0.001)))
        self.act(ws)
        if self.rng.random() < 0.3:
            with contextlib.suppress(uwserve.ConnectionClosed, asyncio.TimeoutError, RuntimeError):
                await asyncio.wait_for(self.rng.choice((ws.drained, ws.closed))(), 0.01)

    def stop(self) -> None:
        rng, stop = self.rng, self.server.stop
        rng.choice(
            (stop, lambda: stop(True), lambda: stop(timeout=rng.choice((0, 0.05, 1))), lambda: stop(code=3000))
        )()

    def fork(self) -> None:
        counts["forks"] += 1
        if self.rng.random() < 0.5:
            child = multiprocessing.get_context("fork").Process(target=nothing)
            child.start()
            child.join(30)
        elif (pid := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                self.server.publish("t0", "t:child")
            os._exit(0)
        else:
            os.waitpid(pid, 0)

    # --- handlers ---

    def enter(self, ws: Any) -> bool:
        """On the loop's thread, as far as this process has one: a handler begins."""
        names = any(ws is one or isinstance(one, uwserve.Request) for one in (*self.named, *self.stack))
        if self.stack and not names:
            problem(f"a handler of {ws!r} under one of {self.stack[-1]!r}")
            traceback.print_stack()
        self.stack.append(ws)
        return True

    def on_open(self, ws: Any) -> None:
        # It may be the request that a call on the stack names.
        names = [one for one in self.named if isinstance(one, uwserve.Request)]
        if self.stack and not names:
            problem("an open handler under another")
        self.stack.append(ws)
        try:
            counts["opened"] += 1
            self.opened.append(ws.id)
            self.sockets[ws.id] = ws
            ws.subscribe("t0")
            self.act(ws)
        finally:
            self.stack.pop()

    def on_message(self, ws: Any, message: Any = None) -> None:
        self.enter(ws)
        try:
            if isinstance(message, memoryview) and self.rng.random() < 0.2:
                self.kept.append(message[:])
            self.act(ws, 9)
        finally:
            self.stack.pop()

    async def on_message_later(self, ws: Any, message: Any = None) -> None:
        self.enter(ws)
        try:
            self.act(ws, 6)
        finally:
            self.stack.pop()
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.choice((0, 0, 0.002)))
            self.act(ws, 6)

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        self.enter(ws)
        try:
            self.closed.append(ws.id)
            self.sockets.pop(ws.id, None)
            self.act(ws)
        finally:
            self.stack.pop()

    def on_error(self, *both: Any) -> None:
        error = next(one for one in both if isinstance(one, BaseException))
        if not isinstance(error, (ValueError, RuntimeError, uwserve.ConnectionClosed, BufferError, StopIteration)):
            problem(f"error: {error!r}")

    def options(self) -> dict[str, Any]:
        rng = self.rng
        message = rng.choice((self.on_message, self.on_message_later))
        return {
            "open": self.on_open,
            "message": message,
            "close": self.on_close,
            "drain": rng.choice((self.on_message, self.on_message_later)),
            "ping": self.on_message,
            "pong": rng.choice((self.on_message, self.on_message_later)),
            "error": self.on_error,
            "backpressure_limit": rng.choice((1000, 100_000, 1 << 20)),
            "close_on_backpressure_limit": rng.random() < 0.2,
            "publish_to_self": rng.random() < 0.5,
            "serial": rng.random() < 0.3,
            "per_message_deflate": rng.random() < 0.3,
            "idle_timeout": 0,
        }

    def fetch(self, request: Any, server: Any) -> Any:
        if request.path == "/page":
            if self.rng.random() < 0.3:
                future: concurrent.futures.Future[Any] = concurrent.futures.Future()
                self.futures.append(future)
                return future
            return self.rng.choice(("text", uwserve.Response(iter([b"x" * 30_000] * 3)), None))
        if self.rng.random() < 0.15:
            self.waiting.append(request)
            future = concurrent.futures.Future()
            self.futures.append(future)
            return future
        self.naming(request, lambda: server.upgrade(request, data=request.path[1:]))
        return None

    # --- from outside ---

    def foreign(self, number: int) -> None:
        """A thread that calls what it likes."""
        while time.monotonic() < self.ends_at and not self.server.finished:
            with contextlib.suppress(ValueError, RuntimeError):
                self.call_elsewhere()
            time.sleep(self.rng.choice((0, 0, 0.001)))

    def call_elsewhere(self) -> None:
        ws = self.pick(None)
        what = self.rng.randrange(12)
        if ws is None or what == 0:
            self.server.publish("t1", "t:elsewhere")
        elif what < 4:
            ws.send(self.text(ws))
        elif what == 4:
            ws.subscribe("t2")
        elif what == 5 and self.rng.random() < 0.2:
            self.rng.choice((ws.close, ws.terminate))()
        elif what == 6:
            ws.pause(), ws.resume()
        elif what == 7:
            self.server.call_soon(self.rng.choice((self.act, self.later)), ws)
        elif what == 8:
            self.kept.append(ws.messages())
            del self.kept[:-20]
        elif what == 9:
            self.server.stats(), ws.buffered_amount
        elif what == 10 and self.rng.random() < 0.05:
            self.fork()
        elif what == 11 and self.rng.random() < 0.02:
            self.server.reload(websocket=self.options())
        else:
            _core.add_waiter(ws, str, self.rng.choice((None, 10))), _core.remove_waiter(ws, str)

    async def iterate(self) -> None:
        """In the event loop of another thread."""
        while time.monotonic() < self.ends_at and not self.server.finished:
            ws = self.pick(None)
            if ws is None:
                await asyncio.sleep(0.005)
                continue
            with contextlib.suppress(RuntimeError, asyncio.TimeoutError, StopAsyncIteration):
                iterator = ws.messages()
                for _ in range(self.rng.randrange(5)):
                    await asyncio.wait_for(iterator.__anext__(), 0.02)
                    counts["iterated"] += 1
                    ws.send(self.text(ws))
                if self.rng.random() < 0.5:
                    await iterator.aclose()

    # --- the whole ---

    def work(self) -> None:
        """All that is not the server's thread; then the end."""
        loop = asyncio.new_event_loop()
        threads = [threading.Thread(target=self.foreign, args=(i,)) for i in range(2)]
        going_on = lambda: time.monotonic() < self.ends_at and not self.server.finished  # noqa: E731
        crowd = Crowd(SEED, self.address, going_on, problem, counts)
        threads += [threading.Thread(target=crowd.client, args=(i,)) for i in range(4)]
        threads.append(threading.Thread(target=lambda: loop.run_until_complete(self.iterate())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60 * SLOW)
            if thread.is_alive():
                problem("a thread hangs")
        loop.close()
        if self.rng.random() < 0.5:
            self.stop()
        deadline = time.monotonic() + 20 * SLOW
        stopped = self.server.stop(True)
        for future in self.futures:
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                future.set_result("end")
        if not stopped.wait(deadline - time.monotonic()):
            problem("the server does not end")
            faulthandler.dump_traceback()
            os._exit(3)

    def end(self) -> None:
        if sorted(self.opened) != sorted(self.closed):
            problem(f"opened and not closed, or twice: {sorted(set(self.opened) ^ set(self.closed))[:5]}")


def one(seed: int) -> None:
    counts["servers"] += 1
    chaos = Round(seed)
    if MODE == "start":
        chaos.server.start()
        chaos.work()
        chaos.server._control.join(20)
    else:
        worker = threading.Thread(target=chaos.work)
        if MODE == "run":
            running = threading.Event()
            chaos.server.call_soon(running.set)

            def when_running() -> None:
                running.wait(20)
                worker.start()

            threading.Thread(target=when_running).start()
            chaos.server.run()
            running.wait(20)
        else:

            async def main() -> None:
                async with chaos.server:
                    worker.start()
                    await chaos.server.serve_forever()

            asyncio.run(main())
        worker.join(60 * SLOW)
    chaos.end()
    chaos.kept.clear()


if MODE == "asyncio" and "uvloop" in sys.argv:
    import uvloop

    uvloop.install()
seed = SEED
while time.monotonic() - BEGUN < SECONDS and not problems:
    one(seed)
    seed += 1
print(problems, counts["opened"] > 3, flush=True)
print(counts, f"last seed {seed - 1}, {MODE}", file=sys.stderr)
sys.stderr.flush()
os._exit(1 if problems else 0)
