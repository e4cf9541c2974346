"""Every option of serve() and websocket: both spellings, types, ranges, defaults."""

import os
from pathlib import Path
from typing import Any

import pytest

from uwserve import serve
from uwserve._options.serve import SERVE, reload_options, serve_options
from uwserve._options.websocket import WEBSOCKET, check_websocket

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
        "unix_mode": None,
        "fd": None,
        "tls": None,
        "routes": None,
        "error": None,
        "startup": None,
        "shutdown": None,
        "idle_timeout": 10,
        "keep_alive_timeout": 75,
        "min_body_rate": 240,
        "max_request_body_size": 16 * MIB,
        "reuse_port": False,
        "ipv6_only": False,
        "metrics": None,
        "dashboard": None,
        "trusted_proxies": (),
        "forwarded_header": "x-forwarded-for",
        "proxy_protocol": False,
        "limits": {},
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
        "ping_interval": 0,
        "max_lifetime": 0,
        "backpressure_limit": 16 * MIB,
        "close_on_backpressure_limit": False,
        "send_pings": True,
        "publish_to_self": False,
        "serial": False,
        "max_concurrent_handlers": 256,
        "per_message_deflate": ("disable", "disable"),
        "protocols": None,
    }


SERVE_RANGES = [
    ("port", 0, 65535),
    ("idle_timeout", 0, 255),
    ("idleTimeout", 0, 255),
    ("keep_alive_timeout", 0, 86400),
    ("keepAliveTimeout", 0, 86400),
    ("min_body_rate", 0, GIB),
    ("minBodyRate", 0, GIB),
    ("max_request_body_size", 0, 4 * GIB - 1),
    ("maxRequestBodySize", 0, 4 * GIB - 1),
]
WEBSOCKET_RANGES = [
    ("max_payload_length", 0, GIB),
    ("maxPayloadLength", 0, GIB),
    ("idle_timeout", 0, 960),
    ("idleTimeout", 0, 960),
    ("ping_interval", 0, 960),
    ("pingInterval", 0, 960),
    ("max_lifetime", 0, 31_536_000),
    ("maxLifetime", 0, 31_536_000),
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
    for wrong in (True, 1.0, None, [1], *(() if name == "port" else ("1",))):  # a port may be text
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
    assert websocket(protocols=None)["protocols"] is None
    for wrong in ("chat", b"chat", {"chat"}, {"chat": 1}, 5, iter(["chat"])):
        with pytest.raises(TypeError, match=r"websocket\.protocols must be a sequence of str"):
            websocket(protocols=wrong)
    with pytest.raises(TypeError, match=r"each of websocket\.protocols must be a str, got int: 1"):
        websocket(protocols=["chat", 1])
    for bad in ("", "a b", "a,b", "é", 'a"', "a\0", "a/b"):
        with pytest.raises(ValueError, match=r"websocket\.protocols: .* is not a valid subprotocol name"):
            websocket(protocols=[bad])
    with pytest.raises(ValueError, match=r"websocket\.protocols: 'a' is there twice"):
        websocket(protocols=["a", "b", "a"])


@pytest.mark.parametrize("name", ["per_message_deflate", "perMessageDeflate"])
def test_per_message_deflate(name: str) -> None:
    def checked(value: object) -> object:
        return websocket(**{name: value})["per_message_deflate"]

    assert checked(False) == checked(None) == websocket()["per_message_deflate"] == ("disable", "disable")
    assert checked(True) == checked({}) == ("shared", "shared")
    assert checked({"compress": True}) == ("shared", "shared")
    assert checked({"compress": False}) == ("disable", "shared")
    assert checked({"compress": "dedicated", "decompress": False}) == ("dedicated", "disable")
    for size in ("disable", "shared", "dedicated", "3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB"):
        assert checked({"compress": size, "decompress": size}) == (size, size)
    label = rf"websocket\.{name}"
    for wrong in ("shared", 1, ["compress"]):
        with pytest.raises(TypeError, match=rf"{label} must be a bool or a dict, got {type(wrong).__name__}"):
            checked(wrong)
    with pytest.raises(TypeError, match=rf"{label}: unknown option 'compres'"):
        checked({"compres": True})
    with pytest.raises(TypeError, match=rf"{label}\['compress'\] must be a bool or a str, got int: 3"):
        checked({"compress": 3})
    with pytest.raises(ValueError, match=rf"{label}\['decompress'\] must be a bool or one of .*, got '3kb'"):
        checked({"decompress": "3kb"})


def test_reload_options() -> None:
    assert reload_options({}) == {}
    assert reload_options({"idleTimeout": 3}) == {"idle_timeout": 3}
    assert reload_options({"websocket": None}) == {"websocket": None}
    for fixed in ("port", "hostname", "unix", "fd", "reuse_port", "reusePort", "ipv6_only", "ipv6Only"):
        with pytest.raises(ValueError, match=f"reload\\(\\) cannot change {fixed}"):
            reload_options({fixed: None})
    with pytest.raises(TypeError, match=r"reload\(\): unknown option 'fetsch' \(did you mean 'fetch'\?\)"):
        reload_options({"fetsch": None})


def test_every_option_is_in_a_test() -> None:
    """A new option needs a line here or in test_handler_options.py."""
    text = "".join(
        Path(__file__).with_name(name).read_text() for name in ("test_options.py", "test_handler_options.py")
    )
    for name in (*SERVE, *WEBSOCKET):
        assert f'"{name}"' in text
