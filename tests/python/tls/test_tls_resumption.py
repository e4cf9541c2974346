"""Sessions in tickets: a client that comes back skips the certificates, but never a check that it has not passed."""

from __future__ import annotations

import socket
import ssl

import pytest
import trustme
from http_client import bound
from tls_transport import authority, client_context, pem, server_options
from ws_client import TIMEOUT

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def context(request) -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    context.minimum_version = context.maximum_version = request.param
    return context


def visit(server, context, session=None, name: str = "localhost") -> tuple[bool, ssl.SSLSession]:
    """Whether the session was taken up, and the new one."""
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    with context.wrap_socket(raw, server_hostname=name, session=session) as sock:
        sock.sendall(GET)
        assert sock.recv(1000).startswith(b"HTTP/1.1 204")  # tickets of TLS 1.3 come before it
        reused, session = sock.session_reused, sock.session
        try:
            sock.unwrap()
        except OSError:
            pass  # the server's FIN may be there first
        return reused, session


def test_a_session_is_resumed(context) -> None:
    seen = []
    with bound(tls=server_options(), fetch=lambda request: seen.append(request.tls["session_reused"])) as server:
        server.start()
        reused, session = visit(server, context)
        assert not reused
        assert session.has_ticket
        for _ in range(3):
            reused, session = visit(server, context, session)
            assert reused
    assert seen == [False, True, True, True]


def test_the_server_keeps_no_session() -> None:
    """A client that takes no tickets has nothing to come back with: no id of a session that the server remembers.

    In TLS 1.3 no client can say so. A C++ test checks that a ticket holds the whole session.
    """
    context = client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    with bound(tls=server_options(), fetch=lambda request: None) as server:
        server.start()
        session = None
        for _ in range(3):
            reused, session = visit(server, context, session)
            assert not reused
            assert (session.id, session.has_ticket) == (b"", False)


def test_with_client_certificates(context) -> None:
    """The ticket carries the certificate: the application sees it again, though it was not sent again."""
    ours = trustme.CA()
    ours.issue_cert("someone@example.org").configure_cert(context)
    seen = []
    tls = server_options() | {"ca": ours.cert_pem.bytes(), "request_cert": True}
    with bound(tls=tls, fetch=lambda request: seen.append(request.tls)) as server:
        server.start()
        session = visit(server, context)[1]
        assert visit(server, context, session)[0]
    assert [tls["session_reused"] for tls in seen] == [False, True]
    assert seen[0]["peer_certificate"] == seen[1]["peer_certificate"] is not None
    assert seen[1]["authorized"]


def test_not_from_one_name_to_another(context) -> None:
    """A session without a client certificate is no way into the site that asks for one."""
    ours = trustme.CA()
    strict = pem(authority().issue_cert("strict.test"))
    strict |= {"server_name": "strict.test", "ca": ours.cert_pem.bytes(), "request_cert": True}
    with bound(tls=[server_options(), strict], fetch=lambda request: None) as server:
        server.start()
        session = visit(server, context)[1]
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            visit(server, context, session, "strict.test")
        ours.issue_cert("someone@example.org").configure_cert(context)
        reused, session = visit(server, context, None, "strict.test")
        assert not reused
        assert visit(server, context, session, "strict.test")[0]


def test_a_reload_ends_them(context) -> None:
    """New keys for tickets, so a certificate authority that was taken out stays out."""
    with bound(tls=server_options(), fetch=lambda request: None) as server:
        server.start()
        session = visit(server, context)[1]
        server.reload(tls=server_options())
        reused, session = visit(server, context, session)
        assert not reused
        assert visit(server, context, session)[0]
        server.reload(fetch=lambda request: None)  # not of TLS: they stay
        assert visit(server, context, session)[0]
