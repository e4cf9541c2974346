"""Every option of ``serve()`` and of its ``websocket`` handler: names, checks and defaults.

Two tables hold all of it. What comes out is what the core takes: a server that exists has valid options, and the core
checks none. Both spellings of a name are accepted (``_aliases``), never both at once.
"""

from __future__ import annotations

from . import _addresses, _aliases, _checks, _dashboard, _inherited, _metrics, _proxies
from ._callables import (
    check_full_handler,
    check_handler,
    check_lifespan_function,
    check_request_handler,
    check_socket_error,
)
from ._checks import boolean, integer, text
from ._generics import DataT, Generic
from ._limits import check_limits
from ._routes import Router
from ._tls import check_tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ._checks import Check
    from ._core import ServerWebSocket
    from .types import PerMessageDeflateOptions

GIB = 1 << 30
MIB = 1 << 20


def _handler(*arguments: str, judge: Callable[..., Callable[..., Any]] = check_handler) -> Check:
    def check(label: str, value: object) -> Callable[..., Any] | None:
        return None if value is None else judge(label, value, *arguments)

    return check


def _fetch(label: str, value: object) -> tuple[Callable[..., Any], bool] | None:
    return None if value is None else check_request_handler(label, value)


def _lifespan(label: str, value: object) -> tuple[Callable[..., Any], bool] | None:
    return None if value is None else check_lifespan_function(label, value)


def _routes(label: str, value: object) -> Router | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _checks.wrong_type(label, "a dict", value)
    return Router(value)


WEBSOCKET_HANDLERS: Mapping[str, tuple[str, ...]] = {
    "open": ("ws",),
    "message": ("ws", "message"),
    "close": ("ws", "code", "reason"),
    "drain": ("ws",),
    "ping": ("ws", "data"),
    "pong": ("ws", "data"),
    "error": ("error", "ws"),
}

# name -> (check, default)
WEBSOCKET: Mapping[str, tuple[Check, Any]] = {
    "max_payload_length": (_checks.payload_length, 16 * MIB),
    "idle_timeout": (_checks.ws_idle_timeout, 120),
    "ping_interval": (integer(0, 960, "seconds"), 0),
    "max_lifetime": (integer(0, 365 * 86400, "seconds"), 0),
    "backpressure_limit": (integer(0, GIB, "bytes"), 16 * MIB),
    "close_on_backpressure_limit": (boolean, False),
    "send_pings": (boolean, True),
    "publish_to_self": (boolean, False),
    "serial": (boolean, False),
    "max_concurrent_handlers": (integer(0, (1 << 31) - 1), 256),
    "per_message_deflate": (_checks.per_message_deflate, _checks.NO_DEFLATE),
    "protocols": (_checks.subprotocols, None),
    **{name: (_handler(*arguments), None) for name, arguments in WEBSOCKET_HANDLERS.items()},
    "message": (_handler("ws", "message", judge=check_full_handler), None),
    "error": (_handler(judge=check_socket_error), None),
}


