"""Two tasks or threads that await one messages() iterator: the second gets its RuntimeError, and neither hangs."""

from __future__ import annotations

import asyncio
import gc
import threading

import loops
import pytest
from ws_client import TIMEOUT, eventually

TEXT = r"another task waits for the next message already"


@pytest.fixture
def iterating(serving):
    """A client, its socket, and the iterator over its messages."""

    def make():
        live = serving(only=("open", "close"))
        client, ws = live.open()
        return client, ws, ws.messages()

    return make


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def awaited(awaitable):
    """As a task awaits it."""
    return await awaitable


def outcome(task):
    if task.cancelled():
        return "cancelled"
    return task.exception() or task.result()


async def second_is_refused(first, make):
    """``make()`` is refused while ``first`` waits, which goes on waiting."""
    await settle()
    with pytest.raises(RuntimeError, match=TEXT):
        await asyncio.wait_for(make(), TIMEOUT)
    await settle()
    assert not first.done()


# How a second consumer comes. `made` is a MessageWait from before the first one waited.
SECONDS = {
    "a new one": lambda iterator, made, awaited_by_first: awaited(iterator.__anext__()),
    "made before": lambda iterator, made, awaited_by_first: awaited(made),
    "the same": lambda iterator, made, awaited_by_first: awaited(awaited_by_first),
    "anext with a default": lambda iterator, made, awaited_by_first: awaited(anext(iterator, None)),
    "aclose": lambda iterator, made, awaited_by_first: awaited(iterator.aclose()),
}


@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize("then", ["a message", "the close", "cancelled"])
def test_the_second_is_refused_and_the_first_goes_on(iterating, elsewhere, second, then):
    client, _, iterator = iterating()

    async def run():
        made, used = iterator.__anext__(), iterator.__anext__()
        first = asyncio.ensure_future(awaited(used))
        await second_is_refused(first, lambda: SECONDS[second](iterator, made, used))
        if then == "a message":
            client.send("hello")
        elif then == "the close":
            client.close()
        else:
            first.cancel()
        await asyncio.wait([first], timeout=TIMEOUT)
        result = outcome(first)
        if then == "a message":
            assert result == "hello"
        elif then == "the close":
            assert isinstance(result, (StopAsyncIteration, RuntimeError))  # a Task turns the former into the latter
            assert "another task" not in str(result)
        else:
            assert result == "cancelled"
            client.send("next")
            assert await asyncio.wait_for(iterator.__anext__(), TIMEOUT) == "next"

    elsewhere.run(run())


def test_aclose_made_before_is_refused_while_the_first_waits(iterating, elsewhere):
    client, _, iterator = iterating()

    async def run():
        closing = iterator.aclose()
        first = asyncio.ensure_future(awaited(iterator.__anext__()))
        await second_is_refused(first, lambda: awaited(closing))
        client.send("hello")
        assert await asyncio.wait_for(first, TIMEOUT) == "hello"
        await iterator.aclose()
        with pytest.raises(StopAsyncIteration):
            await iterator.__anext__()

    elsewhere.run(run())


def test_a_message_is_not_taken_from_the_one_that_waits(serving, elsewhere):
    """It has arrived and the first has not run yet: another may not take it."""
    live = serving(only=("open", "close"))
    client, ws = live.open()
    iterator = ws.messages()

    async def run():
        made = iterator.__anext__()
        first = asyncio.ensure_future(awaited(iterator.__anext__()))
        await settle()
        client.send("hello")
        # In one turn of this loop, so that the first cannot run meanwhile.
        eventually(lambda: live.server.stats()["received"]["messages"] == 1)
        live.on_loop(lambda: None)
        with pytest.raises(RuntimeError, match=TEXT):
            made.send(None)
        with pytest.raises(RuntimeError, match=TEXT):
            iterator.__anext__().send(None)
        assert await asyncio.wait_for(first, TIMEOUT) == "hello"

    elsewhere.run(run())


def test_both_start_before_a_message(iterating, elsewhere):
    """Of many tasks that begin together one gets each message, the others are refused."""
    client, _, iterator = iterating()

    async def run():
        waits = [iterator.__anext__() for _ in range(10)]
        tasks = [asyncio.ensure_future(awaited(wait)) for wait in waits]
        await settle()
        assert [task.done() for task in tasks].count(False) == 1
        client.send("one")
        await asyncio.wait(tasks, timeout=TIMEOUT)
        results = [outcome(task) for task in tasks]
        assert results.count("one") == 1
        assert sum(isinstance(result, RuntimeError) for result in results) == 9

    elsewhere.run(run())


