"""The types of what ``uwserve`` takes and gives, for annotations.

Every dict of options is a ``TypedDict`` here, under our names and, for programs in Bun's spelling, its camelCase ones;
an option may be given under one of the two. ``DataT`` is the type of ``ws.data``; it is ``Any`` where nothing says it::

    from uwserve import Request, Server, ServerWebSocket, serve
    from uwserve.types import WebSocketOptions


    def fetch(request: Request, server: Server[User]) -> str | None:
        return None if server.upgrade(request, data=User("Ann")) else "A WebSocket lives here."


    def message(ws: ServerWebSocket[User], message: str | bytes) -> None:
        ws.send(f"hello {ws.data.name}")


    chat: WebSocketOptions[User] = {"message": message, "idle_timeout": 60}
    server = serve(fetch=fetch, websocket=chat)  # a Server[User]

The types of statistics are in ``uwserve.stats``. ``import uwserve`` imports nothing from here.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

from . import Headers, Request, Response, Server, ServerWebSocket, WebSocketHandler
from ._core import SocketAddress

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import Buffer

    from ._generics import DataT
else:
    from typing import TypeVar

    DataT = TypeVar("DataT")
    if sys.version_info >= (3, 11):
        from typing import Generic
    else:

        class _NoBase:
            def __mro_entries__(self, bases):
                return ()

        class Generic:  # of a TypedDict, which may not have one there; being a dict, it takes a subscript without
            def __class_getitem__(cls, item):
                return _NoBase()

    if sys.version_info >= (3, 12):
        from collections.abc import Buffer
    else:
        from abc import ABC
        from array import array

        class Buffer(ABC):  # noqa: B024  what is registered counts
            """Anything bytes-like, as ``collections.abc.Buffer`` of Python 3.12: what has the buffer protocol."""

        for _type in (bytes, bytearray, memoryview, array):
            Buffer.register(_type)


__all__ = [
    "Answer",
    "BinaryType",
    "BodyInit",
    "Buffer",
    "CloseHandler",
    "ControlHandler",
    "DashboardOptions",
    "DataT",
    "DeflateMode",
    "ErrorHandler",
    "FetchHandler",
    "FutureLike",
    "HeadersInit",
    "LimitOptions",
    "Message",
    "PerMessageDeflateOptions",
    "ReloadOptions",
    "Reply",
    "ResponseInit",
    "Route",
    "Routes",
    "ServeOptions",
    "SocketAddress",
    "SocketErrorHandler",
    "SocketHandler",
    "TlsInfo",
    "TlsOptions",
    "UpgradeOptions",
    "WebSocketObject",
    "WebSocketOptions",
]

# --- messages ---

Message: TypeAlias = str | bytes | bytearray | memoryview
"""What ``message`` handlers get: ``str`` for text; ``bytes``, or what ``ws.binary_type`` says, for binary messages."""

BinaryType: TypeAlias = Literal["bytes", "bytearray", "memoryview"]
"""The values of ``ws.binary_type``."""

# --- HTTP ---

HeadersInit: TypeAlias = Headers | Mapping[str, str] | Iterable[tuple[str, str]]
"""What ``Headers(...)`` takes."""

BodyInit: TypeAlias = str | Buffer | Iterable[str | Buffer] | AsyncIterable[str | Buffer] | None
"""What ``Response(...)`` takes as its body."""


class ResponseInit(TypedDict, total=False):
    """The second argument of ``Response(...)`` and ``Response.json(...)`` as in Bun."""

    status: int
    headers: HeadersInit | None
    status_text: str
    statusText: str


class FutureLike(Protocol):
    """A future of ``concurrent.futures`` or asyncio: an answer that comes later."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Call ``fn`` with the future when it is done."""

    def result(self) -> Any:
        """The result, or the exception raised."""


Answer: TypeAlias = Response | str | bytes | bytearray | memoryview | dict[Any, Any] | list[Any] | None
"""An answer to a request: a dict or list is sent as JSON, ``None`` is 204, or nothing after an upgrade."""

Reply: TypeAlias = Answer | FutureLike | Coroutine[Any, Any, Answer | FutureLike]
"""The result of a handler of requests: an ``Answer``, a future of one, or, as an ``async def``, a coroutine of one."""

FetchHandler: TypeAlias = Callable[[Request], Reply] | Callable[[Request, Server[DataT]], Reply] | Callable[[], Reply]
"""A handler of requests; subscript it with the type of ``ws.data``."""

