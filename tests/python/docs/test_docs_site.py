"""The site of `make docs`: it builds without a warning, and every public name is in its API reference."""

from __future__ import annotations

import html
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

import uwserve
from uwserve import _bun_names

pytestmark = [
    pytest.mark.plain("nothing is served"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("mkdocs", "material", "griffe", "docutils")),
        reason="the extra docs is not installed (make docs does it): the site was not built",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def anchors(site: Path) -> set[str]:
    return {
        html.unescape(name)
        for page in (site / "reference").rglob("*.html")
        for name in re.findall(r'id="([A-Z_a-z][\w.]*)"', page.read_text())
    }


def public_members(cls: type) -> set[str]:
    """What a class of ours has beyond what Python's own have."""
    theirs = {name for base in cls.__mro__ if not base.__module__.startswith("uwserve") for name in dir(base)}
    if issubclass(cls, tuple):
        theirs |= set(dir(os.terminal_size))  # what a named tuple made in C has
    return {name for name in dir(cls) if not name.startswith("_")} - theirs


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    sys.path.insert(0, str(ROOT / "docs" / "tools"))
    try:
        reference = importlib.import_module("reference")
    finally:
        sys.path.pop(0)
    found = anchors(site)
    aliases = {alias for names in reference.ALIASES.values() for alias in names}
    modules = {"": uwserve} | {
        f"{module.name}.": importlib.import_module(f"uwserve.{module.name}")
        for module in pkgutil.iter_modules(uwserve.__path__)
        if not module.name.startswith("_") and module.name not in reference.NO_API
    }
    assert len(modules) > 2
    missing = []
    for prefix, module in modules.items():
        for name in module.__all__:
            if name == "__version__":
                continue
            if prefix + name not in found:
                missing.append(prefix + name)
            value = getattr(module, name)
            if inspect.isclass(value):
                missing += [
                    f"{prefix}{name}.{member}"
                    for member in public_members(value) - aliases
                    if f"{prefix}{name}.{member}" not in found
                ]
    assert not missing


def test_docstrings_of_native_types_are_shown(site: Path) -> None:
    """What help() says of a method written in C++ is on its page."""
    page = html.unescape(re.sub(r"<[^>]+>", "", (site / "reference" / "ServerWebSocket.html").read_text()))
    squeezed = " ".join(page.split())
    for name in ("send", "close", "subscribe", "remote_address"):
        text = inspect.getdoc(getattr(uwserve.ServerWebSocket, name)) or ""
        paragraph = next(part for part in text.split("\n\n") if not part.startswith(f"{name}(") and part != "--")
        words = " ".join(paragraph.replace("`", "").split())
        assert words[:60] in squeezed, name


def test_bun_names_are_shown(site: Path) -> None:
    for name, aliases in (("ServerWebSocket", _bun_names.SERVER_WEBSOCKET), ("Server", _bun_names.SERVER)):
        page = (site / "reference" / f"{name}.html").read_text()
        for alias in aliases:
            assert alias in page, alias


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No font, script, image or style of another host; links to read are another matter."""
    loads = re.compile(r'<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="?(https?:)?//[^">\s]+', re.IGNORECASE)
    for page in site.rglob("*.html"):
        for match in loads.finditer(page.read_text()):
            assert 'rel="canonical"' in match[0], f"{page.name}: {match[0]}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?https?:", style.read_text()), style.name


def test_comments_for_tests_are_not_shown(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "&lt;!--" not in text, page
        assert not re.search(r"<!--\s*(setup|client|own client|not run)", text), page
        assert "{{" not in text, page
