"""Octavia v2 as openstacksdk finds it: trees, states, refusals, floating IPs, statistics."""

from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions
from tests.support.cloud import Cloud, FakeHost, wait_for


def tree(name: str, subnet: str, **more: Any) -> dict[str, Any]:
    """A fully populated load balancer with one listener, pool, two members and a monitor."""
    return {
        "name": name,
        "vip_subnet_id": subnet,
        "listeners": [
            {
                "name": "http",
                "protocol": "HTTP",
                "protocol_port": 80,
                "insert_headers": {"X-Forwarded-For": "true"},
                "default_pool": {
                    "name": "pool",
                    "protocol": "HTTP",
                    "lb_algorithm": "ROUND_ROBIN",
                    "members": [{"address": f"10.10.0.{n}", "protocol_port": 30080} for n in (11, 12)],
                    "healthmonitor": {"type": "HTTP", "delay": 2, "timeout": 1, "max_retries": 2},
                },
            }
        ],
        **more,
    }


def create(demo: Any, body: dict[str, Any]) -> Any:
    balancer = demo.load_balancer.create_load_balancer(**body)
    return wait_active(demo, balancer.id)


def wait_active(demo: Any, balancer_id: str) -> Any:
    def active() -> Any:
        found = demo.load_balancer.get_load_balancer(balancer_id)
        return found if found.provisioning_status == "ACTIVE" else None

    return wait_for(active)


def remove(demo: Any, balancer_id: str) -> None:
    demo.load_balancer.delete_load_balancer(balancer_id, cascade=True)
    wait_for(lambda: demo.load_balancer.find_load_balancer(balancer_id) is None)


@pytest.fixture
def balancer(demo: Any, world: SimpleNamespace, name: str) -> Any:
    made = create(demo, tree(name, world.subnet.id))
    yield made
    wait_for(lambda: demo.load_balancer.get_load_balancer(made.id).provisioning_status in {"ACTIVE", "ERROR"})
    remove(demo, made.id)


def test_one_post_becomes_an_active_pair_on_two_hosts(balancer: Any, admin: Any, hosts: list[FakeHost]) -> None:
    instances = list(admin.load_balancer.amphorae(loadbalancer_id=balancer.id))
    assert {one.cached_zone for one in instances} == {"host-a", "host-b"}
    first, second = (host.instances(balancer.id)[0] for host in hosts)
    assert first["vrrp"]["peers"] == [second["vrrp"]["source"]]
    assert first["vrrp"]["router_id"] == second["vrrp"]["router_id"]
    assert {first["vrrp"]["priority"], second["vrrp"]["priority"]} == {254, 250}
    assert first["legs"][0]["virtual"] == second["legs"][0]["virtual"] == [f"{balancer.vip_address}/24"]
    assert first["legs"][0]["gateway"] == "10.10.0.1"
    assert [member["address"] for member in first["pools"][0]["members"]] == ["10.10.0.11", "10.10.0.12"]
    assert first["listeners"][0]["insert_headers"] == ["X-Forwarded-For"]


def test_everything_under_an_active_balancer_is_active_and_online(cloud: Cloud, balancer: Any) -> None:
    path = f"/load-balancer/v2.0/lbaas/loadbalancers/{balancer.id}/status"
    statuses = cloud.request("GET", path, None, {"X-Auth-Token": cloud.token()})[1]["statuses"]["loadbalancer"]
    pool = statuses["listeners"][0]["pools"][0]
    for one in (statuses, statuses["listeners"][0], pool, *pool["members"], pool["health_monitor"]):
        assert (one["provisioning_status"], one["operating_status"]) == ("ACTIVE", "ONLINE"), one


def test_a_member_that_fails_degrades_the_balancer(demo: Any, balancer: Any, hosts: list[FakeHost]) -> None:
    for host in hosts:
        host.member_status = {"10.10.0.11": "ERROR"}
    wait_for(lambda: demo.load_balancer.get_load_balancer(balancer.id).operating_status == "DEGRADED")
    for host in hosts:
        host.member_status = {"10.10.0.11": "ERROR", "10.10.0.12": "ERROR"}
    wait_for(lambda: demo.load_balancer.get_load_balancer(balancer.id).operating_status == "ERROR")
    for host in hosts:
        host.member_status = {}
    wait_for(lambda: demo.load_balancer.get_load_balancer(balancer.id).operating_status == "ONLINE")


