"""Listening on a descriptor that another process has bound: a parent process, or systemd (socket activation).

The option ``fd`` of ``serve()``: its check, the search for systemd's descriptor (sd_listen_fds(3)), and in which words
a descriptor is refused.
"""

from __future__ import annotations

import errno
import os

from ._addresses import tcp
from ._checks import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._core import ServerCore

FIRST = 3
"""Where systemd's descriptors begin (SD_LISTEN_FDS_START)."""

supply: Callable[[Mapping[str, Any]], list[int]] | None = None
"""Set in a process that ``uwserve serve --reload`` restarts: the descriptors for these options, bound once and kept
open by the parent, so that nobody is refused in between."""

CONFLICTS = ("port", "hostname", "unix", "unix_mode", "reuse_port", "ipv6_only")
"""Options that say where to listen, or how: with a descriptor that is settled."""

_WHY: Mapping[int, str] = {
    errno.EBADF: "is not open",
    errno.ENOTSOCK: "is not a socket",
    errno.ESOCKTNOSUPPORT: "is not a stream socket (SOCK_STREAM)",
    errno.EAFNOSUPPORT: "is neither a TCP nor a unix socket",
    errno.EINVAL: "is a socket that does not listen",
}


def check_fd(label: str, value: object) -> int | None:
    """A descriptor's number; ``"systemd"`` becomes the first that systemd has passed."""
    if value is None:
        return None
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
    return FIRST


def listen(core: ServerCore, fds: list[int]) -> tuple[tuple[tuple[str, int], ...], bytes | None]:
    """Take ``fds`` over; (addresses, None) of TCP sockets, ((), path) of a unix one."""
    fd = fds[0]
    try:
        for fd in fds:
            os.fstat(fd)  # before the core opens descriptors of its own, of which one could get that number
        found = core.listen_fds(fds)
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
        raise OSError(error.errno, f"fd {fd} {why}") from None
    path, port = found[0]
    return tcp(found), path if port < 0 else None
