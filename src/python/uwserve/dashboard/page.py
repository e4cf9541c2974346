"""The dashboard's page: HTML, style and scripts in one answer, which needs nothing else from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import _installation
from .._http.html import page as make_page

if TYPE_CHECKING:
    from .. import Response

_HERE = Path(__file__).parent
SCRIPTS = ("format.js", "charts.js", "page.js")


def page() -> Response:
    """The answer to GET; one for all viewers."""
    script = '"use strict";\n' + "\n".join(map(_read, SCRIPTS))
    html = _read("page.html").replace("<!-- style -->", f"<style>{_read('page.css')}</style>")
    html = html.replace("<!-- script -->", f"<script>{script}</script>")
    same = {"Cross_Origin_Opener_Policy": "same-origin", "Cross_Origin_Resource_Policy": "same-origin"}
    return make_page(html, "no-store", **same)


def _read(name: str) -> str:
    return _installation.read_page(_HERE / name)
