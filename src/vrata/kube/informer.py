"""A local copy of one collection, kept true by list and watch (the reflector of Kubernetes' client libraries).

A watch that ends is taken up again from the last resource version; 410 Gone, or an error in the stream, leads to a
new list whose difference to the copy is reported as changes, so no deletion is lost. Between failures it waits, with
jitter and a bound.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import aiohttp
import msgspec
import structlog

from vrata.base.errors import VrataError
from vrata.kube.client import ApiError, Kube, Resource
from vrata.kube.objects import ObjectMeta
from vrata.loop.queue import backoff_s

RETRY_MAX_S = 10.0

log = structlog.get_logger(__name__)


class HasMetadata(Protocol):
    """Any projection."""

    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=HasMetadata)
Handler = Callable[[T | None, T | None], None]


class Informer(Generic[T]):
    """`objects` maps keys to objects; handlers get (old, new), with None for what was not or is no more there."""

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        type_: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        self.objects: dict[str, T] = {}
        self.synced = asyncio.Event()
        self._kube = kube
        self._resource = resource
        self._type: type[T] = type_
        self._namespace = namespace
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._metadata_only = metadata_only
        self._handlers: list[Handler[T]] = []
        self._version = ""

    def on_change(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` after each change of the copy; it must not block."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """Keep the copy true until cancelled."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                    self.synced.set()
                await self._watch()
                failures = 0
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
                if isinstance(error, ApiError) and (error.code == 410 or error.reason in ("Expired", "Gone")):
                    self._version = ""
                    continue
                failures += 1
                self._complain(error, failures)
                await asyncio.sleep(backoff_s(failures, max_s=RETRY_MAX_S))

    def _complain(self, error: Exception, failures: int) -> None:
        # A server that restarts makes one failure; say something only when it lasts, or is our fault.
        lasting = failures in (3, 30) or isinstance(error, (ValueError, msgspec.MsgspecError, VrataError))
        if lasting:
            log.warning("watch failed", resource=self._resource.plural, error=str(error) or type(error).__name__)

    async def _list(self) -> None:
        items, version = await self._kube.list(
            self._resource, self._type, self._namespace, metadata_only=self._metadata_only, **self._selectors
        )
        listed = {item.metadata.key: item for item in items}
        for key in [key for key in self.objects if key not in listed]:
            self._store(key, None)
        for key, item in listed.items():
            old = self.objects.get(key)
            if old is None or old.metadata.resource_version != item.metadata.resource_version:
                self._store(key, item)
        self._version = version

    async def _watch(self) -> None:
        watch = self._kube.watch(
            self._resource,
            self._type,
            self._version,
            self._namespace,
            metadata_only=self._metadata_only,
            **self._selectors,
        )
        async for event in watch:
            if event.object is not None:
                self._store(event.object.metadata.key, None if event.type == "DELETED" else event.object)
            self._version = event.resource_version or self._version

    def _store(self, key: str, new: T | None) -> None:
        old = self.objects.get(key)
        if new is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = new
        for handler in self._handlers:
            handler(old, new)
