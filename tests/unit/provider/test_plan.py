"""Plans of the cloud provider: they converge, stop, survive a death at any step, and leave nothing."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.provider.twin import CloudTwin

from vrata.base.errors import InvalidInput
from vrata.provider.model import ADDRESS, MEMBERS, PROTOCOL, Desired, Listener, Member, Monitor, Pool, Problem, Vip
from vrata.provider.plan import Plan, plan_ensure, plan_remove, status_entries

STEPS_MAX = 60

members = st.frozensets(
    st.builds(
        Member,
        name=st.sampled_from(["worker-0", "worker-1", "worker-2"]),
        address=st.sampled_from(["10.10.0.20", "10.10.0.21", "10.10.0.22"]),
        port=st.integers(30000, 30003),
    ),
    max_size=3,
)
monitors = st.none() | st.builds(
    Monitor,
    type=st.sampled_from(["TCP", "HTTP"]),
    delay_s=st.integers(3, 6),
    timeout_s=st.just(3),
    retries=st.integers(1, 3),
    retries_down=st.just(3),
    path=st.none(),
)
pools = st.builds(
    Pool,
    protocol=st.sampled_from(["TCP", "PROXY"]),
    algorithm=st.sampled_from(["ROUND_ROBIN", "SOURCE_IP"]),
    members=members,
    monitor=monitors,
    persistence=st.sampled_from([None, "SOURCE_IP"]),
)
listeners = st.builds(
    Listener,
    protocol=st.just("TCP"),
    port=st.sampled_from([80, 443, 8080]),
    pool=pools,
    connection_limit=st.sampled_from([-1, 100]),
    allowed_cidrs=st.frozensets(st.sampled_from(["0.0.0.0/0", "192.0.2.0/24"]), min_size=1),
)
desires = st.builds(
    Desired,
    name=st.just("kube_service_c_default_web"),
    description=st.just("d"),
    floating_description=st.just("f"),
    internal=st.booleans(),
    listeners=st.lists(listeners, min_size=1, max_size=3, unique_by=lambda entry: entry.port).map(tuple),
)


def run(twin: CloudTwin, desired: Desired) -> Plan:
    """Passes until settled, the cloud finishing its work between two of them."""
    for _ in range(STEPS_MAX):
        plan = plan_ensure(desired, twin.world(desired))
        if plan.settled:
            return plan
        for call in plan.calls:
            twin.apply(call)
        twin.settle()
    raise AssertionError(f"not settled after {STEPS_MAX} passes: {plan}")


@given(desires, desires)
@settings(max_examples=60)
def test_any_service_becomes_any_other_and_then_needs_no_call(first: Desired, second: Desired) -> None:
    twin = CloudTwin()
    run(twin, first)
    plan = run(twin, second)
    before = twin.writes
    assert run(twin, second).calls == ()
    assert twin.writes == before
    assert plan.addresses


@given(desires, st.sampled_from(["PROXY", "PROXYV2"]))
@settings(max_examples=25)
def test_a_port_has_a_full_pool_at_every_moment_of_a_change_of_protocol(first: Desired, protocol: str) -> None:
    """The old pool went first: a port without members until the new one was filled, for good if that was refused."""
    changed = tuple(replace(one, pool=replace(one.pool, protocol=protocol)) for one in first.listeners)
    twin = CloudTwin()
    run(twin, first)
    served = {row["protocol_port"]: bool(twin.members[row["default_pool_id"]]) for row in twin.listeners.values()}
    for _ in range(STEPS_MAX):
        plan = plan_ensure(replace(first, listeners=changed), twin.world(first))
        for call in plan.calls:
            twin.apply(call)
            for row in twin.listeners.values():
                assert not served[row["protocol_port"]] or twin.members[row["default_pool_id"]]
        twin.settle()
        if plan.settled:
            break
    assert {row["protocol"] for row in twin.pools.values()} == {protocol}


@given(
    desires, st.sampled_from([None, "203.0.113.77", "203.0.113.78"]), st.sampled_from(["203.0.113.77", "203.0.113.99"])
)
@settings(max_examples=25)
def test_an_address_is_given_back_only_when_its_successor_is_had(
    service: Desired, before: str | None, after: str
) -> None:
    """A floating IP was deleted before the one that replaces it turned out not to be had."""
    twin = CloudTwin()
    run(twin, replace(service, internal=False, floating_address=before))
    wanted = replace(service, internal=False, floating_address=after)
    held = only(twin.floatingips)["floating_ip_address"]
    for _ in range(STEPS_MAX):
        plan = plan_ensure(wanted, twin.world(wanted))
        for call in plan.calls:
            twin.apply(call)
            there = {row["floating_ip_address"] for row in twin.floatingips.values()}
            assert {held, after} & there == ({held, after} if held in there else {after})
        if plan.settled:
            break
    assert only(twin.floatingips)["floating_ip_address"] == after
    assert only(twin.floatingips)["port_id"]


def _parts(listener: Listener) -> dict[str, object]:
    pool = listener.pool
    return {"connection_limit": listener.connection_limit, "allowed_cidrs": listener.allowed_cidrs,
            "lb_algorithm": pool.algorithm, "healthmonitor": pool.monitor, "members": pool.members}  # fmt: skip


@given(
    desires,
    desires,
    st.frozensets(
        st.sampled_from(
            ["connection_limit", "allowed_cidrs", "lb_algorithm", "healthmonitor", MEMBERS, PROTOCOL, ADDRESS]
        )
    ),
)
@settings(max_examples=40)
def test_a_problem_blocks_what_it_is_about_and_nothing_else(
    first: Desired, second: Desired, blocked: frozenset[str]
) -> None:
    """One value that nobody can use held up everything else of a Service, its members too."""
    twin = CloudTwin()
    run(twin, replace(first, internal=False))
    ports = [replace(one, port=there.port) for one, there in zip(second.listeners, first.listeners, strict=False)]
    problems = tuple(Problem("field", "value", "remedy", (name,)) for name in sorted(blocked))
    wanted = replace(first, internal=bool(blocked & {ADDRESS}), listeners=(*ports, *first.listeners[len(ports) :]))
    run(twin, replace(wanted, problems=problems))
    world = twin.world(first)
    assert world.floating
    assert world.balancer
    for old, new in zip(first.listeners, wanted.listeners, strict=True):
        found = next(one for one in world.balancer.listeners if one.port == old.port)
        assert found.pool
        shown = {"connection_limit": found.connection_limit, "allowed_cidrs": found.allowed_cidrs,
                 "lb_algorithm": found.pool.algorithm, "healthmonitor": found.pool.monitor,
                 "members": found.pool.members}  # fmt: skip
        kept, changed = _parts(old), _parts(new)
        if "healthmonitor" in blocked and kept["healthmonitor"] is None:
            shown["healthmonitor"] = None  # a port without one has what other ports have
        assert shown == {name: kept[name] if name in blocked else changed[name] for name in shown}


@given(desires)
@settings(max_examples=10)
def test_nothing_is_made_of_a_service_that_is_partly_wrong(service: Desired) -> None:
    wrong = replace(service, problems=(Problem("spec.loadBalancerSourceRanges", "x", "y", ("allowed_cidrs",)),))
    plan = plan_ensure(wrong, CloudTwin().world(wrong))
    assert plan.calls == ()
    assert "spec.loadBalancerSourceRanges" in str(plan.problem)


@pytest.mark.parametrize(("nodes", "ports", "most"), [(5000, 1, 2000), (1500, 4, 2000), (300, 3, 900)])
def test_very_many_members_come_in_several_writes(nodes: int, ports: int, most: int) -> None:
    """A cloud refuses a request that is too long, and one that is long holds up others."""

    def wanted(nodes: range) -> Desired:
        members = frozenset(Member(f"n{n}", f"10.{n // 250}.{n % 250}.1", 30000) for n in nodes)
        pool = Pool("TCP", "ROUND_ROBIN", members)
        return desired_service(listeners=tuple(Listener("TCP", 80 + number, pool) for number in range(ports)))

    twin = CloudTwin()
    run(twin, wanted(range(nodes)))
    assert {len(members) for members in twin.members.values()} == {nodes}
    created = next(call for call in twin.calls if call.path.endswith("/loadbalancers"))
    nested = [one["default_pool"]["members"] for one in (created.body or {})["loadbalancer"]["listeners"]]
    assert sum(map(len, nested)) <= most
    before = twin.writes
    run(twin, wanted(range(1, nodes + 1)))
    assert twin.writes == before + ports


def test_the_status_comes_when_every_port_is_served() -> None:
    """A Service on a load balancer of another had its status before its listener was there."""
    twin = CloudTwin()
    run(twin, desired_service())
    guest = desired_service("kube_service_c_default_guest", port=443, balancer_id=only(twin.loadbalancers)["id"])
    for _ in range(STEPS_MAX):
        plan = plan_ensure(guest, twin.world(guest))
        found = [row for row in twin.listeners.values() if row["protocol_port"] == 443]
        assert not plan.addresses or twin.members[found[0]["default_pool_id"]]
        for call in plan.calls:
            twin.apply(call)
        if plan.settled:
            break
        twin.settle()
    assert plan.addresses


@given(desires)
@settings(max_examples=30)
def test_creating_takes_one_write_and_one_floating_ip(desired: Desired) -> None:
    twin = CloudTwin()
    run(twin, desired)
    assert twin.writes == 1
    assert len(twin.floatingips) == (0 if desired.internal else 1)


@given(desires, st.integers(0, 5))
@settings(max_examples=40)
def test_removing_leaves_nothing_wherever_creating_was_cut_short(desired: Desired, cut_after: int) -> None:
    twin = CloudTwin()
    for _ in range(cut_after):
        for call in plan_ensure(desired, twin.world(desired)).calls[:1]:
            twin.apply(call)
    for _ in range(STEPS_MAX):
        plan = plan_remove(desired, twin.world(desired))
        if plan.settled:
            break
        for call in plan.calls:
            twin.apply(call)
        twin.settle()
    assert twin.loadbalancers == {}
    assert twin.floatingips == {}


NAME = "kube_service_c_default_web"


def desired_service(name: str = NAME, port: int = 80, **options: Any) -> Desired:
    pool = Pool("TCP", "ROUND_ROBIN", frozenset({Member("worker-0", "10.10.0.20", 30000)}))
    mark = f"Floating IP for Kubernetes external service {name} from cluster c"
    return Desired(name, "d", mark, **{"internal": False, "listeners": (Listener("TCP", port, pool),), **options})


def removed(twin: CloudTwin, desired: Desired) -> None:
    desired = replace(desired, known_address="gone")  # as `leaving` makes it: what is not there is no mistake
    for _ in range(STEPS_MAX):
        plan = plan_remove(desired, twin.world(desired))
        if plan.settled:
            return
        for call in plan.calls:
            twin.apply(call)
        twin.settle()
    raise AssertionError(plan)


def only(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    [row] = rows.values()
    return row


def made_long_ago(twin: CloudTwin, legacy: str) -> None:
    """As Kubernetes' own OpenStack code made one: named by the Service's uid, without tags."""
    run(twin, desired_service(legacy, owner_tag="", legacy_name=""))
    for row in (*twin.loadbalancers.values(), *twin.listeners.values()):
        row["tags"] = []


def test_a_load_balancer_that_is_named_by_the_services_uid_is_taken_over_and_renamed() -> None:
    twin, legacy = CloudTwin(), "a0123456789abcdef0123456789abcde"
    made_long_ago(twin, legacy)
    [(id_, old)] = twin.loadbalancers.items()
    address = old["vip_address"]
    desired = desired_service(owner_tag="vrata.dev/cluster=1", legacy_name=legacy)
    run(twin, desired)
    [(same, row)] = twin.loadbalancers.items()
    assert (same, row["vip_address"], row["name"]) == (id_, address, NAME)
    assert set(row["tags"]) == {NAME, "vrata.dev/cluster=1"}
    assert only(twin.listeners)["tags"] == [NAME]


def test_one_named_by_a_uid_goes_with_its_service_and_with_no_other() -> None:
    twin, legacy = CloudTwin(), "a0123456789abcdef0123456789abcde"
    made_long_ago(twin, legacy)
    removed(twin, desired_service(owner_tag="vrata.dev/cluster=1", legacy_name="a" * 32))
    assert twin.loadbalancers
    removed(twin, desired_service(owner_tag="vrata.dev/cluster=1", legacy_name=legacy))
    assert not twin.loadbalancers


def test_a_floating_ip_left_by_a_crash_is_found_again() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    only(twin.floatingips)["port_id"] = None
    run(twin, desired_service())
    assert only(twin.floatingips)["port_id"]


def test_becoming_internal_gives_the_floating_ip_back() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    plan = run(twin, desired_service(internal=True))
    assert twin.floatingips == {}
    assert plan.addresses == ("10.10.0.100",)


def test_a_foreign_floating_ip_is_detached_not_deleted() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    only(twin.floatingips)["description"] = "somebody's"
    run(twin, desired_service(internal=True))
    assert only(twin.floatingips)["port_id"] is None


def test_both_families_stand_on_one_balancer_and_in_the_status() -> None:
    twin = CloudTwin()
    wanted = desired_service(vip=Vip(families=(4, 6)))
    plan = run(twin, wanted)
    assert only(twin.loadbalancers)["vip_subnet_id"] == "subnet-4"
    assert plan.addresses == (only(twin.floatingips)["floating_ip_address"], "fd00::100")
    assert status_entries(wanted, plan.addresses) == [
        {"ip": plan.addresses[0], "ipMode": "VIP"}, {"ip": "fd00::100", "ipMode": "VIP"},
    ]  # fmt: skip


def test_any_number_of_services_share_a_balancer_and_the_last_one_takes_it_away() -> None:
    twin = CloudTwin()
    services = [desired_service()]
    run(twin, services[0])
    shared = only(twin.loadbalancers)["id"]
    for number in range(3):
        services.append(desired_service(f"{NAME}{number}", 81 + number, balancer_id=shared))
        run(twin, services[-1])
    assert len(twin.loadbalancers) == 1
    assert sorted(only(twin.loadbalancers)["tags"]) == sorted(one.name for one in services)
    assert len({plan_ensure(one, twin.world(one)).addresses for one in services}) == 1
    for number, service in enumerate(services):
        removed(twin, service)
        assert len(twin.listeners) == len(services) - 1 - number
    assert (twin.loadbalancers, twin.pools, twin.floatingips) == ({}, {}, {})


def test_a_port_that_another_service_has_is_a_problem_and_nothing_is_written() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    second = desired_service(f"{NAME}2", 80, balancer_id=only(twin.loadbalancers)["id"])
    plan = plan_ensure(second, twin.world(second))
    assert (plan.calls, plan.settled) == ((), False)
    assert NAME in str(plan.problem)


def test_a_balancer_that_a_person_made_is_used_and_never_deleted() -> None:
    twin = CloudTwin()
    run(twin, desired_service("by-hand"))
    only(twin.listeners)["tags"] = []
    service = desired_service(port=443, balancer_id=only(twin.loadbalancers)["id"])
    run(twin, service)
    removed(twin, service)
    assert only(twin.loadbalancers)["name"] == "by-hand"
    assert only(twin.listeners)["protocol_port"] == 80


def test_a_load_balancer_without_tags_is_adopted_with_its_listeners() -> None:
    """Controllers before 1.21 wrote no tags: its own listeners were somebody else's."""
    twin = CloudTwin()
    run(twin, desired_service())
    for row in (*twin.loadbalancers.values(), *twin.listeners.values()):
        row["tags"] = []
    ours = desired_service(owner_tag="vrata.dev/cluster=a")
    hints = {only(twin.floatingips)["floating_ip_address"]}
    for _ in range(STEPS_MAX):
        plan = plan_ensure(ours, twin.world(ours, hints))
        for call in plan.calls:
            twin.apply(call)
        twin.settle()
    assert plan.settled
    assert only(twin.listeners)["tags"] == [NAME]
    assert set(only(twin.loadbalancers)["tags"]) == {NAME, "vrata.dev/cluster=a"}


