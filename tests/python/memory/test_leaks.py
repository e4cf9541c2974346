"""Nothing grows: memory, objects and handles are flat over many rounds, each kind in a fresh process (L7, P7)."""

from __future__ import annotations

import itertools
import socket
import ssl

import pytest
from processes import SANITIZED
from ws_client import BINARY, frame, handshake

pytestmark = pytest.mark.plain("the servers run in processes of their own")

PRELUDE = """
import gc, os, resource, socket, sys, threading
import uwserve
from ws_client import Client, ConnectionEnded, frame, handshake, close_frame, eventually

def rss():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024

def measure(round_, rounds=5, warm=2, most=25):
    '''The growth in KiB and in objects per round, the least of the rounds: a leak grows in each. The allocator's peaks
    may grow for a while, when connections overlap more and more on a busy machine: then there are more rounds.'''
    for _ in range(warm):
        round_()
    memory, objects = [rss()], [len(gc.get_objects())]
    grown = []
    while len(grown) < rounds or (min(grown) > 64 and len(grown) < most):
        round_()
        memory.append(rss())
        objects.append(len(gc.get_objects()))
        grown.append(memory[-1] - memory[-2])
    more = [b - a for a, b in zip(objects, objects[1:])]
    print(min(grown), min(more), uwserve._core.live_handles())

"""

