"""Where a server listens: ports in use and shared, addresses of others, unix paths in every state."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_client import Client, bound, descriptors, request, running

from uwserve import Request, serve

pytestmark = pytest.mark.plain("addresses, not what goes over them")


def path_of(request: Request) -> str:
    return request.path


def raises_errno(number: int, call: Callable[[], Any]) -> OSError:
    before = descriptors()
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number, caught.value
    assert descriptors() == before
    return caught.value


def test_a_port_in_use() -> None:
    """EADDRINUSE with the address in the text, also when the other one offers to share; then the port is free again."""
    with bound() as first:
        error = raises_errno(errno.EADDRINUSE, lambda: serve(fetch=path_of, port=first.port, hostname="127.0.0.1"))
        assert f"127.0.0.1:{first.port}" in str(error)
        raises_errno(
            errno.EADDRINUSE, lambda: serve(fetch=path_of, port=first.port, hostname="127.0.0.1", reuse_port=True)
        )
        port = first.port
    with bound(port=port) as again:
        assert again.port == port


def test_reuse_port() -> None:
    """Only servers that all ask for it share a port."""
    with bound(reuse_port=True) as first, bound(reuse_port=True, port=first.port) as second:
        assert second.port == first.port
        raises_errno(errno.EADDRINUSE, lambda: serve(fetch=path_of, port=first.port, hostname="127.0.0.1"))


def test_a_port_is_free_after_connections() -> None:
    """SO_REUSEADDR: connections in TIME_WAIT do not keep the next server from the port."""
    port = 0
    for _ in range(3):
        with running(port=port, fetch=path_of) as server, Client(server) as client:
            port = server.port or 0
            assert client.ask(request("/", "GET", None, "Connection: close")).status == 200
            assert client.at_end()


def test_addresses_that_are_not_ours() -> None:
    raises_errno(errno.EADDRNOTAVAIL, lambda: serve(fetch=path_of, port=0, hostname="192.0.2.1"))
    with pytest.raises(socket.gaierror, match=r"a\.\.b"):
        serve(fetch=path_of, port=0, hostname="a..b")


def test_unix_paths(tmp_path: Path) -> None:
    """str, bytes and PathLike; the file appears as a socket and goes with the server."""
    path = tmp_path / "é s"
    for spelled in (str(path), os.fsencode(path), path):
        with running(fetch=path_of, unix=spelled) as server, Client(str(path)) as client:
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert (server.port, server.hostname, server.url) == (None, None, f"unix://{path}")
            assert client.ask().body == b"/"
        assert not path.exists()


def test_abstract_unix_name() -> None:
    name = f"\0uwserve-test-{os.getpid()}"
    with running(fetch=path_of, unix=name) as server, Client(name) as client:
        assert server.url == f"abstract://{name[1:]}"
        assert client.ask().body == b"/"
        error = raises_errno(errno.EADDRINUSE, lambda: serve(fetch=path_of, unix=name))
        assert name[1:] in str(error)
    with pytest.raises(ConnectionRefusedError):
        Client(name)


def test_a_unix_path_in_use(tmp_path: Path) -> None:
    """A listening one is refused and keeps working; a stale one is replaced; a file that is no socket stays."""
    path = tmp_path / "s"
    with running(fetch=path_of, unix=path):
        error = raises_errno(errno.EADDRINUSE, lambda: serve(fetch=path_of, unix=path))
        assert str(path) in str(error)
        with Client(str(path)) as client:
            assert client.ask().status == 200
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with running(fetch=path_of, unix=path), Client(str(path)) as client:
        assert client.ask().status == 200
    path.write_text("precious")
    with pytest.raises(OSError):
        serve(fetch=path_of, unix=path)
    assert path.read_text() == "precious"


def test_unix_paths_that_cannot_be(tmp_path: Path) -> None:
    raises_errno(errno.ENOENT, lambda: serve(fetch=path_of, unix=tmp_path / "no" / "s"))
    raises_errno(errno.ENAMETOOLONG, lambda: serve(fetch=path_of, unix="/tmp/" + "x" * 200))
    raises_errno(errno.ENAMETOOLONG, lambda: serve(fetch=path_of, unix="\0" + "x" * 200))
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(OSError):
            serve(fetch=path_of, unix=os.path.join(folder, "x" * (107 - len(folder))))  # one byte too many
        assert os.listdir(folder) == []


def test_a_successor_s_socket_is_not_removed(tmp_path: Path) -> None:
    """Somebody else has put his socket at our path meanwhile: stopping leaves it alone."""
    path = tmp_path / "s"
    with bound(unix=path), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.exists()
