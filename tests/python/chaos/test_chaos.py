"""Random frames, random calls in random callbacks, from a seed: nobody crashes, nothing is called twice or out of turn.

A failure prints its seed. ``UWSERVE_CHAOS=seed[,seed...]`` runs others; the default ones keep the suite fast.
"""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.wss

SEEDS = [int(seed) for seed in os.environ.get("UWSERVE_CHAOS", "1,2,3,4").split(",")]

PROGRAM = r"""
import concurrent.futures, gc, logging, os, random, socket, sys, threading
import uwserve
from ws_client import Client, ConnectionEnded, close_frame, frame, handshake, eventually

rng = random.Random(int(sys.argv[1]))
side = random.Random(int(sys.argv[1]) + 1)
logging.getLogger("uwserve").addHandler(logging.NullHandler())
logging.getLogger("uwserve").propagate = False
alive, opened, closed, problems, waiting = {}, 0, 0, [], []
generation = 0
depth = 0

def problem(text):
    problems.append(text)

class Bomb:
    '''Does something nasty when it is collected.'''
    def __init__(self, ws):
        self.ws = ws
        self.cycle = self if rng.random() < 0.5 else None
    def __del__(self):
        act(self.ws)

def payload():
    size = rng.choice((0, 1, 10, 125, 126, 2000, 16383, 16384, 40000))
    return rng.choice((bytes(size), "x" * size, bytearray(size), memoryview(bytes(size))))

def pick(ws):
    return rng.choice(list(alive.values())) if alive and rng.random() < 0.4 else ws

def act(ws, n=3):
    '''A few random calls, nested a little.'''
    global depth
    if depth > 4:
        return
    depth += 1
    try:
        for _ in range(rng.randrange(n)):
            one(pick(ws))
    finally:
        depth -= 1

def one(ws):
    was_open = ws.ready_state == 1
    what = rng.randrange(24)
    if what < 5:
        data = payload()
        result = ws.send(data)
        if result not in (len(data), -1, 0): problem(f"send: {result}")
        if not was_open and result != 0: problem(f"send on closed: {result}")
    elif what == 5: ws.publish(f"t{rng.randrange(5)}", payload())
    elif what == 6: server.publish(f"t{rng.randrange(5)}", payload())
    elif what == 7:
        if ws.subscribe(f"t{rng.randrange(5)}") is not was_open: problem("subscribe")
    elif what == 8: ws.unsubscribe(f"t{rng.randrange(5)}")
    elif what == 9: ws.ping(b"p"), ws.pong(b"q")
    elif what == 10:
        if rng.random() < 0.3:
            ws.close(rng.choice((1000, 3999, 4001)), "r" * rng.randrange(124))
            if ws.ready_state != 3: problem("state after close")
    elif what == 11:
        if rng.random() < 0.3:
            ws.terminate()
            if ws.ready_state != 3: problem("state after terminate")
    elif what in (12, 13): ws.cork(act)
    elif what == 14:
        ws.pause()
        server.call_soon(ws.resume)
    elif what == 15: ws.resume()
    elif what == 16: ws.data = Bomb(ws) if rng.random() < 0.3 else ws
    elif what == 17 and rng.random() < 0.05: gc.collect()
    elif what == 18 and rng.random() < 0.1: reload()
    elif what == 19: server.call_soon(act, ws)
    elif what == 20: ws.binary_type = rng.choice(("bytes", "bytearray", "memoryview"))
    elif what == 21: len(ws.subscriptions), ws.buffered_amount, ws.remote_address, server.subscriber_count("t0")
    elif what == 22 and waiting:
        server.upgrade(waiting.pop(rng.randrange(len(waiting))))
    elif what == 23 and rng.random() < 0.2:
        raise ValueError("chaos")

def on_open(ws):
    global opened
    opened += 1
    if id(ws) in alive: problem("opened twice")
    alive[id(ws)] = ws
    ws.subscribe("t0")
    act(ws)

def on_message(ws, message):
    if ws.ready_state != 1: problem("message on closed")
    if isinstance(message, memoryview) and rng.random() < 0.3:
        views.append((message[:], bytes(message)))
        del views[:-50]
    act(ws, 6)

def on_close(ws, code, reason):
    global closed
    closed += 1
    if alive.pop(id(ws), None) is not ws: problem("closed twice or never opened")
    if ws.ready_state != 3: problem("state in close")
    act(ws)

def on_other(ws, data=None):
    if ws.ready_state != 1: problem("callback on closed")
    act(ws)

views = []

def on_error(exc, ws):
    if type(exc) is not ValueError: problem(repr(exc))
    if rng.random() < 0.2: act(ws)

def reload():
    global generation
    generation += 1
    server.reload(websocket=options())

def options():
    given = {"open": on_open, "message": on_message, "close": on_close, "drain": on_other,
             "ping": on_other, "pong": on_other, "error": on_error,
             "max_payload_length": 1 << 20, "backpressure_limit": rng.choice((1000, 100_000, 1 << 20)),
             "close_on_backpressure_limit": rng.random() < 0.2, "publish_to_self": rng.random() < 0.5,
             "idle_timeout": 0}
    return given

def fetch(request, server):
    if request.path == "/wait" or (request.is_upgrade and rng.random() < 0.1):
        waiting.append(request)
        return concurrent.futures.Future()
    if alive and rng.random() < 0.2:
        act(next(iter(alive.values())))
    if rng.random() < 0.8 and server.upgrade(request):
        return None
    return rng.choice(("text", b"x" * 100000, None))

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket=options(), error=lambda exc: "error")
server.start()
address = ("127.0.0.1", server.port)

def some_frames():
    out = []
    for _ in range(side.randrange(6)):
        kind = side.randrange(12)
        size = side.choice((0, 1, 100, 126, 5000, 16384, 70000))
        if kind < 4: out.append(frame(2, bytes(size)))
        elif kind < 6: out.append(frame(1, "y" * size))
        elif kind == 6: out.append(frame(9, b"p"))
        elif kind == 7: out.append(frame(10, b"q"))
        elif kind == 8: out += [frame(2, bytes(size), fin=False), frame(9, b""), frame(0, bytes(size))]
        elif kind == 9 and side.random() < 0.2: out.append(close_frame(1000, "bye"))
        elif kind == 10 and side.random() < 0.2:
            out.append(frame(side.choice((1, 3, 11)), b"\xff", rsv=side.choice((0, 2))))
        elif kind == 11 and side.random() < 0.2: out.append(os.urandom(20))
    return b"".join(out)

clients = []
for step in range(1500):
    if len(clients) < 12 and side.random() < 0.3:
        sock = socket.create_connection(address)
        sock.settimeout(10)
        sock.setblocking(False)
        try:
            behind = some_frames() if side.random() < 0.5 else b""
            sock.send(handshake("/wait" if side.random() < 0.1 else "/") + behind)
        except OSError:
            pass
        clients.append(sock)
    if not clients:
        continue
    sock = side.choice(clients)
    try:
        what = side.randrange(10)
        if what < 5:
            sock.send(some_frames())
        elif what < 8:
            while len(sock.recv(1 << 16)) == 1 << 16: pass
        elif what == 8 and side.random() < 0.3:
            if side.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            clients.remove(sock)
        elif what == 9 and side.random() < 0.2:
            sock.shutdown(socket.SHUT_WR)
    except BlockingIOError:
        pass
    except OSError:
        sock.close()
        clients.remove(sock)
    if side.random() < 0.02 and alive:
        try:
            ws = list(alive.values())[0]
            ws.send("from another thread"); ws.subscribe("t1"); server.publish("t1", "x")
            if side.random() < 0.1: ws.close()
        except (RuntimeError, IndexError):
            pass
settled = threading.Event()
server.call_soon(settled.set)
assert settled.wait(20), "the loop hangs"
stopped = server.stop(True)
for sock in clients:
    sock.close()
assert stopped.wait(20), "the server does not end"
server._control.join(10)
for view, content in views:
    if bytes(view) != content: problem("a kept view changed")
if opened != closed: problem(f"{opened} opened, {closed} closed")
if alive: problem(f"{len(alive)} left")
server.reload = act = lambda *_: None
ws = view = content = None
del views, clients, waiting[:]
for _ in range(3):
    gc.collect()
if uwserve._core.live_handles(): problem(f"{uwserve._core.live_handles()} handles alive")
print(problems[:5], opened > 10)
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(script, seed):
    assert script(PROGRAM, str(seed)).finish() == "[] True\n", f"seed {seed}"
