"""A client of the dashboard, for its tests."""

from __future__ import annotations

import json
import ssl
import time
from typing import Any

import trustme
from http_client import DEADLINE, Client, read_frame

PAGE, SOCKET = "/_uwserve", "/_uwserve/socket"
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def head(path: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    lines = [f"GET {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def status(server: Any, path: str = PAGE, *fields: str, host: str = "127.0.0.1") -> int:
    with Client(server) as client:
        client.send(head(path, *fields, host=host))
        return client.head().status


class Viewer:
    """A client of the dashboard's socket."""

    def __init__(self, server: Any, path: str = SOCKET, context: Any = None) -> None:
        self.client = Client(server)
        if context:
            self.client.socket = context.wrap_socket(self.client.socket)
        self.client.send(head(path, *HANDSHAKE))
        assert self.client.head().status == 101
        self.hello = self.next()
        assert self.hello["type"] == "hello"

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.socket.close()

    def next(self) -> dict[str, Any]:
        opcode, payload = read_frame(self.client)
        while opcode == 10:  # a Pong
            opcode, payload = read_frame(self.client)
        assert opcode == 1, (opcode, payload)
        told: dict[str, Any] = json.loads(payload)
        return told

    def point(self) -> dict[str, float]:
        """The figures of the next sample that has some, by name."""
        while True:
            if point := self.next()["point"]:
                return dict(zip(self.hello["fields"], point, strict=True))

    def until(self, condition: Any) -> dict[str, Any]:
        """The first sample that ``condition`` is true of."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            told = self.next()
            if condition(told):
                return told
        raise AssertionError(told)


def authority() -> tuple[dict[str, str], Any]:
    """A certificate for a server, and a client's context."""
    issued = trustme.CA().issue_cert("localhost")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems).decode()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return {"key": issued.private_key_pem.bytes().decode(), "cert": chain}, context
