"""The user's functions: whether each can be called with the arguments that it will get, and whether it is a coroutine
function. The checks run once, when a server is made or reloaded, so that a mistake is an error there.

As in JavaScript, a handler may leave out trailing parameters. Such a handler is wrapped here, once; the core calls a
handler that takes all of them directly. ``websocket.message`` must take both: a wrapper would run for each message, and
a handler without the message is nearly always a mistake.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


def check_handler(label: str, value: object, *arguments: str, least: int = 0) -> Callable[..., Any]:
    """A callable that accepts ``arguments`` by position: ``value``, or a wrapper when it leaves out the last ones.

    ``TypeError`` naming ``label`` for anything else, also for a callable that accepts fewer than ``least``.
    """
    function = _callable(label, value)
    signature = _signature(function)
    if signature is None:
        return function
    for taken in range(len(arguments), least - 1, -1):
        if _binds(signature, arguments[:taken]):
            return function if taken == len(arguments) else _with_fewer(function, taken)
    raise TypeError(f"{label} must accept ({', '.join(arguments)}), but its signature is {signature}")


def check_full_handler(label: str, value: object, *arguments: str) -> Callable[..., Any]:
    """``value`` when it is a callable that accepts all ``arguments`` by position; ``TypeError`` naming ``label``."""
    return check_handler(label, value, *arguments, least=len(arguments))


SOCKETS = frozenset(("ws", "websocket", "socket"))
"""Names of a first parameter that show the older order of ``websocket.error``: ``(ws, exc)``."""


def check_socket_error(label: str, value: object, *arguments: str) -> Callable[..., Any]:
    """The handler ``error(error, ws)``, in Bun's order; one whose first parameter is named as a socket is wrapped."""
    function = _callable(label, value)
    signature = _signature(function)
    first = next(iter(signature.parameters.values()), None) if signature is not None else None
    if signature is None or first is None or first.name not in SOCKETS or first.kind > first.POSITIONAL_OR_KEYWORD:
        return check_handler(label, value, *arguments)
    if not _binds(signature, ("ws", "error")):
        raise TypeError(
            f"{label} gets the error first, then the socket: it must accept (error, ws), but its signature is "
            f"{signature}"
        )
    _warn(
        f"{label} is called as (error, ws), in Bun's order. This one, {signature}, still gets (ws, error), because its "
        f"first parameter is named {first.name!r}: turn the two around"
    )

    def turned(error: object, ws: object) -> Any:
        return function(ws, error)

    turned.func = function  # type: ignore[attr-defined]  # where is_coroutine_function looks
    return turned


def check_request_handler(label: str, value: object) -> tuple[Callable[..., Any], bool]:
    """The callable and whether it takes ``(request, server)`` rather than ``(request)``.

    Decided by the number of positional parameters without a default; a callable without a readable signature, and
    one whose only positional parameter is ``*args``, gets both. One without parameters is wrapped.
    """
    function = _callable(label, value)
    signature = _signature(function)
    if signature is None:
        return function, True
    parameters = signature.parameters.values()
    required = sum(p.kind <= p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    both = required == 2 or (required == 0 and any(p.kind is p.VAR_POSITIONAL for p in parameters))
    if _binds(signature, ("request", "server")[: 2 if both else 1]):
        return function, both
    if _binds(signature, ()):
        return _with_fewer(function, 0), False
    wanted = "(request) or (request, server)"
    raise TypeError(f"{label} must accept {wanted}, but its signature is {signature}")


def check_lifespan_function(label: str, value: object) -> tuple[Callable[..., Any], bool]:
    """The callable and whether it takes ``(server)`` rather than nothing."""
    function = _callable(label, value)
    signature = _signature(function)
    if signature is None:
        return function, True
    for arguments in (("server",), ()):
        if _binds(signature, arguments):
            return function, bool(arguments)
    raise TypeError(f"{label} must accept (server) or no argument, but its signature is {signature}")


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be known: it is an ``async def``, or its ``__call__`` is."""
    import inspect

    while hasattr(function, "func"):  # a functools.partial, or a wrapper from here
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004  an object may be callable by an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _callable(label: str, value: object) -> Callable[..., Any]:
    import inspect

    if not callable(value):
        raise TypeError(f"{label} must be callable, got {type(value).__name__}")
    if inspect.isasyncgenfunction(value) or inspect.isasyncgenfunction(type(value).__call__):
        raise TypeError(
            f"{label} is an asynchronous generator function: a handler is a function or a coroutine function"
        )
    return value


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    import inspect

    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a C function without a text signature
        return None


def _binds(signature: inspect.Signature, arguments: tuple[str, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _with_fewer(function: Callable[..., Any], taken: int) -> Callable[..., Any]:
    """``function``, which accepts only the first ``taken`` arguments, for a caller that passes more."""

    def fewer(*arguments: object) -> Any:
        return function(*arguments[:taken])

    fewer.func = function  # type: ignore[attr-defined]  # where is_coroutine_function looks
    return fewer


def _warn(text: str) -> None:
    """A ``DeprecationWarning`` at the line outside of this package that made the server or reloaded it."""
    import sys
    import warnings

    own = __file__.rpartition("/")[0] + "/"
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_code.co_filename.startswith(own):  # to the end for a handler of the command
        frame = frame.f_back
        level += 1
    warnings.warn(text, DeprecationWarning, stacklevel=level + 1)
