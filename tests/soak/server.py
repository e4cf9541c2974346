"""The server that is soaked: ``server.py`` prints its ports as JSON and runs until SIGTERM.

It does a little of everything: echo, topics, compression, large messages, closes, requests, streams, late answers,
idle timeouts, reloads. Messages are commands; what is none is echoed. ``GET /state`` tells what it holds.
"""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "python" / "support"))

from tls_transport import authority, pem

import uwserve

DEFLATE = {"compress": "dedicated", "decompress": "dedicated"}
SHARED = {"compress": "shared", "decompress": "shared"}


def certificate() -> dict[str, bytes]:
    """A new one each time."""
    return pem(authority().issue_cert("localhost", "127.0.0.1"))


def command(server: uwserve.Server, ws: uwserve.ServerWebSocket, message: str | bytes) -> None:
    if isinstance(message, str) and message.startswith("!"):
        name, _, rest = message[1:].partition(" ")
        if name == "subscribe":
            ws.subscribe(rest)
            ws.send(f"subscribed {rest}")
        elif name == "unsubscribe":
            ws.unsubscribe(rest)
        elif name == "publish":
            topic, _, text = rest.partition(" ")
            server.publish(topic, text)
        elif name == "large":
            ws.send(b"l" * int(rest))
        elif name == "close":
            ws.close(int(rest), "as asked")
        elif name == "terminate":
            ws.terminate()
        elif name == "pause":
            ws.pause()
            ws.resume()
    else:
        ws.send(message, compress=True)


class Served:
    """One server; each reload gives it new handlers, and a new certificate if it has one."""

    def __init__(self, name: str, deflate: Any, tls: bool) -> None:
        self.name, self.deflate, self.tls, self.reloads = name, deflate, tls, 0
        options: dict[str, Any] = {"tls": certificate()} if tls else {}
        self.server = uwserve.serve(
            hostname="127.0.0.1",
            port=0,
            idle_timeout=8,
            fetch=self.fetch,
            routes={
                "/hello/:name": lambda request: f"hello {request.params['name']}",
                "/static": uwserve.Response("s"),
            },
            max_request_body_size=1 << 20,
            websocket=self.handlers(),
            **options,
        )

    def handlers(self) -> dict[str, Any]:
        number = self.reloads
        handlers: dict[str, Any] = {
            "open": lambda ws: ws.subscribe("all") and setattr(ws, "data", (number, ws)),
            "message": lambda ws, message: command(self.server, ws, message),
            "close": lambda ws, code, reason: self.server.publish("left", reason),
            "drain": lambda ws: None,
            "idle_timeout": 16,
            "max_payload_length": 1 << 20,
            "backpressure_limit": 4 << 20,
            "protocols": ["one", "two"],
        }
        return handlers | ({"per_message_deflate": self.deflate} if self.deflate else {})

    def reload(self) -> None:
        self.reloads += 1
        options: dict[str, Any] = {"tls": certificate()} if self.tls else {}
        self.server.reload(websocket=self.handlers(), fetch=self.fetch, **options)

    def later(self, request: Any) -> Any:
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        timer = threading.Timer(0.01, lambda: self.server.call_soon(answer.set_result, {"path": request.path}))
        timer.daemon = True
        timer.start()
        return answer

    def fetch(self, request: Any, server: uwserve.Server) -> Any:
        if request.path == "/ws":
            return None if server.upgrade(request, headers={"X-Soak": "1"}) else uwserve.Response("no", 400)
        if request.path == "/later":
            return self.later(request)
        if request.path == "/stream":
            return uwserve.Response(iter([b"piece"] * 50))
        if request.path == "/reload":
            for one in served:  # from this loop's thread, of servers that run in others
                one.reload()
            return "reloaded"
        if request.path == "/state":
            return state()
        return uwserve.Response(request.body or b"page", headers={"X-Soak": "1"})


served: list[Served] = []


def state() -> dict[str, Any]:
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        private = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    return {
        "private_kib": private,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": len(gc.get_objects()),
        "handles": uwserve._core.live_handles(),
        "websockets": sum(one.server.pending_websockets for one in served),
        "requests": sum(one.server.pending_requests for one in served),
        "threads": threading.active_count(),
        "refused": sum(sum(getattr(one.server, "refused", {}).values()) for one in served),
    }


def main() -> None:
    # What the clients do wrong is reported, as it should be; anything else that is logged fails the soak.
    logging.getLogger("uwserve").addFilter(lambda record: not record.getMessage().startswith("refused"))
    kinds: list[tuple[str, Any, bool]] = [
        ("ws", None, False),
        ("ws, deflate", DEFLATE, False),
        ("ws, shared", SHARED, False),
        ("wss", None, True),
        ("wss, deflate", DEFLATE, True),
    ]
    served.extend(itertools.starmap(Served, kinds))
    for one in served[1:]:
        one.server.start()
    ports = [
        {"name": one.name, "port": one.server.port, "deflate": bool(one.deflate), "tls": one.tls} for one in served
    ]
    print(json.dumps({"pid": os.getpid(), "servers": ports}), flush=True)
    served[0].server.run()
    for one in served[1:]:
        one.server.stop(True).wait(10)


if __name__ == "__main__":
    main()
