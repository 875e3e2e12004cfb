"""The key queue: every key once, again if added meanwhile, later if it failed."""

import asyncio

import pytest
import structlog

from vrata.base.errors import InvalidInput
from vrata.loop.queue import BACKOFF_MAX_S, SETTLED, Requeue, WorkQueue, backoff_s, work

DEADLINE_S = 30.0


async def test_a_key_added_twice_comes_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    assert await queue.get() == "b"
    assert len(queue) == 2


async def test_a_key_added_while_worked_on_comes_again_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.get()
    queue.done(key)
    assert await queue.get() == "a"


async def test_an_earlier_date_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60.0)
    queue.add_after("a", 0.001)
    queue.add_after("a", 60.0)
    async with asyncio.timeout(DEADLINE_S):
        assert await queue.get() == "a"


def test_backoff_grows_and_is_bounded() -> None:
    assert backoff_s(1) < backoff_s(4) < backoff_s(8)
    assert backoff_s(10_000) <= BACKOFF_MAX_S


async def test_one_failing_key_does_not_stop_the_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    seen: list[str] = []
    finished = asyncio.Event()

    async def reconcile(key: str) -> Requeue:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 3:
            raise OSError("not now")
        if key == "hopeless":
            raise InvalidInput("field", "value", "change it")
        if {"good", "hopeless"} <= set(seen) and seen.count("bad") == 3:
            finished.set()
        return SETTLED

    for key in ("bad", "hopeless", "good"):
        queue.add(key)
    worker = asyncio.create_task(work(queue, reconcile, workers=2))
    async with asyncio.timeout(DEADLINE_S):
        await finished.wait()
    worker.cancel()
    assert seen.count("hopeless") == 1, "what cannot heal is not retried until it changes"


async def test_a_pass_may_ask_to_be_called_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    passes = 0
    enough = asyncio.Event()

    async def reconcile(_key: str) -> Requeue:
        nonlocal passes
        passes += 1
        if passes == 3:
            enough.set()
        return Requeue(after_s=0.001)

    queue.add("a")
    worker = asyncio.create_task(work(queue, reconcile))
    async with asyncio.timeout(DEADLINE_S):
        await enough.wait()
    worker.cancel()


async def test_all_lines_of_a_pass_have_one_id_and_no_two_passes_share_it() -> None:
    queue: WorkQueue[str] = WorkQueue()

    async def reconcile(key: str) -> Requeue:
        structlog.get_logger().info("at work", key=key)
        await asyncio.sleep(0)
        raise InvalidInput("field", key, "change it")

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        for key in ("a", "b"):
            queue.add(key)
        worker = asyncio.create_task(work(queue, reconcile, workers=2))
        async with asyncio.timeout(DEADLINE_S):
            while len(lines) < 4:
                await asyncio.sleep(0.001)
        worker.cancel()

    ids = {key: {line["pass_id"] for line in lines if line["key"] == key} for key in ("a", "b")}
    assert [len(found) for found in ids.values()] == [1, 1]
    assert ids["a"] != ids["b"]


async def test_a_key_that_was_due_can_be_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.discard("a")
    assert await queue.get() == "b"
    assert len(queue) == 1
