"""Plans of the cloud provider: they converge, stop, survive a death at any step, and leave nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.provider.twin import CloudTwin

from vrata.provider.model import Desired, Listener, Member, Monitor, Pool
from vrata.provider.plan import Plan, plan_ensure, plan_remove

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
    allowed_cidrs=st.frozensets(st.sampled_from(["192.0.2.0/24", "198.51.100.0/24"]), max_size=2),
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
        plan = plan_ensure(desired, twin.world(), subnet_id="subnet")
        if plan.settled:
            return plan
        for action in plan.actions:
            twin.apply(action)
        twin.settle()
    raise AssertionError(f"not settled after {STEPS_MAX} passes: {plan}")


@given(desires, desires)
@settings(max_examples=60)
def test_any_service_becomes_any_other_and_then_needs_no_call(first: Desired, second: Desired) -> None:
    twin = CloudTwin("f")
    run(twin, first)
    plan = run(twin, second)
    before = twin.writes
    assert run(twin, second).actions == ()
    assert twin.writes == before
    assert plan.address is not None


@given(desires)
@settings(max_examples=30)
def test_creating_takes_one_write_and_one_floating_ip(desired: Desired) -> None:
    twin = CloudTwin("f")
    run(twin, desired)
    assert twin.writes == 1
    assert len(twin.floating) == (0 if desired.internal else 1)


@given(desires, st.integers(0, 5))
@settings(max_examples=40)
def test_removing_leaves_nothing_wherever_creating_was_cut_short(desired: Desired, cut_after: int) -> None:
    twin = CloudTwin("f")
    for _ in range(cut_after):
        plan = plan_ensure(desired, twin.world(), subnet_id="subnet")
        for action in plan.actions[:1]:
            twin.apply(action)
    for _ in range(STEPS_MAX):
        plan = plan_remove(twin.world(), keep_floating=False)
        if plan.settled:
            break
        for action in plan.actions:
            twin.apply(action)
        twin.settle()
    assert twin.balancer is None
    assert twin.floating == {}


def desired_service(*, internal: bool = False) -> Desired:
    pool = Pool("TCP", "ROUND_ROBIN", frozenset({Member("worker-0", "10.10.0.20", 30000)}))
    return Desired("n", "d", "f", internal, (Listener("TCP", 80, pool),))


def test_a_floating_ip_left_by_a_crash_is_found_again() -> None:
    twin = CloudTwin("f")
    run(twin, desired_service())
    floating = next(iter(twin.floating.values()))
    twin.floating[floating.id] = type(floating)(floating.id, floating.address, None, ours=True)
    run(twin, desired_service())
    assert len(twin.floating) == 1


def test_becoming_internal_gives_the_floating_ip_back() -> None:
    twin = CloudTwin("f")
    run(twin, desired_service())
    plan = run(twin, desired_service(internal=True))
    assert twin.floating == {}
    assert plan.address == "10.10.0.100"


def test_a_foreign_floating_ip_is_detached_not_deleted() -> None:
    twin = CloudTwin("f")
    run(twin, desired_service())
    floating = next(iter(twin.floating.values()))
    twin.floating[floating.id] = type(floating)(floating.id, floating.address, floating.port_id, ours=False)
    run(twin, desired_service(internal=True))
    assert [entry.port_id for entry in twin.floating.values()] == [None]
