"""Who may look at the dashboard: by network, and not by way of another site or of a proxy that nobody named."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from dashboard_client import PAGE, STREAM, head, status
from http_client import Client, running

pytestmark = pytest.mark.plain("Host and Origin name the scheme's port")


def test_strangers_see_nothing(caplog: Any) -> None:
    """An address that is not allowed gets 404, for the page and the stream, and the log tells why."""
    caplog.set_level(logging.INFO, logger="uwserve")
    with running(dashboard={"allow": ["192.0.2.0/24"]}) as server:
        assert status(server) == status(server, STREAM) == 404
        with Client(server) as client:
            for path in (PAGE, STREAM):
                for method in (b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"):
                    assert client.ask(head(path).replace(b"GET", method)).status == 404, (path, method)
    assert "The dashboard is not shown to 127.0.0.1: its address is not in its allow" in caplog.messages
    with running(dashboard={"allow": ["127.0.0.1", "::1"]}) as server:
        assert status(server) == 200


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Server: x", "Forwarded: for=127.0.0.1",
        "X-Original-Forwarded-For: ::1", "Via: 1.1 x", "X-Real-IP: ::1", "X-Client-IP: ::1", "True-Client-IP: ::1",
        "CF-Connecting-IP: ::1", "Fly-Client-IP: ::1", "X-Envoy-External-Address: ::1",
    ],
)  # fmt: skip
def test_a_proxy_that_nobody_named(field: str) -> None:
    """All its clients come from this machine: none of them is shown anything."""
    with running(dashboard=True) as server:
        assert status(server, PAGE, field) == 404
        assert status(server, STREAM, field) == 404


def test_behind_trusted_proxies() -> None:
    """The client counts whom they name, and only their word."""
    with running(dashboard={"allow": ["10.0.0.0/8"]}, trusted_proxies=["127.0.0.1"]) as server:
        for chain, wanted in (
            ("10.1.2.3", 200), ("203.0.113.9", 404), ("10.1.2.3, 203.0.113.9", 404), ("nobody, 10.1.2.3", 200),
            ("10.1.2.3, 127.0.0.1", 200), ("10.1.2.3, nobody", 404),
        ):  # fmt: skip
            assert status(server, PAGE, f"X-Forwarded-For: {chain}") == wanted, chain
        assert status(server) == 404  # the proxy itself, which is not in allow
        assert status(server, PAGE, "Forwarded: for=10.1.2.3") == 404  # not the field that was named
    with running(
        dashboard={"allow": ["2001:db8::/32"]}, trusted_proxies=["127.0.0.1"], forwarded_header="Forwarded"
    ) as server:
        assert status(server, PAGE, 'Forwarded: for="[2001:db8::7]:1234";proto=https') == 200
        assert status(server, PAGE, 'Forwarded: for="[2001:db9::7]"') == 404
    with running(dashboard=True, trusted_proxies=["10.0.0.0/8"]) as server:  # the proxy on this machine is another one
        assert status(server, PAGE, "X-Forwarded-For: 127.0.0.1, 203.0.113.9") == 404
        assert status(server, PAGE, "X-Forwarded-For: 203.0.113.9") == 404


def test_names_that_are_not_ours() -> None:
    """DNS rebinding: another site's name that means this machine."""
    with running(dashboard=True) as server:
        for host, wanted in (
            ("127.0.0.1", 200), ("localhost:3000", 200), ("app.localhost", 200), ("[::1]:80", 200), ("LOCALHOST", 200),
            ("evil.example", 404), ("127.0.0.1.evil.example", 404), ("localhost.evil.example:3000", 404),
        ):  # fmt: skip
            assert status(server, host=host) == wanted, host
            assert status(server, STREAM, host=host) == wanted, host
    with running(dashboard={"hosts": ["Status.Example"]}) as server:
        assert status(server, host="status.example:3000") == 200


def test_other_sites_may_not_connect() -> None:
    """The origin, where a browser sends one, must be what was asked for, and the page not another site's."""
    with running(dashboard=True) as server:
        for origin, wanted in (
            (None, 200), ("http://127.0.0.1:80", 200), ("https://127.0.0.1:80", 200), ("http://127.0.0.1:81", 403),
            ("http://evil.example", 403), ("null", 403), ("", 403), ("http://127.0.0.1", 403), ("http://[", 403),
        ):  # fmt: skip
            fields = [] if origin is None else [f"Origin: {origin}"]
            assert status(server, STREAM, *fields, host="127.0.0.1:80") == wanted, origin
        for site, wanted in (("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)):
            assert status(server, STREAM, f"Sec-Fetch-Site: {site}") == wanted, site  # <img> sends no Origin


def test_unix_sockets(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    with running(unix=path, dashboard={"allow": ["unix"]}):
        assert status(path, host="localhost") == 200
        assert status(path, PAGE, "X-Forwarded-For: 127.0.0.1", host="localhost") == 404
    for name, dashboard in (("t", {"allow": ["127.0.0.1"]}), ("u", True)):
        path = str(tmp_path / name)
        with running(unix=path, dashboard=dashboard):
            assert status(path, host="localhost") == 404
