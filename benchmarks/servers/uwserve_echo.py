"""Echo with uwserve. Prints its port, serves until SIGTERM.

Arguments: ``data`` gives every connection an object of its own in ``ws.data``, as applications do; ``work`` parses some
JSON (about 8 us) before each echo.
"""

import json
import sys

import uwserve

WORK = json.dumps({"values": [1234] * 60, "name": "someone"})


class Session:
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


def fetch(request, server):
    server.upgrade(request)


def fetch_with_data(request, server):
    server.upgrade(request, data=Session(f"user at {id(request)}"))


def message(ws, data):
    ws.send(data)


def message_with_work(ws, data):
    json.loads(WORK)
    ws.send(data)


server = uwserve.serve(
    port=0,
    hostname="127.0.0.1",
    fetch=fetch_with_data if "data" in sys.argv else fetch,
    websocket={"message": message_with_work if "work" in sys.argv else message},
)
print(server.port, flush=True)
server.run()
