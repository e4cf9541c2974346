"""The command line that all servers share: ``SERVER [--tls CERT KEY] [--deflate] [--port N] [more of its own]``.

A server prints its port as one line and serves until SIGTERM, on 127.0.0.1:

- ``/``: echo, text as text and binary as binary. With ``--deflate`` replies are compressed, without context takeover.
- ``/sub/NAME``: the connection receives what is published to topic NAME.
- ``/pub/NAME``: each message is published to topic NAME with its type; nothing comes back.
- ``/many/N``, in some: the connection subscribes to N topics that nobody publishes to.

What a server cannot do it refuses with status 3 and a line on stderr.
"""

from __future__ import annotations

import argparse
import ssl
import sys
from typing import NoReturn

MAX_MESSAGE = 64 << 20  # bytes; as large in every server
CANNOT = 3


def parse(*more: str) -> argparse.Namespace:
    """``tls`` (None or [cert, key]), ``deflate``, ``port``, and ``more``: a list of words that are among ``more``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("more", nargs="*", help=" or ".join(more) or argparse.SUPPRESS)
    options = parser.parse_args()
    for word in options.more:
        if word not in more:
            parser.error(f"unknown word {word!r}")
    return options


def refuse(what: str) -> NoReturn:
    print(what, file=sys.stderr)
    sys.exit(CANNOT)


def tls_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options.tls)
    return context


def role(path: str) -> tuple[str, str]:
    """(``sub``, ``pub`` or ``many``, and what follows) of a request target; two empty texts for the echo."""
    kind, _, name = path.removeprefix("/").partition("/")
    return kind, name
