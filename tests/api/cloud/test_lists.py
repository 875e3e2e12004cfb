"""No list answers as if a filter were not there: a client that deletes what it is given would delete the wrong things.

Over every list of every API: a parameter that is no filter is refused, and an attribute that a list shows either
filters it or is refused. A list that is new is here the day it appears, or the first test fails.
"""

import itertools
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tests.support.cloud import Cloud

from vrata.cloud.balancing import api as balancing
from vrata.cloud.compute import api as compute
from vrata.cloud.identity import api as identity
from vrata.cloud.identity.resources import KINDS
from vrata.cloud.keymanager import api as keymanager
from vrata.cloud.network import api as network

APIS = {
    "/identity": identity, "/network/v2.0": network, "/compute/v2.1": compute, "/key-manager/v1": keymanager,
    "/load-balancer/v2/lbaas": balancing,
}  # fmt: skip
# One thing, or a document, whose address does not end with a name of it.
DOCUMENTS = frozenset(
    {"/identity", "/identity/", "/identity/v3", "/identity/v3/", "/identity/v3/auth/tokens",
     "/identity/v3/auth/catalog", "/identity/v3/auth/system", "/network/v2.0", "/network/v2.0/", "/compute/v2.1",
     "/compute/v2.1/", "/key-manager/v1", "/key-manager/v1/", "/key-manager/v1/quotas"}
)  # fmt: skip
PARTS = ("/tags", "/stats", "/status", "/statuses", "/acl", "/payload", "/metadata", "/os-interface",
         "/os-extra_specs", "/default", "/defaults", "/detail", "/details", "/details.json", "/tenant",
         "/os-availability-zone", "/limits")  # fmt: skip # of one thing
NO_GROUPS = "/groups/{"  # 404, whatever is asked for
pytestmark = pytest.mark.parametrize("cloud", ["sqlite"], indirect=True, scope="session")


def templates() -> list[str]:
    """The path of every list."""
    found = []
    for prefix, api in APIS.items():
        for endpoint in api.ENDPOINTS:
            path = prefix + endpoint.path
            lone = any(path.endswith(one) for one in ("servers/detail", "flavors/detail"))
            part = path.endswith(PARTS) and not lone
            if endpoint.method == "GET" and not (path in DOCUMENTS or path.endswith("}") or part or NO_GROUPS in path):
                found.append(path)
    return found + [f"/identity/v3/{kind}" for kind in KINDS]