class WebSocketHandler(Generic[DataT]):
    """A base class for the ``websocket`` of ``serve()``: override what you need, pass an instance.

    The options are class or instance attributes. A method that is not overridden is not called at all; each may be an
    ``async def``, and what it returns is of no consequence. As in JavaScript, a method may leave out parameters at the
    end (``def close(self, ws)``), but for ``message``. An exception out of a method goes to ``error``; without one it
    is logged with a traceback on the logger ``uwserve``. ``WebSocketHandler[T]`` as the base says that ``ws.data`` is a
    ``T``.

    Threads: the methods run on the server's thread, one at a time.

    Bun: WebSocketHandler.
    """

    max_payload_length: int = 16 * MIB
    """The largest message accepted, in bytes (0..1 GiB); a message of exactly this size is accepted.

    Larger ones close the socket with 1009. 0 accepts empty messages only, for servers that do nothing but send; it does
    not mean "unlimited". Bun: maxPayloadLength."""
    idle_timeout: int = 120
    """Seconds without a frame from the peer until the socket is closed: 0..960, 0 is off, 1..7 count as 8.

    Bun: idleTimeout."""
    ping_interval: int = 0
    """Seconds without a frame from the peer until it is sent a Ping, and then between Pings: 0..960, 0 is off.

    It never closes a socket, and works without ``idle_timeout`` too: it keeps proxies and NAT tables from forgetting
    the connection. With ``idle_timeout`` and ``send_pings`` on, the first Ping goes out at whichever of the two comes
    first. It stands still while the socket is paused. ``reload`` changes it for open sockets. Bun: none; ours."""
    max_lifetime: int = 0
    """Seconds after which a socket is closed with 1001 "Maximum lifetime reached": 0..a year, 0 is off.

    Each socket goes up to 10 % earlier, at random, so that a fleet of clients does not reconnect at once. After
    ``reload`` open sockets keep their age (counted from the reload, if this was off before it); those that are too old
    by then go within 10 % of the new lifetime. Bun: none; ours."""
    backpressure_limit: int = 16 * MIB
    """Bytes that may wait in memory for a slow peer (0..1 GiB, 0 is unlimited); beyond it messages are dropped.

    Bun: backpressureLimit."""
    close_on_backpressure_limit: bool = False
    """True: close a socket that reaches ``backpressure_limit`` (1006), instead of dropping messages.

    Bun: closeOnBackpressureLimit."""
    send_pings: bool = True
    """Ping an idle peer before ``idle_timeout`` ends: a quarter of it before, at least 4 and at most 16 seconds.

    A bool. RFC 6455 section 5.5.2. Bun: sendPings."""
    publish_to_self: bool = False
    """True: ``ws.publish`` reaches the publisher too, when it subscribes to the topic. Bun: publishToSelf."""
    serial: bool = False
    """One handler of a connection after the other, when they are coroutines.

    False: as in Bun, the next message's handler may start while the last one's coroutine waits. True: message N+1, and
    ``drain``, ``ping``, ``pong`` and ``close``, are handled when the coroutine of N has ended, however it ended, and
    messages after ``open``'s. Up to 64 events or 1 MiB wait for that; past it the socket is not read, so that a slow
    coroutine slows its client down. The socket itself closes at once: sends return 0, messages that were received
    are still handled, and then ``close``; ``server.stop(True)`` drops them. Plain functions, and coroutines that
    never suspend, pay nothing for it. ``reload`` changes it for events to come. Bun: none; ours."""
    max_concurrent_handlers: int = 256
    """How many coroutines of one connection's handlers may be suspended at a time: 0..2^31-1, 0 is unlimited.

    At this number, or when the messages that they hold come to 1 MiB, the socket is not read until one of them has
    ended, so that a client that is faster than its handlers waits. ``open`` and ``close`` are not counted: they run
    once. A handler that waits for a later message of the same connection needs room for that message's handler, or
    ``ws.messages()``. Plain functions, and coroutines that never suspend, pay nothing for it.
    ``limits={"max_concurrent_handlers": ...}`` is the bound of the whole server. ``reload`` changes it for open
    sockets. Bun: none; ours."""
    per_message_deflate: bool | PerMessageDeflateOptions = False
    """Compression (RFC 7692): False, True, or ``{"compress": ..., "decompress": ...}``.

    Each is a bool or a name. "shared" (or True) keeps no context between messages and costs a connection nothing;
    "dedicated" keeps one, so that messages alike shrink more, at up to 256 KB a connection that compresses and 42 KB
    for one that is sent compressed messages; "3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB" bound that:
    a compressor takes so much in all, a decompressor's window is that size, 32 KB at most. "disable" (or False) for
    ``compress`` sends everything plain; for ``decompress`` it means "shared" while ``compress`` is on, because a client
    cannot be forbidden to compress. A direction left out is shared. ``reload`` changes it for new connections.
    Bun: perMessageDeflate."""
    protocols: Sequence[str] | None = None
    """Subprotocols as str in order of preference; the first that a client offers is selected.

    None selects the first that the client offers, as Bun does, because clients that offer subprotocols do not connect
    when none is selected; the first time it is logged. ``()`` never selects one. RFC 6455 section 1.9.
    Bun: none; ours."""

    def open(self, ws: ServerWebSocket[DataT], /) -> object:
        """The socket is open; runs inside ``server.upgrade()``.

        An exception closes it with 1011.

        Args:
            ws: the socket.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.open.
        """

    def message(self, ws: ServerWebSocket[DataT], message: Any, /) -> object:
        """A message has arrived.

        Args:
            ws: the socket.
            message: ``str`` for text; for binary what ``ws.binary_type`` says, ``bytes`` by default. A ``memoryview``
                dies when this returns, or first suspends.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.message. RFC 6455 section 5.6.
        """

    def close(self, ws: ServerWebSocket[DataT], code: int, reason: str, /) -> object:
        """The socket is closed; called exactly once for each that was opened.

        Args:
            ws: the socket; ``ws.data`` stays usable.
            code: the close code, an int (RFC 6455 section 7.4); 1006 without a Close frame, 1005 for one without a
                code.
            reason: a str, ``""`` without one.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.close.
        """

    def drain(self, ws: ServerWebSocket[DataT], /) -> object:
        """The peer takes bytes again, after ``send`` reported backpressure (-1).

        Args:
            ws: the socket.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.drain.
        """

    def ping(self, ws: ServerWebSocket[DataT], data: bytes, /) -> object:
        """A Ping has arrived, and its Pong is on its way.

        Args:
            ws: the socket.
            data: what it holds, at most 125 bytes.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.ping. RFC 6455 section 5.5.2.
        """

    def pong(self, ws: ServerWebSocket[DataT], data: bytes, /) -> object:
        """A Pong has arrived, asked for or not.

        Args:
            ws: the socket.
            data: what it holds, at most 125 bytes.

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Threads: the server's.

        Bun: WebSocketHandler.pong. RFC 6455 section 5.5.3.
        """

    def error(self, error: Exception, ws: ServerWebSocket[DataT], /) -> object:
        """Another handler of the socket raised.

        The order of the arguments is Bun's: the error first. It once was ``(ws, exc)``; a handler whose first parameter
        is named ``ws``, ``websocket`` or ``socket`` is still called that way, with a ``DeprecationWarning``.

        Args:
            error: the exception. Raising here, as this default does, logs it.
            ws: the socket, which stays open (but for ``open``'s).

        Returns:
            Anything; as an ``async def``, a coroutine, which is run.

        Raises:
            Exception: ``error`` itself.

        Threads: the server's.

        Bun: WebSocketHandler.error.
        """
        raise error


