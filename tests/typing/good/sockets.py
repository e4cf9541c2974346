"""Every member of a socket and of a server, under both spellings, with its type."""

import array
import asyncio
from collections.abc import Awaitable
from typing import Any, Literal

from typing_extensions import assert_type

from uwserve import Closed, ConnectionClosed, Headers, ReadyState, Request, Response, Server, ServerWebSocket
from uwserve.stats import ServerStats, TopicStats
from uwserve.types import Buffer, Message, SocketAddress, TlsInfo


class User:
    name = "Ann"


def sending(ws: ServerWebSocket[User], either: str | bytes, any_kind: Message, buffer: Buffer) -> None:
    assert_type(ws.send("text"), int)
    assert_type(ws.send(b"bytes", compress=True), int)
    ws.send(either, True)
    ws.send(any_kind)
    ws.send(buffer)
    ws.send(memoryview(b"bytes"))
    ws.send(array.array("d", [1.5]))
    assert_type(ws.publish("topic", either, compress=True), int)
    ws.send_text("text")
    ws.send_binary(bytearray(4))
    ws.sendText("text")
    ws.sendBinary(buffer)
    ws.publish_text("topic", "text")
    ws.publish_binary("topic", buffer)
    ws.publishText(topic="topic", data="text")
    ws.publishBinary("topic", b"bytes")
    ws.ping()
    ws.pong(data="text")
    assert_type(ws.cork(lambda same: same.data.name), str)


def reading(ws: ServerWebSocket[User]) -> None:
    assert_type(ws.data, User)
    ws.data = User()
    assert_type(ws.server, Server[User])
    assert_type(ws.binary_type, Literal["bytes", "bytearray", "memoryview"])
    ws.binary_type = "memoryview"
    ws.binaryType = "arraybuffer"
    if ws.ready_state == ReadyState.OPEN and ws.readyState == 1:
        ws.close(code=1000, reason="bye")
    assert_type(ws.remote_address, str | None)
    assert_type(ws.remoteAddress, str | None)
    assert_type(ws.subscriptions, list[str])
    assert_type(ws.subscribe("topic"), bool)
    assert_type(ws.unsubscribe("topic"), bool)
    assert_type(ws.isSubscribed("topic"), bool)
    assert_type(ws.buffered_amount, int)
    assert_type(ws.getBufferedAmount(), int)
    ws.pause()
    ws.resume()
    ws.terminate()


async def waiting(ws: ServerWebSocket[User]) -> None:
    async for message in ws.messages():
        ws.send(message)
    try:
        await ws.drained(below=1024)
        await asyncio.wait_for(ws.drained(), 1)
    except ConnectionClosed as closed:
        assert_type((closed.code, closed.reason), tuple[int, str])
    assert_type(await ws.closed(), Closed)
    code, _reason = await ws.closed()
    assert_type(code, int)


def serving(server: Server[User], request: Request) -> Response:
    server.upgrade(request, data=User(), headers={"x-a": "b"}, protocol="chat")
    server.upgrade(request, data=User(), headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])
    server.upgrade(request, data=User(), headers=Headers())
    server.upgrade(request, {"data": User(), "headers": {"x-a": "b"}})
    assert_type(server.publish("topic", "text"), int)
    assert_type(server.subscriberCount("topic"), int)
    assert_type(server.subscribers("topic"), list[ServerWebSocket[User]])
    assert_type(server.stats(), ServerStats)
    assert_type(server.topics(), dict[str, TopicStats])
    assert_type(server.requestIP(request), SocketAddress | None)
    server.call_soon(print, "text", 3)
    server.call_soon(server.publish_later, 3) if isinstance(server, Publishing) else None
    server.reload(websocket={"message": lambda ws, message: ws.send(ws.data.name)}, idleTimeout=3)
    server.stop(timeout=30, code=1001).wait(3)
    assert_type(request.tls, TlsInfo | None)
    assert_type(request.body, bytes)
    assert_type(request.json(), Awaitable[Any])
    assert_type(request.headers.get("accept"), str | None)
    return Response.json({"path": request.path, "who": request.params.get("id")})


class Publishing(Server[User]):
    def publish_later(self, number: int) -> None:
        self.publish("topic", str(number))


def optional(server: Server[User | None], nothing: Server[None], anything: Server, request: Request) -> None:
    """Where ``ws.data`` may be None, ``data`` may be left out."""
    server.upgrade(request)
    server.upgrade(request, headers={"x-a": "b"})
    server.upgrade(request, data=User())
    server.upgrade(request, data=None)
    nothing.upgrade(request)
    anything.upgrade(request)
    anything.upgrade(request, data=3)


async def run_modes(server: Server[User]) -> None:
    async with server as same:
        assert_type(same, Server[User])
        await server.serve_forever(stop_timeout=3)
    with server as same:
        assert_type(same.start(), Server[User])
    await server.stop()
