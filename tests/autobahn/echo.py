"""Echo servers for Autobahn's fuzzing client: ``echo.py NAME`` serves on a free port and prints it.

``uwserve`` is the subject; the others are there for comparison and need their own package. All compress with context
takeover on both sides where they can, accept messages of 64 MiB, and answer each message with one of the same kind.
"""

from __future__ import annotations

import asyncio
import sys

LIMIT = 64 << 20
HOST = "127.0.0.1"


def uwserve() -> None:
    import uwserve

    def opened(ws: uwserve.ServerWebSocket) -> None:
        ws.binary_type = "memoryview"

    server = uwserve.serve(
        hostname=HOST,
        port=0,
        fetch=lambda request, server: None if server.upgrade(request) else "no websocket",
        websocket={
            "open": opened,
            "message": lambda ws, message: ws.send(message, compress=True),
            "max_payload_length": LIMIT,
            "backpressure_limit": LIMIT * 2,
            "per_message_deflate": {"compress": "dedicated", "decompress": "dedicated"},
        },
    )
    print(server.port, flush=True)
    server.run()


async def websockets() -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, HOST, 0, max_size=LIMIT, ping_interval=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


async def aiohttp() -> None:
    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=LIMIT)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.add_routes([web.get("/", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def picows() -> None:
    from picows import WSListener, WSMsgType, ws_create_server

    class Echo(WSListener):
        """It hands out frames: putting messages together is the user's part, done here as its manual has it."""

        def __init__(self) -> None:
            super().__init__()
            self.parts: list[bytes] = []
            self.kind = WSMsgType.BINARY

        def on_ws_frame(self, transport, frame) -> None:  # type: ignore[no-untyped-def]
            if frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            elif frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
                if frame.msg_type != WSMsgType.CONTINUATION:
                    self.kind = frame.msg_type
                self.parts.append(frame.get_payload_as_bytes())
                if frame.fin:
                    data, self.parts = b"".join(self.parts), []
                    transport.send(self.kind, data)

    server = await ws_create_server(lambda request: Echo(), HOST, 0, max_frame_size=LIMIT)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


SERVERS = {server.__name__: server for server in (uwserve, websockets, aiohttp, picows)}

if __name__ == "__main__":
    result = SERVERS[sys.argv[1]]()
    if result is not None:
        asyncio.run(result)
