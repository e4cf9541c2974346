"""The ``tls`` option: every spelling that works, and every mistake with the error that names it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import warnings

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from http_client import bound
from tls_transport import TlsSocket, authority, client_context, pem
from ws_client import TIMEOUT

from uwserve import serve

SECRET = "correct horse"


@pytest.fixture(scope="module")
def leaf() -> trustme.LeafCert:
    return authority().issue_cert("localhost")


@pytest.fixture(scope="module")
def good(leaf) -> dict:
    return pem(leaf)


@pytest.fixture(scope="module")
def locked(leaf, good) -> dict:
    """The same key, encrypted."""
    key = serialization.load_pem_private_key(good["key"], None)
    sealed = serialization.BestAvailableEncryption(SECRET.encode())
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return good | {"key": key.private_bytes(*kinds, sealed)}


def peer(server, name: str | None = "localhost", context: ssl.SSLContext | None = None) -> TlsSocket:
    """A client after its handshake and one request."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
    context = context or client_context()
    context.check_hostname = False
    wrapped = TlsSocket(sock, context, name)
    try:
        wrapped.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wrapped.recv(1000).startswith(b"HTTP/1.1 204")
    except BaseException:
        sock.close()
        raise
    return wrapped


def names_of(sock: TlsSocket) -> set[str]:
    """The DNS names in the certificate that the server has shown."""
    names = {value for kind, value in sock.tls.getpeercert()["subjectAltName"] if kind == "DNS"}
    sock.close()
    return names


# --- what works ---


