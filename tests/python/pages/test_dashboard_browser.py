"""The dashboard's page in headless Chromium, with real traffic: what it shows, and that it is live and comes back."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from dashboard_traffic import Crowd, make
from http_client import DEADLINE

pytestmark = [pytest.mark.plain("the browser does not know the authority"), chromium.needed]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium.driven(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


CHARTS = {
    "Open connections", "Messages per second", "Payload per second", "Time in the message handler",
    "Lag of the event loop", "CPU of the loop's thread", "Waiting for slow peers", "Sends that met a limit, per second",
    "Publishes and requests per second", "Opened and closed per second", "Exceptions and refusals per second",
    "Memory of the process",
}  # fmt: skip


def wait(driver: Any, script: str) -> Any:
    """The first true value of a script."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, DEADLINE, poll_frequency=0.1).until(
        lambda d: d.execute_script(f"return {script}"), script
    )


def labels(driver: Any) -> dict[str, str]:
    """What each chart tells those who cannot see it."""
    texts = driver.execute_script(
        "return [...document.querySelectorAll('canvas')].map(c => c.getAttribute('aria-label'))"
    )
    return dict(text.split(": ", 1) for text in texts)


def table(driver: Any, name: str) -> dict[str, list[str]]:
    rows = driver.execute_script(
        f"return [...document.querySelectorAll('#{name} tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    return {row[0]: row[1:] for row in rows}


def painted(driver: Any) -> int:
    """How many pixels of the first chart have the colour of its line."""
    script = """
        const c = document.querySelector('canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const probe = document.createElement('canvas').getContext('2d');
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--a');
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
        let n = 0;
        for (let i = 0; i < d.length; i += 4)
            n += Math.abs(d[i]-r) + Math.abs(d[i+1]-g) + Math.abs(d[i+2]-b) < 40 && d[i+3] > 200;
        return n;"""
    return int(driver.execute_script(script))


@pytest.mark.usefixtures("nothing_left")
def test_page_with_traffic(browser: Any, tmp_path: Path, caplog: Any) -> None:
    server = make(dashboard=True, id="of the test")
    with server.start(), Crowd(server.port or 0, size=12):
        browser.get(f"{server.url}_uwserve")
        wait(browser, "document.getElementById('state').textContent === 'live'")
        wait(browser, "view.points.length >= 3")
        shown = labels(browser)
        assert set(shown) == CHARTS
        assert re.match(r"WebSockets 1\d, HTTP \d", shown["Open connections"]), shown
        assert re.search(r"median [\d.<]+ *\d*.*(µs|ms)", shown["Time in the message handler"]), shown
        assert not re.search(r"in 0,", shown["Messages per second"])
        assert "\u2013" not in " ".join(shown.values())
        assert "lobby" in table(browser, "topics")
        assert int(table(browser, "totals")["Messages received"][0].replace(",", "")) > 10
        assert browser.title == "of the test · uwserve"
        assert painted(browser) > 10
        assert not browser.execute_script("return document.documentElement.scrollWidth > innerWidth")

        path = tmp_path / "dashboard.png"
        assert browser.save_screenshot(str(path))
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack("!II", data[16:24])[0] >= 900

        for width in (380, 800, 1600):  # no sideways scrolling, however narrow
            browser.set_window_size(width, 900)
            wait(browser, "document.documentElement.scrollWidth <= innerWidth")
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        )
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 26)"
        wait(browser, "view.points.length >= 5")
        assert painted(browser) > 10
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

        # A moment under the pointer: every chart shows its figures.
        browser.execute_script(
            "const c = charts[0].canvas, r = c.getBoundingClientRect();"
            "c.dispatchEvent(new PointerEvent('pointermove', {clientX: r.right - r.width / 20, clientY: r.top + 9}))"
        )
        assert browser.execute_script("return pointed") is not None
        browser.execute_script("charts[0].canvas.dispatchEvent(new PointerEvent('pointerleave'))")
        assert browser.execute_script("return pointed") is None

        browser.refresh()  # the charts are still there
        wait(browser, "view.points.length >= 5")
    problems = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    ended = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING")  # as the server has
    assert not [problem for problem in problems if not any(text in problem for text in ended)], problems
    wait(browser, "document.getElementById('state').dataset.state !== 'live'")

    again = make(dashboard=True, port=server.port)
    with again.start():
        wait(browser, "document.getElementById('state').textContent === 'live'")
        wait(browser, "document.getElementById('no-topics').hidden === false")
        browser.get("about:blank")


def test_names_of_topics_are_text(browser: Any) -> None:
    """Whoever can choose a topic's name can put nothing into the page."""
    name = "<img src=x onerror=\"document.title='owned'\"><b>&amp;"
    server = make(dashboard=True, websocket={"open": lambda ws: ws.subscribe(name)})
    from http_client import Client, open_websocket

    with server.start(), Client(server) as client:
        open_websocket(client)
        browser.get(f"{server.url}_uwserve")
        wait(browser, "document.querySelectorAll('#topics tbody tr').length === 1")
        assert list(table(browser, "topics")) == [name]
        assert browser.execute_script("return document.querySelectorAll('#topics img, #topics b').length") == 0
        browser.get("about:blank")
