"""``publish`` returns what becomes of the message, for each size, way and place, checked by the receivers."""

from __future__ import annotations

import contextlib
import random
import threading
from typing import Any

import pytest
from deflate_client import DeflateClient
from ws_client import ConnectionEnded

pytestmark = pytest.mark.wss

KIB = 1024
LIMIT = 64 * KIB
PLACES = ("loop", "handler", "cork", "other cork")
WAYS = ("server", "publish", "publish_text", "publish_binary")
noise = random.Random(14).randbytes(1 << 20)


def numbered(number: int, size: int, text: bool) -> Any:
    """A message that says which one it is, and does not compress to nothing."""
    if text:
        return f"{number:08}".ljust(size, "x")[: max(size, 8)]
    return number.to_bytes(4, "big") + noise[number % 1000 :][: max(size, 8) - 4]


def number_of(message: Any) -> int:
    return int(message[:8]) if isinstance(message, str) else int.from_bytes(message[:4], "big")


def publisher(way: str, live: Any, ws: Any, **options: Any) -> Any:
    """``publish(message)``, by the server or by a socket that is not subscribed."""
    call = live.server.publish if way == "server" else getattr(ws, way)
    return lambda message: call("t", message, **options)


def in_place(place: str, live: Any, ws: Any, other: Any, turn: Any) -> Any:
    """Run ``turn()`` there, in one turn of the loop; its value."""
    if place == "loop":
        return live.on_loop(turn)
    if place in ("cork", "other cork"):
        return live.on_loop((ws if place == "cork" else other).cork, lambda _: turn())
    done: list = []
    ws.data = lambda: done.append(turn())
    live.clients[0].send("go")
    live.wait_for("message")
    live.on_loop(lambda: None)
    return done[0]


def numbers_until_end(client: Any, live: Any, ws: Any) -> list[int]:
    """What the client was sent. It reads meanwhile, so that there is room for a last message."""
    numbers: list[int] = []

    def finish() -> None:
        while live.on_loop(ws.get_buffered_amount) > 0:
            ready.wait(0.001)
        live.on_loop(ws.send, "<end>")

    ready = threading.Event()
    thread = threading.Thread(target=finish)
    thread.start()
    while (message := client.read_message()) != "<end>":
        numbers.append(number_of(message))
    thread.join()
    return numbers


class Told:
    """Publish turn after turn, and remember for each answer which messages got it."""

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self.sizes: dict[int, int] = {}

    def turn(self, publish: Any, size: int, count: int, text: bool) -> None:
        for _ in range(count):
            number = len(self.answers)
            message = numbered(number, size, text)
            self.sizes[number] = len(message)
            self.answers[number] = publish(message)

    def having(self, *answers: int) -> list[int]:
        return [number for number, answer in self.answers.items() if answer in answers]

    def check(self, slow: list[list[int]], dropped: int) -> None:
        """Every subscriber got what was not answered with 0; of the others, one lost a copy; each is counted."""
        assert all(answer in (0, -1, self.sizes[number]) for number, answer in self.answers.items())
        told_lost = set(self.having(0))
        lost = [set(self.answers) - set(numbers) for numbers in slow]
        assert all(numbers == sorted(set(numbers)) for numbers in slow)
        assert set().union(*lost) == told_lost
        assert sum(map(len, lost)) == dropped


def slow_room(serving: Any, receivers: int, **options: Any) -> Any:
    """A publisher, another socket, and receivers of which the last reads nothing for now."""
    run = lambda ws, _message: ws.data()  # noqa: E731
    live = serving(message=run, backpressure_limit=LIMIT, idle_timeout=0, **options)
    _, ws = live.open("/publisher")
    _, other = live.open("/other")
    pairs = [live.open(f"/{i}", receive_buffer=4096 if i == receivers - 1 else None) for i in range(receivers)]
    live.on_loop(lambda: [socket.subscribe("t") for _, socket in pairs])
    return live, ws, other, pairs