def check_websocket(label: str, value: object) -> dict[str, Any] | None:
    """The keyword arguments of ``ServerCore.set_websocket``, but ``enabled``; ``None`` for no handler.

    ``value`` is a dict, an instance of ``WebSocketHandler``, or any object or class that has these attributes; further
    attributes of an object are its own business, further keys of a dict are errors.
    """
    if value is None:
        return None
    if isinstance(value, dict):
        names = _checks.canonical(label, value, WEBSOCKET, _aliases.WEBSOCKET_OPTIONS)
        given = {name: (spelled, value[spelled]) for name, spelled in names.items()}
    else:
        given = _attributes(label, value)
    checked = {name: default for name, (_, default) in WEBSOCKET.items()}
    for name, (spelled, option) in given.items():
        checked[name] = WEBSOCKET[name][0](f"{label}.{spelled}", option)
    return checked


def _attributes(label: str, value: object) -> dict[str, tuple[str, Any]]:
    if isinstance(value, type) and issubclass(value, WebSocketHandler):
        raise TypeError(f"{label} must be an instance of {value.__name__}, not the class")
    given: dict[str, tuple[str, Any]] = {}
    for spelled in (*WEBSOCKET, *_aliases.WEBSOCKET_OPTIONS):
        if not _has(value, spelled):
            continue
        name = _aliases.WEBSOCKET_OPTIONS.get(spelled, spelled)
        if name in given:
            raise TypeError(f"{label}: {given[name][0]!r} and {spelled!r} are the same option")
        given[name] = (spelled, getattr(value, spelled))
    if not given and not isinstance(value, WebSocketHandler):
        raise _checks.wrong_type(label, "a dict, a WebSocketHandler or an object with its attributes", value)
    return given


