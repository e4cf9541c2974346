"""The limits of a server against abuse, and the words in which it tells what it refused.

``LIMITS`` is the table of the option ``limits``, ``figures`` turns what was given into what the core takes,
``REFUSALS`` names every cause in ``server.refused``, and ``report`` puts what is new on the logger ``uwserve``. The
core calls that on the loop's thread, at once for the first refusal after a quiet time and then at most once in
``REPORT_SECONDS``.
"""

from __future__ import annotations

import os

from . import _aliases, _checks, _logs
from ._checks import integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._checks import Check

GIB = 1 << 30
MIB = 1 << 20

HANDLER_BYTES = 4096
"""What a handler in flight takes, with a margin: its coroutine, its Task, and what it waits for."""

REPORT_SECONDS = 10.0
"""The shortest time between two reports."""


def _limit(high: int, unit: str = "") -> Check:
    check = integer(0, high, unit)
    return lambda label, value: None if value is None else check(label, value)


LIMITS: Mapping[str, Check] = {
    "max_connections": _limit((1 << 31) - 1),
    "max_connections_per_address": _limit((1 << 31) - 1),
    "max_pending_heads": _limit((1 << 31) - 1),
    "max_control_frames_per_second": _limit((1 << 31) - 1),
    "max_tiny_fragments_per_second": _limit((1 << 31) - 1),
    "max_buffered_bytes": _limit(1 << 50, "bytes"),
    "max_concurrent_handlers": _limit((1 << 31) - 1),
    "reserved_descriptors": _limit((1 << 31) - 1),
}
"""Each takes an int, 0 (off) or None (the default)."""


def check_limits(label: str, value: object) -> dict[str, int]:
    """The limits that were given as figures, under our names. ``None`` stands for a dict without any."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _checks.wrong_type(label, "a dict", value)
    names = _checks.canonical(label, value, LIMITS, _aliases.LIMIT_OPTIONS)
    checked = {name: LIMITS[name](f"{label}.{spelled}", value[spelled]) for name, spelled in names.items()}
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


def descriptor_limit() -> int:
    """How many descriptors this process may have (getrlimit(2)); 0 is any number."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else min(soft, (1 << 31) - 1)


def _reserve(descriptors: int) -> int:
    """What connections leave to the application: a sixteenth of all, 64 to 1024, but never more than a quarter."""
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


# name -> (what was refused, the limit or option that did it: shown with its figure if it is one of LIMITS)
REFUSALS: Mapping[str, tuple[str, str]] = {
    "connections": ("connection{s}", "max_connections"),
    "connections_per_address": ("connection{s}", "max_connections_per_address"),
    "pending_heads": ("connection{s} without a request yet", "max_pending_heads"),
    "accept_errors": ("time{s} that no connection could be accepted", "no descriptors or memory: raise RLIMIT_NOFILE"),
    "head_timeouts": ("incomplete request{s}", "idle_timeout"),
    "idle_timeouts": ("silent connection{s}", "idle_timeout"),
    "http_400": ("request{s}", "400 malformed"),
    "http_413": ("request{s}", "413, max_request_body_size"),
    "http_414": ("request{s}", "414 target too long"),
    "http_417": ("request{s}", "417 unknown expectation"),
    "http_421": ("request{s}", "421 a host whose client certificates were not asked for"),
    "http_431": ("request{s}", "431 head too large"),
    "http_501": ("request{s}", "501 not implemented"),
    "http_503": ("request{s}", "max_buffered_bytes"),
    "http_505": ("request{s}", "505 HTTP version"),
    "handshake_invalid": ("WebSocket handshake{s}", "malformed"),
    "handshake_version": ("WebSocket handshake{s}", "version other than 13"),
    "websocket_1002": ("WebSocket{s}", "1002 protocol error"),
    "websocket_1007": ("WebSocket{s}", "1007 invalid data"),
    "websocket_1009": ("WebSocket{s}", "1009, max_payload_length"),
    "websocket_1011": ("WebSocket{s}", "1011 out of memory"),
    "control_frames": ("WebSocket{s}", "max_control_frames_per_second"),
    "tiny_fragments": ("WebSocket{s}", "max_tiny_fragments_per_second"),
    "websocket_1013": ("WebSocket{s}", "max_buffered_bytes"),
    "sends_backpressure": ("message{s} to slow peers", "backpressure_limit"),
    "sends_buffered_bytes": ("message{s} to send", "max_buffered_bytes"),
    "backpressure_closes": ("slow peer{s}", "close_on_backpressure_limit"),
    "concurrent_handlers": ("request{s} or socket{s} not read", "max_concurrent_handlers"),
    "descriptors": ("connection{s}", "reserved_descriptors"),
}


def report(limits: Mapping[str, int], seconds: float, counts: Mapping[str, int]) -> None:
    """Log what was refused in the last ``seconds``; 0: just now, after a quiet time."""
    _logs.warning(describe(limits, seconds, counts))


def describe(limits: Mapping[str, int], seconds: float, counts: Mapping[str, int]) -> str:
    parts = []
    for name, count in counts.items():
        text, why = REFUSALS[name]
        what = text.format(s="" if count == 1 else "s")
        parts.append(f"{count} {what} ({why}={limits[why]})" if why in limits else f"{count} {what} ({why})")
    when = f"refused in the last {max(1, round(seconds))} s" if seconds else "refused"
    return f"{when}: {', '.join(parts)}"
