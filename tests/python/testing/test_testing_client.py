"""``uwserve.testing``'s client: what it does on the wire, what it refuses to take, and what it says then.

What a correct server never sends comes from a plain socket with a thread behind it (``Scripted``).
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from http_client import DEADLINE
from ws_client import accept_of, close_frame, close_payload, frame

import uwserve
from uwserve import ConnectionClosed, testing
from uwserve.testing import ProtocolError, UnexpectedClose, WebSocketClient, serving

pytestmark = pytest.mark.plain("its clients have their own TLS, which is among what is tested")


def message(ws: Any, message: Any) -> None:
    """Do what the message says, or send it back."""
    match message:
        case "ping":
            ws.ping(b"from the server")
        case "close":
            ws.close(4001, "asked for")
        case "terminate":
            ws.terminate()
        case "two":
            ws.send("one")
            ws.send(b"two")
            ws.close(1001)
        case "nothing":
            pass
        case _:
            ws.send(message)


@pytest.fixture
def ws() -> Iterator[WebSocketClient]:
    with (
        serving(websocket={"message": message, "pong": lambda ws, data: ws.send(b"pong " + data)}) as s,
        s.connect() as c,
    ):
        yield c


# --- with a real server ---


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_000])
def test_sizes(ws: WebSocketClient, size: int) -> None:
    for sent in (os.urandom(size), "é" * (size // 2)):
        ws.send(sent)
        assert ws.receive() == sent


def test_types(ws: WebSocketClient) -> None:
    for sent in (bytearray(b"a"), memoryview(b"a")):
        ws.send(sent)
        assert ws.receive_bytes() == b"a"
    ws.send_json({"a": [1]})
    assert ws.receive_json() == {"a": [1]}
    ws.send_fragments(["a", "", "é"])
    assert ws.receive_text() == "aé"
    ws.send_fragments([b"a", b"b"])
    assert ws.receive() == b"ab"
    for wrong in (1, None, ["a"]):
        with pytest.raises(TypeError, match="a message must be str or bytes-like"):
            ws.send(wrong)  # type: ignore[arg-type]
    for parts in ([], ["a", b"b"]):
        with pytest.raises(TypeError, match="parts of a message"):
            ws.send_fragments(parts)


def test_a_message_larger_than_all_buffers_while_nobody_reads(ws: WebSocketClient) -> None:
    """The server sends back what it has while the client still sends: neither waits for the other."""
    sent = [os.urandom(1 << 20) for _ in range(12)]
    for data in sent:
        ws.send(data)
    assert [ws.receive() for _ in sent] == sent


def test_pings_and_pongs(ws: WebSocketClient) -> None:
    ws.send("first")
    ws.ping()
    ws.ping(b"x" * 125)
    assert ws.receive() == "first"
    ws.send("ping")
    assert ws.expect_ping(b"from the server") == b"from the server"
    assert ws.receive() == b"pong from the server"
    ws.pong(b"unasked")
    assert ws.receive() == b"pong unasked"
    ws.send("ping")
    with pytest.raises(AssertionError, match="expected a Ping with b'x', received one with b'from the server'"):
        ws.expect_ping(b"x")
    for call in (ws.ping, ws.pong):
        with pytest.raises(ValueError, match="at most 125 bytes, got 126"):
            call(b"x" * 126)


def test_what_came_instead(ws: WebSocketClient) -> None:
    ws.send("nothing")
    ws.expect_nothing()
    with pytest.raises(TimeoutError, match=r"^waited 0\.05 s for a message, and nothing came$"):
        ws.receive(timeout=0.05)
    ws.send("x" * 300)
    with pytest.raises(AssertionError, match=r"expected no message, received the text message 'xxx.*'\.\.\. of 300"):
        ws.expect_nothing()
    with pytest.raises(AssertionError, match="expected a close, received the text message"):
        ws.expect_close()
    with pytest.raises(AssertionError, match="expected a binary message, received the text message"):
        ws.receive_bytes()
    ws.send(b"x")
    with pytest.raises(AssertionError, match="expected a text message, received the binary message b'x'"):
        ws.receive_text()
    ws.send("{")
    with pytest.raises(AssertionError, match="expected JSON, received the text message"):
        ws.receive_json()
    ws.send("close")
    with pytest.raises(UnexpectedClose, match="waited for a message, but the connection closed with 4001 'asked for'"):
        ws.receive()
    with pytest.raises(AssertionError, match=r"expected a close with \(1000, 'any reason'\), but it was \(4001, 'a"):
        ws.expect_close(1000)
    with pytest.raises(AssertionError, match=r"expected a close with \('any code', 'x'\)"):
        ws.expect_close(reason="x")
    assert ws.expect_close(4001, "asked for") == (4001, "asked for")


def test_closes() -> None:
    seen: list[tuple[int, str]] = []
    websocket = {"message": message, "close": lambda ws, code, reason: seen.append((code, reason))}
    with serving(websocket=websocket) as server:
        with server.connect() as ws:
            assert ws.close(4000, "bye é") == (4000, "bye é")
            assert ws.close() == (4000, "bye é")
            assert ws.closed == (4000, "bye é")
            with pytest.raises(ConnectionClosed):
                ws.send("late")
        with server.connect() as ws:
            ws.send("kept")
            assert ws.close().code == 1000
            assert ws.receive() == "kept"
        with server.connect() as ws:
            for code in (999, 1004, 1015, 2999, 5000):
                with pytest.raises(ValueError, match=f"code must be .*got {code}"):
                    ws.close(code)
            with pytest.raises(ValueError, match="at most 123 bytes of UTF-8, got 124"):
                ws.close(1000, "é" * 62)
            ws.drop()
        server.wait_until(lambda: len(seen) == 3)
        assert seen == [(4000, "bye é"), (1000, ""), (1006, "")]
        with server.connect() as ws:
            ws.send("terminate")
            with pytest.raises(UnexpectedClose, match="closed without a Close frame"):
                ws.receive()
            assert ws.expect_close(1006).reason == ""
        with server.connect() as ws:
            ws.send("two")
            assert list(ws) == ["one", b"two"]
        with server.connect() as ws:
            ws.send("close")
            with pytest.raises(UnexpectedClose):
                list(ws)


@pytest.mark.parametrize("setting", [True, "dedicated", "4KB", {"compress": "dedicated", "decompress": "shared"}])
def test_compression(setting: Any) -> None:
    """Both ways, with and without context; what it saved is to be seen."""
    option = {"compress": setting, "decompress": setting} if isinstance(setting, str) else setting
    websocket = {"message": lambda ws, m: ws.send(m, compress=True), "per_message_deflate": option}
    with serving(websocket=websocket) as server:
        with server.connect(compression=True) as ws:
            assert ws.compression
            total = 0
            for sent in ["", "x", "hello " * 20_000, b"\0" * 70_000, os.urandom(5000), "hello " * 20_000] * 2:
                ws.send(sent)
                assert ws.receive() == sent
                total += len(sent)
            assert 10_000 < ws.bytes_received < total / 4
        with server.connect() as ws:
            assert not ws.compression
            ws.send("x" * 1000)
            assert ws.receive() == "x" * 1000
            assert ws.bytes_received == 1004
    with serving(websocket={"message": message}) as server, server.connect(compression=True) as ws:
        assert not ws.compression


def test_compressed_messages_are_bounded() -> None:
    websocket = {"message": lambda ws, m: ws.send("x" * 100_000, compress=True), "per_message_deflate": True}
    with serving(websocket=websocket) as server:
        with server.connect(compression=True, max_size=100_000) as ws:
            ws.send("")
            assert len(ws.receive()) == 100_000
        ws = server.connect(compression=True, max_size=99_999)
        ws.send("")
        with pytest.raises(ProtocolError, match="inflates to more than max_size=99999 bytes"):
            ws.receive()


# --- TLS ---


def tls(*names: str) -> tuple[trustme.CA, dict[str, bytes]]:
    authority = trustme.CA()
    leaf = authority.issue_cert(*names)
    return authority, {"key": leaf.private_key_pem.bytes(), "cert": leaf.cert_chain_pems[0].bytes()}


def test_tls() -> None:
    """The clients trust the server's certificate and nothing else, and check the name in it."""
    authority, options = tls("localhost")
    other, _ = tls("localhost")
    fetched: list[Any] = []

    def fetch(request: uwserve.Request, server: uwserve.Server) -> str | None:
        fetched.append(request.tls and request.tls["server_name"])
        return None if server.upgrade(request) else "secret"

    with serving(fetch=fetch, websocket={"message": message}, tls=options) as server:
        assert server.websocket_url == f"wss://127.0.0.1:{server.server.port}/"
        assert server.get().text == "secret"
        with server.connect() as ws:
            for sent in ("x", os.urandom(3_000_000)):
                ws.send(sent)
                assert ws.receive() == sent
            ws.send("close")
            ws.expect_close(4001)
        with server.connect() as ws:
            ws.send("terminate")
            ws.expect_close(1006)
        with server.connect() as ws:  # a server that has gone shows when something is received, as over plain TCP
            ws.send("terminate")
            server.wait_until(lambda: not server.server.pending_websockets)
            for _ in range(10):
                ws.send("x" * 100_000)
            ws.expect_close(1006)
        assert fetched[-1] == "localhost"
        context = ssl.create_default_context()
        for wrong in ({"server_hostname": "example.com"}, {"ssl_context": context}):
            with pytest.raises(ssl.SSLCertVerificationError):
                server.connect(**wrong)
        other.configure_trust(context)
        with pytest.raises(ssl.SSLCertVerificationError):
            server.get(ssl_context=context)
        authority.configure_trust(context)
        assert server.get(ssl_context=context).text == "secret"
        with testing.connect(server.websocket_url, ssl_context=context, server_hostname="localhost") as ws:
            ws.ping()