ErrorHandler: TypeAlias = Callable[[Exception], Reply] | Callable[[], Reply]
"""The option ``error``: answers a request whose handler raised."""

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"]

Route: TypeAlias = FetchHandler[DataT] | Answer | Mapping[Method, FetchHandler[DataT] | Answer]
"""The end of a route: a handler, a static answer, or one of these for each method."""

Routes: TypeAlias = Mapping[str, Route[DataT]]
"""The option ``routes``: patterns to what they lead to."""


# --- the options of sockets ---

DeflateMode: TypeAlias = (
    bool | Literal["disable", "shared", "dedicated", "3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB"]
)
"""One direction of ``per_message_deflate``."""


class PerMessageDeflateOptions(TypedDict, total=False):
    """Compression by direction (RFC 7692); one that is left out is shared."""

    compress: DeflateMode
    """Of what is sent."""
    decompress: DeflateMode
    """Of what is received."""


SocketHandler: TypeAlias = Callable[[ServerWebSocket[DataT]], object] | Callable[[], object]
"""``open`` and ``drain``; as all handlers but ``message``, they may leave out arguments at the end."""

CloseHandler: TypeAlias = (
    Callable[[ServerWebSocket[DataT], int, str], object]
    | Callable[[ServerWebSocket[DataT], int], object]
    | SocketHandler[DataT]
)
"""``close``: the socket, the code, the reason."""

ControlHandler: TypeAlias = Callable[[ServerWebSocket[DataT], bytes], object] | SocketHandler[DataT]
"""``ping`` and ``pong``: the socket and what the frame holds."""

SocketErrorHandler: TypeAlias = (
    Callable[[Exception, ServerWebSocket[DataT]], object] | Callable[[Exception], object] | Callable[[], object]
)
"""``error`` of a socket, in Bun's order: the error, then the socket."""


class WebSocketOptions(TypedDict, Generic[DataT], total=False):
    """The option ``websocket`` as a dict; ``WebSocketHandler`` documents each member."""

    open: SocketHandler[DataT] | None
    message: Callable[[ServerWebSocket[DataT], Any], object] | None
    close: CloseHandler[DataT] | None
    drain: SocketHandler[DataT] | None
    ping: ControlHandler[DataT] | None
    pong: ControlHandler[DataT] | None
    error: SocketErrorHandler[DataT] | None
    max_payload_length: int
    idle_timeout: int
    ping_interval: int
    max_lifetime: int
    backpressure_limit: int
    close_on_backpressure_limit: bool
    send_pings: bool
    publish_to_self: bool
    serial: bool
    max_concurrent_handlers: int
    per_message_deflate: bool | PerMessageDeflateOptions | None
    protocols: Sequence[str] | None
    # Bun's spellings.
    maxPayloadLength: int
    idleTimeout: int
    pingInterval: int
    maxLifetime: int
    backpressureLimit: int
    closeOnBackpressureLimit: bool
    sendPings: bool
    publishToSelf: bool
    maxConcurrentHandlers: int
    perMessageDeflate: bool | PerMessageDeflateOptions | None


class _Opens(Protocol[DataT]):
    def open(self, ws: ServerWebSocket[DataT], /) -> object: ...


class _Receives(Protocol[DataT]):
    def message(self, ws: ServerWebSocket[DataT], message: Any, /) -> object: ...


class _Closes(Protocol[DataT]):
    def close(self, ws: ServerWebSocket[DataT], code: int, reason: str, /) -> object: ...


WebSocketObject: TypeAlias = WebSocketHandler[DataT] | _Opens[DataT] | _Receives[DataT] | _Closes[DataT]
"""The option ``websocket`` as an object: a ``WebSocketHandler``, or anything with its members."""


class UpgradeOptions(TypedDict, Generic[DataT], total=False):
    """The arguments of ``server.upgrade`` in one dict, as in Bun."""

    headers: HeadersInit | None
    data: DataT
    protocol: str | None


# --- the options of servers ---


class LimitOptions(TypedDict, total=False):
    """The option ``limits``; ``serve`` documents each. 0 turns a limit off, ``None`` means its default."""

    max_connections: int | None
    max_connections_per_address: int | None
    max_pending_heads: int | None
    max_control_frames_per_second: int | None
    max_tiny_fragments_per_second: int | None
    max_buffered_bytes: int | None
    max_concurrent_handlers: int | None
    reserved_descriptors: int | None
    # In Bun's manner of spelling.
    maxConnections: int | None
    maxConnectionsPerAddress: int | None
    maxPendingHeads: int | None
    maxControlFramesPerSecond: int | None
    maxTinyFragmentsPerSecond: int | None
    maxConcurrentHandlers: int | None
    reservedDescriptors: int | None
    maxBufferedBytes: int | None


