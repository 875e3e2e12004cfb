"""The plan of one instance: it converges, leaves the settled alone, and may be cut off after any step."""

from dataclasses import fields, replace
from typing import assert_never, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.instances import balancer, desired_balancers, gateway

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, InstanceKind
from vrata.host import model, sysctls
from vrata.host.handover import local_addresses
from vrata.host.model import NOTHING, Action, AnyAction, Observed, ObservedLink, Settings
from vrata.host.plan import instance_dir, plan_instance
from vrata.host.render import render_routes
from vrata.net.routes import LOCAL_TABLE, Route

SETTINGS = Settings("host-a", "/var/lib/vrata", (("tenant", "br-tenant"), ("external", "br-external")))


def after(world: Observed, action: AnyAction) -> Observed:  # noqa: PLR0912
    """The world once a step has been taken: the law that `vrata.host.apply` obeys."""
    match action:
        case model.WriteRecord(record=record):
            return replace(world, record=record)
        case model.CreateNamespace():
            return replace(world, namespace_exists=True)
        case model.PlugLeg(leg=leg, bridge=bridge):
            assert world.record, "a leg was created before its name was recorded"
            assert leg.name in world.record.links
            link = ObservedLink(leg.name, leg.mac_address, leg.mtu, frozenset(leg.fixed), bridge)
            return replace(world, links=(*(old for old in world.links if old.name != leg.name), link))
        case model.UnplugLeg(host_link=host_link):
            assert world.record
            gone = {name for name, link in world.record.links.items() if link == host_link}
            return replace(world, links=tuple(link for link in world.links if link.name not in gone))
        case model.StartHaproxy():
            return replace(world, haproxy_runs=True)
        case model.AwaitHaproxy() | model.MarkFit():
            return replace(world, marked_unfit=False)
        case model.StartKeepalived() | model.RestartKeepalived():
            return replace(world, keepalived_runs=True)
        case model.StartConntrackd():
            return replace(world, conntrackd_runs=True)
        case model.StopConntrackd():
            return replace(world, conntrackd_runs=False)
        case model.MarkApplied(desired=desired):
            return replace(world, applied=desired)
        case model.SetRoutes() | model.SetSysctls() | model.LoadNat() | model.ReloadHaproxy() | model.ChangeHaproxy():
            return world
        case model.LoadRules(state=state):
            return replace(world, rules=state)
        case model.ReloadKeepalived() | model.DeleteServers() | model.HandOver():
            return world
        case _:
            assert_never(action)


def carry_out(world: Observed, desired: DesiredInstance, steps: int | None = None) -> Observed:
    for action in plan_instance(world, desired, SETTINGS)[:steps]:
        world = after(world, action)
    return world


@settings(max_examples=60, deadline=None)
@given(desired_balancers(), desired_balancers(), st.integers(0, 12))
def test_a_plan_cut_off_anywhere_is_finished_by_the_next_one(
    before: DesiredInstance, wanted: DesiredInstance, cut: int
) -> None:
    world = carry_out(NOTHING, before)
    world = carry_out(world, wanted, cut)
    world = carry_out(world, wanted)
    assert world.applied == wanted
    assert plan_instance(world, wanted, SETTINGS) == ()


@pytest.mark.parametrize("desired", [balancer(), gateway()])
def test_a_settled_instance_needs_no_step(desired: DesiredInstance) -> None:
    assert plan_instance(carry_out(NOTHING, desired), desired, SETTINGS) == ()


# What a step makes in the kernel or starts, and the field of `Observed` that it is compared with in every pass.
COMPARED = {
    model.CreateNamespace: ("namespace_exists", "sysctls"),
    model.PlugLeg: ("links",),
    model.UnplugLeg: ("links",),
    model.SetRoutes: ("routes", "source_rules"),
    model.SetSysctls: ("sysctls",),
    model.LoadNat: ("rules_changed",),  # looked at once, then the kernel tells (`RulesWatch`)
    model.LoadRules: ("rules", "rules_changed", "sysctls"),
    model.StartHaproxy: ("haproxy_runs",),
    model.AwaitHaproxy: ("haproxy_runs", "marked_unfit"),
    model.StartKeepalived: ("keepalived_runs",),
    model.StartConntrackd: ("conntrackd_runs",),
    model.DeleteServers: ("servers",),
    model.MarkFit: ("marked_unfit",),
    model.WriteRecord: ("record",),
    model.MarkApplied: ("applied",),
}
# These change or end what the fields above are about, or are done once.
CHANGES = {
    model.ReloadHaproxy, model.ChangeHaproxy, model.ReloadKeepalived, model.RestartKeepalived, model.StopConntrackd,
    model.HandOver,
}  # fmt: skip


