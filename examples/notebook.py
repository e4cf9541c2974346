"""A server in a notebook (Jupyter, VS Code, Spyder): it runs in the background, and a cell may be run again.

Paste the cells between ``# %%`` into a notebook, or open this file in an editor that knows them. Running the second
cell again, with other handlers, changes those of the server that runs; its port and its open sockets stay. Cells
publish to sockets and see what handlers left in variables, while the notebook's own asyncio loop is not touched.

As a program (PORT=3000 python examples/notebook.py) it runs the cells once and waits for Enter.
"""

# %% Once
import os
from typing import Any

from uwserve import Request, Response, Server, ServerWebSocket, serve


def serve_again(previous: Server | None, **options: Any) -> Server:
    """The server of the last run of this cell with new options, or a new one in a background thread."""
    if previous is None or not previous.running:
        return serve(**options).start()
    for name in ("port", "hostname"):  # the socket is bound and stays
        options.pop(name, None)
    previous.reload(**options)
    return previous


received: list[str | bytes] = []


# %% As often as you like
def fetch(request: Request, server: Server) -> Response | None:
    return None if server.upgrade(request) else Response("Connect with a WebSocket client.\n", 426)


def open(ws: ServerWebSocket) -> None:
    ws.subscribe("cells")


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    received.append(message)
    ws.send_text(f"received {len(received)}")


server = serve_again(
    globals().get("server"),  # so that it is also found when all cells are run again
    fetch=fetch,
    websocket={"open": open, "message": message},
    port=int(os.environ.get("PORT", "3000")),
    hostname="127.0.0.1",
)
print(f"notebook on {server.url}", flush=True)

# %% To all who are connected, from any cell
server.publish("cells", "hello from a cell")

# %% The end; ``wait`` returns when the last connection is gone
if __name__ == "__main__":
    input()
    server.stop(True).wait(5)
