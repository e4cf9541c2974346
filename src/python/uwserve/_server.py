"""``serve()`` and ``Server``: the life of a server from its options to its last connection.

A ``Server`` is the native ``ServerCore`` (sockets, upgrade, publish: unchanged, no Python around them) plus run modes,
``stop`` and ``reload``. Threads: one thread at a time runs the loop; ``stop``, ``reload``, ``publish`` and
``call_soon`` may be called from any.
"""

from __future__ import annotations

import os
import sys
import threading

from . import _core, _limits, _proxies
from ._dispatch import App, log_exception
from ._lifecycle import Signals, Stopped, keep_until_exit, release
from ._options import WEBSOCKET, reload_options, serve_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self


class Server(_core.ServerCore):
    """A server that ``serve()`` has bound. Not made directly.

    Runs by ``run()`` (blocks this thread) or ``start()`` (a background thread). As a context manager it is stopped at
    the end of the block, open connections with it. Mirrors Bun's ``Server``.
    """

    port: int | None
    """The port it listens on, also when 0 was asked for; ``None`` for a unix socket."""
    hostname: str | None
    """The address or name it was told to listen on; ``None`` for a unix socket."""
    id: str
    """The name given as ``id``."""
    development: bool
    """True: the answer to a request whose handler raised shows the traceback."""

    if TYPE_CHECKING:  # Bun's spellings, put on the class by _aliases.install
        subscriberCount = _core.ServerCore.subscriber_count
        requestIP = _core.ServerCore.request_ip

        @property
        def pendingRequests(self) -> int: ...
        @property
        def pendingWebSockets(self) -> int: ...
        @property
        def bufferedBytes(self) -> int: ...

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # the one that runs the loop
        self._stopped = Stopped(self)
        self._options = dict(options)
        self.id = options["id"]
        self.development = options["development"]
        self.set_hooks(self._dispatch, log_exception, self._stopped._finish, self._report)
        self._apply(self._options)
        self._unix: bytes | None = options["unix"]
        self.hostname = None if self._unix is not None else options["hostname"]
        self.port = None if self._unix is not None else options["port"]
        try:
            if self._unix is not None:
                self.listen_unix(self._unix)
            else:
                self.listen_tcp(self.hostname, options["port"], options["reuse_port"], options["ipv6_only"])
                self.port = self.local_port
        except OSError as error:  # the same one, with the address in its text
            raise type(error)(error.errno, f"{error.strerror}: {self._address()}") from None

    @property
    def url(self) -> str:
        """``http://host:port/`` (``https`` with TLS), or ``unix:///path`` (``abstract://name``) for a unix socket."""
        if self._unix is not None:
            if self._unix.startswith(b"\0"):
                return "abstract://" + os.fsdecode(self._unix[1:])
            return "unix://" + os.path.abspath(os.fsdecode(self._unix))
        scheme = "http" if self._options["tls"] is None else "https"
        if self.hostname in ("0.0.0.0", "::"):
            return f"{scheme}://localhost:{self.port}/"
        return f"{scheme}://{self._address()}/"

    def run(self) -> None:
        """Run on this thread until the server is stopped and its last connection is gone.

        On the main thread SIGINT and SIGTERM stop it: the first lets open connections finish, the second closes them.
        The previous handlers are put back at the end. Raises ``RuntimeError`` when it already runs or has stopped, in a
        running asyncio event loop (which it would block: use ``start()``), and in a child made by ``fork``;
        ``KeyboardInterrupt`` and ``SystemExit`` out of a handler end the run.
        """
        self._run()

    def start(self) -> Self:
        """Run in a background daemon thread named ``uwserve``; returns the server.

        Raises ``RuntimeError`` when it already runs or has stopped, and in a child made by ``fork``. A server that
        still runs when the interpreter exits is stopped then.
        """
        thread = threading.Thread(target=self._run_in_background, name="uwserve", daemon=True)
        self._claim(thread)
        try:
            thread.start()
        except BaseException:
            self._unclaim()
            raise
        return self

    def stop(self, close_active_connections: bool = False) -> Stopped:
        """Stop listening. False: requests and sockets may finish; True: sockets are closed with 1001 "Server closed".

        May be called many times, from any thread, and go from False to True. Returns a handle that ends with the last
        connection: ``await`` it, or ``wait(timeout)``.
        """
        self.stop_core(bool(close_active_connections))
        return self._stopped

    def reload(self, **options: Any) -> None:
        """Replace handlers and limits, for open sockets too; subscriptions and connections stay.

        Takes the options of ``serve()`` but ``port``, ``hostname``, ``unix``, ``reuse_port`` and ``ipv6_only``
        (``ValueError``); what is not given stays as it is, while a given ``websocket`` or ``tls`` replaces the old
        one whole. ``tls`` counts for new connections, whose clients cannot resume sessions from before; it cannot be
        switched on or off (``ValueError``). All are checked before any takes effect, and they take effect together,
        between two callbacks. ``proxy_protocol`` is a matter of new connections, ``trusted_proxies`` and
        ``forwarded_header`` of new requests. Any thread; raises ``TypeError``, ``ValueError`` and ``OSError`` as
        ``serve()`` does, ``RuntimeError`` when the server has stopped.
        """
        changed = reload_options(options)
        if "tls" in changed and (changed["tls"] is None) != (self._options["tls"] is None):
            raise ValueError(f"reload() cannot switch tls {'off' if changed['tls'] is None else 'on'}")
        self._check_alive()
        self._on_loop(lambda: self._apply(self._options | changed))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(True)
        if not self.on_loop_thread():
            self._join(None)
            self._drain()

    def __repr__(self) -> str:
        state = "stopped" if self.finished else "stopping" if self.stopping else "running" if self.running else "bound"
        return f"<Server {self.url} {state}>"

    def _address(self) -> str:
        if self._unix is not None:
            return os.fsdecode(self._unix.replace(b"\0", b"@"))  # as ss(8) and /proc/net/unix show abstract names
        host = self.hostname or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def on_loop_thread(self) -> bool:
        """True in a callback of this server, on the thread that runs it."""
        return self._thread is threading.current_thread()

    # The hook the core calls for each request; on the loop's thread.
    def _dispatch(self, request: _core.Request) -> None:
        self._app.dispatch(self, request)

    # The hook the core calls when something was refused; on the loop's thread.
    def _report(self, seconds: float, counts: dict[str, int]) -> None:
        _limits.report(self._limits, seconds, counts)

    def _apply(self, options: dict[str, Any]) -> None:
        """Make ``options`` the server's. On the loop's thread, or while nothing runs."""
        _proxies.check_together(options)
        websocket = options["websocket"]
        self.set_websocket(**(websocket or _NO_WEBSOCKET), enabled=websocket is not None)
        self.set_http(idle_timeout=options["idle_timeout"], max_request_body_size=options["max_request_body_size"])
        self.set_proxies(**_proxies.core_arguments(options))
        self._limits = _limits.figures(options["limits"])
        self.set_limits(
            **self._limits,
            exempt_local="max_connections_per_address" not in options["limits"],
            report_ms=round(_limits.REPORT_SECONDS * 1000),
        )
        if options["tls"] is not None:
            self.set_tls(options["tls"])
        self._app = App(options["routes"], options["fetch"], options["error"], options["development"])
        self.id = options["id"]
        self.development = options["development"]
        self._options = options

    def _run(self, notice: Callable[[], None] | None = None) -> None:
        """``run()``; ``notice`` is called after the first signal has begun a graceful stop."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None and asyncio._get_running_loop() is not None:
            raise RuntimeError("run() would block the asyncio event loop of this thread: use start()")
        self._claim(threading.current_thread())
        try:
            if threading.current_thread() is threading.main_thread():
                with Signals(self.stop, notice) as descriptor:
                    self.run_loop(descriptor)
            else:
                self.run_loop(-1)
        finally:
            self._unclaim()

    def _run_in_background(self) -> None:
        try:
            self.run_loop(-1)
        except BaseException as exc:  # SystemExit and KeyboardInterrupt out of a handler: nobody else would see them
            log_exception("the server's thread, which ends", exc)
        finally:
            self._unclaim()

    def _claim(self, thread: threading.Thread) -> None:
        """Make ``thread`` the one that runs the loop."""
        self._check_alive()
        with self._lock:
            if self._thread is not None:
                raise RuntimeError(f"the server already runs, in thread {self._thread.name!r}")
            self._thread = thread
        keep_until_exit(self)

    def _unclaim(self) -> None:
        release(self)
        with self._lock:
            self._thread = None

    def _check_alive(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this server belongs to the parent process: it cannot be used after a fork")
        if self.finished:
            raise RuntimeError("the server has stopped")

    def _check_can_wait(self) -> None:
        thread = self._thread
        if thread is threading.current_thread():
            raise RuntimeError(
                f"the server runs on this thread ({thread.name!r}): waiting here for its end would last forever"
            )
        if thread is None and not self.finished:
            raise RuntimeError("no thread runs the server: its connections cannot end; call run() or start()")

    def _join(self, timeout: float | None) -> None:
        """Wait until the loop's thread has left the loop."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        if thread.name == "uwserve" and thread.daemon:
            thread.join(timeout)
        else:  # a thread of the user's, in run(): it goes on after the loop
            self._stopped.wait(timeout)

    def _drain(self) -> None:
        """Let the closing handshakes end that a run left behind when an exception ended it; a matter of seconds."""
        if not self.finished and self._thread is None:
            self._claim(threading.current_thread())
            try:
                self.run_loop(-1)
            finally:
                self._unclaim()

    def _on_loop(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the loop's thread and wait for it; here when it is this thread, or nothing runs."""
        once = _Once(function)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self.call_soon(once)
            while not once.done.wait(0.05):
                if self._thread is None:  # the run ended before it came to it
                    break
        once()
        once.done.wait()
        if once.error is not None:
            raise once.error


class _Once:
    """A call that happens once, by whichever of two threads comes first."""

    __slots__ = ("_function", "_lock", "done", "error")

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function
        self._lock = threading.Lock()
        self.done = threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> None:
        with self._lock:
            function, self._function = self._function, None
        if function is None:
            return
        try:
            function()
        except Exception as exc:
            self.error = exc
        finally:
            self.done.set()


_NO_WEBSOCKET = {name: default for name, (_, default) in WEBSOCKET.items()}


def serve(options: Mapping[str, Any] | None = None, /, **given: Any) -> Server:
    """Bind a server at once and return it; ``run()`` or ``start()`` makes it serve (Bun: ``Bun.serve``).

    Options, by keyword or as one dict, under these names or Bun's:

    * ``fetch(request)`` or ``fetch(request, server)``: answers a request no route took. Returns a ``Response``,
      ``str``, bytes, a dict or list (JSON), ``None`` (204, or nothing after ``server.upgrade``), or a
      ``concurrent.futures.Future`` of one of these.
    * ``routes``: dict of patterns (``"/users/:id"``, ``"/files/*"``) to handlers, responses, or dicts by method.
    * ``websocket``: the handlers and limits of sockets; see ``WebSocketHandler``.
    * ``error(exc)``: answers a request whose handler raised.
    * ``port=3000`` (0 picks one), ``hostname="0.0.0.0"``; or ``unix``, a path (a leading NUL: an abstract name).
    * ``tls``: a dict with ``key`` and ``cert`` (PEM text, or a path), and as needed ``passphrase``, ``ca``,
      ``request_cert=False``, ``reject_unauthorized=True``, ``ciphers``, ``alpn_protocols=["http/1.1"]``,
      ``server_name`` (a name or a list; ``"*.example.com"`` stands for one label); or a list of such dicts, of which
      the client's server name chooses one, the first when it names none of them.
    * ``idle_timeout=10`` seconds for HTTP connections (0..255, 0 is off: PROXY headers, TLS handshakes then have 10),
      ``max_request_body_size=128 MiB``.
    * ``trusted_proxies=()``: networks (``"10.0.0.0/8"``, ``"::1"``; ``"unix"`` for the peers of a unix socket) of the
      reverse proxies in front of this server. For a request from one of them, ``server.request_ip`` and
      ``ws.remote_address`` tell the client that it names in ``forwarded_header="X-Forwarded-For"`` (or
      ``"Forwarded"``, RFC 7239, or ``None``): the rightmost address there that is not a trusted proxy's itself. List
      only proxies that set or extend that very field. Nobody else is believed; fields about scheme and host never are.
    * ``proxy_protocol=False``: True, and every connection from ``trusted_proxies`` must begin with a PROXY header
      (version 1 or 2, HAProxy's proxy-protocol.txt), before TLS and HTTP; without a valid one within ``idle_timeout``
      it is closed. Its source becomes the connection's address. Connections from elsewhere are served as they are, so
      a header there is a 400.
    * ``limits``: a dict of limits against abuse; each is an int, 0 for off, or None for its default:

      =================================  =========================================  ===================================
      name                               default                                    beyond it
      =================================  =========================================  ===================================
      ``max_connections``                the limit of descriptors less 64           the newcomer is reset at once
      ``max_connections_per_address``    half of that; loopback goes free           the newcomer is reset at once
      ``max_pending_heads``              a quarter of that, at most 4096            the oldest such connection is reset
      ``max_control_frames_per_second``  1000 for each socket                       the socket is closed with 1008
      ``max_tiny_fragments_per_second``  20,000 for each socket                     the socket is closed with 1008
      ``max_buffered_bytes``             a quarter of the memory, at most 1 GiB     sends are dropped (0), requests get
                                                                                    503, sockets are closed with 1013
      =================================  =========================================  ===================================

      An address is an IPv4 address or the /64 of an IPv6 one; a limit that is given counts for loopback, too. A pending
      head is a connection whose first request has not arrived. Tiny is a fragment of under 16 bytes. What is refused is
      counted in ``server.refused`` and logged as a warning on the logger ``uwserve``, at most once in 10 seconds.
    * ``reuse_port=False``, ``ipv6_only=False``, ``development=False``, ``id=""``.

    Raises ``TypeError`` for an unknown option or a wrong type, ``ValueError`` for a value out of range, both naming the
    option, and ``OSError`` when the address cannot be bound or a file of ``tls`` cannot be read. May be called on
    any thread.
    """
    if options is not None:
        if not isinstance(options, dict):
            raise TypeError(f"serve() takes keywords or one dict, got {type(options).__name__}")
        if given:
            raise TypeError("serve() takes keywords or one dict, not both")
        given = options
    return Server(serve_options(given))
