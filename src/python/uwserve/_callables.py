"""What can be known about a user's function before it is called: that it is callable, not async, and takes the
arguments it will get. Found out once, when a server is made or reloaded, so that a mistake is an error there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from typing import Any


def check_handler(label: str, value: object, *arguments: str) -> Callable[..., Any]:
    """``value`` when it is a plain callable that accepts ``arguments`` by position; ``TypeError`` naming ``label``."""
    function = _plain_callable(label, value)
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
    function = _plain_callable(label, value)
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


def _plain_callable(label: str, value: object) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{label} must be callable, got {type(value).__name__}")
    if _is_async(value):
        raise TypeError(
            f"{label} is a coroutine function: coroutine handlers are not supported in this version, use a plain def"
        )
    return value


def _is_async(function: object) -> bool:
    import inspect

    call = getattr(type(function), "__call__", None)  # noqa: B004  an object may be callable by an async __call__
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (function, call))


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    import inspect

    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a C function without a text signature
        return None
