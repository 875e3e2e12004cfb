"""The scale subresource (autoscaling/v1) of Deployments, ReplicaSets and custom resources. No I/O."""

from typing import Any

from vrata.sandbox.apiserver import errors
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.selectors import label_selector_text


def _paths(resource: Resource) -> tuple[list[str], list[str], list[str]]:
    given = resource.scale or {}
    spec = given.get("specReplicasPath", ".spec.replicas")
    status = given.get("statusReplicasPath", ".status.replicas")
    selector = given.get("labelSelectorPath", "")
    return spec.strip(".").split("."), status.strip(".").split("."), selector.strip(".").split(".") if selector else []


def _at(obj: Obj, path: list[str]) -> Any:
    node: Any = obj
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def read_scale(resource: Resource, obj: Obj) -> Obj:
    """An object's Scale."""
    spec, status, selector = _paths(resource)
    meta = obj["metadata"]
    shown = _at(obj, selector) if selector else label_selector_text((obj.get("spec") or {}).get("selector"))
    result: Obj = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: meta[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in meta
        },
        "spec": {"replicas": _at(obj, spec) or 0},
        "status": {"replicas": _at(obj, status) or 0},
    }
    if shown:
        result["status"]["selector"] = shown
    return result


def write_scale(resource: Resource, obj: Obj, scale: Obj) -> Obj:
    """The object with the replicas of a Scale; ApiError 422 if they are no count."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    name = obj["metadata"]["name"]
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise errors.bad_request('Scale in version "v1" cannot be handled as a Scale: spec.replicas is not an int32')
    if replicas < 0:
        cause = errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.object_invalid("Scale", "autoscaling", name, [cause])
    wanted = (scale.get("metadata") or {}).get("resourceVersion")
    if wanted and wanted != obj["metadata"]["resourceVersion"]:
        raise errors.conflict(resource.plural, resource.group, name)
    path, _, _ = _paths(resource)
    node = obj
    for part in path[:-1]:
        node = node.setdefault(part, {})
    node[path[-1]] = replicas
    return obj
