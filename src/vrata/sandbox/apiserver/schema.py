"""The one description of a kind that drives everything: types, defaults, unknown fields, merge keys, OpenAPI.

Kinds are written in a small notation (`kinds/`), one type a block, one field a line:

    Container
      name!      string
      ports      [ContainerPort] map=containerPort,protocol merge=containerPort
      image      string
      imagePullPolicy string enum=Always|IfNotPresent|Never
      periodSeconds   int = 10

`!` is required; `[T]` a list, `{T}` a map; `any` is kept as it is. `map=` and `set` say how server-side apply merges a
list (structured-merge-diff), `merge` (optionally with a key) and `retain` how a strategic merge patch does;
`enum=` is checked, `shown=` only told (OpenAPI).
`atomic` after a type's name makes it one value for server-side apply. `= JSON` is the default. No I/O.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final


class Unset:
    """Marks a schema without default, where null would be ambiguous."""


UNSET: Final = Unset()


@dataclass(slots=True, eq=False)
class Schema:
    """One node of a type. Treated as immutable once parsed; recursion goes through `fields`."""

    type: str  # object, array, string, integer, number, boolean, int-or-string, any
    name: str = ""  # component name in OpenAPI, empty for anonymous nodes
    format: str = ""
    fields: dict[str, "Schema"] = field(default_factory=dict)
    values: "Schema | None" = None
    items: "Schema | None" = None
    required: tuple[str, ...] = ()
    default: Any = UNSET
    enum: tuple[Any, ...] = ()
    shown: tuple[str, ...] = ()  # values published as an enum, and checked elsewhere
    preserve: bool = False
    nullable: bool = False
    embedded: bool = False
    list_type: str = "atomic"
    list_keys: tuple[str, ...] = ()
    atomic: bool = False
    merge: bool = False
    merge_key: str = ""
    retain_keys: bool = False
    go_type: str = ""
    checks: dict[str, Any] = field(default_factory=dict)  # OpenAPI's value checks, of custom resources

    @property
    def granular(self) -> bool:
        """Whether server-side apply looks into objects of this type."""
        return self.type in ("object", "any") and not self.atomic

    def child(self, name: str) -> "Schema":
        """The schema of one field or map value; unknown ones are `ANY`."""
        return self.fields.get(name) or self.values or ANY


ANY: Final = Schema("any", preserve=True)

_PRIMITIVES: Final[dict[str, Schema]] = {
    "string": Schema("string", go_type="string"),
    "int": Schema("integer", format="int32", go_type="int32"),
    "long": Schema("integer", format="int64", go_type="int64"),
    "number": Schema("number", format="double", go_type="float64"),
    "bool": Schema("boolean", go_type="bool"),
    "time": Schema("string", format="date-time", go_type="string"),
    "bytes": Schema("string", format="byte", go_type="string"),
    "quantity": Schema("int-or-string", name="Quantity", go_type="resource.Quantity"),
    "intstr": Schema("int-or-string", name="IntOrString", format="int-or-string", go_type="intstr.IntOrString"),
    "any": ANY,
}

_LINE: Final = re.compile(r"^\s+([\w$-]+)(!?)\s+(\S+)((?:\s+[^\s=]\S*)*)(?:\s+=\s+(.+))?$")


def _resolve(expression: str, known: dict[str, Schema]) -> Schema:
    if expression[0] == "[":
        return Schema("array", items=_resolve(expression[1:-1], known))
    if expression[0] == "{":
        return Schema("object", values=_resolve(expression[1:-1], known))
    return _PRIMITIVES.get(expression) or known[expression]


def _modified(base: Schema, modifiers: str, default: str | None) -> Schema:
    changes: dict[str, Any] = {}
    for modifier in modifiers.split():
        word, _, argument = modifier.partition("=")
        match word:
            case "map":
                changes |= {"list_type": "map", "list_keys": tuple(argument.split(","))}
            case "set":
                changes["list_type"] = "set"
            case "merge":
                changes |= {"merge": True, "merge_key": argument}
            case "retain":
                changes["retain_keys"] = True
            case "atomic":
                changes["atomic"] = True
            case "enum" | "shown":
                changes[word] = tuple(argument.split("|"))
            case _:
                raise ValueError(f"schema notation: unknown modifier {modifier!r}")
    if default is not None:
        changes["default"] = json.loads(default)
    return dataclasses.replace(base, **changes) if changes else base


def parse(text: str, known: dict[str, Schema]) -> dict[str, Schema]:
    """Read types in the notation, adding them to a copy of `known`; a type must stand above its users."""
    types = dict(known)
    current: Schema | None = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace():
            name, *flags = line.split()
            current = Schema("object", name=name, atomic="atomic" in flags)
            types[name] = current
            continue
        match = _LINE.match(line)
        if match is None or current is None:
            raise ValueError(f"schema notation: cannot read {line!r}")
        name, mark, expression, modifiers, default = match.groups()
        current.fields[name] = _modified(_resolve(expression, types), modifiers, default)
        if mark:
            current.required += (name,)
    return types
