"""Handlers as options: what is callable, with which signature, from a dict, an object or a class."""

from typing import Any

import pytest

from uwserve import WebSocketHandler, serve
from uwserve._options.serve import serve_options
from uwserve._options.websocket import WEBSOCKET, check_websocket


def websocket(**options: Any) -> dict[str, Any]:
    checked = check_websocket("websocket", options)
    assert checked is not None
    return checked


async def coroutine_handler(*args: Any) -> None:
    pass


class AsyncCallable:
    async def __call__(self, *args: Any) -> None:
        pass


async def generator_handler(*args: Any) -> Any:
    yield 1


@pytest.mark.parametrize("handler", [coroutine_handler, AsyncCallable()])
def test_coroutine_handlers_are_taken(handler: Any) -> None:
    for given in (
        {"fetch": handler},
        {"error": handler, "fetch": lambda: ""},
        {"routes": {"/": handler}},
        {"routes": {"/": {"GET": handler}}},
        *({"websocket": {name: handler}, "fetch": lambda r, s: s.upgrade(r)} for name in HANDLERS),
    ):
        with serve({"port": 0, "hostname": "127.0.0.1"} | given) as server:
            assert server._control.has_coroutine_handlers()


def test_asynchronous_generators_are_refused() -> None:
    for label, given in (
        ("fetch", {"fetch": generator_handler}),
        ("error", {"error": generator_handler}),
        ("route '/'", {"routes": {"/": generator_handler}}),
        ("websocket.message", {"websocket": {"message": generator_handler}}),
    ):
        with pytest.raises(TypeError, match=f"{label} is an asynchronous generator function"):
            serve(given)


HANDLERS = {
    "open": lambda ws: None,
    "message": lambda ws, message: None,
    "close": lambda ws, code, reason: None,
    "drain": lambda ws: None,
    "ping": lambda ws, data: None,
    "pong": lambda ws, data: None,
    "error": lambda error, ws: None,
}


@pytest.mark.parametrize("name", HANDLERS)
def test_websocket_handlers(name: str) -> None:
    assert websocket(**{name: HANDLERS[name]})[name] is HANDLERS[name]
    assert websocket(**{name: None})[name] is None
    with pytest.raises(TypeError, match=rf"websocket\.{name} must be callable, got int"):
        websocket(**{name: 1})
    with pytest.raises(TypeError, match=rf"websocket\.{name} .*must accept"):
        websocket(**{name: lambda ws, one, two, three: None})


def test_variadic_and_unreadable_handlers_are_taken() -> None:
    def anything(*args: Any) -> None: ...

    assert websocket(close=anything)["close"] is anything
    assert websocket(message=max)["message"] is max


class TestFetchSignature:
    def both(self, function: Any) -> bool:
        found = serve_options({"fetch": function})["fetch"]
        assert found[0] is function
        return bool(found[1])

    def test_one(self) -> None:
        assert not self.both(lambda request: None)
        assert not self.both(lambda request, server=None: None)
        assert not self.both(lambda request, *rest: None)
        assert not self.both(lambda request, **options: None)

    def test_two(self) -> None:
        assert self.both(lambda request, server: None)
        assert self.both(lambda request, server, extra=1: None)
        assert self.both(lambda *args: None)

    def test_methods(self) -> None:
        class Application:
            def one(self, request: Any) -> None: ...

            def __call__(self, request: Any, server: Any) -> None: ...

        application = Application()
        assert self.both(application)
        found = serve_options({"fetch": application.one})["fetch"]
        assert found[1] is False

    @pytest.mark.parametrize(
        "function", [lambda one, two, three: None, lambda request, *, key: None, lambda *, request: None]
    )
    def test_neither(self, function: Any) -> None:
        with pytest.raises(TypeError, match=r"fetch must accept \(request\) or \(request, server\)"):
            serve(fetch=function)

    def test_not_callable(self) -> None:
        with pytest.raises(TypeError, match="fetch must be callable, got str"):
            serve(fetch="x")


class TestHandlerObjects:
    def test_instance_of_base_class(self) -> None:
        class Handler(WebSocketHandler):
            idle_timeout = 30
            publishToSelf = True  # noqa: N815

            def message(self, ws: Any, message: Any) -> None: ...

        handler = Handler()
        handler.protocols = ("a",)
        checked = check_websocket("websocket", handler)
        assert checked is not None
        assert checked["message"] == handler.message
        assert checked["idle_timeout"] == 30
        assert checked["publish_to_self"] is True
        assert checked["protocols"] == ("a",)
        # What is not overridden is not called.
        assert [name for name in HANDLERS if checked[name] is not None] == ["message"]

    def test_bare_instance(self) -> None:
        assert check_websocket("websocket", WebSocketHandler()) == websocket()

    def test_defaults_of_base_class_are_the_real_ones(self) -> None:
        for name, value in websocket().items():
            if name not in HANDLERS:
                default = getattr(WebSocketHandler, name)
                assert WEBSOCKET[name].check(name, default) == value

    def test_inherited_twice(self) -> None:
        class First(WebSocketHandler):
            max_payload_length = 5

            def open(self, ws: Any) -> None: ...

        class Second(First):
            def close(self, ws: Any, code: int, reason: str) -> None: ...

        checked = check_websocket("websocket", Second())
        assert checked is not None
        assert checked["max_payload_length"] == 5
        assert [name for name in HANDLERS if checked[name] is not None] == ["open", "close"]

    def test_its_class_is_refused(self) -> None:
        with pytest.raises(TypeError, match="websocket must be an instance of WebSocketHandler, not the class"):
            serve(websocket=WebSocketHandler)

    def test_default_error_raises(self) -> None:
        with pytest.raises(KeyError):
            WebSocketHandler().error(KeyError("x"), None)  # type: ignore[arg-type]

    def test_any_object(self) -> None:
        class Mine:
            maxPayloadLength = 7  # noqa: N815
            something_else = 1

            def message(self, ws: Any, message: Any) -> None: ...

        mine = Mine()
        checked = check_websocket("websocket", mine)
        assert checked is not None
        assert checked["message"] == mine.message
        assert checked["max_payload_length"] == 7

    def test_a_class_as_it_is(self) -> None:
        class Functions:
            send_pings = False

            @staticmethod
            def open(ws: Any) -> None: ...

            def message(ws, message: Any) -> None: ...  # noqa: N805

        checked = check_websocket("websocket", Functions)
        assert checked is not None
        assert checked["open"] is Functions.open
        assert checked["message"] is Functions.message
        assert checked["send_pings"] is False

    def test_both_spellings(self) -> None:
        class Doubled:
            idle_timeout = 8
            idleTimeout = 8  # noqa: N815

        with pytest.raises(TypeError, match="'idle_timeout' and 'idleTimeout' are the same option"):
            serve(websocket=Doubled())

    @pytest.mark.parametrize("value", [1, "message", [], object(), True])
    def test_something_else(self, value: Any) -> None:
        with pytest.raises(TypeError, match=f"websocket must be a dict, .*got {type(value).__name__}"):
            serve(websocket=value)
