"""A forked child and signals: what is sent to the child is the child's, and ends it as it would without a server.

Each program serves in one of the run modes and forks in a handler; a client in a thread of it drives it, and stops it.
"""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.plain("the servers run in processes of their own")

MODES = ("plain", "coroutines", "asyncio", "uvloop")

# The first argument is the mode. A test gives `work(text)`, which a handler calls with each message of `say(*texts)`,
# and `talk(say)`, the client's side.
PRELUDE = """
import asyncio, concurrent.futures, multiprocessing, os, signal, subprocess, sys, threading, time, warnings
warnings.simplefilter("ignore")
import uvloop, uwserve
from ws_client import Client

fork = multiprocessing.get_context("fork")
MODE = sys.argv[1]

def handle(ws, text):
    ws.send(str(work(text)))

async def handle_later(ws, text):
    handle(ws, text)

server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
    websocket={"message": handle_later if MODE == "coroutines" else handle})

def say(*texts):
    with Client(("127.0.0.1", server.port)) as client:
        for text in texts:
            client.send(text)
            print(client.read_message(), flush=True)
        client.send_close()
        assert client.read_close() == (1000, "")

def loop_forever(connection=None):
    if connection is not None:
        connection.send("up")
    while True:
        time.sleep(0.01)

def drive():
    try:
        talk(say)
    except BaseException as exc:
        print(f"the client: {exc!r}", flush=True)
    finally:
        server.stop()

def run():
    threading.Thread(target=drive, daemon=True).start()
    if MODE in ("asyncio", "uvloop"):
        (uvloop.run if MODE == "uvloop" else asyncio.run)(server.serve_forever())
    else:
        server.run()
    print("stopped")
"""


def finish(script, mode: str, program: str) -> str:
    return script(PRELUDE + program, mode).finish()


@pytest.mark.parametrize("mode", MODES)
def test_a_terminated_child_dies_and_the_parent_serves_on(script, mode: str) -> None:
    """``Process.terminate()``, both when the child is up and at once after the fork; SIGINT, too."""
    program = """
def work(text):
    ours, theirs = fork.Pipe()
    child = fork.Process(target=loop_forever, args=(theirs,))
    child.start()
    if text != "at once":
        ours.recv()
    if text == "SIGINT":
        sys.stderr.flush()
        os.kill(child.pid, signal.SIGINT)
    else:
        child.terminate()
    child.join(60)
    code = child.exitcode
    child.kill()
    return code
def talk(say):
    say("SIGTERM", *["at once"] * 10)
    if MODE in ("plain", "coroutines"):  # asyncio.run() has a handler for SIGINT, which is asyncio's matter
        say("SIGINT")
run()
"""
    # A child that KeyboardInterrupt ends prints a traceback, and multiprocessing has it exit with 1.
    interrupted = "1\n" if mode in ("plain", "coroutines") else ""
    assert finish(script, mode, program) == "-15\n" * 11 + interrupted + "stopped\n"


@pytest.mark.parametrize("mode", ["plain", "coroutines"])
def test_pools_end(script, mode: str) -> None:
    """A ``Pool`` whose task times out, an executor that is killed, daemons that loop: none keeps a run from ending."""
    program = """
def work(text):
    if text == "pool":
        with fork.Pool(2) as pool:
            try:
                return pool.apply_async(loop_forever).get(timeout=0.05)
            except multiprocessing.TimeoutError:
                return "timeout"
    if text == "executor":
        executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=fork)
        answer = executor.submit(abs, -3).result()
        for worker in list(executor._processes.values()):
            worker.terminate()
        executor.shutdown()
        return answer
    fork.Process(target=loop_forever, daemon=True).start()
    return "started"
def talk(say):
    say("pool", "executor", "daemon")
    os.kill(os.getpid(), signal.SIGTERM)
run()
"""
    assert finish(script, mode, program) == "timeout\n3\nstarted\nstopped\n"


