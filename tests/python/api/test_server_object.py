"""A server as an object: what it says about itself and its requests, and the options it refuses."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from http_client import (
    GET,
    Client,
    Recorder,
    bound,
    descriptors,
    open_websocket,
    request,
    running,
    upgrade_request,
)
from ws_client import eventually

import uwserve
from uwserve import Request, Server, serve

pytestmark = pytest.mark.plain("URLs and descriptors of plain servers")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


def path_of(request: Request) -> str:
    return request.path


def ip_of(request: Request, server: Server) -> Any:
    return list(server.request_ip(request) or ["none"])


# --- what it says about itself ---


def test_port_0_picks_a_port_at_once() -> None:
    """Known when serve() returns, different for two servers, and connectable before the server runs."""
    with bound(fetch=path_of) as one, bound(fetch=path_of) as two:
        assert 0 < one.port != two.port > 0
        assert one.url == f"http://127.0.0.1:{one.port}/"
        with Client(one) as client:
            client.send(GET)
            one.start()
            assert client.reply().body == b"/"


def test_attributes() -> None:
    with bound(id="my id", development=True) as server:
        assert (server.hostname, server.id, server.development) == ("127.0.0.1", "my id", True)
        assert not server.running
        assert not server.stopping
        assert not server.finished
        assert f":{server.port}" in repr(server)
        assert "bound" in repr(server)
        for name in ("port", "hostname", "url"):
            assert getattr(server, name) is not None
        with pytest.raises(AttributeError):
            server.url = "x"  # type: ignore[misc]
    assert server.finished
    assert "stopped" in repr(server)
    with bound() as server:
        assert (server.id, server.development) == ("", False)


def test_the_default_address() -> None:
    """All of IPv4, named localhost in the URL."""
    with running(hostname="0.0.0.0", fetch=path_of) as server, Client(server) as client:
        assert server.url == f"http://localhost:{server.port}/"
        assert client.ask().body == b"/"


def test_counters() -> None:
    """pending_requests counts requests without an answer, pending_websockets open sockets; both spellings."""
    later: list[Future[str]] = []
    asked = Recorder()

    def fetch(request: Request, server: Server) -> Any:
        if server.upgrade(request):
            return None
        asked(server.pending_requests)
        later.append(Future())
        return later[-1]

    with running(fetch=fetch, websocket={"message": lambda ws, m: None}) as server:
        with Client(server) as one, Client(server) as two, Client(server) as socket_client:
            for count, client in enumerate((one, two), 1):
                client.send(GET)
                asked.wait(count)
                assert server.pending_requests == server.pendingRequests == count
            open_websocket(socket_client)
            assert server.pending_websockets == server.pendingWebSockets == 1
            for future, client in zip(later, (one, two), strict=True):
                future.set_result("x")
                client.reply()
            assert server.pending_requests == 0
        eventually(lambda: server.pending_websockets == 0)


@pytest.mark.parametrize(
    ("options", "target", "family"),
    [
        ({}, "127.0.0.1", "IPv4"),
        pytest.param({"hostname": "::1"}, "::1", "IPv6", marks=needs_ipv6),
        pytest.param({"hostname": "::"}, "::1", "IPv6", marks=needs_ipv6),
    ],
)
def test_request_ip(options: dict[str, Any], target: str, family: str) -> None:
    with running(fetch=ip_of, **options) as server, Client((target, server.port)) as client:
        assert client.ask().json() == [target, client.socket.getsockname()[1], family]


@needs_ipv6
def test_dual_stack_and_ipv6_only() -> None:
    """`::` takes IPv4 too, seen as a mapped address; with ipv6_only it does not."""
    with running(fetch=ip_of, hostname="::") as server:
        assert server.url == f"http://localhost:{server.port}/"
        with Client(("127.0.0.1", server.port)) as client:
            assert client.ask().json()[0] == "::ffff:127.0.0.1"
    with running(fetch=ip_of, hostname="::1", ipv6_only=True) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        with Client(("::1", server.port)) as client:
            assert client.ask().status == 200
        with pytest.raises(ConnectionRefusedError):
            Client(("127.0.0.1", server.port))


def test_request_ip_of_others(tmp_path: Path) -> None:
    """None on a unix socket; known when the client has left; an error for what is not its request."""
    kept = Recorder()
    with running(fetch=ip_of, unix=tmp_path / "s") as server, Client(str(tmp_path / "s")) as client:
        assert client.ask().json() == ["none"]
    with running(fetch=lambda r: kept(r) or "x") as server:
        with Client(server) as client:
            address = client.socket.getsockname()
            client.ask()
        asked: Future[Any] = Future()

        def ask() -> None:
            wrong = []
            for argument in (None, "x", object()):
                with pytest.raises(TypeError, match="request"):
                    server.request_ip(argument)
                wrong.append(argument)
            asked.set_result((server.requestIP(kept.items[0]), len(wrong)))

        server.call_soon(ask)
        assert asked.result(20) == ((*address, "IPv4"), 3)
        with bound() as other, pytest.raises(ValueError, match="another server"):
            other.request_ip(kept.items[0])


def test_timeout_extends_one_request() -> None:
    """A request that waits is cut after idle_timeout; timeout(request, 0) lets it wait for ever."""
    later: Future[str] = Future()
    asked = Recorder()

    def fetch(request: Request, server: Server) -> Future[str]:
        if request.path == "/patient":
            server.timeout(request, 0)
        asked(request.path)
        return later

    with running(fetch=fetch, idle_timeout=1) as server, Client(server) as cut, Client(server) as patient:
        patient.send(request("/patient"))
        asked.wait(1)
        cut.send(request("/cut"))
        assert cut.at_end()
        assert asked.items == ["/patient", "/cut"]
        eventually(lambda: server.pending_requests == 1)
        later.set_result("worth it")
        assert patient.reply().body == b"worth it"


def test_timeout_arguments() -> None:
    raised = Recorder()

    def fetch(request: Request, server: Server) -> str:
        for seconds, error in (
            ("1", TypeError),
            (1.0, TypeError),
            (True, TypeError),
            (-1, ValueError),
            (86401, ValueError),
        ):
            with pytest.raises(error, match="seconds"):
                server.timeout(request, seconds)
            raised(seconds)
        server.timeout(request=request, seconds=86400)
        return "x"

    with running(fetch=fetch) as server, Client(server) as client:
        assert client.ask().body == b"x"
        assert len(raised.items) == 5


def test_calls_from_a_foreign_thread_are_refused() -> None:
    """What belongs to the loop's thread says so and names both threads; the request is still answered."""
    refused = Recorder()

    def fetch(request: Request, server: Server) -> str:
        def work() -> None:
            for call in (
                lambda: server._control.core.respond(request, 200, [], b"x"),
                lambda: server.upgrade(request),
                lambda: server.request_ip(request),
                lambda: server.timeout(request, 1),
                lambda: server.subscriber_count("x"),
            ):
                with pytest.raises(RuntimeError, match=r"server's thread, 'uwserve'.*not on 'stranger'"):
                    call()
                refused(True)

        stranger = threading.Thread(target=work, name="stranger")
        stranger.start()
        stranger.join()
        return "x"

    with running(fetch=fetch, websocket={}) as server, Client(server) as client:
        assert client.ask(upgrade_request()).body == b"x"
    assert len(refused.items) == 5


