"""What the table of ``vectors.py`` is written with: the record, and short ways to write one."""

from __future__ import annotations

from typing import Any, NamedTuple

from ws_client import BINARY, CONT, PING, PONG, TEXT, close_frame, close_payload, frame

# Options of ``websocket`` under which a vector holds.
SERVERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "small": {"max_payload_length": 20},
    "deflate": {
        "per_message_deflate": {"compress": "dedicated", "decompress": "dedicated"},
        "max_payload_length": 100_000,
    },
}
OFFER = (("Sec-WebSocket-Extensions", "permessage-deflate"),)

EVENT_OF = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}
OPCODE_OF = {name: opcode for opcode, name in EVENT_OF.items()}

Event = tuple[str, bytes]


class Vector(NamedTuple):
    group: str
    name: str
    sent: bytes
    events: tuple[Event, ...]
    code: int  # what the close callback gets
    reason: str | None  # the same; None: some text that is not empty
    wire: bytes | int | None  # payload of the server's Close frame, or its code alone; None: it sends none
    server: str = "plain"
    fin: bool = False  # the client ends its side behind `sent`

    @property
    def answers(self) -> list[tuple[int, bytes]]:
        """(opcode, payload) of the frames that come back before the Close frame."""
        back = {"text": TEXT, "binary": BINARY, "ping": PONG}
        return [(back[kind], data) for kind, data in self.events if kind in back]


# --- ways to write one ---

END = close_frame(1000, "end")
LATER = frame(TEXT, "later") + frame(PING, b"later") + END  # behind a violation: never seen


def good(group: str, name: str, sent: bytes, *events: Event, server: str = "plain") -> Vector:
    """No violation: a closing handshake ends it."""
    return Vector(group, name, sent + END, events, 1000, "end", close_payload(1000, "end"), server)


def bad(
    group: str, name: str, sent: bytes, *events: Event, code: int = 1002, server: str = "plain", open_end: bool = False
) -> Vector:
    """A violation: `events` come from before it. Unless `sent` stops inside a frame, more frames follow in vain."""
    return Vector(group, name, sent + (b"" if open_end else LATER), events, code, None, code, server)


def text(data: str | bytes) -> Event:
    return "text", data.encode() if isinstance(data, str) else data


def binary(data: bytes) -> Event:
    return "binary", data


def ping(data: bytes = b"") -> Event:
    return "ping", data


def pong(data: bytes = b"") -> Event:
    return "pong", data


def fragments(opcode: int, *parts: str | bytes, rsv: int = 0) -> list[bytes]:
    """The frames of one message."""
    last = len(parts) - 1
    return [
        frame(opcode if i == 0 else CONT, part, fin=i == last, rsv=rsv if i == 0 else 0) for i, part in enumerate(parts)
    ]


def head(opcode: int, length: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = b"\1\2\3\4") -> bytes:
    """A frame header with its length field as given: first byte without the mask bit."""
    return bytes([(0x80 if fin else 0) | rsv << 4 | opcode, 0x80 | length[0]]) + length[1:] + mask
