"""uwserve with coroutine handlers: uwserve_echo.py but for ``async def``. See command_line.py.

``asyncio`` or ``uvloop`` choose the event loop (default: what ``server.run()`` takes); ``plain`` keeps handlers plain
functions, which then run inside that event loop.
"""

import asyncio
from pathlib import Path

from command_line import MAX_MESSAGE, parse, role

import uwserve

options = parse("asyncio", "uvloop", "plain")
compress = options.deflate


async def fetch(request, server):
    kind, name = role(request.path)
    server.upgrade(request, data=name if kind == "pub" else (name,) if kind else None)


async def open(ws):
    if isinstance(ws.data, tuple):
        ws.subscribe(*ws.data)


async def message(ws, data):
    topic = ws.data
    if topic is None:
        ws.send(data, compress)
    else:
        ws.publish(topic, data, compress)


def plain_fetch(request, server):
    server.upgrade(request)


def plain_message(ws, data):
    ws.send(data, compress)


is_plain = "plain" in options.more
server = uwserve.serve(
    port=options.port,
    hostname="127.0.0.1",
    fetch=plain_fetch if is_plain else fetch,
    websocket={
        "open": open,
        "message": plain_message if is_plain else message,
        "max_payload_length": MAX_MESSAGE,
        "backpressure_limit": MAX_MESSAGE,
        "per_message_deflate": options.deflate,
    },
    tls={"cert": Path(options.tls[0]), "key": Path(options.tls[1])} if options.tls else None,
)
print(server.port, flush=True)
if "uvloop" in options.more:
    import uvloop

    uvloop.run(server.serve_forever())
elif "asyncio" in options.more:
    asyncio.run(server.serve_forever())
else:
    server.run()
