"""No sequence of a tenant's calls stops configuration for a host, or changes what another project is served.

Attacks on ports that others use, on devices and on addresses, and the law behind them: after any calls of a tenant each
host gets its whole desired set, nothing in it is broken, and another project's part is byte for byte what it was.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cloud import SECRET, Cloud, FakeHost, wait_for

NETWORK, LBAAS, NOVA = "/network/v2.0", "/load-balancer/v2.0/lbaas", "/compute/v2.1"
Json = dict[str, Any]


def _own_part(one: Json, floating: set[str]) -> Json:
    """Of a gateway all but others' floating IPs: ports of others on a shared network have theirs through its router."""
    if one["kind"] == "balancer":
        return one
    mine = [each for each in one["floating"] if each["floating"] in floating]
    return {
        "id": one["id"], "source": one["vrrp"]["source"], "snat": one["snat"], "inside": one["legs"][0], "floating": mine
    }  # fmt: skip


class Site:
    """A cloud with two hosts, in which the administrator's project has what the tenant must not touch."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
        self.world = self._networks()
        self.victim = self._victim()
        wait_for(lambda: sum(len(host.instances(self.victim.balancer["id"])) for host in self.hosts) == 2)
        wait_for(lambda: self.state(self.victim.balancer["id"]) == "ACTIVE")

    def ask(self, method: str, path: str, body: Json | None = None, user: str = "demo") -> tuple[int, Any]:
        return self.cloud.request(method, path, body, {"X-Auth-Token": self.cloud.token(user)}, timeout_s=30.0)[:2]

    def made(self, path: str, kind: str, values: Json, user: str = "demo") -> Any:
        status, said = self.ask("POST", path, {kind: values}, user)
        assert status in (200, 201, 202), said
        return said[kind]

    def state(self, balancer_id: str, user: str = "admin") -> str:
        return str(self.ask("GET", f"{LBAAS}/loadbalancers/{balancer_id}", None, user)[1]["loadbalancer"]
                   ["provisioning_status"])  # fmt: skip

    def _networks(self) -> SimpleNamespace:
        world = {}
        for name, cidr, first, last in (
            ("external", "203.0.113.0/24", "203.0.113.20", "203.0.113.99"),
            ("tenant", "10.10.0.0/24", "10.10.0.100", "10.10.0.250"),
        ):
            values: Json = {"name": name, "provider:physical_network": name, "provider:network_type": "flat"}
            values |= {"router:external": name == "external", "shared": name == "tenant"}
            network = self.made(f"{NETWORK}/networks", "network", values, "admin")
            values = {"network_id": network["id"], "ip_version": 4, "cidr": cidr}
            values["allocation_pools"] = [{"start": first, "end": last}]
            world[name] = network["id"]
            world[f"{name}_subnet"] = self.made(f"{NETWORK}/subnets", "subnet", values, "admin")["id"]
        gateway = {"external_gateway_info": {"network_id": world["external"]}}
        world["router"] = self.made(f"{NETWORK}/routers", "router", gateway, "admin")["id"]
        path = f"{NETWORK}/routers/{world['router']}/add_router_interface"
        assert self.ask("PUT", path, {"subnet_id": world["tenant_subnet"]}, "admin")[0] == 200
        return SimpleNamespace(**world)

    def _victim(self) -> SimpleNamespace:
        subnet_id = self.world.tenant_subnet
        balancer = self.made(f"{LBAAS}/loadbalancers", "loadbalancer", {"vip_subnet_id": subnet_id}, "admin")
        floating = {"floating_network_id": self.world.external, "port_id": balancer["vip_port_id"]}
        floating = self.made(f"{NETWORK}/floatingips", "floatingip", floating, "admin")
        port = self.made(f"{NETWORK}/ports", "port", {"network_id": self.world.tenant}, "admin")
        of_port = {"floating_network_id": self.world.external, "port_id": port["id"]}
        self.made(f"{NETWORK}/floatingips", "floatingip", of_port, "admin")
        flavor = self.made(f"{NOVA}/flavors", "flavor", {"name": "f", "vcpus": 1, "ram": 1, "disk": 1}, "admin")
        server = {"name": "s", "flavorRef": flavor["id"], "networks": [{"port": port["id"]}]}
        server = self.made(f"{NOVA}/servers", "server", server, "admin")
        return SimpleNamespace(balancer=balancer, floating=floating, server=server, router=self.world.router)

    def desired(self, host: str) -> Json:
        path = f"/agent/v1/hosts/{host}/desired?since=0&wait_s=0"
        status, said, _ = self.cloud.request("GET", path, None, {"Authorization": f"Bearer {SECRET}"})
        assert status == 200, said
        return dict(said)

    def of_victim(self) -> str:
        """What the hosts shall carry of the administrator's project."""
        mine, found = {self.victim.balancer["id"], self.victim.router}, []
        floating = self.ask(
            "GET", f"{NETWORK}/floatingips?project_id={self.victim.floating['project_id']}", None, "admin"
        )[1]
        addresses = {one["floating_ip_address"] for one in floating["floatingips"]}
        for host in self.hosts:
            desired = self.desired(host.name)
            assert desired["broken"] == {}, desired["broken"]
            found += [_own_part(one, addresses) for one in desired["instances"] if one["owner_id"] in mine]
        return json.dumps(sorted(found, key=lambda one: str(one["id"])), sort_keys=True)

    def own_ports(self) -> list[Json]:
        return list(self.ask("GET", f"{NETWORK}/ports")[1]["ports"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    public = ("--public-url", "http://203.0.113.50:8780")
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), None, "--host-timeout-s", "60", *public)
    cloud.start()
    made = Site(cloud)
    yield made
    for host in made.hosts:
        host.stop()
    assert cloud.stop() == 0


