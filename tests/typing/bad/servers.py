"""What both checkers must refuse of ``serve``, a ``Server`` and handlers: each line says with which codes."""

# fmt: off

from collections.abc import AsyncIterator

from uwserve import Headers, Request, Response, Server, ServerWebSocket, WebSocketHandler, serve
from uwserve.types import FetchHandler, UpgradeOptions


class User:
    name = "Ann"


def fetch(request: Request, server: Server[User]) -> Response | None:
    server.upgrade(request)  # E: mypy(call-overload) pyright(reportCallIssue)
    server.upgrade(request, data=3)  # E: mypy(call-overload) pyright(reportArgumentType)
    server.upgrade(request, {"data": 3})  # E: mypy(call-overload) pyright(reportArgumentType)
    server.upgrade(request, {"dat": User()})  # E: mypy(call-overload) pyright(reportArgumentType)
    server.upgrade("request", data=User())  # E: mypy(call-overload) pyright(reportArgumentType)
    server.upgrade(request, data=User(), headers=3)  # E: mypy(call-overload) pyright(reportArgumentType)
    return None


def of_numbers(request: Request, server: Server[int]) -> Response | None:
    return None


def answers_a_tuple(request: Request) -> tuple[int, str]:
    return 200, "text"


async def answers_a_number(request: Request) -> int:
    return 3


def takes_three(request: Request, server: Server[User], more: int) -> str:
    return "text"


def numbers(ws: ServerWebSocket[int], message: str) -> None: ...


async def numbers_later() -> AsyncIterator[int]:
    yield 3


serve(fetch=answers_a_tuple)  # E: mypy(arg-type) pyright(reportArgumentType)
serve(fetch=answers_a_number)  # E: mypy(arg-type) pyright(reportArgumentType)
serve(fetch=takes_three)  # E: mypy(arg-type) pyright(reportArgumentType)
serve(fetch="text")  # E: mypy(arg-type) pyright(reportArgumentType)
serve(error=fetch)  # E: mypy(arg-type) pyright(reportArgumentType)
serve(fetch=fetch, websocket={"message": numbers})  # E: mypy(misc) pyright(reportArgumentType)
serve(websocket=fetch)  # E: mypy(arg-type) pyright(reportArgumentType)
serve(websocket=3)  # E: mypy(arg-type) pyright(reportArgumentType)

server = serve(fetch=of_numbers)
text: Server[str] = server  # E: mypy(assignment) pyright(reportAssignmentType)
handler: FetchHandler[str] = of_numbers  # E: mypy(assignment) pyright(reportAssignmentType)
options: UpgradeOptions[int] = {"data": "text"}  # E: mypy(typeddict-item) pyright(reportAssignmentType)
server.publish("topic", 3)  # E: mypy(call-overload) pyright(reportArgumentType, reportCallIssue)
server.subscriber_count(topic="topic")  # E: mypy(call-arg) pyright(reportCallIssue)
server.request_ip("request")  # E: mypy(arg-type) pyright(reportArgumentType)
server.timeout(3)  # E: mypy(arg-type, call-arg) pyright(reportCallIssue)
server.stop(timeout="30")  # E: mypy(arg-type) pyright(reportArgumentType)
server.stop(1001)  # E: mypy(arg-type) pyright(reportArgumentType)
server.run(30)  # E: mypy(misc) pyright(reportCallIssue)
server.reload(port=3)  # E: mypy(call-arg) pyright(reportCallIssue)
server.reload(webSocket={})  # E: mypy(call-arg) pyright(reportCallIssue)
server.call_soon(server.publish)  # E: mypy(arg-type) pyright(reportArgumentType)
server.call_soon(numbers, 3, "text")  # E: mypy(arg-type) pyright(reportArgumentType)
server.stats()["nothing"]  # E: mypy(typeddict-item) pyright(reportGeneralTypeIssues)
server.port = "3000"  # E: mypy(assignment, misc) pyright(reportAttributeAccessIssue)


class Handler(WebSocketHandler[User]):
    idle_timeout = "60"  # E: mypy(assignment) pyright(reportAssignmentType)

    def open(self, ws: ServerWebSocket[int]) -> None: ...  # E: mypy(override) pyright(reportIncompatibleMethodOverride)
    def message(self, ws: ServerWebSocket[User]) -> None: ...  # E: mypy(override) pyright(reportIncompatibleMethodOverride)


serve(websocket=Handler)  # E: mypy(arg-type) pyright(reportArgumentType)

Response(3)  # E: mypy(arg-type) pyright(reportArgumentType)
Response([1, 2])  # E: mypy(list-item) pyright(reportArgumentType)
Response(numbers_later())  # E: mypy(arg-type) pyright(reportArgumentType)
Response("text", "200")  # E: mypy(arg-type) pyright(reportArgumentType)
Response("text", headers={"name": 3})  # E: mypy(arg-type) pyright(reportArgumentType)
Response.redirect(b"/")  # E: mypy(arg-type) pyright(reportArgumentType)
Headers({"name": 3})  # E: mypy(arg-type) pyright(reportArgumentType)
Headers().get(3)  # E: mypy(arg-type) pyright(reportArgumentType)
Headers()["name"] = 3  # E: mypy(assignment) pyright(reportArgumentType)
