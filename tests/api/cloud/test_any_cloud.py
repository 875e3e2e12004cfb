"""One story that every OpenStack cloud with Octavia must tell; VRATA_TEST_CLOUD names another one than ours."""

from typing import Any

from tests.support.cloud import wait_for

DEADLINE_S = 300.0  # a real Octavia boots machines


def test_a_balancer_is_made_changed_given_an_address_and_leaves_nothing(stranger: Any, name: str) -> None:
    lb, net = stranger.load_balancer, stranger.network
    external = next(one for one in net.networks() if one.is_router_external)
    inside = next(one for one in net.networks() if not one.is_router_external and one.subnet_ids)
    pool = {
        "name": name,
        "protocol": "TCP",
        "lb_algorithm": "ROUND_ROBIN",
        "members": [{"address": "10.10.0.11", "protocol_port": 30080}],
        "healthmonitor": {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 3},
    }
    listener = {"name": name, "protocol": "TCP", "protocol_port": 80, "default_pool": pool}
    made = lb.create_load_balancer(name=name, vip_network_id=inside.id, listeners=[listener], tags=[name])

    def active() -> bool:
        return bool(lb.get_load_balancer(made.id).provisioning_status == "ACTIVE")

    wait_for(active, DEADLINE_S)
    pool_id = next(iter(lb.pools(loadbalancer_id=made.id))).id
    added = lb.create_member(pool_id, address="10.10.0.12", protocol_port=30080)
    wait_for(active, DEADLINE_S)
    assert {one.address for one in lb.members(pool_id)} == {"10.10.0.11", "10.10.0.12"}
    lb.delete_member(added.id, pool_id)
    wait_for(active, DEADLINE_S)
    floating = net.create_ip(floating_network_id=external.id, port_id=made.vip_port_id, description=name)
    assert floating.fixed_ip_address == made.vip_address
    assert [one.id for one in net.ips(port_id=made.vip_port_id)] == [floating.id]
    net.delete_ip(floating)
    lb.delete_load_balancer(made.id, cascade=True)
    wait_for(lambda: lb.find_load_balancer(made.id) is None, DEADLINE_S)
    assert [one.id for one in lb.load_balancers(tags=name)] == []
    assert net.find_port(made.vip_port_id) is None