# --- what no correct server sends ---


class Scripted:
    """A server for one connection: an answer to the handshake, then these bytes, then what the client sends until it
    ends; with ``stay`` it never ends by itself."""

    def __init__(self, sent: bytes, head: str = "", stay: bool = False) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(DEADLINE)
        self.sent, self.head, self.stay = sent, head, stay
        self.got = b""
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with self.listening, self.listening.accept()[0] as sock:
            sock.settimeout(DEADLINE)
            request = b""
            while b"\r\n\r\n" not in request:
                request += sock.recv(4096)
            key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
            head = self.head or f"HTTP/1.1 101 ok\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n{ACCEPT}"
            sock.sendall(head.replace("KEY", accept_of(key)).encode() + b"\r\n" + self.sent)
            if not self.stay:
                sock.shutdown(socket.SHUT_WR)
            try:
                while data := sock.recv(4096):
                    self.got += data
            except ConnectionResetError:
                pass

    def connect(self, **options: Any) -> WebSocketClient:
        return testing.connect(f"ws://127.0.0.1:{self.listening.getsockname()[1]}/", **options)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


ACCEPT = "Sec-WebSocket-Accept: KEY\r\n"


def plain(opcode: int, payload: bytes | str = b"", **bits: Any) -> bytes:
    return frame(opcode, payload, mask=None, **bits)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (frame(1, "x"), "a text frame from the server is masked"),
        (plain(3), "reserved opcode 3"),
        (plain(11), "reserved opcode 11"),
        (plain(1, "x", rsv=4), "reserved bit"),
        (plain(2, "x", rsv=1), "reserved bit"),
        (plain(9, "x", fin=False), "a Ping frame is fragmented"),
        (b"\x89\x7e\0\x7e" + b"x" * 126, "over 125 bytes"),
        (plain(0, "x"), "a continuation frame outside a fragmented message"),
        (plain(1, "x", fin=False) + plain(1, "x"), "a text frame inside a fragmented message"),
        (b"\x81\x7e\0\x7dx", "a length is not in its shortest form"),
        (b"\x81\x7f\0\0\0\0\0\0\xff\xff", "a length is not in its shortest form"),
        (b"\x81\x7f\xff\0\0\0\0\0\0\0", "over max_size=67108864"),
        (plain(1, b"\xff"), "a text message is not UTF-8"),
        (plain(1, b"\xc3", fin=False) + plain(0, b"\x28"), "a text message is not UTF-8"),
        (plain(8, b"x"), "has one byte"),
        (plain(8, close_payload(1005)), "the code 1005, which must not be sent"),
        (plain(8, close_payload(1000, b"\xff")), "the reason of a Close frame is not UTF-8"),
        (plain(8, close_payload(1000)) + plain(1, "x"), "a text frame follows the Close frame"),
    ],
)
def test_frames_that_are_refused(sent: bytes, text: str) -> None:
    with Scripted(sent) as server:
        ws = server.connect()
        with pytest.raises(ProtocolError, match=text):
            ws.receive()
        with pytest.raises(UnexpectedClose):
            ws.receive()


