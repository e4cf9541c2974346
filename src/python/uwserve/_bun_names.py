"""Bun's names of members, where they differ from ours.

Snake case is canonical; each camelCase name of Bun is a second name for the same member. ``install`` puts them on the
classes once, at import: the same descriptor under two names, so that an alias costs nothing and cannot drift. The
second names of options are in their tables (``_options``).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

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

COOKIE_MAP: Mapping[str, str] = {
    "toSetCookieHeaders": "to_set_cookie_headers",
    "toJSON": "to_json",
}


def install(cls: type, names: Mapping[str, str]) -> None:
    """Give ``cls`` each alias in ``names``: the same attribute, method or property under Bun's spelling."""
    for alias, name in names.items():
        setattr(cls, alias, _descriptor(cls, name))


def _descriptor(cls: type, name: str) -> Any:
    # getattr() may call the descriptor's __get__(); the dictionaries hold the descriptor itself.
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    raise AttributeError(f"{cls.__name__} has no member {name!r}")
