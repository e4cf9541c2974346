"""Two sockets and ten thousand; twenty thousand connects and disconnects."""

from __future__ import annotations

import resource

import pytest
from processes import SANITIZED

pytestmark = pytest.mark.plain("the servers run in processes of their own")

# What scripts have in common: a server that counts, and how much memory and how many descriptors the process has.
PRELUDE = """
import gc, os, resource, select, socket, sys, threading
import uwserve
from ws_client import Client, frame, handshake, eventually

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

def rss():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def descriptors():
    return len(os.listdir("/proc/self/fd"))

opened, closed, received = [0], [0], [0]

def on_open(ws):
    opened[0] += 1
    ws.subscribe("all")

def on_close(ws, code, reason):
    closed[0] += 1

def on_message(ws, message):
    received[0] += 1
    ws.send(message)

def make(**options):
    return uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                         websocket={"open": on_open, "close": on_close, "message": on_message, **options}).start()

HANDSHAKE = handshake()

def connect(address):
    sock = socket.create_connection(address)
    sock.sendall(HANDSHAKE)
    return sock

def finish_handshake(sock):
    data = b""
    while not data.endswith(b"\\r\\n\\r\\n"):
        data += sock.recv(4096)
    assert data.startswith(b"HTTP/1.1 101"), data

def read(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "ended"
        data += piece
    return data
"""


def need_descriptors(count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} descriptors, the hard limit is {hard}")


@pytest.mark.parametrize("count", [2, 9000])
def test_many_sockets(script, count):
    """Connections at the same time: each echoes, each gets a publish, each is closed; nothing is left.

    The second number with its clients in the same process comes near a common limit of 20,000 descriptors.
    """
    need_descriptors(2 * count + 200)
    output = script(
        PRELUDE
        + """
count = int(sys.argv[1])
base = descriptors()
server = make()
address = ("127.0.0.1", server.port)
socks = []
while len(socks) < count:
    batch = [connect(address) for _ in range(min(200, count - len(socks)))]
    for sock in batch:
        finish_handshake(sock)
    socks += batch
assert opened[0] == count == server.pending_websockets == uwserve._core.live_handles()
for i, sock in enumerate(socks):
    sock.sendall(frame(1, b"%05d" % i))
for i, sock in enumerate(socks):
    assert read(sock, 7) == b"\\x81\\x05%05d" % i
assert received[0] == count
server.publish("all", "to all")
for sock in socks:
    assert read(sock, 8) == b"\\x81\\x06to all"
for sock in socks[::2]:
    sock.close()
eventually(lambda: closed[0] == len(socks[::2]))
print("half", server.pending_websockets == count - closed[0])
stopped = server.stop(True)
for sock in socks[1::2]:
    assert read(sock, 4)[:1] == b"\\x88"
    sock.close()
assert stopped.wait(30)
server._control.join(10)
assert closed[0] == count
del server, stopped
gc.collect()
print("left", descriptors() - base)
""",
        str(count),
    ).finish(100)
    assert output == "half True\nleft 0\n"


def test_ten_thousand_sockets(script):
    """Ten thousand, with the clients in a process of their own: idle memory per connection stays small."""
    need_descriptors(10_200)
    process = script(
        PRELUDE
        + """
server = make()
before = rss()
print(server.port)
sys.stdin.readline()
assert opened[0] == server.pending_websockets == 10000
print((rss() - before) // 10000)
server.publish("all", "to all")
sys.stdin.readline()
assert received[0] == 10000
stopped = server.stop(True)
assert stopped.wait(60)
server._control.join(10)
print(closed[0], uwserve._core.live_handles())
"""
    )
    port = process.line()
    clients = script(
        PRELUDE
        + """
address = ("127.0.0.1", int(sys.argv[1]))
socks = []
while len(socks) < 10000:
    batch = [connect(address) for _ in range(200)]
    for sock in batch:
        finish_handshake(sock)
    socks += batch
print("open")
for sock in socks:
    assert read(sock, 8) == b"\\x81\\x06to all"
    sock.sendall(frame(2, b"here"))
for sock in socks:
    assert read(sock, 6) == b"\\x82\\x04here"
print("echoed")
for sock in socks:
    assert read(sock, 17) == b"\\x88\\x0f\\x03\\xe9Server closed"
    sock.close()
""",
        port,
    )
    assert clients.line() == "open"
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    per_connection = int(process.line())
    assert clients.line() == "echoed"
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    assert process.line() == "10000 0"
    clients.finish()
    process.finish()
    # At most 1 KiB beyond the kernel's is the goal, which the benchmark measures; here a topic is subscribed, too.
    assert SANITIZED or per_connection < 2048, per_connection


