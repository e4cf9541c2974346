"""Which subprotocol is selected, looked at by clients that do not connect without one of theirs (RFC 6455 1.9, 4.1)."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import aiohttp
import chromium
import pytest
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
from ws_client import Client

import uwserve

pytestmark = pytest.mark.wss


def uri(live: Any) -> str:
    return f"ws://127.0.0.1:{live.server.port}/"


def by_websockets(live: Any, offered: list[str]) -> str:
    async def run() -> str:
        async with websockets.asyncio.client.connect(uri(live), subprotocols=offered) as ws:  # type: ignore[arg-type]
            await ws.send("x")
            assert await ws.recv() == "x"
            return str(ws.subprotocol or "")

    return asyncio.run(asyncio.wait_for(run(), 20))


def by_websockets_sync(live: Any, offered: list[str]) -> str:
    with websockets.sync.client.connect(uri(live), subprotocols=offered) as ws:  # type: ignore[arg-type]
        ws.send("x")
        assert ws.recv(timeout=10) == "x"
        return str(ws.subprotocol or "")


def by_aiohttp(live: Any, offered: list[str]) -> str:
    async def run() -> str:
        async with aiohttp.ClientSession() as session, session.ws_connect(uri(live), protocols=offered) as ws:
            await ws.send_str("x")
            assert (await ws.receive(10)).data == "x"
            return str(ws.protocol or "")

    return asyncio.run(asyncio.wait_for(run(), 20))


CLIENTS = [by_websockets, by_websockets_sync, by_aiohttp]


def talkative(serving: Any, **options: Any) -> Any:
    return serving(message=lambda ws, message: ws.send(message), **options)


@pytest.mark.plain("its clients speak plain TCP")
@pytest.mark.parametrize("client", CLIENTS)
def test_without_the_option_the_clients_first_is_selected(serving, logged, client):
    """As in Bun: real clients connect. It is logged once for a server, with what to do."""
    live = talkative(serving)
    for offered in (["one", "two"], ["two"]):
        assert client(live, offered) == offered[0]
        assert live.expect("open")[0].protocol == offered[0]
        live.wait_for("close")
    (line,) = logged
    assert "'one'" in line
    assert '"protocols": [...]' in line


@pytest.mark.plain("its clients speak plain TCP")
@pytest.mark.parametrize("client", CLIENTS)
def test_the_servers_order_counts(serving, client):
    live = talkative(serving, protocols=["two", "one"])
    assert client(live, ["one", "two"]) == "two"


def test_none_when_told_so(serving):
    """With an empty option, or "" for an upgrade, no field is in the 101; nothing is logged."""
    live = serving(protocols=())
    client, ws = live.open(extra=(("Sec-WebSocket-Protocol", "one"),))
    assert ws.protocol == ""
    assert client.answer.get("sec-websocket-protocol") is None
    live = serving(fetch=lambda request, server: server.upgrade(request, protocol="") and None)
    client, ws = live.open(extra=(("Sec-WebSocket-Protocol", "one"),))
    assert ws.protocol == ""
    assert client.answer.get("sec-websocket-protocol") is None


def test_no_offer_no_answer(serving):
    client, ws = serving().open()
    assert ws.protocol == ""
    assert client.answer.get("sec-websocket-protocol") is None


@pytest.mark.parametrize(
    ("given", "argument", "selected"),
    [
        ("one", None, "one"),
        ("one, two", None, "one"),
        ("three ,\ttwo", None, "two"),
        ([("Sec-WebSocket-Protocol", "three"), ("sec-websocket-protocol", "two, one")], None, "two"),
        ("", None, "one"),
        ("one, two", "two", "two"),
        ("one", "", ""),
    ],
)
def test_as_a_field_of_the_101(serving, logged, given, argument, selected):
    """Of a list the first that is offered, one field in the answer; the argument wins."""
    fields = {"Sec-WebSocket-Protocol": given} if isinstance(given, str) else given

    def fetch(request: Any, server: Any) -> None:
        server.upgrade(request, headers=fields, protocol=argument)

    client, ws = serving(fetch=fetch).open(extra=(("Sec-WebSocket-Protocol", "one, two"),))
    assert ws.protocol == selected
    assert client.answer.get_all("sec-websocket-protocol") == ([selected] if selected else [])
    assert bool(logged) == (given == "")


@pytest.mark.parametrize("bad", ["a b", "one, tw o", "one;x", "a/b", '"one"', "one, \x7f", "é"])
def test_bad_fields(serving, bad):
    """ValueError that names the field, and nothing has happened to the request."""
    raised = []

    def fetch(request: Any, server: Any) -> None:
        with pytest.raises(ValueError, match="Sec-WebSocket-Protocol") as caught:
            server.upgrade(request, headers={"Sec-WebSocket-Protocol": bad})
        raised.append(caught.value)
        server.upgrade(request, protocol="one")

    _, ws = serving(fetch=fetch).open(extra=(("Sec-WebSocket-Protocol", "one"),))
    assert len(raised) == 1
    assert ws.protocol == "one"


def test_none_of_the_given_was_offered(serving):
    raised = []

    def fetch(request: Any, server: Any) -> Any:
        for options in ({"headers": {"Sec-WebSocket-Protocol": "x, y"}}, {"protocol": "x"}):
            with pytest.raises(ValueError, match="protocol 'x' was not offered") as caught:
                server.upgrade(request, **options)
            raised.append(caught.value)
        return uwserve.Response("no", 400)

    live = serving(fetch=fetch)
    client = live.connect(upgrade=False)
    client.send_raw(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: one\r\n\r\n"
    )
    assert client.read_answer().status == 400
    assert len(raised) == 2


def test_reload(serving, logged):
    """The option may come and go; open sockets keep what was selected, and it is said once."""
    live = serving()
    offer = (("Sec-WebSocket-Protocol", "one, two"),)
    sockets = []
    for protocols in (None, ["two"], (), None):
        live.on_loop(functools.partial(live.server.reload, websocket=live.recorded({"protocols": protocols})))
        sockets.append(live.open(extra=offer)[1])
    assert [ws.protocol for ws in sockets] == ["one", "two", "", "one"]
    assert len(logged) == 1


def test_a_log_handler_that_stops_the_server(serving, logged, monkeypatch):
    """A logging handler may do anything: it is called when the upgrade is over."""
    live = serving()
    monkeypatch.setattr("uwserve._logs.put", lambda *_, **__: live.server.stop(True))
    client = Client(live.address, extra=(("Sec-WebSocket-Protocol", "one"),))
    live.clients.append(client)
    assert client.read_close()[0] == 1001
    assert live.wait_for("close")[1] == 1001


@chromium.needed
@pytest.mark.plain("the browser would refuse the certificate")
def test_in_a_browser(serving, logged, tmp_path: Path):
    """Chromium ends a connection for which none of its subprotocols was selected: without the option it connects."""
    page = uwserve.Response("<!doctype html><title>page</title>", headers={"Content-Type": "text/html"})

    def fetch(request: Any, server: Any) -> Any:
        return None if server.upgrade(request) else page

    connect = """
        const done = arguments[arguments.length - 1];
        const ws = new WebSocket(`ws://${location.host}/`, ["one", "two"]);
        ws.onopen = () => { done("open " + ws.protocol); ws.close(); };
        ws.onerror = () => done("error");
    """
    with chromium.driven(tmp_path / "profile") as browser:
        browser.set_script_timeout(20)
        for protocols, answer in ((None, "open one"), (["two"], "open two"), ((), "error")):
            live = serving(fetch=fetch, protocols=protocols)
            browser.get(f"http://127.0.0.1:{live.server.port}/")
            assert browser.execute_async_script(connect) == answer
    assert len(logged) == 1
