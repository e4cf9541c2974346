"""``uwserve bench``: messages to an echo server and back, for a few seconds.

Each connection has one message under way: sent, echoed, compared, and sent again. One thread and a selector do it all,
in Python, which takes several times as long for a message as the server does. So it says how busy it was itself: near a
whole core, the figures are the client's. What the server can do is measured by ``benchmarks/``, whose clients are
compiled.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .client import Echo, answer, frame
from .errors import CommandError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

WARM_UP = 0.2
"""The share of the time, at most a second, whose messages do not count."""
BUSY = 0.85
"""From this share of a core on, the client is what is measured."""
SILENCE = 10.0
"""Seconds without any answer after which it gives up."""


def bench(arguments: argparse.Namespace) -> int:
    """The command."""
    with contextlib.ExitStack() as stack:
        host, port, path, tls = _target(arguments.url) if arguments.url else stack.enter_context(_own_server())
        clients = [stack.enter_context(Echo(host, port, path, tls=tls)) for _ in range(arguments.connections)]
        result = measure(clients, os.urandom(arguments.size), arguments.seconds)
    shown = arguments.url or "an echo server of its own"
    result = {"target": shown, "connections": arguments.connections, "size": arguments.size} | result
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    micro = result["latency_us"]
    print(f"{shown}, {arguments.connections} connections, {arguments.size} bytes, {arguments.seconds:g} s")
    print(f"  counted     {result['seconds']:>12,.1f} s: the first {_warm_up(arguments.seconds):.2g} s are a warm-up")
    print(f"  messages    {result['messages_per_second']:>12,.0f} a second, there and back")
    print(f"  payload     {result['messages_per_second'] * arguments.size / 1e6:>12,.2f} MB/s each way")
    for name in ("p50", "p90", "p99", "max"):
        print(f"  {'latency' if name == 'p50' else '':<11} {micro[name]:>12,.0f} \N{MICRO SIGN}s {name}")
    print(f"  client      {result['client_cpu']:>12.0%} of a core")
    if result["client_cpu"] > BUSY:
        print("The client was busy all the time: this is its speed, not the server's, which benchmarks/ measures.")
    else:
        print("The client is Python, and shares the processors with a server that is here; see benchmarks/ for more.")
    return 0


def _warm_up(seconds: float) -> float:
    return min(1.0, seconds * WARM_UP)


def _target(url: str) -> tuple[str, int, str, bool]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r}: {error}") from None
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not like ws://host:port/path")
    tls = parts.scheme in ("wss", "https")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname, port or (443 if tls else 80), path, tls


@contextlib.contextmanager
def _own_server() -> Iterator[tuple[str, int, str, bool]]:
    """``uwserve echo`` in another process, as in life."""
    command = [sys.executable, "-m", "uwserve", "echo", "--port", "0", "--log-level", "error", "--no-color"]
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            parts = urlsplit(line.split()[-1] if line else "")
            if not parts.port or not parts.hostname:
                raise CommandError("the echo server did not start")
            yield parts.hostname, parts.port, "/", False
        finally:
            process.kill()


class _Flight:
    """One connection: what is still to be sent, and what has come back of the answer."""

    __slots__ = ("begun", "client", "left", "received")

    def __init__(self, client: Echo) -> None:
        client.socket.setblocking(False)
        self.client = client
        self.left: memoryview = memoryview(b"")
        self.received = bytearray()
        self.begun = 0.0


def measure(clients: list[Echo], payload: bytes, seconds: float) -> dict[str, Any]:
    """Messages per second, latencies in microseconds and the client's own share of a core."""
    message, wanted = memoryview(frame(payload)), answer(payload)
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        flights = [_Flight(client) for client in clients]

        def write(flight: _Flight) -> None:
            try:
                while flight.left:
                    flight.left = flight.left[flight.client.socket.send(flight.left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            except OSError as error:
                raise CommandError(f"the server has gone: {error}") from error
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if flight.left else 0)
            if selector.get_key(flight.client.socket).events != events:
                selector.modify(flight.client.socket, events, flight)

        def read(flight: _Flight) -> bool:
            """Whether the answer is complete."""
            while len(flight.received) < len(wanted):
                try:
                    data = flight.client.socket.recv(min(len(wanted) - len(flight.received), 1 << 18))
                except (BlockingIOError, ssl.SSLWantReadError):
                    return False
                except OSError as error:
                    raise CommandError(f"the server has gone: {error}") from error
                if not data:
                    raise CommandError("the server has closed a connection")
                flight.received += data
            if flight.received != wanted:
                raise CommandError("the server sends something else than what it was sent: is it an echo server?")
            return True

        def send(flight: _Flight) -> None:
            flight.received.clear()
            flight.left = message
            flight.begun = time.perf_counter()
            write(flight)

        for flight in flights:
            selector.register(flight.client.socket, selectors.EVENT_READ, flight)
        for flight in flights:
            send(flight)
        start = time.perf_counter()
        begin, end = start + _warm_up(seconds), start + seconds
        cpu = 0.0
        heard = start
        while (now := time.perf_counter()) < end:
            if not cpu and now >= begin:
                begin, cpu = now, time.process_time()
            for key, events in selector.select(min(end - now, 0.5)):
                flight = key.data
                heard = now
                if events & selectors.EVENT_WRITE and flight.left:
                    write(flight)
                if events & selectors.EVENT_READ and read(flight):
                    done = time.perf_counter()
                    if flight.begun >= begin:
                        latencies.append(done - flight.begun)
                    send(flight)
            if now - heard > SILENCE:
                raise CommandError(f"no answer for {SILENCE:g} seconds: is it an echo server?")
        took = time.perf_counter() - begin
        cpu = time.process_time() - cpu
    if not latencies:
        raise CommandError("no message came back in time: is it an echo server?")
    latencies.sort()

    def percentile(part: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * part))] * 1e6, 1)

    return {
        "seconds": round(took, 3),
        "messages": len(latencies),
        "messages_per_second": round(len(latencies) / took, 1),
        "latency_us": {"p50": percentile(0.5), "p90": percentile(0.9), "p99": percentile(0.99), "max": percentile(1)},
        "client_cpu": round(cpu / took, 3),
        "client_is_the_limit": cpu / took > BUSY,
    }
