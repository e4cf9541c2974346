"""HTTP dates (RFC 9110 section 5.6.7), independent of the locale."""

from __future__ import annotations


def http_date(moment: float) -> str:
    """Seconds since 1970 as an HTTP date; fractions are dropped."""
    from email.utils import formatdate

    return formatdate(moment // 1, usegmt=True)


def read_http_date(field: str | None) -> int | None:
    """An HTTP date in any of its three forms, in seconds since 1970; ``None`` for all else."""
    if field is None:
        return None
    import re
    from calendar import timegm
    from email.utils import parsedate

    # Two forms end with GMT; asctime's has no zone. email.utils takes more forms, and ignores a zone.
    form = r"\s*(?:[A-Z][a-z]+, .* GMT|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4})\s*"
    parsed = parsedate(field) if re.fullmatch(form, field) else None
    try:
        return timegm(parsed) if parsed else None
    except (OverflowError, ValueError):
        return None
