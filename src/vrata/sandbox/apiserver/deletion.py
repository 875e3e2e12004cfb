"""Deletes: preconditions, grace, finalizers, propagation; and collections of them.

What cannot go at once is marked (deletionTimestamp) and finished by whoever removes the last finalizer, or by
`vrata.sandbox.apiserver.collector`.
"""

from datetime import timedelta
from typing import Any, Final

from vrata.base.clock import rfc3339
from vrata.sandbox.apiserver import errors
from vrata.sandbox.apiserver.convert import from_storage
from vrata.sandbox.apiserver.crd import CLEANUP
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.objects import NAMESPACES, Objects
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.store import Record

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"
_KEPT_NAMESPACES: Final = ("default", "kube-system", "kube-public")


def read_options(body: Any, query: dict[str, str]) -> Obj:
    """DeleteOptions from the body, or from the query parameters of a request without one."""
    options: Obj = dict(body) if isinstance(body, dict) else {}
    if query.get("gracePeriodSeconds", "").lstrip("-").isdigit():
        options.setdefault("gracePeriodSeconds", int(query["gracePeriodSeconds"]))
    if "propagationPolicy" in query:
        options.setdefault("propagationPolicy", query["propagationPolicy"])
    if "dryRun" in query:
        options.setdefault("dryRun", [query["dryRun"]])
    if options.get("orphanDependents") is True:
        options.setdefault("propagationPolicy", "Orphan")
    policy = options.get("propagationPolicy", "Background")
    if policy not in ("Background", "Foreground", "Orphan"):
        cause = errors.not_supported("propagationPolicy", policy, ["Background", "Foreground", "Orphan"])
        raise errors.object_invalid("DeleteOptions", "meta.k8s.io", "", [cause])
    return options


class Deleter:
    """The deleting half of the API."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._store = objects.store

    def delete(self, resource: Resource, record: Record, options: Obj) -> Obj:
        """Delete or mark one object; returns a Status of success, or the object that still has to wait."""
        obj = record.load()
        meta = obj["metadata"]
        self._preconditions(resource, meta, options.get("preconditions") or {})
        if resource.storage == NAMESPACES and meta["name"] in _KEPT_NAMESPACES:
            raise errors.forbidden(NAMESPACES, "", meta["name"], "this namespace may not be deleted")
        dry_run = "All" in (options.get("dryRun") or ())
        grace = self._grace(resource, obj, options)
        finalizers = self._finalizers(resource, record, meta, options)
        if not finalizers and not grace and resource.storage != NAMESPACES:
            if not dry_run:
                self._store.delete(record)
            return self._success(resource, meta)
        marked = self._mark(resource, obj, finalizers, grace)
        if marked and not dry_run:
            self._store.put(resource.storage, obj)
        return from_storage(resource, obj)

    def _preconditions(self, resource: Resource, meta: Obj, wanted: Obj) -> None:
        for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(key) and wanted[key] != meta[key]:
                said = f"Precondition failed: {word} in precondition: {wanted[key]}, {word} in object meta: {meta[key]}"
                raise errors.conflict(resource.plural, resource.group, meta["name"], said)

    def _grace(self, resource: Resource, obj: Obj, options: Obj) -> int:
        if resource.storage != "pods":
            return 0
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        given = options.get("gracePeriodSeconds")
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        period = given if isinstance(given, int) else spec.get("terminationGracePeriodSeconds", 30)
        before = obj["metadata"].get("deletionGracePeriodSeconds")
        if before is not None and (given is None or period > before):
            return int(before)
        return max(0, int(period)) if period >= 0 else 1

    def _finalizers(self, resource: Resource, record: Record, meta: Obj, options: Obj) -> list[str]:
        finalizers = [name for name in meta.get("finalizers") or [] if name not in (FOREGROUND, ORPHAN)]
        policy = options.get("propagationPolicy")
        if policy is None:
            return list(meta.get("finalizers") or finalizers)
        if policy == "Foreground":
            finalizers.append(FOREGROUND)
        elif policy == "Orphan" and self._store.dependents.get(record.uid):
            finalizers.append(ORPHAN)
        return finalizers

    def _mark(self, resource: Resource, obj: Obj, finalizers: list[str], grace: int) -> bool:
        """Set deletionTimestamp and what belongs to it; False if all of it was there."""
        meta = obj["metadata"]
        before = (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), meta.get("finalizers"))
        sooner = grace < (before[1] or 0)
        if before[0] is None or sooner:
            moment = self._objects.now() + timedelta(seconds=grace)
            meta |= {"deletionTimestamp": rfc3339(moment), "deletionGracePeriodSeconds": grace}
            if resource.generation and before[0] is None:
                meta["generation"] = meta.get("generation", 0) + 1
        if finalizers:
            meta["finalizers"] = finalizers
        else:
            meta.pop("finalizers", None)
        if resource.storage == NAMESPACES:
            obj.setdefault("status", {})["phase"] = "Terminating"
            meta.pop("deletionGracePeriodSeconds", None)
        return before != (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), meta.get("finalizers"))

    def _success(self, resource: Resource, meta: Obj) -> Obj:
        details = {"name": meta["name"], "group": resource.group, "kind": resource.plural, "uid": meta["uid"]}
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {key: value for key, value in details.items() if value},
        }  # fmt: skip

    def guard_crd(self, record: Record) -> None:
        """Give a definition that still has objects the finalizer under which they are removed first."""
        obj = record.load()
        finalizers = obj["metadata"].setdefault("finalizers", [])
        spec = obj["spec"]
        storage = f"{spec['names']['plural']}.{spec['group']}"
        if CLEANUP not in finalizers and next(self._store.scan(storage), None) is not None:
            finalizers.append(CLEANUP)
            self._store.put(CRDS, obj)
