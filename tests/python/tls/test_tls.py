"""TLS as clients see it: wss and https by other people's libraries, and by sockets that misbehave."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import urllib.request

import aiohttp
import pytest
import tls_transport
from tls_transport import TlsSocket, client_context, server_options
from websockets.sync.client import connect
from ws_client import CLOSE, TEXT, TIMEOUT, Frame, close_frame, close_payload, eventually, frame, handshake

pytestmark = pytest.mark.wss

GET = b"GET /p?q HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def secure(serving):
    """``secure(**options)``: a running server with TLS."""
    return lambda **options: serving(tls=server_options(), **options)


@pytest.fixture
def dial():
    """``dial(live)``: a TLS socket to it."""
    opened: list[TlsSocket] = []

    def make(live, context=None, receive_buffer=0, **options) -> TlsSocket:
        sock = socket.socket(socket.AF_UNIX if isinstance(live.address, str) else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(TIMEOUT)
        sock.connect(live.address)
        opened.append(TlsSocket(sock, context or client_context(), **options))
        return opened[-1]

    yield make
    for sock in opened:
        sock.close()


def read_to_end(sock) -> bytes:
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
    return data


def read_exactly(sock, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, data[:100]
        data += piece
    return data


def upgraded(sock) -> TlsSocket:
    """The socket, now a WebSocket."""
    sock.sendall(handshake())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += read_exactly(sock, 1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return sock


def unwrapped(frames: bytes) -> list[Frame]:
    out = []
    while frames:
        size, head = frames[1], 2
        if size == 126:
            size, head = struct.unpack("!H", frames[2:4])[0], 4
        out.append(Frame(frames[0] & 15, frames[head : head + size], bool(frames[0] & 128)))
        frames = frames[head + size :]
    return out


# --- other people's clients ---


def test_websockets(secure) -> None:
    live = secure(message=lambda ws, message: ws.send(message))
    url = live.server.url.replace("https", "wss")
    with connect(url, ssl=client_context(), proxy=None, max_size=None) as client:
        for message in ("", "hello", "é" * 100_000, b"", os.urandom(3_000_000)):
            client.send(message)
            assert client.recv(TIMEOUT) == message
        client.send(["in ", "three ", "pieces"])
        assert client.recv(TIMEOUT) == "in three pieces"
        assert client.ping(b"p").wait(TIMEOUT)
    assert live.wait_for("close")[1:] == (1000, "")


def test_aiohttp(secure) -> None:
    live = secure(message=lambda ws, message: ws.send(message))

    async def talk() -> None:
        context = client_context()
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(live.server.url, ssl=context, max_msg_size=0) as ws:
                payload = os.urandom(8_000_000)
                await ws.send_bytes(payload)
                assert await ws.receive_bytes(timeout=30) == payload
            async with session.get(live.server.url, ssl=context) as response:
                assert response.status == 400
                assert await response.text() == "no websocket"

    asyncio.run(talk())


def test_https_and_the_urls(secure) -> None:
    live = secure(fetch=lambda request: {"url": request.url, "tls": request.tls["version"]})
    assert live.server.url == f"https://127.0.0.1:{live.server.port}/"
    body = urllib.request.urlopen(live.server.url + "a?b", context=client_context(), timeout=TIMEOUT).read()
    assert body == b'{"url":"%sa?b","tls":"TLSv1.3"}' % live.server.url.encode()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_what_a_handler_can_ask(secure, dial, version) -> None:
    seen = []

    def fetch(request, server):
        seen.append((request, request.tls))
        return "ok"

    live = secure(fetch=fetch)
    context = client_context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    sock = dial(live, context)
    sock.sendall(GET)
    assert sock.recv(100).startswith(b"HTTP/1.1 200")
    request, tls = seen.pop()
    assert (
        tls
        == request.tls
        == {
            "version": version.name.replace("_", "."),
            "cipher": sock.tls.cipher()[0],
            "server_name": "localhost",
            "alpn_protocol": "http/1.1",
            "peer_certificate": None,
            "authorized": False,
            "authorization_error": None,
            "session_reused": False,
        }
    )
    assert sock.tls.selected_alpn_protocol() == "http/1.1"


def test_without_tls_there_is_none(serving) -> None:
    seen = []
    live = serving(fetch=lambda request: seen.append(request.tls) or "ok", tls=None)
    assert urllib.request.urlopen(live.server.url, timeout=TIMEOUT).read() == b"ok"
    assert seen == [None]


def test_over_a_unix_socket(serving, dial, tmp_path) -> None:
    live = serving(unix=str(tmp_path / "s"), tls=server_options(), message=lambda ws, message: ws.send(message))
    sock = upgraded(dial(live))
    sock.sendall(frame(TEXT, "hello"))
    assert read_exactly(sock, 7) == b"\x81\x05hello"


# --- ends ---


def test_a_close_is_read_with_its_close_notify(secure, dial) -> None:
    live = secure(message=lambda ws, message: ws.close(4000, "enough"))
    sock = upgraded(dial(live))
    sock.sendall(frame(TEXT, "x") + frame(TEXT, "y" * 100_000))  # the second is never read: no reset may come of it
    assert unwrapped(read_to_end(sock)) == [Frame(CLOSE, close_payload(4000, "enough"))]
    assert live.wait_for("close")[1:] == (4000, "enough")
    assert sock.tls.read(1) == b""  # a close_notify; just a FIN would raise SSLEOFError


def test_the_close_handshake(secure, dial) -> None:
    live = secure()
    sock = upgraded(dial(live))
    sock.sendall(close_frame(1000, "bye"))
    sock.shutdown(socket.SHUT_WR)
    assert unwrapped(read_to_end(sock)) == [Frame(CLOSE, close_payload(1000, "bye"))]
    assert live.wait_for("close")[1:] == (1000, "bye")


@pytest.mark.parametrize("how", ["close_notify", "fin", "close_notify and fin", "reset"])
def test_a_client_that_just_leaves(secure, dial, how) -> None:
    live = secure()
    sock = upgraded(dial(live))
    live.expect("open")
    sock.sendall(frame(TEXT, "last"))
    if "close_notify" in how:
        with pytest.raises(ssl.SSLWantReadError):
            sock.tls.unwrap()
        sock._flush()
    if "fin" in how:
        sock._sock.shutdown(socket.SHUT_WR)
    if how == "reset":
        assert live.expect("message")[1] == "last"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    else:
        assert live.expect("message")[1] == "last"
    assert live.expect_close() == (1006, "")


def test_a_violation_is_answered(secure, dial) -> None:
    live = secure()
    sock = upgraded(dial(live))
    sock.sendall(frame(3, "what") + b"x" * 50_000)
    (got,) = unwrapped(read_to_end(sock))
    assert (got.opcode, got.close_code) == (CLOSE, 1002)
    live.wait_for("close")


def test_stop_says_good_bye(secure, dial) -> None:
    live = secure()
    sock = upgraded(dial(live))
    live.expect("open")
    live.server.stop(True)
    assert unwrapped(read_to_end(sock)) == [Frame(CLOSE, close_payload(1001, "Server closed"))]
    assert live.expect_close() == (1001, "Server closed")


# --- peers that do not speak TLS, or not well ---


def test_plain_http_is_told_where_it_is(secure) -> None:
    live = secure()
    with socket.create_connection(live.address, timeout=TIMEOUT) as sock:
        sock.sendall(GET)
        head, _, body = read_to_end(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"https" in body


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff"])
def test_garbage_gets_an_alert(secure, garbage) -> None:
    live = secure()
    with socket.create_connection(live.address, timeout=TIMEOUT) as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        alert = read_to_end(sock)
    assert alert == b"" or (alert[0], alert[5]) == (21, 2)
    live.no_events()


def test_silence_in_the_handshake_is_cut(secure) -> None:
    live = secure(idle_timeout_http=1)
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    for part in (b"", hello.read()[:50]):
        with socket.create_connection(live.address, timeout=TIMEOUT) as sock:
            sock.sendall(part)
            assert read_to_end(sock) == b""


def test_an_untrusting_client_harms_nobody(secure, dial) -> None:
    live = secure(message=lambda ws, message: ws.send(message))
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(live, ssl.create_default_context()).sendall(GET)
    sock = upgraded(dial(live))
    sock.sendall(frame(TEXT, "x"))
    assert read_exactly(sock, 3) == b"\x81\x01x"


def test_errors_of_pythons_own_ssl_stay_its_own(secure, dial) -> None:
    """Python's module uses the same library on the same thread, and may leave its error queue full."""

    def message(ws, data):
        with pytest.raises(ssl.SSLError):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="no certificate")
        ws.send(data)

    live = secure(message=message)
    sock = upgraded(dial(live))
    for _ in range(3):
        sock.sendall(frame(TEXT, "x"))
        assert read_exactly(sock, 3) == b"\x81\x01x"


