"""Exceptions out of handlers, and what ends a run (docs/coming-from/bun.md)."""

from __future__ import annotations

import pytest

import uwserve

pytestmark = pytest.mark.wss

HANDLERS = ["open", "message", "close", "drain", "ping", "pong"]


def cause(live, client, ws, name: str) -> None:
    if name == "message":
        client.send("go")
    elif name == "ping":
        client.ping()
    elif name == "pong":
        client.pong()
    elif name == "close":
        client.send_close()
        client.read_close()
    elif name == "drain":

        def fill():
            count = 1
            while ws.send(bytes(65536)) != -1:
                count += 1
            return count

        client.read_messages(live.on_loop(fill))


def failing(name: str, exc: BaseException):
    def raises(*_):
        raise exc

    return {
        name: (lambda ws, code, reason: raises())
        if name == "close"
        else (lambda ws, data: raises())
        if name in ("message", "ping", "pong")
        else (lambda ws: raises())
    }


@pytest.mark.parametrize("name", HANDLERS)
def test_error_hook(serving, name):
    """``error`` gets the socket and the very exception; nothing is logged; the socket stays open (but for open)."""
    seen = []
    exc = KeyError(name)
    live = serving(**failing(name, exc), error=lambda e, ws: seen.append((ws, e)))
    client = live.connect(receive_buffer=8192)
    ws = live.wait_for("open")[0]
    cause(live, client, ws, name)
    if name == "open":
        assert client.read_close() == (1011, "")
        assert live.expect_close() == (1011, "")
    elif name != "close":
        live.wait_for(name)
        if name == "ping":
            assert client.read_frame().opcode == 10
        live.on_loop(ws.send, "still open")
        assert client.read_message() == "still open"
    live.on_loop(lambda: None)
    assert seen == [(ws, exc)]
    assert seen[0][1] is exc
    seen.clear()
    exc.__traceback__ = None


@pytest.mark.parametrize("name", HANDLERS)
def test_logged_without_error_hook(serving, logged, name):
    """Logged with its traceback on ``uwserve``, and which handler it was; the socket stays open."""
    live = serving(**failing(name, KeyError("the text")))
    client = live.connect(receive_buffer=8192)
    ws = live.wait_for("open")[0]
    cause(live, client, ws, name)
    if name not in ("open", "close"):
        live.wait_for(name)
        live.on_loop(ws.send, "still open")
        while client.read_frame().payload != b"still open":
            pass
    live.on_loop(lambda: None)
    assert len(logged) == 1
    assert name in logged[0].splitlines()[0]
    assert "Traceback" in logged[0]
    assert "KeyError: 'the text'" in logged[0]


@pytest.mark.parametrize("name", HANDLERS)
def test_error_hook_raising(serving, logged, name):
    """``error`` itself raising: logged, never swallowed, never fatal; the first exception is its context."""

    def error(exc, ws):
        raise RuntimeError("from the error handler") from exc

    live = serving(**failing(name, KeyError("first")), error=error)
    client = live.connect(receive_buffer=8192)
    ws = live.wait_for("open")[0]
    cause(live, client, ws, name)
    if name not in ("open", "close"):
        live.wait_for(name)
    live.on_loop(lambda: None)
    text = "".join(logged)
    assert "from the error handler" in text
    assert "first" in text
    assert (ws.ready_state == 1) is (name not in ("open", "close"))


def test_error_hook_closes(serving):
    """``error`` may close the socket."""
    live = serving(message=lambda ws, message: 1 / 0, error=lambda exc, ws: ws.close(1011, type(exc).__name__))
    client = live.connect()
    client.send("go")
    assert client.read_close() == (1011, "ZeroDivisionError")


def test_many_failures(serving, logged):
    """A handler that always fails: every message is tried, every failure told."""
    live = serving(message=lambda ws, message: int(message))
    client = live.connect()
    for i in range(50):
        client.send(f"no number {i}")
    client.round_trip()
    assert len(logged) == 50
    assert "no number 49" in logged[-1]


