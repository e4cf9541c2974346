"""A chat with rooms, presence and a page: who is here, who is away, who is typing.

A room is a topic. Everything in it goes to the topic, so the server never loops over sockets, and one that joins gets
the last messages. Presence is the page's to tell (a hidden tab is away) and is forgotten with the connection.
``uwserve chat`` is a chat with more checks of what comes in; this one shows how it works.

PORT=3000 python examples/chat.py, then open http://localhost:3000/#tea in two windows.
"""

import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve

PAGE = Path(__file__).with_name("chat.html")
STATES = ("here", "away", "typing")


class Room:
    def __init__(self, name: str) -> None:
        self.topic = f"room/{name}"
        self.people: dict[int, dict[str, str]] = {}  # by connection: name and state
        self.history: deque[dict[str, Any]] = deque(maxlen=50)


class Chat(WebSocketHandler):
    """All handlers run on the server's one thread, one after the other: no locks."""

    max_payload_length = 8 * 1024
    idle_timeout = 60  # seconds: who vanishes without a word is gone after that

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}

    def open(self, ws: ServerWebSocket) -> None:
        """``ws.data`` is (room's name, person's name), from the URL."""
        room_name, name = ws.data
        room = self.rooms.setdefault(room_name, Room(room_name))
        room.people[ws.id] = {"name": name, "state": "here"}
        ws.send_text(json.dumps({"type": "welcome", "you": ws.id, "history": list(room.history)}))
        ws.subscribe(room.topic)
        self.tell_presence(ws.server, room)

    def message(self, ws: ServerWebSocket, message: Any) -> None:
        room = self.rooms[ws.data[0]]
        person = room.people[ws.id]
        match parse(message):
            case {"type": "say", "text": str(text)} if text.strip():
                said = {
                    "type": "said",
                    "who": ws.id,
                    "name": person["name"],
                    "text": text.strip(),
                    "time": round(time.time() * 1000),
                }
                room.history.append(said)
                ws.server.publish(room.topic, json.dumps(said))  # server.publish reaches the sender, too
                if person["state"] == "typing":
                    person["state"] = "here"
                    self.tell_presence(ws.server, room)
            case {"type": "state", "state": str(state)} if state in STATES:
                person["state"] = state
                self.tell_presence(ws.server, room)
            case _:
                ws.close(1008, "message not understood")

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        room = self.rooms[ws.data[0]]
        del room.people[ws.id]
        if room.people:
            self.tell_presence(ws.server, room)
        else:
            del self.rooms[ws.data[0]]  # and its history

    def tell_presence(self, server: Server, room: Room) -> None:
        people = [{"id": key, **person} for key, person in room.people.items()]
        server.publish(room.topic, json.dumps({"type": "people", "people": people}))


def parse(message: str | bytes) -> Any:
    try:
        return json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        return None


def connect(request: Request, server: Server) -> Response | None:
    """``/rooms/ROOM/NAME``, percent-encoded."""
    room, name = (" ".join(request.params[key].split())[:32] for key in ("room", "name"))
    if not room or not name:
        return Response("A room and a name are wanted.\n", 400)
    if server.upgrade(request, data=(room, name)):
        return None
    return Response("Open / in a browser.\n", 426)


def page(request: Request) -> Response:
    return Response(PAGE.read_text(encoding="utf-8"), headers={"Content-Type": "text/html;charset=utf-8"})


if __name__ == "__main__":
    routes = {"/": page, "/rooms/:room/:name": connect}
    port = int(os.environ.get("PORT", "3000"))
    with serve(routes=routes, websocket=Chat(), port=port, hostname="127.0.0.1") as server:
        print(f"chat on {server.url}", flush=True)
        server.run()
