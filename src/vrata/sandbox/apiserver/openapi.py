"""/openapi/v3 made from the schemas: enough for kubectl's validation, `explain` and typed clients."""

import json
from typing import Any, Final

from vrata.sandbox.apiserver.descriptions import describe
from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.kinds.core import TYPES as _CORE
from vrata.sandbox.apiserver.resources import Registry, Resource
from vrata.sandbox.apiserver.schema import UNSET, Schema

_JSON_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_PREFIXES = {
    "": "io.k8s.api.core.v1",
    "apps": "io.k8s.api.apps.v1",
    "policy": "io.k8s.api.policy.v1",
    "admissionregistration.k8s.io": "io.k8s.api.admissionregistration.v1",
    "networking.k8s.io": "io.k8s.api.networking.v1",
    "discovery.k8s.io": "io.k8s.api.discovery.v1",
    "coordination.k8s.io": "io.k8s.api.coordination.v1",
    "events.k8s.io": "io.k8s.api.events.v1",
    "authorization.k8s.io": "io.k8s.api.authorization.v1",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac.v1",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
}
# Types that are named otherwise here, where two groups have one of the same name.
_RENAMED = {
    "CoreEventSeries": "EventSeries", "RbacSubject": "Subject",
    "WebhookService": "ServiceReference",
    "SliceEndpoint": "Endpoint", "SliceEndpointConditions": "EndpointConditions", "SlicePort": "EndpointPort",
    "CrdNames": "CustomResourceDefinitionNames", "CrdPrinterColumn": "CustomResourceColumnDefinition",
    "CrdSpec": "CustomResourceDefinitionSpec", "CrdStatus": "CustomResourceDefinitionStatus",
    "CrdVersion": "CustomResourceDefinitionVersion",
}  # fmt: skip
_META = ("ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "LabelSelector", "LabelSelectorRequirement", "Condition")


V2_MEDIA: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_TITLE: Final = "Vrata sandbox"
_VERSION: Final = "v1.37.0"


def v2_document(*, protobuf: bool) -> bytes:
    """/openapi/v2 without definitions: kubectl asks for it to check a `kind: List`, and then leaves the items to us."""
    info = {"title": _TITLE, "version": _VERSION}
    if not protobuf:
        return json.dumps({"swagger": "2.0", "info": info, "paths": {}}).encode()

    def text(number: int, value: bytes) -> bytes:
        assert len(value) < 128
        return bytes((number << 3 | 2, len(value))) + value

    return text(1, b"2.0") + text(2, text(1, _TITLE.encode()) + text(2, _VERSION.encode())) + text(8, b"")


def group_path(group: str, version: str) -> str:
    """`apis/apps/v1`, or `api/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def index(registry: Registry) -> Obj:
    """The answer of /openapi/v3; the hash lets clients cache until something changes."""
    paths = {}
    for group, versions in registry.groups().items():
        for version in versions:
            path = group_path(group, version)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={registry.version}"}
    return {"paths": paths}


class _Components:
    """Collects named types while they are referred to."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.schemas: dict[str, Obj] = {}

    def name(self, schema: Schema) -> str:
        if schema.name in _META:
            return f"io.k8s.apimachinery.pkg.apis.meta.v1.{schema.name}"
        of_core = schema.name in _CORE and schema.fields is _CORE[schema.name].fields
        prefix = _PREFIXES[""] if of_core else self.prefix
        return f"{prefix}.{_RENAMED.get(schema.name, schema.name)}"

    def refer(self, schema: Schema) -> Obj:
        """The schema as JSON; a named object becomes a reference."""
        if schema.type == "object" and schema.name:
            name = self.name(schema)
            if name not in self.schemas:
                self.schemas[name] = {}
                self.schemas[name] = self.write(schema, name)
            reference: Obj = {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}
            return reference | self._extras(schema)
        return self.write(schema)

    def _extras(self, schema: Schema) -> Obj:
        out: Obj = {} if schema.default is UNSET else {"default": schema.default}
        if schema.type == "array":
            out["x-kubernetes-list-type"] = schema.list_type
            if schema.list_keys:
                out["x-kubernetes-list-map-keys"] = list(schema.list_keys)
        if schema.merge or schema.retain_keys:
            words = [word for word, on in (("merge", schema.merge), ("retainKeys", schema.retain_keys)) if on]
            out["x-kubernetes-patch-strategy"] = ",".join(words)
        if schema.merge_key:
            out["x-kubernetes-patch-merge-key"] = schema.merge_key
        if schema.atomic:
            out["x-kubernetes-map-type"] = "atomic"
        if schema.preserve:
            out["x-kubernetes-preserve-unknown-fields"] = True
        return out

    def write(self, schema: Schema, name: str = "") -> Obj:
        """The schema in full; `name`: of the component that it is."""
        said = describe(name)
        out: Obj = {"description": said[""]} if "" in said else {}
        if schema.type in _JSON_TYPES:
            out["type"] = schema.type
        elif schema.type == "int-or-string":
            out["oneOf"] = [{"type": "string"}, {"type": "integer"}]
        if schema.format:
            out["format"] = schema.format
        if schema.fields:
            out["properties"] = {
                key: self.refer(child) | ({"description": said[key]} if key in said else {})
                for key, child in schema.fields.items()
            }
        if schema.values is not None:
            out["additionalProperties"] = self.refer(schema.values)
        if schema.items is not None:
            out["items"] = self.refer(schema.items)
        if schema.required:
            out["required"] = list(schema.required)
        if schema.enum or schema.shown:
            options = schema.enum or schema.shown
            out["enum"] = sorted(options) if schema.go_type else list(options)  # a custom resource's as they are given
        if schema.nullable:
            out["nullable"] = True
        return out | schema.checks | self._extras(schema)


_QUERY: tuple[tuple[str, str], ...] = (
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
)


def _parameters(more: tuple[tuple[str, str], ...] = ()) -> list[Obj]:
    return [
        {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}} for name, kind in (*_QUERY, *more)
    ]


