"""fork: the server belongs to the process that made it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.plain("the servers run in processes of their own")

PRELUDE = """
import gc, os, sys, threading, warnings
warnings.simplefilter("ignore")
import uwserve
from ws_client import Client

kept = []
def message(ws, m):
    ws.send(m)

def make(**options):
    return uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
        websocket={"open": kept.append, "message": message, **options})

def refused(call):
    try:
        return f"returned {call()!r}"
    except RuntimeError as exc:
        return "fork" in str(exc) or str(exc)

def in_child(work):
    '''Runs work() in a forked child; its return value as text, and how it ended.'''
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            text = repr(work())
        except BaseException as exc:
            text = f"raised {exc!r}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_every_call_in_the_child(script):
    """In a child of fork every call raises RuntimeError that says so; the parent serves on."""
    output = script(
        PRELUDE
        + """
server = make().start()
client = Client(("127.0.0.1", server.port))
client.round_trip()
ws = kept[0]
calls = [
    lambda: server.publish("t", "x"), lambda: server.subscriber_count("t"), lambda: server.stop(),
    lambda: server.stop(True), lambda: server.reload(websocket={}), lambda: server.run(), lambda: server.start(),
    lambda: server.call_soon(print), lambda: ws.send("x"), lambda: ws.send_text("x"), lambda: ws.send_binary(b"x"),
    lambda: ws.ping(), lambda: ws.pong(), lambda: ws.close(), lambda: ws.terminate(), lambda: ws.subscribe("t"),
    lambda: ws.unsubscribe("t"), lambda: ws.is_subscribed("t"), lambda: ws.publish("t", "x"), lambda: ws.cork(print),
    lambda: ws.pause(), lambda: ws.resume(), lambda: ws.buffered_amount, lambda: ws.subscriptions,
]
text, code = in_child(lambda: [refused(call) for call in calls])
print(code, set(eval(text)) == {True} or text)
client.send("parent")
print(client.read_message())
client.send_close()
print(client.read_close())
client.close()
server.stop(True).wait(10)
"""
    ).finish()
    assert output == "0 True\nparent\n(1000, '')\n"


def test_child_does_not_hold_connections(script):
    """The child keeps no descriptor of the server: when the parent closes, the client sees it at once."""
    output = script(
        PRELUDE
        + """
server = make().start()
client = Client(("127.0.0.1", server.port))
client.round_trip()
read, write = os.pipe()
up, says_so = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(write)
    os.write(says_so, b"x")
    os.read(read, 1)  # lives until the parent says so
    os._exit(0)
os.read(up, 1)  # it has begun, and closed what is the server's
kept[0].terminate()
client.expect_end()
server.stop(True).wait(10)
try:
    Client(("127.0.0.1", server.port), upgrade=False).close()
    print("still listening")
except ConnectionRefusedError:
    print("refused")
os.write(write, b"x")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    ).finish()
    assert output == "refused\n0\n"


def test_child_makes_its_own_server(script):
    """A child may make and run a server of its own, and the interpreter ends cleanly in it."""
    output = script(
        PRELUDE
        + """
server = make().start()
client = Client(("127.0.0.1", server.port))
client.round_trip()
def work():
    kept.clear()
    with make() as own:
        own.start()
        with Client(("127.0.0.1", own.port)) as mine:
            mine.send("child"); answer = mine.read_message()
            mine.send_close(); mine.read_close()
    gc.collect()
    return answer
print(in_child(work))
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    del server, client
    gc.collect()
    sys.exit(7)  # atexit handlers and finalisers run
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
client.send("parent")
print(client.read_message())
client.close()
server.stop(True).wait(10)
"""
    ).finish()
    assert output == "(\"'child'\", 0)\n7\nparent\n"


def test_fork_inside_a_handler(script):
    """fork in a message handler: the child's run() ends with RuntimeError, the parent's goes on."""
    output = script(
        PRELUDE
        + """
parent = os.getpid()
pids = []
def message(ws, m):
    if m == "fork":
        pid = os.fork()
        if pid == 0:
            assert refused(lambda: ws.send("from the child")) is True
            return
        pids.append(pid)
    ws.send(m)
server = make()
def talk():
    with Client(("127.0.0.1", server.port)) as client:
        for text in ("a", "fork", "b"):
            client.send(text)
            assert client.read_message() == text
        client.send_close()
        client.read_close()
    server.stop()
thread = threading.Thread(target=talk, daemon=True)
thread.start()
try:
    server.run()
except RuntimeError as exc:
    os._exit(42 if os.getpid() != parent and "fork" in str(exc) else 1)
if os.getpid() != parent:
    os._exit(2)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
"""
    ).finish()
    assert output == "42\n"


def test_many_forks_under_load(script):
    """Forks from another thread while the loop is busy: never a child that hangs or crashes, no message lost."""
    output = script(
        PRELUDE
        + """
server = make().start()
client = Client(("127.0.0.1", server.port))
stop = threading.Event()
count = [0]
def talk():
    while not stop.is_set():
        client.send(str(count[0]))
        assert client.read_message() == str(count[0])
        count[0] += 1
thread = threading.Thread(target=talk)
thread.start()
codes = set()
for _ in range(30):
    codes.add(in_child(lambda: [refused(lambda: kept[0].send("x")), refused(lambda: server.publish("t", "x"))]))
stop.set()
thread.join()
print(codes, count[0] > 10)
client.close()
server.stop(True).wait(10)
"""
    ).finish()
    assert output == "{('[True, True]', 0)} True\n"


def test_subprocess_inherits_nothing(script):
    """A subprocess started while serving keeps neither listener nor connections open (close-on-exec)."""
    output = script(
        PRELUDE
        + """
import subprocess
server = make().start()
client = Client(("127.0.0.1", server.port))
client.round_trip()
code = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"
child = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, close_fds=False)
names = eval(child.stdout)
print([n for n in names if int(n) > 3 and os.path.exists(f"/proc/self/fd/{n}")
       and "socket" in os.readlink(f"/proc/self/fd/{n}")])
client.close()
server.stop(True).wait(10)
"""
    ).finish()
    assert output == "[]\n"


def test_multiprocessing(script, tmp_path):
    """multiprocessing with every start method, from a program that serves."""
    program = tmp_path / "program.py"
    program.write_text(
        PRELUDE
        + """
import multiprocessing
def work(n):
    return n * n
if __name__ == "__main__":
    server = make().start()
    client = Client(("127.0.0.1", server.port))
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(work, range(4)))
        client.send(method)
        assert client.read_message() == method
    client.close()
    server.stop(True).wait(10)
"""
    )
    runner = "import runpy, sys; sys.argv = [sys.argv[1]]; runpy.run_path(sys.argv[0], run_name='__main__')"
    output = script(runner, str(program))
    assert output.finish() == "".join(f"{m} [0, 1, 4, 9]\n" for m in ("fork", "spawn", "forkserver"))
