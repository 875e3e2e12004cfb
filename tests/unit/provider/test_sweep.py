"""What a deleted cluster left is found by its name, and nothing of any other; a load balancer in ERROR is recovered."""

from dataclasses import replace

import pytest
from tests.unit.provider.test_plan import NAME, desired_service, only, run
from tests.unit.provider.twin import CloudTwin

from vrata.provider.plan import plan_ensure, plan_recovery
from vrata.provider.sweep import plan_sweep

GROUPS = [
    {
        "id": "g1",
        "name": "lb-sg-1-default-web",
        "description": "Kubernetes external service default/web from cluster c",
    },
    {
        "id": "g2",
        "name": "lb-sg-2-default-web",
        "description": "Kubernetes external service default/web from cluster d",
    },
    {"id": "g3", "name": "nodes", "description": "from cluster c"},
]


def test_everything_of_one_cluster_is_found_and_of_no_other() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    for other in ("kube_service_c_d_default_web", "kube_service_cc_default_web", "by-hand"):
        run(twin, desired_service(other))
    found = plan_sweep("c", twin.read(), GROUPS)
    assert (found[0].what, found[0].name) == ("load balancer", NAME)
    for one in found:
        if one.call and one.call.service == "load-balancer":
            twin.apply(one.call)
            twin.settle()
    assert NAME not in {row["name"] for row in twin.loadbalancers.values()}
    assert [one.name for one in found if one.what == "security group"] == ["lb-sg-1-default-web"]


def test_one_that_another_cluster_uses_is_kept() -> None:
    twin = CloudTwin()
    first, second = (f"vrata.dev/cluster={uid}" for uid in "cd")
    run(twin, desired_service(owner_tag=first))
    shared = only(twin.loadbalancers)["id"]
    run(twin, desired_service("kube_service_d_default_web", 81, balancer_id=shared, owner_tag=second))
    [kept] = [one for one in plan_sweep("c", twin.read(), []) if one.what == "load balancer"]
    assert kept.call is None
    assert "kube_service_d_default_web" in kept.detail


@pytest.mark.parametrize(
    ("policy", "served", "tried", "call"),
    [
        ("failover", True, False, "PUT"),
        ("failover", True, True, None),
        ("failover", False, False, "DELETE"),
        ("rebuild", True, False, "PUT"),
        ("rebuild", True, True, "DELETE"),
        ("wait", True, False, None),
        ("wait", False, False, None),
    ],
)
def test_a_balancer_in_error_is_recovered_by_policy(policy: str, served: bool, tried: bool, call: str | None) -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    only(twin.loadbalancers)["provisioning_status"] = "ERROR"
    balancer = twin.world(desired_service()).balancer
    assert balancer
    plan = plan_recovery(desired_service(), balancer, policy, served=served, tried=tried)
    assert [one.method for one in plan.calls] == ([call] if call else [])
    assert balancer.id in str(plan.problem)


def test_one_that_is_built_anew_keeps_its_address() -> None:
    twin = CloudTwin()
    inside = desired_service(internal=True)
    run(twin, inside)
    address = only(twin.loadbalancers)["vip_address"]
    twin.loadbalancers.clear()
    again = replace(inside, known_address=address)
    [create] = plan_ensure(again, twin.world(again)).calls
    assert create.body
    assert create.body["loadbalancer"]["vip_address"] == address
    assert "vip_address" not in create.instead[0]["loadbalancer"]
