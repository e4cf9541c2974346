"""The end of asynchronous bodies: clients that leave, stops, runs and event loops that end, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from http_client import GET, Client, ClosedError, Recorder, bound, request
from loops import NAMES, new_loop, running_in
from ws_client import eventually

from uwserve import Request, Response, Server, serve

MODES = ["start", *NAMES]
modes = pytest.mark.parametrize("mode", MODES)


class Watched:
    """Generators that tell what becomes of them; their ``finally`` takes a few turns of the loop."""

    def __init__(self) -> None:
        self.record = Recorder()

    async def end(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)
        self.record("ended")

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as exc:
            self.record(type(exc).__name__)
            raise
        finally:
            await self.end()

    async def giving(self, size: int = 10_000) -> AsyncIterator[bytes]:
        """More than any client takes; waits for nothing itself."""
        async with self._told():
            while True:
                yield b"x" * size

    async def waiting(self) -> AsyncIterator[bytes]:
        """One piece, and then something that does not come."""
        async with self._told():
            yield b"first"
            self.record("waits")
            await asyncio.Event().wait()

    async def stubborn(self) -> AsyncIterator[bytes]:
        """Goes on when it is cancelled, and ends where it is not asked for more."""
        try:
            yield b"first"
            with contextlib.suppress(asyncio.CancelledError):
                self.record("waits")
                await asyncio.Event().wait()
            yield b"second"
            self.record("asked for more")
        finally:
            await self.end()


def leave(client: Client, way: str) -> None:
    if way == "reset":
        client.reset()
    else:
        client.socket.close()


# --- clients that leave ---


@modes
@pytest.mark.parametrize("way", ["reset", "close"])
def test_a_client_that_leaves_while_it_is_too_slow(mode: str, way: str) -> None:
    """The generator ends at its yield, on the loop's thread, and its finally is awaited to its end."""
    watched = Watched()
    with running_in(mode, fetch=lambda r: Response(watched.giving())) as server:
        with Client(server, receive_buffer=4096) as client:
            client.send(GET)
            client.read_exactly(50_000)
            leave(client, way)
        assert watched.record.wait(2) == ["GeneratorExit", "ended"]
        eventually(lambda: server.pending_requests == 0)


@modes
def test_a_client_that_leaves_while_the_source_waits(mode: str) -> None:
    """CancelledError where it waits; its finally is awaited. If it goes on nevertheless, it is not asked for more."""
    for name, expected in (("waiting", ["waits", "CancelledError", "ended"]), ("stubborn", ["waits", "ended"])):
        watched = Watched()
        with running_in(mode, fetch=lambda r, w=watched, n=name: Response(getattr(w, n)())) as server:
            with Client(server) as client:
                client.send(GET)
                client.head()
                assert client.read_exactly(8) == b"5\r\nfirst"
                watched.record.wait()
                client.reset()
            assert watched.record.wait(len(expected)) == expected
            eventually(lambda: server.pending_requests == 0)


@modes
def test_a_client_that_hangs_up_while_the_source_waits(mode: str) -> None:
    """A FIN is no more than "no more requests": it is noticed with the next piece, which is refused."""
    record, pieces_left = Recorder(), [2]

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while pieces_left[0] > 0:
                record("waits")
                await asyncio.sleep(0.05)
                yield b"x" * 1000
                pieces_left[0] -= pieces_left[0] != 1  # one, and then for ever
        finally:
            record("ended")

    with running_in(mode, fetch=lambda r: Response(pieces())) as server:
        with Client(server) as client:
            client.send(GET)
            client.head()
            record.wait()
        eventually(lambda: record.items[-1] == "ended" and server.pending_requests == 0)


@modes
def test_many_that_leave_at_random_places(mode: str) -> None:
    """Every generator ends, no Task is left, and the server answers."""
    begun, ended = [0], [0]

    async def pieces(number: int) -> AsyncIterator[bytes]:
        begun[0] += 1
        try:
            while True:
                for _ in range(number % 3):
                    await asyncio.sleep(0)
                yield b"x" * (1 + number * 997 % 40_000)
        finally:
            await asyncio.sleep(0)
            ended[0] += 1

    def fetch(request: Request) -> Any:
        return "ok" if request.path == "/ok" else Response(pieces(int(request.path[1:])))

    with running_in(mode, fetch=fetch) as server:
        for number in range(120):
            with Client(server, receive_buffer=8192) as client:
                client.send(request(f"/{number}"))
                if number % 4:
                    client.read_exactly(number * 331 % 30_000)
                leave(client, "reset" if number % 2 else "close")
        eventually(lambda: begun[0] >= 90 and begun == ended and server.pending_requests == 0)
        with Client(server) as client:
            assert client.ask(request("/ok")).body == b"ok"


