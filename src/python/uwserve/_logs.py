"""The log records of the logger ``uwserve``.

Every record has four attributes for formatters and filters, ``None`` where they do not apply: ``connection`` (the id
of the WebSocket, ``ws.id``), ``remote_address``, ``method`` and ``path``. Errors carry a traceback. The first error or
warning imports ``logging``. Before that, no logger can have been set to a lower level, so nothing else is logged.

An exception out of a logging handler or filter of the user does not disturb the server: it is logged as an error, and
where that fails, too, it is written to stderr, as ``logging`` does with failures of its own handlers.
"""

from __future__ import annotations

import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._core import Request, ServerCore, ServerWebSocket

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40  # logging's

watchers: list[Callable[[BaseException], None]] = []
"""Called with each exception that is logged, whatever the logger does with it, on the thread that logs it."""

# The core's name of a place -> what a log calls it.
_PLACES = {name: f"websocket.{name}" for name in ("open", "message", "close", "drain", "ping", "pong", "error")} | {
    "stream": "a streamed body",
    "stop": "stopping the server",
    "call_soon": "a function given to call_soon",
    "log": "the log of connections",
}


def _is_wanted(level: int) -> bool:
    """Whether the logger would take a record of ``level``."""
    logging = sys.modules.get("logging")
    if logging is None or getattr(logging.__spec__, "_initializing", False):  # a signal came in the midst of its import
        return False
    return bool(logging.getLogger("uwserve").isEnabledFor(level))


def _about(
    connection: int | None = None, address: str | None = None, method: str | None = None, path: str | None = None
) -> dict[str, int | str | None]:
    return {"connection": connection, "remote_address": address, "method": method, "path": path}


def put(
    level: int,
    text: str,
    *args: object,
    about: dict[str, Any],
    exc: BaseException | None = None,
    logger: str = "uwserve",
) -> None:
    """The one place that logs. Imports ``logging``."""
    import logging

    info = None if exc is None else (type(exc), exc, exc.__traceback__)
    try:
        logging.getLogger(logger).log(level, text, *args, exc_info=info, extra=about, stacklevel=2)
    except Exception as failure:
        if exc is None:
            log_exception("logging", failure)
        elif logging.raiseExceptions and sys.stderr is not None:
            import traceback

            with suppress(OSError, ValueError):  # stderr is closed
                sys.stderr.write(f"--- Logging error ---\n{text % args}\n{traceback.format_exc()}")


# --- errors and warnings ---


def log_exception(where: str, exc: BaseException, ws: ServerWebSocket | None = None) -> None:
    """An exception out of a handler, with its traceback; of ``ws``, if it was a socket's."""
    place = _PLACES.get(where, where)
    if ws is None:
        _error(f"Exception in {place}", exc, _about())
        return
    _error(f"Exception in {place} of {_of(ws)}", exc, _about(ws.id, ws.remote_address))


def request_exception(server: ServerCore[Any], request: Request, exc: BaseException, where: str = "") -> None:
    """An exception out of a handler of ``request``; ``where`` names one that is not the request's own."""
    ip = server.request_ip(request)
    address = ip[0] if ip else None
    what = f"{request.method} {request.path}"
    place = f"{where} for {what}" if where else f"the handler of {what}"
    text = f"Exception in {place} from {address}" if address else f"Exception in {place}"
    _error(text, exc, _about(None, address, request.method, request.path))


def _error(text: str, exc: BaseException, about: dict[str, int | str | None]) -> None:
    put(ERROR, "%s", text, about=about, exc=exc)
    for watcher in tuple(watchers):
        watcher(exc)


def warning(text: str) -> None:
    put(WARNING, "%s", text, about=_about())


def _of(ws: ServerWebSocket) -> str:
    address = ws.remote_address
    return f"connection {ws.id} ({address})" if address else f"connection {ws.id}"


# --- the life of a server: INFO ---


def _info(text: str, *args: object) -> None:
    if _is_wanted(INFO):
        put(INFO, text, *args, about=_about())


def listening(url: str, addresses: tuple[tuple[str, int], ...]) -> None:
    several = f" ({', '.join(host for host, _ in addresses)})" if len(addresses) > 1 else ""
    _info("Listening on %s%s", url, several)


def unknown_protocol(name: str) -> None:
    """Logged once for each server: the client may rely on a subprotocol that the server does not speak."""
    warning(
        f"a client offers the subprotocol {name!r}, and it was selected, as Bun does: clients that offer some do not "
        'connect without. Name those that the server speaks in websocket={"protocols": [...]}; with () it selects none'
    )


def no_upgrades() -> None:
    """A server with handlers of WebSockets, but without a function that could accept one: surely a mistake."""
    warning(
        "websocket is given, but neither fetch nor routes: every request is answered 404, as only "
        "server.upgrade(request) in a handler accepts a WebSocket"
    )


def dashboard_refused(server: ServerCore[Any], request: Request, why: str) -> None:
    if _is_wanted(INFO):
        ip = server.request_ip(request)
        address = ip[0] if ip else None
        about = _about(None, address, request.method, request.path)
        put(INFO, "The dashboard is not shown to %s: %s", address or "a client", why, about=about)


def stopping(url: str, how: str) -> None:
    _info("Stopping %s%s", url, how)


def stopped(url: str) -> None:
    _info("Stopped %s", url)


# --- connections: DEBUG. The core calls `wants_connections` at most once a second, and the others if it is true. ---


def wants_connections() -> bool:
    return _is_wanted(DEBUG)


def opened(ws: ServerWebSocket) -> None:
    if _is_wanted(DEBUG):
        put(DEBUG, "Open: %s", _of(ws), about=_about(ws.id, ws.remote_address))


def closed(ws: ServerWebSocket, code: int, reason: str) -> None:
    if _is_wanted(DEBUG):
        put(DEBUG, "Closed: %s, %d %r", _of(ws), code, reason, about=_about(ws.id, ws.remote_address))
