"""Bodies of requests are charged to max_buffered_bytes as long as they are kept, and refused before they are read."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from http_client import GET, Client, request, running
from loops import running_in
from ws_client import eventually

import uwserve

MIB = 1 << 20


def post(size: int, path: str = "/") -> bytes:
    return request(path, "POST", None, f"Content-Length: {size}")


def refusals(server: Any) -> tuple[int, int]:
    return server.refused["http_413"], server.refused["http_503"]


@pytest.mark.parametrize("mode", ["asyncio", "start"])
def test_bodies_that_wait_for_their_answer_are_charged(mode: str) -> None:
    """Eight uploads to a handler that waits: what is kept stays within the limit, the others get 503."""
    gate: list[asyncio.Event] = []

    async def fetch(request: uwserve.Request) -> str:
        gate.append(asyncio.Event())
        await gate[-1].wait()
        return str(len(request.body))

    size, limit = 10 * MIB, 16 * MIB
    options: dict[str, Any] = {"fetch": fetch, "limits": {"max_buffered_bytes": limit}, "idle_timeout": 60}
    with running_in(mode, **options) as server:
        clients = [Client(server) for _ in range(8)]
        results: list[int] = []

        def upload(client: Client) -> None:
            try:
                client.send(post(size) + bytes(size))
            except OSError:
                pass
            try:
                results.append(client.reply().status)
            except (OSError, EOFError, AssertionError):  # a reset after the 503
                results.append(503)

        threads = [threading.Thread(target=upload, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        eventually(lambda: len(results) == 7)
        eventually(lambda: len(gate) == 1)
        assert size <= server.buffered_bytes <= limit
        assert set(results) == {503}
        server.call_soon(gate[0].set)
        for thread in threads:
            thread.join()
        assert sorted(results)[0] == 200
        eventually(lambda: server.buffered_bytes == 0)
        for client in clients:
            client.__exit__()


def test_a_body_is_charged_until_the_request_goes() -> None:
    """Beyond the answer, when the application keeps the request; and while it holds the bytes through it."""
    kept: list[Any] = []

    def fetch(request: uwserve.Request) -> str:
        kept.append(request)
        if request.path == "/read":
            assert len(request.body) == 100_000
        return "ok"

    with running(fetch=fetch) as server, Client(server) as client:
        for path in ("/", "/read"):
            client.send(post(100_000, path) + bytes(100_000))
            assert client.reply().status == 200
            assert server.buffered_bytes == 100_000
            kept.clear()
            eventually(lambda: server.buffered_bytes == 0)


def test_a_body_that_nobody_reads_is_freed_with_the_answer() -> None:
    with running(fetch=lambda request: "ok") as server, Client(server) as client:
        for _ in range(3):
            client.send(post(MIB) + bytes(MIB))
            assert client.reply().status == 200
            gc.collect()
            assert server.buffered_bytes == 0


def test_a_client_that_leaves_in_its_body_gives_the_charge_back() -> None:
    with running(fetch=lambda request: "ok") as server:
        client = Client(server)
        client.send(post(MIB) + bytes(500_000))
        eventually(lambda: server.buffered_bytes == 500_000)
        client.reset()
        eventually(lambda: server.buffered_bytes == 0)


def test_a_body_that_can_never_fit_gets_413_before_it_is_read() -> None:
    options: dict[str, Any] = {"max_request_body_size": 100 * MIB, "limits": {"max_buffered_bytes": 10 * MIB}}
    with running(fetch=lambda r: "ok", **options) as server, Client(server) as client:
        client.send(request("/", "POST", None, f"Content-Length: {11 * MIB}", "Expect: 100-continue"))
        assert client.reply().status == 413
        assert refusals(server) == (1, 0)


def test_a_body_without_room_gets_503_before_it_is_read() -> None:
    """One is kept; the next, which would take bodies over half of the limit, is refused before it is sent."""
    kept: list[Any] = []

    def fetch(request: uwserve.Request) -> str:
        kept.append(request)
        return "ok"

    with running(fetch=fetch, limits={"max_buffered_bytes": 8 * MIB}) as server:
        with Client(server) as client:
            client.send(post(3 * MIB) + bytes(3 * MIB))
            assert client.reply().status == 200
        with Client(server) as client:
            client.send(request("/", "POST", None, f"Content-Length: {2 * MIB}", "Expect: 100-continue"))
            assert client.reply().status == 503
        assert refusals(server) == (0, 1)
        with Client(server) as client:  # small ones and those without a body go on
            client.send(post(1000) + bytes(1000))
            assert client.reply().status == 200
            assert client.ask(GET).status == 200
        kept.clear()
        with Client(server) as client:
            client.send(post(2 * MIB) + bytes(2 * MIB))
            assert client.reply().status == 200
        kept.clear()


def test_one_body_alone_may_take_more_than_half() -> None:
    limits = {"max_buffered_bytes": 8 * MIB}
    with running(fetch=lambda r: str(len(r.body)), limits=limits) as server, Client(server) as client:
        client.send(post(7 * MIB) + bytes(7 * MIB))
        assert client.reply().body == str(7 * MIB).encode()


def test_without_the_limit_bodies_are_not_refused() -> None:
    kept: list[Any] = []

    def fetch(request: uwserve.Request) -> str:
        kept.append(request)
        return "ok"

    with running(fetch=fetch, limits={"max_buffered_bytes": 0}) as server, Client(server) as client:
        for _ in range(3):
            client.send(post(15 * MIB) + bytes(15 * MIB))
            assert client.reply().status == 200
        assert server.buffered_bytes == 45 * MIB
        kept.clear()
        eventually(lambda: server.buffered_bytes == 0)


def test_the_default_of_one_body_is_16_mib() -> None:
    """Bun's is 128 MiB; bodies are kept whole here."""
    with running(fetch=lambda r: str(len(r.body))) as server:
        with Client(server) as client:
            client.send(post(16 * MIB) + bytes(16 * MIB))
            assert client.reply().body == str(16 * MIB).encode()
        with Client(server) as client:
            client.send(post(16 * MIB + 1))
            assert client.reply().status == 413