# --- stops ---


@modes
@pytest.mark.parametrize(("name", "error"), [("giving", "GeneratorExit"), ("waiting", "CancelledError")])
def test_a_forced_stop(mode: str, name: str, error: str) -> None:
    """Cut; the generator's finally has ended when the server has."""
    watched = Watched()
    source = getattr(watched, name)
    with running_in(mode, fetch=lambda r: Response(source())) as server, Client(server, receive_buffer=4096) as client:
        client.send(GET)
        client.head()
        client.read_exactly(8)
        if name == "waiting":
            watched.record.wait()
        stopped = server.stop(True)
        with pytest.raises((ClosedError, ConnectionResetError)):
            client.read_until(b"\r\n0\r\n\r\n")
        assert stopped.wait(20)
        assert watched.record.items[-2:] == [error, "ended"]
        assert not server.running


@modes
def test_a_graceful_stop_waits(mode: str) -> None:
    """The client gets everything, with a deadline or without; and the server waits for the generator's finally, too."""
    for deadline in (None, 20.0):
        watched, go_on = Watched(), threading.Event()

        async def pieces(watched: Watched = watched, go_on: threading.Event = go_on) -> AsyncIterator[bytes]:
            try:
                yield b"first"
                while not go_on.is_set():
                    await asyncio.sleep(0.001)
                yield b"last"
            finally:
                await watched.end()

        with running_in(mode, fetch=lambda r, p=pieces: Response(p())) as server, Client(server) as client:
            client.send(GET)
            client.head()
            assert client.read_exactly(10) == b"5\r\nfirst\r\n"
            stopped = server.stop(timeout=deadline)
            eventually(lambda s=server: s.stopping)
            go_on.set()
            assert client.read_rest() == b"4\r\nlast\r\n0\r\n\r\n"
            assert stopped.wait(20)
            assert watched.record.items == ["ended"]


@modes
def test_a_deadline_cuts(mode: str) -> None:
    watched = Watched()
    with running_in(mode, fetch=lambda r: Response(watched.waiting())) as server, Client(server) as client:
        client.send(GET)
        client.head()
        watched.record.wait()
        stopped = server.stop(timeout=0.05)
        assert client.read_rest() == b"5\r\nfirst\r\n"
        assert stopped.wait(20)
        assert watched.record.items == ["waits", "CancelledError", "ended"]


@modes
@pytest.mark.parametrize("then", ["goes on", "waits", "ends"])
@pytest.mark.parametrize("turns", [0, 1])
def test_a_source_that_stops_its_server(mode: str, turns: int, then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By force, inside itself: the connection is cut, its ``finally`` awaited, and the server ends."""
    from uwserve._run import event_loop

    monkeypatch.setattr(event_loop, "CUT_SECONDS", 0.05)  # its Task is the one that a stop by itself does not cancel
    record = Recorder()

    def fetch(request: Request, server: Server) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                for _ in range(turns):
                    await asyncio.sleep(0)
                server.stop(True)
                if then == "waits":
                    await asyncio.Event().wait()
                while then == "goes on":
                    yield b"more"
            finally:
                await asyncio.sleep(0)
                record("ended")

        return Response(pieces())

    with running_in(mode, fetch=fetch) as server, Client(server) as client:
        client.send(GET)
        client.head()
        assert client.read_rest() == b"5\r\nfirst\r\n"
        assert record.wait() == ["ended"]
        eventually(lambda: server.finished)


# --- runs and loops that end ---


@pytest.mark.parametrize("where", ["at once", "later", "in finally"])
def test_an_exit_ends_the_run(where: str) -> None:
    """SystemExit out of a body is the run's; the connection is cut, and the server can be run again."""

    async def pieces(again: bool) -> AsyncIterator[bytes]:
        try:
            if not again and where == "at once":
                raise SystemExit(7)
            yield b"first"
            await asyncio.sleep(0.001)
            if not again and where == "later":
                raise SystemExit(7)
        finally:
            if not again and where == "in finally":
                await asyncio.sleep(0.001)
                raise SystemExit(7)

    with bound(fetch=lambda r: Response(pieces(r.path == "/again"))) as server:
        for path in ("/", "/again"):
            ends: list[Any] = []

            def run(ends: list[Any] = ends) -> None:
                try:
                    server.run()
                    ends.append(None)
                except SystemExit as exc:
                    ends.append(exc.code)

            thread = threading.Thread(target=run)
            thread.start()
            with Client(server) as client:
                client.send(request(path))
                if path == "/":
                    client.read_rest()
                else:
                    assert client.reply().body == b"first"
                    server.stop()
            thread.join(20)
            assert ends == [7 if path == "/" else None]


def leave_behind(kind: str, server: Server, paths: list[str], are_there: Any) -> None:
    """Serve these in an event loop that ends when they are under way, without a word to the server."""

    async def main(clients: list[Client]) -> None:
        serving.append(asyncio.ensure_future(server.serve_forever()))
        for client, path in zip(clients, paths, strict=True):
            await asyncio.to_thread(client.send, request(path))  # over TLS it waits for the server
        while not are_there():
            await asyncio.sleep(0.001)
        await asyncio.get_running_loop().shutdown_default_executor()

    serving: list[asyncio.Future[None]] = []
    loop = new_loop(kind)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server, receive_buffer=4096)) for _ in paths]
        loop.run_until_complete(main(clients))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio would complain, and be right
        loop.close()


