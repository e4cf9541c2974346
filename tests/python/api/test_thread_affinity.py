"""Each public member, called from a thread that is not the server's, has its defined answer: queued to the server's
thread, answered where it is called, or refused by an error that names both threads.

A new member has no answer until it is in one of these tables: then the test of completeness fails.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import DEADLINE, Client, Recorder, open_websocket, request, running

import uwserve
from uwserve import Server, _bun_names, _core

ANSWERED, QUEUED, REFUSED = "answered here", "queued", "refused"

Table = dict[str, tuple[str, Callable[[Any], Any]]]

WEBSOCKET: Table = {
    "id": (ANSWERED, lambda ws: ws.id),
    "messages": (ANSWERED, lambda ws: ws.messages()),
    "drained": (ANSWERED, lambda ws: ws.drained().close()),
    "closed": (ANSWERED, lambda ws: ws.closed().close()),
    "data": (ANSWERED, lambda ws: ws.data),
    "binary_type": (ANSWERED, lambda ws: ws.binary_type),
    "ready_state": (ANSWERED, lambda ws: ws.ready_state),
    "remote_address": (ANSWERED, lambda ws: ws.remote_address),
    "protocol": (ANSWERED, lambda ws: ws.protocol),
    "server": (ANSWERED, lambda ws: ws.server),
    "subscriptions": (REFUSED, lambda ws: ws.subscriptions),
    "buffered_amount": (REFUSED, lambda ws: ws.buffered_amount),
    "get_buffered_amount": (REFUSED, lambda ws: ws.get_buffered_amount()),
    "unsubscribe": (REFUSED, lambda ws: ws.unsubscribe("t")),
    "is_subscribed": (REFUSED, lambda ws: ws.is_subscribed("t")),
    "cork": (REFUSED, lambda ws: ws.cork(print)),
    "send": (QUEUED, lambda ws: ws.send("x")),
    "send_text": (QUEUED, lambda ws: ws.send_text("x")),
    "send_binary": (QUEUED, lambda ws: ws.send_binary(b"x")),
    "publish": (QUEUED, lambda ws: ws.publish("t", "x")),
    "publish_text": (QUEUED, lambda ws: ws.publish_text("t", "x")),
    "publish_binary": (QUEUED, lambda ws: ws.publish_binary("t", b"x")),
    "subscribe": (QUEUED, lambda ws: ws.subscribe("t")),
    "ping": (QUEUED, lambda ws: ws.ping()),
    "pong": (QUEUED, lambda ws: ws.pong()),
    "pause": (QUEUED, lambda ws: ws.pause()),
    "resume": (QUEUED, lambda ws: ws.resume()),
    "close": (QUEUED, lambda ws: ws.close()),
    "terminate": (QUEUED, lambda ws: ws.terminate()),
}


def raises(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    """For members whose answer is an error that has nothing to do with the thread."""
    with pytest.raises(error, match=text):
        call()


def in_asyncio(server: Server) -> None:
    asyncio.run(server.serve_forever())


# Argument: (server, a request that waits for its answer).
SERVER: Table = {
    **{
        name: (ANSWERED, lambda both, name=name: getattr(both[0], name))
        for name in (
            "addresses",
            "port",
            "hostname",
            "url",
            "id",
            "development",
            "pending_requests",
            "pending_websockets",
            "refused",
            "buffered_bytes",
            "running",
            "stopping",
            "finished",
        )
    },
    "stats": (ANSWERED, lambda both: both[0].stats()),
    "topics": (REFUSED, lambda both: both[0].topics()),
    "subscribers": (REFUSED, lambda both: both[0].subscribers("t")),
    "tasks": (REFUSED, lambda both: both[0].tasks),
    "serve_forever": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already runs, in thread 'uwserve'", lambda: in_asyncio(both[0])),
    ),
    "on_loop_thread": (ANSWERED, lambda both: both[0].on_loop_thread()),
    "subscriber_count": (REFUSED, lambda both: both[0].subscriber_count("t")),
    "upgrade": (REFUSED, lambda both: both[0].upgrade(both[1])),
    "request_ip": (REFUSED, lambda both: both[0].request_ip(both[1])),
    "timeout": (REFUSED, lambda both: both[0].timeout(both[1], 5)),
    "run": (ANSWERED, lambda both: raises(RuntimeError, "already runs, in thread 'uwserve'", both[0].run)),
    "start": (ANSWERED, lambda both: raises(RuntimeError, "already runs, in thread 'uwserve'", both[0].start)),
    "publish": (QUEUED, lambda both: both[0].publish("t", "x")),
    "call_soon": (QUEUED, lambda both: both[0].call_soon(len, ())),
    "reload": (QUEUED, lambda both: both[0].reload(id="reloaded")),
    "stop": (QUEUED, lambda both: both[0].stop(timeout=DEADLINE)),
}

# What the facade calls on its control object, which must be as safe. Argument: (that object, the request).
INTERNAL: Table = {
    "set_hooks": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already bound", lambda: both[0].set_hooks(*[None] * 5)),
    ),
    "set_connection_log": (
        ANSWERED,
        lambda both: raises(TypeError, "must be callable", lambda: both[0].set_connection_log(None, None, None)),
    ),
    "count_handler_error": (ANSWERED, lambda both: both[0].count_handler_error("fetch")),
    "attach_core": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already running, on 'uwserve'", both[0].attach_core),
    ),
    "detach_core": (ANSWERED, lambda both: both[0].detach_core()),
    "pump": (ANSWERED, lambda both: both[0].pump()),
    "loop_reader": (ANSWERED, lambda both: both[0].loop_reader(len)()),
    "set_event_loop": (REFUSED, lambda both: both[0].set_event_loop(None, ())),
    "forget_event_loop": (REFUSED, lambda both: both[0].forget_event_loop()),
    "cancel_tasks": (REFUSED, lambda both: both[0].cancel_tasks()),
    "forget_tasks": (REFUSED, lambda both: both[0].forget_tasks()),
    "start_coroutine": (REFUSED, lambda both: both[0].start_coroutine(None)),
    "listen_tcp": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already bound", lambda: both[0].listen_tcp([], 0, False, False)),
    ),
    "listen_unix": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already bound", lambda: both[0].listen_unix(b"x", -1)),
    ),
    "listen_fds": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already bound", lambda: both[0].listen_fds([])),
    ),
    "listening_descriptors": (REFUSED, lambda both: both[0].listening_descriptors()),
    "run_loop": (
        ANSWERED,
        lambda both: raises(RuntimeError, "already running, on 'uwserve'", both[0].run_loop),
    ),
    "configure": (REFUSED, lambda both: both[0].configure({})),
    "respond": (REFUSED, lambda both: both[0].respond(both[1], 200, [], b"")),
    "respond_stream": (REFUSED, lambda both: both[0].respond_stream(both[1], 200, [], iter(()))),
    "respond_pushed": (REFUSED, lambda both: both[0].respond_pushed(both[1], 200, [], len)),
    "push_piece": (REFUSED, lambda both: both[0].push_piece(both[1], b"")),
    "end_pushed": (REFUSED, lambda both: both[0].end_pushed(both[1], True)),
    "forced": (ANSWERED, lambda both: both[0].forced),
    "compressions": (ANSWERED, lambda both: both[0].compressions),
    "defer": (REFUSED, lambda both: both[0].defer(both[1])),
    "check_close": (ANSWERED, lambda both: both[0].check_close(1000, "")),
    "stop_within": (QUEUED, lambda both: both[0].stop_within(DEADLINE, 1001, "x")),
    "stop_core": (QUEUED, lambda both: both[0].stop_core(True)),
}

REQUEST: Table = {
    **{
        name: (ANSWERED, lambda request, name=name: getattr(request, name))
        for name in (
            "params",
            "method",
            "url",
            "target",
            "path",
            "query",
            "header_items",
            "headers",
            "http_version",
            "body",
            "is_upgrade",
            "answered",
        )
    },
    "bytes": (ANSWERED, lambda request: request.bytes()),
    "text": (ANSWERED, lambda request: request.text()),
    "json": (ANSWERED, lambda request: request.json()),
    "tls": (REFUSED, lambda request: request.tls),
}


def members(cls: type, aliases: Any = ()) -> set[str]:
    return {name for base in cls.__mro__ for name in vars(base) if not name.startswith("_")} - set(aliases)


def test_every_member_has_a_declared_answer() -> None:
    assert members(uwserve.ServerWebSocket, _bun_names.SERVER_WEBSOCKET) == set(WEBSOCKET)
    assert members(Server, _bun_names.SERVER) == set(SERVER)
    assert members(_core.ServerControl) == set(INTERNAL)
    assert members(uwserve.Request) == set(REQUEST)


def call_elsewhere(call: Callable[[], Any]) -> BaseException | None:
    """The exception out of ``call()`` on a thread of its own."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            call()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=attempt, name="a-foreign-thread")
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "it waits for ever"
    return raised[0] if raised else None


