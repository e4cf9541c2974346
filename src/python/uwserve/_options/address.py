"""The options that say where a server listens: ``port``, ``hostname``, ``unix``, ``unix_mode`` and ``fd``.

``fd`` is a listening descriptor that another process has bound: a parent process, or systemd (socket activation,
sd_listen_fds(3)).
"""

from __future__ import annotations

import os

from .._checks import integer, text, wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIRST_OF_SYSTEMD = 3
"""Where systemd's descriptors begin (SD_LISTEN_FDS_START)."""

CONFLICTS = {
    "unix": ("port", "hostname"),
    "fd": ("port", "hostname", "unix", "unix_mode", "reuse_port", "ipv6_only"),
}
"""Options that leave nothing to say for others."""


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


def unix_path(label: str, value: object) -> bytes:
    """A socket's path as bytes; a leading NUL makes it an abstract name (unix(7))."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise wrong_type(label, "a str, bytes or os.PathLike", value)
    path = os.fsencode(value)
    if not path or path == b"\0":
        raise ValueError(f"{label} must not be empty")
    if b"\0" in path[1:] and not path.startswith(b"\0"):
        raise ValueError(f"{label} must not contain a NUL byte, except a leading one for an abstract name")
    return path


def unix_mode(label: str, value: object) -> int:
    """Permission bits (chmod(2)) with which a client can connect, which requires write permission."""
    mode: int = integer(0, 0xFFFFFFFF)(label, value)
    if mode > 0o777:
        octal = f", not {value} (octal: 0o{value})" if set(str(value)) <= set("01234567") else f", got {mode:#o}"
        raise ValueError(f"{label} must be permission bits of at most 0o777{octal}")
    if not mode & 0o222:
        raise ValueError(f"{label} must let somebody write, as to connect takes that (0o660, say), got {mode:#o}")
    return mode


def check_fd(label: str, value: object) -> int:
    """A descriptor's number; ``"systemd"`` is the first descriptor that systemd has passed."""
    if isinstance(value, str):
        if value != "systemd":
            raise ValueError(f"{label} must be a descriptor's number or 'systemd', got {value!r}")
        return _systemd(label)
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise wrong_type(label, "an int or 'systemd'", value)
    number: int = value.__index__()  # type: ignore[attr-defined]
    if not 0 <= number < 1 << 31:
        raise ValueError(f"{label} must be in 0..{(1 << 31) - 1}, got {number}")
    return number


def _systemd(label: str) -> int:
    where = f"{label}='systemd': systemd has passed no socket to this process"
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        text = os.environ.get(name)
        if text is None:
            raise ValueError(f"{where}: {name} is not set")
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{where}: {name} is {text!r}, not a number")
    if int(os.environ["LISTEN_PID"]) != os.getpid():
        raise ValueError(f"{where}: LISTEN_PID is {os.environ['LISTEN_PID']}, and this process is {os.getpid()}")
    if int(os.environ["LISTEN_FDS"]) < 1:
        raise ValueError(f"{where}: LISTEN_FDS is {os.environ['LISTEN_FDS']}")
    return FIRST_OF_SYSTEMD


def check_together(options: Mapping[str, Any]) -> None:
    """``ValueError`` for ``unix_mode`` without a path whose permissions it could set."""
    if options["unix_mode"] is None:
        return
    if options["unix"] is None:
        raise ValueError("unix_mode needs unix, the path whose permissions it sets")
    if options["unix"].startswith(b"\0"):
        raise ValueError("unix_mode needs a path: an abstract name has no permissions")
