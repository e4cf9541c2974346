"""Which topics the dashboard shows: the largest and busiest, in any order, by search; and the page on all screens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import chromium
import page_shapes
import pytest
from dashboard_client import PAGE, Viewer, head
from http_client import DEADLINE, Client, frame, open_websocket

from uwserve import Server, ServerWebSocket, serve
from uwserve.dashboard.feed import SEARCH_LENGTH, TOPICS, Feed

pytestmark = pytest.mark.plain("the browser does not know the authority")

BUSY = 40
"""Topics of one subscriber, to which something is published all the time: more than are shown."""


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    """Publish once to each of the busy topics."""
    for number in range(BUSY):
        ws.publish(f"busy/{number:02}", "x")


def opened(ws: ServerWebSocket) -> None:
    ws.subscribe("Große Halle")  # everybody is in it, and nothing is published to it
    if ws.id == 1:
        for number in range(BUSY):
            ws.subscribe(f"busy/{number:02}")
        for number in range(100):
            ws.subscribe(f"quiet/{number:03}")
    if ws.id <= 2:
        ws.subscribe("שיחה")


@contextmanager
def rooms(**options: Any) -> Iterator[tuple[Server, list[Client]]]:
    handlers = {"open": opened, "message": message}
    server = serve(
        fetch=lambda request, server: None if server.upgrade(request) else "x",
        websocket=handlers,
        port=0,
        hostname="127.0.0.1",
        dashboard=True,
        **options,
    )
    with server.start(), ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(3)]
        for client in clients:
            open_websocket(client)
        yield server, clients


def publish(clients: list[Client]) -> None:
    clients[2].send(frame(b"go"))


def ask(server: Server, query: str, *fields: str) -> tuple[int, Any]:
    with Client(server) as client:
        client.send(head(f"{PAGE}?{query}", *fields))
        reply = client.reply()
        return reply.status, json.loads(reply.body) if reply.body and reply.status == 200 else None


def found(server: Server, query: str) -> dict[str, Any]:
    """The answer to a search, asked for until the server has time for it."""
    from ws_client import eventually

    def attempt() -> Any:
        status, answer = ask(server, query)
        assert status in (200, 204)
        return answer

    answer: dict[str, Any] = eventually(attempt, f"an answer to {query}")
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [topic["name"] for topic in answer["topics"]]


def test_the_largest_room_is_among_busy_ones() -> None:
    """As many busy topics as there is room for do not hide a quiet one with more subscribers, and it comes first."""
    with rooms() as (server, clients), Viewer(server) as viewer:

        def is_busy(told: dict[str, Any]) -> bool:
            publish(clients)
            return sum(topic["rate"] > 0 for topic in told["topics"]) > 5

        told = viewer.until(is_busy)
        topics = told["topics"]
        assert len(topics) == TOPICS
        assert told["topics_count"] == 142
        assert [(topic["name"], topic["subscribers"]) for topic in topics[:2]] == [("Große Halle", 3), ("שיחה", 2)]
        assert sum(topic["rate"] > 0 for topic in topics) >= TOPICS // 2
        assert [topic["subscribers"] for topic in topics] == sorted(
            (topic["subscribers"] for topic in topics), reverse=True
        )


def test_searches_and_orders() -> None:
    with rooms() as (server, clients), Viewer(server) as viewer:
        publish(clients)
        viewer.until(lambda told: any(topic["publishes"] for topic in told["topics"]))
        answer = found(server, "topics")
        assert (answer["matches"], len(answer["topics"])) == (142, TOPICS)
        assert names(answer)[:2] == ["Große Halle", "שיחה"]
        assert names(found(server, "topics&sort=name"))[:2] == ["Große Halle", "busy/00"]
        assert {name[:5] for name in names(found(server, "topics&sort=publishes"))} == {"busy/"}
        for sort in ("publishes", "subscribers", "rate"):
            values = [topic[sort] for topic in found(server, f"topics&sort={sort}")["topics"]]
            assert values == sorted(values, reverse=True)
        assert names(found(server, "topics&search=QUIET%2F00&sort=name")) == [f"quiet/{n:03}" for n in range(10)]
        assert names(found(server, "topics&search=gro%C3%9Fe%20h")) == ["Große Halle"]
        assert names(found(server, "topics&search=GROSSE")) == ["Große Halle"]
        assert names(found(server, "topics&search=%D7%A9%D7%99")) == ["שיחה"]
        assert found(server, "topics&search=nowhere") == {"topics": [], "matches": 0}
        assert found(server, "topics&search=%3Cb%3E%00%FF")["matches"] == 0
        assert found(server, "topics&sort=__class__")["matches"] == 142
        assert found(server, "topics&search=" + "x" * 4000)["matches"] == 0
        assert set(found(server, "topics")["topics"][0]) == {"name", "rate", "subscribers", "publishes"}
    assert SEARCH_LENGTH < 4000


def test_other_queries_are_the_page() -> None:
    with rooms() as (server, _), Client(server) as client:
        client.send(head(f"{PAGE}?x=1&search=busy"))
        reply = client.reply()
        assert (reply.status, reply.get("Content-Type")) == (200, "text/html;charset=utf-8")


def test_who_may_not_look_finds_nothing() -> None:
    with rooms() as (server, _), Viewer(server):
        assert ask(server, "topics", "X-Forwarded-For: 10.0.0.1")[0] == 404
        with Client(server) as client:
            client.send(head(f"{PAGE}?topics", host="evil.example"))
            assert client.reply().status == 404


def test_without_a_viewer_nothing_is_searched() -> None:
    with rooms() as (server, _):
        assert ask(server, "topics&search=busy") == (200, {"topics": [], "matches": 0})


def test_searches_have_their_share_of_the_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a search that took long the next ones wait, and cost nothing."""
    from uwserve.dashboard import feed as module

    class Clock:
        """Each search takes 10 ms of this one."""

        now = 0.0

        def perf_counter(self) -> float:
            self.now += 0.01
            return self.now

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    feed = Feed.__new__(Feed)  # without a server
    feed._end = object()  # type: ignore[assignment]
    feed._search_due = 0.0
    feed._topics_last = 0.0, {"a": {"subscribers": 1, "publishes": 0}}
    feed._rates = {"a": 0.0}
    assert feed.find_topics("a", "name") is not None
    assert feed.find_topics("a", "name") is None
    clock.now += 0.4
    assert feed.find_topics("a", "name") is None
    clock.now += 0.2
    assert feed.find_topics("A", "name") == {
        "topics": [{"name": "a", "rate": 0.0, "subscribers": 1, "publishes": 0}],
        "matches": 1,
    }


