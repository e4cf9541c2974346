"""Writes the fuzz targets' first inputs from the protocol vectors: ``seeds.py FOLDER`` makes FOLDER/<target>/*.

The formats are those that the comments at the top of the targets give.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python" / "support"))

import vectors  # noqa: E402
from vector_shapes import Vector  # noqa: E402
from ws_client import handshake  # noqa: E402

HEADS = (
    handshake(),
    handshake("/chat?a=b", extra=(("Sec-WebSocket-Protocol", "one, two"),)),
    handshake(extra=(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits, x; y=1"),)),
    handshake(replace={"connection": "keep-alive, Upgrade", "upgrade": "WebSocket, h2c"}),
    handshake(replace={"sec-websocket-version": "8"}),
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nConnection: close\r\n\r\n",
    b"GET /\t HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/2.0\r\nHost : x\r\n\r\n",
)

CHUNKED = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET",
    b'00aF;name="a;b"; c\r\n' + bytes(0xAF) + b"\r\n0;x\r\nA: b\r\nC: d\r\n\r\n",
    b"5 ;a\r\nhello\r\n0\t;b\r\n\r\n",
    b"5;\nxx\r\n4c\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"ffffffffffffffff\r\nx",
    b"5\r\nhello0\r\n\r\n",
    b"0\r\nA: b\n\r\n",
)

OFFERS = (
    b"permessage-deflate",
    b"permessage-deflate; client_max_window_bits",
    b"permessage-deflate; client_max_window_bits=8; server_max_window_bits=15",
    b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    b'permessage-deflate; server_max_window_bits="10", permessage-deflate',
    b"x-webkit-deflate-frame\npermessage-deflate; server_max_window_bits=9",
    b"permessage-deflate; server_max_window_bits=16, permessage-deflate; unknown=1",
    b"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXIES = (
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET /",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
    b"PROXY UNKNOWN ffff::1 whatever\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 056324 70000\r\n",
    SIGNATURE + b"\x21\x11\0\x0c" + bytes(range(12)) + b"GET /",
    SIGNATURE + b"\x21\x21\0\x24" + bytes(range(36)),
    SIGNATURE + b"\x20\0\0\0",
    SIGNATURE + b"\x21\x11\0\x13" + bytes(12) + b"\3\0\4abcd",
    SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
)

# fuzz_server's operations (client 0).
CONNECT, UPGRADE, RAW, TURN, HEAR, LEAVE, FINISH = b"\0", b"\1", b"\3", b"\6", b"\x08", b"\x09", b"\x0a"


def raw(data: bytes, step: int = 0) -> bytes:
    return RAW + bytes([step]) + len(data).to_bytes(2, "big") + data


def conversation(vector: Vector) -> bytes:
    return UPGRADE + TURN + raw(vector.sent, len(vector.sent) % 9) + TURN + HEAR + TURN


def crowd(number: int) -> bytes:
    """fuzz_server: requests, then three sockets; messages whole, compressed, in fragments and both; a bad network."""
    web = CONNECT + raw(HEADS[6] + HEADS[7] + HEADS[0], number % 5) + TURN + HEAR + b"\x0f" + TURN
    sockets = b"".join(bytes([0x01 | i << 4 | (i + number) % 4 << 6]) + TURN for i in range(1, 4))
    text = b"P" + bytes(range(97, 123)) * 3
    frames = b"".join(
        bytes([0x04 | (1 + i % 3) << 4 | i % 4 << 6, 0x81 + i % 2, i * 7 % 50, len(text)]) + text + TURN
        for i in range(8)
    )
    large = b"".join(bytes([0x05 | (1 + i) << 4 | i << 6, 0x82, 65 + number, 3, 232]) + TURN for i in range(3))
    acts = b"".join(
        bytes([0x04 | 1 << 4, 0x81, 0, 2]) + act + b"x" + TURN for act in (b"L", b"G", b"S", b"U", b"A", b"O")
    )
    network = (
        bytes([0x0B, 7])
        + TURN
        + bytes([0x0C, 1 + number, number % 8])
        + TURN
        + bytes([0x42 | 2 << 4, 3, 4])
        + b"\x17\3\3\0"
    )
    return web + sockets + frames + large + acts + network + TURN * 3 + b"\x5a\x1e\x03" + TURN


def messages(settings: int, vector: Vector) -> bytes:
    """fuzz_deflate: the payloads of the events, compressed and plain."""
    parts = [vectors.deflated(data) for _, data in vector.events] + [data[:999] for _, data in vector.events]
    return bytes([settings % 256]) + b"\x40\0" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def seeds() -> dict[str, list[bytes]]:
    plain = [vector for vector in vectors.VECTORS if vector.server != "deflate" and len(vector.sent) < 2000]
    squeezed = [vector for vector in vectors.VECTORS if vector.server == "deflate" and len(vector.sent) < 2000]
    return {
        "http_head": [bytes([i * 5]) + head for i, head in enumerate(HEADS)],
        "utf8": [
            *(b"\1\2" + value.encode() for value in vectors.VALID_UTF8),
            *(b"\0" + "né ".encode() * 30 + before + bad for _, before, bad in vectors.INVALID_UTF8),
        ],
        "ws_frame": [b"\2\1\x20\0" + vector.sent for vector in plain],
        "chunked_body": [cuts + body for cuts in (b"\0\0\0\0", b"\1\x85\3\x80") for body in CHUNKED],
        "extensions": [bytes([i * 13]) + offer for i, offer in enumerate(OFFERS)],
        "deflate": [messages(17 * i, vector) for i, vector in enumerate(squeezed)],
        "proxy": list(PROXIES),
        "server": [
            *(bytes([i % 2]) + talk for i, talk in enumerate(map(conversation, plain))),
            *(bytes([i % 32]) + talk for i, talk in enumerate(map(conversation, squeezed))),
            *(bytes([i % 2]) + CONNECT + raw(head, i) + TURN + HEAR + FINISH + TURN for i, head in enumerate(HEADS)),
            *(bytes([i]) + crowd(i) for i in range(32)),
        ],
    }


def main(folder: Path) -> None:
    for target, inputs in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / target / f"{number:04}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
