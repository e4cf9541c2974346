"""The interpreter's end while a handler of a background thread does not return."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.plain("the servers run in processes of their own")


BUSY = """
import threading, time, uwserve
from uwserve._run import at_exit

at_exit.EXIT_TIMEOUT = 0.1
inside = threading.Event()


def never(*_):
    inside.set()
    while True:
        {what}


def fetch(request, server):
    return None if server.upgrade(request) else {fetch}


{coroutine}def message(ws, data):
    {message}


async def streamed():
    yield never()


class Foreign:  # whether it is a coroutine is to be found out
    __class__ = property(never)

    def __await__(self):
        return iter(())


{before}

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=fetch, websocket={{"message": message}}).start()
{begin}
inside.wait()
print("leaves")
"""
TALK = """
import sys
from ws_client import Client, handshake
client = Client(("127.0.0.1", server.port), upgrade={upgrade})
client.send{raw}
"""
CLOSED = """
class closing:
    # A coroutine, whose owner closes it when no event loop can be had.
    def __await__(self): return self
    def __iter__(self): return self
    def send(self, value): raise AssertionError
    def throw(self, *error): raise AssertionError
    close = never


import collections.abc
collections.abc.Coroutine.register(closing)


def refused(self):
    raise RuntimeError("there is none")


uwserve._run.runner.Runner.want_event_loop = refused
"""
WAYS = {
    "message": {"message": "never()"},
    "coroutine": {"message": "never()", "coroutine": "async "},
    "fetch": {"fetch": "never()", "upgrade": False},
    "stream": {"fetch": "uwserve.Response(iter(never, None))", "upgrade": False},
    "asynchronous stream": {"fetch": "uwserve.Response(streamed())", "upgrade": False},
    "call_soon": {"begin": "server.call_soon(never)"},
    "cork": {"message": "ws.cork(never)"},
    "finaliser": {"message": "return type('Late', (), {'__del__': never})()"},
    "closed": {"message": "return closing()", "before": CLOSED},
    "foreign": {"message": "return Foreign()"},
}


@pytest.mark.parametrize("what", ["pass", "time.sleep(0.0001)"], ids=["runs", "wakes"])
@pytest.mark.parametrize("way", WAYS)
def test_exit_while_a_handler_never_returns(way: str, what: str) -> None:
    """CPython ends the thread where it asks for the GIL, and must not unwind C++ on its way."""
    parts = {"what": what, "fetch": '"none"', "coroutine": "", "message": "pass", "upgrade": True} | WAYS[way]
    parts.setdefault("before", "")
    raw = "('go')" if parts["upgrade"] else "_raw(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')"
    parts.setdefault("begin", TALK.format(raw=raw, upgrade=parts["upgrade"]))
    program = BUSY.format(**parts)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "leaves\n"), done.stderr
    assert "Fatal" not in done.stderr and "terminate" not in done.stderr
