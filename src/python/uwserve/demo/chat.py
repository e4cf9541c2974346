"""A chat served by ``uwserve`` itself: the page, its WebSocket, and rooms that are topics.

The protocol is JSON text, one object a message. From the page:

    {"type": "join", "room": "lobby", "name": "Ann"}      enter a room, leaving the one before
    {"type": "message", "text": "hello"}                  say something in it

To the page:

    {"type": "joined", "room", "name", "people", "history"}    the answer to join; name may have got a number
    {"type": "join" | "leave", "name", "people"}               somebody came or went
    {"type": "message", "name", "text", "time"}                somebody (you too) said something; time in ms since 1970
    {"type": "error", "text"}                                  what was wrong with your last message

Everything from outside is checked by ``read``; the page shows text as text, never as markup.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

from .. import Request, Response, Server, ServerWebSocket, WebSocketHandler, _installation, serve
from .._http import html

HISTORY = 50
"""Messages a room remembers."""
MAX_NAME = 32
MAX_TEXT = 2000
MAX_ROOMS = 1000
"""Rooms kept in memory; beyond it the empty ones are forgotten, the longest unused first."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class MessageError(ValueError):
    """A message from the page that is not understood; its text goes back to the page."""


class Room:
    """People by name, in order of arrival, and the last messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = f"room/{name}"
        self.people: dict[str, ServerWebSocket] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def free_name(self, wanted: str) -> str:
        """``wanted``, with a number behind it when somebody here has that name."""
        name, number = wanted, 1
        while name in self.people:
            number += 1
            name = f"{wanted} ({number})"
        return name


class Seat:
    """Where a socket sits: its ``data``."""

    def __init__(self) -> None:
        self.room: Room | None = None
        self.name = ""


class Chat(WebSocketHandler):
    """The chat's state and its WebSocket handlers. All of it runs on the server's one thread, so there are no locks."""

    max_payload_length = 16 * 1024
    backpressure_limit = 1024 * 1024
    close_on_backpressure_limit = True  # the page reconnects and gets the history, instead of a conversation with gaps
    idle_timeout = 60

    def __init__(self) -> None:
        self.rooms: OrderedDict[str, Room] = OrderedDict()

    def open(self, ws: ServerWebSocket) -> None:
        ws.data = Seat()

    def message(self, ws: ServerWebSocket, message: Any) -> None:
        try:
            request = read(message)
            if request["type"] == "join":
                self.join(ws, request["room"], request["name"])
            else:
                self.say(ws, request["text"])
        except MessageError as error:
            ws.send_text(dump({"type": "error", "text": str(error)}))

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        self.leave(ws)

    def join(self, ws: ServerWebSocket, room_name: str, wanted: str) -> None:
        room = self.room(room_name)
        self.leave(ws)
        name = room.free_name(wanted)
        room.people[name] = ws
        ws.data.room, ws.data.name = room, name
        people = list(room.people)
        joined = {"type": "joined", "room": room.name, "name": name, "people": people, "history": list(room.history)}
        ws.send_text(dump(joined))
        ws.subscribe(room.topic)
        ws.publish_text(room.topic, dump({"type": "join", "name": name, "people": people}))

    def leave(self, ws: ServerWebSocket) -> None:
        seat: Seat = ws.data
        room = seat.room
        if room is None:
            return
        seat.room = None
        del room.people[seat.name]
        ws.unsubscribe(room.topic)
        ws.publish_text(room.topic, dump({"type": "leave", "name": seat.name, "people": list(room.people)}))

    def say(self, ws: ServerWebSocket, text: str) -> None:
        seat: Seat = ws.data
        if seat.room is None:
            raise MessageError("join a room first")
        message = {"type": "message", "name": seat.name, "text": text, "time": round(time.time() * 1000)}
        seat.room.history.append(message)
        encoded = dump(message)
        ws.publish_text(seat.room.topic, encoded)
        ws.send_text(encoded)

    def room(self, name: str) -> Room:
        """The room of that name, made if needed."""
        room = self.rooms.get(name)
        if room is None:
            self.forget_empty_rooms()
            if len(self.rooms) >= MAX_ROOMS:
                raise MessageError("there are too many rooms")
            room = self.rooms[name] = Room(name)
        self.rooms.move_to_end(name)
        return room

    def forget_empty_rooms(self) -> None:
        if len(self.rooms) < MAX_ROOMS:
            return
        for name in [name for name, room in self.rooms.items() if not room.people][: MAX_ROOMS // 10]:
            del self.rooms[name]


def read(message: Any) -> dict[str, str]:
    """A message from the page as a dict with just the fields its type has. ``MessageError`` for anything else."""
    if not isinstance(message, str):
        raise MessageError("messages must be text")
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        raise MessageError("messages must be JSON") from None
    if not isinstance(value, dict):
        raise MessageError("messages must be JSON objects")
    if value.get("type") == "join":
        return {"type": "join", "room": _label(value, "room"), "name": _label(value, "name")}
    if value.get("type") == "message":
        text = _text(value, "text").strip()
        if not text:
            raise MessageError("text must not be empty")
        if len(text) > MAX_TEXT:
            raise MessageError(f"text must have at most {MAX_TEXT} characters")
        return {"type": "message", "text": text}
    raise MessageError('type must be "join" or "message"')


def _text(value: dict[str, Any], field: str) -> str:
    text = value.get(field)
    if not isinstance(text, str):
        raise MessageError(f"{field} must be a string")
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can spell it, UTF-8 cannot
        raise MessageError(f"{field} must be valid Unicode") from None
    return text


def _label(value: dict[str, Any], field: str) -> str:
    """A one-line name: white space collapsed, no control or direction-changing characters."""
    label = " ".join(_text(value, field).split())
    if not 1 <= len(label) <= MAX_NAME:
        raise MessageError(f"{field} must have 1 to {MAX_NAME} characters")
    if _CONTROL.search(label):
        raise MessageError(f"{field} must not contain control characters")
    return label


def dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def page() -> Response:
    """The page."""
    return html.page(_installation.read_page(Path(__file__).with_name("chat.html")), "no-cache")


def create(**options: Any) -> Server:
    """A bound chat server; ``options`` are ``serve()``'s (``port``, ``hostname``, ``unix``)."""
    chat = Chat()

    def connect(request: Request, server: Server) -> Response | None:
        if server.upgrade(request):
            return None
        return Response("This is the chat's WebSocket: open / in a browser.\n", 426, {"Upgrade": "websocket"})

    def health(request: Request, server: Server) -> dict[str, Any]:
        occupied = sum(1 for room in chat.rooms.values() if room.people)
        return {"ok": True, "websockets": server.pending_websockets, "rooms": occupied}

    routes = {"/": {"GET": page()}, "/ws": connect, "/health": {"GET": health}}
    return serve(routes=routes, websocket=chat, **options)
