"""stop() inside a handler: nothing of another socket's runs under the caller, and no socket's cork is touched.

What a stop has to do to others is due at the top of the next turn: work that was posted, farewells, close handlers.
"""

from __future__ import annotations

import asyncio
import threading

import pytest
from ws_client import Client

import uwserve

STOPS = {
    "forced": lambda server: server.stop(True),
    "deadline": lambda server: server.stop(timeout=20),
    "no time": lambda server: server.stop(timeout=0),
    "deadline, then forced": lambda server: (server.stop(timeout=20), server.stop(True)),
    "gentle": lambda server: server.stop(),
}
POSTED = """
import sys, threading
import uwserve
from ws_client import Client, frame

held, stack, underneath, closed = {}, [], [], []

def on_open(ws):
    held.setdefault("first", ws)
    if ws is held["first"]:
        held["messages"] = ws.messages()  # and no code takes them: they wait

def run(ws, act):
    if stack:
        underneath.append((stack[-1].id, ws.id))
    stack.append(ws)
    act()
    stack.pop()

def second(ws):
    ws.send("corked")
    del held["messages"]  # posts work: the first socket's messages are its handler's again, and it is read on
    STOP(server)
    ws.send("corked too")

def message(ws, text):
    run(ws, lambda: ws.send("answer") if ws is held["first"] else second(ws))

def close(ws, code, reason):
    run(ws, lambda: closed.append((ws.id, code)))

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"open": on_open, "message": message, "close": close})
server.start()
address = ("127.0.0.1", server.port)
first = Client(address)
first.send_raw(frame(1, "message") * 500)  # more than the queue takes: part of them is not parsed yet
first.send_raw(frame(9, b""))
other = Client(address)
waiting = threading.Event()
server.call_soon(lambda: waiting.set())
assert waiting.wait(10)
other.send("go")
frames = [other.read_frame()]
if "gentle" == sys.argv[1]:
    other.send_close()
frames += other.read_to_end()
print([f.payload for f in frames if f.opcode == 1])
first.close(), other.close()
assert server.stop().wait(20)
print(underneath, sorted(id for id, _ in closed))
"""


@pytest.mark.plain("the server runs in a process of its own")
@pytest.mark.parametrize("name", STOPS)
def test_posted_work_waits_for_the_next_turn(script, name):
    """Work that was posted for another socket is not run inside the caller's cork."""
    stop = {
        "forced": "server.stop(True)",
        "deadline": "server.stop(timeout=20)",
        "no time": "server.stop(timeout=0)",
        "deadline, then forced": "(server.stop(timeout=20), server.stop(True))",
        "gentle": "server.stop()",
    }[name]
    lines = script(POSTED.replace("STOP(server)", stop), name).finish().splitlines()
    # stop(True) closes the caller's own socket at once, as in Bun: what it sends then goes nowhere.
    assert lines[-1] == "[] [1, 2]"
    assert lines[0] == ("[b'corked']" if "forced" in name else "[b'corked', b'corked too']")


@pytest.mark.parametrize("name", STOPS)
def test_close_handlers_run_in_the_next_turn(serving, name):
    """One at a time: also in what call_soon() and an exception of the handler's come to."""
    inside, seen = [], []

    def message(ws, text):
        inside.append(ws)
        STOPS[name](live.server)
        seen.append(("state", ws.ready_state, ws.send("last")))
        inside.pop()

    live = serving(message=message, close=lambda ws, code, reason: seen.append((code, reason, list(inside))))
    pairs = [live.open() for _ in range(4)]
    pairs[0][0].send("go")
    live.wait_for("message")
    if name == "gentle":
        for client, _ in pairs:
            client.send_close()
    else:
        read = [client.read_to_end() for client, _ in pairs]
        assert [frames[-1].close_code for frames in read] == [1001] * 4
        was_sent = [f.payload for f in read[0] if f.opcode == 1]
        assert was_sent == ([] if "forced" in name else [b"last"])
    for client, _ in pairs:
        client.close()
    assert live.server.stop().wait(20)
    assert seen[0] == ("state", 3 if "forced" in name else 1, 0 if "forced" in name else 4)
    code = 1000 if name == "gentle" else 1001
    assert sorted(seen[1:]) == [(code, "" if name == "gentle" else "Server closed", [])] * 4


@pytest.mark.plain("the same for TLS")
@pytest.mark.parametrize("name", ["forced", "deadline", "no time"])
def test_inside_a_task(name):
    """A task of the same event loop that stops the server sees no handler run under its call."""
    seen, calling = [], []

    async def main():
        server = uwserve.serve(
            port=0,
            hostname="127.0.0.1",
            fetch=lambda request, server: None if server.upgrade(request) else "",
            websocket={
                "open": lambda ws: opened.set_result(ws) if not opened.done() else None,
                "close": lambda ws, code, reason: seen.append((code, list(calling))),
            },
        )
        async with server:
            opened = asyncio.get_running_loop().create_future()
            client = await asyncio.to_thread(Client, ("127.0.0.1", server.port))
            await opened
            calling.append(1)
            stopped = STOPS[name](server)
            calling.pop()
            client.close()
            await stopped

    asyncio.run(asyncio.wait_for(main(), 20))
    assert seen == [(1001, [])]


@pytest.mark.plain("nothing of the protocol is in it")
@pytest.mark.parametrize("name", ["forced", "deadline"])
def test_while_nobody_runs_the_server(name):
    """There is no next turn: what is due is done before the outermost call returns, and not inside the handler."""
    seen, inside = [], []

    def close(ws, code, reason):
        seen.append((code, list(inside)))
        inside.append(1)
        STOPS[name](ws.server)
        inside.pop()

    sockets = []
    server = uwserve.serve(
        port=0,
        hostname="127.0.0.1",
        fetch=lambda request, server: None if server.upgrade(request) else "",
        websocket={"open": sockets.append, "close": close},
    )
    clients = []

    def connect():
        clients.extend(Client(("127.0.0.1", server.port)) for _ in range(3))
        server.call_soon(interrupt)

    def interrupt():
        raise KeyboardInterrupt

    connecting = threading.Thread(target=connect)
    connecting.start()
    with pytest.raises(KeyboardInterrupt):
        server.run()
    connecting.join()
    assert len(sockets) == 3
    sockets[0].close(4000)
    assert seen == [(4000, []), (1001, []), (1001, [])]
    for client in clients:
        client.close()
    server._control.drain()
    assert server.finished


@pytest.mark.plain("the same for TLS")
def test_waiting_inside_a_handler_is_refused(serving):
    """A handler cannot wait for a stop that waits for the handler."""
    outcomes = []

    def message(ws, text):
        with pytest.raises(RuntimeError) as raised:
            live.server.stop(timeout=20).wait()
        outcomes.append(str(raised.value))

    live = serving(message=message)
    client, _ = live.open()
    client.send("go")
    assert client.read_close() == (1001, "Server closed")
    assert "would last forever" in outcomes[0]
