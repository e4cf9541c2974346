"""``max_connections_per_address`` behind proxies that name the client in a field: the client counts, not the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_client import DEADLINE, GET, Client, request, running, upgrade, upgrade_request
from proxy_headers import v1
from ws_client import eventually

from uwserve import Request, Server

ONE = {"max_connections_per_address": 1}


class Held:
    """A ``fetch`` whose answers to /held wait until ``release``; WebSockets are opened, all else is answered."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, request: Request, server: Server) -> Any:
        if request.path != "/held":
            return upgrade(request, server)
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]
        return "late"

    def release(self, server: Server) -> None:
        server.call_soon(lambda: self.waiting.pop(0).set_result(None))


@contextlib.contextmanager
def behind(**options: Any) -> Iterator[Server]:
    options = {"fetch": upgrade, "limits": ONE, "trusted_proxies": ["127.0.0.1"]} | options
    with running(websocket={}, **options) as server:
        yield server


def of(address: str, path: str = "/", field: str = "X-Forwarded-For: {}") -> bytes:
    return request(path, "GET", None, field.format(address))


def shake(address: str, field: str = "X-Forwarded-For: {}") -> bytes:
    return upgrade_request("/", field.format(address))


def ask_once(server: Server, sent: bytes) -> int:
    with Client(server) as client:
        client.send(sent)
        return client.head().status


@pytest.mark.parametrize(
    ("options", "field"),
    [({}, "X-Forwarded-For: {}"), ({"forwarded_header": "Forwarded"}, 'Forwarded: for="{}"')],
    ids=["x-forwarded-for", "forwarded"],
)
def test_a_websocket_counts_for_its_client_as_long_as_it_lives(options: dict[str, Any], field: str) -> None:
    with behind(**options) as server:
        with Client(server) as first:
            first.send(shake("192.0.2.1", field))
            assert first.head().status == 101
            for _ in range(3):
                assert ask_once(server, shake("192.0.2.1", field)) == 429
                assert ask_once(server, of("192.0.2.1", field=field)) == 429
            assert ask_once(server, shake("192.0.2.2", field)) == 101, "another client of the same proxy"
            assert server.refused["connections_per_address"] == 6
        eventually(lambda: ask_once(server, of("192.0.2.1", field=field)) == 200, "the client's place")


def test_the_proxys_own_connections_are_free() -> None:
    """One that forwards has many; also with a limit that was given, and with no client named at all."""
    with behind() as server, contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Client(server)) for _ in range(5)]
        for number, proxy in enumerate(proxies):
            assert proxy.ask(of(f"192.0.2.{number}")).status == 200
            assert proxy.ask(GET).status == 200
        assert server.refused["connections_per_address"] == 0
        with socket.socket() as stranger:  # no proxy: its connections count
            stranger.settimeout(DEADLINE)
            stranger.bind(("127.0.0.2", 0))
            stranger.connect(("127.0.0.1", server.port))
            stranger.sendall(of("192.0.2.1"))
            assert stranger.recv(1000).startswith(b"HTTP/1.1 200")
            with socket.socket() as another:
                another.settimeout(DEADLINE)
                another.bind(("127.0.0.2", 0))
                with contextlib.suppress(ConnectionError):
                    another.connect(("127.0.0.1", server.port))
                    another.sendall(of("192.0.2.2"))
                    assert another.recv(1000) == b""
        assert server.refused["connections_per_address"] == 1


