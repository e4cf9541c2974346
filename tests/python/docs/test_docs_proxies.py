"""The configurations of docs/guide/proxies.md, in the real proxies, in front of a server: sockets and addresses pass.

Each proxy listens on a free port of loopback. The client comes from 127.0.0.2, the proxy from 127.0.0.1 (or a unix
socket), so that what the server believes shows. A proxy that is not installed is skipped, with its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import blocks
from http_client import DEADLINE
from paths import ROOT
from processes import bare_environment
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import uwserve

pytestmark = pytest.mark.plain("the proxies of the documentation speak plain HTTP to the server")

PAGE = ROOT / "docs" / "guide" / "proxies.md"
CONFIGURATIONS = {block.told["config"].strip(): block for block in blocks(PAGE) if "config" in block.told}
CLIENT = "127.0.0.2"

NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {0}
}}
"""
CADDY = "{{\n    admin off\n}}\n{0}"

# what is around the documented text, and the commands that check it and run it
PROXIES: dict[str, tuple[str, list[str], list[str]]] = {
    "nginx": (NGINX, ["nginx", "-t"], ["nginx"]),
    "caddy": (CADDY, ["caddy", "validate"], ["caddy", "run"]),
    "haproxy": ("{0}", ["haproxy", "-c"], ["haproxy", "-db"]),
}


def program(name: str) -> str:
    return name.partition("-")[0]


def arguments(name: str, config: Path) -> list[str]:
    if program(name) == "nginx":
        return ["-p", str(config.parent), "-e", "stderr", "-c", str(config)]
    if program(name) == "caddy":
        return ["--config", str(config), "--adapter", "caddyfile"]
    return ["-f", str(config)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def path_with_sbin() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


UNIX_PATH = "/run/app/app.sock"
NAMES = sorted({*PROXIES, "haproxy-proxy-protocol", "nginx-unix"})


@pytest.fixture(params=NAMES)
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[uwserve.Server, int]]:
    """(the server, the port of the proxy in front of it)."""
    name = request.param
    found = shutil.which(program(name), path=path_with_sbin())
    if found is None:
        pytest.skip(f"{program(name)} is not installed (make setup): its documented configuration was not tried")
    with server_behind(name, tmp_path) as server, running(name, found, server.port or 0, tmp_path) as port:
        yield server, port


@contextlib.contextmanager
def server_behind(name: str, folder: Path) -> Iterator[uwserve.Server]:
    def fetch(request: uwserve.Request, server: uwserve.Server) -> Any:
        if server.upgrade(request):
            return None
        return f"{server.request_ip(request)[0]} {request.method} {request.headers.get('host')}"

    websocket = {
        "open": lambda ws: ws.send(ws.remote_address),
        "message": lambda ws, message: ws.close(4000, "told to") if message == "close" else ws.send(message),
    }
    options: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"], "hostname": "127.0.0.1", "port": 0}
    if name.endswith("proxy-protocol"):
        options |= {"proxy_protocol": True, "forwarded_header": None}
    if name.endswith("-unix"):  # nginx's workers are another user's, where it is started by root
        options = {"trusted_proxies": ["unix"], "unix": folder / "app.sock", "unix_mode": 0o666}
        let_others_in(folder)
    with uwserve.serve(fetch=fetch, websocket=websocket, **options) as server:
        server.start()
        yield server


def let_others_in(folder: Path) -> None:
    """Other users reach what is in the test's own folder, as far as it says so itself."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


@contextlib.contextmanager
def running(name: str, found: str, server_port: int, folder: Path) -> Iterator[int]:
    """The proxy with its documented configuration, on a free port."""
    around, check, run = PROXIES[program(name)]
    text = CONFIGURATIONS[name].text
    upstream = UNIX_PATH if name.endswith("-unix") else "3000"
    replacement = str(folder / "app.sock") if name.endswith("-unix") else str(server_port)
    assert text.count(upstream) == 1
    assert text.count("8080") == 1
    for attempt in range(3):
        port = free_port()  # somebody may take it before the proxy does: then once more
        config = folder / f"config{attempt}"
        config.write_text(around.format(text.replace(upstream, replacement).replace("8080", str(port))))
        environment = bare_environment() | {
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        }
        command = arguments(name, config)
        whole = [found, *check[1:], *command]
        checked = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert checked.returncode == 0, checked.stderr
        with subprocess.Popen([found, *run[1:], *command], env=environment, stderr=subprocess.PIPE) as child:
            try:
                if listens(child, port):
                    yield port
                    return
            finally:
                child.terminate()
                _, errors = child.communicate(timeout=DEADLINE)
    raise AssertionError(errors.decode())


def listens(child: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the child accepts connections; False when it has ended instead."""
    end = time.monotonic() + DEADLINE
    while child.poll() is None:
        assert time.monotonic() < end, "the proxy does not listen"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
            return True
        time.sleep(0.01)  # nothing tells when it listens
    return False


def client(port: int, **headers: str) -> Any:
    made = socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(CLIENT, 0))
    uri = f"ws://127.0.0.1:{port}/"
    options: dict[str, Any] = {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "max_size": None, "proxy": None}
    return connect(uri, sock=made, additional_headers=headers, **options)


def test_every_configuration_is_run() -> None:
    assert sorted(CONFIGURATIONS) == NAMES


def test_without_unix_mode_nginx_cannot_connect(tmp_path: Path) -> None:
    """Why the documentation gives the path a mode: as the umask leaves it, another user gets 502."""
    found = shutil.which("nginx", path=path_with_sbin())
    if found is None or os.getuid() != 0:
        pytest.skip("needs nginx (make setup), started by root so that its workers are another user's")
    let_others_in(tmp_path)
    path = tmp_path / "app.sock"
    for mode, status in ((None, b"502"), (0o666, b"200")):
        with uwserve.serve(fetch=lambda request: "ok", unix=path, unix_mode=mode) as server:
            server.start()
            with (
                running("nginx-unix", found, 0, tmp_path) as port,
                socket.create_connection(("127.0.0.1", port)) as sock,
            ):
                sock.settimeout(DEADLINE)
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 " + status), mode


def test_messages_and_the_address_pass(proxied: tuple[uwserve.Server, int]) -> None:
    server, port = proxied
    with client(port) as ws:
        assert ws.recv(timeout=DEADLINE) == CLIENT
        for message in ("text é", b"\0binary", "", "x" * 1_000_000):
            ws.send(message)
            assert ws.recv(timeout=DEADLINE) == message
        ws.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=DEADLINE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "told to")
    assert server.stats()["closes"] == {4000: 1}


def test_what_a_client_claims_is_not_believed(proxied: tuple[uwserve.Server, int]) -> None:
    _, port = proxied
    with client(port, **{"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}) as ws:
        assert ws.recv(timeout=DEADLINE) == CLIENT


def test_plain_requests_pass(proxied: tuple[uwserve.Server, int]) -> None:
    _, port = proxied
    with socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(CLIENT, 0)) as asked:
        asked.sendall(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: asked.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"127.0.0.2 GET example.com" in body


def test_a_client_that_breaks_off_is_noticed(proxied: tuple[uwserve.Server, int]) -> None:
    server, port = proxied
    with client(port) as ws:
        assert ws.recv(timeout=DEADLINE) == CLIENT
        ws.socket.shutdown(socket.SHUT_RDWR)
    server.stop()  # ends with the last connection: the proxy must let go of the server's side
    server.stop().wait(DEADLINE)
    assert server.finished
