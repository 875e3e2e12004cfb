"""What a Service asks of the cloud, and what it may not ask."""

from typing import Any

import msgspec
import pytest

from vrata.kube.objects import Node, Service
from vrata.provider.annotations import INTERNAL, PREFIX
from vrata.provider.desired import desired
from vrata.provider.members import node_address
from vrata.provider.model import Settings


def make_service(annotations: dict[str, str] | None = None, **spec: object) -> Service:
    body = {
        "metadata": {"name": "web", "namespace": "default", "annotations": annotations or {}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}], **spec},
    }
    return msgspec.convert(body, Service)


def make_node(name: str, address: str, **metadata: object) -> Node:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return msgspec.convert({"metadata": {"name": name, **metadata}, "status": status}, Node)


NODES = [make_node("worker-0", "10.10.0.20"), make_node("worker-1", "10.10.0.21")]


def test_every_node_is_a_member_on_the_node_port() -> None:
    listener = desired(Settings(), make_service(), NODES).listeners[0]
    assert {(member.name, member.address, member.port) for member in listener.pool.members} == {
        ("worker-0", "10.10.0.20", 30080),
        ("worker-1", "10.10.0.21", 30080),
    }


def test_names_are_those_of_the_openstack_cloud_controller() -> None:
    wanted = desired(Settings(cluster="prod"), make_service(), NODES)
    assert wanted.name == "kube_service_prod_default_web"
    assert wanted.floating_description == "Floating IP for Kubernetes external service default/web from cluster prod"


def test_excluded_and_leaving_nodes_are_no_members() -> None:
    excluded = make_node("m", "10.10.0.10", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""})
    leaving = make_node("l", "10.10.0.11", deletionTimestamp="2026-01-01T00:00:00Z")
    pool = desired(Settings(), make_service(), [*NODES, excluded, leaving]).listeners[0].pool
    assert {member.name for member in pool.members} == {"worker-0", "worker-1"}


def test_local_policy_is_watched_through_the_health_check_port() -> None:
    service = make_service(externalTrafficPolicy="Local", healthCheckNodePort=31000)
    pool = desired(Settings(), service, NODES).listeners[0].pool
    assert pool.monitor
    assert (pool.monitor.type, pool.monitor.path) == ("HTTP", "/healthz")
    assert {member.monitor_port for member in pool.members} == {31000}


def test_a_family_has_a_nodes_internal_address_else_its_external_one() -> None:
    addresses = [("ExternalIP", "192.0.2.9"), ("InternalIP", "10.10.0.20"), ("ExternalIP", "2001:db8::9")]
    status = {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}
    node = msgspec.convert({"metadata": {"name": "worker-0"}, "status": status}, Node)
    assert [node_address(node, version) for version in (4, 6)] == ["10.10.0.20", "2001:db8::9"]


def test_with_ovn_clients_reach_members_themselves() -> None:
    """Only the subnet was let in: with managed security groups nobody got through."""
    ranges: Any = {"loadBalancerSourceRanges": ["192.0.2.0/24"]}
    guarded = Settings(provider="ovn", manage_security_groups=True)
    assert desired(guarded, make_service(), NODES).clients == {"0.0.0.0/0"}
    found = desired(guarded, make_service(**ranges), NODES)
    assert found.clients == {"192.0.2.0/24"}
    assert (len(found.listeners[0].allowed_cidrs), found.notes) == (0, ())
    [note] = desired(Settings(provider="ovn"), make_service(**ranges), NODES).notes
    assert note.reason == "LoadBalancerSourceRangesIgnored"
    assert not desired(Settings(), make_service(**ranges), NODES).clients


def test_internal_is_asked_for_by_annotation() -> None:
    assert desired(Settings(), make_service({INTERNAL: "true"}), NODES).internal
    assert not desired(Settings(), make_service(), NODES).internal


@pytest.mark.parametrize(
    ("annotations", "spec", "field"),
    [
        ({INTERNAL: "yes"}, {}, INTERNAL),
        ({PREFIX + "connection-limit": "many"}, {}, "connection-limit"),
        ({PREFIX + "timeout-client-data": "-1"}, {}, "timeout-client-data"),
        ({PREFIX + "lb-method": "FASTEST"}, {}, "lb-method"),
        ({PREFIX + "proxy-protocol": "v3"}, {}, "proxy-protocol"),
        ({PREFIX + "health-monitor-timeout": "9"}, {}, "health-monitor-timeout"),
        ({}, {"loadBalancerIP": "300.1.2.3"}, "spec.loadBalancerIP"),
        ({}, {"loadBalancerSourceRanges": ["10.0.0.0/33"]}, "spec.loadBalancerSourceRanges"),
    ],
)
def test_wrong_input_names_field_value_and_remedy(
    annotations: dict[str, str], spec: dict[str, object], field: str
) -> None:
    [problem] = desired(Settings(), make_service(annotations, **spec), NODES).problems
    assert field in problem.field
    assert problem.remedy


@pytest.mark.parametrize(
    ("families", "ranges", "let_in"),
    [
        (["IPv4"], [], ["0.0.0.0/0"]),
        (["IPv6"], [], ["::/0"]),
        (["IPv4", "IPv6"], [], ["0.0.0.0/0", "::/0"]),
        (["IPv4"], ["::/0"], None),
        (["IPv4"], ["2001:db8::/32"], None),
        (["IPv6"], ["0.0.0.0/0"], None),
        (["IPv4"], ["192.0.2.0/24", "2001:db8::/32"], ["192.0.2.0/24"]),
        (["IPv4", "IPv6"], ["2001:db8::/32"], ["2001:db8::/32"]),
    ],
)
def test_source_ranges_are_of_the_balancers_own_families(
    families: list[str], ranges: list[str], let_in: list[str] | None
) -> None:
    """`["::/0"]` on IPv4 let everybody in, and a range of the other family held up everything else."""
    found = desired(Settings(), make_service(loadBalancerSourceRanges=ranges, ipFamilies=families), NODES)
    assert bool(found.problems) == (let_in is None)
    if let_in is None:
        assert found.blocked == {"allowed_cidrs"}
    else:
        assert sorted(found.listeners[0].allowed_cidrs) == let_in
    assert any(one.reason == "LoadBalancerSourceRangesIgnored" for one in found.notes) == (len(ranges) == 2)


def test_a_service_that_no_node_can_serve_is_told_so() -> None:
    [note] = desired(Settings(), make_service(), []).notes
    assert note.reason == "UnAvailableLoadBalancer"
    chosen = {"loadbalancer.openstack.org/node-selector": "zone=nowhere"}
    [note] = desired(Settings(), make_service(annotations=chosen), NODES).notes
    assert "zone=nowhere" in note.message
