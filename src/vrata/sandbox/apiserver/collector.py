"""Removes what nothing holds any more: dependents of deleted owners, contents of namespaces and of definitions.

The garbage collector and the namespace controller of Kubernetes' controller manager, as one loop over marked work;
it sleeps until a write concerns it. Work is found again from the store when the server restarts.
"""

import asyncio
import contextlib
from collections import deque
from datetime import timedelta
from typing import Final

import structlog

from vrata.base.clock import rfc3339
from vrata.sandbox.apiserver.crd import CLEANUP
from vrata.sandbox.apiserver.deletion import CRDS, FOREGROUND, ORPHAN, Deleter
from vrata.sandbox.apiserver.errors import ApiError, Obj
from vrata.sandbox.apiserver.objects import NAMESPACES, Objects
from vrata.sandbox.apiserver.store import Event, Key, Record

log = structlog.get_logger()
BATCH: Final = 50  # deletions between two turns of the event loop
EVENT_TTL: Final = timedelta(hours=1)  # as the API server's --event-ttl
EXPIRE_EVERY_S: Final = 60.0
RETRY_S: Final = 1.0  # after the store refused a write
Place = tuple[str, Key]


class Collector:
    """Owns the queue of objects to look at again."""

    def __init__(self, objects: Objects, deleter: Deleter) -> None:
        self._objects = objects
        self._store = objects.store
        self._deleter = deleter
        self._queue: deque[Place] = deque()
        self._queued: set[Place] = set()
        self._wake = asyncio.Event()
        self._store.on_write.append(self._notice)

    def _add(self, place: Place) -> None:
        if place not in self._queued:
            self._queued.add(place)
            self._queue.append(place)
            self._wake.set()

    def _notice(self, event: Event, record: Record, _old: Record | None) -> None:
        place = (record.resource, record.key)
        if event.type == "DELETED":
            for dependent in self._store.dependents.get(record.uid, ()):
                self._add(dependent)
            for owner in record.owners:  # a foreground deletion may wait for this one
                if owner in self._store.uids:
                    self._add(self._store.uids[owner])
            if record.key[0]:
                self._add((NAMESPACES, ("", record.key[0])))
            self._notice_custom(record.resource)
        elif (
            b'"deletionTimestamp"' in record.raw
            or record.resource == CRDS
            or any(owner not in self._store.uids for owner in record.owners)
        ):
            self._add(place)

    def _notice_custom(self, storage: str) -> None:
        resource = self._objects.registry.in_storage(storage)
        if resource is not None and resource.crd:
            self._add((CRDS, ("", resource.crd)))

    def adopt(self) -> None:
        """Queue everything that may have been left unfinished by an earlier run."""
        for resource in self._objects.registry.all():
            for record in self._store.scan(resource.storage):
                if b'"deletionTimestamp"' in record.raw or any(o not in self._store.uids for o in record.owners):
                    self._add((resource.storage, record.key))

    async def expire_events(self) -> None:
        """Remove Events that nobody has repeated for EVENT_TTL, until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            limit = rfc3339(self._objects.now() - EVENT_TTL)
            for record in list(self._store.scan("events")):
                obj = record.load()
                series = (obj.get("series") or {}).get("lastObservedTime")
                last = (
                    series or obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"]["creationTimestamp"]
                )
                if str(last) < limit:
                    with contextlib.suppress(ApiError):  # a full disk: the next round tries again
                        self._store.delete(record)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                for _ in range(min(BATCH, len(self._queue))):
                    place = self._queue.popleft()
                    self._queued.discard(place)
                    try:
                        self._look(place)
                    except ApiError as error:
                        log.warning("collector.refused", place=str(place), error=error.message)
                        if error.code >= 500:
                            self._add(place)
                            await asyncio.sleep(RETRY_S)
                await asyncio.sleep(0)

    def _look(self, place: Place) -> None:
        storage, (namespace, name) = place
        record = self._store.get(storage, namespace, name)
        if record is None:
            return
        obj = record.load()
        if storage == NAMESPACES:
            self._empty_namespace(record, obj)
        elif storage == CRDS and obj["metadata"].get("deletionTimestamp"):
            self._empty_definition(record, obj)
        finalizers = obj["metadata"].get("finalizers") or ()
        if obj["metadata"].get("deletionTimestamp") and ORPHAN in finalizers:
            self._orphan(record)
        elif obj["metadata"].get("deletionTimestamp") and FOREGROUND in finalizers:
            self._foreground(record)
        elif record.owners:
            self._check_owners(record, obj)

    def _delete(self, record: Record, policy: str | None) -> None:
        resource = self._objects.registry.in_storage(record.resource)
        if resource is not None:
            self._deleter.delete(resource, record, {"propagationPolicy": policy} if policy else {})

    def _check_owners(self, record: Record, obj: Obj) -> None:
        """Delete a dependent without owners; with some left, drop the dangling references."""
        missing = [owner for owner in record.owners if owner not in self._store.uids]
        if not missing or obj["metadata"].get("deletionTimestamp"):
            return
        if len(missing) == len(record.owners):
            self._delete(record, "Background")
            return
        references = obj["metadata"]["ownerReferences"]
        obj["metadata"]["ownerReferences"] = [r for r in references if r["uid"] not in missing]
        self._store.put(record.resource, obj)

    def _dependents(self, uid: str) -> list[Record]:
        places = self._store.dependents.get(uid, set())
        found = (self._store.get(storage, *key) for storage, key in sorted(places))
        return [record for record in found if record is not None]

    def _orphan(self, record: Record) -> None:
        for dependent in self._dependents(record.uid):
            obj = dependent.load()
            left = [r for r in obj["metadata"]["ownerReferences"] if r["uid"] != record.uid]
            obj["metadata"]["ownerReferences"] = left
            if not left:
                del obj["metadata"]["ownerReferences"]
            self._store.put(dependent.resource, obj)
        self._drop_finalizer(record, ORPHAN)

    def _foreground(self, record: Record) -> None:
        """Delete the dependents; the owner goes when none that blocks it is left."""
        blocking = False
        for dependent in self._dependents(record.uid):
            obj = dependent.load()
            if not obj["metadata"].get("deletionTimestamp"):
                has_own = bool(self._store.dependents.get(dependent.uid))
                self._delete(dependent, "Foreground" if has_own else "Background")
            if self._store.get(dependent.resource, *dependent.key) is not None:
                references = obj["metadata"]["ownerReferences"]
                blocking |= any(r["uid"] == record.uid and r.get("blockOwnerDeletion") for r in references)
        if not blocking:
            self._drop_finalizer(record, FOREGROUND)

    def _drop_finalizer(self, record: Record, name: str) -> None:
        current = self._store.get(record.resource, *record.key)
        resource = self._objects.registry.in_storage(record.resource)
        if current is None or resource is None:
            return
        obj = current.load()
        obj["metadata"]["finalizers"] = [f for f in obj["metadata"].get("finalizers") or [] if f != name]
        if obj["metadata"]["finalizers"]:
            self._store.put(record.resource, obj)
            return
        del obj["metadata"]["finalizers"]
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("deletionGracePeriodSeconds"):
            self._store.delete(current)
        else:
            self._store.put(record.resource, obj)

    def _empty_namespace(self, record: Record, obj: Obj) -> None:
        if not obj["metadata"].get("deletionTimestamp"):
            return
        name = record.key[1]
        for storage in self._store.resources_in(name):
            for inner in list(self._store.scan(storage, name)):
                if b'"deletionTimestamp"' not in inner.raw or not inner.load()["metadata"].get("deletionTimestamp"):
                    self._delete(inner, "Background")
        if self._store.resources_in(name):
            return  # what waits for finalizers or a kubelet comes back through _notice
        if obj.get("spec", {}).get("finalizers"):
            obj["spec"]["finalizers"] = [f for f in obj["spec"]["finalizers"] if f != "kubernetes"]
        if obj["metadata"].get("finalizers") or obj.get("spec", {}).get("finalizers"):
            self._store.put(NAMESPACES, obj)
        else:
            self._store.delete(record)

    def _empty_definition(self, record: Record, obj: Obj) -> None:
        if CLEANUP not in (obj["metadata"].get("finalizers") or ()):
            return
        storage = f"{obj['spec']['names']['plural']}.{obj['spec']['group']}"
        for inner in list(self._store.scan(storage)):
            if not inner.load()["metadata"].get("deletionTimestamp"):
                self._delete(inner, "Background")
        if next(self._store.scan(storage), None) is None:
            self._drop_finalizer(record, CLEANUP)
