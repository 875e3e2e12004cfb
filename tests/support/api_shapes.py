"""Every endpoint of the cloud's five APIs with a body that it takes, for tests that put something else into each part.

Bodies and fields come from the tables that check requests, so a new endpoint or field is tried without being named here.
"""

import copy
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.support.cloud import Cloud, wait_for

from vrata.cloud import listing
from vrata.cloud.balancing import api as balancing
from vrata.cloud.compute import api as compute
from vrata.cloud.compute import flavors, servers
from vrata.cloud.http import Endpoint
from vrata.cloud.identity import api as identity
from vrata.cloud.identity.resources import KINDS
from vrata.cloud.keymanager import api as keymanager
from vrata.cloud.keymanager import containers, secrets
from vrata.cloud.network import api as network
from vrata.cloud.network import quotas
from vrata.cloud.network.floating import FLOATING_IPS
from vrata.cloud.network.groups import GROUPS, RULES
from vrata.cloud.network.networks import NETWORKS
from vrata.cloud.network.ports_api import PORTS
from vrata.cloud.network.routers import ROUTERS
from vrata.cloud.network.subnetpools import SUBNETPOOLS
from vrata.cloud.network.subnets import SUBNETS

Json = Any
NEUTRON = (NETWORKS, SUBNETS, SUBNETPOOLS, PORTS, ROUTERS, FLOATING_IPS, GROUPS, RULES)
PREFIX = {
    "identity": "/identity", "network": "/network/v2.0", "compute": "/compute/v2.1", "key-manager": "/key-manager/v1",
    "load-balancer": "/load-balancer/v2.0/lbaas",
}  # fmt: skip
_APIS = (
    ("identity", identity.ENDPOINTS), ("network", network.ENDPOINTS), ("compute", compute.ENDPOINTS),
    ("key-manager", keymanager.ENDPOINTS), ("load-balancer", balancing.ENDPOINTS),
)  # fmt: skip
_PARAMETER = re.compile(r"\{(\w+)\}")
COLLECTIONS = tuple(KINDS)


@dataclass(frozen=True)
class Place:
    """One endpoint on one path."""

    api: str
    endpoint: Endpoint
    path: str  # with the ids of things that are there, where there are any

    def __str__(self) -> str:
        return f"{self.endpoint.method} {PREFIX[self.api]}{self.endpoint.path} ({self.path})"


@dataclass(frozen=True)
class Body:
    """What a write takes: the wrapper's name ("" for none) and an example of each field."""

    wrapper: str
    example: Mapping[str, Json]
    absent: tuple[str, ...] = ()  # fields that the example does without

    def only(self) -> "Body":
        """Without what is marked as absent."""
        there = {name: value for name, value in self.example.items() if value is not ABSENT}
        return Body(self.wrapper, there, tuple(name for name in self.example if name not in there))

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.example, *self.absent)

    def with_(self, **changes: Json) -> Json:
        inner = {**self.example, **changes}
        return {self.wrapper: inner} if self.wrapper else inner


