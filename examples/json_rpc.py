"""JSON-RPC 2.0 over a WebSocket: requests, notifications, batches and errors as its specification says.

A method is a function with the decorator ``@method``; it may be a coroutine, and slow ones do not hold up others. The
server calls the client, too: ``watch`` makes it send the notification ``changed``, whenever somebody calls ``put``.

PORT=3000 python examples/json_rpc.py, then python -m websockets ws://localhost:3000/ and type
{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": 1}
"""

import asyncio
import inspect
import json
import logging
import os
from collections.abc import Callable
from typing import Any

from uwserve import Request, Response, Server, ServerWebSocket, serve

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
METHODS: dict[str, Callable[..., Any]] = {}
MAX_BATCH = 100


class RpcError(Exception):
    """An error that the caller is told: code, message and, if there is more to say, data."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code, self.message, self.data = code, message, data


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``function(ws, ...)`` callable under its name; parameters by position or by name."""
    METHODS[function.__name__] = function
    return function


def number(value: object) -> float:
    """A parameter that must be a number: what comes over the wire has any type, whatever a signature says."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise RpcError(INVALID_PARAMS, "Invalid params", f"{value!r} is no number")
    return value


@method
def add(ws: ServerWebSocket, a: float, b: float) -> float:
    return number(a) + number(b)


@method
def divide(ws: ServerWebSocket, a: float, b: float) -> float:
    return number(a) / number(b)


@method
async def later(ws: ServerWebSocket, seconds: float, value: Any) -> Any:
    await asyncio.sleep(min(seconds, 10))
    return value


VALUES: dict[str, Any] = {}


@method
def put(ws: ServerWebSocket, key: str, value: Any) -> None:
    VALUES[key] = value
    notification = {"jsonrpc": "2.0", "method": "changed", "params": {"key": key, "value": value}}
    ws.server.publish("changes", json.dumps(notification))


@method
def watch(ws: ServerWebSocket) -> dict[str, Any]:
    ws.subscribe("changes")
    return VALUES


async def call(ws: ServerWebSocket, request: Any) -> dict[str, Any] | None:
    """The response to one request, ``None`` for a notification."""
    identifier = request.get("id") if isinstance(request, dict) else None
    try:
        match request:
            case {"jsonrpc": "2.0", "method": str(name)} if isinstance(identifier, (str, int, float, type(None))):
                params = request.get("params", [])
            case _:
                identifier = None
                raise RpcError(INVALID_REQUEST, "Invalid Request")
        if not isinstance(params, (list, dict)):
            raise RpcError(INVALID_REQUEST, "Invalid Request", "params must be an array or an object")
        function = METHODS.get(name)
        if function is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found", name)
        arguments, keywords = (params, {}) if isinstance(params, list) else ([], params)
        try:
            inspect.signature(function).bind(ws, *arguments, **keywords)
        except TypeError as error:
            raise RpcError(INVALID_PARAMS, "Invalid params", str(error)) from None
        result = function(ws, *arguments, **keywords)
        answer: dict[str, Any] = {"result": await result if inspect.isawaitable(result) else result}
    except RpcError as error:
        answer = {"error": {"code": error.code, "message": error.message}}
        if error.data is not None:
            answer["error"]["data"] = error.data
        if error.code == INVALID_REQUEST:
            return {"jsonrpc": "2.0", **answer, "id": identifier}
    except Exception:
        logging.exception("in the method %s", request["method"])
        answer = {"error": {"code": INTERNAL_ERROR, "message": "Internal error"}}  # and nothing that is ours to know
    return {"jsonrpc": "2.0", **answer, "id": identifier} if "id" in request else None


async def message(ws: ServerWebSocket, message: str | bytes) -> None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        error = {"code": PARSE_ERROR, "message": "Parse error"}
        ws.send_text(json.dumps({"jsonrpc": "2.0", "error": error, "id": None}))
        return
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
        response: Any = await call(ws, {} if isinstance(value, list) else value)
    else:  # those of a batch run beside each other; what is left without an answer is left out
        response = [one for one in await asyncio.gather(*(call(ws, part) for part in value)) if one is not None]
    if response:
        ws.send_text(json.dumps(response))


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    return Response.json({"methods": sorted(METHODS)})


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket={"message": message}, port=port, hostname="127.0.0.1") as server:
        print(f"json-rpc on {server.url}", flush=True)
        server.run()