def _operation(resource: Resource, action: str, reference: Obj, *, body: tuple[str, ...] = ()) -> Obj:
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    operation: Obj = {
        "operationId": f"{action}{'Namespaced' if resource.namespaced else ''}{resource.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    }
    if body:
        operation["parameters"] = _parameters((("force", "boolean"),) if action == "patch" else ())
        schema = {"type": "object"} if action == "patch" else reference
        operation["requestBody"] = {"required": True, "content": {media: {"schema": schema} for media in body}}
    return operation


# Strategic merge is served but not listed: kubectl then takes merge keys from its own types, as for any older server,
# and needs no component for what is kept as `any` here.
_PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)


def group_document(registry: Registry, group: str, version: str) -> Obj:
    """The OpenAPI 3.0 document of one group version."""
    components = _Components(_PREFIXES.get(group) or ".".join([*reversed(group.split(".")), version]))
    paths: dict[str, Any] = {}
    for resource in registry.all():
        if (resource.group, resource.version) != (group, version):
            continue
        gvk = {"group": group, "version": version, "kind": resource.kind}
        name = f"{components.prefix}.{resource.kind}"
        components.schemas[name] = {**components.write(resource.schema, name), "x-kubernetes-group-version-kind": [gvk]}
        reference = {"$ref": f"#/components/schemas/{name}"}
        inside = "namespaces/{namespace}/" if resource.namespaced else ""
        collection = f"/{group_path(group, version)}/{inside}{resource.plural}"
        paths[collection] = {
            "get": _operation(resource, "list", reference),
            "post": _operation(resource, "post", reference, body=("application/json",)),
        }
        for path in (f"{collection}/{{name}}", *(f"{collection}/{{name}}/status" for _ in range(resource.has_status))):
            paths[path] = {
                "get": _operation(resource, "get", reference),
                "put": _operation(resource, "put", reference, body=("application/json",)),
                "patch": _operation(resource, "patch", reference, body=_PATCHES),
                "delete": _operation(resource, "delete", reference),
            }
    return {
        "openapi": "3.0.0",
        "info": {"title": _TITLE, "version": _VERSION},
        "paths": paths,
        "components": {"schemas": components.schemas},
    }
