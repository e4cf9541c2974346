"""websockets, its asyncio server, on uvloop. See command_line.py."""

from collections import defaultdict

import uvloop
from command_line import MAX_MESSAGE, parse, role, tls_context
from websockets.asyncio.server import broadcast, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

options = parse()
topics = defaultdict(set)


async def handler(ws):
    kind, topic = role(ws.request.path)
    if kind == "sub":
        topics[topic].add(ws)
        try:
            await ws.wait_closed()
        finally:
            topics[topic].discard(ws)
    elif kind == "pub":
        subscribers = topics[topic]
        async for message in ws:
            broadcast(subscribers, message)
    else:
        async for message in ws:
            await ws.send(message)


async def main():
    deflate = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    async with serve(
        handler,
        "127.0.0.1",
        options.port,
        compression=None,
        extensions=[deflate] if options.deflate else None,
        max_size=MAX_MESSAGE,
        open_timeout=60,
        ping_interval=None,
        ssl=tls_context(options),
        backlog=4096,
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(main())
