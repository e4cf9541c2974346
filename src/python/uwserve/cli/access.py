"""``--access-log``: each HTTP request with its status and how long it took, at INFO on the logger ``uwserve.access``.

Methods that note what is asked and answered are put in front of the server's own, on that one object: without the
option nothing is there, and with it a WebSocket's messages still pass untouched.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from .. import _logs

if TYPE_CHECKING:
    from .. import Request, Server
    from .._http.dispatch import App


class AccessLog:
    """The requests that one server has not answered yet. On the loop's thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._begun: dict[int, tuple[Request, float]] = {}  # by id: kept alive, so that it stays that request's
        self._swept = 0
        control = server._control
        server.upgrade = self._noting(server.upgrade, 101)  # type: ignore[method-assign]
        for name in ("respond", "respond_stream", "respond_pushed"):
            setattr(control.core, name, self._noting(getattr(control.core, name), None))
        control.wrap_app = self._wrap
        control.app = self._wrap(control.app)

    def _wrap(self, app: App) -> Any:
        class Noted:
            has_coroutines = app.has_coroutines

            @staticmethod
            def dispatch(request: Request) -> None:
                self._begin(request)
                app.dispatch(request)
                if request.answered:  # without an answer: its client has gone
                    self._begun.pop(id(request), None)

        return Noted

    def _begin(self, request: Request) -> None:
        self._begun[id(request)] = request, time.perf_counter()
        if len(self._begun) > 2 * self._swept + 1000:  # clients that went before a late answer
            self._begun = {key: entry for key, entry in self._begun.items() if not entry[0].answered}
            self._swept = len(self._begun)

    def _noting(self, method: Any, status: int | None) -> Any:
        def noting(request: Request, *arguments: Any, **named: Any) -> Any:
            done = method(request, *arguments, **named)
            entry = self._begun.pop(id(request), None) if done else None
            if entry is not None:
                self._log(request, status or arguments[0], (time.perf_counter() - entry[1]) * 1000)
            return done

        return noting

    def _log(self, request: Request, status: int, ms: float) -> None:
        ip = self._server.request_ip(request)
        about: dict[str, Any] = {"connection": None, "remote_address": ip[0] if ip else None}
        about |= {"method": request.method, "path": request.path, "status": status, "duration_ms": round(ms, 3)}
        # The target is a client's; what could forge a line of the log has no place in one (RFC 9112 section 3.2).
        target = request.target.encode("ascii", "backslashreplace").decode()
        text = '%s "%s %s" %d %.1f ms'
        values = about["remote_address"] or "-", request.method, target, status, ms
        _logs.put(logging.INFO, text, *values, about=about, logger="uwserve.access")
