"""Stopping with a deadline: what was accepted for sending arrives, then the Close frame, then the end; who does not
read is cut when the time is over, and nobody before. A thousand clients at once are in test_stop_under_load.py."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import (
    DEADLINE,
    Client,
    Recorder,
    bound,
    frame,
    open_websocket,
    read_frame,
    request,
    running,
    upgrade,
    upgrade_request,
)
from ws_client import eventually

from uwserve import Request, Response
from uwserve._run.stopping import StopBySignals

CLOSE_1001 = (8, b"\x03\xe9Server closed")

# --- nothing is lost ---


def test_a_slow_reader_gets_all_of_a_large_backlog() -> None:
    """Megabytes that the server still holds when it is told to stop."""
    sizes = [100_000 + i for i in range(100)]

    def opened(ws: Any) -> None:
        assert all(ws.send(bytes(size)) for size in sizes)

    with running(fetch=upgrade, websocket={"open": opened}) as server, Client(server, receive_buffer=8192) as client:
        client.send(upgrade_request())
        eventually(lambda: server.pending_websockets == 1)
        stopped = server.stop(timeout=DEADLINE)
        assert client.head().status == 101
        for size in sizes:
            opcode, payload = read_frame(client)
            assert (opcode, len(payload)) == (2, size)
        assert read_frame(client) == CLOSE_1001
        assert client.at_end()
        client.__exit__()
        assert stopped.wait(DEADLINE)


def test_sockets_are_told_together() -> None:
    """When the first close handler runs, every socket has been told, with the same code and reason."""
    states: list[set[int]] = []
    seen: list[Any] = []

    def closed(ws: Any, code: int, reason: str) -> None:
        states.append({int(other.ready_state) for other in sockets})
        seen.append((code, reason, ws.send("too late")))

    sockets: list[Any] = []
    websocket = {"open": sockets.append, "close": closed}
    with running(fetch=upgrade, websocket=websocket) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(5)]
        for client in clients:
            open_websocket(client)
        stopped = server.stop(code=4001, reason="größer")
        for client in clients:
            assert read_frame(client) == (8, (4001).to_bytes(2, "big") + "größer".encode())
            assert client.at_end()
            client.__exit__()
        assert stopped.wait(DEADLINE)
        assert states == [{3}] * 5
        assert seen == [(4001, "größer", 0)] * 5
        sockets.clear()


def test_what_is_corked_or_published_leaves_before_the_close() -> None:
    """stop() inside a handler, with messages of that handler not sent yet; the Closes go out when it has returned."""

    def message(ws: Any, text: str) -> None:
        ws.subscribe("t")
        ws.send("corked")
        server.publish("t", "published")
        server.stop(timeout=DEADLINE)
        assert ws.send("late") == 4

    with running(fetch=upgrade, websocket={"message": message}) as server, Client(server) as client:
        open_websocket(client)
        client.send(frame(b"x"))
        sent = [(1, b"corked"), (1, b"published"), (1, b"late")]
        assert [read_frame(client) for _ in range(4)] == [*sent, CLOSE_1001]
        assert client.at_end()


# --- the deadline ---


def test_who_does_not_read_is_cut_at_the_deadline() -> None:
    """Not before, and not much later; the stop ends with him."""
    closes = Recorder()

    def opened(ws: Any) -> None:
        ws.send(b"x" * 12_000_000)

    websocket = {"open": opened, "close": lambda ws, code, reason: closes(code, reason)}
    with running(fetch=upgrade, websocket=websocket) as server, Client(server, receive_buffer=4096) as client:
        client.send(upgrade_request())
        eventually(lambda: server.pending_websockets == 1)
        begun = time.monotonic()
        stopped = server.stop(timeout=0.7)
        assert closes.wait() == [(1001, "Server closed")]
        assert stopped.wait(DEADLINE)
        assert 0.7 <= time.monotonic() - begun < 5


def test_who_does_not_leave_is_cut_at_the_deadline() -> None:
    """He has read everything, and keeps his side open."""
    with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
        open_websocket(client)
        begun = time.monotonic()
        stopped = server.stop(timeout=0.5)
        assert read_frame(client) == CLOSE_1001
        assert stopped.wait(DEADLINE)
        assert 0.5 <= time.monotonic() - begun < 5
        assert client.at_end()


def test_pending_requests_may_finish_until_the_deadline() -> None:
    """One does, and says that the connection ends; the other is cut, and its answer comes to nothing."""
    later = {"/soon": Future[str](), "/never": Future[str]()}
    asked = Recorder()

    def fetch(request: Request) -> Any:
        asked(request.path)
        return later[request.path]

    with running(fetch=fetch) as server, Client(server) as soon, Client(server) as never:
        soon.send(request("/soon"))
        never.send(request("/never"))
        asked.wait(2)
        stopped = server.stop(timeout=1)
        later["/soon"].set_result("done")
        reply = soon.reply()
        assert (reply.status, reply.body, reply.get("Connection")) == (200, b"done", "close")
        assert soon.at_end()
        assert not stopped.done()
        assert never.at_end()
        assert stopped.wait(DEADLINE)
        later["/never"].set_result("too late")
        assert server.pending_requests == 0


def test_a_stream_may_finish() -> None:
    """A response that is half way out."""

    def pieces() -> Any:
        yield "begun "
        server.stop(timeout=DEADLINE)
        yield "x" * 3_000_000
        yield " ended"

    with running(fetch=lambda r: Response(pieces())) as server, Client(server) as client:
        client.send(request())
        assert client.reply().body == b"begun " + b"x" * 3_000_000 + b" ended"
        assert client.at_end()


def test_timeout_0_tells_and_cuts() -> None:
    with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
        open_websocket(client)
        assert server.stop(timeout=0).wait(DEADLINE)
        assert read_frame(client) == CLOSE_1001


def test_a_request_on_its_way_is_answered() -> None:
    """Who has connected and not asked yet may still do so for a moment; a kept-alive connection ends at once."""
    with (
        running(fetch=lambda r: "answer", idle_timeout=0) as server,
        Client(server) as fresh,
        Client(server) as silent,
        Client(server) as kept,
    ):
        assert kept.ask().status == 200
        eventually(lambda: server.pending_requests == 0)
        stopped = server.stop(timeout=DEADLINE)
        assert kept.at_end()
        reply = fresh.ask()
        assert (reply.body, reply.get("Connection")) == (b"answer", "close")
        assert fresh.at_end()
        assert not stopped.done()
        assert silent.at_end()
        assert stopped.wait(DEADLINE)


def test_the_end_is_not_put_off_by_bytes_behind_the_handshake() -> None:
    """A socket that its open handler paused, with frames that it never got to see."""

    def opened(ws: Any) -> None:
        ws.pause()

    with running(fetch=upgrade, websocket={"open": opened}) as server, Client(server) as client:
        client.send(upgrade_request() + frame(b"unread") * 3)
        assert client.head().status == 101
        eventually(lambda: server.pending_websockets == 1)
        stopped = server.stop(timeout=600)
        assert read_frame(client) == CLOSE_1001
        client.__exit__()
        assert stopped.wait(DEADLINE)


# --- again, and otherwise ---


def test_a_later_stop_only_hurries() -> None:
    """A longer deadline, a plain stop and another code change nothing; a shorter one and stop(True) do."""
    for last in ({"timeout": 0.2}, {"close_active_connections": True}):
        with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
            open_websocket(client)
            stopped = server.stop()
            assert server.stop(timeout=300, reason="first") is stopped
            for again in ({"timeout": 900.5}, {"code": 1012}, {"reason": "second"}, {}):
                assert server.stop(**again) is stopped
            assert read_frame(client) == (8, b"\x03\xe9first")
            assert not stopped.wait(0.1)
            begun = time.monotonic()
            assert server.stop(**last) is stopped
            assert stopped.wait(DEADLINE)
            assert time.monotonic() - begun < 6
            assert client.at_end()
            for again in ({"timeout": 1}, {"close_active_connections": True}, {}):
                assert server.stop(**again) is stopped


def test_from_many_threads_at_once() -> None:
    closes = Recorder()
    websocket = {"close": lambda ws, code, reason: closes(code), "message": lambda ws, m: ws.send(m)}
    with running(fetch=upgrade, websocket=websocket) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        for client in clients:
            open_websocket(client)
        threads = [threading.Thread(target=server.stop, kwargs={"timeout": 5 + i % 3}) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            assert read_frame(client) == CLOSE_1001
            client.__exit__()
        assert server.stop().wait(DEADLINE)
        assert closes.items == [1001] * 20


def test_before_the_run() -> None:
    """It has stopped at once: nothing was open."""
    with bound(fetch=upgrade) as server:
        stopped = server.stop(timeout=5, code=1012)
        assert stopped.done()
        assert server.finished
        assert server.stop(timeout=5) is stopped
        with pytest.raises(RuntimeError, match="stopped"):
            server.start()


def test_calls_that_were_queued_before_it_are_made() -> None:
    """Another thread's call_soon keeps its place behind the stop, its sends do not: they were accepted."""
    ran = Recorder()
    entered, go_on = threading.Event(), threading.Event()

    def message(ws: Any, text: str) -> None:
        entered.set()
        go_on.wait(DEADLINE)

    sockets: list[Any] = []
    websocket = {"open": sockets.append, "message": message}
    with running(fetch=upgrade, websocket=websocket) as server, Client(server) as client:
        open_websocket(client)
        client.send(frame(b"hold"))
        assert entered.wait(DEADLINE)
        ws = sockets.pop()
        assert ws.send("one") == 3
        server.stop(timeout=DEADLINE)
        server.call_soon(ran, "soon")
        assert ws.send("two") == 3
        go_on.set()
        assert [read_frame(client) for _ in range(3)] == [(1, b"one"), (1, b"two"), CLOSE_1001]
        assert ran.wait() == ["soon"]
        del ws


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds, got str"),
        ({"timeout": True}, TypeError, "timeout must be a number of seconds, got bool"),
        ({"timeout": -1}, ValueError, "timeout must be a finite number of seconds, at least 0, got -1"),
        ({"timeout": math.nan}, ValueError, "timeout must be .* got nan"),
        ({"timeout": math.inf}, ValueError, "timeout must be .* got inf"),
        ({"timeout": 10**400}, ValueError, "timeout must be"),
        ({"code": 1005}, ValueError, "code must be 1000-1003.* got 1005"),
        ({"code": "1001"}, TypeError, "code must be int, not str"),
        ({"code": True}, TypeError, "code must be int, not bool"),
        ({"reason": b"x"}, TypeError, "reason must be str, not bytes"),
        ({"reason": "x" * 124}, ValueError, "reason must not be over 123 bytes"),
        ({"close_active_connections": True, "timeout": 1}, TypeError, "cannot be given together"),
        ({"close_active_connections": True, "code": 1001}, TypeError, "cannot be given together"),
        (
            {"close_active_connections": 5},
            TypeError,
            "must be a bool, got int .stop.timeout=.... sets",
        ),
    ],
)
def test_bad_arguments_stop_nothing(
    arguments: dict[str, Any], error: type[Exception], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "uwserve")
    with bound(fetch=upgrade) as server:
        with pytest.raises(error, match=text):
            server.stop(**arguments)
        assert not server.stopping
        assert [record.getMessage().split()[0] for record in caplog.records] == ["Listening"]