class Ground:
    """A cloud with one of everything, made by its administrator, and requests to it over one connection."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.headers = {"X-Auth-Token": cloud.token("admin")}
        self.ids: dict[str, str] = {}
        self._connection: http.client.HTTPConnection | None = None
        self._make()

    def ask(self, method: str, path: str, body: Json = None, **headers: str) -> tuple[int, Any]:
        """Status and body."""
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        for again in (True, False):  # the other side may have closed it since the last request
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.cloud.port, timeout=60)
            try:
                self._connection.request(method, path, raw, named)
                answer = self._connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                self._connection = None
                if not again:
                    raise
            else:
                return answer.status, json.loads(data) if "json" in (answer.headers["content-type"] or "") else data
        raise AssertionError("unreachable")

    @classmethod
    def again(cls, ground: "Ground") -> "Ground":
        """The same over a connection of its own."""
        other = copy.copy(ground)
        other._connection = None
        return other

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _new(self, name: str, path: str, body: Json, *way: str) -> str:
        def settled() -> tuple[int, Any] | None:
            answer = self.ask("POST", path, body)
            return None if answer[0] == 409 and "immutable" in str(answer[1]) else answer

        status, said = wait_for(settled)
        assert status in (200, 201, 202), (path, status, said)
        for step in way:
            said = said[step]
        self.ids[name] = said.rsplit("/", 1)[-1]
        return self.ids[name]

    def _make(self) -> None:
        net, lb, nova, bar = (PREFIX[api] for api in ("network", "load-balancer", "compute", "key-manager"))
        external = {"name": "external", "router:external": True}
        self._new("external", f"{net}/networks", {"network": external}, "network", "id")
        self._new("networks", f"{net}/networks", {"network": {"name": "n"}}, "network", "id")
        outside = {"network_id": self.ids["external"], "ip_version": 4, "cidr": "203.0.113.0/24"}
        self._new("outside", f"{net}/subnets", {"subnet": outside}, "subnet", "id")
        for name in ("subnetpools", "subnets", "ports", "routers", "floatingips", "security_groups"):
            singular = name.removesuffix("s")
            path = f"{net}/{name.replace('_', '-') if name.startswith('security') else name}"
            self._new(name, path, {singular: dict(self.body_of(name).example)}, singular, "id")
        interface = f"{net}/routers/{self.ids['routers']}/add_router_interface"
        assert self.ask("PUT", interface, {"subnet_id": self.ids["subnets"]})[0] == 200
        rule = dict(self.body_of("security_group_rules").example)
        self._new("security_group_rules", f"{net}/security-group-rules", {"security_group_rule": rule},
                  "security_group_rule", "id")  # fmt: skip
        self._new("secrets", f"{bar}/secrets", secrets_example(), "secret_ref")
        body = {"name": "c", "type": "generic", "secret_refs": []}
        self._new("containers", f"{bar}/containers", body, "container_ref")
        self._new(
            "flavors", f"{nova}/flavors", self.body_of("server_flavors").with_(name="first", id="first"), "flavor", "id"
        )
        self._new("servers", f"{nova}/servers", self.body_of("servers").with_(), "server", "id")
        for kind, name in (("projects", "project"), ("users", "user"), ("roles", "role"), ("domains", "domain")):
            self._new(kind, f"/identity/v3/{kind}", {name: {"name": "fuzz"}}, name, "id")
        for kind in ("loadbalancers", "listeners", "pools", "healthmonitors", "l7policies"):
            made = self.body_of(kind)
            self._new(kind, f"{lb}/{kind}", made.with_(), made.wrapper, "id")
        members = f"{lb}/pools/{self.ids['pools']}/members"
        self._new("members", members, self.body_of("members").with_(address="10.9.0.1"), "member", "id")
        rules = f"{lb}/l7policies/{self.ids['l7policies']}/rules"
        self._new("rules", rules, self.body_of("rules").with_(), "rule", "id")

    def places(self) -> Iterator[Place]:
        """Every endpoint; what its path names exists where this cloud has it."""
        for api, endpoints in _APIS:
            for endpoint in endpoints:
                collections = COLLECTIONS if "{collection}" in endpoint.path else ("",)
                for collection in collections:
                    path = endpoint.path.replace("{collection}", collection)
                    yield Place(api, endpoint, PREFIX[api] + _PARAMETER.sub(partial(self._id, path), path))

    def _id(self, path: str, found: re.Match[str]) -> str:
        parameter = found[1]
        first = path.strip("/").removeprefix("v3/").split("/")[0].replace("-", "_")
        named = {
            "pool_id": "pools", "policy_id": "l7policies", "user_id": "users", "user": "users", "role": "roles",
            "prior": "roles", "implied": "roles", "project_id": "projects", "target": "projects",
        }.get(parameter, first)  # fmt: skip
        if parameter == "id" and "/members/" in path:
            named = "members"
        if parameter == "id" and "/rules/" in path:
            named = "rules"
        if parameter == "targets":
            return "projects"
        return self.ids.get(named, "00000000-0000-0000-0000-000000000000")

    def body(self, place: Place) -> Body | None:
        """What this endpoint takes; None if it takes nothing."""
        if place.endpoint.method not in {"POST", "PUT", "PATCH"}:
            return None
        words = [word for word in place.path.removeprefix(PREFIX[place.api]).strip("/").split("/") if word != "v3"]
        names = [word.replace("-", "_") for word in words if not re.fullmatch(r"[0-9a-f-]{32,36}|first", word)]
        return self.body_of(
            ("server_" if names[-1:] == ["flavors"] and place.api == "compute" else "") + (names or [""])[-1]
        )

    def body_of(self, collection: str) -> Body:
        """The body that makes one of these; a loose one for words of which nothing is known."""
        ids = self.ids
        for resource in NEUTRON:
            if resource.collection == collection:
                return Body(
                    resource.singular, {**dict.fromkeys(resource.fields, ABSENT), **self._neutron(collection)}
                ).only()
        if collection in balancing.BODIES:
            wrapper, fields = balancing.BODIES[collection]
            return Body(wrapper, {**dict.fromkeys(fields, ABSENT), **self._octavia(collection)}).only()
        known: dict[str, Body] = {
            "servers": Body("server", {
                **dict.fromkeys(servers.FIELDS, ABSENT), "name": "s", "flavorRef": ids.get("flavors", ""), "networks": "none",
            }).only(),
            "server_flavors": Body("flavor", {**dict.fromkeys(flavors.FIELDS, ABSENT), "name": "f", "vcpus": 1, "ram": 1}).only(),
            "secrets": Body("", {**dict.fromkeys(secrets.FIELDS, ABSENT), **secrets_example()}).only(),
            "containers": Body("", {**dict.fromkeys(containers.FIELDS, ABSENT), "name": "c", "type": "generic"}).only(),
            "consumers": Body("", {"name": "n", "URL": "http://x"}),
            "acl": Body("read", {"users": [], "project-access": True}),
            "quotas": Body("quota", dict.fromkeys([*quotas.RESOURCES, *balancing.QUOTAS], 5)),
            "application_credentials": Body("application_credential", {
                "name": "a", "description": "", "secret": "s", "roles": [{"name": "admin"}], "expires_at": None,
                "unrestricted": False, "access_rules": [],
            }),
            "action": Body("", {"os-start": None}),
            "password": Body("user", {"original_password": "x", "password": "y"}),
            "tags": Body("", {"tags": ["a"]}),
            "add_router_interface": Body("", {}, ("subnet_id", "port_id")),  # one of them, never both
            "remove_router_interface": Body("", {}, ("subnet_id", "port_id")),
            "add_extraroutes": Body("router", {"routes": []}),
            "remove_extraroutes": Body("router", {"routes": []}),
        }  # fmt: skip
        for kind, (_, singular, names) in KINDS.items():
            known[kind] = Body(
                singular, {**dict.fromkeys([*names, "password", "options"], ABSENT), "name": "fuzzed"}
            ).only()
        return known.get(collection, Body("", {"name": "x"}))

    def _neutron(self, collection: str) -> dict[str, Json]:
        ids = self.ids
        examples: dict[str, dict[str, Json]] = {
            "networks": {"name": "x"},
            "subnets": {"network_id": ids.get("networks"), "ip_version": 4, "cidr": "10.9.0.0/24"},
            "subnetpools": {"name": "p", "prefixes": ["10.60.0.0/16"]},
            "ports": {"network_id": ids.get("networks")},
            "routers": {"name": "r", "external_gateway_info": {"network_id": ids.get("external")}},
            "floatingips": {"floating_network_id": ids.get("external")},
            "security_groups": {"name": "g"},
            "security_group_rules": {"security_group_id": ids.get("security_groups"), "direction": "ingress"},
        }
        return examples[collection]

    def _octavia(self, collection: str) -> dict[str, Json]:
        ids = self.ids
        examples: dict[str, dict[str, Json]] = {
            "loadbalancers": {"name": "lb", "vip_subnet_id": ids.get("subnets")},
            "listeners": {"loadbalancer_id": ids.get("loadbalancers"), "protocol": "HTTP", "protocol_port": 80},
            "pools": {"loadbalancer_id": ids.get("loadbalancers"), "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
            "members": {"address": "10.9.0.9", "protocol_port": 80},
            "healthmonitors": {"pool_id": ids.get("pools"), "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1},
            "l7policies": {"listener_id": ids.get("listeners"), "action": "REJECT"},
            "rules": {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"},
        }
        return examples.get(collection, {"name": "x"})


def secrets_example() -> dict[str, Json]:
    """A secret of Barbican's."""
    return {"name": "s", "payload": "text", "payload_content_type": "text/plain"}


ABSENT = object()


def parameters_of(place: Place) -> list[str]:
    """The query parameters of a list."""
    known: set[str] = set(listing.CONTROL)
    for resource in NEUTRON:
        path = (
            resource.collection.replace("_", "-") if resource.collection.startswith("security") else resource.collection
        )
        if place.path == f"{PREFIX['network']}/{path}":
            return sorted(known | set(resource.known()))
    collection = place.path.rsplit("/", 1)[-1]
    if place.api == "load-balancer" and collection in balancing.BODIES:
        return sorted(known | set(balancing.BODIES[collection][1]) | {"id", "project_id", "provisioning_status"})
    return {
        "compute": ["name", "ip", "status", "uuid", "limit", "marker", "all_tenants", "project_id", "tenant_id"],
        "key-manager": ["name", "alg", "mode", "bits", "secret_type", "limit", "offset", "type"],
        "identity": ["name", "domain_id", "id", "parent_id", "enabled", "user.id", "role.id", "scope.project.id", "effective",
                     "include_names", "type", "interface", "nocatalog"],
        "network": ["fields", "limit"], "load-balancer": ["fields", "limit"],
    }[place.api]  # fmt: skip
