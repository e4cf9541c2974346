"""The examples about what goes on while a server runs: backpressure, compression, TLS, other loops and notebooks."""

from __future__ import annotations

import json
import os
import signal
import ssl
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from example_processes import EXAMPLES, example
from http_client import DEADLINE, Client, request
from processes import process
from websockets.sync.client import connect as websockets_connect
from ws_client import Client as RawClient
from ws_client import eventually

from uwserve.testing import connect

pytestmark = pytest.mark.plain("the servers run in processes of their own")


# --- telemetry ---


def sample(data: bytes) -> tuple[int, int, tuple[float, ...]]:
    """(number, dropped before it, waveform)."""
    number, dropped = struct.unpack("!II", data[:8])
    return number, dropped, struct.unpack("!2048f", data[8:])


def test_telemetry_drops_for_the_slow_one_only(tmp_path: Path) -> None:
    with (
        example("telemetry.py", tmp_path, RATE=400) as run,
        run.connect() as quick,
        RawClient(("127.0.0.1", run.port), receive_buffer=8192, timeout=DEADLINE) as slow,
    ):

        def state() -> Any:
            with Client(run.port) as client:
                return {one["client"]: one for one in client.ask().json()}

        behind: list[Any] = []
        last, dropped, waveform = sample(quick.receive_bytes())
        assert max(waveform) <= 1
        assert min(waveform) < 0 < max(waveform)

        def read_on() -> bool:
            nonlocal last
            for _ in range(100):
                number, gone, _ = sample(quick.receive_bytes())
                assert (number, gone) == (last + 1, dropped)
                last = number
            behind[:] = [one for one in state().values() if one["dropped"] > 100]
            return bool(behind)

        eventually(read_on, "the slow client to be behind")
        assert len(behind) == 1
        assert 256 * 1024 <= behind[0]["buffered"] < 300 * 1024
        assert dropped == 0
        # Now it reads: what was buffered without a gap, then fresh ones; the figure tells of each one that is missing.
        numbers, told = [], 0
        while told == 0 or numbers[-1] < last:
            number, told, _ = sample(slow.read_message())
            assert not numbers or number > numbers[-1]
            numbers.append(number)
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        assert told - 16 <= missing <= told
        quick.drop()


# --- compression ---


def test_compression(tmp_path: Path) -> None:
    with example("compression.py", tmp_path) as run, Client(run.port) as http:
        assert http.ask().json()["saved"] == "nothing yet"
        with run.connect(compression=True) as ws, run.connect() as plain:
            sizes = []
            for client in (ws, plain):
                before = client.bytes_received
                client.send("sensors")
                rows = client.receive_json()
                assert len(rows) == 100
                assert {row["subject"] for row in rows} == {"sensors"}
                sizes.append(client.bytes_received - before)
            assert sizes[0] < sizes[1] / 8
            before = ws.bytes_received
            ws.send("sensors")
            assert ws.receive_json() == rows
            assert ws.bytes_received - before < sizes[0] / 4  # the context is kept
            for sent in (b"\0" * 5000, ""):
                before = ws.bytes_received
                ws.send(sent)
                answer = ws.receive()
                assert ws.bytes_received - before >= len(answer)  # as it is
            figures = http.ask().json()
            assert (figures["messages"], figures["compressed_messages"]) == (5, 2)
            assert figures["bytes_before"] == 2 * len(json.dumps(rows))
            assert int(figures["saved"].rstrip("%")) > 85
            ws.close()


# --- TLS ---


