"""From a request to its answer: find the handler, call it, and turn what it returned into a response.

An ``App`` is one generation of a server's HTTP side (routes, ``fetch``, ``error``). ``Server.reload`` replaces it; a
request is answered by the generation that received it. Everything here runs on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Coroutine

from .. import _logs
from .._handlers import is_coroutine_function
from .request import BAD_BODY, Ready
from .response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core import Request, ServerControl, ServerCore
    from .routes import Router

NOT_FOUND = Response("Not Found\n", 404)
NO_CONTENT = Response(None, 204)
INTERNAL_ERROR = Response("Internal Server Error\n", 500)


class App:
    """Routes, ``fetch`` and ``error`` of a server, immutable."""

    __slots__ = ("core", "development", "error", "fetch", "router", "server", "wants_server")

    def __init__(
        self,
        server: ServerCore[Any],
        core: ServerControl,
        router: Router | None,
        fetch: tuple[Callable[..., Any], bool] | None,
        error: Callable[[BaseException], Any] | None,
        development: bool,
    ) -> None:
        self.server = server
        self.core = core
        self.router = router
        self.fetch: Callable[..., Any] | None = fetch[0] if fetch else None
        self.wants_server = fetch[1] if fetch else False
        self.error = error
        self.development = development

    def has_coroutines(self) -> bool:
        """Whether a handler is known to be a coroutine function."""
        routed = self.router is not None and self.router.has_coroutines
        return routed or is_coroutine_function(self.fetch) or is_coroutine_function(self.error)

    def dispatch(self, request: Request) -> None:
        """Answer, upgrade or defer ``request``."""
        try:
            result, name = self._call(request)
            self._answer(request, result, deferred=False, name=name)
        except Exception as exc:
            self._fail(request, exc, deferred=False)

    def _call(self, request: Request) -> tuple[Any, str]:
        """The result of the handler, and the handler's name for errors."""
        if self.router is not None:
            found = self.router.match(request.method, request.path)
            if found is not None:
                endpoint, request.params = found
                name = "the handler of the route"
                if endpoint.call is None:
                    return endpoint.response, name
                return endpoint.call(request, self.server) if endpoint.wants_server else endpoint.call(request), name
        if self.fetch is None:
            return NOT_FOUND, "fetch"
        return self.fetch(request, self.server) if self.wants_server else self.fetch(request), "fetch"

    def _answer(self, request: Request, result: Any, *, deferred: bool, name: str = "fetch") -> None:
        if is_coroutine(result):
            task = self.core.start_coroutine(self._complete(request, result, name))
            if task is not None and not deferred and not request.answered:
                self.core.defer(request)
        elif request.answered:  # upgraded, or the client has disconnected
            discard(self.core, request, result)
        elif hasattr(result, "add_done_callback") and callable(getattr(result, "result", None)):
            if not deferred:
                self.core.defer(request)
            self._when_done(result, request, self._settle, request, result, name)
        else:
            send(self.core, request, to_response(result, name))

    async def _complete(self, request: Request, awaitable: Any, name: str) -> None:
        """The rest of ``_answer`` for a coroutine, in a Task of its own; it is not cancelled when the client leaves."""
        try:
            result = await awaitable
            self._answer(request, result, deferred=True, name=name)
        except Exception as exc:
            self._fail(request, exc, deferred=True, hook=name != "error")
        except BaseException:  # a cancellation, the end of the run: the client still gets an answer
            if not request.answered:
                send(self.core, request, INTERNAL_ERROR)
            raise

    def _when_done(self, future: Any, request: Request, function: Callable[..., None], *args: Any) -> None:
        def done(_: object) -> None:
            try:
                self.server.call_soon(self.core._call_for, request, function, *args)
            except RuntimeError:  # the server has ended, and the connection with it
                pass

        get_loop = getattr(future, "get_loop", None)
        if get_loop is None:
            future.add_done_callback(done)
        else:  # asyncio's futures are their loop's own: only its thread may touch them
            get_loop().call_soon_threadsafe(future.add_done_callback, done)

    def _settle(self, request: Request, future: Any, name: str) -> None:
        try:
            result = future.result()
        except BaseException as exc:  # raised elsewhere, cancellation included: it must not end this thread's run
            self._fail(request, exc, deferred=True, hook=name != "error")
            return
        try:
            self._answer(request, result, deferred=True, name=name)
        except Exception as exc:
            self._fail(request, exc, deferred=True, hook=name != "error")

    def _fail(self, request: Request, exc: BaseException, *, deferred: bool, hook: bool = True) -> None:
        """The error path: the ``error`` hook's answer, else a logged traceback and status 500.

        A body that is not JSON is the client's mistake: without the hook the answer is 400, and nothing is logged.
        """
        if self.error is None and hasattr(exc, BAD_BODY):
            if not request.answered:
                detail = f": {exc}" if self.development else ""
                send(self.core, request, Response(f"Bad Request: the body is not valid JSON{detail}\n", 400))
            return
        self.core.count_handler_error("fetch" if hook else "error")
        if hook and self.error is not None:
            try:
                self._answer(request, self.error(exc), deferred=deferred, name="error")
                return
            except Exception as second:
                self.core.count_handler_error("error")
                _logs.request_exception(self.server, request, second, "the error handler")
        _logs.request_exception(self.server, request, exc)
        if not request.answered:
            send(self.core, request, self._internal_error(exc))

    def _internal_error(self, exc: BaseException) -> Response:
        if not self.development:
            return Response("Internal Server Error\n", 500)
        import traceback

        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        return Response(text.encode("utf-8", "backslashreplace").decode(), 500)


def to_response(result: Any, name: str = "fetch") -> Response:
    """The result of a handler as a ``Response``. ``TypeError`` with the type of a result that cannot be one."""
    if isinstance(result, Response):
        return result
    if isinstance(result, (str, bytes, bytearray, memoryview)):
        return Response(result)
    if result is None:
        return NO_CONTENT
    if isinstance(result, (dict, list)):
        return Response.json(result)
    hint = ""
    if isinstance(result, Ready):
        hint = ", which must be awaited"
    elif isinstance(result, bool):
        hint = "; what server.upgrade() answers is not to be returned, but tells whether the request was taken"
    elif isinstance(result, tuple):
        hint = "; a status goes into Response(body, status)"
    raise TypeError(
        f"{name} must return a Response, str, bytes, dict, list, None, a Future or a coroutine of these, "
        f"got {type(result).__name__}{hint}"
    )


def is_coroutine(result: Any) -> bool:
    """Whether a handler returned a coroutine, of an ``async def`` or of something like it."""
    return isinstance(result, Coroutine)


def discard(core: ServerControl, request: Request, result: Any) -> None:
    """Drop an answer that cannot be sent, and close the body that it would have streamed."""
    if isinstance(result, Response):
        if not result.asynchronous:
            result.abandon()
        elif not result.reusable and not result._used:
            from .streams import Sender

            Sender(core, request, result.stream_async()).drop()
    elif isinstance(result, Coroutine):
        result.close()


def send(core: ServerControl, request: Request, response: Response) -> None:
    """Send ``response``; nothing if the client has disconnected."""
    if response.asynchronous:
        from .streams import Sender

        Sender(core, request, response.stream_async()).begin(response)
        return
    headers = response.headers.items()
    if response.streamed:
        stream = response.stream()
        taken = False
        try:
            taken = core.respond_stream(request, response.status, headers, stream)
        finally:
            if not taken:
                response.abandon()
        return
    bodiless = response.status in (204, 304)
    core.respond(request, response.status, headers, None if bodiless else response.payload or b"")
