"""Fixtures of the Python suite: servers whose callbacks are recorded, and a check after each test that nothing is left.

``serving(...)`` starts a server in a thread; ``Live.expect`` waits for its callbacks in order; ``Live.on_loop`` runs
code on its thread. ``script`` runs a program in a fresh process, where ``run()``, memory and descriptors are tested.
"""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import loops
import pytest
import tls_transport
from ws_client import TIMEOUT, Client

import uwserve
from uwserve import _core

SUPPORT = str(Path(__file__).parent / "support")
# Programs that tests start find the helpers, as the tests do.
os.environ["PYTHONPATH"] = os.pathsep.join([SUPPORT, *filter(None, [os.environ.get("PYTHONPATH")])])

# A shell starts its background jobs with SIGINT ignored, which programs inherit. Those of the suite are sent it, and
# must heed it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

EVENTS = {
    "open": ("ws",),
    "message": ("ws", "message"),
    "close": ("ws", "code", "reason"),
    "drain": ("ws",),
    "ping": ("ws", "data"),
    "pong": ("ws", "data"),
}


def pytest_addoption(parser):
    parser.addoption("--wss", action="store_true", help="run the tests over TLS: servers and clients")


def pytest_configure(config):
    config.addinivalue_line("markers", "wss: its servers run in its own process; make test-wss repeats it over TLS")
    config.addinivalue_line("markers", "plain(reason): runs without TLS only, for this reason")
    config.addinivalue_line("markers", "alone: measures time or needs the machine; make runs it beside no other test")
    if config.getoption("--wss"):
        tls_transport.enable()


def pytest_collection_modifyitems(config, items):
    if config.getoption("--wss"):
        for item in items:
            if mark := item.get_closest_marker("plain"):
                item.add_marker(pytest.mark.skip(reason=f"not over TLS: {mark.args[0]}"))


class Live:
    """A server that runs in a thread and records its callbacks as ``(name, ws, *arguments)``."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.events: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.clients: list[Client] = []
        options = dict(options)
        serve_options = {
            name: options.pop(name)
            for name in ("fetch", "routes", "unix", "error_hook", "hostname", "idle_timeout_http", "limits", "tls")
            if name in options
        }
        if "error_hook" in serve_options:
            serve_options["error"] = serve_options.pop("error_hook")
        if "idle_timeout_http" in serve_options:
            serve_options["idle_timeout"] = serve_options.pop("idle_timeout_http")
        if "unix" not in serve_options:
            serve_options = {"hostname": "127.0.0.1", "port": 0} | serve_options
        serve_options.setdefault("fetch", self._upgrade)
        self.server = uwserve.serve(**serve_options, websocket=self.recorded(options))
        self.address: Any = serve_options.get("unix") or ("127.0.0.1", self.server.port)

    @staticmethod
    def _upgrade(request: uwserve.Request, server: uwserve.Server) -> Any:
        return None if server.upgrade(request, data=request.path) else uwserve.Response("no websocket", 400)

    def recorded(self, options: dict[str, Any]) -> dict[str, Any]:
        """``websocket`` options in which each handler also records its call, before the test's own handler runs."""
        wrapped = dict(options)
        for name in wrapped.pop("only", EVENTS):  # handlers that there are
            arguments = EVENTS[name]
            wrapped[name] = self._recorder(name, arguments, options.get(name))
        return wrapped

    def _recorder(self, name: str, arguments: tuple[str, ...], handler: Any) -> Any:
        events = self.events
        if len(arguments) == 1:

            def record1(ws: Any) -> Any:
                events.put((name, ws))
                return handler(ws) if handler is not None else None

            return record1
        if len(arguments) == 2:

            def record2(ws: Any, value: Any) -> Any:
                events.put((name, ws, value))
                return handler(ws, value) if handler is not None else None

            return record2

        def record3(ws: Any, code: int, reason: str) -> Any:
            events.put((name, ws, code, reason))
            return handler(ws, code, reason) if handler is not None else None

        return record3

    # --- the test's side ---

    def connect(self, path: str = "/", **options: Any) -> Client:
        client = Client(self.address, path, **options)
        self.clients.append(client)
        return client

    def open(self, path: str = "/", **options: Any) -> tuple[Client, Any]:
        """A client and the server's socket for it."""
        client = self.connect(path, **options)
        return client, self.expect("open")[0]

    def expect(self, name: str, timeout: float = TIMEOUT) -> tuple[Any, ...]:
        """The arguments of the next recorded callback, which must be ``name``."""
        try:
            event = self.events.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no {name!r} callback within {timeout} s") from None
        assert event[0] == name, f"expected {name}, got {event}"
        return event[1:]

    def expect_close(self, timeout: float = TIMEOUT) -> tuple[int, str]:
        _, code, reason = self.expect("close", timeout)
        return code, reason

    def wait_for(self, name: str, timeout: float = TIMEOUT) -> tuple[Any, ...]:
        """The arguments of the next callback of that name; others are dropped."""
        while True:
            try:
                event = self.events.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"no {name!r} callback within {timeout} s") from None
            if event[0] == name:
                return event[1:]

    def no_events(self) -> None:
        """Nothing (more) was called; what is in flight on the loop is waited for."""
        self.on_loop(lambda: None)
        left = list(self.events.queue)
        assert not left, left

    def on_loop(self, function: Any, *args: Any, timeout: float = TIMEOUT) -> Any:
        """``function(*args)`` on the server's thread, outside any handler; its value or exception."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as exc:
                future.set_exception(exc)

        self.server.call_soon(call)
        return future.result(timeout)

    def messages_until_now(self, client: Client, ws: Any) -> list[str | bytes]:
        """All messages the client was sent until now."""
        self.on_loop(lambda: None)
        self.on_loop(ws.send, "<end>")
        messages = []
        while (message := client.read_message()) != "<end>":
            messages.append(message)
        return messages

    def stop(self, leave: Any = None) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
        if leave is not None:
            leave(self.server)
        self.server.stop(True)
        if self.server.running:
            self.server._control.join(TIMEOUT)
        assert self.server.finished, "the server did not end"
        assert self.server.pending_websockets == 0
        assert self.server.pending_requests == 0
        self.events.queue.clear()


@pytest.fixture
def serving():
    """``serving(**options)``: a running ``Live``; options are ``websocket``'s, and ``fetch``, ``routes``, ``unix``."""
    lives: list[Live] = []

    def make(start: bool = True, **options: Any) -> Live:
        live = Live(options)
        lives.append(live)
        if start:
            live.server.start()
        return live

    yield make
    for live in lives:
        live.stop()
    lives.clear()


