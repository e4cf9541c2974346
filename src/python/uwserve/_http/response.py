"""``Response``: what a handler answers a request with.

A ``Response`` is checked when it is made: a status, a header or a body that cannot be sent raises in the handler that
made it, not later on the loop. The core sends ``payload`` (complete bytes) or pulls ``stream`` (an iterator); an
asynchronous iterator is pulled by a Task (``streams``).
"""

from __future__ import annotations

from .headers import Headers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
    from typing import Any

    from ..types import BodyInit, HeadersInit, ResponseInit

NULL_BODY_STATUSES = frozenset((204, 205, 304))
REDIRECT_STATUSES = frozenset((301, 302, 303, 307, 308))

TEXT = "text/plain;charset=utf-8"
JSON = "application/json;charset=utf-8"
BINARY = "application/octet-stream"


def to_json(value: object) -> bytes:
    """Compact UTF-8 JSON. ``TypeError`` for what JSON cannot hold, ``ValueError`` for NaN and infinities."""
    import json

    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def check_status(status: object) -> int:
    """``status`` when a final response can have it: an int of 200..599."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status must be an int, got {type(status).__name__}")
    if status == 101:
        raise ValueError("status 101 is sent by server.upgrade(), not by a Response")
    if not 200 <= status <= 599:
        raise ValueError(f"status must be in 200..599, got {status}")
    return int(status)


def check_status_text(text: object) -> str:
    """``text`` when it could be a reason phrase (RFC 9112 section 4): a str in latin-1 without control characters."""
    if not isinstance(text, str):
        raise TypeError(f"status_text must be a str, got {type(text).__name__}")
    if any(not (" " <= character <= "~" or "\xa0" <= character <= "\xff" or character == "\t") for character in text):
        raise ValueError(f"status_text has a character that cannot be in a status line: {text!r}")
    return text


_INIT = {"status": "status", "headers": "headers", "statusText": "status_text", "status_text": "status_text"}


def read_init(call: str, status: object, headers: object) -> tuple[Any, Any, str]:
    """The status, headers and status text of ``call``'s arguments: ``status`` may be Bun's dict of all three."""
    if not isinstance(status, dict):
        return status, headers, ""
    if headers is not None:
        raise TypeError(f"{call}: headers are given twice: in the dict, or as an argument, not both")
    given: dict[str, Any] = {}
    for spelled, value in status.items():
        name = _INIT.get(spelled) if isinstance(spelled, str) else None
        if name is None:
            raise TypeError(f"{call}: unknown option {spelled!r} (there are 'status', 'headers' and 'statusText')")
        if name in given:
            raise TypeError(f"{call}: 'statusText' and 'status_text' are the same option")
        given[name] = value
    return given.get("status", 200), given.get("headers"), check_status_text(given.get("status_text", ""))


class Response:
    """What a handler answers a request with.

    A ``Content-Type`` is added when ``headers`` has none: ``text/plain;charset=utf-8`` for ``str``,
    ``application/octet-stream`` for bytes, nothing for a stream. One ``Response`` may answer many requests, unless its
    body is an iterator, which can be sent once. With status 204, 205 or 304, which have no body, the one given is
    dropped, as in Bun.

    Args:
        body: a ``str`` (sent as UTF-8), bytes-like, ``None`` (empty), or an iterable or asynchronous iterable of such
            pieces, which is streamed: asked for a piece when the client has taken the last one. When it ends, or its
            client leaves, its ``close()`` or ``aclose()`` is called. An asynchronous one runs in a Task of the server's
            event loop; if it waits for something while its client leaves, ``CancelledError`` is raised in it there.
        status: the status code, an int of 200..599 (RFC 9110 section 15); or, as in Bun, a dict of ``status``,
            ``headers`` and ``statusText``.
        headers: the fields, as ``Headers(...)`` takes them. ``Content-Length`` applies to a stream, whose pieces must
            add up to it, and to the response to HEAD when there is no body; for a complete body it is computed.

    Raises:
        TypeError: a body, status or headers of a wrong type, or an unknown key of the dict.
        ValueError: a status out of range, or a header or status text that could not be sent.

    Threads: may be made on any.

    Bun: Response, of the Fetch standard.
    """

    __slots__ = ("_source", "_used", "headers", "payload", "status", "status_text")

    if TYPE_CHECKING:  # Bun's spelling, which _bun_names puts on the class
        statusText: str  # noqa: N815

    status: int
    """The status code, an int. Bun: Response.status."""
    headers: Headers
    """The fields to send, ``Headers``; may be changed until the response is returned. Bun: Response.headers."""
    status_text: str
    """The ``statusText`` that was given, a str, ``""`` by default.

    As in Bun it is not sent: the status line has the reason phrase of the status, which clients ignore (RFC 9112
    section 4). Bun: Response.statusText."""
    payload: bytes | None
    """The complete body as bytes, or ``None`` when it is streamed or empty."""

    def __init__(
        self, body: BodyInit = None, status: int | ResponseInit = 200, headers: HeadersInit | None = None
    ) -> None:
        self.status_text = ""
        if status.__class__ is not int:
            status, headers, self.status_text = read_init("Response()", status, headers)
        self.status = check_status(status)
        self.headers = Headers(headers)
        self.payload = None
        self._source: Iterable[Any] | AsyncIterable[Any] | None = None
        self._used = False
        default_type: str | None = None
        if body is None:
            pass
        elif isinstance(body, str):
            self.payload = body.encode()
            default_type = TEXT
        elif isinstance(body, dict):
            raise TypeError("a Response body cannot be a dict: use Response.json(...)")
        else:
            try:
                self.payload = bytes(memoryview(body))  # type: ignore[arg-type]
                default_type = BINARY
            except TypeError:
                if not hasattr(type(body), "__iter__") and not hasattr(type(body), "__aiter__"):
                    raise TypeError(
                        "a Response body must be None, str, bytes-like or an iterable (asynchronous, too) of str or "
                        f"bytes, got {type(body).__name__}"
                    ) from None
                self._source = body  # type: ignore[assignment]  # no buffer, so it is iterable
        if self.status in NULL_BODY_STATUSES:
            self.abandon()
            self.payload = self._source = None
        elif default_type is not None and "content-type" not in self.headers:
            self.headers.append("Content-Type", default_type)

    @classmethod
    def json(cls, value: object, status: int | ResponseInit = 200, headers: HeadersInit | None = None) -> Response:
        """Make a response whose body is JSON (RFC 8259), compact and in UTF-8.

        Args:
            value: what ``json.dumps`` takes.
            status: the status code, an int of 200..599; or, as in Bun, a dict of ``status``, ``headers`` and
                ``statusText``.
            headers: further fields; ``Content-Type`` is set unless it is among them.

        Returns:
            A ``Response``.

        Raises:
            TypeError: a value that JSON cannot hold, or arguments as of ``Response()``.
            ValueError: NaN or an infinity, or arguments as of ``Response()``.

        Bun: Response.json.
        """
        number, headers, status_text = read_init("Response.json()", status, headers)
        fields = Headers(headers)
        if number not in NULL_BODY_STATUSES and "content-type" not in fields:
            fields.append("Content-Type", JSON)
        made = cls(to_json(value), number, fields)
        made.status_text = status_text
        return made

    @classmethod
    def redirect(cls, url: str, status: int | ResponseInit = 302) -> Response:
        """Make a redirect.

        Args:
            url: where to; characters outside ASCII are percent-encoded.
            status: 301, 302, 303, 307 or 308 (RFC 9110 section 15.4); or, as in Bun, a dict of ``status`` and
                ``headers``.

        Returns:
            A ``Response`` with ``Location`` and no body.

        Raises:
            TypeError: url is no ``str``, or status no int.
            ValueError: another status, or a url that cannot be sent.

        Bun: Response.redirect.
        """
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, got {type(url).__name__}")
        if isinstance(status, dict):
            status = {"status": 302, **status}
        number, given, status_text = read_init("Response.redirect()", status, None)
        if check_status(number) not in REDIRECT_STATUSES:
            raise ValueError(f"a redirect's status must be 301, 302, 303, 307 or 308, got {number}")
        encoded = "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in url)
        headers = Headers(given)
        headers.set("Location", encoded)
        made = cls(None, number, headers)
        made.status_text = status_text
        return made

    @property
    def reusable(self) -> bool:
        """False when the body is an iterator, which can be sent once; a bool."""
        return self._source is None or not hasattr(type(self._source), "__anext__" if self.asynchronous else "__next__")

    @property
    def streamed(self) -> bool:
        """True when the body is pulled from an iterable, asynchronous or not; a bool."""
        return self._source is not None

    @property
    def asynchronous(self) -> bool:
        """True when the body is pulled from an asynchronous iterable; a bool.

        A body that is both kinds of iterable counts as synchronous: it is pulled without waiting.
        """
        return self._source is not None and not hasattr(type(self._source), "__iter__")

    def stream(self) -> Iterator[Any]:
        """Begin to send a streamed body. The server does it.

        Returns:
            The iterator to pull.

        Raises:
            RuntimeError: the body is not streamed or asynchronous, or can be sent only once and has been.
        """
        if self.asynchronous:
            raise RuntimeError("the body of this Response is asynchronous")
        self._use()
        return iter(self._source)  # type: ignore[arg-type]

    def stream_async(self) -> AsyncIterator[Any]:
        """Begin to send a streamed body that is asynchronous. The server does it.

        Returns:
            The asynchronous iterator to pull.

        Raises:
            RuntimeError: the body is not streamed or not asynchronous, or can be sent only once and has been.
        """
        if self.streamed and not self.asynchronous:
            raise RuntimeError("the body of this Response is not asynchronous")
        self._use()
        return aiter(self._source)  # type: ignore[arg-type]

    def _use(self) -> None:
        if self._source is None:
            raise RuntimeError("this Response has no streamed body")
        if self._used and not self.reusable:
            raise RuntimeError("the body of this Response has been sent already: an iterator can be sent only once")
        self._used = True

    def abandon(self) -> None:
        """Close a body that can be sent only once and will not be: an unread generator or file.

        One that is asynchronous stays as it is: that its ``aclose()`` is awaited takes an event loop, the server's.
        """
        if not self.reusable and not self.asynchronous:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()

    def __repr__(self) -> str:
        kind = "streamed" if self.streamed else f"{len(self.payload or b'')} bytes"
        return f"<Response {self.status}, {kind}>"