def test_text_bytes_and_paths(good, tmp_path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_bytes(good["key"])
    cert.write_bytes(good["cert"])
    for tls in (
        good,
        {name: value.decode() for name, value in good.items()},
        {"key": str(key), "cert": str(cert)},
        {"key": key, "cert": cert},
        {"key": bytearray(good["key"]), "cert": good["cert"]},
        [good],
        (good,),
    ):
        with bound(tls=tls, fetch=lambda r: None) as server:
            server.start()
            assert names_of(peer(server)) == {"localhost"}


@pytest.mark.parametrize("passphrase", [SECRET, SECRET.encode()], ids=["str", "bytes"])
def test_an_encrypted_key(locked, passphrase) -> None:
    with bound(tls=locked | {"passphrase": passphrase}, fetch=lambda r: None) as server:
        server.start()
        assert names_of(peer(server)) == {"localhost"}


def test_a_chain_is_sent_whole() -> None:
    """Leaf, then intermediate: a client that knows only the root must accept it."""
    root = trustme.CA()
    leaf = root.create_child_ca().issue_cert("localhost")
    assert len(leaf.cert_chain_pems) == 2
    with bound(tls=pem(leaf), fetch=lambda r: None) as server:
        server.start()
        assert names_of(peer(server, context=client_context(ca=root))) == {"localhost"}


def test_server_names(good) -> None:
    exact, wild = authority().issue_cert("exact.test"), authority().issue_cert("wild.test")
    tls = [
        good,
        pem(exact) | {"serverName": ["www.example.com", "bücher.example"]},
        pem(wild) | {"server_name": "*.Example.com."},
    ]
    with bound(tls=tls, fetch=lambda r: None) as server:
        server.start()
        for name, shown in {
            None: "localhost",
            "unknown.example": "localhost",
            "www.example.com": "exact.test",
            "WWW.Example.Com": "exact.test",
            "xn--bcher-kva.example": "exact.test",
            "api.example.com": "wild.test",
            "a.api.example.com": "localhost",
            "example.com": "localhost",
        }.items():
            assert names_of(peer(server, name)) == {shown}, name


def test_ciphers(good) -> None:
    with bound(tls=good | {"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}, fetch=lambda r: None) as server:
        server.start()
        context = client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        sock = peer(server, context=context)
        assert sock.tls.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        sock.close()
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            peer(server, context=context)


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        (ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
def test_default_cipher_is_the_fastest(good, version, cipher) -> None:
    """Of the ones that an ordinary client offers, although it prefers AES-256 itself."""
    with bound(tls=good, fetch=lambda r: None) as server:
        server.start()
        context = client_context()
        context.minimum_version = context.maximum_version = version
        sock = peer(server, context=context)
        assert sock.tls.cipher()[0] == cipher
        sock.close()


@pytest.mark.parametrize("name", ["alpn_protocols", "alpnProtocols", "ALPNProtocols"])
def test_alpn(good, name) -> None:
    with bound(tls=good | {name: ["spdy/1", "http/1.1"]}, fetch=lambda r: None) as server:
        server.start()
        context = client_context()
        context.set_alpn_protocols(["http/1.1", "spdy/1"])
        sock = peer(server, context=context)
        assert sock.tls.selected_alpn_protocol() == "spdy/1"  # the server's order counts
        sock.close()
        context.set_alpn_protocols(["h2"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            peer(server, context=context)


def test_client_certificates(good, tmp_path) -> None:
    ours = trustme.CA()
    seen = []
    tls = good | {"ca": ours.cert_pem.bytes(), "requestCert": True}
    with bound(tls=tls, fetch=lambda request: seen.append(request.tls)) as server:
        server.start()
        for issuer, error in ((ours, None), (trustme.CA(), ssl.SSLError), (None, ssl.SSLError)):
            context = client_context()
            if issuer is not None:
                issuer.issue_cert("someone@example.org").configure_cert(context)
            if error is None:
                peer(server, context=context).close()
                assert seen[-1]["authorized"]
                assert ssl.DER_cert_to_PEM_cert(seen[-1]["peer_certificate"])
            else:
                with pytest.raises((error, ConnectionError)):
                    peer(server, context=context)
        assert len(seen) == 1
        server.reload(tls=tls | {"rejectUnauthorized": False})
        stranger = client_context()
        trustme.CA().issue_cert("stranger@example.org").configure_cert(stranger)
        for context in (stranger, client_context()):
            peer(server, context=context).close()
            assert not seen[-1]["authorized"]
        assert "issuer" in seen[-2]["authorization_error"]
        assert seen[-2]["peer_certificate"]
        assert seen[-1]["peer_certificate"] is None


def test_old_versions_are_refused(good) -> None:
    with bound(tls=good, fetch=lambda r: None) as server:
        server.start()
        context = client_context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():  # of Python, about old versions
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            peer(server, context=context)


OPENSSL = shutil.which("openssl")


@pytest.mark.skipif(OPENSSL is None, reason="the command openssl is not here: nothing else can ask to renegotiate")
def test_a_client_cannot_renegotiate(good) -> None:
    """RFC 5246 section 7.2.2: the answer is the alert no_renegotiation, after which this client gives up by itself."""
    with bound(tls=good, fetch=lambda r: None) as server:
        server.start()
        command = [OPENSSL, "s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            child.stdin.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            child.stdin.flush()
            seen = b""
            while b"HTTP/1.1 204" not in seen:
                seen += child.stdout.read1()
            child.stdin.write(b"R\n")
            child.stdin.flush()
            rest = child.communicate(timeout=TIMEOUT)[0]
        finally:
            child.kill()
            child.communicate()
        assert b"RENEGOTIATING" in rest
        assert b"no renegotiation" in rest
        peer(server).close()


# --- what does not ---


def refused(kind: type[Exception], tls: object, *parts: str) -> None:
    with pytest.raises(kind) as caught:
        serve(port=0, tls=tls, fetch=lambda r: None)
    text = str(caught.value)
    for part in parts:
        assert part in text
    assert SECRET not in text
    assert "PRIVATE KEY" not in text


def test_contents_that_openssl_refuses(good, locked) -> None:
    other = pem(authority().issue_cert("other.example"))
    half = good["cert"][: len(good["cert"]) // 2]
    openssl = "(OpenSSL: "
    refused(ValueError, good | {"key": other["key"]}, "tls.key does not belong to the certificate", openssl, "mismatch")
    refused(ValueError, locked, "tls.passphrase is missing")
    refused(ValueError, locked | {"passphrase": "wrong"}, "tls.passphrase does not open the key", openssl)
    refused(ValueError, locked | {"passphrase": ""}, "tls.passphrase does not open the key")
    refused(ValueError, good | {"cert": half}, "tls.cert", openssl)
    refused(ValueError, good | {"cert": good["cert"] + half}, "tls.cert has a chain", openssl)
    refused(ValueError, good | {"key": good["cert"]}, "tls.key holds no private key")
    refused(ValueError, good | {"ca": good["key"]}, "tls.ca")
    refused(ValueError, good | {"ciphers": "NO-SUCH"}, "tls.ciphers matches no cipher", openssl)
    refused(ValueError, good | {"ciphers": "TLS_NO_SUCH"}, "tls.ciphers", "TLS 1.3")
    refused(ValueError, [good, good | {"server_name": "a.test", "key": other["key"]}], "tls[1].key")
    refused(
        ValueError,
        [good | {"server_name": "a.test"}, good | {"server_name": ["b.test", "A.test"]}],
        "tls[1].server_name",
        "twice",
    )


def test_files_that_cannot_be_read(good, tmp_path) -> None:
    refused(FileNotFoundError, good | {"key": tmp_path / "none.pem"}, "tls.key cannot be read", "none.pem")
    refused(IsADirectoryError, good | {"cert": str(tmp_path)}, "tls.cert cannot be read")
    empty, huge = tmp_path / "empty", tmp_path / "huge"
    empty.touch()
    huge.write_bytes(b"x" * (1 << 20) + b"x")
    refused(ValueError, good | {"ca": empty}, "tls.ca holds no certificate")
    refused(ValueError, good | {"cert": huge}, "tls.cert is over")


@pytest.mark.parametrize(
    ("tls", "kind", "parts"),
    [
        ("key", TypeError, ["tls must be a dict or a list of dicts", "str"]),
        ([], ValueError, ["tls", "empty"]),
        (["x"], TypeError, ["tls[0] must be a dict"]),
        ({}, ValueError, ["tls.key is missing"]),
        ({"cert": None}, ValueError, ["tls.key is missing"]),
        ({"kye": "x"}, TypeError, ["tls", "'kye'", "did you mean 'key'"]),
        ({"serverName": "a", "server_name": "a"}, TypeError, ["same option"]),
        ({"key": 7}, TypeError, ["tls.key", "int"]),
        ({"key": b"path"}, ValueError, ["tls.key", "-----BEGIN"]),
        ({"key": ""}, ValueError, ["tls.key", "empty"]),
        ({"key": "a\0b"}, ValueError, ["tls.key", "NUL"]),
        ({"passphrase": 1234}, TypeError, ["tls.passphrase must be a str or bytes, got int"]),
        ({"request_cert": 1}, TypeError, ["tls.request_cert"]),
        ({"rejectUnauthorized": "yes"}, TypeError, ["tls.rejectUnauthorized"]),
        ({"ciphers": ["A"]}, TypeError, ["tls.ciphers"]),
        ({"ciphers": " "}, ValueError, ["tls.ciphers"]),
        ({"alpn_protocols": "http/1.1"}, TypeError, ["tls.alpn_protocols"]),
        ({"alpn_protocols": [b"h2"]}, TypeError, ["tls.alpn_protocols"]),
        ({"alpn_protocols": [""]}, ValueError, ["tls.alpn_protocols", "7301"]),
        ({"server_name": 5}, TypeError, ["tls.server_name"]),
        ({"server_name": [5]}, TypeError, ["tls.server_name"]),
        ({"server_name": ""}, ValueError, ["tls.server_name"]),
        ({"server_name": "a..b"}, ValueError, ["tls.server_name"]),
        ({"server_name": "a b"}, ValueError, ["tls.server_name"]),
        ({"server_name": "a.*.b"}, ValueError, ["tls.server_name", "one label"]),
        ({"server_name": "*"}, ValueError, ["tls.server_name"]),
    ],
)
def test_mistakes(tls, kind, parts) -> None:
    refused(kind, tls, *parts)


def test_what_belongs_together(good) -> None:
    refused(ValueError, good | {"request_cert": True}, "tls.ca is missing")
    refused(ValueError, [good, good], "tls[1].server_name is missing")
    refused(ValueError, {"key": good["key"]}, "tls.cert is missing")


def test_a_wrong_type_never_shows_its_value() -> None:
    class Text:
        def __repr__(self) -> str:
            return SECRET

    for name in ("key", "passphrase"):
        refused(TypeError, {name: Text()}, f"tls.{name}", "Text")
    refused(TypeError, [Text()], "tls[0]")


def test_a_refused_configuration_binds_nothing(good) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match=r"tls\.key"):
        serve(port=port, hostname="127.0.0.1", tls={"cert": good["cert"]}, fetch=lambda r: None)
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))
