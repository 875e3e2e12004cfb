"""Network's HTTP endpoints: the resources, router interfaces, extensions, quotas shown, version documents."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vrata.cloud import listing
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.network import groups, quotas
from vrata.cloud.network.floating import FLOATING_IPS
from vrata.cloud.network.groups import GROUPS, RULES
from vrata.cloud.network.networks import NETWORKS
from vrata.cloud.network.ports_api import PORTS
from vrata.cloud.network.resource import authorize, endpoints
from vrata.cloud.network.routers import INTERFACES, ROUTERS
from vrata.cloud.network.subnetpools import SUBNETPOOLS
from vrata.cloud.network.subnets import SUBNETS
from vrata.cloud.store import Row

EXTENSIONS = {
    "router": "Neutron L3 Router", "external-net": "Neutron external network", "provider": "Provider Network",
    "security-group": "security-group", "allowed-address-pairs": "Allowed Address Pairs",
    "ext-gw-mode": "Neutron L3 Configurable external gateway mode", "standard-attr-tag": "Tag support",
    "standard-attr-description": "standard-attr-description", "standard-attr-timestamp": "Resource timestamps",
    "standard-attr-revisions": "Resource revision numbers", "revision-if-match": "If-Match constraints based on revision_number",
    "filter-validation": "Filter parameters validation", "pagination": "Pagination support",
    "sorting": "Sorting support", "project-id": "project_id field enabled", "net-mtu": "Network MTU",
    "net-mtu-writable": "Network MTU (writable)",
    "binding": "Port Binding", "port-security": "Port Security", "l3-ha": "HA Router extension",
    "fip-port-details": "Floating IP Port Details Extension", "quotas": "Quota management support",
    "quota-check-limit": "Quota engine limit check", "quota_details": "Quota details management support",
    "subnet_allocation": "Subnet Allocation",
    "default-subnetpools": "Default Subnetpools", "extraroute": "Neutron Extra Route",
    "extraroute-atomic": "Atomically add/remove extra routes",
    "tag-ports-during-bulk-creation": "Tag Ports During Bulk Creation", "agent": "agent",
    "service-type": "Neutron Service Type Management",
}  # fmt: skip


def _versions(call: Call) -> Answer:
    href = f"{call.base_url}/network/v2.0/"
    return Answer(body={"versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]}]})


def _resources(call: Call) -> Answer:
    names = ("network", "subnet", "subnetpool", "port", "router", "floatingip", "security-group", "security-group-rule")
    return Answer(
        body={
            "resources": [
                {
                    "name": name, "collection": f"{name}s",
                    "links": [{"rel": "self", "href": f"{call.base_url}/network/v2.0/{name}s"}],
                }
                for name in names
            ]
        }
    )  # fmt: skip


def _extension(alias: str) -> dict[str, Any]:
    return {
        "alias": alias, "name": EXTENSIONS[alias], "description": EXTENSIONS[alias], "links": [],
        "updated": "2024-01-01T00:00:00-00:00",
    }  # fmt: skip


def _extensions(call: Call) -> Answer:
    return _listed(call, "extensions", [_extension(alias) for alias in sorted(EXTENSIONS)], _extension("agent"))


def _listed(call: Call, collection: str, rows: list[Row], known: Iterable[str]) -> Answer:
    return Answer(body={collection: listing.kept(call, rows, listing.NEUTRON, known=list(known))})


def _one_extension(call: Call) -> Answer:
    if call.path["alias"] not in EXTENSIONS:
        raise ApiError(404, "The resource could not be found.", "HTTPNotFound")
    return Answer(body={"extension": _extension(call.path["alias"])})


def _empty(collection: str, *known: str) -> Any:
    def show(call: Call) -> Answer:
        authorize(call, write=False)
        return _listed(call, collection, [], known)

    return show


def _providers(call: Call) -> Answer:
    """What routers are: pairs on two hosts."""
    authorize(call, write=False)
    row = {"service_type": "L3_ROUTER_NAT", "name": "ha", "default": True}
    return _listed(call, "service_providers", [row], row)


def _with_default_group(endpoint: Endpoint) -> Endpoint:
    """Neutron makes a project's default group the first time somebody looks at its groups."""

    def serve(call: Call) -> Answer:
        authorize(call, write=False)
        if call.caller.project_id is not None:
            groups.default_group(call, call.caller.project_id)
        return endpoint.handler(call)

    return Endpoint(endpoint.method, endpoint.path, serve, write=True)


ROOT = [Endpoint("GET", "", _versions, public=True), Endpoint("GET", "/", _versions, public=True)]

ENDPOINTS = [
    Endpoint("GET", "", _resources),
    Endpoint("GET", "/", _resources),
    Endpoint("GET", "/extensions", _extensions),
    Endpoint("GET", "/extensions/{alias}", _one_extension),
    *quotas.ENDPOINTS,
    Endpoint(
        "GET", "/agents", _empty("agents", "id", "agent_type", "binary", "topic", "host", "alive", "admin_state_up")
    ),
    Endpoint("GET", "/availability_zones", _empty("availability_zones", "name", "state", "resource")),
    Endpoint("GET", "/service-providers", _providers),
    *INTERFACES,
    *endpoints(NETWORKS),
    *endpoints(SUBNETS),
    *endpoints(SUBNETPOOLS),
    *endpoints(PORTS),
    *endpoints(ROUTERS),
    *endpoints(FLOATING_IPS),
    _with_default_group(endpoints(GROUPS)[0]),
    *endpoints(GROUPS)[1:],
    *endpoints(RULES),
]


def _spellings(endpoint: Endpoint) -> list[Endpoint]:
    """Neutron takes a collection's name with hyphens and with underscores (NeutronManager.get_controller_for_resource)."""
    collection, slash, rest = endpoint.path.removeprefix("/").partition("/")
    names = dict.fromkeys((collection, collection.replace("-", "_"), collection.replace("_", "-")))
    return [replace(endpoint, path=f"/{name}{slash}{rest}") if collection else endpoint for name in names]


SPELLED = [spelled for endpoint in ENDPOINTS for spelled in _spellings(endpoint)]
