"""``server.stats()``: every counter against what clients really did."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from counters import settled
from deflate_client import DeflateClient
from http_client import GET, running, upgrade
from http_client import Client as HttpClient
from ws_client import BINARY, CLOSE, TEXT, Client, eventually, frame, handshake

import uwserve
from uwserve import Response
from uwserve.stats import Connections, Requests, ServerStats, Traffic, WebSockets

pytestmark = pytest.mark.wss

MIB = 1 << 20


def test_keys_are_those_of_the_types(serving: Any) -> None:
    """What uwserve.stats documents is what there is, and JSON takes it."""
    live = serving()
    stats = live.server.stats()
    assert set(stats) == set(ServerStats.__annotations__)
    for key, kind in {
        "connections": Connections,
        "requests": Requests,
        "websockets": WebSockets,
        "received": Traffic,
        "sent": Traffic,
    }.items():
        assert set(stats[key]) == set(kind.__annotations__), key
    assert json.loads(json.dumps(stats)) == stats
    assert stats["refused"] == live.server.refused
    assert isinstance(stats["uptime"], float)
    values = {key: value for key, value in stats.items() if key != "uptime"}
    assert all(type(value) is int for value in _leaves(values))
    stats["connections"]["open"] = 99  # a copy of the caller's own
    assert live.server.stats()["connections"]["open"] == 0


def _leaves(value: Any) -> list[Any]:
    return [leaf for child in value.values() for leaf in _leaves(child)] if isinstance(value, dict) else [value]


def test_before_running_and_after_the_end() -> None:
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=upgrade, websocket={})
    first = server.stats()
    assert first["uptime"] > 0
    assert not any(_leaves({key: value for key, value in first.items() if key != "uptime"}))
    with server.start():
        client = Client(("127.0.0.1", server.port))
        client.send("x")
        client.round_trip()
        client.send_close(1000)
        client.read_close()
        client.close()
    last = server.stats()
    assert server.stats() == last, "the clock stands still, too"
    assert last["uptime"] > first["uptime"]
    assert last["connections"] == {"open": 0, "total": 1}
    assert last["websockets"] == {"open": 0, "total": 1}
    assert last["closes"] == {1000: 1}
    assert last["received"]["text_messages"] == 1
    assert last["received"]["wire_bytes"] > 0


def test_connections_and_requests() -> None:
    """HTTP and WebSockets; pending ones; those that never send a request count as connections only."""
    waiting: Future[Any] = Future()
    with running(fetch=lambda r, s: waiting if r.path == "/wait" else upgrade(r, s), websocket={}) as server:
        with HttpClient(server) as silent, HttpClient(server) as one, HttpClient(server) as two:
            assert one.ask(GET).status == 200
            assert one.ask(GET).status == 200
            two.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            settled(server, {"requests": {"pending": 1, "total": 3}, "connections": {"open": 3, "total": 3}})
            ws = Client(("127.0.0.1", server.port))
            settled(server, {"connections": {"open": 4, "total": 4}, "websockets": {"open": 1, "total": 1}})
            settled(server, {"requests": {"pending": 1, "total": 4}})
            waiting.set_result(Response("done"))
            assert two.reply().body == b"done"
            settled(server, {"requests": {"pending": 0, "total": 4}})
            del silent
            ws.close()
        settled(server, {"connections": {"open": 0, "total": 4}, "websockets": {"open": 0, "total": 1}})
        assert server.stats()["closes"] == {1006: 1}


def test_messages_and_bytes(echo: Any, transport: Any, serving: Any) -> None:
    """Text and binary, small, large, fragmented, empty, in both directions; sizes are those of payloads in UTF-8."""
    live = serving(message=lambda ws, message: ws.send(message), **transport)
    client = live.connect()
    texts = ["", "x", "grüße €", "m" * 200, "n" * 100_000]
    binaries = [b"", b"y" * 125, b"z" * 70_000, bytes(MIB)]
    for message in [*texts, *binaries]:
        client.send(message)
        assert client.read_message() == message
    client.send_raw(frame(TEXT, "one ", fin=False) + frame(0, "two ", fin=False) + frame(0, "three"))
    assert client.read_message() == "one two three"
    for message in texts:  # many in one read
        client.send_raw(frame(TEXT, message) * 50)
        for _ in range(50):
            assert client.read_message() == message
    text_bytes = 51 * sum(len(text.encode()) for text in texts) + 13
    binary_bytes = sum(map(len, binaries))
    expected = {
        "messages": 51 * len(texts) + 1 + len(binaries),
        "text_messages": 51 * len(texts) + 1,
        "binary_messages": len(binaries),
        "bytes": text_bytes + binary_bytes,
        "text_bytes": text_bytes,
        "binary_bytes": binary_bytes,
        "pings": 0,
        "pongs": 0,
        "compressed_messages": 0,
        "uncompressed_bytes": 0,
        "compressed_bytes": 0,
    }
    live.on_loop(lambda: None)  # the last write has returned
    stats = live.server.stats()
    for way in ("received", "sent"):
        wire = stats[way].pop("wire_bytes")
        assert stats[way] == expected
        assert wire > text_bytes + binary_bytes


def test_received_without_a_handler(serving: Any) -> None:
    """They have arrived, whoever looks at them."""
    with running(fetch=upgrade, websocket={}) as server:
        client = Client(("127.0.0.1", server.port))
        client.send("abc")
        client.round_trip()
        settled(server, {"received.text_messages": 1, "received.text_bytes": 3})
        client.close()


@pytest.mark.plain("counts bytes on the wire")
def test_wire_bytes_to_the_byte(serving: Any) -> None:
    """What the client's socket has sent and got, the handshake and Close frames included."""
    live = serving(message=lambda ws, message: ws.send(message))
    client = live.connect(upgrade=False)
    sent = (
        handshake()
        + b"".join(frame(BINARY, bytes(size)) for size in (0, 1, 125, 126, 70_000))
        + frame(CLOSE, b"\x03\xe8")
    )
    client.send_raw(sent)
    got = 0
    while data := client.sock.recv(1 << 16):
        got += len(data)
    client.close()
    live.wait_for("close")
    settled(live.server, {"received.wire_bytes": len(sent), "sent.wire_bytes": got})


