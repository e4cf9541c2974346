"""The native module: uWebSockets' App and WebSocket, bound directly.

``ServerCore`` has the methods of ``uwserve.Server`` that are written in C++; ``uwserve.Server`` derives from it.
``ServerControl`` has those that only the facade calls. Nothing in this module validates options: the facade does, once,
before a server exists.

The docstrings here are the only source of those that the extension has: tools/docstring_header.py writes them into a header
at build time, with a text signature made from the declaration for inspect.signature(). The first of several overloads
has the docstring, and stands for their common signature unless a comment above it spells that out ("All overloads").
"""

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from types import GenericAlias, MemberDescriptorType
from typing import Any, Generic, Literal, TypeVar, final, overload

from typing_extensions import Buffer, TypeVarTuple, Unpack

from ._generics import DataT
from ._http.headers import Headers
from ._server import Server
from ._websocket.waiting import Closed
from .stats import ServerStats, TopicStats
from .types import BinaryType, HeadersInit, TlsInfo, UpgradeOptions

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

@final
class ServerWebSocket(Generic[DataT]):
    """A WebSocket connection, as handlers see it.

    The server makes it in ``upgrade()`` and hands it to every handler; it is never made by hand. It is a handle: it may be
    kept, and after the close every method still has a defined answer and does nothing. ``ServerWebSocket[T]`` in an
    annotation says that ``data`` is a ``T``.

    Threads: send*, publish*, ping, pong, subscribe, close, terminate, pause, resume, and the attributes but for
    buffered_amount and subscriptions, may be used on any thread; closed(), drained() and messages() in the event loop of
    any; all others on the server's thread only. Elsewhere they raise a RuntimeError that names both threads. In a child
    made by fork, methods raise RuntimeError.

    Bun: ServerWebSocket. RFC 6455.
    """

    def __class_getitem__(cls, item: Any, /) -> GenericAlias:
        """The class with the type of ``data`` in brackets, for annotations; a types.GenericAlias (PEP 585)."""
    data: DataT
    """Anything of yours: the ``data`` of ``server.upgrade()``, None by default.

    Readable and writable, also after the close; once deleted, AttributeError until it is set again.
    ``ServerWebSocket[T]`` gives it the type T.

    Threads: any.

    Bun: ServerWebSocket.data.
    """
    @property
    def binary_type(self) -> BinaryType:
        """What binary messages arrive as, a str: "bytes" (the default), "bytearray" or "memoryview".

        A memoryview shows the receive buffer, without a copy. It dies when the handler returns or first suspends: it is
        released, and using it later raises ValueError. Bun's "nodebuffer", "uint8array" and "arraybuffer" may be assigned and
        mean these three, in that order. Assigning something else raises TypeError or ValueError.

        Threads: any; counts for messages to come.

        Bun: ServerWebSocket.binaryType.
        """
    @binary_type.setter
    def binary_type(self, value: BinaryType | Literal["nodebuffer", "uint8array", "arraybuffer"]) -> None: ...
    @property
    def ready_state(self) -> int:
        """The state as an int: 1 while open, 3 from the close on, already inside the ``close`` handler.

        Equals a member of ``ReadyState``.

        Threads: any.

        Bun: ServerWebSocket.readyState.
        """
    @property
    def id(self) -> int:
        """The connection's number, an int: 1 for the first socket of its server that opened, and so on.

        Log records contain it. It stays after the close.

        Threads: any.
        """
    @property
    def remote_address(self) -> str | None:
        """The client's IP address as str (IPv6 compressed, RFC 5952); None on a unix socket.

        Behind a proxy of ``trusted_proxies`` it is the client that the proxy names. It stays after the close.

        Threads: any.

        Bun: ServerWebSocket.remoteAddress.
        """
    @property
    def subscriptions(self) -> list[str]:
        """The topics that this socket is subscribed to: a new, sorted list of str; [] after the close.

        RuntimeError on another thread than the server's.

        Threads: the server's thread only.

        Bun: ServerWebSocket.subscriptions.
        """
    @property
    def protocol(self) -> str:
        """The subprotocol that was selected in the handshake, a str; "" if none.

        Threads: any.

        Bun: none; the browser's WebSocket.protocol. RFC 6455 section 1.9.
        """
    @property
    def buffered_amount(self) -> int:
        """Bytes that wait in memory for a slow peer, an int; 0 after the close.

        Accepted for sending and not taken by the kernel yet, frame headers included, without what is corked. RuntimeError on
        another thread than the server's.

        Threads: the server's thread only.

        Bun: ServerWebSocket.getBufferedAmount.
        """
    @property
    def server(self) -> Server[DataT]:
        """The ``Server`` that this socket belongs to.

        Threads: any.
        """
    @overload
    def send(self, data: str, compress: bool = False) -> int:
        """Send one message: a str as text, anything bytes-like as binary.

        It never blocks. What the network does not take at once is kept in memory, up to ``backpressure_limit``, and goes out as
        the peer reads; the ``drain`` handler, or ``await ws.drained()``, reports when.

        Args:
            data: str, sent as a text message in UTF-8, or an object with the buffer protocol that is C-contiguous (bytes,
                bytearray, memoryview, array.array, a NumPy array), sent as a binary message; at most 256 MiB. It is copied
                where it has to wait, so it may be changed afterwards.
            compress: True compresses the message, if the client has negotiated permessage-deflate and it gets smaller. Limits
                and the result count the bytes as given.

        Returns:
            The length of the payload in bytes when it was sent; -1 when it was accepted, but waits behind a slow peer (do not
            send it again; hold further ones back until ``drain``); 0 when it was dropped because ``backpressure_limit`` or
            ``max_buffered_bytes`` would be exceeded, when the socket is closed, and for an empty message, which is sent.

        Raises:
            TypeError: data is neither str nor bytes-like, or compress is no bool.
            ValueError: data is over 256 MiB. UnicodeEncodeError, which is one, for a str with lone surrogates.

        Threads: any. A call from another thread hands a copy over, in order, and the result is about that alone: the length
        of the payload, or 0 when there is no room for the copy. Whether the socket has room is decided, and counted, later.

        Bun: ServerWebSocket.send. RFC 6455 section 5.6, RFC 7692 for compression.
        """
    @overload
    def send(self, data: Buffer, compress: bool = False) -> int: ...
    def send_text(self, data: str, compress: bool = False) -> int:
        """Send one text message: ``send()`` for str only.

        Args:
            data: the text, a str; at most 256 MiB of UTF-8.
            compress: True compresses the message where the client has negotiated that.

        Returns:
            As ``send()``: the length of the payload in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

        Raises:
            TypeError: data is no str, or compress is no bool.
            ValueError: data is over 256 MiB, or has lone surrogates.

        Threads: any, as ``send()``.

        Bun: ServerWebSocket.sendText. RFC 6455 section 5.6.
        """
    def send_binary(self, data: Buffer, compress: bool = False) -> int:
        """Send one binary message: ``send()`` for bytes-like objects only.

        Args:
            data: an object with the buffer protocol that is C-contiguous, such as bytes; at most 256 MiB.
            compress: True compresses the message where the client has negotiated that.

        Returns:
            As ``send()``: the length of the payload in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

        Raises:
            TypeError: data is not bytes-like, or compress is no bool.
            ValueError: data is over 256 MiB.

        Threads: any, as ``send()``.

        Bun: ServerWebSocket.sendBinary. RFC 6455 section 5.6.
        """
    @overload
    def publish(self, topic: str, data: str, compress: bool = False) -> int:
        """Send one message to every other subscriber of a topic.

        This socket need not be subscribed, and gets the message itself only if it is, and with the option ``publish_to_self``.
        It may even be closed, while its server runs. Each subscriber gets what was sent and published to it in that order.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, no wildcards.
            data: str, sent as text, or bytes-like, sent as binary; at most 256 MiB.
            compress: True compresses the message, once for all subscribers with equal settings.

        Returns:
            The length of the payload in bytes; -1 when a subscriber has backpressure, and all get the message; 0 when
            there is no other subscriber, when a subscriber had no room for it (the others still get it), and for an empty
            message. Each dropped copy is counted: ``server.stats()["dropped_sends"]``.

        Raises:
            TypeError: topic is no str, data neither str nor bytes-like, or compress no bool.
            ValueError: topic is empty or too long, or data is over 256 MiB.

        Threads: any. A call from another thread hands a copy over, and the result is about that alone: the length of the
        payload, or 0 when there is no room for the copy. Which subscribers have room is decided, and counted, later.

        Bun: ServerWebSocket.publish.
        """
    @overload
    def publish(self, topic: str, data: Buffer, compress: bool = False) -> int: ...
    def publish_text(self, topic: str, data: str, compress: bool = False) -> int:
        """Publish one text message: ``publish()`` for str only.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.
            data: the text, a str; at most 256 MiB of UTF-8.
            compress: True compresses the message where clients have negotiated that.

        Returns:
            As ``publish()``: the length of the payload in bytes, -1 when a subscriber has backpressure, 0 when a copy was
            dropped or there is no subscriber.

        Raises:
            TypeError: topic or data is no str, or compress is no bool.
            ValueError: topic is empty or too long, or data is over 256 MiB.

        Threads: any, as ``publish()``.

        Bun: ServerWebSocket.publishText.
        """
    def publish_binary(self, topic: str, data: Buffer, compress: bool = False) -> int:
        """Publish one binary message: ``publish()`` for bytes-like objects only.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.
            data: an object with the buffer protocol that is C-contiguous, such as bytes; at most 256 MiB.
            compress: True compresses the message where clients have negotiated that.

        Returns:
            As ``publish()``: the length of the payload in bytes, -1 when a subscriber has backpressure, 0 when a copy was
            dropped or there is no subscriber.

        Raises:
            TypeError: topic is no str, data not bytes-like, or compress no bool.
            ValueError: topic is empty or too long, or data is over 256 MiB.

        Threads: any, as ``publish()``.

        Bun: ServerWebSocket.publishBinary.
        """
    def subscribe(self, topic: str, /) -> bool:
        """Subscribe to a topic: what is published to it from now on reaches this socket.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, case-sensitive, no wildcards.

        Returns:
            True, also when it was subscribed already; False when the socket is closed.

        Raises:
            TypeError: topic is no str.
            ValueError: topic is empty or too long.

        Threads: any. On another thread than the server's it is queued, in order with ``publish()`` from there.

        Bun: ServerWebSocket.subscribe.
        """
    def unsubscribe(self, topic: str, /) -> bool:
        """End a subscription. What was published before still arrives. A close ends all of them.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

        Returns:
            True if it was subscribed; False if it was not, or the socket is closed.

        Raises:
            TypeError: topic is no str.
            ValueError: topic is empty or too long.

        Threads: the server's thread only; ``server.call_soon(ws.unsubscribe, topic)`` works on any.

        Bun: ServerWebSocket.unsubscribe.
        """
    def is_subscribed(self, topic: str, /) -> bool:
        """Return whether this socket is subscribed to a topic.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

        Returns:
            True if it is; False if not, or the socket is closed.

        Raises:
            TypeError: topic is no str.
            ValueError: topic is empty or too long.

        Threads: the server's thread only.

        Bun: ServerWebSocket.isSubscribed.
        """
    def ping(self, data: str | Buffer = b"") -> int:
        """Send a Ping frame. The peer's answer calls the ``pong`` handler.

        Seldom needed: the options ``send_pings`` and ``ping_interval`` send Pings automatically.

        Args:
            data: str or bytes-like, at most 125 bytes; it comes back in the Pong.

        Returns:
            As ``send()``: the length of data in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

        Raises:
            TypeError: data is neither str nor bytes-like.
            ValueError: data is over 125 bytes.

        Threads: any, as ``send()``.

        Bun: ServerWebSocket.ping. RFC 6455 section 5.5.2.
        """
    def pong(self, data: str | Buffer = b"") -> int:
        """Send an unsolicited Pong frame. Pings of the peer are answered automatically.

        Args:
            data: str or bytes-like, at most 125 bytes.

        Returns:
            As ``send()``: the length of data in bytes, -1 queued behind a slow peer, 0 dropped, closed or empty.

        Raises:
            TypeError: data is neither str nor bytes-like.
            ValueError: data is over 125 bytes.

        Threads: any, as ``send()``.

        Bun: ServerWebSocket.pong. RFC 6455 section 5.5.3.
        """
    @overload
    def cork(self, callback: Callable[[ServerWebSocket[DataT]], _T], /) -> _T:
        """Call a function and send what it sent to this socket in one write.

        Handlers are corked already; this is for sends outside of them, after an ``await`` or in ``server.call_soon``. It nests,
        and other sockets may be sent to inside. On a closed socket the function is just called.

        Args:
            callback: a callable, which gets this socket as its only argument. A function without parameters, such as
                ``lambda: ...``, is called without it.

        Returns:
            What callback returned.

        Raises:
            BaseException: whatever callback raised.

        Threads: the server's thread only.

        Bun: ServerWebSocket.cork.
        """
    @overload
    def cork(self, callback: Callable[[], _T], /) -> _T: ...
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection: send what is queued, then a Close frame, then end the stream.

        The ``close`` handler runs inside this call, with ``ready_state`` 3, and gets this very code and reason. What the peer
        still sends is ignored. On a closed socket nothing happens.

        Every code that a ``close`` handler gets may be passed on to another socket: 1005 and 1006, which no frame may carry,
        send a Close without a status code and without a reason; the ``close`` handler then gets 1005 and "".

        Args:
            code: the status code, an int: 1000-1003, 1007-1014 or 3000-4999; 0, 1005 or 1006 for none.
            reason: a str for the peer, at most 123 bytes of UTF-8.

        Raises:
            TypeError: code is no int, or reason no str.
            ValueError: code is none of these, or reason is too long.

        Threads: any. On another thread than the server's it is queued, behind what was sent from there, and the handler runs on
        the server's thread.

        Bun: ServerWebSocket.close. RFC 6455 sections 5.5.1, 7.1.2 and 7.4.
        """
    def terminate(self) -> None:
        """Close the connection without a Close frame.

        Data that was sent and published to it before is first handed to the kernel, as far as it takes that at once, and still
        arrives if the peer reads it; data queued for a slow peer is lost. The ``close`` handler runs inside this call with
        1006 and "". On a closed socket nothing happens.

        Threads: any. On another thread than the server's it is queued, and the handler runs on the server's thread.

        Bun: ServerWebSocket.terminate. RFC 6455 section 7.1.7.
        """
    def get_buffered_amount(self) -> int:
        """Return how many bytes wait for a slow peer: the property ``buffered_amount``, as a method.

        Returns:
            Bytes, an int; 0 after the close.

        Threads: the server's thread only.

        Bun: ServerWebSocket.getBufferedAmount.
        """
    def pause(self) -> None:
        """Stop reading from this socket, so that its peer has to wait; sending goes on.

        The idle timer is suspended meanwhile, and a peer that closes is noticed after ``resume()`` only. Idempotent; nothing
        happens on a closed socket.

        Threads: any. On another thread than the server's it is queued.

        Bun: ServerWebSocket.pause.
        """
    def resume(self) -> None:
        """Read from this socket again, after ``pause()``. The idle timer starts over.

        Idempotent; nothing happens on a closed socket.

        Threads: any. On another thread than the server's it is queued.

        Bun: ServerWebSocket.resume.
        """
    # Put on the type by ``_websocket.waiting``, but for messages().
    def closed(self) -> Coroutine[Any, Any, Closed]:
        """Wait until the socket is closed; at once when it is closed already.

        Resumes after the ``close`` handler was called (with ``serial``, when that handler waits for others, after the close
        itself). May be awaited any number of times; cancelling one of them leaves nothing behind.

        Returns:
            A coroutine of ``Closed(code, reason)``.

        Threads: the event loop (asyncio or uvloop) of any.

        Bun: none; ours. RFC 6455 section 7.1.4.
        """
    def drained(self, below: int = 0) -> Coroutine[Any, Any, None]:
        """Wait until little is buffered for the peer (``buffered_amount``); at once when it is so.

        ``while ...: ws.send(piece); await ws.drained(1 << 20)`` keeps the backlog at about 1 MiB. Resumes after the
        ``drain`` handler was called. May be awaited any number of times; cancelling one of them leaves nothing behind.

        Args:
            below: the bytes that may still be buffered, an int of at least 0.

        Returns:
            A coroutine of None.

        Raises:
            ConnectionClosed: the socket is closed, or closes first.
            TypeError: below is no int.
            ValueError: below is negative.

        Threads: the event loop (asyncio or uvloop) of any.

        Bun: none; ours, beside the handler ``drain``.
        """
    def messages(self) -> Messages:
        """Iterate over the messages from now on: ``async for message in ws.messages()``.

        They come here instead of to the ``message`` handler: str for text, bytes for binary (bytearray with that
        ``binary_type``; never a memoryview, which would not live long enough). Up to 64 messages or 1 MiB wait; past that the
        socket is not read, so that its client has to wait. The iteration ends with the connection, after what was received
        before. What arrives after a break out of the loop, and what still waits then, goes to the message handler, if there is
        one.

        Returns:
            A ``Messages``, an asynchronous iterator.

        Raises:
            RuntimeError: the messages of this socket are being iterated already, or in a child made by fork.

        Threads: any coroutine of any thread's asyncio or uvloop event loop, one iteration at a time.
        """

    # Bun's spellings: the same descriptors under a second name, put on the type by ``_bun_names.install``.
    binaryType = binary_type
    readyState = ready_state
    remoteAddress = remote_address
    sendText = send_text
    sendBinary = send_binary
    publishText = publish_text
    publishBinary = publish_binary
    isSubscribed = is_subscribed
    getBufferedAmount = get_buffered_amount

@final
class Messages(AsyncIterator[Any]):
    """The messages of a socket as an asynchronous iterator: what ``ServerWebSocket.messages()`` returns.

    Each item is a str for a text message, bytes (or bytearray, as ``binary_type`` says) for a binary one. Never made by
    hand.

    Threads: the event loop of one thread at a time, any thread's.
    """

    def __anext__(self) -> Awaitable[Any]: ...
    def aclose(self) -> Awaitable[None]:
        """End the iteration: further messages, and those that wait, go to the ``message`` handler.

        Returns:
            An awaitable of None. Leaving the ``async for`` loop does the same once the iterator is freed.

        Threads: any thread's event loop.
        """

class TlsConfig:
    """A checked TLS configuration; made by uwserve's facade from ``serve(tls=...)``."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        """For the facade. Each entry is a dict with label (str), key, cert, ca, passphrase, ciphers (bytes; all but key and cert
        may be None), alpn_protocols and server_name (lists of str), request_cert and reject_unauthorized (bool). ValueError
        with the label of the entry, the option and what OpenSSL said. Any thread.
        """

@final
class SocketAddress(tuple[str, int, Literal["IPv4", "IPv6"]]):
    """The address of a client: a named tuple (address, port, family).

    Bun: SocketAddress.
    """

    __match_args__ = ("address", "port", "family")
    @property
    def address(self) -> str:
        """The IP address, a str: IPv6 compressed (RFC 5952)."""
    @property
    def port(self) -> int:
        """The client's port, an int; 0 where a proxy names none."""
    @property
    def family(self) -> Literal["IPv4", "IPv6"]:
        """The str "IPv4" or "IPv6"."""

