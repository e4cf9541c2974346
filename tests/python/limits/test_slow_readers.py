"""Clients that take long to read an answer, and go on reading: what they acknowledge keeps them, whatever the body.

Those that read nothing are in test_stalled_clients.py, WebSockets in cpp/uws/test_liveness.cpp, where the clock can
be moved.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from http_client import GET, Client, pattern, running

from uwserve import Request, Response

pytestmark = pytest.mark.wss

IDLE = 1  # seconds, of the server
STEP, PIECE = 0.1, 32 * 1024  # seconds, and bytes read after them
SLOW = 4.5 * IDLE  # so long they read at that pace, then as fast as they can
BODY = pattern(12_000_000)  # more than the kernel takes, and tells of room only after a good part of that


def whole(request: Request) -> Response:
    return Response(BODY)


def one_piece(request: Request) -> Response:
    return Response(iter([BODY]))


def pieces(request: Request) -> Response:
    return Response(BODY[at : at + 50_000] for at in range(0, len(BODY), 50_000))


async def awaited(request: Request) -> Response:
    async def body() -> Any:
        yield BODY[:1_000_000]
        yield BODY[1_000_000:]

    return Response(body())


BODIES = {"whole": whole, "one piece": one_piece, "pieces": pieces, "awaited": awaited}


@contextlib.contextmanager
def readers(path: str | None) -> Iterator[dict[str, Client]]:
    """A client of each kind of body, with a receive buffer of 64 KiB, that has asked for it."""
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, fetch in BODIES.items():
            where = {} if path is None else {"unix": f"{path}-{name}"}
            server = stack.enter_context(running(fetch=fetch, idle_timeout=IDLE, keep_alive_timeout=IDLE, **where))
            address: Any = where.get("unix", server)
            clients[name] = stack.enter_context(Client(address, receive_buffer=PIECE))
            clients[name].send(GET)
        yield clients


@pytest.mark.parametrize("unix", [False, pytest.param(True, marks=pytest.mark.plain("unix sockets are without TLS"))])
def test_slow_readers_get_it_all(unix: bool, tmp_path: os.PathLike[str]) -> None:
    """At 300 KB a second, several times as long as the server waits for a client that reads nothing."""
    with readers(f"{tmp_path}/s" if unix else None) as clients:
        begun = time.monotonic()
        while time.monotonic() - begun < SLOW:
            time.sleep(STEP)  # the pace that is tested
            for name, client in clients.items():
                data = client.socket.recv(PIECE)
                assert data, f"{name}: cut after {len(client.buffer)} bytes"
                client.buffer += data
        with ThreadPoolExecutor(len(clients)) as pool:  # one that waited for its turn would read nothing for too long
            replies = pool.map(Client.reply, clients.values())
            for name, reply in zip(clients, replies, strict=True):
                assert reply.body == BODY, name
