"""What can be known about a user's function before it is called: that it is callable, whether it is a coroutine
function, and that it takes the arguments it will get. Found out once, when a server is made or reloaded, so that a
mistake is an error there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from typing import Any


def check_handler(label: str, value: object, *arguments: str) -> Callable[..., Any]:
    """``value`` when it is a callable that accepts ``arguments`` by position; ``TypeError`` naming ``label``."""
    function = _callable(label, value)
    signature = _signature(function)
    if signature is not None:
        try:
            signature.bind(*arguments)
        except TypeError:
            raise TypeError(f"{label} must accept ({', '.join(arguments)}), but its signature is {signature}") from None
    return function


def check_request_handler(label: str, value: object) -> tuple[Callable[..., Any], bool]:
    """The callable and whether it takes ``(request, server)`` rather than ``(request)``.

    Decided by the number of positional parameters without a default; a callable without a readable signature, and
    one whose only positional parameter is ``*args``, gets both.
    """
    function = _callable(label, value)
    signature = _signature(function)
    if signature is None:
        return function, True
    required = 0
    variadic = False
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            required += parameter.default is parameter.empty
        elif parameter.kind is parameter.VAR_POSITIONAL:
            variadic = True
    both = required == 2 or (required == 0 and variadic)
    try:
        signature.bind(*("request", "server")[: 2 if both else 1])
    except TypeError:
        wanted = "(request) or (request, server)"
        raise TypeError(f"{label} must accept {wanted}, but its signature is {signature}") from None
    return function, both


def check_lifespan_function(label: str, value: object) -> tuple[Callable[..., Any], bool]:
    """The callable and whether it takes ``(server)`` rather than nothing."""
    function = _callable(label, value)
    signature = _signature(function)
    if signature is None:
        return function, True
    for arguments in (("server",), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return function, bool(arguments)
    raise TypeError(f"{label} must accept (server) or no argument, but its signature is {signature}")


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be known: it is an ``async def``, or its ``__call__`` is."""
    import inspect

    while hasattr(function, "func"):  # a functools.partial
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