@final
class Request:
    """One HTTP request, complete with its body; what ``fetch`` and the handlers of routes get.

    It may be kept, and is readable also after the connection has gone. Never made by hand.

    Threads: any, but for ``tls``.

    Bun: Request, of the Fetch standard, with the ``params`` of BunRequest.
    """

    params: dict[str, str]
    """The parameters of the route that matched: a dict of str to str, percent-decoded.

    "/users/:id" gives "id", "/files/*" gives "*". Empty in ``fetch``.

    Bun: BunRequest.params.
    """
    @property
    def method(self) -> str:
        """The method as sent, a str such as "GET" (RFC 9110 section 9).

        Bun: Request.method.
        """
    @property
    def url(self) -> str:
        """The absolute URL, a str: scheme ("https" on a TLS server), Host, path and query.

        Bun: Request.url.
        """
    @property
    def target(self) -> str:
        """The request target as sent, a str: path and query (RFC 9112 section 3.2)."""
    @property
    def path(self) -> str:
        """The path, a str, still percent-encoded (RFC 3986 section 3.3).

        Bun: none; new URL(request.url).pathname.
        """
    @property
    def query(self) -> str:
        """What follows "?", a str, still encoded; "" without one (RFC 3986 section 3.4).

        Bun: none; new URL(request.url).search.
        """
    @property
    def header_items(self) -> list[tuple[str, str]]:
        """The fields as a list of (name, value) pairs of str, in order of arrival.

        Names are in lower case, values decoded as latin-1 (RFC 9110 section 5). ``headers`` is the same with look-up.
        """
    @property
    def http_version(self) -> str:
        """The version of HTTP, a str: "1.1" or "1.0" (RFC 9112 section 2.3)."""
    @property
    def body(self) -> builtins.bytes:
        """The whole body as bytes; b"" without one.

        Bun: Request.bytes(), without its promise.
        """
    @property
    def is_upgrade(self) -> bool:
        """True for a WebSocket handshake that ``server.upgrade()`` would accept (RFC 6455 section 4.2.1).

        A bool; it does not change when the request is answered.
        """
    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed on, a dict; None without TLS.

        Its keys are those of ``uwserve.types.TlsInfo``: version, cipher, server_name, alpn_protocol, peer_certificate (DER,
        bytes or None), authorized, authorization_error and session_reused. Once the request was answered it is what it was when
        first read, else None. RuntimeError on another thread than the server's.

        Threads: the server's thread only.
        """
    @property
    def answered(self) -> bool:
        """True once it was responded to or upgraded, or its client has gone; a bool."""
    # The members from here on are put on the type by ``_http.request``.
    @property
    def headers(self) -> Headers:
        """The request's fields, a ``Headers``. Names are lower case, values decoded as latin-1 (RFC 9110 section 5).

        Made at the first use, then kept.

        Bun: Request.headers.
        """
    def bytes(self) -> Awaitable[builtins.bytes]:
        """Give the body to an ``await``; in a plain function ``request.body`` is the same.

        Returns:
            An awaitable of bytes. The body is complete when a handler runs, so nothing waits.

        Threads: any.

        Bun: Request.bytes.
        """
    def text(self) -> Awaitable[str]:
        """Give the body as text to an ``await``; in a plain function use ``request.body.decode()``.

        Returns:
            An awaitable of str: the body as UTF-8, without a byte order mark, malformed sequences as U+FFFD.

        Threads: any.

        Bun: Request.text.
        """
    def json(self) -> Awaitable[Any]:
        """Give the body, parsed as JSON (RFC 8259), to an ``await``; in a plain function use ``json.loads(request.body)``.

        Returns:
            An awaitable of what ``json.loads`` makes of it.

        Raises:
            ValueError: the body is not valid JSON. If no code catches it, and there is no ``error`` handler, the client
                gets a 400, because the error is the client's.
            RecursionError: the JSON is nested too deeply; a 400 in the same way.

        Threads: any.

        Bun: Request.json.
        """

@final
class TimedCall:
    """A callable that measures how long `handler` takes."""

    def __new__(cls, handler: Callable[..., Any], /) -> TimedCall: ...
    def __call__(self, *args: Any) -> Any: ...
    def record(self, ns: int, /) -> None:
        """Add a time that was measured elsewhere."""
    def take(self) -> dict[str, int]:
        """count, and in nanoseconds total, p50, p90, p99 and max, since the last take()."""

class ServerCore(Generic[DataT]):
    """The native half of a server; ``uwserve.Server`` derives from it."""
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...  # documented in ServerWebSocket
    def __init__(self) -> None:
        """A server that is not bound yet. For the facade."""
    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The asyncio Tasks of handlers that have not ended yet: a frozenset, a copy.

        RuntimeError on another thread than the server's.

        Threads: the server's thread only.
        """
    def call_soon(self, fn: Callable[[Unpack[_Ts]], object], /, *args: Unpack[_Ts]) -> None:
        """Call a function on the server's thread, in the next iteration of its loop.

        Calls come in order. An exception out of one is logged. Calls that are left when the server ends are made then.

        Args:
            fn: a callable.
            *args: its arguments.

        Returns:
            None, at once.

        Raises:
            TypeError: fn is not callable.
            RuntimeError: the server has ended, or in a child made by fork.

        Threads: any.
        """
    # Without data, ws.data is None: that must be a value of its type.
    # All overloads: def upgrade(self, request, options={}, /, *, headers=None, data=None, protocol=None)
    @overload
    def upgrade(
        self,
        request: Request,
        /,
        *,
        headers: HeadersInit | None = None,
        data: DataT,
        protocol: str | None = None,
    ) -> bool:
        """Accept a WebSocket handshake: the socket opens, and its ``open`` handler runs inside this call.

        After it returned True, what ``fetch`` returns is ignored. It works after any number of awaits; what the client sends
        meanwhile is kept.

        Args:
            request: the ``Request`` that a handler of this server got.
            options: the three that follow in one dict, as in Bun: ``upgrade(request, {"data": ...})``.
            headers: fields for the 101 response: a mapping, ``Headers``, or pairs of str (pairs keep several Set-Cookie).
            data: becomes ``ws.data``; anything.
            protocol: the subprotocol to select, one that the client offered; "" for none. Without it, the first one that was
                offered is selected from a Sec-WebSocket-Protocol in ``headers``, else from the option ``protocols``. Without
                that option, the first that the client offers is selected.

        Returns:
            True when the socket is open. False when it cannot be: no handshake, answered already, the client is gone, the
            server is stopping, or ``serve()`` was given no ``websocket``. A version other than 13 is answered with 426, and
            False.

        Raises:
            TypeError: an argument of a wrong type, or an unknown one.
            ValueError: a header that cannot be sent (CR, LF, NUL) or that the handshake sets itself, a protocol that was not
                offered, or a request of another server.

        Threads: the server's thread only.

        Bun: Server.upgrade. RFC 6455 section 4.2.2.
        """
    @overload
    def upgrade(
        self: ServerCore[_T | None],
        request: Request,
        /,
        *,
        headers: HeadersInit | None = None,
        protocol: str | None = None,
    ) -> bool: ...
    @overload
    def upgrade(self, request: Request, options: UpgradeOptions[DataT], /) -> bool: ...
    @overload
    def publish(self, topic: str, data: str, compress: bool = True) -> int:
        """Send one message to every subscriber of a topic.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8; exact, no wildcards.
            data: str, sent as text, or bytes-like, sent as binary; at most 256 MiB.
            compress: False sends it plain; True compresses it, once for all subscribers with equal settings, for those that
                have negotiated permessage-deflate.

        Returns:
            The length of the payload in bytes; -1 when a subscriber has backpressure, and all get the message; 0 when
            there is no subscriber, when a subscriber had no room for it (the others still get it), when the server has
            stopped, and for an empty message. Each dropped copy is counted: ``stats()["dropped_sends"]``.

        Raises:
            TypeError: topic is no str, data neither str nor bytes-like, or compress no bool.
            ValueError: topic is empty or too long, or data is over 256 MiB.

        Threads: any. A call from another thread hands a copy over, and the result is about that alone: the length of the
        payload, or 0 when there is no room for the copy. Which subscribers have room is decided, and counted, later.

        Bun: Server.publish. RFC 7692 for compression.
        """
    @overload
    def publish(self, topic: str, data: Buffer, compress: bool = True) -> int: ...
    def subscriber_count(self, topic: str, /) -> int:
        """Return how many sockets are subscribed to a topic.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

        Returns:
            An int; 0 for a topic without subscribers.

        Raises:
            TypeError: topic is no str.
            ValueError: topic is empty or too long.

        Threads: the server's thread only.

        Bun: Server.subscriberCount.
        """
    def stats(self) -> ServerStats:
        """Return what the server has counted since ``serve()`` made it.

        Counters never fall and outlast the server's end. It costs some microseconds, however many connections and topics there
        are.

        Returns:
            A new dict of int, float and dicts of such, every key always there; ``uwserve.stats.ServerStats`` documents each.

        Threads: any.
        """
    def topics(self) -> dict[str, TopicStats]:
        """Return the figures of every topic that has a subscriber.

        A topic exists from its first subscriber to its last; a later one of that name starts from 0. It takes time in
        proportion to all subscriptions.

        Returns:
            A dict, in order of the names' UTF-8 bytes, of dicts with ``subscribers`` (how many) and ``publishes`` (how often
            something was published to it since it exists); ``uwserve.stats.TopicStats``.

        Threads: the server's thread only.
        """
    def subscribers(self, topic: str) -> list[ServerWebSocket[DataT]]:
        """Return the sockets that are subscribed to a topic.

        Args:
            topic: the topic's name, a str of 1 to 65,535 bytes of UTF-8.

        Returns:
            A list of ``ServerWebSocket``, by id; [] for a topic without subscribers.

        Raises:
            TypeError: topic is no str.
            ValueError: topic is empty or too long.

        Threads: the server's thread only.
        """
    def request_ip(self, request: Request, /) -> SocketAddress | None:
        """Return the address of a request's client.

        Behind a proxy of ``trusted_proxies`` it is the client that the proxy names, with port 0 if it names none. If a PROXY
        header contains no client address, it is the proxy's own, which says nothing about the client.

        Args:
            request: a ``Request`` of this server.

        Returns:
            A named tuple (address, port, family): a str, an int, and "IPv4" or "IPv6", also when the client has gone; None on a
            unix socket.

        Raises:
            TypeError: request is no ``Request``.
            ValueError: it belongs to another server.

        Threads: the server's thread only.

        Bun: Server.requestIP.
        """
    def timeout(self, request: Request, seconds: int) -> None:
        """Set the timeout of a request's answer, and then of each progress in sending it, instead of ``idle_timeout``.

        Args:
            request: a ``Request`` of this server; nothing happens when its client is gone.
            seconds: an int, 0..86,400; 0 is for ever.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: seconds out of range, or a request of another server.

        Threads: the server's thread only.

        Bun: Server.timeout.
        """
    @property
    def pending_requests(self) -> int:
        """How many requests wait for their answer, an int.

        Threads: any.

        Bun: Server.pendingRequests.
        """
    @property
    def pending_websockets(self) -> int:
        """How many WebSockets are open, an int.

        Threads: any.

        Bun: Server.pendingWebSockets.
        """
    @property
    def refused(self) -> dict[str, int]:
        """What was refused since the start: a new dict of every cause to its count, both always there.

        Causes are limits, malformed requests, protocol errors, drops; ``uwserve.stats.ServerStats`` has it, too.

        Threads: any.
        """
    @property
    def buffered_bytes(self) -> int:
        """Bytes that the server keeps for its connections, an int: what ``max_buffered_bytes`` bounds.

        Output that peers have not taken, messages and requests that are incomplete, calls of other threads.

        Threads: any.
        """
    @property
    def running(self) -> bool:
        """True while a thread or an event loop runs it; a bool.

        Threads: any.
        """
    @property
    def stopping(self) -> bool:
        """True from ``stop()`` on; a bool.

        Threads: any.
        """
    @property
    def finished(self) -> bool:
        """True once it was stopped and its last connection is gone; a bool.

        Threads: any.
        """

