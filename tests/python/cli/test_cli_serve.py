"""``uwserve serve``: options of the command line over the application's, the banner, the logs, and what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from http_client import DEADLINE, Client, open_websocket, request
from processes import process

pytestmark = pytest.mark.plain("the servers run in processes of their own")

UWSERVE = Path(sys.executable).with_name("uwserve")

APP = """
from uwserve import serve

def fetch(request, server):
    if request.path == "/fail":
        raise ValueError("on purpose")
    return None if server.upgrade(request) else f"{request.path} {request.url.partition(':')[0]}"

options = {"port": 1, "hostname": "127.0.0.1", "fetch": fetch, "websocket": {"message": lambda ws, m: ws.send(m)}}
camel = {"unix": "/nowhere/socket", "fetch": fetch, "idleTimeout": 7}
slashes = options | {"development": True}

async def answer(request):
    return "later"

coroutine = {"port": 0, "hostname": "127.0.0.1", "fetch": answer}

def make():
    return options

def make_server():
    return serve(options | {"port": 0})

def fails():
    return 1 / 0
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "imports.py").write_text("import no_such_module_at_all\n")
    return tmp_path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return folder


def get(port: int, path: str = "/") -> tuple[int, bytes]:
    with Client(port) as client:
        reply = client.ask(request(path).replace(b"Host: a", b"Host: localhost"))
        return reply.status, reply.body


# --- options ---


@pytest.mark.parametrize("target", ["app:options", "app:make", "app:camel"])
def test_the_command_line_replaces_a_dicts_options(app: Path, target: str) -> None:
    arguments = ["--port", "0", "--host", "127.0.0.1", "--dashboard", "/dash", "--metrics"]
    with process(UWSERVE, "serve", target, *arguments, cwd=app) as run:
        port = run.port()
        url = f"http://127.0.0.1:{port}"
        assert run.line() == f"  dashboard  {url}/dash"
        assert run.line() == f"  metrics    {url}/metrics"
        assert get(port) == (200, b"/ http")
        assert get(port, "/dash")[0] == 200
        assert b"uwserve_connections" in get(port, "/metrics")[1]


def test_a_dashboard_keeps_what_is_not_replaced(app: Path) -> None:
    """Paths and names of the application's own; a dict's and a Server's."""
    (app / "seen.py").write_text(
        "from uwserve import serve\n"
        "own = {'path': '/own', 'allow': ['127.0.0.1'], 'hosts': ['my.host']}\n"
        "options = {'port': 0, 'hostname': '127.0.0.1', 'fetch': lambda request: 'x', 'dashboard': own}\n"
        "path = options | {'dashboard': '/own'}\nnone = options | {'dashboard': False}\n"
        "def server(): return serve(options)\n"
    )
    for target, arguments, path, named in (
        ("options", ["--dashboard"], "/own", 200),
        ("options", ["--dashboard", "/new", "--dashboard-allow", "10.0.0.0/8"], "/new", 200),
        ("server", ["--dashboard"], "/own", 200),
        ("server", ["--dashboard", "/new"], "/new", 200),
        ("path", ["--dashboard"], "/own", 404),
        ("none", ["--dashboard"], "/_uwserve", 404),
    ):
        with process(UWSERVE, "serve", f"seen:{target}", *arguments, cwd=app) as run:
            port = run.port()
            assert run.line().endswith(f":{port}{path}")
            assert get(port, path)[0] == 200
            with Client(port) as client:
                assert client.ask(request(path).replace(b"Host: a", b"Host: my.host")).status == named


def test_unix_socket_replaces_a_port(app: Path) -> None:
    with process(UWSERVE, "serve", "app:options", "--unix", "s", cwd=app) as run:
        assert run.line().endswith("/s")
        with Client(str(app / "s")) as client:
            assert client.ask().body == b"/ http"


def test_a_bound_server_cannot_be_moved(app: Path) -> None:
    for arguments, why in (
        (("--port", "0"), "--port cannot move it"),
        (("--host", "::1", "--port", "1"), "--port and --host cannot move it"),
        (("--unix", "x"), "--unix cannot move it"),
        (("--tls-cert", "x"), "made without TLS"),
    ):
        with process(UWSERVE, "serve", "app:make_server", *arguments, cwd=app) as run:
            code, output, errors = run.end()
            assert (code, output) == (2, "")
            assert why in errors
            assert "dict of serve()'s options" in errors
    with process(UWSERVE, "serve", "app:make_server", "--dashboard", cwd=app) as run:
        port = run.port()
        assert run.line().endswith("/_uwserve")
        assert get(port, "/_uwserve")[0] == 200


