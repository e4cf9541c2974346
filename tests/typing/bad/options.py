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


serve(prot=3000)  # E: mypy(call-overload) pyright(reportCallIssue)
serve(port="3000")  # E: mypy(call-overload) pyright(reportArgumentType)
serve(hostname=None)  # E: mypy(call-overload) pyright(reportArgumentType)
serve(fd="somebody")  # E: mypy(call-overload) pyright(reportArgumentType)
serve(idleTimeout="10")  # E: mypy(call-overload) pyright(reportArgumentType)
serve({"prot": 3000})  # E: mypy(arg-type) pyright(reportArgumentType, reportCallIssue)
serve({"port": "3000"})  # E: mypy(arg-type) pyright(reportArgumentType, reportCallIssue)
serve({"port": 3000}, port=3000)  # E: mypy(call-overload) pyright(reportCallIssue)
serve(3000)  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)

serve(websocket={"mesage": message})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(websocket={"message": one_argument})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(websocket={"message": "text"})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(websocket={"idle_timeout": "60"})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(websocket={"perMessageDeflate": {"compress": "2KB"}})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(tls={"key": "key.pem"})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(tls={"key": "key.pem", "cert": "cert.pem", "cipher": "HIGH"})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(tls="cert.pem")  # E: mypy(arg-type) pyright(reportArgumentType)
serve(limits={"max_connection": 3})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(limits={"maxConnections": "3"})  # E: mypy(call-overload) pyright(reportArgumentType)
serve(trusted_proxies="10.0.0.0/8", proxy_protocol="yes")  # E: mypy(call-overload) pyright(reportArgumentType)

sockets: WebSocketOptions[Any] = {"idle_timout": 3}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
more_sockets: WebSocketOptions[Any] = {"maxPayloadLength": "3", "message": message}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
deflate: PerMessageDeflateOptions = {"compress": "2KB"}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
deflated: PerMessageDeflateOptions = {"inflate": True}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
tls: TlsOptions = {"key": "key.pem"}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
secure: TlsOptions = {"key": "key.pem", "cert": "cert.pem", "serverNames": ["localhost"]}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
limits: LimitOptions = {"max_buffered_bytes": 1.5}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
changes: ReloadOptions[Any] = {"port": 3}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
everything: ServeOptions[Any] = {"port": 3, "webSocket": {}}  # E: mypy(typeddict-unknown-key) pyright(reportAssignmentType)
everything_else: ServeOptions[Any] = {"routes": 3}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
