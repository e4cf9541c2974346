"""``WebSocketClient``: a WebSocket for tests. It is synchronous and strict, and every wait has a deadline."""

from __future__ import annotations

import json as json_module
import os
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any

from .. import Closed, ConnectionClosed
from . import _frames
from ._connection import Connection
from ._errors import ProtocolError
from ._frames import ABNORMAL, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from ._transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from ._http import HttpResponse


class UnexpectedClose(ConnectionClosed):
    """The connection closed while the test waited for something else. Has ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str, waited_for: str) -> None:
        super().__init__(code, reason)
        self._waited_for = waited_for

    def __str__(self) -> str:
        how = "without a Close frame" if self.code == ABNORMAL else f"with {self.code} {self.reason!r}"
        return f"waited for {self._waited_for}, but the connection closed {how}"


class WebSocketClient:
    """A connection to the server under test; ``LiveServer.connect`` and ``connect`` make it.

    Pings are answered, and a Close is echoed, while a method waits, and only then. As a context manager it closes with
    1000 at the end of the block, or just drops the connection if the block raised. Every ``timeout`` is in seconds, and
    defaults to the connection's. One thread at a time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._max_size = connection.max_size
        self._messages: deque[str | bytes] = deque()
        self._pings: deque[bytes] = deque()
        self._pongs: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._size = 0
        self._kind, self._compressed = TEXT, False
        self._sent_close = False
        self._closed: Closed | None = None

    # --- about the connection ---

    @property
    def response(self) -> HttpResponse:
        """The server's 101 response, for its headers."""
        return self._connection.response

    @property
    def protocol(self) -> str:
        """The negotiated subprotocol, or ``""``."""
        return self.response.headers.get("sec-websocket-protocol") or ""

    @property
    def compression(self) -> bool:
        """True if permessage-deflate was negotiated (RFC 7692)."""
        return self._connection.deflate is not None

    @property
    def bytes_received(self) -> int:
        """Bytes of frames that were read from the socket, so compressed messages count with their compressed size."""
        return self._connection.received

    @property
    def closed(self) -> Closed | None:
        """``(code, reason)`` once the connection has closed; 1006 without a Close frame, 1005 without a code."""
        return self._closed

    # --- out ---

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: ``str`` as text, bytes-like as binary; compressed if that was negotiated.

        Raises ``TypeError`` for anything else, ``ConnectionClosed`` if the connection is closed, ``TimeoutError`` if
        the server does not read. As always with TCP, only the next wait may notice that the server has closed.
        """
        opcode, payload = _payload(message)
        deflate = self._connection.deflate if payload else None
        data = payload if deflate is None else deflate.compress(payload)
        self._write(opcode, data, compressed=deflate is not None)

    def send_json(self, value: object) -> None:
        """Send ``value`` as JSON text."""
        self.send(json_module.dumps(value))

    def send_fragments(self, parts: Iterable[str | bytes]) -> None:
        """Send one message, uncompressed, with a frame for each part. The parts are all ``str`` or all bytes-like."""
        made = [_payload(part) for part in parts]
        if len({opcode for opcode, _ in made}) != 1:
            raise TypeError("the parts of a message must not be empty, and all str or all bytes-like")
        for index, (opcode, payload) in enumerate(made):
            self._write(CONTINUATION if index else opcode, payload, fin=index == len(made) - 1)

    def ping(self, data: bytes | None = None, *, timeout: float | None = None) -> None:
        """Send a Ping and wait for its Pong: by then the server has handled everything that was sent before.

        Messages that arrive meanwhile are kept for ``receive``. ``data``: up to 125 bytes, random by default.
        """
        token = _control(os.urandom(8) if data is None else data)
        self._pongs.clear()
        self._write(PING, token)
        self._wait(lambda: token in self._pongs, f"the Pong of {token!r}", timeout)

    def pong(self, data: bytes = b"") -> None:
        """Send an unsolicited Pong (RFC 6455 section 5.5.3)."""
        self._write(PONG, _control(data))

    def _write(self, opcode: int, payload: bytes, *, fin: bool = True, compressed: bool = False) -> None:
        if self._closed is not None or self._sent_close:
            raise ConnectionClosed(*(self._closed or (ABNORMAL, "close() was called")))
        try:
            self._connection.write(_frames.encode(opcode, payload, fin=fin, compressed=compressed))
        except (ConnectionError, ssl.SSLError):  # closed (SSLError with TLS); what was received can still be read
            pass

    # --- in ---

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message: ``str`` or ``bytes``.

        Raises ``TimeoutError`` if none arrives, ``UnexpectedClose`` if the connection closes instead,
        ``ProtocolError`` if the server violates the protocol, and the exception of a handler of a ``LiveServer``.
        """
        self._wait(lambda: self._messages, "a message", timeout)
        return self._messages.popleft()

    def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which must be text: ``AssertionError`` otherwise."""
        message = self.receive(timeout)
        if not isinstance(message, str):
            raise AssertionError(f"expected a text message, received {_shown(message)}")
        return message

    def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which must be binary: ``AssertionError`` otherwise."""
        message = self.receive(timeout)
        if isinstance(message, str):
            raise AssertionError(f"expected a binary message, received {_shown(message)}")
        return message

    def receive_json(self, timeout: float | None = None) -> Any:
        """The next message, parsed as JSON; ``AssertionError`` if it is not JSON."""
        message = self.receive(timeout)
        try:
            return json_module.loads(message)
        except ValueError as error:
            raise AssertionError(f"expected JSON, received {_shown(message)}: {error}") from None

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the server closes with 1000 or 1001; other closes raise, as in ``receive``."""
        while True:
            try:
                yield self.receive()
            except UnexpectedClose as closed:
                if closed.code not in (1000, 1001):
                    raise
                return

    def expect_nothing(self) -> None:
        """Send a Ping; ``AssertionError`` if the server sends a message before the Pong."""
        self.ping()
        if self._messages:
            raise AssertionError(f"expected no message, received {_shown(self._messages[0])}")

    def expect_ping(self, data: bytes | None = None, timeout: float | None = None) -> bytes:
        """Wait for a Ping and return its data; ``AssertionError`` if that is not ``data``, if given."""
        self._wait(lambda: self._pings, "a Ping", timeout)
        got = self._pings.popleft()
        if data is not None and got != data:
            raise AssertionError(f"expected a Ping with {data!r}, received one with {got!r}")
        return got

    def expect_close(self, code: int | None = None, reason: str | None = None, timeout: float | None = None) -> Closed:
        """Wait until the connection is closed; returns ``(code, reason)``.

        ``AssertionError`` for another code or reason, and for a message that arrives instead.
        """
        self._wait(lambda: self._messages or self._closed, "a close", timeout)
        if self._messages:
            raise AssertionError(f"expected a close, received {_shown(self._messages[0])}")
        closed = self._closed
        assert closed is not None
        if (code is not None and closed.code != code) or (reason is not None and closed.reason != reason):
            wanted = (code if code is not None else "any code", reason if reason is not None else "any reason")
            raise AssertionError(f"expected a close with {wanted}, but it was {tuple(closed)}")
        return closed

    # --- ends ---

    def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> Closed:
        """Close with ``code`` and ``reason`` and wait for the server's Close; messages that arrive meanwhile are kept.

        Returns code and reason of the close. Does nothing on a closed connection. 0, 1005 and 1006 send a Close without
        code and reason. ``ValueError`` for another code that must not be sent and for a reason over 123 bytes,
        ``TimeoutError`` if the server does not answer.
        """
        body = _frames.close_payload(code, reason)
        if self._closed is None and not self._sent_close:
            self._write(CLOSE, body)
            self._sent_close = True
        self._wait(lambda: self._closed, "the server's Close", timeout)
        assert self._closed is not None
        return self._closed

    def drop(self) -> None:
        """Close the socket without a Close frame: the server's ``close`` handler is called with 1006."""
        if self._closed is None:
            self._closed = Closed(ABNORMAL, "")
        self._connection.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        try:
            if exc is None and self._closed is None:
                self.close()
        finally:
            self.drop()

    def __repr__(self) -> str:
        state = "open" if self._closed is None else f"closed {tuple(self._closed)}"
        return f"<WebSocketClient {state}, {len(self._messages)} messages unread>"

    # --- frames ---

    def _wait(self, condition: Callable[[], object], waited_for: str, timeout: float | None) -> None:
        """Handle frames until ``condition()``; ``UnexpectedClose`` if the connection closes first."""
        deadline = Deadline.after(self._connection.timeout if timeout is None else timeout)
        while not condition():
            if self._closed is not None:
                raise UnexpectedClose(*self._closed, waited_for)
            try:
                frame = self._connection.frame(deadline, waited_for)
                if frame is None:
                    self.drop()
                else:
                    self._handle(frame)
            except ProtocolError:
                self.drop()
                raise

    def _handle(self, frame: _frames.Frame) -> None:
        if frame.opcode == PING:
            self._pings.append(frame.payload)
            if not self._sent_close:
                self._write(PONG, frame.payload)
        elif frame.opcode == PONG:
            self._pongs.append(frame.payload)
        elif frame.opcode == CLOSE:
            self._handle_close(frame.payload)
        else:
            if frame.opcode != CONTINUATION:
                self._kind, self._compressed = frame.opcode, frame.compressed
            self._parts.append(frame.payload)
            self._size += len(frame.payload)
            if self._size > self._max_size:
                raise ProtocolError(f"a message is over max_size={self._max_size} bytes")
            if frame.fin:
                payload = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
                self._messages.append(self._complete(payload))

    def _complete(self, payload: bytes) -> str | bytes:
        if self._compressed and self._connection.deflate is not None:
            payload = self._connection.deflate.decompress(payload, self._max_size)
        return payload if self._kind == BINARY else _frames.utf8(payload, "a text message")

    def _handle_close(self, payload: bytes) -> None:
        code, reason = _frames.read_close(payload)
        if not self._sent_close:
            self._write(CLOSE, payload[:2])
            self._sent_close = True
        self._closed = Closed(code, reason)
        try:  # the server ends TCP (RFC 6455 section 7.1.1); nothing may follow its Close frame
            deadline = Deadline.after(self._connection.timeout)
            after = self._connection.frame(deadline, "the end of the connection", watch=False)
        except TimeoutError as error:
            raise ProtocolError("the server sent a Close frame and does not end the connection") from error
        finally:
            self._connection.socket.close()
        if after is not None:
            raise ProtocolError(f"a {_frames.NAMES[after.opcode]} frame follows the Close frame (RFC 6455 section 1.4)")


def _payload(message: object) -> tuple[int, bytes]:
    if isinstance(message, str):
        return TEXT, message.encode()
    if isinstance(message, (bytes, bytearray, memoryview)):
        return BINARY, bytes(message)
    raise TypeError(f"a message must be str or bytes-like, got {type(message).__name__}")


def _control(data: bytes) -> bytes:
    """The payload of a control frame, which is limited."""
    if len(data) > _frames.MAX_CONTROL:
        raise ValueError(f"data must have at most 125 bytes, got {len(data)}")
    return bytes(data)


def _shown(message: str | bytes) -> str:
    kind = "text" if isinstance(message, str) else "binary"
    return f"the {kind} message {message[:100]!r}" + (f"... of {len(message)}" if len(message) > 100 else "")
