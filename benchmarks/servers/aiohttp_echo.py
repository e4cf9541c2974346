"""Echo with aiohttp on uvloop. Prints its port, serves until SIGTERM."""

import asyncio

import uvloop
from aiohttp import WSMsgType, web


async def echo(request):
    ws = web.WebSocketResponse(compress=False, max_msg_size=64 << 20)
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


async def main():
    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
