"""Bun's server WebSocket API for Python, on uWebSockets.

``serve(...)`` binds a server; ``server.run()`` or ``server.start()`` runs it. See ``serve``, ``Server``,
``ServerWebSocket`` and ``WebSocketHandler``; the types of options and handlers are in ``uwserve.types``.
"""

from __future__ import annotations

try:
    from ._core import Request, ServerWebSocket
except ImportError as error:
    from . import _missing

    raise _missing.extension(error, __path__[0]) from None

from . import _aliases, _waiting
from ._headers import Headers
from ._http import Response, complete_request_type
from ._options import WebSocketHandler
from ._server import Server, serve
from ._states import ReadyState
from ._waiting import Closed, ConnectionClosed

__version__ = "0.1.0"

__all__ = [
    "Closed",
    "ConnectionClosed",
    "Headers",
    "ReadyState",
    "Request",
    "Response",
    "Server",
    "ServerWebSocket",
    "WebSocketHandler",
    "__version__",
    "serve",
]

complete_request_type(Request)
_waiting.install(ServerWebSocket)
_aliases.install(ServerWebSocket, _aliases.SERVER_WEBSOCKET)
_aliases.install(Server, _aliases.SERVER)
_aliases.install(Response, _aliases.RESPONSE)
_aliases.install(Headers, _aliases.HEADERS)


def __dir__() -> list[str]:
    """The public names: what is imported here to build them is not among them."""
    return sorted(__all__)
