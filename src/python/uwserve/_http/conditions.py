"""Conditional requests (RFC 9110 section 13): whether a client's copy is still good, and whether a method may go on."""

from __future__ import annotations

import re

from .dates import read_http_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .headers import Headers

# RFC 9110 section 8.8.3. Between two tags there may be anything that separates; nothing else makes a list malformed, as
# caches send all kinds.
_ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def evaluate(method: str, headers: Headers, etag: str | None, last_modified: float | None) -> int | None:
    """Evaluate the preconditions of a request, in the order of RFC 9110 section 13.2.2.

    Args:
        method: the request's.
        headers: the request's.
        etag: the entity tag of what would be sent, with its quotes; ``None`` for none.
        last_modified: when it was modified, in seconds since 1970; ``None`` if that is not known.

    Returns:
        304 or 412, to be sent instead; ``None`` when the request is to be answered as if it had no conditions.
    """
    is_read = method in ("GET", "HEAD")
    if_match = headers.get("if-match")
    if if_match is not None:
        if not _matches(if_match, etag, is_strong=True):
            return 412
    elif last_modified is not None:
        since = read_http_date(headers.get("if-unmodified-since"))
        if since is not None and int(last_modified) > since:
            return 412
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None:
        if _matches(if_none_match, etag, is_strong=False):
            return 304 if is_read else 412
    elif is_read and last_modified is not None:
        since = read_http_date(headers.get("if-modified-since"))
        if since is not None and int(last_modified) <= since:
            return 304
    return None


def range_applies(headers: Headers, etag: str | None, last_modified: float | None) -> bool:
    """Whether ``If-Range`` lets a part be sent (RFC 9110 section 13.1.5): it is not there, or names what there is.

    Only a strong entity tag or the exact date does. With a date, ``last_modified`` must be older than a second: a file
    may change twice within one.
    """
    condition = headers.get("if-range")
    if condition is None:
        return True
    condition = condition.strip(" \t")
    if '"' in condition:
        return etag is not None and condition == etag and not etag.startswith("W/")
    moment = read_http_date(condition)
    if moment is None or last_modified is None or int(last_modified) != moment:
        return False
    import time

    return time.time() - last_modified > 1


def _matches(field: str, etag: str | None, *, is_strong: bool) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` field names ``etag``. ``*`` names all that exists."""
    if field.strip(" \t") == "*":
        return True
    if etag is None or (is_strong and etag.startswith("W/")):
        return False
    opaque = etag.removeprefix("W/")[1:-1]
    return any(found[2] == opaque and not (is_strong and found[1]) for found in _ENTITY_TAG.finditer(field))