class ServerControl:
    """For the facade. What only the facade calls on a server, kept off the object that users see; it holds the server."""
    def __init__(self, server: ServerCore[Any]) -> None:
        """For the facade. The control object of a server."""
    def _call_for(self, request: Request, function: Callable[..., Any], /, *args: Any) -> Any:
        """For the facade."""
    def _set_message_handler(self, handler: Callable[..., Any] | None) -> None:
        """For the dashboard: instead of configure()'s, until that is called again. Loop thread."""
    def set_hooks(
        self,
        dispatch: Callable[[Request], None],
        log_exception: Callable[[str, BaseException, ServerWebSocket | None], None],
        on_stopped: Callable[[], None],
        on_refused: Callable[[float, dict[str, int]], None],
        on_event_loop_wanted: Callable[[], None],
        on_unknown_protocol: Callable[[str], None] | None = None,
    ) -> None:
        """For the facade, before listening. All are called on the server's thread.

        dispatch(request): answers, upgrades or defers; an exception out of it is a 500. log_exception(where, exc, ws): an
        exception that no ``error`` handler took; ws is None if it was no socket's. on_stopped(): the last connection of a
        stopped server is gone (called exactly once). on_refused(seconds, counts): what was refused in that time, by cause; 0
        seconds: just now. on_event_loop_wanted(): a handler returned a coroutine, and no event loop runs it: call
        set_event_loop(), run in that. on_unknown_protocol(name): a subprotocol was selected because a client offered it, without anything from the
        application (called at most once).
        """
    def set_connection_log(
        self,
        is_wanted: Callable[[], bool],
        opened: Callable[[ServerWebSocket], None],
        closed: Callable[[ServerWebSocket, int, str], None],
    ) -> None:
        """For the facade. is_wanted() is asked at most once a second whether connections are to be logged; if so, opened(ws) and
        closed(ws, code, reason) log them.
        """
    def count_handler_error(self, where: str) -> None:
        """For the facade. One more exception out of user code that the core does not see itself. Any thread."""
    def configure(self, options: dict[str, Any]) -> None:
        """For the facade. The options by the names of the facade's tables, which have checked them.

        Those of HTTP and ``websocket`` (None: every upgrade() returns False), ``tls`` (a TlsConfig for new connections, or
        None), and the dicts ``limits`` and ``proxies``. They take effect together, for open connections, too. A handler that is
        None is not called. The server's thread, or while nothing runs; the first time before listening.
        """
    # Only one of these three may be called, once.
    def listen_tcp(self, hosts: Sequence[str], port: int, reuse_port: bool, ipv6_only: bool) -> list[tuple[bytes, int]]:
        """For the facade, once. Listens on all of these numeric addresses, with the same port for all if it is 0. If there are
        several, those of an unsupported family are left out. Returns [(numeric address, port)]. OSError with errno on failure;
        its filename is the address.
        """
    def listen_unix(self, path: bytes, mode: int) -> list[tuple[bytes, int]]:
        """For the facade, once. path: bytes; an abstract name starts with NUL. mode: permission bits, -1 for the umask's. Returns
        [(path, -1)]. OSError with errno on failure.
        """
    def listen_fds(self, fds: Sequence[int]) -> list[tuple[bytes, int]]:
        """For the facade, once. Takes over bound and listening descriptors. OSError, with the descriptors before the bad one taken
        over: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (not a stream), EAFNOSUPPORT (neither TCP nor unix), EINVAL (not listening).
        Returns [(numeric address, port)], or path and -1.
        """
    def listening_descriptors(self) -> list[int]:
        """For the facade. The descriptors of the listening sockets. The core still owns them: duplicate them. The server's thread."""
    def run_loop(self, signal_fd: int = -1, rearm_signals: Callable[[], None] | None = None) -> None:
        """For the facade. Runs until stopped and the last connection is gone. signal_fd: a descriptor whose readability means
        "Python has a signal to handle" (signal.set_wakeup_fd), or -1. Exceptions out of signal handlers, and KeyboardInterrupt
        and SystemExit out of handlers, end the run and are raised; the server can then be run again or stopped. rearm_signals()
        is called after turns that took long: a handler may have replaced the process's signal handlers.
        """
    def set_event_loop(self, loop: asyncio.AbstractEventLoop, tools: tuple[Any, ...]) -> None:
        """For the facade. Coroutines run in this asyncio or uvloop event loop from now on; tools are those of _run.tasks. Then
        attach_core() on the loop's thread gives a descriptor, and pump() is called whenever it is readable.
        """
    def forget_event_loop(self) -> None:
        """For the facade. The end of set_event_loop()."""
    def attach_core(self) -> int:
        """For the facade. The descriptor to watch in the event loop of this thread."""
    def pump(self) -> int:
        """For the facade. One turn of the loop: 0 goes on, 1 over (remove the reader, then detach_core()), 2 stopped by force and
        only coroutines are left. Raises KeyboardInterrupt and SystemExit out of handlers.
        """
    def loop_reader(self, on_end: Callable[[int], None]) -> Callable[[], None]:
        """For the facade. A callable that calls pump(), and on_end() with the result, unless that is 0."""
    def detach_core(self) -> None:
        """For the facade. The end of attach_core(). RuntimeError in a callback of the server's."""
    def start_coroutine(self, coroutine: Coroutine[Any, Any, Any], where: str = "fetch", /) -> asyncio.Task[Any] | None:
        """For the facade. Steps a coroutine at once, in the task and context of a handler; returns its Task when it has suspended,
        else None. where: what an exception out of it counts as in ``handler_errors``. The server's thread.
        """
    def cancel_tasks(self) -> None:
        """For the facade. Cancels the Tasks of handlers, but not the one that calls. The server's thread."""
    def forget_tasks(self) -> None:
        """For the facade. The end does not wait for the Tasks of handlers any more. The server's thread."""
    def stop_core(self, close_active_connections: bool) -> None:
        """For the facade. False: stop listening, close idle HTTP connections, let requests and sockets finish. True: also 1001
        "Server closed" to every socket; requests in flight are cut. Idempotent; may go from False to True. Any thread.
        """
    @staticmethod
    def check_close(code: int, reason: str) -> None:
        """For the facade. TypeError or ValueError for what ServerWebSocket.close() would refuse."""
    def stop_within(self, seconds: float, code: int, reason: str) -> None:
        """For the facade. The stop with a deadline, see Server.stop; a later call may shorten it. TypeError and ValueError for a
        bad code or reason. Any thread.
        """
    def respond(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        /,
    ) -> bool:
        """For the facade. The answer to a request; False if it was answered or its client is gone. body None: no body and no
        Content-Length (204, 304). The body is left out for HEAD. Header names and values are validated (CR, LF, NUL, names that
        are no tokens: ValueError); Content-Length, Transfer-Encoding and Date are the core's own and skipped; "Connection:
        close" closes. The server's thread.
        """
    def respond_stream(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: Iterator[str | Buffer],
        /,
    ) -> bool:
        """For the facade. As respond(), with an iterator of bytes-like or str pieces: pulled as the socket takes them; its close()
        is called when the client leaves. An exception out of it is logged and cuts the connection, so that the client sees an
        incomplete body. The server's thread.
        """
    def respond_pushed(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        notify: Callable[[bool], None],
        /,
    ) -> bool:
        """For the facade. As respond_stream(), with pieces that come by push_piece(): notify(True) is called when one is wanted, unless
        push_piece() returns so, and notify(False) once, when the stream is over or its client gone. The server's thread.
        """
    def push_piece(self, request: Request, piece: str | Buffer, /) -> bool:
        """For the facade. Sends a piece, bytes-like or str, of the body that respond_pushed() has begun, when one is wanted; True if
        another is wanted at once. TypeError for anything else, RuntimeError if none is wanted. The server's thread.
        """
    def end_pushed(self, request: Request, complete: bool, /) -> bool:
        """For the facade. Ends the body that respond_pushed() has begun; one that is not complete cuts the connection. False if it was
        over. The server's thread.
        """
    def defer(self, request: Request, /) -> None:
        """For the facade, inside dispatch(): the answer, or upgrade, comes later."""
    @property
    def forced(self) -> bool:
        """For the facade. True once the server was stopped by force: its coroutines have been cancelled."""
    @property
    def compressions(self) -> int:
        """For the facade. How many messages were compressed, an int; a broadcast counts once for each setting. The server's thread."""

