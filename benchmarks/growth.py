"""How cost grows: ``python benchmarks/growth.py`` (or ``make bench-growth``).

Curves over connections, message size, subscribers and topics, each of uwserve, of C++ and of the nearest rivals.
A point is the server's CPU time an event, from /proc; slopes tell where cost grows faster than its cause. Writes
``results/growth-DATE.json``, from which charts.py draws.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median

import machine
import recorded
from cases import CEILING, OURS
from programs import HERE, BenchmarkError, Programs, Server, put_load, running
from report import aligned, short
from rivals import Rivals

STEEP = 1.15  # a local exponent above it is marked
ACTIVE = 100  # connections, or topics, that have traffic while the others are idle
PER_SOURCE = 5000  # connections
PATIENCE = 20.0  # seconds for an answer


@dataclass(frozen=True)
class Curve:
    """One thing grows, all else stays."""

    name: str
    points: tuple[int, ...]
    servers: tuple[str, ...]
    load: Callable[[int], tuple]  # mode and options of uwserve-load
    # What is opened before the load of a point and stays idle: a context manager, given (port, x).
    idle: Callable[..., contextlib.AbstractContextManager] | None = None
    # An event's cost is that of x itself (a message of x bytes). Otherwise a turn is x events, such as one message on
    # each of x connections, and that is what grows with x at best.
    is_whole: bool = False
    ceiling: str = "uws-server"


@contextlib.contextmanager
def idle_connections(port: int, x: int) -> Iterator[None]:
    """All but the active ones."""
    with contextlib.ExitStack() as stack:
        waiting = []
        for i in range(x - min(x, ACTIVE)):
            # The kernel searches long for a free port when many of a source address are taken.
            client = stack.enter_context(shaken_hands(port, "/", f"127.0.0.{2 + i // PER_SOURCE}"))
            waiting.append(client)
            if len(waiting) == 100:
                await_answers(waiting)
        await_answers(waiting)
        yield


@contextlib.contextmanager
def idle_topics(port: int, x: int) -> Iterator[None]:
    """All but the active ones, with one subscriber that has them all and hears nothing."""
    with shaken_hands(port, f"/many/{x}", "127.0.0.2") as client:
        await_answers([client])
        client.sendall(b"\x89\x80\0\0\0\0")  # a Ping: its answer tells that all was subscribed
        client.recv(4096)
        yield


def shaken_hands(port: int, path: str, source: str) -> socket.socket:
    """A WebSocket whose handshake was sent."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return client


def await_answers(waiting: list[socket.socket]) -> None:
    for client in waiting:
        if b" 101 " not in client.recv(4096):
            raise BenchmarkError("a handshake was refused")
    waiting.clear()


