"""granian with a plain ASGI application, on uvloop. See command_line.py.

Its embedded server: one process, so that it can be measured as the others are.
"""

import asyncio
import socket
from pathlib import Path

import uvloop
from asgi_app import app
from command_line import parse, refuse
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

options = parse()
if options.deflate:
    refuse("granian has no permessage-deflate")


def free_port():
    """granian takes no socket and does not tell which port it got: one that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def announce(port):
    """It does not tell when it listens, either."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            break
    writer.close()
    print(port, flush=True)


async def main():
    port = options.port or free_port()
    server = Server(
        app,
        "127.0.0.1",
        port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=True,
        backlog=4096,
        log_enabled=False,
        ssl_cert=options.tls and Path(options.tls[0]),
        ssl_key=options.tls and Path(options.tls[1]),
    )
    await asyncio.gather(server.serve(), announce(port))


uvloop.run(main())