def test_two_clusters_of_one_name_do_not_take_each_others_balancer() -> None:
    twin = CloudTwin()
    first, second = (desired_service(owner_tag=f"vrata.dev/cluster={uid}") for uid in "ab")
    run(twin, first)
    assert "not provably" in plan_ensure(second, twin.world(second)).notes[0].message
    run(twin, second)
    assert len(twin.loadbalancers) == 2
    removed(twin, second)
    assert "vrata.dev/cluster=a" in only(twin.loadbalancers)["tags"]


def test_what_the_openstack_cloud_controller_made_is_adopted_with_one_write_of_our_mark() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    row = only(twin.loadbalancers)
    for listener in twin.listeners.values():
        listener["allowed_cidrs"] = ["0.0.0.0/0"]
    ours = desired_service(owner_tag="vrata.dev/cluster=a", balancer_id=row["id"])
    before = twin.writes
    run(twin, ours)
    assert twin.writes == before + 1
    assert row["tags"] == [NAME, "vrata.dev/cluster=a"]


def test_an_address_that_the_service_has_had_proves_whose_balancer_it_is() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    ours = desired_service(owner_tag="vrata.dev/cluster=a")
    assert twin.world(ours).balancer is None
    assert twin.world(ours, {only(twin.floatingips)["floating_ip_address"]}).balancer is not None


def test_a_cluster_that_changed_its_name_takes_its_balancer_along() -> None:
    twin = CloudTwin()
    run(twin, desired_service("kube_service_old_default_web"))
    row = only(twin.loadbalancers)
    run(twin, desired_service(balancer_id=row["id"]))
    assert (row["name"], row["tags"]) == (NAME, [NAME])
    assert only(twin.listeners)["tags"] == [NAME]
    assert only(twin.pools)["name"] == f"pool_0_{NAME}"


def test_what_cannot_change_is_told_and_not_written() -> None:
    twin = CloudTwin()
    run(twin, desired_service())
    plan = run(twin, desired_service(flavor_id="f", vip=Vip(subnet_id="elsewhere")))
    assert plan.calls == ()
    assert {"flavor-id", "subnet-id"} <= set(re.findall("[a-z]+-id", plan.notes[0].message))


def test_a_balancer_named_by_the_service_and_not_there_is_a_mistake_unless_it_was_ours() -> None:
    twin = CloudTwin()
    with pytest.raises(InvalidInput, match="load-balancer-id"):
        twin.world(desired_service(balancer_id="typo"))
    assert twin.world(desired_service(balancer_id="deleted", known_address="203.0.113.20")).balancer is None