def test_frames_in_pieces_and_at_the_end() -> None:
    """A message in fragments with a Ping between them, right behind the handshake; then the end without a Close."""
    sent = plain(1, "a", fin=False) + plain(9, "p") + plain(0, "", fin=False) + plain(0, "b") + plain(2, "half")[:-1]
    with Scripted(sent) as server, server.connect() as ws:
        assert ws.receive() == "ab"
        assert ws.expect_ping() == b"p"
        with pytest.raises(UnexpectedClose, match="without a Close frame"):
            ws.receive()
    assert server.got[:2] == b"\x8a\x81"  # the Pong, masked


def test_close_frames_are_echoed_with_their_code() -> None:
    for sent, code, size in ((close_payload(4001, "reason"), 4001, 2), (b"", 1005, 0)):
        with Scripted(plain(8, sent)) as server, server.connect() as ws:
            assert ws.expect_close().code == code
        assert len(server.got) == 6 + size == len(close_frame(code if size else None))


def test_a_server_that_does_not_end_the_connection() -> None:
    with Scripted(plain(8, close_payload(1000)), stay=True) as server:
        ws = server.connect(timeout=0.1)
        with pytest.raises(ProtocolError, match="does not end the connection"):
            ws.expect_close()


def test_a_server_that_does_not_read() -> None:
    text = r"no answer to the handshake on / from 127\.0\.0\.1:\d+ within 0\.1 s"
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(TimeoutError, match=text):
        testing.connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/", timeout=0.1)
    paused: list[Any] = []

    def open(ws: Any) -> None:
        ws.pause()
        paused.append(ws)

    with serving(websocket={"open": open}) as server:
        ws = server.connect(timeout=0.1)
        with pytest.raises(TimeoutError, match=r"waited 0\.1 s for the server to take \d+ more bytes"):
            ws.send(bytes(32 << 20))
        paused.clear()


