"""Where a server listens: the addresses of a host name, and the options ``unix_mode`` and ``hostname`` together.

A name means every address that it resolves to, of both families: clients that try ``::1`` first, and clients that know
only ``127.0.0.1``, both reach a server on ``localhost``.
"""

from __future__ import annotations

from ._checks import integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ._core import ServerCore

_NUMERIC = frozenset("0123456789.")


def resolve(hostname: str, ipv6_only: bool) -> list[str]:
    """The numeric addresses of a name, each once, in the resolver's order; an address is itself. ``gaierror``."""
    if ":" in hostname or _NUMERIC.issuperset(hostname):
        return [hostname]
    import socket

    family = socket.AF_INET6 if ipv6_only else socket.AF_UNSPEC
    name = hostname.encode()  # bytes go to the resolver as they are: Python's own IDNA knows errors of its own
    found = socket.getaddrinfo(name, 0, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def listen(core: ServerCore, options: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Listen where ``options`` say, by address or path; the addresses and ports, ``()`` for a unix socket.

    ``OSError`` with the address in its text.
    """
    try:
        if options["unix"] is not None:
            mode = options["unix_mode"]
            core.listen_unix(options["unix"], -1 if mode is None else mode)
            return ()
        hosts = resolve(options["hostname"], options["ipv6_only"])
        return tcp(core.listen_tcp(hosts, options["port"], options["reuse_port"], options["ipv6_only"]))
    except OSError as error:
        raise named(error, options) from None


def named(error: OSError, options: Mapping[str, Any]) -> OSError:
    """The same error, with the address in its text."""
    host: str = options["hostname"]
    if options["unix"] is not None:
        where = shown_path(options["unix"])
    elif error.filename in (None, host):
        where = shown(host, options["port"])
    else:
        where = f"{shown(error.filename, options['port'])}, an address of {host}"
    return type(error)(error.errno, f"{error.strerror}: {where}")


def shown_path(path: bytes) -> str:
    """As ss(8) and /proc/net/unix show abstract names."""
    import os

    return os.fsdecode(path.replace(b"\0", b"@"))


def tcp(found: list[tuple[bytes, int]]) -> tuple[tuple[str, int], ...]:
    """What the core says of its listening sockets, for users: without unix sockets."""
    return tuple((address.decode(), port) for address, port in found if port >= 0)


def shown(host: str, port: int | None) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unix_mode(label: str, value: object) -> int | None:
    """Permission bits (chmod(2)) with which a client can connect, which requires write permission; or ``None``."""
    if value is None:
        return None
    mode: int = integer(0, 0xFFFFFFFF)(label, value)
    if mode > 0o777:
        octal = f", not {value} (octal: 0o{value})" if set(str(value)) <= set("01234567") else f", got {mode:#o}"
        raise ValueError(f"{label} must be permission bits of at most 0o777{octal}")
    if not mode & 0o222:
        raise ValueError(f"{label} must let somebody write, as to connect takes that (0o660, say), got {mode:#o}")
    return mode


def check_together(options: Mapping[str, Any]) -> None:
    """``ValueError`` for permissions of something that has none."""
    if options["unix_mode"] is None:
        return
    if options["unix"] is None:
        raise ValueError("unix_mode needs unix, the path whose permissions it sets")
    if options["unix"].startswith(b"\0"):
        raise ValueError("unix_mode needs a path: an abstract name has no permissions")
