"""Checks of a single value, for options and arguments.

Each returns the value in the form that the core takes, or raises ``TypeError`` (wrong type) or ``ValueError`` (out of
range) with the name of the option, what it must be and what was given.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Check: TypeAlias = "Callable[[str, Any], Any]"


MIB = 1 << 20
GIB = 1 << 30


def wrong_type(label: str, expected: str, value: object) -> TypeError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return TypeError(f"{label} must be {expected}, got {type(value).__name__}: {shown}")


def integer(low: int, high: int, unit: str = "") -> Check:
    """An int (not a bool; ``__index__`` will do) in ``low..high``."""

    def check(label: str, value: object) -> int:
        if isinstance(value, bool) or not hasattr(type(value), "__index__"):
            raise wrong_type(label, "an int", value)
        number = value.__index__()  # type: ignore[attr-defined]
        if not low <= number <= high:
            raise ValueError(f"{label} must be in {low}..{high}{' ' + unit if unit else ''}, got {number}")
        return int(number)

    return check


def or_none(check: Callable[..., Any], *arguments: str) -> Check:
    """``None`` as it is, anything else by ``check(label, value, *arguments)``."""
    return lambda label, value: None if value is None else check(label, value, *arguments)


def boolean(label: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(label, "a bool", value)
    return value


def text(label: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(label, "a str", value)
    return value


def seconds(label: str, value: object) -> float:
    """Seconds, as a finite float of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(label, "a number of seconds", value)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not 0 <= number < float("inf"):
        raise ValueError(f"{label} must be a finite number of seconds, at least 0, got {value!r}")
    return number
