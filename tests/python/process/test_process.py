"""Whole processes: signals, exit codes, the interpreter's end, and what an import costs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from http_client import DEADLINE, Client, frame, open_websocket, read_frame, request
from processes import SANITIZED, SERVE, Process, process

pytestmark = pytest.mark.plain("the servers run in processes of their own")


@contextlib.contextmanager
def script(text: str) -> Iterator[Process]:
    """A program that begins with ``SERVE``."""
    with process(sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(SERVE) + textwrap.dedent(text)) as started:
        yield started


RUN = "server.call_soon(print, server.port); server.run(); print('after', server.finished)"

# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_run(number: signal.Signals) -> None:
    """Idle: run() returns at once, the code behind it runs, the exit code is 0."""
    with script(RUN) as server:
        server.port()
        server.child.send_signal(number)
        assert server.end() == (0, "after True\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_graceful_the_second_forced(number: signal.Signals) -> None:
    """The first tells an open socket 1001 and waits for it, and nobody can connect; the second cuts it."""
    with script(RUN) as server:
        port = server.port()
        with Client(port) as client:
            open_websocket(client)
            server.child.send_signal(number)
            assert read_frame(client) == (8, b"\x03\xe9Server closed")
            with pytest.raises(ConnectionError):
                Client(port).__exit__()
            assert server.child.poll() is None
            server.child.send_signal(number)
            assert client.at_end()
            assert server.end() == (0, "after True\n", "")


def test_the_deadline_after_a_signal() -> None:
    """run(stop_timeout=...): a client that leaves ends the run at once, one that does not is cut then."""
    run = "server.call_soon(print, server.port); server.run(stop_timeout={}); print('after', server.finished)"
    for timeout, leaves in ((600, True), (0.3, False)):
        with script(run.format(timeout)) as server, Client(server.port()) as client:
            open_websocket(client)
            server.child.send_signal(signal.SIGTERM)
            assert read_frame(client) == (8, b"\x03\xe9Server closed")
            assert client.at_end()
            if leaves:
                client.__exit__()
            assert server.end() == (0, "after True\n", "")


def test_bad_stop_timeouts() -> None:
    program = """
        for bad in (-1, float("nan"), "5", None):
            try:
                server.run(stop_timeout=bad)
            except (TypeError, ValueError) as error:
                print(error)
    """
    with script(program) as server:
        code, output, _ = server.end()
        assert code == 0
        assert [line.split(",")[0] for line in output.splitlines()] == [
            *["stop_timeout must be a finite number of seconds"] * 2,
            *["stop_timeout must be a number of seconds"] * 2,
        ]


def test_signals_interrupt_a_busy_handler() -> None:
    """The third raises KeyboardInterrupt in a handler that does not return; the process ends."""
    program = """
        def fetch(request):
            print("busy", flush=True)
            while True:
                bytearray(1000)  # ThreadSanitizer hands over signals in library calls only, such as malloc()
        server.reload(fetch=fetch)
    """
    with script(textwrap.dedent(program) + RUN) as server:
        with Client(server.port()) as client:
            client.send(request())
            assert server.line() == "busy"
            end = time.monotonic() + DEADLINE
            while server.child.poll() is None:
                server.child.send_signal(signal.SIGINT)
                assert time.monotonic() < end, "three signals did not end it"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.child.wait(0.2)
        code, _, errors = server.end()
        assert code in (1, 130, -signal.SIGINT), code
        assert "KeyboardInterrupt" in errors


def test_previous_signal_handlers_come_back() -> None:
    program = """
        import signal
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        server.call_soon(server.stop)
        server.run()
        assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        assert signal.set_wakeup_fd(-1) == -1
        print("same")
    """
    with script(program) as server:
        assert server.end() == (0, "same\n", "")


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(7)"])
def test_exits_out_of_handlers_end_the_run(error: str) -> None:
    program = f"""
        def message(ws, message):
            raise {error}
        server.reload(websocket={{"message": message}})
        server.call_soon(print, server.port)
        try:
            server.run()
        except KeyboardInterrupt:
            print("interrupted")
    """
    with script(program) as server, Client(server.port()) as client:
        open_websocket(client)
        client.send(frame(b"x"))
        code, output, _ = server.end()
        assert (code, output) == ((7, "") if "7" in error else (0, "interrupted\n"))


# --- the interpreter's end ---


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=sys.stdin.close).start()",
        "del server",
        "server.stop()",
        "del fetch, serve",
    ],
)
def test_exit_with_a_running_server(ending: str) -> None:
    """start() and an open socket, then the program ends: quickly, code 0, not a word, the socket closed properly."""
    program = f"""
        server.start()
        print(server.port)
        sys.stdin.readline()
        {ending}
    """
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(SERVE) + textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdin
        assert child.stdout
        with Client(int(child.stdout.readline())) as client, Client(client.socket.getpeername()[1]) as idle:
            open_websocket(client)
            assert idle.ask().body == b"plain"
            begun = time.monotonic()
            child.stdin.write("\n")
            child.stdin.flush()
            assert read_frame(client) == (8, b"\x03\xe9Server closed")
            client.__exit__()
            output, errors = child.communicate(timeout=DEADLINE)
            assert (child.returncode, output, errors) == (0, "", "")
            assert time.monotonic() - begun < 4


def test_exit_with_a_bound_server_that_never_ran() -> None:
    with script("print(server.port)") as server:
        server.port()
        assert server.end() == (0, "", "")


def test_exit_while_threads_publish() -> None:
    """Daemon threads that use the server to the last instruction do not crash the interpreter."""
    program = """
        server.start()
        def work():
            while True:
                try:
                    server.publish("t", "x" * 100)
                    server.call_soon(len, ())
                except RuntimeError:
                    pass
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        import time
        time.sleep(0.1)
    """
    with script(program) as server:
        code, _, errors = server.end()
        assert (code, errors) == (0, "")


def test_a_child_after_fork_is_harmless() -> None:
    """It cannot use the server, does not stop the parent's, and ends by itself."""
    program = """
        import os
        server.start()
        pid = os.fork()
        if pid == 0:
            publish = lambda: server.publish("a", "b")
            for call in (server.start, server.run, server.stop, lambda: server.reload(id="x"), publish):
                try:
                    call()
                except RuntimeError:
                    pass
                else:
                    os._exit(9)
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(server.port)
        sys.stdin.read()
    """
    with script(program) as server:
        assert server.line() == "0"
        with Client(server.port()) as client:
            assert client.ask().body == b"plain"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs descriptors of its own to look at memory")
