"""Compression (permessage-deflate, RFC 7692): when it is worth it, what it costs, and what it has saved.

"dedicated" for ``compress`` keeps a compressor for each client, so that messages that are like those before shrink
most; it costs memory for each one, "shared" costs none. Nothing is compressed unless it is asked for: here what is long
enough, since a short message gains nothing, and not what is compressed already, as pictures are.

PORT=3000 python examples/compression.py; ws://localhost:3000/ sends a report for any text, http://localhost:3000/ tells
what compression has saved until now.
"""

import json
import os
from typing import Any

from uwserve import Request, Server, ServerWebSocket, WebSocketHandler, serve

WORTH_IT = 200
"""Bytes below which compressing costs more time than it saves."""


def report(subject: str) -> str:
    """Some JSON of the kind that compresses well: the same keys again and again."""
    rows = [{"subject": subject, "station": f"S{n:03}", "temperature": n % 40 / 2, "valid": True} for n in range(100)]
    return json.dumps(rows)


class Reports(WebSocketHandler):
    per_message_deflate = {"compress": "dedicated", "decompress": "shared"}  # noqa: RUF012, an option, not a variable

    def message(self, ws: ServerWebSocket, message: str | bytes) -> None:
        if isinstance(message, bytes):  # a picture, say
            ws.send_binary(message)
            return
        text = report(message) if message else "what about?"
        ws.send_text(text, compress=len(text) >= WORTH_IT)


def fetch(request: Request, server: Server) -> dict[str, Any] | None:
    """How many messages of how many bytes have become how many."""
    if server.upgrade(request):
        return None
    sent = server.stats()["sent"]
    plain, compressed = sent["uncompressed_bytes"], sent["compressed_bytes"]
    return {
        "messages": sent["messages"],
        "compressed_messages": sent["compressed_messages"],
        "bytes_before": plain,
        "bytes_after": compressed,
        "saved": f"{1 - compressed / plain:.0%}" if plain else "nothing yet",
    }


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket=Reports(), port=port, hostname="127.0.0.1") as server:
        print(f"compression on {server.url}", flush=True)
        server.run()
