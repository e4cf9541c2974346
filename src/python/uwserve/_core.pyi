"""The native module: uWebSockets' App and WebSocket, bound directly.

``ServerCore`` is the half of ``uwserve.Server`` that is written in C++; ``uwserve.Server`` derives from it. Nothing in
this module validates options: the facade does, once, before a server exists.
"""

import asyncio
import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from types import GenericAlias
from typing import Any, Generic, Literal, TypeVar, final, overload

from typing_extensions import Buffer, TypeVarTuple, Unpack

from ._generics import DataT
from ._headers import Headers
from ._server import Server
from ._waiting import Closed
from .stats import ServerStats, TopicStats
from .types import BinaryType, HeadersInit, TlsInfo, UpgradeOptions

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

@final
class ServerWebSocket(Generic[DataT]):
    """A WebSocket connection, as handlers see it (Bun's ``ServerWebSocket``). Never made by users."""

    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    data: DataT
    @property
    def binary_type(self) -> BinaryType: ...
    @binary_type.setter
    def binary_type(self, value: BinaryType | Literal["nodebuffer", "uint8array", "arraybuffer"]) -> None: ...
    @property
    def ready_state(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def remote_address(self) -> str | None: ...
    @property
    def subscriptions(self) -> list[str]: ...
    @property
    def protocol(self) -> str: ...
    @property
    def buffered_amount(self) -> int: ...
    @property
    def server(self) -> Server[DataT]: ...
    @overload
    def send(self, data: str, compress: bool = False) -> int: ...
    @overload
    def send(self, data: Buffer, compress: bool = False) -> int: ...
    def send_text(self, data: str, compress: bool = False) -> int: ...
    def send_binary(self, data: Buffer, compress: bool = False) -> int: ...
    @overload
    def publish(self, topic: str, data: str, compress: bool = False) -> int: ...
    @overload
    def publish(self, topic: str, data: Buffer, compress: bool = False) -> int: ...
    def publish_text(self, topic: str, data: str, compress: bool = False) -> int: ...
    def publish_binary(self, topic: str, data: Buffer, compress: bool = False) -> int: ...
    def subscribe(self, topic: str, /) -> bool: ...
    def unsubscribe(self, topic: str, /) -> bool: ...
    def is_subscribed(self, topic: str, /) -> bool: ...
    def ping(self, data: str | Buffer = b"") -> int: ...
    def pong(self, data: str | Buffer = b"") -> int: ...
    def cork(self, callback: Callable[[ServerWebSocket[DataT]], _T], /) -> _T: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...
    def terminate(self) -> None: ...
    def get_buffered_amount(self) -> int: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    # Asynchronous, any thread's event loop. Put on the type by ``_waiting.install``, but for messages().
    def closed(self) -> Coroutine[Any, Any, Closed]: ...
    def drained(self, below: int = 0) -> Coroutine[Any, Any, None]: ...
    def messages(self) -> Messages: ...
    # For _waiting.py. The outcome if it is known (True: drained; code and reason: closed), else callback(None) or
    # callback((code, reason)) once, on the server's thread. Any thread.
    def _wait(
        self, callback: Callable[[tuple[int, str] | None], None] | None, below: int | None
    ) -> tuple[int, str] | bool | None: ...
    def _forget(self, callback: Callable[[tuple[int, str] | None], None], /) -> None: ...

    # Bun's spellings: the same descriptors under a second name, put on the type by ``_aliases.install``.
    @property
    def binaryType(self) -> BinaryType: ...
    @binaryType.setter
    def binaryType(self, value: BinaryType | Literal["nodebuffer", "uint8array", "arraybuffer"]) -> None: ...
    @property
    def readyState(self) -> int: ...
    @property
    def remoteAddress(self) -> str | None: ...
    sendText = send_text
    sendBinary = send_binary
    publishText = publish_text
    publishBinary = publish_binary
    isSubscribed = is_subscribed
    getBufferedAmount = get_buffered_amount

@final
class Messages(AsyncIterator[Any]):
    """The messages of a socket: what ``ServerWebSocket.messages()`` returns. Never made by users."""

    def __anext__(self) -> Awaitable[Any]: ...
    def aclose(self) -> Awaitable[None]:
        """End the iteration: further messages, and those that wait, go to the ``message`` handler."""

class TlsConfig:
    # ValueError with the label of the entry, the option and what OpenSSL said. Each entry is a dict with label (str),
    # key, cert, ca, passphrase, ciphers (bytes; all but key and cert may be None), alpn_protocols and server_name
    # (lists of str), request_cert and reject_unauthorized (bool). Any thread.
    def __init__(self, entries: list[dict[str, Any]]) -> None: ...

@final
class Request:
    """One HTTP request, complete with its body. Usable after the connection has gone."""

    params: dict[str, str]
    """Set by the router: the decoded ``:name`` segments (and ``"*"``) of the route that matched."""
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> str:
        """Absolute: ``http://<Host><target>``, or ``https://`` on a TLS server."""
    @property
    def target(self) -> str:
        """The request target as sent: path and query."""
    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
    @property
    def query(self) -> str:
        """What follows ``?``, still encoded, or ``""``."""
    @property
    def header_items(self) -> list[tuple[str, str]]:
        """Fields in the order of arrival; names lower-cased, values decoded as latin-1."""
    @property
    def http_version(self) -> str: ...  # "1.1" or "1.0"
    @property
    def body(self) -> builtins.bytes: ...
    @property
    def is_upgrade(self) -> bool:
        """True when this is a WebSocket handshake that ``Server.upgrade`` would accept."""
    @property
    def tls(self) -> TlsInfo | None:
        """What TLS has agreed on: ``version``, ``cipher``, ``server_name``, ``alpn_protocol``, ``peer_certificate``
        (DER), ``authorized``, ``authorization_error``, ``session_reused``. ``None`` without TLS. Loop thread only."""
    @property
    def answered(self) -> bool:
        """True once it was responded to, upgraded, or its client is gone."""
    # Put on the type by ``_http.complete_request_type``.
    @property
    def headers(self) -> Headers: ...
    def bytes(self) -> Awaitable[builtins.bytes]: ...
    def text(self) -> Awaitable[str]: ...
    def json(self) -> Awaitable[Any]: ...
    _headers: Headers | None

@final
class TimedCall:
    """A callable that measures how long a handler takes; times in nanoseconds."""

    def __new__(cls, handler: Callable[..., Any], /) -> TimedCall: ...
    def __call__(self, *args: Any) -> Any: ...
    def record(self, ns: int, /) -> None: ...
    # count, total, p50, p90, p99, max since the last take()
    def take(self) -> dict[str, int]: ...

class ServerCore(Generic[DataT]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    # The dashboard's sockets, which no handler and no count of WebSockets and messages includes. Loop thread.
    def _observe(self, request: Request, /) -> ServerWebSocket | None: ...
    def _tell_observer(self, ws: ServerWebSocket, text: str, /) -> bool: ...
    # Instead of set_websocket's, until that is called again.
    def _set_message_handler(self, handler: Callable[..., Any] | None, /) -> None: ...
    def __init__(self) -> None: ...
    # Hooks, set by the facade before listening. Called on the loop thread.
    #   dispatch(request): answers, upgrades or defers; an exception out of it is a 500.
    #   log_exception(where, exc, ws): an exception that no `error` handler took; ws is None if it was no socket's.
    #   on_stopped(): the last connection of a stopped server is gone (called exactly once).
    #   on_event_loop_wanted(): a coroutine has come, and no event loop runs it: call set_event_loop(), run in that.
    #   on_refused(seconds, counts): what was refused in that time, by cause; 0 seconds: just now.
    def set_hooks(
        self,
        dispatch: Callable[[Request], None],
        log_exception: Callable[[str, BaseException, ServerWebSocket | None], None],
        on_stopped: Callable[[], None],
        on_refused: Callable[[float, dict[str, int]], None],
        on_event_loop_wanted: Callable[[], None],
    ) -> None: ...
    # is_wanted() is asked at most once a second whether connections are to be logged; if so, the others log them.
    def set_connection_log(
        self,
        is_wanted: Callable[[], bool],
        opened: Callable[[ServerWebSocket], None],
        closed: Callable[[ServerWebSocket, int, str], None],
    ) -> None: ...
    # One more exception out of user code that the core does not see itself. Any thread.
    def count_handler_error(self, where: str) -> None: ...
    # Live: also for open sockets. A handler that is None is not called. All keyword-only.
    def set_websocket(
        self,
        *,
        open: Callable[[ServerWebSocket], Any] | None,
        message: Callable[[ServerWebSocket, Any], Any] | None,
        close: Callable[[ServerWebSocket, int, str], Any] | None,
        drain: Callable[[ServerWebSocket], Any] | None,
        ping: Callable[[ServerWebSocket, bytes], Any] | None,
        pong: Callable[[ServerWebSocket, bytes], Any] | None,
        error: Callable[[ServerWebSocket, BaseException], Any] | None,
        max_payload_length: int,
        idle_timeout: int,
        ping_interval: int,
        max_lifetime: int,
        backpressure_limit: int,
        close_on_backpressure_limit: bool,
        send_pings: bool,
        publish_to_self: bool,
        serial: bool,
        per_message_deflate: tuple[str, str],  # compress, decompress: "disable", "shared", "dedicated", "3KB"..."256KB"
        protocols: Sequence[str],
        enabled: bool,  # False: serve() was given no websocket handler, every upgrade() returns False
    ) -> None: ...
    def set_http(self, *, idle_timeout: int, max_request_body_size: int) -> None: ...
    # Live. networks: (address, prefix) of trusted peers, 4 or 16 bytes; local: unix peers, too; field: the one that is
    # believed from them, in lower case, or "".
    def set_proxies(
        self, *, networks: Sequence[tuple[bytes, int]], local: bool, field: str, proxy_protocol: bool
    ) -> None: ...
    # 0 turns a limit off. exempt_local: loopback and trusted proxies are free of max_connections_per_address.
    def set_limits(
        self,
        *,
        max_connections: int,
        max_connections_per_address: int,
        exempt_local: bool,
        max_pending_heads: int,
        max_control_frames_per_second: int,
        max_tiny_fragments_per_second: int,
        max_buffered_bytes: int,
        report_ms: int,
    ) -> None: ...
    # For connections from now on; the first time before listening. Loop thread, or while nothing runs.
    def set_tls(self, config: TlsConfig) -> None: ...
    # OSError with errno on failure (gaierror for names). May be called once.
    def listen_tcp(self, hostname: str | None, port: int, reuse_port: bool, ipv6_only: bool) -> None: ...
    def listen_unix(self, path: bytes) -> None: ...  # an abstract name starts with NUL
    # On a bound and listening descriptor, which is taken over, unless OSError: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (no
    # stream), EAFNOSUPPORT (neither TCP nor unix), EINVAL (not listening). Numeric address and port, or path and -1.
    def listen_fd(self, fd: int) -> tuple[bytes, int]: ...
    # Runs until stopped and the last connection is gone. signal_fd: a descriptor whose readability means "Python has a
    # signal to handle" (signal.set_wakeup_fd), or -1. Exceptions out of signal handlers, and KeyboardInterrupt and
    # SystemExit out of handlers, end the run and are raised; the server can then be run again or stopped.
    def run_loop(self, signal_fd: int = -1) -> None: ...
    # Inside an event loop: set_event_loop(loop, _tasks.TOOLS), descriptor = attach_core() on the loop's thread, pump()
    # whenever it is readable: 0 goes on, 1 over (remove the reader, then detach_core()), 2 stopped by force and only
    # coroutines are left. pump() raises KeyboardInterrupt and SystemExit out of handlers.
    def set_event_loop(self, loop: asyncio.AbstractEventLoop, tools: tuple[Callable[..., Any], ...]) -> None: ...
    def forget_event_loop(self) -> None: ...
    def attach_core(self) -> int: ...
    def pump(self) -> int: ...
    # Calls pump(), and on_end() with what that tells, unless it is 0.
    def loop_reader(self, on_end: Callable[[int], None]) -> Callable[[], None]: ...
    def detach_core(self) -> None: ...
    # Steps a coroutine at once, in the task and context of a handler; its Task when it has suspended. where: what an
    # exception out of it counts as, see ServerStats.handler_errors. Loop thread.
    def start_coroutine(
        self, coroutine: Coroutine[Any, Any, Any], where: str = "fetch", /
    ) -> asyncio.Task[Any] | None: ...
    def cancel_tasks(self) -> None: ...  # of handlers; not the one that calls
    def forget_tasks(self) -> None: ...
    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]: ...  # of handlers' coroutines that have not ended
    # Any thread. False: stop listening, close idle HTTP connections, let requests and sockets finish. True: also 1001
    # "Server closed" to every socket; requests in flight are cut. Idempotent; may go from False to True.
    def stop_core(self, close_active_connections: bool) -> None: ...
    # Any thread. The stop with a deadline, see Server.stop; a later call may shorten it. TypeError and ValueError for a
    # bad code or reason.
    @staticmethod
    def check_close(code: int, reason: str) -> None: ...  # TypeError, ValueError as of ServerWebSocket.close
    def stop_within(self, seconds: float, code: int, reason: str) -> None: ...
    # Any thread: fn(*args) runs on the loop thread in the next iteration; exceptions are logged.
    def call_soon(self, fn: Callable[[Unpack[_Ts]], object], /, *args: Unpack[_Ts]) -> None: ...
    # Without data, ws.data is None: that must be a value of its type.
    @overload
    def upgrade(
        self,
        request: Request,
        /,
        *,
        headers: HeadersInit | None = None,
        data: DataT,
        protocol: str | None = None,
    ) -> bool: ...
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
    def publish(self, topic: str, data: str, compress: bool = True) -> int: ...
    @overload
    def publish(self, topic: str, data: Buffer, compress: bool = True) -> int: ...
    def subscriber_count(self, topic: str, /) -> int: ...
    def stats(self) -> ServerStats: ...
    def topics(self) -> dict[str, TopicStats]: ...
    def subscribers(self, topic: str) -> list[ServerWebSocket[DataT]]: ...
    def request_ip(
        self, request: Request, /
    ) -> tuple[str, int, Literal["IPv4", "IPv6"]] | None: ...  # (address, port, "IPv4" | "IPv6")
    def timeout(self, request: Request, seconds: int) -> None: ...
    # The answer to a request. False if it was answered or its client is gone. body None: no body and no Content-Length
    # (1xx, 204, 304). The core leaves the body out for HEAD. Header names and values are validated (CR, LF, NUL, names
    # that are no tokens: ValueError); Content-Length, Transfer-Encoding and Date are the core's own and skipped;
    # "Connection: close" closes. Loop thread only.
    def respond(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: bytes | None,
        /,
    ) -> bool: ...
    # Same with an iterator of bytes-like or str pieces: pulled as the socket takes them; its close() is called when the
    # client leaves. An exception out of it is logged and cuts the connection, so the client sees an incomplete body.
    def respond_stream(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: Iterator[str | Buffer],
        /,
    ) -> bool: ...
    # Same with pieces that come by push_piece(). tell(True) when one is wanted, unless push_piece() says so, and
    # tell(False) once, when the stream is over or its client gone.
    def respond_pushed(
        self,
        request: Request,
        status: int,
        headers: Sequence[tuple[str, str]],
        tell: Callable[[bool], None],
        /,
    ) -> bool: ...
    # True when another piece is wanted at once. RuntimeError when none is wanted.
    def push_piece(self, request: Request, piece: str | Buffer, /) -> bool: ...
    # What is not complete cuts the connection. False if the body was over.
    def end_pushed(self, request: Request, complete: bool, /) -> bool: ...
    # Called inside dispatch(): the answer, or upgrade, comes later.
    def defer(self, request: Request, /) -> None: ...
    @property
    def local_port(self) -> int: ...  # 0 for unix sockets and before listening
    @property
    def pending_requests(self) -> int: ...
    @property
    def pending_websockets(self) -> int: ...
    @property
    def refused(self) -> dict[str, int]: ...
    @property
    def buffered_bytes(self) -> int: ...
    @property
    def running(self) -> bool: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def forced(self) -> bool: ...  # stopped by force: its coroutines have been cancelled
    @property
    def finished(self) -> bool: ...
    @property
    def compressions(self) -> int: ...  # messages compressed; a broadcast once for each setting. Loop thread
    @property
    def live_handles(self) -> int:
        """How many ``ServerWebSocket`` objects of this process exist: for leak tests."""

uwebsockets_version: str  # "20.44", or "other than 20.44" when it was built against other headers
codec: str  # what compresses: "zlib 1.2.13", or "zlib 1.2.13, libdeflate 1.14" where the build found that
openssl_version: str  # of the library that is used, as it names itself
build: dict[str, str]  # pybind11, compiler, libc and openssl at build time; pgo: "OFF", or "USE"