@pytest.fixture
def balancer(site: Site) -> Iterator[Json]:
    """A tenant's own load balancer, built."""
    made = site.made(f"{LBAAS}/loadbalancers", "loadbalancer", {"vip_subnet_id": site.world.tenant_subnet})
    wait_for(lambda: site.state(made["id"]) == "ACTIVE")
    yield made
    wait_for(lambda: site.state(made["id"]) == "ACTIVE")
    assert site.ask("DELETE", f"{LBAAS}/loadbalancers/{made['id']}?cascade=true")[0] == 204
    wait_for(lambda: site.ask("GET", f"{LBAAS}/loadbalancers/{made['id']}")[0] == 404)


FREED = [{"device_owner": "", "device_id": ""}, {"device_id": ""}, {"device_owner": "compute:nova"}, {"fixed_ips": []}]


@pytest.mark.parametrize("change", FREED)
def test_ports_of_a_balancer_stay_its_own_whatever_their_columns_say(site: Site, balancer: Json, change: Json) -> None:
    vrrp = [port for port in site.own_ports() if port["name"].startswith("octavia-lb-")]
    assert len(vrrp) >= 3
    for port in vrrp:
        assert site.ask("PUT", f"{NETWORK}/ports/{port['id']}", {"port": change})[0] == 409
        assert site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 409
    site.of_victim()
    made = {"loadbalancer_id": balancer["id"], "protocol": "TCP", "protocol_port": 80}
    site.made(f"{LBAAS}/listeners", "listener", made)
    wait_for(lambda: site.state(balancer["id"]) == "ACTIVE")


@pytest.mark.parametrize("change", FREED)
def test_a_routers_interface_stays_where_it_is(site: Site, change: Json) -> None:
    network = site.made(f"{NETWORK}/networks", "network", {"name": "n"})
    values = {"network_id": network["id"], "ip_version": 4, "cidr": "192.168.9.0/24"}
    subnet = site.made(f"{NETWORK}/subnets", "subnet", values)
    router = site.made(f"{NETWORK}/routers", "router", {"name": "r"})
    path = f"{NETWORK}/routers/{router['id']}"
    assert site.ask("PUT", f"{path}/add_router_interface", {"subnet_id": subnet["id"]})[0] == 200
    [port] = [one for one in site.own_ports() if one["device_id"] == router["id"]]
    stolen = {"device_id": site.victim.router}  # another project's router would get the address
    for wanted in (change, stolen):
        assert site.ask("PUT", f"{NETWORK}/ports/{port['id']}", {"port": wanted})[0] == 409
    assert site.ask("PUT", f"{path}/remove_router_interface", {"subnet_id": subnet["id"]})[0] == 200
    assert site.ask("DELETE", path)[0] == 204
    assert site.ask("DELETE", f"{NETWORK}/networks/{network['id']}")[0] == 204


