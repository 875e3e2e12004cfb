"""What of another's cluster is the sandbox's."""

import pytest

from vrata.kube.objects import LoadBalancerIngress, LoadBalancerStatus, Node, ObjectMeta, Service, ServiceStatus
from vrata.provider.annotations import BALANCER_ADDRESS
from vrata.provider.service_writer import FINALIZER
from vrata.sandbox.model import NODE_LABEL
from vrata.sandbox.outside import foreign_nodes, is_served

OURS, ELSEWHERE = "203.0.113.20", "198.51.100.7"


@pytest.mark.parametrize(
    ("manager", "finalizer", "annotation", "address", "served"),
    [
        ("vrata", True, OURS, OURS, True),
        ("vrata", True, "", "", True),  # its balancer is being made
        ("vrata", False, "", OURS, True),
        ("vrata", True, "10.10.0.100", "", True),
        ("vrata", True, ELSEWHERE, ELSEWHERE, False),  # a provider with another cloud
        ("openstack-cloud-controller-manager", True, "", "", False),
        ("openstack-cloud-controller-manager", True, "10.10.0.100", "10.10.0.100", False),
        ("vrata", False, "", "", False),
    ],
)
def test_a_service_is_ours_by_who_wrote_it_and_where_its_address_is(
    manager: str, annotation: str, address: str, *, finalizer: bool, served: bool
) -> None:
    annotations = {BALANCER_ADDRESS: annotation} if annotation else {}
    metadata = ObjectMeta("web", "default", annotations=annotations, finalizers=(FINALIZER,) if finalizer else ())
    shown = (LoadBalancerIngress(ip=address),) if address else ()
    service = Service(metadata, status=ServiceStatus(LoadBalancerStatus(shown)))
    assert is_served(service, {manager, "kubectl-create"}) is served


def test_a_node_is_another_s_unless_it_has_our_label() -> None:
    nodes = [
        Node(ObjectMeta("worker-0", labels={NODE_LABEL: "mine"})),
        Node(ObjectMeta("worker-1", labels={NODE_LABEL: "other"})),
        Node(ObjectMeta("worker-2")),
        Node(ObjectMeta("elsewhere")),
    ]
    assert foreign_nodes(nodes, {"worker-0", "worker-1", "worker-2"}, "mine") == ["worker-1", "worker-2"]
