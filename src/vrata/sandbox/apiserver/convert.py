"""One stored form, several served ones: Events of two groups, versions of a custom resource. No I/O."""

from typing import Any, Final

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.resources import Resource

# events.k8s.io/v1 name -> core/v1 name
_EVENT: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_BACK: Final = {core: new for new, core in _EVENT.items()}


def _is_new_event(resource: Resource) -> bool:
    return resource.group == "events.k8s.io"


def is_stored_form(resource: Resource) -> bool:
    """Whether what is stored can be sent as it is."""
    return not resource.crd and not _is_new_event(resource)


def to_storage(resource: Resource, obj: Obj) -> Obj:
    """A decoded object in the form that is stored."""
    if not _is_new_event(resource):
        return obj
    return {_EVENT.get(key, key): value for key, value in obj.items()} | {"apiVersion": "v1"}


def from_storage(resource: Resource, obj: Obj) -> Obj:
    """A stored object as this version shows it."""
    if _is_new_event(resource):
        converted: dict[str, Any] = {_EVENT_BACK.get(key, key): value for key, value in obj.items()}
        return converted | {"apiVersion": resource.api_version}
    if resource.crd:
        return obj | {"apiVersion": resource.api_version}
    return obj
