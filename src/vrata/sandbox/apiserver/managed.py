"""Who owns which field: server-side apply, managedFields and conflicts (structured-merge-diff, FieldsV1).

A field set is a set of paths; a path is a tuple of FieldsV1 elements (`f:name`, `k:{"name":"x"}`, `v:"x"`). No I/O.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from vrata.sandbox.apiserver.errors import ApiError, Obj
from vrata.sandbox.apiserver.schema import ANY, Schema

Path = tuple[str, ...]
Fields = set[Path]

_NEVER_OWNED = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink",
        "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds",
    )
)  # fmt: skip


class Writer(NamedTuple):
    """What identifies one entry of managedFields."""

    manager: str
    operation: str  # Apply or Update
    api_version: str
    subresource: str = ""


@dataclass(slots=True)
class Entry:
    """What one writer owns, since when."""

    fields: Fields
    time: str


Managers = dict[Writer, Entry]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def item_element(schema: Schema, item: Any) -> str | None:
    """The path element of one item of a `map` or `set` list; None if the list is atomic or the item has no key."""
    if schema.list_type == "set" and not isinstance(item, dict | list):
        return f"v:{_compact(item)}"
    if schema.list_type == "map" and isinstance(item, dict):
        below = schema.items or ANY
        keys = {}
        for key in schema.list_keys:
            value = item.get(key, below.child(key).default)
            if not isinstance(value, str | int | bool):
                continue
            keys[key] = value
        return f"k:{_compact(keys)}" if keys else None
    return None


def field_set(schema: Schema, value: Any, path: Path = (), *, containers: bool = False) -> Fields:
    """The leaves of a value, with the items of keyed lists; `containers` adds the maps themselves."""
    out: Fields = set()
    _collect(schema, value, path, out, containers=containers)
    return out


def _collect(schema: Schema, value: Any, path: Path, out: Fields, *, containers: bool) -> None:
    if isinstance(value, dict) and schema.granular:
        if path and (not value or (containers and schema.values is not None)):
            out.add(path)
        for key, item in value.items():
            _collect(schema.child(key), item, (*path, f"f:{key}"), out, containers=containers)
    elif isinstance(value, list) and schema.list_type != "atomic":
        if not value or containers:
            out.add(path)
        for item in value:
            element = item_element(schema, item)
            if element is None:
                continue
            out.add((*path, element))
            if isinstance(item, dict):
                _collect(schema.items or ANY, item, (*path, element), out, containers=containers)
    else:
        out.add(path)


def owned(fields: Fields, *, subresource: str = "", has_status: bool = True) -> Fields:
    """Without the fields nobody owns: identity, and status outside its subresource (or all but status inside)."""
    kept = {path for path in fields if path[:2] not in _NEVER_OWNED and path[0] not in ("f:apiVersion", "f:kind")}
    kept.discard(("f:metadata",))
    if subresource == "status":
        return {path for path in kept if path[0] == "f:status"}
    if has_status:
        return {path for path in kept if path[0] != "f:status"}
    return kept


class Difference(NamedTuple):
    """Paths that one value has more than, differently from, or less than another."""

    added: Fields
    modified: Fields
    removed: Fields


def compare(schema: Schema, old: Any, new: Any) -> Difference:
    """What changed from `old` to `new`, in paths as `field_set` makes them."""
    found = Difference(set(), set(), set())
    _compare(schema, old, new, (), found)
    return found


def _compare(schema: Schema, old: Any, new: Any, path: Path, found: Difference) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and schema.granular:
        for key in old.keys() | new.keys():
            at = (*path, f"f:{key}")
            child = schema.child(key)
            _compare_at(child, key in old, old.get(key), key in new, new.get(key), at, found)
    elif isinstance(old, list) and isinstance(new, list) and schema.list_type != "atomic":
        before = {item_element(schema, item): item for item in old}
        after = {item_element(schema, item): item for item in new}
        for element in before.keys() | after.keys():
            if element is None:
                continue
            at = (*path, element)
            if element in before and element in after:
                _compare(schema.items or ANY, before[element], after[element], at, found)
            elif element in after:
                found.added.add(at)
                if isinstance(after[element], dict):
                    _collect(schema.items or ANY, after[element], at, found.added, containers=True)
            else:
                found.removed.add(at)
                if isinstance(before[element], dict):
                    _collect(schema.items or ANY, before[element], at, found.removed, containers=True)
    else:
        found.modified.add(path)


def _compare_at(child: Schema, had: bool, old: Any, has: bool, new: Any, at: Path, found: Difference) -> None:
    if had and has:
        _compare(child, old, new, at, found)
    elif has:
        _collect(child, new, at, found.added, containers=True)
    else:
        _collect(child, old, at, found.removed, containers=True)


def merge(schema: Schema, live: Any, config: Any) -> Any:
    """Lay an applied configuration over the live value."""
    if isinstance(live, dict) and isinstance(config, dict) and schema.granular:
        out = dict(live)
        for key, item in config.items():
            out[key] = merge(schema.child(key), live.get(key), item)
        return out
    if isinstance(live, list) and isinstance(config, list) and schema.list_type != "atomic":
        wanted = {item_element(schema, item): item for item in config}
        out_list = []
        for item in live:
            element = item_element(schema, item)
            out_list.append(merge(schema.items or ANY, item, wanted.pop(element)) if element in wanted else item)
        return out_list + list(wanted.values())
    return config


def remove(schema: Schema, value: Any, paths: Fields, kept: Fields) -> Any:
    """Take the fields at `paths` out of `value`, except those that `kept` still holds something under."""
    # A list's item goes whole before its fields would: without its key it could not be found any more.
    for path in sorted(paths, key=len):
        if not any(other[: len(path)] == path for other in kept):
            value = _remove_one(schema, value, path, 0, kept)
    return value


def _remove_one(schema: Schema, value: Any, path: Path, depth: int, kept: Fields) -> Any:
    """Containers that become empty go too, unless they are themselves in `kept`."""
    head, rest = path[depth], path[depth + 1 :]
    if isinstance(value, dict) and head.startswith("f:"):
        key = head[2:]
        if key not in value:
            return value
        out = dict(value)
        if rest:
            out[key] = _remove_one(schema.child(key), value[key], path, depth + 1, kept)
            emptied = out[key] in ({}, []) and value[key] not in ({}, [])
            if emptied and path[: depth + 1] not in kept:
                del out[key]
        else:
            del out[key]
        return out
    if isinstance(value, list):
        out_list = []
        for item in value:
            if item_element(schema, item) != head:
                out_list.append(item)
            elif rest:
                out_list.append(_remove_one(schema.items or ANY, item, path, depth + 1, kept))
        return out_list
    return value


def decode_fields(tree: Obj) -> Fields:
    """Read FieldsV1."""
    out: Fields = set()

    def walk(node: Obj, path: Path) -> None:
        if not node and path:
            out.add(path)
        for key, child in node.items():
            if key == ".":
                out.add(path)
            elif isinstance(child, dict):
                walk(child, (*path, key))

    walk(tree, ())
    return out


def encode_fields(fields: Fields) -> Obj:
    """Write FieldsV1."""
    root: Obj = {}
    for path in sorted(fields):
        node = root
        for element in path:
            node = node.setdefault(element, {})
    for path in fields:
        node = root
        for element in path:
            node = node[element]
        if node:
            node["."] = {}
    return root


def read_managers(entries: Any) -> Managers:
    """Read `metadata.managedFields`; an entry without fields is dropped."""
    managers: Managers = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not entry.get("operation") or not isinstance(entry.get("fieldsV1"), dict):
            continue
        writer = Writer(
            entry.get("manager", ""), entry["operation"], entry.get("apiVersion", ""), entry.get("subresource", "")
        )
        managers[writer] = Entry(decode_fields(entry["fieldsV1"]), entry.get("time", ""))
    return managers


def write_managers(managers: Managers) -> list[Obj]:
    """Write `metadata.managedFields`: applies first, then by time."""
    out = []
    order = sorted(managers.items(), key=lambda pair: (pair[0].operation != "Apply", pair[1].time, pair[0]))
    for writer, entry in order:
        if not entry.fields:
            continue
        written: Obj = {"manager": writer.manager, "operation": writer.operation, "apiVersion": writer.api_version}
        if entry.time:
            written["time"] = entry.time
        written |= {"fieldsType": "FieldsV1", "fieldsV1": encode_fields(entry.fields)}
        if writer.subresource:
            written["subresource"] = writer.subresource
        out.append(written)
    return out


def record_update(
    schema: Schema, old: Obj, new: Obj, managers: Managers, writer: Writer, now: str, *, has_status: bool
) -> Managers:
    """Give the fields that an ordinary write changed to its writer, and take them from everybody else."""
    difference = compare(schema, old, new)
    mine = owned(difference.added | difference.modified, subresource=writer.subresource, has_status=has_status)
    gone = difference.removed
    changed = mine | gone
    result: Managers = {}
    for other, entry in managers.items():
        left = entry.fields - (gone if other == writer else changed)
        if left:
            result[other] = Entry(left, entry.time)
    if mine:
        known = result[writer].fields if writer in result else set()
        result[writer] = Entry(known | mine, now)
    return result


@dataclass(slots=True)
class Applied:
    """The outcome of a server-side apply."""

    value: Obj
    managers: Managers


def apply(
    schema: Schema, live: Obj, config: Obj, managers: Managers, writer: Writer, now: str, *,
    force: bool, has_status: bool,
) -> Applied:  # fmt: skip
    """Server-side apply `config` over `live`; ApiError 409 names every conflict unless `force`."""
    mine = owned(field_set(schema, config), subresource=writer.subresource, has_status=has_status)
    others = {other: entry for other, entry in managers.items() if other != writer}
    value = merge(schema, live, config)
    previous = managers[writer].fields if writer in managers else set()
    held: Fields = set(mine).union(*(entry.fields for entry in others.values()))
    value = remove(schema, value, previous - held, held)
    difference = compare(schema, live, value)
    changed = (difference.added | difference.modified) & mine
    conflicts = {other: hit for other, entry in others.items() if (hit := entry.fields & changed)}
    if conflicts and not force:
        raise conflict_error(conflicts)
    result: Managers = {}
    for other, entry in others.items():
        left = entry.fields - changed - difference.removed
        if left:
            result[other] = Entry(left, entry.time)
    unchanged = writer in managers and managers[writer].fields == mine and live == value
    result[writer] = Entry(mine, managers[writer].time if unchanged else now)
    return Applied(value, result)


def show_path(path: Path) -> str:
    """`.spec.containers[name="x"].image`."""
    out = ""
    for element in path:
        kind, rest = element[:2], element[2:]
        if kind == "f:":
            out += f".{rest}"
        elif kind == "k:":
            out += "[" + ",".join(f"{key}={_compact(value)}" for key, value in json.loads(rest).items()) + "]"
        else:
            out += f"[={rest}]"
    return out


def conflict_error(conflicts: dict[Writer, Fields]) -> ApiError:
    """409 in the words of apimachinery's managedfields/internal/conflict.go."""
    causes: list[Obj] = []
    groups: list[tuple[str, list[str]]] = []
    for writer in sorted(conflicts):
        said = json.dumps(writer.manager)
        if writer.subresource:
            said += f' with subresource "{writer.subresource}"'
        if writer.operation == "Update":
            said += f" using {writer.api_version}"
        paths = [show_path(path) for path in sorted(conflicts[writer])]
        groups.append((said, paths))
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {said}", "field": path} for path in paths
        ]
    parts = []
    for said, paths in groups:
        if len(paths) == 1:
            parts.append(f"conflict with {said}: {paths[0]}")
        else:
            parts.append(f"conflicts with {said}:\n" + "\n".join(f"- {path}" for path in paths))
    plural = "conflict" if len(causes) == 1 else "conflicts"
    message = f"Apply failed with {len(causes)} {plural}: " + "\n".join(parts)
    return ApiError(409, "Conflict", message, {"causes": causes})