def test_a_pending_balancer_is_immutable(
    demo: Any, balancer: Any, hosts: list[FakeHost], cloud: Cloud, world: SimpleNamespace
) -> None:
    headers = {"X-Auth-Token": cloud.token()}
    for host in hosts:
        host.applying = False
    try:
        pool_id = balancer.pools[0]["id"]
        demo.load_balancer.create_member(pool_id, address="10.10.0.13", protocol_port=30080)
        base = "/load-balancer/v2.0/lbaas"
        body = {"member": {"address": "10.10.0.14", "protocol_port": 1}}
        status, said, _ = cloud.request("POST", f"{base}/pools/{pool_id}/members", body, headers)
        assert status == 409
        assert said == {
            "faultcode": "Client",
            "faultstring": f"Load Balancer {balancer.id} is immutable and cannot be updated.",
            "debuginfo": None,
        }
        status, said, _ = cloud.request("DELETE", f"{base}/loadbalancers/{balancer.id}?cascade=true", None, headers)
        assert status == 409
        assert said["faultstring"] == f"Invalid state PENDING_UPDATE of loadbalancer resource {balancer.id}"
    finally:
        for host in hosts:
            host.applying = True
    wait_active(demo, balancer.id)


def test_batch_members_make_the_list_true(demo: Any, balancer: Any, cloud: Cloud, hosts: list[FakeHost]) -> None:
    pool_id = balancer.pools[0]["id"]
    headers = {"X-Auth-Token": cloud.token()}
    path = f"/load-balancer/v2.0/lbaas/pools/{pool_id}/members"
    members = [
        {"address": "10.10.0.12", "protocol_port": 30080, "weight": 5},
        {"address": "10.10.0.15", "protocol_port": 1},
    ]
    assert cloud.request("PUT", path, {"members": members}, headers)[0] == 202
    wait_active(demo, balancer.id)
    found = {one.address: one.weight for one in demo.load_balancer.members(pool_id)}
    assert found == {"10.10.0.12": 5, "10.10.0.15": 1}
    wait_for(lambda: len(hosts[0].instances(balancer.id)[0]["pools"][0]["members"]) == 2)
    assert cloud.request("PUT", path, {"members": members}, headers)[0] == 202
    assert demo.load_balancer.get_load_balancer(balancer.id).provisioning_status == "ACTIVE"
    twice = [{"address": "10.10.0.16", "protocol_port": 1}] * 2
    status, said, _ = cloud.request("PUT", path, {"members": twice}, headers)
    assert (status, said["faultstring"][:41]) == (400, "Validation failure: Member must be update")
    plain = [{"address": "10.10.0.12", "protocol_port": 30080}]
    assert cloud.request("PUT", path + "?additive_only=true", {"members": plain}, headers)[0] == 202
    wait_active(demo, balancer.id)
    assert {one.weight for one in demo.load_balancer.members(pool_id)} == {1}
    more = [{"address": "10.10.0.16", "protocol_port": 1}]
    assert cloud.request("PUT", path + "?additive_only=true", {"members": more}, headers)[0] == 202
    wait_active(demo, balancer.id)
    assert len(list(demo.load_balancer.members(pool_id))) == 3