@pytest.mark.parametrize("kind", NAMES)
def test_an_event_loop_that_ends_with_bodies_in_it(kind: str) -> None:
    """It leaves the server bound, with its connections; a forced stop then ends it all."""
    watched = Watched()
    server = serve(port=0, hostname="127.0.0.1", fetch=lambda r: Response(getattr(watched, r.path[1:])()))
    paths = ["/waiting", "/giving", "/waiting"]
    leave_behind(kind, server, paths, lambda: watched.record.items.count("waits") == 2)
    gc.collect()
    assert server.pending_requests == 3
    server.stop(True)
    assert server.finished
    assert not server.tasks


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("is_touched", [False, True])
def test_a_server_that_is_dropped_with_bodies_under_way(kind: str, is_touched: bool) -> None:
    """Nothing keeps it alive: what its streams hold is seen by the garbage collector."""
    waits: list[str] = []

    def make() -> weakref.ref[Any]:
        async def pieces(server: Server) -> AsyncIterator[bytes]:
            yield b"first"
            waits.append(server.url)
            await asyncio.Event().wait()

        def sync_pieces(server: Server) -> Iterator[bytes]:
            while server.running:
                yield b"x" * 10_000

        def fetch(request: Request, server: Server) -> Response:
            return Response(pieces(server) if request.path == "/async" else sync_pieces(server))

        server = serve(port=0, hostname="127.0.0.1", fetch=fetch)
        leave_behind(kind, server, ["/sync", "/async"], lambda: waits and server.pending_requests == 2)
        if is_touched:
            server.stop()  # notices that its loop has gone; waits for its connections
            assert not server.finished
        return weakref.ref(server)

    dropped = make()
    for _ in range(3):
        gc.collect()
    assert dropped() is None


@pytest.fixture
def restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)


class Bomb:
    """Garbage that cuts a connection, or stops a server, when it is found."""

    def __init__(self, blow: Any) -> None:
        self.blow = blow
        self.me = self

    def __del__(self) -> None:
        self.blow()


@modes
@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("threshold", [11, 23, 67])
def test_garbage_that_ends_bodies(mode: str, threshold: int) -> None:
    """The collector runs at many places, and what it frees ends the body that is being stepped, or another."""
    last: list[Request] = []
    ended = [0]

    class Piece(bytearray):
        """Let go of by the core when it has been sent."""

        server: Any = None
        request: Any = None

        def __del__(self) -> None:
            if self.server is not None and len(self) % 7 == 0:
                self.server._control.core.end_pushed(self.request, len(self) % 2)

    def fetch(request: Request, server: Server) -> Response:
        last.append(request)
        del last[:-2]

        async def pieces() -> AsyncIterator[bytes]:
            try:
                for number in range(200):
                    if number % 5 == 0:
                        await asyncio.sleep(0)
                    if number % 20 == 19:
                        Bomb(functools.partial(server._control.core.end_pushed, last[0], number % 2))
                    piece = Piece(b"x" * (number + 3000))
                    piece.server, piece.request = server, request
                    yield piece
            finally:
                await asyncio.sleep(0)
                ended[0] += 1

        return Response(pieces())

    with running_in(mode, fetch=fetch) as server:
        gc.set_threshold(threshold, 1000, 1000)
        for _ in range(40):
            with Client(server) as one, Client(server) as two:
                for client in (one, two):
                    client.send(GET)
                for client in (one, two):
                    with contextlib.suppress(ClosedError, ConnectionResetError):
                        client.reply()
        gc.set_threshold(700, 10, 10)
        eventually(lambda: ended[0] == 80 and server.pending_requests == 0)