Pem: TypeAlias = str | bytes | bytearray | os.PathLike[str] | os.PathLike[bytes]
"""PEM text, or a path of a file of it: ``str`` without ``-----BEGIN``, or a path object."""


class _KeyAndCertificate(TypedDict):
    key: Pem
    """The private key."""
    cert: Pem
    """The certificate, with those between it and a known authority behind it."""


class TlsOptions(_KeyAndCertificate, total=False):
    """The option ``tls``, or one entry of its list."""

    ca: Pem | None
    """The authorities of client certificates."""
    passphrase: str | bytes | bytearray | None
    """Of the key."""
    server_name: str | Sequence[str] | None
    """The names (RFC 6066 section 3) that this entry is for; ``"*.example.com"`` matches one label."""
    request_cert: bool
    """Ask clients for a certificate. Default False."""
    reject_unauthorized: bool
    """Refuse those without a valid one. Default True."""
    ciphers: str | None
    """OpenSSL's list of ciphers for TLS 1.2."""
    alpn_protocols: Sequence[str] | None
    """Application protocols (RFC 7301), in order of preference. Default ``["http/1.1"]``."""
    # Bun's spellings.
    serverName: str | Sequence[str] | None
    requestCert: bool
    rejectUnauthorized: bool
    ALPNProtocols: Sequence[str] | None
    alpnProtocols: Sequence[str] | None


Network: TypeAlias = str | ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network
"""An item of ``trusted_proxies``."""


class DashboardOptions(TypedDict, total=False):
    """The option ``dashboard`` as a dict; what is left out has its default."""

    path: str
    """Where it is. Default ``"/_uwserve"``."""
    allow: Iterable[Network] | None
    """Networks of the clients that may see it, and ``"unix"``. Default: loopback."""
    hosts: Sequence[str]
    """Names in ``Host`` besides ``hostname`` and localhost."""


class ReloadOptions(TypedDict, Generic[DataT], total=False):
    """The options that ``server.reload`` takes too; ``serve`` documents each."""

    fetch: FetchHandler[DataT] | None
    websocket: WebSocketOptions[DataT] | WebSocketObject[DataT] | None
    routes: Routes[DataT] | Mapping[str, object] | None
    error: ErrorHandler | None
    tls: TlsOptions | Sequence[TlsOptions] | None
    idle_timeout: int
    keep_alive_timeout: int
    min_body_rate: int
    max_request_body_size: int
    trusted_proxies: Iterable[Network]
    forwarded_header: str | None
    proxy_protocol: bool
    limits: LimitOptions  # no None: of a union mypy names no key that is misspelt
    metrics: str | None
    dashboard: bool | str | DashboardOptions | None
    development: bool
    id: str
    # Bun's spellings.
    idleTimeout: int
    keepAliveTimeout: int
    minBodyRate: int
    maxRequestBodySize: int
    trustedProxies: Iterable[Network]
    forwardedHeader: str | None
    proxyProtocol: bool


class ServeOptions(ReloadOptions[DataT], total=False):
    """The options of ``serve``, by keyword or in one dict."""

    port: int | str
    hostname: str
    unix: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None
    unix_mode: int | None
    fd: int | Literal["systemd"] | None
    reuse_port: bool
    ipv6_only: bool
    startup: Callable[[], object] | Callable[[Server[DataT]], object] | None
    shutdown: Callable[[], object] | Callable[[Server[DataT]], object] | None
    # Bun's spellings.
    unixMode: int | None
    reusePort: bool
    ipv6Only: bool


class TlsInfo(TypedDict):
    """The keys of ``request.tls``."""

    version: str
    """Such as ``"TLSv1.3"``."""
    cipher: str
    """OpenSSL's name of the cipher suite."""
    server_name: str | None
    """The name that the client asked for (RFC 6066 section 3)."""
    alpn_protocol: str | None
    """The protocol that was selected (RFC 7301)."""
    peer_certificate: bytes | None
    """The client's certificate, DER."""
    authorized: bool
    """True when the client has sent a certificate, and it was verified."""
    authorization_error: str | None
    """Why it was not."""
    session_reused: bool
    """True when an earlier session was resumed."""
