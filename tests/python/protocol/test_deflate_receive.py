"""Compressed messages from clients (RFC 7692 section 7.2.2): fragments, blocks of every kind, limits, hostile input.

The codes of failures are those of RFC 6455 7.4.1. The client is ours, because bits matter.
"""

from __future__ import annotations

import json
import os
import zlib

import pytest
from deflate_client import RSV1, DeflateClient, deflate, echo_maker, opener
from processes import SANITIZED
from ws_client import BINARY, CLOSE, CONT, PING, TEXT, frame

pytestmark = pytest.mark.wss

DEDICATED = {"compress": "dedicated", "decompress": "dedicated"}
JSON = '{"id": 12345, "user": "alice", "price": 99.95, "active": true, "tags": ["red", "green", "blue"]}' * 3


def stored(data: bytes, final: bool = False) -> bytes:
    """An uncompressed block (RFC 1951 section 3.2.4)."""
    size = len(data)
    return bytes([final]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


def finished(data: bytes) -> bytes:
    """A stream of its own: its last block has BFINAL set."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@pytest.fixture
def echoing(serving):
    return echo_maker(serving)


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
def test_z1_nothing_behind_a_message_is_overwritten(serving, option):
    """Compressed frames, cut at every byte: with a header alone in a read, upstream overwrote the next frame's."""
    live = serving(per_message_deflate=option)
    client, _ = opener(live)()
    for cut in range(1, 40):
        packed = client.deflate("compressed")
        stream = frame(TEXT, packed, rsv=RSV1) + frame(TEXT, "plain") + frame(TEXT, client.deflate("again"), rsv=RSV1)
        cut = min(cut, len(stream) - 1)
        client.send_raw(stream[:cut])
        live.on_loop(lambda: None)  # what has come was read by then, most likely
        client.send_raw(stream[cut:])
        assert [live.expect("message")[1] for _ in range(3)] == ["compressed", "plain", "again"]


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
def test_fragments_with_control_frames_between(echoing, option):
    _, client = echoing(option)
    for size in (1, 2, 7, 1000):
        text = os.urandom(100).hex()
        packed = client.deflate(text)
        pieces = [packed[i : i + size] for i in range(0, len(packed), size)]
        pings = 0
        for i, piece in enumerate(pieces):
            opcode, rsv = (TEXT, RSV1) if i == 0 else (CONT, 0)
            client.send_raw(frame(opcode, piece, fin=i == len(pieces) - 1, rsv=rsv))
            if i < len(pieces) - 1 and i % 10 == 0:
                client.ping(b"between")
                assert client.read_frame().payload == b"between"
                pings += 1
        assert client.read_message() == text
        assert pings or size == 1000
    # RFC 7692 7.2.3.6 and an empty last fragment.
    client.send_raw(frame(TEXT, client.deflate(JSON), fin=False, rsv=RSV1) + frame(CONT, b""))
    assert client.read_message() == JSON


@pytest.mark.parametrize(
    "stream",
    [
        frame(PING, b"x", rsv=RSV1),
        frame(8, b"", rsv=RSV1),
        frame(TEXT, b"a", fin=False) + frame(CONT, b"b", rsv=RSV1),
        frame(TEXT, deflate(b"a"), fin=False, rsv=RSV1) + frame(CONT, b"\0", rsv=RSV1),
        frame(TEXT, b"a", rsv=2),
        frame(TEXT, deflate(b"a"), rsv=RSV1 | 2),
        frame(TEXT, deflate(b"a"), rsv=RSV1 | 1),
    ],
)
def test_misused_reserved_bits(echoing, stream):
    live, client = echoing()
    client.send_raw(stream)
    assert client.read_close()[0] == 1002
    assert live.expect_close()[0] == 1002


def test_rsv1_without_the_extension(serving):
    live = serving(per_message_deflate=True)
    client, _ = live.open()
    client.send_raw(frame(TEXT, deflate(b"a"), rsv=RSV1))
    assert client.read_close()[0] == 1002
    assert live.expect_close()[0] == 1002


HELLO_FINAL = bytes.fromhex("f348cdc9c90700")  # RFC 7692 7.2.3.4
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")  # 7.2.3.3


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (bytes.fromhex("f248cdc9c90700"), "Hello"),  # 7.2.3.1
        (HELLO_STORED, "Hello"),
        (HELLO_FINAL, "Hello"),
        (bytes.fromhex("f24805000000ffffcac9c90700"), "Hello"),  # 7.2.3.5: two blocks
        (b"\0", ""),  # 7.2.3.6
        (b"", ""),
        (finished(b"Hello"), "Hello"),  # without the octet that closes it
        (finished(b"Hel") + finished(b"lo") + b"\0", "Hello"),
        (finished(b"Hel") + deflate(b"lo"), "Hello"),
        (stored(b"Hel") + stored(b"lo", final=True), "Hello"),
        (stored(b"") * 100 + stored(b"Hello") + b"\0", "Hello"),
        (stored(b"", final=True) * 1000 + deflate(b"Hello"), "Hello"),
    ],
)
def test_z6_blocks_of_every_kind(echoing, option, payload, message):
    _, client = echoing(option)
    for _ in range(3):
        client.send_raw(frame(TEXT, payload, rsv=RSV1))
        assert client.read_message() == message
        client.send_raw(frame(TEXT, deflate(JSON.encode()), rsv=RSV1))
        assert client.read_message() == JSON


