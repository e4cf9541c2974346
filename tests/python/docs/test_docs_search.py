"""The search of the built documentation works without the network: a real browser that can reach this machine only."""

from __future__ import annotations

import mimetypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from http_client import DEADLINE
from paths import ROOT
from test_docs_site import pytestmark as needs_docs

from uwserve import Request, Response, Server, serve

pytestmark = [pytest.mark.plain("the browser does not know the authority"), chromium.needed, needs_docs[-1]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Server]:
    """The documentation, built, and served by uwserve."""
    folder = tmp_path / "docs"
    command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=110, check=True)
    files = {f"/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fetch(request: Request) -> Response:
        if request.path not in files:
            return Response("no such page", 404)
        kind = mimetypes.guess_type(request.path)[0] or "application/octet-stream"
        return Response(files[request.path], headers={"Content-Type": kind})

    with serve(fetch=fetch, hostname="127.0.0.1", port=0) as server:
        yield server.start()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    only_here = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with chromium.driven(tmp_path / "chromium", only_here) as driver:
        yield driver


def test_search(site: Server, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{site.url}index.html?q=backpressure")
    found = WebDriverWait(browser, DEADLINE).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
    )
    hrefs = [link.get_attribute("href") or "" for link in found]
    assert any("guide/backpressure.html" in href for href in hrefs)
    assert all(href.startswith(site.url) for href in hrefs)
    resources = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(name.startswith((site.url, "data:", "blob:")) for name in browser.execute_script(resources))
