"""What is measured: the cases of the matrix."""

from __future__ import annotations

from dataclasses import dataclass

CEILING = "uws-c++"
OURS = "uwserve"
IMPORT = "import uwserve"


@dataclass(frozen=True)
class Case:
    """One measurement that servers take in turn."""

    name: str
    mode: str  # of uwserve-load
    options: tuple[object, ...]
    figure: str  # of goals.FIGURES: by which a rival is in reach of the best or not
    unit: str
    arguments: tuple[str, ...] = ()  # of the server
    tls: bool = False
    deflate: bool = False
    servers: tuple[str, ...] | None = None  # None: all


ECHO = ("--connections", 200, "--size", 20, "--depth", 1, "--min-cpu", 2)
HOLD = ("--connections", 10_000, "--seconds", 0.5)
FAIR = ("--size", 20, "--seconds", 3)
FAIR_SERVERS = (CEILING, OURS, "bun", "picows")

CASES = (
    Case("echo 200 x 20 B", "echo", ECHO, "throughput", "messages/s"),
    Case(
        "echo 50 x 128 B, depth 32",
        "echo",
        ("--connections", 50, "--size", 128, "--depth", 32),
        "throughput",
        "messages/s",
    ),
    Case(
        "echo 50 x 16 KiB, depth 4",
        "echo",
        ("--connections", 50, "--size", 16 << 10, "--depth", 4),
        "throughput",
        "messages/s",
    ),
    Case("echo 4 x 1 MiB", "echo", ("--connections", 4, "--size", 1 << 20, "--depth", 1), "throughput", "messages/s"),
    Case(
        "fan-out 1 -> 1,000 x 64 B",
        "fanout",
        ("--subscribers", 1000, "--size", 64, "--batch", 10),
        "throughput",
        "deliveries/s",
    ),
    Case(
        "fan-out 1 -> 100 x 16 KiB",
        "fanout",
        ("--subscribers", 100, "--size", 16 << 10, "--batch", 10),
        "throughput",
        "deliveries/s",
    ),
    Case(
        "deflate echo 50 x 1 KiB JSON",
        "echo",
        ("--connections", 50, "--size", 1 << 10, "--depth", 4),
        "throughput",
        "messages/s",
        deflate=True,
    ),
    Case("wss echo 200 x 20 B", "echo", ECHO, "throughput", "messages/s", tls=True),
    Case("hold 10,000", "hold", HOLD, "throughput", "handshakes/s"),
    Case(
        "hold 10,000, an object each",
        "hold",
        HOLD,
        "memory",
        "bytes each",
        arguments=("data",),
        servers=(OURS,),
    ),
    Case("fair 20 B", "fair", FAIR, "fairness", "us", servers=FAIR_SERVERS),
    Case("fair 20 B, 8 us of work", "fair", FAIR, "fairness", "us", arguments=("work",), servers=(OURS,)),
)
