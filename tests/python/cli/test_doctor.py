"""``uwserve doctor`` and ``uwserve bench``: what they tell, and that they notice what is wrong."""

from __future__ import annotations

import json
import re
import resource
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from http_client import running, upgrade
from processes import process

import uwserve
from uwserve import _core
from uwserve.cli import client
from uwserve.cli.doctor import _limits

pytestmark = pytest.mark.plain("the servers run in processes of their own")

UWSERVE = Path(sys.executable).with_name("uwserve")


def findings(output: str) -> dict[str, dict[str, Any]]:
    told = json.loads(output)
    return {finding["name"]: finding for section in told["sections"].values() for finding in section}


def test_doctor() -> None:
    with process(UWSERVE, "doctor") as run:
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    assert output.endswith("Nothing is broken.\n")
    for word in (uwserve.__version__, _core.uwebsockets_version, _core.codec, _core.openssl_version, "GCC", "epoll"):
        assert word in output, word
    assert re.search(r"^   echo on 127.0.0.1 +works$", output, re.MULTILINE), output


def test_doctor_as_json() -> None:
    with process(UWSERVE, "doctor", "--json", "--connections", "500") as run:
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    told = findings(output)
    assert told["version"]["broken"] is False
    assert told["pybind11"]["value"] == _core.build["pybind11"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", told["pybind11"]["value"])
    assert told["TLS"]["value"].startswith("OpenSSL 3")
    assert told["net.core.somaxconn"]["value"] == int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert told["echo on 127.0.0.1"]["value"] == "works"


def test_doctor_says_what_to_change() -> None:
    """Too few descriptors for what is planned, under a limit that is set here."""
    source = """
        import resource, sys
        from uwserve.cli import main
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, SOFT))
        sys.exit(main(["doctor", "--json", "--connections", "1000"]))
    """
    for hard, advice in (("4096", "ulimit -n 1067"), ("256", "LimitNOFILE=1067")):
        with process(sys.executable, "-c", textwrap.dedent(source).replace("SOFT", hard)) as run:
            code, output, _ = run.end()
        told = findings(output)
        assert code == 0
        assert told["descriptors, soft limit"]["value"] == 256
        assert advice in told["descriptors, soft limit"]["advice"]


def test_doctor_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    limits = {finding.name: finding for finding in _limits(1000)}
    for which in ("soft", "hard"):
        finding = limits[f"descriptors, {which} limit"]
        assert (finding.value, finding.advice) == ("unlimited", "")


@pytest.mark.parametrize("missing", ["uvloop", "prometheus_client", "watchfiles"])
def test_doctor_names_the_extras(missing: str) -> None:
    source = f"""
        import importlib.util, sys
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)
        from uwserve.cli import main
        sys.exit(main(["doctor", "--json"]))
    """
    with process(sys.executable, "-c", textwrap.dedent(source)) as run:
        code, output, _ = run.end()
    finding = findings(output)[missing.replace("_", "-")]
    assert code == 0
    assert finding["value"] is None
    assert "pip install" in finding["advice"]


def test_doctor_finds_what_is_broken() -> None:
    """A server that cannot bind; an extension that does not import."""
    no_server = """
        import sys, uwserve
        def serve(*arguments, **options): raise OSError("no network today")
        uwserve.serve = serve
        from uwserve.cli import main
        sys.exit(main(["doctor"]))
    """
    with process(sys.executable, "-c", textwrap.dedent(no_server)) as run:
        code, output, _ = run.end()
    assert code == 1
    assert "no network today" in output
    assert output.endswith("Something is broken, see !! above.\n")
    no_extension = """
        import sys
        sys.modules["uwserve._core"] = None
        from uwserve.__main__ import main
        sys.exit(main(["doctor"]))
    """
    with process(sys.executable, "-c", textwrap.dedent(no_extension)) as run:
        code, output, errors = run.end()
    assert code == 1
    assert "uwserve._core" in output + errors


def test_bench_of_its_own_server() -> None:
    with process(UWSERVE, "bench", "--connections", "4", "--seconds", "0.5", "--json") as run:
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    told = json.loads(output)
    assert told["messages"] > 10
    micro = told["latency_us"]
    assert 0 < micro["p50"] <= micro["p90"] <= micro["p99"] <= micro["max"]
    assert told["messages_per_second"] == pytest.approx(told["messages"] / told["seconds"], rel=0.01)
    assert 0 < told["client_cpu"] <= 1.2
    with process(UWSERVE, "bench", "--connections", "16", "--seconds", "1") as run:
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    assert "messages" in output
    assert "16 connections, 64 bytes, 1 s\n" in output
    assert re.search(r"counted +0\.[89] s: the first 0.2 s are a warm-up\n", output), output
    share = int((re.search(r"client +(\d+)% of a core", output) or ["", "0"])[1])
    assert "benchmarks/" in output
    assert ("this is its speed" in output) == (share > 85)


def test_bench_over_ipv6() -> None:
    """The address is in brackets in the field Host (RFC 3986 section 3.2.2), or the server refuses it."""
    handlers = {"message": lambda ws, message: ws.send(message)}
    with (
        running(fetch=upgrade, websocket=handlers, hostname="::1") as server,
        process(UWSERVE, "bench", f"ws://[::1]:{server.port}/", "--seconds", "0.5", "--json") as run,
    ):
        code, output, errors = run.end()
    assert (code, errors) == (0, "")
    assert json.loads(output)["messages"] > 0


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536, 1 << 20])
def test_bench_of_a_url(size: int) -> None:
    handlers = {"message": lambda ws, message: ws.send(message)}
    with running(fetch=upgrade, websocket=handlers) as server:
        url = server.url.replace("http", "ws") + "x?y"
        with process(
            UWSERVE, "bench", url, "--size", str(size), "--seconds", "1", "--connections", "2", "--json"
        ) as run:
            code, output, errors = run.end()
    assert (code, errors) == (0, "")
    assert json.loads(output)["messages"] > 0


