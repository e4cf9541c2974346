"""The dashboard's page and its viewers in the server's figures: requests like any other, and no WebSockets."""

from __future__ import annotations

from typing import Any

import pytest
from dashboard_client import PAGE, STREAM, Viewer, head
from http_client import Client, open_websocket, running, upgrade
from ws_client import eventually

pytestmark = pytest.mark.plain("Host and Origin name the scheme's port")


def test_viewers_are_requests_and_no_websockets() -> None:
    """Each is a connection and a pending request; no handler of sockets is called for it."""
    called: list[str] = []
    handlers: dict[str, Any] = {
        name: (lambda *arguments, name=name: called.append(name))
        for name in ("open", "message", "close", "drain", "ping", "pong", "error")
    }
    with running(fetch=upgrade, websocket=handlers, dashboard=True) as server:
        before = server.stats()
        with Viewer(server) as viewer, Viewer(server) as other:
            told = viewer.until(lambda told: told["viewers"] == 2)
            assert (told["pending"], told["totals"]["requests"], told["totals"]["connections"]) == (2, 2, 2)
            assert (other.point()["messages_out"], other.point()["http"]) == (0, 2)
            stats = server.stats()
            assert stats["connections"] == {"open": 2, "total": 2}
            assert stats["requests"] == {"pending": 2, "total": 2}
            assert stats["received"]["wire_bytes"] == 2 * len(head(STREAM))
            assert stats["sent"]["wire_bytes"] > 2000
            for key in ("websockets", "closes", "publishes", "backpressured_sends", "handler_errors"):
                assert stats[key] == before[key], key  # type: ignore[literal-required]
            for way in ("received", "sent"):
                for key in ("messages", "bytes", "text_messages", "binary_bytes"):
                    assert stats[way][key] == 0, (way, key)  # type: ignore[literal-required]
        eventually(lambda: server.stats()["connections"]["open"] == 0)
        assert server.stats()["requests"] == {"pending": 0, "total": 2}
        assert server.stats()["closes"] == {}
        assert not called
        with Client(server) as client:  # the first socket
            open_websocket(client)
            assert called == ["open"]
            assert server.stats()["websockets"] == {"open": 1, "total": 1}


def test_the_page_and_refused_viewers_count() -> None:
    with running(dashboard=True) as server, Client(server) as client:
        assert client.ask(head(PAGE)).status == 200
        assert client.ask(head(PAGE, host="evil.example")).status == 404
        assert client.ask(head(STREAM, host="evil.example")).status == 404
        stats = server.stats()
        assert (stats["connections"]["total"], stats["requests"]["total"]) == (1, 3)
        assert stats["sent"]["wire_bytes"] > 0


def test_totals_outlast_a_viewer_that_has_not_read_all() -> None:
    """It goes with megabytes unsent; what others send and get counts to the byte."""
    asked = head("/")
    with running(fetch=lambda request: "mine", dashboard=True) as server, Client(server) as client:
        client.ask(asked)
        first = server.stats()
        client.ask(asked)
        answer = server.stats()["sent"]["wire_bytes"] - first["sent"]["wire_bytes"]
        with Viewer(server) as viewer:
            viewer.point()
            server.call_soon(lambda: server._control.own_routes.feed._viewers[0].send("x" * (32 << 20)))  # type: ignore[union-attr]
            eventually(lambda: server.buffered_bytes > 1 << 20)
        eventually(lambda: server.buffered_bytes == 0)
        before = server.stats()
        for count in (1, 2):
            client.ask(asked)
            after = server.stats()
            assert after["received"]["wire_bytes"] == before["received"]["wire_bytes"] + count * len(asked)
            assert after["sent"]["wire_bytes"] == before["sent"]["wire_bytes"] + count * answer
        assert after["connections"] == {"open": 1, "total": 2}
