"""``WebSocketHandler``: the base class for objects that handle sockets."""

from __future__ import annotations

from .._checks import MIB
from .._generics import DataT, Generic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .._core import ServerWebSocket
    from ..types import PerMessageDeflateOptions


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
    first. It is suspended while the socket is paused. ``reload`` changes it for open sockets. Bun: none; ours."""
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

        Bun: WebSocketHandler.open.
        """

    def message(self, ws: ServerWebSocket[DataT], message: Any, /) -> object:
        """A message has arrived.

        Args:
            ws: the socket.
            message: ``str`` for text; for binary what ``ws.binary_type`` says, ``bytes`` by default. A ``memoryview``
                dies when this returns, or first suspends.

        Bun: WebSocketHandler.message. RFC 6455 section 5.6.
        """

    def close(self, ws: ServerWebSocket[DataT], code: int, reason: str, /) -> object:
        """The socket is closed; called exactly once for each that was opened.

        Args:
            ws: the socket; ``ws.data`` stays usable.
            code: the close code, an int (RFC 6455 section 7.4); 1006 without a Close frame, 1005 for one without a
                code.
            reason: a str, ``""`` without one.

        Bun: WebSocketHandler.close.
        """

    def drain(self, ws: ServerWebSocket[DataT], /) -> object:
        """The peer takes bytes again, after ``send`` reported backpressure (-1).

        Args:
            ws: the socket.

        Bun: WebSocketHandler.drain.
        """

    def ping(self, ws: ServerWebSocket[DataT], data: bytes, /) -> object:
        """A Ping has arrived, and its Pong is on its way.

        Args:
            ws: the socket.
            data: what it holds, at most 125 bytes.

        Bun: WebSocketHandler.ping. RFC 6455 section 5.5.2.
        """

    def pong(self, ws: ServerWebSocket[DataT], data: bytes, /) -> object:
        """A Pong has arrived, asked for or not.

        Args:
            ws: the socket.
            data: what it holds, at most 125 bytes.

        Bun: WebSocketHandler.pong. RFC 6455 section 5.5.3.
        """

    def error(self, error: Exception, ws: ServerWebSocket[DataT], /) -> object:
        """Another handler of the socket raised.

        The order of the arguments is Bun's: the error first. It once was ``(ws, exc)``; a handler whose first parameter
        is named ``ws``, ``websocket`` or ``socket`` is still called that way, with a ``DeprecationWarning``.

        Args:
            error: the exception. Raising here, as this default does, logs it.
            ws: the socket, which stays open (but for ``open``'s).

        Raises:
            Exception: ``error`` itself.

        Bun: WebSocketHandler.error.
        """
        raise error
