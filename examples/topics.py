"""Publish and subscribe: a client names a topic in the URL (/news) and hears what others send to it.

Another thread publishes the time to the topic "clock" once a second: ``server.publish`` may be called from any thread.
PORT=3000 python examples/topics.py, then python -m websockets ws://localhost:3000/clock
"""

import os
import threading
import time

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve


class Topics(WebSocketHandler):
    idle_timeout = 60

    def open(self, ws: ServerWebSocket) -> None:
        ws.subscribe(ws.data)
        ws.send_text(f"you hear {ws.data}")

    def message(self, ws: ServerWebSocket, message: str | bytes) -> None:
        ws.publish(ws.data, message)


def fetch(request: Request, server: Server) -> Response | None:
    topic = request.path.strip("/") or "lobby"
    if server.upgrade(request, data=topic):
        return None
    return Response(f"{server.subscriber_count(topic)} clients hear {topic}\n")


def tick(server: Server, ended: threading.Event) -> None:
    while not ended.wait(1.0):
        server.publish("clock", time.strftime("%H:%M:%S"))


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket=Topics(), port=port, hostname="127.0.0.1") as server:
        print(f"topics on {server.url}", flush=True)
        ended = threading.Event()
        threading.Thread(target=tick, args=(server, ended), daemon=True).start()
        try:
            server.run()
        finally:
            ended.set()
