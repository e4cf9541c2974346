"""Calls from other threads: handed over in order, or refused with an error that names both threads (rule 8, T6)."""

from __future__ import annotations

import queue
import threading

import pytest
from ws_client import Frame

import uwserve

pytestmark = pytest.mark.wss


@pytest.fixture
def pair(serving):
    live = serving()
    client, ws = live.open()
    return live, client, ws


@pytest.mark.parametrize(
    ("name", "args", "answer", "wire"),
    [
        ("send", ("héllo",), 6, Frame(1, "héllo".encode())),
        ("send", (b"bytes",), 5, Frame(2, b"bytes")),
        ("send", ("",), 0, Frame(1, b"")),
        ("send_text", ("text",), 4, Frame(1, b"text")),
        ("send_binary", (b"b" * 100_000,), 100_000, Frame(2, b"b" * 100_000)),
        ("ping", (b"p",), 1, Frame(9, b"p")),
        ("pong", (b"p",), 1, Frame(10, b"p")),
        ("close", (4000, "r"), None, Frame(8, b"\x0f\xa0r")),
    ],
)
def test_handed_over(pair, name, args, answer, wire):
    """Queued with the payload's size as the answer, and done."""
    _live, client, ws = pair
    assert getattr(ws, name)(*args) == answer
    assert client.read_frame() == wire


def test_terminate_and_pause_handed_over(pair):
    live, client, ws = pair
    ws.pause()
    client.send("x")
    for _ in range(10):
        live.no_events()
    ws.resume()
    assert live.expect("message")[1] == "x"
    ws.terminate()
    assert live.expect_close() == (1006, "")
    client.expect_end()


def test_subscribe_and_publish_handed_over(pair):
    """subscribe, publish and server.publish from here: in the order of the calls."""
    live, client, ws = pair
    _, other = live.open()
    assert ws.subscribe("t") is True
    assert live.server.publish("t", "1") == 1
    assert other.publish("t", "22") == 2
    assert other.publish_text("t", "3") == 1
    assert other.publish_binary("t", b"4") == 1
    assert ws.publish("t", "to others only") == 14
    assert live.server.publish("t", b"5" * 50000) == 50000
    assert client.read_messages(5) == ["1", "22", "3", b"4", b"5" * 50000]


REFUSED = [
    ("cork", lambda live, ws: ws.cork(lambda ws: None)),
    ("unsubscribe", lambda live, ws: ws.unsubscribe("t")),
    ("is_subscribed", lambda live, ws: ws.is_subscribed("t")),
    ("subscriptions", lambda live, ws: ws.subscriptions),
    ("buffered_amount", lambda live, ws: ws.buffered_amount),
    ("buffered_amount", lambda live, ws: ws.get_buffered_amount()),
    ("subscriber_count", lambda live, ws: live.server.subscriber_count("t")),
]


@pytest.mark.parametrize(("name", "call"), REFUSED)
def test_refused(pair, name, call):
    """RuntimeError that names the call and both threads; nothing happened to the socket."""
    live, client, ws = pair
    caught: list[BaseException] = []

    def attempt():
        try:
            call(live, ws)
        except RuntimeError as exc:
            caught.append(exc)

    thread = threading.Thread(target=attempt, name="a-foreign-thread")
    thread.start()
    thread.join()
    message = str(caught[0])
    assert name in message
    assert "'a-foreign-thread'" in message
    assert "'uwserve'" in message
    client.round_trip()


def test_upgrade_and_answers_refused(serving):
    """Request methods belong to the server's thread."""
    kept: queue.Queue = queue.Queue()
    release = threading.Event()

    def fetch(request, server):
        kept.put(request)
        release.wait(10)
        return "done"

    live = serving(fetch=fetch)
    client = live.connect(upgrade=False)
    client.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    request = kept.get(timeout=10)
    for call in (
        lambda: live.server.upgrade(request),
        lambda: live.server.request_ip(request),
        lambda: live.server.timeout(request, 5),
    ):
        with pytest.raises(RuntimeError, match="thread"):
            call()
    release.set()
    assert client.read_answer().body == b"done"


def test_plain_reads_from_anywhere(pair):
    """What needs no lock is readable from any thread."""
    live, _client, ws = pair
    assert ws.ready_state == 1
    assert ws.remote_address == "127.0.0.1"
    assert ws.protocol == ""
    assert ws.server is live.server
    ws.binary_type = "bytearray"
    assert ws.binary_type == "bytearray"
    ws.data = "mine"
    assert ws.data == "mine"
    assert live.server.pending_websockets == 1
    assert live.server.running is True


def test_arguments_are_checked_at_once(pair):
    """A bad argument raises here, not on the server's thread."""
    live, client, ws = pair
    for call, error in (
        (lambda: ws.send(5), TypeError),
        (lambda: ws.send_text(b"x"), TypeError),
        (lambda: ws.ping(b"x" * 126), ValueError),
        (lambda: ws.close(5), ValueError),
        (lambda: ws.subscribe(""), ValueError),
        (lambda: live.server.publish("t", None), TypeError),
        (lambda: live.server.call_soon(5), TypeError),
    ):
        with pytest.raises(error):
            call()
    client.round_trip()


def test_queued_data_is_copied(pair):
    """A bytearray may change as soon as send() has returned."""
    live, client, ws = pair
    data = bytearray(b"a" * 1000)
    block, entered = threading.Event(), threading.Event()
    live.server.call_soon(lambda: (entered.set(), block.wait(10)))
    entered.wait(10)
    ws.send(data)
    live.server.publish("t", data)
    data[:] = b"b" * 1000
    data.clear()
    block.set()
    assert client.read_message() == b"a" * 1000


