"""Programs in Bun's style: responses with an options dict, ``requestIP``, string ports, addresses in brackets."""

from __future__ import annotations

import asyncio
import json
import pickle
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

import pytest
from http_client import Client, answer, bound, request, running

import uwserve
from uwserve import Response, Server, serve
from uwserve.types import SocketAddress

# --- Response(body, {...}) ---


@pytest.mark.parametrize("spelled", ["statusText", "status_text"])
def test_response_by_a_dict(spelled: str) -> None:
    made = Response("body", {"status": 404, "headers": {"X-One": "1"}, spelled: "Nothing here"})
    assert (made.status, made.payload, made.status_text) == (404, b"body", "Nothing here")
    assert made.statusText == made.status_text
    assert made.headers["x-one"] == "1"
    assert made.headers["content-type"] == "text/plain;charset=utf-8"
    reply = answer(made)
    assert (reply.status, reply.reason, reply.body, reply.get("X-One")) == (404, "Not Found", b"body", "1")


def test_response_by_a_dict_with_less_in_it() -> None:
    assert Response("x", {}).status == 200
    assert Response(None, {"status": HTTPStatus.CREATED}).status == 201
    assert Response("x", {"headers": [("A", "1"), ("A", "2")]}).headers.get_list("a") == ["1", "2"]
    assert Response("x", {"headers": None}).status_text == ""
    assert Response("x", HTTPStatus.NOT_FOUND).status == 404


def test_json_and_redirect_by_a_dict() -> None:
    made = Response.json({"a": 1}, {"status": 201, "headers": {"Content-Type": "application/problem+json"}})
    assert (made.status, made.payload) == (201, b'{"a":1}')
    assert made.headers["content-type"] == "application/problem+json"
    assert Response.json([], {"statusText": "Fine"}).status_text == "Fine"
    moved = Response.redirect("/there", {"status": 307, "headers": {"X-One": "1"}, "statusText": "Go"})
    assert (moved.status, moved.headers["location"], moved.headers["x-one"]) == (307, "/there", "1")
    assert moved.status_text == "Go"
    assert Response.redirect("/there", {"headers": {"location": "/elsewhere"}}).headers.get_list("location") == [
        "/there"
    ]


