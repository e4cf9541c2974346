"""The program of test_allocation_failures.py: ``memory_failures.py WHERE WHAT``, with failing_memory.cpp preloaded.

Each call of WHAT is made again and again, and the first, second, ... request for memory in it fails, until none is left
to fail. It may raise MemoryError and it may cost its own connection; another connection has lost nothing, and the next
works. WHERE: ``handler`` (on the loop's thread, the socket corked), ``thread`` (another one), ``python`` (Python's own
allocations fail, in a handler), ``callbacks`` (requests of the loop itself fail, while a client does WHAT), or ``stop``
(of a server with three sockets).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import socket
import sys
import threading
from typing import Any

from http_client import request as http_request
from ws_client import Client, ConnectionEnded

import uwserve
from uwserve import _core

where, only = sys.argv[1], sys.argv[2]
MOST = 400
memory: Any = ctypes.CDLL(os.environ["LD_PRELOAD"].split()[-1])
assert memory.failing_memory_of(os.path.basename(_core.__file__ or "").encode())
logging.getLogger("uwserve").addHandler(logging.NullHandler())
logging.getLogger("uwserve").propagate = False

if where == "python":
    import _testcapi


class Armed:
    """Within, the request of that number fails; ``fired`` afterwards."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fired = True

    def __enter__(self) -> Armed:
        if where == "python":
            _testcapi.set_nomemory(self.number, self.number + 1)
        else:
            memory.failing_memory_at(self.number)
        return self

    def __exit__(self, *exc: object) -> None:
        if where == "python":
            _testcapi.remove_mem_hooks()
        else:
            self.fired = bool(memory.failing_memory_end())


BIG = b"x" * 200_000
OFFER = (("Sec-WebSocket-Extensions", "permessage-deflate"),)
SOCKET = {
    "send": lambda ws: ws.send("text"),
    "send large": lambda ws: ws.send(BIG),
    "send much": lambda ws: [ws.send(b"x" * 15_000) for _ in range(40)],
    "send compressed": lambda ws: ws.send("text " * 100, True),
    "send_text": lambda ws: ws.send_text("é" * 100),
    "send_binary": lambda ws: ws.send_binary(bytearray(b"x" * 3000)),
    "ping": lambda ws: (ws.ping(b"x"), ws.pong(b"x")),
    "subscribe": lambda ws: [ws.subscribe(name) for name in ("new", "new too", "shared")],
    "unsubscribe": lambda ws: ws.unsubscribe("own"),
    "is_subscribed": lambda ws: (ws.is_subscribed("own"), ws.subscriptions),
    "publish": lambda ws: (ws.publish("shared", "x"), ws.publish("shared", BIG), ws.publish("own", b"")),
    "cork": lambda ws: ws.cork(lambda ws: ws.send("x" * 20_000)),
    "cork much": lambda ws: ws.cork(lambda ws: [ws.send(b"x" * 15_000) for _ in range(300)]),
    "close": lambda ws: ws.close(4000, "reason"),
    "terminate": lambda ws: ws.terminate(),
    "pause": lambda ws: (ws.pause(), ws.resume()),
    "messages": lambda ws: ws.messages().aclose(),
    "drained": lambda ws: (_core.add_waiter(ws, str, None), _core.add_waiter(ws, str, 0), _core.remove_waiter(ws, str)),
    "attributes": lambda ws: [getattr(ws, name) for name in dir(type(ws)) if name[0] != "_"],
    "repr": repr,
    "binary_type": lambda ws: setattr(ws, "binary_type", "memoryview"),
}
SERVER = {
    "server.publish": lambda ws: (ws.server.publish("shared", "x"), ws.server.publish("shared", BIG)),
    "server.subscriber_count": lambda ws: ws.server.subscriber_count("shared"),
    "server.stats": lambda ws: (ws.server.stats(), ws.server.refused),
    "server.call_soon": lambda ws: ws.server.call_soon(int, 1),
    "server.reload": lambda ws: ws.server.reload(websocket=OPTIONS),
    "server.attributes": lambda ws: [
        getattr(ws.server, name) for name in ("port", "url", "pending_websockets", "tasks")
    ],
}
REQUEST = {
    "respond": lambda request, server: uwserve.Response("text", headers={"a": "b"}),
    "respond large": lambda request, server: uwserve.Response(BIG),
    "stream": lambda request, server: uwserve.Response(iter([b"a", BIG, b"c"])),
    "upgrade": lambda request, server: server.upgrade(request, headers={"a": "b"}, data=1),
    "request": lambda request, server: repr([getattr(request, name) for name in dir(request) if name[0] != "_"]),
    "request_ip": lambda request, server: str((server.request_ip(request), server.timeout(request, 5))),
}

current: dict[str, Any] = {}
outcomes: list[str] = []


def attempt(call: Any, *arguments: Any) -> Any:
    """The call with one request that fails, and what it came to."""
    armed = Armed(current["number"])
    try:
        with armed:
            result = call(*arguments)
    except MemoryError:
        result = None
        outcomes.append("MemoryError")
    except Exception as exc:
        outcomes.append(type(exc).__name__)
        result = None
    current["fired"] = armed.fired
    current["done"].set()
    return result


def on_open(ws: Any) -> None:
    ws.subscribe("own")
    if ws.data == "witness":
        ws.subscribe("shared")


def on_message(ws: Any, message: Any) -> None:
    if message == "go":
        ws.send("corked")
        attempt(current["call"], ws)
    elif message == "hand over":
        current["ws"] = ws
        current["ready"].set()
    elif ws.data == "victim":
        ws.send(bytes(message) if isinstance(message, memoryview) else message, True)
        kept.append(message)
    else:
        ws.send(message)