def test_order_of_one_thread(pair):
    """Ten thousand sends of one thread arrive in order."""
    _live, client, ws = pair
    for i in range(10_000):
        ws.send(str(i))
    assert client.read_messages(10_000) == [str(i) for i in range(10_000)]


def test_eight_threads(serving):
    """8 threads send and publish to the same sockets: nothing lost, each thread's own order is kept."""
    live = serving(backpressure_limit=0)
    pairs = [live.open() for _ in range(4)]
    for _, ws in pairs:
        ws.subscribe("t")
    count = 2000

    def work(thread: int):
        for i in range(count):
            if i % 2:
                live.server.publish("t", f"{thread}.{i}")
            else:
                for _, ws in pairs:
                    ws.send(f"{thread}.{i}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for client, _ in pairs:
        seen = [0] * 8
        for _ in range(8 * count):
            thread, _, number = client.read_message().partition(".")
            assert int(number) == seen[int(thread)]
            seen[int(thread)] += 1
    for thread in threads:
        thread.join()


def test_call_soon(serving, logged):
    """Runs on the loop's thread, in order, with its arguments; what it raises is logged and harms nothing."""
    live = serving()
    seen: queue.Queue = queue.Queue()
    for i in range(100):
        live.server.call_soon(lambda *args: seen.put((*args, threading.current_thread().name)), i, "x")
    assert [seen.get(timeout=10) for _ in range(100)] == [(i, "x", "uwserve") for i in range(100)]
    live.server.call_soon(lambda: 1 / 0)
    live.on_loop(lambda: None)
    assert "ZeroDivisionError" in "".join(logged)
    assert "call_soon" in "".join(logged)


def test_call_soon_from_itself(serving):
    """A chain of call_soon does not starve sockets."""
    live = serving(message=lambda ws, message: ws.send(message))
    client = live.connect()
    going = [True]

    def again():
        if going[0]:
            live.server.call_soon(again)

    live.server.call_soon(again)
    for i in range(50):
        client.send(str(i))
        assert client.read_message() == str(i)
    going[0] = False


def test_before_and_after_the_run():
    """call_soon before run is kept for it; afterwards it raises; publish answers 0."""
    server = uwserve.serve(port=0, hostname="127.0.0.1", fetch=lambda r: "x")
    seen = threading.Event()
    server.call_soon(seen.set)
    server.start()
    assert seen.wait(10)
    server.stop(True).wait(10)
    server._control.join(10)
    with pytest.raises(RuntimeError, match="ended"):
        server.call_soon(seen.set)
    assert server.publish("t", "x") == 0
    assert server.stop().wait(1)


def test_calls_while_the_handler_blocks(serving):
    """Calls from here return at once although a handler holds the loop; they happen after it, in order."""
    entered, block = threading.Event(), threading.Event()

    def message(ws, text):
        entered.set()
        block.wait(10)
        ws.send("handler")

    live = serving(message=message)
    client, ws = live.open()
    client.send("go")
    assert entered.wait(10)
    ws.send("1")
    ws.close(4000, "2")
    ws.send("3")
    block.set()
    assert client.read_messages(2) == ["handler", "1"]
    assert client.read_close() == (4000, "2")
    client.expect_end()


def test_stop_from_other_threads(serving):
    """stop(True) from eight threads at once, with traffic: one end, every close once."""
    live = serving(message=lambda ws, message: ws.send(message))
    pairs = [live.open() for _ in range(50)]
    for client, _ in pairs:
        client.send("x")
    threads = [threading.Thread(target=lambda: live.server.stop(True)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client, _ in pairs:
        client.read_to_end()
        client.close()
    assert live.server.stop().wait(10)
    closes = [event for event in live.events.queue if event[0] == "close"]
    assert len({event[1] for event in closes}) == len(closes) == 50


def test_churn_while_other_threads_call(serving):
    """Sockets come and go while threads use whatever handle they find: defined answers only."""
    live = serving(message=lambda ws, message: ws.send(message))
    known: list = []
    stop = threading.Event()
    problems: queue.Queue = queue.Queue()

    def use():
        while not stop.is_set():
            for ws in known[-3:]:
                try:
                    assert ws.send("x") in (0, 1)
                    assert ws.ping() == 0
                    assert ws.subscribe("t") in (True, False)
                    live.server.publish("t", "y")
                    if ws.ready_state == 1:
                        ws.close(4000)
                except BaseException as exc:
                    problems.put(exc)
                    return

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        client = live.connect()
        known.append(live.wait_for("open")[0])
        while client.read_frame().opcode != 8:
            pass
        client.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems.empty(), problems.get()
    known.clear()


def test_last_reference_dropped_elsewhere(serving):
    """The last reference to a handle, and to ws.data with a finaliser, dropped on another thread."""
    live = serving()
    names = []

    class Data:
        def __del__(self):
            names.append(threading.current_thread().name)

    client = live.connect()
    box = [live.expect("open")[0]]
    box[0].data = Data()
    client.send_close()
    client.read_close()
    box.append(live.expect("close"))
    live.on_loop(lambda: None)
    thread = threading.Thread(target=box.clear, name="dropper")
    thread.start()
    thread.join()
    assert names == ["dropper"]


def test_other_python_threads_run_while_busy(serving):
    """The loop gives the GIL away while it waits, and in time while it is flooded."""
    live = serving(message=lambda ws, message: ws.send(message))
    client = live.connect()
    ticks = [0]
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(200):
        client.send("x")
        assert client.read_message() == "x"
    stop.set()
    thread.join()
    assert ticks[0] > 100
