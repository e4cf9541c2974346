"""What both checkers must refuse of options: each line says with which codes."""

# fmt: off

from typing import Any

from uwserve import ServerWebSocket, serve
from uwserve.types import (
    LimitOptions,
    PerMessageDeflateOptions,
    ReloadOptions,
    ServeOptions,
    TlsOptions,
    WebSocketOptions,
)


def message(ws: ServerWebSocket, message: str | bytes) -> None: ...


def one_argument(ws: ServerWebSocket) -> None: ...


# names: "prot"
serve(prot=3000)  # E: mypy(call-arg) pyright(reportCallIssue)
# names: "port"
serve(port=3000.5)  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "hostname"
serve(hostname=None)  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "fd"
serve(fd="somebody")  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "idleTimeout"
serve(idleTimeout="10")  # E: mypy(arg-type) pyright(reportArgumentType)
serve({"prot": 3000})  # E: mypy(arg-type) pyright(reportArgumentType)
serve({"port": 3000.5})  # E: mypy(arg-type) pyright(reportArgumentType)
serve(3000)  # E: mypy(arg-type) pyright(reportArgumentType)

# names: "websocket"
serve(websocket={"mesage": message})  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "websocket"
serve(websocket={"open": one_argument, "message": message, "idle_timout": 3})  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "websocket"
serve(websocket={"message": one_argument})  # E: mypy(arg-type) pyright(reportArgumentType)
serve(websocket={"message": "text"})  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "websocket"
serve(websocket={"idle_timeout": "60"})  # E: mypy(arg-type) pyright(reportArgumentType)
serve(websocket={"perMessageDeflate": {"compress": "2KB"}})  # E: mypy(arg-type) pyright(reportArgumentType)
serve(tls={"key": "key.pem"})  # E: mypy(arg-type) pyright(reportArgumentType)
serve(tls={"key": "key.pem", "cert": "cert.pem", "cipher": "HIGH"})  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "tls"
serve(tls="cert.pem")  # E: mypy(arg-type) pyright(reportArgumentType)
# names: "max_connection"
serve(limits={"max_connection": 3})  # E: mypy(typeddict-unknown-key) pyright(reportArgumentType)
serve(limits={"maxConnections": "3"})  # E: mypy(typeddict-item) pyright(reportArgumentType)
serve(trusted_proxies="10.0.0.0/8", proxy_protocol="yes")  # E: mypy(arg-type) pyright(reportArgumentType)

# names: "idle_timout"
sockets: WebSocketOptions[Any] = {"idle_timout": 3}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
more_sockets: WebSocketOptions[Any] = {"maxPayloadLength": "3", "message": message}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
deflate: PerMessageDeflateOptions = {"compress": "2KB"}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
# names: "inflate"
deflated: PerMessageDeflateOptions = {"inflate": True}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
tls: TlsOptions = {"key": "key.pem"}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
secure: TlsOptions = {"key": "key.pem", "cert": "cert.pem", "serverNames": ["localhost"]}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
limits: LimitOptions = {"max_buffered_bytes": 1.5}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
changes: ReloadOptions[Any] = {"port": 3}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
# names: "webSocket"
everything: ServeOptions[Any] = {"port": 3, "webSocket": {}}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
everything_else: ServeOptions[Any] = {"routes": 3}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
