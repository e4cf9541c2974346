"""The load generator of the benchmarks: it passes a right server, and fails one that alters, loses or swaps messages.

A figure of a generator that does not look is worth nothing; each mode is held to that here, against ``load_server.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from paths import PROGRAMS, ROOT
from processes import Process, process

pytestmark = [
    pytest.mark.alone,
    pytest.mark.plain("its client is a program of its own, and wss is among its cases"),
    pytest.mark.timeout(600),  # the first test builds the generator
]

SOURCES = ROOT / "benchmarks" / "load"
SHORT = ("--warmup", "0.05", "--seconds", "0.3")
ECHO = ("echo", "--connections", "5", *SHORT)
FANOUT = ("fanout", "--subscribers", "20", "--batch", "20", "--size", "40", *SHORT)
PERCENTILES = ["p50", "p90", "p95", "p99", "p99.9", "max"]


@pytest.fixture(scope="module")
def generator() -> Path:
    """The program, built below build/load; what is there already is brought up to date."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    cmake = shutil.which("cmake", path=path)
    if not cmake:
        pytest.skip("there is no cmake to build the load generator with")
    build = ROOT / "build" / "load"
    steps: list[list[str | Path]] = [[cmake, "--build", build]]
    if not (build / "CMakeCache.txt").exists():
        with_ninja = ["-G", "Ninja"] if shutil.which("ninja", path=path) else []
        steps.insert(0, [cmake, "-S", SOURCES, "-B", build, *with_ninja])
    for step in steps:
        done = subprocess.run(
            step, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout[-4000:]
    return build / "uwserve-load"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(chain, key), as files."""
    folder = tmp_path_factory.mktemp("tls")
    leaf = trustme.CA().issue_cert("localhost")
    chain, key = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return chain, key


def put_load(generator: Path, server: Process, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [generator, *options, "--port", str(port), "--pid", str(server.child.pid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def run(generator: Path, options: tuple[str, ...], *server_options: str | Path) -> Any:
    """The result of a run that must succeed."""
    with process(sys.executable, PROGRAMS / "load_server.py", *server_options) as server:
        done = put_load(generator, server, server.port(), *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


def failure(generator: Path, fault: str, options: tuple[str, ...], *server_options: str) -> str:
    """What the generator says of a server with that fault."""
    with process(sys.executable, PROGRAMS / "load_server.py", fault, *server_options) as server:
        done = put_load(generator, server, server.port(), *options)
    assert done.returncode == 1, f"{fault} was not seen: {done.stdout}"
    assert done.stdout == ""
    return done.stderr


def in_order(latency: dict[str, float]) -> bool:
    figures = [latency[name] for name in PERCENTILES]
    return latency["samples"] > 0 and figures == sorted(figures) and figures[0] > 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--size", "0"),
        ("--size", "3", "--type", "binary"),
        ("--depth", "50", "--size", "128"),
        ("--size", "100000", "--depth", "3", "--type", "binary"),
        ("--size", "3000000", "--connections", "2", "--seconds", "2"),
        ("--threads", "2"),
    ],
    ids=" ".join,
)
def test_echo(generator: Path, options: tuple[str, ...]) -> None:
    result = run(generator, (*ECHO, *options))
    assert result["messages"] > 0 and in_order(result["latency_us"])
    assert result["latency_us"]["samples"] == result["messages"]
    cpu = {"user_us", "system_us", "core_share", "waiting_share"}
    assert cpu == result["server_cpu"].keys() == result["load_cpu"].keys()


def test_echo_over_tls(generator: Path, certificate: tuple[Path, Path]) -> None:
    for options in ((), ("--size", "100000", "--depth", "3")):
        assert run(generator, (*ECHO, "--tls", *options), "--tls", *certificate)["messages"] > 0


@pytest.mark.parametrize("size", [8, 1000, 100_000])
def test_echo_compressed(generator: Path, size: int) -> None:
    result = run(generator, (*ECHO, "--deflate", "--size", str(size)), "--deflate")
    assert result["messages"] > 0
    assert size < 1000 or 3 < result["compression_ratio"] < 8
    assert result["replies_inflated"] + result["replies_uncompressed"] > 0


def test_compression_must_be_agreed_on(generator: Path) -> None:
    with process(sys.executable, PROGRAMS / "load_server.py") as server:
        done = put_load(generator, server, server.port(), *ECHO, "--deflate")
    assert done.returncode == 1 and "was not agreed to" in done.stderr


@pytest.mark.parametrize("fault", ["alter", "drop", "duplicate", "reorder", "shorten", "retype"])
@pytest.mark.parametrize("way", ["small", "large", "compressed"])
def test_a_faulty_echo_is_seen(generator: Path, fault: str, way: str) -> None:
    ways: dict[str, tuple[str, ...]] = {"small": (), "large": ("--size", "70000"), "compressed": ("--deflate",)}
    options = (*ECHO, "--depth", "20", "--size", "500", "--seconds", "30", *ways[way])
    said = failure(generator, fault, options, *(["--deflate"] if way == "compressed" else []))
    assert "echo" in said or "not asked for" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("echo", "--connections", "1", "--seconds", "4"), "echoes are missing"),
        (("fanout", "--batch", "1", "--size", "40", "--seconds", "60"), "deliveries of a batch are missing"),
    ],
)
def test_a_loss_that_stops_everything_is_seen(generator: Path, options: tuple[str, ...], says: str) -> None:
    """With one message under way nothing comes after the lost one: ten seconds of silence are an answer, too."""
    assert says in failure(generator, "drop", (*options, "--warmup", "0"))


@pytest.mark.parametrize(
    "options",
    [(), ("--publishers", "3", "--topics", "2"), ("--size", "70000", "--type", "binary"), ("--threads", "2")],
    ids=" ".join,
)
def test_fanout(generator: Path, options: tuple[str, ...]) -> None:
    result = run(generator, (*FANOUT, *options))
    assert result["deliveries"] > 0 and in_order(result["latency_us"])


def test_fanout_over_tls(generator: Path, certificate: tuple[Path, Path]) -> None:
    assert run(generator, (*FANOUT, "--tls"), "--tls", *certificate)["deliveries"] > 0


@pytest.mark.parametrize("fault", ["alter", "drop", "duplicate", "reorder", "shorten", "retype"])
def test_a_faulty_publish_is_seen(generator: Path, fault: str) -> None:
    said = failure(generator, fault, (*FANOUT, "--seconds", "30"))
    assert "message" in said or "deliveries of a batch are missing" in said


def test_storm(generator: Path, certificate: tuple[Path, Path]) -> None:
    options = ("storm", "--concurrency", "8", *SHORT)
    for more in ((), ("--threads", "2")):
        result = run(generator, (*options, *more))
        assert result["connections"] > 0 and result["handshakes_per_second"] > 0
        assert in_order(result["handshake_latency_us"]) and in_order(result["latency_us"])
    assert run(generator, (*options, "--tls"), "--tls", *certificate)["connections"] > 0


@pytest.mark.parametrize("fault", ["alter", "drop", "duplicate"])
def test_a_faulty_storm_is_seen(generator: Path, fault: str) -> None:
    said = failure(generator, fault, ("storm", "--concurrency", "8", "--warmup", "0", "--seconds", "30"))
    assert "echo" in said or "not asked for" in said


def test_hold(generator: Path, certificate: tuple[Path, Path]) -> None:
    options = ("hold", "--connections", "50", "--seconds", "0.1")
    for more, server_options in (((), ()), (("--threads", "2"), ()), (("--tls",), ("--tls", *certificate))):
        result = run(generator, (*options, *more), *server_options)
        assert result["connections"] == 50 and result["handshakes_per_second"] > 0
        assert "pss_bytes_each" in result


def test_slow(generator: Path) -> None:
    """What waits for it is within the limit: all of it comes in the end. Beyond it, something is dropped."""
    options = ("slow", "--subscribers", "5", "--size", "20000", "--rate", "10000", *SHORT)
    result = run(generator, options, "--limit", str(1 << 30))
    assert (
        result["deliveries"] > 0 and in_order(result["latency_us"]) and in_order(result["without_slow"]["latency_us"])
    )
    assert result["slow"]["outcome"] == "delivered" and result["slow"]["messages"] > 0
    assert 0 < result["server_rss_bytes"]["before"] <= result["server_rss_bytes"]["peak"]
    dropping = run(generator, (*options, "--size", "200000", "--seconds", "1"), "--limit", "100000")
    assert dropping["slow"]["outcome"] == "dropped" and dropping["slow"]["missed"] > 0


@pytest.mark.parametrize("fault", ["alter", "drop", "duplicate", "reorder"])
def test_a_fault_beside_a_slow_one_is_seen(generator: Path, fault: str) -> None:
    options = ("slow", "--subscribers", "5", "--size", "100", "--warmup", "0", "--seconds", "30")
    said = failure(generator, fault, options)
    assert "message" in said or "deliveries of a batch are missing" in said


def test_fair(generator: Path) -> None:
    result = run(generator, ("fair", *SHORT))
    assert in_order(result["probe_latency_us"]) and result["flood_messages_per_second"] > 0


@pytest.mark.parametrize("fault", ["alter", "duplicate", "reorder"])
def test_a_faulty_flood_is_seen(generator: Path, fault: str) -> None:
    assert "is wrong" in failure(generator, fault, ("fair", "--warmup", "0.1", "--seconds", "30"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("echo",), "--port is missing"),
        (("shout", "--port", "1"), "unknown mode 'shout'"),
        (("fanout", "--port", "1", "--size", "15"), "--size is at least 16"),
        (("hold", "--port", "1"), "hold needs --pid"),
        (("echo", "--port", "1", "--depth", "0"), "--depth takes a number from 1"),
        (("echo", "--port"), "--port needs a value"),
    ],
)
def test_a_wrong_command_line(generator: Path, options: tuple[str, ...], says: str) -> None:
    done = subprocess.run([generator, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and says in done.stderr
