"""websockets, its asyncio server, on uvloop. See command_line.py."""

import uvloop
from command_line import MAX_MESSAGE, parse, tls_context
from websockets.asyncio.server import broadcast, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets_handler import make_handler

options = parse()


async def main():
    deflate = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    async with serve(
        make_handler(broadcast),
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