UPGRADED = "HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("HTTP/1.0 101 ok\r\n", "begins with 'HTTP/1.0 101 ok'"),
        ("SSH-2.0-x\r\n", "begins with 'SSH-2.0-x'"),
        (UPGRADED, "has sec-websocket-accept: None instead of"),
        (UPGRADED + "Sec-WebSocket-Accept: x\r\n", "has sec-websocket-accept: 'x' instead of"),
        ("HTTP/1.1 101 ok\r\nConnection: Upgrade\r\n" + ACCEPT, "has upgrade: None instead of 'websocket'"),
        (
            UPGRADED + ACCEPT + "Sec-WebSocket-Protocol: c\r\n",
            r"chose the subprotocol \['c'\], offered were \['a', 'b'\]",
        ),
        (UPGRADED + ACCEPT + "Sec-WebSocket-Extensions: permessage-deflate\r\n", "none was offered"),
    ],
)
def test_answers_that_are_refused(head: str, text: str) -> None:
    with Scripted(b"", head) as server, pytest.raises(ProtocolError, match=text):
        server.connect(protocols=["a", "b"])


@pytest.mark.parametrize(
    "answer",
    [
        "x-other",
        "permessage-deflate; x",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    ],
)
def test_extensions_that_are_refused(answer: str) -> None:
    head = UPGRADED + ACCEPT + f"Sec-WebSocket-Extensions: {answer}\r\n"
    with Scripted(b"", head) as server, pytest.raises(ProtocolError, match="answered the extension"):
        server.connect(compression=True)


def test_broken_compressed_messages() -> None:
    head = UPGRADED + ACCEPT + "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    for sent, text in (
        (plain(1, b"\xff\xff\xff", rsv=4), "cannot be decompressed"),
        (plain(1, b"x", fin=False, rsv=4) + plain(0, b"x", rsv=4), "reserved bit"),
    ):
        with Scripted(sent, head) as server, pytest.raises(ProtocolError, match=text):
            server.connect(compression=True).receive()


def test_refusals_with_any_kind_of_body() -> None:
    for head, sent, body in (
        ("HTTP/1.1 403 no\r\nContent-Length: 3\r\n", b"abcd", b"abc"),
        ("HTTP/1.1 403 no\r\nTransfer-Encoding: chunked\r\n", b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        ("HTTP/1.1 403 no\r\n", b"abc", b"abc"),
    ):
        with Scripted(sent, head) as server, pytest.raises(testing.HandshakeRefused) as refused:
            server.connect()
        assert (refused.value.response.status, refused.value.response.body) == (403, body)