# --- options ---


def test_one_dict_in_bun_s_spelling() -> None:
    """Every serve() and websocket option under Bun's name, in one dict."""
    options = {
        "port": 0,
        "hostname": "127.0.0.1",
        "idleTimeout": 20,
        "maxRequestBodySize": 10,
        "reusePort": False,
        "ipv6Only": False,
        "development": False,
        "id": "bun",
        "fetch": lambda request, server: None if server.upgrade(request) else "plain",
        "websocket": {
            "maxPayloadLength": 5,
            "idleTimeout": 30,
            "backpressureLimit": 1000,
            "closeOnBackpressureLimit": True,
            "sendPings": False,
            "publishToSelf": True,
            "perMessageDeflate": False,
            "message": lambda ws, message: ws.sendText(message),
        },
    }
    server = serve(options)
    with server.start(), Client(server) as client, Client(server) as socket_client:
        assert client.ask().body == b"plain"
        open_websocket(socket_client)
        socket_client.send(b"\x81\x85\0\0\0\0hello")
        assert socket_client.read_exactly(7) == b"\x81\x05hello"
        assert client.ask(request("/", "POST", b"x" * 11)).status == 413


BAD: list[tuple[dict[Any, Any], type[Exception], str]] = [
    ({"prot": 1}, TypeError, "prot"),
    ({1: 1}, TypeError, "option names"),
    ({"port": "eighty"}, ValueError, "port must be an int or a str of digits"),
    ({"port": "65536"}, ValueError, "port"),
    ({"port": "-1"}, ValueError, "port"),
    ({"port": "\u0664"}, ValueError, "port"),
    ({"port": 80.0}, TypeError, "port"),
    ({"hostname": "[127.0.0.1]"}, ValueError, "hostname"),
    ({"hostname": "[::1"}, ValueError, "hostname"),
    ({"port": 65536}, ValueError, "port"),
    ({"port": -1}, ValueError, "port"),
    ({"port": True}, TypeError, "port"),
    ({"hostname": 7}, TypeError, "hostname"),
    ({"hostname": ""}, ValueError, "hostname"),
    ({"hostname": "a\0b"}, ValueError, "hostname"),
    ({"unix": ""}, ValueError, "unix"),
    ({"unix": 7}, TypeError, "unix"),
    ({"unix": "/tmp/a\0b"}, ValueError, "unix"),
    ({"unix": "x", "port": 1}, TypeError, "unix and port"),
    ({"fetch": 7}, TypeError, "fetch"),
    ({"fetch": lambda one, two, three: 1}, TypeError, "fetch"),
    ({"error": lambda one, two: 1}, TypeError, "error"),
    ({"routes": []}, TypeError, "routes"),
    ({"routes": {"x": "y"}}, ValueError, "'x'"),
    ({"idle_timeout": 256}, ValueError, "idle_timeout"),
    ({"idleTimeout": -1}, ValueError, "idleTimeout"),
    ({"idle_timeout": 1, "idleTimeout": 1}, TypeError, "same option"),
    ({"max_request_body_size": -1}, ValueError, "max_request_body_size"),
    ({"reuse_port": 1}, TypeError, "reuse_port"),
    ({"development": "yes"}, TypeError, "development"),
    ({"id": 7}, TypeError, "id"),
    ({"tls": {}}, ValueError, "tls"),
    ({"websocket": 7}, TypeError, "websocket"),
    ({"websocket": {"nope": 1}}, TypeError, "nope"),
    ({"websocket": {"idle_timeout": 961}}, ValueError, r"websocket\.idle_timeout"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD)
def test_bad_options(options: dict[Any, Any], error: type[Exception], text: str) -> None:
    """The error names the option, and nothing stays bound."""
    before = descriptors()
    with pytest.raises(error, match=text):
        serve({"port": 0, **options} if "unix" not in options else options)
    assert descriptors() == before


def test_a_server_is_made_once() -> None:
    """A second ``__init__()`` is refused, and the server goes on."""
    with running(fetch=lambda request, server: "fine") as server:
        with pytest.raises(RuntimeError, match=r"__init__\(\) was already called"):
            server.__init__(server._control.options)  # type: ignore[misc]
        with Client(server) as client:
            assert client.ask().body == b"fine"


def test_bad_calls() -> None:
    for arguments, named in (((7,), {}), (({},), {"port": 0}), (([],), {})):
        with pytest.raises(TypeError, match="dict"):
            serve(*arguments, **named)
    with pytest.raises(TypeError):
        uwserve.Request()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        uwserve.ServerWebSocket()
