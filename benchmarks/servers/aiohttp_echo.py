"""aiohttp on uvloop. See command_line.py."""

import asyncio
from collections import defaultdict

import uvloop
from aiohttp import WSMsgType, web
from command_line import MAX_MESSAGE, parse, tls_context

options = parse()
topics = defaultdict(set)


async def accept(request):
    ws = web.WebSocketResponse(compress=options.deflate, max_msg_size=MAX_MESSAGE)
    await ws.prepare(request)
    return ws


async def echo(request):
    ws = await accept(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)
    return ws


async def subscribe(request):
    subscribers = topics[request.match_info["topic"]]
    ws = await accept(request)
    subscribers.add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        subscribers.discard(ws)
    return ws


async def publish(request):
    subscribers = topics[request.match_info["topic"]]
    ws = await accept(request)
    async for message in ws:
        data = message.data
        # Who comes or goes during an await would change the set under the loop.
        if message.type is WSMsgType.TEXT:
            for subscriber in tuple(subscribers):
                await subscriber.send_str(data)
        else:
            for subscriber in tuple(subscribers):
                await subscriber.send_bytes(data)
    return ws


async def main():
    app = web.Application()
    app.router.add_get("/", echo)
    app.router.add_get("/sub/{topic}", subscribe)
    app.router.add_get("/pub/{topic}", publish)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096, ssl_context=tls_context(options)).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