def test_tls_reload(tmp_path: Path) -> None:
    """The certificate changes for new connections, a broken one does not, and an open socket goes on through it all."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def issue() -> trustme.LeafCert:
        leaf = authority.issue_cert("localhost")
        leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
        leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        return leaf

    def served(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=DEADLINE)

    def normal(pem: bytes) -> str:
        return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem.decode()))

    first = issue()
    with example("tls_reload.py", tmp_path) as run:
        url = f"wss://localhost:{run.port}/"
        with connect(url, ssl_context=context) as ws, websockets_connect(url, ssl=context, proxy=None) as other:
            assert served(run.port) == normal(first.cert_chain_pems[0].bytes())
            second = issue()
            os.kill(run.pid(), signal.SIGHUP)
            assert run.run.line() == "new connections get the new certificate"
            assert served(run.port) == normal(second.cert_chain_pems[0].bytes())
            authority.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
            os.kill(run.pid(), signal.SIGHUP)
            run.wait_for_error("the old certificate stays: ")
            assert served(run.port) == normal(second.cert_chain_pems[0].bytes())
            for client, receive in ((ws, ws.receive), (other, other.recv)):
                client.send("still here")
                assert receive() == "still here"
        with connect(url, ssl_context=context) as ws:
            ws.send("new")
            assert ws.receive() == "new"


# --- beside FastAPI ---


def test_beside_fastapi(tmp_path: Path) -> None:
    """A request to the app reaches the sockets, a message reaches the app."""
    with example("beside_fastapi.py", tmp_path) as run:
        app = run.run.port()
        with Client(app) as http:

            def post(text: str) -> Any:
                body = json.dumps({"text": text}).encode()
                return http.ask(request("/notices", "POST", body, "Content-Type: application/json"))

            reply = post("early")
            assert (reply.status, reply.json()) == (201, {"receivers": 0})
            with run.connect() as one, run.connect() as two:
                assert one.receive() == two.receive() == "early"
                assert post("hello").json() == {"receivers": 2}
                assert one.receive() == two.receive() == "hello"
                one.send("heard by the app")
                one.ping()
                assert http.ask(request("/heard")).json() == {"heard": ["heard by the app"]}
            assert post("").status == 201
            assert http.ask(request("/notices", "POST", b"{}", "Content-Type: application/json")).status == 422
            assert b"Notices" in http.ask(request("/docs")).body


# --- a notebook ---

KERNEL = """
import sys, json, __main__
for line in sys.stdin:
    exec(compile(json.loads(line), "cell", "exec"), vars(__main__))
    print("done", flush=True)
"""


def test_notebook(tmp_path: Path) -> None:
    """The cells in one namespace, as a notebook runs them, and again with a change: port and sockets stay."""
    source = (EXAMPLES / "notebook.py").read_text()
    setup, cell, publish, end = source.split("\n# %%")[1:]
    with process("env", "PORT=0", sys.executable, "-c", KERNEL, cwd=tmp_path) as run:

        def execute(code: str) -> list[str]:
            assert run.child.stdin
            run.child.stdin.write(json.dumps("# %%" + code).encode() + b"\n")
            run.child.stdin.flush()
            lines = []
            while (line := run.line()) != "done":
                lines.append(line)
            return lines

        assert execute(setup) == []
        [line] = execute(cell)
        url = line.removeprefix("notebook on http")
        with connect("ws" + url) as ws:
            ws.send("a")
            assert ws.receive() == "received 1"
            execute(publish)
            assert ws.receive() == "hello from a cell"
            changed = cell.replace('f"received {len(received)}"', 'f"again {received}"')
            assert changed != cell
            for _ in range(2):
                assert execute(changed) == [line]
            ws.send("b")
            assert ws.receive() == "again ['a', 'b']"
            assert execute(setup + "\n# %%" + changed) == [line]  # all cells, from the top
            ws.send("c")
            assert ws.receive() == "again ['c']"
            assert execute("\nprint(server.pending_websockets)") == ["1"]
            execute(end.replace("    input()\n", ""))
            ws.expect_close(1001)
            [fresh] = execute(cell)  # after the end, a new one
            with connect("ws" + fresh.removeprefix("notebook on http")) as ws:
                ws.ping()
            execute("\nserver.stop(True).wait(5)")
        assert run.end() == (0, "", "")


def test_notebook_as_a_program(tmp_path: Path) -> None:
    with process("env", "PORT=0", sys.executable, EXAMPLES / "notebook.py", cwd=tmp_path) as run:
        with connect(f"ws://127.0.0.1:{run.port()}/") as ws:
            ws.send("x")
            assert ws.receive() == "received 1"
        assert run.child.communicate(b"\n", timeout=DEADLINE) == (b"", b"")
        assert run.child.returncode == 0