def memory(pid: int) -> int:
    """Proportional set size, bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError(f"no Pss for {pid}")


def echo(connections: int, size: int = 20, depth: int = 1) -> tuple:
    return ("echo", "--connections", connections, "--size", size, "--depth", depth)


def fanout(subscribers: int, topics: int = 1, publishers: int = 1, batch: int = 10) -> tuple:
    options = ("--subscribers", subscribers, "--topics", topics, "--publishers", publishers)
    return ("fanout", *options, "--batch", batch, "--size", 64)


def curves(most: int) -> tuple[Curve, ...]:
    """``most``: how many connections a process may have."""
    connections = (
        *(n for n in (1, 10, 100, 1000, 5000, 10_000, 20_000) if n < most),
        *((most,) if most < 20_000 else ()),
    )
    echoing = (CEILING, OURS, "bun", "picows")
    publishing = (CEILING, OURS, "bun", "socketify", "picows")
    return (
        Curve(
            f"connections, at most {ACTIVE} of them active",
            connections,
            echoing,
            lambda x: echo(min(x, ACTIVE)),
            idle_connections,
        ),
        # The generator uses one source address, of which the kernel finds the later ports slowly.
        Curve("connections, all active", (*connections[:-1], min(14_000, most)), echoing, echo),
        Curve(
            "bytes of a message",
            tuple(4**i for i in range(13)),
            echoing,
            lambda x: echo(4, size=x),
            is_whole=True,
        ),
        Curve("subscribers of a topic", (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000), publishing, fanout),
        Curve(
            "topics, one subscriber each",
            (1, 10, 100, 1000, 9000),
            publishing,
            lambda x: fanout(x, topics=x, publishers=min(x, ACTIVE)),
        ),
        Curve(
            f"topics, {ACTIVE} of them active",
            (1, 10, 100, 1000, 10_000, 100_000),
            (CEILING, OURS, "bun"),
            lambda x: fanout(ACTIVE, topics=ACTIVE, publishers=ACTIVE),
            idle_topics,
            ceiling="uws-topics",
        ),
    )


def measure(curve: Curve, x: int, server: Server, programs: Programs, seconds: float) -> dict:
    server_cores, load_cores = machine.separate_cores()
    mode, *options = curve.load(x)
    if server.name == CEILING:
        server = replace(server, command=(str(programs.folder / "programs" / curve.ceiling),))
    with running(server, server_cores, programs.folder / f"{server.name}.log") as (pid, port):
        empty = memory(pid)
        with curve.idle(port, x) if curve.idle else contextlib.nullcontext():
            opened = memory(pid)
            common = ("--port", port, "--pid", pid, "--warmup", 0.2, "--seconds", seconds, "--min-cpu", 0.6)
            result = put_load(programs.load, load_cores, mode, *common, *options)
            return {
                "cpu_us": result["server_cpu"]["user_us"] + result["server_cpu"]["system_us"],
                "user_us": result["server_cpu"]["user_us"],
                "per_second": result.get("messages_per_second", result.get("deliveries_per_second")),
                "idle_bytes": opened - empty,
                "bytes": memory(pid) - empty,
            }


def run(curve: Curve, servers: dict[str, Server], programs: Programs, rounds: int, seconds: float) -> dict:
    """Medians by server, as a list of points; ``failed`` tells what could not be measured."""
    measured: dict[str, dict[int, list[dict]]] = {}
    failed = []
    for _ in range(rounds):
        for x in curve.points:
            for name in curve.servers:
                if name not in servers:
                    continue
                print(f"\r\033[K{curve.name}: {x:,}, {name}", end="", file=sys.stderr, flush=True)
                try:
                    point = measure(curve, x, servers[name], programs, seconds)
                    measured.setdefault(name, {}).setdefault(x, []).append(point)
                except BenchmarkError as error:
                    failed.append(f"{x:,}, {name}: {error}")
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {
        "servers": {
            name: [{"x": x, **{key: median(r[key] for r in rs) for key in rs[0]}} for x, rs in points.items()]
            for name, points in measured.items()
        },
        "is_whole": curve.is_whole,
        "failed": failed,
    }


def slopes(points: list[dict], is_whole: bool) -> list[dict]:
    """The local exponent of the cost of a turn between neighbouring points, ``steep`` where it is above STEEP."""
    return steps([(p["x"], p["cpu_us"] * (1 if is_whole else p["x"])) for p in points])


def memory_slopes(points: list[dict]) -> list[dict]:
    """The same of the memory of what is idle, from where there is more of it than a page or two of noise."""
    return steps([(p["x"], p["idle_bytes"]) for p in points if p["x"] >= 1000])


def steps(costs: list[tuple[int, float]]) -> list[dict]:
    found = []
    for (x, cost), (next_x, next_cost) in pairwise(costs):
        if cost > 0 and next_cost > 0:  # otherwise too little to be counted
            exponent = math.log(next_cost / cost) / math.log(next_x / x)
            found.append({"from": x, "to": next_x, "exponent": exponent, "steep": exponent > STEEP})
    return found


def table(name: str, curve: dict) -> str:
    """CPU us an event by point and server."""
    return _table(name, curve, "cpu_us", {n: slopes(p, curve["is_whole"]) for n, p in curve["servers"].items()})


def memory_table(curve: dict) -> str:
    """Bytes of user memory that were added by what is idle."""
    return _table("... bytes", curve, "idle_bytes", {n: memory_slopes(p) for n, p in curve["servers"].items()})


def _table(name: str, curve: dict, key: str, found: dict[str, list[dict]]) -> str:
    servers = curve["servers"]
    rows = [[name, *servers]]
    xs = sorted({point["x"] for points in servers.values() for point in points})
    rows += [[f"{x:,}", *(_cell(points, x, key, found[n]) for n, points in servers.items())] for x in xs]
    return aligned(rows)


def _cell(points: list[dict], x: int, key: str, found: list[dict]) -> str:
    """A figure; behind it the exponent of the step that leads here, marked when it is steep."""
    point = next((p for p in points if p["x"] == x), None)
    if point is None:
        return "-"
    step = next((s for s in found if s["to"] == x), None)
    exponent = f"({step['exponent']:.2f}{'!' if step['steep'] else ' '})" if step else " " * 7
    return f"{short(point[key])} {exponent}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how cost grows.")
    parser.add_argument("--rounds", type=int, default=1, help="how often each point is measured (default 1)")
    parser.add_argument("--seconds", type=float, default=0.8, help="length of a measurement (default 0.8)")
    parser.add_argument("--curve", action="append", metavar="TEXT", help="only curves whose name has it")
    parser.add_argument("--server", action="append", metavar="NAME", help="only this server; may be repeated")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--output", default=HERE / "results", help="folder for the result; '' writes none")
    options = parser.parse_args()
    started = datetime.now(timezone.utc)
    # A process has some descriptors of its own, and uwserve keeps 64 for the program around it.
    most = min(20_000, machine.raise_fd_limit() - 500)
    wanted = [c for c in curves(most) if not options.curve or any(text in c.name for text in options.curve)]
    try:
        programs = Programs(options.folder.resolve())
        rivals = Rivals(options.folder.resolve())
        names = {name for curve in wanted for name in curve.servers if not options.server or name in options.server}
        servers = {server.name: server for server in rivals.servers(sorted(names))}
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    versions = machine.versions() | {s.name: s.version for s in servers.values()}
    print(
        "CPU us an event, and the exponent with which the cost of a turn has grown since the point above (! > 1.15)\n"
    )
    document: dict = {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": versions,
        "method": {"rounds": options.rounds, "seconds": options.seconds, "steep": STEEP},
        "curves": {},
    }
    for curve in wanted:
        result = run(curve, servers, programs, options.rounds, options.seconds)
        result["slopes"] = {name: slopes(points, curve.is_whole) for name, points in result["servers"].items()}
        document["curves"][curve.name] = result
        print(table(curve.name, result))
        if curve.idle:
            result["memory_slopes"] = {name: memory_slopes(points) for name, points in result["servers"].items()}
            print(memory_table(result))
        print(*(f"failed: {text}" for text in result["failed"]), "", sep="\n", flush=True)
    document["machine"]["load_average"] = os.getloadavg()
    if options.output:
        path = Path(options.output) / f"growth-{started:%Y-%m-%d-%H%M}.json"
        recorded.write(document, path, 4)
        print(f"written: {path}")
    return 1 if any(c["failed"] for c in document["curves"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
