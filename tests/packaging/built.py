"""A build that was just made: the extension loads, and a compressed message comes back.

``built.py ON`` or ``OFF``: libdeflate must be built in, or must not. It needs the package and nothing else, so that it
runs with any interpreter and in any environment.
"""

from __future__ import annotations

import sys

from uwserve import _core, testing


def main(libdeflate: str) -> None:
    codec = _core.codec
    assert ("libdeflate" in codec) == (libdeflate == "ON"), codec
    websocket = {"message": lambda ws, message: ws.send(message, True), "per_message_deflate": True}
    text = "a message that is worth compressing " * 200
    with testing.serving(websocket=websocket) as server, server.connect(compression=True) as ws:
        ws.send(text)
        assert ws.receive() == text
        sent = server.server.stats()["sent"]
        assert sent["compressed_messages"] == 1, sent
        assert sent["compressed_bytes"] < len(text) / 4, sent


main(*sys.argv[1:])