@pytest.mark.plain("counts bytes on the wire")
def test_wire_bytes_of_large_answers_and_slow_readers(serving: Any) -> None:
    """Partial writes count once: a body, and messages that waited as backlog."""
    live = serving(fetch=lambda r, s: None if s.upgrade(r) else bytes(3 * MIB))
    with HttpClient(live.server.port, receive_buffer=8192) as http:
        http.send(GET)
        head = http.read_until(b"\r\n\r\n")
        http.read_exactly(3 * MIB)
        settled(live.server, {"sent.wire_bytes": len(head) + 3 * MIB, "received.wire_bytes": len(GET)})
    client, ws = live.open(receive_buffer=8192)
    before = live.server.stats()["sent"]["wire_bytes"]

    def fill() -> int:
        count = 1
        while ws.send(bytes(65536)) != -1:
            count += 1
        return count

    count = live.on_loop(fill)
    client.read_messages(count)
    settled(live.server, {"sent.wire_bytes": before + count * (65536 + 10)})


def test_pings_and_pongs(serving: Any) -> None:
    live = serving()
    client, ws = live.open()
    for _ in range(3):
        client.ping(b"abc")
        client.read_frame()
    client.pong()
    client.pong(b"unasked")
    assert live.on_loop(ws.ping, b"x") == 1
    assert live.on_loop(ws.pong, b"") == 0  # an empty one, sent
    client.read_frame()
    client.read_frame()
    settled(live.server, {"received.pings": 3, "received.pongs": 2, "sent.pings": 1, "sent.pongs": 4})
    assert live.server.stats()["received"]["messages"] == live.server.stats()["sent"]["messages"] == 0


def test_automatic_pings_are_counted(serving: Any) -> None:
    live = serving(idle_timeout=8)
    client, _ = live.open()
    assert client.read_frame().opcode == 9
    settled(live.server, {"sent.pings": 1})


@pytest.mark.parametrize("size", [10, 20_000])
def test_publishes_count_once_for_each_receiver(room: Any, size: int) -> None:
    """Small ones, batched, and large ones, sent at once; a publisher's own is none; to nobody is a publish, too."""
    live, pairs = room(5, "news")
    client, ws = pairs[0]

    def publish() -> None:
        for _ in range(7):
            assert live.server.publish("news", "t" * size) == size
        for _ in range(2):
            assert ws.publish("news", bytes(size)) == size
        assert live.server.publish("nobody", "x") == 0
        assert ws.publish("nobody", "x") == 0

    live.on_loop(publish)
    assert len(live.messages_until_now(client, ws)) == 7
    for other, handle in pairs[1:]:
        assert len(live.messages_until_now(other, handle)) == 9
    marks = 5  # of messages_until_now(): "<end>"
    settled(
        live.server,
        {
            "publishes": 11,
            "sent.text_messages": 35 + marks,
            "sent.text_bytes": 35 * size + marks * len("<end>"),
            "sent.binary_messages": 8,
            "sent.binary_bytes": 8 * size,
        },
    )


