"""The key manager's HTTP endpoints (Barbican v1): secrets, payloads, containers, consumers, access lists, versions."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.keymanager import access, attached, containers, lists, secrets
from vrata.cloud.keymanager import tables as t

MEDIA = [{"base": "application/json", "type": "application/vnd.openstack.key-manager-v1+json"}]


def _version(call: Call) -> dict[str, Any]:
    link = {"rel": "self", "href": f"{call.base_url}/key-manager/v1/"}
    return {"id": "v1", "status": "stable", "updated": "2015-04-28T00:00:00Z", "links": [link], "media-types": MEDIA}


def _versions(call: Call) -> Answer:
    return Answer(300, {"versions": {"values": [_version(call)]}})


def _one_version(call: Call) -> Answer:
    return Answer(body={"version": _version(call)})


def _quotas(call: Call) -> Answer:
    access.project(call, write=False)
    return Answer(body={"quotas": dict.fromkeys(("secrets", "orders", "containers", "consumers", "cas"), -1)})


def _project_quotas(call: Call) -> Answer:
    """GET project-quotas: no project has quotas of its own."""
    access.operator(call)
    lists.asked(call)
    return lists.page(call, [], "project_quotas", lambda _call, row: row)


def _no_project_quota(call: Call) -> Answer:
    access.operator(call)
    if call.method == "PUT":
        raise ApiError(501, "This key manager has no quotas: every project may keep as much as it wants.")
    raise ApiError(404, "Project quotas not found.")


def _acl(collection: str, table: sa.Table) -> list[Endpoint]:
    path = f"/{collection}/{{id}}/acl"
    change: Any = access.set_acl(table, collection)
    return [
        Endpoint("GET", path, access.show_acl(table)),
        Endpoint("PUT", path, change, write=True),
        Endpoint("PATCH", path, change, write=True),
        Endpoint("DELETE", path, access.drop_acl(table), write=True),
    ]


ROOT = [Endpoint("GET", "", _versions, public=True), Endpoint("GET", "/", _versions, public=True)]
ENDPOINTS = [
    Endpoint("GET", "", _one_version, public=True),
    Endpoint("GET", "/", _one_version, public=True),
    Endpoint("GET", "/quotas", _quotas),
    Endpoint("GET", "/project-quotas", _project_quotas),
    *(Endpoint(method, "/project-quotas/{id}", _no_project_quota) for method in ("GET", "PUT", "DELETE")),
    Endpoint("GET", "/secrets", secrets.index),
    Endpoint("POST", "/secrets", secrets.create, write=True),
    Endpoint("GET", "/secrets/{id}", secrets.show),
    Endpoint("PUT", "/secrets/{id}", secrets.put_payload, write=True, raw=True),
    Endpoint("DELETE", "/secrets/{id}", secrets.remove, write=True),
    Endpoint("GET", "/secrets/{id}/payload", secrets.payload),
    Endpoint("GET", "/secrets/{id}/metadata", attached.show_metadata),
    Endpoint("PUT", "/secrets/{id}/metadata", attached.set_metadata, write=True),
    Endpoint("POST", "/secrets/{id}/metadata", attached.add_metadata, write=True),
    Endpoint("GET", "/secrets/{id}/metadata/{key}", attached.one_of_metadata),
    Endpoint("PUT", "/secrets/{id}/metadata/{key}", attached.one_of_metadata, write=True),
    Endpoint("DELETE", "/secrets/{id}/metadata/{key}", attached.one_of_metadata, write=True),
    Endpoint("GET", "/secrets/{id}/consumers", attached.list_consumers),
    Endpoint("POST", "/secrets/{id}/consumers", attached.add_consumer, write=True),
    Endpoint("DELETE", "/secrets/{id}/consumers", attached.drop_consumer, write=True),
    Endpoint("GET", "/secrets/{id}/consumers/{consumer}", attached.show_consumer),
    *_acl("secrets", t.secrets),
    Endpoint("GET", "/containers", containers.index),
    Endpoint("POST", "/containers", containers.create, write=True),
    Endpoint("GET", "/containers/{id}", containers.show),
    Endpoint("DELETE", "/containers/{id}", containers.remove, write=True),
    Endpoint("GET", "/containers/{id}/consumers", containers.list_consumers),
    Endpoint("POST", "/containers/{id}/consumers", containers.add_consumer, write=True),
    Endpoint("DELETE", "/containers/{id}/consumers", containers.drop_consumer, write=True),
    Endpoint("GET", "/containers/{id}/consumers/{consumer}", containers.show_consumer),
    Endpoint("POST", "/containers/{id}/secrets", attached.add_secret, write=True),
    Endpoint("DELETE", "/containers/{id}/secrets", attached.drop_secret, write=True),
    *_acl("containers", t.containers),
]
