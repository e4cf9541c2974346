"""Headers, Response and the request's ready awaitables, without a server."""

import array
from typing import Any

import pytest

from uwserve import Headers, Response
from uwserve._http.request import Ready


class TestHeaders:
    def test_case_order_and_many_values(self) -> None:
        headers = Headers([("Accept", "a"), ("X-One", "1"), ("accept", "b")])
        assert headers.get("ACCEPT") == "a, b"
        assert headers["accept"] == "a, b"
        assert headers.get_list("Accept") == ["a", "b"]
        assert headers.items() == [("Accept", "a"), ("X-One", "1"), ("accept", "b")]
        assert list(headers) == headers.keys() == ["Accept", "X-One"]
        assert headers.values() == ["a", "1", "b"]
        assert len(headers) == 2
        assert "x-one" in headers
        assert "x-two" not in headers
        assert 5 not in headers

    def test_missing(self) -> None:
        headers = Headers()
        assert headers.get("a") is None
        assert headers.get("a", "none") == "none"
        assert headers.get_list("a") == []
        assert len(headers) == 0
        with pytest.raises(KeyError, match="a"):
            headers["a"]
        with pytest.raises(KeyError, match="a"):
            del headers["a"]

    @pytest.mark.parametrize(
        "init",
        [{"A": "1", "B": "2"}, [("A", "1"), ("B", "2")], (["A", "1"], ["B", "2"]), Headers({"A": "1", "B": "2"})],
    )
    def test_made_from(self, init: Any) -> None:
        assert Headers(init).items() == [("A", "1"), ("B", "2")]

    def test_a_copy_is_its_own(self) -> None:
        first = Headers({"A": "1"})
        second = Headers(first)
        second["B"] = "2"
        assert first.keys() == ["A"]
        assert dict(second) == {"A": "1", "B": "2"}

    def test_changes(self) -> None:
        headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
        headers.set("a", "4")
        assert headers.items() == [("a", "4"), ("B", "2")]
        headers["C"] = "5"
        headers.append("c", "6")
        assert headers.get_list("C") == ["5", "6"]
        headers.delete("C")
        headers.delete("C")
        del headers["b"]
        assert headers.items() == [("a", "4")]

    def test_cookies_stay_apart(self) -> None:
        headers = Headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2, c")])
        assert headers.get_set_cookie() == ["a=1", "b=2, c"]

    def test_equality(self) -> None:
        assert Headers({"A": "1"}) == Headers({"a": "1"})
        assert Headers({"A": "1"}) != Headers({"a": "2"})
        assert Headers() != {}
        with pytest.raises(TypeError):
            hash(Headers())

    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "é", "a\0", "(a)", "a/b"])
    def test_bad_names(self, name: str) -> None:
        for call in (
            lambda: Headers({name: "x"}),
            lambda: Headers().set(name, "x"),
            lambda: Headers().append(name, "x"),
        ):
            with pytest.raises(ValueError, match="invalid header name"):
                call()

    @pytest.mark.parametrize("value", ["a\r", "a\nb", "a\0", "\n", "a\r\nSet-Cookie: b"])
    def test_no_header_is_smuggled_in(self, value: str) -> None:
        with pytest.raises(ValueError, match="header 'a' contains CR, LF or NUL"):
            Headers({"a": value})

    def test_values(self) -> None:
        headers = Headers({"a": " \tx y\t ", "b": "", "c": "é\xff"})
        assert headers.values() == ["x y", "", "é\xff"]
        with pytest.raises(ValueError, match="header 'a' has a character outside latin-1"):
            Headers({"a": "€"})

    def test_wrong_types(self) -> None:
        with pytest.raises(TypeError, match="header name must be a str, got bytes"):
            Headers({b"a": "x"})  # type: ignore[dict-item]
        with pytest.raises(TypeError, match="value of header 'a' must be a str, got int"):
            Headers({"a": 1})  # type: ignore[dict-item]
        with pytest.raises(TypeError, match=r"pairs \(name, value\), got 'ab'"):
            Headers(["ab"])  # type: ignore[list-item]
        for wrong in ("a: b", b"a", 5):
            with pytest.raises(TypeError, match=f"must be a dict, pairs or Headers, got {type(wrong).__name__}"):
                Headers(wrong)  # type: ignore[arg-type]


