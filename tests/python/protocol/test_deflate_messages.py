"""Compressed messages in both directions (RFC 7692 section 7.2): contexts, windows, limits, broken and hostile input.

The client is ours where bits matter. The codes of failures are those of RFC 6455 7.4.1.
"""

from __future__ import annotations

import os
import zlib

import pytest
from deflate_client import RSV1, deflate, echo_maker, opener
from processes import SANITIZED
from ws_client import BINARY, PING, TEXT, Frame, frame

pytestmark = pytest.mark.wss

DEDICATED = {"compress": "dedicated", "decompress": "dedicated"}
JSON = '{"id": 12345, "user": "alice", "price": 99.95, "active": true, "tags": ["red", "green", "blue"]}' * 3
# What a compressed connection must carry as any other does.
MESSAGES = [
    "",
    "x",
    "hello",
    JSON,
    "ü€😀" * 500,
    b"",
    b"\0",
    bytes(70_000),
    os.urandom(70_000),
    b"ab" * 150_000,
    JSON * 400,
]


@pytest.fixture
def echoing(serving):
    return echo_maker(serving)


def compressible(sizes=(300, 5000, 60_000)):
    return [os.urandom(size // 10) * 10 for size in sizes]


# --- both directions, every setting ---

OPTIONS = [True, DEDICATED, *({"compress": f"{n}KB", "decompress": f"{n}KB"} for n in (3, 4, 8, 16, 32, 64, 128, 256))]
OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option if option is True else option["compress"])
def test_round_trips(echoing, option, offer):
    _, client = echoing(option, offer)
    assert client.extensions
    for message in MESSAGES * 2:
        client.send_deflated(message)
        assert client.read_message() == message
        client.send(message)
        assert client.read_message() == message


@pytest.mark.parametrize("window", range(8, 16))
@pytest.mark.parametrize("context", [True, False], ids=["context", "no context"])
def test_z2_the_server_keeps_to_every_window(echoing, window, context):
    """server_max_window_bits=8..15 with and without context: the client's window is really that small."""
    offer = f"permessage-deflate; server_max_window_bits={window}"
    _, client = echoing(DEDICATED, offer if context else offer + "; server_no_context_takeover")
    assert client.window == window
    assert client.server_context is context
    # Repeats at every distance around every window's size: a compressor that looks further back is found out.
    for distance in (
        100,
        249,
        250,
        251,
        255,
        256,
        257,
        *(2**bits + delta for bits in range(9, 16) for delta in (-263, -262, -1, 0, 1)),
    ):
        message = os.urandom(distance) * (2 if distance > 1000 else 5)
        client.send(message)
        assert client.read_message() == message


@pytest.mark.parametrize("window", range(8, 16))
def test_the_client_may_use_all_of_its_window(echoing, window):
    _, client = echoing(DEDICATED, f"permessage-deflate; client_max_window_bits={window}")
    assert client.agreed.get("client_max_window_bits", "15") == str(window)
    for message in [*compressible(), os.urandom(max(100, 2**window - 262)) * 3]:
        client.send_deflated(message)
        assert client.read_message() == message


def test_a_client_beyond_its_window_is_failed(echoing):
    live, client = echoing(DEDICATED, "permessage-deflate; client_max_window_bits=9")
    block = os.urandom(3000)
    client.send_raw(frame(BINARY, deflate(block), rsv=RSV1))
    assert client.read_message() == block
    live.expect("message")
    again = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=block)
    packed = again.compress(block) + again.flush(zlib.Z_SYNC_FLUSH)
    client.send_raw(frame(BINARY, packed[:-4], rsv=RSV1))
    assert client.read_close()[0] == 1007
    assert live.expect_close()[0] == 1007


