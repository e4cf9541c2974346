"""Finalisers that the collector runs in the middle of things: while a message becomes an object, in a dying server.

Each runs in a process of its own, with the collector set to run at every allocation that may.
"""

from __future__ import annotations

import pytest

EAGER = """
    import gc, logging, sys, threading, weakref
    import uwserve
    from ws_client import Client, ConnectionEnded, frame

    logging.disable()
    what = sys.argv[1]
    sockets, options, armed = [], {}, False

    class Trap:
        '''Garbage that acts when it is found.'''
        def __init__(self):
            self.cycle = self
        def __del__(self):
            if armed:
                ACTIONS[what]()

    ACTIONS = {
        "terminate": lambda: [ws.terminate() for ws in sockets],
        "close": lambda: [ws.close() for ws in sockets],
        "reload without handlers": lambda: server.reload(websocket={"open": opened}),
        "reload other handlers": lambda: server.reload(websocket=handlers()),
        "stop": lambda: server.stop(True),
        "send": lambda: [ws.send(b"x" * 20000) for ws in sockets],
    }

    def arm():
        global armed
        gc.disable()
        armed = True
        for _ in range(3):
            Trap()
        gc.set_threshold(1, 1, 1)
        gc.enable()

    def disarm():
        global armed
        armed = False
        gc.set_threshold(700, 10, 10)

    def opened(ws):
        ws.binary_type = KIND
        sockets.append(ws)

    def heard(ws, *data):
        assert ws.ready_state == 1, "called for a socket that has closed"

    def closed(ws, code, reason):
        sockets.remove(ws)
        assert ws.ready_state == 3

    def handlers():
        def message(ws, data):  # a new one each time: nothing but the options keeps it
            heard(ws, data)
        return {"open": opened, "message": message, "close": closed, "ping": heard, "pong": heard, "drain": heard}
"""

MESSAGES = (
    EAGER
    + """
    for KIND in ("memoryview", "bytearray", "bytes"):
        for data in (frame(2, b"s"), frame(2, b"l" * 20000), frame(2, b"f" * 20000, fin=False) + frame(0, b"f"),
                     frame(1, "text"), frame(9, b"ping"), frame(10, b"pong")):
            with uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                               websocket=handlers()) as server:
                server.start()
                try:
                    for _ in range(3):
                        with Client(("127.0.0.1", server.port)) as client:
                            server.call_soon(arm)
                            client.send_raw(data * 2 + frame(9, b"last"))
                            while client.read_frame()[:2] != (10, b"last"): pass
                        server.call_soon(disarm)
                except (ConnectionEnded, OSError, RuntimeError):  # the trap has closed the connection, or the server
                    pass
                assert server.stop(True).wait(10)
            disarm()
            sockets.clear()
            gc.collect()
            assert uwserve._core.live_handles() == 0
    print("alive")
    """
)


@pytest.mark.parametrize(
    "what", ["terminate", "close", "reload without handlers", "reload other handlers", "stop", "send"]
)
def test_while_a_message_is_made(script, what):
    """A finaliser closes the socket, takes its handler away or stops the server between a message and its handler."""
    assert script(MESSAGES, what).finish() == "alive\n"


DROPPED = """
    import gc, logging, sys, threading, weakref
    import uwserve
    from http_client import Client, GET, open_websocket, request

    def once(way):
        def pieces():
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                closed.append(1)
                if way == "raise":
                    raise RuntimeError("while the server goes")
                if way == "act" and (server := alive()):
                    server.stop(True), server.publish("t", "x"), server.reload(websocket={}), server.call_soon(print)

        def fetch(request, server):
            if request.path == "/stream":
                return uwserve.Response(pieces())
            if request.path == "/late":
                server._control.core.defer(request)
                kept.append(request)
                return Never()
            if request.path == "/break":
                raise KeyboardInterrupt
            server.upgrade(request)

        class Never:
            def add_done_callback(self, function): pass
            def result(self): pass

        closed, kept = [], []
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={"message": lambda ws, data: None})
        alive = weakref.ref(server)
        clients = [Client(server, receive_buffer=4096) for _ in range(4)]

        def ask():
            clients[0].send(request("/stream"))
            clients[0].head()
            open_websocket(clients[1])
            clients[2].send(request("/late"))
            while not kept: pass
            kept.clear()
            clients[3].send(request("/break"))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            server.run()
        except KeyboardInterrupt:
            pass
        thread.join()
        del server, fetch, pieces, ask, thread
        gc.collect(), gc.collect()
        assert alive() is None
        assert closed == [1]
        for client in clients:
            client.socket.close()

    logging.disable()
    sys.unraisablehook = lambda args: None
    for _ in range(3):
        once(sys.argv[1])
    print(uwserve._core.live_handles())
    """


@pytest.mark.parametrize("way", ["quiet", "raise", "act"])
def test_a_server_dropped_with_everything_in_flight(script, way):
    """run() was interrupted, nobody holds the server: it is collected, and its streams' finally blocks do anything."""
    assert script(DROPPED, way).finish() == "0\n"


INTERRUPTED = """
    import sys, threading
    import uwserve
    from ws_client import Client

    def message(ws, data):
        sockets.append(ws)
        raise KeyboardInterrupt

    def closed(ws, code, reason):
        codes.append(code)
        server.stop(True)

    for act in (lambda ws: ws.terminate(), lambda ws: ws.cork(lambda ws: ws.terminate()), lambda ws: server.stop(True),
                lambda ws: ws.cork(lambda ws: server.stop(True))):
        sockets, codes = [], []
        server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
                               websocket={"message": message, "close": closed})
        clients = []
        def ask():
            clients.append(Client(("127.0.0.1", server.port)))
            clients[0].send("go")
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            server.run()
        except KeyboardInterrupt:
            pass
        thread.join()
        act(sockets[0])
        assert sockets[0].ready_state == 3
        assert len(codes) == 1
        assert server.stopping
        clients[0].close()
    print("done")
"""


def test_stopped_by_a_close_handler_while_not_running(script):
    """The last socket ends in a call of its own outside run(), and its close handler stops the server under it."""
    assert script(INTERRUPTED).finish() == "done\n"


STARTED_AGAIN = """
    import faulthandler, gc
    import uwserve

    faulthandler.dump_traceback_later(20, exit=True)
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda request: None).start()
    refused, depth = [], 0

    def start():
        global depth
        depth += 1
        try:
            server.start()
        except RuntimeError as exc:
            refused.append(str(exc))
        finally:
            depth -= 1

    class Trap:
        def __init__(self):
            self.cycle = self
        def __del__(self):
            Trap()  # for the next collection
            if depth == 1:
                start()

    Trap()
    gc.set_threshold(1)
    for _ in range(300):
        start()
    gc.set_threshold(0)
    assert len(refused) > 300, len(refused)
    assert server.stop(True).wait(20)
    print(set(refused))
"""


def test_a_finaliser_in_a_start_that_is_refused(script):
    """It starts the same server, and is refused as well: nothing that runs other code is done under a lock."""
    assert script(STARTED_AGAIN).finish() == "{\"the server already runs, in thread 'uwserve'\"}\n"
