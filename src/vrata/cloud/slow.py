"""Threads for work that costs processor time: hashing passwords, reading key material and long bodies of tenants.

They run at a low priority and outside of every transaction. Each owner (a user, a client address) has one job at a time,
so a flood by one delays that one; the lowest rank comes first, so a flood by those who failed delays those. More than a
bound waiting is refused with 429 and Retry-After: the highest rank first.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

NICE = 5
PER_OWNER = 16  # jobs of one owner that wait or run
IN_ALL = 256
RETRY_AFTER_S = 2
KNOWN = -1  # rank of who has proved already who they are; others have the number of their failures


class Busy(Exception):
    """Too much is waiting; `retry_after_s` says when to try again."""

    retry_after_s = RETRY_AFTER_S


@dataclass(frozen=True)
class Slow:
    """What a first try leaves: work that takes long, and has its turn among others of its kind."""

    work: Callable[[], Any]


@dataclass(eq=False)
class _Job:
    owner: str
    rank: int
    since: int  # when it could start for all its owner does: one more for each job that came or ended
    started: asyncio.Future[None]


class SlowWork:
    """A bounded pool; belongs to the event loop that uses it."""

    def __init__(self, name: str, threads: int, per_owner: int = PER_OWNER) -> None:
        self._per_owner = per_owner
        self._pool = ThreadPoolExecutor(threads, name, initializer=_step_back)
        self._free = threads
        self._running: set[str] = set()  # owners
        self._waiting: list[_Job] = []  # in the order they came
        self._now = 0

    @contextlib.asynccontextmanager
    async def turn(self, owner: str, rank: int = KNOWN) -> AsyncIterator[None]:
        """One of as many turns as there are threads; Busy if the owner, or everybody together, has too much waiting."""
        self._make_room(owner, rank)
        self._now += 1
        job = _Job(owner, rank, self._now, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._start()
        try:
            await job.started
            yield
        finally:
            if job in self._waiting:  # cancelled, or put off for somebody else
                self._waiting.remove(job)
            elif not job.started.cancelled() and job.started.exception() is None:
                self._end(owner)

    def _make_room(self, owner: str, rank: int) -> None:
        if sum(job.owner == owner for job in self._waiting) + (owner in self._running) >= self._per_owner:
            raise Busy
        if len(self._waiting) + len(self._running) < IN_ALL:
            return
        last = max(reversed(self._waiting), key=lambda job: job.rank)
        if last.rank <= rank:
            raise Busy
        self._waiting.remove(last)
        last.started.set_exception(Busy())

    def _start(self) -> None:
        while self._free:
            ready = (job for job in self._waiting if job.owner not in self._running and not job.started.done())
            first = min(ready, key=lambda job: (job.rank, job.since), default=None)
            if first is None:
                return
            self._waiting.remove(first)
            self._running.add(first.owner)
            self._free -= 1
            first.started.set_result(None)

    def _end(self, owner: str) -> None:
        self._free += 1
        self._running.remove(owner)
        self._now += 1
        for job in self._waiting:
            if job.owner == owner:
                job.since = self._now  # others go between
        self._start()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns; only during a turn."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def run(self, owner: str, work: Callable[[], T], rank: int = KNOWN) -> T:
        """What `work` returns, in a turn of its own."""
        async with self.turn(owner, rank):
            return await self.in_thread(work)

    def close(self) -> None:
        """Start nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def hashing_threads() -> int:
    """Half of the processors: the other half answers requests."""
    return max(1, (os.cpu_count() or 1) // 2)


def _step_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
