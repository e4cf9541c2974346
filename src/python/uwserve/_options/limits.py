"""The option ``limits``: a server's limits against abuse, and the defaults on this machine."""

from __future__ import annotations

import os

from .._checks import GIB, MIB, integer, or_none, wrong_type
from .option import Option, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

HANDLER_BYTES = 4096
"""Memory of a handler in flight, with a margin: its coroutine, its Task, and the future that it awaits."""


def _limit(name: str, high: int = (1 << 31) - 1, unit: str = "") -> Option:
    """An int, 0 (off) or None (the default)."""
    return Option(name, or_none(integer(0, high, unit)))


LIMITS = Options(
    _limit("max_connections"),
    _limit("max_connections_per_address"),
    _limit("max_pending_heads"),
    _limit("max_control_frames_per_second"),
    _limit("max_tiny_fragments_per_second"),
    _limit("max_buffered_bytes", 1 << 50, "bytes"),
    _limit("max_concurrent_handlers"),
    _limit("reserved_descriptors"),
)


def check_limits(label: str, value: object) -> dict[str, int]:
    """The limits that were given as figures, under our names. ``None`` is the same as an empty dict."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_type(label, "a dict", value)
    checked = LIMITS.check(label, value, f"{label}.")
    return {name: figure for name, figure in checked.items() if figure is not None}


def figures(given: Mapping[str, int]) -> dict[str, int]:
    """All limits: those given, and the defaults of the others on this machine."""
    descriptors = descriptor_limit()
    reserved = given.get("reserved_descriptors", _reserve(descriptors))
    connections = given.get("max_connections", max(1, descriptors - reserved) if descriptors else 0)
    buffered = given.get("max_buffered_bytes", max(64 * MIB, min(GIB, _memory() // 4)))
    return {
        "max_connections": connections,
        "max_connections_per_address": (connections + 1) // 2,
        "max_pending_heads": min(4096, max(16, connections // 4)) if connections else 4096,
        "max_control_frames_per_second": 1000,
        "max_tiny_fragments_per_second": 20_000,
        "max_buffered_bytes": buffered,
        "max_concurrent_handlers": (buffered or GIB) // HANDLER_BYTES,
        "reserved_descriptors": reserved,
        **given,
    }


def core_options(given: Mapping[str, int]) -> dict[str, int]:
    """The figures for the core, whether loopback is exempt from the limit by address, RLIMIT_NOFILE."""
    return figures(given) | {
        "exempt_local": "max_connections_per_address" not in given,
        "max_descriptors": descriptor_limit(),
    }


def descriptor_limit() -> int:
    """How many descriptors this process may have (getrlimit(2)); 0 is any number."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else min(soft, (1 << 31) - 1)


def _reserve(descriptors: int) -> int:
    """Descriptors left to the application: a sixteenth of all, 64 to 1024, but never more than a quarter."""
    return min(descriptors // 4, max(64, min(1024, descriptors // 16)))


def descriptors_for(connections: int) -> int:
    """The limit of descriptors with which so many connections leave the default reserve."""
    return connections + max(64, min(1024, -(-connections // 15)))


# Of this process's control group, version 2 and version 1, as a container sees its own.
_MEMORY_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _memory() -> int:
    """Bytes of memory that there are for this process: the machine's, or its container's if that has less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _MEMORY_FILES:
        try:
            with open(path) as file:
                memory = min(memory, int(file.read()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return memory
