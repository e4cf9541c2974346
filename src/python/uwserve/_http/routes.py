"""The router for ``routes={...}``: a tree of path segments.

At each segment an exact name wins over ``:param`` and that over ``*``, as in Bun; when the better branch leads nowhere
the next one is tried. Paths are compared after percent-decoding, segment by segment, so an encoded slash never splits
one. Built and checked whole when a server is made; matching allocates little and never raises.
"""

from __future__ import annotations

from .._handlers import check_request_handler, is_coroutine_function
from .headers import TOKEN_CHARACTERS
from .response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")


class Endpoint:
    """The end of a route: a handler to call, or a response to send."""

    __slots__ = ("call", "response", "wants_server")

    def __init__(self, label: str, value: object) -> None:
        self.call: Callable[..., Any] | None = None
        self.wants_server = False
        self.response: Response | None = None
        if isinstance(value, Response):
            if not value.reusable:
                raise ValueError(f"{label}: a static Response cannot stream from an iterator: it can be sent only once")
            self.response = value
        elif isinstance(value, (str, bytes, bytearray, memoryview)):
            self.response = Response(value)
        elif isinstance(value, (dict, list)):
            try:
                self.response = Response.json(value)
            except TypeError as error:
                raise TypeError(
                    f"{label}: neither a dict of methods (GET, POST, ... in upper case) nor JSON: {error}"
                ) from None
        elif callable(value):
            self.call, self.wants_server = check_request_handler(label, value)
        else:
            raise TypeError(
                f"{label} must lead to a handler, a Response, str, bytes, a list or a dict, got {type(value).__name__}"
            )


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Endpoint:
    return Endpoint("", Response(text, status, headers))


BAD_PATH = _refusal(400, "Bad Request: malformed percent-encoding in the path\n")


class Route:
    """One pattern: its parameter names in order and its endpoint, or one for each method."""

    __slots__ = ("any_method", "by_method", "names", "not_allowed", "pattern")

    def __init__(self, pattern: str, names: tuple[str, ...], value: object) -> None:
        label = f"route {pattern!r}"
        self.pattern = pattern
        self.names = names
        self.any_method: Endpoint | None = None
        self.by_method: dict[str, Endpoint] = {}
        self.not_allowed: Endpoint | None = None
        if isinstance(value, dict) and value and all(key in METHODS for key in value):
            self.by_method = {method: Endpoint(f"{label}, {method}", entry) for method, entry in value.items()}
            if "GET" in self.by_method:
                self.by_method.setdefault("HEAD", self.by_method["GET"])
            allow = ", ".join(method for method in METHODS if method in self.by_method)
            self.not_allowed = _refusal(405, "Method Not Allowed\n", {"Allow": allow})
        else:
            self.any_method = Endpoint(label, value)

    def endpoints(self) -> list[Endpoint]:
        return [*self.by_method.values(), *([self.any_method] if self.any_method else [])]

    def endpoint(self, method: str) -> Endpoint:
        chosen = self.any_method or self.by_method.get(method) or self.not_allowed
        assert chosen is not None
        return chosen


class _Node:
    __slots__ = ("exact", "param", "route", "wildcard")

    def __init__(self) -> None:
        self.exact: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.wildcard: Route | None = None
        self.route: Route | None = None


