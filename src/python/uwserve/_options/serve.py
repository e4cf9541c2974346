"""The options of ``serve()`` and ``reload()``, in one table. A server that exists has valid options."""

from __future__ import annotations

from .._checks import GIB, MIB, boolean, integer, or_none, text, wrong_type
from .._handlers import check_handler, check_lifespan_function, check_request_handler
from .._http.routes import Router
from . import address, limits, own_pages, proxies
from .option import Option, Options
from .tls import check_tls
from .websocket import check_websocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def _routes(label: str, value: object) -> Router:
    if not isinstance(value, dict):
        raise wrong_type(label, "a dict", value)
    return Router(value)


SERVE = Options(
    Option("fetch", or_none(check_request_handler)),
    Option("websocket", or_none(check_websocket)),
    Option("port", address.port, 3000, fixed=True),
    Option("hostname", address.hostname, "0.0.0.0", fixed=True),
    Option("unix", or_none(address.unix_path), fixed=True),
    Option("unix_mode", or_none(address.unix_mode), fixed=True),
    Option("fd", or_none(address.check_fd), fixed=True),
    Option("tls", or_none(check_tls)),
    Option("routes", or_none(_routes)),
    Option("error", or_none(check_handler, "exc")),
    Option("startup", or_none(check_lifespan_function), fixed=True),
    Option("shutdown", or_none(check_lifespan_function), fixed=True),
    Option("idle_timeout", integer(0, 255, "seconds"), 10, help="seconds for HTTP connections, 0 is off"),
    Option(
        "keep_alive_timeout",
        integer(0, 86400, "seconds"),
        75,
        help="seconds for an HTTP connection between two requests",
    ),
    Option(
        "min_body_rate",
        integer(0, GIB, "bytes a second"),
        240,
        help="the least average rate of request bodies, bytes a second",
    ),
    Option("max_request_body_size", integer(0, 4 * GIB - 1, "bytes"), 16 * MIB, help="bytes; larger bodies get 413"),
    Option("reuse_port", boolean, False, fixed=True, help="several processes may listen on one port"),
    Option("ipv6_only", boolean, False, fixed=True, help='"::" does not accept IPv4'),
    Option("trusted_proxies", proxies.trusted_proxies, (), help="networks of trusted proxies, such as 10.0.0.0/8"),
    Option(
        "forwarded_header",
        or_none(proxies.forwarded_header),
        "x-forwarded-for",
        help="the header field with the client's address",
    ),
    Option("proxy_protocol", boolean, False, help="connections from trusted proxies begin with a PROXY header"),
    Option("limits", limits.check_limits, {}, help="limits against abuse, such as max_connections=1000"),
    Option("metrics", or_none(own_pages.check_metrics)),
    Option("dashboard", own_pages.check_dashboard),
    Option("development", boolean, False, help="show tracebacks in answers"),
    Option("id", text, "", help="a name for logs and metrics"),
)

SERVED = ("fetch", "routes", "websocket", "metrics", "dashboard")
"""One of these must be given."""


def serve_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of ``serve()``, checked, with their defaults."""
    checked = SERVE.check("serve()", given)
    for first, others in address.CONFLICTS.items():
        for name in others:
            if checked.get(first) is not None and name in checked:
                raise TypeError(f"serve(): {first} and {name} cannot both be given")
    options = SERVE.defaults() | checked
    proxies.check_together(options)
    address.check_together(options)
    return options


def reload_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``reload()``, checked. ``ValueError`` for an option of the bound socket."""
    for name, spelled in SERVE.spellings("reload()", given).items():
        if SERVE[name].fixed:
            raise ValueError(f"reload() cannot change {spelled}")
    return SERVE.check("reload()", given)


def merged(options: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A server's options after a ``reload()``. ``TypeError`` or ``ValueError`` for options that exclude each other."""
    options = {**options, **changed}
    check_served("reload()", options)
    proxies.check_together(options)
    return options


def check_served(where: str, options: Mapping[str, Any]) -> None:
    """``TypeError`` when every request would get a 404, because nothing could answer it."""
    if all(options[name] is None for name in SERVED):
        raise TypeError(f"{where}: nothing would be served: give {', '.join(SERVED[:-1])} or {SERVED[-1]}")


def core_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for ``ServerControl.configure``, which has all limits, and the proxies' networks as bytes."""
    return {**options, "limits": limits.core_options(options["limits"]), "proxies": proxies.core_options(options)}