ROUNDS = {
    "messages": """
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
    "open": lambda ws: setattr(ws, "binary_type", "memoryview"), "message": lambda ws, m: ws.send(m)}).start()
def round_():
    with Client(("127.0.0.1", server.port)) as client:
        for size in (1, 100, 5000, 20000, 300000):
            for _ in range(100 if size < 10000 else 10):
                client.send(b"x" * size); client.read_message()
                client.send("y" * size); client.read_message()
""",
    "kept views": """
kept = []
def message(ws, m):
    kept.append((m[:], m[1:-1], memoryview(m)))
    ws.send("ok")
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
    "open": lambda ws: setattr(ws, "binary_type", "memoryview"), "message": message}).start()
def round_():
    with Client(("127.0.0.1", server.port)) as client:
        for size in (100, 20000, 300000):
            for _ in range(10):
                client.send(b"x" * size); client.read_message()
                client.send_raw(frame(2, b"x" * size, fin=False) + frame(0, b"y" * size)); client.read_message()
    kept.clear()
""",
    "exceptions": """
import logging
logging.getLogger("uwserve").addHandler(logging.NullHandler())
logging.getLogger("uwserve").propagate = False
def bad(*args):
    raise ValueError(args)
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
    "message": lambda ws, m: bad(ws, m), "ping": lambda ws, d: bad(ws), "close": lambda ws, c, r: bad(ws, c)}).start()
def round_():
    for _ in range(20):
        with Client(("127.0.0.1", server.port)) as client:
            for _ in range(20):
                client.send("x"); client.send(b"x"); client.round_trip()
            client.send_close(); client.read_close()
""",
    "connections": """
def opened(ws):
    ws.data = [ws]
    ws.subscribe("t"); ws.subscribe(f"own {id(ws)}")
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r, headers={"X-A": "b"}) and None,
    websocket={"open": opened, "protocols": ["a"], "message": lambda ws, m: ws.close(4000, m)}).start()
def round_():
    for i in range(300):
        with Client(("127.0.0.1", server.port), extra=(("Sec-WebSocket-Protocol", "a"),)) as client:
            if i % 4 == 0:
                client.send("bye"); client.read_close()
            elif i % 4 == 1:
                client.reset()
            elif i % 4 == 2:
                client.send_raw(frame(1, b"\\xff")); client.read_close()
    eventually(lambda: server.pending_websockets == 0)
    gc.collect()
""",
    "requests": """
import concurrent.futures
def fetch(request, server):
    if request.path == "/later":
        future = concurrent.futures.Future()
        server.call_soon(future.set_result, "late")
        return future
    if request.path == "/stream":
        return uwserve.Response(iter([b"x" * 1000] * 10))
    request.cycle = request.headers if False else None
    return uwserve.Response(request.method, headers={"X-A": "b"})
fetch.__dict__["x"] = fetch
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: fetch_(r, s), websocket={}).start()
def fetch_(request, server):
    if request.path == "/later":
        future = concurrent.futures.Future()
        server.call_soon(future.set_result, "late")
        return future
    if request.path == "/large":
        return b"x" * 1000000
    if request.path == "/up":
        return str(server.upgrade(request))
    return request.body + request.headers.get("x-b", "").encode()
def round_():
    with Client(("127.0.0.1", server.port), upgrade=False) as client:
        for _ in range(100):
            client.send_raw(b"POST / HTTP/1.1\\r\\nHost: x\\r\\nX-B: y\\r\\nContent-Length: 3\\r\\n\\r\\nabc")
            assert client.read_answer().body == b"abcy"
            for path in (b"/later", b"/up"):
                client.send_raw(b"GET " + path + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                client.read_answer()
        client.send_raw(b"GET /large HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); client.read_answer()
    for _ in range(20):
        with Client(("127.0.0.1", server.port), upgrade=False) as client:
            client.send_raw(b"GET /later HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            client.reset()
    eventually(lambda: server.pending_requests == 0)
""",
    "topics": """
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
    "message": lambda ws, m: [ws.subscribe(f"{m} {i}") for i in range(200)] and
        [ws.publish(f"{m} {i}", "x") or server.publish(f"{m} {i}", "y") for i in range(200)] and
        [ws.unsubscribe(f"{m} {i}") for i in range(100)]}).start()
n = 0
def round_():
    global n
    for _ in range(5):
        n += 1
        with Client(("127.0.0.1", server.port)) as client:
            client.send(f"topic {n}")
            assert client.read_messages(200) == ["y"] * 200
            client.send_close(); client.read_to_end()
""",
    "reloads": """
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={}).start()
def round_():
    with Client(("127.0.0.1", server.port)) as client:
        for i in range(200):
            server.reload(websocket={"message": lambda ws, m, i=i: ws.send(str(i)), "protocols": ["a", "b"]})
        client.send("x"); assert client.read_message() == "199"
""",
    "threads": """
sockets = []
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"open": sockets.append}).start()
def round_():
    with Client(("127.0.0.1", server.port)) as client:
        client.round_trip()
        ws = sockets.pop()
        for i in range(500):
            ws.send("x" * 100); ws.subscribe(f"{i % 10}"); server.publish("1", b"y"); server.call_soon(len, "z")
        ws.close()
        client.read_to_end()
    for _ in range(500):
        ws.send("closed")
""",
    "backpressure": """
def message(ws, m):
    while ws.send(b"x" * 65536): pass
    if m == "close": ws.close()
    if m == "terminate": ws.terminate()
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"message": message, "backpressure_limit": 1 << 20}).start()
def round_():
    for what in ("close", "terminate", "leave"):
        with Client(("127.0.0.1", server.port), receive_buffer=8192) as client:
            client.send(what)
            client.fill()
    eventually(lambda: server.pending_websockets == 0)
""",
}

ROUNDS["compressed"] = """
import zlib, vectors
OFFERS = ("permessage-deflate", "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", "permessage-deflate; what=1")
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={
    "open": lambda ws: ws.subscribe("t"), "message": lambda ws, m: (ws.send(m, compress=True), server.publish("t", m)),
    "per_message_deflate": {"compress": "dedicated", "decompress": "dedicated"}, "max_payload_length": 1 << 20}).start()
bomb = vectors.deflated(b"x" * 2_000_000)
def one(offer, last):
    with Client(("127.0.0.1", server.port), extra=(("Sec-WebSocket-Extensions", offer),)) as client:
        agreed = client.answer.get("sec-websocket-extensions")
        for size in (10, 1000, 100_000):
            data = b"abc " * size
            client.send_raw(frame(2, vectors.deflated(data), rsv=4) if agreed else frame(2, data))
            client.read_frame(), client.read_frame()
        client.send_raw(last)
        client.read_to_end()
def round_():
    for offer in OFFERS * 4:
        rsv = 0 if "what" in offer else 4
        for last in (close_frame(1000), frame(2, bomb, rsv=rsv), frame(2, b"\\xff" * 9, rsv=4), frame(1, "x", rsv=6)):
            one(offer, last if rsv else close_frame(1000))
    eventually(lambda: server.pending_websockets == 0)
"""