@pytest.fixture
def room(serving):
    """``room(n, *topics, **options)``: a server and n connections that are subscribed to the topics."""

    def make(count: int, *topics: str, **options):
        live = serving(**options)
        pairs = [live.open(f"/{i}") for i in range(count)]

        def subscribe():
            for _, ws in pairs:
                for topic in topics:
                    assert ws.subscribe(topic) is True

        live.on_loop(subscribe)
        return live, pairs

    return make


@pytest.fixture(params=loops.NAMES)
def elsewhere(request):
    """An event loop in another thread than the server's."""
    thread = loops.LoopThread(request.param)
    yield thread
    thread.stop()


@pytest.fixture(params=["tcp", "unix"])
def transport(request, tmp_path):
    """Options for ``serving``: every test with it runs over TCP and over a unix socket."""
    return {"unix": str(tmp_path / "s")} if request.param == "unix" else {}


@pytest.fixture(params=loops.NAMES)
def inside(request):
    """``inside(**options)``: a running ``Live`` whose server is inside an event loop of either kind, in a thread."""
    lives: list[Live] = []
    thread = loops.LoopThread(request.param)

    def make(**options: Any) -> Live:
        live = Live(options)
        lives.append(live)

        async def enter() -> None:
            await live.server.__aenter__()

        thread.run(enter())
        return live

    yield make
    for live in lives:
        live.stop(lambda server: thread.run(server.__aexit__(None, None, None)))
    thread.stop()
    lives.clear()


@pytest.fixture
def echo(serving):
    """A server that sends every message back."""
    return serving(message=lambda ws, message: ws.send(message))


class Script:
    """A Python program in a process of its own."""

    def __init__(self, source: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(source), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def line(self) -> str:
        """The next line of its output. pytest-timeout bounds the wait."""
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate(timeout=TIMEOUT)
            raise AssertionError(f"the program ended with {self.process.returncode}:\n{errors}")
        return line.rstrip("\n")

    def finish(self, timeout: float = 60, code: int = 0) -> str:
        """Its remaining output, after it has exited with ``code``."""
        output, errors = self.process.communicate(timeout=timeout)
        assert self.process.returncode == code, f"exit code {self.process.returncode}\n{output}\n{errors}"
        return output

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def script():
    """``script(source, *args)`` starts a program; ``.finish()`` waits for it and returns what it printed."""
    running: list[Script] = []

    def start(source: str, *args: str) -> Script:
        running.append(Script(source, *args))
        return running[-1]

    yield start
    for process in running:
        process.kill()


class _Log(logging.Filter):
    """Turns tracebacks into text: pytest keeps the records, and tracebacks would keep sockets alive."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.refusals: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING and record.getMessage().startswith("refused"):
            self.refusals.append(record.getMessage())  # many tests provoke them; test_refusals.py is about them
            return True
        self.lines.append(logging.Formatter().format(record))  # sets exc_text
        record.exc_info = None
        return True


@pytest.fixture(autouse=True)
def _log():
    logger = logging.getLogger("uwserve")
    log = _Log()
    logger.addFilter(log)
    yield log
    logger.removeFilter(log)


@pytest.fixture(autouse=True)
def nothing_logged(request, _log):
    """A test that does not ask for ``logged`` (or ``caplog``) fails when anything is logged."""
    yield
    if not {"logged", "caplog"} & set(request.fixturenames) and getattr(request.node, "passed", False):
        assert not _log.lines, "\n".join(_log.lines)


@pytest.fixture
def logged(_log):
    """What was put on the logger ``uwserve``: a list of texts, tracebacks included."""
    return _log.lines


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """What goes from a process of pytest-xdist to the first: a surrogate, as some tests log, would end the run."""
    return _encodable((yield))


def _encodable(value):
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, (list, tuple)) else value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.passed = report.passed
    return report


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """What imports, the collection and earlier modules made is no test's garbage: ``gc.collect()`` need not walk it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left(request):
    """After each test: no ServerWebSocket alive, no server's thread running, and SIGTERM as it was."""
    before, on_sigterm = _core.live_handles(), signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is on_sigterm
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if not getattr(request.node, "passed", False):
        return  # its traceback keeps things alive, and one failure is enough
    request.node.funcargs.clear()  # values of fixtures that are already torn down
    threads = [thread for thread in threading.enumerate() if thread.name == "uwserve"]
    for thread in threads:
        thread.join(TIMEOUT)  # one whose server has finished may have its last steps before it
    gc.collect()
    assert _core.live_handles() <= before, f"{_core.live_handles() - before} ServerWebSocket objects leaked"
    running = [thread for thread in threads if thread.is_alive()]
    assert not running, running
