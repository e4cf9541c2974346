"""uvicorn with a plain ASGI application, on uvloop and httptools. See command_line.py.

``wsproto`` and ``websockets`` (its older implementation) are there to choose from; the default is the fastest of them,
the one on websockets' core without I/O.
"""

import socket

import uvicorn
from asgi_app import app
from command_line import MAX_MESSAGE, parse, refuse

options = parse("wsproto", "websockets")
protocol = options.more[0] if options.more else "websockets-sansio"
if options.deflate and protocol == "wsproto":
    refuse("uvicorn's wsproto protocol compresses only with context takeover")

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", options.port))
listener.listen(4096)
print(listener.getsockname()[1], flush=True)
cert, key = options.tls or (None, None)
config = uvicorn.Config(
    app,
    loop="uvloop",
    http="httptools",
    ws=protocol,
    ws_max_size=MAX_MESSAGE,
    ws_ping_interval=None,
    ws_per_message_deflate=options.deflate,
    lifespan="off",
    log_level="error",
    access_log=False,
    backlog=4096,
    ssl_certfile=cert,
    ssl_keyfile=key,
)
uvicorn.Server(config).run([listener])
