"""Fields that a request has several times: joined as their grammar has it, or refused where one value is meant."""

from __future__ import annotations

import pytest
from http_client import Client, read_frame, request, running, upgrade_request

from uwserve import Headers, Request, Response

pytestmark = pytest.mark.wss


def told(*fields: str, name: str) -> tuple[int, str | None]:
    """The status, and what ``request.headers.get(name)`` is to the handler."""

    def fetch(request: Request) -> Response:
        return Response.json(request.headers.get(name))

    with running(fetch=fetch) as server, Client(server) as client:
        reply = client.ask(request("/", "GET", None, *fields))
        return reply.status, reply.json() if reply.status == 200 else None


def test_cookies_are_joined_as_one_field_would_have_them() -> None:
    """RFC 9113 8.2.3: a proxy that takes HTTP/2 may pass on what it got apart."""
    fields = ["Cookie: a=1", "X-Other: x", "cookie: b=2; c=3", "COOKIE: d=4"]
    assert told(*fields, name="Cookie") == (200, "a=1; b=2; c=3; d=4")
    headers = Headers([("Cookie", "a=1"), ("cookie", "b=2")])
    assert headers.get("COOKIE") == headers["cookie"] == "a=1; b=2"
    assert headers.get_list("cookie") == ["a=1", "b=2"]
    assert headers.items() == [("Cookie", "a=1"), ("cookie", "b=2")]


def test_cookies_of_a_handshake() -> None:
    def fetch(request: Request, server: object) -> None:
        server.upgrade(request, data=request.headers.get("cookie"))  # type: ignore[attr-defined]

    with running(fetch=fetch, websocket={"open": lambda ws: ws.send(ws.data)}) as server, Client(server) as client:
        client.send(upgrade_request("/", "Cookie: a=1", "Cookie: b=2"))
        assert client.head().status == 101
        assert read_frame(client) == (1, b"a=1; b=2")


@pytest.mark.parametrize("name", ["Accept", "X-Forwarded-For", "Via", "Accept-Encoding", "If-None-Match"])
def test_lists_are_joined_with_commas(name: str) -> None:
    assert told(f"{name}: a", f"{name}: b, c", name=name) == (200, "a, b, c")


def test_set_cookie_is_told_apart() -> None:
    headers = Headers([("Set-Cookie", "a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT"), ("Set-Cookie", "b=2")])
    assert headers.get_set_cookie() == ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "Origin", "Content-Type", "Host"])
def test_what_may_be_there_once(name: str) -> None:
    """Two are a 400, also when they are equal: two readers could go by different ones."""
    for second in ("a", "b", ""):
        fields = (
            [f"{name.lower()}: {second}"] if name == "Host" else [f"{name}: a", "X: x", f"{name.lower()}: {second}"]
        )
        assert told(*fields, name=name) == (400, None), fields
    if name != "Host":  # which the client of these tests sends by itself
        assert told(f"{name}: a", f"X-{name}: b", name=name) == (200, "a")
        with running(fetch=lambda request: "never", websocket={}) as server, Client(server) as client:
            client.send(upgrade_request("/", f"{name}: a", f"{name}: b"))
            assert client.reply().status == 400
            assert client.at_end()
            assert server.refused["http_400"] == 1


@pytest.mark.parametrize("name", ["User-Agent", "Referer", "Date", "If-Modified-Since", "From", "Range"])
def test_others_of_one_value_are_joined_to_what_is_none(name: str) -> None:
    """As in Bun: nothing that reads such a field takes the list for a value of it."""
    assert told(f"{name}: a", f"{name}: b", name=name) == (200, "a, b")
