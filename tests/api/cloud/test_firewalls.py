"""A changed security group reaches whoever enforces it: gateways of floating IPs, and load balancers (Neutron v2.0)."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud, FakeHost, wait_for


@pytest.fixture
def group(demo: Any, name: str) -> Iterator[Any]:
    made = demo.network.create_security_group(name=name)
    yield made
    demo.network.delete_security_group(made)


def carried(hosts: list[FakeHost], owner_id: str) -> list[dict[str, Any]]:
    return [one for host in hosts for one in host.instances(owner_id)]


def raised(hosts: list[FakeHost], owner_id: str, seen: Any, before: int) -> int:
    """Both instances came to serve what `seen` wants, with a higher generation; which one."""

    def done() -> list[int]:
        found = [one for one in carried(hosts, owner_id) if one["generation"] > before and seen(one)]
        return [one["generation"] for one in found] if len(found) == 2 else []

    return max(int(generation) for generation in wait_for(done))


def test_a_rule_reaches_the_gateway_of_a_floating_ip(
    demo: Any, admin: Any, world: SimpleNamespace, hosts: list[FakeHost], group: Any
) -> None:
    port = demo.network.create_port(network_id=world.tenant.id, security_group_ids=[group.id])
    floating = demo.network.create_ip(floating_network_id=world.external.id, port_id=port.id)

    def rules(one: dict[str, Any]) -> list[Any] | None:
        for nat in one.get("floating", ()):
            if nat["floating"] == floating.floating_ip_address:
                return list((nat.get("firewall") or {}).get("rules", ()))
        return None

    before = raised(hosts, world.router.id, lambda one: rules(one) == [], 0)
    rule = demo.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )
    wanted = [{"ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}]
    before = raised(hosts, world.router.id, lambda one: rules(one) == wanted, before)
    demo.network.delete_security_group_rule(rule)
    before = raised(hosts, world.router.id, lambda one: rules(one) == [], before)
    # A rule for a group's members follows the members.
    remote = demo.network.create_security_group(name="remote")
    demo.network.create_security_group_rule(security_group_id=group.id, direction="ingress", remote_group_id=remote.id)
    other = demo.network.create_port(network_id=world.tenant.id, security_group_ids=[remote.id])
    address = other.fixed_ips[0]["ip_address"]
    members = [{"ethertype": "IPv4", "remotes": [f"{address}/32"]}]
    before = raised(hosts, world.router.id, lambda one: rules(one) == members, before)
    demo.network.delete_port(other)
    before = raised(hosts, world.router.id, lambda one: rules(one) == [], before)
    # Without port security everything may enter.
    admin.network.update_port(port, security_group_ids=[], is_port_security_enabled=False)
    raised(hosts, world.router.id, lambda one: rules(one) == [] and "firewall" not in nat_of(one, floating), before)
    demo.network.delete_ip(floating)
    demo.network.delete_port(port)
    for row in demo.network.security_group_rules(security_group_id=group.id, direction="ingress"):
        demo.network.delete_security_group_rule(row)
    demo.network.delete_security_group(remote)


def nat_of(one: dict[str, Any], floating: Any) -> dict[str, Any]:
    found = (nat for nat in one.get("floating", ()) if nat["floating"] == floating.floating_ip_address)
    return next(found, {"firewall": "none yet"})


def test_a_rule_reaches_the_load_balancer_whose_vip_has_the_group(
    cloud: Cloud, demo: Any, world: SimpleNamespace, hosts: list[FakeHost], group: Any, name: str
) -> None:
    body = {"loadbalancer": {"name": name, "vip_subnet_id": world.subnet.id, "vip_sg_ids": [group.id]}}
    path = "/load-balancer/v2/lbaas/loadbalancers"
    status, said, _ = cloud.request("POST", path, body, {"X-Auth-Token": cloud.token()}, timeout_s=30.0)
    assert status == 201, said
    balancer = SimpleNamespace(**said["loadbalancer"])
    wait_for(lambda: demo.load_balancer.get_load_balancer(balancer.id).provisioning_status == "ACTIVE")

    def protocols(one: dict[str, Any]) -> list[str] | None:
        firewall = one["legs"][0].get("firewall")
        return None if firewall is None else [rule.get("protocol") for rule in firewall.get("rules", ())]

    before = raised(hosts, balancer.id, lambda one: protocols(one) == [], 0)
    rule = demo.network.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="udp")
    before = raised(hosts, balancer.id, lambda one: protocols(one) == ["udp"], before)
    demo.network.delete_security_group_rule(rule)
    raised(hosts, balancer.id, lambda one: protocols(one) == [], before)
    with pytest.raises(exceptions.ConflictException, match="in use"):
        demo.network.delete_security_group(group)
    demo.load_balancer.delete_load_balancer(balancer.id)
    wait_for(lambda: demo.load_balancer.find_load_balancer(balancer.id) is None)
