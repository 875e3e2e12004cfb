"""The OpenAPI 3.1 description of the balancing API, made from the same tables that check requests, so it stays true.

Served at `/load-balancer/openapi.json`. It describes what is accepted, not what fields mean together: that is the
resource's business, and its answer is a 400 with a sentence.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vrata.cloud.fields import UNSET, Field
from vrata.cloud.http import Answer, Call, Endpoint

Json = dict[str, Any]
Bodies = Mapping[str, tuple[str, Mapping[str, Field]]]  # collection -> singular and fields

_KINDS: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "uuid": {"type": "string", "format": "uuid"},
    "ip": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    "address": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    "cidr": {"type": "string"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "records": {"type": "array", "items": {"type": "object"}},
    "any": {},
}
_PARAMETER = re.compile(r"\{(\w+)\}")
_FAULT: Json = {
    "type": "object",
    "required": ["faultcode", "faultstring"],
    "properties": {
        "faultcode": {"enum": ["Client", "Server"]},
        "faultstring": {"type": "string"},
        "debuginfo": {"type": ["string", "null"]},
    },
}
_REFUSALS = {"400": "A field, filter or option is not valid.", "401": "No valid token.",
             "403": "The role does not allow it, or a quota is met.", "404": "There is no such resource.",
             "409": "The load balancer is immutable now, or something of the kind exists.",
             "501": "Not offered by this provider."}  # fmt: skip
_ACCEPTED = frozenset(
    {("PUT", "members"), ("PUT", "failover"), ("PUT", "quotas"), ("DELETE", "quotas"), ("PUT", "config")}
)


def document(endpoints: Sequence[Endpoint], prefix: str, bodies: Bodies, version: str) -> Json:
    """The whole description of these endpoints under `prefix`."""
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(prefix + endpoint.path, {"parameters": _parameters(endpoint.path)})
        operations[endpoint.method.lower()] = _operation(endpoint, bodies)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Vrata load balancing (Octavia API v2)", "version": version},
        "components": {
            "schemas": {"Fault": _FAULT, **{name: _schema(fields, updating=False) for name, fields in bodies.values()}},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
        "security": [{"token": []}],
        "paths": paths,
    }


def _parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _operation(endpoint: Endpoint, bodies: Bodies) -> Json:
    words = endpoint.path.strip("/").split("/")
    last = [word for word in words if not word.startswith("{")][-1]
    status = "201" if endpoint.method == "POST" else "204" if endpoint.method == "DELETE" else "200"
    batch = last == "members" and words[-1] != "members"
    if (endpoint.method, last) in _ACCEPTED and not batch:
        status = "202"
    operation: Json = {
        "operationId": f"{endpoint.method.lower()} {endpoint.path}",
        "responses": {status: {"description": "Done."}} | _refusals(),
    }
    if endpoint.public:
        operation["security"] = []
    if endpoint.method in {"POST", "PUT"} and last in bodies and status != "202":
        name, fields = bodies[last]
        schema = _schema(fields, updating=endpoint.method == "PUT")
        wrapped = {"type": "object", "required": [name], "properties": {name: schema}}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": wrapped}}}
    return operation


def _refusals() -> Json:
    fault = {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}}
    return {status: {"description": text, "content": fault} for status, text in _REFUSALS.items()}


def _schema(fields: Mapping[str, Field], *, updating: bool) -> Json:
    known = {name: field for name, field in fields.items() if (field.update if updating else field.create)}
    schema: Json = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(field) for name, field in known.items()},
    }
    required = [name for name, field in known.items() if field.required and not updating]
    return schema | ({"required": required} if required else {})


def _property(field: Field) -> Json:
    schema = dict(_KINDS[field.kind])
    if field.choices:
        schema["enum"] = [*field.choices, *([None] if field.nullable else [])]
    if field.kind == "str" and not field.choices:
        schema["maxLength"] = field.length
    if field.least is not None:
        schema["minimum"] = field.least
    if field.most is not None:
        schema["maximum"] = field.most
    if field.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if field.default is not UNSET and field.default is not None:
        schema["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return schema


def endpoint(path: str, described: Sequence[Endpoint], prefix: str, bodies: Bodies, version: str) -> Endpoint:
    """Serves the description, made once, as bytes: everybody may ask for it."""
    answer = Answer(
        200, msgspec.json.encode(document(described, prefix, bodies, version)), {"content-type": "application/json"}
    )

    def serve(_call: Call) -> Answer:
        return answer

    return Endpoint("GET", path, serve, public=True)
