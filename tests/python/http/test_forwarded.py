"""``trusted_proxies`` and ``forwarded_header``: X-Forwarded-For and Forwarded (RFC 7239), and who is believed (H15)."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tls_transport
from http_client import DEADLINE, GET, Client, read_frame, request, running, upgrade_request
from test_proxy_protocol import fetch, say_who
from ws_client import eventually

from uwserve import Server, serve

pytestmark = pytest.mark.wss

X = "X-Forwarded-For"
TRUSTED = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:aaaa::/48"]


@contextlib.contextmanager
def behind(**options: Any) -> Iterator[Server]:
    with running(fetch=fetch, websocket={"open": say_who}, **({"trusted_proxies": TRUSTED} | options)) as server:
        yield server


def client_of(server: Server, *fields: str) -> tuple[str, int]:
    with Client(server) as client:
        address, port, family = client.ask(request("/", "GET", None, *fields)).json()
        assert family == ("IPv6" if ":" in address else "IPv4")
        return address, (0 if port == client.socket.getsockname()[1] else port)


# fields -> the client
X_FORWARDED_FOR: list[tuple[list[str], str]] = [
    ([], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
    (["x-forwarded-for:2001:db8::1"], "2001:db8::1"),
    (["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1:4711"),
    (["X-Forwarded-For: [2001:db8::1]:4711"], "2001:db8::1:4711"),
    (["X-Forwarded-For: [2001:db8::1]"], "2001:db8::1"),
    (["X-Forwarded-For: ::ffff:192.0.2.1"], "::ffff:192.0.2.1"),
    # the walk: from the right, over trusted ones, to the first that is not
    (["X-Forwarded-For: 203.0.113.9, 192.0.2.1"], "192.0.2.1"),
    (["X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.1,10.9.9.9"], "192.0.2.1"),
    (["X-Forwarded-For: 203.0.113.9, ::ffff:10.0.0.1"], "203.0.113.9"),
    (["X-Forwarded-For: 192.0.2.1,, 2001:db8:aaaa::7 ,"], "192.0.2.1"),
    (["X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),
    (["X-Forwarded-For: 203.0.113.9", "X-Other: x", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
    (["X-Forwarded-For: 203.0.113.9, 192.0.2.1", "X-Forwarded-For: 10.0.0.1"], "192.0.2.1"),
    # what is malformed stops it: the last one before is as far as anybody knows
    (["X-Forwarded-For:"], "127.0.0.1"),
    (["X-Forwarded-For: unknown"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1"], "10.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1, 10.0.0.1 10.0.0.2"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.01"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.256"], "127.0.0.1"),
    (["X-Forwarded-For: 3221225985"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1:"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1:65536"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1:http"], "127.0.0.1"),
    (["X-Forwarded-For: [192.0.2.1]"], "127.0.0.1"),
    (["X-Forwarded-For: [2001:db8::1"], "127.0.0.1"),
    (["X-Forwarded-For: [2001:db8::1]x"], "127.0.0.1"),
    (["X-Forwarded-For: fe80::1%eth0"], "127.0.0.1"),
    (['X-Forwarded-For: "192.0.2.1"'], "127.0.0.1"),
    (["X-Forwarded-For: localhost"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1" + "0" * 200], "127.0.0.1"),
    # fields of other names say nothing
    (["X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1", "X-Forwarded-For2: 192.0.2.1"], "127.0.0.1"),
    (["X_Forwarded_For: 192.0.2.1"], "127.0.0.1"),
]

FORWARDED: list[tuple[list[str], str]] = [
    ([], "127.0.0.1"),
    (["Forwarded: for=192.0.2.1"], "192.0.2.1"),
    (["Forwarded: For=192.0.2.1;proto=https;by=203.0.113.43"], "192.0.2.1"),
    (['Forwarded: proto=https ; FOR="192.0.2.1:4711"'], "192.0.2.1:4711"),
    (['Forwarded: for="[2001:db8::1]:4711"'], "2001:db8::1:4711"),
    (['Forwarded: for="[2001:db8::1]"'], "2001:db8::1"),
    (["Forwarded: for=203.0.113.9, for=192.0.2.1"], "192.0.2.1"),
    (["Forwarded: for=203.0.113.9, for=192.0.2.1;by=1, for=10.0.0.1"], "192.0.2.1"),
    (["Forwarded: for=203.0.113.9", "Forwarded: for=192.0.2.1,for=10.0.0.1"], "192.0.2.1"),
    (['Forwarded: host="a,for=203.0.113.9;";for=192.0.2.1'], "192.0.2.1"),
    (['Forwarded: host="a\\",for=203.0.113.9";for=192.0.2.1'], "192.0.2.1"),
    (['Forwarded: for=192.0.2.1;host="open, for=203.0.113.9'], "127.0.0.1"),
    (['Forwarded: for=192.0.2.1, for="203.0.113.9, for=10.0.0.1'], "127.0.0.1"),
    (["Forwarded: for=unknown"], "127.0.0.1"),
    (["Forwarded: for=_hidden, for=10.0.0.1"], "10.0.0.1"),
    (["Forwarded: for=192.0.2.1;for=203.0.113.9"], "127.0.0.1"),
    (["Forwarded: proto=https"], "127.0.0.1"),
    (["Forwarded: for"], "127.0.0.1"),
    (["Forwarded: for=[2001:db8::1]"], "127.0.0.1"),  # not a token: it must be quoted
    (["Forwarded: for =192.0.2.1"], "127.0.0.1"),
    (["X-Forwarded-For: 192.0.2.1"], "127.0.0.1"),
]


def split_port(expected: str) -> tuple[str, int]:
    address, colon, port = expected.rpartition(":4711")
    return (address, 4711) if colon and not port else (expected, 0)


@pytest.mark.parametrize(("table", "field"), [(X_FORWARDED_FOR, "X-Forwarded-For"), (FORWARDED, "Forwarded")])
def test_the_table(table: list[tuple[list[str], str]], field: str) -> None:
    """request_ip, in one connection each; and remote_address of a WebSocket."""
    with behind(forwarded_header=field) as server:
        for fields, expected in table:
            address, port = split_port(expected)
            assert client_of(server, *fields) == (address, port), fields
            with Client(server) as client:
                client.send(upgrade_request("/", *fields))
                assert client.head().status == 101
                assert read_frame(client) == (1, address.encode()), fields


def test_each_request_of_a_connection_has_its_own_client() -> None:
    """A proxy sends the requests of many clients over one connection."""
    with behind() as server, Client(server) as client:
        for address in ("192.0.2.1", "2001:db8::1", "192.0.2.2"):
            assert client.ask(request("/", "GET", None, f"{X}: {address}")).json()[:2] == [address, 0]
        assert client.ask(GET).json()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "options",
    [
        {"trusted_proxies": []},
        {"trusted_proxies": ["10.0.0.0/8"]},
        {"trusted_proxies": ["unix", "::1"]},
        {"trusted_proxies": ["127.0.0.2/32"]},
        {"forwarded_header": None},
        {"forwarded_header": "Forwarded"},
    ],
)
def test_nobody_else_is_believed(options: dict[str, Any]) -> None:
    with behind(**options) as server:
        assert client_of(server, f"{X}: 192.0.2.1") == ("127.0.0.1", 0)


def test_off_by_default() -> None:
    with running(fetch=fetch) as server:
        assert client_of(server, f"{X}: 192.0.2.1", "Forwarded: for=192.0.2.1") == ("127.0.0.1", 0)


def test_a_unix_peer(tmp_path: Path) -> None:
    """ "unix" trusts whoever may connect to the socket's path."""
    path = str(tmp_path / "s")
    asked = request("/", "GET", None, f"{X}: 192.0.2.1")
    with behind(unix=path, trusted_proxies=["unix"]), Client(path) as client:
        assert client.ask(asked).json() == ["192.0.2.1", 0, "IPv4"]
        assert client.ask().json() is None
        client.send(upgrade_request("/", f"{X}: 192.0.2.1"))
        assert client.head().status == 101
        assert read_frame(client) == (1, b"192.0.2.1")
    with behind(unix=path), Client(path) as client:
        assert client.ask(asked).json() is None