class Router:
    """All routes of a server. ``match`` answers with an endpoint and the decoded parameters, or ``None``."""

    __slots__ = ("_given", "_plain", "_root", "has_coroutines")

    def __init__(self, routes: Mapping[str, object]) -> None:
        self._given = dict(routes)
        self._root = _Node()
        # Patterns without parameters, by path: the usual request is one lookup.
        self._plain: dict[str, Route] = {}
        self.has_coroutines = False  # whether a handler is a coroutine function
        for pattern, value in routes.items():
            self._add(pattern, value)

    def plus(self, pattern: str, value: object) -> Router:
        """These routes and one more. ``ValueError`` when one of them matches the same paths."""
        if pattern in self._given:
            raise ValueError(f"there is a route {pattern!r} already")
        return Router({**self._given, pattern: value})

    def _add(self, pattern: str, value: object) -> None:
        segments, names = parse_pattern(pattern)
        route = Route(pattern, names, value)
        self.has_coroutines |= any(is_coroutine_function(endpoint.call) for endpoint in route.endpoints())
        node = self._root
        for segment in segments:
            if segment == "*":
                if node.wildcard is not None:
                    raise ValueError(f"routes {node.wildcard.pattern!r} and {pattern!r} match the same paths")
                node.wildcard = route
                return
            if segment.startswith(":"):
                node.param = node.param or _Node()
                node = node.param
            else:
                node = node.exact.setdefault(_decode(segment) or segment, _Node())
        if node.route is not None:
            raise ValueError(f"routes {node.route.pattern!r} and {pattern!r} match the same paths")
        node.route = route
        if not names:
            self._plain[pattern] = route

    def match(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint for a still encoded ``path``, with ``params``; 400 and 405 are endpoints too."""
        route = self._plain.get(path)
        if route is not None:
            return route.endpoint(method), {}
        if not path.startswith("/"):  # "*" of OPTIONS
            return None
        encoded = path[1:].split("/")
        segments = [_decode(segment) for segment in encoded] if "%" in path else list(encoded)
        values: list[str | None] = []
        route = _walk(self._root, segments, 0, values)
        if route is None:
            return None
        if None in values:
            return BAD_PATH, {}
        return route.endpoint(method), dict(zip(route.names, values, strict=True))  # type: ignore[arg-type]


def _walk(node: _Node, segments: list[Any], index: int, values: list[str | None]) -> Route | None:
    if index == len(segments):
        return node.route
    segment: str | None = segments[index]  # None: its percent-encoding is malformed
    if segment is not None:
        child = node.exact.get(segment)
        if child is not None:
            found = _walk(child, segments, index + 1, values)
            if found is not None:
                return found
    if node.param is not None and segment != "":
        values.append(segment)
        found = _walk(node.param, segments, index + 1, values)
        if found is not None:
            return found
        values.pop()
    if node.wildcard is not None:
        rest = segments[index:]
        values.append(None if None in rest else "/".join(rest))
        return node.wildcard
    return None


def parse_pattern(pattern: object) -> tuple[list[str], tuple[str, ...]]:
    """The segments of a route pattern and the names of its parameters. Errors name the pattern."""
    if not isinstance(pattern, str):
        raise TypeError(f"a route pattern must be a str, got {type(pattern).__name__}")
    if not pattern.startswith("/"):
        raise ValueError(f"route {pattern!r} must start with '/'")
    if "?" in pattern or "#" in pattern:
        raise ValueError(f"route {pattern!r} must be a path, without '?' or '#'")
    segments = pattern[1:].split("/")
    names: list[str] = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "" and not last:
            raise ValueError(f"route {pattern!r} has an empty segment")
        if segment == "*":
            if not last:
                raise ValueError(f"route {pattern!r}: '*' must be the last segment")
            names.append("*")
        elif "*" in segment:
            raise ValueError(f"route {pattern!r}: '*' must be a segment of its own")
        elif segment.startswith(":"):
            name = segment[1:]
            if not name.isidentifier() or not TOKEN_CHARACTERS.issuperset(name):
                raise ValueError(f"route {pattern!r}: {segment!r} is not ':' and a name")
            if name in names:
                raise ValueError(f"route {pattern!r} has two parameters named {name!r}")
            names.append(name)
        elif _decode(segment) is None:
            raise ValueError(f"route {pattern!r} has malformed percent-encoding")
    return segments, tuple(names)


_HEX = frozenset("0123456789abcdefABCDEF")


def _decode(segment: str) -> str | None:
    """Percent-decode one segment as UTF-8 (RFC 3986 section 2.1); ``None`` when it is malformed."""
    if "%" not in segment:
        return segment
    head, *rest = segment.split("%")
    try:
        decoded = bytearray(head.encode())
        for part in rest:
            if len(part) < 2 or part[0] not in _HEX or part[1] not in _HEX:
                return None
            decoded.append(int(part[:2], 16))
            decoded += part[2:].encode()
        return decoded.decode()
    except UnicodeError:
        return None
