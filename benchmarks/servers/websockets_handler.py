"""The handler of websockets_echo.py, and of picows where it serves through its API after websockets."""

from collections import defaultdict

from command_line import role


def make_handler(broadcast):
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

    return handler
