"""The dashboard and clients without an address: unknown is neither this machine nor a unix socket."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from dashboard_client import PAGE, STREAM, head
from http_client import Client, running
from proxy_headers import LOCAL, PROXY, TCP4, UDP4, UNIX, UNSPEC, binary, v1, v2

pytestmark = pytest.mark.plain("a PROXY header comes before TLS")

NOBODY = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n",
    binary(LOCAL, UNSPEC, b""),
    binary(LOCAL, TCP4, b"\x7f\0\0\1" + bytes(8)),
    binary(PROXY, UNSPEC, b""),
    binary(PROXY, UDP4, b"\x7f\0\0\1" + bytes(8)),
    binary(PROXY, UNIX, bytes(216)),
]


@pytest.mark.parametrize("header", NOBODY, ids=[repr(header[:20]) for header in NOBODY])
def test_a_proxy_header_that_names_nobody(header: bytes, caplog: Any, tmp_path: Path) -> None:
    """From a proxy on this machine, and from one on a unix socket; whatever ``allow`` says."""
    caplog.set_level(logging.INFO, logger="uwserve")
    everybody = {"allow": ["0.0.0.0/0", "::/0", "unix"]}
    for dashboard in (True, everybody):
        with running(dashboard=dashboard, trusted_proxies=["127.0.0.1"], proxy_protocol=True) as server:
            for asked in (head(PAGE), head(STREAM), head(PAGE, "X-Forwarded-For: 127.0.0.1")):
                with Client(server) as client:
                    client.send(header + asked)
                    assert client.head().status == 404, asked
            with Client(server) as client:
                client.send(v1("127.0.0.1") + head(PAGE))
                assert client.head().status == 200
    path = str(tmp_path / "s")
    with (
        running(unix=path, dashboard=everybody, trusted_proxies=["unix"], proxy_protocol=True),
        Client(path) as client,
        Client(path) as named,
    ):
        client.send(header + head(PAGE))
        assert client.head().status == 404
        named.send(v2("192.0.2.1") + head(PAGE))
        assert named.head().status == 200
    assert any("names no client" in message for message in caplog.messages)