def test_the_scheme_and_the_host_are_left_alone() -> None:
    fields = ("X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Forwarded-For: 192.0.2.1")
    with running(fetch=lambda r: r.url, trusted_proxies=TRUSTED) as server, Client(server) as client:
        assert client.ask(request("/x", "GET", None, *fields)).body == (
            b"https://a/x" if tls_transport.enabled() else b"http://a/x"
        )


def test_reload_counts_for_the_next_request() -> None:
    with behind(trusted_proxies=[]) as server, Client(server) as client:
        asked = request("/", "GET", None, f"{X}: 192.0.2.1", "Forwarded: for=192.0.2.2")
        assert client.ask(asked).json()[0] == "127.0.0.1"
        server.reload(trusted_proxies=["127.0.0.1"])
        assert client.ask(asked).json()[0] == "192.0.2.1"
        server.reload(forwarded_header="forwarded")
        assert client.ask(asked).json()[0] == "192.0.2.2"


def test_a_deferred_answer_and_a_gone_client() -> None:
    """The address belongs to the request: it stays."""
    kept: list[Any] = []
    with running(
        fetch=lambda request: kept.append(request) or "x", trusted_proxies=TRUSTED, routes={"/ip": fetch}
    ) as server:
        with Client(server) as client:
            assert client.ask(request("/", "GET", None, f"{X}: 192.0.2.1")).status == 200
        results: list[Any] = []
        server.call_soon(lambda: results.append(server.request_ip(kept[0])))
        eventually(lambda: results)
        assert results == [("192.0.2.1", 0, "IPv4")]


