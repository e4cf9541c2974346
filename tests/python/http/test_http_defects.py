"""One direct test for each defect H1-H16 and L13 of the engine underneath, by its id; and every head at every split.

More about each is in the modules of its subject; here is the shortest thing that fails when one comes back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import tls_transport
from http_client import GET, Client, Recorder, frame, read_frame, request, running, upgrade_request
from proxy_headers import tlv, v2

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss


def fetch(request: Request, server: Server) -> Any:
    """Opens a WebSocket when there is a handshake to accept; else says what was asked for."""
    if server.upgrade(request):
        return None
    return Response(f"{request.method} {request.url} {len(request.body)}")


def echo(ws: Any, message: Any) -> None:
    ws.send(message)


@pytest.fixture
def server() -> Iterator[Server]:
    with running(fetch=fetch, websocket={"message": echo, "protocols": ("chat",)}, idle_timeout=30) as server:
        yield server


def statuses(server: Server, data: bytes, count: int = 1) -> list[int]:
    """The statuses of that many answers; a refusal must end the connection."""
    with Client(server) as client:
        client.send(data)
        got = [client.reply().status for _ in range(count)]
        if got[-1] >= 400 and got[-1] != 426:
            assert client.at_end()
        return got


def head(*fields: str, line: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join((line, *fields, "", "")).encode("latin-1")


# --- by id ---


def test_h1_a_split_request_line(server: Server) -> None:
    for cut in range(1, len(b"GET / HTTP/1.1\r\n")):
        with Client(server) as client:
            client.send(GET[:cut])
            with Client(server) as other:  # by its answer, the first part has been read
                assert other.ask().status == 200
            client.send(GET[cut:])
            assert client.reply().status == 200


def test_h2_field_names_and_numbers(server: Server) -> None:
    assert statuses(server, head("Host: a", *(f"X_{i}.y: z" for i in range(99)))) == [200]
    assert statuses(server, head("Host: a", *(f"X_{i}.y: z" for i in range(100)))) == [431]
    assert statuses(server, head("Host: a", "X: a\x01b")) == [400]
    assert statuses(server, head("Host: a", "X: a", " folded")) == [400]


def test_h3_the_size_of_a_head(server: Server) -> None:
    for size, status in ((5000, 200), (16_000, 200), (17_000, 431)):
        data = head("Host: a", "X: " + "y" * size)
        assert statuses(server, data) == [status]
        with Client(server) as client:
            client.send_pieces(data, 3000)
            assert client.reply().status == status


H4 = [
    head("Host: a", "Content-Length: 4", "Content-Length: 4") + b"abcd",
    head("Host: a", "Content-Length: 4", "Content-Length: 40") + b"abcd",
    head("Host: a", "Content-Length: +4") + b"abcd",
    head("Host: a", "Content-Length: 4, 4") + b"abcd",
    head("Host: a", "Content-Length: 0x4") + b"abcd",
    head("Host: a", "Content-Length: 4", "Transfer-Encoding:") + b"abcd",
    head("Host: a", "Transfer-Encoding: chunked", line="POST / HTTP/1.0") + b"0\r\n\r\n",
    head("Host: a", ": x", "Content-Length: 4") + b"abcd",
    head("Host: a", "Host: b"),
    head("Host: a", "Content-Length : 4") + b"abcd",
]


@pytest.mark.parametrize("data", H4, ids=range(len(H4)))
def test_h4_smuggling(server: Server, data: bytes) -> None:
    """One refusal, and what follows is not run as a request."""
    assert statuses(server, data + GET) == [400]


@pytest.mark.parametrize("size", [b"g", b":", b"4;x=y", b"4\n", b"-1", b"fffffffffffffffff"])
def test_h5_chunked_bodies(server: Server, size: bytes) -> None:
    """No chunk is ever parsed: Transfer-Encoding is not implemented, and says so."""
    data = head("Host: a", "Transfer-Encoding: chunked", line="POST / HTTP/1.1") + size + b"\r\nabcd\r\n0\r\n\r\n"
    assert statuses(server, data + GET) == [501]


def test_h6_pipelining(server: Server) -> None:
    """An error does not replace the answers before it, and Connection: close holds with more behind it."""
    assert statuses(server, GET + GET + head("Host: a", "X : y"), 3) == [200, 200, 400]
    with Client(server) as client:
        client.send(head("Host: a", "Connection: x, Close") + GET)
        reply = client.reply()
        assert (reply.status, reply.get("Connection")) == (200, "close")
        assert client.at_end()


HANDSHAKE = upgrade_request()
H7 = [
    HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"A" * 24),
    HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j"),
    HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: websocket2"),
    HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: keep-alive"),
    HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    HANDSHAKE.replace(b"GET /", b"POST /"),
    HANDSHAKE[:-2] + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    HANDSHAKE[:-2] + b"Content-Length: 2\r\n\r\nhi",
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat, other, chat\r\n\r\n",
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: a b\r\n\r\n",
    HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: " + b",".join(b"p%d" % i for i in range(101)) + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", H7, ids=range(len(H7)))
def test_h7_no_handshake(server: Server, data: bytes) -> None:
    """upgrade() is False, and the request is answered as any other."""
    assert statuses(server, data) == [200]


@pytest.mark.parametrize("version", [b"8", b"13, 8", b"", b"13\r\nSec-WebSocket-Version: 13"])
def test_h7_another_version(server: Server, version: bytes) -> None:
    with Client(server) as client:
        reply = client.ask(HANDSHAKE.replace(b"Version: 13", b"Version: " + version))
        assert (reply.status, reply.get("Sec-WebSocket-Version")) == (426, "13")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
        (b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: upgrade"),
        (b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: WebSocket"),
        (b"Host: a", b"Content-Length: 0\r\nHost: a"),
    ],
)
def test_h7_lists_of_tokens(server: Server, old: bytes, new: bytes) -> None:
    with Client(server) as client:
        client.send(HANDSHAKE.replace(old, new) + frame(b"x"))
        assert client.head().status == 101
        assert read_frame(client) == (1, b"x")


def test_h8_no_route() -> None:
    with running(routes={"/a": Response("a")}) as server, Client(server) as client:
        assert client.ask(request("/b")).status == 404
        assert client.ask(request("/a")).status == 200


def test_h9_no_answer() -> None:
    """A handler that answers nothing, or raises what is no Response: still an answer, and the process lives."""
    with running(fetch=lambda r: None) as server, Client(server) as client:
        assert client.ask().status == 204
        assert client.ask().status == 204


def test_h10_a_pattern_twice() -> None:
    """An error that says so, where the engine would abort."""
    with pytest.raises(ValueError, match="/a/"):
        running(routes={"/a/:x": Response("1"), "/a/:y": Response("2")}).__enter__()


def test_h11_a_path_of_many_segments() -> None:
    routes = {"/a" * 120: Response("all"), "/a" * 100: Response("hundred")}
    with running(routes=routes) as server, Client(server) as client:
        assert client.ask(request("/a" * 120)).body == b"all"
        assert client.ask(request("/a" * 121)).status == 404


def test_h12_injection() -> None:
    """Nothing with CR or LF leaves; a subprotocol is never echoed, only selected from the server's own."""
    errors = Recorder()

    def careless(request: Request, server: Server) -> Any:
        for value in ("a\r\nX-Injected: 1", "a\nb", "a\rb", "a\0b"):
            try:
                server.upgrade(request, headers={"X-A": value})
            except ValueError as exc:
                errors(exc)
            try:
                Response("x", headers={"X-A": value})
            except ValueError as exc:
                errors(exc)
        return None if server.upgrade(request) else "x"

    with running(fetch=careless, websocket={"protocols": ()}) as server, Client(server) as client:
        client.send(upgrade_request("/", "Sec-WebSocket-Protocol: mine"))
        reply = client.head()
        assert reply.status == 101
        assert reply.get("Sec-WebSocket-Protocol") is None
        assert reply.get("X-A") is None
    assert len(errors.items) == 8


