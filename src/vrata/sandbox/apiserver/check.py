"""What the API server says of an object in a manifest, without one: its types, defaults and validation. No I/O."""

from typing import Any

from vrata.sandbox.apiserver.defaults import set_defaults
from vrata.sandbox.apiserver.fields import conform
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.validate import name_said, validate_object


def refusals(resource: Resource, body: dict[str, Any]) -> list[str]:
    """Field and words of everything that keeps a new object out, as `kubectl apply` shows it (strict field validation)."""
    found = conform(resource.schema, body)
    said = [f"{path}: {str(value)[:80]!r} is no {schema.type}; correct it" for path, value, schema in found.mismatches]
    said += [f"{one}; correct it" for one in found.unreadable]
    said += [f'{path}: unknown field "{path}"; correct or remove it' for path in found.unknown]
    if found.mismatches or found.unreadable:
        return said  # what cannot be decoded is not validated
    obj = found.value
    meta = obj["metadata"] = obj.get("metadata") or {}
    prefix = meta.get("generateName")
    if prefix and not meta.get("name"):
        wrong = name_said(resource, prefix, prefix=True)
        said += [f'metadata.generateName: Invalid value: "{prefix}": {wrong}'] if wrong else []
        meta["name"] = "generated"
    set_defaults(resource, obj)
    causes = dict.fromkeys(validate_object(resource, obj, None))
    required = "Required value"  # of a field of which something else is said, too, it says nothing new
    fields = {cause.field for cause in causes if not cause.message.startswith(required)}
    causes = {one: None for one in causes if one.field not in fields or not one.message.startswith(required)}
    return said + [f"{cause.field}: {cause.message}" for cause in causes]