@pytest.mark.parametrize(
    ("size", "window"),
    [("3KB", 9), ("4KB", 9), ("8KB", 10), ("16KB", 11), ("32KB", 12), ("64KB", 13), ("128KB", 14), ("256KB", 15)],
)
def test_z3_each_size_is_a_real_one(echoing, size, window):
    """A repeat at half the window is found, one at twice the window is not."""
    _, client = echoing({"compress": size, "decompress": "shared"})
    assert client.window == window
    near, far = os.urandom(2**window // 2 - 32), os.urandom(2**window * 2)  # zlib looks back 262 bytes less
    client.send(near * 2)
    message, packed = client.read_packed()
    assert message == near * 2
    assert packed < len(near) * 1.5
    client.send(far * 2)
    message, packed = client.read_packed()
    assert message == far * 2
    assert packed is None or packed > len(far) * 1.9


# --- sending ---


def test_context_takeover_shrinks_what_was_said_before(echoing):
    text = os.urandom(150).hex()
    sizes = {}
    for name, option in (("dedicated", DEDICATED), ("shared", True)):
        _, client = echoing(option)
        sizes[name] = []
        for _ in range(3):
            client.send(text)
            message, packed = client.read_packed()
            assert message == text
            sizes[name].append(packed)
    assert max(sizes["dedicated"][1:]) < 15 < sizes["dedicated"][0]
    assert sizes["shared"][0] == sizes["shared"][1] == sizes["shared"][2]


def test_server_no_context_takeover_is_honoured_by_a_dedicated_compressor(echoing):
    _, client = echoing(DEDICATED, "permessage-deflate; server_no_context_takeover")
    text = os.urandom(150).hex()
    for _ in range(2):
        client.send(text)
        message, packed = client.read_packed()  # by a fresh decompressor
        assert message == text
        assert packed > 100


@pytest.mark.parametrize("option", [True, DEDICATED], ids=["shared", "dedicated"])
def test_only_what_is_asked_for_is_compressed(serving, option):
    live = serving(per_message_deflate=option)
    client, ws = opener(live)()
    call = live.on_loop
    assert call(ws.send, JSON) == len(JSON)
    assert client.read_packed() == (JSON, None)
    assert call(lambda: ws.send(JSON, compress=True)) == len(JSON)  # payload bytes as given, not as sent
    assert client.read_packed()[1] < len(JSON) / 2
    assert call(lambda: ws.send_text(JSON, compress=True)) == len(JSON)
    assert client.read_packed()[1] is not None
    assert call(lambda: ws.send_binary(JSON.encode(), compress=True)) == len(JSON)
    assert client.read_packed()[0] == JSON.encode()
    assert call(lambda: ws.send("", compress=True)) == 0
    assert client.read_frame() == Frame(TEXT, b"")
    call(lambda: ws.ping(b"p" * 100))
    assert client.read_frame() == Frame(PING, b"p" * 100)
    call(lambda: ws.subscribe("t"))
    assert call(lambda: live.server.publish("t", JSON)) == len(JSON)  # compresses unless told not to
    assert client.read_packed()[1] is not None
    call(lambda: live.server.publish("t", JSON, compress=False))
    assert client.read_packed() == (JSON, None)


def test_a_message_that_would_grow_is_sent_plain(echoing):
    _, client = echoing(True)
    for size in (1, 2, 5, 100, 5000, 70_000):
        noise = os.urandom(size)
        client.send(noise)
        assert client.read_packed() == (noise, None)


def test_from_another_thread(serving):
    live = serving(per_message_deflate=DEDICATED)
    client, ws = opener(live)()
    for _ in range(3):
        ws.send(JSON, compress=True)
        live.server.publish("nobody", JSON)
        message, packed = client.read_packed()
        assert message == JSON
        assert packed


def test_compressing_keeps_the_order_of_the_wire(serving):
    """With context, what topics hold for a socket is compressed before the message that overtakes nothing."""
    live = serving(per_message_deflate=DEDICATED)
    client, ws = opener(live)()
    texts = [os.urandom(100).hex() for _ in range(8)]

    def talk():
        ws.subscribe("t")
        for i, text in enumerate(texts):
            live.server.publish("t", text, compress=i % 3 != 2)
            ws.send(text, compress=i % 2 == 0)
        live.server.publish("t", "".join(texts) * 20)
        ws.send("".join(texts), compress=True)

    live.on_loop(talk)
    got = [client.read_message() for _ in range(18)]
    assert got == [text for text in texts for _ in range(2)] + ["".join(texts) * 20, "".join(texts)]


def test_a_dropped_message_is_not_in_the_context(serving):
    """Over the backpressure limit: what is not sent must not be referred to by what is sent later."""
    live = serving(per_message_deflate=DEDICATED, backpressure_limit=100_000)
    client, ws = opener(live)(receive_buffer=4096)
    texts = [os.urandom(20_000).hex() for _ in range(4)]
    blocked = live.on_loop(lambda: [ws.send(os.urandom(1 << 20)) for _ in range(8)])
    assert -1 in blocked
    assert blocked[-1] == 0
    dropped = live.on_loop(lambda: [ws.send(text, compress=True) for text in texts])
    assert dropped == [0] * 4
    for size in blocked:
        if size:
            assert len(client.read_message()) == 1 << 20
    live.expect("drain")
    for text in texts:
        assert live.on_loop(lambda text=text: ws.send(text, compress=True)) != 0
        assert client.read_message() == text


# --- broadcasts ---


@pytest.mark.parametrize(("size", "forms"), [(1, 1), (400, 2)], ids=["small", "large"])
def test_t7_a_broadcast_is_compressed_once_for_each_setting(serving, size, forms):
    """A message that fits into the smaller window is the same for both."""
    text = JSON * size
    live = serving(per_message_deflate=DEDICATED)
    open_ = opener(live)
    alone = "permessage-deflate; server_no_context_takeover"
    offers = [alone] * 5 + [alone + "; server_max_window_bits=9"] * 5
    pairs = [open_(offer) for offer in offers]
    plain, plain_ws = live.open()
    before = live.server._control.core.compressions

    def publish(times):
        for _, ws in pairs:
            ws.subscribe("t")
        plain_ws.subscribe("t")
        for i in range(times):
            assert live.server.publish("t", f"{i}{text}") == len(text) + 1

    live.on_loop(publish, 3)
    for client in (*(client for client, _ in pairs), plain):
        assert [client.read_message() for _ in range(3)] == [f"{i}{text}" for i in range(3)]
    assert live.on_loop(lambda: live.server._control.core.compressions) - before == 3 * forms


@pytest.mark.parametrize("size", [1, 400], ids=["small", "large"])
def test_a_broadcast_to_mixed_settings(serving, size):
    """Shared and dedicated, small windows and none at all: everyone reads the same, in order."""
    live = serving(per_message_deflate=DEDICATED)
    open_ = opener(live)
    pairs = [
        open_(offer)
        for offer in (
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=10; server_no_context_takeover",
            "permessage-deflate",
            "permessage-deflate; unknown",
        )
    ]
    assert [client.extensions is None for client, _ in pairs] == [False] * 5 + [True]

    def publish():
        for _, ws in pairs:
            ws.subscribe("t")
        for i in range(40):  # more than upstream batches for one subscriber
            live.server.publish("t", f"{i % 3}{JSON * size}", compress=i % 5 != 0)
            if i % 10 == 0:
                pairs[i % 6][1].send("mine", compress=True)

    live.on_loop(publish)
    for index, (client, _) in enumerate(pairs):
        for i in range(40):
            assert client.read_message() == f"{i % 3}{JSON * size}"
            if i % 10 == 0 and i % 6 == index:
                assert client.read_message() == "mine"


def test_s13_a_handler_stays_corked_after_a_drain(serving):
    """Upstream's fan-out remembers that it once had to uncork, and then uncorks handlers that publish and send."""
    live = serving(per_message_deflate=False)
    client, ws = live.open()
    live.on_loop(lambda: ws.subscribe("t"))
    live.on_loop(lambda: live.server.publish("t", "first"))  # drained by the loop, outside any handler
    assert client.read_message() == "first"

    def corked():
        live.server.publish("t", "queued")
        ws.send("a")  # drains the topic first
        ws.send("b")
        client.expect_silence()

    live.on_loop(lambda: ws.cork(lambda _: corked()))
    assert client.read_messages(3) == ["queued", "a", "b"]


# --- memory ---

IDLE = """
    import gc, resource, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    import uwserve
    from deflate_client import DeflateClient
    from ws_client import Client
    sockets = []
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
        "per_message_deflate": {"compress": "dedicated", "decompress": "dedicated"},
        "message": lambda ws, m: ws.send(m), "open": sockets.append}).start()
    def rss():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    def connect(count, client):
        before = rss()
        made = [client(("127.0.0.1", server.port)) for _ in range(count)]
        for one in made:
            one.send("plain"); assert one.read_message() == "plain"
        return (rss() - before) / count, made
    warm = connect(300, Client)
    def dedicated(address):
        client = DeflateClient(address)
        client._inflater = client._deflater = None  # zlib's memory on our side
        return client
    plain, plain_clients = connect(600, Client)
    packed, packed_clients = connect(600, dedicated)
    print(round(packed - plain))
    server.stop(True)
"""


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is not ours")
def test_z7_a_connection_that_does_not_compress_costs_nothing(script):
    """Dedicated codecs of both directions, 300 KB in all: taken with the first compressed message, not before."""
    each = int(script(IDLE).finish())
    assert each < 4096, f"{each} bytes"
