"""``serving(...)``: a server in a thread of the test's process, and ``LiveServer``, its interface for a test."""

from __future__ import annotations

import concurrent.futures
import os
import ssl
import sys
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .. import Request, Response, Server, serve
from .._options.serve import SERVE
from .._options.tls import pem
from .._run.listening import shown
from .._run.tasks import run_factory
from ._client import WebSocketClient
from ._connection import MAX_SIZE, Connection, HandshakeRefused
from ._errors import HandlerErrors
from ._http import HttpResponse, send_request
from ._transport import TIMEOUT, Target, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from .._run.stopped import Stopped
    from ..types import HeadersInit

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

GRACE = 1.0
"""Seconds that coroutines of handlers have to end after the test, before they are cancelled."""
ADDRESS = frozenset(("port", "hostname", "unix", "unix_mode", "fd", "reuse_port", "ipv6_only"))
"""Options of a target that a test ignores: the server listens on a free port."""


def upgrade_all(request: Request, server: Server) -> Response | None:
    """The default ``fetch``: accepts every handshake."""
    if server.upgrade(request):
        return None
    return Response("This server was given neither fetch nor routes: it only accepts WebSockets.\n", 426)


class LiveServer:
    """A server that runs in a thread of this process. ``serving`` makes it; a context manager that stops it.

    An exception of a handler that no ``error`` handler handles is raised in the test: by a client that waits for an
    answer in vain, else at the end of the block. ``expect_error`` waits for an exception that the test intends.
    """

    __test__ = False  # pytest does not collect it, whatever name it is imported under

    server: Server
    """The server itself, for ``publish``, ``stats``, ``reload``; ``call`` runs what only its own thread may do."""
    timeout: float
    """Default of every wait, in seconds."""

    def __init__(self, server: Server, target: Target, *, raise_errors: bool, timeout: float) -> None:
        self.server = server
        self.timeout = timeout
        self._target = target
        self._raise_errors = raise_errors
        self._clients: list[WebSocketClient] = []
        self._errors = HandlerErrors(server)
        try:
            server.start()
        except BaseException:
            self._errors.close()
            raise

    # --- clients ---

    @property
    def url(self) -> str:
        """``http://host:port/``, ``https`` with TLS; as ``Server.url``."""
        return self.server.url

    @property
    def websocket_url(self) -> str:
        """``ws://host:port/``, ``wss`` with TLS, for other clients."""
        return "ws" + self.url.removeprefix("http") if self.url.startswith("http") else self.url

    def connect(
        self,
        path: str = "/",
        *,
        protocols: Sequence[str] = (),
        headers: HeadersInit | None = None,
        cookies: Mapping[str, str] | None = None,
        compression: bool = False,
        max_size: int = MAX_SIZE,
        timeout: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> WebSocketClient:
        """Open a WebSocket on ``path``, query included; ``protocols`` are offered in this order.

        ``compression`` offers permessage-deflate. ``timeout`` is the new connection's default. Raises
        ``HandshakeRefused`` (with ``response``) if the server answers with another status, ``ProtocolError`` if its
        answer violates the protocol, ``TimeoutError`` and ``OSError``. Clients that the test leaves open are closed
        with 1001 at the end.
        """
        target = self._target.with_tls(ssl_context, server_hostname)
        errors = self._errors if self._raise_errors else None
        client = WebSocketClient(
            Connection(target, path, protocols, headers, cookies, compression, max_size, self._seconds(timeout), errors)
        )
        self._clients.append(client)
        return client

    def expect_refusal(self, path: str = "/", status: int | None = None, **options: Any) -> HttpResponse:
        """The answer to a refused handshake; ``AssertionError`` if the server accepts, or for another ``status``.

        ``options`` are those of ``connect``.
        """
        try:
            self.connect(path, **options).drop()
        except HandshakeRefused as refused:
            if status is not None and refused.response.status != status:
                raise AssertionError(f"expected status {status}, received {refused.response}") from None
            return refused.response
        raise AssertionError(f"expected a refusal on {path}, but the server accepted the WebSocket")

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        headers: HeadersInit | None = None,
        cookies: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        json: Any = None,
        timeout: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> HttpResponse:
        """Send an HTTP request and return its response; redirects are not followed.

        ``json`` is sent as JSON instead of ``body``. Raises ``TimeoutError`` and other ``OSError``.
        """
        target = self._target.with_tls(ssl_context, server_hostname)
        return send_request(target, method, path, headers, cookies, body, json, self._seconds(timeout))

    def get(self, path: str = "/", **options: Any) -> HttpResponse:
        """``request("GET", ...)``."""
        return self.request("GET", path, **options)

    def post(self, path: str = "/", **options: Any) -> HttpResponse:
        """``request("POST", ...)``."""
        return self.request("POST", path, **options)

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    # --- the server's thread ---

    def call(self, function: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
        """``function(*args)`` on the server's thread, between two handlers; returns its value or raises its exception.

        ``TimeoutError``, with the thread's stack, if a handler blocks the thread; ``RuntimeError`` after the end.
        """
        if self.server.on_loop_thread():
            return function(*args)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as exc:
                future.set_exception(exc)

        self.server.call_soon(run)
        seconds = self._seconds(timeout)
        if not concurrent.futures.wait([future], seconds).done:
            raise TimeoutError(f"the server's thread was busy for {seconds:g} s{self._stack()}")
        return future.result()

    def wait_until(self, condition: Callable[[], T], timeout: float | None = None) -> T:
        """Call ``condition`` on the server's thread until it returns a true value, and return that value.

        For effects that a client cannot see, such as the work of a ``close`` handler. ``AssertionError`` on timeout.
        """
        seconds = self._seconds(timeout)
        end = time.monotonic() + seconds
        while not (value := self.call(condition)):
            if time.monotonic() > end:
                raise AssertionError(f"{condition!r} was still {value!r} after {seconds:g} s")
            time.sleep(0.005)
        return value

    # --- errors ---

    @property
    def errors(self) -> list[BaseException]:
        """Exceptions of handlers that were not raised in the test yet, in order. The list is a copy."""
        return self._errors.all()

    def expect_error(self, kind: type[E], match: str | None = None, timeout: float | None = None) -> E:
        """Wait for a handler to raise a ``kind`` whose text contains a match of the pattern ``match``.

        Returns the exception, which is then not raised in the test. ``AssertionError`` on timeout.
        """
        return self._errors.expect(kind, match, self._seconds(timeout))

    def raise_errors(self) -> None:
        """Raise the first exception of a handler that was not raised in the test yet, if there is one.

        Waits for the handler that runs on the server's thread now.
        """
        self._errors.settle()
        self._errors.throw()

    # --- the end ---

    def stop(self) -> None:
        """Stop the server (sockets are closed with 1001), drop the clients and wait for the end. Idempotent.

        Coroutines of handlers have a second to end and are then cancelled. Raises ``TimeoutError``, with the thread's
        stack, if the server does not end because a handler blocks its thread.
        """
        try:
            if not self.server.finished:
                self._end()
            self.server._control.join(self.timeout)
        finally:
            self._errors.close()
            self._drop_clients()

    def _end(self) -> None:
        stopped = self.server.stop(timeout=GRACE)
        if self.server.running:
            self._errors.settle()  # the Close frames are sent before the clients drop: always 1001, never 1006
        self._drop_clients()
        if self._ended(stopped, GRACE + 0.5):
            return
        forced = self.server.stop(True)
        self.server.call_soon(lambda: [task.get_loop().call_soon(task.cancel) for task in self.server.tasks])
        if not self._ended(forced, self.timeout):
            raise TimeoutError(f"the server did not stop within {self.timeout:g} s{self._stack()}")

    def _drop_clients(self) -> None:
        for client in self._clients:
            client.drop()
        self._clients.clear()

    def _ended(self, stopped: Stopped, seconds: float) -> bool:
        try:
            return stopped.wait(seconds)
        except RuntimeError:  # a handler's SystemExit has ended the thread: the stop continues in a new one
            self.server.start()
            return stopped.wait(seconds)

    def _stack(self) -> str:
        """The stack of the server's thread, for the text of an error."""
        thread = self.server._control.state.thread
        frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
        return ":\n" + "".join(traceback.format_stack(frame)) if frame is not None else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, where: object) -> None:
        self.stop()
        if self._raise_errors and (exc is None or isinstance(exc, Exception)):
            self._errors.throw()  # with ``exc``, the test's own exception, as its context

    def __repr__(self) -> str:
        return f"<LiveServer {self.server!r}, {len(self.errors)} errors>"


def serving(
    target: Server | Mapping[str, Any] | Callable[[], Any] | None = None,
    /,
    *,
    raise_errors: bool = True,
    timeout: float = TIMEOUT,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    **options: Any,
) -> LiveServer:
    """Start a server for a test, in a thread of this process, on a free port of 127.0.0.1.

    ::

        with serving(websocket={"message": lambda ws, message: ws.send(message)}) as server:
            with server.connect() as ws:
                ws.send("x")
                assert ws.receive() == "x"

    ``options`` are those of ``uwserve.serve``. Without ``fetch`` and ``routes`` every handshake is accepted. ``target``
    is the same as for the command ``uwserve serve``: a ``Server`` that does not run yet (without ``options``), a dict
    of options, of which the address (``port``, ``hostname``, ``ipv6_only``, ``reuse_port``, ``unix``, ``unix_mode``,
    ``fd``) is ignored, or a function, async or not, that returns either. Returns after ``startup`` has returned.

    * ``raise_errors``: raise in the test the exceptions of handlers that no ``error`` handler handles.
    * ``timeout``: seconds, for every wait of this server's clients and for its end.
    * ``ssl_context``: with it the clients verify a TLS server. Default: they trust exactly the certificates in ``tls``
      and expect the name ``server_hostname``, by default ``"localhost"``.

    Raises the errors of ``serve``, ``TypeError`` for another type of target, ``ValueError`` for a running server.
    """
    loop = None  # of an async factory
    if callable(target):
        target, loop = run_factory(target())
    if isinstance(target, Server):
        if options:
            raise TypeError(f"a Server has its options already, got {', '.join(options)}")
        server, tls = target, None
    elif target is None or isinstance(target, Mapping):
        own = {name: value for name, value in (target or {}).items() if SERVE.aliases.get(name, name) not in ADDRESS}
        own |= options
        if not {"unix", "fd"} & own.keys():
            own = {"port": 0, "hostname": "127.0.0.1"} | own
        if "fetch" not in own and "routes" not in own:
            own["fetch"] = upgrade_all
        server, tls = serve(own), own.get("tls")
    else:
        raise TypeError(f"serving() takes a Server, a dict of options or a function, got {type(target).__name__}")
    if server.running or server.finished:
        raise ValueError(f"serving() takes a server that does not run yet, got {server!r}")
    if ssl_context is None and server.url.startswith("https:"):
        ssl_context = trust(tls) if tls is not None else ssl.create_default_context()
    where = _target(server, ssl_context, server_hostname or "localhost")
    if loop is not None:
        server._control.runner.adopt(loop)
    return LiveServer(server, where, raise_errors=raise_errors, timeout=timeout)


def _target(server: Server, context: ssl.SSLContext | None, server_hostname: str) -> Target:
    unix = server._control.listening.unix
    if unix is not None:
        return Target(unix, "localhost", context, server_hostname)
    assert server.port is not None
    host = server.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Target((host, server.port), shown(host, server.port), context, server_hostname)


def trust(tls: Any) -> ssl.SSLContext:
    """A client's context that trusts only the certificates of the option ``tls``, self-signed or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for entry in tls if isinstance(tls, (list, tuple)) else [tls]:
        certificates = pem("tls.cert", entry["cert"])
        assert certificates is not None
        context.load_verify_locations(cadata=certificates.decode("ascii", "replace"))
    return context


def connect(
    url: str,
    *,
    protocols: Sequence[str] = (),
    headers: HeadersInit | None = None,
    cookies: Mapping[str, str] | None = None,
    compression: bool = False,
    max_size: int = MAX_SIZE,
    timeout: float = TIMEOUT,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    unix: str | bytes | os.PathLike[str] | None = None,
) -> WebSocketClient:
    """Open a WebSocket to a server that runs elsewhere, in another process for instance.

    ``url`` is ws, wss, http or https; ``unix`` is the path of a socket to use instead of its host and port. ``wss`` is
    verified with ``ssl_context``, by default the system's authorities. The rest is as in ``LiveServer.connect``.
    """
    target, path = target_of(url)
    if unix is not None:
        target = target._replace(address=os.fspath(unix))
    target = target.with_tls(ssl_context if target.tls is not None else None, server_hostname)
    return WebSocketClient(Connection(target, path, protocols, headers, cookies, compression, max_size, timeout))
