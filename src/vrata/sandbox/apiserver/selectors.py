"""Label and field selectors, as apimachinery's labels.Parse and fields.ParseSelector read them. No I/O."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vrata.sandbox.apiserver.errors import Obj, bad_request

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on a label."""

    key: str
    operator: str  # in, notin, exists, absent
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it; `notin` is met by an absent label."""
        match self.operator:
            case "in":
                return labels.get(self.key) in self.values and self.key in labels
            case "notin":
                return self.key not in labels or labels[self.key] not in self.values
            case "exists":
                return self.key in labels
        return self.key not in labels


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Read `a=b,c!=d,e in (f,g),!h`."""
    found = []
    for part in _split(text):
        if match := _SET.match(part):
            values = frozenset(value.strip() for value in match[3].split(","))
            found.append(Requirement(match[1], match[2], values))
        elif match := _EQUAL.match(part):
            found.append(Requirement(match[1], "notin" if match[2] == "!=" else "in", frozenset((match[3],))))
        elif match := _EXISTS.match(part):
            found.append(Requirement(match[2], "absent" if match[1] else "exists"))
        else:
            raise bad_request(f"unable to parse requirement: found {part.strip()!r}, expected a label condition")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One condition on a field."""

    path: tuple[str, ...]
    equal: bool
    value: str


_ANYWHERE = ("metadata.name", "metadata.namespace")


def parse_fields(text: str, supported: frozenset[str]) -> tuple[FieldTerm, ...]:
    """Read `metadata.name=x,status.phase!=Running`; ApiError 400 on a field that the kind can not select by."""
    found = []
    for part in _split(text):
        match = re.match(r"^\s*([\w.]+)\s*(==|=|!=)\s*(.*?)\s*$", part)
        if not match:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        if match[1] not in supported and match[1] not in _ANYWHERE:
            if supported:
                raise bad_request(f"field label not supported: {match[1]}")
            known = ", ".join(f'"{name}"' for name in _ANYWHERE)
            raise bad_request(f'"{match[1]}" is not a known field selector: only {known}')
        found.append(FieldTerm(tuple(match[1].split(".")), match[2] != "!=", match[3]))
    return tuple(found)


def field_value(obj: Obj, path: tuple[str, ...]) -> str:
    """The value at a path as selectors compare it: a string, empty if absent."""
    node: object = obj
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    if node is None:
        return ""
    if isinstance(node, bool):
        return str(node).lower()
    return str(node)


Selector = Callable[[Obj], bool]


def selector(labels: tuple[Requirement, ...], fields: tuple[FieldTerm, ...]) -> Selector | None:
    """One predicate for both; None if everything matches."""
    if not labels and not fields:
        return None

    def matches(obj: Obj) -> bool:
        have = obj["metadata"].get("labels") or {}
        return all(requirement.matches(have) for requirement in labels) and all(
            (field_value(obj, term.path) == term.value) is term.equal for term in fields
        )

    return matches


def label_selector_text(selector_obj: Obj | None) -> str:
    """A LabelSelector as text, as `kubectl get -o wide` and Scale show it."""
    if not selector_obj:
        return ""
    parts = [f"{key}={value}" for key, value in sorted((selector_obj.get("matchLabels") or {}).items())]
    for rule in selector_obj.get("matchExpressions") or []:
        values = ",".join(rule.get("values") or [])
        match rule.get("operator"):
            case "In":
                parts.append(f"{rule.get('key', '')} in ({values})")
            case "NotIn":
                parts.append(f"{rule.get('key', '')} notin ({values})")
            case "Exists":
                parts.append(rule.get("key", ""))
            case _:
                parts.append(f"!{rule.get('key', '')}")
    return ",".join(parts)


def label_selector_matches(selector_obj: Obj, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector (matchLabels, matchExpressions) matches."""
    wanted = selector_obj.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector_obj.get("matchExpressions") or []:
        operator = {"In": "in", "NotIn": "notin", "Exists": "exists"}.get(rule.get("operator"), "absent")
        if not Requirement(rule.get("key", ""), operator, frozenset(rule.get("values") or [])).matches(labels):
            return False
    return True