def test_very_long_timeouts() -> None:
    """Beyond what a timer takes; they still can be cut short."""
    with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
        open_websocket(client)
        stopped = server.stop(timeout=1e300)
        assert read_frame(client) == CLOSE_1001
        assert not stopped.wait(0.05)
        client.__exit__()
        assert stopped.wait(DEADLINE)


# --- signals ---


class Stops:
    """A server that only notes how it is stopped."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def stop(self, force: bool = False, timeout: float | None = None) -> None:
        self.seen.append(force or timeout)


def test_a_signal_inside_the_notice_of_another() -> None:
    """Handlers nest: the outer one still does what the first signal does."""
    server = Stops()
    counts: list[int] = []

    def notice(count: int, number: int) -> None:
        counts.append(count)
        if count == 1:
            on_signal(number)

    on_signal = StopBySignals(server.stop, 7.0, notice)
    on_signal(15)
    assert counts == [1, 2]
    assert server.seen == [True, 7.0]
    with pytest.raises(KeyboardInterrupt):
        on_signal(15)


def test_equal_signals_are_merged() -> None:
    """Within the time that is given, and only the same one."""
    server = Stops()
    on_signal = StopBySignals(server.stop, 7.0, merge=600.0)
    for _ in range(3):
        on_signal(15)
    assert server.seen == [7.0]
    on_signal(2)
    on_signal(2)
    assert server.seen == [7.0, True]
