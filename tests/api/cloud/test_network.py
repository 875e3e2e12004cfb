"""Neutron v2.0 as openstacksdk finds it: addresses, routers, floating IPs, groups, isolation, exhaustion."""

from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud


def said(refused: Any) -> Any:
    """Neutron's error body of a refusal."""
    return refused.value.response.json()["NeutronError"]


def test_ports_get_addresses_until_none_is_left(demo: Any, little: SimpleNamespace) -> None:
    made = [demo.network.create_port(network_id=little.network.id) for _ in range(2)]
    assert [port.fixed_ips[0]["ip_address"] for port in made] == ["192.168.7.10", "192.168.7.11"]
    with pytest.raises(exceptions.ConflictException) as refused:
        demo.network.create_port(network_id=little.network.id)
    assert said(refused) == {
        "type": "IpAddressGenerationFailure",
        "message": f"No more IP addresses available on network {little.network.id}.",
        "detail": "",
    }
    demo.network.delete_port(made[0])
    assert demo.network.create_port(network_id=little.network.id).fixed_ips[0]["ip_address"] == "192.168.7.10"


def test_an_address_can_be_asked_for_once(demo: Any, little: SimpleNamespace) -> None:
    wanted = [{"subnet_id": little.subnet.id, "ip_address": "192.168.7.200"}]
    port = demo.network.create_port(network_id=little.network.id, fixed_ips=wanted, name="mine", tags=["x"])
    assert port.fixed_ips == wanted
    with pytest.raises(exceptions.ConflictException, match="already allocated"):
        demo.network.create_port(network_id=little.network.id, fixed_ips=wanted)
    with pytest.raises(exceptions.BadRequestException, match="not a valid IP"):
        demo.network.create_port(network_id=little.network.id, fixed_ips=[{"ip_address": "10.99.0.1"}])
    found = list(demo.network.ports(fixed_ips="ip_address=192.168.7.200", network_id=little.network.id))
    assert [one.id for one in found] == [port.id]


def test_a_network_and_a_subnet_in_use_stay(demo: Any, little: SimpleNamespace) -> None:
    demo.network.create_port(network_id=little.network.id)
    for delete, row, kind in (
        (demo.network.delete_network, little.network, "NetworkInUse"),
        (demo.network.delete_subnet, little.subnet, "SubnetInUse"),
    ):
        with pytest.raises(exceptions.ConflictException) as refused:
            delete(row)
        assert said(refused)["type"] == kind


def test_a_dual_stack_network_gives_one_address_of_each_version(demo: Any, little: SimpleNamespace) -> None:
    demo.network.create_subnet(network_id=little.network.id, ip_version=6, cidr="2001:db8:7::/64")
    port = demo.network.create_port(network_id=little.network.id)
    assert [place["ip_address"] for place in port.fixed_ips] == ["192.168.7.10", "2001:db8:7::2"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cidr": "10.0.0.0/8", "ip_version": 6},
        {"cidr": "192.168.7.128/25", "ip_version": 4},
        {"cidr": "10.1.0.0/24", "ip_version": 4, "gateway_ip": "10.2.0.1"},
        {"cidr": "10.1.0.0/24", "ip_version": 4, "allocation_pools": [{"start": "10.2.0.1", "end": "10.2.0.9"}]},
        {"cidr": "10.1.0.0/24", "ip_version": 4, "allocation_pools": [{"start": "10.1.0.9", "end": "10.1.0.8"}]},
        {"cidr": "10.1.0.0/24", "ip_version": 4, "allocation_pools": [{"begin": "10.1.0.9"}]},
        {"cidr": "nonsense", "ip_version": 4},
    ],
)
def test_a_subnet_that_makes_no_sense_is_refused(demo: Any, little: SimpleNamespace, wrong: dict[str, Any]) -> None:
    with pytest.raises(exceptions.BadRequestException):
        demo.network.create_subnet(network_id=little.network.id, **wrong)


def test_a_floating_ip_moves_between_ports_and_goes_with_none(demo: Any, world: SimpleNamespace) -> None:
    ports = [demo.network.create_port(network_id=world.tenant.id) for _ in range(2)]
    wanted = "203.0.113.77"
    floating = demo.network.create_ip(
        floating_network_id=world.external.id, floating_ip_address=wanted, port_id=ports[0].id
    )
    assert (floating.floating_ip_address, floating.status, floating.router_id) == (wanted, "ACTIVE", world.router.id)
    with pytest.raises(exceptions.ConflictException):
        demo.network.create_ip(floating_network_id=world.external.id, port_id=ports[0].id)
    with pytest.raises(exceptions.ConflictException):
        demo.network.create_ip(floating_network_id=world.external.id, floating_ip_address=wanted)
    moved = demo.network.update_ip(floating, port_id=ports[1].id)
    assert moved.fixed_ip_address == ports[1].fixed_ips[0]["ip_address"]
    assert [one.id for one in demo.network.ips(port_id=ports[1].id)] == [floating.id]
    demo.network.delete_port(ports[1])
    assert demo.network.get_ip(floating.id).port_id is None
    demo.network.delete_ip(floating)
    assert demo.network.find_ip(floating.id) is None
    demo.network.delete_port(ports[0])


