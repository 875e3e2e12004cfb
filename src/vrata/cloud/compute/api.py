"""Compute's HTTP endpoints: servers, their actions and interfaces, flavors, zones, version documents (Nova v2.1)."""

from typing import Any

from vrata.cloud.compute import flavors, quotas, servers
from vrata.cloud.compute.access import LEAST, NEWEST
from vrata.cloud.http import Answer, Call, Endpoint


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": ".".join(map(str, NEWEST)),
        "min_version": ".".join(map(str, LEAST)),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{call.base_url}/compute/v2.1/"}],
    }


def _versions(call: Call) -> Answer:
    return Answer(body={"versions": [_version(call)]})


def _one_version(call: Call) -> Answer:
    media = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return Answer(body={"version": _version(call) | {"media-types": media}})


ROOT = [Endpoint("GET", "", _versions, public=True), Endpoint("GET", "/", _versions, public=True)]
ENDPOINTS = [
    Endpoint("GET", "", _one_version, public=True),
    Endpoint("GET", "/", _one_version, public=True),
    Endpoint("GET", "/servers", servers.index),
    Endpoint("POST", "/servers", servers.create, write=True),
    Endpoint("GET", "/servers/detail", servers.detail),
    Endpoint("GET", "/servers/{id}", servers.show),
    Endpoint("DELETE", "/servers/{id}", servers.delete, write=True),
    Endpoint("POST", "/servers/{id}/action", servers.act, write=True),
    Endpoint("GET", "/servers/{id}/os-interface", servers.interfaces),
    Endpoint("GET", "/flavors", flavors.index),
    Endpoint("POST", "/flavors", flavors.create, write=True),
    Endpoint("GET", "/flavors/detail", flavors.detail),
    Endpoint("GET", "/flavors/{id}", flavors.show),
    Endpoint("GET", "/flavors/{id}/os-extra_specs", flavors.extra_specs),
    Endpoint("DELETE", "/flavors/{id}", flavors.delete, write=True),
    Endpoint("GET", "/os-quota-sets/{id}", quotas.show),
    Endpoint("GET", "/os-quota-sets/{id}/defaults", quotas.show),
    Endpoint("GET", "/os-quota-sets/{id}/detail", quotas.detail),
    Endpoint("GET", "/limits", quotas.limits),
    Endpoint("GET", "/os-availability-zone", servers.zones),
    Endpoint("GET", "/os-availability-zone/detail", servers.zones),
]
