"""``proxy_protocol``: PROXY headers before HTTP, from trusted peers only (HAProxy's proxy-protocol.txt; defect H15).

The format itself is tested in C++, at every split; here is what a user of the server sees, and what a spoofer gets.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_client import DEADLINE, GET, Client, frame, read_frame, running, upgrade_request
from processes import bare_environment
from proxy_headers import LOCAL, PROXY, TCP4, TCP6, UNIX, UNSPEC, binary, tlv, v1, v2
from ws_client import eventually

from uwserve import Request, Response, Server

CLIENT = ["192.0.2.1", 12345, "IPv4"]


def fetch(request: Request, server: Server) -> Any:
    """Opens WebSockets, and tells who asks otherwise."""
    return None if server.upgrade(request) else Response.json(server.request_ip(request))


def say_who(ws: Any) -> None:
    ws.send(str(ws.remote_address))


@contextlib.contextmanager
def proxied(**options: Any) -> Iterator[Server]:
    options = {"trusted_proxies": ["127.0.0.0/8"], "proxy_protocol": True} | options
    with running(fetch=fetch, websocket={"open": say_who}, **options) as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    with proxied() as server:
        yield server


GOOD: list[tuple[str, bytes, list[Any] | None]] = [
    ("v1", v1(), CLIENT),
    ("v1, IPv6", v1("2001:db8::1"), ["2001:db8::1", 12345, "IPv6"]),
    ("v1, unknown", b"PROXY UNKNOWN\r\n", None),
    ("v2", v2(), CLIENT),
    ("v2, IPv6", v2("2001:db8::1", 1), ["2001:db8::1", 1, "IPv6"]),
    ("v2 with TLVs", v2(values=tlv(1, b"h2") + tlv(2, b"example.com") + tlv(0xEA, bytes(500))), CLIENT),
    ("v2, local", binary(LOCAL, UNSPEC, b""), None),
    ("v2, local with an address", binary(LOCAL, TCP4, b"\xc0\0\2\1" + bytes(8)), None),
    ("v2, unspecified", binary(PROXY, UNSPEC, b"some bytes"), None),
    ("v2, a unix client", binary(PROXY, UNIX, b"/tmp/x".ljust(216, b"\0")), None),
]


@pytest.mark.parametrize(("header", "address"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_the_address_is_the_headers(server: Server, header: bytes, address: list[Any] | None) -> None:
    """request_ip and remote_address; without an address in the header they are the connection's own."""
    with Client(server) as client:
        own = [*client.socket.getsockname(), "IPv4"]
        assert client.ask(header + GET).json() == (address or own)
        assert client.ask().json() == (address or own), "it is the connection's"
        client.send(upgrade_request() + frame(b"x"))
        assert client.head().status == 101
        assert read_frame(client) == (1, (address or own)[0].encode())


def test_a_header_and_a_handshake_byte_by_byte(server: Server) -> None:
    for header in (v1(), v2(values=tlv(4, bytes(20)))):
        with Client(server) as client:
            client.send_pieces(header + upgrade_request())
            assert client.head().status == 101
            assert read_frame(client) == (1, b"192.0.2.1")


BAD = [
    ("none", GET),
    ("lower case", b"proxy" + v1()[5:] + GET),
    ("a family that does not fit", v1().replace(b"TCP4", b"TCP6") + GET),
    ("too long", b"PROXY UNKNOWN" + b" " * 200 + b"\r\n" + GET),
    ("a line feed", v1().replace(b"\r", b"") + GET),
    ("v2 shorter than an address", binary(PROXY, TCP6, bytes(12)) + GET),
    ("v2 with a TLV that lies", v2(values=b"\x01\xff\xff") + GET),
    ("v2 with a wrong checksum", v2(values=tlv(3, b"\1\2\3\4")) + GET),
    ("v2 with a command of its own", binary(0x2F, TCP4, bytes(12)) + GET),
    ("v2 of 64 KiB", binary(PROXY, TCP4, bytes(12), 0xFFFF) + GET),
]


