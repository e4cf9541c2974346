"""The plain ASGI application that uvicorn_echo.py and granian_echo.py serve. See command_line.py."""

from collections import defaultdict

topics = defaultdict(set)


async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    _, _, rest = scope["path"].partition("/")
    kind, _, topic = rest.partition("/")
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    if kind == "sub":
        await subscribe(topics[topic], receive, send)
    elif kind == "pub":
        await publish(topics[topic], receive)
    else:
        await echo(receive, send)


def reply_to(event):
    text = event.get("text")
    if text is not None:
        return {"type": "websocket.send", "text": text}
    return {"type": "websocket.send", "bytes": event["bytes"]}


async def echo(receive, send):
    while (event := await receive())["type"] == "websocket.receive":
        await send(reply_to(event))


async def subscribe(subscribers, receive, send):
    subscribers.add(send)
    try:
        while (await receive())["type"] == "websocket.receive":
            pass
    finally:
        subscribers.discard(send)


async def publish(subscribers, receive):
    while (event := await receive())["type"] == "websocket.receive":
        message = reply_to(event)
        # Who comes or goes during an await would change the set under the loop.
        for send in tuple(subscribers):
            await send(message)
