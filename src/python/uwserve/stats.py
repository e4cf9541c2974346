"""The types of what ``server.stats()`` and ``server.topics()`` return, for annotations; each key is documented here.

Plain dicts of ints (``uptime`` alone is a float), so ``json.dumps(server.stats())`` is a status page. Every key is
always there. What is a total counts from ``serve()`` on and never falls. The dashboard's page and its viewers count
like other clients. ``import uwserve`` imports nothing from here.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = ["Connections", "Handlers", "Requests", "ServerStats", "TopicStats", "Traffic", "WebSockets"]


class Connections(TypedDict):
    """Of every kind: HTTP connections, and the WebSockets that some of them became."""

    open: int
    """Accepted and not closed yet."""
    total: int
    """Accepted; behind ``proxy_protocol``, once their PROXY header has arrived."""


class Requests(TypedDict):
    """HTTP requests, handshakes of WebSockets among them."""

    pending: int
    """Requests that wait for their answer."""
    total: int
    """Requests that arrived complete and were handed to a handler, handshakes of WebSockets included."""


class WebSockets(TypedDict):
    """WebSockets, from the upgrade to the close."""

    open: int
    """Open now; ``server.pending_websockets``."""
    total: int
    """Opened: accepted upgrades. Those that are not open any more are in ``closes``."""


class Handlers(TypedDict):
    """Handlers in flight: those whose coroutines have suspended and not ended, of requests and of WebSockets."""

    running: int
    """In flight now."""
    total: int
    """All that have suspended since the start."""
    bytes: int
    """Of the messages that those in flight hold; a part of ``buffered_bytes``."""
    paused: int
    """Times that a socket was not read because it had ``websocket.max_concurrent_handlers`` in flight."""


class Traffic(TypedDict):
    """One direction. Bytes are of payloads as applications see them (unmasked, inflated), but for the last three."""

    messages: int
    """Text and binary messages. Sent ones were accepted for sending; a publish counts once for each receiver."""
    text_messages: int
    binary_messages: int
    bytes: int
    text_bytes: int
    binary_bytes: int
    pings: int
    """Ping frames, the server's automatic ones included (RFC 6455 section 5.5.2)."""
    pongs: int
    """Pong frames, answers and unsolicited ones."""
    compressed_messages: int
    """Those of the messages that were compressed (RFC 7692)."""
    uncompressed_bytes: int
    """Their bytes before compression."""
    compressed_bytes: int
    """Their bytes on the wire, without frame headers."""
    wire_bytes: int
    """All bytes read from, or written to, connections: HTTP and frame headers included, without what TLS adds."""


class ServerStats(TypedDict):
    """What ``Server.stats`` returns."""

    uptime: float
    """Seconds since ``serve()``, of a monotonic clock; constant once the server has ended."""
    connections: Connections
    requests: Requests
    websockets: WebSockets
    declined_upgrades: int
    """Handshakes that were answered with something else than 101, by a handler or by the server."""
    refused: dict[str, int]
    """Refusals by cause; ``server.refused``."""
    received: Traffic
    sent: Traffic
    backpressured_sends: int
    """Sent messages, of ``sent``, that met backpressure: ``send`` returned -1; of a publish, for each such receiver."""
    dropped_sends: int
    """Messages that a limit kept from being sent: ``send`` returned 0. The sum of two causes in ``refused``."""
    publishes: int
    """Calls of ``publish``, also those to topics without subscribers."""
    closes: dict[int, int]
    """Closed WebSockets by close code, as the ``close`` handler saw it; only codes that occurred."""
    handler_errors: dict[str, int]
    """Exceptions out of handlers: ``open``, ``message``, ``close``, ``drain``, ``ping``, ``pong``, ``error`` (either
    hook of that name), ``fetch`` (routes too), ``stream`` (a streamed body), ``call_soon``, ``other``."""
    handlers: Handlers
    buffered_bytes: int
    """Bytes kept in memory for peers now; ``server.buffered_bytes``."""


class TopicStats(TypedDict):
    """The figures of one topic in ``Server.topics``."""

    subscribers: int
    publishes: int
    """Since the topic exists: since its first subscriber, while it was never without one."""
