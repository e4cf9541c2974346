"""The option ``metrics`` of ``serve()``: a path among the routes. What is served there is ``uwserve.metrics``' matter,
which is imported when the option is given and not before: it needs the library ``prometheus_client``.
"""

from __future__ import annotations

from ._routes import Router, parse_pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._server import Server


def check_metrics(label: str, value: object) -> str | None:
    """A path without parameters, or ``None``. ``ImportError`` names the extra if the library is missing."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{label} must be a path such as '/metrics' or None, got {type(value).__name__}")
    try:
        _, names = parse_pattern(value)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    if names:
        raise ValueError(f"{label} must be a path without parameters, got {value!r}")
    from . import metrics  # noqa: F401

    return value


def with_metrics(server: Server, routes: Router | None, path: str | None) -> Router | None:
    """``routes`` and the endpoint of the metrics. ``ValueError`` when they have that path already."""
    if path is None:
        return routes
    from . import metrics

    try:
        return (routes or Router({})).plus(path, metrics.endpoint(server))
    except ValueError as error:
        raise ValueError(f"metrics={path!r}: {error}") from None
