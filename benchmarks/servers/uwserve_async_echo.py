"""Echo with uwserve and coroutine handlers: the same as uwserve_echo.py but for ``async def``.

Prints its port, serves until SIGTERM. Arguments: ``asyncio`` or ``uvloop`` choose the event loop (default: what
``server.run()`` takes); ``plain`` keeps the handlers plain functions, which then run inside that event loop.
"""

import asyncio
import sys

import uwserve


async def fetch(request, server):
    server.upgrade(request)


async def message(ws, data):
    ws.send(data)


def plain_fetch(request, server):
    server.upgrade(request)


def plain_message(ws, data):
    ws.send(data)


is_plain = "plain" in sys.argv
server = uwserve.serve(
    port=0,
    hostname="127.0.0.1",
    fetch=plain_fetch if is_plain else fetch,
    websocket={"message": plain_message if is_plain else message},
)
print(server.port, flush=True)
if "uvloop" in sys.argv:
    import uvloop

    uvloop.run(server.serve_forever())
elif "asyncio" in sys.argv:
    asyncio.run(server.serve_forever())
else:
    server.run()
