"""The examples with a page, in headless Chromium, and what their servers refuse, by a client that is no page."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from example_processes import Example, example
from http_client import DEADLINE, Client, request

from uwserve.testing import HandshakeRefused

pytestmark = pytest.mark.plain("the servers run in processes of their own")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.driven(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[[Example], Tab]]:
    """``tab(run)``: a new tab with the example's page, closed at the end of the test."""
    tabs: list[Tab] = []

    def make(run: Example, fragment: str = "") -> Tab:
        tabs.append(Tab(browser, f"http://127.0.0.1:{run.port}/{fragment}"))
        return tabs[-1]

    yield make
    for one in tabs:
        one.close()
    browser.get_log("browser")  # what they say of a server that was gone before them


class Tab:
    """One tab with a page."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.switch_to.new_window("window")
        self.handle = browser.current_window_handle
        browser.get(url)

    def front(self) -> Any:
        self.browser.switch_to.window(self.handle)
        return self.browser

    def run(self, script: str) -> Any:
        return self.front().execute_script(script)

    def find(self, selector: str) -> Any:
        return self.front().find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return list(self.run(f"return [...document.querySelectorAll({selector!r})].map(one => one.innerText)"))

    def wait(self, condition: Callable[[], Any]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.front(), DEADLINE, poll_frequency=0.05).until(
            lambda _: condition(), self.run("return document.body.innerText")
        )

    def expect(self, selector: str, texts: list[str]) -> None:
        self.wait(lambda: self.texts(selector) == texts)

    def picture(self, path: Path) -> None:
        self.front().save_screenshot(str(path))
        assert path.stat().st_size > 5_000
        log = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not log

    def close(self) -> None:
        if self.handle in self.browser.window_handles:
            self.front().close()
            self.browser.switch_to.window(self.browser.window_handles[0])


# --- chat ---


@chromium.needed
def test_chat_page(tab: Any, tmp_path: Path) -> None:
    """Two pages and a client: what is said, who is here, who types, who is away; a name that is markup is text."""
    with example("chat.py", tmp_path) as run:
        ann, bob = tab(run, "#tea"), tab(run, "#tea")
        for one, name in ((ann, "Ann"), (bob, "<b>Bob</b>")):
            one.find("#name").send_keys(name)
            one.find("#enter button").click()
            one.expect("#status", ["connected"])
        bob.wait(lambda: len(bob.texts("#people li")) == 2)
        ann.wait(lambda: "<b>Bob</b>" in "".join(ann.texts("#people li")))
        ann.find("#text").send_keys("Good morn")
        bob.wait(lambda: bob.texts("#people li.typing em") == ["typing…"])
        ann.find("#text").send_keys("ing ☕")
        ann.find("#write button").click()
        bob.expect(".bubble .text", ["Good morning ☕"])
        bob.wait(lambda: bob.texts("#people li.typing em") == [])
        bob.find("#text").send_keys("And to you, Ann.\n")
        ann.expect(".bubble .text", ["Good morning ☕", "And to you, Ann."])
        ann.expect(".mine .text", ["Good morning ☕"])
        with run.connect("/rooms/tea/Robot") as robot:
            assert [line["text"] for line in robot.receive_json()["history"]] == ["Good morning ☕", "And to you, Ann."]
            robot.send_json({"type": "state", "state": "away"})
            ann.wait(lambda: ann.texts("#people li.away em") == ["away"])
            ann.picture(tmp_path / "chat.png")
            bob.close()
            while len((message := robot.receive_json())["people"]) != 2:
                pass
            assert [person["name"] for person in message["people"]] == ["Ann", "Robot"]
        ann.wait(lambda: len(ann.texts("#people li")) == 1)
        ann.close()


def test_chat_rooms(tmp_path: Path) -> None:
    with example("chat.py", tmp_path) as run:
        with run.connect("/rooms/a%20b/%C3%A9") as one, run.connect("/rooms/other/x") as other:
            welcome, people = one.receive_json(), one.receive_json()
            assert (welcome["type"], welcome["history"]) == ("welcome", [])
            assert people["people"] == [{"id": welcome["you"], "name": "é", "state": "here"}]
            other.receive_json(), other.receive_json()
            one.send_json({"type": "say", "text": "  only here "})
            said = one.receive_json()
            assert (said["name"], said["text"]) == ("é", "only here")
            other.expect_nothing()
        for wrong in (b"binary", "{", "[]", '{"type": "say", "text": " "}', '{"type": "state", "state": "gone"}'):
            with run.connect("/rooms/a/b") as ws:
                ws.receive(), ws.receive()
                ws.send(wrong)
                ws.expect_close(1008, "message not understood")
        with pytest.raises(HandshakeRefused, match="400"):
            run.connect("/rooms/%20/x")


# --- cursors ---


def at(tab: Tab) -> list[list[float]]:
    """Where the page shows others' cursors, as fractions of the board."""
    script = """
        const board = document.getElementById('board');
        return [...document.querySelectorAll('.cursor')].filter(one => one.style.display !== 'none').map(one => {
            const [x, y] = one.style.transform.match(/[\\d.]+/g).map(Number);
            return [x / board.clientWidth, y / board.clientHeight];
        });
    """
    return list(tab.run(script))


