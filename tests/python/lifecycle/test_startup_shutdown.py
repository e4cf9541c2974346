"""``startup`` and ``shutdown``, in every run mode: when they are called, what they may raise, and stops meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest
from event_loops import run_on
from ws_client import TIMEOUT, Client

import uwserve
from uwserve._run import lifespan as _lifespan
from uwserve.testing import serving

pytestmark = pytest.mark.plain("these are about the process, and their clients speak plain TCP")

MODES = ("run", "start", "asyncio", "uvloop", "block")


def upgrade(request: Any, server: Any) -> Any:
    return None if server.upgrade(request) else "plain"


def bound(**options: Any) -> uwserve.Server:
    options.setdefault("websocket", {"message": lambda ws, text: ws.send(text)})
    return uwserve.serve(**{"port": 0, "hostname": "127.0.0.1", "fetch": upgrade, **options})


def live(mode: str, server: uwserve.Server, client: Any) -> None:
    """Run it to its end, while ``client()`` runs in a thread. An exception of either is raised."""
    failures: list[BaseException] = []

    def drive() -> None:
        try:
            client()
        except BaseException as exc:
            failures.append(exc)
            server.stop(True)

    thread = threading.Thread(target=drive)
    if mode == "start":
        server.start()
        thread.start()
        thread.join(TIMEOUT)
        assert server.stop(True).wait(TIMEOUT)
    else:
        thread.start()
        try:
            run(mode, server)
        finally:
            thread.join(TIMEOUT)
    if failures:
        raise failures[0]


def run(mode: str, server: uwserve.Server) -> None:
    async def block() -> None:
        async with server:
            await server.serve_forever()

    if mode == "run":
        server.run()
    elif mode == "block":
        run_on("asyncio", block())
    else:
        run_on(mode, server.serve_forever())


def stop_from_outside(server: uwserve.Server) -> None:
    """Once it serves."""
    with Client(("127.0.0.1", server.port)):
        server.stop(True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["plain", "async", "late"])
def test_before_the_first_and_after_the_last(mode: str, kind: str) -> None:
    """Nothing is accepted before ``startup`` has ended; after the last ``close`` comes ``shutdown``, then the end."""
    tape: list[Any] = []
    ready = threading.Event()
    wants = {"plain": lambda: None, "async": lambda: asyncio.sleep(0.01), "late": lambda: asyncio.sleep(0.01)}[kind]

    def up(server: Any) -> Any:
        assert server.on_loop_thread()
        waiting = socket.create_connection(("127.0.0.1", server.port))  # into the kernel's queue
        waiting.close()
        tape.append("startup")
        ready.set()
        return wants()

    def down() -> Any:
        tape.append(("shutdown", server.pending_websockets, server._control.stopped.done()))
        return wants()

    async def up_later(server: Any) -> None:
        await up(server)

    async def down_later() -> None:
        await down()

    functions = (up_later, down_later) if kind == "async" else (up, down)
    server = bound(
        startup=functions[0],
        shutdown=functions[1],
        websocket={
            "open": lambda ws: tape.append("open"),
            "message": lambda ws, text: ws.send(text),
            "close": lambda ws, code, reason: tape.append(f"close {code}"),
        },
    )

    def client() -> None:
        with Client(("127.0.0.1", server.port)) as ws:
            assert ready.is_set()
            ws.send("x")
            assert ws.read_message() == "x"
            server.stop(timeout=TIMEOUT)
            assert ws.read_close() == (1001, "Server closed")

    live(mode, server, client)
    assert tape == ["startup", "open", "close 1001", ("shutdown", 0, False)]
    assert server._control.stopped.done()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_async", [False, True])
def test_an_exception_in_startup_ends_the_start(mode: str, is_async: bool) -> None:
    """It is the cause of a ``RuntimeError``; nothing is bound any more, and ``shutdown`` is not called."""

    def plain() -> None:
        raise LookupError("no database")

    async def later() -> None:
        plain()

    called: list[int] = []
    server = bound(startup=later if is_async else plain, shutdown=lambda: called.append(1))
    with pytest.raises(RuntimeError, match=r"^startup failed: LookupError: no database$") as raised:
        server.start() if mode == "start" else run(mode, server)
    assert isinstance(raised.value.__cause__, LookupError)
    assert server.finished and server._control.stopped.done() and not called
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    with pytest.raises(RuntimeError, match="the server has stopped"):
        server.run()
    raised.value.__traceback__ = None


@pytest.mark.parametrize("mode", MODES)
def test_stopped_in_startup(mode: str) -> None:
    """By itself: the run ends as ever, and ``shutdown`` is called. From elsewhere: a coroutine is cancelled."""
    tape: list[str] = []

    async def stops_itself(server: Any) -> None:
        server.stop()
        await asyncio.sleep(0)
        tape.append("startup")

    server = bound(startup=stops_itself, shutdown=lambda: tape.append("shutdown"))
    server.start() if mode == "start" else run(mode, server)
    assert server._control.stopped.wait(TIMEOUT)
    assert tape == ["startup", "shutdown"]

    async def hangs(server: Any) -> None:
        threading.Thread(target=server.stop).start()
        try:
            await asyncio.Event().wait()
        finally:
            tape.append("cancelled")

    server = bound(startup=hangs, shutdown=lambda: tape.append("never"))
    server.start() if mode == "start" else run(mode, server)
    assert server._control.stopped.wait(TIMEOUT)
    assert tape[2:] == ["cancelled"]


def test_nothing_is_called_without_a_run() -> None:
    called: list[int] = []
    server = bound(startup=lambda: called.append(1), shutdown=lambda: called.append(2))
    assert server.stop().wait(TIMEOUT)
    with bound(startup=lambda: called.append(1), shutdown=lambda: called.append(2)):
        pass
    assert not called


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_shutdown_when_an_exception_ends_the_run(is_async: bool, exception: type[BaseException]) -> None:
    """The server is stopped by force before: sockets get 1001, and their ``close`` handlers are called first."""
    tape: list[Any] = []

    def message(ws: Any, text: str) -> None:
        raise exception

    async def down() -> None:
        tape.append("shutdown")

    server = bound(
        shutdown=down if is_async else lambda: tape.append("shutdown"),
        websocket={"message": message, "close": lambda ws, code, reason: tape.append(code)},
    )

    def client() -> None:
        with Client(("127.0.0.1", server.port)) as ws:
            ws.send("x")
            assert ws.read_close() == (1001, "Server closed")

    with pytest.raises(exception) as raised:
        live("run", server, client)
    assert tape == [1001, "shutdown"]
    assert server.finished
    raised.value.__traceback__ = None


@pytest.mark.parametrize("mode", MODES)
def test_an_exception_in_shutdown_is_logged(mode: str, caplog: Any) -> None:
    async def down() -> None:
        raise LookupError("lost")

    server = bound(shutdown=down)
    live(mode, server, lambda: stop_from_outside(server))
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["Exception in shutdown"]
    assert server._control.stopped.done()


@pytest.mark.parametrize("mode", MODES)
def test_a_shutdown_that_hangs_is_named_and_cancelled(mode: str, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(_lifespan, "WARN_SECONDS", 0.02)
    monkeypatch.setattr(_lifespan, "SHUTDOWN_SECONDS", 0.05)

    async def down() -> None:
        await asyncio.Event().wait()

    server = bound(shutdown=down)
    live(mode, server, lambda: stop_from_outside(server))
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warned[0].startswith(f"shutdown has not ended for 0.02 s: it waits at {__file__}:")
    assert warned[1:] == ["shutdown was cancelled"]


def test_a_plain_startup_that_hangs_is_named(caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(_lifespan, "WARN_SECONDS", 0.02)

    def up() -> None:
        while not caplog.records:
            threading.Event().wait(0.01)

    with serving(startup=up):
        assert caplog.records[0].message.startswith("startup has not ended for 0.02 s: it is at ")


def test_waiting_in_them_for_the_end_is_an_error() -> None:
    """It would last forever."""

    async def up(server: Any) -> None:
        await server.stop()

    with pytest.raises(RuntimeError, match="startup failed: RuntimeError: startup and shutdown cannot wait") as raised:
        bound(startup=up).start()
    raised.value.__traceback__ = None


def test_bad_values() -> None:
    for bad, text in ((3, "must be callable, got int"), (lambda a, b: None, r"must accept \(server\) or no argument")):
        with pytest.raises(TypeError, match=f"startup {text}"):
            bound(startup=bad)
    server = bound()
    with pytest.raises(ValueError, match=r"reload\(\) cannot change startup"):
        server.reload(startup=print)  # type: ignore[call-arg]
    server.stop()


def test_async_factory_in_a_test() -> None:
    """It runs in the event loop that serves."""

    async def make() -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        async def fetch(request: Any) -> str:
            return str(asyncio.get_running_loop() is loop)

        return {"fetch": fetch}

    with serving(make) as server:
        assert server.get().text == "True"


def test_cancelled_in_startup() -> None:
    """A cancelled ``serve_forever()`` cancels ``startup``, and nothing stays bound."""
    tape: list[str] = []

    async def up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tape.append("cancelled")

    server = bound(startup=up, shutdown=lambda: tape.append("never"))

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0.01)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    run_on("asyncio", main())
    assert tape == ["cancelled"] and server.finished and server._control.stopped.done()
