"""The three patches that need no field owners: JSON (RFC 6902), merge (RFC 7386), strategic merge. No I/O."""

from typing import Any

import jsonpatch

from vrata.sandbox.apiserver.errors import ApiError, Obj, bad_request
from vrata.sandbox.apiserver.schema import ANY, Schema

JSON_PATCH_MAX = 10_000  # operations, as the API server bounds them


def json_patch(value: Obj, operations: Any) -> Obj:
    """Apply RFC 6902 operations to a copy."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > JSON_PATCH_MAX:
        raise ApiError(413, "RequestEntityTooLarge", f"Allowed maximum operations in a JSON patch is {JSON_PATCH_MAX}")
    try:
        result = jsonpatch.apply_patch(value, operations, in_place=False)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, ValueError) as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request") from error
    if not isinstance(result, dict):
        raise bad_request("the patch does not leave an object")
    return result


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), item)
    return out


_DIRECTIVES = ("$patch", "$retainKeys")
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic_merge(schema: Schema, value: Obj, patch: Obj) -> Obj:
    """Strategic merge patch with its directives; merge keys come from the schema."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: item for key, item in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type: {directive} in map: {patch}")
    out = dict(value)
    if "$retainKeys" in patch:
        retained = set(patch["$retainKeys"])
        out = {key: item for key, item in out.items() if key in retained}
    for key, item in patch.items():
        if key in _DIRECTIVES or key.startswith((_ORDER, _DELETE)):
            continue
        child = schema.child(key)
        if item is None:
            out.pop(key, None)
        elif isinstance(item, dict):
            present = out.get(key)
            out[key] = strategic_merge(child, present if isinstance(present, dict) else {}, item)
        elif isinstance(item, list) and child.merge:
            present = out.get(key)
            out[key] = _merge_list(child, present if isinstance(present, list) else [], item)
        else:
            out[key] = _clean(child, item)
    return _list_directives(schema, out, patch)


def _list_directives(schema: Schema, out: Obj, patch: Obj) -> Obj:
    for key, item in patch.items():
        if key.startswith(_DELETE) and isinstance(out.get(name := key[len(_DELETE) :]), list):
            out[name] = [entry for entry in out[name] if entry not in item]
    for key, order in patch.items():
        if key.startswith(_ORDER) and isinstance(out.get(name := key[len(_ORDER) :]), list):
            out[name] = _ordered(schema.child(name), out[name], order)
    return out


def _ordered(schema: Schema, items: list[Any], order: list[Any]) -> list[Any]:
    def mark(item: Any) -> Any:
        return item.get(schema.merge_key) if isinstance(item, dict) else item

    rank = {str(mark(item)): i for i, item in enumerate(order)}
    # Items that the patch does not know keep their place behind the item that they followed.
    keys: list[float] = []
    last = -1.0
    for item in items:
        last = float(rank.get(str(mark(item)), last))
        keys.append(last)
    return [item for _, _, item in sorted(zip(keys, range(len(items)), items, strict=True), key=lambda t: t[:2])]


def _clean(schema: Schema, item: Any) -> Any:
    """A patch's value where nothing was before: directives and nulls go."""
    if isinstance(item, dict):
        return strategic_merge(schema, {}, item)
    if isinstance(item, list):
        return [
            _clean(schema.items or ANY, entry)
            for entry in item
            if not (isinstance(entry, dict) and entry.get("$patch") in ("replace", "delete"))
        ]
    return item


def _merge_list(schema: Schema, present: list[Any], patch: list[Any]) -> list[Any]:
    below = schema.items or ANY
    if not schema.merge_key:
        return present + [item for item in patch if item not in present]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        present = []
    out = list(present)
    for item in patch:
        if not isinstance(item, dict) or item.get("$patch") == "replace":
            continue
        if schema.merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {schema.merge_key}")
        key = item[schema.merge_key]
        places = [i for i, entry in enumerate(out) if isinstance(entry, dict) and entry.get(schema.merge_key) == key]
        if item.get("$patch") == "delete":
            out = [entry for i, entry in enumerate(out) if i not in places]
        elif places:
            out[places[0]] = strategic_merge(below, out[places[0]], item)
        else:
            out.append(strategic_merge(below, {}, item))
    return _interleaved(schema, present, patch, out)


def _interleaved(schema: Schema, present: list[Any], patch: list[Any], merged: list[Any]) -> list[Any]:
    """The patch's items in its order; the others, in theirs, go before one only if they did (mergeSortedSlice)."""

    def mark(item: Any) -> Any:
        return item.get(schema.merge_key) if isinstance(item, dict) else item

    before = [mark(item) for item in present]
    order = [mark(item) for item in patch]
    patched = sorted((item for item in merged if mark(item) in order), key=lambda item: order.index(mark(item)))
    others = [item for item in merged if mark(item) not in order]
    out = []
    while patched and others:
        known = mark(patched[0]) in before
        first = known and before.index(mark(others[0])) < before.index(mark(patched[0]))
        out.append((others if first else patched).pop(0))
    return out + patched + others