@pytest.fixture(scope="module")
def ids(cloud: Cloud, admin: Any, world: SimpleNamespace) -> Iterator[dict[str, str]]:
    """What the addresses of lists name; of every kind there is something to list."""
    token = {"X-Auth-Token": cloud.token("admin")}

    def make(path: str, body: Any) -> Any:
        status, said, _ = cloud.request("POST", path, body, token)
        assert status in {200, 201, 202}, (path, said)
        return said

    name = f"t-{uuid.uuid4().hex[:8]}"
    lb = "/load-balancer/v2/lbaas"
    tree = {
        "name": name, "vip_subnet_id": world.subnet.id,
        "listeners": [
            {"protocol": "HTTP", "protocol_port": 80,
             "l7policies": [{"action": "REJECT", "rules": [{"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}]}]}
        ],
        "pools": [
            {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
             "members": [{"address": "10.10.0.9", "protocol_port": 80}],
             "healthmonitor": {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 2, "http_version": 1.1}}
        ],
    }  # fmt: skip
    balancer = make(f"{lb}/loadbalancers", {"loadbalancer": tree})["loadbalancer"]
    profile = make(
        f"{lb}/flavorprofiles", {"flavorprofile": {"name": name, "provider_name": "amphora", "flavor_data": "{}"}}
    )["flavorprofile"]["id"]
    make(f"{lb}/flavors", {"flavor": {"name": name, "flavor_profile_id": profile}})
    zone_profile = {"name": name, "provider_name": "amphora", "availability_zone_data": "{}"}
    zone = make(f"{lb}/availabilityzoneprofiles", {"availability_zone_profile": zone_profile})
    zone = {"name": name, "availability_zone_profile_id": zone["availability_zone_profile"]["id"]}
    make(f"{lb}/availabilityzones", {"availability_zone": zone})
    body = {"name": name, "payload": "x", "payload_content_type": "text/plain", "algorithm": "aes", "bit_length": 256}
    secret = make("/key-manager/v1/secrets", body)["secret_ref"]
    container = {"name": name, "type": "generic", "secret_refs": [{"name": "a", "secret_ref": secret}]}
    container = make("/key-manager/v1/containers", container)["container_ref"]
    for ref, consumer in (
        (secret, {"service": "s", "resource_type": "t", "resource_id": "1"}), (container, {"name": "c", "URL": "u"})
    ):  # fmt: skip
        make(ref.removeprefix(cloud.url) + "/consumers", consumer)
    flavor = make("/compute/v2.1/flavors", {"flavor": {"name": name, "vcpus": 1, "ram": 512, "disk": 3}})
    port = admin.network.create_port(network_id=world.tenant.id, name=name)
    server = {"name": name, "flavorRef": flavor["flavor"]["id"], "networks": [{"port": port.id}]}
    make("/compute/v2.1/servers", {"server": server})
    user, role = admin.current_user_id, admin.identity.find_role("admin").id
    project = admin.current_project_id
    make(f"/identity/v3/users/{user}/application_credentials", {"application_credential": {"name": name}})
    make("/network/v2.0/subnetpools", {"subnetpool": {"name": name, "prefixes": ["10.98.0.0/16"]}})
    floating = admin.network.create_ip(floating_network_id=world.external.id)
    yield {
        "user": user, "user_id": user, "prior": role, "targets": "projects", "target": project, "name": name,
        "pool_id": balancer["pools"][0]["id"], "policy_id": balancer["listeners"][0]["l7policies"][0]["id"],
        "provider": "amphora", "secret": secret.rsplit("/", 1)[-1], "container": container.rsplit("/", 1)[-1],
    }  # fmt: skip
    admin.network.delete_ip(floating)


def address(template: str, ids: dict[str, str]) -> str:
    """The path of a list with real names in it."""
    words = dict(ids, id=ids["secret" if "/secrets/" in template else "container"])
    if template.endswith("/v3/{targets}/users/{user}/roles"):
        words["targets"] = "system"
    return template.format_map(words)


def ask(cloud: Cloud, path: str, *query: tuple[str, str]) -> tuple[int, list[Any]]:
    """Status, and the list in the answer."""
    headers = {"X-Auth-Token": cloud.token("admin")}
    status, body, _ = cloud.request("GET", f"{path}?{urlencode(query)}" if query else path, None, headers)
    if status != 200:
        return status, []
    kind = next((name for name, value in body.items() if isinstance(value, list) and not name.endswith("links")), None)
    if kind is None:
        (kind,) = (name for name, value in body["role_inference"].items() if isinstance(value, list))
        body = body["role_inference"]
    return status, body[kind]


@pytest.mark.parametrize("template", templates())
def test_what_is_no_filter_is_refused(cloud: Cloud, ids: dict[str, str], template: str) -> None:
    path = address(template, ids)
    assert ask(cloud, path)[0] == 200, path
    for name in ("no-such-filter", "name__like", "cascade"):
        assert ask(cloud, path, (name, "x"))[0] == 400, (path, name)


def scalars(row: Any) -> dict[str, str]:
    """The attributes of a row that have one value, as a query writes them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in row.items()
        if isinstance(value, str | int | float)
    }


@pytest.mark.parametrize("template", templates())
def test_an_attribute_that_is_shown_filters_or_is_refused(cloud: Cloud, ids: dict[str, str], template: str) -> None:
    path = address(template, ids)
    _, rows = ask(cloud, path, *([("limit", "100")] if "/key-manager" in path else []))
    assert rows or template.endswith(("/agents", "/availability_zones", "groups", "access_rules", "project-quotas",
                                      "/transitions", "/quotas", "users/{user}/roles"))  # fmt: skip
    tried: set[str] = set()
    for name, value in itertools.chain.from_iterable(scalars(row).items() for row in rows):
        if name in tried:
            continue
        tried.add(name)
        status, found = ask(cloud, path, (name, value))
        assert status in {200, 400}, (path, name)
        if status == 200 and not found:  # a host's last sign of life is another one by now
            _, rows_now = ask(cloud, path, *([("limit", "100")] if "/key-manager" in path else []))
            assert value not in [scalars(row).get(name) for row in rows_now], (path, name, value)
        elif status == 200:
            assert {scalars(row).get(name, value) for row in found} <= {value, value.upper()}, (path, name)
        status, found = ask(cloud, path, (name, "not-a-value-of-anything"))
        assert status == 400 or found == [] or value in {"true", "false"}, (path, name)


DOCUMENTED = [
    # Keystone's filters by comparator, tags and flags (keystone/server/flask/common.py, build_driver_hints)
    ("/identity/v3/users", "name__contains=dmi", True), ("/identity/v3/users", "name__contains=DMI", False),
    ("/identity/v3/users", "name__icontains=DMI", True), ("/identity/v3/users", "name__startswith=adm", True),
    ("/identity/v3/users", "name__iendswith=MIN", True), ("/identity/v3/users", "name__endswith=adm", False),
    ("/identity/v3/users", "password_expires_at=lt:2030-01-01T00:00:00Z", False),
    ("/identity/v3/users", "idp_id=x", False), ("/identity/v3/users", "enabled", True),
    ("/identity/v3/users", "enabled=false", False), ("/identity/v3/projects", "tags=none-has-it", False),
    ("/identity/v3/projects", "tags-any=none-has-it", False), ("/identity/v3/projects", "not-tags=x", True),
    ("/identity/v3/projects", "is_domain=true", False), ("/identity/v3/roles", "domain_id=default", False),
    ("/identity/v3/domains", "name=Default", True), ("/identity/v3/groups", "domain_id=default", False),
    ("/identity/v3/services", "type=network", True), ("/identity/v3/endpoints", "interface=nope", False),
    ("/identity/v3/regions", "parent_region_id=x", False),
    ("/identity/v3/role_assignments", "scope.project.id={target}", True),
    ("/identity/v3/role_assignments", "scope.domain.id={target}", False),
    ("/identity/v3/role_assignments", "scope.project.id={target}&include_subtree", True),
    ("/identity/v3/role_assignments", "scope.OS-INHERIT:inherited_to=projects", False),
    ("/identity/v3/role_assignments", "group.id=x", False), ("/identity/v3/role_assignments", "effective", True),
    ("/identity/v3/role_assignments", "user.id=x", False),
    # Neutron
    ("/network/v2.0/ports", "fixed_ips=ip_address=10.10.0.1", True),
    ("/network/v2.0/ports", "fixed_ips=ip_address=192.0.2.1", False),
    ("/network/v2.0/networks", "router:external=true", True), ("/network/v2.0/networks", "router_external=true", None),
    ("/network/v2.0/networks", "tags=none-has-it", False), ("/network/v2.0/networks", "not-tags=x", True),
    # Barbican
    ("/key-manager/v1/secrets", "alg=aes&bits=256", True), ("/key-manager/v1/secrets", "alg=des", False),
    ("/key-manager/v1/secrets", "created=gt:2020-01-01T00:00:00,lt:2100-01-01T00:00:00", True),
    ("/key-manager/v1/secrets", "created=lt:2020-01-01T00:00:00", False),
    ("/key-manager/v1/secrets", "created=yesterday", None), ("/key-manager/v1/secrets", "acl_only=true", False),
    ("/key-manager/v1/secrets", "sort=created:desc,name", True), ("/key-manager/v1/secrets", "sort=x", None),
    ("/key-manager/v1/containers", "type=rsa", False), ("/key-manager/v1/secrets", "name={name}&marker={secret}", False),
    # Nova
    ("/compute/v2.1/servers", "name={name}", True), ("/compute/v2.1/servers", "name=%5Enope", False),
    ("/compute/v2.1/servers", "ip=10.10", True), ("/compute/v2.1/servers", "ip6=10.10", False),
    ("/compute/v2.1/servers", "status=active", True), ("/compute/v2.1/servers", "status=ERROR", False),
    ("/compute/v2.1/servers", "image=x", False), ("/compute/v2.1/servers", "flavor=x", False),
    ("/compute/v2.1/servers", "host=x", False), ("/compute/v2.1/servers", "tags=x", False),
    ("/compute/v2.1/servers", "not-tags=x", True), ("/compute/v2.1/servers", "deleted=true", False),
    ("/compute/v2.1/servers", "deleted=False", True), ("/compute/v2.1/servers", "user_id=x", False),
    ("/compute/v2.1/servers", "availability_zone=x", False), ("/compute/v2.1/servers", "reservation_id=x", False),
    ("/compute/v2.1/servers", "changes-since=2020-01-01T00:00:00Z", True),
    ("/compute/v2.1/servers", "changes-before=2020-01-01T00:00:00Z", False),
    ("/compute/v2.1/servers", "changes-since=x", None), ("/compute/v2.1/servers", "sort_key=display_name", True),
    ("/compute/v2.1/servers", "sort_key=x", None), ("/compute/v2.1/flavors/detail", "minDisk=3&minRam=512", True),
    ("/compute/v2.1/flavors/detail", "minRam=9999999", False), ("/compute/v2.1/flavors", "is_public=None", True),
    ("/compute/v2.1/flavors", "is_public=false", False), ("/compute/v2.1/flavors", "minDisk=x", None),
    # Octavia
    ("/load-balancer/v2/lbaas/loadbalancers", "name={name}", True),
    ("/load-balancer/v2/lbaas/listeners", "loadbalancer_id=x", False),
    ("/load-balancer/v2/lbaas/pools/{pool_id}/members", "pool_id={pool_id}", True),
    ("/load-balancer/v2/lbaas/l7policies/{policy_id}/rules", "l7policy_id={policy_id}", True),
    ("/load-balancer/v2/lbaas/l7policies/{policy_id}/rules", "l7policy_id=x", False),
    ("/load-balancer/v2/lbaas/providers", "name=nope", False), ("/load-balancer/v2/lbaas/vrata/hosts", "id=x", False),
    ("/load-balancer/v2/lbaas/vrata/pairs", "name={name}", True),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query", "some"), DOCUMENTED)
def test_a_documented_filter_is_honoured(
    cloud: Cloud, ids: dict[str, str], path: str, query: str, some: bool | None
) -> None:
    headers = {"X-Auth-Token": cloud.token("admin")}
    status, body, _ = cloud.request("GET", f"{path}?{query}".format_map(ids), None, headers)
    assert status == (400 if some is None else 200), body
    if some is not None:
        (rows,) = (value for name, value in body.items() if isinstance(value, list) and not name.endswith("_links"))
        assert bool(rows) == some, rows


@pytest.mark.parametrize("path", ["/identity/v3/users", "/identity/v3/roles", "/compute/v2.1/flavors"])
def test_a_list_of_one_at_a_time_is_the_whole_list(cloud: Cloud, ids: dict[str, str], path: str) -> None:
    collection = path.rsplit("/", 1)[-1]
    headers = {"X-Auth-Token": cloud.token("admin")}
    whole = [row["id"] for row in cloud.request("GET", path, None, headers)[1][collection]]
    found: list[str] = []
    for _ in whole:
        marker = f"&marker={quote(found[-1])}" if found else ""
        found += [row["id"] for row in cloud.request("GET", f"{path}?limit=1{marker}", None, headers)[1][collection]]
    assert found == whole