def test_a_port_of_ones_own_that_is_a_vip_is_not_deleted(site: Site) -> None:
    port = site.made(f"{NETWORK}/ports", "port", {"network_id": site.world.tenant})
    made = site.made(f"{LBAAS}/loadbalancers", "loadbalancer", {"vip_port_id": port["id"]})
    assert site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 409
    assert site.ask("PUT", f"{NETWORK}/ports/{port['id']}", {"port": {"fixed_ips": []}})[0] == 409
    wait_for(lambda: site.state(made["id"]) == "ACTIVE")
    assert site.ask("DELETE", f"{LBAAS}/loadbalancers/{made['id']}")[0] == 204
    wait_for(lambda: site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 204)


def test_a_port_that_has_a_device_is_no_vip(site: Site) -> None:
    values = {"network_id": site.world.tenant, "device_id": "a-node", "device_owner": "compute:nova"}
    port = site.made(f"{NETWORK}/ports", "port", values)
    status, said = site.ask("POST", f"{LBAAS}/loadbalancers", {"loadbalancer": {"vip_port_id": port["id"]}})
    assert (status, "is attached to device a-node" in said["faultstring"]) == (409, True)
    assert site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 204


def test_another_projects_device_is_nobodys_to_name(site: Site) -> None:
    victim, port = site.victim, site.made(f"{NETWORK}/ports", "port", {"network_id": site.world.tenant})
    instance = site.hosts[0].instances(victim.balancer["id"])[0]["id"]
    for device in (victim.server["id"], victim.router, f"lb-{victim.balancer['id']}", instance):
        values = {"network_id": site.world.tenant, "device_id": device}
        for method, path, body in (
            ("POST", f"{NETWORK}/ports", values), ("PUT", f"{NETWORK}/ports/{port['id']}", {"device_id": device}),
        ):  # fmt: skip
            status, said = site.ask(method, path, {"port": body})
            assert (status, said["NeutronError"]["type"]) == (409, "DeviceIDNotOwnedByTenant")
    assert site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 204


GATEWAY, OWN, OUTSIDE, IN_POOL = "203.0.113.1", "203.0.113.50", "203.0.113.150", "203.0.113.77"


@pytest.mark.parametrize("address", [GATEWAY, OWN, OUTSIDE])
def test_nobody_chooses_an_external_address_that_is_not_to_be_had(site: Site, address: str) -> None:
    external, subnet = site.world.external, site.world.external_subnet
    fixed = [{"ip_address": address}]
    router = {"external_gateway_info": {"network_id": external, "external_fixed_ips": fixed}}
    attempts = [
        (f"{NETWORK}/floatingips", {"floatingip": {"floating_network_id": external, "floating_ip_address": address}}),
        (f"{NETWORK}/ports", {"port": {"network_id": external, "fixed_ips": fixed}}),
        (f"{NETWORK}/routers", {"router": router}),
        (f"{LBAAS}/loadbalancers", {"loadbalancer": {"vip_subnet_id": subnet, "vip_address": address}}),
    ]
    for path, body in attempts:
        assert site.ask("POST", path, body)[0] in (403, 409), path
    if address != OUTSIDE:  # nor does an administrator by mistake
        for path, body in (attempts[0], *attempts[2:]):
            assert site.ask("POST", path, body, "admin")[0] == 409, path


def test_an_address_of_the_pool_is_had_and_a_routers_only_by_an_administrator(site: Site) -> None:
    external = site.world.external
    values = {"floating_network_id": external, "floating_ip_address": IN_POOL}
    floating = site.made(f"{NETWORK}/floatingips", "floatingip", values)
    assert site.ask("DELETE", f"{NETWORK}/floatingips/{floating['id']}")[0] == 204
    gateway = {"network_id": external, "external_fixed_ips": [{"ip_address": IN_POOL}]}
    assert site.ask("POST", f"{NETWORK}/routers", {"router": {"external_gateway_info": gateway}})[0] == 403
    router = site.made(f"{NETWORK}/routers", "router", {"external_gateway_info": gateway}, "admin")
    assert site.ask("DELETE", f"{NETWORK}/routers/{router['id']}", None, "admin")[0] == 204


def test_a_tenants_packets_leave_with_the_routers_address(site: Site) -> None:
    """Without translation they would have whatever address the tenant gave its subnet."""
    bare = {"network_id": site.world.external, "enable_snat": False}
    assert site.ask("POST", f"{NETWORK}/routers", {"router": {"external_gateway_info": bare}})[0] == 403
    router = site.made(f"{NETWORK}/routers", "router", {"external_gateway_info": bare | {"enable_snat": True}})
    path = f"{NETWORK}/routers/{router['id']}"
    assert site.ask("PUT", path, {"router": {"external_gateway_info": bare}})[0] == 403
    assert site.ask("GET", path)[1]["router"]["external_gateway_info"]["enable_snat"] is True
    assert site.ask("PUT", path, {"router": {"external_gateway_info": bare}}, "admin")[0] == 200
    assert site.ask("DELETE", path, None, "admin")[0] == 204


