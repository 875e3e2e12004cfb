"""«Not mine» and «not there» are one and the same answer, for every endpoint of network and identity.

Parametrized over the endpoint tables themselves, so that a new resource is tested the day it appears.
"""

import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.cloud import Cloud

from vrata.cloud.http import Endpoint
from vrata.cloud.identity import api as identity
from vrata.cloud.network import api as network

PUBLIC = ("extensions/", "services/", "endpoints/", "regions/", "groups/")  # the same for everybody: nothing to hide
NETWORK = [one for one in network.ENDPOINTS if "{" in one.path and not one.path.lstrip("/").startswith(PUBLIC)]
IDENTITY = [one for one in identity.ENDPOINTS if "{" in one.path and not any(word in one.path for word in PUBLIC)]
KINDS = ("projects", "users", "domains")  # of /v3/{collection}/{id}; roles are the same for everybody
# One database is enough: which words are answered does not depend on it.
pytestmark = pytest.mark.parametrize("cloud", ["sqlite"], indirect=True, scope="session")
BASE = "/network/v2.0"


class Victims:
    """One of each resource, in the administrator's project; none is shared."""

    def __init__(self, cloud: Cloud, admin: Any, world: SimpleNamespace, name: str) -> None:
        net = admin.network
        self.network = net.create_network(name=name)
        self.subnet = net.create_subnet(network_id=self.network.id, ip_version=4, cidr="192.168.99.0/24")
        self.port = net.create_port(network_id=self.network.id, name=name)
        self.router = net.create_router(name=name)
        self.floatingip = net.create_ip(floating_network_id=world.external.id)
        self.group = net.create_security_group(name=name)
        self.rule = net.create_security_group_rule(security_group_id=self.group.id, direction="ingress")
        self.pool = net.create_subnet_pool(name=name, prefixes=["10.99.0.0/16"], default_prefixlen=24)
        self.domain = admin.identity.create_domain(name=name)
        self.project = admin.identity.create_project(name=name, domain_id=self.domain.id)
        self.user = admin.identity.create_user(name=name, domain_id=self.domain.id, password="p")
        self.credential = admin.identity.create_application_credential(admin.current_user_id, name=name)
        self.admin, self.cloud = admin, cloud
        self.ids = {
            "networks": self.network.id, "subnets": self.subnet.id, "ports": self.port.id, "routers": self.router.id,
            "floatingips": self.floatingip.id, "security-groups": self.group.id, "security-group-rules": self.rule.id,
            "subnetpools": self.pool.id, "quotas": self.project.id, "projects": self.project.id,
            "users": self.user.id, "domains": self.domain.id, "application_credentials": self.credential.id,
            "access_rules": uuid.uuid4().hex, "member": admin.identity.find_role("member").id,
            "reader": admin.identity.find_role("reader").id,
        }  # fmt: skip

    def clear(self) -> None:
        net, ident = self.admin.network, self.admin.identity
        ident.delete_application_credential(self.admin.current_user_id, self.credential.id)
        ident.update_domain(self.domain, is_enabled=False)
        ident.delete_domain(self.domain)
        net.delete_ip(self.floatingip)
        net.delete_router(self.router)
        net.delete_port(self.port)
        net.delete_network(self.network)
        net.delete_security_group(self.group)
        net.delete_subnet_pool(self.pool)


@pytest.fixture(scope="module")
def victims(cloud: Cloud, admin: Any, world: SimpleNamespace) -> Iterator[Victims]:
    made = Victims(cloud, admin, world, f"t-{uuid.uuid4().hex[:8]}")
    yield made
    made.clear()


def ask(cloud: Cloud, method: str, path: str, body: Any, ids: set[str]) -> tuple[int, str]:
    """Status and body for demo, with the ids taken out."""
    status, said, _ = cloud.request(method, path, body, {"X-Auth-Token": cloud.token()}, timeout_s=30.0)
    text = json.dumps(said, sort_keys=True)
    for one in ids:
        text = text.replace(one, "<id>")
    return status, text


def same(cloud: Cloud, method: str, path: str, body: Any, theirs: str) -> None:
    """`theirs` in path and body, then an id that nobody has: refused, in the same words."""
    absent = str(uuid.uuid4()) if "-" in theirs else uuid.uuid4().hex
    answers = [
        ask(cloud, method, path.replace("<id>", one), json.loads(json.dumps(body).replace("<id>", one)), {one})
        for one in (theirs, absent)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] in {400, 401, 403, 404}


