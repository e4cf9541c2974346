"""``uwserve doctor``: what is installed, what the kernel allows, and what to change for so many connections.

Each section yields findings: a name, a value, advice if there is any; one that is broken sets the exit code. Nothing is
changed and nobody else is asked: a server is bound to a free port of this machine and echoes one message.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import select
import socket
import ssl
import sys
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._options.limits import descriptors_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    Value = str | int | bool | None

BYTES_PER_CONNECTION = 8192
"""A rough figure for planning: the library's and the kernel's share of an idle one, without TLS and compression."""


class Finding(NamedTuple):
    name: str
    value: Value
    advice: str = ""
    broken: bool = False


def doctor(arguments: argparse.Namespace) -> int:
    """The command; 1 if something is broken."""
    sections = {
        "uwserve": list(_library()),
        "Python": list(_python()),
        "packages that are used when they are there": list(_packages()),
        "kernel": list(_kernel(arguments.connections)),
        f"for {arguments.connections:,} connections": list(_limits(arguments.connections)),
        "a server": list(_trial()),
    }
    findings = [finding for section in sections.values() for finding in section]
    broken = any(finding.broken for finding in findings)
    if arguments.json:
        told = {title: [finding._asdict() for finding in section] for title, section in sections.items()}
        print(json.dumps({"broken": broken, "sections": told}, indent=2))
        return int(broken)
    for title, section in sections.items():
        print(title)
        for finding in section:
            mark = "!!" if finding.broken else " >" if finding.advice else "  "
            print(f"{mark} {finding.name:<26} {_shown(finding.value)}")
            if finding.advice:
                print(f"   {'':<26} {finding.advice}")
        print()
    print("Something is broken, see !! above." if broken else "Nothing is broken.")
    return int(broken)


def _shown(value: Value) -> str:
    if value is None:
        return "not there"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else value


def _library() -> Iterator[Finding]:
    # Where the extension does not import, nothing of the package does: Python shows why, with exit code 1, too.
    from .. import __version__, _core

    yield Finding("version", __version__)
    yield Finding("extension", _core.__file__)
    yield Finding("uWebSockets", _core.uwebsockets_version)
    yield Finding("pybind11", _core.build["pybind11"])
    yield Finding("compiler", _core.build["compiler"])
    yield Finding("C library", _core.build["libc"])
    built, used = _core.build["openssl"], _core.openssl_version
    same = built.split()[1].rpartition(".")[0] == used.split()[1].rpartition(".")[0]
    yield Finding("TLS", used, "" if same else f"it was built with {built}")
    yield Finding("compression", _core.codec, "" if "libdeflate" in _core.codec else _LIBDEFLATE)


_LIBDEFLATE = "with libdeflate-dev at build time, messages are compressed faster (docs/guide/compression.md)"


def _python() -> Iterator[Finding]:
    yield Finding("version", f"{platform.python_implementation()} {platform.python_version()}")
    yield Finding("interpreter", sys.executable)
    yield Finding("compiler", platform.python_compiler())
    is_free = getattr(sys, "_is_gil_enabled", None)
    yield Finding("GIL", "enabled" if is_free is None or is_free() else "disabled")
    yield Finding("its own TLS", ssl.OPENSSL_VERSION)


def _packages() -> Iterator[Finding]:
    for name, module, extra, use in (
        ("uvloop", "uvloop", "", "the event loop of coroutine handlers in run() and start()"),
        ("prometheus-client", "prometheus_client", "metrics", "serve(metrics=...)"),
        ("watchfiles", "watchfiles", "reload", "uwserve serve --reload"),
    ):
        if util.find_spec(module) is None:
            install = f"pip install 'uwserve[{extra}]'" if extra else f"pip install {name}"
            yield Finding(name, None, f"for {use}: {install}")
        else:
            try:
                yield Finding(name, metadata.version(name))
            except metadata.PackageNotFoundError:
                yield Finding(name, "of unknown version")


def _sysctl(name: str) -> str | None:
    try:
        return " ".join(Path("/proc/sys", name).read_text().split())
    except OSError:
        return None


def _kernel(connections: int) -> Iterator[Finding]:
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("libc", " ".join(platform.libc_ver()) or "unknown")
    yield Finding("processors", len(os.sched_getaffinity(0)), "" if len(os.sched_getaffinity(0)) == 1 else _PROCESSES)
    yield Finding("epoll", hasattr(select, "epoll"), broken=not hasattr(select, "epoll"))
    yield Finding("SO_REUSEPORT", hasattr(socket, "SO_REUSEPORT"))
    somaxconn = int(_sysctl("net/core/somaxconn") or 0)
    small = somaxconn < 1024 and connections > 1000
    yield Finding(
        "net.core.somaxconn",
        somaxconn,
        "short queue for new connections: sysctl net.core.somaxconn=4096" if small else "",
    )
    yield Finding("net.ipv4.tcp_max_syn_backlog", _sysctl("net/ipv4/tcp_max_syn_backlog"))
    cookies = _sysctl("net/ipv4/tcp_syncookies")
    yield Finding(
        "net.ipv4.tcp_syncookies", cookies, "SYN floods: sysctl net.ipv4.tcp_syncookies=1" if cookies == "0" else ""
    )
    for name in ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_mem", "net.ipv4.ip_local_port_range"):
        yield Finding(name, _sysctl(name.replace(".", "/")))


_PROCESSES = "one server uses one: for more, several processes with reuse_port=True"


def _limits(connections: int) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_for(connections)
    yield Finding("descriptors, soft limit", _limit(soft), _descriptors(soft, hard, needed))
    yield Finding("descriptors, hard limit", _limit(hard))
    for name in ("fs.nr_open", "fs.file-max"):
        value = int(_sysctl(name.replace(".", "/")) or 0)
        yield Finding(name, value, f"sysctl {name}={needed * 2}" if value < needed else "")
    memory = _memory()
    wanted = connections * BYTES_PER_CONNECTION
    short = memory is not None and wanted > memory // 2
    yield Finding(
        "memory", f"{memory >> 20:,} MiB" if memory else None, "more than half of it when all are idle" if short else ""
    )
    yield Finding("idle connections take about", f"{wanted >> 20:,} MiB")
    pages = (_sysctl("net/ipv4/tcp_mem") or "").split()
    if len(pages) == 3:
        bound = int(pages[2]) * os.sysconf("SC_PAGE_SIZE")
        per = bound // connections
        advice = "TCP memory is short: raise net.ipv4.tcp_mem" if per < 8192 else ""
        yield Finding("TCP memory for each", f"{per >> 10:,} KiB", advice)


def _limit(value: int) -> Value:
    return "unlimited" if value == resource.RLIM_INFINITY else value


def _descriptors(soft: int, hard: int, needed: int) -> str:
    if soft in (-1, resource.RLIM_INFINITY) or soft >= needed:
        return ""
    if hard in (-1, resource.RLIM_INFINITY) or hard >= needed:
        return f"too few: ulimit -n {needed}, or LimitNOFILE={needed} in the systemd unit"
    return f"too few, and the hard limit, too: LimitNOFILE={needed} in the systemd unit, or /etc/security/limits.conf"


def _memory() -> int | None:
    """Bytes that this process may use: the machine's, or its control group's."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    try:
        group = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return total
    return min(total, group)


def _trial() -> Iterator[Finding]:
    """Bind, serve, upgrade, echo, stop."""
    from .. import Server, serve
    from .client import Echo, answer

    def fetch(request: object, server: Server) -> str | None:
        return None if server.upgrade(request) else "here"  # type: ignore[call-overload]

    try:
        with serve(
            fetch=fetch, websocket={"message": lambda ws, message: ws.send(message)}, port=0, hostname="127.0.0.1"
        ) as server:
            server.start()
            with Echo("127.0.0.1", server.port or 0, timeout=5) as client:
                client.send(b"x" * 100)
                wanted = answer(b"x" * 100)
                works = client.receive(len(wanted)) == wanted
    except Exception as error:
        yield Finding("echo on 127.0.0.1", f"{type(error).__name__}: {error}", broken=True)
        return
    yield Finding("echo on 127.0.0.1", "works" if works else "wrong answer", broken=not works)
