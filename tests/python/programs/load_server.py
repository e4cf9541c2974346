"""A server for the load generator's tests, right or with one fault in each hundred messages.

Arguments: ``[FAULT] [--tls CERT KEY] [--deflate] [--limit BYTES]``, the last for what may wait for a subscriber.

``/`` echoes, ``/sub/NAME`` gets what is published to a topic, ``/pub/NAME`` publishes. Prints its port, serves until it
is ended.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import uwserve

EVERY = 101


def altered(message: str | bytes) -> str | bytes:
    """The same, but for its last character."""
    if isinstance(message, str):
        return message[:-1] + ("y" if message[-1] != "y" else "z")
    return message[:-1] + bytes([message[-1] ^ 1])


class Faults:
    """What is sent for a message, in order, once it is the turn of the fault."""

    def __init__(self, fault: str | None) -> None:
        self.fault = fault
        self.count = itertools.count(1)
        self.kept: dict[int, str | bytes] = {}  # by connection: what comes after the next one

    def sends(self, connection: int, message: str | bytes) -> list[str | bytes]:
        if connection in self.kept:
            return [message, self.kept.pop(connection)]
        if self.fault is None or next(self.count) % EVERY:
            return [message]
        if self.fault == "reorder":
            self.kept[connection] = message
            return []
        others = {
            "alter": [altered(message)],
            "drop": [],
            "duplicate": [message, message],
            "shorten": [message[:-1]],
            "retype": [message.encode() if isinstance(message, str) else message.decode("latin-1")],
        }
        return others[self.fault]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("fault", nargs="?", choices=["alter", "drop", "duplicate", "reorder", "shorten", "retype"])
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--limit", type=int, default=1 << 24)
    return parser.parse_args()


arguments = parse()
faults = Faults(arguments.fault)


def fetch(request: uwserve.Request, server: uwserve.Server) -> uwserve.Response | None:
    _, kind, name = f"{request.path}/".split("/", 2)
    if server.upgrade(request, data=(kind, name.rstrip("/"))):
        return None
    return uwserve.Response("a WebSocket lives here", 426)


def open(ws: uwserve.ServerWebSocket) -> None:
    kind, name = ws.data
    if kind == "sub":
        ws.subscribe(name)


def message(ws: uwserve.ServerWebSocket, message: str | bytes) -> None:
    kind, name = ws.data
    for sent in faults.sends(ws.id, message):
        if kind == "pub":
            server.publish(name, sent, compress=arguments.deflate)
        else:
            ws.send(sent, compress=arguments.deflate)


options: dict[str, Any] = {}
if arguments.tls:
    options["tls"] = {"cert": arguments.tls[0], "key": arguments.tls[1]}
server = uwserve.serve(
    fetch=fetch,
    port=0,
    hostname="127.0.0.1",
    websocket={
        "open": open,
        "message": message,
        "per_message_deflate": arguments.deflate,
        "max_payload_length": 1 << 26,
        "backpressure_limit": arguments.limit,
    },
    **options,
)
print(server.port, flush=True)
server.run()
