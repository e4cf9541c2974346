"""Checks of single option values. Each returns the value in the form the core takes, or raises ``TypeError`` (wrong
type) or ``ValueError`` (out of range) that names the option, what it must be and what it got."""

from __future__ import annotations

from ._headers import is_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    Check: TypeAlias = "Callable[[str, Any], Any]"


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


def payload_length(label: str, value: object) -> int:
    """Bun takes up to 2^32-1. Here all that is kept in memory has less by default, and a message is kept whole."""
    try:
        length: int = integer(0, 1 << 30, "bytes")(label, value)
    except ValueError as error:
        raise ValueError(f"{error}: a message is kept whole in memory, and larger ones have to come in parts") from None
    return length


def boolean(label: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(label, "a bool", value)
    return value


def text(label: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(label, "a str", value)
    return value


def port(label: str, value: object) -> int:
    """An int, or a str of digits as an environment variable holds it, in 0..65535."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{label} must be an int or a str of digits, got {value!r}")
        value = int(value[:20])
    number: int = integer(0, 65535)(label, value)
    return number


def hostname(label: str, value: object) -> str:
    """An address or a name; an IPv6 address may be in brackets, as in a URL (RFC 3986 section 3.2.2)."""
    name = text(label, value)
    if name.startswith("[") and name.endswith("]") and ":" in name:
        name = name[1:-1]
    if not name or not {"\0", "[", "]"}.isdisjoint(name):
        raise ValueError(f"{label} must be an address or a host name, got {value!r}")
    return name


def unix_path(label: str, value: object) -> bytes | None:
    """A socket's path as bytes; a leading NUL makes it an abstract name (unix(7))."""
    if value is None:
        return None
    import os

    if not isinstance(value, (str, bytes, os.PathLike)):
        raise wrong_type(label, "a str, bytes or os.PathLike", value)
    path = os.fsencode(value)
    if not path or path == b"\0":
        raise ValueError(f"{label} must not be empty")
    if b"\0" in path[1:] and not path.startswith(b"\0"):
        raise ValueError(f"{label} must not contain a NUL byte, except a leading one for an abstract name")
    return path


def ws_idle_timeout(label: str, value: object) -> int:
    """0 is off; 1..7 become 8, as in Bun: the timers have a granularity of 4 seconds."""
    seconds: int = integer(0, 960, "seconds")(label, value)
    return 8 if 0 < seconds < 8 else seconds


def subprotocols(label: str, value: object) -> tuple[str, ...] | None:
    """A sequence of distinct tokens (RFC 6455 section 4.1, RFC 7230 section 3.2.6); None: whatever is offered."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__getitem__") or isinstance(value, dict):
        raise wrong_type(label, "a sequence of str", value)
    names: tuple[Any, ...] = tuple(value)  # type: ignore[arg-type]
    for name in names:
        if not isinstance(name, str):
            raise wrong_type(f"each of {label}", "a str", name)
        if not is_token(name):
            raise ValueError(f"{label}: {name!r} is not a valid subprotocol name (RFC 6455 wants a token)")
        if names.count(name) > 1:
            raise ValueError(f"{label}: {name!r} is there twice")
    return names


_DEFLATE_SIZES = ("3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB")
_DEFLATE_NAMES = ("disable", "shared", "dedicated", *_DEFLATE_SIZES)
NO_DEFLATE = ("disable", "disable")


def per_message_deflate(label: str, value: object) -> tuple[str, str]:
    """(compress, decompress), each by name. A direction that a dict leaves out is shared."""
    if value is None or isinstance(value, bool):
        return ("shared", "shared") if value else NO_DEFLATE
    if not isinstance(value, dict):
        raise wrong_type(label, "a bool or a dict", value)
    directions = {"compress": "shared", "decompress": "shared"}
    for name, mode in value.items():
        if name not in directions:
            raise TypeError(f"{label}: unknown option {name!r} (there are 'compress' and 'decompress')")
        directions[name] = _deflate_mode(f"{label}[{name!r}]", mode)
    return directions["compress"], directions["decompress"]


def _deflate_mode(label: str, value: object) -> str:
    if isinstance(value, bool):
        return "shared" if value else "disable"
    if not isinstance(value, str):
        raise wrong_type(label, "a bool or a str", value)
    if value not in _DEFLATE_NAMES:
        raise ValueError(f"{label} must be a bool or one of {', '.join(map(repr, _DEFLATE_NAMES))}, got {value!r}")
    return value


def canonical(
    where: str, given: Mapping[Any, Any], known: Mapping[str, Any], aliases: Mapping[str, str]
) -> dict[str, str]:
    """Our name of each option in ``given`` -> its name as given. Unknown and doubled ones raise ``TypeError``."""
    names: dict[str, str] = {}
    for spelled in given:
        if not isinstance(spelled, str):
            raise TypeError(f"{where}: option names must be str, got {type(spelled).__name__}: {spelled!r}")
        name = aliases.get(spelled, spelled)
        if name not in known:
            raise TypeError(f"{where}: unknown option {spelled!r}{_did_you_mean(spelled, known, aliases)}")
        if name in names:
            raise TypeError(f"{where}: {names[name]!r} and {spelled!r} are the same option")
        names[name] = spelled
    return names


def _did_you_mean(spelled: str, known: Mapping[str, Any], aliases: Mapping[str, str]) -> str:
    import difflib

    close = difflib.get_close_matches(spelled, [*known, *aliases], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