def test_h13_head_and_http_1_0(server: Server) -> None:
    """No body for HEAD, also of errors; no chunks for HTTP/1.0; error pages that say they close."""
    with Client(server) as client:
        client.send(request("/", "HEAD") + GET)
        assert client.reply("HEAD").get("Content-Length") is not None
        assert client.reply().body.startswith(b"GET ")
        client.send(head(line="HEAD / HTTP/1.1"))
        reply = client.reply("HEAD")
        assert (reply.status, reply.get("Connection")) == (400, "close")
        assert client.at_end()
    with running(fetch=lambda r: Response(iter(["a", "b"]))) as streaming, Client(streaming) as client:
        client.send(head(line="GET / HTTP/1.0"))
        reply = client.reply()
        assert (reply.get("Transfer-Encoding"), reply.get("Connection"), reply.body) == (None, "close", b"ab")


@pytest.mark.plain("a TLS client does not begin with silence; test_tls has its like")
def test_h14_slow_heads() -> None:
    """The time for a head runs from its first byte and is not extended; a begun one is told. Empty lines are none."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(fetch=fetch, idle_timeout=1))
        silent, slow, empty, late = clients = [stack.enter_context(Client(server)) for _ in range(4)]
        begun = time.monotonic()
        slow.send(GET[:10])
        empty.send(b"\r\n\r\n")
        assert late.ask().status == 200
        late.send(GET[:1])
        assert slow.reply().status == 408
        assert late.reply().status == 408
        assert silent.at_end()
        for client in clients:
            assert client.at_end()
        assert 0.9 < time.monotonic() - begun < 8


@pytest.mark.plain("a PROXY header comes before TLS")
def test_h15_spoofing(server: Server) -> None:
    """Anybody's PROXY header is a malformed request; a trusted one's counts once, long TLVs included."""
    header = v2("203.0.113.9", values=tlv(2, b"x" * 100))
    assert statuses(server, header + GET) == [400]
    with running(
        fetch=lambda r, s: str(s.request_ip(r)[0]), trusted_proxies=["127.0.0.1"], proxy_protocol=True
    ) as trusting:
        with Client(trusting) as client:
            assert client.ask(header + GET).body == b"203.0.113.9"
            client.send(v2("192.0.2.7") + GET)
            assert client.reply().status == 400
        with Client(trusting) as client:  # too short for its addresses
            client.send(header[:14] + b"\0\4" + header[16:20] + GET)
            assert client.at_end()


def test_h16_no_banner(server: Server) -> None:
    for data in (GET, HANDSHAKE, head(), head("Host: a", "Transfer-Encoding: x")):
        with Client(server) as client:
            client.send(data)
            reply = client.head()
            assert reply.get("Server") is None
            assert not any("uwebsockets" in f"{name}{value}".lower() for name, value in reply.fields)


def test_l13_frames_behind_the_handshake(server: Server) -> None:
    frames = frame(b"one") + frame(b"\0\1", 2) + frame(b"ping", 9) + frame(b"last")
    expected = [(1, b"one"), (2, b"\0\1"), (10, b"ping"), (1, b"last")]
    for size in (len(HANDSHAKE + frames), len(HANDSHAKE) + 1, len(HANDSHAKE) - 1, 7):
        with Client(server) as client:
            client.send_pieces(HANDSHAKE + frames, size)
            assert client.head().status == 101
            assert [read_frame(client) for _ in expected] == expected


# --- what is accepted, at every split: (bytes, status, body) ---

SPLIT: dict[str, tuple[bytes, int, bytes | None]] = {
    "origin form": (head("Host: a.example:80", line="GET /p?q HTTP/1.1"), 200, b"GET http://a.example:80/p?q 0"),
    "empty lines first": (b"\r\n\r\n" + GET, 200, b"GET http://a/ 0"),
    "an empty Host": (head("Host:"), 200, b"GET http://localhost/ 0"),
    "an IPv6 Host": (head("Host: [2001:db8::1]:8080"), 200, b"GET http://[2001:db8::1]:8080/ 0"),
    "absolute form": (head("Host: a", line="GET http://b:81/p?q HTTP/1.1"), 200, b"GET http://b:81/p?q 0"),
    "absolute form, ws": (head("Host: a", line="GET ws://b:81/p?q HTTP/1.1"), 200, b"GET http://b:81/p?q 0"),
    "absolute form, wss": (head("Host: a", line="GET WSS://b?q HTTP/1.1"), 200, b"GET http://b/?q 0"),
    "absolute form, no path": (head("Host: a", line="GET http://b HTTP/1.1"), 200, b"GET http://b/ 0"),
    "absolute form, a query": (head("Host: a", line="GET HTTP://b?q=/ HTTP/1.1"), 200, b"GET http://b/?q=/ 0"),
    "asterisk form": (head("Host: a", line="OPTIONS * HTTP/1.1"), 200, b"OPTIONS http://a 0"),
    "HTTP/1.0": (head(line="GET / HTTP/1.0"), 200, b"GET http://localhost/ 0"),
    "a body": (request("/", "POST", b"\r\n\r\nGET /"), 200, b"POST http://a/ 9"),
    "an escaped NUL": (head("Host: a", line="GET /%00?%00 HTTP/1.1"), 200, b"GET http://a/%00?%00 0"),
    "no CR": (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n", 400, None),
    "no Host": (head("X: y"), 400, None),
    "a bare CR": (head("Host: a", "X: a\rb"), 400, None),
    "an unknown expectation": (head("Host: a", "Expect: x"), 417, None),
    "chunked": (head("Host: a", "Transfer-Encoding: chunked"), 501, None),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505, None),
    "a handshake of version 8": (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), 426, None),
}


SCHEME = b"https:" if tls_transport.enabled() else b"http:"  # of request.url


def pieces_of(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two at every place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


@pytest.mark.parametrize("name", SPLIT)
def test_every_split(server: Server, name: str) -> None:
    """The same answer however the bytes arrive. The client sees to packets of their own (TCP_NODELAY); that the server
    also reads them on their own is likely, and made certain for unix sockets elsewhere."""
    data, status, body = SPLIT[name]
    for pieces in pieces_of(data):
        with Client(server) as client:
            for piece in pieces:
                client.send(piece)
            reply = client.reply()
            assert reply.status == status, pieces
            assert body is None or reply.body == body.replace(b"http:", SCHEME), pieces


def test_every_split_of_a_handshake(server: Server) -> None:
    data = upgrade_request("/", "Sec-WebSocket-Protocol: chat") + frame(b"x" * 10)
    for pieces in pieces_of(data):
        with Client(server) as client:
            for piece in pieces:
                client.send(piece)
            reply = client.head()
            assert (reply.status, reply.get("Sec-WebSocket-Protocol")) == (101, "chat"), pieces
            assert read_frame(client) == (1, b"x" * 10), pieces


def test_host_is_the_targets(server: Server) -> None:
    """With an absolute form the Host field must be ignored (RFC 9112 section 3.2.2): nobody sees another one."""
    with running(fetch=lambda r: f"{r.url} {r.headers['host']} {r.path}") as telling, Client(telling) as client:
        assert client.ask(head("Host: evil", line="GET https://good?x HTTP/1.1")).body == SCHEME + b"//good/?x good /"