def test_return_values_are_ignored(serving):
    """Handlers may return anything."""
    live = serving(message=lambda ws, message: object(), open=lambda ws: False, close=lambda ws, code, reason: 5)
    client = live.connect()
    client.send("x")
    client.round_trip()
    client.send_close()
    assert client.read_close()[0] == 1000


def test_handler_of_every_callable_kind(serving):
    """Functions, bound methods, builtins, partials, classes and callable objects."""
    import functools

    class Callable:
        def __call__(self, ws, message):
            ws.send(("object", message)[1])

        def method(self, ws, message):
            ws.send(message)

        @staticmethod
        def static(ws, message):
            ws.send(message)

    def three(extra, ws, message):
        ws.send(message)

    class Made:
        def __init__(self, ws, message):
            ws.send(message)

    live = serving()
    client = live.connect()
    for handler in (
        Callable(),
        Callable().method,
        Callable.static,
        functools.partial(three, 1),
        Made,
        uwserve.ServerWebSocket.send,
    ):
        live.server.reload(websocket={"message": handler})
        if handler is uwserve.ServerWebSocket.send:
            client.send("plain")
            assert client.read_message() == "plain"
        else:
            client.send("x")
            assert client.read_message() == "x"


@pytest.mark.parametrize("wrong", [lambda: None, lambda ws: None, lambda ws, a, b: None, 5, "message"])
def test_wrong_handlers(wrong):
    """A handler that cannot be called with its arguments is an error at serve()."""
    with pytest.raises(TypeError, match="message"):
        uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x", websocket={"message": wrong})


@pytest.mark.parametrize("exception", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("where", [*HANDLERS, "fetch", "error", "call_soon"])
def test_ends_run(script, where, exception):
    """KeyboardInterrupt and SystemExit out of any callback end run() with it; the server can run on, or be stopped."""
    output = script(
        """
        import sys, threading, uwserve
        from ws_client import Client, ConnectionEnded
        where, exception = sys.argv[1], {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[sys.argv[2]]
        raised = []
        def act(name):
            if name == where and not raised:
                raised.append(name)
                raise exception(name)
        def fetch(request, server):
            act("fetch")
            return server.upgrade(request) and None
        def message(ws, text):
            if text == "fail":
                1 / 0
            if text == "soon":
                server.call_soon(act, "call_soon")
            if text == "fill":
                while ws.send(bytes(65536)) != -1: pass
                return
            act("message")
            ws.send(text)
        def error(exc, ws):
            act("error")
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={
            "open": lambda ws: act("open"), "message": message, "close": lambda ws, c, r: act("close"),
            "drain": lambda ws: act("drain"), "ping": lambda ws, d: act("ping"), "pong": lambda ws, d: act("pong"),
            "error": error})
        def talk():
            try:
                with Client(("127.0.0.1", server.port)) as client:
                    for what in ("fail", "soon", "fill"):
                        client.send(what)
                    client.ping(); client.pong(); client.send("x")
                    while client.read_frame().payload != b"x": pass
                    client.send_close()
                    client.read_to_end()
            except (ConnectionEnded, AssertionError):  # AssertionError: answered with 500
                pass
            finally:
                server.stop(True)
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            server.run()
            print("ended by itself")
        except BaseException as exc:
            print(repr(exc))
            try:
                server.run()
            except RuntimeError:  # the client has stopped it already
                assert server.finished
        thread.join()
        print(server.finished, server.pending_websockets)
        """,
        where,
        exception,
    ).finish()
    lines = output.splitlines()
    assert f"{exception}('{where}')" in lines
    assert lines[-1] == "True 0"


def test_system_exit_in_background_thread(serving, logged):
    """Out of a handler of a started server: logged, the thread ends, the server can be started again."""
    calls = []

    def message(ws, text):
        calls.append(text)
        if text == "exit":
            raise SystemExit(3)
        ws.send(text)

    live = serving(message=message)
    client = live.connect()
    thread = live.server._control.state.thread
    client.send("exit")
    thread.join(10)
    assert not thread.is_alive()
    assert "SystemExit" in "".join(logged)
    live.server.start()
    client.send("again")
    assert client.read_message() == "again"
