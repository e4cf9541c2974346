"""Every Bun spelling that differs from ours, in one table.

Snake case is canonical; each camelCase name of Bun is a second name for the same thing. Options are translated by
``_options``; members are put on their classes once, at import, by ``install``: the very same descriptor under two
names, so that the alias costs nothing and cannot drift.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SERVE_OPTIONS: Mapping[str, str] = {
    "idleTimeout": "idle_timeout",
    "keepAliveTimeout": "keep_alive_timeout",
    "minBodyRate": "min_body_rate",
    "maxRequestBodySize": "max_request_body_size",
    "reusePort": "reuse_port",
    "ipv6Only": "ipv6_only",
    "unixMode": "unix_mode",
    "trustedProxies": "trusted_proxies",
    "forwardedHeader": "forwarded_header",
    "proxyProtocol": "proxy_protocol",
}

TLS_OPTIONS: Mapping[str, str] = {
    "serverName": "server_name",
    "requestCert": "request_cert",
    "rejectUnauthorized": "reject_unauthorized",
    "ALPNProtocols": "alpn_protocols",
    "alpnProtocols": "alpn_protocols",
}

WEBSOCKET_OPTIONS: Mapping[str, str] = {
    "maxPayloadLength": "max_payload_length",
    "idleTimeout": "idle_timeout",
    "pingInterval": "ping_interval",
    "maxLifetime": "max_lifetime",
    "backpressureLimit": "backpressure_limit",
    "closeOnBackpressureLimit": "close_on_backpressure_limit",
    "sendPings": "send_pings",
    "publishToSelf": "publish_to_self",
    "maxConcurrentHandlers": "max_concurrent_handlers",
    "perMessageDeflate": "per_message_deflate",
}

LIMIT_OPTIONS: Mapping[str, str] = {  # ours, for programs in Bun's spelling
    "maxConnections": "max_connections",
    "maxConnectionsPerAddress": "max_connections_per_address",
    "maxPendingHeads": "max_pending_heads",
    "maxControlFramesPerSecond": "max_control_frames_per_second",
    "maxTinyFragmentsPerSecond": "max_tiny_fragments_per_second",
    "maxBufferedBytes": "max_buffered_bytes",
    "maxConcurrentHandlers": "max_concurrent_handlers",
    "reservedDescriptors": "reserved_descriptors",
}

SERVER_WEBSOCKET: Mapping[str, str] = {
    "readyState": "ready_state",
    "remoteAddress": "remote_address",
    "binaryType": "binary_type",
    "sendText": "send_text",
    "sendBinary": "send_binary",
    "publishText": "publish_text",
    "publishBinary": "publish_binary",
    "isSubscribed": "is_subscribed",
    "getBufferedAmount": "get_buffered_amount",
}

SERVER: Mapping[str, str] = {
    "subscriberCount": "subscriber_count",
    "requestIP": "request_ip",
    "pendingRequests": "pending_requests",
    "pendingWebSockets": "pending_websockets",
    "bufferedBytes": "buffered_bytes",
}

RESPONSE: Mapping[str, str] = {
    "statusText": "status_text",
}

HEADERS: Mapping[str, str] = {
    "getAll": "get_list",
    "getSetCookie": "get_set_cookie",
}


def install(cls: type, names: Mapping[str, str]) -> None:
    """Give ``cls`` each alias in ``names``: the same attribute, method or property under Bun's spelling."""
    for alias, name in names.items():
        setattr(cls, alias, _descriptor(cls, name))


def _descriptor(cls: type, name: str) -> Any:
    # getattr() on the class would run a property's getter; the dictionaries hold the descriptor itself.
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    raise AttributeError(f"{cls.__name__} has no member {name!r}")
