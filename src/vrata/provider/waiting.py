"""Waits for load balancers that the cloud is busy with: one question for all of them, however many there are."""

import asyncio
from collections.abc import Callable

import aiohttp
import structlog

from vrata.base import clock
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.model import PENDING
from vrata.provider.observe import observe_statuses

POLL_S = 0.05
COST = 4.0  # of the time between two questions, answers may take so much less
RETRY_S = 2.0

log = structlog.get_logger(__name__)


class Waiting:
    """`due` is called with the key of whoever waits once its load balancer is busy no more, or gone."""

    def __init__(self, cloud: Cloud, due: Callable[[str], None]) -> None:
        self._cloud = cloud
        self._due = due
        self._ids: dict[str, set[str]] = {}  # load balancer -> keys
        self._some = asyncio.Event()

    def wait_for(self, balancer_id: str, key: str) -> None:
        """Tell the key when this load balancer can be changed again."""
        self._ids.setdefault(balancer_id, set()).add(key)
        self._some.set()

    def waits(self) -> int:
        """How many load balancers are waited for."""
        return len(self._ids)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(POLL_S)
            began_s = clock.monotonic_s()
            asked = set(self._ids)
            try:
                statuses = await observe_statuses(self._cloud, asked)
            except (CloudError, aiohttp.ClientError, OSError) as error:
                log.warning("load balancers not read", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            for balancer_id in asked:
                if statuses.get(balancer_id) not in PENDING:
                    for key in self._ids.pop(balancer_id, ()):
                        self._due(key)
            if not self._ids:
                self._some.clear()
            await asyncio.sleep((clock.monotonic_s() - began_s) * (COST if len(asked) > 1 else 0))
