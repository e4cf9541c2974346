"""``uwserve.testing``: the server in a thread and what its handlers raise; its client is in test_testing_client.py."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import types
from typing import Any

import pytest
from http_client import DEADLINE, upgrade

import uwserve
from uwserve import Response, serve, testing
from uwserve.testing import HandshakeRefused, UnexpectedClose

pytestmark = pytest.mark.plain("its clients have their own TLS, which test_testing_client.py is about")

start = testing.serving


def echo(ws: Any, message: Any) -> None:
    ws.send(message)


ECHO = {"message": echo}
BROKEN = {"message": lambda ws, message: 1 // len(message)}


# --- what may be served ---


def test_three_lines() -> None:
    with start(websocket=ECHO) as server, server.connect("/path") as ws:
        ws.send("x")
        assert ws.receive() == "x"


@pytest.mark.parametrize(
    "target",
    [
        {"port": 3000, "hostname": "192.0.2.1", "fetch": upgrade, "websocket": ECHO},
        {"hostname": "::", "ipv6_only": True, "reuse_port": True, "fetch": upgrade, "websocket": ECHO},
        {"hostname": "::", "ipv6Only": True, "reusePort": True, "fetch": upgrade, "websocket": ECHO},
        {"unix": "/nowhere/s", "fetch": upgrade, "websocket": ECHO},
        types.MappingProxyType({"port": 3000, "fetch": upgrade, "websocket": ECHO}),
        lambda: {"fetch": upgrade, "websocket": ECHO},
        lambda: serve(fetch=upgrade, websocket=ECHO, port=0, hostname="127.0.0.1"),
    ],
)
def test_targets(target: Any) -> None:
    """As of the command ``uwserve serve``; the address of a dict is not a test's."""
    with start(target) as server, server.connect() as ws:
        ws.send(b"bytes")
        assert ws.receive() == b"bytes"
        assert server.server.hostname == "127.0.0.1"
        assert server.server.port != 3000
        assert server.get().text == "plain"


def test_wrong_targets() -> None:
    with pytest.raises(TypeError, match="a Server, a dict of options or a function, got int"):
        start(3000)  # type: ignore[arg-type]
    with start(websocket=ECHO) as server:
        with pytest.raises(ValueError, match="does not run yet"):
            start(server.server)
        with pytest.raises(TypeError, match="has its options already, got port"):
            start(server.server, port=0)
    with pytest.raises(ValueError, match="does not run yet"):
        start(server.server)
    with pytest.raises(TypeError, match="nonsense"):
        start(nonsense=1)


@pytest.mark.parametrize("options", [{"unix": "s"}, {"hostname": "::1"}, {"hostname": "0.0.0.0"}])
def test_addresses(options: dict[str, str], tmp_path: Any) -> None:
    if "unix" in options:
        options = {"unix": str(tmp_path / options["unix"])}
    with start(websocket=ECHO, **options) as server:
        with server.connect() as ws:
            ws.send("x")
            assert ws.receive() == "x"
        assert server.get().status == 426


# --- HTTP ---


def test_http() -> None:
    def told(request: uwserve.Request) -> Response:
        return Response.json([request.method, request.query, request.headers.items(), request.body.decode()], 201)

    with start(routes={"/told": told, "/text": "text é", "/none": Response(None, 204)}) as server:
        answer = server.request(
            "PUT", "/told?a=1", headers=[("X-A", "1"), ("X-A", "2")], cookies={"c": "d", "e": "f"}, body="é"
        )
        assert (answer.status, answer.reason) == (201, "Created")
        method, query, fields, body = answer.json()
        assert (method, query, body) == ("PUT", "a=1", "é")
        assert [value for name, value in fields if name == "x-a"] == ["1", "2"]
        assert ["cookie", "c=d; e=f"] in fields
        assert ["host", f"127.0.0.1:{server.server.port}"] in fields
        method, _, fields, body = server.post("/told", json={"x": 1}).json()
        assert (method, body) == ("POST", '{"x": 1}')
        assert ["content-type", "application/json"] in fields
        assert server.get("/text").text == "text é"
        assert server.get("/text").headers["CONTENT-TYPE"] == "text/plain;charset=utf-8"
        assert (server.get("/none").status, server.get("/none").body) == (204, b"")
        assert (server.request("HEAD", "/text").status, server.request("HEAD", "/text").body) == (200, b"")
        assert server.get("/elsewhere").status == 404
        with pytest.raises(ValueError, match=r"404 Not Found: b'Not Found\\n' is not JSON"):
            server.get("/elsewhere").json()
        with pytest.raises(TypeError, match="body and json"):
            server.post("/told", body=b"", json=1)
        for cookies in ({"a": "b;c"}, {"a": "b\r\nX: y"}, {"a=": "b"}):
            with pytest.raises(ValueError, match="cookie"):
                server.get("/told", cookies=cookies)


