"""Echo with uwserve. Prints its port, serves until SIGTERM.

With the argument ``data`` every connection carries an object of its own in ``ws.data``, as applications do.
"""

import sys

import uwserve


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


server = uwserve.serve(
    port=0,
    hostname="127.0.0.1",
    fetch=fetch_with_data if "data" in sys.argv[1:] else fetch,
    websocket={"message": message},
)
print(server.port, flush=True)
server.run()