def test_nobody_becomes_the_gateway_of_another_projects_network(site: Site) -> None:
    """A router's interface takes the gateway's address: all machines of the network would send through it."""
    shared = {"name": "shared", "shared": True, "provider:physical_network": "shared", "provider:network_type": "flat"}
    network = site.made(f"{NETWORK}/networks", "network", shared, "admin")
    values = {"network_id": network["id"], "ip_version": 4, "cidr": "172.16.0.0/24"}
    subnet = site.made(f"{NETWORK}/subnets", "subnet", values, "admin")
    router = site.made(f"{NETWORK}/routers", "router", {})
    path = f"{NETWORK}/routers/{router['id']}/add_router_interface"
    for other in (subnet["id"], site.world.external_subnet):
        status, said = site.ask("PUT", path, {"subnet_id": other})
        assert (status, "not owned by project" in said["NeutronError"]["message"]) == (400, True)
    own = site.made(f"{NETWORK}/networks", "network", {"name": "own"})
    values = {"network_id": own["id"], "ip_version": 4, "cidr": "192.168.9.0/24"}
    mine = site.made(f"{NETWORK}/subnets", "subnet", values)
    assert site.ask("PUT", path, {"subnet_id": mine["id"]})[0] == 200
    assert site.ask("PUT", path.replace("add_", "remove_"), {"subnet_id": mine["id"]})[0] == 200
    for what, user in (
        (f"routers/{router['id']}", "demo"), (f"networks/{own['id']}", "demo"), (f"networks/{network['id']}", "admin"),
    ):  # fmt: skip
        assert site.ask("DELETE", f"{NETWORK}/{what}", None, user)[0] == 204


FOREIGN: list[Json] = [
    {"mac_address": "fa:16:3e:00:00:01"},
    {"port_security_enabled": False, "security_groups": []},
    {"allowed_address_pairs": [{"ip_address": "10.10.0.100"}]},
]


@pytest.mark.parametrize("values", FOREIGN)
def test_what_gets_traffic_of_others_is_for_the_networks_owner(site: Site, values: Json) -> None:
    place = {"network_id": site.world.tenant}
    assert site.ask("POST", f"{NETWORK}/ports", {"port": place | values})[0] == 403
    port = site.made(f"{NETWORK}/ports", "port", place)
    assert site.ask("PUT", f"{NETWORK}/ports/{port['id']}", {"port": values})[0] == 403
    same = {name: port[name] for name in values if name != "mac_address"}
    assert site.ask("PUT", f"{NETWORK}/ports/{port['id']}", {"port": same})[0] == 200
    assert site.ask("DELETE", f"{NETWORK}/ports/{port['id']}")[0] == 204
    made = site.made(f"{NETWORK}/ports", "port", place | values, "admin")
    assert site.ask("DELETE", f"{NETWORK}/ports/{made['id']}", None, "admin")[0] == 204


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:12", "33:33:00:00:00:01", "00:00:00:00:00:00"])
def test_no_port_has_the_mac_address_of_a_group_or_of_nobody(site: Site, mac: str) -> None:
    body = {"port": {"network_id": site.world.tenant, "mac_address": mac}}
    assert site.ask("POST", f"{NETWORK}/ports", body, "admin")[0] == 400


