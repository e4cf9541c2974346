"""A message there is no memory for is a MemoryError, not the end of the process."""

from __future__ import annotations

import pytest
from processes import SANITIZED

pytestmark = pytest.mark.plain("the servers run in processes of their own")

SCRIPT = """
import resource, sys, threading
import uwserve
from ws_client import Client

opened = []
ready = threading.Event()

def on_open(ws):
    ws.subscribe("all")
    opened.append(ws)
    ready.set()

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"open": on_open, "backpressure_limit": 0}).start()
client = Client(("127.0.0.1", server.port))
assert ready.wait(10)
data = b"x" * (200 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20),) * 2)

def outcome(call, *arguments):
    try:
        return call(*arguments)
    except MemoryError:
        return "MemoryError"

results = [outcome(opened[0].send, data)]
done = threading.Event()

def on_loop():
    results.append(outcome(opened[0].send, data))
    results.append(server.publish("all", data))
    results.append(opened[0].send("small"))
    done.set()

server.call_soon(on_loop)
assert done.wait(10)
print(results, client.read_message())
server.stop(True).wait(10)
"""

BACKLOG = """
import resource, threading
import uwserve
from ws_client import Client

opened = []
ready = threading.Event()

def on_open(ws):
    opened.append(ws)
    ready.set()

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"open": on_open, "backpressure_limit": 0}).start()
client = Client(("127.0.0.1", server.port), receive_buffer=65536)
assert ready.wait(10)
size = 120 << 20
sent = threading.Event()
server.call_soon(lambda: (opened[0].send(bytes(size)), sent.set()))
assert sent.wait(10)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (30 << 20),) * 2)
left = size + 10  # with the frame's header
buffer = bytearray(1 << 20)
while left:
    left -= client.sock.recv_into(buffer)
server.call_soon(opened[0].send, "still there")
print(client.read_message())
server.stop(True).wait(10)
"""


HTTP = """
import logging, resource, socket
import uwserve
from http_client import GET, Client, request

piece = b"x" * (200 << 20)
logging.disable(logging.CRITICAL)
log = []
uwserve_log = logging.getLogger("uwserve")
uwserve_log.handle = lambda record: log.append(record.exc_info and record.exc_info[0].__name__)
logging.disable(logging.NOTSET)

def fetch(request, server):
    if request.method == "POST":
        return str(len(request.body))
    return uwserve.Response(iter([b"first", piece, b"never"])) if request.path == "/stream" else "fine"

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, max_request_body_size=300 << 20,
    limits={"max_buffered_bytes": 0}).start()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (120 << 20),) * 2)

with Client(server) as client:
    client.send(request("/stream"))
    data = b""
    while chunk := client.socket.recv(65536):
        data += chunk
    print(data.endswith(b"first\\r\\n"), log[-1:])
with Client(server) as client:
    client.send(b"POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(piece))
    try:
        client.socket.sendall(piece)
    except OSError:
        pass
    print(client.reply().status, server.refused["http_503"])
with Client(server) as client:
    print(client.ask(GET).body)
server.stop(True).wait(10)
"""


@pytest.mark.skipif(SANITIZED, reason="sanitizers reserve more address space than a limit could allow")
def test_no_memory_for_a_piece_of_a_stream_or_a_body(script):
    """The stream breaks off, which its client can tell, and is logged; the body is a 503; others are served."""
    lines = script(HTTP).finish().splitlines()
    assert lines == ["True ['MemoryError']", "503 1", "b'fine'"]


@pytest.mark.skipif(SANITIZED, reason="sanitizers reserve more address space than a limit could allow")
def test_no_memory_for_a_message(script):
    """From the loop's thread and from another; a publish drops it; the connection goes on."""
    assert script(SCRIPT).finish().strip() == "['MemoryError', 'MemoryError', 0, 5] small"


@pytest.mark.skipif(SANITIZED, reason="sanitizers reserve more address space than a limit could allow")
def test_a_backlog_drains_without_memory(script):
    """What waits for a slow client leaves in pieces; sending a piece must not need memory for the rest (S9)."""
    assert script(BACKLOG).finish().strip() == "still there"
