"""Test helpers: a server in a thread of the test's process, and a strict synchronous client.

::

    from uwserve.testing import serving


    def test_echo():
        with serving(websocket={"message": lambda ws, m: ws.send(m)}) as server, server.connect() as ws:
            ws.send("x")
            assert ws.receive() == "x"

With ``pytest_plugins = ["uwserve.testing.plugin"]`` in ``conftest.py``, a fixture ``serving`` stops the servers that it
starts. The helpers need only the standard library; the plugin needs pytest. Every wait ends after ``timeout`` seconds,
10 by default. An exception of a handler is raised in the test.
"""

from __future__ import annotations

from ._client import UnexpectedClose, WebSocketClient
from ._connection import HandshakeRefused
from ._errors import ProtocolError
from ._http import HttpResponse
from ._server import LiveServer, connect, serving

__all__ = [
    "HandshakeRefused",
    "HttpResponse",
    "LiveServer",
    "ProtocolError",
    "UnexpectedClose",
    "WebSocketClient",
    "connect",
    "serving",
]