ROUNDS["violations"] = """
import vectors
bad = [vector for vector in vectors.VECTORS if vector.server == "plain" and len(vector.sent) < 1000]
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"message": lambda ws, m: ws.send(m), "close": lambda ws, code, reason: reason + "x"}).start()
def round_():
    for vector in bad[::3]:
        with Client(("127.0.0.1", server.port), behind=vector.sent) as client:
            if vector.fin:
                client.finish()
            client.read_to_end()
    eventually(lambda: server.pending_websockets == 0)
"""

ROUNDS["half messages"] = """
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, websocket={}).start()
def round_():
    clients = []
    for i in range(100):
        client = Client(("127.0.0.1", server.port))
        client.send_raw(frame(2, b"x" * 70_000, fin=False) + frame(9, b"!") + frame(0, b"y", length=50_000))
        assert client.read_frame().opcode == 10
        clients.append(client)
    for i, client in enumerate(clients):
        client.reset() if i % 2 else client.close()
    eventually(lambda: server.pending_websockets == 0)
"""

ROUNDS["refused heads"] = """
REFUSED = [b"GET / HTTP/1.1\\r\\n\\r\\n", b"GET / HTTP/9.9\\r\\nHost: x\\r\\n\\r\\n", b"\\x16\\x03\\x01\\x02\\x00\\x01",
    b"GET / HTTP/1.1\\r\\nHost: x\\r\\nA: " + b"a" * 20000 + b"\\r\\n\\r\\n", b"BAD\\r\\n\\r\\n",
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
    b"POST / HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    b"POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 999999999999\\r\\n\\r\\n",
    handshake(replace={"sec-websocket-version": "8"}, extra=(("Connection", "close"),)),
    handshake(replace={"sec-websocket-key": "short"}), handshake(drop=("upgrade",))]
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: None if s.upgrade(r) else "no",
    websocket={}).start()
descriptors = len(os.listdir("/proc/self/fd"))
def round_():
    for head in REFUSED * 8:
        with Client(("127.0.0.1", server.port), upgrade=False) as client:
            client.send_raw(head)
            client.fill()
    for size in range(1, 150, 3):
        with Client(("127.0.0.1", server.port), upgrade=False) as client:
            client.send_raw(handshake()[:size])
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
"""

ROUNDS["tls connections"] = """
import ssl
from tls_transport import client_context, server_options
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, tls=server_options(),
    websocket={"message": lambda ws, m: ws.send(m)}).start()
context, stranger = client_context(), ssl.create_default_context()
address = ("127.0.0.1", server.port)
descriptors = len(os.listdir("/proc/self/fd"))
def round_():
    for i in range(40):
        plain = socket.create_connection(address)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(handshake() + frame(2, b"x" * 30_000))
            got = b""
            while len(got) < 30_000:
                got += sock.recv(65536)
    for i in range(20):
        with socket.create_connection(address) as sock:
            hellos = (b"GET / HTTP/1.1\\r\\n\\r\\n", b"\\x16\\x03\\x01\\x02\\x00\\x01", b"\\x16\\x03\\x01\\x00\\x02xx")
            sock.sendall(hellos[i % 3])
        try:
            stranger.wrap_socket(socket.create_connection(address), server_hostname="localhost").close()
        except ssl.SSLError:
            pass
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
"""

