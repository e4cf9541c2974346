"""What is used again for speed shows nothing of the one before: to handlers, by handles they kept, and to peers.

Used again are: the Task of coroutines that nobody has looked at, and its Context (test_task_isolation,
test_context_variables); the receive buffer, which memoryviews show; the assembly of messages in pieces, and the spare
memory that it and the backlog are made of; the cork buffer; the compressor and the inflater; one Response for many
requests; and the native sockets under handles and requests. Queues, drivers, Requests, Headers and sockets' handles are
not: each is its connection's, and is freed with it; what was kept of them is of that connection for ever.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest
from http_client import Client as HttpClient
from http_client import request
from server_modes import connect, serving, two_clients, upgrade
from ws_client import BINARY, CONT, Client, eventually, frame

from uwserve import Response

SECRET = b"a secret of the first client. "
MODES = ("start", "asyncio", "uvloop")
SIZES = (20, 200, 20_000, 200_000, 3_000_000)  # in one piece, in the receive buffer, assembled, on spare memory


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


def secret(size: int) -> bytes:
    return (SECRET * (size // len(SECRET) + 1))[:size]


@pytest.mark.parametrize("binary_type", ["bytes", "bytearray", "memoryview"])
def test_messages(mode: str, binary_type: str) -> None:
    """Of every size, whole and in pieces, after longer ones of another: the bytes that were sent, and no others."""
    kept: list[Any] = []

    def opening(ws: Any) -> None:
        ws.binary_type = binary_type

    def message(ws: Any, message: Any) -> None:
        kept.append((message, message[1:]))
        ws.send(message)

    def exchange(client: Client, data: bytes) -> None:
        client.send(data)
        assert client.read_message() == data
        half = len(data) // 2
        client.send_raw(frame(BINARY, data[:half], fin=False) + frame(CONT, data[half:]))
        assert client.read_message() == data

    with two_clients(mode, open=opening, message=message) as (first, second):
        for size in (*SIZES, *reversed(SIZES)):
            exchange(first, secret(size))
            exchange(second, b"s" * (size - 1))
        for index, (whole, part) in enumerate(kept):
            if binary_type == "memoryview":
                with pytest.raises(ValueError, match="released"):
                    bytes(whole)
            size = len(part) + 1
            assert bytes(part) == (secret(size) if index % 4 < 2 else b"s" * size)[1:]
        kept.clear()


def test_the_owner_of_a_view(mode: str) -> None:
    """What a released view refers to does not show the next message in that memory."""
    owners: list[Any] = []

    def opening(ws: Any) -> None:
        ws.binary_type = "memoryview"

    def message(ws: Any, message: memoryview) -> None:
        owners.append(message.obj)
        ws.send(message[:1])

    with two_clients(mode, open=opening, message=message) as (first, second):
        for size in (20_000, 100_000, 1_000_000):
            second.send(b"s" * size)
            second.read_message()
            first.send(secret(size))
            first.read_message()
    assert [owner for owner in owners[::2] if SECRET in shown(owner)] == []


def shown(owner: Any) -> bytes:
    """The owner of a large message shows nothing after its handler; small messages are copies."""
    try:
        return bytes(owner)
    except BufferError:
        return b""


def test_backlogs_and_corked_bytes(mode: str) -> None:
    """A peer gets its own bytes, whatever memory they waited in, also after a client that left with a backlog."""
    sockets: list[Any] = []

    def message(ws: Any, message: bytes) -> None:
        size = int(message)
        for _ in range(3):
            ws.send(secret(size) if ws is sockets[0] else b"s" * size)

    options: Any = {"fetch": upgrade, "websocket": {"open": sockets.append, "message": message}}
    with serving(mode, **options) as server:
        first = connect(server)
        eventually(lambda: sockets)
        with connect(server) as second:
            for size in SIZES:
                first.send(str(size).encode())
                second.send(str(size).encode())
                assert second.read_messages(3) == [b"s" * size] * 3
            first.reset()  # with a backlog of some megabytes
            second.send(b"3000000")
            assert second.read_messages(3) == [b"s" * 3_000_000] * 3


def test_the_compressor(mode: str) -> None:
    """A message is compressed, and inflated, with no other message as its dictionary."""
    offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    seen: list[Any] = []

    def message(ws: Any, message: bytes) -> None:
        seen.append(message)
        ws.send(message, compress=True)

    def packed(data: bytes) -> bytes:
        engine = zlib.compressobj(wbits=-15)
        return (engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]

    websocket = {"message": message, "per_message_deflate": True}
    with serving(mode, fetch=upgrade, websocket=websocket) as server:
        assert server.port is not None
        clients = [Client(("127.0.0.1", server.port), extra=(("Sec-WebSocket-Extensions", offer),)) for _ in range(2)]
        for size in (300, 30_000, 300):
            for client, data in zip(clients, (secret(size), secret(size)[::-1]), strict=True):
                client.send_raw(frame(BINARY, packed(data), rsv=4))
                answer = client.read_frame()
                assert answer.opcode == BINARY
                # By itself: had it referred to what another client's message left, this would fail.
                inflated = answer.payload
                if answer.rsv:
                    inflated = zlib.decompressobj(wbits=-15).decompress(inflated + b"\0\0\xff\xff")
                assert inflated == data == seen[-1]
        for client in clients:
            client.close()


def test_handles_that_were_kept(mode: str) -> None:
    """Of a closed socket, an answered request and their coroutines: nothing of those that came after them."""
    sockets: list[Any] = []
    requests: list[Any] = []
    tasks: list[Any] = []

    def fetch(request: Any, server: Any) -> Any:
        requests.append(request)
        if request.path == "/socket":
            return upgrade(request, server)
        answer = {"query": request.query, "secret": request.headers.get("secret"), "body": len(request.body)}
        return Response.json(answer)

    def opening(ws: Any) -> None:
        sockets.append(ws)
        ws.subscribe(f"topic {ws.data}")

    async def message(ws: Any, message: Any) -> None:
        tasks.append(asyncio.current_task())
        if message == "suspend":
            await asyncio.sleep(0)
        ws.send("done")

    def facts(ws: Any) -> Any:
        return ws.id, ws.data, ws.ready_state, ws.remote_address, ws.subscriptions, ws.buffered_amount

    def asked(found: Any) -> Any:
        return found.method, found.url, found.query, list(found.headers), bytes(found.body), dict(found.params)

    with serving(mode, fetch=fetch, websocket={"open": opening, "message": message}) as server:
        with HttpClient(server) as http:
            fields = ("Secret: first",)
            first = http.ask(request("/x?first", "POST", SECRET, *fields)).json()
            kept = asked(requests[0])
            second = http.ask(request("/x?second")).json()
        assert first == {"query": "first", "secret": "first", "body": len(SECRET)}
        assert second == {"query": "second", "secret": None, "body": 0}
        assert asked(requests[0]) == kept
        assert requests[0].answered
        with connect(server, "/socket?first") as client:
            for text in ("x", "suspend"):
                client.send(text)
                client.read_message()
        eventually(lambda: sockets[0].ready_state == 3)
        closed = facts(sockets[0])
        with connect(server, "/socket?second") as client:
            for text in ("x", "suspend"):
                client.send(text)
                client.read_message()
            assert facts(sockets[0]) == closed
            assert closed[1:3] == ("first", 3)
            assert closed[4] == []
            assert sockets[0].id != sockets[1].id
            assert sockets[0].send("to nobody") == 0
            client.send("x")
            assert client.read_message() == "done"
        eventually(lambda: all(task.done() for task in tasks))
        assert len({id(task) for task in tasks}) == len(tasks) == 5
        assert len({id(task.get_coro()) for task in tasks}) == 5


def test_one_response_for_many(mode: str) -> None:
    """A Response that a route gives to everybody is the same to each, whatever fields the server adds."""
    shared = Response("for all", headers={"X-Kind": "shared"})
    options: Any = {"routes": {"/shared": shared}, "fetch": lambda request: shared}
    with serving(mode, **options) as server, HttpClient(server) as first, HttpClient(server) as second:
        answers = [
            client.ask(request(path, "GET", None, *fields))
            for path in ("/shared", "/other")
            for client, fields in ((first, ("Cookie: secret=1",)), (second, ()))
        ]
    assert {answer.body for answer in answers} == {b"for all"}
    assert len({tuple(sorted(n for n, _ in answer.fields if n.lower() != "date")) for answer in answers}) == 1
    assert shared.payload == b"for all"