# --- flow ---


def test_a_slow_reader_gets_everything_in_order(secure, dial) -> None:
    drained = []
    live = secure(drain=lambda ws: drained.append(ws.buffered_amount), backpressure_limit=64 << 20)
    sock = upgraded(dial(live, receive_buffer=4096))
    ws = live.expect("open")[0]
    pieces = [bytes([i]) * 50_000 for i in range(200)]

    def send() -> list[int]:
        return [ws.send(piece) for piece in pieces]

    answers = live.on_loop(send)
    assert answers[0] in (50_000, -1)
    assert answers[-1] == -1
    assert live.on_loop(lambda: ws.buffered_amount) > 5_000_000
    for piece in pieces:
        head = read_exactly(sock, 4)
        assert head == b"\x82\x7e" + struct.pack("!H", 50_000)
        assert read_exactly(sock, 50_000) == piece
    eventually(lambda: live.on_loop(lambda: ws.buffered_amount) == 0)
    assert drained


@pytest.mark.parametrize("size", [10, 100_000, 20_000_000])
def test_terminate_with_a_peer_that_does_not_read(secure, dial, size) -> None:
    live = secure(backpressure_limit=64 << 20)
    upgraded(dial(live, receive_buffer=4096))
    ws = live.expect("open")[0]

    def end() -> None:
        ws.send(b"x" * size)
        ws.terminate()

    live.on_loop(end)
    assert live.wait_for("close")[1:] == (1006, "")


