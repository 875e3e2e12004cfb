"""Neutron's ports and routers in depth: IPv6 addresses, address pairs, port security, routes, tags, pages."""

from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud

BASE = "/network/v2.0"


def refusal(cloud: Cloud, method: str, path: str, body: Any, user: str = "demo") -> tuple[int, str]:
    """Status and error type of a request."""
    headers = {"X-Auth-Token": cloud.token(user)}
    status, said, _ = cloud.request(method, BASE + path, body, headers, timeout_s=30.0)
    return status, said["NeutronError"]["type"] if "NeutronError" in (said or {}) else ""


def test_a_stateless_subnet_gives_every_port_the_address_of_its_mac(demo: Any, little: SimpleNamespace) -> None:
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    early = demo.network.create_port(network_id=little.network.id, mac_address="fa:16:3e:00:00:01")
    six = demo.network.create_subnet(network_id=little.network.id, ip_version=6, cidr="2001:db8:9::/64", **modes)
    made = "2001:db8:9:0:f816:3eff:fe00:1"
    assert [one["ip_address"] for one in demo.network.get_port(early.id).fixed_ips] == ["192.168.7.10", made]
    port = demo.network.create_port(
        network_id=little.network.id, mac_address="FA:16:3E:00:00:02", fixed_ips=[{"subnet_id": little.subnet.id}]
    )
    assert [one["ip_address"] for one in port.fixed_ips] == ["192.168.7.11", "2001:db8:9:0:f816:3eff:fe00:2"]
    with pytest.raises(exceptions.BadRequestException, match="configured for automatic addresses"):
        demo.network.create_port(network_id=little.network.id, fixed_ips=[{"ip_address": "2001:db8:9::5"}])
    demo.network.delete_subnet(six)
    assert len(demo.network.get_port(early.id).fixed_ips) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"},
        {"ipv6_address_mode": "slaac", "cidr": "2001:db8:a::/80"},
        {"ipv6_address_mode": "slaac", "enable_dhcp": False},
        {"ipv6_address_mode": "sometimes"},
        {"ip_version": 4, "cidr": "10.1.0.0/24", "ipv6_ra_mode": "slaac"},
        {"dns_nameservers": ["nowhere"]},
        {"host_routes": [{"destination": "10.0.0.0/8", "nexthop": "10.0.0.1"}]},
        {"host_routes": [{"destination": "2001:db8::/32"}]},
        {"prefixlen": 64},
    ],
)
def test_a_v6_subnet_that_makes_no_sense_is_400(cloud: Cloud, little: SimpleNamespace, wrong: dict[str, Any]) -> None:
    body = {"network_id": little.network.id, "ip_version": 6, "cidr": "2001:db8:a::/64", **wrong}
    assert refusal(cloud, "POST", "/subnets", {"subnet": body})[0] == 400


def test_a_port_has_several_addresses_and_keeps_those_it_still_asks_for(demo: Any, little: SimpleNamespace) -> None:
    subnet = little.subnet.id
    port = demo.network.create_port(
        network_id=little.network.id, fixed_ips=[{"subnet_id": subnet}, {"subnet_id": subnet}]
    )
    assert [one["ip_address"] for one in port.fixed_ips] == ["192.168.7.10", "192.168.7.11"]
    wanted = [{"ip_address": "192.168.7.11"}, {"subnet_id": subnet, "ip_address": "192.168.7.77"}]
    port = demo.network.update_port(port, fixed_ips=wanted)
    assert [one["ip_address"] for one in port.fixed_ips] == ["192.168.7.11", "192.168.7.77"]
    port = demo.network.update_port(port, fixed_ips=[{"subnet_id": subnet}])
    assert [one["ip_address"] for one in port.fixed_ips] == ["192.168.7.11"]
    with pytest.raises(exceptions.ConflictException, match="already allocated"):
        demo.network.update_port(port, fixed_ips=[{"ip_address": "192.168.7.9"}] * 2)
    assert demo.network.update_port(port, fixed_ips=[]).fixed_ips == []


