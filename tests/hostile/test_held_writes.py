"""How long others wait for a tenant's lists: processor time of every transaction that writes, on SQLite, which has one.

Each endpoint that takes a list gets the longest one that it accepts, of valid items. The service itself measures its
transactions (`vrata_cloud_write_processor_seconds`): other load on the machine does not count.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tests.support.api_shapes import NEUTRON, PREFIX, Body, Ground
from tests.support.cloud import Cloud, FakeHost, wait_for

from vrata.cloud.balancing import api as balancing
from vrata.cloud.balancing import model, tree
from vrata.cloud.fields import Field
from vrata.cloud.keymanager import containers
from vrata.cloud.network.ports_api import FIXED_MAX, PORTS
from vrata.cloud.network.resource import BULK_MAX

BOUND_S = 0.1  # a bucket of the histogram
TRIES = 6  # processor time is longer where others use the same caches
LISTS = frozenset({"list", "strings", "records", "dict", "any"})
LB, NET, BAR = (PREFIX[api] for api in ("load-balancer", "network", "key-manager"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), None, "--network-quota", "none")
    cloud.start()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    yield ground
    ground.close()
    for host in hosts:
        host.stop()
    assert cloud.stop() == 0


def long_writes(cloud: Cloud) -> int:
    """How many transactions that write have taken more than the bound so far."""
    text = cloud.request("GET", "/metrics")[1]
    name = "vrata_cloud_write_processor_seconds"
    found = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
    }
    return int(found[f"{name}_count"] - found[f'{name}_bucket{{le="{BOUND_S}"}}'])


class Watch:
    """Asks, and keeps what held the writes of others for too long, each time of TRIES."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.over: list[str] = []
        self.answers: dict[str, int] = {}

    def ask(self, what: str, method: str, path: str, body: Any, *, settled: str = "") -> Any:
        """The answer; what hosts report of it afterwards counts, too, if `settled` names a load balancer.

        `body` may be a function of the number of the try.
        """
        said: Any = None
        for number in range(TRIES):
            before = long_writes(self.ground.cloud)
            given = body(number) if callable(body) else body
            self.answers[what], said = wait_for(partial(self._mutable, method, path, given))
            balancer = settled or (said.get("loadbalancer", {}).get("id", "") if isinstance(said, dict) else "")
            if balancer:
                wait_for(partial(self._at_rest, balancer))
            if long_writes(self.ground.cloud) == before:
                return said
        self.over.append(what)
        return said

    def _mutable(self, method: str, path: str, body: Any) -> tuple[int, Any] | None:
        answer = self.ground.ask(method, path, body)
        return None if "immutable" in str(answer[1]) else answer

    def _at_rest(self, balancer: str) -> bool:
        said = self.ground.ask("GET", f"{LB}/loadbalancers/{balancer}")[1]
        return said["loadbalancer"]["provisioning_status"] in {"ACTIVE", "ERROR"}

    def verdict(self) -> None:
        print({what: status for what, status in self.answers.items() if status >= 400})
        assert self.answers
        assert not self.over, self.over


def members(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"address": f"10.9.{n // 250}.{n % 250 + 1}", "protocol_port": 80, **more} for n in range(count)]


def pools(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"p{n}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", **more} for n in range(count)]


def policies(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"action": "REJECT", **more} for _ in range(count)]


RULES = [{"type": "PATH", "compare_type": "EQUAL_TO", "value": f"/{n}"} for n in range(3)]
MONITOR = {"type": "HTTP", "delay": 5, "timeout": 2, "max_retries": 2}


def listeners(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"protocol": "HTTP", "protocol_port": n + 1, **more} for n in range(count)]


def test_no_tree_of_a_load_balancer_holds_the_writes_of_others(ground: Ground) -> None:
    watch, most = Watch(ground), model.NESTED_MAX
    trees: dict[str, dict[str, Any]] = {
        "listeners": {"listeners": listeners(most)},
        "pools with monitors": {"pools": pools(most, healthmonitor=MONITOR)},
        "members": {"pools": pools(1, members=members(model.MEMBERS_MAX - 1))},
        "pools with members": {"pools": pools(most, members=members(3))},
        "policies with rules": {
            "listeners": listeners(1, l7policies=[*policies(160, rules=RULES), *policies(most - 161)])
        },
        "listeners with all": {
            "listeners": listeners(400, l7policies=policies(1, rules=RULES[:2]), allowed_cidrs=["10.0.0.0/8"] * 100),
            "pools": pools(400, members=members(4), healthmonitor=MONITOR),
        },
    }
    for what, nested in trees.items():
        body = {"loadbalancer": {"name": what, "vip_subnet_id": ground.ids["subnets"], **nested}}
        said = watch.ask(what, "POST", f"{LB}/loadbalancers", body)
        assert watch.answers[what] == 201, said
        made = said["loadbalancer"]["id"]
        watch.ask(
            f"{what}: rename",
            "PUT",
            f"{LB}/loadbalancers/{made}",
            {"loadbalancer": {"admin_state_up": False}},
            settled=made,
        )
        watch.ask(f"{what}: delete", "DELETE", f"{LB}/loadbalancers/{made}?cascade=true", None)
    watch.verdict()


