"""Prometheus metrics of servers, by the library ``prometheus_client`` (``pip install 'uwserve[metrics]'``).

``serve(metrics="/metrics")`` answers there with the server's metrics, and those of the process, the garbage collector
and the Python version. Metrics of your own come along when you keep them in one registry and serve that::

    from prometheus_client import REGISTRY
    from uwserve import metrics

    REGISTRY.register(metrics.ServerCollector(server))
    server.reload(routes={"/metrics": lambda request: metrics.exposition(request, REGISTRY)})

Metrics are read from ``server.stats()`` when they are asked for; nothing is done for them per message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import parse_qs

try:
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        f"metrics need the package prometheus-client ({error}): pip install 'uwserve[metrics]'", name=error.name
    ) from error

from . import Request, Response, Server
from .stats import ServerStats

__all__ = ["ServerCollector", "exposition", "registry"]

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Values with those of a metric's own labels."""


def _code_label(code: int) -> str:
    # Peers choose among two thousand of these, and each would be a time series for ever.
    return str(code) if code < 3000 else f"{code // 1000}xxx"


def _closes(stats: ServerStats) -> Samples:
    grouped: dict[str, int] = {}
    for code, count in stats["closes"].items():
        label = _code_label(code)
        grouped[label] = grouped.get(label, 0) + count
    return [((label,), count) for label, count in grouped.items()]


def _one(value: float) -> Samples:
    return [((), value)]


def _each(counts: dict[str, int]) -> Samples:
    return [((name,), count) for name, count in counts.items()]


def _by_type(stats: ServerStats, way: str, unit: str) -> Samples:
    traffic = stats["received"] if way == "received" else stats["sent"]
    if unit == "messages":
        return [(("text",), traffic["text_messages"]), (("binary",), traffic["binary_messages"])]
    return [(("text",), traffic["text_bytes"]), (("binary",), traffic["binary_bytes"])]


# (name without the suffix of counters, what it is, own labels, samples)
_Family = tuple[str, str, tuple[str, ...], Callable[[ServerStats], Samples]]

_GAUGES: tuple[_Family, ...] = (
    ("connections", "Open connections, HTTP and WebSocket.", (), lambda s: _one(s["connections"]["open"])),
    ("websockets", "Open WebSockets.", (), lambda s: _one(s["websockets"]["open"])),
    ("requests_pending", "HTTP requests that wait for their answer.", (), lambda s: _one(s["requests"]["pending"])),
    ("buffered_bytes", "Bytes kept in memory for peers.", (), lambda s: _one(s["buffered_bytes"])),
    ("handlers_running", "Handlers whose coroutines wait.", (), lambda s: _one(s["handlers"]["running"])),
    ("handlers_held_bytes", "Bytes of the messages that they hold.", (), lambda s: _one(s["handlers"]["bytes"])),
    ("uptime_seconds", "Time since the server was made.", (), lambda s: _one(s["uptime"])),
)

_COUNTERS: tuple[_Family, ...] = (
    ("connections_accepted", "Accepted connections.", (), lambda s: _one(s["connections"]["total"])),
    ("requests", "HTTP requests handed to a handler.", (), lambda s: _one(s["requests"]["total"])),
    ("upgrades", "Opened WebSockets.", (), lambda s: _one(s["websockets"]["total"])),
    ("upgrades_declined", "Handshakes answered without an upgrade.", (), lambda s: _one(s["declined_upgrades"])),
    ("refused", "What the server turned away.", ("cause",), lambda s: _each(s["refused"])),
    ("closes", "Closed WebSockets, by close code.", ("code",), _closes),
    ("handler_errors", "Exceptions out of handlers.", ("handler",), lambda s: _each(s["handler_errors"])),
    ("handlers_suspended", "Handlers whose coroutines had to wait.", (), lambda s: _one(s["handlers"]["total"])),
    ("handlers_paused_reads", "Sockets not read for their handlers.", (), lambda s: _one(s["handlers"]["paused"])),
    ("publishes", "Messages published to topics.", (), lambda s: _one(s["publishes"])),
    ("sends_backpressured", "Messages that met backpressure.", (), lambda s: _one(s["backpressured_sends"])),
    ("sends_dropped", "Messages that a limit kept from being sent.", (), lambda s: _one(s["dropped_sends"])),
    ("messages_received", "Messages received.", ("type",), lambda s: _by_type(s, "received", "messages")),
    ("messages_sent", "Messages sent, to each receiver.", ("type",), lambda s: _by_type(s, "sent", "messages")),
    ("received_payload_bytes", "Payload of messages.", ("type",), lambda s: _by_type(s, "received", "bytes")),
    ("sent_payload_bytes", "Payload of messages.", ("type",), lambda s: _by_type(s, "sent", "bytes")),
    ("pings_received", "Ping frames received.", (), lambda s: _one(s["received"]["pings"])),
    ("pings_sent", "Ping frames sent.", (), lambda s: _one(s["sent"]["pings"])),
    ("pongs_received", "Pong frames received.", (), lambda s: _one(s["received"]["pongs"])),
    ("pongs_sent", "Pong frames sent.", (), lambda s: _one(s["sent"]["pongs"])),
    ("received_bytes", "Bytes read from connections.", (), lambda s: _one(s["received"]["wire_bytes"])),
    ("sent_bytes", "Bytes written to connections.", (), lambda s: _one(s["sent"]["wire_bytes"])),
    ("inflated_messages", "Compressed messages received.", (), lambda s: _one(s["received"]["compressed_messages"])),
    ("inflated_input_bytes", "Their bytes as sent.", (), lambda s: _one(s["received"]["compressed_bytes"])),
    ("inflated_output_bytes", "Their bytes inflated.", (), lambda s: _one(s["received"]["uncompressed_bytes"])),
    ("deflated_messages", "Messages sent compressed.", (), lambda s: _one(s["sent"]["compressed_messages"])),
    ("deflated_input_bytes", "Their bytes as given.", (), lambda s: _one(s["sent"]["uncompressed_bytes"])),
    ("deflated_output_bytes", "Their bytes as sent.", (), lambda s: _one(s["sent"]["compressed_bytes"])),
)


