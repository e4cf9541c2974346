"""What ``Request`` has on top of the native type: ``headers``, and the body as awaitables."""

from __future__ import annotations

from .. import _core
from .headers import Headers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from typing import Any


class Ready:
    """An awaitable that is complete already: ``await`` returns its value without suspending."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value
        yield  # makes this function a generator; never reached

    def _misused(self, *_: object) -> Any:
        raise TypeError("this is an awaitable, as in Bun: await it, or in a plain function use request.body")

    __getitem__ = __iter__ = __len__ = __bool__ = __contains__ = _misused

    def __repr__(self) -> str:
        return f"<Ready {self._value!r}>"


def _headers(request: _core.Request) -> Headers:
    """The request's fields, a ``Headers``. Names are lower case, values decoded as latin-1 (RFC 9110 section 5).

    Made at the first use, then kept.

    Bun: Request.headers.
    """
    cached: Headers | None = request._headers
    if cached is None:
        cached = Headers.trusted(request.header_items)
        request._headers = cached
    return cached


def _bytes(self: _core.Request) -> Awaitable[bytes]:
    """Give the body to an ``await``; in a plain function ``request.body`` is the same.

    Returns:
        An awaitable of bytes. The body is complete when a handler runs, so nothing waits.

    Threads: any.

    Bun: Request.bytes.
    """
    return Ready(self.body)


def _text(self: _core.Request) -> Awaitable[str]:
    """Give the body as text to an ``await``; in a plain function use ``request.body.decode()``.

    Returns:
        An awaitable of str: the body as UTF-8, without a byte order mark, malformed sequences as U+FFFD.

    Threads: any.

    Bun: Request.text.
    """
    return Ready(self.body.decode("utf-8", "replace").removeprefix("\ufeff"))


BAD_BODY = "_uwserve_bad_body"
"""The attribute of an exception that says that a client's body is to blame; uncaught, it is a 400."""


def _json(self: _core.Request) -> Awaitable[Any]:
    """Give the body, parsed as JSON (RFC 8259), to an ``await``; in a plain function use ``json.loads(request.body)``.

    Returns:
        An awaitable of what ``json.loads`` makes of it.

    Raises:
        ValueError: the body is not valid JSON. If no code catches it, and there is no ``error`` handler, the client
            gets a 400, because the error is the client's.
        RecursionError: the JSON is nested too deeply; a 400 in the same way.

    Threads: any.

    Bun: Request.json.
    """
    import json

    try:
        return Ready(json.loads(self.body))
    except (ValueError, RecursionError) as error:
        setattr(error, BAD_BODY, True)
        raise


def _repr(request: _core.Request) -> str:
    return f"<Request {request.method} {request.target}>"


def complete_request_type(cls: type) -> None:
    """Put ``headers``, ``bytes()``, ``text()`` and ``json()`` on the native request type; once, at import."""
    members: dict[str, Any] = {
        "headers": property(_headers),
        "bytes": _bytes,
        "text": _text,
        "json": _json,
        "__repr__": _repr,
    }
    for name, member in members.items():
        function: Any = member.fget if isinstance(member, property) else member
        function.__name__ = name
        function.__qualname__ = f"Request.{name}"
        setattr(cls, name, member)