def _has(value: object, name: str) -> bool:
    """Whether ``value`` has the attribute; what ``WebSocketHandler`` itself provides does not count."""
    if not isinstance(value, WebSocketHandler):
        return hasattr(value, name)
    if name in vars(value):
        return True
    for base in type(value).__mro__:
        if base is WebSocketHandler:
            return False
        if name in vars(base):
            return True
    return False


# What reload() cannot change, because the socket is bound to it, or it belongs to the beginning and the end.
FIXED = frozenset(("fd", "startup", "shutdown", *_inherited.CONFLICTS))

# name -> (check, default)
SERVE: Mapping[str, tuple[Check, Any]] = {
    "fetch": (_fetch, None),
    "websocket": (check_websocket, None),
    "port": (_checks.port, 3000),
    "hostname": (_checks.hostname, "0.0.0.0"),
    "unix": (_checks.unix_path, None),
    "unix_mode": (_addresses.unix_mode, None),
    "fd": (_inherited.check_fd, None),
    "tls": (check_tls, None),
    "routes": (_routes, None),
    "error": (_handler("exc"), None),
    "startup": (_lifespan, None),
    "shutdown": (_lifespan, None),
    "idle_timeout": (integer(0, 255, "seconds"), 10),
    "keep_alive_timeout": (integer(0, 86400, "seconds"), 75),
    "min_body_rate": (integer(0, GIB, "bytes a second"), 240),
    "max_request_body_size": (integer(0, 4 * GIB - 1, "bytes"), 16 * MIB),
    "reuse_port": (boolean, False),
    "ipv6_only": (boolean, False),
    "trusted_proxies": (_proxies.trusted_proxies, ()),
    "forwarded_header": (_proxies.forwarded_header, "x-forwarded-for"),
    "proxy_protocol": (boolean, False),
    "limits": (check_limits, {}),
    "metrics": (_metrics.check_metrics, None),
    "dashboard": (_dashboard.check_dashboard, None),
    "development": (boolean, False),
    "id": (text, ""),
}


def check_serve(given: Mapping[str, Any], where: str = "serve()") -> dict[str, Any]:
    """The options that were given, under our names and checked; nothing is added for those that were not."""
    names = _checks.canonical(where, given, SERVE, _aliases.SERVE_OPTIONS)
    return {name: SERVE[name][0](spelled, given[spelled]) for name, spelled in names.items()}


def serve_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of ``serve()``, checked, with their defaults."""
    checked = check_serve(given)
    for first, others in (("unix", ("port", "hostname")), ("fd", _inherited.CONFLICTS)):
        for name in others:
            if checked.get(first) is not None and name in checked:
                raise TypeError(f"serve(): {first} and {name} cannot both be given")
    options = {name: default for name, (_, default) in SERVE.items()} | checked
    _proxies.check_together(options)
    _addresses.check_together(options)
    return options


SERVED = ("fetch", "routes", "websocket", "metrics", "dashboard")


def check_served(where: str, options: Mapping[str, Any]) -> None:
    """``TypeError`` when every request would be answered with 404, as nothing is there to answer it."""
    if all(options[name] is None for name in SERVED):
        raise TypeError(f"{where}: nothing would be served: give {', '.join(SERVED[:-1])} or {SERVED[-1]}")


def reload_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``reload()``, checked. ``ValueError`` for one that belongs to the bound socket."""
    names = _checks.canonical("reload()", given, SERVE, _aliases.SERVE_OPTIONS)
    for name, spelled in names.items():
        if name in FIXED:
            raise ValueError(f"reload() cannot change {spelled}")
    return check_serve(given, "reload()")
