"""The examples that speak a protocol of their own: who may connect, GraphQL, JSON-RPC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_processes import Example, example
from http_client import DEADLINE, Client, request

from uwserve.testing import HandshakeRefused, WebSocketClient

pytestmark = pytest.mark.plain("the servers run in processes of their own")


# --- auth ---


def login(run: Example, **form: object) -> str:
    body = json.dumps({"name": "ada", "password": "1815"} | form).encode()
    with Client(run.port) as client:
        reply = client.ask(request("/login", "POST", body))
    assert reply.status == 200, reply
    return str(reply.json()["token"])


def test_auth_variants(tmp_path: Path) -> None:
    with example("auth.py", tmp_path) as run:
        token = login(run)
        ways: list[dict[str, Any]] = [
            {"headers": {"Authorization": f"Bearer {token}"}},
            {"cookies": {"token": token}},
            {"cookies": {"token": token}, "headers": {"Origin": f"http://127.0.0.1:{run.port}"}},
            {"protocols": ["bearer", token]},
            {"path": f"/?token={token}"},
        ]
        for way in ways:
            with run.connect(**way) as ws:
                assert ws.receive() == "hello ada"
                assert ws.protocol == ("bearer" if "protocols" in way else "")
                ws.send("x")
                assert ws.receive() == "x"


def test_auth_refusals(tmp_path: Path) -> None:
    with example("auth.py", tmp_path) as run:
        token = login(run)
        payload, _, signature = token.partition(".")
        with run.connect(f"/?token={(expired := login(run, seconds=0.2))}") as ws:
            assert ws.receive() == "hello ada"
            ws.expect_close(4401)
        refused: list[tuple[dict[str, Any], str]] = [
            ({}, "there is no token"),
            ({"path": "/?token=nonsense"}, "the token is not genuine"),
            ({"path": f"/?token={payload[:-2]}xx.{signature}"}, "the token is not genuine"),
            ({"path": f"/?token={payload}.{signature[::-1]}"}, "the token is not genuine"),
            ({"path": "/?token=%C3%A9.%C3%A9"}, "the token is not genuine"),
            ({"path": f"/?token={expired}"}, "the token has expired"),
            ({"cookies": {"token": token}, "headers": {"Origin": "http://evil.test"}}, "for a page of another site"),
        ]
        for way, reason in refused:
            with pytest.raises(HandshakeRefused) as caught:
                run.connect(**way)
            response = caught.value.response
            assert response.status == 401
            assert reason in response.text
            assert reason in response.headers["www-authenticate"]
        with Client(run.port) as client:
            for body, status in (
                (b'{"name": "ada", "password": "1816"}', 401),
                (b'{"name": "bob", "password": ""}', 401),
            ):
                assert client.ask(request("/login", "POST", body)).status == status
            never = [
                json.dumps({"name": "ada", "password": "1815", "seconds": seconds}).encode()
                for seconds in (0, -1, 3601, float("nan"), float("inf"))
            ]
            for body in (b"", b"{", b"[]", b'{"name": "ada"}', b'{"name": [], "password": 1}', *never):
                assert client.ask(request("/login", "POST", body)).status == 400


def test_auth_ends_with_the_token(tmp_path: Path) -> None:
    with example("auth.py", tmp_path) as run, run.connect(f"/?token={login(run, seconds=0.5)}") as ws:
        assert ws.receive() == "hello ada"
        ws.expect_close(4401, "the token has expired")


# --- GraphQL ---


def graphql(run: Example, init: bool = True) -> WebSocketClient:
    ws = run.connect(protocols=["other", "graphql-transport-ws"])
    assert ws.protocol == "graphql-transport-ws"
    if init:
        ws.send_json({"type": "connection_init", "payload": {"token": "x"}})
        assert ws.receive_json() == {"type": "connection_ack"}
    return ws


def subscribe(ws: WebSocketClient, key: str, query: str, **payload: object) -> None:
    ws.send_json({"id": key, "type": "subscribe", "payload": {"query": query} | payload})


def test_graphql_operations(tmp_path: Path) -> None:
    with example("graphql_ws.py", tmp_path) as run, graphql(run) as ws:
        subscribe(ws, "q", "query ($y: Int) { books(before: $y) { title } }", variables={"y": 1816})
        data = {"books": [{"title": "Emma"}]}
        assert ws.receive_json() == {"type": "next", "id": "q", "payload": {"data": data}}
        assert ws.receive_json() == {"type": "complete", "id": "q"}
        subscribe(ws, "s", "subscription { countdown(start: 2) }")
        for number in (2, 1, 0):
            assert ws.receive_json() == {"type": "next", "id": "s", "payload": {"data": {"countdown": number}}}
        assert ws.receive_json() == {"type": "complete", "id": "s"}
        for query, text in (("{", "Syntax Error"), ("{ nothing }", "Cannot query field 'nothing'")):
            subscribe(ws, "e", query)
            answer = ws.receive_json()
            assert (answer["type"], answer["id"]) == ("error", "e")
            assert text in answer["payload"][0]["message"]
        ws.send_json({"type": "ping", "payload": {"a": 1}})
        assert ws.receive_json() == {"type": "pong", "payload": {"a": 1}}
        ws.send_json({"type": "ping"})
        assert ws.receive_json() == {"type": "pong"}
        ws.send_json({"type": "pong"})
        ws.expect_nothing()


def test_graphql_operations_run_beside_each_other_and_can_be_ended(tmp_path: Path) -> None:
    with example("graphql_ws.py", tmp_path) as run, graphql(run) as ws:
        subscribe(ws, "long", "subscription { countdown(start: 1000000) }")
        assert ws.receive_json()["id"] == "long"
        subscribe(ws, "q", "{ books { year } }")
        while (answer := ws.receive_json())["id"] == "long":
            pass
        assert answer["type"] == "next"
        ws.send_json({"type": "complete", "id": "long"})
        ws.ping()  # by now the server has done so; what it sent before is read
        subscribe(ws, "q", "{ books { year } }")
        left = [ws.receive_json() for _ in range(2)]
        while left[-1] != {"type": "complete", "id": "q"} or left[-2]["id"] != "q":
            left.append(ws.receive_json())
        ws.send_json({"type": "complete", "id": "never there"})
        ws.expect_nothing()


@pytest.mark.parametrize(
    ("init", "sent", "code", "reason"),
    [
        (True, [b"binary"], 4400, "Invalid message"),
        (True, ["{"], 4400, "Invalid message"),
        (True, ["[]"], 4400, "Invalid message"),
        (True, ['{"type": "other"}'], 4400, "Invalid message"),
        (True, ['{"type": "subscribe", "payload": {"query": "{ books { year } }"}}'], 4400, "Invalid message"),
        (True, ['{"type": "subscribe", "id": "1", "payload": {}}'], 4400, "Invalid message"),
        (False, ['{"type": "subscribe", "id": "1", "payload": {"query": "{ books { year } }"}}'], 4401, "Unauthorized"),
        (
            True,
            ['{"type": "subscribe", "id": "1", "payload": {"query": "subscription { countdown(start: 999) }"}}'] * 2,
            4409,
            "Subscriber for 1 already exists",
        ),
        (True, ['{"type": "connection_init"}'], 4429, "Too many initialisation requests"),
    ],
)
def test_graphql_close_codes(init: bool, sent: list[Any], code: int, reason: str, tmp_path: Path) -> None:
    with example("graphql_ws.py", tmp_path, INIT_TIMEOUT=DEADLINE) as run, graphql(run, init) as ws:
        for message in sent:
            ws.send(message)
        while ws.closed is None:
            try:
                ws.expect_close(code, reason)
            except AssertionError:
                assert ws.receive_json()["type"] == "next"
        assert ws.closed == (code, reason)


def test_graphql_without_init(tmp_path: Path) -> None:
    with example("graphql_ws.py", tmp_path, INIT_TIMEOUT=0.2) as run:
        with graphql(run, init=False) as ws:
            ws.expect_close(4408, "Connection initialisation timeout")
        with pytest.raises(HandshakeRefused, match="400 Bad Request: b'Connect with the WebSocket subprotocol graphql"):
            run.connect(protocols=["graphql-ws"])


# --- JSON-RPC ---


def error(code: int, message: str, identifier: object = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": identifier}


def ask(ws: WebSocketClient, sent: object) -> Any:
    """The answer to ``sent``, without the ``data`` of errors."""
    if isinstance(sent, str):
        ws.send(sent)
    else:
        ws.send_json(sent)
    answer = ws.receive_json()
    for part in answer if isinstance(answer, list) else [answer]:
        part.get("error", {}).pop("data", None)
    return answer


def rpc(method: object, params: object = None, **more: object) -> dict[str, Any]:
    made = {"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params})
    return made | more


def test_json_rpc(tmp_path: Path) -> None:
    with example("json_rpc.py", tmp_path) as run, run.connect() as ws:
        assert ask(ws, rpc("add", [1, 2], id=1)) == {"jsonrpc": "2.0", "result": 3, "id": 1}
        assert ask(ws, rpc("add", {"b": 2, "a": 0.5}, id="x"))["result"] == 2.5
        assert ask(ws, rpc("watch", id=None)) == {"jsonrpc": "2.0", "result": {}, "id": None}
        for sent, answer in (
            ("{", error(-32700, "Parse error")),
            ("[1,", error(-32700, "Parse error")),
            ([], error(-32600, "Invalid Request")),
            (1, error(-32600, "Invalid Request")),
            ({"method": "add", "id": 1}, error(-32600, "Invalid Request")),
            (rpc(1, "bar"), error(-32600, "Invalid Request")),
            (rpc("add", "bar", id=1), error(-32600, "Invalid Request", 1)),
            (rpc("add", [1, 2], id=[]), error(-32600, "Invalid Request")),
            ([1, 2], [error(-32600, "Invalid Request")] * 2),
            (rpc("nothing", id=1), error(-32601, "Method not found", 1)),
            (rpc("add", [1], id=1), error(-32602, "Invalid params", 1)),
            (rpc("add", {"a": 1, "c": 2}, id=1), error(-32602, "Invalid params", 1)),
            (rpc("add", ["1", 2], id=1), error(-32602, "Invalid params", 1)),
        ):
            assert ask(ws, sent) == answer, sent


def test_json_rpc_batches_and_notifications(tmp_path: Path) -> None:
    with example("json_rpc.py", tmp_path) as run, run.connect() as ws, run.connect() as other:
        batch = [rpc("add", [1, 2], id=1), rpc("add", [1, 2]), 1, rpc("nothing"), rpc("later", [0.01, "x"], id=2)]
        assert ask(ws, batch) == [
            {"jsonrpc": "2.0", "result": 3, "id": 1},
            error(-32600, "Invalid Request"),
            {"jsonrpc": "2.0", "result": "x", "id": 2},
        ]
        for silent in (rpc("add", [1, 2]), rpc("nothing"), rpc("add", [1]), [rpc("add", [1, 2]), rpc("nothing")]):
            ws.send_json(silent)
        ws.expect_nothing()
        assert ask(other, rpc("watch", id=1))["result"] == {}
        ws.send_json(rpc("put", {"key": "k", "value": [1]}))
        assert other.receive_json() == rpc("changed", {"key": "k", "value": [1]})
        ws.send_json(rpc("later", [1, "slow"], id=1))
        assert ask(ws, rpc("later", [0, "quick"], id=2))["result"] == "quick"


def test_json_rpc_internal_errors(tmp_path: Path) -> None:
    """The caller learns nothing of the inside; the log has it."""
    with example("json_rpc.py", tmp_path) as run, run.connect() as ws:
        assert ask(ws, rpc("divide", [1, 0], id=1)) == error(-32603, "Internal error", 1)
        ws.close()
        run.errors = "ZeroDivisionError"
