"""The dashboard's page: HTML, style and scripts in one answer, which needs nothing else from anywhere.

Its Content-Security-Policy names its own style and script by hash (CSP level 2), so that nothing that found its way
into the page, such as the name of a topic, could run; and only this server may be talked to.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from .. import Response

_HERE = Path(__file__).parent
SCRIPTS = ("format.js", "charts.js", "page.js")


def page() -> Response:
    """The answer to GET; one for all viewers."""
    style = _read("page.css")
    script = '"use strict";\n' + "\n".join(map(_read, SCRIPTS))
    html = _read("page.html").replace("<!-- style -->", f"<style>{style}</style>")
    html = html.replace("<!-- script -->", f"<script>{script}</script>")
    policy = (
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    headers = {
        "Content-Type": "text/html;charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Response(html, 200, headers)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