@pytest.mark.parametrize("mode", MODES)
def test_what_was_there_before_is_there_in_the_child(script, mode: str) -> None:
    """Handlers and the wake-up descriptor; in a fork by a thread, by ``preexec_fn``, and in a daemon's double fork."""
    program = """
def own(number, frame):
    os._exit(40 + number)
signal.signal(signal.SIGINT, own)
def answer(function):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, repr(function()).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()
def state():
    return (signal.getsignal(signal.SIGINT) is own, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        signal.set_wakeup_fd(-1), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
def deeper():
    return answer(state)
def work(text):
    if text == "thread":
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(answer, state).result()
    if text == "preexec_fn":
        child = subprocess.Popen(["sleep", "100"], preexec_fn=os.setsid)
        child.terminate()
        return child.wait(10)
    if text == "posix_spawn":
        pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], os.environ)
        os.kill(pid, signal.SIGTERM)
        return -signal.Signals(os.waitpid(pid, 0)[1])
    return answer({"fork": state, "double fork": deeper}[text])
def talk(say):
    say("fork", "thread", "double fork", "preexec_fn", "posix_spawn")
run()
print(signal.getsignal(signal.SIGINT) is own, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    state = "(True, True, -1, [])"
    assert finish(script, mode, program) == f"{state}\n{state}\n'{state}'\n-15\n-15\nstopped\nTrue True\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods(tmp_path, script, method: str) -> None:
    """Children that are not forked from the serving process are terminated as ever."""
    path = tmp_path / "program.py"
    path.write_text(
        f"""
import multiprocessing, threading, time
context = multiprocessing.get_context({method!r})
def loop_forever(connection):
    connection.send("up")
    while True:
        time.sleep(0.01)
def message(ws, text):
    ours, theirs = context.Pipe()
    child = context.Process(target=loop_forever, args=(theirs,))
    child.start()
    ours.recv()
    child.terminate()
    child.join(10)
    ws.send(str(child.exitcode))
if __name__ == "__main__":
    import uwserve
    from ws_client import Client
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r, s: s.upgrade(r) and None,
        websocket={{"message": message}})
    def talk():
        with Client(("127.0.0.1", server.port)) as client:
            client.send("x")
            print(client.read_message())
            client.send_close()
            print(client.read_close())
        server.stop()
    threading.Thread(target=talk, daemon=True).start()
    server.run()
"""
    )
    runner = "import runpy, sys; sys.argv = [sys.argv[1]]; runpy.run_path(sys.argv[0], run_name='__main__')"
    assert script(runner, str(path)).finish() == "-15\n(1000, '')\n"


def test_a_server_made_before_the_fork_is_not_run_in_the_child(script) -> None:
    """As a pre-forking process manager would have it: every way to run it is a clear error."""
    program = """
def work(text):
    pass
def attempt(start):
    try:
        start()
    except RuntimeError as exc:
        return str(exc)
for start in (server.run, server.start, lambda: asyncio.run(server.serve_forever()), server.__enter__().stop):
    pid = os.fork()
    if pid == 0:
        text = attempt(start)
        os._exit(0 if text and "fork" in text else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert finish(script, "plain", program) == "0\n0\n0\n0\n"


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_a_child_that_goes_on_in_the_loop_leaves_the_parents_alone(script, kind: str) -> None:
    """A handler forks and returns, in a run with an event loop: the child's run ends, the parent's loop goes on."""
    program = f"""
if {kind!r} == "asyncio":
    sys.modules["uvloop"] = None
parent, pids = os.getpid(), []
def work(text):
    if text == "fork":
        pid = os.fork()
        if pid:
            pids.append(pid)
    return text
def talk(say):
    say("a", "fork")
    print(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), flush=True)
    heard = threading.Event()
    loops[0].call_soon_threadsafe(heard.set)
    print(heard.wait(10), flush=True)
    say("b")
loops = []
async def handle_later(ws, text):
    loops[:] = [asyncio.get_running_loop()]
    handle(ws, text)
server.reload(websocket={{"message": handle_later}})
try:
    run()
except RuntimeError as exc:
    if os.getpid() == parent:
        raise
    loops.clear()
    server = None
    import gc
    gc.collect()
    os._exit(42 if "fork" in str(exc) else 1)
"""
    assert finish(script, "coroutines", program) == "a\nfork\n42\nTrue\nb\nstopped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_asyncio_run_in_a_handler_leaves_signals_alone(script, kind: str, number: signal.Signals) -> None:
    """A loop with signal handlers resets them at its end, and the wake-up descriptor with them."""
    program = f"""
def work(text):
    async def main():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, print)
        await asyncio.sleep(0)
    ({kind}.run if {kind!r} == "uvloop" else asyncio.run)(main())
    return "ran"
def talk(say):
    say("x", "y")
    os.kill(os.getpid(), {int(number)})
    threading.Event().wait(30)
run()
"""
    assert finish(script, "plain", program) == "ran\nran\nstopped\n"
