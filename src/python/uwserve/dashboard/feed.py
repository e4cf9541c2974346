"""The data that the dashboard's viewers get once a second, and how it is collected.

While somebody looks, a thread of its own posts a function to the server's loop ten times a second, in every run mode:
how long that waits is the loop's lag, which every message shares, and each tenth one takes a sample. The ``message``
handler is exchanged for a ``TimedCall`` of it meanwhile. When the last viewer has been gone for a while (so that
reloading the page keeps its charts), the thread ends, the handler is put back and what was measured is forgotten.

A viewer is a request whose body is a stream of server-sent events (HTML Living Standard, section 9.2). All on the
loop's thread but ``_probe_for_ever``.
"""

from __future__ import annotations

import heapq
import json
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .. import _core
from .._handlers import is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .. import Request, Server
    from ..stats import ServerStats

INTERVAL = 1.0
"""Seconds from sample to sample."""
PROBES = 10
"""Measurements of the lag in that time."""
GRACE = 15.0
"""Seconds that all goes on without a viewer."""
POINTS = 300
"""Samples kept for viewers who come later, and shown."""
TOPICS = 20
"""Topics shown: those with the most subscribers and those with the most publishes lately, half of each at least."""
TOPICS_SHARE = 0.02
"""The part of the loop's time that listing topics may take, and again that searching them may: many subscriptions are
listed less often."""
READ_SECONDS = 30
"""A viewer that has read nothing for so long is closed, whatever the server's ``idle_timeout``."""
SORTS = ("subscribers", "publishes", "rate", "name")
"""What viewers may sort topics by; the largest first, but for names."""
SEARCH_LENGTH = 200
"""Characters of a search that count."""

FIELDS = (
    "time", "websockets", "http", "messages_in", "messages_out", "bytes_in", "bytes_out", "buffered", "dropped",
    "backpressured", "publishes", "requests", "opened", "closed", "errors", "refused", "handler_p50", "handler_p99",
    "lag_p50", "lag_max", "cpu", "memory",
)  # fmt: skip
"""Of a point: milliseconds since 1970, counts, rates per second, times in microseconds, CPU time per time, bytes."""


HEADERS = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # nginx passes each event on at once
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Viewer:
    """One request for the stream. A message for a client that has not taken the last one is left out, not queued."""

    def __init__(self, server: Server, request: Request) -> None:
        self._server = server
        self._request = request
        self._is_wanted = False
        self.is_open = True
        server.timeout(request, READ_SECONDS)
        if not server._control.core.respond_pushed(request, 200, HEADERS, self._tell):
            self.is_open = False

    def _tell(self, wanted: bool) -> None:
        """The core takes another piece; or (False) the stream is over."""
        self._is_wanted = wanted
        if not wanted:
            self.is_open = False

    def send(self, text: str) -> None:
        if self._is_wanted:
            self._is_wanted = self._server._control.core.push_piece(self._request, f"data: {text}\n\n")

    def end(self) -> None:
        """A client that has not taken the last piece is cut: a stop does not wait for it to read."""
        self._server._control.core.end_pushed(self._request, self._is_wanted)


