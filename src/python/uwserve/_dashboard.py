"""The option ``dashboard`` of ``serve()``: where a live view of the server is, and who may look at it.

What is served there is the package ``uwserve.dashboard``, imported when the option is given and not before.
"""

from __future__ import annotations

from ._checks import canonical, wrong_type
from ._proxies import trusted_proxies
from ._routes import Router, parse_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._server import Server
    from .dashboard.feed import Feed

PATH = "/_uwserve"
LOCAL = ("127.0.0.0/8", "::1/128")
"""The default of ``allow``: this machine, over TCP. A unix socket usually has a proxy in front."""

_KEYS = {"path": None, "allow": None, "hosts": None}


class Settings:
    """The option, checked: ``path``, the networks in ``allow`` (and ``"unix"``), further names in ``hosts``."""

    __slots__ = ("allow", "hosts", "path")

    def __init__(self, path: str, allow: tuple[str, ...], hosts: tuple[str, ...]) -> None:
        self.path = path
        self.allow = allow
        self.hosts = hosts

    @property
    def stream(self) -> str:
        """The path of the stream that feeds the page."""
        return self.path.rstrip("/") + "/stream"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]


def check_dashboard(label: str, value: object) -> Settings | None:
    """``None`` and False are off, True is the usual path, a str is a path; a dict: ``path``, ``allow``, ``hosts``."""
    if value is None or value is False:
        return None
    if value is True or isinstance(value, str):
        return Settings(_path(label, PATH if value is True else value), LOCAL, ())
    if not isinstance(value, dict):
        raise wrong_type(label, "a bool, a path such as '/_uwserve', or a dict", value)
    given: dict[str, Any] = {name: value[name] for name in canonical(label, value, _KEYS, {})}
    allow = given.get("allow")
    return Settings(
        _path(f"{label}['path']", given.get("path", PATH)),
        LOCAL if allow is None else trusted_proxies(f"{label}['allow']", allow),
        _hosts(f"{label}['hosts']", given.get("hosts", ())),
    )


def _path(label: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(label, "a path such as '/_uwserve'", value)
    try:
        _, names = parse_pattern(value)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    if names or "%" in value:
        raise ValueError(f"{label} must be a path without parameters and escapes, got {value!r}")
    return value


def _hosts(label: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise wrong_type(label, "a list of host names", value)
    for name in value:
        if not isinstance(name, str):
            raise wrong_type(f"each of {label}", "a str", name)
        if not name or not name.isascii() or any(c in name for c in ":/ \t*@"):
            raise ValueError(f"{label}: {name!r} is not a host name without a port")
    return tuple(name.lower() for name in value)


def with_dashboard(
    server: Server, routes: Router | None, settings: Settings | None
) -> tuple[Router | None, Feed | None]:
    """``routes`` with the dashboard's, and what feeds it: the server's, or a new one. ``ValueError``: path taken."""
    if settings is None:
        return routes, None
    from .dashboard import endpoints
    from .dashboard.feed import Feed

    feed = server._feed or Feed(server)
    routes = routes or Router({})
    try:
        for path, endpoint in endpoints(server, feed, settings).items():
            routes = routes.plus(path, endpoint)
    except ValueError as error:
        raise ValueError(f"dashboard={settings.path!r}: {error}") from None
    return routes, feed


def applied(server: Server, feed: Feed | None, same: bool) -> None:
    """The server has new options; unless the dashboard's are the ``same``, its viewers must ask again. Loop thread.

    A server keeps its first feed, which rests while the dashboard is off.
    """
    if server._feed is None:
        if feed is not None:
            server._feed = feed
            server._stopped._when_done(feed.forget)
    elif feed is None or not same:
        server._feed.close()
    if feed is not None:
        feed.handlers_changed()
    elif server._feed is not None:
        server._feed.end()
