"""The option ``websocket``: the handlers and limits of sockets.

The defaults are the attributes of ``WebSocketHandler``, where each option is documented.
"""

from __future__ import annotations

from .._checks import GIB, boolean, integer, or_none, wrong_type
from .._handlers import check_full_handler, check_handler, check_socket_error
from .._http.headers import is_token
from .._websocket.handler import WebSocketHandler
from .option import Option, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._checks import Check

YEAR = 365 * 86400

HANDLERS = {
    "open": ("ws",),
    "message": ("ws", "message"),
    "close": ("ws", "code", "reason"),
    "drain": ("ws",),
    "ping": ("ws", "data"),
    "pong": ("ws", "data"),
    "error": ("error", "ws"),
}
"""The handlers and their arguments."""


def payload_length(label: str, value: object) -> int:
    """Bun accepts up to 2^32-1. Here a message is kept whole in memory, which is bounded to less by default."""
    try:
        length: int = integer(0, GIB, "bytes")(label, value)
    except ValueError as error:
        raise ValueError(f"{error}: a message is kept whole in memory, and larger ones have to come in parts") from None
    return length


def idle_timeout(label: str, value: object) -> int:
    """0 is off; 1..7 become 8, as in Bun: the timers have a granularity of 4 seconds."""
    seconds: int = integer(0, 960, "seconds")(label, value)
    return 8 if 0 < seconds < 8 else seconds


def subprotocols(label: str, value: object) -> tuple[str, ...]:
    """A sequence of distinct tokens (RFC 6455 section 4.1, RFC 7230 section 3.2.6)."""
    if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__getitem__") or isinstance(value, dict):
        raise wrong_type(label, "a sequence of str", value)
    names: tuple[Any, ...] = tuple(value)  # type: ignore[arg-type]
    for name in names:
        if not isinstance(name, str):
            raise wrong_type(f"each of {label}", "a str", name)
        if not is_token(name):
            raise ValueError(f"{label}: {name!r} is not a valid subprotocol name (RFC 6455 wants a token)")
        if names.count(name) > 1:
            raise ValueError(f"{label}: {name!r} is there twice")
    return names


DEFLATE_MODES = ("disable", "shared", "dedicated", "3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB")


def per_message_deflate(label: str, value: object) -> tuple[str, str]:
    """(compress, decompress), each by name. A direction that a dict leaves out is shared."""
    if value is None or isinstance(value, bool):
        return ("shared", "shared") if value else ("disable", "disable")
    if not isinstance(value, dict):
        raise wrong_type(label, "a bool or a dict", value)
    directions = {"compress": "shared", "decompress": "shared"}
    for name, mode in value.items():
        if name not in directions:
            raise TypeError(f"{label}: unknown option {name!r} (there are 'compress' and 'decompress')")
        directions[name] = _deflate_mode(f"{label}[{name!r}]", mode)
    return directions["compress"], directions["decompress"]


def _deflate_mode(label: str, value: object) -> str:
    if isinstance(value, bool):
        return "shared" if value else "disable"
    if not isinstance(value, str):
        raise wrong_type(label, "a bool or a str", value)
    if value not in DEFLATE_MODES:
        raise ValueError(f"{label} must be a bool or one of {', '.join(map(repr, DEFLATE_MODES))}, got {value!r}")
    return value


def _setting(name: str, check: Check) -> Option:
    return Option(name, check, check(name, getattr(WebSocketHandler, name)))


def _handler(name: str) -> Option:
    check = {"error": check_socket_error, "message": check_full_handler}.get(name, check_handler)
    return Option(name, or_none(check, *HANDLERS[name]))


WEBSOCKET = Options(
    _setting("max_payload_length", payload_length),
    _setting("idle_timeout", idle_timeout),
    _setting("ping_interval", integer(0, 960, "seconds")),
    _setting("max_lifetime", integer(0, YEAR, "seconds")),
    _setting("backpressure_limit", integer(0, GIB, "bytes")),
    _setting("close_on_backpressure_limit", boolean),
    _setting("send_pings", boolean),
    _setting("publish_to_self", boolean),
    _setting("serial", boolean),
    _setting("max_concurrent_handlers", integer(0, (1 << 31) - 1)),
    _setting("per_message_deflate", per_message_deflate),
    _setting("protocols", or_none(subprotocols)),
    *(_handler(name) for name in HANDLERS),
)


def check_websocket(label: str, value: object) -> dict[str, Any]:
    """All options of sockets, checked, with their defaults.

    ``value`` is a dict, an instance of ``WebSocketHandler``, or any object or class that has these attributes. Other
    attributes of an object are ignored; other keys of a dict are errors.
    """
    given = value if isinstance(value, dict) else _attributes(label, value)
    return WEBSOCKET.defaults() | WEBSOCKET.check(label, given, f"{label}.")


def _attributes(label: str, value: object) -> dict[str, Any]:
    if isinstance(value, type) and issubclass(value, WebSocketHandler):
        raise TypeError(f"{label} must be an instance of {value.__name__}, not the class")
    given = {name: getattr(value, name) for name in (*WEBSOCKET, *WEBSOCKET.aliases) if _has(value, name)}
    if not given and not isinstance(value, WebSocketHandler):
        raise wrong_type(label, "a dict, a WebSocketHandler or an object with its attributes", value)
    return given


def _has(value: object, name: str) -> bool:
    """Whether ``value`` has the attribute; what ``WebSocketHandler`` itself provides does not count."""
    if not isinstance(value, WebSocketHandler):
        return hasattr(value, name)
    bases = type(value).__mro__
    return any(name in vars(place) for place in (value, *bases[: bases.index(WebSocketHandler)]))