def test_http_without_an_answer() -> None:
    never = threading.Event()

    async def fetch(request: uwserve.Request) -> str:
        await asyncio.sleep(DEADLINE)
        never.set()
        return "late"

    text = r"no complete response to GET /slow from 127\.0\.0\.1:\d+ within 0\.1 s"
    with start(fetch=fetch) as server, pytest.raises(TimeoutError, match=text):
        server.get("/slow", timeout=0.1)
    assert not never.is_set()


# --- handshakes ---


def test_handshake() -> None:
    seen: dict[str, Any] = {}

    def fetch(request: uwserve.Request, server: uwserve.Server) -> Response | None:
        seen.update(path=request.path, query=request.query, headers=request.headers)
        if server.upgrade(request, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]):
            return None
        return Response("no", 400)

    with start(fetch=fetch, websocket={"protocols": ["two", "one"]}) as server:
        with server.connect(
            "/p?q=1", protocols=["one", "two"], headers={"Authorization": "Bearer 1"}, cookies={"c": "d"}
        ) as ws:
            assert ws.protocol == "two"
            assert ws.response.headers.get_set_cookie() == ["a=1", "b=2"]
        assert (seen["path"], seen["query"]) == ("/p", "q=1")
        assert (seen["headers"]["authorization"], seen["headers"]["cookie"]) == ("Bearer 1", "c=d")
        with server.connect() as ws:
            assert ws.protocol == ""
        with server.connect("/", headers={"Host": "example.com"}):
            assert seen["headers"].get_list("host") == ["example.com"]
        for path in ("no-slash", "/a b", "/a\r\nX: y"):
            with pytest.raises(ValueError, match="path must begin"):
                server.connect(path)


def test_refusals() -> None:
    def fetch(request: uwserve.Request, server: uwserve.Server) -> Response | None:
        if request.path == "/open" and server.upgrade(request):
            return None
        return Response.json({"error": "who are you?"}, 401, {"WWW-Authenticate": "Bearer"})

    with start(fetch=fetch, websocket={}) as server:
        with pytest.raises(HandshakeRefused, match="on /x, it answered 401 Unauthorized: ") as refused:
            server.connect("/x")
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        assert server.expect_refusal("/x", 401).json() == {"error": "who are you?"}
        with pytest.raises(AssertionError, match="expected status 403, received 401"):
            server.expect_refusal("/x", 403)
        with pytest.raises(AssertionError, match="expected a refusal on /open, but"):
            server.expect_refusal("/open")


# --- what handlers raise ---


def test_a_handler_that_raises_fails_the_test(logged: list[str]) -> None:
    """The wait for its answer ends at once, with its exception; the test has seen it then."""
    begin = time.monotonic()
    with start(websocket=BROKEN, timeout=60) as server:
        ws = server.connect()
        ws.send("")
        with pytest.raises(ZeroDivisionError) as raised:
            ws.receive()
        assert raised.traceback[-1].name == "<lambda>"
        assert server.errors == []
    assert time.monotonic() - begin < DEADLINE
    assert len(logged) == 1


def test_what_nobody_waited_for_is_raised_at_the_end(logged: list[str]) -> None:
    server = start(websocket=BROKEN)
    ws = server.connect()
    ws.send("")
    ws.send("")
    server.wait_until(lambda: len(server.errors) == 2)
    assert [type(error) for error in server.errors] == [ZeroDivisionError] * 2
    with pytest.raises(ZeroDivisionError):
        server.__exit__(None, None, None)


