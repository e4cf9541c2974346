"""Clients that do everything at once, from a seed: any request, any split, any way to leave, while servers stop.

What is held: no crash (the process is a child with faulthandler), every stop ends, the counters return to zero, and no
descriptor or socket object stays. Each seed runs a few seconds; a failing one repeats with the same choices.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

CHAOS = """
    import concurrent.futures, gc, logging, random, sys, threading, time
    from http_client import Client, ClosedError, descriptors, frame, request, upgrade_request
    from uwserve import Response, _core, serve

    logging.disable()
    rnd = random.Random(int(sys.argv[1]))
    pool = concurrent.futures.ThreadPoolExecutor(4)
    kept = []  # requests that outlive their server

    def pieces(flaw):
        for i in range(rnd.randrange(2, 30)):
            if i == 9 and flaw == "raise":
                raise ValueError
            if i == 9 and flaw == "garbage":
                yield 7
            yield b"g" * rnd.choice([0, 1, 1000, 16384, 70000])

    def upgrade_later(request, server):
        future = concurrent.futures.Future()
        def upgrade():
            server.upgrade(request)
            future.set_result("plain")
        pool.submit(server.call_soon, upgrade)
        return future

    def slow(request, server):
        server.timeout(request, rnd.choice([0, 1, 5]))
        return pool.submit(lambda: time.sleep(rnd.random() / 50) or "slow")

    def reload(request, server):
        server.reload(max_request_body_size=rnd.choice([60_000, 1_000_000]))
        return "reloaded"

    ROUTES = {
        "/ws": lambda request, server: None if server.upgrade(request) else "plain",
        "/ws-later": upgrade_later,
        "/small": lambda request: kept.append(request) or "small",
        "/large": lambda request: b"l" * rnd.choice([5_000, 16_000, 100_000, 2_000_000]),
        "/stream": lambda request: Response(pieces("")),
        "/raise": lambda request: Response(pieces("raise")),
        "/garbage": lambda request: Response(pieces("garbage")),
        "/slow": slow,
        "/slow-stream": lambda request: pool.submit(lambda: Response(pieces(""))),
        "/fail": lambda request: 1 // 0,
        "/close": lambda request: Response("c", headers={"Connection": "close"}),
        "/reload": reload,
    }

    def opened(ws):
        ws.subscribe("t")
        ws.close() if rnd.random() < 0.2 else ws.send("hello")

    def one_request():
        path, kind = rnd.choice(list(ROUTES)), rnd.random()
        if path.startswith("/ws"):
            return upgrade_request(path) + frame(b"hello") * rnd.randrange(3)
        if kind < 0.1:
            return request(path, "HEAD")
        if kind < 0.2:
            return request(path, "POST", b"x" * rnd.choice([0, 1, 5_000, 70_000]))
        if kind < 0.25:
            return request(path, version="1.0")
        if kind < 0.3:
            return b"GET / HTTP/1.1\\r\\nX : y\\r\\n\\r\\n"
        if kind < 0.33:
            return rnd.randbytes(40)
        if kind < 0.36:
            return request(path, "POST", b"z" * 50, "Expect: 100-continue")
        return request(path)

    def behave(client):
        client.socket.settimeout(0.2)
        data = b"".join(one_request() for _ in range(rnd.randrange(1, 8)))
        while data and rnd.random() > 0.03:
            size = rnd.choice([1, 3, 50, 1_000, 100_000])
            client.send(data[:size])
            data = data[size:]
        way = rnd.random()
        if way < 0.2:
            return client.reset()
        if way < 0.4:
            client.finish()
        for _ in range(rnd.randrange(100)):
            if not client.fill():
                break

    def clients(server, end):
        while time.monotonic() < end:
            try:
                with Client(server, receive_buffer=rnd.choice([0, 2048])) as client:
                    behave(client)
            except (OSError, ClosedError):
                pass

    before = descriptors()
    for round in range(4):
        websocket = {"open": opened, "message": lambda ws, message: (ws.send(message), ws.publish("t", message))}
        timeout = rnd.choice([0, 1, 10])
        server = serve(port=0, hostname="127.0.0.1", routes=ROUTES, websocket=websocket, idle_timeout=timeout)
        server.start()
        end = time.monotonic() + 0.8
        threads = [threading.Thread(target=clients, args=(server, end + i / 20)) for i in range(6)]
        for thread in threads:
            thread.start()
        threads[0].join()
        if round % 2:
            server.stop()
        assert server.stop(True).wait(20), (server.pending_requests, server.pending_websockets)
        server.__exit__(None, None, None)
        for thread in threads:
            thread.join()
        assert (server.pending_requests, server.pending_websockets) == (0, 0)
    pool.shutdown()
    assert [request.path for request in kept].count("/small") == len(kept) > 0
    kept.clear()
    gc.collect()
    print(_core.live_handles(), descriptors() - before)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_chaos(seed: int) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(CHAOS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "0 0\n"), done.stderr[-3000:]
