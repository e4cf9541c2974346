"""421 Misdirected Request (RFC 9110 15.5.20): a site's client certificates cannot be avoided by another site's name.

The server name of the handshake (SNI) chooses a site, and what it asks of a client's certificate; ``Host`` says later
whose resource is wanted, and could say something else.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trustme
from http_client import bound
from tls_transport import TlsSocket, authority, client_context, pem
from ws_client import TIMEOUT

OURS, OTHERS = trustme.CA(), trustme.CA()


def site(*names: str, ca: trustme.CA | None = None, **options: Any) -> dict[str, Any]:
    """An entry of ``tls`` for these names; with ``ca``, clients need a certificate of it."""
    demands = {"ca": ca.cert_pem.bytes(), "request_cert": True} if ca else {}
    return pem(authority().issue_cert(*(names or ("localhost",)))) | {"server_name": list(names)} | demands | options


def client_of(issuer: trustme.CA | None) -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    if issuer:
        issuer.issue_cert("someone@example.org").configure_cert(context)
    return context


class Connection:
    """A connection to the site of a server name, on which anything can be asked for."""

    def __init__(self, server: Any, name: str | None, issuer: trustme.CA | None = None) -> None:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        self.socket = TlsSocket(raw, client_of(issuer), name)

    def ask(self, host: str | None, target: str = "/", version: str = "1.1") -> int:
        lines = [f"GET {target} HTTP/{version}", *([f"Host: {host}"] if host is not None else [])]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        reply = self.socket.recv(1000)
        assert reply.startswith(b"HTTP/1.1 "), reply
        return int(reply[9:12])

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


@pytest.fixture
def server() -> Any:
    """An open site first, then one with a wildcard, and two that ask for certificates of different authorities."""
    tls = [
        site(),
        site("open.test", "*.open.test"),
        site("strict.test", "*.strict.test", ca=OURS),
        site("other.test", ca=OTHERS),
        site("lenient.test", ca=OTHERS, reject_unauthorized=False),
        site("same.test", ca=OURS),
    ]
    with bound(tls=tls, fetch=lambda request: None) as server:
        server.start()
        yield server


STRICT = [
    "strict.test",
    "STRICT.test",
    "strict.test:443",
    "strict.test.",
    "a.strict.test",
    "other.test",
    "lenient.test",
]


@pytest.mark.parametrize("host", STRICT)
@pytest.mark.parametrize("name", ["open.test", "unknown.test", None])
def test_a_protected_site_is_not_reached_by_another_ones_name(server: Any, name: str | None, host: str) -> None:
    with Connection(server, name) as connection:
        assert connection.ask("open.test") == 204
        assert connection.ask(host) == 421
    with Connection(server, name) as connection:
        assert connection.ask("open.test", f"http://{host}/") == 421  # the target's host counts (RFC 9112 3.2.2)
    assert server.refused["http_421"] == 2


def test_the_certificate_of_one_authority_is_none_for_another(server: Any) -> None:
    for host, wanted in (("strict.test", 204), ("same.test:8443", 204), ("open.test", 204), ("other.test", 421)):
        with Connection(server, "strict.test", OURS) as connection:
            assert connection.ask(host) == wanted, host


def test_without_a_name_the_first_site_is_meant() -> None:
    """It is asked for by names that no site has, and by none."""
    with bound(tls=[site("a.test", ca=OURS), site("b.test")], fetch=lambda request: None) as server:
        server.start()
        for host, version in (("unknown.test", "1.1"), ("127.0.0.1", "1.1"), ("[::1]:443", "1.1"), (None, "1.0")):
            with Connection(server, "b.test") as connection:
                assert connection.ask(host, version=version) == 421, host
            with Connection(server, "unknown.test", OURS) as connection:
                assert connection.ask(host, version=version) == 204, host


def test_sites_with_the_same_terms_are_one_to_clients() -> None:
    """No certificates asked for anywhere, or the same everywhere: any name may be asked for on any connection."""
    for ca in (None, OURS):
        with bound(tls=[site("a.test", ca=ca), site("b.test", ca=ca)], fetch=lambda request: None) as server:
            server.start()
            with Connection(server, "a.test", ca) as connection:
                for host in ("a.test", "b.test", "c.test", "[::1]"):
                    assert connection.ask(host) == 204
            assert server.refused["http_421"] == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def test_a_ticket_of_one_protected_site_is_none_for_another(server: Any, version: ssl.TLSVersion) -> None:
    """A session carries its client's certificate: verified by one authority, it must not come in at the other's."""
    context = client_of(OURS)
    context.minimum_version = context.maximum_version = version

    def visit(name: str, session: ssl.SSLSession | None) -> ssl.SSLSession:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        with context.wrap_socket(raw, server_hostname=name, session=session) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 204")
            visits.append(sock.session_reused)
            return sock.session

    visits: list[bool | None] = []
    session = visit("strict.test", None)
    visit("strict.test", session)
    visit("same.test", session)
    assert visits == [False, True, False]
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        visit("other.test", session)