def test_pause_keeps_what_was_decrypted(secure, dial) -> None:
    live = secure(message=lambda ws, message: ws.pause() if message == "stop" else None)
    sock = upgraded(dial(live))
    ws = live.expect("open")[0]
    numbers = [str(i) for i in range(20_000)]
    sock.sendall(frame(TEXT, "stop") + b"".join(frame(TEXT, number) for number in numbers))
    assert live.expect("message")[1] == "stop"
    live.on_loop(lambda: None)
    live.on_loop(ws.resume)
    assert [live.expect("message")[1] for _ in numbers] == numbers


def test_connections_leave_no_descriptors(secure, dial) -> None:
    live = secure()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        sock = upgraded(dial(live))
        sock.sendall(close_frame(1000))
        read_to_end(sock)
        sock.close()
        live.wait_for("close")
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_many_handshakes_at_once(secure, dial) -> None:
    live = secure(message=lambda ws, message: ws.send(message))
    socks = [dial(live) for _ in range(40)]
    for sock in socks:
        with pytest.raises(ssl.SSLWantReadError):
            sock.tls.do_handshake()
        sock._flush()
    for sock in socks:
        upgraded(sock).sendall(frame(TEXT, "x"))
    for sock in socks:
        assert read_exactly(sock, 3) == b"\x81\x01x"


def test_a_fork_does_not_disturb_the_parent(script) -> None:
    program = script(
        """
        import os, socket
        import tls_transport
        import uwserve
        server = uwserve.serve(port=0, hostname="127.0.0.1", tls=tls_transport.server_options(), fetch=lambda r: "ok")
        server.start()
        context = tls_transport.client_context()
        sock = tls_transport.TlsSocket(socket.create_connection(("127.0.0.1", server.port)), context)
        ask = b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
        sock.sendall(ask)
        assert sock.recv(1000).endswith(b"ok")
        if os.fork() == 0:
            try:
                server.stop()
            except RuntimeError:
                os._exit(0)
            os._exit(1)
        assert os.wait()[1] == 0
        sock.sendall(ask)
        assert sock.recv(1000).endswith(b"ok")
        server.stop(True).wait(10)
        print("done")
        """
    )
    assert program.finish() == "done\n"


def test_the_suite_runs_over_tls_when_asked(serving) -> None:
    """``--wss`` is not a no-op."""
    live = serving()
    assert live.server.url.startswith("https" if tls_transport.enabled() else "http:")
