"""Sockets for the clients: TCP, unix and TLS, and the server that a URL names."""

from __future__ import annotations

import socket
import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT = 10.0
"""Default of every wait, in seconds."""


class Deadline(NamedTuple):
    """The end of a wait, on the monotonic clock, and its full length."""

    end: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    @property
    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())


class Target(NamedTuple):
    """The address of a server and the TLS settings to reach it."""

    address: tuple[str, int] | str | bytes
    """Host and port, or the path of a unix socket."""
    host: str
    """The value of the field ``Host``."""
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    """The name that the server's certificate must have, and that the client sends as SNI."""

    def with_tls(self, context: ssl.SSLContext | None, server_hostname: str | None) -> Target:
        """The same server with these settings, if they are given."""
        changed = self if context is None else self._replace(tls=context)
        return changed if server_hostname is None else changed._replace(server_hostname=server_hostname)

    def __str__(self) -> str:
        return self.host if isinstance(self.address, tuple) else repr(self.address)


def target_of(url: str) -> tuple[Target, str]:
    """The server and the request target of a ws, wss, http or https URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise ValueError(f"url must be ws://..., wss://..., http://... or https://..., got {url!r}")
    secure = parts.scheme in ("wss", "https")
    context = ssl.create_default_context() if secure else None
    address = (parts.hostname, parts.port or (443 if secure else 80))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(address, parts.netloc.rpartition("@")[2], context, parts.hostname), path


def dial(target: Target, timeout: float) -> socket.socket:
    """A connected socket, TLS included, whose operations time out after ``timeout`` seconds."""
    if isinstance(target.address, tuple):
        sock = socket.create_connection(target.address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
    try:
        if not isinstance(target.address, tuple):
            sock.connect(target.address)
        return sock if target.tls is None else target.tls.wrap_socket(sock, server_hostname=target.server_hostname)
    except BaseException:
        sock.close()
        raise
