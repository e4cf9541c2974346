"""The options ``dashboard`` and ``metrics``: where the server's own pages are, and which clients may see the dashboard.

The packages that serve these pages, ``uwserve.dashboard`` and ``uwserve.metrics``, are optional parts: they are
imported when an option asks for them.
"""

from __future__ import annotations

from collections import namedtuple

from .._checks import wrong_type
from .._http.routes import parse_pattern
from .option import Option, Options
from .proxies import trusted_proxies

PATH = "/_uwserve"
LOCAL = ("127.0.0.0/8", "::1/128")
"""The default of ``allow``: this machine, over TCP. A unix socket usually has a proxy in front."""


class Settings(namedtuple("Settings", ("path", "allow", "hosts"))):
    """``dashboard``, checked: a path, the networks in ``allow`` (and ``"unix"``), further names in ``hosts``."""

    __slots__ = ()

    @property
    def stream(self) -> str:
        """The path of the stream that feeds the page."""
        return str(self.path.rstrip("/") + "/stream")


def check_dashboard(label: str, value: object) -> Settings | None:
    """``None`` and False are off, True is the usual path, a str is a path; a dict: ``path``, ``allow``, ``hosts``."""
    if value is None or value is False:
        return None
    if value is True or isinstance(value, str):
        return Settings(_path(label, PATH if value is True else value), LOCAL, ())
    if not isinstance(value, dict):
        raise wrong_type(label, "a bool, a path such as '/_uwserve', or a dict", value)
    return Settings(**DASHBOARD.defaults() | DASHBOARD.check(label, value, f"{label}['", "']"))


def _path(label: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(label, "a path such as '/_uwserve'", value)
    if _parameters(label, value) or "%" in value:
        raise ValueError(f"{label} must be a path without parameters and escapes, got {value!r}")
    return value


def _parameters(label: str, path: str) -> tuple[str, ...]:
    try:
        return parse_pattern(path)[1]
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None


def _hosts(label: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise wrong_type(label, "a list of host names", value)
    for name in value:
        if not isinstance(name, str):
            raise wrong_type(f"each of {label}", "a str", name)
        if not name or not name.isascii() or any(c in name for c in ":/ \t*@"):
            raise ValueError(f"{label}: {name!r} is not a host name without a port")
    return tuple(name.lower() for name in value)


def _allow(label: str, value: object) -> tuple[str, ...]:
    return LOCAL if value is None else trusted_proxies(label, value)


DASHBOARD = Options(Option("path", _path, PATH), Option("allow", _allow, LOCAL), Option("hosts", _hosts, ()))


def check_metrics(label: str, value: object) -> str:
    """A path without parameters. ``ImportError`` names the extra if the library is missing."""
    if not isinstance(value, str):
        raise TypeError(f"{label} must be a path such as '/metrics' or None, got {type(value).__name__}")
    if _parameters(label, value):
        raise ValueError(f"{label} must be a path without parameters, got {value!r}")
    from .. import metrics  # noqa: F401

    return value
