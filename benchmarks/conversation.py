"""What every server of the benchmarks must answer, told by a real client: the package `websockets`.

A server that is fast because it does something else is worth nothing: ``run.py --check`` has this conversation with
each.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

TIMEOUT = 10.0
DOCUMENT = json.dumps({"users": [{"id": i, "name": f"Grüße {i}", "tags": ["a", "b"]} for i in range(200)]})
MESSAGES = ("x", "Grüße", b"\x00\xff", b"z" * 70_000, DOCUMENT, DOCUMENT.encode())


class WrongAnswerError(Exception):
    """A server said something else than it should."""


class Client:
    """Counts, below the library, which messages came compressed."""

    def __init__(self, ws: Any, deflate: bool) -> None:
        self.ws = ws
        self.compressed = 0
        extensions = ws.protocol.extensions
        if bool(extensions) is not deflate:
            raise WrongAnswerError(f"agreed on the extensions {extensions}")
        for extension in extensions:
            if not (extension.local_no_context_takeover and extension.remote_no_context_takeover):
                raise WrongAnswerError(f"agreed on {extension}, with context takeover")
            self._watch(extension)

    def _watch(self, extension: Any) -> None:
        decode = extension.decode

        def counting(frame: Any, *, max_size: int | None = None) -> Any:
            self.compressed += frame.rsv1
            return decode(frame, max_size=max_size)

        extension.decode = counting

    async def expect(self, message: str | bytes) -> None:
        got = await asyncio.wait_for(self.ws.recv(), TIMEOUT)
        if got != message:
            raise WrongAnswerError(f"got {got[:50]!r} of {len(got)} instead of {message[:50]!r} of {len(message)}")

    async def settle(self) -> None:
        """What the server did before it answered this is done."""
        await asyncio.wait_for(await self.ws.ping(), TIMEOUT)


async def converse(port: int, authority: Path | None, deflate: bool) -> None:
    """Echo, then topics. ``authority`` signed the server's certificate; None: without TLS."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    offers = [ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)]
    async with AsyncExitStack() as stack:

        async def client(path: str) -> Client:
            ws = await stack.enter_async_context(
                connect(
                    f"{'wss' if authority else 'ws'}://127.0.0.1:{port}{path}",
                    ssl=context,
                    compression=None,
                    extensions=offers if deflate else None,
                    max_size=None,
                    proxy=None,
                    open_timeout=TIMEOUT,
                    close_timeout=1,
                )
            )
            found = Client(ws, deflate)
            await found.settle()
            return found

        await _echo(await client("/"), deflate)
        subscribers = [await client("/sub/first") for _ in range(3)]
        await _topics(subscribers, await client("/sub/second"), await client("/pub/first"), await client("/pub/second"))


async def _echo(client: Client, deflate: bool) -> None:
    for message in MESSAGES:
        await client.ws.send(message)
        await client.expect(message)
    for message in MESSAGES:  # and many under way
        await client.ws.send(message)
    for message in MESSAGES:
        await client.expect(message)
    # Short messages may go plain: nobody gains by compressing them.
    if deflate and client.compressed < 2 * sum(len(m) > 1000 for m in MESSAGES):
        raise WrongAnswerError(f"only {client.compressed} replies were compressed")


async def _topics(subscribers: list[Client], other: Client, publisher: Client, last: Client) -> None:
    for message in MESSAGES:
        await publisher.ws.send(message)
    for subscriber in subscribers:
        for message in MESSAGES:
            await subscriber.expect(message)
    await last.ws.send("the end")
    await other.expect("the end")  # and nothing of the other topic before it
    await publisher.settle()
    for client in (publisher, last):
        try:
            got = await asyncio.wait_for(client.ws.recv(), 0.05)
        except asyncio.TimeoutError:
            continue
        raise WrongAnswerError(f"a publisher was sent {got[:50]!r}")