def test_both_are_shown_when_the_test_fails_too(logged: list[str]) -> None:
    with pytest.raises(ZeroDivisionError) as raised, start(fetch=lambda request: 1 // 0) as server:
        assert server.get().status == 200
    assert isinstance(raised.value.__context__, AssertionError)


def test_handlers_of_http_and_late_ones(logged: list[str]) -> None:
    """``fetch``, a coroutine after its first await, ``close`` at the very end."""

    async def fetch(request: uwserve.Request) -> str:
        await asyncio.sleep(0)
        raise LookupError("late")

    def close(ws: Any, code: int, reason: str) -> None:
        raise OSError("close")

    with pytest.raises(LookupError), start(fetch=fetch) as server:
        assert server.get().status == 500
    with pytest.raises(OSError, match="close"), start(websocket={"close": close}) as server:
        server.connect()


def test_expected_errors(logged: list[str]) -> None:
    def open(ws: Any) -> None:
        raise ValueError("no seat")

    with start(websocket={"open": open}) as server, server.connect() as ws:
        assert ws.expect_close(1011) == (1011, "")
        error = server.expect_error(ValueError, "no s..t")
        assert str(error) == "no seat"
        assert server.errors == []
        with pytest.raises(AssertionError, match=r"no handler raised KeyError within 0\.01 s$"):
            server.expect_error(KeyError, timeout=0.01)
        server.connect().expect_close(1011)
        with pytest.raises(AssertionError, match=r"KeyError matching 'x' within 0\.01 s; they raised \[ValueError"):
            server.expect_error(KeyError, "x", timeout=0.01)
        server.expect_error(ValueError)


def test_an_expected_error_may_be_false(logged: list[str]) -> None:
    class NoRowsError(Exception):
        def __len__(self) -> int:
            return 0

    def fetch(request: Any) -> None:
        raise NoRowsError

    with start(fetch=fetch) as server:
        assert server.get().status == 500
        assert isinstance(server.expect_error(NoRowsError, timeout=3600), NoRowsError)  # at once


def test_opt_out_and_error_handlers(logged: list[str]) -> None:
    """``error`` takes what it takes; ``raise_errors=False`` leaves the rest to the log."""
    with start(websocket=BROKEN, raise_errors=False) as server, server.connect() as ws:
        ws.send("")
        with pytest.raises(TimeoutError, match=r"waited 0\.05 s for a message, and nothing came"):
            ws.receive(timeout=0.05)
        assert [type(error) for error in server.errors] == [ZeroDivisionError]
    assert len(logged) == 1
    taken: list[Any] = []
    with start(websocket=BROKEN | {"error": lambda exc, ws: ws.send(repr(exc))}) as server, server.connect() as ws:
        ws.send("")
        assert ws.receive().startswith("ZeroDivisionError(")  # its text depends on the version of Python
    with start(fetch=lambda request: 1 // 0, error=lambda exc: taken.append(exc) or "taken") as server:
        assert server.get().text == "taken"
    assert len(logged) == 1


def test_what_was_sent_before_an_error_comes_first(logged: list[str]) -> None:
    def message(ws: Any, message: Any) -> None:
        ws.send("first")
        raise ValueError("then")

    for _ in range(20):
        with start(websocket={"message": message}) as server:
            ws = server.connect()
            ws.send("x")
            assert ws.receive() == "first"
            with pytest.raises(ValueError, match="then"):
                ws.receive()


def test_errors_of_two_servers_are_apart(logged: list[str]) -> None:
    with start(websocket=ECHO) as one, start(fetch=lambda request: 1 // 0) as two:
        assert two.get().status == 500
        assert one.errors == []
        two.expect_error(ZeroDivisionError)


def test_a_disabled_logger_hides_nothing(logged: list[str]) -> None:
    import logging

    logger = logging.getLogger("uwserve")
    logger.disabled = True  # as logging.config.dictConfig leaves it
    try:
        with pytest.raises(ZeroDivisionError), start(fetch=lambda request: 1 // 0) as server:
            assert server.get().status == 500
    finally:
        logger.disabled = False
    assert logged == []


def test_the_end_of_the_thread(logged: list[str]) -> None:
    """SystemExit out of a handler ends the server's thread, but not the test run."""

    def message(ws: Any, message: Any) -> None:
        raise SystemExit(3)

    with start(websocket={"message": message}) as server:
        ws = server.connect()
        ws.send("x")
        with pytest.raises(RuntimeError, match=r"SystemExit\(3\) in a handler ended the server's thread"):
            ws.receive()


# --- the server's thread, and the end ---


def test_call_and_wait_until() -> None:
    closed: list[int] = []
    with start(websocket={"close": lambda ws, code, reason: closed.append(code)}) as server:
        assert server.call(server.server.subscriber_count, "x") == 0
        with pytest.raises(RuntimeError, match="mine"):
            server.call(fail)
        server.connect().drop()
        assert server.wait_until(lambda: closed) == [1006]
        with pytest.raises(AssertionError, match=r"was still 0 after 0\.02 s"):
            server.wait_until(lambda: 0, timeout=0.02)
        server.call(lambda: server.call(lambda: None))


def fail() -> None:
    raise RuntimeError("mine")


def test_a_handler_that_does_not_end_is_shown() -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(ws: Any, message: Any) -> None:
        entered.set()
        release.wait(DEADLINE)

    server = start(websocket={"message": hold}, timeout=0.2)
    ws = server.connect()
    ws.send("x")
    assert entered.wait(DEADLINE)
    with pytest.raises(TimeoutError, match=r"was busy for 0\.2 s:(?s:.*)in hold"):
        server.call(lambda: None)
    with pytest.raises(TimeoutError, match=r"did not stop within 0\.2 s:(?s:.*)in hold"):
        server.stop()
    release.set()
    server.server.stop(True).wait(DEADLINE)
    server.server._control.join(DEADLINE)


def test_coroutines_may_end_and_are_cancelled() -> None:
    ended: list[str] = []

    async def close(ws: Any, code: int, reason: str) -> None:
        await asyncio.sleep(0.05)
        ended.append("close")

    async def open(ws: Any) -> None:
        try:
            await asyncio.sleep(DEADLINE * 5)
        except asyncio.CancelledError:
            ended.append("open")
            raise

    begin = time.monotonic()
    with start(websocket={"open": open, "close": close}) as server:
        server.connect()
    assert sorted(ended) == ["close", "open"]
    assert time.monotonic() - begin < DEADLINE
    server.stop()  # nothing happens


def test_clients_that_are_left_open_are_closed() -> None:
    codes: list[int] = []
    with start(websocket={"close": lambda ws, code, reason: codes.append(code)}) as server:
        left = server.connect()
        with pytest.raises(RuntimeError, match="mine"), server.connect():
            fail()
        server.wait_until(lambda: codes == [1006])
    assert codes == [1006, 1001]
    assert left.closed == (1006, "")  # it was not read any more
    with pytest.raises(UnexpectedClose):
        left.receive()


# --- by URL, and what is documented ---


def test_connect_by_url(tmp_path: Any) -> None:
    with start(websocket=ECHO) as server, testing.connect(server.websocket_url + "x?y=1", compression=False) as ws:
        ws.send("x")
        assert ws.receive() == "x"
    with start(websocket=ECHO, unix=str(tmp_path / "s")), testing.connect("ws://a/", unix=tmp_path / "s") as ws:
        ws.send("x")
        assert ws.receive() == "x"
    with pytest.raises(ValueError, match="url must be ws://"):
        testing.connect("ftp://a/")
    with pytest.raises(ConnectionRefusedError):
        testing.connect(server.websocket_url)


def test_everything_public_is_documented() -> None:
    for name in testing.__all__:
        value = getattr(testing, name)
        assert inspect.getdoc(value), name
        for member, attribute in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and (callable(attribute) or isinstance(attribute, property)):
                assert inspect.getdoc(attribute), f"{name}.{member}"
