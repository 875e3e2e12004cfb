"""CustomResourceDefinitions: read into served resources, checked, and their conditions. No I/O."""

import re
from typing import Any

from vrata.sandbox.apiserver.errors import Cause, Obj, invalid, required
from vrata.sandbox.apiserver.kinds.meta import TYPES
from vrata.sandbox.apiserver.resources import Registry, Resource
from vrata.sandbox.apiserver.schema import ANY, Schema

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_CHECKS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties",
)  # fmt: skip


def read_schema(node: Any) -> Schema:
    """A structural OpenAPI v3 schema as ours; what is not structural is kept as it is."""
    if not isinstance(node, dict):
        return ANY
    kind = node.get("type") or ("int-or-string" if node.get("x-kubernetes-int-or-string") else "any")
    additional = node.get("additionalProperties")
    schema = Schema(
        kind,
        format=node.get("format", ""),
        fields={name: read_schema(child) for name, child in (node.get("properties") or {}).items()},
        values=read_schema(additional) if isinstance(additional, dict) else (ANY if additional is True else None),
        items=read_schema(node["items"]) if isinstance(node.get("items"), dict) else None,
        required=tuple(node.get("required") or ()),
        enum=tuple(node.get("enum") or ()),
        preserve=bool(node.get("x-kubernetes-preserve-unknown-fields")) or kind == "any",
        nullable=bool(node.get("nullable")),
        embedded=bool(node.get("x-kubernetes-embedded-resource")),
        list_type=node.get("x-kubernetes-list-type", "atomic"),
        list_keys=tuple(node.get("x-kubernetes-list-map-keys") or ()),
        atomic=node.get("x-kubernetes-map-type") == "atomic",
        checks={word: node[word] for word in _CHECKS if word in node},
    )
    if "default" in node:
        schema.default = node["default"]
    if "description" in node:
        schema.checks["description"] = node["description"]
    return schema


def resources_of(crd: Obj) -> list[Resource]:
    """The resources that a definition serves, one for each served version."""
    spec = crd["spec"]
    names = (crd.get("status") or {}).get("acceptedNames") or spec["names"]
    found = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        schema = read_schema((version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"})
        schema.preserve = schema.preserve or bool(spec.get("preserveUnknownFields"))
        for key in ("apiVersion", "kind"):
            schema.fields[key] = Schema("string")
        schema.fields["metadata"] = TYPES["ObjectMeta"]
        subresources = version.get("subresources") or {}
        found.append(
            Resource(
                spec["group"], version["name"], names["kind"], names["plural"], schema,
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(name for name in ("status", "scale") if name in subresources),
                generation=True,
                singular_name=names.get("singular", ""),
                list_kind_name=names.get("listKind", ""),
                crd=crd["metadata"]["name"],
                columns=tuple(version.get("additionalPrinterColumns") or ()),
                scale=subresources.get("scale"),
                selectable=frozenset(
                    str(entry.get("jsonPath", "")).lstrip(".") for entry in version.get("selectableFields") or []
                ),
            )
        )  # fmt: skip
    return found


def validate_crd(crd: Obj, old: Obj | None) -> list[Cause]:
    """Names, versions and schemas of a definition."""
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    causes: list[Cause] = []
    group, plural = spec.get("group", ""), names.get("plural", "")
    if group and crd["metadata"]["name"] != f"{plural}.{group}":
        causes.append(invalid("metadata.name", crd["metadata"]["name"], 'must be spec.names.plural+"."+spec.group'))
    if group and "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    versions = spec.get("versions") or []
    if not versions:
        causes.append(required("spec.versions"))
    elif sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(
            invalid(
                "spec.versions",
                [v.get("name") for v in versions],
                "must have exactly one version marked as storage version",
            )
        )
    for i, version in enumerate(versions):
        at = f"spec.versions[{i}].schema.openAPIV3Schema"
        root = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(root, dict):
            causes.append(required(at, "schemas are required"))
            continue
        if root.get("type") != "object":
            causes.append(invalid(f"{at}.type", root.get("type", ""), "must be object at the root"))
        causes += _structural(root, at)
    if old is not None:
        before = old["spec"]
        if spec.get("scope") != before.get("scope"):
            causes.append(invalid("spec.scope", spec.get("scope"), "field is immutable"))
        if names.get("plural") != before["names"].get("plural"):
            causes.append(invalid("spec.names.plural", names.get("plural"), "field is immutable"))
    return causes


def _structural(node: Obj, at: str) -> list[Cause]:
    causes: list[Cause] = []
    if (
        not node.get("type")
        and not node.get("x-kubernetes-int-or-string")
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ):
        causes.append(required(f"{at}.type", "must not be empty for specified object fields"))
    if "pattern" in node:
        try:
            re.compile(node["pattern"])
        except (re.error, TypeError):
            causes.append(invalid(f"{at}.pattern", node["pattern"], "must be a valid regular expression"))
    if node.get("properties") and isinstance(node.get("additionalProperties"), dict):
        causes.append(
            Cause(
                "FieldValueForbidden",
                f"{at}.additionalProperties",
                "Forbidden: additionalProperties and properties are mutual exclusive",
            )
        )
    for name, child in (node.get("properties") or {}).items():
        if at.endswith("openAPIV3Schema") and name in ("apiVersion", "kind", "metadata"):
            continue
        if isinstance(child, dict):
            causes += _structural(child, f"{at}.properties[{name}]")
    if node.get("type") == "array" and not isinstance(node.get("items"), dict):
        causes.append(required(f"{at}.items", "must be specified"))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            causes += _structural(node[key], f"{at}.{key}")
    return causes


def conflict_with(crd: Obj, registry: Registry) -> str:
    """Why the names can not be accepted: another resource of the group has them. Empty if they can."""
    spec = crd["spec"]
    for resource in registry.all():
        if resource.group != spec["group"] or resource.crd == crd["metadata"]["name"]:
            continue
        if resource.plural == spec["names"]["plural"]:
            return f'"{resource.plural}" is already in use'
        if resource.kind == spec["names"]["kind"]:
            return f'"{resource.kind}" is already in use'
    return ""


def set_status(crd: Obj, why_not: str, now: str) -> None:
    """Conditions, accepted names and stored versions, in place."""
    status = crd.setdefault("status", {})
    accepted = not why_not
    _condition(status, "NamesAccepted", accepted, "NoConflicts" if accepted else "NameConflict",
               "no conflicts found" if accepted else why_not, now)  # fmt: skip
    _condition(status, "Established", accepted, "InitialNamesAccepted" if accepted else "NotAccepted",
               "the initial names have been accepted" if accepted else "not all names are accepted", now)  # fmt: skip
    status["acceptedNames"] = crd["spec"]["names"] if accepted else {"plural": "", "kind": ""}
    stored = status.setdefault("storedVersions", [])
    for version in crd["spec"]["versions"]:
        if version.get("storage") and version["name"] not in stored:
            stored.append(version["name"])


def _condition(status: Obj, kind: str, true: bool, reason: str, message: str, now: str) -> None:
    conditions = status.setdefault("conditions", [])
    wanted = {"type": kind, "status": "True" if true else "False", "reason": reason, "message": message}
    for condition in conditions:
        if condition["type"] == kind:
            if condition["status"] != wanted["status"]:
                condition |= {**wanted, "lastTransitionTime": now}
            return
    conditions.append({**wanted, "lastTransitionTime": now})
