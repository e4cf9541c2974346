"""What ``Request`` has on top of the native type: ``headers``, and the body as awaitables."""

from __future__ import annotations

from .. import _core
from .._native_members import add_methods
from .headers import Headers, trusted_headers

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
    cached: Headers | None = _core.kept_headers.__get__(request)
    if cached is None:
        cached = trusted_headers(request.header_items)
        _core.kept_headers.__set__(request, cached)
    return cached


def _bytes(self: _core.Request) -> Awaitable[bytes]:
    return Ready(self.body)


def _text(self: _core.Request) -> Awaitable[str]:
    return Ready(self.body.decode("utf-8", "replace").removeprefix("\ufeff"))


BAD_BODY = "_uwserve_bad_body"
"""The attribute of an exception that says that a client's body is to blame; uncaught, it is a 400."""


def _json(self: _core.Request) -> Awaitable[Any]:
    import json

    try:
        return Ready(json.loads(self.body))
    except (ValueError, RecursionError) as error:
        setattr(error, BAD_BODY, True)
        raise


def complete_request_type(cls: type) -> None:
    """Put ``headers``, ``bytes()``, ``text()`` and ``json()`` on the native request type; once, at import."""
    cls.headers = property(_headers, doc=_core.docstrings["Request.headers"])  # type: ignore[attr-defined]
    add_methods(cls, bytes=_bytes, text=_text, json=_json)
