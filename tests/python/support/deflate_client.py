"""A client that speaks permessage-deflate (RFC 7692) by zlib, under its own control, and tells what was compressed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from ws_client import BINARY, TEXT, Client, frame

TAIL = b"\x00\x00\xff\xff"
RSV1 = 4


def deflate(data: bytes, window: int = 15, compressor: Any = None) -> bytes:
    """One message, by itself or with the context of ``compressor``."""
    compressor = compressor or zlib.compressobj(6, zlib.DEFLATED, -window)
    packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(TAIL)
    return packed[:-4]


class DeflateClient(Client):
    """What was agreed is read off the server's answer; windows can be set smaller than that, to hold it to its word."""

    def __init__(self, address: Any, path: str = "/", *, offer: str = "permessage-deflate", **options: Any) -> None:
        super().__init__(address, path, extra=(("Sec-WebSocket-Extensions", offer),), **options)
        assert self.answer
        self.extensions = self.answer.get("sec-websocket-extensions")
        parts = [part.strip() for part in (self.extensions or "").split(";")]
        self.agreed = {name: value for name, _, value in (part.partition("=") for part in parts)}
        self.window = int(self.agreed.get("server_max_window_bits", 15))
        self.server_context = "server_no_context_takeover" not in self.agreed
        self.client_context = "client_no_context_takeover" not in self.agreed
        self.client_window = max(9, int(self.agreed.get("client_max_window_bits", 15)))
        self._inflater = zlib.decompressobj(-self.window)
        self._deflater = zlib.compressobj(6, zlib.DEFLATED, -self.client_window)

    def deflate(self, data: bytes | str) -> bytes:
        data = data.encode() if isinstance(data, str) else data
        return deflate(data, compressor=self._deflater if self.client_context else None)

    def send_deflated(self, data: bytes | str) -> int:
        """Sends one message in one frame; returns how many bytes its payload was."""
        payload = self.deflate(data)
        self.send_raw(frame(TEXT if isinstance(data, str) else BINARY, payload, rsv=RSV1))
        return len(payload)

    def read_packed(self) -> tuple[str | bytes, int | None]:
        """The next message and the size that it had when compressed; None: it came plain."""
        got = self.read_frame()
        assert got.fin, got[:1]
        assert got.opcode in (TEXT, BINARY), got
        payload, size = got.payload, None
        if got.rsv:
            assert got.rsv == RSV1, got.rsv
            assert payload, "an empty message must not be compressed"
            payload, size = self.inflate(payload), len(payload)
        return (payload.decode() if got.opcode == TEXT else payload), size

    def inflate(self, payload: bytes) -> bytes:
        inflater = self._inflater if self.server_context else zlib.decompressobj(-self.window)
        return inflater.decompress(payload + TAIL)

    def read_message(self) -> str | bytes:
        return self.read_packed()[0]


def opener(live: Any) -> Callable[..., tuple[DeflateClient, Any]]:
    """``open(offer)``: a client of ``live`` and the server's socket for it."""

    def open_(offer: str = "permessage-deflate", **options: Any) -> tuple[DeflateClient, Any]:
        client = DeflateClient(live.address, offer=offer, **options)
        live.clients.append(client)
        return client, live.expect("open")[0]

    return open_


def echo_maker(serving: Any) -> Callable[..., tuple[Any, DeflateClient]]:
    """``make(option, offer)``: a client of a server that sends each message back, compressed when it can."""

    def make(option: Any = True, offer: str = "permessage-deflate", **options: Any) -> tuple[Any, DeflateClient]:
        live = serving(per_message_deflate=option, message=lambda ws, m: ws.send(m, compress=True), **options)
        client, _ = opener(live)(offer)
        return live, client

    return make