def test_tls(app: Path, certificate: Path) -> None:
    for files in (
        ("--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem")),
        ("--tls-cert", str(certificate / "both.pem")),
    ):
        with process(UWSERVE, "serve", "app:options", "--port", "0", *files, cwd=app) as run:
            line = run.line()
            assert "https://127.0.0.1:" in line
            assert run.line().startswith("  TLS ")
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client = Client(int(line.rstrip("/").rpartition(":")[2]))
            client.socket = context.wrap_socket(client.socket)
            with client:
                assert client.ask().body == b"/ https"


def test_banner(app: Path) -> None:
    for target, wanted in (
        ("slashes", "  mode       development"),
        ("coroutine", "  handlers   coroutines, on uvloop"),
    ):
        with process(UWSERVE, "serve", f"app:{target}", "--port", "0", cwd=app) as run:
            assert run.line().startswith(f"uwserve serve app:{target} on http://127.0.0.1:")
            assert run.line().startswith(wanted)
    for host in ("0.0.0.0", "::"):
        with process(UWSERVE, "serve", "app:options", "--port", "0", "--host", host, cwd=app) as run:
            assert run.line().startswith("uwserve serve app:options on http://localhost:")
            assert run.line() == f"  listens    on all addresses, {host}"


# --- what goes wrong at the start ---


@pytest.mark.parametrize(
    ("arguments", "words", "traceback"),
    [
        (["broken:x"], ["SyntaxError", "broken.py"], True),
        (["imports:x"], ["no_such_module_at_all", "imports.py"], True),
        (["app:fails"], ["ZeroDivisionError", "return 1 / 0"], True),
        (["app:options", "--port", "0", "--tls-cert", "nowhere.pem"], ["nowhere.pem"], False),
        (["app:options", "--port", "0", "--tls-cert", "app.py"], ["tls"], False),
        (["app:options", "--port", "0", "--host", "no.such.host.invalid"], ["no.such.host.invalid"], False),
        (["app:options", "--port", "0", "--dashboard", "--dashboard-allow", "10.0.0.0/99"], ["10.0.0.0/99"], False),
    ],
)
def test_failures_are_told(app: Path, arguments: list[str], words: list[str], traceback: bool) -> None:
    for extra in ([], ["--log-json"], ["--log-level", "debug"]):
        with process(UWSERVE, "serve", *arguments, *extra, cwd=app) as run:
            code, output, errors = run.end()
        assert (code, output) == (1, "")
        assert all(word in errors for word in words), errors
        assert "uwserve/cli/" not in errors.replace("\\\\", "/") or not traceback or extra
        if extra == ["--log-json"]:
            told = [json.loads(line) for line in errors.splitlines()]
            assert told[-1]["level"] == "critical"
            assert ("exc_info" in told[-1]) == traceback
        elif extra:
            assert "Traceback" in errors or "SyntaxError" in words
        else:
            assert ("Traceback" in errors or "SyntaxError" in words) == traceback
            assert errors.splitlines()[-1].startswith("uwserve: ")
            assert traceback or len(errors.splitlines()) == 1


def test_address_in_use(app: Path) -> None:
    with process(UWSERVE, "echo", "--port", "0") as first:
        port = first.port()
        with process(UWSERVE, "serve", "app:options", "--port", str(port), cwd=app) as second:
            code, _, errors = second.end()
            assert code == 1
            assert re.fullmatch(
                rf"uwserve: app:options: \[Errno 98\] .* in use: '?127.0.0.1:{port}'? \(--port .*\)\n", errors
            ), errors
    with process(UWSERVE, "echo", "--unix", "s", cwd=app) as first:
        assert first.line().endswith("/s")
        with process(UWSERVE, "serve", "app:options", "--unix", "s", cwd=app) as second:
            code, _, errors = second.end()
            assert code == 1
            assert errors.endswith(" (--unix chooses another)\n"), errors


# --- logs ---


def test_text_log(app: Path) -> None:
    with process(UWSERVE, "serve", "app:options", "--port", "0", "--access-log", cwd=app) as run:
        port = run.port()
        assert get(port, "/a?b")[0] == 200
        assert get(port, "/fail")[0] == 500
        with Client(port) as client:
            open_websocket(client, "/ws")
        run.child.send_signal(signal.SIGTERM)
        code, _, errors = run.end()
    assert code == 0
    assert "\x1b" not in errors
    lines = [re.sub(r"^[\d-]{10} [\d:]{8}\.\d{3} ", "", line) for line in errors.splitlines()]
    assert re.fullmatch(r'INFO    127.0.0.1 "GET /a\?b" 200 \d+\.\d ms', lines[0]), lines
    assert "ValueError: on purpose" in lines
    assert any(re.fullmatch(r'INFO    127.0.0.1 "GET /fail" 500 \d+\.\d ms', line) for line in lines)
    assert any(re.fullmatch(r'INFO    127.0.0.1 "GET /ws" 101 \d+\.\d ms', line) for line in lines)
    # Once, and in other words when the last client's end has not been noticed yet.
    assert (
        len([line for line in lines if re.match(r"INFO    Stopping http://127.0.0.1:|WARNING stopping; 1 ", line)]) == 1
    )
    assert lines[-1].startswith("INFO    Stopped ")