def check(table: Table, subject: Any) -> None:
    for name, (answer, call) in table.items():
        error = call_elsewhere(lambda call=call: call(subject))
        if answer == REFUSED:
            assert isinstance(error, RuntimeError), f"{name}: {error!r}"
            assert "'a-foreign-thread'" in str(error), name
            assert "'uwserve'" in str(error), name
        else:
            assert error is None, f"{name}: {error!r}"
    subject = None


def test_members_answer_as_declared() -> None:
    """All of them, with a socket that is open and a request that waits; what ends these comes last."""
    requests, sockets = Recorder(), Recorder()

    def fetch(request: Any, server: Server) -> Any:
        if server.upgrade(request):
            return None
        requests(request)
        return Future()

    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"open": sockets})
    with server, Client(server) as waiting, Client(server) as client:
        server.start()
        open_websocket(client)
        waiting.send(request("/", "POST", b"{}"))
        check(REQUEST, requests.wait()[0])
        check(WEBSOCKET, sockets.wait()[0])
        last = ("stop", "stop_within", "stop_core")
        subjects = ((SERVER, server), (INTERNAL, server._control.core))
        for is_last in (False, True):
            for table, subject in subjects:
                chosen = {name: table[name] for name in table if (name in last) is is_last}
                check(chosen, (subject, requests.items[0]))
        assert server.stop(True).wait(DEADLINE)
        requests.items.clear()
        sockets.items.clear()
        del subject, subjects


def test_refused_members_work_through_call_soon() -> None:
    """What is refused here works there, on the server's thread."""
    sockets, answers = Recorder(), Recorder()
    with (
        running(fetch=lambda r, s: s.upgrade(r) and None, websocket={"open": sockets}) as server,
        Client(server) as client,
    ):
        open_websocket(client)
        names = [name for name, (answer, _) in WEBSOCKET.items() if answer == REFUSED]
        for name in names:
            call = WEBSOCKET[name][1]
            server.call_soon(lambda name=name, call=call: answers((name, call(sockets.items[0]))))
        assert [name for name, _ in answers.wait(len(names))] == names
        sockets.items.clear()
        answers.items.clear()
