"""Hosts that come, die and return: placement, what still becomes ACTIVE, long polls, and a cloud that is killed."""

import concurrent.futures
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.cloud import SECRET, Cloud, FakeHost, wait_for


@pytest.fixture
def small(fresh_cloud: Cloud) -> Any:
    """A cloud without hosts and one tenant network."""
    admin = fresh_cloud.connect("admin")
    network = admin.network.create_network(
        name="tenant", is_shared=True, provider_physical_network="tenant", provider_network_type="flat"
    )
    subnet = admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.10.0.0/24")
    demo = fresh_cloud.connect("demo")
    yield SimpleNamespace(cloud=fresh_cloud, admin=admin, demo=demo, subnet=subnet, network=network)
    admin.close()
    demo.close()


def state(small: SimpleNamespace, balancer: Any) -> str:
    return str(small.demo.load_balancer.get_load_balancer(balancer.id).provisioning_status)


def hosts_of(small: SimpleNamespace, balancer: Any) -> list[str]:
    found = small.admin.load_balancer.amphorae(loadbalancer_id=balancer.id)
    return sorted(one.cached_zone for one in found if one.status == "ALLOCATED")


def test_a_pair_grows_with_the_hosts_and_survives_the_death_of_one(small: SimpleNamespace) -> None:
    balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
    assert state(small, balancer) == "PENDING_CREATE"
    first = FakeHost(small.cloud, "host-a").start()
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    assert hosts_of(small, balancer) == ["host-a"]
    second = FakeHost(small.cloud, "host-b").start()
    wait_for(lambda: hosts_of(small, balancer) == ["host-a", "host-b"])
    wait_for(lambda: first.instances(balancer.id)[0]["vrrp"].get("peers"))
    second.stop()
    small.demo.load_balancer.create_listener(loadbalancer_id=balancer.id, protocol="TCP", protocol_port=80)
    assert state(small, balancer) == "PENDING_UPDATE"
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    third = FakeHost(small.cloud, "host-c").start()
    wait_for(lambda: hosts_of(small, balancer) == ["host-a", "host-c"])
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    # Host-b may be alive and deaf: what it carries must go on hearing that it is not needed.
    wait_for(lambda: first.instances(balancer.id)[0]["vrrp"].get("ghosts"))
    back = FakeHost(small.cloud, "host-b").start()
    wait_for(lambda: "ghosts" not in first.instances(balancer.id)[0]["vrrp"])
    assert back.instances(balancer.id) == []
    wait_for(lambda: len(list(small.admin.load_balancer.amphorae(loadbalancer_id=balancer.id))) == 2)
    back.stop()
    small.demo.load_balancer.delete_load_balancer(balancer.id, cascade=True)
    wait_for(lambda: small.demo.load_balancer.find_load_balancer(balancer.id) is None)
    first.stop()
    third.stop()
    assert [port.device_owner for port in small.admin.network.ports()] == []


def test_a_host_without_the_network_gets_nothing(small: SimpleNamespace) -> None:
    elsewhere = FakeHost(small.cloud, "host-x", ("elsewhere",)).start()
    balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
    here = FakeHost(small.cloud, "host-a").start()
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    assert hosts_of(small, balancer) == ["host-a"]
    elsewhere.stop()
    here.stop()