def test_bench_over_tls() -> None:
    import trustme

    issued = trustme.CA().issue_cert("localhost")
    tls = {
        "key": issued.private_key_pem.bytes().decode(),
        "cert": b"".join(pem.bytes() for pem in issued.cert_chain_pems).decode(),
    }
    with running(fetch=upgrade, websocket={"message": lambda ws, message: ws.send(message)}, tls=tls) as server:
        for size in ("20", "300000"):
            url = f"wss://127.0.0.1:{server.port}/"
            with process(
                UWSERVE, "bench", url, "--seconds", "1", "--size", size, "--connections", "2", "--json"
            ) as run:
                code, output, errors = run.end()
            assert (code, errors) == (0, "")
            assert json.loads(output)["messages"] > 0


def test_bench_of_what_is_no_echo_server(unused_port: int) -> None:
    """One line, and exit code 1; never a wait without end."""
    with running(fetch=upgrade, websocket={"message": lambda ws, message: ws.send(b"?" + message[1:])}) as server:
        for url, why in (
            (f"ws://127.0.0.1:{server.port}/", "is it an echo server?"),
            (f"ws://127.0.0.1:{unused_port}/", "cannot connect to"),
        ):
            with process(UWSERVE, "bench", url, "--seconds", "1") as run:
                code, output, errors = run.end()
            assert (code, output) == (1, "")
            assert why in errors
            assert errors.count("\n") == 1
    with running(fetch=lambda request: "no") as server:
        with process(UWSERVE, "bench", f"ws://127.0.0.1:{server.port}/") as run:
            code, _, errors = run.end()
        assert code == 1
        assert "no WebSocket at" in errors
        assert "200 OK" in errors
    with running(fetch=upgrade, websocket={"message": lambda ws, message: None}) as server:
        with process(UWSERVE, "bench", f"ws://127.0.0.1:{server.port}/", "--seconds", "0.5") as run:
            code, _, errors = run.end()
        assert code == 1
        assert "no message came back in time" in errors


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_frames_of_the_client() -> None:
    """RFC 6455 section 5.2: each form of the length."""
    for size, head in (
        (0, b"\x82\x80"),
        (125, b"\x82\xfd"),
        (126, b"\x82\xfe\0\x7e"),
        (65536, b"\x82\xff\0\0\0\0\0\1\0\0"),
    ):
        payload = bytes(size)
        assert client.frame(payload) == head + bytes(4) + payload
        assert client.answer(payload) == b"\x82" + bytes([head[1] & 0x7F]) + head[2:] + payload
