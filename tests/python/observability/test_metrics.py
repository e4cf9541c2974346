"""``uwserve.metrics`` and ``serve(metrics=...)``, read with the parsers of ``prometheus_client`` itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from http_client import Client as HttpClient
from http_client import request, running, upgrade, upgrade_request
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from ws_client import BINARY, TEXT, Client, eventually, frame

import uwserve
from uwserve import Response, metrics

pytestmark = pytest.mark.wss

OPENMETRICS = "Accept: application/openmetrics-text; version=1.0.0"


def samples(text: str, parse: Any = parse_text) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) -> value; an assertion fails when a sample is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found: Any, name: str, **labels: str) -> float:
    return found[f"uwserve_{name}", frozenset(labels.items())]


def traffic(server: uwserve.Server) -> None:
    """One of everything."""
    client = Client(("127.0.0.1", server.port))
    client.send_raw(frame(TEXT, "abc") + frame(BINARY, b"defgh") + frame(TEXT, "x"))
    for _ in range(3):
        client.read_message()
    client.round_trip()
    client.send_close(4001)
    client.read_close()
    client.close()
    other = Client(("127.0.0.1", server.port))
    other.send_close(3000)
    other.read_close()
    other.close()
    with HttpClient(server) as http:
        http.send(b"BROKEN\r\n\r\n")
        http.read_rest()
    with HttpClient(server) as http:
        assert http.ask(upgrade_request("/").replace(b"Version: 13", b"Version: 8")).status == 426
    eventually(lambda: server.stats()["connections"]["open"] == 0)


ECHO: dict[str, Any] = {"fetch": upgrade, "websocket": {"message": lambda ws, message: ws.send(message)}}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_counter_is_there(openmetrics: bool) -> None:
    """The values of stats(), under names that both parsers take; each value of stats() is told somewhere."""
    with running(**ECHO) as server:
        traffic(server)
        registry = CollectorRegistry(auto_describe=True)
        registry.register(metrics.ServerCollector(server))
        text = (generate_openmetrics if openmetrics else generate_latest)(registry).decode()
        stats = server.stats()
    found = samples(text, parse_openmetrics if openmetrics else parse_text)
    assert value(found, "connections") == 0
    assert value(found, "connections_accepted_total") == stats["connections"]["total"] == 4
    assert value(found, "websockets") == 0
    assert value(found, "upgrades_total") == 2
    assert value(found, "upgrades_declined_total") == 1
    assert value(found, "requests_total") == 3
    assert value(found, "requests_pending") == 0
    assert value(found, "messages_received_total", type="text") == 2
    assert value(found, "messages_received_total", type="binary") == 1
    assert value(found, "messages_sent_total", type="text") == 2
    assert value(found, "messages_sent_total", type="binary") == 1
    assert value(found, "received_payload_bytes_total", type="text") == 4
    assert value(found, "sent_payload_bytes_total", type="binary") == 5
    assert value(found, "pings_received_total") == value(found, "pongs_sent_total") == 1
    assert value(found, "pings_sent_total") == value(found, "pongs_received_total") == 0
    assert value(found, "received_bytes_total") == stats["received"]["wire_bytes"] > 0
    assert value(found, "sent_bytes_total") == stats["sent"]["wire_bytes"] > 0
    assert value(found, "closes_total", code="3xxx") == value(found, "closes_total", code="4xxx") == 1
    assert value(found, "publishes_total") == 0
    assert value(found, "sends_dropped_total") == value(found, "sends_backpressured_total") == 0
    assert value(found, "deflated_messages_total") == value(found, "inflated_messages_total") == 0
    assert 0 < value(found, "uptime_seconds") <= stats["uptime"]
    for cause, count in stats["refused"].items():
        assert value(found, "refused_total", cause=cause) == count
    assert value(found, "refused_total", cause="http_400") == 1
    for place, count in stats["handler_errors"].items():
        assert value(found, "handler_errors_total", handler=place) == count
    assert not [key for key in found if "server" in dict(key[1])], "no id, no label"
    kinds = {family.name: family.type for family in (parse_openmetrics if openmetrics else parse_text)(text)}
    assert set(kinds.values()) == {"gauge", "counter"}
    assert kinds["uwserve_connections"] == "gauge"


def test_servers_by_id() -> None:
    """Several in one collector are told apart by a label; without different ids they cannot be."""
    with running(**ECHO, id="chat") as one, running(**ECHO, id="news") as two, running(**ECHO, id="chat") as twin:
        traffic(one)
        found = samples(generate_latest(metrics.registry(one, two)).decode())
        assert value(found, "upgrades_total", server="chat") == 2
        assert value(found, "upgrades_total", server="news") == 0
        assert value(found, "closes_total", server="chat", code="4xxx") == 1
        with pytest.raises(ValueError, match="different ids"):
            metrics.ServerCollector(one, twin)
        registry = CollectorRegistry()
        registry.register(metrics.ServerCollector(one))
        with pytest.raises(ValueError, match="uwserve_"):
            registry.register(metrics.ServerCollector(two))
    with pytest.raises(TypeError, match="takes servers, got str"):
        metrics.ServerCollector("server")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a server"):
        metrics.ServerCollector()


def scrape(server: uwserve.Server, path: str = "/metrics", *fields: str, method: str = "GET") -> Any:
    with HttpClient(server) as client:
        return client.ask(request(path, method, None, *fields))


def test_the_option() -> None:
    """GET and HEAD at that path, whatever fetch and routes are; the process' metrics come along."""
    with running(**ECHO, metrics="/metrics", id="m", routes={"/*": lambda r: "a route"}) as server:
        reply = scrape(server)
        assert reply.status == 200
        assert reply.get("Content-Type").startswith("text/plain; version=")
        assert reply.get("Cache-Control") == "no-store"
        found = samples(reply.body.decode())
        assert value(found, "requests_total", server="m") == 1
        names = {name for name, _ in found}
        assert {"process_open_fds", "process_cpu_seconds_total", "python_info"} <= names
        assert "python_gc_collections_total" in names
        head = scrape(server, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert scrape(server, method="POST").status == 405
        assert scrape(server, "/metrics/").body == scrape(server, "/").body == b"a route"
        server.reload(routes=None)
        traffic(server)
        again = samples(scrape(server).body.decode())
        assert value(again, "messages_received_total", server="m", type="text") == 2


def test_negotiation() -> None:
    """OpenMetrics for those who ask; the text format for all others, and for versions that are none."""
    with running(metrics="/metrics") as server:
        reply = scrape(server, "/metrics", OPENMETRICS)
        assert reply.get("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
        assert reply.body.endswith(b"# EOF\n")
        assert value(samples(reply.body.decode(), parse_openmetrics), "requests_total") == 1
        for accept in ("text/html", "*/*", "application/openmetrics-text; version=x.y", "text/plain; version=\xff"):
            reply = scrape(server, "/metrics", f"Accept: {accept}")
            assert (reply.status, reply.get("Content-Type")[:10]) == (200, "text/plain")
            assert not reply.body.endswith(b"# EOF\n")


def test_restricted_to_names() -> None:
    with running(metrics="/metrics") as server:
        reply = scrape(server, "/metrics?name%5B%5D=uwserve_requests_total&name[]=uwserve_websockets")
        assert {name for name, _ in samples(reply.body.decode())} == {"uwserve_requests_total", "uwserve_websockets"}
        assert scrape(server, "/metrics?name[]=unknown").body == b""


def test_reload() -> None:
    """On, elsewhere, off; routes that are replaced leave it where it is."""
    with running(fetch=lambda r: "fetched") as server:
        assert scrape(server).body == b"fetched"
        server.reload(metrics="/metrics")
        assert b"uwserve_requests_total 2.0" in scrape(server).body
        server.reload(routes={"/a": "route"})
        assert b"uwserve_requests_total 3.0" in scrape(server).body
        server.reload(metrics="/elsewhere")
        assert scrape(server).body == b"fetched"
        assert b"uwserve_requests_total 5.0" in scrape(server, "/elsewhere").body
        with pytest.raises(ValueError, match=r"metrics='/elsewhere'.*route"):
            server.reload(routes={"/elsewhere": "route"}, fetch=lambda r: "not this")
        assert scrape(server).body == b"fetched", "nothing took effect"
        server.reload(metrics=None)
        assert scrape(server, "/elsewhere").body == b"fetched"
        assert scrape(server, "/a").body == b"route"


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (True, TypeError, "metrics must be a path such as '/metrics' or None, got bool"),
        ("metrics", ValueError, "metrics: route 'metrics' must start with '/'"),
        ("/:name", ValueError, "metrics must be a path without parameters"),
        ("/*", ValueError, "metrics must be a path without parameters"),
        ("/a?b", ValueError, "metrics: .*without '\\?'"),
    ],
)
def test_bad_paths(bad: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        uwserve.serve(port=0, metrics=bad)


def test_a_registry_of_ones_own() -> None:
    """The application's metrics beside the server's, by exposition() in a route."""
    registry = CollectorRegistry()
    orders = Counter("orders", "Of the application.", registry=registry)
    with running(fetch=lambda r: Response("none", 404)) as server:
        registry.register(metrics.ServerCollector(server))
        server.reload(routes={"/m": lambda request: metrics.exposition(request, registry)})
        orders.inc(3)
        found = samples(scrape(server, "/m").body.decode())
        assert found["orders_total", frozenset()] == 3
        assert value(found, "requests_total") == 1


def test_a_stopped_server_is_still_told() -> None:
    with running(**ECHO) as server:
        registry = metrics.registry(server)
        traffic(server)
    assert value(samples(generate_latest(registry).decode()), "upgrades_total") == 2


def test_collected_with_its_server(script: Any) -> None:
    """The endpoint's reference to its server is the collector's business."""
    program = """
        import gc, weakref, uwserve
        server = uwserve.serve(port=0, hostname="127.0.0.1", metrics="/metrics")
        gone = weakref.ref(server)
        del server
        gc.collect()
        print(gone() is None)
    """
    assert script(program).finish() == "True\n"


def test_without_the_library() -> None:
    """The error names the extra, at serve() and at the import; without the option nothing of it is imported."""
    program = """
import sys
sys.modules["prometheus_client"] = None
import uwserve
for attempt in (lambda: uwserve.serve(port=0, metrics="/metrics"), lambda: __import__("uwserve.metrics")):
    try:
        attempt()
    except ImportError as error:
        print("uwserve[metrics]" in str(error), "prometheus-client" in str(error))
uwserve.serve(fetch=lambda: "", port=0, hostname="127.0.0.1").stop()
print("uwserve.metrics" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True True\nTrue True\nFalse\n"


def test_scraping_many_times_costs_messages_nothing() -> None:
    """stats() is all that is read: no Python of the collector runs for a message."""
    calls: list[str] = []
    with running(**ECHO, metrics="/metrics") as server:
        client = Client(("127.0.0.1", server.port))

        def trace() -> None:
            sys.setprofile(
                lambda frame, event, arg: calls.append(frame.f_code.co_filename) if event == "call" else None
            )

        server._control.on_loop(trace)
        for _ in range(20):
            client.send("x")
            client.read_message()
        server._control.on_loop(lambda: sys.setprofile(None))
        client.close()
    assert calls
    assert not [name for name in calls if name.endswith(("uwserve/metrics.py", "uwserve/stats.py", "uwserve/_logs.py"))]