def test_a_long_poll_answers_when_something_changes_and_204_when_nothing_does(small: SimpleNamespace) -> None:
    host = FakeHost(small.cloud, "host-a")
    host.report()
    host.poll()
    began = time.monotonic()
    assert not host.poll(0.2)
    assert time.monotonic() - began >= 0.2
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(host.poll, 60.0)
        balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
        assert waiting.result(60.0)
    assert host.instances(balancer.id)


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", SECRET])
def test_a_host_without_the_secret_is_refused(cloud: Cloud, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    assert cloud.request("GET", "/agent/v1/hosts/h/desired", None, headers)[0] == 401
    assert cloud.request("PUT", "/agent/v1/hosts/h/report", {}, headers)[0] == 401


def test_a_malformed_report_names_what_is_wrong(cloud: Cloud) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    status, said, _ = cloud.request("PUT", "/agent/v1/hosts/h/report", {"instances": 1}, headers)
    assert status == 400
    assert "$.instances" in said


def test_a_cloud_killed_amid_writes_comes_back_consistent(small: SimpleNamespace) -> None:
    hosts = [FakeHost(small.cloud, name).start() for name in ("host-a", "host-b")]
    headers = {"X-Auth-Token": small.cloud.token()}
    confirmed: list[str] = []

    def write() -> None:
        body = {"loadbalancer": {"vip_subnet_id": small.subnet.id, "name": "crash"}}
        try:
            while True:
                said = small.cloud.request("POST", "/load-balancer/v2.0/lbaas/loadbalancers", body, headers)[1]
                confirmed.append(said["loadbalancer"]["id"])
        except (OSError, ValueError):  # killed
            return

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write) for _ in range(3)]
        wait_for(lambda: len(confirmed) >= 8)
        small.cloud.kill()
        small.cloud.socket.listen(1024)
        small.cloud.start()
        for writer in writers:
            writer.exception(20.0)
    balancers = {one.id: one for one in small.demo.load_balancer.load_balancers()}
    assert set(confirmed) <= balancers.keys()
    vips = [one.vip_port_id for one in balancers.values()]
    ports = {port.id for port in small.admin.network.ports()}
    assert set(vips) <= ports
    wait_for(
        lambda: all(one.provisioning_status == "ACTIVE" for one in small.demo.load_balancer.load_balancers()), 20.0
    )
    carried = [one.loadbalancer_id for one in small.admin.load_balancer.amphorae()]
    assert sorted(carried) == sorted([*balancers, *balancers])
    assert len(ports) == 3 * len(balancers)
    for host in hosts:
        host.stop()


def test_failover_replaces_both_instances_the_active_one_last(small: SimpleNamespace) -> None:
    hosts = [FakeHost(small.cloud, name).start() for name in ("host-a", "host-b")]
    balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    first = [one["vrrp"].get("joins", False) for host in hosts for one in host.instances(balancer.id)]
    small.demo.load_balancer.create_listener(loadbalancer_id=balancer.id, protocol="TCP", protocol_port=80)
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    before = {one.id for one in small.admin.load_balancer.amphorae(loadbalancer_id=balancer.id)}
    active = wait_for(lambda: small.cloud.masters.get(balancer.id))
    carrier = next(host for host in hosts if host.instances(balancer.id)[0]["id"] == active)
    carrier.stats[active] = {"active_connections": 7, "bytes_in": 0, "bytes_out": 0, "request_errors": 0,
                             "total_connections": 7}  # fmt: skip
    small.admin.load_balancer.failover_load_balancer(balancer.id)
    assert state(small, balancer) == "PENDING_UPDATE"
    wait_for(lambda: small.cloud.masters.get(balancer.id) not in before)
    assert state(small, balancer) == "PENDING_UPDATE"  # seven connections are still there
    assert active in {one.id for one in small.admin.load_balancer.amphorae(loadbalancer_id=balancer.id)}
    carrier.stats[active]["active_connections"] = 0
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    after = {one.id for one in small.admin.load_balancer.amphorae(loadbalancer_id=balancer.id)}
    assert len(after) == 2
    assert not after & before
    # Only a newcomer to a pair that serves waits for its HAProxy before it is a candidate.
    assert first == [False, False]
    last = [
        one for host in hosts for one in host.instances(balancer.id) if one["id"] != small.cloud.masters[balancer.id]
    ]
    assert [one["vrrp"].get("joins") for one in last] == [True]
    for host in hosts:
        host.stop()


