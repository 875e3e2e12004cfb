"""A queue of keys and the loop that works it off; knows no domain.

Events put keys in, never themselves: a reconcile pass re-reads everything for its key (level, not edge). A key is
handed to one worker at a time; added while it is being worked on, it comes again. A pass says when to look again by
returning `Requeue`, and a failing one comes again after a growing, bounded delay.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from vrata.base.errors import VrataError

K = TypeVar("K", bound=Hashable)

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Requeue:
    """The answer of a pass: look again after so many seconds (`None`: when something changes)."""

    after_s: float | None = None


SETTLED = Requeue()


class WorkQueue(Generic[K]):
    """Keys waiting for a pass; each at most once, in the order in which they became due."""

    def __init__(self) -> None:
        self._ready: dict[K, None] = {}  # a dict keeps insertion order and drops duplicates
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._due = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready) + len(self._active)

    def add(self, key: K) -> None:
        """Make a key due now; a pending later date is forgotten."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._due.set()

    def add_after(self, key: K, delay_s: float) -> None:
        """Make a key due after a delay, unless it is due earlier already."""
        if key in self._ready or key in self._again:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + delay_s:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(delay_s, self.add, key)

    def discard(self, key: K) -> None:
        """Forget that a key is due; a later date stays."""
        self._ready.pop(key, None)

    async def get(self) -> K:
        """Wait for the next due key; the caller must call `done` for it."""
        while not self._ready:
            self._due.clear()
            await self._due.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._active.add(key)
        return key

    def done(self, key: K) -> None:
        """End the pass over a key; one that was added meanwhile becomes due."""
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._ready[key] = None
            self._due.set()

    def succeeded(self, key: K) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    def failed(self, key: K) -> float:
        """Count a failure and make the key due after the backoff it has earned, which is returned (seconds)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = backoff_s(failures)
        self.add_after(key, delay_s)
        return delay_s


def backoff_s(failures: int, max_s: float = BACKOFF_MAX_S) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded, with jitter of a quarter."""
    doubled = BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20)
    return min(doubled, max_s) * random.uniform(0.75, 1.0)


async def work(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[Requeue]],
    *,
    workers: int = 4,
    pass_timeout_s: float = 120.0,
) -> None:
    """Reconcile keys until cancelled. A pass that fails or hangs never stops the other keys; its log lines have one id."""

    async def worker() -> None:
        while True:
            key = await queue.get()
            with structlog.contextvars.bound_contextvars(pass_id=secrets.token_hex(4)):
                await one_pass(key)

    async def one_pass(key: K) -> None:
        try:
            async with asyncio.timeout(pass_timeout_s):
                result = await reconcile(key)
        except Exception as error:  # noqa: BLE001 - one bad object must not stop the others
            _settle_failure(queue, key, error)
        else:
            queue.succeeded(key)
            if result.after_s is not None:
                queue.add_after(key, result.after_s)
        finally:
            queue.done(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())


def _settle_failure(queue: WorkQueue[K], key: K, error: Exception) -> None:
    if isinstance(error, VrataError) and not error.retriable:
        queue.succeeded(key)
        log.warning("not retried until it changes", key=key, error=str(error))
        return
    delay_s = queue.failed(key)
    expected = isinstance(error, (VrataError, OSError, TimeoutError))
    log.warning(
        "pass failed",
        key=key,
        error=str(error) or type(error).__name__,
        retry_s=round(delay_s, 1),
        exc_info=not expected,
    )
