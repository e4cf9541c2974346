"""Who may connect: a signed token with an end, checked before the handshake is accepted, and an end of the connection
when the token ends.

A token can come in four ways; a browser's ``new WebSocket(url, protocols)`` cannot set the first one:

* ``Authorization: Bearer TOKEN``: programs. Nothing else to take care of.
* a cookie: pages of the same site. Browsers send it for every page that connects here, so ``Origin`` must be checked.
* a subprotocol, ``new WebSocket(url, ["bearer", TOKEN])``: pages of other sites. The server chooses ``bearer``, so that
  the token is not in the answer. A token must be an RFC 9110 token to fit: base64url without ``=`` and ``.`` does.
* ``?token=TOKEN``: what can do nothing else. URLs end up in logs, so give it seconds to live.

PORT=3000 python examples/auth.py, then
curl -d '{"name": "ada", "password": "1815"}' localhost:3000/login, and connect with ws://localhost:3000/?token=...
"""

import asyncio
import base64
import hmac
import json
import os
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from uwserve import Request, Response, Server, ServerWebSocket, serve
from uwserve.types import WebSocketOptions

SECRET = secrets.token_bytes(32)  # kept in a file or an environment variable, tokens outlive a restart
PASSWORDS = {"ada": "1815"}  # a database of scrypt hashes, in earnest
LIFETIME = 3600.0


class Denied(Exception):
    """Why there is no access."""


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def make_token(name: str, seconds: float) -> str:
    payload = encode(json.dumps({"name": name, "expires": time.time() + seconds}).encode())
    return f"{payload}.{encode(hmac.digest(SECRET, payload.encode(), 'sha256'))}"


def check_token(token: str) -> dict[str, Any]:
    """What the token says. ``Denied`` when it is not ours or over."""
    payload, _, signature = token.partition(".")
    try:
        genuine = hmac.compare_digest(decode(signature), hmac.digest(SECRET, payload.encode(), "sha256"))
    except ValueError:
        genuine = False
    if not genuine:
        raise Denied("the token is not genuine")
    claims: dict[str, Any] = json.loads(decode(payload))
    if not claims["expires"] > time.time():  # NaN is no time
        raise Denied("the token has expired")
    return claims


def find_token(request: Request) -> tuple[str, str | None]:
    """The token, and the subprotocol to choose. ``Denied`` when there is none."""
    kind, _, token = (request.headers.get("authorization") or "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip(), None
    offered = [name.strip() for name in (request.headers.get("sec-websocket-protocol") or "").split(",")]
    if len(offered) == 2 and offered[0] == "bearer":
        return offered[1], "bearer"
    try:
        cookie = SimpleCookie(request.headers.get("cookie") or "").get("token")
    except CookieError:
        cookie = None
    if cookie is not None:
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("//")[2] != request.headers.get("host"):
            raise Denied("the cookie was sent for a page of another site")
        return cookie.value, None
    if "token" in (query := parse_qs(request.query)):
        return query["token"][0], None
    raise Denied("there is no token")


def fetch(request: Request, server: Server) -> Response | None:
    try:
        token, protocol = find_token(request)
        claims = check_token(token)
    except Denied as reason:  # RFC 6750 section 3. A browser's page sees only that the connection failed.
        challenge = f'Bearer error="invalid_token", error_description="{reason}"'
        return Response(f"{reason}\n", 401, {"WWW-Authenticate": challenge})
    if server.upgrade(request, data=claims, protocol=protocol):
        return None
    return Response.json(claims)


def login(request: Request) -> Response:
    try:
        form = json.loads(request.body)
        name, seconds = form["name"], float(form.get("seconds", LIFETIME))
        known = hmac.compare_digest(PASSWORDS.get(name, "").encode(), form["password"].encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        return Response("JSON with name and password is wanted\n", 400)
    if not 0 < seconds <= LIFETIME:  # nor is NaN
        return Response(f"seconds must be more than 0 and at most {LIFETIME:g}\n", 400)
    if not known or name not in PASSWORDS:
        return Response("wrong name or password\n", 401)
    token = make_token(name, seconds)
    cookie = f"token={token}; Max-Age={seconds:.0f}; HttpOnly; SameSite=Strict; Path=/"  # and Secure, with TLS
    return Response.json({"token": token}, headers={"Set-Cookie": cookie})


async def open(ws: ServerWebSocket) -> None:
    """Who was let in stays until the token ends; 4401 tells the client to log in again."""
    ws.send_text(f"hello {ws.data['name']}")
    try:
        await asyncio.wait_for(ws.closed(), ws.data["expires"] - time.time())
    except asyncio.TimeoutError:
        ws.close(4401, "the token has expired")


def message(ws: ServerWebSocket, message: str | bytes) -> None:
    ws.send(message)


if __name__ == "__main__":
    websocket: WebSocketOptions = {"open": open, "message": message}
    port = int(os.environ.get("PORT", "3000"))
    with serve(
        fetch=fetch, routes={"/login": {"POST": login}}, websocket=websocket, port=port, hostname="127.0.0.1"
    ) as server:
        print(f"auth on {server.url}", flush=True)
        server.run()
