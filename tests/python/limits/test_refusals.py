"""``server.refused`` and the warnings on the logger: each cause is counted, told at once, then once a period."""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

import pytest
from http_client import GET, Client, running, upgrade
from ws_client import eventually, frame

import uwserve
from uwserve import _core
from uwserve._options.limits import LIMITS, figures
from uwserve._run import control, refusals


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports every fifth of a second."""
    monkeypatch.setattr(control, "REPORT_SECONDS", 0.2)


@pytest.fixture
def warnings(_log: Any) -> list[str]:
    return _log.refusals


def counted(server: uwserve.Server) -> dict[str, int]:
    """The causes that are not zero."""
    return {name: count for name, count in server.refused.items() if count}


def test_the_names() -> None:
    """The core's and the table's are the same, and each can be put into words."""
    names = list(_core.ServerCore().refused)
    assert names == list(refusals.REFUSALS)
    text = refusals.describe(figures({"max_connections": 7}), 10.2, dict.fromkeys(names, 2))
    assert text.startswith("refused in the last 10 s: 2 connections (max_connections=7), ")
    assert "{" not in text
    assert refusals.describe({}, 0, {"http_431": 1}) == "refused: 1 request (431 head too large)"
    for _, why in refusals.REFUSALS.values():
        if why.startswith("max_") and why != "max_payload_length":
            assert why in LIMITS


HEADS = {
    "http_400": b"nonsense\r\n\r\n",
    "http_413": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
    "http_414": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "http_417": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: much\r\n\r\n",
    "http_431": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17000 + b"\r\n\r\n",
    "http_501": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "http_505": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_bad_heads_by_status(name: str, warnings: list[str]) -> None:
    with running(fetch=lambda r: "ok", max_request_body_size=100) as server:
        for _ in range(3):
            with Client(server) as client:
                client.send(HEADS[name])
                assert f"http_{client.reply().status}" == name
        with Client(server) as client:
            assert client.ask().status == 200
        assert counted(server) == {name: 3}
    assert " request" in warnings[0]
    assert name[5:] in warnings[0]


def test_handshakes(warnings: list[str]) -> None:
    """Counted when a WebSocket was asked for; an ordinary request on the same path is nothing to tell of."""
    wrong = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    old = wrong.replace(b"13", b"8") + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with running(fetch=upgrade, websocket={}) as server, Client(server) as client:
        assert client.ask().body == b"plain"
        assert counted(server) == {}
        assert client.ask(wrong + b"Sec-WebSocket-Key: short\r\n\r\n").body == b"plain"
        assert client.ask(old).status == 426
        assert counted(server) == {"handshake_invalid": 1, "handshake_version": 1}
    assert "1 WebSocket handshake (malformed)" in "".join(warnings)


@pytest.mark.parametrize(
    ("sent", "code"),
    [(frame(3), 1002), (frame(1, b"\xff"), 1007), (frame(2, b"x" * 101), 1009)],
)
def test_violations_by_code(serving: Any, sent: bytes, code: int) -> None:
    live = serving(max_payload_length=100)
    client, _ = live.open()
    client.send_raw(sent)
    assert client.read_close()[0] == code
    assert live.expect_close()[0] == code
    assert counted(live.server) == {f"websocket_{code}": 1}


def test_backpressure(serving: Any) -> None:
    live = serving(backpressure_limit=100_000, close_on_backpressure_limit=True)
    _client, ws = live.open(receive_buffer=8192)

    def flood() -> None:
        while ws.send(b"x" * 65536):
            pass
        ws.send(b"x" * 65536)

    live.on_loop(flood)
    assert live.expect_close()[0] == 1006
    assert counted(live.server) == {"sends_backpressure": 2, "backpressure_closes": 1}


# --- reports ---


def bad(server: uwserve.Server) -> None:
    with Client(server) as client:
        client.send(HEADS["http_400"])
        assert client.reply().status == 400


def test_the_first_at_once_the_rest_together(quick: None, warnings: list[str]) -> None:
    with running(fetch=lambda r: "ok") as server:
        bad(server)
        eventually(lambda: len(warnings) == 1, "the first report")
        assert warnings == ["refused: 1 request (400 malformed)"]
        for _ in range(5):
            bad(server)
        total = 1
        while total < 6:
            seen = len(warnings)
            eventually(lambda seen=seen: len(warnings) > seen, "another report")
            total = sum(int(match) for line in warnings for match in re.findall(r"(\d+) requests? \(400", line))
        assert total == 6
        assert all(line.startswith("refused in the last 1 s: ") for line in warnings[1:])


def test_not_more_often_than_once_a_period(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REPORT_SECONDS", 0.5)
    with running(fetch=lambda r: "ok") as server:
        begun = time.monotonic()
        while time.monotonic() - begun < 1.2:
            bad(server)
        passed = time.monotonic() - begun
        assert 2 <= len(warnings) <= 2 + passed / 0.5


def test_the_last_report_is_not_lost(warnings: list[str]) -> None:
    """The period is ten seconds, and the server stops long before it is over."""
    with running(fetch=lambda r: "ok") as server:
        bad(server)
        eventually(lambda: len(warnings) == 1)
        for _ in range(3):
            bad(server)
        assert len(warnings) == 1
    assert len(warnings) == 2
    assert "3 requests (400 malformed)" in warnings[1]
    assert server.refused["http_400"] == 4  # readable after the end


def test_a_limit_is_named_with_its_figure(warnings: list[str]) -> None:
    with running(fetch=lambda r: "ok", limits={"max_connections": 1}) as server, Client(server) as client:
        assert client.ask().status == 200
        for _ in range(2):
            try:
                with Client(server) as newcomer:
                    assert newcomer.socket.recv(1) == b""
            except ConnectionResetError:
                pass
        eventually(lambda: server.refused["connections"] == 2)
    assert re.search(r"[12] connections? \(max_connections=1\)", warnings[0])


def test_a_refusal_after_a_quiet_period_is_told_at_once(quick: None, warnings: list[str]) -> None:
    """It is a first one again: its report does not speak of a period."""
    with running(fetch=lambda r: "ok") as server:
        bad(server)
        eventually(lambda: len(warnings) == 1)
        for attempt in range(2, 12):  # a period without any refusal must pass in between
            threading.Event().wait(0.1 * attempt)
            bad(server)
            eventually(lambda attempt=attempt: len(warnings) >= attempt, "its report")
            if warnings[-1].startswith("refused: "):
                return
        raise AssertionError(warnings)


class Raising(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:
            raise RuntimeError("no log today")
        return True


def test_a_log_that_raises_is_survived(logged: list[str]) -> None:
    logger = logging.getLogger("uwserve")
    raising = Raising()
    logger.addFilter(raising)
    try:
        with running(fetch=lambda r: "ok") as server:
            bad(server)
            eventually(lambda: logged, "the failure's record")
            with Client(server) as client:
                assert client.ask(GET).status == 200
    finally:
        logger.removeFilter(raising)
    assert "no log today" in logged[0]


def test_counts_of_a_server_without_refusals_and_any_thread() -> None:
    with running(fetch=lambda r: "ok") as server:
        with Client(server) as client:
            assert client.ask().status == 200
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.append(server.refused))
        thread.start()
        thread.join()
        assert set(seen[0].values()) == {0}
        assert server.bufferedBytes == server.buffered_bytes == 0
