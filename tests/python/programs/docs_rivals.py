"""Runs the programs of docs/coming-from/ that use another library's server, with a client, in this process.

``with_websockets(check)`` and ``with_aiohttp(check)`` go before a program: its server then listens on a free port,
and ``check(connect, get)`` talks to it from a thread. They serve for ever: the process ends with the check.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
import urllib.request
from collections.abc import Callable
from typing import Any

from websockets.sync.client import connect

SECONDS = 20.0
Check = Callable[[Callable[[str], Any], Callable[[str], str]], None]


def _talk(check: Check) -> socket.socket:
    """A listening socket for the server; the check begins at once, and waits in its queue."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]

    def websocket(path: str) -> Any:
        return connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=SECONDS, close_timeout=SECONDS)

    def get(path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as reply:
            return str(reply.read().decode())

    def run() -> None:
        code = 0
        try:
            check(websocket, get)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)

    threading.Thread(target=run, daemon=True).start()
    return listening


def run_asgi(app: Any, check: Check) -> None:
    """Goes behind a block that makes an ASGI app: runs it."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run(sockets=[_talk(check)])


def with_websockets(check: Check) -> None:
    from websockets.asyncio import server

    real = server.serve

    def serve(handler: Any, host: str, port: int, **options: Any) -> Any:
        return real(handler, sock=_talk(check), **options)

    server.serve = serve  # type: ignore[assignment,misc]


def with_aiohttp(check: Check) -> None:
    from aiohttp import web

    real = web.run_app

    def run_app(app: Any, *, port: int) -> None:
        real(app, sock=_talk(check), print=None)

    web.run_app = run_app  # type: ignore[assignment]
