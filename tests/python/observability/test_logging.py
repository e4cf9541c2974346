"""Records on the logger ``uwserve``: which connection, which request, and the life of a server."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import textwrap
from typing import Any

import pytest
from http_client import Client as HttpClient
from http_client import running, upgrade, upgrade_request
from processes import process
from ws_client import eventually

import uwserve

pytestmark = pytest.mark.wss

FORMAT = "%(levelname)s %(connection)s %(remote_address)s %(method)s %(path)s | %(message)s"


@pytest.fixture
def records(caplog: Any) -> Any:
    """pytest's ``caplog``; its list is another one in each phase of a test."""
    caplog.set_level(logging.DEBUG, logger="uwserve")
    return caplog


def lines(records: Any, level: int) -> list[str]:
    return [
        logging.Formatter(FORMAT).format(record).splitlines()[0]
        for record in records.records
        if record.levelno == level
    ]


# --- ids ---


def test_ids(serving: Any, transport: Any) -> None:
    """From 1 on, in the order of opening, each once; kept after the close; in the repr; each server counts its own."""
    live = serving(**transport)
    pairs = [live.open() for _ in range(3)]
    assert [ws.id for _, ws in pairs] == [1, 2, 3]
    assert repr(pairs[1][1]) == "<ServerWebSocket 2 open>"
    live.on_loop(pairs[1][1].terminate)
    assert pairs[1][1].id == 2
    assert repr(pairs[1][1]) == "<ServerWebSocket 2 closed>"
    live.expect("close")
    assert live.open()[1].id == 4
    with pytest.raises(AttributeError):
        pairs[0][1].id = 7
    assert serving().open()[1].id == 1


def test_refused_upgrades_take_no_id() -> None:
    seen: list[int] = []
    with running(
        fetch=lambda r, s: uwserve.Response("no", 401) if r.path == "/no" else upgrade(r, s),
        websocket={"open": lambda ws: seen.append(ws.id)},
    ) as server:
        for path in ("/no", "/a", "/no", "/b"):
            with HttpClient(server) as client:
                client.send(upgrade_request(path))
                assert client.head().status == (401 if path == "/no" else 101)
        assert seen == [1, 2]


# --- errors ---


def raises(*_: Any) -> None:
    raise KeyError("on purpose")


def test_handler_errors_name_the_connection(serving: Any, records: Any) -> None:
    live = serving(message=lambda ws, message: raises(), close=lambda ws, code, reason: raises())
    _, quiet = live.open()
    client, ws = live.open()
    client.send("x")
    live.wait_for("message")
    client.close()
    live.wait_for("close")
    live.on_loop(lambda: None)
    assert (quiet.id, ws.id) == (1, 2)
    assert lines(records, logging.ERROR) == [
        "ERROR 2 127.0.0.1 None None | Exception in websocket.message of connection 2 (127.0.0.1)",
        "ERROR 2 127.0.0.1 None None | Exception in websocket.close of connection 2 (127.0.0.1)",
    ]
    record = next(record for record in records.records if record.levelno == logging.ERROR)
    assert (record.connection, record.remote_address) == (2, "127.0.0.1")  # type: ignore[attr-defined]
    assert "KeyError" in logging.Formatter().format(record)


def test_errors_on_a_unix_socket(serving: Any, records: Any, tmp_path: Any) -> None:
    """There is no address to tell."""
    live = serving(unix=str(tmp_path / "s"), open=lambda ws: raises())
    live.connect()
    live.wait_for("close")
    assert lines(records, logging.ERROR) == ["ERROR 1 None None None | Exception in websocket.open of connection 1"]


def test_the_error_handler_itself(serving: Any, records: Any) -> None:
    live = serving(message=lambda ws, message: raises(), error=lambda exc, ws: raises())
    client = live.connect()
    client.send("x")
    live.wait_for("message")
    live.on_loop(lambda: None)
    assert lines(records, logging.ERROR) == [
        "ERROR 1 127.0.0.1 None None | Exception in websocket.error of connection 1 (127.0.0.1)"
    ]


