"""``serve(dashboard=...)``: its options, what viewers are told, and that nobody waits for them.

Who may look: test_dashboard_access.py; in which figures: test_dashboard_counts.py; in a browser:
test_dashboard_browser.py.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
import threading
import time
from typing import Any

import pytest
from dashboard_client import PAGE, STREAM, Viewer, authority, head, status
from http_client import DEADLINE, Client, bound, open_websocket, read_frame, running, upgrade, upgrade_request
from ws_client import eventually

import uwserve
from uwserve import _core
from uwserve.dashboard import feed as feeds

pytestmark = pytest.mark.plain("Host and Origin name the scheme's port")

# --- the option ---


@pytest.mark.parametrize("off", [None, False])
def test_off_by_default(off: Any) -> None:
    for options in ({}, {"dashboard": off}):
        with running(fetch=lambda request: "mine", **options) as server, Client(server) as client:
            assert client.ask(head(PAGE)).body == b"mine"
    source = "import sys, uwserve; uwserve.serve(port=0, fetch=lambda: None); print('uwserve.dashboard' in sys.modules)"
    import subprocess

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1, TypeError, "dashboard must be a bool, a path"),
        (b"/x", TypeError, "dashboard must be"),
        ("x", ValueError, "dashboard: .*must start with '/'"),
        ("/:id", ValueError, "without parameters"),
        ({"pth": "/x"}, TypeError, "unknown option 'pth'.*path"),
        ({"path": 7}, TypeError, "dashboard\\['path'\\] must be"),
        ({"allow": "10.0.0.0/8"}, TypeError, "dashboard\\['allow'\\] must be a sequence"),
        ({"allow": ["10.0.0.0/99"]}, ValueError, "dashboard\\['allow'\\]: '10.0.0.0/99' is not a network"),
        ({"hosts": "x"}, TypeError, "dashboard\\['hosts'\\] must be a list"),
        ({"hosts": [1]}, TypeError, "each of dashboard\\['hosts'\\]"),
        ({"hosts": ["a:80"]}, ValueError, "not a host name"),
    ],
)
def test_wrong_options(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        uwserve.serve(port=0, dashboard=value)


def test_paths_that_are_taken() -> None:
    for routes in ({PAGE: "x"}, {STREAM: "x"}):
        with pytest.raises(ValueError, match="dashboard='/_uwserve': there is a route"):
            uwserve.serve(port=0, routes=routes, dashboard=True)
    with running(dashboard="/", routes={"/x": "mine"}) as server:
        assert status(server, "/") == 200
        assert status(server, "/x") == 200
        with Viewer(server, "/stream"):
            pass


# --- the page ---


def test_page_needs_nothing_from_elsewhere() -> None:
    with running(dashboard=True) as server, Client(server) as client:
        page = client.ask(head(PAGE))
        for path in (PAGE, STREAM):
            assert client.ask(head(path).replace(b"GET", b"HEAD")).status == 200
        for path in (PAGE, STREAM):
            refused = client.ask(head(path).replace(b"GET", b"POST"))
            assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD")
    text = page.body.decode()
    assert not re.search(r"<(link|img|script|iframe)[^>]*(src|href)=(?!\"data:,\")", text)
    assert not re.search(r"https?://|url\(|@import|\bon\w+=|style=\"", text)
    policy = page.get("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert page.get("Cache-Control") == "no-store"
    assert page.get("X-Content-Type-Options") == "nosniff"


# --- what viewers are told ---


def test_samples_tell_what_happens() -> None:
    def message(ws: Any, message: Any) -> None:
        if message == "fail":
            raise ValueError("on purpose")
        ws.send(message)

    handlers = {"open": lambda ws: ws.subscribe("news"), "message": message, "error": lambda error, ws: None}
    with running(fetch=upgrade, websocket=handlers, dashboard=True, id="me") as server, Viewer(server) as viewer:
        assert viewer.hello["server"] == {
            "url": server.url, "id": "me", "version": uwserve.__version__, "process": viewer.hello["server"]["process"],
        }  # fmt: skip
        with Client(server) as client:
            open_websocket(client)
            server.publish("news", "x")
            for text in (b"fail", b"abc"):
                client.send(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
            told = viewer.until(lambda told: told["totals"]["received"] == 2 and told["totals"]["sent"] == 2)
            assert told["topics"] == [
                {"name": "news", "rate": told["topics"][0]["rate"], "subscribers": 1, "publishes": 1}
            ]
            assert told["topics_count"] == 1
            assert told["errors"] == {"message": 1}
            assert told["viewers"] == 1
            point = dict(zip(viewer.hello["fields"], told["point"], strict=True))
            assert (point["websockets"], point["http"]) == (1, 1)  # the viewer's
            assert point["messages_in"] > 0
            assert point["bytes_out"] > 0
            assert point["memory"] > 1 << 20
            assert 0 <= point["lag_p50"] <= point["lag_max"]
        told = viewer.until(lambda told: told["closes"])
        assert told["closes"] == [[1006, 1]]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_handlers_are_timed_while_somebody_looks(kind: str) -> None:
    """And called as they are, before and after."""
    gate = threading.Event()
    seen: list[str] = []

    def slow(ws: Any, message: str) -> None:
        seen.append(sys._getframe(1).f_code.co_name if kind == "coroutine" else "called")
        gate.wait(0.05)
        ws.send(message)

    async def slow_coroutine(ws: Any, message: str) -> None:
        await asyncio.sleep(0.05)
        ws.send(message)

    handler = slow if kind == "function" else slow_coroutine
    with running(fetch=upgrade, websocket={"message": handler}, dashboard=True) as server, Client(server) as client:
        open_websocket(client)

        def round_trip() -> None:
            client.send(b"\x81\x81\0\0\0\0x")
            assert read_frame(client) == (1, b"x")

        round_trip()
        with Viewer(server) as viewer:
            assert viewer.hello["times_handlers"]
            round_trip()
            fields = viewer.hello["fields"]
            told = viewer.until(lambda told: told["point"] and told["point"][fields.index("handler_p50")])
            point = dict(zip(fields, told["point"], strict=True))
            assert 40_000 < point["handler_p50"] <= point["handler_p99"] < 5e6
            server.reload(websocket={"message": lambda ws, message: ws.send(message)})
            round_trip()
            told = viewer.until(lambda told: told["point"] and told["point"][fields.index("handler_p50")])
            assert told["point"][fields.index("handler_p50")] < 40_000
        round_trip()


def test_everything_ends_with_the_last_viewer(monkeypatch: Any) -> None:
    """The thread, the clock before the handler, the points; a page that comes back soon finds its charts."""
    monkeypatch.setattr(feeds, "GRACE", 2.5)
    handler = lambda ws, message: ws.send(message)  # noqa: E731
    calls: list[Any] = []
    with bound(fetch=upgrade, websocket={"message": handler}, dashboard=True) as server:
        original = server._control.core._set_message_handler
        server._control.core._set_message_handler = lambda handler: (calls.append(handler), original(handler))  # type: ignore[method-assign]
        server.start()
        assert not calls
        with Viewer(server) as viewer:
            viewer.point()
        with Viewer(server) as viewer:
            assert viewer.hello["points"]
        assert [type(call) for call in calls] == [_core.TimedCall]
        assert server._control.own_routes.feed is not None
        eventually(lambda: server._control.own_routes.feed is not None and server._control.own_routes.feed._end is None)
        assert calls[1:] == [handler]
        eventually(lambda: not any(thread.name == "uwserve dashboard" for thread in threading.enumerate()))
        with Viewer(server) as viewer:
            assert viewer.hello["points"] == []


# --- nobody waits for them ---


def test_without_websocket_handlers() -> None:
    """There is no ``websocket`` option, and yet the dashboard has one."""
    with running(fetch=upgrade, dashboard=True) as server:
        with Viewer(server) as viewer:
            assert viewer.hello["times_handlers"] is False
            viewer.point()
        with Client(server) as client:
            client.send(upgrade_request())
            assert client.head().status == 200  # upgrade() is False


@pytest.mark.parametrize("arguments", [{}, {"timeout": 60}], ids=str)
def test_viewers_do_not_hold_up_a_stop(arguments: dict[str, Any]) -> None:
    with running(dashboard=True) as server, Viewer(server) as viewer:
        begun = time.monotonic()
        stopped = server.stop(**arguments)
        viewer.until_the_end()
        assert viewer.client.at_end()
        assert stopped.wait(DEADLINE)
        assert time.monotonic() - begun < 2  # what is left to them


def test_a_viewer_that_does_not_read() -> None:
    """What it does not take is left out; neither the other viewers nor a stop wait for it."""
    with running(dashboard=True) as server:
        slow = Client(server, receive_buffer=4096)
        slow.send(head(STREAM))
        with slow, Viewer(server) as viewer:
            eventually(
                lambda: server._control.own_routes.feed is not None
                and len(server._control.own_routes.feed._viewers) == 2
            )
            posted = threading.Event()

            def fill() -> None:
                assert server._control.own_routes.feed is not None
                for _ in range(4):
                    server._control.own_routes.feed._viewers[0].send("x" * (8 << 20))
                posted.set()

            server.call_soon(fill)
            assert posted.wait(DEADLINE)
            for _ in range(3):
                viewer.point()
            assert 0 < server.buffered_bytes < 9 << 20
            assert server.stop().wait(DEADLINE)


# --- reload, TLS, run modes ---


def test_over_tls() -> None:
    tls, context = authority()
    with running(dashboard=True, tls=tls) as server:
        client = Client(server)
        client.socket = context.wrap_socket(client.socket)
        with client:
            assert client.ask(head(PAGE)).status == 200
        with Viewer(server, STREAM, "Origin: https://127.0.0.1", context=context) as viewer:
            assert viewer.next()["type"] == "sample"
            assert viewer.hello["server"]["url"].startswith("https://")


def test_reload() -> None:
    """Other options leave it alone; its own send the viewers to ask again."""
    with running(fetch=upgrade, dashboard=True) as server:
        with Viewer(server) as viewer:
            server.reload(fetch=lambda request: "new")
            viewer.point()
            server.reload(dashboard={"path": "/other", "allow": ["127.0.0.1"]})
            viewer.until_the_end()
        assert status(server) == 200  # fetch's
        with Viewer(server, "/other/stream") as viewer:
            with pytest.raises(ValueError, match="dashboard"):
                server.reload(routes={"/other": "mine"})
            viewer.point()
            server.reload(dashboard=None)
            viewer.until_the_end()
        with Client(server) as client:
            assert client.ask(head("/other")).body == b"new"


def test_off_and_on_again(monkeypatch: Any) -> None:
    """The first thread ends at once and takes no clock away later; switching leaves nothing behind."""
    monkeypatch.setattr(feeds, "GRACE", 0.1)
    options = {"fetch": upgrade, "websocket": {"message": lambda ws, message: ws.send(message)}, "dashboard": True}
    with running(**options) as server, Client(server) as client:
        open_websocket(client)
        waiting = len(server._control.completion._callbacks)
        for _ in range(3):
            with Viewer(server) as viewer:
                server.reload(dashboard=None)
                viewer.until_the_end()
                assert server._control.own_routes.feed is not None
                assert server._control.own_routes.feed._end is None
                server.reload(dashboard=True)
        with Viewer(server) as viewer:
            assert viewer.hello["times_handlers"]
            for _ in range(2):  # longer than GRACE
                viewer.point()
            client.send(b"\x81\x81\0\0\0\0x")
            assert read_frame(client) == (1, b"x")
            viewer.until(lambda told: told["point"] and told["point"][viewer.hello["fields"].index("handler_p50")])
        assert len(server._control.completion._callbacks) == waiting
        server.reload(dashboard=None)
        eventually(lambda: not any(thread.name == "uwserve dashboard" for thread in threading.enumerate()))


def test_a_thread_that_does_not_start(monkeypatch: Any, logged: list[str]) -> None:
    """That viewer gets 500, the handler is as it was, and the next one finds all that it needs."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "uwserve dashboard":
            raise RuntimeError("can't start new thread")
        start(thread)

    handlers = {"message": lambda ws, message: ws.send(message)}
    with running(fetch=upgrade, websocket=handlers, dashboard=True) as server:
        calls: list[Any] = []
        original = server._control.core._set_message_handler
        server._control.core._set_message_handler = lambda handler: (calls.append(handler), original(handler))  # type: ignore[method-assign]
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert status(server, STREAM) == 500
        assert [type(call) for call in calls[:1]] == [_core.TimedCall]
        assert calls[1:] == [handlers["message"]]
        with Viewer(server) as viewer:
            viewer.point()
    assert len(logged) == 1
    assert "can't start new thread" in logged[0]


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_in_event_loops(kind: str) -> None:
    async def message(ws: Any, message: str) -> None:
        await asyncio.sleep(0)
        ws.send(message)

    def look(server: Any) -> None:
        with Viewer(server) as viewer, Client(server) as client:
            open_websocket(client)
            client.send(b"\x81\x81\0\0\0\0x")
            assert read_frame(client) == (1, b"x")
            column = viewer.hello["fields"].index("websockets")
            # The first may be of a time before the client's.
            viewer.until(lambda told: told["point"] and told["point"][column] == 1)

    async def main() -> None:
        async with uwserve.serve(
            fetch=upgrade, websocket={"message": message}, dashboard=True, port=0, hostname="127.0.0.1"
        ) as server:
            await asyncio.get_running_loop().run_in_executor(None, look, server)

    if kind == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


