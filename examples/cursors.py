"""A board on which everybody sees everybody's cursor and strokes, live.

Positions come many times a second, so they are binary and small: the sender's number (added here), what it is (1 move,
2 stroke), and x and y as fractions of the board, 16 bits each. ``ws.publish`` sends them to all but the sender; a
client that is too slow misses some (``backpressure_limit`` is low), which nobody sees: the next one says it all again.

PORT=3000 python examples/cursors.py, then open http://localhost:3000/ in two windows side by side.
"""

import json
import os
import struct
from pathlib import Path

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve

PAGE = Path(__file__).with_name("cursors.html")
FROM_CLIENT = struct.Struct("!BHH")
TO_CLIENT = struct.Struct("!IBHH")
MOVE, STROKE = 1, 2
TOPIC = "board"


class Board(WebSocketHandler):
    max_payload_length = FROM_CLIENT.size
    backpressure_limit = 64 * 1024

    def __init__(self) -> None:
        self.here: set[int] = set()

    def open(self, ws: ServerWebSocket) -> None:
        ws.send_text(json.dumps({"type": "welcome", "you": ws.id, "others": sorted(self.here)}))
        self.here.add(ws.id)
        ws.subscribe(TOPIC)
        ws.publish_text(TOPIC, json.dumps({"type": "came", "who": ws.id}))

    def message(self, ws: ServerWebSocket, message: str | bytes) -> None:
        if isinstance(message, str) or len(message) != FROM_CLIENT.size or message[0] not in (MOVE, STROKE):
            ws.close(1008, "five bytes are wanted")
            return
        ws.publish_binary(TOPIC, TO_CLIENT.pack(ws.id & 0xFFFFFFFF, *FROM_CLIENT.unpack(message)))

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        self.here.discard(ws.id)
        ws.publish_text(TOPIC, json.dumps({"type": "left", "who": ws.id}))


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    return Response(PAGE.read_text(encoding="utf-8"), headers={"Content-Type": "text/html;charset=utf-8"})


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket=Board(), port=port, hostname="127.0.0.1") as server:
        print(f"cursors on {server.url}", flush=True)
        server.run()