def test_a_host_whose_agent_alone_is_dead_is_not_rebuilt_as_long_as_its_peer_hears_it(small: SimpleNamespace) -> None:
    hosts = {name: FakeHost(small.cloud, name).start() for name in ("host-a", "host-b", "host-c")}
    balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    wait_for(lambda: small.cloud.masters.get(balancer.id))
    first = hosts_of(small, balancer)
    active = next(name for name in first if hosts[name].instances(balancer.id)[0]["id"] in small.cloud.masters.values())
    standby = next(name for name in first if name != active)
    master = small.cloud.masters[balancer.id]
    hosts[active].stop()
    small.cloud.masters[balancer.id] = master  # only its agent fell silent

    def dead() -> bool:
        text = small.cloud.request("GET", "/metrics")[1]
        return {'vrata_cloud_hosts{alive="false"} 1.0', "vrata_cloud_load_balancers_without_standby 1.0"} <= {
            *text.splitlines()
        }

    wait_for(dead)
    assert hosts_of(small, balancer) == first
    del small.cloud.masters[balancer.id]  # now it is really gone, and the standby says so
    wait_for(lambda: hosts_of(small, balancer) == sorted({"host-a", "host-b", "host-c"} - {active}))
    assert standby in hosts_of(small, balancer)
    for name in {*hosts} - {active}:
        hosts[name].stop()


def vrata(small: SimpleNamespace, what: str) -> list[dict[str, Any]]:
    """One of the cloud's own lists for administrators."""
    path, token = f"/load-balancer/v2.0/vrata/{what}", {"X-Auth-Token": small.cloud.token("admin")}
    status, body, _ = small.cloud.request("GET", path, None, token)
    assert status == 200, body
    found: list[dict[str, Any]] = body[what.partition("?")[0]]
    return found


def took_over(at: float, cause: str, silent_s: float) -> dict[str, Any]:
    change = {"at": at, "before": "BACKUP", "after": "MASTER", "lasted_s": 60.0}
    return change | {"cause": cause, "silent_s": silent_s}


def test_a_build_that_no_host_ends_is_measured(small: SimpleNamespace) -> None:
    small.demo.load_balancer.create_load_balancer(name="waiting", vip_subnet_id=small.subnet.id)

    def pending_s() -> float:
        text = small.cloud.request("GET", "/metrics")[1]
        return float(text.partition("\nvrata_cloud_longest_pending_seconds ")[2].partition("\n")[0])

    wait_for(lambda: pending_s() > 0.5)
    assert pending_s() < 3600


def test_a_failover_is_kept_with_its_length_told_once_and_counted_by_its_cause(small: SimpleNamespace) -> None:
    hosts = {name: FakeHost(small.cloud, name).start() for name in ("host-a", "host-b")}
    balancer = small.demo.load_balancer.create_load_balancer(name="shop", vip_subnet_id=small.subnet.id)
    wait_for(lambda: state(small, balancer) == "ACTIVE" and len(hosts_of(small, balancer)) == 2)
    wait_for(lambda: sum(one["after"] == "BUILT" for one in vrata(small, "transitions")) == 2)
    [pair] = vrata(small, "pairs")
    assert (pair["name"], pair["kind"], pair["failover"]) == ("shop", "balancer", None)
    assert sorted(one["host"] for one in pair["instances"]) == ["host-a", "host-b"]
    mine = {name: host.instances(balancer.id)[0]["id"] for name, host in hosts.items()}

    first = {"at": 1000.25, "before": "BACKUP", "after": "MASTER", "lasted_s": 1.0, "cause": "first"}
    hosts["host-a"].transitions[mine["host-a"]] = [first]
    hosts["host-b"].transitions[mine["host-b"]] = [took_over(2000.5, "silence", 0.151)]
    for host in hosts.values():
        host.report()
    wait_for(lambda: vrata(small, "pairs")[0]["failover"])
    for host in hosts.values():  # the cloud's answer was lost: the same is told again, and something new
        host.transitions[mine[host.name]].append(took_over(3000.75, "good-bye", 0.004))
        host.report()
        host.report()
    last = vrata(small, "pairs")[0]["failover"]
    assert (last["at"], last["silent_s"], last["cause"], last["host"]) == (3000.75, 0.004, "good-bye", "host-b")
    masters = [(one["at"], one["cause"]) for one in vrata(small, "transitions") if one["after"] == "MASTER"]
    assert sorted(masters) == [(1000.25, "first"), (2000.5, "silence"), (3000.75, "good-bye"), (3000.75, "good-bye")]
    text = small.cloud.request("GET", "/metrics")[1]
    assert 'vrata_cloud_transitions_total{after="MASTER",before="BACKUP"} 4.0' in text
    assert 'vrata_cloud_failover_seconds_sum{cause="silence"} 0.151' in text
    assert 'vrata_cloud_failover_seconds_count{cause="good-bye"} 2.0' in text
    assert 'cause="first"' not in text
    assert "vrata_cloud_build_seconds_count 2.0" in text
    assert "vrata_cloud_longest_pending_seconds 0.0" in text

    hosts["host-b"].transitions[mine["host-b"]] = [took_over(5000.0 + number, "silence", 0.2) for number in range(1100)]
    hosts["host-b"].report()
    kept = vrata(small, "transitions")
    assert (len(kept), kept[0]["at"], kept[-1]["at"]) == (1000, 6099.0, 5100.0)
    assert [one["at"] for one in vrata(small, "transitions?limit=2")] == [6099.0, 6098.0]
    for host in hosts.values():
        host.stop()


