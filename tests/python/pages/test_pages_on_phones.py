"""The two chat pages in real Chromium: from 320 to 1280 pixels, light and dark, turned, with names from right to left.

Screenshots of all are left in the folder of the test: for eyes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chromium
import page_shapes
import pytest
from example_processes import example
from http_client import DEADLINE
from page_shapes import SCHEMES, SIZES, in_order, is_visible, painted, resize

from uwserve.demo import chat

pytestmark = [pytest.mark.plain("the browser does not know the authority"), chromium.needed]

HEBREW, LONG = "שלום עולם", "A name of thirty-two characters!"
ADDRESS = "https://example.com/an-address-without-any-space-which-must-break-somewhere-or-the-page-gets-wide/0123456789"
TEXTS = [
    "Hello!",
    "A longer message, so that it wraps on a narrow screen and on a wide one, too. " * 3,
    ADDRESS,
    "מה שלומך?",
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.driven(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


class Page:
    """One of the two, with people in its room who have said something."""

    name: str
    url: str
    joined: str
    """A script that is true once the page is in the room."""

    def join(self, driver: Any) -> None:
        raise NotImplementedError


class Demo(Page):
    name = "demo"
    joined = "document.getElementById('status').textContent === 'Connected to lobby as Me.'"

    def join(self, driver: Any) -> None:
        driver.find_element("id", "name").clear()
        driver.find_element("id", "name").send_keys("Me")
        driver.find_element("id", "join").click()


class ExamplePage(Page):
    name = "example"
    joined = "document.getElementById('status').textContent === 'connected'"

    def join(self, driver: Any) -> None:
        driver.find_element("id", "name").send_keys("Me")
        driver.find_element("css selector", "#enter button").click()


@contextmanager
def demo_page() -> Iterator[Page]:
    from websockets.sync.client import connect

    with chat.create(port=0, hostname="127.0.0.1").start() as server, ExitStack() as stack:
        for name in (HEBREW, LONG):
            ws = stack.enter_context(connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None, open_timeout=DEADLINE))
            ws.send(json.dumps({"type": "join", "room": "lobby", "name": name}))
            for text in TEXTS:
                ws.send(json.dumps({"type": "message", "text": text}))
            ws.ping().wait(DEADLINE)
        page = Demo()
        page.url = server.url
        yield page


@contextmanager
def example_page(tmp_path: Path) -> Iterator[Page]:
    with example("chat.py", tmp_path) as run, ExitStack() as stack:
        for name in (HEBREW, LONG):
            ws = stack.enter_context(run.connect(f"/rooms/lobby/{quote(name)}"))
            for text in TEXTS:
                ws.send_json({"type": "say", "text": text})
            while ws.receive_json().get("text") != TEXTS[-1]:
                pass
        page = ExamplePage()
        page.url = f"http://127.0.0.1:{run.port}/"
        yield page


@pytest.fixture(params=["demo", "example"])
def page(request: pytest.FixtureRequest, tmp_path: Path, driver: Any) -> Iterator[Page]:
    with demo_page() if request.param == "demo" else example_page(tmp_path) as made:
        yield made
        driver.get("about:blank")
        page_shapes.usual(driver)


def wait(driver: Any, condition: str | Callable[[], Any]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def check(_: Any) -> Any:
        return driver.execute_script(f"return {condition}") if isinstance(condition, str) else condition()

    WebDriverWait(driver, DEADLINE, poll_frequency=0.05).until(check, str(condition))


def enter(driver: Any, page: Page) -> None:
    driver.get(page.url)
    page.join(driver)
    wait(driver, page.joined)
    wait(driver, f"document.querySelectorAll('#messages .text').length >= {2 * len(TEXTS)}")


LAST = "#messages > :last-child"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_fits_every_screen(driver: Any, page: Page, scheme: str, tmp_path: Path) -> None:
    page_shapes.prefer(driver, scheme)
    for width, height in SIZES:
        resize(driver, width, height)
        driver.get("about:blank")
        driver.get(page.url)
        assert page_shapes.problems(driver) == []
        assert is_visible(driver, "#name")
        assert is_visible(driver, "#enter button")
        page.join(driver)
        wait(driver, page.joined)
        wait(driver, f"document.querySelectorAll('#messages .text').length >= {2 * len(TEXTS)}")
        wait(driver, lambda: is_visible(driver, LAST))
        assert page_shapes.problems(driver) == [], (width, height)
        for needed in ("#text", "#write button", "#people li"):
            assert is_visible(driver, needed), (width, height, needed)
        assert driver.execute_script("return document.documentElement.scrollHeight <= innerHeight")
        wide = driver.execute_script(
            "return Math.max(...[...document.querySelectorAll('.text')].map(t => t.clientWidth))"
        )
        assert wide > 150, "no message is a letter a line"
        driver.save_screenshot(str(tmp_path / f"{page.name}-{width}-{scheme}.png"))
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    is_dark = sum(map(int, re.findall(r"\d+", background)[:3])) < 200
    assert is_dark is (scheme == "dark")
    severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe


def test_turning_a_phone_keeps_the_end(driver: Any, page: Page) -> None:
    """The last message stays in sight after a turn and above the keyboard; a reader further up stays there."""
    resize(driver, 390, 844)
    enter(driver, page)
    for width, height in ((844, 390), (390, 844), (390, 500), (390, 844), (320, 568), (568, 320)):
        resize(driver, width, height)
        wait(driver, f"innerWidth === {width} && innerHeight === {height}")
        painted(driver)
        assert is_visible(driver, LAST + " .text"), (width, height)
        assert is_visible(driver, "#text")
        assert is_visible(driver, "#write button")
    driver.execute_script("document.getElementById('messages').scrollTop = 0")
    painted(driver)
    assert is_visible(driver, "#messages > :first-child .text")
    resize(driver, 600, 390)
    wait(driver, "innerWidth === 600")
    painted(driver)
    driver.find_element("id", "text").send_keys("from me\n")
    wait(driver, "[...document.querySelectorAll('.text')].some(text => text.textContent === 'from me')")
    assert driver.execute_script("return document.getElementById('messages').scrollTop") < 60
    assert not is_visible(driver, LAST)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_name_from_right_to_left_moves_nothing_else(driver: Any, page: Page, width: int) -> None:
    resize(driver, width, 800)
    driver.get(page.url)
    driver.find_element("id", "name").clear()
    driver.find_element("id", "name").send_keys(HEBREW[::-1])
    driver.find_element("css selector", "#enter button").click()
    wait(driver, f"document.querySelectorAll('#messages .text').length >= {2 * len(TEXTS)}")
    heads = driver.find_elements("css selector", "#messages small" if page.name == "example" else "#people li span")
    names = driver.find_elements("css selector", "#people li > :last-child")
    status = driver.find_elements("css selector", "#status")
    for one in (*heads, *names, *status):
        assert in_order(driver, one), one.text
    if page.name == "demo":
        rows = driver.execute_script(
            "return [...document.querySelectorAll('#messages > div:not(.note)')].map(row => ["
            "row.querySelector('.who').getClientRects(), row.querySelector('time').getBoundingClientRect()]"
            ".map(one => one.length ? one[one.length - 1].right : one.left))"
        )
        assert rows
        assert all(right <= left + 1 for right, left in rows), "the time stands behind the name"
        assert driver.execute_script("return document.querySelectorAll('#status bdi').length") == 2
    # What was said runs in its own direction.
    directions = driver.execute_script(
        "return [...document.querySelectorAll('.text')].map(t => [t.textContent, getComputedStyle(t).direction])"
    )
    assert {direction for text, direction in directions if text == TEXTS[-1]} == {"rtl"}
    assert {direction for text, direction in directions if text == TEXTS[0]} == {"ltr"}


def test_by_the_keyboard_alone(driver: Any, page: Page) -> None:
    """Tab and Enter reach everything in its order, and what has the focus shows it."""
    from selenium.webdriver import ActionChains, Keys

    resize(driver, 1280, 800)
    driver.get(page.url)
    wait(driver, "document.activeElement.id === 'name'")
    driver.switch_to.active_element.clear()
    ActionChains(driver).send_keys("Me", Keys.ENTER).perform()
    wait(driver, page.joined)
    wait(driver, "document.activeElement.id === 'text'")
    ActionChains(driver).send_keys("typed", Keys.ENTER).perform()
    wait(driver, "document.querySelector('#messages > :last-child .text')?.textContent === 'typed'")
    seen = set()
    for _ in range(8):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        found = driver.execute_script(
            "const one = document.activeElement;"
            "return [one.id || one.textContent.trim(), getComputedStyle(one).outlineStyle]"
        )
        seen.add(found[0])
        assert found[0] == "" or found[1] != "none" or driver.switch_to.active_element.tag_name == "body", found
    assert {"messages", "Send"} <= {"Send" if name == "send" else name for name in seen}


def test_name_and_room_open_on_a_phone(driver: Any, tmp_path: Path) -> None:
    """Of the demonstration: name and room take one line once joined, and can be changed."""
    with demo_page() as page:
        resize(driver, 390, 844)
        enter(driver, page)
        assert not is_visible(driver, "#name")
        assert is_visible(driver, "#here")
        change = driver.find_element("id", "change")
        assert (change.text, change.get_attribute("aria-expanded")) == ("Change", "false")
        change.click()
        assert (change.text, change.get_attribute("aria-expanded")) == ("Close", "true")
        wait(driver, "document.activeElement.id === 'name'")
        assert page_shapes.problems(driver) == []
        driver.save_screenshot(str(tmp_path / "open.png"))
        driver.find_element("id", "room").clear()
        driver.find_element("id", "room").send_keys("elsewhere")
        driver.find_element("id", "join").click()
        wait(driver, "document.getElementById('status').textContent === 'Connected to elsewhere as Me.'")
        assert not is_visible(driver, "#name")
        assert driver.find_element("id", "here").text == "elsewhere as Me"
        driver.get("about:blank")
        page_shapes.usual(driver)
