"""Requests that are refused: every rule of the strict parser, whole and byte by byte, and nothing behind one is run.

One table: name, bytes, status. What two parsers might read differently is what request smuggling lives on (RFC 9112
section 11.2), so all of it must be refused, and the connection must end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_client import GET, Client, Recorder, request, running

from uwserve import Server

pytestmark = pytest.mark.wss

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def line(first: str, *fields: str) -> bytes:
    return "\r\n".join((first, *fields, "", "")).encode("latin-1")


def post(*fields: str, body: bytes = b"") -> bytes:
    return line("POST / HTTP/1.1", "Host: a", *fields) + body


def get(*fields: str) -> bytes:
    return line("GET / HTTP/1.1", "Host: a", *fields)


CASES: list[tuple[str, bytes, int]] = [
    # the request line
    ("HTTP/0.9", line("GET /"), 400),
    ("only a word", line("GET"), 400),
    ("an empty target", line("GET  HTTP/1.1", "Host: a"), 400),
    ("two spaces", line("GET  / HTTP/1.1", "Host: a"), 400),
    ("a space in the target", line("GET /a b HTTP/1.1", "Host: a"), 400),
    ("a trailing space", line("GET / HTTP/1.1 ", "Host: a"), 400),
    ("a leading space", line(" GET / HTTP/1.1", "Host: a"), 400),
    ("tabs", line("GET\t/\tHTTP/1.1", "Host: a"), 400),
    ("a method that is no token", line("G(T / HTTP/1.1", "Host: a"), 400),
    ("a lower-case version", line("GET / http/1.1", "Host: a"), 400),
    ("a version without a dot", line("GET / HTTP/11", "Host: a"), 400),
    ("a long version", line("GET / HTTP/1.11", "Host: a"), 400),
    ("HTTP/1.2", line("GET / HTTP/1.2", "Host: a"), 505),
    ("HTTP/2.0", line("GET / HTTP/2.0", "Host: a"), 505),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("a relative target", line("GET a HTTP/1.1", "Host: a"), 400),
    ("* for GET", line("GET * HTTP/1.1", "Host: a"), 400),
    ("authority form", line("GET a:80 HTTP/1.1", "Host: a"), 400),
    ("CONNECT", line("CONNECT a:80 HTTP/1.1", "Host: a:80"), 501),
    ("CONNECT with a path", line("CONNECT / HTTP/1.1", "Host: a"), 501),
    ("a method of 65 letters", line("G" * 65 + " / HTTP/1.1", "Host: a"), 501),
    ("a URL with a user", line("GET http://u@a/ HTTP/1.1", "Host: a"), 400),
    ("a URL with a port alone", line("GET http://:80/ HTTP/1.1", "Host: a"), 400),
    ("a URL with a port too large", line("GET http://a:65536/ HTTP/1.1", "Host: a"), 400),
    ("a URL with broken brackets", line("GET http://[::1/ HTTP/1.1", "Host: a"), 400),
    ("a URL and no Host", line("GET http://a/ HTTP/1.1"), 400),
    ("a URL and a bad Host", line("GET http://a/ HTTP/1.1", "Host: a b"), 400),
    ("a URL and two Hosts", line("GET http://a/ HTTP/1.1", "Host: a", "Host: a"), 400),
    ("* with a query", line("OPTIONS *?x HTTP/1.1", "Host: a"), 400),
    ("another scheme", line("GET ftp://a/ HTTP/1.1", "Host: a"), 400),
    ("a URL without authority", line("GET http:///x HTTP/1.1", "Host: a"), 400),
    ("a URL with user and space", line("GET http://a@b\\c/x HTTP/1.1", "Host: a"), 400),
    ("a fragment", line("GET /#x HTTP/1.1", "Host: a"), 400),
    ("NUL in the target", line("GET /\0 HTTP/1.1", "Host: a"), 400),
    ("DEL in the target", line("GET /\x7f HTTP/1.1", "Host: a"), 400),
    ("Latin-1 in the target", line("GET /\xe9 HTTP/1.1", "Host: a"), 400),
    ("CR in the request line", line("GET /\rx HTTP/1.1", "Host: a"), 400),
    ("LF in the request line", line("GET /\nx HTTP/1.1", "Host: a"), 400),
    ("a target of 8 KiB and one byte", line("GET /" + "x" * 8192 + " HTTP/1.1", "Host: a"), 414),
    # fields
    ("no Host", line("GET / HTTP/1.1"), 400),
    ("two Hosts", line("GET / HTTP/1.1", "Host: a", "Host: a"), 400),
    ("two Hosts, one lower case", line("GET / HTTP/1.1", "Host: a", "host: b"), 400),
    ("two Hosts in HTTP/1.0", line("GET / HTTP/1.0", "Host: a", "Host: b"), 400),
    ("a Host with a path", line("GET / HTTP/1.1", "Host: a/b"), 400),
    ("a Host with a space", line("GET / HTTP/1.1", "Host: a b"), 400),
    ("a Host with a user", line("GET / HTTP/1.1", "Host: u@a"), 400),
    ("a Host with a scheme", line("GET / HTTP/1.1", "Host: http://a"), 400),
    ("a Host of two", line("GET / HTTP/1.1", "Host: a, b"), 400),
    ("a Host with two ports", line("GET / HTTP/1.1", "Host: a:80:81"), 400),
    ("a Host with a name for a port", line("GET / HTTP/1.1", "Host: a:http"), 400),
    ("a Host with a port too large", line("GET / HTTP/1.1", "Host: a:65536"), 400),
    ("a Host that is a port", line("GET / HTTP/1.1", "Host: :80"), 400),
    ("a Host with half a bracket", line("GET / HTTP/1.1", "Host: [::1"), 400),
    ("a Host with the other half", line("GET / HTTP/1.1", "Host: ::1]"), 400),
    ("a Host with bare IPv6", line("GET / HTTP/1.1", "Host: ::1"), 400),
    ("a Host with bad IPv6", line("GET / HTTP/1.1", "Host: [1::2::3]"), 400),
    ("a Host with a zone", line("GET / HTTP/1.1", "Host: [fe80::1%25eth0]"), 400),
    ("a Host behind brackets", line("GET / HTTP/1.1", "Host: [::1]x"), 400),
    ("a Host with half an escape", line("GET / HTTP/1.1", "Host: a%4"), 400),
    ("a Host in Latin-1", line("GET / HTTP/1.1", "Host: \xe9"), 400),
    ("no colon", get("Nonsense"), 400),
    ("an empty name", get(": x"), 400),
    ("a space before the colon", get("X : y"), 400),
    ("a tab before the colon", get("X\t: y"), 400),
    ("a folded field", get("X: y", " z"), 400),
    ("a folded field, tab", get("X: y", "\tz"), 400),
    ("a folded first field", line("GET / HTTP/1.1", " X: y", "Host: a"), 400),
    ("a name that is no token", get("X(Y): z"), 400),
    ("Latin-1 in a name", get("X\xe9: z"), 400),
    *((f"control character {c:#04x} in a value", get(f"X: a{chr(c)}b"), 400) for c in (0, 1, 8, 10, 11, 13, 27, 127)),
    ("control character in a name", get("X\x01: b"), 400),
    ("101 fields", line("GET / HTTP/1.1", "Host: a", *(f"X-{i}: y" for i in range(100))), 431),
    ("a head of 16 KiB and one byte", get("X: " + "y" * (16 * 1024 - len(get("X: ")) + 1)), 431),
    ("an unfinished target of 20 KiB", b"GET /" + b"x" * 20_000, 414),
    ("a field of 100 KiB", get("X: " + "y" * 100_000), 431),
    # where the message ends
    ("a bare line feed, and more to come", b"GET / HTTP/1.1\nHost: a\r\n", 400),
    ("a bare line feed in the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("a bare line feed between fields", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    ("a bare line feed first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a bare CR first", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a bare CR as the end", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", 400),
    ("bare line feeds", b"GET / HTTP/1.1\nHost: a\n\n" + b"\r\n\r\n", 400),
    ("two Content-Lengths", post("Content-Length: 4", "Content-Length: 4", body=b"abcd"), 400),
    ("two different Content-Lengths", post("Content-Length: 0", "Content-Length: 40"), 400),
    ("a list of Content-Lengths", post("Content-Length: 4, 4", body=b"abcd"), 400),
    ("a signed Content-Length", post("Content-Length: +4", body=b"abcd"), 400),
    ("a negative Content-Length", post("Content-Length: -1"), 400),
    ("a hexadecimal Content-Length", post("Content-Length: 0x4", body=b"abcd"), 400),
    ("a Content-Length with a space inside", post("Content-Length: 1 0"), 400),
    ("a Content-Length with an underscore", post("Content-Length: 1_0"), 400),
    ("an empty Content-Length", post("Content-Length:"), 400),
    ("a Content-Length with superscript", post("Content-Length: 1\xb2"), 400),
    ("Content-Length beyond the limit", post("Content-Length: 134217729"), 413),
    ("Content-Length 10^18", post("Content-Length: 1000000000000000000"), 413),
    ("Content-Length 2^64", post("Content-Length: 18446744073709551616"), 413),
    ("Content-Length 2^64 + 4", post("Content-Length: 18446744073709551620", body=b"abcd"), 413),
    ("Content-Length of 40 digits", post("Content-Length: " + "9" * 40), 413),
    ("chunked", post("Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 501),
    ("chunked, cased", post("transfer-encoding: ChUnKeD", body=b"0\r\n\r\n"), 501),
    ("gzip, chunked", post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    ("identity", post("Transfer-Encoding: identity"), 501),
    ("an empty Transfer-Encoding", post("Transfer-Encoding:"), 501),
    ("an unknown Transfer-Encoding", post("Transfer-Encoding: xchunked"), 501),
    ("both lengths", post("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    ("both lengths, swapped", post("Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n"), 400),
    ("both, one empty", post("Transfer-Encoding:", "Content-Length: 4", body=b"abcd"), 400),
    ("chunked in HTTP/1.0", line("POST / HTTP/1.0", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    ("a hidden Transfer-Encoding", post("Transfer-Encoding : chunked", "Content-Length: 4", body=b"abcd"), 400),
    ("an unknown expectation", post("Expect: 200-ok", "Content-Length: 4", body=b"abcd"), 417),
]


@pytest.fixture
def seen() -> Recorder:
    """What reached the handler."""
    return Recorder()


@pytest.fixture
def server(seen: Recorder) -> Iterator[Server]:
    with running(fetch=lambda r: seen(r.path) or "x") as server:
        yield server


@pytest.mark.parametrize(("data", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused(server: Server, seen: Recorder, data: bytes, status: int) -> None:
    """The right status, a text, the end of the connection; the handler sees neither it nor what follows."""
    with Client(server) as client:
        client.send(data + SMUGGLED)
        reply = client.reply()
        assert reply.status == status, reply
        assert reply.get("Connection") == "close"
        assert reply.body.isascii()
        assert len(reply.body) > 5, "the answer should name the rule"
        assert client.at_end()
    if len(data) < 1000:
        with Client(server) as client:
            client.send_pieces(data)
            assert client.reply().status == status
            assert client.at_end()
    assert "/smuggled" not in seen.items


@pytest.mark.parametrize("first", [GET, request("/", "HEAD"), request("/", "POST", b"abc")])
def test_the_answer_before_is_not_lost(server: Server, first: bytes) -> None:
    """A malformed request behind a good one: 200, then 400 with its text, then the end (defect H6)."""
    method = first.split(b" ")[0].decode()
    for bad, status in ((get("X : y"), 400), (get("X: " + "y" * 20_000), 431)):
        with Client(server) as client:
            client.send(first + first + bad)
            assert client.reply(method).status == 200
            assert client.reply(method).status == 200
            reply = client.reply("GET")
            assert reply.status == status
            assert len(reply.body) > 5
            assert client.at_end()


def test_a_refusal_of_head_has_no_body(server: Server) -> None:
    with Client(server) as client:
        client.send(line("HEAD / HTTP/1.1"))
        assert client.reply("HEAD").status == 400
        assert client.at_end()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 100,
        b"\0" * 40_000,
        b"\xff" * 40_000,
        b"\n" * 40_000,
    ],
    ids=["a TLS hello", "NUL", "0xff", "line feeds"],
)
def test_garbage_ends(server: Server, garbage: bytes) -> None:
    """Bytes that are no HTTP are answered with an error once they exceed a head, and the server goes on."""
    with Client(server) as client:
        client.send(garbage)
        assert client.reply().status in (400, 431)
        assert client.at_end()
    with Client(server) as client:
        assert client.ask().status == 200


def test_a_tls_hello_is_refused_at_once(server: Server) -> None:
    """https to a plain port: its client, which waits for an answer, gets one from the first byte on."""
    with Client(server) as client:
        client.send(b"\x16\x03\x01")
        assert client.reply().status == 400
        assert client.at_end()


def test_many_refusals_leave_nothing(server: Server) -> None:
    """500 refused connections, half of them not read: the server still answers and holds no descriptor."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(500):
        with Client(server) as client:
            client.send(get("X : y") + b"z" * 100)
            if i % 2:
                assert client.reply().status == 400
    with Client(server) as client:
        assert client.ask().status == 200
        # Draining closes (two seconds at most) are bounded, too.
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 520
