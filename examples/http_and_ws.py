"""What a WebSocket server serves beside its sockets: pages, JSON, uploads, a stream, and slow work in other threads.

PORT=3000 python examples/http_and_ws.py, then curl -X PUT -d '{"x": 1}' localhost:3000/notes/a, and curl of the same.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from uwserve import Request, Response, Server, ServerWebSocket, serve

pool = ThreadPoolExecutor(max_workers=4)
notes: dict[str, object] = {}


def show_note(request: Request) -> Response:
    name = request.params["name"]
    if name not in notes:
        return Response.json({"error": f"there is no note {name}"}, status=404)
    return Response.json(notes[name])


def store_note(request: Request) -> Response:
    try:
        notes[request.params["name"]] = json.loads(request.body)
    except ValueError:
        return Response.json({"error": "the body must be JSON"}, status=400)
    return Response(status=204)


def count(request: Request) -> Response:
    def lines() -> Iterator[str]:
        for number in range(10):
            yield f"{number}\n"

    return Response(lines(), headers={"Content-Type": "text/plain"})


def slow(request: Request) -> "Future[str]":
    """A handler may return a future: the loop goes on until it is done."""

    def work() -> str:
        time.sleep(0.5)
        return "done\n"

    return pool.submit(work)


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request, data=server.request_ip(request)):
        return None
    return Response("Not here.\n", status=404)


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send_text(f"{ws.data} sent {len(message)}")


routes = {
    "/": "A note: PUT and GET /notes/NAME. A stream: /count. Slow work: /slow. Elsewhere: WebSockets.\n",
    "/notes/:name": {"GET": show_note, "PUT": store_note},
    "/count": count,
    "/slow": slow,
    "/old": Response.redirect("/"),
}

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(routes=routes, fetch=fetch, websocket={"message": message}, port=port, hostname="127.0.0.1") as server:
        print(f"serving on {server.url}", flush=True)
        server.run()
