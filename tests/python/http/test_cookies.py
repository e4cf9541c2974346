"""``Cookie`` and ``CookieMap``: what is read of a client's field, and what is written for it (RFC 6265bis)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest

from uwserve import Cookie, CookieMap

# Fields that people report trouble with, and what a server must see in them.
FIELDS = [
    ("a=1; b=2", {"a": "1", "b": "2"}),
    ("a=1;b=2", {"a": "1", "b": "2"}),
    ("a=1;  b=2 ;\tc=3\t", {"a": "1", "b": "2", "c": "3"}),
    ("", {}),
    (";;; ;", {}),
    ("a", {}),  # no "=": nothing that has a name
    ("a; b=2", {"b": "2"}),
    ("=x; b=2", {"b": "2"}),
    ("a=; b=2", {"a": "", "b": "2"}),
    ("a=b=c==", {"a": "b=c=="}),  # base64
    ("a=1; a=2", {"a": "1"}),  # the longer path comes first (RFC 6265 section 5.4)
    ('a="1 2"', {"a": "1 2"}),
    ('a="', {"a": '"'}),
    ('a="1; b=2', {"a": '"1', "b": "2"}),
    ('j={"k":"v"}', {"j": '{"k":"v"}'}),  # JSON: SimpleCookie loses it and what follows
    ("a=1, 2; b=3", {"a": "1, 2", "b": "3"}),
    ("a[b]=1; c:d=2; e/f=3", {"a[b]": "1", "c:d": "2", "e/f": "3"}),
    ("a=%E2%82%AC", {"a": "€"}),
    ("a=%3B%3D%20x; b=2", {"a": ";= x", "b": "2"}),  # decoded after the pairs are found
    ("a=%", {"a": "%"}),
    ("a=%zz; b=1", {"a": "%zz", "b": "1"}),
    ("a=%ff; b=1", {"a": "%ff", "b": "1"}),  # no UTF-8: as it is
    ("a=%00", {"a": "\0"}),
    ("a=\xe2\x82\xac", {"a": "€"}),  # raw UTF-8, as a field is decoded
    ("a=\xff", {"a": "\xff"}),
    ("a=1; $Version=1; Path=/x", {"a": "1", "$Version": "1", "Path": "/x"}),
    ("A=1; a=2", {"A": "1", "a": "2"}),
    ("__proto__=1; constructor=2", {"__proto__": "1", "constructor": "2"}),
]


@pytest.mark.parametrize(("field", "expected"), FIELDS, ids=[repr(field) for field, _ in FIELDS])
def test_a_field_is_read(field, expected):
    cookies = CookieMap(field)
    assert dict(cookies.items()) == expected
    assert len(cookies) == cookies.size == len(expected)
    assert cookies.to_set_cookie_headers() == []  # reading changes nothing


def test_many_pairs_take_linear_time():
    cookies = CookieMap(";".join(f"c{number}=v" for number in range(100_000)) + "=" * 100_000)
    assert len(cookies) == 100_000


def test_it_is_a_map():
    cookies = CookieMap({"a": "1"})
    assert cookies["a"] == cookies.get("a") == "1"
    assert "a" in cookies and cookies.has("a")
    assert "b" not in cookies and not cookies.has("b")
    assert cookies.get("b") is None
    assert cookies.get("b", "x") == "x"
    with pytest.raises(KeyError, match="b"):
        cookies["b"]
    assert list(cookies) == list(cookies.keys()) == ["a"]
    assert list(cookies.values()) == ["1"]
    assert cookies.to_json() == {"a": "1"}
    assert dict(CookieMap([("a", "1"), ("b", "2")])) == {"a": "1", "b": "2"}
    cookies.to_json()["c"] = "3"
    assert "c" not in cookies


SERIALIZED = [
    (("id", "1"), {}, "id=1; Path=/; SameSite=Lax"),
    (("id", "1"), {"path": ""}, "id=1; SameSite=Lax"),
    (("id", 'a b;c,d"e\\f%€\r\n'), {}, "id=a%20b%3Bc%2Cd%22e%5Cf%25%E2%82%AC%0D%0A; Path=/; SameSite=Lax"),
    (("id", "a=b&c/d:e+f"), {}, "id=a=b&c/d:e+f; Path=/; SameSite=Lax"),
    (
        ("id", "1"),
        {
            "domain": "example.com",
            "path": "/app",
            "expires": 0,
            "max_age": 60,
            "secure": True,
            "http_only": True,
            "partitioned": True,
            "same_site": "none",
        },
        "id=1; Domain=example.com; Path=/app; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60; Secure; HttpOnly; "
        "Partitioned; SameSite=None",
    ),
    (("__Host-id", "1"), {"secure": True}, "__Host-id=1; Path=/; Secure; SameSite=Lax"),
    (
        ("id", "1"),
        {"expires": datetime(2030, 5, 6, 9, 8, 7, 999, tzinfo=timezone(timedelta(hours=2)))},
        "id=1; Path=/; Expires=Mon, 06 May 2030 07:08:07 GMT; SameSite=Lax",
    ),
]


@pytest.mark.parametrize(("given", "attributes", "expected"), SERIALIZED, ids=[row[2][:40] for row in SERIALIZED])
def test_a_cookie_is_written(given, attributes, expected):
    cookie = Cookie(*given, **attributes)
    assert cookie.serialize() == str(cookie) == expected
    cookies = CookieMap()
    cookies.set(*given, **attributes)
    assert cookies.to_set_cookie_headers() == [expected]
    assert CookieMap(expected.partition(";")[0])[given[0]] == given[1]  # what the client sends back


REFUSED = [
    (("", "x"), {}, ValueError, "cookie name"),
    (("a b", "x"), {}, ValueError, "'a b'"),
    (("a;b", "x"), {}, ValueError, "'a;b'"),
    (("a=b", "x"), {}, ValueError, "'a=b'"),
    (("a\r\n", "x"), {}, ValueError, "cookie name"),
    (("ä", "x"), {}, ValueError, "'ä'"),
    ((1, "x"), {}, TypeError, "cookie name must be a str, got int"),
    (("a", 1), {}, TypeError, "value of a cookie must be a str, got int"),
    (("a", None), {}, TypeError, "value of a cookie must be a str, got NoneType"),
    (("a", "x"), {"path": "app"}, ValueError, "must begin with '/'"),
    (("a", "x"), {"path": "/a;b"}, ValueError, "path of a cookie"),
    (("a", "x"), {"path": "/a\r\nSet-Cookie: b=1"}, ValueError, "path of a cookie"),
    (("a", "x"), {"path": "/" + 1024 * "x"}, ValueError, "1024 characters, this has 1025"),
    (("a", "x"), {"domain": "e;x"}, ValueError, "domain of a cookie"),
    (("a", "x"), {"domain": 5}, TypeError, "domain of a cookie must be a str, got int"),
    (("a", "x"), {"same_site": "Lax"}, ValueError, "same_site"),
    (("a", "x"), {"same_site": "none"}, ValueError, "must be secure"),
    (("a", "x"), {"partitioned": True}, ValueError, "must be secure"),
    (("__Host-a", "x"), {}, ValueError, "must be secure"),
    (("__host-a", "x"), {"secure": True, "path": "/x"}, ValueError, "path '/' and no domain"),
    (("__Host-a", "x"), {"secure": True, "domain": "x.y"}, ValueError, "path '/' and no domain"),
    (("__Http-a", "x"), {"secure": True}, ValueError, "must be http_only"),
    (("__Host-Http-a", "x"), {"secure": True}, ValueError, "must be http_only"),
    (("a", "x"), {"max_age": 1.5}, TypeError, "max_age of a cookie must be an int or None, got float"),
    (("a", "x"), {"max_age": True}, TypeError, "max_age"),
    (("a", "x"), {"expires": "tomorrow"}, TypeError, "expires of a cookie must be a datetime"),
    (("a", "x"), {"expires": datetime(2030, 1, 1)}, ValueError, "time zone"),
    (("a", "x"), {"expires": 1e30}, ValueError, "out of range"),
    (("a", "x"), {"expires": float("nan")}, ValueError, "out of range"),
    (("a", "x"), {"secure": 1}, TypeError, "secure of a cookie must be a bool, got int"),
    (("a", 4096 * "x"), {}, ValueError, "has 4097 bytes"),
    (("a", 1400 * "€"), {}, ValueError, "browsers take 4096"),
]


@pytest.mark.parametrize(("given", "attributes", "kind", "text"), REFUSED, ids=[str(row[:2])[:60] for row in REFUSED])
def test_a_cookie_that_browsers_refuse_is_an_error(given, attributes, kind, text):
    with pytest.raises(kind, match=text):
        Cookie(*given, **attributes)
    cookies = CookieMap("a=old")
    with pytest.raises(kind, match=text):
        cookies.set(*given, **attributes)
    assert cookies.to_json() == {"a": "old"}
    assert cookies.to_set_cookie_headers() == []


def test_the_last_change_of_a_cookie_counts():
    cookies = CookieMap("a=0")
    cookies.set("a", "1")
    cookies.set("b", "2")
    cookies.set("a", "3")
    cookies.set("a", "4", path="/other")  # another cookie
    assert [line.partition(";")[0] for line in cookies.to_set_cookie_headers()] == ["b=2", "a=3", "a=4"]
    assert cookies["a"] == "4"


def test_deleting():
    cookies = CookieMap("a=1; b=2; __Host-c=3; __Http-d=4")
    cookies.delete("a")
    cookies.delete("b", {"path": "/x", "domain": "example.com"})
    cookies.delete("__Host-c")
    cookies.delete("__Http-d")
    cookies.delete("never")
    assert dict(cookies) == {}
    lines = cookies.to_set_cookie_headers()
    assert [line.partition(";")[0] for line in lines] == ["a=", "b=", "__Host-c=", "__Http-d=", "never="]
    assert all("Max-Age=0" in line and "Expires=Thu, 01 Jan 1970" in line for line in lines)
    assert "Path=/x" in lines[1] and "Domain=example.com" in lines[1]
    assert "Secure" in lines[2] and "HttpOnly" in lines[3]  # else browsers would keep them
    cookies.set("a", "new")
    assert cookies["a"] == "new"
    assert len(cookies.to_set_cookie_headers()) == 5


def test_buns_spellings():
    cookies = CookieMap()
    cookies.set("a", "1", {"httpOnly": True, "maxAge": 60, "sameSite": "strict"})
    assert cookies.toSetCookieHeaders() == ["a=1; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"]
    assert cookies.toJSON() == {"a": "1"}
    with pytest.raises(TypeError, match=r"unknown option 'maxage' \(there are domain, path"):
        cookies.set("a", "1", {"maxage": 5})
    with pytest.raises(TypeError, match="unknown option 'secure'"):
        cookies.delete("a", {"secure": True})
    with pytest.raises(TypeError, match="options must be a dict, got str"):
        cookies.set("a", "1", "x")


def test_a_cookie_object():
    cookie = Cookie("a", "1", max_age=5)
    cookies = CookieMap()
    cookies.set(cookie)
    assert cookies["a"] == "1"
    with pytest.raises(TypeError, match="a Cookie alone"):
        cookies.set(cookie, "2")
    with pytest.raises(AttributeError, match="immutable"):
        cookie.value = "2"
    with pytest.raises(AttributeError, match="immutable"):
        del cookie.value
    assert cookie == Cookie("a", "1", max_age=5) != Cookie("a", "1")
    assert cookie != "a=1"
    assert len({cookie, Cookie("a", "1", max_age=5)}) == 1
    assert repr(cookie) == "<Cookie a=1; Path=/; Max-Age=5; SameSite=Lax>"


def test_expiry():
    now = datetime.now(timezone.utc)
    assert not Cookie("a", "").is_expired()
    assert Cookie("a", "", max_age=0).is_expired()
    assert Cookie("a", "", max_age=-1).is_expired()
    assert not Cookie("a", "", max_age=1, expires=1).is_expired()  # max_age counts more
    assert Cookie("a", "", expires=now - timedelta(seconds=1)).is_expired()
    assert not Cookie("a", "", expires=now + timedelta(days=1)).is_expired()
    cookies = CookieMap("a=1")
    cookies.set("a", "x", max_age=0)
    assert "a" not in cookies
    text = Cookie("a", "", expires=now).serialize()
    assert parsedate_to_datetime(text.split("Expires=")[1].split(";")[0]) == now.replace(microsecond=0)


@pytest.mark.parametrize("init", [5, b"a=1", [("a",)], [1], {"a": 1}, [(1, "a")]], ids=repr)
def test_what_no_cookies_can_be_made_of(init):
    with pytest.raises(TypeError):
        CookieMap(init)