@chromium.needed
def test_cursors_page(tab: Any, tmp_path: Path) -> None:
    """A pointer that moves in one page moves in the other, and draws with its button down."""
    from selenium.webdriver import ActionChains

    with example("cursors.py", tmp_path) as run:
        one, two = tab(run), tab(run)
        one.wait(lambda: "with 1 other." in one.texts("#status")[0])
        width, height = one.run("return [innerWidth, innerHeight]")
        with run.connect() as robot:
            numbers = robot.receive_json()["others"]
            assert len(numbers) == 2
            actions = ActionChains(one.front(), duration=50)
            actions.w3c_actions.pointer_action.move_to_location(width // 4, height // 2)
            actions.perform()
            who, kind, x, y = struct.unpack("!IBHH", robot.receive_bytes())
            assert who in numbers
            actions = ActionChains(one.front(), duration=50)
            actions.w3c_actions.pointer_action.pointer_down()
            actions.w3c_actions.pointer_action.move_to_location(width // 2, height // 4)
            actions.w3c_actions.pointer_action.pointer_up()
            actions.perform()
            while (kind, round(x / 65535, 1), round(y / 65535, 2)) != (2, 0.5, 0.25):
                _, kind, x, y = struct.unpack("!IBHH", robot.receive_bytes())
            two.wait(lambda: at(two) and max(abs(at(two)[0][0] - 0.5), abs(at(two)[0][1] - 0.25)) < 0.01)
            robot.send(struct.pack("!BHH", 1, 65535 // 5, 65535 // 5))
            two.wait(lambda: len(at(two)) == 2)
            assert two.run("return strokes.length") > 0
            two.picture(tmp_path / "cursors.png")
        two.wait(lambda: len(at(two)) == 1)
        one.close()
        two.wait(lambda: at(two) == [])
        two.close()


def test_cursors(tmp_path: Path) -> None:
    with example("cursors.py", tmp_path) as run, run.connect() as one, run.connect() as two:
        first, second = one.receive_json(), two.receive_json()
        assert (first["others"], second["others"]) == ([], [first["you"]])
        assert one.receive_json() == {"type": "came", "who": second["you"]}
        two.send(struct.pack("!BHH", 2, 1, 65535))
        assert one.receive() == struct.pack("!IBHH", second["you"], 2, 1, 65535)
        for wrong in ("text", b"\1", b"\3\0\0\0\0", b""):
            with run.connect() as ws:
                ws.receive()
                ws.send(wrong)
                ws.expect_close(1008)
        two.close()
        while (left := one.receive_json()) != {"type": "left", "who": second["you"]}:
            assert left["type"] in ("came", "left")


# --- upload ---


@chromium.needed
def test_upload_page(tab: Any, tmp_path: Path) -> None:
    """A large and an empty file by the page: the bar is full when the server has it all, and it is what was sent."""
    sources = {"large é.bin": os.urandom(5_000_000), "empty.txt": b""}
    (tmp_path / "from").mkdir()
    with example("upload.py", tmp_path) as run:
        page = tab(run)
        for name, data in sources.items():
            (tmp_path / "from" / name).write_bytes(data)
            page.find("#files").send_keys(str(tmp_path / "from" / name))
            digest = hashlib.sha256(data).hexdigest()
            page.wait(
                lambda name=name, digest=digest: f"Saved as {name}, SHA-256 {digest}" in page.texts("li.done .note")
            )
            assert (tmp_path / "uploads" / name).read_bytes() == data
        assert page.texts("li.done .figure") == ["0 B of 0 B", "4.8 MiB of 4.8 MiB"]
        assert page.run("return [...document.querySelectorAll('progress')].map(bar => bar.value / bar.max)") == [1, 1]
        page.picture(tmp_path / "upload.png")


def send_file(run: Example, name: str, *chunks: bytes, size: int | None = None) -> Any:
    """What the server says at the end."""
    with run.connect() as ws:
        ws.send_json({"name": name, "size": sum(map(len, chunks)) if size is None else size})
        received = 0
        assert ws.receive_json() == {"received": 0}
        for chunk in chunks:
            ws.send(chunk)
            received += len(chunk)
            assert ws.receive_json() == {"received": received}
        return ws.receive_json() if size is None else ws.drop()


def test_upload(tmp_path: Path) -> None:
    """Names cannot leave the folder or replace a file; what breaks off leaves nothing behind."""
    with example("upload.py", tmp_path) as run:
        folder = tmp_path / "uploads"
        done = send_file(run, "../../a<b>.txt", b"one", b"two")
        assert done == {"done": "a_b_.txt", "sha256": hashlib.sha256(b"onetwo").hexdigest()}
        assert send_file(run, "a_b_.txt", b"other")["done"] == "a_b_ (2).txt"
        assert send_file(run, "..\\.hidden")["done"] == "hidden"
        assert send_file(run, "/" + "x" * 300 + ".txt")["done"] == "x" * 100 + ".txt"
        assert send_file(run, "é" * 300 + "." + "ß" * 20, b"x")["done"] == "é" * 50 + "." + "ß" * 9
        assert send_file(run, "/")["done"] == "file"
        assert (folder / "a_b_.txt").read_bytes() == b"onetwo"
        send_file(run, "broken", b"part", size=5)
        for sent, reason in (
            ([b"x"], "say what comes first"),
            (["{"], "name and size are wanted"),
            (['{"name": 1, "size": 1}'], "a name and a size of at most 512 MiB are wanted"),
            (['{"name": "x", "size": 536870913}'], "a name and a size of at most 512 MiB are wanted"),
            (['{"name": "x", "size": 1}'] * 2, "one file after the other"),
            (['{"name": "x", "size": 1}', b"xx"], "more came than was announced"),
        ):
            with run.connect() as ws:
                for message in sent:
                    ws.send(message)
                while ws.closed is None:
                    try:
                        ws.expect_close(4400, reason)
                    except AssertionError:
                        assert ws.receive_json() == {"received": 0}
        with Client(run.port) as client:
            assert b"<title>Upload</title>" in client.ask(request("/")).body
        with run.connect() as ws:
            ws.send_json({"name": "x", "size": 100_000})
            ws.receive()
            ws.send(bytes(65537))
            ws.expect_close(1009)
        run.errors = "refused: 1 WebSocket (1009, max_payload_length)"
    names = {path.name for path in folder.iterdir()}
    assert names == {"a_b_.txt", "a_b_ (2).txt", "hidden", "x" * 100 + ".txt", "file", "é" * 50 + "." + "ß" * 9}
    assert not re.search(r"\.part-", json.dumps(sorted(names)))


def test_an_upload_that_cannot_be_written(tmp_path: Path) -> None:
    """The client and the log hear of it."""
    with example("upload.py", tmp_path) as run, run.connect() as ws:
        ws.send_json({"name": "x", "size": 1})
        assert ws.receive_json() == {"received": 0}
        (part,) = (tmp_path / "uploads").iterdir()
        part.unlink()
        ws.send(b"x")
        assert ws.receive_json() == {"received": 1}
        ws.expect_close(1011, "the file could not be written")
        run.errors = "FileNotFoundError"
    assert list((tmp_path / "uploads").iterdir()) == []