@pytest.mark.parametrize("turn", [1, 10, 100])
@pytest.mark.parametrize("size", [8, 1000, 8000, 16 * KIB - 11, 16 * KIB - 1, 16 * KIB, 20_000, 64 * KIB, 64 * KIB + 1])
def test_every_size(serving, size, turn):
    """One subscriber that does not read: a length or -1 arrives, 0 does not."""
    live, ws, other, [(client, slow)] = slow_room(serving, 1)
    told = Told()
    total = 8_000_000 // size if size > 8 else 30_000
    for _ in range(max(1, min(total, 6000) // turn)):
        in_place("loop", live, ws, other, lambda: told.turn(publisher("server", live, ws), size, turn, False))
        assert live.on_loop(slow.get_buffered_amount) <= LIMIT + size + 16
    if size >= 1000:
        assert told.having(0)
        assert told.having(-1) or turn > 1  # what a turn has queued may fill the backlog at once
    dropped = live.on_loop(live.server.stats)["dropped_sends"]
    told.check([numbers_until_end(client, live, slow)], dropped)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [8000, 20_000])
def test_every_way_and_place(serving, way, place, size):
    """By the server and by a socket, as text and as bytes, with and without a cork; the others get everything."""
    live, ws, other, pairs = slow_room(serving, 5)
    told = Told()
    fast: list[list[int]] = [[] for _ in pairs[:-1]]
    publish = publisher(way, live, ws)
    for _ in range(600 * 8000 // size // 10):
        in_place(place, live, ws, other, lambda: told.turn(publish, size, 10, way == "publish_text"))
        for numbers, (client, _) in zip(fast, pairs, strict=False):
            numbers += [number_of(message) for message in client.read_messages(10)]
    assert told.having(0)
    assert all(numbers == list(told.answers) for numbers in fast)
    dropped = live.on_loop(live.server.stats)["dropped_sends"]
    client, slow = pairs[-1]
    told.check([numbers_until_end(client, live, slow)], dropped)


@pytest.mark.parametrize("compress", ["plain", "shared", "own context"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_mixed(serving, seed, compress):
    """All sizes and kinds, sends and pings between, two slow readers, one that never reads: every result is true."""
    chance = random.Random(seed)
    settings = {} if compress == "plain" else {"per_message_deflate": True}
    if compress == "own context":
        settings = {"per_message_deflate": {"compress": "8KB", "decompress": "shared"}}
    live = serving(backpressure_limit=LIMIT, idle_timeout=0, **settings)
    _, publishing = live.open("/publisher")
    clients = [
        live.open(f"/{i}", receive_buffer=4096) if compress == "plain" else deflated(live, f"/{i}") for i in range(3)
    ]
    live.on_loop(lambda: [ws.subscribe("t") for _, ws in clients])
    told = Told()
    direct: list[dict[int, int]] = [{} for _ in clients]  # sent to one, by number
    got: list[list[int]] = [[] for _ in clients]

    def turn() -> None:
        for _ in range(chance.choice((1, 5, 40))):
            size = chance.choice((8, 200, 3000, 8000, 16 * KIB - 1, 16 * KIB, 30_000, 70_000))
            text = chance.random() < 0.5
            if chance.random() < 0.8:
                way = chance.choice(("server", "publish"))
                told.turn(publisher(way, live, publishing, compress=chance.random() < 0.7), size, 1, text)
            else:
                i = chance.randrange(3)
                number = len(told.answers) * 100 + len(direct[i]) % 100 + (i + 1) * 10_000_000
                direct[i][number] = clients[i][1].send(numbered(number, size, text), compress=chance.random() < 0.5)

    for _ in range(60):
        if chance.random() < 0.5:
            live.on_loop(turn)
        else:
            live.on_loop(clients[chance.randrange(3)][1].cork, lambda _: turn())
        for i, (client, ws) in enumerate(clients[:2]):
            while chance.random() < 0.9 and live.on_loop(ws.get_buffered_amount):
                got[i].append(number_of(client.read_message()))
    for i, (client, ws) in enumerate(clients):
        got[i] += numbers_until_end(client, live, ws)
    assert told.having(0)
    published = [[number for number in numbers if number < 10_000_000] for numbers in got]
    refused = sum(list(answers.values()).count(0) for answers in direct)
    told.check(published, live.on_loop(live.server.stats)["dropped_sends"] - refused)
    for answers, numbers in zip(direct, got, strict=True):
        assert [n for n in numbers if n >= 10_000_000] == [n for n, answer in answers.items() if answer]


def deflated(live: Any, path: str) -> Any:
    client = DeflateClient(("127.0.0.1", live.server.port), path, receive_buffer=4096)
    live.clients.append(client)
    return client, live.expect("open")[0]


def test_memory_of_all(serving):
    """max_buffered_bytes is used up: 0 when a copy would have to be kept, and earlier promises are kept."""
    live = serving(backpressure_limit=0, limits={"max_buffered_bytes": 512 * KIB})
    pairs = [live.open(f"/{i}", receive_buffer=4096) for i in range(4)]
    live.on_loop(lambda: [ws.subscribe("t") for _, ws in pairs])
    told = Told()
    for size in (1000, 8000, 20_000) * 60:
        live.on_loop(told.turn, publisher("server", live, None), size, 10, False)
    # A socket without backlog is tried with up to 16 KiB, however short memory is.
    assert live.on_loop(live.server.stats)["buffered_bytes"] <= 512 * KIB + 4 * 16 * KIB
    assert told.having(0)
    got = [numbers_until_end(client, live, ws) for client, ws in pairs]
    told.check(got, live.on_loop(live.server.stats)["dropped_sends"])


@pytest.mark.parametrize("size", [8000, 20_000])
def test_close_on_backpressure_limit(serving, size):
    """The first message without room is answered with 0, and so is all that follows; the connection ends with 1006."""
    live, _ws, _other, [(client, slow)] = slow_room(serving, 1, close_on_backpressure_limit=True)
    told = Told()
    publish = publisher("server", live, None)

    def turn() -> int:
        told.turn(publish, size, 10, False)
        return slow.send("x") if told.having(0) else 1

    while not told.having(0):
        sent = live.on_loop(turn)
    assert told.having(0) == [n for n in told.answers if n >= told.having(0)[0]]
    assert sent == 0
    assert live.expect_close()[0] == 1006
    assert live.on_loop(publish, "x") == 0
    got: list[int] = []
    with contextlib.suppress(ConnectionEnded):
        for _ in told.answers:
            got.append(number_of(client.read_message()))  # noqa: PERF401 (what came before the end counts)
    assert got == list(range(len(got)))
    assert len(got) < len(told.answers)


def test_small_answers(serving):
    """No subscriber, the publisher alone, an empty message, a last subscriber that leaves; from a closed socket."""
    live, ws, _other, [(client, subscriber)] = slow_room(serving, 1)
    publish = live.server.publish

    def turn() -> list[int]:
        answers = [publish("nobody", "x"), subscriber.publish("t", "x"), publish("t", ""), publish("t", "x")]
        ws.terminate()
        return [*answers, ws.publish("t", "y"), subscriber.unsubscribe("t"), publish("t", "z")]

    assert live.on_loop(turn) == [0, 0, 0, 1, 1, True, 0]
    assert client.read_messages(3) == ["", "x", "y"]
    live.on_loop(subscriber.subscribe, "t")
    told = Told()
    while not told.having(-1):
        live.on_loop(told.turn, publisher("server", live, None), 8000, 1, False)
    assert live.on_loop(publish, "t", "") == -1


@pytest.mark.parametrize("way", ["server", "publish"])
def test_from_another_thread(serving, way):
    """The answer there is about the hand-over. What then has no room is counted, every copy; nothing is lost unseen."""
    live, ws, _other, [(client, slow)] = slow_room(serving, 1)
    publish = publisher(way, live, ws)
    answers = [publish(numbered(number, 8000, False)) for number in range(1000)]
    assert answers == [8000] * 1000
    live.on_loop(lambda: None)
    dropped = live.on_loop(live.server.stats)["dropped_sends"]
    got = numbers_until_end(client, live, slow)
    assert dropped > 0
    assert got == sorted(set(got))
    assert len(got) + dropped == 1000
