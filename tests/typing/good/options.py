"""Dicts of options in both spellings, and classes of handlers, plain and asynchronous."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from typing_extensions import assert_type

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve
from uwserve.types import (
    Answer,
    ErrorHandler,
    FetchHandler,
    HeadersInit,
    LimitOptions,
    PerMessageDeflateOptions,
    ReloadOptions,
    Reply,
    Route,
    TlsOptions,
    WebSocketObject,
    WebSocketOptions,
)

snake: WebSocketOptions[int] = {
    "open": lambda ws: ws.subscribe("topic"),
    "message": lambda ws, message: ws.send(message),
    "close": lambda ws, code, reason: None,
    "drain": None,
    "max_payload_length": 1024,
    "idle_timeout": 120,
    "ping_interval": 30,
    "max_lifetime": 3600,
    "backpressure_limit": 1 << 20,
    "close_on_backpressure_limit": True,
    "send_pings": False,
    "publish_to_self": True,
    "serial": True,
    "per_message_deflate": {"compress": "dedicated", "decompress": False},
    "protocols": ["chat", "superchat"],
}
camel: WebSocketOptions[int] = {
    "maxPayloadLength": 1024,
    "idleTimeout": 120,
    "backpressureLimit": 1 << 20,
    "closeOnBackpressureLimit": True,
    "sendPings": False,
    "publishToSelf": True,
    "perMessageDeflate": True,
}
deflate: PerMessageDeflateOptions = {"compress": "64KB"}
tls: TlsOptions = {"key": Path("key.pem"), "cert": b"-----BEGIN", "serverName": "localhost", "ALPNProtocols": ["h2"]}
limits: LimitOptions = {"max_connections": 10, "maxPendingHeads": None}
changes: ReloadOptions[int] = {"websocket": snake, "limits": limits, "idleTimeout": 3}

assert_type(serve(websocket=snake, tls=[tls, tls], limits=limits, trusted_proxies=["10.0.0.0/8"]), Server[int])
assert_type(serve({"websocket": camel, "unix": Path("socket"), "maxRequestBodySize": 3}), Server[int])
serve(fd="systemd", tls=tls).reload(**changes)

T = TypeVar("T")


class Base(WebSocketHandler[T], Generic[T]):
    def message(self, ws: ServerWebSocket[T], message: str | bytes) -> None:
        ws.send(message)


class Plain(Base[int]):
    max_payload_length = 1024
    per_message_deflate = True
    protocols = ("chat",)

    def open(self, ws: ServerWebSocket[int]) -> None:
        ws.data += 1

    def close(self, ws: ServerWebSocket[int], code: int, reason: str) -> None: ...
    def ping(self, ws: ServerWebSocket[int], data: bytes) -> None: ...


class Asynchronous(WebSocketHandler):
    async def open(self, ws: ServerWebSocket) -> None:
        await ws.drained()

    async def message(self, ws: ServerWebSocket, message: Any) -> int:
        return ws.send(message)

    async def error(self, error: BaseException, ws: ServerWebSocket) -> None: ...


handler: WebSocketObject[int] = Plain()
assert_type(serve(websocket=Plain()), Server[int])
assert_type(serve(websocket=Asynchronous()), Server[Any])


def fetch(request: Request) -> Answer:
    return {"path": request.path}


async def slow(request: Request, server: Server[int]) -> Answer:
    return None if server.upgrade(request, data=3) else Response(status=426)


def error(exc: Exception) -> Reply:
    return Response(str(exc), 500)


async def pieces() -> AsyncIterator[str | bytes]:
    yield "text"


async def streaming(request: Request, server: Server[int]) -> Answer:
    return Response(pieces())


handlers: list[FetchHandler[int]] = [fetch, slow, streaming]
on_error: ErrorHandler = error
route: Route[int] = {"GET": fetch, "POST": slow, "PUT": "static"}
fields: HeadersInit = [("name", "value")]
serve(fetch=handlers[0], error=on_error, routes={"/": route, "/lambda": lambda request: request.path})


# What Bun takes, too.

serve(fetch=lambda: "hello", port="3000", error=lambda: Response("x", {"status": 500, "statusText": "no"}))
serve(
    routes={"/": lambda: "hello"},
    websocket={
        "open": lambda: None,
        "close": lambda ws, code: None,
        "ping": lambda ws: None,
        "error": lambda error: print(error),
    },
)


def corks(ws: ServerWebSocket[Any]) -> int:
    return ws.cork(lambda: 3) + ws.cork(lambda ws: ws.send("x"))


Response.json({}, {"status": 201, "headers": {"A": "1"}})
