"""Writes the fuzz targets' first inputs from the protocol vectors: ``seeds.py FOLDER`` makes FOLDER/<target>/*.

The formats are those that the comments at the top of the targets give.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))

import vectors  # noqa: E402
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

# fuzz_server's operations (client 0).
CONNECT, UPGRADE, RAW, TURN, HEAR, LEAVE, FINISH = b"\0", b"\1", b"\3", b"\6", b"\x08", b"\x09", b"\x0a"


def raw(data: bytes, step: int = 0) -> bytes:
    return RAW + bytes([step]) + len(data).to_bytes(2, "big") + data


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
        "server": [
            *(UPGRADE + TURN + raw(vector.sent, i % 9) + TURN + HEAR + TURN for i, vector in enumerate(plain)),
            *(UPGRADE + TURN + raw(vector.sent, i % 9) + TURN + HEAR + TURN for i, vector in enumerate(squeezed)),
            *(CONNECT + raw(head, i) + TURN + HEAR + FINISH + TURN for i, head in enumerate(HEADS)),
        ],
    }


def main(folder: Path) -> None:
    for target, inputs in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / target / f"{number:04}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