def test_no_router_of_a_tenant_takes_a_floating_ip_of_others(site: Site) -> None:
    gateway = {"external_gateway_info": {"network_id": site.world.external}}
    older = site.made(f"{NETWORK}/routers", "router", gateway)
    shared = {"name": "shared", "shared": True, "provider:physical_network": "shared", "provider:network_type": "flat"}
    network = site.made(f"{NETWORK}/networks", "network", shared, "admin")["id"]
    values = {"network_id": network, "ip_version": 4, "cidr": "172.16.0.0/24"}
    subnet = site.made(f"{NETWORK}/subnets", "subnet", values, "admin")["id"]
    port = site.made(f"{NETWORK}/ports", "port", {"network_id": network}, "admin")["id"]
    leg = site.made(f"{NETWORK}/ports", "port", {"network_id": network})["id"]
    path = f"{NETWORK}/routers/{older['id']}/add_router_interface"
    assert site.ask("PUT", path, {"port_id": leg})[0] == 200
    wanted = {"floatingip": {"floating_network_id": site.world.external, "port_id": port}}
    status, said = site.ask("POST", f"{NETWORK}/floatingips", wanted, "admin")
    assert (status, said["NeutronError"]["type"]) == (404, "ExternalGatewayForFloatingIPNotFound")
    router = site.made(f"{NETWORK}/routers", "router", gateway, "admin")
    path = f"{NETWORK}/routers/{router['id']}/add_router_interface"
    assert site.ask("PUT", path, {"subnet_id": subnet}, "admin")[0] == 200
    floating = site.made(f"{NETWORK}/floatingips", "floatingip", wanted["floatingip"], "admin")
    assert floating["router_id"] == router["id"]
    remove = path.replace("add_", "remove_")
    for method, what, body, user in (
        ("DELETE", f"{NETWORK}/floatingips/{floating['id']}", None, "admin"), ("PUT", remove, {"subnet_id": subnet}, "admin"),
        ("DELETE", f"{NETWORK}/routers/{router['id']}", None, "admin"),
        ("PUT", remove.replace(router["id"], older["id"]), {"port_id": leg}, "demo"),
        ("DELETE", f"{NETWORK}/routers/{older['id']}", None, "demo"), ("DELETE", f"{NETWORK}/ports/{port}", None, "admin"),
        ("DELETE", f"{NETWORK}/networks/{network}", None, "admin"),
    ):  # fmt: skip
        assert site.ask(method, what, body, user)[0] in (200, 204), what


@pytest.mark.parametrize("kind", ["vlan", "vxlan", "geneve", "gre"])
def test_a_network_that_would_not_be_separated_is_not_implemented(site: Site, kind: str) -> None:
    values = {"provider:network_type": kind, "provider:physical_network": "tenant", "provider:segmentation_id": 7}
    status, said = site.ask("POST", f"{NETWORK}/networks", {"network": values}, "admin")
    assert (status, said["NeutronError"]["type"]) == (501, "NotImplemented")


def test_an_external_network_without_an_address_stops_nobody(site: Site) -> None:
    bare = site.made(f"{NETWORK}/networks", "network", {"router:external": True}, "admin")
    network = site.made(f"{NETWORK}/networks", "network", {"name": "n"})
    values = {"network_id": network["id"], "ip_version": 4, "cidr": "192.168.8.0/24"}
    subnet = site.made(f"{NETWORK}/subnets", "subnet", values)
    router = site.made(f"{NETWORK}/routers", "router", {"external_gateway_info": {"network_id": bare["id"]}})
    path = f"{NETWORK}/routers/{router['id']}"
    assert site.ask("PUT", f"{path}/add_router_interface", {"subnet_id": subnet["id"]})[0] == 200
    site.of_victim()
    assert site.ask("PUT", f"{path}/remove_router_interface", {"subnet_id": subnet["id"]})[0] == 200
    assert site.ask("DELETE", path)[0] == 204
    assert site.ask("DELETE", f"{NETWORK}/networks/{network['id']}")[0] == 204
    assert site.ask("DELETE", f"{NETWORK}/networks/{bare['id']}", None, "admin")[0] == 204


Pick = Callable[[list[str]], str]


def _port_change(site: Site, pick: Pick) -> tuple[str, str, Json | None]:
    mine, victim = [port["id"] for port in site.own_ports()], site.victim
    devices = ["", str(uuid.uuid4()), victim.router, victim.server["id"], f"lb-{victim.balancer['id']}"]
    devices += [one["id"] for host in site.hosts for one in host.desired["instances"]]
    change = pick(["device", "owner", "both", "address", "none", "pairs", "security"])
    bodies: dict[str, Json] = {
        "device": {"device_id": pick(devices)},
        "owner": {"device_owner": pick(["", "Octavia", "compute:nova", "network:router_interface"])},
        "both": {"device_id": pick(devices), "device_owner": pick(["", "Octavia"])},
        "address": {"fixed_ips": [{"ip_address": pick(["10.10.0.1", "10.10.0.120", "10.10.0.9", "192.168.7.9"])}]},
        "none": {"fixed_ips": []},
        "pairs": {"allowed_address_pairs": [{"ip_address": pick(["0.0.0.0/0", victim.balancer["vip_address"]])}]},
        "security": {"security_groups": [], "port_security_enabled": False},
    }  # fmt: skip
    return "PUT", f"{NETWORK}/ports/{pick([*mine, victim.balancer['vip_port_id']])}", {"port": bodies[change]}