def test_from_other_threads(serving: Any) -> None:
    """Sends and publishes that were posted are counted when they are sent."""
    live = serving()
    client, ws = live.open()
    live.on_loop(ws.subscribe, "t")
    for _ in range(10):
        assert ws.send("abc") == 3
        assert live.server.publish("t", b"de") == 2
    assert len([client.read_message() for _ in range(20)]) == 20
    settled(live.server, {"publishes": 10, "sent.text_messages": 10, "sent.binary_messages": 10, "sent.bytes": 50})


@pytest.mark.parametrize("context", ["shared", "dedicated"])
def test_compression(serving: Any, context: str) -> None:
    """Both sizes of each compressed message; plain ones do not count; payload bytes are the inflated ones."""
    live = serving(
        message=lambda ws, message: ws.send(message, compress=True),
        per_message_deflate={"compress": context, "decompress": context},
    )
    client = DeflateClient(live.address)
    live.clients.append(client)
    texts = ["abcabcabc" * 100, "z" * 5000, "short text, short text, short text"]
    packed_in = packed_out = 0
    for text in texts:
        packed_in += client.send_deflated(text)
        message, size = client.read_packed()
        assert message == text
        assert size
        packed_out += size
    client.send("")  # never compressed
    assert client.read_packed() == ("", None)
    total = sum(map(len, texts))
    for way, packed in (("received", packed_in), ("sent", packed_out)):
        settled(
            live.server,
            {
                f"{way}.compressed_messages": 3,
                f"{way}.compressed_bytes": packed,
                f"{way}.uncompressed_bytes": total,
                f"{way}.text_messages": 4,
                f"{way}.bytes": total,
            },
        )


def test_compressed_publish(serving: Any) -> None:
    """Each receiver's message counts, though it was compressed once; whoever has not negotiated it gets it plain."""
    live = serving(per_message_deflate=True)
    clients = [DeflateClient(live.address) for _ in range(3)]
    plain = live.connect()
    live.clients.extend(clients)
    sockets = [live.expect("open")[0] for _ in range(4)]
    text = "again and again " * 50

    def publish() -> None:
        for ws in sockets:
            ws.subscribe("t")
        live.server.publish("t", text)

    live.on_loop(publish)
    sizes = [client.read_packed()[1] for client in clients]
    assert plain.read_message() == text
    settled(
        live.server,
        {
            "sent.text_messages": 4,
            "sent.text_bytes": 4 * len(text),
            "sent.compressed_messages": 3,
            "sent.uncompressed_bytes": 3 * len(text),
            "sent.compressed_bytes": sum(sizes),
        },
    )
    bad = DeflateClient(live.address)
    bad.send_raw(frame(TEXT, b"\xff\xff\xff\xff", rsv=4))  # does not inflate: not a message
    bad.fill()
    bad.close()
    settled(live.server, {"received.compressed_messages": 0, "received.messages": 0, "closes": {1007: 1}})


def test_reading_while_traffic_runs(serving: Any) -> None:
    """From other threads, all the time: nothing falls, parts never exceed the whole, and the end is exact."""
    live = serving(message=lambda ws, message: ws.send(message))
    done = threading.Event()
    problems: list[str] = []

    def read() -> None:
        last = live.server.stats()
        while not done.is_set():
            now = live.server.stats()
            for way in ("received", "sent"):
                for key, value in now[way].items():
                    if value < last[way][key]:
                        problems.append(f"{way}.{key} fell from {last[way][key]} to {value}")
            if not 0 <= now["connections"]["open"] <= now["connections"]["total"]:
                problems.append(str(now["connections"]))
            last = now

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(5):
            client = live.connect()
            for _ in range(10):
                client.send_raw(frame(TEXT, "ping") * 50)
                for _ in range(50):
                    assert client.read_message() == "ping"
            client.send_close(4000 + turn)
            client.read_close()
            client.close()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not problems
    expected = {f"{way}.{key}": 2500 * n for way in ("received", "sent") for key, n in [("messages", 1), ("bytes", 4)]}
    settled(live.server, expected | {"closes": dict.fromkeys(range(4000, 4005), 1), "connections.open": 0})


def test_uptime_grows(serving: Any) -> None:
    live = serving()
    first = live.server.stats()["uptime"]
    eventually(lambda: live.server.stats()["uptime"] > first)