def test_a_request_counts_until_it_is_answered() -> None:
    """One connection carries many clients' requests; what is refused leaves it open for the others."""
    held = Held()
    with behind(fetch=held) as server, Client(server) as slow, Client(server) as proxy:
        for _ in range(3):
            slow.send(of("192.0.2.1", "/held"))
            eventually(lambda: held.waiting, "the request")
            refused = proxy.ask(of("192.0.2.1"))
            assert (refused.status, refused.body) == (429, b"too many connections from this address")
            assert refused.get("Connection") is None
            assert proxy.ask(of("192.0.2.2")).status == 200
            held.release(server)
            assert slow.reply().body == b"late"
            assert proxy.ask(of("192.0.2.1")).status == 200
        slow.send(of("192.0.2.1", "/held"))
        eventually(lambda: held.waiting, "the request")
        slow.reset()  # a client that leaves gives its place back
        eventually(lambda: proxy.ask(of("192.0.2.1")).status == 200, "its place")
        held.release(server)


def test_what_is_refused_keeps_no_body() -> None:
    """The answer comes with the head, and the connection ends: nothing of the body is read into memory."""
    held = Held()
    with behind(fetch=held) as server, Client(server) as slow, Client(server) as proxy:
        slow.send(of("192.0.2.1", "/held"))
        eventually(lambda: held.waiting, "the request")
        proxy.send(of("192.0.2.1")[:-2] + b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
        assert proxy.reply().status == 429
        assert proxy.at_end()
        held.release(server)
        assert slow.reply().status == 200


def test_one_site_of_ipv6_is_one_client() -> None:
    """A /64, as for connections without a proxy; an IPv4 address in IPv6 is that IPv4 address."""
    with behind() as server, Client(server) as first, Client(server) as second:
        first.send(shake("2001:db8::1"))
        assert first.head().status == 101
        assert ask_once(server, of("2001:db8::ffff:1")) == 429
        assert ask_once(server, of("2001:db8:0:1::1")) == 200
        second.send(shake("::ffff:192.0.2.1"))
        assert second.head().status == 101
        assert ask_once(server, of("192.0.2.1")) == 429


def test_clients_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with behind(unix=path, trusted_proxies=["unix"]) as server, Client(path) as first, Client(path) as second:
        first.send(shake("192.0.2.1"))
        assert first.head().status == 101
        assert second.ask(of("192.0.2.1")).status == 429
        assert second.ask(of("192.0.2.2")).status == 200
        first.reset()
        eventually(lambda: second.ask(of("192.0.2.1")).status == 200, "the client's place")
        assert server.refused["connections_per_address"] >= 1


def test_a_field_behind_a_proxy_header() -> None:
    """The header names a trusted proxy, which names the client."""
    options = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}
    with behind(**options) as server, Client(server) as first, Client(server) as second:
        first.send(v1("10.1.2.3") + shake("192.0.2.1"))
        assert first.head().status == 101
        second.send(v1("10.1.2.3") + of("192.0.2.1"))
        assert second.reply().status == 429
        assert second.ask(of("192.0.2.2")).status == 200


def test_the_default_leaves_loopback_free() -> None:
    with behind(limits={"max_connections": 3}) as server, contextlib.ExitStack() as stack:
        for address, wanted in (("127.0.0.9", 101), ("127.0.0.9", 101), ("127.0.0.9", 101)):
            client = stack.enter_context(Client(server))
            client.send(shake(address))
            assert client.head().status == wanted
    with behind(limits={"max_connections": 3}) as server, Client(server) as one, Client(server) as two:
        for client in (one, two):
            client.send(shake("192.0.2.1"))
            assert client.head().status == 101
        assert ask_once(server, of("192.0.2.1")) == 429


def test_nothing_is_left_in_the_count() -> None:
    """Whichever way a request ends: answered, refused for its body, cut by a reload of the proxies."""
    with behind() as server:
        for end in (b"", b"POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 9\r\n\r\nhalf"):
            for _ in range(3):
                with Client(server) as client:
                    client.ask(of("192.0.2.1"))
                    client.send(end)
        with Client(server) as client:
            client.send(shake("192.0.2.1"))
            assert client.head().status == 101
            server.reload(trusted_proxies=[])
        server.reload(trusted_proxies=["127.0.0.1"])
        eventually(lambda: ask_once(server, of("192.0.2.1")) == 200, "the client's place")
