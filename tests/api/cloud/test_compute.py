"""Nova v2.1 as openstacksdk and the command line find it: servers, flavors, addresses, isolation."""

from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud


@pytest.fixture
def flavor(admin: Any) -> Any:
    made = next(iter(admin.compute.flavors(name="large")), None) or admin.compute.find_flavor("large")
    return made or admin.compute.create_flavor(name="large", vcpus=4, ram=8192, disk=40)


def registered(admin: Any, demo: Any, flavor: Any, name: str, *ports: Any, **more: Any) -> Any:
    """A machine of the demo project's."""
    networks = [{"port": port.id} for port in ports]
    body = {"name": name, "flavor_id": flavor.id, "image_id": "", "networks": networks, **more}
    made = admin.compute.create_server(project_id=demo.current_project_id, **body)
    return demo.compute.get_server(made.id)


def test_a_server_shows_the_addresses_of_its_ports(admin: Any, demo: Any, flavor: Any, little: SimpleNamespace) -> None:
    port = demo.network.create_port(network_id=little.network.id)
    server = registered(admin, demo, flavor, "node-1", port, availability_zone="az-1", metadata={"role": "worker"})
    fixed = port.fixed_ips[0]["ip_address"]
    (shown,) = server.addresses[little.network.name]
    assert shown == {
        "addr": fixed,
        "version": 4,
        "OS-EXT-IPS:type": "fixed",
        "OS-EXT-IPS-MAC:mac_addr": port.mac_address,
    }
    assert (server.status, server.vm_state, server.availability_zone) == ("ACTIVE", "active", "az-1")
    assert server.metadata == {"role": "worker"}
    assert server.project_id == demo.current_project_id
    assert demo.network.get_port(port.id).device_id == server.id
    (interface,) = demo.compute.server_interfaces(server)
    assert (interface.port_id, interface.port_state) == (port.id, demo.network.get_port(port.id).status)


def test_limits_and_quotas_are_there_for_every_microversion(cloud: Cloud, demo: Any) -> None:
    for version, old in (("2.1", True), ("2.79", False)):
        headers = {"X-Auth-Token": cloud.token(), "OpenStack-API-Version": f"compute {version}"}
        path = f"/compute/v2.1/os-quota-sets/{demo.current_project_id}"
        quotas = cloud.request("GET", path, None, headers)[1]["quota_set"]
        limits = cloud.request("GET", "/compute/v2.1/limits", None, headers)[1]["limits"]["absolute"]
        assert ("fixed_ips" in quotas, "maxTotalFloatingIps" in limits) == (old, old)
        assert {value for name, value in limits.items() if name.startswith("max")} == {-1}
    assert cloud.request("GET", "/compute/v2.1/limits?tenant_id=other", None, headers)[0] == 403


def test_a_flavor_for_some_is_refused(cloud: Cloud) -> None:
    body = {"flavor": {"name": "few", "vcpus": 1, "ram": 1, "os-flavor-access:is_public": False}}
    assert cloud.request("POST", "/compute/v2.1/flavors", body, {"X-Auth-Token": cloud.token("admin")})[0] == 400


def test_a_floating_ip_is_among_the_addresses(admin: Any, demo: Any, flavor: Any, world: SimpleNamespace) -> None:
    port = demo.network.create_port(network_id=world.tenant.id)
    server = registered(admin, demo, flavor, "outside", port)
    floating = demo.network.create_ip(floating_network_id=world.external.id, port_id=port.id)
    kinds = {
        one["addr"]: one["OS-EXT-IPS:type"] for one in demo.compute.get_server(server.id).addresses[world.tenant.name]
    }
    assert kinds == {port.fixed_ips[0]["ip_address"]: "fixed", floating.floating_ip_address: "floating"}


def test_ports_that_name_a_machine_give_the_server_its_id(
    admin: Any, demo: Any, flavor: Any, little: SimpleNamespace
) -> None:
    wanted = "11111111-2222-3333-4444-555555555555"
    port = demo.network.create_port(network_id=little.network.id, device_id=wanted, device_owner="compute:nova")
    assert registered(admin, demo, flavor, "known", port).id == wanted
    with pytest.raises(exceptions.ConflictException):
        registered(admin, demo, flavor, "twice", port)


def test_a_foreign_port_that_named_the_machine_first_is_no_port_of_the_server(
    admin: Any, demo: Any, flavor: Any, little: SimpleNamespace, world: SimpleNamespace
) -> None:
    wanted = "11111111-2222-3333-4444-666666666666"
    foreign = admin.network.create_port(network_id=world.tenant.id, device_id=wanted, device_owner="compute:nova")
    port = demo.network.create_port(network_id=little.network.id, device_id=wanted)
    server = registered(admin, demo, flavor, "claimed", port)
    assert server.id == wanted
    assert server.addresses.keys() == {little.network.name}
    assert [one.port_id for one in demo.compute.server_interfaces(server)] == [port.id]
    address = foreign.fixed_ips[0]["ip_address"]
    assert list(demo.compute.servers(ip=f"^{address}$")) == []
    with pytest.raises(exceptions.BadRequestException, match="project"):
        registered(admin, demo, flavor, "another", foreign)
    admin.compute.delete_server(server.id)
    assert admin.network.get_port(foreign.id).device_id == wanted  # not freed by somebody else's server
    admin.network.delete_port(foreign)