@pytest.mark.parametrize("data", [case[1] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_header_ends_the_connection(server: Server, data: bytes) -> None:
    """No answer at all: it might be taken for the client's."""
    with Client(server) as client:
        client.send(data)
        assert client.at_end()


LONGEST_V1 = b"PROXY UNKNOWN".ljust(105) + b"\r\n"
LONGEST_V2 = v2(values=tlv(4, bytes(4096 - 16 - 12 - 3)))


@pytest.mark.parametrize(("header", "size"), [(LONGEST_V1, 107), (LONGEST_V2, 4096)], ids=["v1", "v2"])
def test_the_longest_header(server: Server, header: bytes, size: int) -> None:
    """As a whole, and when its last byte comes late."""
    assert len(header) == size
    for cut in (size, size - 1):
        with Client(server) as client, Client(server) as other:
            client.send(header[:cut])
            assert other.ask(v1() + GET).json() == CLIENT  # the server has seen the first part, and waits
            assert client.ask(header[cut:] + GET).status == 200


@pytest.mark.parametrize(
    ("begin", "last"),
    [(LONGEST_V1[:106].replace(b"\r", b" "), b" "), (binary(PROXY, TCP4, b"", 4097 - 16)[:15], b"\xf1")],
    ids=["v1", "v2"],
)
def test_a_header_over_the_longest_is_not_waited_for(server: Server, begin: bytes, last: bytes) -> None:
    """The connection ends at the byte that says so: the 107th is no line feed, or the length makes 4,097 bytes."""
    with Client(server) as client, Client(server) as other:
        client.send(begin)
        assert other.ask(v1() + GET).json() == CLIENT
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(2)  # less than the server would wait for the rest
        client.send(last)
        assert client.at_end()


def test_a_length_that_swallows_the_request(server: Server) -> None:
    """A header that announces more than its addresses takes the bytes behind it as its own: here they are no TLVs."""
    with Client(server) as client:
        client.send(binary(PROXY, TCP4, bytes(12), 12 + len(GET)) + GET + GET)
        assert client.at_end()


def test_only_one_header_counts(server: Server) -> None:
    """What follows the header is the client's: a second one is a malformed request (and a later one as well)."""
    for second in (v1("203.0.113.9"), v2("203.0.113.9")):
        with Client(server) as client:
            client.send(v1() + second + GET)
            assert client.reply().status == 400
            assert client.at_end()
        with Client(server) as client:
            assert client.ask(v2() + GET).json() == CLIENT
            client.send(second + GET)
            assert client.reply().status == 400
            assert client.at_end()


@pytest.mark.parametrize("options", [{"trusted_proxies": ["10.0.0.0/8", "::1"]}, {"proxy_protocol": False}])
@pytest.mark.parametrize("header", [v1(), v2()])
def test_nobody_else_can_send_one(options: dict[str, Any], header: bytes) -> None:
    """From a peer that is not trusted, or with the option off, a header is a malformed request."""
    with proxied(**options) as server:
        with Client(server) as client:
            client.send(header + GET)
            assert client.reply().status == 400
            assert client.at_end()
        with Client(server) as client:
            assert client.ask().json()[0] == "127.0.0.1"


def test_a_slow_header_is_cut() -> None:
    """It has idle_timeout to come; dripping does not extend that."""
    with proxied(idle_timeout=1) as server, Client(server) as silent, Client(server) as slow:
        begun = time.monotonic()
        slow.send(v1()[:-2])
        assert silent.at_end()
        assert slow.at_end()
        assert 0.9 < time.monotonic() - begun < 8
        with Client(server) as client:
            assert client.ask(v1() + GET).json() == CLIENT


def test_stop_does_not_wait_for_headers() -> None:
    with proxied() as server, Client(server) as client, Client(server) as second:
        client.send(b"PROXY ")
        assert second.ask(v1() + GET).json() == CLIENT
        assert server.stop().wait(DEADLINE)
        assert client.at_end()


def test_unix_peers(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with proxied(unix=path, trusted_proxies=["unix"]), Client(path) as client:
        client.send_pieces(v2(), 7)
        assert client.ask().json() == CLIENT
    with proxied(unix=path), Client(path) as client:  # 127.0.0.0/8 is not a unix peer
        assert client.ask().json() is None


def test_reload() -> None:
    """New connections follow the new list; an open one keeps its address."""
    with proxied() as server, Client(server) as old:
        assert old.ask(v1() + GET).json() == CLIENT
        server.reload(trusted_proxies=["10.0.0.0/8"])
        assert old.ask().json() == CLIENT
        with Client(server) as client:
            assert client.ask().json()[0] == "127.0.0.1"
        server.reload(trusted_proxies=["127.0.0.1"])
        with Client(server) as client:
            assert client.ask(v2() + GET).json() == CLIENT
        with pytest.raises(ValueError, match="proxy_protocol needs trusted_proxies"):
            server.reload(trusted_proxies=[])
        server.reload(trusted_proxies=[], proxy_protocol=False)
        with Client(server) as client:
            assert client.ask().json()[0] == "127.0.0.1"


def test_forwarded_behind_a_proxy_header() -> None:
    """X-Forwarded-For is believed when the header's source is a trusted proxy itself, and only then: one whose client
    the header does not name may have written anything."""
    asked = GET[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
    with proxied(trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as server:
        for header, address in (
            (v1("10.1.2.3"), "203.0.113.9"),
            (v2("10.1.2.3"), "203.0.113.9"),
            (v1("192.0.2.1"), "192.0.2.1"),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
            (binary(PROXY, UNSPEC, b""), "127.0.0.1"),
            (binary(PROXY, UNIX, bytes(216)), "127.0.0.1"),
        ):
            with Client(server) as client:
                assert client.ask(header + asked).json()[0] == address, header


@pytest.mark.parametrize(
    "send_proxy", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
def test_with_haproxy(tmp_path: Path, server: Server, send_proxy: str) -> None:
    """The real thing in front of it."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    front = tmp_path / "front"
    config = tmp_path / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config.write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
            f"frontend f\n bind fd@{listener.fileno()}\n bind {front}\n unique-id-format %rt\n default_backend b\n"
            f"backend b\n server s 127.0.0.1:{server.port} {send_proxy}\n"
        )
        command = [program, "-db", "-f", str(config)]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], env=bare_environment())
        port = listener.getsockname()[1]
    try:
        eventually(lambda: front.exists() or process.poll() is not None, "haproxy's start")
        with Client(port) as client:
            own = client.socket.getsockname()
            assert client.ask().json() == [*own, "IPv4"]
            client.send(upgrade_request())
            assert client.head().status == 101
            assert read_frame(client) == (1, b"127.0.0.1")
        with Client(str(front)) as client:  # a client without an address
            assert client.ask().json()[0] == "127.0.0.1"
    finally:
        process.terminate()
        process.wait(DEADLINE)


def test_a_real_peer_of_each_family() -> None:
    """A dual-stack socket shows IPv4 peers as mapped addresses: the list means them all the same."""
    with proxied(hostname="::", trusted_proxies=["127.0.0.1"]) as server:
        assert server.port is not None
        with Client(server.port) as client:
            assert client.ask(v1() + GET).json() == CLIENT
        with Client(("::1", server.port)) as client:
            assert client.ask().json()[0] == "::1"
        server.reload(trusted_proxies=["::/0"])
        with Client(("::1", server.port)) as client:
            assert client.ask(v1() + GET).json() == CLIENT