def test_children_are_made_changed_and_deleted_one_by_one(demo: Any, world: SimpleNamespace, name: str) -> None:
    lb = demo.load_balancer
    balancer = create(demo, {"name": name, "vip_subnet_id": world.subnet.id})
    listener = lb.create_listener(loadbalancer_id=balancer.id, protocol="TCP", protocol_port=443, name=name)
    wait_active(demo, balancer.id)
    pool = lb.create_pool(listener_id=listener.id, protocol="PROXYV2", lb_algorithm="LEAST_CONNECTIONS")
    wait_active(demo, balancer.id)
    monitor = lb.create_health_monitor(pool_id=pool.id, type="TCP", delay=3, timeout=2, max_retries=3)
    wait_active(demo, balancer.id)
    member = lb.create_member(pool.id, address="10.10.0.11", protocol_port=1, weight=0)
    wait_active(demo, balancer.id)
    wait_for(lambda: lb.get_member(member.id, pool.id).operating_status == "DRAINING")
    lb.update_health_monitor(monitor.id, delay=5)
    wait_active(demo, balancer.id)
    lb.update_listener(listener.id, connection_limit=10, allowed_cidrs=["10.0.0.0/8"])
    wait_active(demo, balancer.id)
    lb.update_pool(pool.id, session_persistence={"type": "SOURCE_IP"})
    wait_active(demo, balancer.id)
    assert lb.get_health_monitor(monitor.id).delay == 5
    assert lb.get_listener(listener.id).allowed_cidrs == ["10.0.0.0/8"]
    assert lb.get_pool(pool.id).session_persistence["type"] == "SOURCE_IP"
    assert [one.id for one in lb.listeners(loadbalancer_id=balancer.id)] == [listener.id]
    assert [one.id for one in lb.pools(loadbalancer_id=balancer.id)] == [pool.id]
    lb.delete_member(member.id, pool.id)
    wait_active(demo, balancer.id)
    lb.delete_health_monitor(monitor.id)
    wait_active(demo, balancer.id)
    lb.delete_pool(pool.id)
    wait_active(demo, balancer.id)
    lb.delete_listener(listener.id)
    wait_active(demo, balancer.id)
    assert lb.get_load_balancer(balancer.id).listeners == []
    lb.delete_load_balancer(balancer.id)
    wait_for(lambda: lb.find_load_balancer(balancer.id) is None)


def test_answers_have_octavias_shape(cloud: Cloud, balancer: Any) -> None:
    headers, base = {"X-Auth-Token": cloud.token()}, "/load-balancer/v2.0/lbaas"
    listed = cloud.request("GET", f"{base}/loadbalancers?name=nobody", None, headers)[1]
    assert listed == {"loadbalancers": [], "loadbalancers_links": []}
    status, said, _ = cloud.request("GET", f"{base}/pools?nonsense=1", None, headers)
    assert (status, said["faultstring"]) == (400, "One or more arguments are either duplicate or invalid")
    missing = "0" * 8 + "-0000-0000-0000-" + "0" * 12
    said = cloud.request("GET", f"{base}/healthmonitors/{missing}", None, headers)[1]
    assert said["faultstring"] == f"Health Monitor {missing} not found."
    pool = f"{base}/pools/{balancer.pools[0]['id']}"
    assert "description" not in cloud.request("GET", f"{pool}/members", None, headers)[1]["members"][0]
    assert cloud.request("GET", pool, None, headers)[1]["pool"]["tls_versions"] is None


def test_null_for_what_a_pool_must_have_is_refused_and_not_an_error(cloud: Cloud, balancer: Any) -> None:
    headers = {"X-Auth-Token": cloud.token()}
    path = f"/load-balancer/v2.0/lbaas/pools/{balancer.pools[0]['id']}"
    assert cloud.request("PUT", path, {"pool": {"lb_algorithm": None}}, headers)[0] == 400
    assert cloud.request("PUT", path, {"pool": {"session_persistence": {}}}, headers)[0] == 400
    monitor = cloud.request("GET", path, None, headers)[1]["pool"]["healthmonitor_id"]
    where = f"/load-balancer/v2.0/lbaas/healthmonitors/{monitor}"
    assert cloud.request("PUT", where, {"healthmonitor": {"delay": None}}, headers)[0] == 400
    status, said, _ = cloud.request("PUT", path, {"pool": {"tls_enabled": None}}, headers)
    assert (status, said["pool"]["tls_enabled"]) == (200, False)


