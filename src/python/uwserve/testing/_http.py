"""HTTP requests for tests, on ``http.client``, and the answer to one: ``HttpResponse``."""

from __future__ import annotations

import http.client
import io
import json as json_module
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import Headers
from ._transport import dial

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from ..types import HeadersInit
    from ._transport import Target


@dataclass(frozen=True)
class HttpResponse:
    """An HTTP response, complete with its body."""

    status: int
    """The status code."""
    reason: str
    """The reason phrase behind the code."""
    headers: Headers
    """The fields, case-insensitive."""
    body: bytes
    """The body, without its transfer coding."""

    @property
    def text(self) -> str:
        """The body as UTF-8; ``UnicodeDecodeError`` if it is not UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body parsed as JSON; ``ValueError``, with the body in its text, if it is not JSON."""
        try:
            return json_module.loads(self.body)
        except ValueError as error:
            raise ValueError(f"the body of {self} is not JSON: {error}") from None

    def __str__(self) -> str:
        shown = repr(self.body[:200]) + ("..." if len(self.body) > 200 else "")
        return f"{self.status} {self.reason}: {shown}"


def fields(headers: HeadersInit | None, cookies: Mapping[str, str] | None) -> Headers:
    """``headers``, and a ``Cookie`` field (RFC 6265 section 4.2) of ``cookies``. Both are checked."""
    made = Headers(headers)
    for name, value in (cookies or {}).items():
        if any(character in name + value for character in ";, \t\r\n\0") or "=" in name:
            raise ValueError(f"cookie {name!r} cannot be sent with the value {value!r}")
    if cookies:
        made.append("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    return made


class _Connection(http.client.HTTPConnection):
    """A connection to any ``Target``, unix sockets and TLS included."""

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__("localhost")
        self._target, self._timeout = target, timeout

    def connect(self) -> None:
        self.sock = dial(self._target, self._timeout)


def send_request(
    target: Target,
    method: str,
    path: str,
    headers: HeadersInit | None,
    cookies: Mapping[str, str] | None,
    body: str | bytes | None,
    json: Any,
    timeout: float,
) -> HttpResponse:
    """One request on a new connection. ``TimeoutError`` and ``ConnectionError`` name the request."""
    made = fields(headers, cookies)
    if json is not None:
        if body is not None:
            raise TypeError("body and json cannot both be given")
        body = json_module.dumps(json)
        if "content-type" not in made:
            made.append("Content-Type", "application/json")
    data = body.encode() if isinstance(body, str) else body
    connection = _Connection(target, timeout)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if "host" not in made:
            connection.putheader("Host", target.host)
        for name, value in made.items():
            connection.putheader(name, value)
        if data is not None and "content-length" not in made:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        if data:
            connection.send(data)
        return _read(connection.getresponse())
    except TimeoutError:
        raise TimeoutError(f"no complete response to {method} {path} from {target} within {timeout:g} s") from None
    except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
        raise ConnectionError(f"the server closed the connection while it answered {method} {path}: {error}") from error
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse) -> HttpResponse:
    body = response.read()
    return HttpResponse(response.status, response.reason, Headers(response.getheaders()), body)


class _Rest(io.RawIOBase):
    """The bytes already read from a socket, then those that follow on it, as a file for ``http.client``."""

    def __init__(self, read: bytes, sock: socket.socket) -> None:
        self._read, self._socket = read, sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._read:
            return self._socket.recv_into(buffer)
        count = min(len(buffer), len(self._read))
        buffer[:count], self._read = self._read[:count], self._read[count:]
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def read_response(read: bytes, sock: socket.socket) -> HttpResponse:
    """The response to a GET whose first bytes are ``read``; the rest is still to be read from ``sock``."""
    response = http.client.HTTPResponse(_Rest(read, sock), method="GET")  # type: ignore[arg-type]
    response.begin()
    return _read(response)
