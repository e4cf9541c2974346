"""PROXY headers as a proxy sends them, for the tests."""

from __future__ import annotations

import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31


def v1(source: str = "192.0.2.1", port: int = 12345) -> bytes:
    """A version 1 line for a client at ``source``."""
    family, destination = ("TCP6", "2001:db8::2") if ":" in source else ("TCP4", "198.51.100.2")
    return f"PROXY {family} {source} {destination} {port} 443\r\n".encode()


def binary(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    """A version 2 header of these parts; ``length`` lies about the size of ``rest``."""
    size = len(rest) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", size) + rest


def v2(source: str = "192.0.2.1", port: int = 12345, values: bytes = b"") -> bytes:
    """A version 2 header for a client at ``source``, with type-length-values behind the addresses."""
    ports = struct.pack("!HH", port, 443)
    if ":" in source:
        return binary(PROXY, TCP6, socket.inet_pton(socket.AF_INET6, source) + bytes(16) + ports + values)
    return binary(PROXY, TCP4, socket.inet_aton(source) + bytes(4) + ports + values)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value
