"""permessage-deflate, the client's half (RFC 7692)."""

from __future__ import annotations

import zlib

from ._errors import ProtocolError

OFFER = "permessage-deflate; client_max_window_bits"
TAIL = b"\0\0\xff\xff"
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
WINDOWS = ("server_max_window_bits", "client_max_window_bits")


class Deflate:
    """The negotiated parameters and the two streams. ``ProtocolError`` for an answer that the offer does not allow."""

    def __init__(self, answer: str) -> None:
        name, *parameters = (part.strip() for part in answer.split(";"))
        agreed: dict[str, str] = {}
        for parameter in parameters:
            key, _, value = (part.strip() for part in parameter.partition("="))
            if key in agreed or key not in (*FLAGS, *WINDOWS) or (key in FLAGS) == bool(value):
                raise ProtocolError(f"the server answered the extension {answer!r} (RFC 7692 section 7.1)")
            agreed[key] = value
        if name != "permessage-deflate":
            raise ProtocolError(f"the server answered the extension {answer!r}, which was not offered")
        self._server_bits, self._client_bits = (self._bits(agreed.get(key, "15"), answer) for key in WINDOWS)
        self._forgets_received, self._forgets_sent = (key in agreed for key in FLAGS)
        self._start_inflating()
        self._start_deflating()

    @staticmethod
    def _bits(value: str, answer: str) -> int:
        if not value.isdecimal() or not 8 <= int(value) <= 15 or value != str(int(value)):
            raise ProtocolError(f"the server answered the extension {answer!r}: a window has 8 to 15 bits")
        return int(value)

    def _start_inflating(self) -> None:
        self._inflate = zlib.decompressobj(-self._server_bits)

    def _start_deflating(self) -> None:
        # zlib's raw streams need at least 9 bits. Stored blocks have no back references, so they fit a window of 8.
        level = zlib.Z_DEFAULT_COMPRESSION if self._client_bits > 8 else 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -max(9, self._client_bits))

    def compress(self, payload: bytes) -> bytes:
        """The compressed payload of one message (section 7.2.1)."""
        data = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        if self._forgets_sent:
            self._start_deflating()
        return data.removesuffix(TAIL)

    def decompress(self, payload: bytes, max_size: int) -> bytes:
        """The message from the payloads of its frames (section 7.2.2)."""
        try:
            message = self._inflate.decompress(payload + TAIL, max_size + 1)
        except zlib.error as error:
            raise ProtocolError(f"a compressed message cannot be decompressed: {error}") from None
        if len(message) > max_size:
            raise ProtocolError(f"a message inflates to more than max_size={max_size} bytes")
        if self._forgets_received or self._inflate.eof:  # a final block ends the stream; the next message starts one
            self._start_inflating()
        return message
