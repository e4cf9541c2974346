"""Refused connections and messages in words, on the logger ``uwserve``.

``REFUSALS`` names every cause in ``server.refused``. The core calls ``report`` on the loop's thread: at once for the
first refusal after a quiet time, and then at most once in ``REPORT_SECONDS``.
"""

from __future__ import annotations

from .. import _logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

REPORT_SECONDS = 10.0
"""The shortest time between two reports."""

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
