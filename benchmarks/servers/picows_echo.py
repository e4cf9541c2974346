"""picows on uvloop. See command_line.py.

The core API, with its frame callbacks and views of the receive buffer; fan-out is a loop over transports. It has no
compression: with ``--deflate`` picows's other one serves, picows.websockets.
"""

from collections import defaultdict

import uvloop
from command_line import MAX_MESSAGE, parse, role, tls_context
from picows import WSListener, WSMsgType, ws_create_server
from picows.websockets.asyncio import broadcast, serve
from websockets_handler import make_handler

options = parse()
topics = defaultdict(set)
CLOSE = WSMsgType.CLOSE


class Echo(WSListener):
    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind is CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(kind, frame.get_payload_as_memoryview())


class Subscriber(WSListener):
    def __init__(self, topic):
        self.subscribers = topics[topic]

    def on_ws_connected(self, transport):
        self.subscribers.add(transport)

    def on_ws_disconnected(self, transport):
        self.subscribers.discard(transport)


class Publisher(WSListener):
    def __init__(self, topic):
        self.subscribers = topics[topic]

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind is CLOSE:
            transport.disconnect()
            return
        payload = frame.get_payload_as_memoryview()
        for subscriber in self.subscribers:
            subscriber.send(kind, payload)


def listener(request):
    path = request.path
    kind, topic = role(path.decode() if isinstance(path, bytes) else path)
    return Subscriber(topic) if kind == "sub" else Publisher(topic) if kind == "pub" else Echo()


async def serve_core():
    server = await ws_create_server(
        listener,
        "127.0.0.1",
        options.port,
        max_frame_size=MAX_MESSAGE,
        websocket_handshake_timeout=60,
        ssl=tls_context(options),
        backlog=4096,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def without_context(ws, request, response):
    response.headers["Sec-WebSocket-Extensions"] = (
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    )
    return response


async def serve_deflate():
    async with serve(
        make_handler(broadcast),
        "127.0.0.1",
        options.port,
        process_response=without_context,
        max_size=MAX_MESSAGE,
        open_timeout=60,
        ping_interval=None,
        ssl=tls_context(options),
        backlog=4096,
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


uvloop.run(serve_deflate() if options.deflate else serve_core())
