"""Control frames and tiny fragments a second, and messages in assembly beyond ``max_buffered_bytes``."""

from __future__ import annotations

from typing import Any

import pytest
from ws_client import BINARY, CONT, PING, PONG, TEXT, Frame, eventually, frame

pytestmark = pytest.mark.wss

MIB = 1 << 20


def failed(live: Any, client: Any, code: int, text: str) -> None:
    """The peer read the Close frame, and the handler saw the same."""
    frames = client.read_to_end()
    assert (frames[-1].close_code, frames[-1].close_reason) == (code, text)
    assert live.wait_for("close")[1:] == (code, text)


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_too_many_control_frames(serving: Any, opcode: int) -> None:
    """Ten seconds' allowance can be spent at once; what is refilled while the test runs is far less than it sends."""
    live = serving(limits={"max_control_frames_per_second": 5})
    client, _ = live.open()
    client.send_raw(frame(opcode, b"x") * 50)
    client.send("between")
    assert live.wait_for("message")[1] == "between"
    client.send_raw(frame(opcode, b"y") * 1000 + frame(TEXT, "never"))
    failed(live, client, 1008, "Received too many control frames")
    live.no_events()  # "never" least of all
    assert live.server.refused["control_frames"] == 1


def test_control_frames_of_others_do_not_count(serving: Any) -> None:
    """Each connection has its own allowance."""
    live = serving(limits={"max_control_frames_per_second": 20})
    for _ in range(5):
        client, _ = live.open()
        client.send_raw(frame(PING, b"x") * 20)
        assert [client.read_frame() for _ in range(20)] == [Frame(PONG, b"x")] * 20
        live.events.queue.clear()
    assert live.server.refused["control_frames"] == 0


def test_a_burst_passes_and_a_flood_does_not(serving: Any) -> None:
    """With the defaults: what a laptop that wakes up has to say, unsolicited Pongs too, and then what never ends."""
    live = serving()
    client, _ = live.open()
    client.send_raw(frame(PING) * 1000)
    for _ in range(1000):
        assert client.read_frame() == Frame(PONG, b"")
    client.send_raw(frame(PONG) * 8000)
    client.send("still here")
    assert live.wait_for("message")[1] == "still here"
    client.send_raw(frame(PONG) * 50_000)
    failed(live, client, 1008, "Received too many control frames")


def test_too_many_tiny_fragments(serving: Any) -> None:
    live = serving(limits={"max_tiny_fragments_per_second": 100})
    client, _ = live.open()
    client.send_raw(frame(TEXT, b"", fin=False) + frame(CONT, b"123456789012345", fin=False) * 3000)
    failed(live, client, 1008, "Received too many tiny fragments")
    assert live.server.refused["tiny_fragments"] == 1
    eventually(lambda: live.server.buffered_bytes == 0)


def test_what_is_not_a_tiny_fragment(serving: Any) -> None:
    """Sixteen bytes are not tiny, and whole messages are no fragments, however small."""
    live = serving(message=lambda ws, m: ws.send(m), limits={"max_tiny_fragments_per_second": 2})
    client = live.connect()
    client.send_raw(frame(BINARY, b"x" * 16, fin=False) + frame(CONT, b"x" * 16, fin=False) * 1000 + frame(CONT))
    assert client.read_message() == b"x" * 16 * 1001
    client.send_raw(frame(TEXT, "1") * 1000)
    assert client.read_messages(1000) == ["1"] * 1000
    assert live.server.refused["tiny_fragments"] == 0
    live.events.queue.clear()


def test_four_mebibytes_in_fragments_of_64_bytes(serving: Any) -> None:
    """With the defaults: Autobahn's case 9.3.1 and its like."""
    live = serving(message=lambda ws, m: ws.send(m))
    client = live.connect()
    piece = frame(CONT, b"y" * 64, fin=False)
    client.send_raw(frame(BINARY, b"y" * 64, fin=False) + piece * 65534 + frame(CONT, b"y" * 64))
    assert client.read_message() == b"y" * 4 * MIB
    live.events.queue.clear()


def test_zero_is_off_and_reload_reaches_open_sockets(serving: Any) -> None:
    live = serving(limits={"max_control_frames_per_second": 0, "max_tiny_fragments_per_second": 0})
    client, _ = live.open()
    client.send_raw(frame(PONG) * 5000)
    client.send_raw(frame(BINARY, b"", fin=False) + frame(CONT, b"1", fin=False) * 30_000 + frame(CONT))
    assert live.wait_for("message")[1] == b"1" * 30_000
    live.server.reload(limits={"max_control_frames_per_second": 10})
    client.send_raw(frame(PONG) * 1000)
    failed(live, client, 1008, "Received too many control frames")


def test_an_assembly_beyond_the_memory(serving: Any) -> None:
    """Whoever grows is failed with 1013; messages that come whole go on; the others get theirs through."""
    live = serving(message=lambda ws, m: ws.send(len(m).to_bytes(4, "big")), limits={"max_buffered_bytes": 4 * MIB})
    first, second, small = (live.connect() for _ in range(3))
    first.send_raw(frame(BINARY, b"x" * MIB, fin=False))
    eventually(lambda: live.server.buffered_bytes >= MIB, "the first half")
    kept = live.server.buffered_bytes
    assert kept <= 2 * MIB + 65536  # what it holds in reserve counts
    second.send_raw(frame(BINARY, b"x" * (8 * MIB), fin=False)[: 5 * MIB])
    frames = second.read_to_end()
    assert (frames[-1].close_code, frames[-1].close_reason) == (1013, "The server is short of memory, try again later")
    assert live.wait_for("close")[1] == 1013
    assert live.server.refused["websocket_1013"] == 1
    eventually(lambda: live.server.buffered_bytes == kept, "the memory of the one that was failed")
    small.send(b"x" * 1000)
    assert small.read_message() == (1000).to_bytes(4, "big")
    first.send_raw(frame(CONT, b"x" * 1000))
    assert first.read_message() == (MIB + 1000).to_bytes(4, "big")
    eventually(lambda: live.server.buffered_bytes == 0)
    live.events.queue.clear()


def test_frames_in_many_reads_are_charged_and_given_back(serving: Any) -> None:
    live = serving()
    clients = [live.connect() for _ in range(4)]
    for _ in range(3):
        for client in clients:
            client.send_raw(frame(BINARY, b"x" * 300_000)[:200_000])
        eventually(lambda: live.server.buffered_bytes >= 4 * 190_000, "all of them")
        for client in clients:
            client.send_raw(frame(BINARY, b"x" * 300_000)[200_000:])
        eventually(lambda: live.server.buffered_bytes == 0)
    clients[0].send_raw(frame(BINARY, b"x" * 300_000)[:200_000])
    eventually(lambda: live.server.buffered_bytes > 0)
    clients[0].reset()
    eventually(lambda: live.server.buffered_bytes == 0)
    live.events.queue.clear()
