"""A client of the dashboard, for its tests."""

from __future__ import annotations

import json
import re
import ssl
import time
from typing import Any

import trustme
from http_client import DEADLINE, Client

PAGE, STREAM = "/_uwserve", "/_uwserve/stream"


def head(path: str, *fields: str, host: str = "127.0.0.1") -> bytes:
    lines = [f"GET {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def status(server: Any, path: str = PAGE, *fields: str, host: str = "127.0.0.1") -> int:
    with Client(server) as client:
        client.send(head(path, *fields, host=host))
        return client.head().status


class Viewer:
    """A client of the dashboard's stream."""

    def __init__(self, server: Any, path: str = STREAM, *fields: str, context: Any = None) -> None:
        self.client = Client(server)
        if context:
            self.client.socket = context.wrap_socket(self.client.socket)
        self.client.send(head(path, *fields))
        reply = self.client.head()
        assert (reply.status, reply.get("Content-Type")) == (200, "text/event-stream")
        assert (reply.get("Cache-Control"), reply.get("X-Accel-Buffering")) == ("no-store", "no")
        self.hello = self.next()
        assert self.hello["type"] == "hello"

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.socket.close()

    def _event(self) -> bytes:
        """The data of the next one, which is a chunk of its own; b"" at the end of the stream."""
        chunk = self.client.read_exactly(int(self.client.read_until(b"\r\n"), 16))
        assert self.client.read_exactly(2) == b"\r\n"
        if not chunk:
            return b""
        match = re.fullmatch(rb"data: (.+)\n\n", chunk)
        assert match, chunk
        return match[1]

    def next(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._event())
        return told

    def until_the_end(self) -> None:
        """Read until the stream is complete: neither cut off nor silent."""
        while self._event():
            pass

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
