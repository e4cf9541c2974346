"""The shortest server: every message goes back to its sender.

PORT=3000 python examples/echo.py, and with the package ``websockets``: python -m websockets ws://localhost:3000/
"""

import os

from uwserve import Request, Response, Server, ServerWebSocket, serve


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    return Response("Connect with a WebSocket client.\n", status=426, headers={"Upgrade": "websocket"})


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send(message)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket={"message": message}, port=port, hostname="127.0.0.1") as server:
        print(f"echo on {server.url}", flush=True)
        server.run()
