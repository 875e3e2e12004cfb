"""A load balancer in ERROR is recovered by policy, keeps its address, and is not failed over at each pass."""

from dataclasses import replace

import pytest
from tests.unit.provider.test_plan import desired_service, only, run
from tests.unit.provider.twin import CloudTwin

from vrata.provider.error_policy import AGAIN_S, ErrorPolicy, plan_for_error
from vrata.provider.plan import plan_ensure


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
    plan = plan_for_error(desired_service(), balancer, policy, served=served, tried=tried)
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


def test_a_failover_is_asked_for_now_and_then_and_forgotten_once_it_has_worked() -> None:
    twin, wanted = CloudTwin(), desired_service()
    run(twin, wanted)
    well = twin.world(wanted).balancer
    assert well
    ill, policy = replace(well, provisioning_status="ERROR"), ErrorPolicy("failover")

    def asked(now_s: float) -> bool:
        return bool(policy.plan(wanted, ill, served=True, now_s=now_s).calls)

    assert [asked(now_s) for now_s in (0.0, 1.0, AGAIN_S - 1, AGAIN_S, AGAIN_S + 1)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    policy.well(replace(well, provisioning_status="PENDING_UPDATE"))
    assert not asked(AGAIN_S + 2)
    policy.well(well)
    assert asked(AGAIN_S + 3)