def test_a_handover_that_was_asked_for_is_told_from_a_peer_that_broke(small: SimpleNamespace) -> None:
    hosts = {name: FakeHost(small.cloud, name).start() for name in ("host-a", "host-b")}
    balancer = small.demo.load_balancer.create_load_balancer(vip_subnet_id=small.subnet.id)
    small.demo.load_balancer.wait_for_load_balancer(balancer.id, interval=0.1)
    wait_for(lambda: len(hosts_of(small, balancer)) == 2 and state(small, balancer) == "ACTIVE")
    active = wait_for(lambda: small.cloud.masters.get(balancer.id))
    standby, host = next((i["id"], h) for h in hosts.values() for i in h.instances(balancer.id) if i["id"] != active)
    carrier = next(one for one in hosts.values() if one is not host)
    carrier.stats[active] = {"active_connections": 7, "bytes_in": 0, "bytes_out": 0, "request_errors": 0,
                             "total_connections": 7}  # fmt: skip
    small.demo.load_balancer.create_listener(loadbalancer_id=balancer.id, protocol="TCP", protocol_port=80)
    wait_for(lambda: state(small, balancer) == "ACTIVE")
    token = {"X-Auth-Token": small.cloud.token("admin")}
    path = f"/load-balancer/v2.0/vrata/hosts/{carrier.name}"
    assert small.cloud.request("PUT", path, {"host": {"drained": True}}, token)[0] == 200
    wait_for(lambda: small.cloud.masters.get(balancer.id) == standby)
    host.transitions[standby] = [took_over(1000.5, "good-bye", 0.002)]
    host.report()
    assert vrata(small, "pairs")[0]["failover"]["cause"] == "handover"
    for one in hosts.values():
        one.stop()


def test_hosts_that_fall_silent_and_return_are_told(small: SimpleNamespace) -> None:
    FakeHost(small.cloud, "host-a").start().stop()

    def steps() -> list[tuple[str, str, str]]:
        return [(one["host"], one["before"], one["after"]) for one in vrata(small, "transitions")]

    wait_for(lambda: steps() == [("host-a", "ALIVE", "SILENT")])
    FakeHost(small.cloud, "host-a").start().stop()
    assert steps()[-2:] == [("host-a", "SILENT", "ALIVE"), ("host-a", "ALIVE", "SILENT")]
    back, dead = vrata(small, "transitions")[-2:]
    assert 0 < dead["silent_s"] < back["silent_s"]  # counted from the last that was heard, both times


@pytest.mark.parametrize("what", ["pairs", "transitions"])
def test_what_happens_to_hosts_is_for_administrators(cloud: Cloud, what: str) -> None:
    path = f"/load-balancer/v2.0/vrata/{what}"
    assert cloud.request("GET", path, None, {"X-Auth-Token": cloud.token("demo")})[0] == 403
