"""The laws of placement: pairs on different good hosts, nothing moved without need, every move ends, load spread."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vrata.base.wire import VrrpState
from vrata.cloud.balancing import plan
from vrata.cloud.balancing.plan import Action, Add, Host, Keep, Placed, Remove, Yield

NEEDS = frozenset({"tenant"})
worlds = st.lists(
    st.builds(
        Host,
        name=st.sampled_from("abcdef"),
        alive=st.booleans(),
        physical_networks=st.sampled_from([NEEDS, frozenset({"tenant", "external"}), frozenset({"external"})]),
        load=st.integers(0, 3),
        drained=st.booleans(),
    ),
    unique_by=lambda host: host.name,
    max_size=6,
)


def pair(hosts: list[Host], existing: int, *, asked: bool = False, connected: bool = False) -> list[Placed]:
    """Instances on the first hosts, the first of them active; `connected`: all have clients."""
    states = (VrrpState.MASTER, VrrpState.BACKUP, VrrpState.BACKUP)
    return [
        Placed(
            str(n), host.name, plan.PRIORITIES[n], state=states[n], asked=asked, idle=not connected, connected=connected
        )
        for n, host in enumerate(hosts[:existing])
    ]


def able(hosts: list[Host]) -> list[Host]:
    return [host for host in hosts if host.alive and not host.drained and host.physical_networks >= NEEDS]


def carry_out(placed: list[Placed], actions: tuple[Action, ...], hosts: list[Host], count: int) -> list[Placed]:
    """The world a while later: who left a live host is gone, who was told has handed over, who is new has settled."""
    alive = {host.name for host in hosts if host.alive}
    out = [one for one in placed if not (one.leaving and one.host in alive)]
    for action in actions:
        match action:
            case Add(host, priority):
                out.append(Placed(f"n{count}-{host}", host, priority, state=VrrpState.UNKNOWN, ready=False))
            case Remove(name):
                out = [replace(one, leaving=True, asked=False) if one.id == name else one for one in out]
            case Yield(name):
                out = [_yielded(one) if one.id == name else one for one in out]
            case Keep(name):
                out = [replace(one, asked=False) if one.id == name else one for one in out]
    serving = [one for one in out if not one.leaving and one.host in alive]
    active = next((one for one in serving if one.active), None)
    fresh = sorted(serving, key=lambda one: (one.told, not one.ready))  # who was told steps back
    chosen = active or (fresh[0] if fresh else None)
    return [
        replace(one, ready=True, state=VrrpState.MASTER if one is chosen else VrrpState.BACKUP)
        if one.host in alive and not one.leaving
        else one
        for one in out
    ]


def _yielded(one: Placed) -> Placed:
    return replace(one, told=True, state=VrrpState.BACKUP, sent_away=True, connected=False, idle=True)


@given(worlds, st.integers(1, 2), st.integers(0, 2), st.booleans(), st.booleans())
def test_whatever_happens_it_comes_to_rest_with_a_pair_as_good_as_the_hosts_allow(
    hosts: list[Host], wanted: int, existing: int, asked: bool, connected: bool
) -> None:
    plugged = [host for host in hosts if host.physical_networks >= NEEDS]
    placed = pair(plugged, existing, asked=asked, connected=connected)
    before = {one.id for one in placed}
    for step in range(20):
        actions = plan.plan_instances("owner", placed, hosts, NEEDS, wanted=wanted)
        for action in actions:
            if isinstance(action, Add):
                assert action.host in {host.name for host in able(hosts)}
                assert action.reason
        later = carry_out(placed, actions, hosts, step)
        if not actions and later == placed:
            break
        placed = later
        staying = [one for one in placed if not one.leaving]
        assert len({one.host for one in placed}) == len(placed)
        assert len({one.priority for one in staying}) == len(staying)
    else:
        raise AssertionError("no rest")
    if not plan.breaker_open(hosts):  # then it waits for hosts
        assert not any(one.asked for one in placed if not one.leaving)
    stood_well = all(one.host in {host.name for host in able(hosts)} for one in pair(plugged, existing))
    if asked and stood_well and len(before) == wanted and not plan.breaker_open(hosts):
        assert not before & {one.id for one in placed if not one.leaving}
    good = {host.name for host in able(hosts)}
    settled = [one for one in placed if not one.leaving and one.host in good]
    if len(good) >= 2 + existing and not plan.breaker_open(hosts):
        assert len(settled) == wanted


@given(worlds, st.integers(0, 2))
def test_an_instance_that_nobody_wants_to_move_stays_on_a_good_host(hosts: list[Host], existing: int) -> None:
    placed = pair(hosts, existing)
    good = {host.name for host in hosts if host.alive and not host.drained}
    actions = plan.plan_instances("owner", placed, hosts, NEEDS, wanted=2)
    moved = {action.id for action in actions if isinstance(action, Remove | Yield)}
    assert not moved & {one.id for one in placed if one.host in good}


@given(worlds, st.booleans())
def test_no_instance_of_a_living_host_goes_while_it_has_clients(hosts: list[Host], asked: bool) -> None:
    placed = pair(hosts, 2, asked=asked, connected=True)
    alive = {host.name for host in hosts if host.alive}
    actions = plan.plan_instances("owner", placed, hosts, NEEDS, wanted=2)
    removed = {action.id for action in actions if isinstance(action, Remove)}
    assert not removed & {one.id for one in placed if one.host in alive}


def hosts_of(names: str, *, dead: str = "", drained: str = "") -> list[Host]:
    return [Host(name, name not in dead, NEEDS, 0, name in drained) for name in names]


def kinds(actions: tuple[Action, ...]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_a_dead_host_is_replaced_unless_its_peer_still_hears_it() -> None:
    active, standby = pair(hosts_of("ab"), 2)
    lost_active = [active, replace(standby, state=VrrpState.MASTER)]
    assert kinds(plan.plan_instances("o", lost_active, hosts_of("abc", dead="a"), NEEDS, wanted=2)) == ["Remove", "Add"]
    assert kinds(plan.plan_instances("o", [active, standby], hosts_of("abc", dead="b"), NEEDS, wanted=2)) == [
        "Remove",
        "Add",
    ]
    # The agent on a is dead, what it carried is not: the standby hears its adverts.
    assert plan.plan_instances("o", [active, standby], hosts_of("abc", dead="a"), NEEDS, wanted=2) == ()


def test_nothing_is_rebuilt_when_most_hosts_are_silent() -> None:
    placed = pair(hosts_of("ab"), 2)
    assert not plan.breaker_open(hosts_of("abcd", dead="ab"))
    assert plan.breaker_open(hosts_of("abcde", dead="abc"))
    assert plan.plan_instances("o", placed, hosts_of("abcde", dead="abc"), NEEDS, wanted=2) == ()


def test_an_active_instance_goes_only_after_its_peer_has_everything_and_its_connections_have_ended() -> None:
    active, standby = pair(hosts_of("ab"), 2)
    asked = replace(active, asked=True)
    three = hosts_of("abc")
    unready = replace(standby, ready=False)
    assert plan.plan_instances("o", [asked, unready], three, NEEDS, wanted=2) == ()
    assert kinds(plan.plan_instances("o", [asked, standby], three, NEEDS, wanted=2)) == ["Yield"]
    told = replace(asked, told=True)
    assert plan.plan_instances("o", [told, standby], three, NEEDS, wanted=2) == ()
    done = [replace(told, state=VrrpState.BACKUP, idle=False), replace(standby, state=VrrpState.MASTER)]
    assert plan.plan_instances("o", done, three, NEEDS, wanted=2) == ()
    done[0] = replace(done[0], idle=True)
    assert kinds(plan.plan_instances("o", done, three, NEEDS, wanted=2)) == ["Remove", "Add"]


def test_the_standby_goes_first_and_the_active_one_waits_for_it() -> None:
    active, standby = pair(hosts_of("ab"), 2, asked=True)
    assert plan.plan_instances("o", [replace(active, ready=False), standby], hosts_of("abc"), NEEDS, wanted=2) == ()
    first = plan.plan_instances("o", [active, standby], hosts_of("abc"), NEEDS, wanted=2)
    assert isinstance(first[0], Remove)
    assert first[0].id == standby.id


def test_a_drained_host_without_another_only_hands_over() -> None:
    active, standby = pair(hosts_of("ab"), 2)
    hosts = hosts_of("ab", drained="a")
    assert kinds(plan.plan_instances("o", [active, standby], hosts, NEEDS, wanted=2)) == ["Yield"]
    after = [replace(active, state=VrrpState.BACKUP), replace(standby, state=VrrpState.MASTER)]
    assert plan.plan_instances("o", after, hosts, NEEDS, wanted=2) == ()


def test_a_single_instance_gets_its_successor_first_where_there_is_room() -> None:
    [single] = pair(hosts_of("a"), 1, asked=True)
    assert kinds(plan.plan_instances("o", [single], hosts_of("ab"), NEEDS, wanted=1)) == ["Add"]
    assert kinds(plan.plan_instances("o", [single], hosts_of("a"), NEEDS, wanted=1)) == ["Remove"]


@given(worlds)
def test_every_host_that_can_carry_is_used_before_a_pair_stays_short(hosts: list[Host]) -> None:
    actions = plan.plan_instances("owner", [], hosts, NEEDS, wanted=2)
    assert len(actions) == min(2, len(able(hosts)))
    chosen = {action.host for action in actions if isinstance(action, Add)}
    if actions:
        assert max(h.load for h in able(hosts) if h.name in chosen) <= min(
            (h.load for h in able(hosts) if h.name not in chosen), default=99
        )


def test_active_instances_of_many_owners_spread_over_equal_hosts() -> None:
    hosts = hosts_of("ab")
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
