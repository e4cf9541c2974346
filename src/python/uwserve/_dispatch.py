"""From a request to its answer: route, call, and turn what the handler returned into a response.

An ``App`` is one generation of a server's HTTP side (routes, ``fetch``, ``error``); ``Server.reload`` swaps it whole. A
request is answered by the generation that took it. Everything here runs on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Coroutine

from . import _logs
from ._callables import is_coroutine_function
from ._http import BAD_BODY, Ready, Response
from ._logs import log_exception as log_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._core import Request
    from ._routes import Router
    from ._server import Server

NOT_FOUND = Response("Not Found\n", 404)
NO_CONTENT = Response(None, 204)
INTERNAL_ERROR = Response("Internal Server Error\n", 500)


class App:
    """Routes, ``fetch`` and ``error`` of a server, immutable."""

    __slots__ = ("development", "error", "fetch", "router", "wants_server")

    def __init__(
        self,
        router: Router | None,
        fetch: tuple[Callable[..., Any], bool] | None,
        error: Callable[[BaseException], Any] | None,
        development: bool,
    ) -> None:
        self.router = router
        self.fetch: Callable[..., Any] | None = fetch[0] if fetch else None
        self.wants_server = fetch[1] if fetch else False
        self.error = error
        self.development = development

    def has_coroutines(self) -> bool:
        """Whether a handler is known to be a coroutine function."""
        routed = self.router is not None and self.router.has_coroutines
        return routed or is_coroutine_function(self.fetch) or is_coroutine_function(self.error)

    def dispatch(self, server: Server, request: Request) -> None:
        """Answer, upgrade or defer ``request``."""
        try:
            result, name = self._call(server, request)
            self._answer(server, request, result, deferred=False, name=name)
        except Exception as exc:
            self._fail(server, request, exc, deferred=False)

    def _call(self, server: Server, request: Request) -> tuple[Any, str]:
        """What the handler returned, and what to call it in an error."""
        if self.router is not None:
            found = self.router.match(request.method, request.path)
            if found is not None:
                endpoint, request.params = found
                name = "the handler of the route"
                if endpoint.call is None:
                    return endpoint.response, name
                return endpoint.call(request, server) if endpoint.wants_server else endpoint.call(request), name
        if self.fetch is None:
            return NOT_FOUND, "fetch"
        return self.fetch(request, server) if self.wants_server else self.fetch(request), "fetch"

    def _answer(self, server: Server, request: Request, result: Any, *, deferred: bool, name: str = "fetch") -> None:
        if is_coroutine(result):
            task = server.start_coroutine(self._complete(server, request, result, name))
            if task is not None and not deferred and not request.answered:
                server.defer(request)
        elif request.answered:  # upgraded, or the client is gone
            discard(server, request, result)
        elif hasattr(result, "add_done_callback") and callable(getattr(result, "result", None)):
            if not deferred:
                server.defer(request)
            self._when_done(result, server, request, self._settle, server, request, result, name)
        else:
            send(server, request, to_response(result, name))

    async def _complete(self, server: Server, request: Request, awaitable: Any, name: str) -> None:
        """The rest of ``_answer`` for a coroutine; in its own Task, which a client that leaves does not cancel."""
        try:
            result = await awaitable
            self._answer(server, request, result, deferred=True, name=name)
        except Exception as exc:
            self._fail(server, request, exc, deferred=True, hook=name != "error")
        except BaseException:  # a cancellation, the end of the run: the client still gets an answer
            if not request.answered:
                send(server, request, INTERNAL_ERROR)
            raise

    @staticmethod
    def _when_done(future: Any, server: Server, request: Request, function: Callable[..., None], *args: Any) -> None:
        def done(_: object) -> None:
            try:
                server.call_soon(server._call_for, request, function, *args)
            except RuntimeError:  # the server is gone, and the client with it
                pass

        get_loop = getattr(future, "get_loop", None)
        if get_loop is None:
            future.add_done_callback(done)
        else:  # asyncio's futures are their loop's own: only its thread may touch them
            get_loop().call_soon_threadsafe(future.add_done_callback, done)

    def _settle(self, server: Server, request: Request, future: Any, name: str) -> None:
        try:
            result = future.result()
        except BaseException as exc:  # raised elsewhere, cancellation included: it must not end this thread's run
            self._fail(server, request, exc, deferred=True, hook=name != "error")
            return
        try:
            self._answer(server, request, result, deferred=True, name=name)
        except Exception as exc:
            self._fail(server, request, exc, deferred=True, hook=name != "error")

    def _fail(self, server: Server, request: Request, exc: BaseException, *, deferred: bool, hook: bool = True) -> None:
        """The error path: the ``error`` hook's answer, else a logged traceback and status 500.

        A body that is no JSON is its client's mistake: a 400, no failure of the handler, unless the hook is there.
        """
        if self.error is None and hasattr(exc, BAD_BODY):
            if not request.answered:
                detail = f": {exc}" if self.development else ""
                send(server, request, Response(f"Bad Request: the body is not valid JSON{detail}\n", 400))
            return
        server.count_handler_error("fetch" if hook else "error")
        if hook and self.error is not None:
            try:
                self._answer(server, request, self.error(exc), deferred=deferred, name="error")
                return
            except Exception as second:
                server.count_handler_error("error")
                _logs.request_exception(server, request, second, "the error handler")
        _logs.request_exception(server, request, exc)
        if not request.answered:
            send(server, request, self._internal_error(exc))

    def _internal_error(self, exc: BaseException) -> Response:
        if not self.development:
            return Response("Internal Server Error\n", 500)
        import traceback

        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        return Response(text.encode("utf-8", "backslashreplace").decode(), 500)


def to_response(result: Any, name: str = "fetch") -> Response:
    """What a handler returned, as a ``Response``. ``TypeError`` naming the type for what cannot be one."""
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
    """Of an ``async def``, or of something like it."""
    return isinstance(result, Coroutine)


def discard(server: Server, request: Request, result: Any) -> None:
    """Let go of an answer nobody will get: what it would have streamed is closed."""
    if isinstance(result, Response):
        if not result.asynchronous:
            result.abandon()
        elif not result.reusable and not result._used:
            from ._bodies import Sender

            Sender(server, request, result.stream_async()).drop()
    elif isinstance(result, Coroutine):
        result.close()


def send(server: Server, request: Request, response: Response) -> None:
    """Put ``response`` on the wire, or nothing when the client is gone."""
    if response.asynchronous:
        from ._bodies import Sender

        Sender(server, request, response.stream_async()).begin(response)
        return
    headers = response.headers.items()
    if response.streamed:
        stream = response.stream()
        taken = False
        try:
            taken = server.respond_stream(request, response.status, headers, stream)
        finally:
            if not taken:
                response.abandon()
        return
    bodiless = response.status in (204, 304)
    server.respond(request, response.status, headers, None if bodiless else response.payload or b"")
