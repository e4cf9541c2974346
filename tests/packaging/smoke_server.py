"""The server of smoke.py: one a case, their ports on standard output; a line on standard input ends it.

It imports nothing that would bring OpenSSL or zlib with it (ssl, hashlib, tempfile): what is mapped is uwserve's doing.
"""

from __future__ import annotations

import json
import sys

CASES = [(secure, deflate) for secure in (False, True) for deflate in (False, True)]


def serve(certificate: str, key: str) -> None:
    import uwserve

    servers = []
    for secure, deflate in CASES:
        servers.append(
            uwserve.serve(
                port=0,
                hostname="127.0.0.1",
                fetch=lambda request, server: None if server.upgrade(request) else "hello",
                websocket={
                    "message": lambda ws, message: ws.send(message, compress=True),
                    "per_message_deflate": deflate,
                },
                tls={"cert": certificate, "key": key} if secure else None,
            )
        )
        servers[-1].start()
    print(json.dumps([server.port for server in servers]), flush=True)
    sys.stdin.readline()
    for server in servers:
        server.stop(True).wait(10)
    with open("/proc/self/maps") as file:
        mapped = {line.split()[-1] for line in file if "/" in line}
    print(json.dumps({"version": uwserve.__version__, "codec": uwserve._core.codec, "mapped": sorted(mapped)}))


if __name__ == "__main__":
    serve(*sys.argv[1:3])
