"""``max_connections`` and ``max_connections_per_address``: who is let in, who is reset, who gets the place."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from http_client import DEADLINE, GET, running, upgrade, upgrade_request
from ws_client import eventually

from uwserve import Server, serve
from uwserve._options import limits as _limits

V4, V4_OTHER, V6 = "127.0.0.1", "127.0.0.2", "::1"


def call(server: Server, source: str = V4) -> socket.socket:
    """A connection from ``source`` to the server's port on the same family's loopback."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(DEADLINE)
    sock.bind((source, 0))
    with contextlib.suppress(ConnectionResetError):  # the refusal can be as quick as that
        sock.connect((V6 if ":" in source else V4, server.port))
    return sock


def is_served(sock: socket.socket, request: bytes = GET) -> bool:
    """True for an answer, False for a reset; anything else fails."""
    try:
        sock.sendall(request)
        answer = sock.recv(65536)
    except (ConnectionResetError, BrokenPipeError):
        return False
    assert answer.startswith(b"HTTP/1.1 "), answer
    return True


@contextlib.contextmanager
def calls(server: Server, count: int, source: str = V4) -> Iterator[list[socket.socket]]:
    """That many connections, all of them served."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(call(server, source)) for _ in range(count)]
        assert all(is_served(sock) for sock in socks)
        yield socks


def test_connections_over_the_limit_are_reset() -> None:
    with running(fetch=upgrade, websocket={}, limits={"max_connections": 3}) as server:
        with calls(server, 2), call(server) as third:
            assert is_served(third, upgrade_request())  # a WebSocket is a connection, too
            for _ in range(4):
                with call(server) as newcomer:
                    assert not is_served(newcomer)
            assert server.refused["connections"] == 4
        with contextlib.ExitStack() as stack:
            eventually(lambda: is_served(stack.enter_context(call(server))), "a free place")


def test_a_place_is_free_again_whichever_way_a_connection_ends() -> None:
    """Closed by the client, reset, upgraded and closed, answered with Connection: close, refused with 400."""
    ends = [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        upgrade_request() + b"\x88\x80\0\0\0\0",
        GET,
        b"GET / HT",
        b"",
    ]
    with running(
        fetch=upgrade, websocket={}, limits={"max_connections": 2, "max_connections_per_address": 2}
    ) as server:
        for _ in range(3):
            for sent in ends:
                for reset in (False, True):
                    with contextlib.ExitStack() as stack:

                        def admitted(stack: contextlib.ExitStack = stack) -> socket.socket | None:
                            sock = stack.enter_context(call(server))
                            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                            try:
                                return sock if sock.recv(65536) else None
                            except ConnectionResetError:
                                return None

                        sock = eventually(admitted, "a place")
                        sock.sendall(sent)
                        if reset:
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        def both() -> bool:
            with call(server) as one, call(server) as two:
                return is_served(one) and is_served(two)

        eventually(both, "both places")


def test_an_address_has_its_own_limit() -> None:
    limits = {"max_connections_per_address": 2}
    with running(fetch=upgrade, websocket={}, limits=limits) as server, calls(server, 2), calls(server, 2, V4_OTHER):
        for source in (V4, V4_OTHER):
            with call(server, source) as newcomer:
                assert not is_served(newcomer)
        assert server.refused["connections_per_address"] == 2
        assert server.refused["connections"] == 0
        with calls(server, 2, "127.0.0.3"):
            pass


def test_an_upgraded_connection_still_counts_for_its_address() -> None:
    with running(fetch=upgrade, websocket={}, limits={"max_connections_per_address": 1}) as server:
        with call(server) as sock:
            assert is_served(sock, upgrade_request())
            with call(server) as newcomer:
                assert not is_served(newcomer)
        with contextlib.ExitStack() as stack:
            eventually(lambda: is_served(stack.enter_context(call(server))), "the address's place")


def test_dual_stack_addresses() -> None:
    """IPv4 clients of an IPv6 socket are told apart, and from ::1."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with (
        running(hostname="::", fetch=lambda r: "ok", limits={"max_connections_per_address": 1}) as server,
        calls(server, 1),
        calls(server, 1, V4_OTHER),
        calls(server, 1, V6),
    ):
        for source in (V4, V4_OTHER, V6):
            with call(server, source) as newcomer:
                assert not is_served(newcomer)
        assert server.refused["connections_per_address"] == 3


def test_loopback_is_free_of_the_default() -> None:
    """The default is half of all; a limit that is given counts for everybody."""
    with running(fetch=lambda r: "ok", limits={"max_connections": 4}) as server, calls(server, 4):
        assert server.refused["connections_per_address"] == 0
        server.reload(limits={"max_connections": 10, "max_connections_per_address": 5})
        with calls(server, 1), call(server) as newcomer:
            assert not is_served(newcomer)
        assert server.refused["connections_per_address"] == 1