class TestResponse:
    def test_empty(self) -> None:
        response = Response()
        assert (response.status, response.payload, response.streamed) == (200, None, False)
        assert response.headers.items() == []

    @pytest.mark.parametrize(
        ("body", "payload", "kind"),
        [
            ("é", "é".encode(), "text/plain;charset=utf-8"),
            ("", b"", "text/plain;charset=utf-8"),
            (b"\0\1", b"\0\1", "application/octet-stream"),
            (bytearray(b"x"), b"x", "application/octet-stream"),
            (memoryview(b"xyz")[1:], b"yz", "application/octet-stream"),
            (array.array("B", [1, 2]), b"\1\2", "application/octet-stream"),
        ],
    )
    def test_complete_bodies(self, body: Any, payload: bytes, kind: str) -> None:
        response = Response(body)
        assert response.payload == payload
        assert type(response.payload) is bytes
        assert response.headers.items() == [("Content-Type", kind)]

    def test_own_content_type_is_kept(self) -> None:
        assert Response("<p>", headers={"content-type": "text/html"}).headers.items() == [("content-type", "text/html")]
        assert Response.json(1, headers={"CONTENT-TYPE": "x/y"}).headers.get_list("content-type") == ["x/y"]

    def test_given_headers_are_not_changed(self) -> None:
        headers = Headers({"A": "1"})
        Response("x", headers=headers)
        assert headers.keys() == ["A"]

    def test_json(self) -> None:
        response = Response.json({"é": [1, None]}, 201)
        assert response.payload == '{"é":[1,null]}'.encode()
        assert response.status == 201
        assert response.headers["content-type"] == "application/json;charset=utf-8"
        with pytest.raises(TypeError, match="not JSON serializable"):
            Response.json({1, 2})
        with pytest.raises(ValueError, match="JSON compliant"):
            Response.json(float("nan"))

    def test_redirect(self) -> None:
        response = Response.redirect("/ü?a=b%20c")
        assert (response.status, response.headers["Location"]) == (302, "/%C3%BC?a=b%20c")
        assert Response.redirect("/", 308).status == 308
        for status in (200, 300, 304, 404):
            with pytest.raises(ValueError, match="redirect's status"):
                Response.redirect("/", status)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            Response.redirect("/\r\nSet-Cookie: a=b")
        with pytest.raises(TypeError, match="url must be a str, got bytes"):
            Response.redirect(b"/")  # type: ignore[arg-type]

    @pytest.mark.parametrize("status", [200, 299, 404, 599])
    def test_statuses(self, status: int) -> None:
        assert Response(status=status).status == status

    @pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000])
    def test_bad_statuses(self, status: int) -> None:
        with pytest.raises(ValueError, match=f"status .*{status}"):
            Response(status=status)

    @pytest.mark.parametrize("status", [True, 200.0, "200", None, [200]])
    def test_statuses_of_wrong_type(self, status: Any) -> None:
        with pytest.raises(TypeError, match=f"status must be an int, got {type(status).__name__}"):
            Response("x", status)

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_statuses_without_body(self, status: int) -> None:
        for body in (None, "", "x", iter(["x"])):
            assert Response(body, status).headers.items() == []

    @pytest.mark.parametrize("body", [5, 1.5, object(), True, {"a": 1}])
    def test_bodies_of_wrong_type(self, body: Any) -> None:
        with pytest.raises(TypeError, match="a Response body"):
            Response(body)

    def test_an_iterable_streams_each_time(self) -> None:
        response = Response(["a", b"b"])
        assert response.streamed
        assert response.reusable
        assert list(response.stream()) == list(response.stream()) == ["a", b"b"]
        assert "content-type" not in response.headers

    def test_an_iterator_streams_once(self) -> None:
        response = Response(iter(["a"]))
        assert not response.reusable
        assert list(response.stream()) == ["a"]
        with pytest.raises(RuntimeError, match="has been sent already"):
            response.stream()

    def test_abandoned_streams_are_closed(self) -> None:
        class Stream:
            closed = False

            def __iter__(self) -> "Stream":
                return self

            def __next__(self) -> bytes:
                raise StopIteration

            def close(self) -> None:
                self.closed = True

        stream = Stream()
        Response(stream).abandon()
        assert stream.closed
        Response("x").abandon()
        Response(["x"]).abandon()


def test_ready_completes_at_once() -> None:
    async def use() -> Any:
        return await Ready(5)

    coroutine = use()
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == 5
