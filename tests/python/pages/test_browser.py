"""The chat page, served by ``uwserve`` itself, in a real browser: headless Chromium, driven through selenium.

One browser for the module, a server for each test. What is waited for is always something the page shows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import chromium
import pytest
from http_client import DEADLINE, bound

from uwserve import Server
from uwserve.demo import chat

pytestmark = [pytest.mark.plain("the browser does not know the authority"), chromium.needed]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.driven(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


class Tab:
    """One tab with the chat page in it."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.switch_to.new_window("tab")
        self.handle = browser.current_window_handle
        browser.get(url)

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it; another one is always left, or the browser would end."""
        self.front()
        self.browser.close()
        self.browser.switch_to.window(self.browser.window_handles[0])

    def front(self) -> Any:
        self.browser.switch_to.window(self.handle)
        return self.browser

    def run(self, script: str) -> Any:
        return self.front().execute_script(script)

    def type(self, field: str, text: str) -> None:
        element = self.front().find_element("id", field)
        element.clear()
        element.send_keys(text)

    def join(self, name: str, room: str) -> None:
        self.type("name", name)
        self.type("room", room)
        self.browser.find_element("id", "join").click()
        self.wait(lambda tab: tab.status().startswith(f"Connected to {room} as "))

    def say(self, text: str) -> None:
        self.type("text", text)
        self.browser.find_element("id", "send").click()

    def status(self) -> str:
        return str(self.run("return document.getElementById('status').textContent"))

    def messages(self) -> list[list[str]]:
        """[who, text] of what was said, notes left out."""
        return list(
            self.run(
                "return [...document.querySelectorAll('#messages > div:not(.note)')]"
                ".map(m => [m.querySelector('.who').textContent, m.querySelector('.text').textContent])"
            )
        )

    def notes(self) -> list[str]:
        return list(self.run("return [...document.querySelectorAll('#messages > .note')].map(n => n.textContent)"))

    def people(self) -> list[str]:
        return list(self.run("return [...document.querySelectorAll('#people li')].map(p => p.textContent)"))

    def wait(self, condition: Callable[[Tab], Any]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.front(), DEADLINE, poll_frequency=0.05).until(lambda _: condition(self), self.picture())

    def expect(self, **wanted: Any) -> None:
        """Wait until ``messages=``, ``people=`` or ``notes=`` is what the page shows."""
        for name, value in wanted.items():
            self.wait(lambda tab, name=name, value=value: getattr(tab, name)() == value)

    def picture(self) -> str:
        return f"status {self.status()!r}, people {self.people()}, notes {self.notes()}, messages {self.messages()}"

    def problems(self) -> list[str]:
        """What the page put on the console as an error, but for connections that failed while no server ran."""
        log = self.front().get_log("browser")
        return [e["message"] for e in log if e["level"] == "SEVERE" and "ERR_CONNECTION_REFUSED" not in e["message"]]


def start(port: int = 0) -> Server:
    return chat.create(port=port, hostname="127.0.0.1").start()


@pytest.fixture
def server() -> Iterator[Server]:
    with start() as server:
        yield server


@pytest.fixture
def tabs(browser: Any, server: Server) -> Iterator[list[Tab]]:
    """Two tabs with the page; closed before the server stops."""
    with ExitStack() as stack:
        yield [stack.enter_context(Tab(browser, server.url)) for _ in range(2)]


def test_two_tabs_chat(tabs: list[Tab], tmp_path: Path) -> None:
    """What one says both show, in order; who comes and goes is shown; the screenshot is for eyes."""
    ann, bob = tabs
    ann.join("Ann", "lobby")
    ann.expect(people=["Ann (you)"])
    bob.join("Bob", "lobby")
    ann.expect(people=["Ann (you)", "Bob"], notes=["Bob joined"])
    bob.expect(people=["Ann", "Bob (you)"])
    ann.say("Hello Bob")
    bob.say("Hello Ann, how are you? ☺")
    ann.say("A longer one. " * 12)
    said = [["Ann", "Hello Bob"], ["Bob", "Hello Ann, how are you? ☺"], ["Ann", ("A longer one. " * 12).strip()]]
    for tab in tabs:
        tab.wait(lambda tab: sorted(tab.messages()) == sorted(said))
        assert tab.problems() == []
    assert ann.run("return document.querySelectorAll('#messages .mine').length") == 2
    ann.front().save_screenshot(str(tmp_path / "chat.png"))
    assert (tmp_path / "chat.png").stat().st_size > 10_000


def test_rooms_are_apart_and_remember(tabs: list[Tab]) -> None:
    """A message stays in its room; who comes later gets the history; a name that is taken gets a number."""
    ann, bob = tabs
    ann.join("Ann", "red")
    bob.join("Bob", "blue")
    ann.say("only red")
    ann.expect(messages=[["Ann", "only red"]])
    bob.say("only blue")
    bob.expect(messages=[["Bob", "only blue"]])
    assert ann.messages() == [["Ann", "only red"]]
    bob.join("Ann", "red")
    bob.expect(messages=[["Ann", "only red"]], people=["Ann", "Ann (2) (you)"])
    bob.say("me too")
    ann.expect(messages=[["Ann", "only red"], ["Ann (2)", "me too"]])


NASTY = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>&amp;"


def test_markup_is_text(tabs: list[Tab]) -> None:
    """In messages, names and rooms: shown letter by letter, never run; the page's policy is there as a second wall."""
    ann, bob = tabs
    nasty_name = "<b>Ann</b><script>1</script>"
    ann.join(nasty_name, "<i>r</i>")
    bob.join("Bob", "<i>r</i>")
    ann.say(NASTY)
    bob.expect(messages=[[nasty_name, NASTY]], people=[nasty_name, "Bob (you)"])
    for tab in tabs:
        assert tab.run("return document.title") == "uwserve chat"
        assert tab.run("return document.querySelectorAll('main img, main script, main b, main i').length") == 0
        assert tab.problems() == []
    # Even a script that did get into the page would not run.
    bob.run(
        "const made = document.createElement('script'); made.textContent = \"document.title = 'owned'\";"
        "document.body.append(made)"
    )
    assert bob.run("return document.title") == "uwserve chat"
    assert len(bob.problems()) == 1  # the browser's own report of it