def test_of_every_step_it_is_said_what_it_is_compared_with() -> None:
    assert {*COMPARED, *CHANGES} == {*get_args(AnyAction)}
    known = {field.name for field in fields(Observed)}
    assert {name for names in COMPARED.values() for name in names} <= known


def as_made(desired: DesiredInstance) -> Observed:
    """A settled instance, with all that the kernel has of it."""
    world = carry_out(NOTHING, desired)
    routes, rules = render_routes(desired)
    taken_in = {Route(cidr, "lo", table=LOCAL_TABLE, local=True) for cidr in local_addresses(desired)}
    forwards = desired.kind is InstanceKind.GATEWAY
    tracking = sysctls.TRACKING if desired.vrrp.peer_macs else sysctls.LIBERAL if forwards else {}
    wanted = sysctls.wanted([], forwards=forwards, tracking=tracking)
    return replace(world, routes=frozenset({*routes, *taken_in}), source_rules=frozenset(rules), sysctls=wanted)


@pytest.mark.parametrize("desired", [balancer(), gateway()])
def test_whatever_somebody_takes_away_comes_back(desired: DesiredInstance) -> None:
    """Policy rules, routes and kernel parameters were written when something was wished, and never looked at again."""
    world = as_made(desired)
    assert world.routes
    assert world.source_rules is not None
    assert world.sysctls
    assert plan_instance(world, desired, SETTINGS) == ()
    harmed = [replace(world, routes=world.routes - {one}) for one in world.routes]
    harmed += [replace(world, source_rules=world.source_rules - {one}) for one in world.source_rules]
    harmed += [replace(world, source_rules=world.source_rules | {("192.0.2.1", 7)})]
    for one in harmed:
        assert [type(step) for step in plan_instance(one, desired, SETTINGS)] == [model.SetRoutes, model.MarkApplied]
    for key, value in world.sysctls.items():
        (step, _) = plan_instance(replace(world, sysctls={**world.sysctls, key: "7"}), desired, SETTINGS)
        assert isinstance(step, model.SetSysctls)
        assert step.values == ((key, value),)
    for link in world.links:
        others = tuple(one for one in world.links if one is not link)
        for wrong in (replace(link, is_up=False), replace(link, bridge=None), replace(link, mtu=1)):
            steps = plan_instance(replace(world, links=(*others, wrong)), desired, SETTINGS)
            assert [step.leg.name for step in steps if isinstance(step, model.PlugLeg)] == [link.name]


@pytest.mark.parametrize("desired", [balancer(), gateway()])
def test_every_step_has_a_reason_and_names_are_recorded_first(desired: DesiredInstance) -> None:
    steps = plan_instance(NOTHING, desired, SETTINGS)
    assert isinstance(steps[0], model.WriteRecord)
    assert all(step.reason for step in steps)
    assert isinstance(steps[-1], model.MarkApplied)


def test_an_unplugged_leg_goes_after_keepalived_let_go_of_its_addresses() -> None:
    world = carry_out(NOTHING, balancer())
    steps = plan_instance(world, balancer(generation=2, legs=balancer().legs[:1]), SETTINGS)
    kinds = [type(step) for step in steps]
    assert kinds.index(model.ReloadKeepalived) < kinds.index(model.UnplugLeg)


@pytest.mark.parametrize("joins", [False, True])
def test_a_newcomer_to_a_pair_that_serves_is_no_candidate_before_its_haproxy_serves(*, joins: bool) -> None:
    vrrp = msgspec.structs.replace(balancer().vrrp, joins=joins)
    (start,) = (
        one for one in plan_instance(NOTHING, balancer(vrrp=vrrp), SETTINGS) if isinstance(one, model.StartHaproxy)
    )
    assert start.early is not joins


STARTS = [kind for kind in get_args(AnyAction) if kind.__name__.startswith("Start")]


