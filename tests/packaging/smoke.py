"""What a wheel must do where it was installed and nothing else was built: ``python smoke.py [--bundled]``.

Serves echoes over ws and wss, with and without compression, to a real client. With ``--bundled`` the libraries that the
server's process has mapped must be the wheel's own. Needs `websockets` and `trustme`.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from smoke_server import CASES

LIBRARIES = ("libssl", "libcrypto", "libz", "libuwserve-z", "libdeflate")


def exercise(ports: list[int], trust: ssl.SSLContext) -> None:
    from websockets.sync.client import connect

    for (secure, deflate), port in zip(CASES, ports, strict=True):
        url = f"{'wss' if secure else 'ws'}://localhost:{port}/"
        options = {"ssl": trust} if secure else {}
        with connect(url, compression="deflate" if deflate else None, max_size=None, **options) as client:
            assert bool(client.protocol.extensions) == deflate, (url, client.protocol.extensions)
            for message in ("grüße", b"\0\1\2", "x" * 100_000, b"y" * 1_000_000):
                client.send(message)
                assert client.recv(timeout=30) == message, url
        print(f"ok: {url}, {'with' if deflate else 'without'} compression")


def main() -> None:
    import trustme

    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with tempfile.TemporaryDirectory() as folder:
        leaf = authority.issue_cert("localhost")
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(key))
        # Isolated: neither the folder of this file nor PYTHONPATH may lend it a uwserve.
        command = [sys.executable, "-I", str(Path(__file__).with_name("smoke_server.py")), str(certificate), str(key)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin and server.stdout
            exercise(json.loads(server.stdout.readline()), trust)
            answer = json.loads(server.communicate("\n", timeout=60)[0])
    assert server.returncode == 0, server.returncode
    strangers = [
        path
        for path in answer["mapped"]
        if Path(path).name.startswith(LIBRARIES) and ".libs/" not in path and "/uwserve/" not in path
    ]
    print(f"uwserve {answer['version']}, {answer['codec']}; foreign libraries: {strangers or 'none'}")
    if "--bundled" in sys.argv and strangers:
        sys.exit("error: the wheel uses libraries of the machine's")


if __name__ == "__main__":
    main()