class Feed:
    """The viewers of one server's dashboard, and the samples of the last minutes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._control = server._control
        self._viewers: list[Viewer] = []
        self._points: deque[list[float]] = deque(maxlen=POINTS)
        self._end: threading.Event | None = None  # of the thread; None: nobody has looked lately
        self._times: _core.TimedCall | None = None

    # --- viewers ---

    def accept(self, request: Request) -> None:
        """Answer the request with the stream: what there is, and from then on each sample."""
        if self._end is None:
            self._begin()
        viewer = Viewer(self._server, request)
        self._viewers.append(viewer)
        viewer.send(_json(self._hello()))

    def close(self) -> None:
        """End every viewer's stream, as the options have changed or the server stops; pages come back if they may."""
        viewers, self._viewers = self._viewers, []
        for viewer in viewers:
            viewer.end()

    def handlers_changed(self) -> None:
        """The server has new handlers."""
        self._times = None
        if self._end is not None:
            self._time_handler()

    # --- while somebody looks ---

    def _begin(self) -> None:
        self._end = threading.Event()
        self._watched = self._next = time.monotonic()
        self._last: tuple[float, float, ServerStats] | None = None
        self._lags: list[float] = []
        self._topics: list[dict[str, Any]] = []
        self._topics_due = 0.0
        self._topics_last: tuple[float, dict[str, Any]] = (0.0, {})
        self._rates: dict[str, float] = {}
        self._topics_count = 0
        self._search_due = 0.0
        self._is_posted = False
        try:
            self._time_handler()
            self._sample(self._watched)
            threading.Thread(
                target=self._probe_for_ever, args=(self._end,), name="uwserve dashboard", daemon=True
            ).start()
        except BaseException:
            self.end()  # the next viewer finds all as this one did
            raise

    def end(self) -> None:
        """Put the handler back, end the streams and the thread, and forget what was measured."""
        if self._times is not None:
            self._control.core._set_message_handler((self._control.options["websocket"] or {}).get("message"))
        self.close()
        self.forget()

    def forget(self) -> None:
        """``end`` for a server that has ended, and has no handler any more."""
        if self._end is not None:
            self._end.set()
            self._end = None
        self._times = None
        self._viewers.clear()
        self._points.clear()

    def _probe_for_ever(self, end: threading.Event) -> None:
        """The thread. What was posted last must have run before the next: a loop that hangs is not flooded."""
        while not end.wait(INTERVAL / PROBES):
            if self._is_posted:
                if self._server.finished:
                    return
                continue
            self._is_posted = True
            try:
                self._server.call_soon(self._probe, end, time.monotonic())
            except RuntimeError:  # the server has ended
                return

    def _probe(self, end: threading.Event, posted: float) -> None:
        now = time.monotonic()
        self._is_posted = False
        if end is not self._end:
            return
        if self._server.stopping:  # which waits for every request
            self.end()
            return
        self._lags.append(now - posted)
        if now >= self._next:
            self._next = max(self._next + INTERVAL, now)
            self._sample(now)

    def _sample(self, now: float) -> None:
        self._viewers = [viewer for viewer in self._viewers if viewer.is_open]
        if self._viewers:
            self._watched = now
        elif now - self._watched > GRACE:
            self.end()
            return
        stats = self._server.stats()
        self._list_topics(now)
        point = self._point(now, stats)
        if point is not None:
            self._points.append(point)
        message = self._now(stats) | {"type": "sample", "point": point}
        text = _json(message)
        for viewer in self._viewers:
            viewer.send(text)

    # --- what is measured ---

    def _time_handler(self) -> None:
        """Put a clock before the ``message`` handler."""
        handler: Callable[[Any, Any], Any] | None = (self._control.options["websocket"] or {}).get("message")
        if handler is None:
            return
        times = _core.TimedCall(handler)
        self._times = times
        if is_coroutine_function(handler):
            # Its call makes a coroutine and does nothing yet: what counts is when that ends.
            coroutine_function = handler

            async def timed(ws: Any, message: Any) -> None:
                begun = time.monotonic_ns()
                try:
                    await coroutine_function(ws, message)
                finally:
                    times.record(time.monotonic_ns() - begun)

            self._control.core._set_message_handler(timed)
        else:
            self._control.core._set_message_handler(times)

    def _point(self, now: float, stats: ServerStats) -> list[float] | None:
        """The figures of ``FIELDS`` since the last sample; ``None`` for the first."""
        cpu, last = time.thread_time(), self._last
        self._last = now, cpu, stats
        lags, self._lags = sorted(self._lags) or [0.0], []
        handled = self._times.take() if self._times is not None else None
        if last is None:
            return None
        then, cpu_then, before = last
        seconds = now - then

        def rate(count: Callable[[ServerStats], int]) -> float:
            return round((count(stats) - count(before)) / seconds, 2)

        times = [handled[name] / 1000 for name in ("p50", "p99")] if handled else [0.0, 0.0]
        return [
            int(time.time() * 1000),
            stats["websockets"]["open"],
            max(0, stats["connections"]["open"] - stats["websockets"]["open"]),
            rate(lambda s: s["received"]["messages"]),
            rate(lambda s: s["sent"]["messages"]),
            rate(lambda s: s["received"]["bytes"]),
            rate(lambda s: s["sent"]["bytes"]),
            stats["buffered_bytes"],
            rate(lambda s: s["dropped_sends"]),
            rate(lambda s: s["backpressured_sends"]),
            rate(lambda s: s["publishes"]),
            rate(lambda s: s["requests"]["total"]),
            rate(lambda s: s["websockets"]["total"]),
            rate(lambda s: sum(s["closes"].values())),
            rate(lambda s: sum(s["handler_errors"].values())),
            rate(lambda s: sum(s["refused"].values())),
            *(round(value, 1) for value in times),
            round(lags[len(lags) // 2] * 1e6),
            round(lags[-1] * 1e6),
            max(0.0, round((cpu - cpu_then) / seconds, 4)),  # the run may have moved to another thread
            _memory(),
        ]

    def _list_topics(self, now: float) -> None:
        if now < self._topics_due:
            return
        begun = time.perf_counter()
        topics = self._server.topics()
        self._topics_due = now + (time.perf_counter() - begun) / TOPICS_SHARE
        then, before = self._topics_last
        self._topics_last = now, topics

        def lately(name: str) -> float:
            was: int = before.get(name, {"publishes": 0})["publishes"]
            count = topics[name]["publishes"]
            # A topic may have ended and begun again meanwhile.
            return (count - was if count >= was else count) / (now - then) if then else 0.0

        rates = self._rates = {name: lately(name) for name in topics}
        # A busy topic of few must not hide the quiet room with everybody in it, nor the other way round.
        told = set(self._first("subscribers", topics, TOPICS // 2))
        for name in self._first("rate", topics, TOPICS):
            if len(told) < TOPICS and rates[name] > 0:
                told.add(name)
        if len(told) < TOPICS:
            told.update(self._first("subscribers", topics, TOPICS))
        self._topics = [self._topic(name) for name in self._first("subscribers", told, TOPICS)]  # calmer than by rate
        self._topics_count = len(topics)

    def _first(self, sort: str, names: Iterable[str], count: int) -> list[str]:
        """The first ``count`` of these topics, sorted so."""
        topics = self._topics_last[1]
        if sort == "name":
            return heapq.nsmallest(count, names)
        if sort == "rate":
            return heapq.nsmallest(count, names, lambda name: (-self._rates[name], -topics[name]["subscribers"], name))
        return heapq.nsmallest(count, names, lambda name: (-topics[name][sort], -self._rates[name], name))

    def _topic(self, name: str) -> dict[str, Any]:
        return {"name": name, "rate": round(self._rates[name], 1), **self._topics_last[1][name]}

    def find_topics(self, search: str, sort: str) -> dict[str, Any] | None:
        """The first topics with ``search`` in their name, as they were listed last; ``None``: too soon to search again.

        Without a viewer nothing is listed, and so nothing found.
        """
        if self._end is None:
            return {"topics": [], "matches": 0}
        if time.monotonic() < self._search_due:
            return None
        begun = time.perf_counter()
        wanted = search[:SEARCH_LENGTH].casefold()
        names = [name for name in self._topics_last[1] if wanted in name.casefold()]
        found = [self._topic(name) for name in self._first(sort, names, TOPICS)]
        self._search_due = time.monotonic() + (time.perf_counter() - begun) / TOPICS_SHARE
        return {"topics": found, "matches": len(names)}

    def _now(self, stats: ServerStats) -> dict[str, Any]:
        """What is shown as it is."""
        return {
            "uptime": round(stats["uptime"]),
            "viewers": len(self._viewers),
            "closes": sorted(stats["closes"].items()),
            "refused": {cause: count for cause, count in stats["refused"].items() if count},
            "errors": {place: count for place, count in stats["handler_errors"].items() if count},
            "topics": self._topics,
            "topics_count": self._topics_count,
            "pending": stats["requests"]["pending"],
            "totals": {
                "connections": stats["connections"]["total"],
                "upgrades": stats["websockets"]["total"],
                "declined": stats["declined_upgrades"],
                "requests": stats["requests"]["total"],
                "received": stats["received"]["messages"],
                "sent": stats["sent"]["messages"],
                "publishes": stats["publishes"],
                "dropped": stats["dropped_sends"],
                "wire_in": stats["received"]["wire_bytes"],
                "wire_out": stats["sent"]["wire_bytes"],
            },
        }

    def _hello(self) -> dict[str, Any]:
        from .. import __version__

        server = self._server
        return self._now(server.stats()) | {
            "type": "hello",
            "server": {"url": server.url, "id": server.id, "version": __version__, "process": os.getpid()},
            "interval": INTERVAL,
            "kept": POINTS,
            "times_handlers": self._times is not None,
            "fields": FIELDS,
            "points": list(self._points),
        }


def _json(message: dict[str, Any]) -> str:
    """On one line, as an event's data is."""
    return json.dumps(message, separators=(",", ":"))


def _memory() -> int:
    """The process's resident memory in bytes; 0 where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
