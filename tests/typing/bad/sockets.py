"""What both checkers must refuse of a socket: each line says with which codes."""

# fmt: off

from uwserve import Request, ServerWebSocket
from uwserve.types import BinaryType


class User:
    name = "Ann"


def message(ws: ServerWebSocket[User], message: str | bytes) -> None:
    ws.send(3)  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.send(["text"])  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.send("text", compress="yes")  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.send("text", compres=True)  # E: mypy(call-overload) pyright(reportCallIssue)
    ws.send()  # E: mypy(call-overload) pyright(reportCallIssue)
    ws.send_text(b"bytes")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.send_binary("text")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.publish("topic", 3)  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.publish("topic")  # E: mypy(call-overload) pyright(reportCallIssue)
    ws.publish(3, "text")  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.publish_text("topic", b"bytes")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.publish_binary("topic", "text")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.subscribe(3)  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.subscribe(topic="topic")  # E: mypy(call-arg) pyright(reportCallIssue)
    ws.ping(1)  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.close("1000")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.close(1000, b"bye")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.cork(3)  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
    ws.binary_type = "list"  # E: mypy(assignment) pyright(reportAttributeAccessIssue)
    ws.ready_state = 3  # E: mypy(misc) pyright(reportAttributeAccessIssue)
    ws.id = 3  # E: mypy(misc) pyright(reportAttributeAccessIssue)
    ws.nothing  # E: mypy(attr-defined) pyright(reportAttributeAccessIssue)
    ws.sendtext("text")  # E: mypy(attr-defined) pyright(reportAttributeAccessIssue)
    ws.sendText(b"bytes")  # E: mypy(arg-type) pyright(reportArgumentType)
    ws.data.age  # E: mypy(attr-defined) pyright(reportAttributeAccessIssue)
    ws.data = 3  # E: mypy(assignment) pyright(reportAttributeAccessIssue)
    number: int = ws.data  # E: mypy(assignment) pyright(reportAssignmentType)
    address: str = ws.remote_address  # E: mypy(assignment) pyright(reportAssignmentType)
    kind: BinaryType = "nodebuffer"  # E: mypy(assignment) pyright(reportAssignmentType)


async def waits(ws: ServerWebSocket[User]) -> None:
    await ws.drained("1 MiB")  # E: mypy(arg-type) pyright(reportArgumentType)
    await ws.send("text")  # E: mypy(misc) pyright(reportGeneralTypeIssues)
    for item in ws.messages():  # E: mypy(attr-defined) pyright(reportGeneralTypeIssues)
        print(item)
    ended: str = await ws.closed()  # E: mypy(assignment) pyright(reportAssignmentType)


def made() -> None:
    ServerWebSocket[int].data = 3  # E: mypy(misc) pyright(reportGeneralTypeIssues)


def request(request: Request) -> None:
    request.method = "PUT"  # E: mypy(misc) pyright(reportAttributeAccessIssue)
    request.tls["version"]  # E: mypy(index) pyright(reportOptionalSubscript)
    request.body.encode()  # E: mypy(attr-defined) pyright(reportAttributeAccessIssue)
    request.json()["key"]  # E: mypy(index) pyright(reportIndexIssue)


class Socket(ServerWebSocket[User]):  # E: mypy(misc) pyright(reportGeneralTypeIssues)
    pass