def test_json_log(app: Path) -> None:
    with process(
        UWSERVE, "serve", "app:options", "--port", "0", "--log-json", "--access-log", "--log-level", "debug", cwd=app
    ) as run:
        assert run.child.stderr
        first = json.loads(run.child.stderr.readline())
        port = int(first["url"].rstrip("/").rpartition(":")[2])
        assert get(port, "/fail")[0] == 500
        with Client(port) as client:
            open_websocket(client, "/ws")
        run.child.send_signal(signal.SIGTERM)
        code, output, errors = run.end()
    assert (code, output) == (0, "")
    told = [first, *(json.loads(line) for line in errors.splitlines())]
    for entry in told:
        assert {"time", "level", "logger", "message", "connection", "remote_address", "method", "path"} <= set(entry)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    failed = next(entry for entry in told if entry["level"] == "error")
    assert (failed["method"], failed["path"], failed["logger"]) == ("GET", "/fail", "uwserve")
    assert failed["exc_info"].endswith("ValueError: on purpose")
    upgraded = next(entry for entry in told if entry.get("status") == 101)
    assert upgraded["logger"] == "uwserve.access"
    assert upgraded["duration_ms"] > 0
    opened = next(entry for entry in told if entry["message"].startswith("Open: "))
    assert (opened["connection"], opened["remote_address"], opened["level"]) == (1, "127.0.0.1", "debug")


def test_access_log_of_late_answers(tmp_path: Path) -> None:
    """Coroutines, streams, a reload; targets cannot forge lines."""
    (tmp_path / "late.py").write_text(
        "import asyncio\nfrom uwserve import Response\n"
        "async def fetch(request, server):\n"
        "    await asyncio.sleep(0.05)\n"
        "    if request.path == '/reload':\n"
        "        server.reload(fetch=lambda request: Response(iter(['a', 'b']), 201))\n"
        "    return 'late'\n"
        "options = {'port': 0, 'hostname': '127.0.0.1', 'fetch': fetch}\n"
    )
    with process(UWSERVE, "serve", "late:options", "--log-json", "--access-log", cwd=tmp_path) as run:
        assert run.child.stderr
        port = int(json.loads(run.child.stderr.readline())["url"].rstrip("/").rpartition(":")[2])
        for path, status in (("/late", 200), ("/reload", 200), ("/stream%0a", 201)):
            assert get(port, path)[0] == status
        run.child.send_signal(signal.SIGTERM)
        told = [json.loads(line) for line in run.end()[2].splitlines()]
    seen = [(entry["path"], entry["status"], entry["duration_ms"] >= 50) for entry in told if "status" in entry]
    assert seen == [("/late", 200, True), ("/reload", 200, True), ("/stream%0a", 201, False)]


def on_terminal(*arguments: str, cwd: Path, **environment: str) -> str:
    """What the command writes to a terminal, until it is told to stop there."""
    parent, child = pty.openpty()
    settings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    settings |= {"TERM": "xterm"} | environment
    run = subprocess.Popen([UWSERVE, *arguments], stdout=child, stderr=child, cwd=cwd, env=settings)
    os.close(child)
    seen = b""
    try:
        end = time.monotonic() + DEADLINE
        while b"Stopped" not in seen:
            assert select.select([parent], [], [], end - time.monotonic())[0], seen
            seen += os.read(parent, 4096)
            if seen.count(b"\n") == 2 and run.poll() is None:  # the banner is complete
                run.send_signal(signal.SIGINT)
        assert run.wait(DEADLINE) == 0
    finally:
        run.kill()
        run.wait()
        os.close(parent)
    return seen.decode().replace("\r\n", "\n")


def test_colours(app: Path) -> None:
    """On a terminal, unless told otherwise."""
    arguments = ("serve", "app:options", "--port", "0")
    assert "\x1b[32mINFO   \x1b[0m Stopped" in on_terminal(*arguments, cwd=app)
    assert "Ctrl-C, twice to cut" in on_terminal(*arguments, cwd=app)
    for text in (
        on_terminal(*arguments, "--no-color", cwd=app),
        on_terminal(*arguments, cwd=app, NO_COLOR="1"),
        on_terminal(*arguments, "--no-color", cwd=app, FORCE_COLOR="1"),
        on_terminal(*arguments, cwd=app, TERM="dumb"),
    ):
        assert "\x1b" not in text
        assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} INFO    Stopped http", text, re.MULTILINE), text


def test_import_stays_light() -> None:
    """Nothing of the command is imported by the package, nor what the dashboard needs."""
    source = (
        "import sys, uwserve; print([m for m in ('argparse', 'logging', 'json', 'asyncio', 'ipaddress', "
        "'uwserve.cli', 'uwserve.dashboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
