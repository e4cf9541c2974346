"""Routes against a running server: what the table promises holds on the wire, for whole requests and their methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from http_client import Client, open_websocket, read_frame, request, running

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss


def show(name: str) -> Any:
    def handle(request: Request) -> dict[str, Any]:
        return {"route": name, "params": request.params}

    return handle


def with_server(request: Request, server: Server) -> str:
    return f"{request.params['id']} at {server.port}"


def fallback(request: Request) -> Response:
    return Response(f"fallback {request.path}", 404)


ROUTES: dict[str, Any] = {
    "/": "home",
    "/json": {"a": [1, 2]},
    "/bytes": b"\x00\x01",
    "/moved": Response.redirect("/", 308),
    "/list": [1, 2],
    "/users": show("/users"),
    "/users/me": show("/users/me"),
    "/users/:id": show("/users/:id"),
    "/users/:id/posts/:post": show("/users/:id/posts/:post"),
    "/files/*": show("/files/*"),
    "/server/:id": with_server,
    "/item": {"GET": show("GET /item"), "POST": show("POST /item"), "DELETE": Response(status=204)},
    "/write": {"PUT": lambda r: Response(r.body, 201)},
    "/peek": {"HEAD": Response("head only"), "GET": "body"},
    "/caf%C3%A9/:name": show("/café/:name"),
    "/fails": lambda r: 1 // 0,
}


@pytest.fixture
def client() -> Iterator[Client]:
    with running(routes=ROUTES, fetch=fallback) as server, Client(server) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/users", "/users", {}),
        ("/users?x=/users/me", "/users", {}),
        ("/users/me", "/users/me", {}),
        ("/users/7", "/users/:id", {"id": "7"}),
        ("/users/a%2Fb", "/users/:id", {"id": "a/b"}),
        ("/users/%C3%A9%20+", "/users/:id", {"id": "é +"}),
        ("/users/me/posts/1?q", "/users/:id/posts/:post", {"id": "me", "post": "1"}),
        ("/files/a/b%20c/d", "/files/*", {"*": "a/b c/d"}),
        ("/files/", "/files/*", {"*": ""}),
        ("/files/../x", "/files/*", {"*": "../x"}),
        ("/caf%c3%a9/x", "/café/:name", {"name": "x"}),
        ("http://other.example/users/9", "/users/:id", {"id": "9"}),
    ],
)
def test_params(client: Client, path: str, route: str, params: dict[str, str]) -> None:
    assert client.ask(request(path)).json() == {"route": route, "params": params}


def test_static_answers(client: Client) -> None:
    """The same every time, on one connection."""
    for _ in range(2):
        assert client.ask(request("/")).body == b"home"
        assert client.ask(request("/json")).json() == {"a": [1, 2]}
        assert client.ask(request("/list")).json() == [1, 2]
        assert client.ask(request("/bytes")).body == b"\x00\x01"
        moved = client.ask(request("/moved"))
        assert (moved.status, moved.get("Location"), moved.body) == (308, "/", b"")


@pytest.mark.parametrize(
    "path", ["/nowhere", "/users/", "/users/7/", "/users/7/posts", "/files", "/JSON", "//", "/users//posts/1"]
)
def test_what_no_route_takes_goes_to_fetch(client: Client, path: str) -> None:
    reply = client.ask(request(path))
    assert (reply.status, reply.body.decode()) == (404, f"fallback {path}")


def test_without_fetch_it_is_404() -> None:
    with running(routes={"/a": "a"}) as server, Client(server) as client:
        reply = client.ask(request("/b"))
        assert (reply.status, reply.body) == (404, b"Not Found\n")
        assert client.ask(request("/a")).body == b"a"
        assert client.ask(request("*", "OPTIONS")).status == 404


def test_methods(client: Client) -> None:
    """By method; HEAD falls back to GET; others get 405 with Allow, and fetch is not asked."""
    assert client.ask(request("/item")).json()["route"] == "GET /item"
    assert client.ask(request("/item", "POST", b"x")).json()["route"] == "POST /item"
    assert client.ask(request("/item", "DELETE")).status == 204
    assert client.ask(request("/write", "PUT", b"body")).body == b"body"
    for method in ("PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "get"):
        refused = client.ask(request("/item", method))
        assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD, POST, DELETE")
    assert client.ask(request("/write")).get("Allow") == "PUT"
    assert client.ask(request("/users/7", "PUT", b"x")).json()["route"] == "/users/:id"


def test_head(client: Client) -> None:
    """Length and type of GET's answer, no body; an own HEAD wins."""
    for path in ("/", "/item", "/json", "/users", "/users/7"):
        head, whole = client.ask(request(path, "HEAD")), client.ask(request(path))
        assert head.status == 200
        assert head.get("Content-Type") == whole.get("Content-Type")
        assert head.get("Content-Length") == str(len(whole.body)), path
    assert client.ask(request("/peek")).body == b"body"
    assert client.ask(request("/peek", "HEAD")).get("Content-Length") == "9"
    assert client.ask(request("/write", "HEAD")).status == 405


def test_malformed_encoding_is_400(client: Client) -> None:
    """Only where a parameter would hold it; the connection goes on."""
    for path in ("/users/%", "/users/%zz", "/users/%ff", "/users/%C3", "/files/a/%e0%80", "/users/%C3%28"):
        assert client.ask(request(path)).status == 400, path
    assert client.ask(request("/%zz")).body == b"fallback /%zz"
    assert client.ask(request("/users/%00")).json()["params"] == {"id": "\0"}


def test_handler_that_wants_the_server(client: Client) -> None:
    port = client.socket.getpeername()[1]
    assert client.ask(request("/server/7")).body.decode() == f"7 at {port}"


def test_a_route_that_fails(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert client.ask(request("/fails")).status == 500
    assert "ZeroDivisionError" in caplog.text
    assert "/fails" in caplog.text


def test_a_route_may_upgrade() -> None:
    def connect(request: Request, server: Server) -> Response | None:
        return None if server.upgrade(request, data=request.params["room"]) else Response("no", 400)

    options: dict[str, Any] = {"open": lambda ws: ws.send(ws.data)}
    with running(routes={"/ws/:room": connect}, websocket=options) as server, Client(server) as client:
        assert client.ask(request("/ws/x")).status == 400
        open_websocket(client, "/ws/lobby")
        assert read_frame(client) == (1, b"lobby")


def test_many_segments() -> None:
    """Upstream's router ends paths after 100 segments (defect H11); ours does not, and deep paths cost little."""
    deep = "/" + "/".join(str(i) for i in range(1500))
    with running(routes={"/*": lambda r: r.params["*"]}) as server, Client(server) as client:
        assert client.ask(request(deep)).body.decode() == deep[1:]
        assert client.ask(request("/" + "/" * 5000)).body == b"/" * 5000


def test_reload_changes_routes_between_requests() -> None:
    """An open connection gets the new table with its next request; routes that are not given stay."""
    with running(routes={"/a": "old"}, fetch=fallback) as server, Client(server) as client:
        assert client.ask(request("/a")).body == b"old"
        server.reload(routes={"/b": "new"})
        assert client.ask(request("/a")).body == b"fallback /a"
        assert client.ask(request("/b")).body == b"new"
        server.reload(fetch=lambda r: "other")
        assert client.ask(request("/b")).body == b"new"
        assert client.ask(request("/a")).body == b"other"
        server.reload(routes=None)
        assert client.ask(request("/b")).body == b"other"
