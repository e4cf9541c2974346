"""Every option of serve() and websocket: both spellings, types, ranges, defaults."""

import os
from typing import Any

import pytest

from uwserve import WebSocketHandler, serve
from uwserve._options import SERVE, WEBSOCKET, check_websocket, reload_options, serve_options

MIB = 1 << 20
GIB = 1 << 30


def websocket(**options: Any) -> dict[str, Any]:
    checked = check_websocket("websocket", options)
    assert checked is not None
    return checked


def test_serve_defaults() -> None:
    options = serve_options({})
    assert options == {
        "fetch": None,
        "websocket": None,
        "port": 3000,
        "hostname": "0.0.0.0",
        "unix": None,
        "tls": None,
        "routes": None,
        "error": None,
        "idle_timeout": 10,
        "max_request_body_size": 128 * MIB,
        "reuse_port": False,
        "ipv6_only": False,
        "development": False,
        "id": "",
    }


def test_websocket_defaults() -> None:
    assert websocket() == {
        "open": None,
        "message": None,
        "close": None,
        "drain": None,
        "ping": None,
        "pong": None,
        "error": None,
        "max_payload_length": 16 * MIB,
        "idle_timeout": 120,
        "backpressure_limit": 16 * MIB,
        "close_on_backpressure_limit": False,
        "send_pings": True,
        "publish_to_self": False,
        "protocols": (),
    }


SERVE_RANGES = [
    ("port", 0, 65535),
    ("idle_timeout", 0, 255),
    ("idleTimeout", 0, 255),
    ("max_request_body_size", 0, 4 * GIB - 1),
    ("maxRequestBodySize", 0, 4 * GIB - 1),
]
WEBSOCKET_RANGES = [
    ("max_payload_length", 1, GIB),
    ("maxPayloadLength", 1, GIB),
    ("idle_timeout", 0, 960),
    ("idleTimeout", 0, 960),
    ("backpressure_limit", 0, GIB),
    ("backpressureLimit", 0, GIB),
]


@pytest.mark.parametrize(("name", "low", "high"), SERVE_RANGES)
def test_serve_integers(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert value in serve_options({name: value}).values()
    for value in (low - 1, high + 1, 1 << 70):
        with pytest.raises(ValueError, match=rf"{name} must be in {low}\.\.{high}.*got {value}"):
            serve(**{name: value})
    for wrong in (True, 1.0, "1", None, [1]):
        with pytest.raises(TypeError, match=rf"{name} must be an int, got {type(wrong).__name__}"):
            serve(**{name: wrong})


@pytest.mark.parametrize(("name", "low", "high"), WEBSOCKET_RANGES)
def test_websocket_integers(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert value in websocket(**{name: value}).values()
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"websocket\.{name} must be in {low}\.\.{high}.*got {value}"):
            serve(websocket={name: value})
    for wrong in (False, 8.0, "8", None, b"8"):
        with pytest.raises(TypeError, match=rf"websocket\.{name} must be an int, got {type(wrong).__name__}"):
            serve(websocket={name: wrong})


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 9), (960, 960)])
def test_idle_timeouts_under_8_are_raised(given: int, kept: int) -> None:
    assert websocket(idle_timeout=given)["idle_timeout"] == kept


def test_integers_by_index() -> None:
    class Port:
        def __index__(self) -> int:
            return 8080

    port = serve_options({"port": Port()})["port"]
    assert port == 8080
    assert type(port) is int


@pytest.mark.parametrize("name", ["reuse_port", "reusePort", "ipv6_only", "ipv6Only", "development"])
def test_serve_booleans(name: str) -> None:
    assert True in [value for value in serve_options({name: True}).values() if isinstance(value, bool)]
    for wrong in (1, 0, "yes", None):
        with pytest.raises(TypeError, match=f"{name} must be a bool, got {type(wrong).__name__}"):
            serve(**{name: wrong})


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("closeOnBackpressureLimit", "close_on_backpressure_limit"),
        ("sendPings", "send_pings"),
        ("publishToSelf", "publish_to_self"),
    ],
)
def test_websocket_booleans(alias: str, name: str) -> None:
    for value in (True, False):
        assert websocket(**{name: value})[name] is value
        assert websocket(**{alias: value})[name] is value
    with pytest.raises(TypeError, match=rf"websocket\.{alias} must be a bool, got int: 1"):
        websocket(**{alias: 1})


