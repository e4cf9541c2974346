"""The options for servers behind proxies: which peers are trusted, and where they name the client.

A connection's own address is the only thing that a client cannot choose. Everything else (a PROXY header,
``X-Forwarded-For``, ``Forwarded``) counts only from a peer in ``trusted_proxies``, which is empty by default.
"""

from __future__ import annotations

from .._checks import wrong_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Mapping
    from typing import Any

UNIX = "unix"
FIELDS = ("x-forwarded-for", "forwarded")


def trusted_proxies(label: str, value: object) -> tuple[str, ...]:
    """Networks in their normal form, and ``"unix"``. A host without a prefix is a network of one address."""
    if isinstance(value, (str, bytes, bytearray, dict)) or not hasattr(type(value), "__iter__"):
        raise wrong_type(label, "a sequence of networks, like ['10.0.0.0/8', '::1', 'unix']", value)
    return tuple(UNIX if item == UNIX else str(_network(label, item)) for item in value)  # type: ignore[attr-defined]


def _network(label: str, item: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    import ipaddress

    addresses = (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)
    if not isinstance(item, (str, *addresses)):
        raise wrong_type(f"each of {label}", "a network as str, like '10.0.0.0/8' or '::1', or 'unix'", item)
    try:
        network = ipaddress.ip_network(item)
    except ValueError as error:
        raise ValueError(f"{label}: {str(item)!r} is not a network: {error}") from None
    if "%" in str(network):
        raise ValueError(f"{label}: {str(item)!r} is not a network: it names an interface")
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped  # ::ffff:a.b.c.d is the IPv4 peer of a dual-stack socket
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def forwarded_header(label: str, value: object) -> str:
    """The one field in which the proxies name the client, in lower case. With ``None`` every field is ignored."""
    if not isinstance(value, str):
        raise wrong_type(label, "a str or None", value)
    if value.lower() not in FIELDS:
        raise ValueError(f"{label} must be 'X-Forwarded-For', 'Forwarded' or None, got {value!r}")
    return value.lower()


def check_together(options: Mapping[str, Any]) -> None:
    """``ValueError`` when PROXY headers are wanted, but no proxy is trusted to send them."""
    if options["proxy_protocol"] and not options["trusted_proxies"]:
        raise ValueError(
            "proxy_protocol needs trusted_proxies: the networks whose connections begin with a PROXY header"
        )


def core_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the core: networks as (address, prefix), the field in lower case or ``""``."""
    import ipaddress

    names = options["trusted_proxies"]
    networks = [ipaddress.ip_network(name) for name in names if name != UNIX]
    return {
        "networks": [(network.network_address.packed, network.prefixlen) for network in networks],
        "unix": UNIX in names,
        "forwarded_header": options["forwarded_header"] or "",
        "proxy_protocol": options["proxy_protocol"],
    }
