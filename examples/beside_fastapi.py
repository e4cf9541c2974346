"""WebSockets beside a FastAPI (or Starlette) app, in one process on one asyncio loop: pip install fastapi uvicorn

uvicorn serves the app on one port, uwserve the sockets on the next one. Both run on the same thread, so they share
state and topics with no lock: a request to the app publishes to the sockets, and a message is seen by the app at once.

PORT=3000 python examples/beside_fastapi.py, open http://localhost:3001/docs, connect ws://localhost:3000/, and
curl -d '{"text": "hello"}' -H 'Content-Type: application/json' localhost:3001/notices
"""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve


class Notice(BaseModel):
    text: str


@dataclass
class State:
    """What both sides see."""

    notices: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


class Sockets(WebSocketHandler):
    def __init__(self, state: State) -> None:
        self.state = state

    def open(self, ws: ServerWebSocket) -> None:
        for text in self.state.notices:
            ws.send_text(text)
        ws.subscribe("notices")

    def message(self, ws: ServerWebSocket, message: str | bytes) -> None:
        self.state.heard.append(str(message))


def fetch(request: Request, server: Server) -> Response | None:
    return None if server.upgrade(request) else Response("Connect with a WebSocket client.\n", 426)


def create_app(state: State, sockets: Server) -> FastAPI:
    app = FastAPI(title="Notices")

    @app.post("/notices", status_code=201)
    async def post(notice: Notice) -> dict[str, int]:
        state.notices.append(notice.text)
        sockets.publish("notices", notice.text)
        return {"receivers": sockets.subscriber_count("notices")}

    @app.get("/heard")
    async def heard() -> dict[str, list[str]]:
        return {"heard": state.heard}

    return app


async def main(port: int) -> None:
    state = State()
    async with serve(fetch=fetch, websocket=Sockets(state), port=port, hostname="127.0.0.1") as sockets:
        config = uvicorn.Config(create_app(state, sockets), log_level="warning")
        with socket.create_server(("127.0.0.1", port and port + 1)) as listening:
            print(f"sockets on {sockets.url}", flush=True)
            print(f"app on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
            await uvicorn.Server(config).serve(sockets=[listening])  # until Ctrl-C; then the block ends our server


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again, after a graceful end
        asyncio.run(main(int(os.environ.get("PORT", "3000"))))