@pytest.mark.parametrize("name", ["hostname", "id"])
def test_strings(name: str) -> None:
    for wrong in (b"x", 1, None):
        with pytest.raises(TypeError, match=f"{name} must be a str, got {type(wrong).__name__}"):
            serve(**{name: wrong})


@pytest.mark.parametrize("bad", ["", "a\0b"])
def test_bad_hostname(bad: str) -> None:
    with pytest.raises(ValueError, match="hostname"):
        serve(hostname=bad)


def test_unix_paths() -> None:
    class Path:
        def __fspath__(self) -> str:
            return "/tmp/x"

    def unix(value: Any) -> Any:
        return serve_options({"unix": value})["unix"]

    assert unix("/tmp/é") == os.fsencode("/tmp/é")
    assert unix(b"/tmp/x") == b"/tmp/x"
    assert unix(Path()) == b"/tmp/x"
    assert unix("\0name") == b"\0name"
    assert unix(b"\0na\0me") == b"\0na\0me"
    assert unix(None) is None
    for wrong in (1, bytearray(b"x"), ["x"]):
        with pytest.raises(TypeError, match=f"unix must be a str, bytes or os.PathLike, got {type(wrong).__name__}"):
            serve(unix=wrong)
    for bad in ("", b"", "\0", "/tmp/a\0b"):
        with pytest.raises(ValueError, match="unix must not"):
            serve(unix=bad)


@pytest.mark.parametrize("other", [{"port": 0}, {"hostname": "127.0.0.1"}])
def test_unix_excludes_port_and_hostname(other: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"unix and {next(iter(other))} cannot both be given"):
        serve(unix="/nowhere/x", **other)
    assert serve_options({"unix": None, **other})["unix"] is None


@pytest.mark.parametrize(
    ("where", "given", "named", "meant"),
    [
        ("serve", {"prot": 1}, "prot", "port"),
        ("serve", {"maxPayloadLength": 1}, "maxPayloadLength", None),
        ("serve", {"idle_timout": 1}, "idle_timout", "idle_timeout"),
        ("serve", {"maxrequestbodysize": 1}, "maxrequestbodysize", "max_request_body_size"),
        ("websocket", {"mesage": print}, "mesage", "message"),
        ("websocket", {"port": 1}, "port", None),
        ("websocket", {"fetch": 1}, "fetch", None),
    ],
)
def test_unknown_options(where: str, given: dict[str, Any], named: str, meant: "str | None") -> None:
    with pytest.raises(TypeError) as caught:
        serve(given) if where == "serve" else serve(websocket=given)
    text = str(caught.value)
    assert where in text
    assert f"unknown option {named!r}" in text
    if meant is not None:
        assert f"did you mean {meant!r}?" in text


def test_option_names_must_be_str() -> None:
    with pytest.raises(TypeError, match="option names must be str, got int: 1"):
        serve({1: 2})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="websocket: option names must be str, got NoneType"):
        serve(websocket={None: 2})


def test_both_spellings_at_once() -> None:
    with pytest.raises(TypeError, match="'idle_timeout' and 'idleTimeout' are the same option"):
        serve(idle_timeout=1, idleTimeout=1)
    with pytest.raises(TypeError, match="websocket: 'sendPings' and 'send_pings' are the same option"):
        serve(websocket={"sendPings": True, "send_pings": True})


def test_one_dict_or_keywords() -> None:
    with pytest.raises(TypeError, match="not both"):
        serve({"port": 0}, id="x")
    with pytest.raises(TypeError, match="keywords or one dict, got list"):
        serve([("port", 0)])  # type: ignore[arg-type]