def test_errors_of_requests(records: Any) -> None:
    """Method, path and client, in the text and as attributes; behind a proxy, the client that it names."""
    with running(fetch=raises, trusted_proxies=["127.0.0.0/8"]) as server, HttpClient(server) as client:
        assert client.ask(b"GET /a%20b?secret HTTP/1.1\r\nHost: a\r\n\r\n").status == 500
        sent = b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n"
        assert client.ask(sent).status == 500
        server.reload(error=raises)
        assert client.ask(b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n").status == 500
    assert lines(records, logging.ERROR) == [
        "ERROR None 127.0.0.1 GET /a%20b | Exception in the handler of GET /a%20b from 127.0.0.1",
        "ERROR None 2001:db8::7 POST /c | Exception in the handler of POST /c from 2001:db8::7",
        "ERROR None 127.0.0.1 GET /d | Exception in the error handler for GET /d from 127.0.0.1",
        "ERROR None 127.0.0.1 GET /d | Exception in the handler of GET /d from 127.0.0.1",
    ]


def test_other_places(records: Any) -> None:
    """No connection, no request: the attributes are there all the same."""
    with running(fetch=lambda r: "x") as server:
        server.call_soon(raises)
        server._control.on_loop(lambda: None)
    assert lines(records, logging.ERROR) == ["ERROR None None None None | Exception in a function given to call_soon"]


def test_warnings_have_the_attributes(records: Any) -> None:
    with running(fetch=lambda r: "x") as server, HttpClient(server) as client:
        client.send(b"BROKEN\r\n\r\n")
        client.read_rest()
        eventually(lambda: lines(records, logging.WARNING))
    assert lines(records, logging.WARNING) == ["WARNING None None None None | refused: 1 request (400 malformed)"]


# --- the life of a server and of connections ---


def test_life(records: Any) -> None:
    with running(fetch=lambda r: "x") as server:
        url = server.url
        server.stop()
        server.stop(True)
        server.stop(True)
    assert lines(records, logging.INFO) == [
        f"INFO None None None None | {text}" for text in (f"Listening on {url}", f"Stopping {url}", f"Stopped {url}")
    ]


def test_nobody_accepts_websockets(records: Any) -> None:
    """Handlers of WebSockets, and nothing that could upgrade a request: said at once, as clients only see 404."""
    with uwserve.serve(websocket={}, port=0, hostname="127.0.0.1"):
        pass
    assert [line.partition(",")[0] for line in lines(records, logging.WARNING)] == [
        "WARNING None None None None | websocket is given"
    ]


def test_a_forced_stop_says_so(records: Any) -> None:
    with running(fetch=lambda r: "x") as server:
        url = server.url
    assert [record.getMessage() for record in records.records][1:] == [
        f"Stopping {url}, closing its connections",
        f"Stopped {url}",
    ]


def test_connections(serving: Any, records: Any) -> None:
    live = serving()
    client, ws = live.open()
    client.send_close(4001, "bye \n")
    live.wait_for("close")
    _, second = live.open()
    live.on_loop(second.terminate)
    assert ws.id == 1
    assert lines(records, logging.DEBUG) == [
        "DEBUG 1 127.0.0.1 None None | Open: connection 1 (127.0.0.1)",
        "DEBUG 1 127.0.0.1 None None | Closed: connection 1 (127.0.0.1), 4001 'bye \\n'",
        "DEBUG 2 127.0.0.1 None None | Open: connection 2 (127.0.0.1)",
        "DEBUG 2 127.0.0.1 None None | Closed: connection 2 (127.0.0.1), 1006 ''",
    ]


def test_the_level_may_change(serving: Any, caplog: Any) -> None:
    """Off, no Python runs for a connection but a question a second; on, it counts from the next second on."""
    asked: list[bool] = []
    live = serving()
    logger = logging.getLogger("uwserve")

    def wants() -> bool:
        asked.append(logger.isEnabledFor(logging.DEBUG))
        return asked[-1]

    def fails(*_: Any) -> None:
        raise AssertionError("called for a connection")

    live.server._control.core.set_connection_log(wants, fails, fails)
    for _ in range(300):
        client, _ = live.open()
        client.reset()
        live.wait_for("close")
    assert 1 <= len(asked) < 60, "one a second"
    assert not any(asked)
    opened: list[int] = []
    live.server._control.core.set_connection_log(wants, lambda ws: opened.append(ws.id), lambda ws, code, reason: None)
    caplog.set_level(logging.DEBUG, logger="uwserve")

    def open_one() -> bool:
        client, _ = live.open()
        client.reset()
        live.wait_for("close")
        return bool(opened)

    eventually(open_one)
    assert opened[0] > 300


class Raising(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.DEBUG:
            raise RuntimeError("in a filter")
        return True


def test_filters_that_raise_hurt_nobody(serving: Any, records: Any) -> None:
    logger = logging.getLogger("uwserve")
    broken = Raising()
    logger.addFilter(broken)
    try:
        live = serving(message=lambda ws, message: ws.send(message))
        client, _ = live.open()
        client.send("x")
        assert client.read_message() == "x"
        client.close()
        live.wait_for("close")
        live.on_loop(lambda: None)
    finally:
        logger.removeFilter(broken)
    assert lines(records, logging.ERROR) == ["ERROR None None None None | Exception in logging"] * 2


class Broken(logging.Handler):
    """Raises itself, which ``logging`` does not catch."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(f"no room for {record.getMessage()}")


@pytest.mark.plain("the server is bound by hand")
def test_handlers_that_raise_change_nothing(records: Any, capfd: Any) -> None:
    """Neither what is bound, nor how it stops: each step of a server's life, with a log that takes nothing."""
    broken = Broken()
    logger = logging.getLogger("uwserve")
    logger.addHandler(broken)
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        descriptor = listener.fileno()
        with uwserve.serve(fd=descriptor, fetch=raises, websocket={}) as server:
            listener.detach()
            assert server.port
            server.start()
            with HttpClient(server) as client:
                assert client.ask().status == 500
            assert server.stop(timeout=5).wait(5)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
        with uwserve.serve(port=0, hostname="127.0.0.1", websocket={"open": raises}) as server:
            server.start()
    finally:
        logger.removeHandler(broken)
    told = capfd.readouterr().err
    for what in ("Exception in logging", "Exception in the handler of GET /"):
        assert f"--- Logging error ---\n{what}" in told
    assert "OSError: no room for Listening on http://127.0.0.1:" in told


def test_a_record_may_close_the_connection(serving: Any, records: Any) -> None:
    """A handler of logging is user code: what it does to the socket is what any handler may do."""
    live = serving(open=lambda ws: raises())
    live.server._control.core.set_connection_log(
        lambda: True, lambda ws: ws.terminate(), lambda ws, code, reason: raises()
    )
    live.connect().expect_end()
    live.wait_for("close")
    assert lines(records, logging.ERROR) == ["ERROR None None None None | Exception in the log of connections"]
    live.no_events()


@pytest.mark.plain("the servers run in processes of their own")
def test_nothing_is_logged_unless_asked_for() -> None:
    """A program without logging: neither it nor a word on stderr, with connections that come and go."""
    program = """
        import sys, uwserve
        def fetch(request, server):
            return None if server.upgrade(request) else "plain"
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={}).start()
        import socket
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                           b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 101")
            client.close()
        server.stop(True).wait(10)
        print(server.stats()["websockets"]["total"], "logging" in sys.modules)
    """
    with process(sys.executable, "-c", textwrap.dedent(program)) as started:
        assert started.end() == (0, "3 False\n", "")


@pytest.mark.plain("the servers run in processes of their own")
def test_a_signal_while_logging_is_imported() -> None:
    """The first warning imports ``logging``; SIGINT in the midst of that stops the server, as ever."""
    program = """
        import signal, sys, uwserve
        sys.modules.pop("string", None)
        class Midst:
            def find_spec(self, name, path, target=None):
                if name == "string" and sys.modules["logging"].__spec__._initializing:
                    sys.meta_path.remove(self)
                    print("in the midst", hasattr(sys.modules["logging"], "getLogger"))
                    signal.raise_signal(signal.SIGINT)
        sys.meta_path.insert(0, Midst())
        assert "logging" not in sys.modules
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request: None)
        def warn():
            from uwserve import _logs
            _logs.warning("a warning")
        server.call_soon(warn)
        server.run()
        print("stopped")
    """
    with process(sys.executable, "-c", textwrap.dedent(program)) as started:
        assert started.end() == (0, "in the midst False\nstopped\n", "a warning\n")


def test_records_are_documented() -> None:
    """The attributes that the module's text promises are those that records have."""
    from uwserve import _logs

    assert _logs.__doc__
    promised = set(re.findall(r"``(connection|remote_address|method|path)``", _logs.__doc__))
    assert promised == set(_logs._about())
