"""``hostname`` as a name: the server listens on all addresses that it resolves to, or none, with one port for all."""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_client import Client, bound, descriptors, running
from processes import process
from ws_client import eventually

from uwserve import Request, Server, serve

pytestmark = pytest.mark.plain("addresses, not what goes over them")

UWSERVE = Path(sys.executable).with_name("uwserve")
NAME = "both.test"
V4, V4_OTHER, V6 = "127.0.0.1", "127.0.0.2", "::1"


@pytest.fixture
def name(monkeypatch: Any) -> Callable[..., str]:
    """A name with these addresses, in this order, as the system's resolver would tell them."""
    real = socket.getaddrinfo

    def set_up(*addresses: str) -> str:
        def getaddrinfo(host: Any, port: int, family: int = 0, *rest: Any) -> Any:
            if host != NAME.encode():
                return real(host, port, family, *rest)
            wanted = [a for a in addresses if family in (0, socket.AF_INET6 if ":" in a else socket.AF_INET)]
            return [found for a in wanted for found in real(a, port, family, *rest)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return NAME

    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    return set_up


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((V6, 0))
    except OSError:
        return False
    return True


def own_address(request: Request, server: Server) -> str:
    ip = server.request_ip(request)
    return "" if ip is None else ip[0]


def asked(server: Server, host: str) -> str:
    with Client((host, server.port or 0)) as client:
        return client.ask().body.decode()


def test_both_families(name: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="uwserve")
    for addresses in ((V6, V4), (V4, V6), (V4, V6, V4)):
        with running(hostname=name(*addresses), fetch=own_address) as server:
            once = tuple(dict.fromkeys(addresses))
            assert server.addresses == tuple((address, server.port) for address in once)
            assert (server.hostname, server.url) == (NAME, f"http://{NAME}:{server.port}/")
            assert server.port
            assert (asked(server, V4), asked(server, V6)) == (V4, V6)
            assert f"Listening on {server.url} ({', '.join(once)})" in caplog.messages


def test_localhost_is_what_the_resolver_says() -> None:
    found = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with running(hostname="localhost", fetch=own_address) as server:
        assert {host for host, _ in server.addresses} == found
        for host in found:
            assert asked(server, str(host)) == host


def test_what_addresses_tells(tmp_path: Any) -> None:
    with bound() as server:
        assert server.addresses == ((V4, server.port),)
    assert server.addresses, "after the stop, too"
    with bound(hostname="0.0.0.0") as server:
        assert server.addresses == (("0.0.0.0", server.port),)
    with bound(unix=tmp_path / "s") as server:
        assert server.addresses == ()
    with socket.create_server((V4, 0)) as listener, serve(fetch=lambda: "", fd=listener.detach()) as server:
        assert server.addresses == ((V4, server.port),) == ((server.hostname, server.port),)


def test_stop_ends_all_of_them(name: Any) -> None:
    with running(hostname=name(V4, V6, V4_OTHER), fetch=own_address) as server:
        server.reload(fetch=lambda request: "new")
        assert {asked(server, host) for host in (V4, V6, V4_OTHER)} == {"new"}
        server.stop().wait()
        for host in (V4, V6, V4_OTHER):
            with pytest.raises(ConnectionRefusedError):
                Client((host, server.port or 0))
    with bound(hostname=NAME, port=server.port) as again:
        assert len(again.addresses) == 3


def test_all_or_none(name: Any) -> None:
    """An address in use is named, and the others are free again."""
    with bound(hostname=V6) as other:
        before = descriptors()
        for addresses in ((V4, V6), (V6, V4)):
            with pytest.raises(OSError, match=rf"in use: \[::1\]:{other.port}, an address of both\.test") as caught:
                serve(fetch=lambda: "", hostname=name(*addresses), port=other.port)
            assert caught.value.errno == errno.EADDRINUSE
        assert descriptors() == before
        with bound(hostname=V4, port=other.port):
            pass


def test_a_port_that_another_address_has_in_use(name: Any, monkeypatch: Any) -> None:
    """Port 0 is asked for anew until one is free everywhere: here all even ones are taken at the second address."""
    name(V4, V4_OTHER)
    with bound(hostname=V4) as probe:
        near = probe.port or 0
    taken = []
    try:
        for port in range(max(1024, near - 400), min(65535, near + 400), 2):
            sock = socket.socket()
            try:
                sock.bind((V4_OTHER, port))
                sock.listen()
            except OSError:
                sock.close()
                continue
            taken.append(sock)
        for _ in range(20):
            with bound(hostname=NAME) as server:
                assert [port for _, port in server.addresses] == [server.port] * 2
    finally:
        for sock in taken:
            sock.close()


def test_an_address_that_is_not_there_is_left_out(name: Any) -> None:
    """A family that is switched off, as a rule; but one address at least must be there."""
    for addresses in (("198.51.100.1", V4), (V4, "198.51.100.1"), ("2001:db8::1", V4)):
        with running(hostname=name(*addresses), fetch=own_address) as server:
            assert server.addresses == ((V4, server.port),)
            assert asked(server, V4) == V4
    with pytest.raises(OSError, match=r"198\.51\.100\.1:0, an address of both\.test") as caught:
        serve(fetch=lambda: "", hostname=name("198.51.100.1", "198.51.100.2"), port=0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_ipv6_only(name: Any) -> None:
    with bound(hostname=name(V4, V6), ipv6_only=True) as server:
        assert server.addresses == ((V6, server.port),)
    with bound(hostname=name("0.0.0.0", "::")) as server:  # the IPv6 socket leaves IPv4 to the other
        assert len(server.addresses) == 2


def test_reuse_port(name: Any) -> None:
    with (
        bound(hostname=name(V4, V6), reuse_port=True) as first,
        bound(hostname=NAME, reuse_port=True, port=first.port) as second,
    ):
        assert second.addresses == first.addresses
        with pytest.raises(OSError, match="in use"):
            serve(fetch=lambda: "", hostname=NAME, port=first.port)


@pytest.mark.parametrize("bad", ["no.such.host.invalid", "a..b", "x" * 300])
def test_names_that_are_none(bad: str) -> None:
    with pytest.raises(socket.gaierror, match=bad.replace(".", r"\.")):
        serve(fetch=lambda: "", hostname=bad, port=0)


APP = """
import os, socket
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest: (
    real("127.0.0.1", *rest) + real("::1", *rest) if host == b"both.test" else real(host, *rest)
)
options = {"hostname": "both.test", "port": 0, "fetch": lambda request: f"VERSION {os.getpid()}"}
"""


def test_a_restart_keeps_all_of_them(tmp_path: Path) -> None:
    """``uwserve serve --reload``: the supervisor holds the sockets of every address."""
    pytest.importorskip("watchfiles", reason="watchfiles is not installed (pip install 'uwserve[reload]')")
    if not has_ipv6():
        pytest.skip("this machine has no ::1")
    app = tmp_path / "app.py"
    app.write_text(APP.replace("VERSION", "one"))
    with process(UWSERVE, "serve", "app:options", "--reload", cwd=tmp_path) as run:
        port = run.port()
        assert run.line().split() == ["listens", "on", V4, "and", V6]

        def versions() -> set[str]:
            found = set()
            for host in (V4, V6):
                with Client((host, port)) as client:  # never refused, while it restarts
                    found.add(client.ask().body.decode().split()[0])
            return found

        assert versions() == {"one"}
        new = tmp_path / "new"
        new.write_text(APP.replace("VERSION", "two"))
        new.replace(app)
        eventually(lambda: versions() == {"two"}, "the new version")
