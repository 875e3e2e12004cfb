"""What a schema says about an object: unknown fields, wrong types, defaults, required fields and enums.

`conform` is Go's strict decoding; `fill_defaults` and `validate` serve built-in and custom kinds alike
(Kubernetes structural schemas). Nothing here knows a particular kind. No I/O.
"""

import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final

from vrata.sandbox.apiserver.errors import Cause, invalid, not_supported, required, type_invalid
from vrata.sandbox.apiserver.schema import UNSET, Schema

_ENTRY = ("apiVersion", "kind", "metadata")


@dataclass(slots=True)
class Conformed:
    """An object as its kind's fields hold it, and what did not fit."""

    value: Any = None
    unknown: list[str] = field(default_factory=list)  # `spec.foo`
    mismatches: list[tuple[str, Any, Schema]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # why a text is none of its type


def conform(schema: Schema, value: Any, *, keep_null: bool = False) -> Conformed:
    """Copy `value` without the fields that `schema` does not know; `keep_null` for custom resources."""
    found = Conformed()
    found.value = _conform(schema, value, "", found, keep_null=keep_null)
    return found


QUANTITY: Final = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def _unreadable(schema: Schema, value: Any) -> str:
    """Why a text is none of its type, as Go's decoders say it; empty if it is one."""
    if not isinstance(value, str):
        return ""
    if schema.name == "Quantity" and not re.match(QUANTITY, value):
        return f"quantities must match the regular expression '{QUANTITY}'"
    if schema.format == "byte":
        wrong = re.search(r"[^A-Za-z0-9+/\r\n]", value.rstrip("="))
        if wrong or len(re.sub(r"[\r\n]", "", value)) % 4:
            return f"illegal base64 data at input byte {wrong.start() if wrong else len(value) // 4 * 4}"
    return ""


def _matches(kind: str, value: Any) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return (isinstance(value, int) and not isinstance(value, bool)) or (
                isinstance(value, float) and value.is_integer()
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "int-or-string":
            return isinstance(value, str | int) and not isinstance(value, bool)
    return True


def _conform(schema: Schema, value: Any, path: str, found: Conformed, *, keep_null: bool) -> Any:
    if value is None:
        return None
    if not _matches(schema.type, value):
        if not (schema.name == "Quantity" and isinstance(value, float)):
            found.mismatches.append((path, value, schema))
        return value
    if said := _unreadable(schema, value):
        found.unreadable.append(said)
    if isinstance(value, dict) and schema.type == "object":
        if not schema.fields and schema.values is None and schema.preserve:
            return value
        result = {}
        for key, item in value.items():
            if item is None and not keep_null:
                continue
            child = schema.fields.get(key) or schema.values
            at = f"{path}.{key}" if path else key
            if child is not None:
                result[key] = _conform(child, item, at, found, keep_null=keep_null)
            elif schema.preserve or (schema.embedded and key in _ENTRY):
                result[key] = item
            else:
                found.unknown.append(at)
        return result
    if isinstance(value, list) and schema.items is not None:
        blank: Any = {"object": {}, "string": ""}.get(schema.items.type) if not keep_null else None
        value = [blank if item is None else item for item in value]
        return [
            _conform(schema.items, item, f"{path}[{i}]", found, keep_null=keep_null) for i, item in enumerate(value)
        ]
    return int(value) if schema.type == "integer" else value


def fill_defaults(schema: Schema, value: Any) -> Any:
    """Fill in defaults where the parent exists, in place; returns the value."""
    if isinstance(value, dict):
        for key, child in schema.fields.items():
            if value.get(key) is None and child.default is not UNSET and (key not in value or not child.nullable):
                value[key] = copy.deepcopy(child.default)
            elif key in value and value[key] is None and not child.nullable and schema.checks:
                del value[key]
        for key, item in value.items():
            below = schema.fields.get(key) or schema.values
            if below is not None and isinstance(item, dict | list):
                fill_defaults(below, item)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            fill_defaults(schema.items, item)
    return value


def prune_nulls(schema: Schema, value: Any) -> Any:
    """Drop nulls that a custom resource's schema does not allow but defaults or leaves out."""
    if isinstance(value, dict):
        for key in [k for k, v in value.items() if v is None]:
            child = schema.fields.get(key)
            if child is not None and not child.nullable and child.default is not UNSET:
                del value[key]
        for key, item in value.items():
            below = schema.fields.get(key) or schema.values
            if below is not None:
                prune_nulls(below, item)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            prune_nulls(schema.items, item)
    return value


def _blank(value: Any) -> bool:
    return value is None or value in ("", [], {})


def validate(schema: Schema, value: Any, path: str = "") -> list[Cause]:
    """Required fields and enums of a built-in kind (whose types `conform` has checked)."""
    causes: list[Cause] = []
    if isinstance(value, dict):
        missing = [key for key in schema.required if _blank(value.get(key)) and schema.child(key).type != "object"]
        causes += [required(_join(path, key)) for key in missing]
        for key, item in value.items():
            below = schema.fields.get(key) or schema.values
            if below is not None:
                at = _join(path, key) if key in schema.fields else f"{path}[{key}]"
                causes += validate(below, item, at)
    elif isinstance(value, list) and schema.items is not None:
        for i, item in enumerate(value):
            causes += validate(schema.items, item, f"{path}[{i}]")
    elif schema.enum and value not in schema.enum:
        causes.append(not_supported(path, value, schema.enum))
    return causes


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) else "number"


def validate_custom(schema: Schema, value: Any, path: str = "") -> list[Cause]:
    """Everything a structural schema demands of a custom resource, in the API server's wording."""
    if value is None:
        if schema.nullable or schema.type == "any":
            return []
        return [type_invalid(path, "null", f'{path} in body must be of type {schema.type}: "null"')]
    if not _matches(schema.type, value):
        wanted = "integer,string" if schema.type == "int-or-string" else schema.type
        got = _type_name(value)
        return [type_invalid(path, got, f'{path} in body must be of type {wanted}: "{got}"')]
    causes: list[Cause] = []
    if schema.enum and value not in schema.enum:
        causes.append(not_supported(path, value, [str(option) for option in schema.enum]))
    causes += _value_checks(schema, value, path)
    if isinstance(value, dict):
        for key in schema.required:
            if key not in value:
                causes.append(required(_join(path, key)))
        for key, item in value.items():
            below = schema.fields.get(key) or schema.values
            if below is not None and not (not path and key in _ENTRY):
                causes += validate_custom(below, item, _join(path, key))
    elif isinstance(value, list):
        causes += _list_checks(schema, value, path)
        if schema.items is not None:
            for i, item in enumerate(value):
                causes += validate_custom(schema.items, item, f"{path}[{i}]")
    return causes


def _list_checks(schema: Schema, value: list[Any], path: str) -> list[Cause]:
    seen: list[Any] = []
    causes: list[Cause] = []
    for i, item in enumerate(value):
        if schema.list_type == "map" and isinstance(item, dict):
            mark: Any = {key: item.get(key) for key in schema.list_keys}
        elif schema.list_type == "set":
            mark = item
        else:
            return causes
        if mark in seen:
            causes.append(Cause("FieldValueDuplicate", f"{path}[{i}]", f"Duplicate value: {mark!r}".replace("'", '"')))
        seen.append(mark)
    return causes


def _value_checks(schema: Schema, value: Any, path: str) -> list[Cause]:
    checks = schema.checks
    causes = []
    for word, limit in checks.items():
        said = _broken(word, limit, value, checks)
        if said:
            causes.append(invalid(path, value, f"{path} in body {said}"))
    return causes


def _broken(word: str, limit: Any, value: Any, checks: dict[str, Any]) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match word:
        case "minimum" if number and (value <= limit if checks.get("exclusiveMinimum") is True else value < limit):
            return f"should be greater than or equal to {limit}"
        case "maximum" if number and (value >= limit if checks.get("exclusiveMaximum") is True else value > limit):
            return f"should be less than or equal to {limit}"
        case "multipleOf" if number and value % limit:
            return f"should be a multiple of {limit}"
        case "minLength" if isinstance(value, str) and len(value) < limit:
            return f"should be at least {limit} chars long"
        case "maxLength" if isinstance(value, str) and len(value) > limit:
            return f"should be at most {limit} chars long"
        case "pattern" if isinstance(value, str) and not re.search(limit, value):
            return f"should match '{limit}'"
        case "minItems" if isinstance(value, list) and len(value) < limit:
            return f"should have at least {limit} items"
        case "maxItems" if isinstance(value, list) and len(value) > limit:
            return f"should have at most {limit} items"
        case "minProperties" if isinstance(value, dict) and len(value) < limit:
            return f"should have at least {limit} properties"
        case "maxProperties" if isinstance(value, dict) and len(value) > limit:
            return f"should have at most {limit} properties"
    return ""
