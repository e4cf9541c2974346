"""Real clients under every compression setting: websockets and aiohttp, which keep their decompressor for good."""

from __future__ import annotations

import asyncio
import os
import zlib
from typing import Any

import aiohttp
import pytest
import tls_transport
from deflate_client import RSV1, TAIL, echo_maker
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from ws_client import BINARY, CLOSE, frame

pytestmark = pytest.mark.wss

JSON = '{"id": 12345, "user": "alice", "price": 99.95, "active": true, "tags": ["red", "green", "blue"]}'
MESSAGES = [
    "",
    "x",
    JSON,
    JSON,
    JSON * 11,
    "ü€😀" * 5000,
    os.urandom(20_000).hex(),
    b"",
    b"\0",
    JSON.encode() * 3,
    bytes(100_000),
    os.urandom(300),
    os.urandom(100_000),
    os.urandom(40_000) + bytes(100_000) + os.urandom(40_000),
    b"ab" * 60_000,
    JSON * 2000,
    JSON,
]
SIZES = [f"{n}KB" for n in (3, 4, 8, 16, 32, 64, 128, 256)]
SETTINGS: list[Any] = [
    False,
    True,
    {"compress": "dedicated", "decompress": "dedicated"},
    {"compress": "dedicated", "decompress": "shared"},
    {"compress": "shared", "decompress": "dedicated"},
    {"compress": "disable", "decompress": "shared"},
    {"compress": "shared", "decompress": "disable"},
    *({"compress": size, "decompress": size} for size in SIZES),
    *({"compress": size, "decompress": "shared"} for size in SIZES[::3]),
    *({"compress": "shared", "decompress": size} for size in SIZES[::3]),
]


def name_of(setting):
    return f"{setting['compress']}-{setting['decompress']}" if isinstance(setting, dict) else str(setting)


@pytest.fixture(params=SETTINGS, ids=name_of)
def live(request, serving):
    """Sends each message back, then publishes it to its topic, where its sender is too."""

    def message(ws, message):
        ws.send(message, compress=True)
        ws.server.publish("all", message)

    return serving(
        open=lambda ws: ws.subscribe("all"),
        message=message,
        per_message_deflate=request.param,
        max_payload_length=1 << 20,
    )


def address(live, scheme):
    secure = "s" if tls_transport.enabled() else ""
    return f"{scheme}{secure}://localhost:{live.server.port}/"


def context():
    return tls_transport.client_context() if tls_transport.enabled() else None


async def conversation(send, receive):
    """Twice: a repeated message may be sent as little more than a reference to the first."""
    for message in MESSAGES * 2:
        await send(message)
        for _ in range(2):  # sent, and published
            assert await receive() == message


@pytest.mark.parametrize(
    "offer",
    [
        {"client_max_window_bits": True},
        {"client_max_window_bits": 9, "server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 10, "compress_settings": {"memLevel": 1, "level": 1}},
    ],
    ids=["usual", "no context", "small window"],
)
def test_websockets(live, offer):
    async def main():
        extension = ClientPerMessageDeflateFactory(**offer)
        where = {"uri": address(live, "ws"), "ssl": context(), "compression": None, "extensions": [extension]}
        async with connect(**where, max_size=None, ping_interval=None) as ws:

            async def in_pieces(message):
                half, third = len(message) // 2, len(message) // 3
                await ws.send([message[:third], message[third:half], message[:0], message[half:]])

            await conversation(ws.send, ws.recv)
            await conversation(in_pieces, ws.recv)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("window", [9, 15])
def test_aiohttp(live, window):
    async def main():
        async with aiohttp.ClientSession() as session:
            where = {"ssl": context()} if tls_transport.enabled() else {}
            async with session.ws_connect(address(live, "http"), compress=window, max_msg_size=0, **where) as ws:

                async def send(message):
                    await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))

                async def receive():
                    return (await ws.receive(10)).data

                await conversation(send, receive)

    asyncio.run(asyncio.wait_for(main(), 60))


# --- the limit, and messages that compression makes longer ---


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("setting", [True, {"compress": "dedicated", "decompress": "dedicated"}], ids=name_of)
@pytest.mark.parametrize("size", [1, 125, 65_536, 1 << 20])
def test_an_incompressible_message_of_exactly_the_limit(serving, size, setting, pieces):
    """It is what comes out that counts (RFC 7692 7.2.2), whatever the client's compressor has made of it."""
    for level, memory in ((0, 8), (1, 1), (6, 8)):
        for excess in (0, 1):
            _, client = echo_maker(serving)(setting, max_payload_length=size)
            compressor = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
            message = os.urandom(size + excess)
            packed = (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
            assert len(packed) > len(message)
            cut = [len(packed) * i // pieces for i in range(pieces + 1)]
            for i in range(pieces):
                part = packed[cut[i] : cut[i + 1]]
                client.send_raw(frame(0 if i else BINARY, part, fin=i == pieces - 1, rsv=0 if i else RSV1))
            if excess:
                assert client.read_frame().opcode == CLOSE
                continue
            assert client.read_message() == message