def test_z6_context_goes_on_after_a_final_block(echoing):
    """A client that ends a stream with every message may still refer to what it has sent."""
    _, client = echoing(DEDICATED)
    block = os.urandom(500)
    client.send_raw(frame(BINARY, finished(block) + b"\0", rsv=RSV1))
    assert client.read_message() == block
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=block)
    packed = compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(packed) < 50
    client.send_raw(frame(BINARY, packed[:-4], rsv=RSV1))
    assert client.read_message() == block


def corrupt_payloads():
    good = deflate(JSON.encode())
    return {
        "reserved block type": b"\x06",
        "bad stored length": b"\x00\x05\x00\x05\x00Hello",
        "cut in half": good[: len(good) // 2],
        "one octet short": stored(b"Hello")[:-1],
        "distance too far back": bytes([0b010]) + b"\x81\x20\x00",
        "noise": bytes(range(200, 100, -1)),
        "bad code lengths": b"\x04" + b"\xff" * 20,
        "rubbish behind": good + b"\xff\xff\xff",
        "rubbish behind a final block": finished(b"Hello") + b"\xff\xff",
    }


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
@pytest.mark.parametrize("name", corrupt_payloads())
def test_corrupt_messages(echoing, option, name):
    live, client = echoing(option)
    client.send_raw(frame(BINARY, corrupt_payloads()[name], rsv=RSV1))
    assert client.read_close()[0] == 1007
    assert live.expect_close()[0] == 1007
    other, _ = opener(live)()  # nothing of it is left in what connections share
    other.send_deflated(JSON)
    assert other.read_message() == JSON


def test_utf8_is_checked_after_decompression(echoing):
    live, client = echoing()
    client.send_raw(frame(TEXT, deflate(b"\xff\xfe"), rsv=RSV1))
    assert client.read_close()[0] == 1007
    assert live.expect_close()[0] == 1007


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
@pytest.mark.parametrize("limit", [1, 125, 1000, 16_384, 100_000])
def test_the_limit_is_exact(echoing, option, limit):
    live, client = echoing(option, max_payload_length=limit)
    client.send_deflated(bytes(limit))
    assert client.read_message() == bytes(limit)
    client.send_deflated(bytes(limit + 1))
    assert client.read_close()[0] == 1009
    live.expect("message")
    assert live.expect_close()[0] == 1009


MEMORY = """
    import gc, sys
    import uwserve
    def memory():
        gc.collect()
        with open("/proc/self/status") as file:
            lines = dict(line.split(":") for line in file)
        return [int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM")]
    def message(ws, m):
        ws.send(str(memory() if m == "memory" else len(m)))
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
        "open": lambda ws: setattr(ws, "binary_type", "memoryview"), "message": message, "max_payload_length": 4 << 20,
        "per_message_deflate": {"compress": "dedicated", "decompress": sys.argv[1]}}).start()
    print(server.port)
    sys.stdin.read()
"""


@pytest.mark.plain("the server runs in a process of its own")
@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps freed memory")
@pytest.mark.parametrize("decompress", ["shared", "dedicated"])
def test_z5_bombs_cost_the_limit_at_most_and_it_is_given_back(script, decompress):
    """128 MiB in 128 KiB, twenty times, under a limit of 4 MiB; then messages of just the limit."""
    server = script(MEMORY, decompress)
    address = ("127.0.0.1", int(server.line()))
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    mib = bytes(1 << 20)
    bomb = b"".join(packer.compress(mib) for _ in range(128)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 1 << 20

    def memory():
        with DeflateClient(address) as client:
            client.send("memory")
            return json.loads(client.read_message())

    def send(payload):
        with DeflateClient(address) as client:
            client.send_raw(frame(BINARY, payload, rsv=RSV1))
            got = client.read_frame()
            return got.close_code if got.opcode == CLOSE else got.payload.decode()

    allowed = deflate(bytes(4 << 20))
    send(deflate(bytes(1000)))
    before, peak_before = memory()
    for _ in range(20):
        assert send(bomb) == 1009
    after, peak = memory()
    assert peak - peak_before < 8 << 10, f"{peak - peak_before} KiB"
    assert after - before < 2 << 10, f"{after - before} KiB"
    for _ in range(3):
        assert send(allowed) == str(4 << 20)
    after, _ = memory()
    assert after - before < 6 << 10, f"{after - before} KiB"  # 4 MiB of it: the allocator keeps Python's copy
    server.kill()