def test_the_flavor_is_a_link_in_old_versions_and_embedded_in_new_ones(
    admin: Any, demo: Any, flavor: Any, cloud: Cloud
) -> None:
    server = registered(admin, demo, flavor, "sized")
    old = demo.compute.get(f"/servers/{server.id}", microversion="2.1").json()["server"]["flavor"]
    assert old["id"] == flavor.id
    answer = demo.compute.get(f"/servers/{server.id}", microversion="2.79")
    assert answer.headers["OpenStack-API-Version"] == "compute 2.79"
    new = answer.json()["server"]["flavor"]
    assert (new["original_name"], new["vcpus"], new["ram"]) == ("large", 4, 8192)
    assert demo.compute.get("/servers", microversion="2.99").status_code == 406


def test_lists_are_filtered_and_in_pages(admin: Any, demo: Any, flavor: Any, little: SimpleNamespace) -> None:
    port = demo.network.create_port(network_id=little.network.id)
    one = registered(admin, demo, flavor, "list-one", port)
    two = registered(admin, demo, flavor, "list-two")
    assert {server.id for server in demo.compute.servers(name="list-")} == {one.id, two.id}
    assert [server.id for server in demo.compute.servers(name="^list-one$")] == [one.id]
    assert [server.id for server in demo.compute.servers(name="list.*two")] == [two.id]
    address = port.fixed_ips[0]["ip_address"]
    assert [server.id for server in demo.compute.servers(ip=f"^{address}$")] == [one.id]
    assert {one.id, two.id} <= {server.id for server in demo.compute.servers(limit=1)}
    with pytest.raises(exceptions.BadRequestException, match="Marker"):
        list(demo.compute.servers(marker="nobody"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "[", "\\", "*", "a{100000}"])
def test_a_hostile_pattern_matches_itself_and_hangs_nobody(demo: Any, pattern: str) -> None:
    assert list(demo.compute.servers(name=pattern)) == []


def test_stopping_and_starting_is_shown(admin: Any, demo: Any, flavor: Any) -> None:
    server = registered(admin, demo, flavor, "stopping")
    demo.compute.stop_server(server)
    assert demo.compute.get_server(server.id).status == "SHUTOFF"
    assert [one.id for one in demo.compute.servers(status="SHUTOFF", name="stopping")] == [server.id]
    with pytest.raises(exceptions.ConflictException, match="vm_state stopped"):
        demo.compute.stop_server(server)
    demo.compute.start_server(server)
    assert demo.compute.get_server(server.id).status == "ACTIVE"


def test_only_an_administrator_registers_and_a_deleted_servers_ports_stay(
    admin: Any, demo: Any, flavor: Any, little: SimpleNamespace
) -> None:
    with pytest.raises(exceptions.ForbiddenException, match="registers"):
        demo.compute.create_server(name="mine", flavor_id=flavor.id, image_id="", networks=[])
    port = demo.network.create_port(network_id=little.network.id)
    server = registered(admin, demo, flavor, "going", port)
    with pytest.raises(exceptions.ForbiddenException):
        demo.compute.delete_server(server)
    admin.compute.delete_server(server.id)
    assert demo.compute.find_server(server.id) is None
    assert demo.network.get_port(port.id).device_id == ""


def test_other_projects_servers_are_not_there(admin: Any, demo: Any, flavor: Any) -> None:
    body = {"name": "admins", "flavor_id": flavor.id, "image_id": "", "networks": []}
    server = admin.compute.create_server(**body)
    assert demo.compute.find_server(server.id) is None
    assert server.id not in {one.id for one in demo.compute.servers()}
    ours = registered(admin, demo, flavor, "ours")
    assert {server.id, ours.id} <= {one.id for one in admin.compute.servers(all_projects=True)}


def test_flavors_are_listed_shown_and_the_administrators_to_make(admin: Any, demo: Any, flavor: Any) -> None:
    assert flavor.id in {one.id for one in demo.compute.flavors()}
    assert demo.compute.find_flavor("large").vcpus == 4
    with pytest.raises(exceptions.ForbiddenException):
        demo.compute.create_flavor(name="huge", vcpus=1, ram=1, disk=1)
    with pytest.raises(exceptions.ConflictException):
        admin.compute.create_flavor(name="large", vcpus=1, ram=1, disk=1)
    with pytest.raises(exceptions.BadRequestException, match="vcpus"):
        admin.compute.create_flavor(name="none", vcpus=0, ram=1, disk=1)


def test_zones_are_those_of_servers(admin: Any, demo: Any, flavor: Any) -> None:
    registered(admin, demo, flavor, "zoned", availability_zone="az-2")
    assert {"nova", "az-2"} <= {one.name for one in demo.compute.availability_zones()}


def test_there_are_no_quotas_and_strangers_may_not_ask(admin: Any, demo: Any) -> None:
    own = demo.current_project_id
    assert demo.compute.get_quota_set(own).cores == -1
    assert admin.compute.get_quota_set(own).instances == -1
    with pytest.raises(exceptions.ForbiddenException):
        demo.compute.get_quota_set(admin.current_project_id)