def test_who_leaves_is_gone(tabs: list[Tab], browser: Any, server: Server) -> None:
    """By closing the tab and by going to another page."""
    ann, bob = tabs
    ann.join("Ann", "lobby")
    with Tab(browser, server.url) as eve:
        eve.join("Eve", "lobby")
        ann.expect(people=["Ann (you)", "Eve"])
    ann.expect(people=["Ann (you)"], notes=["Eve joined", "Eve left"])
    bob.join("Bob", "lobby")
    ann.expect(people=["Ann (you)", "Bob"])
    bob.front().get("data:text/html,elsewhere")
    ann.expect(people=["Ann (you)"], notes=["Eve joined", "Eve left", "Bob joined", "Bob left"])


def test_errors_are_shown(tabs: list[Tab]) -> None:
    """What the server refuses is said on the page, which stays usable."""
    ann, _ = tabs
    ann.join("Ann", "lobby")
    ann.run("document.getElementById('text').maxLength = 9999")
    ann.run("document.getElementById('text').value = 'x'.repeat(3000)")
    ann.front().find_element("id", "send").click()
    ann.wait(lambda tab: "at most 2000 characters" in tab.status())
    ann.say("short")
    ann.expect(messages=[["Ann", "short"]])


def test_a_third_client_joins(tabs: list[Tab], server: Server) -> None:
    """Not a browser: the ``websockets`` library in the same room, both ways."""
    from websockets.sync.client import connect

    ann, _ = tabs
    ann.join("Ann", "lobby")
    with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None, open_timeout=DEADLINE) as robot:

        def receive() -> Any:
            return json.loads(robot.recv(timeout=DEADLINE))

        robot.send(json.dumps({"type": "join", "room": "lobby", "name": "Robot"}))
        joined = receive()
        assert (joined["type"], joined["people"]) == ("joined", ["Ann", "Robot"])
        ann.expect(people=["Ann (you)", "Robot"])
        robot.send(json.dumps({"type": "message", "text": "beep"}))
        assert receive()["text"] == "beep"
        ann.expect(messages=[["Robot", "beep"]])
        ann.say("hello robot")
        assert [receive()[key] for key in ("name",)] == ["Ann"]
    ann.expect(people=["Ann (you)"])


def test_reconnect_after_a_restart(browser: Any) -> None:
    """The server goes and comes back on the same port: the page says so, comes back by itself and still works."""
    first = start()
    port = first.port or 0
    with ExitStack() as stack:
        with first:
            ann = stack.enter_context(Tab(browser, first.url))
            ann.join("Ann", "lobby")
            ann.say("before")
            ann.expect(messages=[["Ann", "before"]])
        ann.wait(lambda tab: tab.status().startswith("Disconnected"))
        ann.expect(people=[])
        assert ann.run("return document.getElementById('text').disabled") is True
        with bound(port=port):
            pass  # the port is free again
        with start(port):
            ann.wait(lambda tab: tab.status() == "Connected to lobby as Ann.")
            ann.say("after")
            ann.wait(lambda tab: ["Ann", "after"] in tab.messages())
            ann.expect(people=["Ann (you)"])
            assert ann.problems() == []
            ann.front().get("about:blank")


# Sends the messages one by one and returns what was wrong with the answers: each comes twice.
TALK = """
const [url, texts, done] = arguments, bad = [];
const messages = texts.flatMap(text => [text, new TextEncoder().encode(text)]);
const plain = data => typeof data === "string" ? data : new TextDecoder().decode(data);
const ws = new WebSocket(url);
ws.binaryType = "arraybuffer";
let at = 0;
ws.onopen = () => ws.send(messages[0]);
ws.onmessage = ({data}) => {
    const sent = messages[at >> 1];
    if (typeof data !== (typeof sent === "string" ? "string" : "object") || plain(data) !== plain(sent)) bad.push(at);
    if (++at === 2 * messages.length) ws.close(1000);
    else if (at % 2 === 0) ws.send(messages[at / 2]);
};
ws.onclose = ({code}) => done([ws.extensions, at, bad, code]);
"""


@pytest.mark.parametrize(
    "setting", [True, "dedicated", "4KB", "256KB", ("shared", "dedicated"), ("dedicated", "shared")]
)
def test_compressed_messages(browser: Any, serving: Any, setting: Any) -> None:
    """Every kind of compression, both ways, by a client that keeps its decompressor."""
    compress, decompress = setting if isinstance(setting, tuple) else (setting, setting)
    option = True if setting is True else {"compress": compress, "decompress": decompress}

    def message(ws: Any, message: Any) -> None:
        ws.send(message, compress=True)
        ws.server.publish("all", message)

    live = serving(open=lambda ws: ws.subscribe("all"), message=message, per_message_deflate=option)
    texts = ["x", "hello " * 30, os.urandom(30_000).hex(), "ü€😀" * 4000, "hello " * 30_000, "hello " * 30] * 2
    browser.get(live.server.url)  # a page of this origin, whatever is on it
    extensions, received, bad, code = browser.execute_async_script(TALK, f"ws://127.0.0.1:{live.server.port}/", texts)
    assert extensions.startswith("permessage-deflate")
    assert (received, bad, code) == (4 * len(texts), [], 1000)
