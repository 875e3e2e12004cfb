"""UDP rules as values: fair slots, minimal transactions, who loses flows, and what is refused."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.instances import HOSTILE, balancer

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, Firewall, FirewallRule, HealthMonitor, Listener, Member, Pool
from vrata.host.firewall import compile_rules
from vrata.host.forwarding import (
    TABLE,
    Flow,
    compile_forwarding,
    count_flows,
    flows_to_forget,
    granularity,
    member_statuses,
    slots,
    spread,
    virtual_addresses,
)
from vrata.host.health import Health, judge
from vrata.host.rules import Table, render_change

ADDRESSES = {"m1": "10.10.0.21", "m2": "10.10.0.22", "m3": "fd00::23"}


def udp(**pool: object) -> DesiredInstance:
    """A balancer with one UDP listener before three members."""
    values: dict[str, object] = {
        "lb_algorithm": "ROUND_ROBIN",
        "members": tuple(Member(id=key, address=where, protocol_port=53) for key, where in ADDRESSES.items()),
    }
    return balancer(
        listeners=(Listener(id="dns", protocol="UDP", protocol_port=53, default_pool_id="p"),),
        pools=(Pool(id="p", protocol="UDP", **(values | pool)),),  # type: ignore[arg-type]
    )


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 256), min_size=1))
@settings(max_examples=50, deadline=None)
def test_every_member_has_its_share_and_never_the_whole_turn(weights: dict[str, int]) -> None:
    order = spread(weights)
    shares = Counter(order)
    assert shares.keys() == weights.keys()
    assert all(shares[a] * weights[b] == shares[b] * weights[a] for a in weights for b in weights)


def test_hashed_a_dead_member_moves_only_its_own_clients() -> None:
    pool = udp(lb_algorithm="SOURCE_IP").pools[0]
    members = [m for m in pool.members if ":" not in m.address]
    whole, half = (slots(pool, members, frozenset(live)) for live in (("m1", "m2"), ("m1",)))
    assert [b for a, b in zip(whole, half, strict=True) if a == "m1"] == ["m1"] * whole.count("m1")


def test_only_living_flows_of_virtual_addresses_are_counted() -> None:
    own = virtual_addresses(udp(), 4)[0]
    lines = [
        f"udp      17 29 src=10.0.0.9 dst={own} sport=4000 dport=53 src=10.10.0.21 dst={own} sport=53 dport=4000 mark=0",
        f"udp      17 29 src=10.0.0.9 dst=10.9.9.9 sport=4000 dport=53 src=10.9.9.9 dst={own} sport=53 dport=4000",
        f"tcp      6 431999 ESTABLISHED src=10.0.0.9 dst={own} sport=4000 dport=80 src=10.10.0.21 dst={own} sport=80",
        f"tcp      6 9 TIME_WAIT src=10.0.0.9 dst={own} sport=4001 dport=80 src=10.10.0.21 dst={own} sport=80",
    ]
    assert count_flows(udp(), "\n".join(lines)) == {("udp", 53): 1, ("tcp", 80): 1}


def test_a_verdict_touches_only_the_choice_of_its_listener_and_family() -> None:
    before, after = compile_forwarding(udp()), compile_forwarding(udp(), frozenset({"m1"}))
    text = render_change(before, after)
    flushed = [line.split()[-1] for line in text.splitlines() if line.startswith("flush")]
    assert len(flushed) == 1
    assert flushed[0].startswith("pick4_")
    assert render_change(after, after) == ""


def test_without_kernel_listeners_the_table_goes() -> None:
    assert render_change(compile_forwarding(udp()), compile_forwarding(balancer())) == (
        f"table {TABLE}\ndelete table {TABLE}\n"
    )
    assert render_change(Table(TABLE), Table(TABLE)) == ""


def test_flows_of_dead_and_removed_members_end_and_drained_ones_stay() -> None:
    before = udp()
    drained = tuple(msgspec.structs.replace(m, weight=0) for m in before.pools[0].members)
    assert flows_to_forget(before, udp(members=drained), frozenset()) == ()
    lost = (Flow("udp", 4, 53, "10.10.0.21", 53),)
    assert flows_to_forget(before, before, frozenset({"m1"})) == lost
    assert flows_to_forget(before, udp(members=before.pools[0].members[1:]), frozenset()) == lost


def test_a_member_rises_and_falls_as_its_monitor_says() -> None:
    def after(answers: str, health: Health) -> Health:
        for answer in answers:
            health = judge(health, good=answer == "+", rise=2, fall=3)
        return health

    assert after("--+--", Health()).up
    down = after("--+---", Health())
    assert not down.up
    assert not after("+", down).up
    assert after("++", down).up


def test_members_have_octavias_statuses() -> None:
    assert set(member_statuses(udp(), frozenset()).values()) == {"NO_MONITOR"}
    monitored = udp(healthmonitor=HealthMonitor(id="m", type="TCP", delay=1, timeout=1))
    assert member_statuses(monitored, frozenset({"m1"})) == {"m1": "ERROR", "m2": "ONLINE", "m3": "ONLINE"}


def test_granularity_is_a_netmask_or_a_prefix_length() -> None:
    assert [granularity(value, 4) for value in (None, "255.255.255.0", "64")] == [32, 24, 32]
    assert [granularity(value, 6) for value in (None, "255.255.255.0", "64")] == [128, 128, 64]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_of_a_user_reaches_the_rules(hostile: str) -> None:
    named = compile_forwarding(udp(members=(Member(id=hostile or "x", address="10.10.0.21", protocol_port=53),)))
    if len(hostile) > 3:
        assert hostile not in render_change(None, named)
    with pytest.raises(InvalidInput):
        compile_forwarding(udp(members=(Member(id="m", address=hostile, protocol_port=53),)))
    if hostile:
        with pytest.raises(InvalidInput):
            compile_forwarding(udp(persistence_type="SOURCE_IP", persistence_granularity=hostile))
    with pytest.raises(InvalidInput):
        compile_rules(Firewall(rules=(FirewallRule(ethertype="IPv4", protocol=hostile),)))
    with pytest.raises(InvalidInput):
        compile_rules(Firewall(rules=(FirewallRule(ethertype="IPv4", remotes=(hostile,)),)))