def test_no_batch_of_members_holds_the_writes_of_others(ground: Ground) -> None:
    watch, most = Watch(ground), tree.OBJECTS_MAX
    body = {"loadbalancer": {"name": "b", "vip_subnet_id": ground.ids["subnets"], "pools": pools(1)}}
    made = watch.ask("balancer", "POST", f"{LB}/loadbalancers", body)["loadbalancer"]
    path, rest = f"{LB}/pools/{made['pools'][0]['id']}/members", {"settled": made["id"]}
    for what, batch in (("new", members(most)), ("changed", members(most, weight=7, name="m", tags=["a"])),
                        ("none", [])):  # fmt: skip
        watch.ask(what, "PUT", path, {"members": batch}, **rest)
        assert watch.answers[what] == 202
    watch.verdict()


def test_a_tree_beyond_the_bounds_is_refused_with_field_and_bound(ground: Ground) -> None:
    def create(**nested: Any) -> tuple[int, str]:
        body = {"loadbalancer": {"name": "t", "vip_subnet_id": ground.ids["subnets"], **nested}}
        status, said = ground.ask("POST", f"{LB}/loadbalancers", body)
        return status, said["faultstring"]

    status, said = create(listeners=listeners(model.NESTED_MAX + 1))
    assert (status, "listeners" in said, str(model.NESTED_MAX) in said) == (400, True, True)
    status, said = create(pools=pools(2, members=members(tree.OBJECTS_MAX // 2)))
    assert (status, str(tree.OBJECTS_MAX + 2) in said, str(tree.OBJECTS_MAX) in said) == (400, True, True)


def test_no_load_balancer_grows_without_bound(ground: Ground) -> None:
    body = {"loadbalancer": {"name": "g", "vip_subnet_id": ground.ids["subnets"], "pools": pools(1)}}
    made = ground.ask("POST", f"{LB}/loadbalancers", body)[1]["loadbalancer"]
    path = f"{LB}/pools/{made['pools'][0]['id']}/members?additive_only=true"
    watch, size = Watch(ground), 3500
    wait_for(lambda: watch._at_rest(made["id"]))
    for number in range(3):
        batch = [one | {"protocol_port": 81 + number} for one in members(size)]
        watch.ask(f"batch {number}", "PUT", path, {"members": batch}, settled=made["id"])
    assert list(watch.answers.values()) == [202, 202, 409]
    everybody = [one | {"protocol_port": 81 + number} for number in range(2) for one in members(size)]
    everybody[0] |= {"weight": 7}
    whole = path.partition("?")[0]
    said = watch.ask("one of many", "PUT", whole, {"members": everybody}, settled=made["id"])
    assert watch.answers["one of many"] == 202, said
    changed = [one | {"weight": 9} for one in everybody]
    assert "maximum is" in ground.ask("PUT", whole, {"members": changed})[1]["faultstring"]
    watch.verdict()


Make = Callable[[int, Ground], list[Any]]
# A list of valid items for each field that takes one.
ITEMS: dict[str, Make] = {
    "tags": lambda count, _: [f"tag-{n}" for n in range(count)],
    "fixed_ips": lambda count, ground: [{"subnet_id": ground.ids["subnets"]}] * count,
    "security_groups": lambda count, ground: [ground.ids["security_groups"]] * count,
    "allowed_address_pairs": lambda count, _: [{"ip_address": f"10.8.0.{n}"} for n in range(min(count, 10))],
    "extra_dhcp_opts": lambda count, _: [{"opt_name": f"o{n}", "opt_value": "v"} for n in range(count)],
    "availability_zone_hints": lambda count, _: ["nova"] * count,
    "routes": lambda count, _: [{"destination": f"10.7.{n}.0/24", "nexthop": "203.0.113.9"} for n in range(min(count, 30))],
    "allocation_pools": lambda count, _: [{"start": f"10.9.0.{n + 2}", "end": f"10.9.0.{n + 2}"} for n in range(count)],
    "dns_nameservers": lambda count, _: [f"10.9.0.{n}" for n in range(count)],
    "host_routes": lambda count, _: [{"destination": f"10.7.{n}.0/24", "nexthop": "10.9.0.1"} for n in range(count)],
    "service_types": lambda count, _: ["network:floatingip"] * count,
    "prefixes": lambda count, _: [f"10.{n}.0.0/16" for n in range(count)],
    "vip_sg_ids": lambda count, ground: [ground.ids["security_groups"]] * count,
    "additional_vips": lambda count, ground: [{"subnet_id": ground.ids["subnets"]}] * count,
    "listeners": lambda count, _: listeners(count),
    "pools": lambda count, _: pools(count),
    "members": lambda count, _: members(count - 1),
    "l7policies": lambda count, _: policies(count),
    "rules": lambda count, _: RULES[:1] * min(count, 50),
    "sni_container_refs": lambda count, ground: [f"http://x/v1/containers/{ground.ids['containers']}"] * count,
    "tls_versions": lambda count, _: ["TLSv1.2", "TLSv1.3"][:count],
    "alpn_protocols": lambda count, _: ["h2", "http/1.1"][:count],
    "allowed_cidrs": lambda count, _: [f"10.{n % 250}.{n // 250}.0/24" for n in range(count)],
    "secret_refs": lambda count, ground: [
        {"name": f"n{n}", "secret_ref": f"http://x/v1/secrets/{ground.ids['secrets']}"} for n in range(min(count, 64))
    ],
    "networks": lambda count, ground: [{"port": ground.ids["ports"]}] * count,
}  # fmt: skip
# Objects with fields of their own, which are bounded one by one.
OBJECTS = frozenset(
    {"external_gateway_info", "insert_headers", "default_pool", "session_persistence", "healthmonitor", "redirect_pool",
     "metadata", "binding:profile"}
)  # fmt: skip


def tables() -> dict[str, dict[str, Field]]:
    """Every collection with the fields that check its bodies."""
    octavia = {name: dict(fields) for name, (_, fields) in balancing.BODIES.items()}
    return {resource.collection: resource.fields for resource in NEUTRON} | octavia | {"containers": containers.FIELDS}


def test_every_list_that_a_body_may_hold_is_tried() -> None:
    found = {name for fields in tables().values() for name, field in fields.items() if field.kind in LISTS}
    assert found <= ITEMS.keys() | OBJECTS, found - ITEMS.keys() - OBJECTS


def test_no_list_of_any_field_holds_the_writes_of_others(ground: Ground) -> None:
    watch = Watch(ground)
    known = tables()
    for place in ground.places():
        collection = place.path.split("?")[0].rstrip("/").rsplit("/", 2 if place.endpoint.method == "PUT" else 1)
        body = ground.body(place)
        if body is None:
            continue
        for name in collection:
            for field, spec in known.get(name.replace("-", "_"), {}).items():
                if field in ITEMS and spec.kind in LISTS and field in body.fields:
                    value = {field: ITEMS[field](spec.items, ground)}
                    if place.endpoint.method == "POST":
                        watch.ask(f"{place} {field}", "POST", place.path, partial(_new, body, value))
                    else:
                        watch.ask(
                            f"{place} {field}", "PUT", place.path, {body.wrapper: value} if body.wrapper else value
                        )
    assert sum(status < 300 for status in watch.answers.values()) > 40
    watch.verdict()


NUMBERS = itertools.count(1000)


def _new(body: Body, value: dict[str, Any], _number: int) -> Any:
    """Of what may be there only once, another one."""
    again = {"protocol_port": next(NUMBERS)} if "protocol_port" in body.example else {}
    return body.with_(**again, **value)


def _distinct(collection: str, example: dict[str, Any], number: int) -> dict[str, Any]:
    different: dict[str, dict[str, Any]] = {
        "subnets": {"cidr": f"10.{100 + number // 250}.{number % 250}.0/24"},
        "security_group_rules": {"protocol": "tcp", "port_range_min": number + 1, "port_range_max": number + 1},
    }
    return example | different.get(collection, {})


def _room(ground: Ground, name: str, cidr: str, **more: Any) -> str:
    """A network with enough addresses."""
    made = ground.ask("POST", f"{NET}/networks", {"network": {"name": name, **more}})[1]["network"]["id"]
    status, said = ground.ask("POST", f"{NET}/subnets", {"subnet": {"network_id": made, "ip_version": 4, "cidr": cidr}})
    assert status == 201, said
    return str(made)


def test_no_request_for_many_resources_holds_the_writes_of_others(ground: Ground) -> None:
    watch = Watch(ground)
    wide = {"network_id": _room(ground, "network:external", "198.18.0.0/16", **{"router:external": True})}
    full = {field: ITEMS[field](PORTS.fields[field].items, ground) for field in PORTS.fields if field in ITEMS}
    room = _room(ground, "ports", "10.64.0.0/16")
    subnet = ground.ask("GET", f"{NET}/networks/{room}")[1]["network"]["subnets"][0]
    full["fixed_ips"] = [{"subnet_id": subnet}] * FIXED_MAX
    more: dict[str, dict[str, Any]] = {
        "ports": {**full, "network_id": room},
        "routers": {"external_gateway_info": wide},
        "floatingips": {"floating_network_id": wide["network_id"]},
    }
    for resource in NEUTRON:
        collection = resource.collection
        example = dict(ground.body_of(collection).example) | more.get(collection, {})

        def many(attempt: int, collection: str = collection, example: dict[str, Any] = example) -> Any:
            first = attempt * BULK_MAX
            return {collection: [_distinct(collection, example, first + number) for number in range(BULK_MAX)]}

        path = f"{NET}/{collection.replace('_', '-') if collection.startswith('security') else collection}"
        said = watch.ask(collection, "POST", path, many)
        assert watch.answers[collection] == 201, (collection, said)
    watch.verdict()