def _delete(site: Site, pick: Pick) -> tuple[str, str, Json | None]:
    kind = pick(["ports", "subnets", "networks", "routers", "floatingips", "security-groups"])
    found = site.ask("GET", f"{NETWORK}/{kind}")[1][kind.replace("-", "_")]
    return "DELETE", f"{NETWORK}/{kind}/{pick([one['id'] for one in found] or ['none'])}", None


def _create(site: Site, pick: Pick) -> tuple[str, str, Json | None]:
    networks = [one["id"] for one in site.ask("GET", f"{NETWORK}/networks")[1]["networks"]]
    subnets = [one["id"] for one in site.ask("GET", f"{NETWORK}/subnets")[1]["subnets"]]
    ports = [one["id"] for one in site.own_ports()] or ["none"]
    kind = pick(["port", "subnet", "network", "router", "floatingip", "slaac", "loadbalancer", "vip"])
    bodies: dict[str, Json] = {
        "port": {"network_id": pick(networks)},
        "subnet": {"network_id": pick(networks), "ip_version": 4, "cidr": pick(["192.168.7.0/24", "10.10.0.0/24"])},
        "slaac": {"network_id": pick(networks), "ip_version": 6, "cidr": "2001:db8:7::/64",
                  "ipv6_address_mode": "slaac"},
        "network": {"mtu": int(pick(["68", "1500", "65535"]))},
        "router": {"external_gateway_info": {"network_id": pick(networks)}},
        "floatingip": {"floating_network_id": site.world.external, "port_id": pick(ports)},
        "loadbalancer": {"vip_subnet_id": pick(subnets)},
        "vip": {"vip_port_id": pick([*ports, site.victim.balancer["vip_port_id"]])},
    }  # fmt: skip
    body = bodies[kind]
    if kind in {"loadbalancer", "vip"}:
        return "POST", f"{LBAAS}/loadbalancers", {"loadbalancer": body}
    kind = {"slaac": "subnet"}.get(kind, kind)
    return "POST", f"{NETWORK}/{kind}s", {kind: body}


def _attach(site: Site, pick: Pick) -> tuple[str, str, Json | None]:
    routers = [one["id"] for one in site.ask("GET", f"{NETWORK}/routers")[1]["routers"]] + [site.victim.router]
    verb = pick(["add_router_interface", "remove_router_interface"])
    subnets = [one["id"] for one in site.ask("GET", f"{NETWORK}/subnets")[1]["subnets"]]
    ports = [one["id"] for one in site.own_ports()] or ["none"]
    body: Json = {"subnet_id": pick(subnets)} if pick(["subnet", "port"]) == "subnet" else {"port_id": pick(ports)}
    return "PUT", f"{NETWORK}/routers/{pick(routers)}/{verb}", body


def _balancer_change(site: Site, pick: Pick) -> tuple[str, str, Json | None]:
    mine = [one["id"] for one in site.ask("GET", f"{LBAAS}/loadbalancers")[1]["loadbalancers"]]
    path = f"{LBAAS}/loadbalancers/{pick([*mine, site.victim.balancer['id']])}"
    if pick(["change", "delete"]) == "delete":
        return "DELETE", f"{path}?cascade=true", None
    return "PUT", path, {"loadbalancer": {"admin_state_up": pick(["up", "down"]) == "up"}}


CALLS = (_port_change, _port_change, _delete, _create, _create, _attach, _balancer_change)


PICKS = 12  # choices that one call makes at most
STEP = st.tuples(st.sampled_from(CALLS), st.lists(st.integers(0, 10**6), min_size=PICKS, max_size=PICKS))


@settings(
    max_examples=60, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(steps=st.lists(STEP, min_size=4, max_size=12))
def test_no_calls_of_a_tenant_change_or_stop_what_others_are_served(site: Site, steps: list[tuple[Any, Any]]) -> None:
    before = site.of_victim()
    for call, numbers in steps:
        chosen = iter(numbers)
        asked = call(site, lambda choices, chosen=chosen: choices[next(chosen) % len(choices)])
        status, said = site.ask(*asked)
        assert status < 500, (asked, said)
        assert site.of_victim() == before, asked
