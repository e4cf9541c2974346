"""File upload with a progress bar that tells the truth: what the server has, not what the browser has handed over.

The page says {"name", "size"}, then sends the file in binary messages of 64 KiB. The server answers each with
{"received": bytes}, and the page keeps at most 1 MiB ahead of these answers, so a large file fills nobody's memory. At
the end comes {"done": name, "sha256": ...}. A file is written under a temporary name and gets its own when it is whole;
a connection that breaks leaves nothing behind.

PORT=3000 python examples/upload.py, then open http://localhost:3000/; files go to the folder UPLOADS (./uploads).
"""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from uwserve import Request, Response, Server, ServerWebSocket, WebSocketHandler, serve

PAGE = Path(__file__).with_name("upload.html")
FOLDER = Path(os.environ.get("UPLOADS", "uploads"))
MAX_SIZE = 512 * 1024 * 1024
MAX_CHUNK = 64 * 1024


class Refused(Exception):
    """Why an upload cannot go on; the page shows it."""


class Upload:
    """One file on its way: ``ws.data`` while it is."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size, self.received = name, size, 0
        self.digest = hashlib.sha256()
        descriptor, self.path = tempfile.mkstemp(dir=FOLDER, prefix=".part-")
        self.file = os.fdopen(descriptor, "wb")

    def add(self, chunk: bytes) -> None:
        if self.received + len(chunk) > self.size:
            raise Refused("more came than was announced")
        self.file.write(chunk)
        self.digest.update(chunk)
        self.received += len(chunk)

    def finish(self) -> str:
        """Give the file its name, or one with a number when that is taken; returns it."""
        self.file.close()
        stem, suffix = os.path.splitext(self.name)
        name, number = self.name, 1
        while True:
            try:
                os.link(self.path, FOLDER / name)  # unlike a rename it never replaces a file
                break
            except FileExistsError:
                number += 1
                name = f"{stem} ({number}){suffix}"
        os.unlink(self.path)
        return name

    def abandon(self) -> None:
        try:
            self.file.close()
        finally:
            Path(self.path).unlink(missing_ok=True)


class Uploads(WebSocketHandler):
    max_payload_length = MAX_CHUNK

    def message(self, ws: ServerWebSocket, message: Any) -> None:
        try:
            if isinstance(message, str):
                ws.data = self.begin(ws.data, message)
            elif ws.data is None:
                raise Refused("say what comes first")
            else:
                ws.data.add(message)
            upload: Upload = ws.data
            ws.send_text(json.dumps({"received": upload.received}))
            if upload.received == upload.size:
                done = {"done": upload.finish(), "sha256": upload.digest.hexdigest()}
                ws.data = None  # until here close() abandons it
                ws.send_text(json.dumps(done))
        except Refused as reason:
            ws.close(4400, str(reason))
        except OSError:  # a full disk, for instance
            ws.close(1011, "the file could not be written")
            raise  # into the log

    def begin(self, current: Upload | None, message: str) -> Upload:
        if current is not None:
            raise Refused("one file after the other")
        try:
            announced = json.loads(message)
            name, size = announced["name"], announced["size"]
        except (ValueError, KeyError, TypeError):
            raise Refused("name and size are wanted") from None
        if not isinstance(name, str) or not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
            raise Refused(f"a name and a size of at most {MAX_SIZE >> 20} MiB are wanted")
        return Upload(safe(name), size)

    def close(self, ws: ServerWebSocket, code: int, reason: str) -> None:
        if ws.data is not None:
            ws.data.abandon()
            ws.data = None


def safe(name: str) -> str:
    """A file's name without folders, control characters, a leading dot, or more than 120 bytes."""
    stem, suffix = os.path.splitext(re.sub(r"[^\w .()+-]", "_", name.replace("\\", "/").rpartition("/")[2]).lstrip("."))
    return (cut(stem.strip(), 100) or "file") + cut(suffix.strip(), 20)


def cut(text: str, size: int) -> str:
    """The first ``size`` bytes: file systems take names of 255, whatever the letters are."""
    return text.encode()[:size].decode(errors="ignore")


def fetch(request: Request, server: Server) -> Response | None:
    if server.upgrade(request):
        return None
    return Response(PAGE.read_text(encoding="utf-8"), headers={"Content-Type": "text/html;charset=utf-8"})


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    port = int(os.environ.get("PORT", "3000"))
    with serve(fetch=fetch, websocket=Uploads(), port=port, hostname="127.0.0.1") as server:
        print(f"upload on {server.url}", flush=True)
        server.run()
