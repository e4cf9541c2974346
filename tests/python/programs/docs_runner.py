"""Runs one Python block of the documentation in this process, with a real client. For test_docs.py.

stdin is JSON: ``code``, and perhaps ``setup``, which goes before it, and ``client``. Every server that the block makes
listens on a free port of loopback instead of its own. When the first one runs, ``client`` (or a client that asks for
``/`` and tries a handshake) talks to it from another thread, and then all are stopped; a server that the block only
makes is started here. A block whose servers nobody came to talk to has failed. With ``own client`` all this is the
block's own matter.

In ``serve(...)`` an ellipsis stands for what the page has shown before: as the first argument for an echo, as a key or
certificate of TLS for those in this folder. A fragment without any import has the names of ``uwserve``.

The client's code has ``server``, ``port``, ``connect(path="/")``, ``get(path="/", headers={})``, ``request()`` and
``stop()``.
"""

from __future__ import annotations

import json
import logging
import socket
import ssl
import sys
import threading
import traceback
import urllib.error
import urllib.request
from typing import Any

from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import connect

import uwserve

SECONDS = 20.0
REFUSAL = uwserve.Response("a WebSocket lives here", 426)
ECHO = {
    "fetch": lambda request, server: None if server.upgrade(request) else REFUSAL,
    "websocket": {"message": lambda ws, message: ws.send(message)},
}


class Servers:
    """What the block makes, and the first of it that runs."""

    def __init__(self) -> None:
        self.made: list[uwserve.Server] = []
        self.secure = False
        self.first: uwserve.Server | None = None
        self.runs = threading.Event()
        self._serve = uwserve.serve

    def serve(self, options: Any = None, /, **given: Any) -> uwserve.Server:
        if options is ...:
            given = ECHO | given
        elif options is not None:
            given = dict(options) | given
        if "fd" in given:
            listening = socket.create_server(("127.0.0.1", 0))
            given["fd"] = listening.detach()
        elif given.get("unix") is None:
            given |= {"port": 0, "hostname": "127.0.0.1"}
        if given.get("tls") is not None:
            self.secure = True
            given["tls"] = _with_files(given["tls"])
        server = self._serve(**given)
        self.made.append(server)
        server.call_soon(self._running, server)
        return server

    def _running(self, server: uwserve.Server) -> None:
        self.first = self.first or server
        self.runs.set()

    def stop(self) -> None:
        for server in self.made:
            server.stop(True)


def _with_files(tls: Any) -> Any:
    if isinstance(tls, list):
        return [_with_files(entry) for entry in tls]
    return {name: {"key": "server.key"}.get(name, "server.pem") if v is ... else v for name, v in tls.items()}


class Client:
    """What the code of a client has."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.server = servers.first
        assert self.server is not None
        self.port = self.server.port
        self._tls = ssl._create_unverified_context() if servers.secure else None

    def connect(self, path: str = "/", **options: Any) -> Any:
        scheme = "wss" if self._tls else "ws"
        if self._tls:
            options.setdefault("ssl", self._tls)
        uri = f"{scheme}://127.0.0.1:{self.port}{path}"
        return connect(uri, proxy=None, open_timeout=SECONDS, close_timeout=SECONDS, **options)

    def request(self, method: str, path: str = "/", body: bytes | None = None, headers: Any = None) -> tuple[int, str]:
        """(status, body) of an HTTP request."""
        url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        )
        try:
            asked = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
            with opener.open(asked, timeout=SECONDS) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get(self, path: str = "/", headers: Any = None) -> tuple[int, str]:
        return self.request("GET", path, headers=headers)

    def look(self) -> None:
        """What is asked of every server whose block tells of no client: it answers."""
        if self.port is None:
            return
        assert self.get()[0] < 500
        try:
            with self.connect() as ws:
                ws.send("hello")
        except InvalidStatus as error:
            if error.response.status_code >= 500:
                raise
        except InvalidMessage:
            assert self.server.stopping

    def names(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "port": self.port,
            "connect": self.connect,
            "get": self.get,
            "request": self.request,
            "stop": self._servers.stop,
            "SECONDS": SECONDS,
        }


class Errors(logging.Handler):
    """What went wrong in a handler."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


def main() -> int:
    told = json.load(sys.stdin)
    servers, errors, failures = Servers(), Errors(), []
    logging.getLogger("uwserve").addHandler(errors)
    uwserve.serve = servers.serve  # type: ignore[assignment]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    if "import " not in told["code"]:  # a fragment
        namespace |= {name: getattr(uwserve, name) for name in uwserve.__all__}

    def talk() -> None:
        servers.runs.wait()
        if servers.first is None or "own client" in told:
            return  # the block has failed, made no server, or talks itself
        try:
            client = Client(servers)
            if "client" in told:
                exec(compile(told["client"], "<client>", "exec"), namespace | client.names())
            else:
                client.look()
        except BaseException:
            failures.append(traceback.format_exc())
        finally:
            servers.stop()

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        exec(compile(told.get("setup", ""), "<setup>", "exec"), namespace)
        exec(compile(told["code"], told["name"], "exec"), namespace)
        exec(compile(told.get("then", ""), "<then>", "exec"), namespace)
        for server in servers.made:
            if "own client" in told:
                server.stop(True)
            elif not server.running and not server.finished:
                server.start()
        if "own client" not in told and servers.made and not servers.runs.wait(SECONDS):
            failures.append(f"no server of the block ran within {SECONDS} s: nobody talked to it")
        if "client" in told and (not servers.made or "own client" in told):
            failures.append("the block has a client, and " + ("also its own" if servers.made else "made no server"))
    except BaseException:
        failures.append(traceback.format_exc())
        servers.stop()
    finally:
        servers.runs.set()
        talker.join()
    print(*failures, *errors.lines, sep="\n", file=sys.stderr)
    return 1 if failures or (errors.lines and "own client" not in told) else 0


if __name__ == "__main__":
    sys.exit(main())