@pytest.mark.parametrize("start", STARTS)
def test_what_ended_again_and_again_waits_and_holds_nothing_else_up(start: type[Action]) -> None:
    part = model.STARTS[start]  # every child that is started has its pauses
    wanted = gateway() if start is model.StartConntrackd else balancer()
    world = carry_out(NOTHING, wanted)
    world = replace(
        world,
        haproxy_runs=world.haproxy_runs and part is not model.Part.HAPROXY,
        keepalived_runs=part is not model.Part.KEEPALIVED,
        conntrackd_runs=world.conntrackd_runs and part is not model.Part.CONNTRACKD,
    )
    assert start in [type(step) for step in plan_instance(world, wanted, SETTINGS)]
    paused = replace(world, paused=frozenset({part}))
    kinds = [type(step) for step in plan_instance(paused, wanted, SETTINGS)]
    assert kinds == ([model.AwaitHaproxy, model.MarkApplied] if part is model.Part.HAPROXY else [])
    legs = tuple(msgspec.structs.replace(leg, mtu=leg.mtu - 100) for leg in wanted.legs)
    kinds = [type(step) for step in plan_instance(paused, balancer(legs=legs), SETTINGS)]
    assert model.PlugLeg in kinds
    assert start not in kinds


def test_a_dead_haproxy_is_started_and_nothing_else_is_touched() -> None:
    world = replace(carry_out(NOTHING, balancer()), haproxy_runs=False, marked_unfit=True)
    kinds = [type(step) for step in plan_instance(world, balancer(), SETTINGS)]
    assert kinds == [model.StartHaproxy, model.AwaitHaproxy, model.MarkApplied]


@pytest.mark.parametrize("desired", [balancer(), gateway()])
def test_an_instance_of_a_version_that_knew_no_users_gets_one_and_is_not_touched(desired: DesiredInstance) -> None:
    world = replace(carry_out(NOTHING, desired), user_id=1_400_000_001)
    steps = plan_instance(world, desired, SETTINGS)
    assert [type(step) for step in steps] == [model.WriteRecord, model.MarkApplied]
    assert plan_instance(carry_out(world, desired), desired, SETTINGS) == ()


def test_the_user_is_recorded_before_haproxy_is_told_of_it() -> None:
    steps = plan_instance(replace(NOTHING, user_id=1_400_000_001), balancer(), SETTINGS)
    assert isinstance(steps[0], model.WriteRecord)
    assert steps[0].record.user_id == 1_400_000_001
    (start,) = (step for step in steps if isinstance(step, model.StartHaproxy))
    directory = instance_dir(SETTINGS, balancer().id)
    assert f"    chroot {directory}/root\n    uid 1400000001\n    gid 1400000001\n" in start.config


def test_a_killed_keepalived_says_goodbye_to_every_peer() -> None:
    world = replace(carry_out(NOTHING, balancer()), keepalived_runs=False)
    start = plan_instance(world, balancer(), SETTINGS)[0]
    assert isinstance(start, model.StartKeepalived)
    assert [goodbye.peer for goodbye in start.goodbyes] == ["10.10.0.12"]


def test_a_network_that_this_host_has_no_bridge_for_is_named_before_any_step() -> None:
    legs = (msgspec.structs.replace(balancer().legs[0], physical_network="other"),)
    with pytest.raises(
        InvalidInput, match="physical_network: 'other' is not valid; start the host with --bridge other"
    ):
        plan_instance(NOTHING, balancer(legs=legs), SETTINGS)


def test_a_removed_member_that_is_still_there_is_deleted_again_until_it_is_gone() -> None:
    settled = carry_out(NOTHING, balancer())
    left = replace(settled, servers=frozenset({("pool-http:web", "m1"), ("pool-http:web", "gone"), ("other", "x")}))
    steps = plan_instance(left, balancer(), SETTINGS)
    assert isinstance(steps[0], model.DeleteServers)
    assert steps[0].servers == (("pool-http:web", "gone"),)
    assert plan_instance(replace(left, servers=frozenset({("pool-http:web", "m1")})), balancer(), SETTINGS) == ()


def test_sockets_have_paths_that_haproxy_takes_whatever_the_state_directory() -> None:
    longest = Settings("host-a", "/" + "s" * 60, SETTINGS.bridges)
    assert len(f"{instance_dir(longest, balancer().id)}/master.sock") <= 97


def test_more_connections_than_files_can_be_opened_are_not_asked_for() -> None:
    bounded = replace(SETTINGS, open_files=20_000)
    start = next(
        step
        for step in plan_instance(NOTHING, balancer(max_connections=1_000_000), bounded)
        if isinstance(step, model.StartHaproxy)
    )
    assert "    maxconn 9500\n" in start.config
