"""Which arguments handlers get: the order of ``websocket.error``, and those that a handler leaves out."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import pytest
from http_client import Client, request

from uwserve import Response, Server, ServerWebSocket, WebSocketHandler, serve
from uwserve._options.websocket import check_websocket

OLDER = r"websocket\.error is called as \(error, ws\)"


class Failing(Exception):
    """What the handlers here raise."""


def fails(ws: Any, message: Any) -> None:
    raise Failing(message)


def error_of(handler: Any) -> Any:
    checked = check_websocket("websocket", {"error": handler})
    assert checked is not None
    return checked["error"]


class Recorder:
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def error_first(self, error: Any, ws: Any) -> None:
        self.seen.append((error, ws))

    def socket_first(self, ws: Any, exc: Any) -> None:
        self.seen.append((exc, ws))

    def error_only(self, error: Any) -> None:
        self.seen.append((error,))

    def anything(self, *arguments: Any) -> None:
        self.seen.append(arguments)


def failed(serving: Any, handler: Any) -> None:
    """A message whose handler raises, then one that shows that the socket is alive."""
    live = serving(message=fails, error=handler)
    client = live.connect()
    client.send("go")
    client.ping(b"still open")
    assert client.read_frame().payload == b"still open"
    live.on_loop(lambda: None)


@pytest.mark.parametrize(
    "shape", ["method", "lambda", "partial", "partial with its socket named", "callable object", "anything"]
)
def test_error_comes_first(serving: Any, logged: Any, shape: str) -> None:
    """As in Bun, whatever the callable is; a ported ``def error(err, ws)`` does not fail."""
    recorder = Recorder()

    class Callable_:  # noqa: N801
        def __call__(self, err: Any, socket: Any) -> None:
            recorder.seen.append((err, socket))

    def three(more: Any, err: Any, ws: Any) -> None:
        recorder.seen.append((err, ws))

    handler: Any = {
        "method": recorder.error_first,
        "lambda": lambda err, ws: recorder.seen.append((err, ws)),
        "partial": functools.partial(three, "more"),
        "partial with its socket named": functools.partial(recorder.socket_first, exc=None),
        "callable object": Callable_(),
        "anything": recorder.anything,
    }[shape]
    if shape == "partial with its socket named":
        with pytest.raises(TypeError, match=r"gets the error first.*\(error, ws\)"):
            error_of(handler)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failed(serving, handler)
    ((error, ws),) = recorder.seen
    assert isinstance(error, Failing)
    assert isinstance(ws, ServerWebSocket)
    assert not logged


@pytest.mark.parametrize("name", ["ws", "websocket", "socket"])
def test_the_older_order_is_known_by_the_name_of_the_first_parameter(serving: Any, logged: Any, name: str) -> None:
    seen: list[Any] = []
    handler = eval(f"lambda {name}, exc: seen.append((exc, {name}))", {"seen": seen})
    with pytest.warns(DeprecationWarning, match=OLDER) as warned:
        assert error_of(handler) is not handler
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.warns(DeprecationWarning, match=OLDER) as warned:
        failed(serving, handler)
    assert len(warned) == 1
    ((error, ws),) = seen
    assert isinstance(error, Failing)
    assert isinstance(ws, ServerWebSocket)
    assert not logged


def test_the_older_order_of_a_method_and_of_a_coroutine(serving: Any) -> None:
    recorder = Recorder()
    with pytest.warns(DeprecationWarning, match=OLDER):
        failed(serving, recorder.socket_first)
    assert isinstance(recorder.seen[0][0], Failing)

    class Chat(WebSocketHandler):
        async def error(self, ws: Any, exc: Any) -> None:  # type: ignore[override]
            recorder.seen.append((exc, ws))

    with pytest.warns(DeprecationWarning, match=OLDER), serve(websocket=Chat(), fetch=lambda: "", port=0) as server:
        assert server._control.has_coroutine_handlers()


def test_error_alone(serving: Any) -> None:
    recorder = Recorder()
    failed(serving, recorder.error_only)
    assert isinstance(recorder.seen[0][0], Failing)
    with pytest.raises(TypeError, match=r"websocket\.error gets the error first.*signature is \(ws\)"):
        error_of(lambda ws: None)


def test_functions_of_c_get_the_order_of_bun() -> None:
    for function in (print, max, [].append):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            error_of(function)


# --- arguments that are left out ---


@pytest.mark.parametrize("name", ["open", "close", "drain", "ping", "pong"])
@pytest.mark.parametrize("count", [0, 1])
def test_handlers_of_sockets(serving: Any, logged: Any, name: str, count: int) -> None:
    """The last arguments may be left out, as in JavaScript; those that are there are the first ones."""
    seen: list[tuple[Any, ...]] = []
    handler = (lambda: seen.append(())) if count == 0 else (lambda ws: seen.append((ws,)))
    live = serving(only=("message",), **{name: handler})
    if name != "drain":
        client = live.connect()
        client.ping(b"1")
        assert client.read_frame().payload == b"1"
        client.pong(b"2")
        client.send_close()
        client.read_close()
    else:
        client = live.connect(receive_buffer=8192)
        client.send("go")
        ws = live.wait_for("message")[0]

        def fill() -> int:
            sent = 1
            while ws.send(bytes(65536)) != -1:
                sent += 1
            return sent

        client.read_messages(live.on_loop(fill))
        client.send_close()
        client.read_close()
    live.on_loop(lambda: None)
    assert seen
    assert {len(arguments) for arguments in seen} == {count}
    assert all(isinstance(ws, ServerWebSocket) for arguments in seen for ws in arguments)
    assert not logged


def test_close_without_its_reason(serving: Any) -> None:
    seen: list[Any] = []
    live = serving(only=("open",), close=lambda ws, code: seen.append(code))
    client = live.connect()
    client.send_close(4000, "the reason")
    client.read_close()
    live.on_loop(lambda: None)
    assert seen == [4000]


def test_nothing_of_a_message_may_be_left_out() -> None:
    for handler in (lambda: None, lambda ws: None):
        with pytest.raises(TypeError, match=r"websocket\.message must accept \(ws, message\)"):
            check_websocket("websocket", {"message": handler})


def test_handlers_that_take_everything_are_called_as_they_are() -> None:
    def handler(*arguments: Any) -> None: ...

    names = ("open", "message", "close", "drain", "ping", "pong", "error")
    checked = check_websocket("websocket", dict.fromkeys(names, handler))
    assert checked is not None
    assert all(checked[name] is handler for name in names)


def test_handlers_of_requests() -> None:
    """``fetch() { ... }`` of Bun, routes and ``error``; plain or not."""

    async def later() -> str:
        return "later"

    def raises() -> str:
        raise Failing

    routes: dict[str, Any] = {"/route": lambda: "route", "/method": {"GET": lambda: "method"}, "/later": later}
    with serve(
        fetch=lambda: "fetch", routes=routes | {"/bad": raises}, error=lambda: Response("error", 503), port=0
    ) as server:
        assert server._control.has_coroutine_handlers()
        with Client(server.start()) as client:
            for path in ("fetch", "route", "method", "later"):
                assert client.ask(request(f"/{path}")).body == path.encode()
            assert client.ask(request("/bad")).status == 503


@pytest.mark.parametrize("closed", [False, True])
def test_cork_without_its_socket(serving: Any, closed: bool) -> None:
    """``ws.cork(() => ...)`` of Bun's documentation; any other callable gets the socket."""
    live = serving()
    client, ws = live.open()
    if closed:
        client.send_close()
        client.read_close()
        live.wait_for("close")

    class Bound:
        def nothing(self) -> str:
            return "method"

        def socket(self, ws: Any) -> Any:
            return ws

        @staticmethod
        def static() -> str:
            return "static"

        @classmethod
        def of_class(cls) -> str:
            return "class"

        def __call__(self, ws: Any) -> Any:
            return ws

    bound = Bound()
    for callback, wanted in (
        (lambda: "lambda", "lambda"),
        (bound.nothing, "method"),
        (bound.static, "static"),
        (bound.of_class, "class"),
        (lambda *, key=1: key, 1),
        (lambda ws: ws, ws),
        (lambda ws=None: ws, ws),
        (lambda *rest: rest[0], ws),
        (bound.socket, ws),
        (bound, ws),
        (functools.partial(lambda one, ws: ws, 1), ws),
    ):
        assert live.on_loop(ws.cork, callback) == wanted
    with pytest.raises(TypeError, match="missing 1 required keyword"):
        live.on_loop(ws.cork, lambda *, key: key)
    with pytest.raises(Failing):
        live.on_loop(ws.cork, lambda: fails(ws, "out of the callback"))


def test_typed_as_a_server() -> None:
    """A handler of requests with one parameter is not wrapped."""

    def fetch(request: Any) -> str:
        return "text"

    server: Server
    with serve(fetch=fetch, port=0) as server:
        assert server._control.app.fetch is fetch
