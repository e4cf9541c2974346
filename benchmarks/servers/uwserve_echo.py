"""uwserve with plain functions. See command_line.py.

``data`` gives every echoing connection an object of its own in ``ws.data``, as applications do; ``work`` parses some
JSON (about 8 us) before each echo.
"""

import json
from pathlib import Path

from command_line import MAX_MESSAGE, parse, role

import uwserve

WORK = json.dumps({"values": [1234] * 60, "name": "someone"})
options = parse("data", "work")
compress = options.deflate


class Session:
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


def fetch(request, server):
    """``ws.data`` is a publisher's topic, a subscriber's tuple of topics, or None for the echo."""
    kind, name = role(request.path)
    if kind == "pub":
        server.upgrade(request, data=name)
    elif kind:
        server.upgrade(request, data=(name,) if kind == "sub" else tuple(f"quiet{i}" for i in range(int(name))))
    else:
        server.upgrade(request)


def fetch_with_data(request, server):
    server.upgrade(request, data=Session(f"user at {id(request)}"))


def open(ws):
    if isinstance(ws.data, tuple):
        for topic in ws.data:
            ws.subscribe(topic)


def message(ws, data):
    topic = ws.data
    if topic is None:
        ws.send(data, compress)
    else:
        ws.publish(topic, data, compress)


def echo(ws, data):
    ws.send(data)


def echo_with_work(ws, data):
    json.loads(WORK)
    ws.send(data)


websocket = {
    "open": open,
    "message": message,
    "max_payload_length": MAX_MESSAGE,
    "backpressure_limit": MAX_MESSAGE,
    "per_message_deflate": options.deflate,
}
if "data" in options.more:
    fetch = fetch_with_data
    websocket["message"] = echo
if "work" in options.more:
    websocket["message"] = echo_with_work
server = uwserve.serve(
    port=options.port,
    hostname="127.0.0.1",
    fetch=fetch,
    websocket=websocket,
    tls={"cert": Path(options.tls[0]), "key": Path(options.tls[1])} if options.tls else None,
)
print(server.port, flush=True)
server.run()