ROUNDS["tls reloads"] = """
from tls_transport import client_context, server_options
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, tls=server_options(),
    websocket={"message": lambda ws, m: ws.send(m)}).start()
context = client_context()
def round_():
    kept = []
    for i in range(30):
        server.reload(tls=server_options())
        try:
            server.reload(tls=server_options() | {"key": "no key"})
        except (ValueError, OSError):
            pass
        sock = context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="localhost")
        sock.sendall(handshake())
        assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        kept.append(sock)
    for sock in kept:
        sock.close()
    eventually(lambda: server.pending_websockets == 0)
"""


MEASURE = """
measure(round_)
server.stop(True).wait(10)
server._control.join(10)
print(uwserve._core.live_handles())
"""


@pytest.mark.parametrize("name", list(ROUNDS))
def test_flat(script, name):
    """Five rounds after two for warming up: memory and the number of objects do not grow in every one of them."""
    output = script(PRELUDE + ROUNDS[name] + MEASURE).finish()
    grown, objects, _during, left = map(int, output.split())
    assert SANITIZED or grown <= 64, f"{grown} KiB in every round"
    assert objects <= 5, f"{objects} objects in every round"
    assert left == 0


def test_servers(script):
    """A hundred servers made, run, connected to, stopped and dropped: threads, descriptors and memory are flat."""
    output = script(
        PRELUDE
        + """
def one():
    kept = []
    made = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r, data=made) and None,
        websocket={"open": lambda ws: (kept.append(ws), ws.subscribe("t")), "message": lambda ws, m: ws.send(m)})
    made.start()
    with Client(("127.0.0.1", made.port)) as client:
        client.send("x"); assert client.read_message() == "x"
        client.send_close(); client.read_to_end()
    made.stop(True).wait(10)
    made._control.join(10)
def round_():
    for _ in range(20):
        one()
    gc.collect()
descriptors = len(os.listdir("/proc/self/fd"))
measure(round_, rounds=4, warm=1)
print(len(os.listdir("/proc/self/fd")) - descriptors, threading.active_count())
"""
    ).finish()
    grown, objects, _, descriptors, threads = map(int, output.split())
    assert (descriptors, threads) == (0, 1)
    assert SANITIZED or grown <= 128, f"{grown} KiB in every round"
    assert objects <= 5, f"{objects} objects in every round"


def test_resumed_tls_sessions(script):
    """The server keeps nothing for sessions to resume; measured in its own process, as Python's client leaks."""
    server = script(
        PRELUDE
        + """
from tls_transport import server_options
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None, tls=server_options(),
    websocket={"message": lambda ws, m: ws.send(m)}).start()
print(server.port)
for line in sys.stdin:
    print(rss())
"""
    )
    address = ("127.0.0.1", int(server.line()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    resumed, memory = 0, []
    for _ in range(8):
        session = None
        for _ in range(40):
            with context.wrap_socket(socket.create_connection(address), session=session) as sock:
                sock.sendall(handshake() + frame(BINARY, b"x" * 1000))
                got = b""
                while len(got) < 1000:
                    got += sock.recv(4096)
                session, resumed = sock.session, resumed + sock.session_reused
        server.process.stdin.write("\n")
        server.process.stdin.flush()
        memory.append(int(server.line()))
    assert resumed > 100
    grown = min(b - a for a, b in itertools.pairwise(memory[2:]))
    assert SANITIZED or grown <= 64, memory


def test_announced_length_reserves_nothing(script):
    """P7: the header of a large frame reserves no memory for what has not arrived."""
    output = script(
        PRELUDE
        + """
server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"message": lambda ws, m: ws.send("ok"), "max_payload_length": 64 << 20}).start()
clients = [Client(("127.0.0.1", server.port)) for _ in range(20)]
for client in clients:
    client.send("x"); client.read_message()
before = rss()
for client in clients:  # 20 x 16 MiB announced, a few bytes sent
    client.send_raw(frame(2, b"", length=16 << 20) + b"123456")
    client.sock.settimeout(10)
on = threading.Event(); server.call_soon(on.set); on.wait(10)
print(rss() - before)
for client in clients:
    client.close()
server.stop(True).wait(10)
"""
    ).finish()
    assert int(output) < 32 * 1024, f"{output} KiB for 20 frame headers"