def test_a_floating_ip_needs_a_router_between(demo: Any, world: SimpleNamespace, little: SimpleNamespace) -> None:
    port = demo.network.create_port(network_id=little.network.id)
    with pytest.raises(exceptions.NotFoundException, match="is not reachable from subnet"):
        demo.network.create_ip(floating_network_id=world.external.id, port_id=port.id)
    assert not [ip for ip in demo.network.ips() if ip.port_id == port.id]


def test_a_router_interface_in_use_stays_and_an_unused_one_goes(
    admin: Any, world: SimpleNamespace, little: SimpleNamespace
) -> None:
    port = admin.network.create_port(network_id=world.tenant.id)
    floating = admin.network.create_ip(floating_network_id=world.external.id, port_id=port.id)
    with pytest.raises(exceptions.ConflictException) as refused:
        admin.network.remove_interface_from_router(world.router, subnet_id=world.subnet.id)
    assert said(refused)["type"] == "RouterInterfaceInUseByFloatingIP"
    admin.network.delete_ip(floating)
    admin.network.delete_port(port)
    admin.network.add_interface_to_router(world.router, subnet_id=little.subnet.id)
    interface = next(iter(admin.network.ports(network_id=little.network.id, device_owner="network:router_interface")))
    assert interface.fixed_ips[0]["ip_address"] == "192.168.7.1"
    with pytest.raises(exceptions.ConflictException):
        admin.network.delete_port(interface)
    admin.network.remove_interface_from_router(world.router, subnet_id=little.subnet.id)
    assert admin.network.find_port(interface.id) is None


def test_security_groups_are_kept_with_their_rules(demo: Any, name: str) -> None:
    assert demo.network.find_security_group("default") is not None
    group = demo.network.create_security_group(name=name)
    assert {rule["direction"] for rule in group.security_group_rules} == {"egress"}
    wanted = {"direction": "ingress", "protocol": "tcp", "port_range_min": 1, "port_range_max": 2}
    rule = demo.network.create_security_group_rule(security_group_id=group.id, remote_ip_prefix="10.0.0.0/8", **wanted)
    with pytest.raises(exceptions.ConflictException, match="already exists"):
        demo.network.create_security_group_rule(security_group_id=group.id, remote_ip_prefix="10.0.0.0/8", **wanted)
    demo.network.delete_security_group_rule(rule)
    demo.network.delete_security_group(group)


def test_tags_filter(demo: Any, little: SimpleNamespace) -> None:
    demo.network.set_tags(little.network, ["red", "round"])
    assert [one.id for one in demo.network.networks(tags="red,round")] == [little.network.id]
    assert little.network.id not in [one.id for one in demo.network.networks(not_tags="red")]


def test_a_tenant_can_not_make_shared_or_external_networks(demo: Any, cloud: Cloud) -> None:
    for forbidden in ({"is_shared": True}, {"is_router_external": True}, {"provider_physical_network": "tenant"}):
        with pytest.raises(exceptions.ForbiddenException):
            demo.network.create_network(name="mine", **forbidden)
    assert demo.network.find_extension("router") is not None
    assert cloud.request("GET", "/network/v2.0/networks")[0] == 401


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"protocol": "icmp", "port_range_min": 300}, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmp", "port_range_max": 3}, "SecurityGroupMissingIcmpType"),
        ({"protocol": "gre", "port_range_min": 1, "port_range_max": 2}, "SecurityGroupInvalidProtocolForPort"),
        ({"protocol": "ipv6-icmp"}, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"protocol": "tcp", "port_range_min": 9, "port_range_max": 2}, "SecurityGroupInvalidPortRange"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(demo: Any, name: str, wrong: dict[str, Any], kind: str) -> None:
    group = demo.network.create_security_group(name=name)
    with pytest.raises(exceptions.BadRequestException) as refused:
        demo.network.create_security_group_rule(security_group_id=group.id, direction="ingress", **wrong)
    assert said(refused)["type"] == kind
    demo.network.delete_security_group(group)


@pytest.mark.parametrize("wrong", [[1], {}, "perhaps", 2])
def test_what_is_no_boolean_does_not_switch_snat_on(demo: Any, world: SimpleNamespace, wrong: Any) -> None:
    gateway = {"network_id": world.external.id, "enable_snat": wrong}
    with pytest.raises(exceptions.BadRequestException, match="enable_snat"):
        demo.network.create_router(name="snat", external_gateway_info=gateway)
