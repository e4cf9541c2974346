"""``server.reload(tls=...)``: new handshakes get the new certificate, everything that is open goes on."""

from __future__ import annotations

import socket
import threading

import pytest
import trustme
from http_client import bound
from tls_transport import TlsSocket, authority, client_context, pem, server_options
from ws_client import TIMEOUT

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def dial(server) -> TlsSocket:
    context = client_context()
    context.check_hostname = False
    return TlsSocket(socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT), context)


def ask(sock: TlsSocket) -> str:
    """One request; the name in the server's certificate."""
    sock.sendall(GET)
    assert sock.recv(1000).startswith(b"HTTP/1.1 204")
    return sock.tls.getpeercert()["subjectAltName"][0][1]


def certificate(name: str) -> dict:
    return pem(authority().issue_cert(name))


def test_old_connections_live_on() -> None:
    with bound(tls=certificate("old.test"), fetch=lambda r: None) as server:
        server.start()
        old, waiting = dial(server), dial(server)
        assert ask(old) == "old.test"
        server.reload(tls=certificate("new.test"))
        fresh = dial(server)
        assert ask(fresh) == "new.test"
        assert ask(old) == "old.test"
        assert ask(waiting) in ("old.test", "new.test")  # accepted before or after, but answered
        for sock in (old, waiting, fresh):
            sock.close()


def test_an_error_leaves_the_old_one_in_force() -> None:
    def other(request):
        return "other"

    good = certificate("old.test")
    with bound(tls=good, fetch=lambda r: None) as server:
        server.start()
        for tls, error in (
            (good | {"key": certificate("x.test")["key"]}, ValueError),
            (good | {"cert": "/nonexistent/cert.pem"}, OSError),
            (good | {"nonsense": 1}, TypeError),
        ):
            with pytest.raises(error, match="tls"):
                server.reload(tls=tls, fetch=other)
            sock = dial(server)
            assert ask(sock) == "old.test"  # and the handler is the old one, too
            sock.close()


def test_it_cannot_be_switched() -> None:
    with bound(tls=certificate("a.test"), fetch=lambda r: None) as server:
        with pytest.raises(ValueError, match="cannot switch tls off"):
            server.reload(tls=None)
        server.reload(fetch=lambda r: None)  # not given: stays
        server.start()
        sock = dial(server)
        assert ask(sock) == "a.test"
        sock.close()
    with bound(tls=None, fetch=lambda r: None) as server:
        with pytest.raises(ValueError, match="cannot switch tls on"):
            server.reload(tls=server_options())
        server.reload(tls=None)


def test_from_the_file_again(tmp_path) -> None:
    """The same options with renewed files: what a certificate manager's hook does."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"

    def renew(name: str) -> None:
        fresh = certificate(name)
        key.write_bytes(fresh["key"])
        cert.write_bytes(fresh["cert"])

    renew("first.test")
    tls = {"key": key, "cert": cert}
    with bound(tls=tls, fetch=lambda r: None) as server:
        server.start()
        for name in ("first.test", "second.test", "third.test"):
            renew(name)
            server.reload(tls=tls)
            sock = dial(server)
            assert ask(sock) == name
            sock.close()


def test_under_load() -> None:
    """Reloads while clients come and go: every handshake gets one certificate or the other, none fails."""
    sets = [certificate("a.test"), certificate("b.test")]
    seen: set[str] = set()
    errors: list[BaseException] = []
    stop = threading.Event()
    with bound(tls=sets[0], fetch=lambda r: None) as server:
        server.start()

        def visit() -> None:
            try:
                while not stop.is_set():
                    sock = dial(server)
                    seen.add(ask(sock))
                    sock.close()
            except BaseException as error:
                errors.append(error)

        visitors = [threading.Thread(target=visit) for _ in range(3)]
        for visitor in visitors:
            visitor.start()
        for i in range(60):
            server.reload(tls=sets[i % 2])
            sock = dial(server)
            assert ask(sock) == ("a.test", "b.test")[i % 2]
            sock.close()
        stop.set()
        for visitor in visitors:
            visitor.join(TIMEOUT)
    assert not errors
    assert seen == {"a.test", "b.test"}


def test_reloads_do_not_leak(script) -> None:
    program = script(
        """
        import gc, socket, sys
        import tls_transport
        from tls_transport import TlsSocket, client_context, server_options
        import uwserve

        tls = server_options()
        server = uwserve.serve(port=0, hostname="127.0.0.1", tls=tls, fetch=lambda r: None)
        server.start()
        context = client_context()

        def resident() -> int:
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        def turn(count):
            for _ in range(count):
                server.reload(tls=tls)
                sock = TlsSocket(socket.create_connection(("127.0.0.1", server.port)), context)
                sock.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
                assert sock.recv(100)
                sock.close()

        turn(200)
        before = resident()
        turn(400)
        print(resident() - before)
        server.stop(True).wait(10)
        """
    )
    assert int(program.finish()) < 4 << 20


def test_an_intermediate_can_be_the_authority() -> None:
    """``ca`` is whom you trust, also when it is not a root."""
    root = trustme.CA()
    child = root.create_child_ca()
    with bound(
        tls=server_options() | {"ca": child.cert_pem.bytes(), "request_cert": True}, fetch=lambda r: None
    ) as server:
        server.start()
        context = client_context()
        child.issue_cert("someone@example.org").configure_cert(context)
        sock = TlsSocket(socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT), context)
        assert ask(sock) == "localhost"
        sock.close()