def test_subprotocols() -> None:
    assert websocket(protocols=["chat.v2", "chat"])["protocols"] == ("chat.v2", "chat")
    assert websocket(protocols=())["protocols"] == ()
    for wrong in ("chat", b"chat", {"chat"}, {"chat": 1}, 5, None, iter(["chat"])):
        with pytest.raises(TypeError, match=r"websocket\.protocols must be a sequence of str"):
            websocket(protocols=wrong)
    with pytest.raises(TypeError, match=r"each of websocket\.protocols must be a str, got int: 1"):
        websocket(protocols=["chat", 1])
    for bad in ("", "a b", "a,b", "é", 'a"', "a\0", "a/b"):
        with pytest.raises(ValueError, match=r"websocket\.protocols: .* is not a valid subprotocol name"):
            websocket(protocols=[bad])
    with pytest.raises(ValueError, match=r"websocket\.protocols: 'a' is there twice"):
        websocket(protocols=["a", "b", "a"])


def test_what_this_version_does_not_do() -> None:
    with pytest.raises(ValueError, match="tls is not supported in this version"):
        serve(tls={})
    assert serve_options({"tls": None})["tls"] is None
    for name in ("per_message_deflate", "perMessageDeflate"):
        for value in (True, {"compress": True}):
            with pytest.raises(ValueError, match=rf"websocket\.{name} is not supported in this version"):
                serve(websocket={name: value})
        with pytest.raises(TypeError, match=rf"websocket\.{name} must be a bool or a dict, got str"):
            serve(websocket={name: "shared"})
        assert name not in websocket(**{name: False})


async def coroutine_handler(*args: Any) -> None:
    pass


class AsyncCallable:
    async def __call__(self, *args: Any) -> None:
        pass


@pytest.mark.parametrize("handler", [coroutine_handler, AsyncCallable()])
def test_coroutine_handlers_are_refused(handler: Any) -> None:
    for given in (
        {"fetch": handler},
        {"error": handler},
        {"routes": {"/": handler}},
        {"routes": {"/": {"GET": handler}}},
    ):
        with pytest.raises(TypeError, match="coroutine handlers are not supported in this version, use a plain def"):
            serve(given)
    for name in ("open", "message", "close", "drain", "ping", "pong", "error"):
        with pytest.raises(TypeError, match=rf"websocket\.{name} is a coroutine function"):
            serve(websocket={name: handler})


HANDLERS = {
    "open": lambda ws: None,
    "message": lambda ws, message: None,
    "close": lambda ws, code, reason: None,
    "drain": lambda ws: None,
    "ping": lambda ws, data: None,
    "pong": lambda ws, data: None,
    "error": lambda ws, exc: None,
}


@pytest.mark.parametrize("name", HANDLERS)
def test_websocket_handlers(name: str) -> None:
    assert websocket(**{name: HANDLERS[name]})[name] is HANDLERS[name]
    assert websocket(**{name: None})[name] is None
    with pytest.raises(TypeError, match=rf"websocket\.{name} must be callable, got int"):
        websocket(**{name: 1})
    with pytest.raises(TypeError, match=rf"websocket\.{name} must accept \(ws.*\), but its signature is \(\)"):
        websocket(**{name: lambda: None})
    with pytest.raises(TypeError, match=rf"websocket\.{name} must accept"):
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
        "function", [lambda: None, lambda one, two, three: None, lambda request, *, key: None, lambda *, request: None]
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
                assert getattr(WebSocketHandler, name) == value

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
            WebSocketHandler().error(None, KeyError("x"))  # type: ignore[arg-type]

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


def test_reload_options() -> None:
    assert reload_options({}) == {}
    assert reload_options({"idleTimeout": 3}) == {"idle_timeout": 3}
    assert reload_options({"websocket": None}) == {"websocket": None}
    for fixed in ("port", "hostname", "unix", "tls", "reuse_port", "reusePort", "ipv6_only", "ipv6Only"):
        with pytest.raises(ValueError, match=f"reload\\(\\) cannot change {fixed}"):
            reload_options({fixed: None})
    with pytest.raises(TypeError, match=r"reload\(\): unknown option 'fetsch' \(did you mean 'fetch'\?\)"):
        reload_options({"fetsch": None})


def test_every_option_is_in_a_test() -> None:
    """A new option needs a line in this file."""
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    for name in (*SERVE, *WEBSOCKET):
        assert f'"{name}"' in text
