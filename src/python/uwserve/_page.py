"""Pages of the package's own (the demonstration's, the dashboard's): HTML with a policy under which nothing else runs.

The Content-Security-Policy names the page's own scripts and styles by hash (CSP level 2), so that nothing that found
its way into the page, such as somebody's text, could run; and only this server may be talked to.
"""

from __future__ import annotations

import base64
import hashlib
import re

from ._http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def page(html: str, cache_control: str, **headers: str) -> Response:
    """The answer with that page; ``headers`` with underscores for dashes."""
    policy = [
        "default-src 'none'",
        f"script-src {_hashes(html, 'script')}",
        f"style-src {_hashes(html, 'style')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    fields = {
        "Content-Type": "text/html;charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": cache_control,
    }
    return Response(html, 200, fields | {name.replace("_", "-"): value for name, value in headers.items()})


def _hashes(html: str, tag: str) -> str:
    parts: Iterable[str] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