def test_unix_sockets_have_no_address(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    limits = {"max_connections_per_address": 1, "max_connections": 3}
    with running(unix=path, fetch=lambda r: "ok", limits=limits) as server, contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(DEADLINE)
            sock.connect(path)
            return sock

        assert all(is_served(sock) for sock in [connect() for _ in range(3)])
        newcomer = connect()
        try:
            assert newcomer.recv(1) == b""
        except ConnectionResetError:
            pass
        assert server.refused["connections"] == 1


def test_zero_is_off_and_reload_changes_it() -> None:
    off = {"max_connections": 0, "max_connections_per_address": 0}
    with running(fetch=lambda r: "ok", limits=off) as server, calls(server, 20):
        server.reload(limits={"max_connections": 20})
        with call(server) as newcomer:
            assert not is_served(newcomer)
        server.reload(id="kept")  # other options leave the limits alone
        with call(server) as newcomer:
            assert not is_served(newcomer)
        server.reload(limits=None)
        with calls(server, 5):
            pass


def test_no_descriptors_is_counted(script: Any) -> None:
    """Without our limit the system's is met: accepting pauses, is counted, and goes on when descriptors come free."""
    program = script(
        """
        import logging, resource, socket
        from http_client import GET, running
        from ws_client import eventually
        lines = []
        logging.getLogger("uwserve").addHandler(type("H", (logging.Handler,), {
            "emit": lambda self, record: lines.append(record.getMessage())})())
        with running(fetch=lambda r: "ok", limits={"max_connections": 0, "reserved_descriptors": 0}) as server:
            free = len(__import__("os").listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            clients = []
            try:
                while True:
                    clients.append(socket.create_connection(("127.0.0.1", server.port)))
            except OSError:
                pass
            eventually(lambda: server.refused["accept_errors"] > 0)
            for client in clients[5:]:
                client.close()
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.settimeout(10)
                client.sendall(GET)
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert any("no descriptors" in line for line in lines), lines
        print("ok")
        """
    )
    assert program.finish() == "ok\n"


# --- the option ---


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ({"max_conections": 1}, TypeError, r"limits: unknown option 'max_conections' \(did you mean 'max_connections'"),
        ({"max_connections": -1}, ValueError, r"limits\.max_connections must be in 0\.\.2147483647, got -1"),
        ({"maxConnections": 1 << 31}, ValueError, r"limits\.maxConnections must be in"),
        ({"max_buffered_bytes": 1.5}, TypeError, r"limits\.max_buffered_bytes must be an int, got float"),
        ({"max_pending_heads": True}, TypeError, r"limits\.max_pending_heads must be an int, got bool"),
        ({"max_connections": 1, "maxConnections": 1}, TypeError, "are the same option"),
        ({1: 1}, TypeError, "option names must be str"),
        ([], TypeError, "limits must be a dict, got list"),
    ],
)
def test_bad_limits_are_named(limits: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        serve(fetch=lambda: "", port=0, hostname="127.0.0.1", limits=limits)
    with running(fetch=lambda r: "ok") as server, pytest.raises(error, match=text):
        server.reload(limits=limits)


def test_defaults_follow_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (20_000, 20_000))
    monkeypatch.setattr(_limits, "_memory", lambda: 2 << 30)
    assert _limits.figures({}) == {
        "max_connections": 18_976,
        "max_connections_per_address": 9488,
        "max_pending_heads": 4096,
        "max_control_frames_per_second": 1000,
        "max_tiny_fragments_per_second": 20_000,
        "max_buffered_bytes": 512 << 20,
        "max_concurrent_handlers": 131_072,
        "reserved_descriptors": 1024,
    }
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    small = _limits.figures(_limits.check_limits("limits", {"max_pending_heads": None}))
    assert (small["max_connections"], small["max_pending_heads"]) == (960, 240)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    unlimited = _limits.figures({})
    assert (unlimited["max_connections"], unlimited["max_connections_per_address"]) == (0, 0)
    for memory, expected in ((64 << 20, 64 << 20), (64 << 30, 1 << 30)):
        monkeypatch.setattr(_limits, "_memory", lambda memory=memory: memory)
        assert _limits.figures({})["max_buffered_bytes"] == expected


def test_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for content, expected in (("max\n", None), (str(100 << 20), 100 << 20), (str(1 << 62), None)):
        file = tmp_path / "memory.max"
        file.write_text(content)
        monkeypatch.setattr(_limits, "_MEMORY_FILES", (str(tmp_path / "missing"), str(file)))
        memory = _limits._memory()
        assert memory == expected if expected else memory > (100 << 20)