class ServerCollector(Collector):
    """The metrics of one server, or of several, for any registry of ``prometheus_client``.

    Samples have the label ``server`` with the server's ``id`` if it has one. One registry takes one collector, as each
    metric's name may come from one collector only. Close codes from 3000 on are counted together as ``3xxx`` and
    ``4xxx``, because peers choose them.

    Args:
        *servers: each a ``Server``; several need different ids.

    Raises:
        TypeError: no server, or something else.
        ValueError: two servers of one id.

    Threads: any.
    """

    def __init__(self, *servers: Server) -> None:
        for server in servers:
            if not isinstance(server, Server):
                raise TypeError(f"ServerCollector() takes servers, got {type(server).__name__}")
        if not servers:
            raise TypeError("ServerCollector() needs a server")
        if len({server.id for server in servers}) < len(servers):
            raise ValueError("several servers in one collector need different ids: serve(id=...)")
        self._servers = servers

    def describe(self) -> Iterator[Metric]:
        """Return the names, for registries that check for duplicates.

        Returns:
            The families without samples.

        Threads: any.
        """
        return self._families([])

    def collect(self) -> Iterator[Metric]:
        """Return the figures of this moment.

        Returns:
            The families with samples.

        Threads: any.
        """
        return self._families([(server.id, server.stats()) for server in self._servers])

    def _families(self, servers: list[tuple[str, ServerStats]]) -> Iterator[Metric]:
        labelled = ("server",) if any(name for name, _ in servers) else ()
        kinds: tuple[tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], tuple[_Family, ...]], ...]
        kinds = ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS))
        for kind, families in kinds:
            for name, text, labels, samples in families:
                family = kind(f"uwserve_{name}", text, labels=[*labelled, *labels])
                for server, stats in servers:
                    for values, value in samples(stats):
                        family.add_metric([server, *values] if labelled else list(values), value)
                yield family


def registry(*servers: Server) -> CollectorRegistry:
    """Make a registry of servers and of the metrics of the process, as in the library's default registry.

    Args:
        *servers: as of ``ServerCollector``.

    Returns:
        A ``prometheus_client.CollectorRegistry``.

    Raises:
        TypeError: no server, or something else.
        ValueError: two servers of one id.

    Threads: any.
    """
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    made.register(ServerCollector(*servers))
    return made


def exposition(request: Request, source: CollectorRegistry) -> Response:
    """Answer a scrape: Prometheus' text format, or OpenMetrics if the client prefers that.

    Args:
        request: the request; ``?name[]=...`` in its query restricts the answer to the families of those names, as the
            library's own servers do.
        source: the registry.

    Returns:
        A ``Response`` with status 200.

    Threads: any.
    """
    try:
        encode, content_type = choose_encoder(request.headers.get("accept") or "")
    except (TypeError, ValueError):  # an invalid version in it
        encode, content_type = choose_encoder("")
    names = parse_qs(request.query).get("name[]")
    body = encode(source.restricted_registry(names) if names else source)
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def endpoint(server: Server) -> dict[str, Callable[[Request], Response]]:
    """The route of ``serve(metrics=...)``."""
    source = registry(server)
    return {"GET": lambda request: exposition(request, source)}