# --- the clock ---


def test_timed_calls() -> None:
    """Percentiles within 7 %; arguments, results and exceptions pass; take() begins anew."""
    timed = _core.TimedCall(lambda *arguments, **named: (arguments, named))
    assert timed(1, 2, x=3) == ((1, 2), {"x": 3})
    assert timed.take()["count"] == 1
    for ns in range(1, 100_001):
        timed.record(ns)
    taken = timed.take()
    assert (taken["count"], taken["max"], taken["total"]) == (100_000, 100_000, sum(range(100_001)))
    for name, wanted in (("p50", 50_000), ("p90", 90_000), ("p99", 99_000)):
        assert abs(taken[name] - wanted) < 0.07 * wanted, taken
    assert timed.take() == dict.fromkeys(("count", "total", "p50", "p90", "p99", "max"), 0)
    for ns in (0, 1, 7, 8, 15, 16, 17, (1 << 64) - 1):
        timed.record(ns)
        taken = timed.take()
        assert taken["p50"] == taken["p99"] <= taken["max"] == ns
        assert taken["p50"] >= ns * 0.93
    with pytest.raises(ZeroDivisionError):
        _core.TimedCall(lambda: 1 / 0)()
    with pytest.raises(TypeError, match="callable"):
        _core.TimedCall(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        timed.record("x")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        timed.record(-1)


def test_the_handler_is_exchanged_on_the_servers_thread() -> None:
    with running(fetch=upgrade, websocket={}) as server, pytest.raises(RuntimeError, match="thread"):
        server._control.core._set_message_handler(None)
