"""The router: what matches, with what parameters, and in what order."""

import re
from typing import Any

import pytest

from uwserve import Response
from uwserve._http.routes import Router


def handler(name: str) -> Any:
    def handle(request: Any) -> str:
        return name

    return handle


def find(router: Router, path: str, method: str = "GET") -> Any:
    """(what the handler for the path returns, params), the response of a static route, or None."""
    found = router.match(method, path)
    if found is None:
        return None
    endpoint, params = found
    if endpoint.call is None:
        assert endpoint.response is not None
        return endpoint.response
    return endpoint.call(None), params


def names(*patterns: str) -> Router:
    return Router({pattern: handler(pattern) for pattern in patterns})


@pytest.mark.parametrize(
    ("path", "pattern", "params"),
    [
        ("/", "/", {}),
        ("/users", "/users", {}),
        ("/users/", "/users/", {}),
        ("/users/me", "/users/me", {}),
        ("/users/7", "/users/:id", {"id": "7"}),
        ("/users/me/posts", "/users/:id/posts", {"id": "me"}),
        ("/users/7/posts", "/users/:id/posts", {"id": "7"}),
        ("/users/7/likes/9", "/users/:user/likes/:like", {"user": "7", "like": "9"}),
        ("/users/7/else", "/*", {"*": "users/7/else"}),
        ("/files/", "/files/*", {"*": ""}),
        ("/files/a", "/files/*", {"*": "a"}),
        ("/files/a/b/", "/files/*", {"*": "a/b/"}),
        ("/files", "/*", {"*": "files"}),
        ("/nowhere", "/*", {"*": "nowhere"}),
        ("//", "/*", {"*": "/"}),
    ],
)
def test_precedence(path: str, pattern: str, params: dict[str, str]) -> None:
    users = ("/users", "/users/", "/users/me", "/users/:id", "/users/:id/posts", "/users/:user/likes/:like")
    assert find(names("/*", "/files/*", *users, "/"), path) == (pattern, params)
    assert find(names("/", *reversed(users), "/files/*", "/*"), path) == (pattern, params)


@pytest.mark.parametrize("path", ["/b", "/a/", "/a/b/c", "/A", "", "*", "a", "http://x/a"])
def test_no_match(path: str) -> None:
    assert find(names("/a", "/a/b", "/x/:y"), path) is None


def test_parameters_are_never_empty() -> None:
    router = names("/x/:y", "/:a/:b")
    assert find(router, "/x/") is None
    assert find(router, "//b") is None


def test_the_next_branch_is_tried() -> None:
    router = names("/a/b/c", "/a/:x/d", "/:y/b/*")
    assert find(router, "/a/b/c") == ("/a/b/c", {})
    assert find(router, "/a/b/d") == ("/a/:x/d", {"x": "b"})
    assert find(router, "/a/b/e") == ("/:y/b/*", {"y": "a", "*": "e"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/x/%41", "A"),
        ("/x/a%2Fb", "a/b"),
        ("/x/%c3%A9", "é"),
        ("/x/%25", "%"),
        ("/x/a+b", "a+b"),
        ("/x/%00", "\0"),
        ("/x/:y", ":y"),
        ("/x/*", "*"),
    ],
)
def test_parameters_are_decoded(path: str, value: str) -> None:
    assert find(names("/x/:y"), path) == ("/x/:y", {"y": value})


def test_rest_is_decoded_by_segment() -> None:
    assert find(names("/f/*"), "/f/a%20b/%C3%A9") == ("/f/*", {"*": "a b/é"})


@pytest.mark.parametrize("bad", ["%", "%4", "%zz", "%ff", "a%g0", "%C3", "% 41", "%+1"])
def test_malformed_encoding_is_400(bad: str) -> None:
    router = names("/x/:y", "/f/*", "/exact")
    for path in (f"/x/{bad}", f"/f/a/{bad}"):
        response = find(router, path)
        assert isinstance(response, Response)
        assert response.status == 400
    assert find(router, f"/{bad}") is None


def test_exact_segments_match_decoded() -> None:
    router = names("/café", "/a%20b")
    assert find(router, "/caf%C3%A9") == ("/café", {})
    assert find(router, "/a%20b") == ("/a%20b", {})
    assert find(router, "/%61%20b") == ("/a%20b", {})