kept: list[Any] = []


def fetch(request: Any, server: Any) -> Any:
    if request.path.startswith("/ws"):
        server.upgrade(request, data=request.path[4:])
        return None
    if request.path == "/attempt":
        return attempt(current["call"], request, server)
    if request.path == "/large":
        return uwserve.Response(BIG)
    return uwserve.Response(iter([b"a", BIG, b"c"])) if request.path == "/stream" else "fine"


OPTIONS = {
    "open": on_open,
    "message": on_message,
    "close": lambda ws, code, reason: None,
    "per_message_deflate": {"compress": "dedicated", "decompress": "dedicated"},
    "idle_timeout": 0,
}
server = uwserve.serve(
    port=0,
    hostname="127.0.0.1",
    fetch=fetch,
    websocket=OPTIONS,
    error=lambda exc: uwserve.Response("failed", status=500),
).start()
address = ("127.0.0.1", server.port)
witness = Client(address, "/ws/witness")


def is_well(number: int) -> None:
    """The witness has lost nothing (what others publish may come in between), and the next client is served."""
    witness.send(f"witness {number}")
    while (message := witness.read_message()) != f"witness {number}":
        assert not message.strip("x" if isinstance(message, str) else b"x"), message[:99]
    with Client(address, "/ws/next") as client:
        client.send("echo")
        assert client.read_message() == "echo"


def run(name: str, call: Any) -> int:
    """How many requests of it have failed."""
    for number in range(MOST):
        current.update(number=number, call=call, done=threading.Event(), ready=threading.Event(), fired=True)
        if name in REQUEST:
            with socket.create_connection(address, 20) as plain:
                upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                plain.sendall(http_request("/attempt").replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n"))
                assert current["done"].wait(20), name
                plain.settimeout(20)
                plain.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):  # a timeout would be a request that nobody answers
                    while plain.recv(1 << 16):
                        pass
        else:
            small = 4096 if name == "cork much" else None
            with Client(address, "/ws/subject", receive_buffer=small, extra=OFFER) as client:
                if where == "thread":
                    client.send("hand over")
                    assert current["ready"].wait(20)
                    attempt(call, current["ws"])
                else:
                    client.send("go")
                    assert current["done"].wait(20), name
        is_well(number)
        if not current["fired"] or (where == "python" and number > 60):
            print(f"{where}: {name}: {number}", file=sys.stderr, flush=True)
            return number
    raise AssertionError(f"{name}: no end after {MOST} requests")


def victim(what: str) -> None:
    """What a client can make the loop do. Its connection may end at any point."""
    if what.startswith("/"):
        with socket.create_connection(address, 20) as plain:
            plain.sendall(http_request(what, "POST", b"body") * 2)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1 << 16):
                pass
        return
    client = Client(address, "/ws/victim", extra=OFFER)
    with client:
        client.sock.settimeout(20)
        if what == "messages":
            for text in ("text", b"binary", "", "x" * 100):
                client.send(text)
                client.read_frame()
            client.ping(b"x")
            client.read_frame()
        elif what in ("large", "memoryview"):
            if what == "memoryview":
                server.call_soon(lambda: None)
            client.send(BIG)
            client.read_frame()
        elif what == "compressed":
            client.send("x" * 5000)
            client.read_frame()
        elif what == "post":
            server.publish("own", "x" * 20_000)
            server.publish("own", "x")
        elif what == "close":
            client.send_close(1000, "bye")
            client.read_to_end()
        elif what == "break off":
            client.reset()


def run_callbacks(what: str) -> int:
    for number in range(MOST):
        armed = Armed(number)
        with armed, contextlib.suppress(ConnectionEnded, OSError, MemoryError, AssertionError):
            victim(what)
        kept.clear()
        is_well(number)
        if not armed.fired:
            return number
    raise AssertionError(f"{what}: no end after {MOST} requests")


def run_stop(what: str) -> int:
    """A stop of three sockets, again and again: one close handler may be lost, and not those of the others."""
    for number in range(MOST):
        closed: list[Any] = []
        stopping = uwserve.serve(
            port=0,
            hostname="127.0.0.1",
            fetch=fetch,
            websocket={**OPTIONS, "close": lambda ws, code, reason, closed=closed: closed.append(ws)},
        ).start()
        clients = [Client(("127.0.0.1", stopping.port), "/ws/stop") for _ in range(3)]
        armed = Armed(number)
        with armed, contextlib.suppress(MemoryError):
            stopping.stop(**({"timeout": 1} if what == "with a deadline" else {"close_active_connections": True}))
            stopping._control.join(20)
        if not stopping.stop(True).wait(20):
            raise AssertionError(f"stop: request {number} failed, and the server has not ended")
        for client in clients:
            client.close()
        assert len(closed) >= 2, f"stop: request {number} failed, and {len(closed)} of 3 close handlers ran"
        if not armed.fired:
            return number
    raise AssertionError(f"stop: no end after {MOST} requests")


total = 0
if where == "stop":
    total = run_stop(only)
elif where == "callbacks":
    total = run_callbacks(only)
else:
    table = {**SOCKET, **SERVER} if where == "thread" else {**SOCKET, **SERVER, **REQUEST}
    for name, call in table.items():
        if only in ("all", name):
            total += run(name, call)
            gc.collect()
witness.close()
assert server.stop(True).wait(20)
server._control.join(20)
print("well", total > 0, sorted(set(outcomes) - {"MemoryError"}))
