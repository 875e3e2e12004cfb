"""Waits for load balancers that are PENDING: one request for all of them, however many there are.

Those that take longer are polled less often. One that takes very long is reported: only the cloud's operator can change a
load balancer that stays PENDING.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import structlog

from vrata.base import clock
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.model import PENDING
from vrata.provider.observe import observe_statuses

POLL_S = 0.05
SHARE = 20  # of the time that somebody has waited lies between two questions
SLOWEST_S = 5.0
COST = 4.0  # of the time between two questions, answers may take so much less
RETRY_S = 2.0
STUCK_S = 600.0

log = structlog.get_logger(__name__)


@dataclass
class _Wait:
    """Which Services wait for a load balancer, and since when."""

    since_s: float
    keys: set[str] = field(default_factory=set)
    reported: bool = False


class PendingBalancers:
    """Calls `due` with the key of each Service that waits when its load balancer is no longer PENDING, or is gone.

    `stuck` is called once, with the key and the load balancer's id, when that does not happen.
    """

    def __init__(self, cloud: Cloud, due: Callable[[str], None], stuck: Callable[[str, str], None]) -> None:
        self._cloud = cloud
        self._due = due
        self._stuck = stuck
        self._waits: dict[str, _Wait] = {}  # by load balancer
        self._news = asyncio.Event()

    def wait_for(self, balancer_id: str, key: str) -> None:
        """Call `due` with the key when this load balancer can be changed again."""
        wait = self._waits.setdefault(balancer_id, _Wait(clock.monotonic_s()))
        wait.keys.add(key)
        self._news.set()

    def waits(self) -> int:
        """How many load balancers are waited for."""
        return len(self._waits)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            if not self._waits:
                await self._news.wait()
            self._news.clear()
            await asyncio.sleep(POLL_S)
            began_s = clock.monotonic_s()
            try:
                asked = set(self._waits)
                self._look(asked, await observe_statuses(self._cloud, asked))
            except (CloudError, aiohttp.ClientError, OSError) as error:
                log.warning("load balancers not read", error=str(error))
                await asyncio.sleep(RETRY_S)
            cost_s = (clock.monotonic_s() - began_s) * COST if len(self._waits) > 1 else 0.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(cost_s, self._pause_s())):
                    await self._news.wait()

    def _pause_s(self) -> float:
        youngest_s = clock.monotonic_s() - max((one.since_s for one in self._waits.values()), default=0.0)
        return min(youngest_s / SHARE, SLOWEST_S) if self._waits else 0.0

    def _look(self, asked: set[str], statuses: dict[str, str]) -> None:
        for balancer_id in asked:
            wait = self._waits[balancer_id]
            if statuses.get(balancer_id) not in PENDING:
                del self._waits[balancer_id]
                for key in wait.keys:
                    self._due(key)
            elif not wait.reported and clock.monotonic_s() - wait.since_s > STUCK_S:
                wait.reported = True
                for key in wait.keys:
                    self._stuck(key, balancer_id)