# --- the options ---


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"trusted_proxies": "10.0.0.0/8"}, TypeError, "trusted_proxies must be a sequence of networks"),
        ({"trusted_proxies": 5}, TypeError, "trusted_proxies must be a sequence of networks"),
        ({"trusted_proxies": None}, TypeError, "trusted_proxies must be a sequence of networks"),
        ({"trusted_proxies": [5]}, TypeError, "each of trusted_proxies must be a network as str"),
        ({"trusted_proxies": [b"10.0.0.1"]}, TypeError, "each of trusted_proxies must be a network as str"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, ValueError, "'10.0.0.1/8' is not a network: .*host bits"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, ValueError, "'10.0.0.0/33' is not a network"),
        ({"trusted_proxies": ["localhost"]}, ValueError, "'localhost' is not a network"),
        ({"trusted_proxies": ["fe80::1%eth0"]}, ValueError, "is not a network"),
        ({"trusted_proxies": [""]}, ValueError, "'' is not a network"),
        ({"forwarded_header": "X-Real-IP"}, ValueError, "forwarded_header must be 'X-Forwarded-For', 'Forwarded' or"),
        ({"forwarded_header": 1}, TypeError, "forwarded_header must be a str or None"),
        ({"proxy_protocol": 1}, TypeError, "proxy_protocol must be a bool"),
        ({"proxy_protocol": True}, ValueError, "proxy_protocol needs trusted_proxies"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        serve(port=0, **options)
    with running(fetch=fetch) as server:
        with pytest.raises(error, match=text):
            server.reload(**options)
        assert client_of(server) == ("127.0.0.1", 0)


def test_networks_as_objects() -> None:
    networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_address("10.0.0.1"), "::ffff:10.0.0.2")
    with behind(trusted_proxies=networks) as server:
        assert client_of(server, f"{X}: 192.0.2.1, 10.0.0.2, 10.0.0.1") == ("192.0.2.1", 0)


# --- the real thing ---


@pytest.mark.plain("nginx talks to a plain server")
def test_with_nginx(tmp_path: Path) -> None:
    """nginx in front: it appends the client to what the client claims, so the claim does not count."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    front, config = tmp_path / "front", tmp_path / "nginx.conf"
    path = str(tmp_path / "back")
    config.write_text(
        ("user root;" if os.getuid() == 0 else "")  # else its workers could not enter the folder
        + f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        "real_ip_header X-Test-Client; set_real_ip_from unix:;\n"
        f"server {{ listen unix:{front}; location / {{ proxy_pass http://unix:{path}; proxy_http_version 1.1;\n"
        "proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n"
        'proxy_set_header Connection "upgrade"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } } }\n'
    )
    with (
        behind(unix=path, trusted_proxies=["unix"]),
        subprocess.Popen([program, "-e", f"{tmp_path}/e", "-p", str(tmp_path), "-c", str(config)]) as process,
    ):
        try:
            eventually(front.exists, "nginx's start")
            fields = ("X-Test-Client: 192.0.2.1", f"{X}: 203.0.113.9")  # who it is, and who it says it is
            with Client(str(front)) as client:
                assert client.ask(request("/", "GET", None, *fields)).json() == ["192.0.2.1", 0, "IPv4"]
            with Client(str(front)) as client:
                client.send(upgrade_request("/", *fields))
                assert client.head().status == 101
                assert read_frame(client) == (1, b"192.0.2.1")
        finally:
            process.terminate()
            process.wait(DEADLINE)
