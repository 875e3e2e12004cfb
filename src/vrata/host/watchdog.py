"""Notices daemons that are there and do nothing: HAProxy or keepalived stopped, or HAProxy turning without end.

A stopped process is seen in its state (proc(5), /proc/PID/stat, field 3) within one interval. Whether HAProxy answers is
asked through its runtime socket, which the threads that carry traffic serve themselves, and whose connections no limit
refuses. Only silence while the process had its share of the processor counts, and while this agent was there to hear
an answer, so that a busy machine is not taken for a dead proxy. `HUNG_S` is long for the same reason: a failover under
load would only move the load.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.haproxy.runtime import RuntimeClient
from vrata.host.parts import InstanceParts
from vrata.net import daemon

FAST_S = 0.04  # of an active instance
SLOW_S = 0.5  # of a standby
COST_S = 0.001  # at most one look a millisecond over all instances of a host
ASK_S = 0.5
ASK_COST_S = 0.01  # at most a hundred questions a second over all instances of a host
HUNG_S = 1.0


@dataclass(frozen=True)
class Share:
    """How long a process has run and how long it wanted to and could not, seconds since it started."""

    ran_s: float
    waited_s: float


def is_starved(before: Share, after: Share, silent_s: float) -> bool:
    """Whether a process that said nothing for so long was kept from the processor for most of that time."""
    return after.waited_s - before.waited_s > silent_s / 2


def is_busy(before: Share, after: Share, silent_s: float) -> bool:
    """Whether the one who listened had something else to do for most of that time, or wanted to."""
    return after.ran_s - before.ran_s + after.waited_s - before.waited_s > silent_s / 2


class Watchdog:
    """Watches one instance; `haproxy_hangs` and `keepalived_hangs` are called at each look that finds it so."""

    def __init__(
        self,
        parts: InstanceParts,
        *,
        is_active: Callable[[], bool],
        instances: Callable[[], int],
        haproxy_hangs: Callable[[str], None],
        keepalived_hangs: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._runtime = RuntimeClient(parts.haproxy.stats_path, timeout_s=HUNG_S)
        self._is_active = is_active
        self._instances = instances
        self._haproxy_hangs = haproxy_hangs
        self._keepalived_hangs = keepalived_hangs
        self._answered_s = 0.0
        self._known: tuple[int, ...] = ()  # processes as they were a moment ago: finding them takes longer than a look
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._look_on()), loop.create_task(self._ask_on())]

    def answered(self) -> None:
        """Somebody else has just had an answer from HAProxy."""
        self._answered_s = monotonic_s()

    def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(max(FAST_S if self._is_active() else SLOW_S, COST_S * self._instances()))
            if not any(daemon.is_stopped(pid) for pid in self._known):
                continue
            if any(daemon.is_stopped(pid) for pid in self._parts.haproxy.workers()):
                self._haproxy_hangs("stopped")
            if any(daemon.is_stopped(pid) for pid in self._parts.keepalived.pids()):
                self._keepalived_hangs()

    async def _ask_on(self) -> None:
        while True:
            workers = self._parts.haproxy.workers()
            self._known = (*workers, *self._parts.keepalived.pids())
            interval_s = max(ASK_S, ASK_COST_S * self._instances())
            if workers and self._is_active() and monotonic_s() - self._answered_s > interval_s:
                await self._ask(workers[-1])
            await asyncio.sleep(interval_s)

    async def _ask(self, worker: int) -> None:
        before, mine, began_s = share_of(worker), share_of(os.getpid()), monotonic_s()
        with contextlib.suppress(VrataError):
            await self._runtime.ask("show version")
            return
        after, mine_after, silent_s = share_of(worker), share_of(os.getpid()), monotonic_s() - began_s
        if not (before and after and mine and mine_after) or silent_s < HUNG_S:
            return
        if not is_starved(before, after, silent_s) and not is_busy(mine, mine_after, silent_s):
            self._haproxy_hangs(f"no answer for {silent_s:.1f} s")


def share_of(pid: int) -> Share | None:
    """The processor time of a process (proc(5), /proc/PID/schedstat); None if it ended."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return Share(int(ran) / 1e9, int(waited) / 1e9)
