"""Whoever watches a server is in none of its figures, and no handler hears of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dashboard_client import PAGE, SOCKET, Viewer, authority, head
from http_client import DEADLINE, Client, open_websocket, running, upgrade
from ws_client import eventually

pytestmark = pytest.mark.plain("Host and Origin name the scheme's port")


def test_viewers_are_in_no_count_and_no_handler() -> None:
    called: list[str] = []
    handlers: dict[str, Any] = {
        name: (lambda *arguments, name=name: called.append(name))
        for name in ("open", "message", "close", "drain", "ping", "pong", "error")
    }
    with running(fetch=upgrade, websocket=handlers, dashboard=True) as server:
        before = server.stats()
        with Viewer(server) as viewer, Viewer(server) as other:
            viewer.client.send(b"\x81\x81\0\0\0\0x" + b"\x82\x82\0\0\0\0yy" + b"\x89\x80\0\0\0\0")
            assert viewer.until(lambda told: told["viewers"] == 2)
            assert other.point()["messages_out"] == 0
            stats = server.stats()
            assert server.pending_websockets == 0
            for key in ("websockets", "closes", "publishes", "backpressured_sends", "handler_errors"):
                assert stats[key] == before[key], key  # type: ignore[literal-required]
            for way in ("received", "sent"):
                for key in ("messages", "bytes", "text_messages", "binary_bytes"):
                    assert stats[way][key] == 0, (way, key)  # type: ignore[literal-required]
            viewer.client.send(b"\x88\x82\0\0\0\0\x03\xe8")
        eventually(lambda: server.stats()["connections"]["open"] == 0)
        assert server.stats()["closes"] == {}
        assert not called
        with Client(server) as client:  # the first of the others
            open_websocket(client)
            assert called == ["open"]
            assert server.stats()["websockets"] == {"open": 1, "total": 1}


def counts(server: Any) -> dict[str, Any]:
    """All that ``stats()`` tells, but for the time."""
    return {key: value for key, value in server.stats().items() if key != "uptime"}


@pytest.mark.parametrize("secure", [False, True])
def test_watching_changes_no_figure(secure: bool) -> None:
    """Neither the page nor the socket: connections, requests, bytes on the wire."""
    tls, context = authority() if secure else (None, None)
    with running(fetch=lambda request: "mine", dashboard=True, tls=tls) as server:
        before = counts(server)
        with Client(server) as browser:
            if context:
                browser.socket = context.wrap_socket(browser.socket)
            for _ in range(2):
                assert browser.ask(head(PAGE)).status == 200
            with Viewer(server, context=context) as viewer, Viewer(server, context=context):
                told = viewer.until(lambda told: told["viewers"] == 2)
                viewer.client.send(b"\x81\xfe\0\x80\0\0\0\0" + b"x" * 128)
                assert viewer.point()["http"] == viewer.point()["requests"] == 0
                assert set(told["totals"].values()) == {0}
                assert counts(server) == before
            eventually(lambda: not [ws for ws in server._feed._viewers if ws.ready_state == 1])
            # What asks for something else, too, is a client like any other.
            asked = head("/", "Pragma: no-cache")
            told = browser.ask(asked)
            after = counts(server)
            assert (after["connections"], after["requests"]) == (
                {"open": 1, "total": 1}, {"pending": 0, "total": 1},
            )  # fmt: skip
            assert after["received"]["wire_bytes"] == before["received"]["wire_bytes"] + len(asked)
            assert 50 < after["sent"]["wire_bytes"] - before["sent"]["wire_bytes"] < 200
        eventually(lambda: server.stats()["connections"] == {"open": 0, "total": 1})


def test_refused_viewers_count() -> None:
    """They are strangers, and none of the dashboard's."""
    with running(dashboard=True) as server, Client(server) as client:
        assert client.ask(head(PAGE, host="evil.example")).status == 404
        assert client.ask(head(SOCKET, host="evil.example")).status == 404
        stats = server.stats()
        assert (stats["connections"]["total"], stats["requests"]["total"]) == (1, 2)
        assert stats["sent"]["wire_bytes"] > 0


def test_totals_never_fall() -> None:
    """Also when a viewer goes with megabytes unsent; then what others send and get counts to the byte again."""
    asked = head("/")
    with running(fetch=lambda request: "mine", dashboard=True) as server, Client(server) as client:
        client.ask(asked)
        first = server.stats()
        client.ask(asked)
        answer = server.stats()["sent"]["wire_bytes"] - first["sent"]["wire_bytes"]
        before = server.stats()
        with Viewer(server) as viewer:
            viewer.point()
            posted = threading.Event()

            def tell() -> None:
                server._tell_observer(server._feed._viewers[0], "x" * (32 << 20))
                posted.set()

            server.call_soon(tell)
            assert posted.wait(DEADLINE)
            eventually(lambda: server.buffered_bytes > 1 << 20)  # counted when the iteration ends
            assert server.stats()["sent"]["wire_bytes"] == before["sent"]["wire_bytes"]
        eventually(lambda: server.buffered_bytes == 0)
        for count in (1, 2):
            client.ask(asked)
            after = server.stats()
            assert after["received"]["wire_bytes"] == before["received"]["wire_bytes"] + count * len(asked)
            assert after["sent"]["wire_bytes"] == before["sent"]["wire_bytes"] + count * answer
        assert after["connections"] == before["connections"]


def test_only_requests_of_the_server_are_left_out() -> None:
    """The hidden method refuses what it does not know, and passes on what the answer returns or raises."""
    told: list[Any] = []
    kept: list[Any] = []

    def fetch(request: Any) -> Any:
        for arguments in ((request,), ("request", len), (request, lambda: 1 / 0), (request, None)):
            try:
                server._leave_out(*arguments)
            except (TypeError, ZeroDivisionError) as error:
                told.append(type(error))
        told.append(server._leave_out(request, lambda: "result"))
        kept.append(request)
        return "mine"

    with running(fetch=fetch) as server, Client(server) as client:
        assert client.ask(head("/")).body == b"mine"
        assert told == [TypeError, TypeError, ZeroDivisionError, TypeError, "result"]
        with pytest.raises(RuntimeError, match="thread"):
            server._leave_out(kept[0], lambda: None)
        answered: list[Any] = []
        server.call_soon(lambda: answered.append(server._leave_out(kept[0], lambda: "late")))
        eventually(lambda: answered == ["late"])
        before = server.stats()["requests"]["total"]
        client.ask(head("/"))
        assert server.stats()["requests"]["total"] >= before
