"""Access to the dashboard: by network, and never through another site or through a proxy that is not configured.

Unknown is not local: a client without an address is let in only where unix sockets are, and only if it is one's peer.
Four things can make a stranger look like a client on this machine, and each is refused here:

* A reverse proxy on the machine that is not in ``trusted_proxies``: all its clients come from 127.0.0.1. Such a proxy
  says that it forwards (``X-Forwarded-For``, ``Via``, ...), and then its own address counts for nothing. One that says
  nothing of the kind cannot be told from somebody on this machine.
* A trusted proxy whose PROXY header has no client address (UNKNOWN, LOCAL, an unspecified family): the address is the
  proxy's.
* DNS rebinding: a page of evil.example whose name suddenly means 127.0.0.1 has our origin as the browser sees it, but
  it asks with its own name. Only addresses, ``localhost`` and names that were given to the server are answered.
* A page of another site that requests our stream: the browser sends that page's origin, or says that it is another.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from .. import _core, _logs
from .._options.proxies import UNIX

if TYPE_CHECKING:
    from .. import Request, Server
    from .._options.own_pages import Settings

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FORWARDED = frozenset((
    "forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "fly-client-ip",
    "x-envoy-external-address",
))  # fmt: skip
_FORWARDED_PREFIXES = ("x-forwarded-", "x-original-forwarded-")
_FOR = re.compile(r'(?:^|[;,\s])for="?\[?([^;,"\]\s]+)', re.IGNORECASE)


class Access:
    """The rules for one set of options. On the loop's thread."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._networks = [ipaddress.ip_network(name) for name in settings.allow if name != UNIX]
        self._unix = UNIX in settings.allow
        self._hosts = settings.hosts

    def allows(self, request: Request) -> bool:
        """Whether the client's address is allowed, and it asks for this server. What is refused is logged at INFO."""
        why = self._refusal(request)
        if why:
            _logs.dashboard_refused(self._server, request, why)
        return not why

    def is_same_origin(self, request: Request) -> bool:
        """False for a browser in which another site's page asks; other clients send neither field."""
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin")
        if origin is None:
            return True
        host = (request.headers.get("host") or "").lower()
        return bool(host) and origin.lower().partition("://")[2] == host

    def _refusal(self, request: Request) -> str:
        if _core.is_unknown(request):
            return "the PROXY header of its connection names no client"
        ip = self._server.request_ip(request)
        address = _address(ip[0]) if ip else None
        if not self._is_named(request, address):
            return "it was forwarded by a proxy that is not in trusted_proxies"
        if address is None:
            if not self._unix:
                return "clients of a unix socket are not in its allow"
        elif not any(address in network for network in self._networks if network.version == address.version):
            return "its address is not in its allow"
        if not self._is_our_name(request.headers.get("host") or ""):
            return "the name it asks for is not in its hosts"
        return ""

    def _is_named(self, request: Request, address: Address | None) -> bool:
        """Whether what was forwarded, if it was, came by proxies that are trusted to name ``address``."""
        headers = request.headers
        if not any(name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES) for name in headers):
            return True
        field = self._server._control.options["forwarded_header"]
        value = headers.get(field) if field else None
        if not value or address is None:
            return False
        trusted = [ipaddress.ip_network(n) for n in self._server._control.options["trusted_proxies"] if n != UNIX]
        if not self._server._control.options["trusted_proxies"]:
            return False
        names = _FOR.findall(value) if field == "forwarded" else value.split(",")
        for name in reversed(names):
            client = _address(name)
            if client is None:
                return False
            if not any(client in network for network in trusted if network.version == client.version):
                return client == address
        return False

    def _is_our_name(self, host: str) -> bool:
        name = host.lower()
        name = name.partition("]")[0][1:] if name.startswith("[") else name.partition(":")[0]
        if name == "localhost" or name.endswith(".localhost") or _address(name) is not None:
            return True
        return name in self._hosts or (bool(name) and name == (self._server.hostname or "").lower())


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)  # of a dual-stack socket
    return mapped if mapped is not None else address
