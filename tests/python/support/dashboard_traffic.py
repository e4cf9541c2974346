"""Traffic worth looking at, for the dashboard's tests and its picture: clients who chat, come and go, or stop reading.

As a program it takes the picture: ``python tests/python/support/dashboard_traffic.py FILE [--seconds 60] [--dark]``.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from pathlib import Path
from typing import Any

from http_client import DEADLINE, Client, frame, open_websocket, request

from uwserve import Server, ServerWebSocket, serve

ROOMS = ("lobby", "prices/EURUSD", "prices/GBPUSD", "cursors/board-7", "room/14 Ünïcode", "presence", "alerts")


def make(**options: Any) -> Server:
    """A server with topics, backpressure, and a handler that sometimes takes long and sometimes fails."""
    chance = random.Random(6)

    def open(ws: ServerWebSocket) -> None:
        for room in ROOMS[: 1 + ws.id % len(ROOMS)]:
            ws.subscribe(room)

    def message(ws: ServerWebSocket, message: str | bytes) -> None:
        if message == "flood":
            for _ in range(64):
                ws.send(b"x" * 32768)
            return
        if message == "fail":
            raise ValueError("one of the errors that are shown")
        ws.publish(chance.choice(ROOMS), message)
        ws.send(message)
        if chance.random() < 0.02:
            time.sleep(chance.random() * 0.004)

    def fetch(request: Any, server: Server) -> Any:
        return None if server.upgrade(request) else {"ok": True}

    handlers = {"open": open, "message": message, "error": lambda error, ws: None, "backpressure_limit": 1 << 20}
    return serve({"fetch": fetch, "websocket": handlers, "port": 0, "hostname": "127.0.0.1"} | options)


class Crowd:
    """Clients in a thread of their own, from ``with`` to its end."""

    def __init__(self, port: int, size: int = 40) -> None:
        self._port = port
        self._size = size
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd")

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _connect(self) -> Client:
        client = Client(self._port)
        open_websocket(client)
        return client

    def _run(self) -> None:
        chance = random.Random(7)
        clients = [self._connect() for _ in range(self._size)]
        deaf = self._connect()
        try:
            turn = 0
            while not self._end.wait(0.02):
                turn += 1
                for _ in range(3 + turn // 100 % 6 * 3):
                    text = b"m" * chance.choice((20, 60, 300, 1500))
                    clients[chance.randrange(len(clients))].send(text_frame(text))
                for client in clients:
                    read_what_is_there(client)
                if turn % 40 == 0:  # somebody leaves, in one of several ways, and another comes
                    left = clients.pop(chance.randrange(len(clients)))
                    code = chance.choice((1000, 1000, 1001, 4001, 0))
                    if code:
                        left.send(frame(code.to_bytes(2, "big"), 8))
                    left.socket.close()
                    clients.extend(self._connect() for _ in range(chance.randrange(3)))
                if turn % 100 == 30:
                    deaf.send(frame(b"flood"))
                if turn % 400 == 350:
                    deaf.socket.close()
                    deaf = self._connect()
                if turn % 150 == 20:
                    clients[0].send(frame(b"fail"))
                if turn % 25 == 0:
                    with Client(self._port) as client:
                        client.ask(request("/health"))
        finally:
            for client in (*clients, deaf):
                client.socket.close()


def text_frame(text: bytes) -> bytes:
    """A masked text frame of up to 64 KiB; the mask is zero, so that the payload needs no work."""
    length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


def read_what_is_there(client: Client) -> None:
    client.socket.settimeout(0)
    try:
        while client.socket.recv(1 << 16):
            pass
    except BlockingIOError:
        pass
    finally:
        client.socket.settimeout(DEADLINE)


def picture(path: Path, seconds: float, dark: bool, size: str) -> None:
    """A screenshot of the dashboard after so many seconds of traffic."""
    import shutil

    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-proxy-server",
        "--hide-scrollbars",
        f"--window-size={size}",
    ):
        options.add_argument(flag)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    server = make(dashboard=True, id="example")
    with server.start(), Crowd(server.port or 0):
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.get(f"{server.url}_uwserve")
            time.sleep(seconds)
            driver.save_screenshot(str(path))
            for entry in driver.get_log("browser"):
                print(entry["level"], entry["message"])
        finally:
            driver.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a picture of the dashboard with traffic.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1280,1010", help="of the window: width,height")
    arguments = parser.parse_args()
    picture(arguments.path, arguments.seconds, arguments.dark, arguments.size)
