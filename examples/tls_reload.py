"""TLS, and a new certificate without a restart: replace the files, send SIGHUP. Open sockets stay as they are.

certbot and others can do both (``--deploy-hook "kill -HUP ..."``). What cannot be used, a key that does not fit its
certificate for instance, is reported, and the old certificate stays in force.

For a try, a certificate of one's own:
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \\
    -keyout key.pem -out cert.pem
CERT=cert.pem KEY=key.pem PORT=3000 python examples/tls_reload.py, then curl --cacert cert.pem https://localhost:3000/
"""

import os
import signal
import sys

from uwserve import Request, Response, Server, ServerWebSocket, serve
from uwserve.types import TlsOptions

TLS: TlsOptions = {"cert": os.environ.get("CERT", "cert.pem"), "key": os.environ.get("KEY", "key.pem")}


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    assert request.tls is not None
    return Response.json({"version": request.tls["version"], "websockets": server.pending_websockets})


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send(message)


def reload_on_hangup(server: Server) -> None:
    """Python runs the handler of a signal on the main thread, which is the server's here."""

    def reload(number: int, frame: object) -> None:
        try:
            server.reload(tls=TLS)
        except (OSError, ValueError) as error:  # checked in full before anything changes
            print(f"the old certificate stays: {error}", file=sys.stderr, flush=True)
        else:
            print("new connections get the new certificate", flush=True)

    signal.signal(signal.SIGHUP, reload)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket={"message": message}, tls=TLS, port=port, hostname="127.0.0.1") as server:
        reload_on_hangup(server)
        print(f"wss on {server.url}", flush=True)
        server.run()