@pytest.mark.parametrize(
    ("wrong", "status", "kind"),
    [
        ({"allowed_address_pairs": [{"mac_address": "fa:16:3e:00:00:01"}]}, 400, "AllowedAddressPairsMissingIP"),
        ({"allowed_address_pairs": [{"ip_address": "ten"}]}, 400, "InvalidInput"),
        ({"allowed_address_pairs": [{"ip_address": "10.0.0.1"}] * 2}, 400, "DuplicateAddressPairInRequest"),
        ({"allowed_address_pairs": [{"ip_address": f"10.0.0.{n}"} for n in range(11)]}, 400,
         "AllowedAddressPairExhausted"),
        ({"allowed_address_pairs": [{"ip_address": "10.0.0.1"}], "port_security_enabled": False}, 409,
         "AddressPairAndPortSecurityRequired"),
        ({"mac_address": "zz:16:3e:00:00:01"}, 400, "InvalidInput"),
        ({"fixed_ips": [{"address": "10.0.0.1"}]}, 400, "InvalidInput"),
        ({"fixed_ips": [{"ip_address": "10.0.0.1"}]}, 400, "InvalidIpForNetwork"),
        ({"device_owner": "network:dhcp"}, 403, "PolicyNotAuthorized"),
        ({"security_groups": ["11111111-1111-4111-8111-111111111111"]}, 404, "SecurityGroupNotFound"),
    ],
)  # fmt: skip
def test_a_port_that_makes_no_sense_is_refused(
    cloud: Cloud, little: SimpleNamespace, wrong: dict[str, Any], status: int, kind: str
) -> None:
    body = {"port": {"network_id": little.network.id, **wrong}}
    assert refusal(cloud, "POST", "/ports", body) == (status, kind)


def test_port_security_goes_only_when_no_group_needs_it(cloud: Cloud, demo: Any, little: SimpleNamespace) -> None:
    port = demo.network.create_port(network_id=little.network.id)
    path = f"/ports/{port.id}"
    off = {"port": {"port_security_enabled": False}}
    assert refusal(cloud, "PUT", path, off) == (409, "PortSecurityPortHasSecurityGroup")
    port = demo.network.update_port(port, security_group_ids=[], is_port_security_enabled=False)
    assert port.is_port_security_enabled is False
    mac = {"port": {"mac_address": "fa:16:3e:00:00:09"}}
    assert refusal(cloud, "PUT", path, mac) == (403, "PolicyNotAuthorized")
    assert refusal(cloud, "PUT", path, mac, "admin") == (200, "")


RESOURCES = ("networks", "subnets", "ports", "routers", "floatingips", "security-groups", "subnetpools")


def test_tags_come_and_go_on_every_resource(
    cloud: Cloud, demo: Any, world: SimpleNamespace, little: SimpleNamespace, name: str
) -> None:
    made = {
        "networks": little.network, "subnets": little.subnet, "ports": demo.network.create_port(
            network_id=little.network.id), "routers": demo.network.create_router(name=name),
        "floatingips": demo.network.create_ip(floating_network_id=world.external.id),
        "security-groups": demo.network.create_security_group(name=name),
        "subnetpools": demo.network.create_subnet_pool(name=name, prefixes=["10.70.0.0/16"]),
    }  # fmt: skip
    headers = {"X-Auth-Token": cloud.token()}

    def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return cloud.request(method, BASE + path, body, headers, timeout_s=30.0)[:2]

    for collection in RESOURCES:
        tags = f"/{collection}/{made[collection].id}/tags"
        assert ask("PUT", f"{tags}/red")[0] == 201
        assert ask("GET", f"{tags}/red")[0] == 204
        assert ask("HEAD", f"{tags}/red")[0] == 204
        assert ask("PUT", tags, {"tags": ["blue", "red", "blue"]}) == (200, {"tags": ["blue", "red"]})
        key = collection.replace("-", "_")
        for query, found in (("tags=red,blue", 1), ("tags-any=red,x", 1), ("tags=red,x", 0), ("not-tags=red", 0)):
            rows = ask("GET", f"/{collection}?id={made[collection].id}&{query}&fields=id&fields=tags")[1][key]
            assert rows == [{"id": made[collection].id, "tags": ["blue", "red"]}] * found, (collection, query)
        assert ask("DELETE", f"{tags}/red")[0] == 204
        assert ask("DELETE", f"{tags}/red")[0] == 404
        assert ask("DELETE", tags)[0] == 204
        assert ask("GET", tags)[1] == {"tags": []}
        assert ask("PUT", tags, {"tags": "red"})[0] == 400
    demo.network.delete_ip(made["floatingips"])
    demo.network.delete_router(made["routers"])
    demo.network.delete_security_group(made["security-groups"])
    demo.network.delete_subnet_pool(made["subnetpools"])