def test_running_out_of_descriptors() -> None:
    """Connections beyond the limit wait, those inside it are served, and the waiting ones are when others go."""
    program = """
        import os, resource
        limit = len(os.listdir("/proc/self/fd")) + 8
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        server.start()
        print(server.port)
        sys.stdin.read()
    """
    with script(program) as server, contextlib.ExitStack() as stack:
        port = server.port()
        clients = [stack.enter_context(Client(port)) for _ in range(20)]
        for client in clients:
            client.send(request())
        for client in clients:
            assert client.reply().body == b"plain"
            client.__exit__()


GROWTH = """
    import gc
    from http_client import Client, descriptors, request, running
    from uwserve import Response

    def fetch(request):
        return Response(b"x" * 1000 for _ in range(100)) if request.path == "/stream" else b"x" * 20_000

    def resident():
        gc.collect()
        return int(open("/proc/self/statm").read().split()[1]) * 4

    def burst(server, count):
        for i in range(count):
            with Client(server) as client:
                if i % 4 == 0:
                    client.ask(request("/stream"))
                elif i % 4 == 1:
                    client.ask(request("/", "POST", b"y" * 10_000))
                    client.reset()
                elif i % 4 == 2:
                    client.send(request("/stream"))
                    client.reset()
                else:
                    client.send(b"GET / HTTP/1.1")

    with running(fetch=fetch) as server:
        burst(server, 800)
        before, open_before = resident(), descriptors()
        burst(server, 2400)
        print(resident() - before < 1024, descriptors() - open_before < 20)
"""


@pytest.mark.skipif(SANITIZED, reason="sanitizers keep freed memory in quarantine")
def test_connections_leave_no_memory() -> None:
    """Thousands that end in every way: resident memory and descriptors are where they were."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(GROWTH)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


# --- imports ---

HEAVY = [
    "argparse",
    "asyncio",
    "concurrent",
    "dataclasses",
    "email",
    "http",
    "inspect",
    "json",
    "logging",
    "re",
    "selectors",
    "socket",
    "socketify",
    "ssl",
    "subprocess",
    "tempfile",
    "traceback",
    "typing",
    "urllib",
]


def test_import_is_light(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing heavy comes with ``import uwserve``; the time is printed, not asserted."""
    command = [sys.executable, "-I", "-X", "importtime", "-c"]
    code = "import sys; before = set(sys.modules); import uwserve; print(*(set(sys.modules) - before))"
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    with capsys.disabled():
        print(f"\nimport uwserve: {done.stderr.splitlines()[-1].split('|')[1].strip()} us")
    assert "uwserve" in loaded
    assert sorted(loaded.intersection(HEAVY)) == []


def test_no_dependency_is_needed() -> None:
    """Without site-packages' others: no import but the standard library's and ours, through a served request."""
    code = """
        import sys, sysconfig
        import uwserve, uwserve.cli
        from uwserve.demo import chat
        server = chat.create(port=0, hostname="127.0.0.1").start()
        server.stop(True).wait()
        known = set(sys.stdlib_module_names) | {"uwserve", "__main__"}
        import importlib.metadata
        print(sorted(name for name in sys.modules if name.partition(".")[0] not in known and not name.startswith("_")))
        print([line for line in importlib.metadata.requires("uwserve") or () if "extra" not in line])
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    foreign, requires = done.stdout.splitlines()
    assert foreign in ("[]", "['distutils-precedence.pth', 'sitecustomize']")
    assert requires == "[]"
