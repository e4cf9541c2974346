"""``Control``: everything that a server does, behind the object that users see.

``Server`` holds one ``Control`` and passes its calls on. The control is made of parts, each with one job, that share a
``RunState``; it owns the options and makes an ``App`` of them. Threads: one thread at a time runs the loop; ``stop``,
``reload`` and ``on_loop`` may be called from any.
"""

from __future__ import annotations

import threading

from .. import _core, _logs
from .._checks import seconds
from .._handlers import is_coroutine_function
from .._http.dispatch import App
from .._options.serve import core_options, merged, reload_options
from .._options.websocket import HANDLERS
from .embedded import Embedded
from .event_loop import LoopAttachment
from .lifespan import Lifespan
from .listening import Listening, listen
from .own_routes import OwnRoutes
from .refusals import REPORT_SECONDS, report
from .runner import Runner
from .state import RunState
from .stopped import Completion
from .stopping import Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .._core import Request, ServerCore
    from .stopped import Stopped


class _Core(_core.ServerControl):
    """The native control object, with a ``__dict__``: --access-log puts functions in front of its methods there."""


class Control:
    """The private half of a ``Server``."""

    app: App
    listening: Listening

    def __init__(self, server: ServerCore[Any], options: Mapping[str, Any]) -> None:
        """``options`` are checked."""
        self.server = server
        self.core = _Core(server)
        self.options = dict(options)
        self.limits: Mapping[str, int] = {}
        self.wrap_app: Callable[[App], Any] | None = None  # of --access-log: what is called in place of an App
        self.state = state = RunState(server, self.core, self)
        self.stopping = Stopping(state)
        startup, shutdown = options["startup"], options["shutdown"]
        self.lifespan = Lifespan(state, self.stopping, startup, shutdown) if startup or shutdown else None
        self.attachment = LoopAttachment(state, self.lifespan)
        self.completion = Completion(self.attachment.check_can_wait, self.attachment.check_can_await)
        state.completion, state.stopped = self.completion, self.completion.stopped
        self.own_routes = OwnRoutes(server, self.completion)
        self.embedded = Embedded(self.attachment)
        self.runner = Runner(self.attachment, self.has_coroutine_handlers)
        self.join, self.drain = self.runner.join, self.runner.drain
        self.abandon_in_child = self.runner.abandon_in_child

    @property
    def stopped(self) -> Stopped:
        return self.state.stopped

    def bind(self) -> None:
        """Give the core its options and hooks, and listen."""
        core, options = self.core, self.options
        core.set_hooks(
            self._dispatch,
            _logs.log_exception,
            self._core_ended,
            self._report,
            self.runner.want_event_loop,
            _logs.unknown_protocol,
        )
        core.set_connection_log(_logs.wants_connections, _logs.opened, _logs.closed)
        self.apply(options)
        self.listening = self.state.listening = listen(core, options)
        self.completion.when_done(lambda: _logs.stopped(self.listening.url))
        _logs.listening(self.listening.url, self.listening.addresses)
        if options["websocket"] is not None and options["fetch"] is None and options["routes"] is None:
            _logs.no_upgrades()

    # --- options ---

    def reload(self, given: Mapping[str, Any]) -> None:
        changed = reload_options(given)
        if "tls" in changed and (changed["tls"] is None) != (self.options["tls"] is None):
            raise ValueError(f"reload() cannot switch tls {'off' if changed['tls'] is None else 'on'}")
        self.state.check_alive()
        self.on_loop(lambda: self.apply(merged(self.options, changed)))

    def apply(self, options: dict[str, Any]) -> None:
        """Make ``options`` the server's. On the loop's thread, or while nothing runs."""
        routes, feed = self.own_routes.added_to(options["routes"], options)
        configured = core_options(options)
        self.limits = configured["limits"]
        configured["limits"] = {**self.limits, "report_ms": round(REPORT_SECONDS * 1000)}
        self.core.configure(configured)
        app = App(self.server, self.core, routes, options["fetch"], options["error"], options["development"])
        self.app = app if self.wrap_app is None else self.wrap_app(app)
        is_same = self.options["dashboard"] == options["dashboard"]
        self.options = options
        self.own_routes.applied(feed, is_same)

    def has_coroutine_handlers(self) -> bool:
        websocket = self.options["websocket"] or {}
        return (
            self.app.has_coroutines()
            or any(is_coroutine_function(websocket.get(name)) for name in HANDLERS)
            or (self.lifespan is not None and self.lifespan.has_coroutines())
        )

    # --- the hooks that the core calls ---

    def _dispatch(self, request: Request) -> None:
        """For each request; on the loop's thread."""
        self.app.dispatch(request)

    def _core_ended(self) -> None:
        """The last connection has ended; on the thread that has run the server, or stopped it."""
        if self.lifespan is None or self.lifespan.core_ended():
            self.completion.finish()

    def _report(self, seconds: float, counts: dict[str, int]) -> None:
        """Connections or messages were refused; on the loop's thread."""
        report(self.limits, seconds, counts)

    # --- runs and their end ---

    def run(self, stop_timeout: float, notice: Callable[[int, int], None] | None = None, merge: float = 0.0) -> None:
        self.runner.run(seconds("stop_timeout", stop_timeout), notice, merge)

    def stop(
        self, force: bool = False, *, timeout: float | None = None, code: int | None = None, reason: str | None = None
    ) -> Stopped:
        self.attachment.release_closed()
        self.stopping.stop(force, timeout, code, reason)
        return self.stopped

    def close(self) -> None:
        """The end of ``with``: a forced stop, whose end this waits for on all threads but the server's own."""
        self.stop(True)
        if not self.state.is_on_thread():
            self.join(None)
            self.drain()

    def on_loop(self, function: Callable[[], None]) -> None:
        """Run ``function`` on the loop's thread and wait for it; here when it is this thread, or nothing runs."""
        self.attachment.release_closed()
        once = _Once(function)
        thread = self.state.thread
        if thread is not None and thread is not threading.current_thread():
            self.server.call_soon(once)
            while not once.done.wait(0.05):
                if self.state.thread is None:  # the run ended before the call was made
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