@pytest.mark.parametrize(
    "case",
    [
        ({"name": "x"}, 400, "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id."),
        ({"vip_subnet_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12}, 400, "not found."),
        ({"listeners": [{"protocol": "FTP", "protocol_port": 1}]}, 400, "Invalid input for field/attribute protocol"),
        ({"listeners": [{"protocol": "SCTP", "protocol_port": 1}]}, 501, "Provider 'amphora' does not support"),
        ({"listeners": [{"protocol": "TERMINATED_HTTPS", "protocol_port": 1}]}, 400, "certificate container reference"),
        ({"listeners": [{"protocol": "TCP", "protocol_port": 70000}]}, 400, "field/attribute protocol_port"),
        ({"listeners": [{"protocol": "TCP", "protocol_port": 1}] * 2}, 409, "Another Listener on this Load"),
        ({"pools": [{"name": "a", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"}] * 2}, 400, "Pool names must be"),
        ({"nonsense": 1}, 400, "Unknown attribute for argument load_balancer.loadbalancer: nonsense"),
        ({"nonsense": 1, "also": 1}, 400, "Unknown attributes for argument load_balancer.loadbalancer: also, nonsense"),
        ({"listeners": [{"protocol": "TCP", "protocol_port": 1, "default_pool": {"name": "q"}}]}, 400, "Pool 'q' was"),
        ({"listeners": [{"loadbalancer_id": "x"}]}, 400, "argument load_balancer.loadbalancer.listeners: loadb"),
        ({"listeners": [{"protocol": "TCP", "protocol_port": 1, "hsts_max_age": 1}]}, 400, "The HSTS feature"),
        ({"vip_vnic_type": "normal"}, 400, "Unknown attribute"),
        ({"provider": "nobody"}, 400, "Provider 'nobody' is not enabled."),
        ({"vip_address": "10.10.0.1"}, 409, "10.10.0.1 is in use: it is the subnet's gateway"),
    ],
)  # fmt: skip
def test_wrong_input_gets_octavias_code_and_sentence_and_leaves_nothing(
    demo: Any, world: SimpleNamespace, cloud: Cloud, case: tuple[dict[str, Any], int, str]
) -> None:
    body, code, sentence = case
    before = len(list(demo.network.ports()))
    if "vip_subnet_id" not in body and body.keys() != {"name"}:
        body = {"vip_subnet_id": world.subnet.id, **body}
    headers = {"X-Auth-Token": cloud.token()}
    status, said, _ = cloud.request("POST", "/load-balancer/v2/lbaas/loadbalancers", {"loadbalancer": body}, headers)
    assert (status, said["faultcode"]) == (code, "Client" if code < 500 else "Server")
    assert sentence in said["faultstring"]
    assert len(list(demo.network.ports())) == before


def test_rules_of_a_listener_that_cost_too_much_together_are_refused(
    demo: Any, balancer: Any, cloud: Cloud, name: str
) -> None:
    """Each policy has few enough; one more, nested or alone, or one made costlier, is too much."""
    headers, base = {"X-Auth-Token": cloud.token()}, "/load-balancer/v2.0/lbaas"
    costly = {"type": "PATH", "compare_type": "CONTAINS", "value": "a"}
    policy = {"listener_id": balancer.listeners[0]["id"], "action": "REJECT", "name": name}

    def post(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, said, _ = cloud.request("POST", f"{base}/{path}", body, headers)
        wait_active(demo, balancer.id)
        return status, said

    status, _ = post("l7policies", {"l7policy": policy | {"rules": [costly] * 20}})
    assert status == 201
    status, said = post("l7policies", {"l7policy": policy | {"rules": [costly] * 20}})
    assert (status, "3600" in said["faultstring"], "CONTAINS" in said["faultstring"]) == (409, True, True)
    cheap = {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/a"}
    status, said = post("l7policies", {"l7policy": policy | {"rules": [costly] * 15 + [cheap] * 20}})
    assert status == 201
    policy_id, rule_id = said["l7policy"]["id"], said["l7policy"]["rules"][-1]["id"]
    assert [post(f"l7policies/{policy_id}/rules", {"rule": one})[0] for one in (costly, costly, cheap)] == [
        409,
        409,
        201,
    ]
    path = f"{base}/l7policies/{policy_id}/rules/{rule_id}"
    assert cloud.request("PUT", path, {"rule": {"compare_type": "CONTAINS"}}, headers)[0] == 409


def test_a_balancer_with_children_is_deleted_only_by_cascade(demo: Any, balancer: Any) -> None:
    with pytest.raises(exceptions.BadRequestException, match="it has children"):
        demo.load_balancer.delete_load_balancer(balancer.id)


def test_deletion_ends_when_the_hosts_let_go_and_frees_every_port(
    demo: Any, admin: Any, world: SimpleNamespace, name: str, hosts: list[FakeHost]
) -> None:
    balancer = create(demo, tree(name, world.subnet.id))
    for host in hosts:
        host.applying = False
    demo.load_balancer.delete_load_balancer(balancer.id, cascade=True)
    assert demo.load_balancer.get_load_balancer(balancer.id).provisioning_status == "PENDING_DELETE"
    for host in hosts:
        host.applying = True
    wait_for(lambda: demo.load_balancer.find_load_balancer(balancer.id) is None)
    left = [port for port in admin.network.ports() if balancer.vip_address in str(port.allowed_address_pairs)]
    assert not left
    assert admin.network.find_port(balancer.vip_port_id) is None
    assert not list(
        admin.network.ports(device_owner="Octavia", project_id=balancer.project_id, name=f"octavia-lb-{name}")
    )


def test_a_floating_ip_on_the_vip_is_a_leg_of_the_instances_while_it_is_there(
    demo: Any, balancer: Any, world: SimpleNamespace, hosts: list[FakeHost]
) -> None:
    floating = demo.network.create_ip(floating_network_id=world.external.id, port_id=balancer.vip_port_id)
    leg = wait_for(lambda: next(iter(hosts[0].instances(balancer.id)[0]["legs"][1:]), None))
    assert leg["name"] == "external"
    assert leg["virtual"] == [f"{floating.floating_ip_address}/24"]
    assert leg["gateway"] == "203.0.113.1"
    assert "fixed" not in leg
    assert not any(
        nat["floating"] == floating.floating_ip_address for nat in gateway(hosts[0], world).get("floating", ())
    )
    demo.network.update_ip(floating, port_id=None)
    wait_for(lambda: len(hosts[0].instances(balancer.id)[0]["legs"]) == 1)
    demo.network.delete_ip(floating)


def gateway(host: FakeHost, world: SimpleNamespace) -> dict[str, Any]:
    return host.instances(world.router.id)[0]


def test_a_router_is_carried_by_a_pair_that_translates_floating_ips_of_ports(
    demo: Any, world: SimpleNamespace, hosts: list[FakeHost]
) -> None:
    wait_for(lambda: all(host.instances(world.router.id) for host in hosts))
    pair = [gateway(host, world) for host in hosts]
    assert [leg["name"] for leg in pair[0]["legs"]] == ["tenant", "external"]
    assert pair[0]["legs"][0]["virtual"] == ["10.10.0.1/24"]
    assert pair[0]["legs"][0]["fixed"] != pair[1]["legs"][0]["fixed"]
    assert pair[0]["snat"]["source_cidrs"] == ["10.10.0.0/24"]
    port = demo.network.create_port(network_id=world.tenant.id)
    floating = demo.network.create_ip(floating_network_id=world.external.id, port_id=port.id)
    nat = {"floating": floating.floating_ip_address, "fixed": port.fixed_ips[0]["ip_address"]}

    def translated() -> bool:
        return any(nat.items() <= one.items() for one in gateway(hosts[0], world).get("floating", ()))

    wait_for(translated)
    assert f"{floating.floating_ip_address}/32" in gateway(hosts[0], world)["legs"][1]["virtual"]
    demo.network.delete_port(port)
    wait_for(lambda: not translated())
    assert demo.network.get_ip(floating.id).status == "DOWN"
    demo.network.delete_ip(floating)


def test_lists_filter_sort_page_and_choose_fields(demo: Any, world: SimpleNamespace, cloud: Cloud, name: str) -> None:
    made = [
        create(demo, {"name": f"{name}-{n}", "vip_subnet_id": world.subnet.id, "tags": [name, f"n{n}"]})
        for n in range(3)
    ]
    lb = demo.load_balancer
    assert [one.id for one in lb.load_balancers(name=f"{name}-1")] == [made[1].id]
    assert {one.id for one in lb.load_balancers(tags=name)} == {one.id for one in made}
    assert [one.id for one in lb.load_balancers(vip_address=made[2].vip_address)] == [made[2].id]
    headers = {"X-Auth-Token": cloud.token()}
    path = f"/load-balancer/v2.0/lbaas/loadbalancers?tags={name}&sort=name:desc&limit=2&fields=id"
    status, body, _ = cloud.request("GET", path, None, headers)
    assert status == 200
    assert body["loadbalancers"] == [{"id": made[2].id}, {"id": made[1].id}]
    following = body["loadbalancers_links"][0]
    assert following["rel"] == "next"
    rest = cloud.request("GET", following["href"].removeprefix(cloud.url), None, headers)[1]
    assert rest["loadbalancers"] == [{"id": made[0].id}]
    assert cloud.request("GET", "/load-balancer/v2/lbaas/loadbalancers?wrong=1", None, headers)[0] == 400
    assert len(list(lb.load_balancers(limit=1))) >= 3
    for one in made:
        remove(demo, one.id)


def test_another_project_sees_nothing_of_it(balancer: Any, cloud: Cloud, admin: Any, name: str) -> None:
    project = admin.identity.create_project(name=name, domain_id="default")
    user = admin.identity.create_user(name=name, domain_id="default", password="other")
    member = admin.identity.find_role("member")
    admin.identity.assign_project_role_to_user(project, user, member)
    auth = {
        "identity": {"methods": ["password"], "password": {"user": {"id": user.id, "password": "other"}}},
        "scope": {"project": {"id": project.id}},
    }
    headers = {"X-Auth-Token": cloud.request("POST", "/identity/v3/auth/tokens", {"auth": auth})[2]["x-subject-token"]}
    base = "/load-balancer/v2.0/lbaas/loadbalancers"
    assert cloud.request("GET", base, None, headers)[1]["loadbalancers"] == []
    assert cloud.request("GET", f"{base}/{balancer.id}", None, headers)[0] == 403
    assert cloud.request("DELETE", f"{base}/{balancer.id}", None, headers)[0] == 403
    assert cloud.request("GET", f"/network/v2.0/ports/{balancer.vip_port_id}", None, headers)[0] == 404


def test_statistics_are_summed_over_the_pair(demo: Any, balancer: Any, hosts: list[FakeHost]) -> None:
    counters = {"active_connections": 1, "bytes_in": 10, "bytes_out": 20, "request_errors": 0, "total_connections": 3}
    for host in hosts:
        host.stats[host.instances(balancer.id)[0]["id"]] = counters
    wait_for(lambda: demo.load_balancer.get_load_balancer_statistics(balancer.id).bytes_in == 20)
    assert demo.load_balancer.get_load_balancer_statistics(balancer.id).total_connections == 6
    listener = demo.load_balancer.get_listener_statistics(balancer.listeners[0]["id"])
    assert listener.bytes_out == 40


def test_an_error_of_a_host_shows_and_heals(demo: Any, balancer: Any, hosts: list[FakeHost], cloud: Cloud) -> None:
    """A standby whose disk was full kept every change from the active one, too."""

    def has_statuses(provisioning: str, operating: str) -> bool:
        found = demo.load_balancer.get_load_balancer(balancer.id)
        return (found.provisioning_status, found.operating_status) == (provisioning, operating)

    wait_for(lambda: balancer.id in cloud.masters)
    active = next(one for one in hosts if one.instances(balancer.id)[0]["id"] == cloud.masters[balancer.id])
    standby = next(one for one in hosts if one is not active)
    whole = demo.load_balancer.get_load_balancer(balancer.id).operating_status
    standby.error = "no space left on device"
    wait_for(lambda: has_statuses("ACTIVE", "DEGRADED"))
    demo.load_balancer.update_load_balancer(balancer.id, name="changed")
    wait_for(lambda: has_statuses("ACTIVE", "DEGRADED"))
    active.error = "port 80: taken"
    wait_for(lambda: demo.load_balancer.get_load_balancer(balancer.id).provisioning_status == "ERROR")
    standby.error = active.error = None
    wait_active(demo, balancer.id)
    wait_for(lambda: has_statuses("ACTIVE", whole))


def test_a_quota_that_is_met_refuses_with_403(admin: Any, demo: Any, world: SimpleNamespace, cloud: Cloud) -> None:
    project = demo.current_project_id
    admin.load_balancer.update_quota(project, listeners=0, load_balancers=0)
    headers = {"X-Auth-Token": cloud.token()}
    body = {"loadbalancer": {"vip_subnet_id": world.subnet.id}}
    status, said, _ = cloud.request("POST", "/load-balancer/v2.0/lbaas/loadbalancers", body, headers)
    admin.load_balancer.delete_quota(project)
    assert status == 403
    assert said["faultstring"].startswith("Quota has been met for resources:")


def test_providers_and_versions_are_listed(demo: Any, cloud: Cloud) -> None:
    assert {one.name for one in demo.load_balancer.providers()} == {"amphora", "octavia"}
    versions = cloud.request("GET", "/load-balancer/")[1]["versions"]
    assert versions[-1] == {**versions[-1], "id": "v2.30", "status": "CURRENT"}
    assert [one["status"] for one in versions].count("CURRENT") == 1
