"""Responses with HTML pages of the package's own, those of the dashboard and of the demonstration.

Their Content-Security-Policy names the page's own scripts and styles by hash (CSP level 2). Text of a user that gets
into the page cannot run as a script, and the page can connect to this server only.
"""

from __future__ import annotations

import base64
import hashlib
import re

from .response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def page(html: str, cache_control: str, **headers: str) -> Response:
    """A response with that page; ``headers`` are further fields, with underscores instead of dashes."""
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
