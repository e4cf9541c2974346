"""Preconditions and ranges: vectors of RFC 9110 sections 13 and 14, and of faults reported of other servers."""

from __future__ import annotations

import time

import pytest

from uwserve import Headers
from uwserve._http.conditions import evaluate, range_applies
from uwserve._http.dates import http_date
from uwserve._http.ranges import MAX_RANGES, Unsatisfiable, read_ranges

MODIFIED = 1_700_000_000.75
AT = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE = "Tue, 14 Nov 2023 22:13:19 GMT"
AFTER = "Tue, 14 Nov 2023 22:13:21 GMT"
TAG = '"v1"'


def test_a_date():
    assert http_date(MODIFIED) == AT


CONDITIONS = [
    # method, fields, entity tag, status
    ("GET", {}, TAG, None),
    ("GET", {"If-None-Match": '"v1"'}, TAG, 304),
    ("HEAD", {"If-None-Match": '"v1"'}, TAG, 304),
    ("GET", {"If-None-Match": '"v2"'}, TAG, None),
    ("GET", {"If-None-Match": "*"}, TAG, 304),
    ("GET", {"If-None-Match": " * "}, TAG, 304),
    ("GET", {"If-None-Match": "*"}, None, 304),
    ("PUT", {"If-None-Match": "*"}, TAG, 412),
    ("GET", {"If-None-Match": 'W/"v1"'}, TAG, 304),  # weak comparison
    ("GET", {"If-None-Match": '"v1"'}, 'W/"v1"', 304),
    ("GET", {"If-None-Match": '"a", W/"b" , "v1"'}, TAG, 304),
    ("GET", {"If-None-Match": '"a","v1"'}, TAG, 304),
    ("GET", {"If-None-Match": '"a,b", "c"'}, '"a,b"', 304),  # a comma in a tag
    ("GET", {"If-None-Match": '"a,b", "c"'}, '"b"', None),
    ("GET", {"If-None-Match": "v1"}, TAG, None),  # no quotes: no tag
    ("GET", {"If-None-Match": '"V1"'}, TAG, None),  # case counts
    ("GET", {"If-None-Match": ""}, TAG, None),
    ("GET", {"If-None-Match": '"v1"'}, None, None),
    ("GET", {"If-None-Match": '"v1'}, TAG, None),
    ("GET", {"If-None-Match": '""'}, '""', 304),
    ("GET", {"If-Modified-Since": AT}, TAG, 304),
    ("GET", {"If-Modified-Since": AFTER}, TAG, 304),
    ("GET", {"If-Modified-Since": BEFORE}, TAG, None),
    ("POST", {"If-Modified-Since": AT}, TAG, None),  # for GET and HEAD only
    ("GET", {"If-Modified-Since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, TAG, 304),  # RFC 850
    ("GET", {"If-Modified-Since": "Tue Nov 14 22:13:20 2023"}, TAG, 304),  # asctime
    ("GET", {"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 +0200"}, TAG, None),  # no HTTP date
    ("GET", {"If-Modified-Since": "yesterday"}, TAG, None),
    ("GET", {"If-Modified-Since": "Tue, 99 Nov 99999999999 22:13:20 GMT"}, TAG, None),
    # If-None-Match decides alone (section 13.1.3)
    ("GET", {"If-None-Match": '"old"', "If-Modified-Since": AFTER}, TAG, None),
    ("GET", {"If-None-Match": '"v1"', "If-Modified-Since": BEFORE}, TAG, 304),
    ("GET", {"If-Match": '"v1"'}, TAG, None),
    ("PUT", {"If-Match": '"v2"'}, TAG, 412),
    ("GET", {"If-Match": "*"}, TAG, None),
    ("GET", {"If-Match": 'W/"v1"'}, TAG, 412),  # strong comparison
    ("GET", {"If-Match": '"v1"'}, 'W/"v1"', 412),
    ("GET", {"If-Match": '"v1"'}, None, 412),
    ("GET", {"If-Match": '"zz"', "If-None-Match": '"v1"'}, TAG, 412),  # If-Match comes first
    ("GET", {"If-Match": '"v1"', "If-None-Match": '"v1"'}, TAG, 304),
    ("GET", {"If-Unmodified-Since": AT}, TAG, None),
    ("GET", {"If-Unmodified-Since": BEFORE}, TAG, 412),
    ("GET", {"If-Unmodified-Since": "nonsense"}, TAG, None),
    ("GET", {"If-Match": '"v1"', "If-Unmodified-Since": BEFORE}, TAG, None),  # If-Match decides alone
]


@pytest.mark.parametrize(("method", "fields", "etag", "status"), CONDITIONS, ids=[str(row[:3]) for row in CONDITIONS])
def test_preconditions(method, fields, etag, status):
    assert evaluate(method, Headers(fields), etag, MODIFIED) == status


def test_dates_of_what_has_none_are_ignored():
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        assert evaluate("GET", Headers({name: BEFORE}), None, None) is None


IF_RANGE = [
    (None, TAG, True),
    ('"v1"', TAG, True),
    ('"v2"', TAG, False),
    ('W/"v1"', 'W/"v1"', False),  # a weak tag does not promise the same bytes
    ('W/"v1"', TAG, False),
    ('"v1"', 'W/"v1"', False),
    ('"v1"', None, False),
    ("*", TAG, False),
    (AT, TAG, True),
    (AT, None, True),
    (AFTER, TAG, False),  # the date must be the same, not later
    (BEFORE, TAG, False),
    ("nonsense", TAG, False),
    ("", TAG, False),
]


@pytest.mark.parametrize(("field", "etag", "applies"), IF_RANGE)
def test_if_range(field, etag, applies):
    headers = Headers() if field is None else Headers({"If-Range": field})
    assert range_applies(headers, etag, MODIFIED) is applies


def test_if_range_with_a_date_of_this_second():
    now = time.time()
    assert not range_applies(Headers({"If-Range": http_date(now)}), None, now)
    assert not range_applies(Headers({"If-Range": http_date(now)}), None, None)


RANGES = [
    # field, size, parts
    (None, 100, None),
    ("bytes=0-0", 100, [(0, 1)]),
    ("bytes=0-99", 100, [(0, 100)]),
    ("bytes=0-", 100, [(0, 100)]),
    ("bytes=10-19", 100, [(10, 10)]),
    ("bytes=90-1000", 100, [(90, 10)]),
    ("bytes=99-", 100, [(99, 1)]),
    ("bytes=-1", 100, [(99, 1)]),
    ("bytes=-100", 100, [(0, 100)]),
    ("bytes=-1000", 100, [(0, 100)]),  # longer than the whole: the whole
    ("BYTES=0-1", 100, [(0, 2)]),
    ("bytes= 0-1 , 5-6 ", 100, [(0, 2), (5, 2)]),
    ("bytes=0-1,,5-6,", 100, [(0, 2), (5, 2)]),
    ("bytes=5-6,0-1", 100, [(5, 2), (0, 2)]),  # the client's order
    ("bytes=0-1,1000-", 100, [(0, 2)]),  # one that has nothing is left out
    ("bytes=0-5,3-9", 100, [(0, 10)]),
    ("bytes=0-4,5-9", 100, [(0, 10)]),  # they touch
    ("bytes=0-4,6-9", 100, [(0, 5), (6, 4)]),
    ("bytes=0-0,50-59,40-70,-1", 100, [(0, 1), (40, 31), (99, 1)]),
    ("bytes=0-1,10-11,0-99", 100, [(0, 100)]),
    ("bytes=00000000000000000000000000000000000000000000000001-2", 100, [(1, 2)]),
    ("bytes=0-99999999999999999999999999999999999999", 100, [(0, 100)]),
    ("bytes=-99999999999999999999999999999999999999", 100, [(0, 100)]),
    ("bytes=0-0", 2**40, [(0, 1)]),
    ("bytes=1099511627775-", 2**40, [(2**40 - 1, 1)]),
    # to be ignored: 200, never 416 (section 14.2)
    ("", 100, None),
    ("bytes", 100, None),
    ("bytes=", 100, None),
    ("bytes=,", 100, None),
    ("bytes=-", 100, None),
    ("bytes=a-b", 100, None),
    ("bytes=0-1x", 100, None),
    ("bytes=0-1;", 100, None),
    ("bytes=0 - 1", 100, None),
    ("bytes=--1", 100, None),
    ("bytes=+1-2", 100, None),
    ("bytes=0x0-1", 100, None),
    ("bytes=1_0-20", 100, None),
    ("bytes=\u0661-\u0662", 100, None),  # digits, but not ASCII's
    ("bytes=5-4", 100, None),
    ("bytes=0-1,5-4", 100, None),
    ("bytes:0-1", 100, None),
    ("bytes =0-1", 100, None),
    ("items=0-1", 100, None),
    ("0-1", 100, None),
    ("bytes=" + ",".join(["0-"] * (MAX_RANGES + 1)), 100, None),
    ("bytes=" + ",".join(f"{i * 2}-{i * 2}" for i in range(MAX_RANGES)), 100, [(i * 2, 1) for i in range(MAX_RANGES)]),
    ("bytes=" + "0-0," * 10_000, 100, None),
    ("bytes=" + "9" * 100_000 + "-", 100, None),
]


@pytest.mark.parametrize(("field", "size", "parts"), RANGES, ids=[repr(row[0])[:50] for row in RANGES])
def test_ranges(field, size, parts):
    assert read_ranges(field, size) == parts


@pytest.mark.parametrize(
    ("field", "size"),
    [
        ("bytes=100-", 100),
        ("bytes=100-200", 100),
        ("bytes=-0", 100),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
        ("bytes=200-,300-400,-0", 100),
        ("bytes=99999999999999999999999999999-", 100),
    ],
)
def test_ranges_without_a_byte(field, size):
    with pytest.raises(Unsatisfiable):
        read_ranges(field, size)


def test_no_byte_is_sent_twice():
    """Whatever is asked for, the parts lie apart, and together hold exactly the bytes that were asked for."""
    import random

    chooser = random.Random(1)
    for _ in range(2000):
        size = chooser.randint(1, 30)
        specs, asked = [], set()
        for _ in range(chooser.randint(1, 6)):
            first, last = sorted((chooser.randint(0, 35), chooser.randint(0, 35)))
            specs.append(f"{first}-{last}")
            asked |= set(range(first, min(last + 1, size)))
        field = "bytes=" + ",".join(specs)
        if not asked:
            with pytest.raises(Unsatisfiable):
                read_ranges(field, size)
            continue
        parts = read_ranges(field, size)
        sent = [byte for start, length in parts for byte in range(start, start + length)]
        assert len(sent) == len(set(sent))
        assert set(sent) == asked
