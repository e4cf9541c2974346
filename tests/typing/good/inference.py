"""``serve`` finds the type of ``ws.data`` in the handlers it is given."""

import asyncio
from concurrent.futures import Future
from typing import Any

from typing_extensions import assert_type

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve
from uwserve.types import Routes, ServeOptions, WebSocketOptions


class User:
    name: str = "Ann"


def fetch(request: Request, server: Server[User]) -> Response | None:
    return None if server.upgrade(request, data=User()) else Response("no", 426)


def plain_fetch(request: Request) -> str:
    return request.path


async def slow_fetch(request: Request, server: Server[User]) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"open": server.pending_websockets}


def later(request: Request) -> "Future[str]":
    return Future()


def open(ws: ServerWebSocket[User]) -> None:
    assert_type(ws.data, User)
    assert_type(ws.server, Server[User])


async def message(ws: ServerWebSocket[User], message: str | bytes) -> None:
    ws.send(message)


def text_only(ws: ServerWebSocket[User], message: str) -> int:
    return ws.send_text(message.upper())


def untyped(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send(message)


def close(ws: ServerWebSocket[User], code: int, reason: str) -> None:
    ws.publish("left", f"{ws.data.name} {code} {reason}")


class Chat(WebSocketHandler[User]):
    idle_timeout = 60

    async def open(self, ws: ServerWebSocket[User]) -> None:
        assert_type(ws.data, User)

    def message(self, ws: ServerWebSocket[User], text: str | bytes) -> None:
        ws.send(text)

    def error(self, error: Exception, ws: ServerWebSocket[User]) -> None:
        ws.close(1011, str(error))


class Duck:
    def message(self, ws: ServerWebSocket[User], message: str | bytes) -> None: ...


# By keyword.
assert_type(serve(fetch=fetch, websocket={"message": message}), Server[User])
assert_type(serve(fetch=plain_fetch, websocket={"open": open, "message": text_only}), Server[User])
assert_type(serve(websocket=Chat(), port=0), Server[User])
assert_type(serve(websocket=Duck(), port=0), Server[User])
assert_type(serve(fetch=fetch), Server[User])
assert_type(serve(fetch=slow_fetch, websocket=Chat()), Server[User])
assert_type(serve(fetch=lambda request, server: None, websocket=Chat()), Server[User])
routes: Routes[User] = {"/ws": fetch, "/": "text", "/j": {"GET": plain_fetch}}
serve(routes=routes)

# Nothing says it.
assert_type(serve(fetch=plain_fetch, port=0), Server[Any])
assert_type(serve(fetch=later), Server[Any])
assert_type(serve(websocket={"message": untyped}), Server[Any])
assert_type(serve(), Server[Any])
assert_type(serve(routes={"/": "text"}), Server[Any])
mixed = {"/": "text", "/plain": plain_fetch, "/j": {"GET": fetch}}
serve(routes=mixed)
functions = {"/plain": plain_fetch, "/ws": fetch}
serve(routes=functions)

# In one dict, in either spelling.
assert_type(serve({"fetch": fetch, "port": 0, "websocket": {"message": message, "maxPayloadLength": 1}}), Server[User])
assert_type(serve({"port": 0, "idleTimeout": 3}), Server[Any])
options: ServeOptions[User] = {"fetch": fetch, "idle_timeout": 3}
assert_type(serve(options), Server[User])
assert_type(serve(**options), Server[User])

# A dict annotated on its own.
handlers: WebSocketOptions[User] = {"message": message, "close": close, "perMessageDeflate": True}
assert_type(serve(websocket=handlers), Server[User])


def dynamic(given: dict[str, Any]) -> None:
    """What no checker knows is let through."""
    assert_type(serve(given), Server[Any])
    serve(**given)
    serve(fetch=fetch, **given)