def test_lists_have_pages_and_an_order(cloud: Cloud, demo: Any, name: str) -> None:
    made = [demo.network.create_security_group(name=name, description=f"{at}") for at in range(5)]
    headers = {"X-Auth-Token": cloud.token()}
    where = f"{BASE}/security-groups?name={name}&sort_key=description&sort_dir=desc&limit=2&fields=id"
    seen: list[str] = []
    path = where
    while path:
        body = cloud.request("GET", path, None, headers, timeout_s=30.0)[1]
        seen += [row["id"] for row in body["security_groups"]]
        links = {link["rel"]: link["href"] for link in body.get("security_groups_links", ())}
        path = links.get("next", "").removeprefix(cloud.url)
    assert seen == [group.id for group in reversed(made)]
    for group in made:
        demo.network.delete_security_group(group)


# Routers and floating IPs ---------------------------------------------------------------------------------------------


def test_routes_need_a_neighbour_and_hold_the_leg_they_go_through(
    cloud: Cloud, demo: Any, little: SimpleNamespace, name: str
) -> None:
    router = demo.network.create_router(name=name)
    path = f"/routers/{router.id}"
    demo.network.add_interface_to_router(router, subnet_id=little.subnet.id)

    def routes(*hops: str) -> Any:
        return {"router": {"routes": [{"destination": "10.80.0.0/16", "nexthop": hop} for hop in hops]}}

    assert refusal(cloud, "PUT", path, routes("10.99.0.1")) == (400, "InvalidRoutes")
    assert refusal(cloud, "PUT", path, routes("192.168.7.1")) == (400, "InvalidRoutes")
    assert refusal(cloud, "PUT", path, routes("there")) == (400, "InvalidInput")
    assert refusal(cloud, "PUT", path, routes(*(f"192.168.7.{n}" for n in range(2, 40)))) == (400, "RoutesExhausted")
    for _ in range(2):  # adding what is there is no error, nor is removing what is not
        added = demo.network.add_extra_routes_to_router(router, routes("192.168.7.9", "192.168.7.8"))
        assert [route["nexthop"] for route in added.routes] == ["192.168.7.9", "192.168.7.8"]
    leg = {"subnet_id": little.subnet.id}
    assert refusal(cloud, "PUT", f"{path}/remove_router_interface", leg) == (409, "RouterInterfaceInUseByRoute")
    for _ in range(2):
        assert demo.network.remove_extra_routes_from_router(router, routes("192.168.7.9", "192.168.7.8")).routes == []
    demo.network.remove_interface_from_router(router, subnet_id=little.subnet.id)
    assert refusal(cloud, "PUT", f"{path}/remove_router_interface", leg) == (404, "RouterInterfaceNotFoundForSubnet")
    demo.network.delete_router(router)


