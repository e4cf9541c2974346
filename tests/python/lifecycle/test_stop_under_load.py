"""A graceful stop under load: a thousand busy clients, of which those that read lose no message."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import Any

import pytest
import ws_client
from http_client import DEADLINE, bound
from processes import SANITIZED
from ws_client import eventually

from uwserve import Request, Server

READERS, SLOW, NEVER = (90, 9, 1) if SANITIZED else (900, 90, 10)


class Peer:
    """A WebSocket client that collects whatever comes, without looking at it before the end."""

    def __init__(self, address: tuple[str, int], number: int, receive_buffer: int | None = None) -> None:
        self.client = ws_client.Client(address, f"/{number}", receive_buffer=receive_buffer)
        self.number = number
        self.socket: socket.socket = self.client.sock
        self.socket.setblocking(False)
        self.ended = False

    def read(self, size: int = 1 << 16) -> None:
        try:
            data = self.socket.recv(size)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            data = b""
        self.client.buffer += data
        if not data:
            self.ended = True
            self.socket.close()

    def ask(self) -> None:
        with contextlib.suppress(OSError):  # it is full, or the server has gone
            self.socket.send(ws_client.frame(ws_client.TEXT, "go"))


def bodies(frames: list[ws_client.Frame], kind: str) -> list[str]:
    texts = (got.payload.decode() for got in frames)
    return [text.partition(":")[0] for text in texts if text.startswith(kind)]


@pytest.mark.plain("a thousand connections are read without waiting, which TLS sockets of Python cannot be")
def test_a_thousand_busy_clients_lose_nothing() -> None:
    """Each message whose send() said more than 0, or -1, arrives, in order; then the Close frame, then the end.

    They are sent by handlers, by another thread until the stop is over, and published, while the clients keep asking.
    Some read only when the stop has begun, and slowly, and some never.
    """
    accepted: dict[int, dict[str, list[str]]] = {}
    published: list[str] = []
    sockets: dict[int, Any] = {}
    asked = [0]

    def opened(ws: Any) -> None:
        number = int(ws.data)
        sockets[number] = ws
        accepted[number] = {"h": [], "t": []}
        ws.subscribe("all")
        if number >= READERS:  # more than the kernel holds: it waits in the server
            for i in range(30):
                send(ws, number, "h", f"first{i}", 30_000)

    def send(ws: Any, number: int, kind: str, name: str, size: int) -> None:
        name = f"{kind}{name}"
        if ws.send(f"{name}:{'x' * size}") != 0:
            accepted[number][kind].append(name)

    def message(ws: Any, text: str) -> None:
        number = int(ws.data)
        asked[0] += 1
        for i in range(3):
            send(ws, number, "h", f"{asked[0]}.{i}", (20, 700, 3000)[i])
        if asked[0] % 200 == 0:
            name = f"p{asked[0]}"
            if server.publish("all", name + ":" + "y" * (100 if asked[0] % 400 else 20_000)) != 0:
                published.append(name)

    def fetch(request: Request, server: Server) -> None:
        assert server.upgrade(request, data=request.path[1:])

    def elsewhere() -> None:
        count = 0
        while not over.is_set():
            for number in range(0, READERS + SLOW, 7):
                count += 1
                send(sockets[number], number, "t", str(count), 50)
            over.wait(0.001)

    over = threading.Event()
    with (
        bound(fetch=fetch, websocket={"open": opened, "message": message, "idle_timeout": 0}) as server,
        contextlib.ExitStack() as stack,
        selectors.DefaultSelector() as selector,
    ):
        server.start()
        address = ("127.0.0.1", server.port or 0)
        readers = [Peer(address, i) for i in range(READERS)]
        slow = [Peer(address, READERS + i, 65536) for i in range(SLOW)]
        never = [Peer(address, READERS + SLOW + i, 4096) for i in range(NEVER)]
        for peer in (*readers, *slow, *never):
            stack.callback(peer.socket.close)
        eventually(lambda: server.pending_websockets == len(readers) + len(slow) + len(never))
        for peer in readers:
            selector.register(peer.socket, selectors.EVENT_READ, peer)
            peer.ask()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        stopped = None
        patience = time.monotonic() + 60
        while not all(peer.ended for peer in (*readers, *slow)):
            assert time.monotonic() < patience, "the readers did not come to their end"
            for key, _ in selector.select(0.01):
                peer = key.data
                peer.read()
                if peer.ended:
                    selector.unregister(key.fileobj)
                elif peer.number % 3 or stopped is None:
                    peer.ask()
            if stopped is None and asked[0] > 2 * READERS:
                stopped = server.stop(timeout=600, code=1012, reason="restart")
            if stopped is not None:
                for peer in slow:
                    if not peer.ended:
                        peer.read(8192)
        assert stopped is not None
        assert not stopped.done(), "those that never read have not been cut yet"
        begun = time.monotonic()
        assert server.stop(timeout=0.1) is stopped
        assert stopped.wait(DEADLINE)
        assert time.monotonic() - begun < 5
        over.set()
        thread.join()

        waiting = 0
        for peer in (*readers, *slow):
            frames = peer.client.read_frames_of_buffer()
            assert (frames[-1].opcode, frames[-1].close_code, frames[-1].close_reason) == (8, 1012, "restart")
            mine = accepted[peer.number]
            assert bodies(frames[:-1], "h") == mine["h"], peer.number
            assert bodies(frames[:-1], "t") == mine["t"], peer.number
            assert bodies(frames[:-1], "p") == published, peer.number
            waiting += len(mine["t"])
        assert waiting
        assert published
    assert server.pending_websockets == 0
