"""Range requests (RFC 9110 section 14): the parts of a representation that a client asks for."""

from __future__ import annotations

import re

_RANGES = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*")

# More are not honoured (RFC 9110 section 14.2): no client needs them, and each costs a part's head.
MAX_RANGES = 16
# A number with more digits is longer than any file: int() of a long one takes quadratic time.
_MAX_DIGITS = 19


class Unsatisfiable(Exception):
    """The field is well-formed, and no range of it has a byte of the representation: 416 (RFC 9110 section 15.5.17)."""


def read_ranges(field: str | None, size: int) -> list[tuple[int, int]] | None:
    """Read a ``Range`` field.

    Args:
        field: its value; ``None`` if the request has none.
        size: the length of the representation in bytes.

    Returns:
        Pairs of offset and length in the order of the field, each at least one byte; ``None`` when the field is to be
        ignored: it is malformed, has another unit, or asks for so much that the whole is cheaper. Ranges that overlap
        or touch are one.

    Raises:
        Unsatisfiable: no range has a byte of the representation.
    """
    matched = _RANGES.fullmatch(field) if field is not None and len(field) < 1024 else None
    if matched is None:
        return None
    found: list[tuple[int, int]] = []
    for text in matched[1].split(","):
        if not text.strip(" \t"):
            continue  # an empty element of a list (RFC 9110 section 5.6.1)
        spec = _RANGE.fullmatch(text)
        if spec is None or len(found) >= MAX_RANGES:
            return None
        first, last, suffix = (_number(group) for group in spec.groups())
        if first is not None and last is not None and last < first:
            return None  # malformed (section 14.1.1)
        if suffix is not None:
            first, last = max(0, size - suffix), size - 1 if suffix else -1
        elif last is None:
            last = size - 1
        assert first is not None
        found.append((first, min(last, size - 1) - first + 1))
    if not found:
        return None
    satisfiable = [part for part in found if part[1] > 0]
    if not satisfiable:
        raise Unsatisfiable
    return _merged(satisfiable)


def _number(text: str | None) -> int | None:
    if not text:
        return None
    text = text.lstrip("0") or "0"
    return int(text) if len(text) < _MAX_DIGITS else 10**_MAX_DIGITS


def _merged(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Parts that overlap or touch as one, at the place of the first of them: nobody gets a byte twice."""
    merged: list[tuple[int, int]] = []
    for start, length in parts:
        end = start + length
        place = len(merged)
        for index in reversed(range(len(merged))):
            other_start, other_length = merged[index]
            if other_start <= end and start <= other_start + other_length:
                start, end = min(start, other_start), max(end, other_start + other_length)
                del merged[index]
                place = index
        merged.insert(place, (start, end - start))
    return merged