@pytest.mark.parametrize("make", [Response, Response.json, lambda body, *rest: Response.redirect("/", *rest)])
@pytest.mark.parametrize(
    ("init", "error", "text"),
    [
        ({"staus": 404}, TypeError, "unknown option 'staus'"),
        ({1: 404}, TypeError, "unknown option 1"),
        ({"status": "404"}, TypeError, "status must be an int, got str"),
        ({"status": 99}, ValueError, "status must be in 200..599"),
        ({"headers": 3}, TypeError, "headers"),
        ({"statusText": 3}, TypeError, "status_text must be a str, got int"),
        ({"statusText": "a\r\nSet-Cookie: b"}, ValueError, "cannot be in a status line"),
        ({"statusText": "\u20ac"}, ValueError, "cannot be in a status line"),
        ({"statusText": "a", "status_text": "a"}, TypeError, "the same option"),
    ],
)
def test_wrong_dicts(make: Any, init: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make("x", init)


def test_headers_twice() -> None:
    for make in (Response, Response.json):
        with pytest.raises(TypeError, match="headers are given twice"):
            make("x", {"status": 200}, {"A": "1"})  # type: ignore[operator]


# --- statuses without a body ---


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_body_is_dropped_where_there_is_none(status: int) -> None:
    """And nothing of it is on the wire, so the connection stays usable."""
    closed: list[str] = []

    def stream() -> Any:
        try:
            yield b"piece"
        finally:
            closed.append("never begun, so never here")

    class File:
        def __init__(self) -> None:
            self.closed = False

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            raise AssertionError("it is read")

        def close(self) -> None:
            self.closed = True

    file = File()
    for body in ("text", b"bytes", stream(), file, ["a", "b"]):
        made = Response(body, status)
        assert (made.payload, made.streamed, "content-type" in made.headers) == (None, False, False)
        with running(fetch=lambda request, made=made: made) as server, Client(server) as client:
            for _ in range(2):
                reply = client.ask()
                assert (reply.status, reply.body, reply.get("Transfer-Encoding")) == (status, b"", None)
    assert file.closed
    assert Response.json({"a": 1}, status).payload is None
    assert "content-type" not in Response.json({"a": 1}, status).headers


# --- requestIP ---


def test_the_address_of_a_client_has_names() -> None:
    seen: Future[Any] = Future()

    def fetch(request: Any, server: Server) -> str:
        seen.set_result(server.requestIP(request))
        return "x"

    with running(fetch=fetch) as server, Client(server) as client:
        client.ask()
        name = client.socket.getsockname()
    ip = seen.result(1)
    assert isinstance(ip, SocketAddress)
    assert isinstance(ip, tuple)
    assert (ip.address, ip.port, ip.family) == ip == (name[0], name[1], "IPv4")
    address, port, family = ip
    assert (address, port, family) == (ip[0], ip[1], ip[2])
    match ip:
        case SocketAddress("127.0.0.1", number, "IPv4"):
            assert number == name[1]
        case _:
            raise AssertionError(ip)
    assert repr(ip) == f"uwserve._core.SocketAddress(address='127.0.0.1', port={name[1]}, family='IPv4')"
    assert pickle.loads(pickle.dumps(ip)) == ip
    assert json.loads(json.dumps(ip)) == list(ip)
    assert hash(ip) == hash(tuple(ip))
    with pytest.raises(AttributeError):
        ip.port = 1  # type: ignore[misc]
    for wrong in ((), ((),), ((1, 2),), ((1, 2, 3, 4),), (3,)):
        with pytest.raises(TypeError):
            SocketAddress(*wrong)


# --- a body that is no JSON ---

BAD_BODIES = [b"", b"{", b"not json", b"\xff\xfe\xfd", b"[" * 200_000]


@pytest.mark.parametrize("body", BAD_BODIES, ids=["empty", "cut", "text", "not UTF-8", "too deep"])
@pytest.mark.parametrize("kind", ["fetch", "coroutine", "route"])
def test_a_bad_body_is_its_clients_mistake(logged: Any, body: bytes, kind: str) -> None:
    async def read(request: Any) -> Any:
        if kind == "coroutine":
            await asyncio.sleep(0)
        return await request.json()

    options: dict[str, Any] = {"routes": {"/": {"POST": read}}} if kind == "route" else {"fetch": read}
    with running(**options) as server, Client(server) as client:
        reply = client.ask(request("/", "POST", body))
        assert (reply.status, reply.body) == (400, b"Bad Request: the body is not valid JSON\n")
        assert client.ask(request("/", "POST", b"[1]")).body == b"[1]"
        assert server.stats()["handler_errors"]["fetch"] == 0
    assert not logged


@pytest.mark.parametrize("body", BAD_BODIES[1:], ids=["cut", "text", "not UTF-8", "too deep"])
def test_a_bad_body_can_be_caught(body: bytes) -> None:
    async def read(request: Any) -> Any:
        try:
            return await request.json()
        except (ValueError, RecursionError) as error:
            return Response(type(error).__name__, 422)

    with running(fetch=read) as server, Client(server) as client:
        reply = client.ask(request("/", "POST", body))
        assert reply.status == 422
        assert reply.body in (b"JSONDecodeError", b"UnicodeDecodeError", b"RecursionError")


def test_a_bad_body_goes_to_the_error_handler() -> None:
    async def read(request: Any) -> Any:
        return await request.json()

    with running(fetch=read, error=lambda exc: Response(repr(exc), 418)) as server, Client(server) as client:
        reply = client.ask(request("/", "POST", b"{"))
        assert reply.status == 418
        assert b"JSONDecodeError" in reply.body


def test_other_errors_of_that_kind_are_the_servers(logged: Any) -> None:
    """JSON that the handler itself reads from elsewhere."""
    with running(fetch=lambda: json.loads("{")) as server, Client(server) as client:
        assert client.ask().status == 500
    assert logged


def test_a_bad_body_is_explained_in_development() -> None:
    async def read(request: Any) -> Any:
        return await request.json()

    with running(fetch=read, development=True) as server, Client(server) as client:
        assert b"not valid JSON: Expecting property name" in client.ask(request("/", "POST", b"{")).body


# --- where to listen, and what ---


def test_ports_as_text() -> None:
    with bound(port="0") as first:
        assert isinstance(first.port, int)
        port = first.port
    with bound(port=str(port)) as server:
        assert server.port == port


def test_brackets_of_a_url() -> None:
    with bound(hostname="[::1]", fetch=lambda: "six") as server:
        assert server.hostname == "::1"
        assert server.url == f"http://[::1]:{server.port}/"
        server.start()
        with Client(("::1", server.port)) as client:
            assert client.ask().body == b"six"


@pytest.mark.parametrize(
    "options", [{}, {"port": 0}, {"fetch": None}, {"error": lambda: ""}, {"dashboard": False}, {"websocket": None}]
)
def test_nothing_to_serve(options: dict[str, Any]) -> None:
    for call in (lambda: serve(options), lambda: serve(**options)):
        with pytest.raises(TypeError, match=r"serve\(\): nothing would be served: give fetch, routes, websocket"):
            call()


def test_no_dict() -> None:
    with pytest.raises(TypeError, match="keywords or one dict, got NoneType"):
        serve(None)  # type: ignore[arg-type]


def test_reload_to_nothing() -> None:
    """It raises, and what was served still is."""
    with running(fetch=lambda: "still") as server, Client(server) as client:
        with pytest.raises(TypeError, match=r"reload\(\): nothing would be served"):
            server.reload(fetch=None)
        assert client.ask().body == b"still"
        server.reload(fetch=None, routes={"/": "routed"})
        assert client.ask().body == b"routed"
        server.reload(routes=None, dashboard=True)
        assert client.ask().status == 404


# --- names ---


def test_dir_shows_what_is_for_users() -> None:
    assert dir(uwserve) == sorted(uwserve.__all__)
    hidden = {"_dispatch", "_options", "listen_tcp", "set_hooks", "check_close", "respond", "live_handles", "pump"}
    with bound() as server:
        for subject in (Server, server):
            names = dir(subject)
            assert hidden.isdisjoint(names)
            assert {"run", "stop", "publish", "pending_requests", "requestIP", "__aenter__", "__init__"} <= set(names)
        assert {"port", "hostname", "id", "development"} <= set(dir(server))
        private = {name for name in dir(server) if name.startswith("_") and not name.endswith("_")}
        assert private == {"_control"}
