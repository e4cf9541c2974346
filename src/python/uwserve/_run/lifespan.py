"""``startup`` and ``shutdown``: they open resources before the first connection, and close them after the last.

A server with them runs once. ``startup`` is called when a run begins, on the thread, and inside the event loop, that
will serve. The socket listens already, and clients wait in the kernel's queue until ``startup`` has ended. ``shutdown``
is called when the core has ended, in the same place, and ``Stopped`` ends after it. It is called if and only if
``startup`` has returned.

A stop during ``startup`` ends it: a coroutine is cancelled, and a plain function on the main thread gets an exception
if a signal caused the stop. Otherwise the server waits for it. A coroutine of ``shutdown`` has ``SHUTDOWN_SECONDS``.

Threads: the server's, except ``core_ended``, ``signalled`` and ``wait_until_started``.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from .. import _logs
from .._handlers import is_coroutine_function
from .app_threads import place, stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from typing import Any

    from .state import RunState
    from .stopping import Stopping

NEW, STARTING, STARTED, ENDING, OVER = range(5)

WARN_SECONDS = 5.0
"""After so long the log names a ``startup`` or ``shutdown`` that has not ended."""
SHUTDOWN_SECONDS = 30.0
"""How long the coroutine of ``shutdown`` may take until it is cancelled."""
CANCELLED_SECONDS = 2.0
"""How long the server then waits for its end."""


class StartupError(RuntimeError):
    """``startup`` raised an exception, which is the cause. Nothing is bound any more."""


class StartupInterrupted(KeyboardInterrupt):
    """Raised by a signal in a plain ``startup``, which nothing else could end."""


class Lifespan:
    """The two functions of one server, and which of them have been called."""

    def __init__(self, state: RunState, stopping: Stopping, startup: Any, shutdown: Any) -> None:
        self._run = state
        self._server = state.server
        self._stopping = stopping
        self._startup: tuple[Callable[..., Any], bool] | None = startup
        self._shutdown: tuple[Callable[..., Any], bool] | None = shutdown
        self._state = NEW
        self._is_in_call = self._is_interrupted = False  # of a plain `startup`
        self._awaitable: Any = None  # what a plain function has returned, for the event loop to await
        self._task: asyncio.Task[Any] | None = None  # of either function
        self._ending: asyncio.Task[None] | None = None
        self._is_settled = threading.Event()  # started, or over
        self._error: BaseException | None = None  # of `startup`
        self.loop: asyncio.AbstractEventLoop | None = None  # the one that awaits them

    def has_coroutines(self) -> bool:
        return any(is_coroutine_function(pair[0]) for pair in (self._startup, self._shutdown) if pair is not None)

    def check_can_wait(self, task: object) -> None:
        """``RuntimeError`` if ``task`` runs one of the functions, and so must not await the server's end."""
        if task is self._task:
            raise RuntimeError("startup and shutdown cannot wait for their server's end, which waits for them")

    # --- startup ---

    def start(self) -> bool:
        """Call a plain ``startup`` without an event loop. False when there is something to await."""
        if not self._begin():
            return True
        try:
            result = self._call_startup()
        except BaseException as exc:
            self._fail(exc)
            raise self.error_of(exc) from exc
        if _is_awaitable(result):
            self._awaitable = result
            return False
        self._started()
        return True

    async def start_in_loop(self) -> None:
        """The same inside the event loop that will serve."""
        import asyncio

        if self._awaitable is None and not self._begin():
            return
        self.loop = asyncio.get_running_loop()
        self._task = task = self.loop.create_task(self._await_startup(), name="uwserve startup")
        warning = self.loop.call_later(WARN_SECONDS, _warn_of_task, "startup", task)
        try:
            await _settle(task)
        except BaseException as exc:  # cancelled
            self._fail(exc)
            raise
        finally:
            warning.cancel()
            self._task = self.loop = None
        if task.cancelled():  # by a stop: the server has ended
            self._over()
        elif (error := task.exception()) is not None:
            self._fail(error)
            raise self.error_of(error) from error
        else:
            self._started()

    async def _await_startup(self) -> None:
        result, self._awaitable = self._awaitable, None
        if result is None:
            result = self._call_startup()
        if _is_awaitable(result):
            await result

    def _begin(self) -> bool:
        """Whether ``startup`` is due, which then has begun."""
        if self._state != NEW:
            return False
        if self._server.stopping:
            self._over()
            return False
        self._state = STARTING
        return True

    def _call_startup(self) -> Any:
        if self._startup is None:
            return None
        try:
            with _watched("startup"):
                self._is_in_call = True
                try:
                    return _call(self._startup, self._server)
                finally:
                    self._is_in_call = False
        except StartupInterrupted:
            self._is_interrupted = True
            return None

    def _started(self) -> None:
        if self._is_interrupted:
            self._over()
            return
        self._state = STARTED
        self._is_settled.set()

    def error_of(self, exc: BaseException) -> BaseException:
        """The exception to raise for ``exc`` out of ``startup``."""
        if not isinstance(exc, Exception):
            return exc
        return StartupError(f"startup failed: {type(exc).__name__}: {exc}")

    def _fail(self, exc: BaseException) -> None:
        """``startup`` has raised: the server ends, and nothing stays bound."""
        self._error = exc
        self._state = OVER
        if not self._run.is_forked():
            self._stopping.stop_silently()
        self._over()

    def signalled(self, count: int) -> None:
        """The ``count``-th signal has stopped the server: end ``startup``, and from the second on ``shutdown``."""
        if count > 1:
            self._cancel()
        if self._is_in_call and self._run.is_on_thread():
            raise StartupInterrupted
        if self._state == STARTING:
            self._cancel()

    def wait_until_started(self) -> BaseException | None:
        """Wait until ``startup`` has ended in the server's thread; its exception, if it raised one."""
        self._is_settled.wait()
        return self._error

    # --- the end ---

    def core_ended(self) -> bool:
        """The core has ended. Whether that is the server's end; otherwise it is when the functions have ended."""
        if self._state == STARTING:
            self._cancel(unless_current=True)
            return False
        if self._state == STARTED:
            if self._run.thread is None:  # nothing runs it: its event loop was closed, or a handler ended its run
                self.end()
            return False
        return self._state != ENDING

    def is_due(self) -> bool:
        """Whether ``shutdown`` is to be called: the server has ended, and was started."""
        return self._state == STARTED and self._server.finished

    def is_ending(self) -> bool:
        return self._state == ENDING

    def is_waiting(self) -> bool:
        """Whether something is left for an event loop to await."""
        return self._awaitable is not None

    def has_failed(self) -> bool:
        return self._error is not None

    def end(self) -> None:
        """Call ``shutdown`` without an event loop; one is made if the result must be awaited."""
        if self._state != STARTED:
            return
        if not self.has_coroutines():
            self._state = ENDING
            try:
                with _watched("shutdown"):
                    self._awaitable = _call(self._shutdown, self._server)
            except Exception as exc:
                _logs.log_exception("shutdown", exc)
            except BaseException:
                self._over()
                raise
            if not _is_awaitable(self._awaitable):
                self._over()
                return
            self._state = STARTED
        import asyncio

        from .tasks import close_event_loop, new_event_loop

        if asyncio._get_running_loop() is not None:
            _logs.warning("shutdown could not be awaited: the event loop that the server ran in is closed")
            self._over()
            return
        loop = new_event_loop()
        try:
            loop.run_until_complete(self.end_in_loop())
        finally:
            close_event_loop(loop)
            self._over()

    def end_soon(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        """Call and await ``shutdown`` in ``loop``, on its thread; ``then`` is called before ``Stopped`` ends."""
        self._ending = loop.create_task(self.end_in_loop(then), name="uwserve shutdown")

    async def end_in_loop(self, then: Callable[[], None] | None = None) -> None:
        """Await ``shutdown`` here, for a limited time."""
        import asyncio

        if self._state != STARTED:
            return
        self._state = ENDING
        self.loop = asyncio.get_running_loop()
        self._task = task = self.loop.create_task(self._await_shutdown(), name="uwserve shutdown")
        try:
            steps: list[tuple[float, Callable[[], object]]] = [
                (WARN_SECONDS, lambda: _warn_of_task("shutdown", task)),
                (max(SHUTDOWN_SECONDS - WARN_SECONDS, 0), task.cancel),
                (CANCELLED_SECONDS, lambda: _logs.warning("shutdown does not end when it is cancelled: left behind")),
            ]
            for seconds, then_do in steps:
                await asyncio.wait({task}, timeout=seconds)
                if task.done():
                    break
                then_do()
        finally:
            if not task.done():
                task.cancel()
            elif task.cancelled():
                _logs.warning("shutdown was cancelled")
            elif (error := task.exception()) is not None:
                _logs.log_exception("shutdown", error)
            self._task = self.loop = self._ending = None
            try:
                if then is not None:
                    then()
            finally:
                self._over()

    async def _await_shutdown(self) -> None:
        result, self._awaitable = self._awaitable, None
        if result is None and self._shutdown is not None:
            with _watched("shutdown"):
                result = _call(self._shutdown, self._server)
        if result is not None and _is_awaitable(result):
            await result

    def _cancel(self, unless_current: bool = False) -> None:
        loop, task = self.loop, self._task
        if loop is None or task is None:
            return
        if unless_current:
            import asyncio

            if asyncio._get_running_loop() is loop and asyncio.current_task() is task:
                return  # the function has stopped its server itself, and may go on to its end
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # that loop is closed
            pass

    def _over(self) -> None:
        self._state = OVER
        self._is_settled.set()
        if self._server.finished:
            self._run.completion.finish()


def _call(pair: tuple[Callable[..., Any], bool] | None, server: object) -> Any:
    if pair is None:
        return None
    function, takes_server = pair
    return function(server) if takes_server else function()


def _is_awaitable(result: object) -> bool:
    return hasattr(type(result), "__await__")


async def _settle(task: asyncio.Task[Any]) -> None:
    """Wait until ``task`` is done. A cancellation of the caller cancels the task, too, and is raised afterwards."""
    import asyncio

    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
            task.cancel()
    if cancelled is not None:
        raise cancelled


def _warn_of_task(name: str, task: asyncio.Task[Any]) -> None:
    frames = []
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        frames.append(frame)
        waiting = waiting.cr_await
    _logs.warning(f"{name} has not ended for {WARN_SECONDS:g} s: it waits{place(reversed(frames))}")


@contextmanager
def _watched(name: str) -> Iterator[None]:
    """Log where a plain function is when it takes long, from a timer's thread, because it blocks its own."""
    ident = threading.get_ident()

    def warn() -> None:
        _logs.warning(f"{name} has not ended for {WARN_SECONDS:g} s: it is{place(stack(ident))}")

    timer = threading.Timer(WARN_SECONDS, warn)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
