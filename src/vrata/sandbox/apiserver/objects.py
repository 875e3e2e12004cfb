"""Create, update, patch and apply: from a request's body to a stored object.

Decodes strictly, fills in metadata and defaults, allocates, validates, tracks field owners, writes. Every function
runs to its end without awaiting, so a request is one critical section over the store (`vrata.sandbox.apiserver.store`).
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vrata.base.clock import rfc3339
from vrata.base.ids import new_uuid
from vrata.sandbox.apiserver import crd as crds
from vrata.sandbox.apiserver import errors, managed, patch
from vrata.sandbox.apiserver.convert import from_storage, to_storage
from vrata.sandbox.apiserver.defaults import set_defaults
from vrata.sandbox.apiserver.errors import ApiError, Obj
from vrata.sandbox.apiserver.fields import conform, prune_nulls
from vrata.sandbox.apiserver.kinds.meta import TYPES as META
from vrata.sandbox.apiserver.resources import Registry, Resource
from vrata.sandbox.apiserver.services import Allocator, allocate
from vrata.sandbox.apiserver.store import Record, Store
from vrata.sandbox.apiserver.validate import name_said, validate_object

NAMESPACES = "namespaces"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
NAME_TRIES = 8
_OTHER_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"
_GENERATED_MAX = 58
ROOT_CA = "kube-root-ca.crt"
_FIXED_BY_STATUS: dict[str, set[str]] = {"Pod": {"ownerReferences"}, "Deployment": {"labels"}}


@dataclass(slots=True)
class Options:
    """Query parameters of a write; `warnings` collects what goes into Warning headers."""

    manager: str = "unknown"
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    check: Callable[[str, Obj], None] = lambda _kind, _obj: None  # may raise: whether its writer may write it


def gvk_text(resource: Resource) -> str:
    """`apps/v1, Kind=Deployment`."""
    return f"{resource.api_version}, Kind={resource.kind}"


class Objects:
    """The writing half of the API."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        allocator: Allocator,
        now: Callable[[], datetime],
        authority: str = "",  # the server's own, PEM
    ) -> None:
        self.authority = authority
        self.store = store
        self.registry = registry
        self.allocator = allocator
        self.now = now

    def timestamp(self) -> str:
        """Now, as metav1.Time."""
        return rfc3339(self.now())

    def read(self, resource: Resource, body: Any, options: Options) -> Obj:
        """Decode a body as this kind; unknown fields warn or are refused, wrong types are refused."""
        if not isinstance(body, dict):
            raise errors.bad_request(f"the body is not an object; a {resource.kind} is expected")
        kind, version = body.get("kind", resource.kind), body.get("apiVersion", resource.api_version)
        if kind != resource.kind or version != resource.api_version:
            raise errors.bad_request(
                f"{kind} in version {json.dumps(version)} cannot be handled as a {resource.kind}: "
                f"the API version or kind in the data ({version}, Kind={kind}) does not match the expected one "
                f"({gvk_text(resource)})"
            )
        found = conform(resource.schema, body, keep_null=bool(resource.crd))
        said = f'{kind} in version "{resource.version}" cannot be handled as a {kind}: '
        if found.mismatches and (not resource.crd or found.mismatches[0][0].startswith("metadata")):
            path, value, schema = found.mismatches[0]
            got = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
            wanted = schema.go_type or {"array": "[]", "object": schema.name or "map"}.get(schema.type, schema.type)
            raise errors.bad_request(
                f"{said}json: cannot unmarshal {got} into Go struct field {kind}.{path} of type {wanted}"
            )
        if found.unreadable and not resource.crd:
            raise errors.bad_request(f"{said}{found.unreadable[0]}")
        self._unknown(found.unknown, said, options)
        obj: Obj = found.value
        if resource.crd:
            meta = obj.get("metadata")
            obj["metadata"] = conform(META["ObjectMeta"], meta).value if isinstance(meta, dict) else {}
            prune_nulls(resource.schema, obj)
        obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
        obj.setdefault("metadata", {})
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": obj["metadata"]} | obj

    def _unknown(self, paths: list[str], said: str, options: Options) -> None:
        if not paths or options.validation == "Ignore":
            return
        if options.validation == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in paths)
            raise errors.bad_request(f"{said}strict decoding error: {listed}")
        options.warnings += [
            f'unknown field "{path}"' for path in paths if f'unknown field "{path}"' not in options.warnings
        ]

    def find(self, resource: Resource, namespace: str, name: str) -> Record:
        """The stored object or ApiError 404."""
        record = self.store.get(resource.storage, namespace if resource.namespaced else "", name)
        if record is None:
            raise errors.not_found(resource.plural, resource.group, name)
        return record

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        record = self.store.get(NAMESPACES, "", namespace)
        if record is None:
            raise errors.not_found(NAMESPACES, "", namespace)
        if record.load().get("status", {}).get("phase") == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated",
                     "field": "metadata.namespace"}  # fmt: skip
            raise errors.forbidden(resource.plural, resource.group, name, why, [cause])

    # ── create ──────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, resource: Resource, namespace: str, body: Any, options: Options) -> Obj:
        """POST."""
        obj = self.read(resource, body, options)
        return self._create(resource, namespace, obj, options, None)

    def _create(
        self, resource: Resource, namespace: str, obj: Obj, options: Options, managers: managed.Managers | None
    ) -> Obj:
        meta = obj["metadata"]
        self._place(resource, namespace, meta)
        if meta.get("resourceVersion"):
            raise ApiError(500, "InternalError", "resourceVersion should not be set on objects to be created")
        self._name(resource, namespace, meta)
        if resource.namespaced:
            self._check_namespace(resource, namespace, meta["name"])
        if self.store.get(resource.storage, meta.get("namespace", ""), meta["name"]):
            raise errors.already_exists(resource.plural, resource.group, meta["name"])
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation"):
            meta.pop(key, None)
        meta |= {"uid": new_uuid(), "creationTimestamp": self.timestamp()}
        if resource.generation:
            meta["generation"] = 1
        if resource.has_status and resource.kind not in ("Node", "Namespace"):
            obj.pop("status", None)
        self._complete(resource, obj, None)
        options.check(resource.kind, obj)
        if managers is None:
            writer = managed.Writer(options.manager, "Update", resource.api_version)
            managers = managed.record_update(
                resource.schema, {}, obj, {}, writer, self.timestamp(), has_status=resource.has_status
            )
        entries = managed.write_managers(managers)
        if entries:
            meta["managedFields"] = entries
        if options.dry_run:
            return obj
        self.store.put(resource.storage, to_storage(resource, obj))
        if resource.storage == NAMESPACES:
            self.fill_namespace(meta["name"])
        if resource.group == "events.k8s.io":
            obj["metadata"]["resourceVersion"] = str(self.store.rv)
        return obj

    def _place(self, resource: Resource, namespace: str, meta: Obj) -> None:
        if not resource.namespaced:
            meta.pop("namespace", None)
        elif meta.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(_OTHER_NAMESPACE)

    def fill_namespace(self, namespace: str) -> None:
        """What every namespace has: the ServiceAccount `default` and the authority that pods trust the server by."""
        self.ensure("serviceaccounts", namespace, {"metadata": {"name": "default"}})
        if self.authority:
            self.ensure("configmaps", namespace, {"metadata": {"name": ROOT_CA}, "data": {"ca.crt": self.authority}})

    def ensure(self, plural: str, namespace: str, body: Obj) -> None:
        """Create a core object of the cluster's own, unless it is there."""
        resource = self.registry.find("", "v1", plural)
        assert resource is not None
        if self.store.get(resource.storage, namespace, body["metadata"]["name"]) is None:
            self.create(resource, namespace, body, Options(manager="kube-controller-manager"))

    def _name(self, resource: Resource, namespace: str, meta: Obj) -> None:
        prefix = meta.get("generateName")
        if meta.get("name") or not prefix:
            return
        if said := name_said(resource, prefix, prefix=True):
            cause = errors.invalid("metadata.generateName", prefix, said)
            raise errors.object_invalid(resource.kind, resource.group, "", [cause])
        for _ in range(NAME_TRIES):
            suffix = "".join(random.choices(_SUFFIX, k=5))
            meta["name"] = prefix[:_GENERATED_MAX] + suffix
            if self.store.get(resource.storage, namespace, meta["name"]) is None:
                return
        raise errors.already_exists(resource.plural, resource.group, meta["name"])

    def _complete(self, resource: Resource, obj: Obj, old: Obj | None) -> None:
        """Defaults, allocation and validation."""
        meta = obj["metadata"]
        for key in [key for key, value in meta.items() if value in ([], {})]:
            del meta[key]  # `omitempty` of ObjectMeta's lists and maps
        set_defaults(resource, obj)
        causes = []
        if resource.kind == "Ingress" and old is None:
            self._default_class(obj)
        if resource.storage == "services":
            causes = allocate(obj, old, self.allocator)
        causes = validate_object(resource, obj, old) or causes  # what is invalid is not allocated for
        if resource.kind == "CustomResourceDefinition" and not causes:
            causes = crds.validate_crd(obj, old)
            if not causes:
                crds.set_status(obj, crds.conflict_with(obj, self.registry), self.timestamp())
        if causes:
            unique = list(dict.fromkeys(causes))
            raise errors.object_invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), unique)

    def _default_class(self, ingress: Obj) -> None:
        """The DefaultIngressClass admission plugin's part: the newest class that is marked as the default."""
        spec = ingress.setdefault("spec", {})
        annotations = ingress["metadata"].get("annotations") or {}
        if spec.get("ingressClassName") is not None or "kubernetes.io/ingress.class" in annotations:
            return
        marked = []
        for record in self.store.scan("ingressclasses.networking.k8s.io"):
            meta = record.load()["metadata"]
            if (meta.get("annotations") or {}).get("ingressclass.kubernetes.io/is-default-class") == "true":
                marked.append((meta["creationTimestamp"], meta["name"]))
        if marked:
            spec["ingressClassName"] = max(marked)[1]

    # ── update ──────────────────────────────────────────────────────────────────────────────────────────────

    def update(
        self, resource: Resource, namespace: str, name: str, body: Any, subresource: str, options: Options
    ) -> Obj:
        """PUT of an object or of its status."""
        new = self.read(resource, body, options)
        record = self.find(resource, namespace, name)
        meta = new["metadata"]
        if meta.setdefault("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            )
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if not meta.get("resourceVersion") and (resource.crd or resource.kind == "Lease"):
            cause = errors.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.object_invalid(resource.kind, resource.group, name, [cause])
        return self.replace(resource, record, new, subresource, options, None)

    def replace(
        self, resource: Resource, record: Record, new: Obj, subresource: str, options: Options,
        managers: managed.Managers | None,
    ) -> Obj:  # fmt: skip
        """Lay a complete new object over a stored one; `managers` given: those of a server-side apply."""
        old = from_storage(resource, record.load())
        meta, before = new["metadata"], old["metadata"]
        self._preconditions(resource, meta, before)
        new = self._isolate(resource, new, old, subresource)
        meta = new["metadata"]
        self._keep_identity(meta, before)
        self._complete(resource, new, old)
        options.check(resource.kind, new)
        changed = self._substance(resource, new) != self._substance(resource, old)
        if resource.kind == "Deployment":  # whose controller copies its annotations to ReplicaSets
            changed = changed or meta.get("annotations") != before.get("annotations")
        if resource.generation and changed:
            meta["generation"] = before.get("generation", 0) + 1
        base = managed.read_managers(before.get("managedFields"))
        given = meta.pop("managedFields", None)
        if managers is None:
            if given and given != before.get("managedFields"):
                base = managed.read_managers(given)
            writer = managed.Writer(options.manager, "Update", resource.api_version, subresource)
            has_status = resource.has_status
            managers = managed.record_update(
                resource.schema, old, new, base, writer, self.timestamp(), has_status=has_status
            )
        entries = managed.write_managers(managers)
        if entries:
            meta["managedFields"] = entries
        if new == old:
            return old
        if self._finished(resource, new):
            if not options.dry_run:
                self.store.delete(record)
            return new
        if not options.dry_run:
            stored = to_storage(resource, new)
            self.store.put(resource.storage, stored)
            new["metadata"] = stored["metadata"]
        return new

    def _preconditions(self, resource: Resource, meta: Obj, before: Obj) -> None:
        if meta.get("uid") and meta["uid"] != before["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before['uid']}"
            raise errors.conflict(resource.plural, resource.group, before["name"], why)
        if meta.get("resourceVersion") and meta["resourceVersion"] != before["resourceVersion"]:
            raise errors.conflict(resource.plural, resource.group, before["name"])

    def _isolate(self, resource: Resource, new: Obj, old: Obj, subresource: str) -> Obj:
        if subresource == "status":
            kept = {key: value for key, value in old.items() if key != "status"}
            if "status" in new:
                kept["status"] = new["status"]
            return kept | {"metadata": self._status_metadata(resource, new["metadata"], old["metadata"])}
        if resource.has_status:
            new = {key: value for key, value in new.items() if key != "status"}
            if "status" in old:
                new["status"] = old["status"]
        if resource.storage == NAMESPACES and subresource != "finalize":
            new["spec"] = old.get("spec", {})
        return new

    def _status_metadata(self, resource: Resource, new: Obj, old: Obj) -> Obj:
        """Metadata after a write of the status: the strategy of most kinds resets the spec only.

        Kubernetes, `PrepareForUpdate` of the status strategies: a custom resource keeps its metadata, a Pod its owners, a
        Deployment its labels.
        """
        fixed: set[str] = (
            set(old | new) - {"managedFields"} if resource.crd else _FIXED_BY_STATUS.get(resource.kind, set())
        )
        meta = {key: value for key, value in new.items() if key not in fixed}
        return meta | {key: old[key] for key in fixed if key in old}

    def _keep_identity(self, meta: Obj, before: Obj) -> None:
        for key in (
            "name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp",
            "deletionGracePeriodSeconds", "generation", "generateName", "selfLink",
        ):  # fmt: skip
            if key in before:
                meta[key] = before[key]
            else:
                meta.pop(key, None)

    def _substance(self, resource: Resource, obj: Obj) -> Obj:
        return {
            key: value
            for key, value in obj.items()
            if key not in ("metadata", "apiVersion", "kind") and not (key == "status" and resource.has_status)
        }

    def _finished(self, resource: Resource, obj: Obj) -> bool:
        """Whether an object under deletion has nothing left to wait for."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
            return False
        return resource.storage != NAMESPACES or not obj.get("spec", {}).get("finalizers")

    # ── patch ───────────────────────────────────────────────────────────────────────────────────────────────

    def patch(
        self, resource: Resource, namespace: str, name: str, media: str, body: Any, subresource: str, options: Options
    ) -> tuple[Obj, bool]:
        """PATCH; returns the object and whether it was created (server-side apply only)."""
        if media == "application/apply-patch+yaml":
            return self._apply(resource, namespace, name, body, subresource, options)
        record = self.find(resource, namespace, name)
        current = from_storage(resource, record.load())
        patched = apply_patch(resource, current, media, body)
        try:
            new = self.read(resource, patched, options)
        except ApiError as error:
            if "strict decoding error" not in error.message:
                raise
            said = error.message.split("cannot be handled as", 1)[-1].split(": ", 1)[-1]
            cause = errors.invalid("patch", json.dumps(body, separators=(",", ":")), said)
            raise errors.object_invalid(resource.kind, resource.group, name, [cause]) from error
        meta = new["metadata"]
        for key in ("name", "namespace"):
            if meta.get(key) != current["metadata"].get(key):
                cause = errors.invalid(f"metadata.{key}", meta.get(key), "field is immutable")
                raise errors.object_invalid(resource.kind, resource.group, name, [cause])
        return self.replace(resource, record, new, subresource, options, None), False

    def _apply(
        self, resource: Resource, namespace: str, name: str, body: Any, subresource: str, options: Options
    ) -> tuple[Obj, bool]:
        config = self._read_config(resource, namespace, name, body, options)
        writer = managed.Writer(options.manager, "Apply", resource.api_version, subresource)
        record = self.store.get(resource.storage, namespace if resource.namespaced else "", name)
        live = from_storage(resource, record.load()) if record else {}
        managers = managed.read_managers(live.get("metadata", {}).get("managedFields"))
        applied = managed.apply(
            resource.schema, live, config, managers, writer, self.timestamp(),
            force=options.force, has_status=resource.has_status,
        )  # fmt: skip
        value = applied.value
        value.setdefault("metadata", {})
        if record is None:
            if subresource:
                raise errors.not_found(resource.plural, resource.group, name)
            return self._create(resource, namespace, value, options, applied.managers), True
        value["metadata"] = {key: item for key, item in value["metadata"].items() if key != "managedFields"}
        new: Obj = json.loads(json.dumps(value))  # the merge shares parts with the configuration
        return self.replace(resource, record, new, subresource, options, applied.managers), False

    def _read_config(self, resource: Resource, namespace: str, name: str, body: Any, options: Options) -> Obj:
        if not options.manager:
            cause = errors.required("fieldManager", "is required for apply patch")
            raise errors.object_invalid("PatchOptions", "meta.k8s.io", "", [cause])
        if not isinstance(body, dict):
            raise errors.bad_request("error decoding YAML: an apply patch is an object")
        if (body.get("metadata") or {}).get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        unknown = Options(validation="Warn")
        config = self.read(resource, body, unknown)
        if unknown.warnings:
            path = unknown.warnings[0].split('"')[1]
            place = f"{namespace}/{name}" if resource.namespaced else f"/{name}"
            said = f"failed to create typed patch object ({place}; {gvk_text(resource)})"
            raise errors.bad_request(f"{said}: .{path}: field not declared in schema")
        if config["metadata"].setdefault("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({config['metadata']['name']}) does not match the name on the URL ({name})"
            )
        if resource.namespaced and config["metadata"].setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        for key in ("creationTimestamp", "uid") if not config["metadata"].get("uid") else ("creationTimestamp",):
            config["metadata"].pop(key, None)
        return config


def apply_patch(resource: Resource, current: Obj, media: str, body: Any) -> Obj:
    """Apply a JSON, merge or strategic merge patch to a copy."""
    if media == "application/json-patch+json":
        return patch.json_patch(current, body)
    if not isinstance(body, dict):
        raise errors.bad_request("error decoding patch: a patch of this type is an object")
    if media == "application/merge-patch+json":
        merged: Obj = patch.merge_patch(current, body)
        return merged
    if resource.crd:
        accepted = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
        raise errors.unsupported_media_type(accepted)
    return patch.strategic_merge(resource.schema, current, body)
