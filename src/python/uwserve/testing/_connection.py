"""The connection below the client: a non-blocking socket, frames in and out, deadlines, and the handlers' exceptions.

One thread uses a connection. It reads only while the test waits for something. A long send reads, too: otherwise client
and server could each wait for the other to read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import ssl
from typing import TYPE_CHECKING

from .. import Headers
from ._deflate import OFFER, Deflate
from ._errors import ProtocolError
from ._frames import Frame, FrameReader
from ._http import HttpResponse, fields, read_response
from ._transport import TIMEOUT, Deadline, dial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..types import HeadersInit
    from ._errors import HandlerErrors
    from ._transport import Target

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
MAX_HEAD = 1 << 16
MAX_SIZE = 64 << 20
"""Default of the largest message that a client accepts, in bytes."""
WANTS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class HandshakeRefused(Exception):
    """The server answered the handshake with a status other than 101."""

    response: HttpResponse
    """The server's answer."""

    def __init__(self, path: str, response: HttpResponse) -> None:
        super().__init__(path, response)
        self.response = response
        self._path = path

    def __str__(self) -> str:
        return f"the server did not accept a WebSocket on {self._path}, it answered {self.response}"


class Connection:
    """A connection after its handshake. ``timeout`` is the default of every wait, in seconds."""

    def __init__(
        self,
        target: Target,
        path: str,
        protocols: Sequence[str] = (),
        headers: HeadersInit | None = None,
        cookies: Mapping[str, str] | None = None,
        compression: bool = False,
        max_size: int = MAX_SIZE,
        timeout: float = TIMEOUT,
        errors: HandlerErrors | None = None,
    ) -> None:
        if any(character in path for character in " \r\n") or not path.startswith("/"):
            raise ValueError(f"path must begin with '/' and have no white space, got {path!r}")
        self.timeout = timeout
        self.max_size = max_size
        self.received = 0
        self.deflate: Deflate | None = None
        self._errors = errors
        self._ended = False
        key = base64.b64encode(os.urandom(16))
        sent = fields(headers, cookies)
        head = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        head += [("Sec-WebSocket-Key", key.decode()), *sent.items()]
        if "host" not in sent:
            head.insert(0, ("Host", target.host))
        if protocols:
            head.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        if compression:
            head.append(("Sec-WebSocket-Extensions", OFFER))
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head), "", ""]
        self.socket = dial(target, timeout)
        try:
            self.socket.sendall("\r\n".join(lines).encode("latin-1"))
            self.response, rest = self._read_head(path)
            if self.response.status != 101:
                raise HandshakeRefused(path, self.response)
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            self._check(accept, protocols, compression)
            self.socket.setblocking(False)
        except TimeoutError:
            self.socket.close()
            raise TimeoutError(f"no answer to the handshake on {path} from {target} within {timeout:g} s") from None
        except BaseException:
            self.socket.close()
            raise
        self._reader = FrameReader(max_size, self.deflate is not None, rest)

    # --- the handshake ---

    def _read_head(self, path: str) -> tuple[HttpResponse, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(4096)
            if not piece or len(data) > MAX_HEAD:
                raise ConnectionError(f"the server closed the connection during the handshake on {path}: {data!r}")
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        version, _, words = status.partition(" ")
        if version != "HTTP/1.1" or not words[:3].isdecimal():
            raise ProtocolError(f"the answer to the handshake begins with {status!r}, not with HTTP/1.1 and a status")
        if words[:3] != "101":
            return read_response(data, self.socket), b""
        pairs = [(name, value) for name, _, value in (line.partition(":") for line in lines)]
        return HttpResponse(101, words[4:], Headers(pairs), b""), rest

    def _check(self, accept: str, protocols: Sequence[str], compression: bool) -> None:
        """Checks the 101 as RFC 6455 section 4.1 requires of a client."""
        headers = self.response.headers
        wanted = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-accept": accept}
        for name, value in wanted.items():
            got = headers.get(name)
            if got != value and not (name != "sec-websocket-accept" and got is not None and got.lower() == value):
                raise ProtocolError(f"the answer to the handshake has {name}: {got!r} instead of {value!r}")
        chosen = headers.get_list("sec-websocket-protocol")
        if chosen and (len(chosen) > 1 or chosen[0] not in protocols):
            raise ProtocolError(f"the server chose the subprotocol {chosen}, offered were {list(protocols)}")
        extensions = headers.get("sec-websocket-extensions")
        if extensions is not None:
            if not compression:
                raise ProtocolError(f"the server answered the extension {extensions!r}, none was offered")
            self.deflate = Deflate(extensions)

    # --- frames ---

    def frame(self, deadline: Deadline, waited_for: str, *, watch: bool = True) -> Frame | None:
        """The next frame, or ``None`` at the end of the stream. ``TimeoutError`` at the deadline; with ``watch``, also
        the exception of a handler, if the server sends nothing more."""
        while True:
            frame = self._reader.next()
            if frame is not None or self._ended:
                return frame
            self._wait(select.POLLIN, deadline, waited_for, watch)
            self._fill()

    def _fill(self) -> None:
        """Read the bytes that have arrived into the buffer, and notice the end of the stream."""
        try:
            while data := self.socket.recv(1 << 16):
                self._reader.buffer += data
                self.received += len(data)
            self._ended = True
        except WANTS:
            pass
        except (ConnectionResetError, ssl.SSLError):  # SSLError: TCP ended without the end of TLS
            self._ended = True

    def write(self, data: bytes) -> None:
        """Send all of it. ``TimeoutError`` if the server does not read, ``ConnectionError`` if it has closed."""
        deadline = Deadline.after(self.timeout)
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except WANTS:
                events = select.POLLOUT if self._ended else select.POLLOUT | select.POLLIN
                self._wait(events, deadline, f"the server to take {len(view)} more bytes")
                self._fill()

    def _wait(self, events: int, deadline: Deadline, waited_for: str, watch: bool = True) -> None:
        """Return when the socket is ready for ``events``; raise a handler's exception, or ``TimeoutError``."""
        poll = select.poll()
        poll.register(self.socket, events)
        watched = self._errors.fileno() if watch and self._errors is not None else -1
        if watched >= 0:
            poll.register(watched, select.POLLIN)
        ready = dict(poll.poll(deadline.left * 1000))
        if self.socket.fileno() in ready:
            return
        if watched in ready and self._errors is not None:
            poll.unregister(watched)
            self._errors.settle()
            if not poll.poll(0):
                self._errors.throw()
            return
        raise TimeoutError(f"waited {deadline.seconds:g} s for {waited_for}, and nothing came")
