"""Events: what a controller has to say to a person, attached to the object it is about (core/v1 Event).

A repeated event raises the count of the first one instead of adding a row. Recording never blocks or fails the
caller: what cannot be delivered is logged and dropped, and the queue is bounded.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog

from vrata.base import clock
from vrata.kube.client import ApiError, Kube, Resource, Unreadable
from vrata.kube.objects import ObjectMeta
from vrata.kube.resources import EVENTS

QUEUE_MAX = 1000
REMEMBERED_MAX = 4096
MESSAGE_MAX = 1024  # the API's own limit for a note

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class About:
    """The object an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, api_version: str, kind: str, metadata: ObjectMeta) -> "About":
        return cls(api_version, kind, metadata.namespace, metadata.name, metadata.uid)


class Recorder:
    """Sends events in the background; `component` names the controller."""

    def __init__(self, kube: Kube, component: str) -> None:
        self._kube = kube
        self._component = component
        self._queue: asyncio.Queue[tuple[About, str, str, str]] = asyncio.Queue(QUEUE_MAX)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def normal(self, about: About, reason: str, message: str) -> None:
        """Record that something went as it should."""
        self._put(about, "Normal", reason, message)

    def warning(self, about: About, reason: str, message: str) -> None:
        """Record that something did not go as it should, and what to do about it."""
        self._put(about, "Warning", reason, message)

    def unreadable(self, resource: Resource, found: Unreadable) -> None:
        """Record that an object is left out, or left as it was, because it cannot be decoded."""
        if found.metadata.name:
            message = f"this version of the object is ignored: {found.error}; correct that field"
            self.warning(About.of(resource.api_version, resource.kind, found.metadata), "UnreadableObject", message)

    def _put(self, about: About, type_: str, reason: str, message: str) -> None:
        try:
            self._queue.put_nowait((about, type_, reason, message[:MESSAGE_MAX]))
        except asyncio.QueueFull:
            log.warning("event dropped: queue full", object=f"{about.kind}/{about.name}", reason=reason)

    async def run(self) -> None:
        """Deliver events until cancelled."""
        while True:
            about, type_, reason, message = await self._queue.get()
            try:
                await self._deliver(about, type_, reason, message)
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning(
                    "event not delivered", object=f"{about.kind}/{about.name}", message=message, error=str(error)
                )

    async def _deliver(self, about: About, type_: str, reason: str, message: str) -> None:
        identity = "\0".join((about.kind, about.namespace, about.name, about.uid, type_, reason, message))
        name = f"{about.name[:200]}.{hashlib.blake2s(identity.encode(), digest_size=8).hexdigest()}"
        namespace = about.namespace or "default"
        count = self._counts.get(name, 0) + 1
        timestamp = clock.rfc3339(clock.now())
        body = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": timestamp,
            "lastTimestamp": timestamp,
            "count": 1,
        }
        if count == 1:
            count = await self._create_or_find(namespace, name, body)
        if count > 1:
            repeated = {"count": count, "lastTimestamp": timestamp}
            try:
                await self._kube.patch(EVENTS, name, repeated, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                await self._kube.create(EVENTS, body, namespace)
                count = 1
        self._remember(name, count)

    async def _create_or_find(self, namespace: str, name: str, body: dict[str, Any]) -> int:
        """Create the event; after a restart it may exist: then the next count."""
        try:
            await self._kube.create(EVENTS, body, namespace)
        except ApiError as error:
            if error.code != 409:
                raise
            existing = await self._kube.get(EVENTS, dict[str, Any], name, namespace) or {}
            return int(existing.get("count") or 1) + 1
        return 1

    def _remember(self, name: str, count: int) -> None:
        self._counts[name] = count
        self._counts.move_to_end(name)
        while len(self._counts) > REMEMBERED_MAX:
            self._counts.popitem(last=False)