# Methods and a member of native types that are not on the type, because only the facade uses them.

def add_waiter(
    ws: ServerWebSocket, callback: Callable[[tuple[int, str] | None], None] | None, below: int | None
) -> tuple[int, str] | bool | None:
    """For the facade. The outcome if it is known: True when at most ``below`` bytes are buffered, (code, reason) once the
    socket is closed. Else None, and callback(None) or callback((code, reason)) will be called, once, on the server's
    thread, unless callback is None. below None waits for the close. Any thread.
    """

def remove_waiter(ws: ServerWebSocket, callback: Callable[[tuple[int, str] | None], None], /) -> None:
    """For the facade. Without a call of the callback. Any thread."""

def is_unknown(request: Request, /) -> bool:
    """For the dashboard. True when a PROXY header named no client: the address of the request is the proxy's."""

kept_headers: MemberDescriptorType  # of Request: the Headers that its property has made, or None

docstrings: dict[str, str]  # of the members that the facade puts on native types, by qualified name

def live_handles() -> int:
    """For the tests. How many ServerWebSocket objects this process holds, an int. Any thread."""

uwebsockets_version: str  # "20.44", or "other than 20.44" when it was built against other headers
codec: str  # what compresses: "zlib 1.2.13", or "zlib 1.2.13, libdeflate 1.14" where the build found that
openssl_version: str  # of the library that is used, as it names itself
build: dict[str, str]  # pybind11, compiler, libc and openssl at build time; pgo: "OFF", or "USE"
