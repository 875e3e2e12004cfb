"""Writes Ingress statuses, and who keeps which host, in the background; routing never waits for it.

Of several replicas the holder of a Lease writes. All of them would write the same, so that nothing is wrong while two
believe that they hold it: the Lease spares the API server the other's writes, and no replica ends when it loses it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog

from vrata.ingress.holdings import record_of
from vrata.ingress.status import addresses, plan_status
from vrata.kube.client import FIELD_MANAGER, ApiError, Kube
from vrata.kube.lease import Leadership, LeaseLost
from vrata.kube.objects import Ingress, Service
from vrata.kube.resources import CONFIG_MAPS, INGRESSES

RETRY_S = 2.0

log = structlog.get_logger(__name__)


class StatusWriter:
    """Holds the last wanted statuses and writes the differences, if there is a Lease only while it is ours."""

    def __init__(self, kube: Kube, publish_service: str, leadership: Leadership | None = None) -> None:
        self._kube = kube
        self.publish_service = publish_service
        self._leadership = leadership
        self._due = asyncio.Event()
        self._ours: frozenset[str] = frozenset()
        self._ingresses: Mapping[str, Ingress] = {}
        self._wanted: list[dict[str, Any]] = []
        self._record: dict[str, Any] | None = None

    def is_writing(self) -> bool:
        """Whether statuses are this replica's to write."""
        return self._leadership is None or self._leadership.is_held()

    def record(self, content: dict[str, Any] | None) -> None:
        """What the ConfigMap of `vrata.ingress.holdings` shall have from now on; None: what it has."""
        self._record = content
        self._due.set()

    def set(self, ours: frozenset[str], ingresses: Mapping[str, Ingress], services: Mapping[str, Service]) -> None:
        """Take over what is served now and where."""
        self._ours, self._ingresses = ours, ingresses
        self._wanted = addresses(services.get(self.publish_service))
        self._due.set()

    async def run(self) -> None:
        """Write until cancelled; whoever serves nothing yet does not ask for the Lease."""
        await self._due.wait()
        if self._leadership is None:
            await self._work()
        while self._leadership:
            try:
                await self._leadership.run(self._work)
            except LeaseLost as error:
                log.warning("statuses are another replica's now", error=str(error))

    async def _work(self) -> None:
        self._due.set()  # what the holder before us left undone
        while True:
            await self._due.wait()
            self._due.clear()
            await self._write_record()
            for key, target in plan_status(self._ours, self._ingresses, self._wanted, FIELD_MANAGER).items():
                try:
                    await self._write(key, target)
                except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                    log.warning("status not written", ingress=key, error=str(error))
                    asyncio.get_running_loop().call_later(RETRY_S, self._due.set)

    async def _write_record(self) -> None:
        content, self._record = self._record, None
        if content is None:
            return
        namespace, _, name = record_of(self.publish_service).partition("/")
        try:
            try:
                await self._kube.patch(CONFIG_MAPS, name, content, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                await self._kube.create(CONFIG_MAPS, {"metadata": {"name": name}} | content, namespace)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("owners of hosts not written", config_map=f"{namespace}/{name}", error=str(error))
            self._record = self._record or content
            asyncio.get_running_loop().call_later(RETRY_S, self._due.set)

    async def _write(self, key: str, target: list[dict[str, Any]]) -> None:
        namespace, _, name = key.partition("/")
        body = {"status": {"loadBalancer": {"ingress": target or None}}}
        try:
            await self._kube.patch(INGRESSES, name, body, namespace, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
