"""The shortest server: every message goes back to its sender."""

from uwserve import Request, Response, Server, ServerWebSocket, serve


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    return Response("Connect with a WebSocket client.\n", status=426, headers={"Upgrade": "websocket"})


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send(message)


if __name__ == "__main__":
    with serve(fetch=fetch, websocket={"message": message}, port=3000, hostname="127.0.0.1") as server:
        print(f"echo on {server.url}", flush=True)
        server.run()