def test_twenty_thousand_connects(script):
    """20,000 connects and disconnects, in all ways of ending: descriptors and memory are back where they were."""
    output = script(
        PRELUDE
        + """
server = make()
address = ("127.0.0.1", server.port)

def round_(n):
    target = closed[0] + n
    for i in range(0, n, 50):
        socks = [connect(address) for _ in range(50)]
        for j, sock in enumerate(socks):
            finish_handshake(sock)
            if j % 4 == 0:
                sock.sendall(frame(8, b"\\x03\\xe8"))
                assert read(sock, 4) == b"\\x88\\x02\\x03\\xe8"
            elif j % 4 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
            elif j % 4 == 2:
                sock.sendall(frame(1, b"half a frame")[:-3])
        for sock in socks:
            sock.close()
    eventually(lambda: closed[0] == target, deadline=30)
    eventually(lambda: descriptors() == base, deadline=30)

base = descriptors()
round_(2000)  # warm-up: allocator pools
before = rss()
round_(9000)
middle = rss()
round_(9000)
after = rss()
assert opened[0] == closed[0] == 20000
assert uwserve._core.live_handles() == 0 == server.pending_websockets == server.pending_requests
print(before // 1024, middle // 1024, after // 1024, file=sys.stderr)
print((middle - before) // 1024, (after - middle) // 1024, descriptors() - base)
server.stop(True).wait(10)
"""
    ).finish(100)
    first, second, left = map(int, output.split())
    assert left == 0
    # 4 MiB over 9,000 connections would be 466 bytes each: less than one leaked handle.
    assert SANITIZED or first < 4096, output
    assert SANITIZED or second < 2048, output


def test_out_of_descriptors(script):
    """EMFILE (U3): the server serves those it has, takes new ones when it can again, and does not spin."""
    output = script(
        PRELUDE
        + """
import time
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 60, hard))
server = make()
address = ("127.0.0.1", server.port)
client = Client(address)
socks = []
try:
    while True:
        socks.append(socket.create_connection(address))
except OSError:
    pass
client.send("still")
assert client.read_message() == "still"
cpu = time.process_time()
began = time.monotonic()
while time.monotonic() - began < 0.5:
    time.sleep(0.05)
print("spins" if time.process_time() - cpu > 0.3 else "calm")
for sock in socks:
    sock.close()
with Client(address) as other:
    other.send("again")
    assert other.read_message() == "again"
client.close()
print("served")
server.stop(True).wait(10)
"""
    ).finish(30)
    assert output == "calm\nserved\n"


@pytest.mark.alone
def test_flooding_client_does_not_starve_others(script):
    """One client sends flat out; the other's echoes stay quick: the goal is a p95 of 50 ms, twice that is asserted."""
    output = script(
        PRELUDE
        + """
import time
server = make()
address = ("127.0.0.1", server.port)
pid = os.fork()
if pid == 0:
    try:
        with Client(address) as flooder:
            flooder.sock.setblocking(True)
            data = frame(1, b"x" * 20) * 2000
            def read_on():
                while flooder.sock.recv(1 << 20): pass
            threading.Thread(target=read_on, daemon=True).start()
            while True:
                flooder.sock.sendall(data)
    except BaseException:
        pass
    os._exit(0)
eventually(lambda: received[0] > 10000)
client = Client(address)
times = []
for i in range(200):
    began = time.perf_counter()
    client.send("x")
    client.read_message()
    times.append(time.perf_counter() - began)
os.kill(pid, 9)
os.waitpid(pid, 0)
client.close()
server.stop(True).wait(10)
print(int(sorted(times)[190] * 1000))
"""
    ).finish(60)
    assert int(output) < 100, output