class TestMethods:
    router = Router({"/m": {"GET": handler("get"), "POST": handler("post")}, "/p": {"PUT": handler("put")}})

    def test_each(self) -> None:
        assert find(self.router, "/m", "GET") == ("get", {})
        assert find(self.router, "/m", "POST") == ("post", {})
        assert find(self.router, "/p", "PUT") == ("put", {})

    def test_head_is_get(self) -> None:
        assert find(self.router, "/m", "HEAD") == ("get", {})

    @pytest.mark.parametrize(
        ("path", "method", "allow"), [("/m", "DELETE", "GET, HEAD, POST"), ("/p", "GET", "PUT"), ("/p", "HEAD", "PUT")]
    )
    def test_others_are_405(self, path: str, method: str, allow: str) -> None:
        response = find(self.router, path, method)
        assert response.status == 405
        assert response.headers["Allow"] == allow

    def test_own_head(self) -> None:
        router = Router({"/": {"GET": handler("get"), "HEAD": handler("head")}})
        assert find(router, "/", "HEAD") == ("head", {})

    def test_static_by_method(self) -> None:
        router = Router({"/": {"GET": "text", "POST": {"a": 1}}})
        assert find(router, "/").payload == b"text"
        assert find(router, "/", "POST").payload == b'{"a":1}'

    def test_plain_handler_takes_all(self) -> None:
        assert find(names("/a"), "/a", "BREW") == ("/a", {})


@pytest.mark.parametrize(
    ("value", "payload", "kind"),
    [
        ("é", "é".encode(), "text/plain;charset=utf-8"),
        (b"x", b"x", "application/octet-stream"),
        ({"a": 1}, b'{"a":1}', "application/json;charset=utf-8"),
        ({}, b"{}", "application/json;charset=utf-8"),
        ([1], b"[1]", "application/json;charset=utf-8"),
        (Response("x", 404), b"x", "text/plain;charset=utf-8"),
    ],
)
def test_static(value: Any, payload: bytes, kind: str) -> None:
    response = find(Router({"/": value}), "/")
    assert response.payload == payload
    assert response.headers["content-type"] == kind


def test_arity_of_handlers() -> None:
    router = Router({"/one": lambda request: None, "/two": lambda request, server: None})
    for path, both in (("/one", False), ("/two", True)):
        found = router.match("GET", path)
        assert found is not None
        assert found[0].wants_server is both


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", "must start with '/'"),
        ("a", "must start with '/'"),
        ("*", "must start with '/'"),
        ("/a?b", "without"),
        ("/a#b", "without"),
        ("/a//b", "empty segment"),
        ("/*/a", r"'\*' must be the last segment"),
        ("/a*", "segment of its own"),
        ("/:", "is not ':' and a name"),
        ("/:1a", "is not ':' and a name"),
        ("/:a-b", "is not ':' and a name"),
        ("/:a/:a", "two parameters named 'a'"),
        ("/%zz", "malformed percent-encoding"),
    ],
)
def test_bad_patterns(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"route {re.escape(repr(pattern))}.*{text}"):
        names(pattern)


@pytest.mark.parametrize(
    "patterns", [("/a/:x", "/a/:y"), ("/:a/:b/*", "/:c/:d/*"), ("/a%62", "/ab"), ("/:a/x", "/:b/x")]
)
def test_patterns_that_match_the_same(patterns: "tuple[str, str]") -> None:
    with pytest.raises(ValueError, match="match the same paths") as caught:
        names(*patterns)
    for pattern in patterns:
        assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("value", [5, None, True, 1.5, object()])
def test_bad_values(value: Any) -> None:
    with pytest.raises(TypeError, match=f"route '/x' must lead to .*got {type(value).__name__}"):
        Router({"/x": value})


def test_methods_in_lower_case() -> None:
    with pytest.raises(TypeError, match=r"route '/x': neither a dict of methods .* in upper case"):
        Router({"/x": {"get": handler("x")}})


def test_a_static_response_cannot_stream_once() -> None:
    with pytest.raises(ValueError, match="route '/x': a static Response cannot stream"):
        Router({"/x": Response(iter(["a"]))})


def test_pattern_type() -> None:
    with pytest.raises(TypeError, match="a route pattern must be a str, got int"):
        Router({1: "x"})  # type: ignore[dict-item]
