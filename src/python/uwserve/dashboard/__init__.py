"""The live dashboard of ``serve(dashboard=...)``: one page, and the stream that feeds it, on the server's own port.

``access`` decides who may look, ``page`` puts the page together, ``feed`` sends each viewer a sample once a second.
While nobody looks nothing is measured and nothing runs. To the server both are requests like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .. import Request, Response
from .access import Access
from .feed import SORTS
from .feed import Feed as Feed
from .page import page

if TYPE_CHECKING:
    from .. import Server
    from .._options.own_pages import Settings

_NOT_HERE = Response("Not Found\n", 404)
_NOT_ALLOWED = Response("Method Not Allowed\n", 405, {"Allow": "GET, HEAD"})


def endpoints(server: Server, feed: Feed, settings: Settings) -> dict[str, Any]:
    """The routes: the page, and its stream. A client that may not look gets 404, whatever the method."""
    access = Access(server, settings)
    answer = page()

    def refusal(request: Request) -> Response | None:
        if not access.allows(request):
            return _NOT_HERE
        return None if request.method in ("GET", "HEAD") else _NOT_ALLOWED

    def show(request: Request) -> Response:
        return refusal(request) or (topics(request) if request.query else answer)

    def topics(request: Request) -> Response:
        """``?topics&search=...&sort=...``: the page asks so for what the feed does not tell everybody."""
        asked = dict(parse_qsl(request.query, keep_blank_values=True))
        if "topics" not in asked:
            return answer
        sort = asked.get("sort", "")
        found = feed.find_topics(asked.get("search", ""), sort if sort in SORTS else "subscribers")
        if found is None:  # too soon: the page asks again with the next sample
            return Response(None, 204, {"Cache-Control": "no-store"})
        return Response.json(found, 200, {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})

    def stream(request: Request) -> Response | None:
        if refused := refusal(request):
            return refused
        if not access.is_same_origin(request):
            return Response("Another site may not look.\n", 403)
        feed.accept(request)
        return None

    return {settings.path: show, settings.stream: stream}