def test_a_router_refuses_what_overlaps_and_ports_that_serve(
    cloud: Cloud, demo: Any, little: SimpleNamespace, name: str
) -> None:
    router = demo.network.create_router(name=name)
    path = f"/routers/{router.id}/add_router_interface"
    demo.network.add_interface_to_router(router, subnet_id=little.subnet.id)
    twin = demo.network.create_network(name=name)
    overlapping = demo.network.create_subnet(network_id=twin.id, ip_version=4, cidr="192.168.7.0/25")
    assert refusal(cloud, "PUT", path, {"subnet_id": little.subnet.id}) == (400, "BadRequest")
    assert refusal(cloud, "PUT", path, {"subnet_id": overlapping.id}) == (400, "BadRequest")
    busy = demo.network.create_port(network_id=twin.id, device_id="a-server")
    assert refusal(cloud, "PUT", path, {"port_id": busy.id}) == (409, "PortInUse")
    assert refusal(cloud, "PUT", path, {}) == (400, "BadRequest")
    assert refusal(cloud, "DELETE", f"/routers/{router.id}", None) == (409, "RouterInUse")
    gateway = {"subnet": {"gateway_ip": "192.168.7.254"}}
    assert refusal(cloud, "PUT", f"/subnets/{little.subnet.id}", gateway) == (409, "GatewayIpInUse")
    demo.network.remove_interface_from_router(router, subnet_id=little.subnet.id)
    demo.network.delete_router(router)
    demo.network.delete_port(busy)
    demo.network.delete_network(twin)


def test_a_floating_ip_of_a_chosen_subnet_and_address(cloud: Cloud, demo: Any, world: SimpleNamespace) -> None:
    floating = demo.network.create_ip(floating_network_id=world.external.id, subnet_id=world.external_subnet.id)
    assert floating.floating_ip_address.startswith("203.0.113.")
    port = demo.network.create_port(
        network_id=world.tenant.id, fixed_ips=[{"subnet_id": world.subnet.id}, {"subnet_id": world.subnet.id}]
    )
    second = port.fixed_ips[1]["ip_address"]
    moved = demo.network.update_ip(floating, port_id=port.id, fixed_ip_address=second)
    assert (moved.fixed_ip_address, moved.router_id) == (second, world.router.id)
    path = f"/floatingips/{floating.id}"
    strange = {"floatingip": {"port_id": port.id, "fixed_ip_address": "10.10.0.3"}}
    assert refusal(cloud, "PUT", path, strange) == (400, "BadRequest")
    assert refusal(cloud, "PUT", path, {"floatingip": {"floating_network_id": world.tenant.id}})[0] == 400
    assert demo.network.get_ip(floating.id).fixed_ip_address == second
    assert demo.network.update_ip(floating, port_id=None).status == "DOWN"
    alone = {"floatingip": {"floating_network_id": world.external.id, "fixed_ip_address": second}}
    assert refusal(cloud, "POST", "/floatingips", alone) == (400, "BadRequest")
    assert refusal(cloud, "POST", "/floatingips", {"floatingip": {"floating_network_id": world.tenant.id}}) == (
        400, "BadRequest"
    )  # fmt: skip
    demo.network.delete_ip(floating)
    demo.network.delete_port(port)


def test_what_the_cloud_lists_of_itself_is_there(cloud: Cloud, demo: Any) -> None:
    headers = {"X-Auth-Token": cloud.token()}
    for one in cloud.request("GET", f"{BASE}/", None, headers, timeout_s=30.0)[1]["resources"]:
        path = one["links"][0]["href"].removeprefix(cloud.url)
        assert cloud.request("GET", path, None, headers, timeout_s=30.0)[0] == 200, path
    aliases = {extension.alias for extension in demo.network.extensions()}
    assert {"quotas", "extraroute-atomic", "subnet_allocation", "default-subnetpools", "port-security"} <= aliases
    assert list(demo.network.agents()) == []
    assert list(demo.network.availability_zones()) == []
