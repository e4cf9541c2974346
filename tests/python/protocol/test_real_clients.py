"""Real clients against the same server, in both run modes: websockets (asyncio and threads), aiohttp, raw sockets."""

from __future__ import annotations

import asyncio
import os

import aiohttp
import pytest
import websockets
from websockets.asyncio import client as async_client
from websockets.sync import client as sync_client
from ws_client import Client

pytestmark = pytest.mark.plain("the servers run in processes of their own")

SERVER = """
import sys, uwserve

def fetch(request, server):
    if request.path == "/plain":
        return "plain"
    if server.upgrade(request, data=request.path, headers={"X-Server": "uwserve"}):
        return None
    return uwserve.Response("no", 400)

def opened(ws):
    ws.subscribe("room")
    if ws.data == "/hello":
        ws.send("hello " + ws.protocol)

def message(ws, message):
    if message == "close":
        ws.close(4001, "as you wish")
    elif message == "terminate":
        ws.terminate()
    elif message == "publish":
        ws.server.publish("room", "to the room")
    elif message == "ping":
        ws.ping(b"are you there")
    else:
        ws.send(message)

options = {
    "fetch": fetch,
    "websocket": {"open": opened, "message": message, "pong": lambda ws, data: ws.send(b"pong " + data),
                  "protocols": ["chat", "superchat"], "publishToSelf": True},
}
if sys.argv[1].startswith("/"):
    options["unix"] = sys.argv[1]
else:
    options |= {"hostname": "127.0.0.1", "port": 0}
server = uwserve.serve(options)
server.call_soon(lambda: print(server.port, flush=True))
if sys.argv[2] == "run":
    server.run()
else:
    server.start()
    sys.stdin.readline()
    server.stop(True).wait(10)
"""


@pytest.fixture(params=["run", "start"])
def mode(request):
    return request.param


@pytest.fixture(params=["tcp", "unix"])
def address(request, mode, script, tmp_path):
    """A server in a process of its own: ``(host, port)`` or the path of a unix socket."""
    path = str(tmp_path / "socket") if request.param == "unix" else "tcp"
    port = script(SERVER, path, mode).line()
    return path if request.param == "unix" else ("127.0.0.1", int(port))


def uri(address, path="/"):
    return f"ws://localhost{path}" if isinstance(address, str) else f"ws://{address[0]}:{address[1]}{path}"


def connector(address):
    return aiohttp.UnixConnector(address, limit=0) if isinstance(address, str) else aiohttp.TCPConnector(limit=0)


SIZES = [0, 1, 125, 126, 65535, 65536, 1_000_000]


async def conversation(send, receive) -> None:
    """What every client is put through: ``send(data)`` and ``receive()`` are coroutines."""
    for size in SIZES:
        text = "é" * (size // 2)
        await send(text)
        assert await receive() == text
        data = os.urandom(size)
        await send(data)
        assert await receive() == data
    await send("publish")
    assert await receive() == "to the room"
    await send("ping")
    assert await receive() == b"pong are you there"


def test_websockets_asyncio(address):
    async def main():
        options = {"path": address} if isinstance(address, str) else {}
        connect = async_client.unix_connect if isinstance(address, str) else async_client.connect
        target = options | {"uri": uri(address, "/hello")}
        async with connect(**target, subprotocols=["superchat"], max_size=None, compression=None) as ws:
            assert ws.subprotocol == "superchat"
            assert ws.response.headers["X-Server"] == "uwserve"
            assert await ws.recv() == "hello superchat"
            await conversation(ws.send, ws.recv)
            await (await ws.ping(b"mine"))
            await ws.send(["in ", "three ", "fragments"])
            assert await ws.recv() == "in three fragments"
            await ws.send("close")
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await ws.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as you wish")
        async with connect(**target, compression=None) as ws:
            assert await ws.recv() == "hello "
            await ws.close(1000, "bye")
            assert ws.close_code == 1000
        async with connect(**target) as ws:  # offers permessage-deflate, which is off
            assert await ws.recv() == "hello "
            await ws.send("terminate")
            with pytest.raises(websockets.ConnectionClosedError):
                await ws.recv()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_websockets_sync(address):
    if isinstance(address, str):
        ws = sync_client.unix_connect(address, uri(address), max_size=None, subprotocols=["chat"])
    else:
        ws = sync_client.connect(uri(address), max_size=None, subprotocols=["chat"])

    async def send(data):
        ws.send(data)

    async def receive():
        return ws.recv(timeout=10)

    with ws:
        assert ws.subprotocol == "chat"
        asyncio.run(conversation(send, receive))
        ws.send(iter([b"a", b"b" * 70000, b"c"]))
        assert ws.recv(timeout=10) == b"a" + b"b" * 70000 + b"c"
        ws.send("close")
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            ws.recv(timeout=10)
        assert caught.value.rcvd.code == 4001


def test_aiohttp(address):
    async def main():
        async with aiohttp.ClientSession(connector=connector(address)) as session:
            async with session.get(uri(address, "/plain").replace("ws:", "http:")) as response:
                assert await response.text() == "plain"
            offered = ("superchat", "chat")
            async with session.ws_connect(uri(address, "/hello"), protocols=offered, max_msg_size=0) as ws:
                assert ws.protocol == "chat"

                async def send(data):
                    await (ws.send_str(data) if isinstance(data, str) else ws.send_bytes(data))

                async def receive():
                    return (await ws.receive(10)).data

                assert await receive() == "hello chat"
                await conversation(send, receive)
                await ws.send_str("close")
                got = await ws.receive(10)
                assert (got.type, got.data, got.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")
            async with session.ws_connect(uri(address)) as ws:
                await ws.close(code=4001, message=b"bye")
                assert ws.close_code == 4001
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(uri(address), headers={"Sec-WebSocket-Version": "8"})

    asyncio.run(asyncio.wait_for(main(), 60))


def test_raw(address):
    with Client(address, "/hello", extra=(("Sec-WebSocket-Protocol", "chat"),)) as client:
        assert client.read_message() == "hello chat"

        async def send(data):
            client.send(data)

        async def receive():
            while (got := client.read_frame()).opcode == 9:
                client.pong(got.payload)
            return got.payload.decode() if got.opcode == 1 else got.payload

        asyncio.run(conversation(send, receive))
        client.send("close")
        assert client.read_close() == (4001, "as you wish")
        client.expect_end()


def test_many_clients_in_one_room(address):
    """Fifty clients of each kind in one room: one publish reaches all."""

    async def main():
        async with aiohttp.ClientSession(connector=connector(address)) as session:
            ones = [await session.ws_connect(uri(address)) for _ in range(50)]
            connect = async_client.unix_connect if isinstance(address, str) else async_client.connect
            where = {"path": address, "uri": uri(address)} if isinstance(address, str) else {"uri": uri(address)}
            others = [await connect(**where) for _ in range(50)]
            await ones[0].send_str("publish")
            for ws in ones:
                assert (await ws.receive(10)).data == "to the room"
            for ws in others:
                assert await asyncio.wait_for(ws.recv(), 10) == "to the room"
            await asyncio.gather(*(ws.close() for ws in ones), *(ws.close() for ws in others))

    asyncio.run(asyncio.wait_for(main(), 60))
