"""The laws of placement: pairs on different live hosts, nothing moved without need, load spread."""

from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud.balancing import plan
from vrata.cloud.balancing.plan import Add, Host, Placed, Remove

NEEDS = frozenset({"tenant"})
worlds = st.lists(
    st.builds(
        Host,
        name=st.sampled_from("abcdef"),
        alive=st.booleans(),
        physical_networks=st.sampled_from([NEEDS, frozenset({"tenant", "external"}), frozenset({"external"})]),
        load=st.integers(0, 3),
    ),
    unique_by=lambda host: host.name,
    max_size=6,
)


def carry_out(placed: list[Placed], actions: tuple[Add | Remove, ...]) -> list[Placed]:
    gone = {action.id for action in actions if isinstance(action, Remove)}
    kept = [one for one in placed if one.id not in gone]
    return kept + [Placed(f"new-{a.host}", a.host, a.priority) for a in actions if isinstance(a, Add)]


@given(worlds, st.integers(1, 2), st.integers(0, 2), st.booleans())
def test_a_pair_stands_on_different_live_hosts_and_planning_again_adds_nothing(
    hosts: list[Host], wanted: int, existing: int, replace_dead: bool
) -> None:
    placed = [Placed(str(n), host.name, plan.PRIORITIES[n]) for n, host in enumerate(hosts[:existing])]
    actions = plan.plan_instances("owner", placed, hosts, NEEDS, wanted=wanted, replace_dead=replace_dead)
    known = {host.name: host for host in hosts}
    for action in actions:
        if isinstance(action, Add):
            assert known[action.host].alive
            assert known[action.host].physical_networks >= NEEDS
            assert action.reason
    after = carry_out(placed, actions)
    assert len({one.host for one in after}) == len(after)
    assert len({one.priority for one in after}) == len(after)
    assert len(after) <= max(wanted, len(placed))
    assert plan.plan_instances("owner", after, hosts, NEEDS, wanted=wanted, replace_dead=False) == ()


@given(worlds, st.integers(0, 2))
def test_an_instance_on_a_live_host_is_never_moved(hosts: list[Host], existing: int) -> None:
    placed = [Placed(str(n), host.name, plan.PRIORITIES[n]) for n, host in enumerate(hosts[:existing])]
    dead = {one.id for one, host in zip(placed, hosts, strict=False) if not host.alive}
    for replace_dead in (False, True):
        actions = plan.plan_instances("owner", placed, hosts, NEEDS, wanted=2, replace_dead=replace_dead)
        removed = {action.id for action in actions if isinstance(action, Remove)}
        assert removed <= (dead if replace_dead else set())


@given(worlds)
def test_every_host_that_can_carry_is_used_before_a_pair_stays_short(hosts: list[Host]) -> None:
    able = [host for host in hosts if host.alive and host.physical_networks >= NEEDS]
    actions = plan.plan_instances("owner", [], hosts, NEEDS, wanted=2)
    assert len(actions) == min(2, len(able))
    chosen = {action.host for action in actions if isinstance(action, Add)}
    if actions:
        assert max(h.load for h in able if h.name in chosen) <= min(
            (h.load for h in able if h.name not in chosen), default=99
        )


def test_active_instances_of_many_owners_spread_over_equal_hosts() -> None:
    hosts = [Host(name, alive=True, physical_networks=NEEDS, load=0) for name in "ab"]
    actives = []
    for owner in map(str, range(200)):
        first = plan.plan_instances(owner, [], hosts, NEEDS, wanted=2)[0]
        assert isinstance(first, Add)
        actives.append(first.host)
    assert 60 < actives.count("a") < 140


@given(st.text())
def test_router_ids_fit_vrrp_and_are_stable(owner: str) -> None:
    assert 1 <= plan.router_id(owner) <= 254
    assert plan.router_id(owner) == plan.router_id(owner)
