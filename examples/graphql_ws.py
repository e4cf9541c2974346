"""Subprotocols, by the example of ``graphql-transport-ws`` over graphql-core (pip install graphql-core).

The protocol (PROTOCOL.md of the library graphql-ws) opens with connection_init and connection_ack; then operations run
beside each other, each under the id that the client gives it, as next, next, ..., complete. Whoever breaks it is closed
with 4400 (message not understood), 4401 (subscribe before the ack), 4408 (no connection_init in time), 4409 (an id is
taken) or 4429 (a second connection_init); a client that does not offer the subprotocol gets 400 instead of a handshake.

PORT=3000 python examples/graphql_ws.py, and ws://localhost:3000/ is an endpoint for any client of that protocol
(Apollo, urql, Insomnia). Try: subscription { countdown(start: 3) }, and { books(before: 1816) { title } }.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLResolveInfo,
    OperationType,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    subscribe,
    validate,
)

from uwserve import Request, Response, Server, ServerWebSocket, serve
from uwserve.types import WebSocketOptions

if TYPE_CHECKING:
    Info: TypeAlias = GraphQLResolveInfo[Any]

PROTOCOL = "graphql-transport-ws"
SCHEMA = build_schema("""
    type Book { title: String!  year: Int! }
    type Query { books(before: Int): [Book!]! }
    type Subscription { countdown(start: Int!): Int! }
""")
BOOKS: list[dict[str, Any]] = [{"title": "Persuasion", "year": 1817}, {"title": "Emma", "year": 1815}]


class Root:
    """What each field of the schema is."""

    def books(self, info: Info, before: int = 9999) -> list[dict[str, Any]]:
        return [book for book in BOOKS if book["year"] < before]

    async def countdown(self, info: Info, start: int) -> AsyncIterator[dict[str, int]]:
        for number in range(start, -1, -1):
            yield {"countdown": number}
            await asyncio.sleep(0.01)


class Session:
    """One connection's state: its ``ws.data``."""

    def __init__(self) -> None:
        self.init = asyncio.Event()
        self.acknowledged = False
        self.operations: dict[str, asyncio.Task[None]] = {}


class GraphQL:
    """The protocol. All of it runs on one thread, so nothing needs a lock."""

    def __init__(self, init_timeout: float) -> None:
        self.init_timeout = init_timeout

    async def open(self, ws: ServerWebSocket) -> None:
        ws.data = Session()
        try:
            await asyncio.wait_for(ws.data.init.wait(), self.init_timeout)
        except asyncio.TimeoutError:
            ws.close(4408, "Connection initialisation timeout")

    async def message(self, ws: ServerWebSocket, message: Any) -> None:
        session: Session = ws.data
        try:
            value = json.loads(message) if isinstance(message, str) else None
        except ValueError:
            value = None
        match value:
            case {"type": "connection_init"} if session.init.is_set():
                ws.close(4429, "Too many initialisation requests")
            case {"type": "connection_init"}:
                session.init.set()
                session.acknowledged = True  # a token in the payload would be checked here, and 4403 be the refusal
                send(ws, type="connection_ack")
            case {"type": "ping"}:
                send(ws, **dict(value or {}, type="pong"))
            case {"type": "pong"}:
                pass
            case {"type": "subscribe", "id": str(key), "payload": {"query": str()}} if not session.acknowledged:
                ws.close(4401, "Unauthorized")
            case {"type": "subscribe", "id": str(key), "payload": {"query": str()}} if key in session.operations:
                ws.close(4409, f"Subscriber for {key} already exists"[:120])
            case {"type": "subscribe", "id": str(key), "payload": {"query": str()} as payload}:
                session.operations[key] = asyncio.create_task(self.operate(ws, key, payload))
            case {"type": "complete", "id": str(key)}:
                if task := session.operations.pop(key, None):
                    task.cancel()
            case _:
                ws.close(4400, "Invalid message")

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        ws.data.init.set()
        for task in ws.data.operations.values():
            task.cancel()

    async def operate(self, ws: ServerWebSocket, key: str, payload: dict[str, Any]) -> None:
        """Run one operation to its end, unless it is cancelled."""
        try:
            async for result in self.results(payload):
                send(ws, type="next", id=key, payload=result.formatted)
            send(ws, type="complete", id=key)
        except GraphQLError as error:
            send(ws, type="error", id=key, payload=[error.formatted])
        finally:
            if ws.data.operations.get(key) is asyncio.current_task():
                del ws.data.operations[key]

    async def results(self, payload: dict[str, Any]) -> AsyncIterator[ExecutionResult]:
        """One result of a query or mutation, any number of a subscription; the first error before that is raised."""
        document = parse(payload["query"])
        for error in validate(SCHEMA, document):
            raise error
        name, variables = payload.get("operationName"), payload.get("variables")
        operation = get_operation_ast(document, name)
        if operation is None:
            raise GraphQLError("There is no such operation.")
        if operation.operation is not OperationType.SUBSCRIPTION:
            done = execute(SCHEMA, document, Root(), variable_values=variables, operation_name=name)
            yield done if isinstance(done, ExecutionResult) else await done
            return
        begun = subscribe(SCHEMA, document, Root(), variable_values=variables, operation_name=name)
        stream = await begun if inspect.isawaitable(begun) else begun
        if isinstance(stream, ExecutionResult):
            raise (stream.errors or [GraphQLError("There is nothing to subscribe to.")])[0]
        async for result in stream:
            yield result


def send(ws: ServerWebSocket, **message: Any) -> None:
    ws.send_text(json.dumps(message))


def fetch(request: Request, server: Server) -> Response | None:
    offered = [name.strip() for name in (request.headers.get("sec-websocket-protocol") or "").split(",")]
    if PROTOCOL in offered and server.upgrade(request):
        return None
    return Response(f"Connect with the WebSocket subprotocol {PROTOCOL}.\n", 400)


if __name__ == "__main__":
    graphql = GraphQL(init_timeout=float(os.environ.get("INIT_TIMEOUT", "3")))
    websocket: WebSocketOptions = {
        "protocols": [PROTOCOL],
        "max_payload_length": 1 << 20,
        "open": graphql.open,
        "message": graphql.message,
        "close": graphql.close,
    }
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket=websocket, port=port, hostname="127.0.0.1") as server:
        print(f"graphql on {server.url}", flush=True)
        server.run()