def label(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


BODIES = {
    "tags": {"tags": ["x"]}, "add_router_interface": {"subnet_id": str(uuid.uuid4())},
    "remove_router_interface": {"subnet_id": str(uuid.uuid4())}, "add_extraroutes": {"router": {"routes": []}},
    "remove_extraroutes": {"router": {"routes": []}},
}  # fmt: skip


@pytest.mark.parametrize("endpoint", NETWORK, ids=label)
def test_another_projects_network_resource_is_as_unknown_as_none(
    cloud: Cloud, victims: Victims, endpoint: Endpoint
) -> None:
    collection, _, rest = endpoint.path.lstrip("/").partition("/")
    last = rest.rpartition("/")[2]
    singular = {"security-groups": "security_group", "security-group-rules": "security_group_rule"}.get(
        collection, collection.removesuffix("s")
    )
    body = None if endpoint.method in {"GET", "DELETE"} else BODIES.get(last, {singular: {"description": "x"}})
    path = endpoint.path.replace("{id}", "<id>").replace("{project_id}", "<id>").replace("{tag}", "x")
    same(cloud, endpoint.method, BASE + path, body, victims.ids[collection])


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("networks", "/ports", {"port": {"network_id": "<id>"}}),
        ("networks", "/subnets", {"subnet": {"network_id": "<id>", "cidr": "10.5.0.0/24"}}),
        ("networks", "/floatingips", {"floatingip": {"floating_network_id": "<id>"}}),
        ("networks", "/routers", {"router": {"external_gateway_info": {"network_id": "<id>"}}}),
        ("subnets", "/ports", {"port": {"network_id": "{tenant}", "fixed_ips": [{"subnet_id": "<id>"}]}}),
        ("subnets", "/floatingips", {"floatingip": {"floating_network_id": "{external}", "subnet_id": "<id>"}}),
        ("subnetpools", "/subnets", {"subnet": {"network_id": "{own}", "subnetpool_id": "<id>"}}),
        ("ports", "/floatingips", {"floatingip": {"floating_network_id": "{external}", "port_id": "<id>"}}),
        ("security-groups", "/ports", {"port": {"network_id": "{tenant}", "security_groups": ["<id>"]}}),
        ("security-groups", "/security-group-rules",
         {"security_group_rule": {"security_group_id": "<id>", "direction": "ingress"}}),
        ("security-groups", "/security-group-rules",
         {"security_group_rule": {"security_group_id": "{group}", "direction": "ingress", "remote_group_id": "<id>"}}),
        ("subnets", "PUT /routers/{router}/add_router_interface", {"subnet_id": "<id>"}),
        ("ports", "PUT /routers/{router}/add_router_interface", {"port_id": "<id>"}),
        ("subnets", "PUT /routers/{router}/remove_router_interface", {"subnet_id": "<id>"}),
        ("ports", "PUT /routers/{router}/remove_router_interface", {"port_id": "<id>"}),
        ("networks", "PUT /routers/{router}", {"router": {"external_gateway_info": {"network_id": "<id>"}}}),
        ("projects", "/networks", {"network": {"project_id": "<id>"}}),
    ],
)  # fmt: skip
def test_another_projects_resource_named_in_a_body_is_as_unknown_as_none(
    cloud: Cloud, demo: Any, world: SimpleNamespace, victims: Victims, own: dict[str, str], kind: str, path: str, body: Any
) -> None:  # fmt: skip
    known = own | {"tenant": world.tenant.id, "external": world.external.id}
    text = json.dumps(body)
    for word, value in known.items():
        text, path = text.replace(f"{{{word}}}", value), path.replace(f"{{{word}}}", value)
    method, _, where = path.rpartition(" ")
    same(cloud, method or "POST", BASE + where, json.loads(text), victims.ids[kind])
    assert not list(demo.network.ports(name="none"))


@pytest.fixture(scope="module")
def own(demo: Any) -> Iterator[dict[str, str]]:
    network = demo.network.create_network(name="own")
    group = demo.network.create_security_group(name="own")
    router = demo.network.create_router(name="own")
    yield {"own": network.id, "group": group.id, "router": router.id}
    demo.network.delete_router(router)
    demo.network.delete_security_group(group)
    demo.network.delete_network(network)


def identity_cases() -> list[tuple[str, str, str]]:
    """(method, path, the collection whose member is tried); one case for every identifier of a path."""
    out = []
    for one in IDENTITY:
        for path in [one.path.replace("{collection}", kind) for kind in KINDS] if "{coll" in one.path else [one.path]:
            targets = ("projects", "domains") if "{target}" in path else ("system",)
            for word in targets if "{targets}" in path else ("",):
                concrete = path.replace("{targets}", word)
                places = {"{user}": "users", "{user_id}": "users", "{target}": word, "{prior}": "member",
                          "{implied}": "reader", "{role}": "reader"}  # fmt: skip
                if "{id}" in concrete:
                    places["{id}"] = concrete.partition("/{id}")[0].split("/")[-1]
                out += [
                    (one.method, concrete.replace(name, "<id>"), kind)
                    for name, kind in places.items()
                    if name in concrete
                ]
    return out


@pytest.mark.parametrize(("method", "path", "kind"), identity_cases(), ids=str)
def test_another_ones_identity_is_as_unknown_as_none(
    cloud: Cloud, demo: Any, victims: Victims, method: str, path: str, kind: str
) -> None:
    rest = {"{user}": demo.current_user_id, "{user_id}": demo.current_user_id, "{target}": demo.current_project_id,
            "{role}": victims.ids["member"], "{implied}": victims.ids["member"], "{prior}": victims.ids["reader"],
            "{id}": victims.ids["application_credentials"]}  # fmt: skip
    for name, value in rest.items():
        path = path.replace(name, value)
    body: Any = None
    if method in {"POST", "PATCH"}:
        singular = {"application_credentials": "application_credential"}.get(path.split("/")[-1], kind[:-1])
        body = {singular: {"name": "x", "password": "b", "original_password": "a"}}
    same(cloud, method, "/identity" + path, body, victims.ids[kind])


def test_another_ones_scope_and_token_are_as_unknown_as_none(cloud: Cloud, admin: Any, victims: Victims) -> None:
    token = cloud.token()
    for kind in ("project", "domain"):
        identity = {"methods": ["token"], "token": {"id": token}}
        body = {"auth": {"identity": identity, "scope": {kind: {"id": "<id>"}}}}
        same(cloud, "POST", "/identity/v3/auth/tokens", body, victims.ids[f"{kind}s"])
    answers = [
        cloud.request(method, "/identity/v3/auth/tokens", None, {"X-Auth-Token": token, "X-Subject-Token": subject})[:2]
        for subject in (admin.auth_token, "gAAAnobody")
        for method in ("GET", "DELETE")
    ]
    assert [status for status, _ in answers] == [404] * 4
    assert answers[0] == answers[2]
    assert answers[1] == answers[3]
