"""``serve()`` and ``Server``: the public side of a server. ``_run.control`` has the private side."""

from __future__ import annotations

from . import _core
from ._generics import DataT
from ._options.serve import check_served, serve_options
from ._run.control import Control
from ._run.stopping import TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, NoReturn

    from typing_extensions import Self, Unpack

    from ._run.stopped import Stopped
    from .types import ReloadOptions, ServeOptions


class Server(_core.ServerCore[DataT]):
    """A server that ``serve()`` has bound. Not made directly.

    It runs by ``run()`` (blocks this thread), ``start()`` (a background thread), or inside a running event loop by
    ``await server.serve_forever()`` or ``async with``. As a context manager of either kind it is stopped at the end of
    the block, open connections with it. ``Server[T]`` in an annotation says that the ``data`` of its sockets is a
    ``T``.

    Threads: publish, stop, reload, stats, call_soon, and the attributes but for tasks, may be used on any thread; all
    others on the server's thread only, which is the one that runs it. Elsewhere they raise a RuntimeError that names
    both threads. In a child made by fork, methods raise RuntimeError.

    Bun: Server, as ``Bun.serve`` returns it.
    """

    if TYPE_CHECKING:  # Bun's spellings, which _bun_names puts on the class
        subscriberCount = _core.ServerCore.subscriber_count
        requestIP = _core.ServerCore.request_ip

        @property
        def pendingRequests(self) -> int: ...
        @property
        def pendingWebSockets(self) -> int: ...
        @property
        def bufferedBytes(self) -> int: ...

    def __init__(self, options: Mapping[str, Any]) -> None:
        if hasattr(self, "_control"):
            raise RuntimeError("Server.__init__() was already called: each server is made once, by serve()")
        super().__init__()
        self._control = Control(self, options)
        self._control.bind()

    # --- attributes ---

    @property
    def port(self) -> int | None:
        """The port it listens on, an int, also when 0 was asked for; ``None`` for a unix socket.

        Threads: any.

        Bun: Server.port.
        """
        return self._control.listening.port

    @property
    def hostname(self) -> str | None:
        """The address or name given as ``hostname``, a str; ``None`` for a unix socket.

        Threads: any.

        Bun: Server.hostname.
        """
        return self._control.listening.hostname

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """A tuple of (address, port), one for each address on which it listens; ``()`` for a unix socket.

        The addresses are numeric, and the port is the same in all. They remain after the stop.

        Threads: any.
        """
        return self._control.listening.addresses

    @property
    def url(self) -> str:
        """Where it listens, a str: ``http://host:port/`` (``https`` with TLS), ``localhost`` for all addresses.

        For a unix socket ``unix:///path``, or ``abstract://name``.

        Threads: any.

        Bun: Server.url.
        """
        return self._control.listening.url

    @property
    def id(self) -> str:
        """The name given as ``id``, a str.

        Threads: any.

        Bun: Server.id.
        """
        name: str = self._control.options["id"]
        return name

    @property
    def development(self) -> bool:
        """True: the answer to a request whose handler raised shows the traceback; a bool.

        Threads: any.

        Bun: Server.development.
        """
        shows: bool = self._control.options["development"]
        return shows

    # --- on this thread, and in the background ---

    def run(self, *, stop_timeout: float = TIMEOUT) -> None:
        """Run on this thread until the server is stopped and its last connection is gone.

        With coroutine handlers it runs in an event loop of its own on this thread, uvloop's when that is installed. On
        the main thread SIGINT and SIGTERM stop it: the first is ``stop(timeout=stop_timeout)``, the second
        ``stop(True)``, the third raises ``KeyboardInterrupt``. The previous handlers are put back at the end.

        Args:
            stop_timeout: seconds that the first signal gives, a finite number of at least 0.

        Returns:
            None, when the server has ended.

        Raises:
            RuntimeError: it already runs or has stopped, in a running asyncio event loop (which it would block), in a
                fork.
            TypeError: stop_timeout is no number. ValueError for one out of range.
            BaseException: ``KeyboardInterrupt`` and ``SystemExit`` of a handler end the run.

        Threads: any, one at a time; it becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        self._control.run(stop_timeout)

    def start(self) -> Self:
        """Run in a background daemon thread named ``uwserve``, in an event loop of its own with coroutine handlers.

        A server that still runs when the interpreter exits is stopped then.

        Returns:
            The server itself, at once; with ``startup``, when that has ended.

        Raises:
            RuntimeError: it already runs or has stopped, in a child made by fork, where gevent or eventlet have
                replaced threads, or ``startup`` raised.

        Threads: any; the new thread becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        self._control.runner.start()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._control.close()

    # --- inside a running event loop ---

    async def __aenter__(self) -> Self:
        """Serve inside the running event loop (asyncio or uvloop) from here on, on its thread.

        On the main thread SIGTERM is ``stop(timeout=30)`` meanwhile, a second one ``stop(True)``, unless the program
        handles that signal. The block ends when the server has ended: if it awaits anything but the server's end, that
        await is cancelled, and the cancellation does not leave the block.
        """
        await self._control.embedded.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Stop, open connections with it, and wait until the last ``close`` handler has ended.

        A cancellation meanwhile is raised afterwards: the wait takes seconds at most. ``RuntimeError`` in a handler,
        whose end the server would wait for.
        """
        return await self._control.embedded.exit(exc)

    async def serve_forever(self, *, stop_timeout: float = TIMEOUT) -> None:
        """Serve inside the running event loop (asyncio or uvloop) until the server has stopped.

        Nothing polls. It may be used alone or inside ``async with``; several tasks may wait so. When it is cancelled,
        the server is stopped, open connections with it (1001), and ``CancelledError`` goes on. On the main thread
        SIGTERM is ``stop(timeout=stop_timeout)`` meanwhile, a second one ``stop(True)``, unless the program handles it.

        Args:
            stop_timeout: seconds that the first SIGTERM gives, a finite number of at least 0.

        Returns:
            None, when the server has ended; at once if it had.

        Raises:
            RuntimeError: it runs elsewhere, or in a child made by fork.
            TypeError: stop_timeout is no number. ValueError for one out of range.

        Threads: that of the event loop, which becomes the server's thread.

        Bun: none; there the process runs its servers.
        """
        await self._control.embedded.serve_forever(stop_timeout)

    # --- at any time ---

    def on_loop_thread(self) -> bool:
        """Return whether this is the thread that runs the server, on which handlers are called.

        Returns:
            True on it, else False.

        Threads: any.
        """
        return self._control.state.is_on_thread()

    def stop(
        self,
        close_active_connections: bool = False,
        *,
        timeout: float | None = None,
        code: int | None = None,
        reason: str | None = None,
    ) -> Stopped:
        """Stop listening; wait for the connections, close them gracefully, or cut them.

        Without arguments, requests and sockets may finish by themselves. ``timeout``, ``code`` or ``reason`` make it a
        graceful stop with a deadline: idle HTTP connections close, running requests may finish, and every WebSocket is
        sent a Close with ``code`` and ``reason`` behind all messages that were accepted for sending. Connections that
        are left at the deadline are cut, with their pending requests. A client that has just connected may still send
        its request for a second, so that no request is lost in a restart.

        No handler runs inside the call. Close handlers run in the loop's next turn, in which the Close frames of a stop
        with a deadline are sent, too. While no thread runs the server, both happen before the call returns.

        It may be called many times, in handlers and before ``run()`` (the server has then stopped at once). A later
        call can only speed a stop up: it may shorten the deadline or force the stop. The Close is sent once.

        Args:
            close_active_connections: True cuts requests in flight at once, closes sockets with 1001 "Server closed",
                and gives peers two seconds to take what was sent to them.
            timeout: the deadline in seconds, a finite number of at least 0; 30 where only the others are given.
            code: the code of the Close frames, as in ``ws.close``; 1001 by default.
            reason: a str of at most 123 bytes of UTF-8; "Server closed" by default.

        Returns:
            A ``Stopped``, the same each time, which ends with the last connection: ``await`` it, or ``wait(timeout)``.

        Raises:
            TypeError: an argument of a wrong type, or True together with the others.
            ValueError: a timeout, code or reason out of range.
            RuntimeError: in a child made by fork.

        Threads: any.

        Bun: Server.stop. The deadline is ours. RFC 6455 section 7.4.1 for 1001.
        """
        return self._control.stop(close_active_connections, timeout=timeout, code=code, reason=reason)

    def reload(self, **options: Unpack[ReloadOptions[DataT]]) -> None:
        """Replace handlers and limits, for open sockets too; subscriptions and connections stay.

        All options are checked before any takes effect, and they take effect together, between two callbacks. An option
        that is not given keeps its value, while a given ``websocket`` or ``tls`` replaces the old one whole. ``tls``
        and ``proxy_protocol`` count for new connections (whose clients cannot resume TLS sessions from before),
        ``trusted_proxies`` and ``forwarded_header`` for new requests.

        Args:
            **options: those of ``serve()``, in either spelling, but ``port``, ``hostname``, ``unix``,
                ``unix_mode``, ``fd``, ``reuse_port`` and ``ipv6_only``; see ``uwserve.types.ReloadOptions``.

        Returns:
            None, when the server's thread has taken them over.

        Raises:
            TypeError: an unknown option or a wrong type.
            ValueError: a value out of range, an option of the bound socket, or ``tls`` switched on or off.
            OSError: a file of ``tls`` cannot be read.
            RuntimeError: the server has stopped, or in a child made by fork.

        Threads: any.

        Bun: Server.reload.
        """
        self._control.reload(options)

    def __repr__(self) -> str:
        state = "stopped" if self.finished else "stopping" if self.stopping else "running" if self.running else "bound"
        return f"<Server {self.url} {state}>"


_KEYWORDS: Any = {}
"""The default for the dict of options, recognised by its identity, because ``serve({})`` is an error of its own."""


# One signature and no overloads: if no overload matches, a type checker lists all of them, kilobytes that do not name
# the mistake. With one signature it names the argument.
def serve(
    options: ServeOptions[DataT] | dict[str, NoReturn] = _KEYWORDS, /, **given: Unpack[ServeOptions[DataT]]
) -> Server[DataT]:
    """Bind a server at once and return it; ``run()``, ``start()`` or ``serve_forever()`` makes it serve.

    Handlers are functions or coroutine functions. The type of ``ws.data``, the T of ``Server[T]``, is found in the
    annotations of the handlers.

    Args:
        options: all options in one dict, as in Bun; instead of keywords.
        **given: the options by keyword, under the names below or Bun's, see ``uwserve.types.ServeOptions``.

    Handlers:

    * ``fetch(request)`` or ``fetch(request, server)``: answers a request no route took. Returns a ``Response``,
      ``str``, bytes, a dict or list (JSON), ``None`` (204, or nothing after ``server.upgrade``), or a
      ``Future`` (of ``concurrent.futures`` or asyncio) of one of these.
    * ``routes``: dict of patterns (``"/users/:id"``, ``"/files/*"``) to handlers, responses, or dicts by method.
    * ``websocket``: the handlers and limits of sockets, a dict or an object; see ``WebSocketHandler``.
    * ``error(exc)``: answers a request whose handler raised.

    Where it listens:

    * ``port=3000`` (0 picks a free one; a str of digits is accepted), ``hostname="0.0.0.0"``: an address, or a name. A
      name means every address that it resolves to, all with the same port (``server.addresses``). Or ``unix``, a path
      (a leading NUL makes an abstract name).
    * ``unix_mode``: the permission bits of ``unix``, such as ``0o660``, set before a client can connect. With ``None``
      the umask decides; usually the result is 0o755, so that only the same user (and root) can connect.
    * ``fd``, instead of these: the number of a TCP or unix stream socket that is bound and listens, inherited from a
      parent process, or ``"systemd"``, the first socket of systemd's socket activation. The server takes it over: it
      becomes non-blocking and is closed when the server stops, so give it away (``socket.detach()``). If ``serve()``
      raises it is still yours. ``port``, ``hostname`` and ``url`` say where it listens.
    * ``reuse_port=False``: several processes may listen on one port. ``ipv6_only=False``.
    * ``tls``: a dict with ``key`` and ``cert`` (PEM text, or a path), and as needed ``passphrase``, ``ca``,
      ``request_cert=False``, ``reject_unauthorized=True``, ``ciphers``, ``alpn_protocols=["http/1.1"]``,
      ``server_name`` (a name or a list; ``"*.example.com"`` matches one label); or a list of such dicts, of which
      the client's server name chooses one, the first when it names none of them.

    Limits:

    * ``idle_timeout=10`` seconds for each step of HTTP (0..255, 0 is off: PROXY headers, TLS handshakes then have 10):
      for a whole head, for the next byte of a body, for a response, and for the next bytes of it that the client takes.
      ``keep_alive_timeout=75`` seconds between a response and the first byte of the next request (0..86400, 0 is off).
      It must be longer than the idle timeout of the proxy in front, or the proxy sends requests into a connection that
      the server is closing. ``min_body_rate=240`` bytes a second is the least average rate of a request body after its
      first 5 seconds; a slower one gets 408 (0 is off). ``max_request_body_size=16 MiB`` (Bun's is 128 MiB; bodies are
      kept in memory as a whole).
    * ``limits``: a dict of limits against abuse; each is an int, 0 for off, or None for its default:

      =================================  =========================================  ===================================
      name                               default                                    beyond it
      =================================  =========================================  ===================================
      ``reserved_descriptors``           a 16th of the limit, 64 to 1024            the newcomer is reset at once
      ``max_connections``                the limit of descriptors less those        the newcomer is reset at once
      ``max_connections_per_address``    half of that; loopback goes free           the newcomer is reset at once
      ``max_pending_heads``              a quarter of that, at most 4096            the oldest such connection is reset
      ``max_control_frames_per_second``  1000 for each socket                       the socket is closed with 1008
      ``max_tiny_fragments_per_second``  20,000 for each socket                     the socket is closed with 1008
      ``max_buffered_bytes``             a quarter of the memory, at most 1 GiB     sends are dropped (0), requests get
                                                                                    503, sockets are closed with 1013
      ``max_concurrent_handlers``        ``max_buffered_bytes`` / 4096              sockets wait, requests get 503
      =================================  =========================================  ===================================

      The reserve is the number of file descriptors that connections leave to the rest of the process. Request bodies
      may take half of ``max_buffered_bytes``. Handlers are concurrent while their coroutines are suspended; the first
      of each connection is not counted. An address is an IPv4 address or the /64 of an IPv6 one; a limit that is given
      applies to loopback, too. Trusted proxies are exempt from it: a request that they forward counts for its client
      until it is answered, a WebSocket as long as it is open, and a request over the limit gets 429. A pending head is
      a connection whose first request has not arrived. A tiny fragment has less than 16 bytes. Ten seconds' worth of
      frames may come at once, so a burst passes and a flood does not. Refusals are counted in ``server.refused`` and
      logged as a warning on the logger ``uwserve``, at most once in 10 seconds.

    Behind a proxy:

    * ``trusted_proxies=()``: networks (``"10.0.0.0/8"``, ``"::1"``; ``"unix"`` for the peers of a unix socket) of the
      reverse proxies in front of this server. For a request from one of them, ``server.request_ip`` and
      ``ws.remote_address`` return the client that it names in ``forwarded_header="X-Forwarded-For"`` (or
      ``"Forwarded"``, RFC 7239, or ``None``): the rightmost address there that is not a trusted proxy's itself. List
      only proxies that set or extend that very field. From others it is ignored; fields about scheme and host always
      are.
    * ``proxy_protocol=False``: True, and every connection from ``trusted_proxies`` must begin with a PROXY header
      (version 1 or 2, HAProxy's proxy-protocol.txt), before TLS and HTTP; without a valid one within ``idle_timeout``
      it is closed. Its source becomes the connection's address. Connections from elsewhere are served as they are, so
      a header there is a 400.

    Before and after:

    * ``startup``: a function or coroutine function, called with the server, or with nothing if it takes no argument.
      It is called, and awaited, when a run begins: on the thread and in the event loop that will serve, before the
      first connection is accepted. An exception in it ends the start (``RuntimeError``, with the exception as the
      cause), and the port is free again.
    * ``shutdown``: the same, after the last connection is gone, even when an exception ends the run, but only if
      ``startup`` has returned. An exception in it is logged. Its coroutine is cancelled after 30 seconds.

    Else:

    * ``metrics``: a path, such as ``"/metrics"``, where GET is answered with the server's and the process's metrics for
      Prometheus; needs the extra ``uwserve[metrics]`` (``ImportError``). Default ``None``. See ``uwserve.metrics``.
    * ``dashboard``: True, or a path, for a page that shows live what the server does, at ``"/_uwserve"``; to clients on
      this machine only, unless it is a dict with ``allow`` (a list of networks, and ``"unix"``) and, for names other
      than ``hostname`` and localhost, ``hosts``. It measures only while the page is open, and costs nothing otherwise.
    * ``development=False``: True shows tracebacks in answers. ``id=""``: a name for logs and metrics.

    Returns:
        A ``Server``, bound; ``server.port`` is known.

    Raises:
        TypeError: an unknown option or a wrong type; the text names the option.
        ValueError: a value out of range; the text names the option.
        OSError: the address cannot be bound, or a file of ``tls`` cannot be read.
        ImportError: ``metrics`` without the library that it needs.

    Threads: any; the server belongs to the thread that will run it.

    Bun: Bun.serve.
    """
    chosen: Mapping[str, Any] = given
    if options is not _KEYWORDS:
        if not isinstance(options, dict):
            raise TypeError(f"serve() takes keywords or one dict, got {type(options).__name__}")
        if given:
            raise TypeError("serve() takes keywords or one dict, not both")
        chosen = options
    checked = serve_options(chosen)
    check_served("serve()", checked)
    return Server(checked)
