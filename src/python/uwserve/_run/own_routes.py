"""The routes of the options ``metrics`` and ``dashboard``, which a server has besides the user's.

The modules that answer there are optional parts, imported when an option asks for them.
"""

from __future__ import annotations

from .._http.routes import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .stopped import Completion


class OwnRoutes:
    """These routes of one server. On the loop's thread."""

    def __init__(self, server: Any, completion: Completion) -> None:
        self._server = server
        self._completion = completion
        self.feed: Any = None  # the dashboard's first ``Feed``, which is kept and rests while the dashboard is off

    def added_to(self, routes: Router | None, options: Mapping[str, Any]) -> tuple[Router | None, Any]:
        """``routes`` and those that ``options`` ask for; the dashboard's feed. ``ValueError``: a path is in use."""
        if options["metrics"] is not None:
            from .. import metrics

            routes = _plus(routes, {options["metrics"]: metrics.endpoint(self._server)}, "metrics", options["metrics"])
        settings = options["dashboard"]
        if settings is None:
            return routes, None
        from .. import dashboard

        feed = self.feed or dashboard.Feed(self._server)
        endpoints = dashboard.endpoints(self._server, feed, settings)
        return _plus(routes, endpoints, "dashboard", settings.path), feed

    def applied(self, feed: Any, is_same: bool) -> None:
        """The server has new options. The dashboard's viewers must connect again unless its settings are the same."""
        if self.feed is None:
            if feed is not None:
                self.feed = feed
                self._completion.when_done(feed.forget)
        elif feed is None or not is_same:
            self.feed.close()
        if feed is not None:
            feed.handlers_changed()
        elif self.feed is not None:
            self.feed.end()


def _plus(routes: Router | None, endpoints: Mapping[str, Any], option: str, value: str) -> Router:
    routes = routes or Router({})
    try:
        for path, endpoint in endpoints.items():
            routes = routes.plus(path, endpoint)
    except ValueError as error:
        raise ValueError(f"{option}={value!r}: {error}") from None
    return routes
