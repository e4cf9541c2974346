"""Where a server listens: ``listen()`` binds it by its options, ``Listening`` says what came of that.

A host name means every address that it resolves to, of both families: clients that try ``::1`` first, and clients that
know only ``127.0.0.1``, both reach a server on ``localhost``. A server may also take over a descriptor that another
process has bound.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .._core import ServerControl

supply: Callable[[Mapping[str, Any]], list[int]] | None = None
"""Set in a process that ``uwserve serve --reload`` restarts: returns the descriptors for these options, which were
bound once and which the parent keeps open, so that no connection is refused in between."""

_NUMERIC = frozenset("0123456789.")

_WHY: Mapping[int, str] = {
    errno.EBADF: "is not open",
    errno.ENOTSOCK: "is not a socket",
    errno.ESOCKTNOSUPPORT: "is not a stream socket (SOCK_STREAM)",
    errno.EAFNOSUPPORT: "is neither a TCP nor a unix socket",
    errno.EINVAL: "is a socket that does not listen",
}


class Listening:
    """Where a server listens, or did until it stopped."""

    __slots__ = ("addresses", "hostname", "is_secure", "port", "unix")

    def __init__(
        self,
        addresses: tuple[tuple[str, int], ...],
        hostname: str | None = None,
        unix: bytes | None = None,
        is_secure: bool = False,
    ) -> None:
        self.addresses = addresses
        self.port = addresses[0][1] if addresses else None
        self.hostname = hostname
        self.unix = unix
        self.is_secure = is_secure

    @property
    def url(self) -> str:
        if self.unix is not None:
            if self.unix.startswith(b"\0"):
                return "abstract://" + os.fsdecode(self.unix[1:])
            return "unix://" + os.path.abspath(os.fsdecode(self.unix))
        host = "localhost" if self.hostname in ("0.0.0.0", "::") else self.hostname or ""
        return f"{'https' if self.is_secure else 'http'}://{shown(host, self.port)}/"


def listen(core: ServerControl, options: Mapping[str, Any]) -> Listening:
    """Listen where ``options`` say. ``OSError`` with the address in its text."""
    is_secure = options["tls"] is not None
    inherited = [options["fd"]] if options["fd"] is not None else supply(options) if supply is not None else None
    if inherited is not None:
        addresses, path = _take_over(core, inherited)
        hostname = options["hostname"] if options["fd"] is None else addresses[0][0] if addresses else None
        return Listening(addresses, None if path is not None else hostname, path, is_secure)
    addresses = bind(core, options)
    unix: bytes | None = options["unix"]
    return Listening(addresses, None if unix is not None else options["hostname"], unix, is_secure)


def bind(core: ServerControl, options: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Bind by address or path; the addresses and ports, ``()`` for a unix socket."""
    try:
        if options["unix"] is not None:
            mode = options["unix_mode"]
            core.listen_unix(options["unix"], -1 if mode is None else mode)
            return ()
        hosts = resolve(options["hostname"], options["ipv6_only"])
        return _tcp(core.listen_tcp(hosts, options["port"], options["reuse_port"], options["ipv6_only"]))
    except OSError as error:
        raise with_address(error, options) from None


def _take_over(core: ServerControl, fds: list[int]) -> tuple[tuple[tuple[str, int], ...], bytes | None]:
    """Listen on ``fds``, which the core then owns; (addresses, None) of TCP sockets, ((), path) of a unix one."""
    fd = fds[0]
    try:
        for fd in fds:
            os.fstat(fd)  # before the core opens descriptors of its own, of which one could get that number
        found = core.listen_fds(fds)
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
        raise OSError(error.errno, f"fd {fd} {why}") from None
    path, port = found[0]
    return _tcp(found), path if port < 0 else None


def resolve(hostname: str, ipv6_only: bool) -> list[str]:
    """The numeric addresses of a name, each once, in the resolver's order; of an address itself. ``gaierror``."""
    if ":" in hostname or _NUMERIC.issuperset(hostname):
        return [hostname]
    import socket

    family = socket.AF_INET6 if ipv6_only else socket.AF_UNSPEC
    name = hostname.encode()  # bytes go to the resolver unchanged: Python's own IDNA codec raises errors of its own
    found = socket.getaddrinfo(name, 0, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def with_address(error: OSError, options: Mapping[str, Any]) -> OSError:
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
    return os.fsdecode(path.replace(b"\0", b"@"))


def shown(host: str, port: int | None) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tcp(found: list[tuple[bytes, int]]) -> tuple[tuple[str, int], ...]:
    """The TCP addresses among the core's listening sockets."""
    return tuple((address.decode(), port) for address, port in found if port >= 0)