def test_after_the_close_nobody_hangs(iterating, elsewhere):
    client, ws, iterator = iterating()
    client.close()

    async def awaited_stop(wait):
        try:
            return await wait
        except StopAsyncIteration:
            raise Stopped from None

    class Stopped(Exception):
        pass

    async def run():
        await asyncio.wait_for(ws.closed(), TIMEOUT)
        for wait in [iterator.__anext__() for _ in range(3)]:
            with pytest.raises(Stopped):
                await asyncio.wait_for(awaited_stop(wait), TIMEOUT)

    elsewhere.run(run())


def test_the_iterator_is_let_go_while_it_is_awaited(iterating, elsewhere):
    """What waits keeps it; when that ends, the messages are the socket's again."""
    client, ws, iterator = iterating()
    holder = [iterator]
    del iterator

    async def run():
        first = asyncio.ensure_future(awaited(holder[0].__anext__()))
        await settle()
        holder.clear()
        gc.collect()
        client.send("hello")
        assert await asyncio.wait_for(first, TIMEOUT) == "hello"
        del first
        await settle()  # what has woken this task refers to the other
        gc.collect()
        again = ws.messages()  # the old one is gone
        client.send("again")
        assert await asyncio.wait_for(again.__anext__(), TIMEOUT) == "again"

    elsewhere.run(run())


@pytest.mark.parametrize("kinds", [("asyncio", "asyncio"), ("asyncio", "uvloop"), ("uvloop", "asyncio")])
def test_two_loops_in_two_threads(iterating, kinds):
    """The second is refused in its own loop; the first goes on in its."""
    if "uvloop" in kinds and loops.uvloop is None:
        pytest.skip("uvloop is not installed")
    client, _, iterator = iterating()
    first_loop, second_loop = (loops.LoopThread(kind) for kind in kinds)
    try:
        used, made = iterator.__anext__(), iterator.__anext__()
        first = first_loop.start(awaited(used))
        for make in (iterator.__anext__, lambda: made, lambda: used, iterator.aclose):

            async def attempt(make=make):
                with pytest.raises(RuntimeError, match=TEXT):
                    await make()

            second_loop.run(attempt())
        client.send("hello")
        assert first.result(TIMEOUT) == "hello"
        client.send("then")
        assert second_loop.run(awaited(iterator.__anext__())) == "then"
    finally:
        first_loop.stop()
        second_loop.stop()


def test_many_threads_race_for_one_iterator(iterating):
    """Whatever the interleaving: each attempt ends, each message is had once."""
    client, _, iterator = iterating()
    count, got, refused = 300, [], []
    threads = [loops.LoopThread("asyncio") for _ in range(4)]

    async def consume() -> None:
        while len(got) < count:
            try:
                got.append(await asyncio.wait_for(awaited(iterator.__anext__()), 0.05))
            except RuntimeError as error:
                refused.append(str(error))
                await asyncio.sleep(0)
            except asyncio.TimeoutError:
                pass

    futures = [asyncio.run_coroutine_threadsafe(consume(), thread.loop) for thread in threads]
    sender = threading.Thread(target=lambda: [client.send(str(i)) for i in range(count)])
    sender.start()
    eventually(lambda: len(got) == count)
    for future in futures:
        future.result(TIMEOUT)
    sender.join()
    for thread in threads:
        thread.stop()
    assert sorted(map(int, got)) == list(range(count))
    assert all(TEXT in text for text in refused)


def test_a_consumer_whose_loop_was_closed_is_no_obstacle(iterating, elsewhere):
    """Its task will never go on: the next one takes its place."""
    client, _, iterator = iterating()
    dead = asyncio.new_event_loop()
    task = dead.create_task(awaited(iterator.__anext__()))
    dead.run_until_complete(settle())
    dead.set_exception_handler(lambda loop, context: None)
    dead.close()
    task._log_destroy_pending = False

    async def run():
        wait = asyncio.ensure_future(awaited(iterator.__anext__()))
        await settle()
        client.send("hello")
        assert await asyncio.wait_for(wait, TIMEOUT) == "hello"

    elsewhere.run(run())
    del task
