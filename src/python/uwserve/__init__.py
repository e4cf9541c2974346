"""Bun's server WebSocket API for Python, on uWebSockets.

``serve(...)`` binds a server; ``server.run()`` or ``server.start()`` runs it. See ``serve``, ``Server``,
``ServerWebSocket`` and ``WebSocketHandler``; the types of options and handlers are in ``uwserve.types``.
"""

from __future__ import annotations

try:
    from ._core import Request, ServerWebSocket
except ImportError as error:
    from . import _installation

    raise _installation.without_extension(error, __path__[0]) from None

from . import _bun_names
from ._http.cookies import Cookie, CookieMap
from ._http.headers import Headers
from ._http.request import complete_request_type
from ._http.response import Response
from ._server import Server, serve
from ._websocket.handler import WebSocketHandler
from ._websocket.ready_state import ReadyState
from ._websocket.waiting import Closed, ConnectionClosed, add_waiting

__version__ = "0.1.0"

__all__ = [
    "Closed",
    "ConnectionClosed",
    "Cookie",
    "CookieMap",
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
add_waiting(ServerWebSocket)
_bun_names.install(ServerWebSocket, _bun_names.SERVER_WEBSOCKET)
_bun_names.install(Server, _bun_names.SERVER)
_bun_names.install(Response, _bun_names.RESPONSE)
_bun_names.install(Headers, _bun_names.HEADERS)
_bun_names.install(CookieMap, _bun_names.COOKIE_MAP)


def __dir__() -> list[str]:
    """The public names, without those that this module imports for itself."""
    return sorted(__all__)
