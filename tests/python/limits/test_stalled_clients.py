"""Clients that ask for more than they read: cut after idle_timeout without progress, not before, bounded in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from http_client import GET, Client, Recorder, descriptors, pattern, request, running
from ws_client import eventually

from uwserve import Request, Response, Server

pytestmark = pytest.mark.wss

BODY = pattern(12_000_000)
SMALL = pattern(12_000)
COUNT = 3000  # pipelined requests; their answers are 36 MB


def body(request: Request) -> Response:
    return Response(BODY)


def stream(request: Request) -> Response:
    return Response(iter([BODY]))


def small(request: Request) -> bytes:
    return SMALL


# What is asked, by whom it is answered, and how much of the answer is read before the client stalls.
STALLS: dict[str, tuple[bytes, Any, int]] = {
    "body": (GET, body, 2_000_000),
    "body, unread": (GET, body, 1),
    "stream": (GET, stream, 2_000_000),
    "stream, unread": (GET, stream, 1),
    "body with junk behind": (GET + b"P" * 200_000, body, 2_000_000),
    "pipeline": (GET * COUNT, small, 100_000),
}


@contextlib.contextmanager
def stalled(what: str, idle_timeout: int) -> Iterator[tuple[Server, Client, Recorder]]:
    """A client that has read a part of what it asked for, and the record of the calls of the handler."""
    sent, answer, size = STALLS[what]
    seen = Recorder()

    def fetch(request: Request) -> Any:
        seen(request.path)
        return answer(request)

    with (
        running(fetch=fetch, idle_timeout=idle_timeout) as server,
        Client(server, receive_buffer=65536) as client,
    ):
        client.send(sent)
        while len(client.buffer) < size:
            client.buffer += client.socket.recv(min(65536, size - len(client.buffer)))
        yield server, client, seen


def test_stalled_clients_are_cut() -> None:
    """One second without a byte read: the connection goes, whatever the timer was doing when the client stalled."""
    with contextlib.ExitStack() as stack:
        cases = {what: stack.enter_context(stalled(what, idle_timeout=1)) for what in STALLS}
        open_now = descriptors()
        eventually(lambda: descriptors() <= open_now - len(cases), "cutting the clients", 8)
        for what, (server, _, seen) in cases.items():
            assert server.pending_requests == 0, what
            assert len(seen.items) < COUNT // 2, "answers without bound for a client that does not read"


def test_patience_is_kept() -> None:
    """Longer than any timeout of the layers below: with idle_timeout off or long, everything still arrives whole.

    And timeout(request, 0) holds also when more is pipelined behind the request than the server reads.
    """
    later: Future[str] = Future()

    def fetch(request: Request, server: Server) -> Any:
        if request.path == "/next":
            return "next"
        server.timeout(request, 0)
        return later

    with contextlib.ExitStack() as stack:
        patient = stack.enter_context(Client(stack.enter_context(running(fetch=fetch, idle_timeout=1))))
        patient.send(request("/first") + request("/next", "POST", b"x" * 100_000))
        cases = []
        for what, idle_timeout in (("body", 0), ("stream", 60), ("body", 60), ("stream", 0), ("pipeline", 0)):
            cases.append((what, *stack.enter_context(stalled(what, idle_timeout))))
        clock = stack.enter_context(Client(stack.enter_context(running(fetch=small, idle_timeout=11))))
        assert clock.at_end()  # upstream's own figure is ten seconds
        for what, server, client, _ in cases:
            replies = [client.reply().body for _ in range(COUNT if what == "pipeline" else 1)]
            assert set(replies) == {SMALL if what == "pipeline" else BODY}, what
            assert server.pending_requests == 0
        later.set_result("worth it")
        assert [patient.reply().body, patient.reply().body] == [b"worth it", b"next"]
