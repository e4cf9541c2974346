"""TLS for the suite: certificates made when they are first needed, and the client half of ``pytest --wss``.

With ``--wss`` every server of this process speaks TLS unless it was given ``tls``, and every ``Client`` of
``ws_client`` and ``http_client`` does, through ``wrap``. ``TlsSocket`` looks like the plain socket it wraps: the TLS
handshake happens at the first send or receive, what a timeout left unsent goes out first next time, and ``shutdown``
says close_notify before FIN.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trustme

# Neither is imported before it is needed: the protocol vectors, which also seed the fuzzers, are used where neither the
# package nor its test requirements are installed.

_enabled = False


def enabled() -> bool:
    """Whether the suite runs over TLS."""
    return _enabled


def enable() -> None:
    """From now on, in this process: ``tls`` defaults to a certificate for localhost, clients speak TLS."""
    from uwserve import _server

    global _enabled
    _enabled = True
    checked = _server.serve_options
    _server.serve_options = lambda given: checked({"tls": server_options(), **given})


@functools.cache
def authority() -> trustme.CA:
    import trustme

    return trustme.CA()


def pem(certificate: trustme.LeafCert) -> dict[str, bytes]:
    """``key`` and ``cert`` of a ``tls`` option."""
    return {
        "key": certificate.private_key_pem.bytes(),
        "cert": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
    }


@functools.cache
def _localhost() -> dict[str, bytes]:
    return pem(authority().issue_cert("localhost", "127.0.0.1", "::1"))


def server_options() -> dict[str, Any]:
    """A ``tls`` option for localhost."""
    return dict(_localhost())


def client_context(*, ca: trustme.CA | None = None) -> ssl.SSLContext:
    """A client that trusts ``ca``, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (ca or authority()).configure_trust(context)
    return context


@functools.cache
def _shared_context() -> ssl.SSLContext:
    return client_context()


def wrap(sock: socket.socket) -> Any:
    """``sock`` itself, or with ``--wss`` a ``TlsSocket`` on it."""
    return TlsSocket(sock, _shared_context()) if enabled() else sock


class TlsSocket:
    """A connected socket with a TLS client in front of it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str = "localhost") -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._unsent = b""
        self._established = False
        # One thread may send while another receives; who holds _lock never waits for the peer.
        self._lock, self._sending = threading.Lock(), threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _flush(self) -> None:
        with self._sending:
            with self._lock:
                self._unsent += self._outgoing.read()
            while self._unsent:
                sent = self._sock.send(self._unsent)
                self._unsent = self._unsent[sent:]

    def _pull(self, size: int) -> bool:
        """More input; False at the end of the stream."""
        data = self._sock.recv(min(size, 1 << 17))
        with self._lock:
            self._incoming.write(data) if data else self._incoming.write_eof()
        return bool(data)

    def handshake(self) -> None:
        with self._sending:
            while not self._established:
                try:
                    self.tls.do_handshake()
                    self._established = True
                except ssl.SSLWantReadError:
                    self._flush()
                    if not self._pull(1 << 16):
                        raise ConnectionResetError("the server ended the connection in the TLS handshake") from None
                self._flush()

    def sendall(self, data: bytes) -> None:
        self.handshake()
        with self._sending:
            with self._lock:
                self.tls.write(data)
            self._flush()

    def recv(self, size: int) -> bytes:
        if not self._established:
            self.handshake()
        received = bytearray()
        while len(received) < size:
            try:
                with self._lock:
                    piece = self.tls.read(size - len(received))
            except ssl.SSLWantReadError:
                if received:
                    break
                self._pull(size)
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            if not piece:
                break
            received += piece
        return bytes(received)

    def shutdown(self, how: int) -> None:
        if how != socket.SHUT_RD:
            self.handshake()
            try:
                with self._lock:
                    self.tls.unwrap()
            except ssl.SSLError:
                pass  # the answer is not waited for
            self._flush()
        self._sock.shutdown(how)
