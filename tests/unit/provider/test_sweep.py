"""What a deleted cluster left is found by its name, and nothing of any other."""

from tests.unit.provider.test_plan import NAME, desired_service, only, run
from tests.unit.provider.twin import CloudTwin

from vrata.provider.groups import Group, Port
from vrata.provider.sweep import plan_sweep

GROUPS = [
    Group("g1", name="lb-sg-1-default-web", description="Kubernetes external service default/web from cluster c"),
    Group("g2", name="lb-sg-2-default-web", description="Kubernetes external service default/web from cluster d"),
    Group("g3", name="nodes", description="from cluster c"),
]
PORTS = [Port("p", frozenset({"10.10.0.20"}), ("g1", "g2", "g3"))]


def test_everything_of_one_cluster_is_found_and_of_no_other() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    for other in ("kube_service_c_d_default_web", "kube_service_cc_default_web", "by-hand"):
        run(twin, desired_service(other))
    found = plan_sweep("c", twin.read(), GROUPS, PORTS)
    assert (found[0].what, found[0].name) == ("load balancer", NAME)
    for one in found:
        for call in one.calls if one.what == "load balancer" else ():
            twin.apply(call)
            twin.settle()
    assert NAME not in {row["name"] for row in twin.loadbalancers.values()}
    [group] = [one for one in found if one.what == "security group"]
    assert (group.name, group.detail) == ("lb-sg-1-default-web", "on 1 ports")
    assert group.calls[0].body == {"port": {"security_groups": ["g2", "g3"]}}


def test_one_that_another_cluster_uses_is_kept() -> None:
    twin = CloudTwin()
    first, second = (f"vrata.dev/cluster={uid}" for uid in "cd")
    run(twin, desired_service(owner_tag=first))
    shared = only(twin.loadbalancers)["id"]
    run(twin, desired_service("kube_service_d_default_web", 81, balancer_id=shared, owner_tag=second))
    [kept] = [one for one in plan_sweep("c", twin.read(), [], []) if one.what == "load balancer"]
    assert kept.calls == ()
    assert "kube_service_d_default_web" in kept.detail