# --- the page ---


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.driven(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def wait(driver: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, DEADLINE, poll_frequency=0.1).until(lambda d: d.execute_script(f"return {script}"), script)


FIRST = "document.querySelector('#topics tbody tr td')?.textContent"


@chromium.needed
def test_searching_and_sorting_on_the_page(driver: Any) -> None:
    with rooms() as (server, clients):
        driver.get(f"{server.url}{PAGE[1:]}")
        wait(driver, f"{FIRST} === 'Große Halle'")
        publish(clients)
        driver.find_element("id", "search").send_keys("QUIET/09")
        wait(driver, f"{FIRST} === 'quiet/090' && document.querySelectorAll('#topics tbody tr').length === 10")
        assert driver.find_element("id", "topics-count").text == "10 found"
        driver.find_element("id", "search").clear()
        driver.find_element("id", "search").send_keys("no such topic")
        wait(driver, "document.getElementById('no-topics').checkVisibility()")
        assert driver.find_element("id", "no-topics").text == "No topic has that in its name."
        driver.find_element("id", "search").clear()
        driver.find_element("id", "search").send_keys(" ")
        wait(driver, f"{FIRST} === 'Große Halle'")
        sort = driver.find_element("css selector", "th[data-sort=publishes] button")
        sort.click()
        wait(driver, f"{FIRST} === 'busy/00'")
        assert driver.execute_script("return document.querySelector('th[aria-sort]').ariaSort") == "descending"
        assert driver.find_element("id", "topics-count").text == "the first 20 of 142"
        sort.click()
        wait(driver, f"{FIRST} === 'Große Halle'")
        assert driver.find_elements("css selector", "th[aria-sort]") == []
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not severe
        driver.get("about:blank")


@chromium.needed
@pytest.mark.parametrize("scheme", page_shapes.SCHEMES)
def test_the_page_fits_every_screen(driver: Any, scheme: str, tmp_path: Path) -> None:
    """Nothing sticks out, inputs are large enough, text can be read, and on a phone it is no endless column."""
    with rooms() as (server, _):
        page_shapes.prefer(driver, scheme)
        for width, height in page_shapes.SIZES:
            page_shapes.resize(driver, width, height)
            driver.get(f"{server.url}{PAGE[1:]}")
            wait(driver, f"document.getElementById('state').textContent === 'live' && {FIRST} === 'Große Halle'")
            wait(driver, "view.points.length >= 2")
            assert page_shapes.problems(driver) == [], (width, height)
            tall = driver.execute_script("return document.documentElement.scrollHeight")
            assert tall < 2300, (width, tall)
            lists = driver.execute_script("return [...document.querySelectorAll('details')].map(list => list.open)")
            assert lists == [True, *[width > 640] * 3]
            page_shapes.resize(driver, width, max(height, tall))
            driver.save_screenshot(str(tmp_path / f"dashboard-{width}-{scheme}.png"))
        driver.get("about:blank")
        page_shapes.usual(driver)
