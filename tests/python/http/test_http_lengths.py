"""A ``Content-Length`` that the handler gives: for HEAD, and for streams, whose pieces must come to just that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from http_client import Client, ClosedError, answer, request, running

from uwserve import Request, Response

pytestmark = pytest.mark.wss

HEAD = request("/", "HEAD")


def test_head_need_not_know_the_body() -> None:
    for result in (
        Response(None, headers={"Content-Length": "12345"}),
        Response("", headers={"content-length": "12345"}),
    ):
        with running(fetch=lambda r, result=result: result) as server, Client(server) as client:
            assert client.ask(HEAD).get("Content-Length") == "12345"
            assert client.ask(HEAD).get("Content-Length") == "12345", "the connection goes on"
    assert answer(Response("abc", headers={"Content-Length": "99"}), HEAD).get("Content-Length") == "3"
    assert answer(Response(None, 304, {"Content-Length": "99"}), HEAD).get("Content-Length") == "99"
    assert answer(Response(None, 204, {"Content-Length": "99"}), HEAD).get("Content-Length") is None
    stream = answer(lambda: Response(iter(["abc"]), headers={"Content-Length": "3"}), HEAD)
    assert (stream.get("Content-Length"), stream.get("Transfer-Encoding")) == ("3", None)


def test_a_body_that_is_there_has_its_own_length() -> None:
    for body in (b"abc", b"", None):
        assert answer(Response(body, headers={"Content-Length": "9"})).body == (body or b"")


async def later(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def streamed(pieces: list[str], kind: str, length: int) -> Response:
    body: Any = iter(pieces) if kind == "plain" else later(pieces)
    return Response(body, headers={"Content-Length": str(length)})


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_stream_of_the_length_that_was_given(kind: str) -> None:
    """No chunks; the connection serves the next request. HTTP/1.0 has a length, too."""
    pieces = ["a" * 10, "", "b" * 70_000, "c"]
    total = sum(map(len, pieces))
    with running(fetch=lambda r: streamed(pieces, kind, total)) as server, Client(server) as client:
        for _ in range(2):
            reply = client.ask()
            assert (reply.get("Content-Length"), reply.get("Transfer-Encoding")) == (str(total), None)
            assert reply.body.decode() == "".join(pieces)
        reply = client.ask(request("/", version="1.0"))
        assert (reply.get("Content-Length"), len(reply.body)) == (str(total), total)
        assert client.at_end()


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(
    ("pieces", "length", "sent", "word"),
    [
        (["abc", "def"], 10, b"abcdef", "fewer"),
        ([], 1, b"", "fewer"),
        (["abc", "def"], 5, b"abc", "more"),
        (["abcdef"], 5, b"", "more"),
        (["abc", "d"], 3, b"abc", "more"),
        (["a"], 0, b"", "more"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_of_another_length(
    kind: str, pieces: list[str], length: int, sent: bytes, word: str, version: str, logged: Any
) -> None:
    """The error is logged, not a byte more than was said is sent, and the connection ends, short where it can be."""
    with running(fetch=lambda r: streamed(pieces, kind, length)) as server, Client(server) as client:
        client.send(request("/", version=version))
        assert client.head().get("Content-Length") == str(length)
        assert client.read_rest() == sent
    assert [line.splitlines()[-1] for line in logged] == [
        f"ValueError: a streamed body gave {word} bytes than its Content-Length"
    ]
    logged.clear()


@pytest.mark.parametrize("value", ["", "-1", "+1", "1.0", "0x10", "1, 1", "9" * 19, "\u00b2"])
def test_what_is_no_length(value: str, logged: Any) -> None:
    assert answer(lambda: Response("abc", headers={"Content-Length": value})).status == 500
    assert "header 'Content-Length' must be one number of at most 18 digits" in logged[0]
    logged.clear()


def test_two_lengths(logged: Any) -> None:
    same = [("Content-Length", "3"), ("content-length", "3")]
    assert answer(lambda: Response(iter(["abc"]), headers=same)).get("Content-Length") == "3"
    assert answer(lambda: Response(iter(["abc"]), headers=[*same, ("Content-Length", "4")])).status == 500
    logged.clear()


def test_a_client_sees_that_a_body_is_short(logged: Any) -> None:
    def fetch(request: Request) -> Response:
        def pieces() -> Iterator[str]:
            yield "abc"
            raise RuntimeError("on purpose")

        return Response(pieces(), headers={"Content-Length": "6"})

    with running(fetch=fetch) as server, Client(server) as client, pytest.raises(ClosedError, match="3 of 6 bytes"):
        client.ask()
    assert "on purpose" in logged.pop()
