"""A local copy of one collection, kept true by list and watch (the reflector of Kubernetes' client libraries).

A watch that ends is taken up again from the last resource version; 410 Gone, or an error in the stream, leads to a
new list whose difference to the copy is reported as changes, so no deletion is lost. Between failures it waits, with
jitter and a bound.

An object that cannot be decoded never stops the others. It is reported, and the copy keeps what was read of it last,
until a later version can be read or it is deleted.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import aiohttp
import msgspec
import structlog

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.kube.client import ApiError, Kube, Resource, Unreadable, WatchEvent
from vrata.kube.objects import ObjectMeta
from vrata.loop.queue import backoff_s

RETRY_MAX_S = 10.0
FAILING_S = 30.0  # a server that restarts is back by then

log = structlog.get_logger(__name__)


class HasMetadata(Protocol):
    """Any projection."""

    @property
    def metadata(self) -> ObjectMeta: ...


T = TypeVar("T", bound=HasMetadata)
Handler = Callable[[T | None, T | None], None]
UnreadableHandler = Callable[[Resource, Unreadable], None]


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
        self.unreadable: dict[str, Unreadable] = {}  # by key, as `objects`
        self.resource = resource
        self._kube = kube
        self._type: type[T] = type_
        self._namespace = namespace
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._metadata_only = metadata_only
        self._handlers: list[Handler[T]] = []
        self._unreadable_handlers: list[UnreadableHandler] = []
        self._version = ""
        self._failing_since_s: float | None = None  # monotonic
        self._last_error = ""

    def on_change(self, handler: Handler[T]) -> None:
        """Call `handler(old, new)` after each change of the copy; it must not block."""
        self._handlers.append(handler)

    def on_unreadable(self, handler: UnreadableHandler) -> None:
        """Call `handler(resource, unreadable)` for each version of an object that cannot be decoded."""
        self._unreadable_handlers.append(handler)

    def not_ready_reason(self) -> str:
        """Why the copy may be out of date; empty if it is not."""
        if not self.synced.is_set():
            return f"{self.resource.plural} not read yet" + (f": {self._last_error}" if self._last_error else "")
        failing_s = 0.0 if self._failing_since_s is None else monotonic_s() - self._failing_since_s
        return f"watch of {self.resource.plural} fails: {self._last_error}" if failing_s >= FAILING_S else ""

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
                self._note_failure(error, failures)
                await asyncio.sleep(backoff_s(failures, max_s=RETRY_MAX_S))

    def _note_failure(self, error: Exception, failures: int) -> None:
        self._last_error = str(error) or type(error).__name__
        if self._failing_since_s is None:
            self._failing_since_s = monotonic_s()
        # A server that restarts makes one failure; log only one that lasts, or that is ours.
        lasting = failures in (3, 30) or isinstance(error, (ValueError, msgspec.MsgspecError, VrataError))
        if lasting:
            log.warning("watch failed", resource=self.resource.plural, error=self._last_error)

    async def _list(self) -> None:
        found = await self._kube.list(
            self.resource, self._type, self._namespace, metadata_only=self._metadata_only, **self._selectors
        )
        listed = {item.metadata.key: item for item in found.objects}
        unreadable = {item.metadata.key for item in found.unreadable}
        for key in [key for key in self.objects if key not in listed and key not in unreadable]:
            self._store(key, None)
        for key in [key for key in self.unreadable if key not in unreadable]:
            del self.unreadable[key]
        for key, item in listed.items():
            old = self.objects.get(key)
            if old is None or old.metadata.resource_version != item.metadata.resource_version:
                self._store(key, item)
        for one in found.unreadable:
            self._note_unreadable(one)
        self._version = found.resource_version
        self._failing_since_s = None

    async def _watch(self) -> None:
        watch = self._kube.watch(
            self.resource,
            self._type,
            self._version,
            self._namespace,
            metadata_only=self._metadata_only,
            **self._selectors,
        )
        async for event in watch:
            self._failing_since_s = None
            self._version = self._take(event) or self._version

    def _take(self, event: WatchEvent[T]) -> str:
        """Bring the copy up to date with an event; the resource version that it is of."""
        found = event.object
        if found is None:
            return event.bookmark
        key = found.metadata.key
        if event.type == "DELETED":
            self.unreadable.pop(key, None)
            self._store(key, None)
        elif isinstance(found, Unreadable):
            self._note_unreadable(found)
        else:
            self.unreadable.pop(key, None)
            self._store(key, found)
        return found.metadata.resource_version

    def _note_unreadable(self, found: Unreadable) -> None:
        key, known = found.metadata.key, self.unreadable.get(found.metadata.key)
        self.unreadable[key] = found
        if known != found:
            log.warning("object cannot be read", resource=self.resource.plural, object=key, error=found.error)
            for handler in self._unreadable_handlers:
                handler(self.resource, found)

    def _store(self, key: str, new: T | None) -> None:
        old = self.objects.get(key)
        if new is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = new
        for handler in self._handlers:
            handler(old, new)
