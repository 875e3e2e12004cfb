"""Decides what brings one instance from what is observed to what is desired: ordered steps, each with its reason.

Every step is safe to repeat, and after any prefix of them a new plan finishes the job. Nothing right is touched: an
instance that is settled gets no step at all. Order matters in three places: names are recorded before anything
exists, HAProxy listens (or is about to) before keepalived may bring an address, and a leg is unplugged only after
keepalived has let go of its addresses. Does no I/O.
"""

from collections.abc import Mapping

import msgspec

from vrata.base.wire import DesiredInstance, InstanceKind
from vrata.haproxy.model import Config
from vrata.haproxy.plan import AtRunTime, Reload, Unchanged, plan_transition
from vrata.haproxy.render import render_config
from vrata.host import adverts, pair_guard, sysctls
from vrata.host.firewall import compile_firewall
from vrata.host.forwarding import compile_forwarding, flows_to_forget, kernel_listeners
from vrata.host.handover import compile_handover, local_addresses
from vrata.host.health import targets_of
from vrata.host.model import (
    STARTS,
    AnyAction,
    AwaitHaproxy,
    ChangeHaproxy,
    CreateNamespace,
    DeleteServers,
    Goodbye,
    HandOver,
    LoadNat,
    LoadRules,
    MarkApplied,
    MarkFit,
    Observed,
    ObservedLink,
    PlugLeg,
    ReloadHaproxy,
    ReloadKeepalived,
    RestartKeepalived,
    RulesState,
    SetRoutes,
    SetSysctls,
    Settings,
    StartConntrackd,
    StartHaproxy,
    StartKeepalived,
    StopConntrackd,
    UnplugLeg,
    WriteRecord,
    directory_name,
    record_of,
)
from vrata.host.render import (
    NAT_TABLE,
    render_conntrackd,
    render_haproxy,
    render_nat,
    render_router,
    render_routes,
    route_line,
    validate_instance,
)
from vrata.host.rules import Table, digest, render_change
from vrata.net.routes import LOCAL_TABLE, Route
from vrata.vrrp.model import Router
from vrata.vrrp.packet import encode_goodbye
from vrata.vrrp.render import advertised_addresses
from vrata.vrrp.render import render_router as render_keepalived

_OTHER_MAC = "another MAC address"
_OTHER_MTU = "another MTU"
_WITHOUT_TRACKING = (adverts.TABLE, pair_guard.TABLE)


def plan_instance(
    observed: Observed, desired: DesiredInstance, settings: Settings, down: frozenset[str] = frozenset()
) -> tuple[AnyAction, ...]:
    """The steps from `observed` to `desired`; InvalidInput, before any step, if it can not be built.

    `down`: members of pools that the kernel balances over, and that do not answer.
    """
    validate_instance(desired)
    directory = instance_dir(settings, desired.id)
    gateway = desired.kind is InstanceKind.GATEWAY
    haproxy = None if gateway else _haproxy(desired, directory, settings, observed.user_id)
    router = _router(desired, directory)
    # Everything that can be refused is rendered before the first step is taken.
    haproxy_text = render_config(haproxy) if haproxy else ""
    keepalived_text = render_keepalived(router)
    nat = render_nat(desired) if gateway else ""
    rules = _plan_rules(observed, desired, down)
    legs = _plan_legs(observed, desired, settings)
    unplug = _plan_unplugs(observed, desired)
    steps: list[AnyAction] = [*_plan_place(observed, desired, settings), *legs]
    changed = bool(legs) or observed.applied is None or observed.applied.legs != desired.legs
    steps += _plan_routes(observed, desired, changed=changed)
    if gateway and _nat_differs(observed, nat):
        steps.append(LoadNat("translations changed", nat))
    steps += rules or _plan_sysctls(observed, desired, down)
    if haproxy:
        steps += _plan_haproxy(observed, haproxy, haproxy_text, directory, settings, joins=desired.vrrp.joins)
    elif observed.marked_unfit or not observed.namespace_exists:
        steps.append(MarkFit("a gateway has no HAProxy that could be missing"))
    steps += _plan_keepalived(observed, desired, router, keepalived_text, directory)
    steps += _plan_conntrackd(observed, desired, directory)
    if haproxy and not observed.haproxy_runs:
        steps.append(AwaitHaproxy("HAProxy was started"))
    steps += _plan_yield(observed, desired)
    steps = [step for step in steps if STARTS.get(type(step)) not in observed.paused]
    steps += unplug
    if unplug:
        steps.append(WriteRecord("legs are gone", record_of(settings, desired, observed.user_id)))
    if steps or observed.applied != desired:
        steps.append(MarkApplied("all steps are done", desired))
    return tuple(steps)


def instance_dir(settings: Settings, instance_id: str) -> str:
    """Where the instance's files are."""
    return f"{settings.state_dir}/instances/{directory_name(instance_id)}"


def _haproxy(desired: DesiredInstance, directory: str, settings: Settings, user_id: int | None) -> Config:
    return render_haproxy(desired, directory, settings.open_files, user_id)


def _router(desired: DesiredInstance, directory: str) -> Router:
    return render_router(desired, f"{directory}/notify.fifo", f"{directory}/fault", f"{directory}/alive.sh")


def _plan_place(observed: Observed, desired: DesiredInstance, settings: Settings) -> list[AnyAction]:
    steps: list[AnyAction] = []
    record = record_of(settings, desired, observed.user_id)
    known = dict(observed.record.links) if observed.record else {}
    # The union: what an older record names may still exist and must stay findable until it is gone.
    everything = msgspec.structs.replace(record, links={**known, **record.links})
    if observed.record != everything:
        steps.append(WriteRecord("names are recorded before anything is created", everything))
    if not observed.namespace_exists:
        forwards = desired.kind is InstanceKind.GATEWAY
        steps.append(CreateNamespace("the instance has no namespace", record.netns, forwards))
    return steps


def _plan_legs(observed: Observed, desired: DesiredInstance, settings: Settings) -> list[AnyAction]:
    steps: list[AnyAction] = []
    links = {link.name: link for link in observed.links}
    names = record_of(settings, desired).links
    for leg in desired.legs:
        bridge = settings.bridge(leg.physical_network)
        link = links.get(leg.name)
        wrong = "it is missing" if link is None else _wrong(link, leg.mac_address, leg.mtu, bridge, leg.fixed)
        if wrong:
            replace = link is not None and wrong in (_OTHER_MAC, _OTHER_MTU)
            steps.append(PlugLeg(f"leg {leg.name}: {wrong}", leg, names[leg.name], bridge, replace))
    return steps


def _plan_routes(observed: Observed, desired: DesiredInstance, *, changed: bool) -> list[AnyAction]:
    routes, rules = render_routes(desired)
    local = local_addresses(desired)
    taken_in = {Route(cidr, "lo", table=LOCAL_TABLE, local=True) for cidr in local}
    there = observed.routes is None or {*routes, *taken_in} <= observed.routes
    ruled = observed.source_rules is None or set(rules) == observed.source_rules
    if not changed and there and ruled:
        return []
    before = local_addresses(observed.applied) if observed.applied else ()
    foreign = tuple(cidr for cidr in before if cidr not in local)
    reason = "legs or addresses changed" if changed else "routes or policy rules are not as they were set"
    return [SetRoutes(reason, tuple(map(route_line, routes)), rules, local, foreign)]


def _plan_sysctls(observed: Observed, desired: DesiredInstance, down: frozenset[str]) -> list[AnyAction]:
    """Of an instance that was built once: before its rules are loaded nothing is forwarded."""
    if observed.sysctls is None or not observed.namespace_exists or observed.applied is None:
        return []
    tables = _tables(desired, down & targets_of(desired).keys())
    gateway = desired.kind is InstanceKind.GATEWAY
    tracks = any(table and table.name not in _WITHOUT_TRACKING for table in tables[1:])
    wanted = sysctls.wanted(
        [leg.name for leg in desired.legs] if tables[1] else [],
        forwards=bool(tables[1]) or gateway,
        tracking=sysctls.TRACKING if tracks else sysctls.LIBERAL if gateway else {},
    )
    wrong = {key: value for key, value in wanted.items() if observed.sysctls.get(key, value) != value}
    return [SetSysctls(f"changed by somebody else: {', '.join(wrong)}", tuple(wrong.items()))] if wrong else []


def _wrong(link: ObservedLink, mac_address: str, mtu: int, bridge: str, fixed: tuple[str, ...]) -> str | None:
    if link.mac_address.lower() != mac_address.lower():
        return _OTHER_MAC
    if link.mtu != mtu:
        return _OTHER_MTU
    if link.bridge != bridge:
        return f"not plugged into {bridge}"
    if not link.addresses.issuperset(fixed):
        return "fixed addresses are missing"
    if not link.is_up:
        return "it is down"
    return None


def _plan_unplugs(observed: Observed, desired: DesiredInstance) -> list[AnyAction]:
    if observed.record is None:
        return []
    wanted = {leg.name for leg in desired.legs}
    return [
        UnplugLeg(f"leg {name} is no longer desired", link)
        for name, link in observed.record.links.items()
        if name not in wanted
    ]


def _nat_differs(observed: Observed, nat: str) -> bool:
    if observed.applied is None or not observed.namespace_exists or observed.rules_changed:
        return True
    return render_nat(observed.applied) != nat


def _plan_rules(observed: Observed, desired: DesiredInstance, down: frozenset[str]) -> list[AnyAction]:
    """Firewall, forwarding and handover: chains that differ, and no other."""
    down &= targets_of(desired).keys()
    after = _tables(desired, down)
    applied = observed.applied if observed.namespace_exists else None
    loaded = observed.rules or RulesState()
    present = {link.name for link in observed.links if link.mac_address.lower() == desired.legs[0].mac_address.lower()}
    before: list[Table] | None = _tables(applied, frozenset(loaded.down)) if applied else None
    if observed.rules is None:
        before = [Table(table.name) for table in after]  # never anything but empty ones
    elif (
        before is None
        or digest(before) != loaded.digest
        or desired.legs[0].name not in present
        or observed.rules_changed
    ):
        before = None  # somebody was interrupted, wrote there, or rules name an interface that is no more: begin anew
    older: list[Table | None] = [*before] if before else [None for _ in after]
    pairs = list(zip(older, after, strict=True))
    ruleset = "".join(render_change(old, new) for old, new in pairs)
    if not ruleset:
        return []
    lost = flows_to_forget(applied, desired, down)
    known = flows_to_forget(applied, applied, frozenset(loaded.down)) if applied and before else ()
    reason = "members went down or up" if applied == desired else "firewall, ports or forwarding changed"
    return [
        LoadRules(
            reason,
            desired.id,
            ruleset,
            forwards=bool(after[1]) or desired.kind is InstanceKind.GATEWAY,
            legs=tuple(leg.name for leg in desired.legs),
            forget=tuple(flow for flow in lost if flow not in known),
            state=RulesState(down=tuple(sorted(down)), digest=digest(after)),
            tracks=any(new and not old for old, new in pairs[1:] if new.name not in _WITHOUT_TRACKING),
        )
    ]


def rules_are_there(applied: DesiredInstance, loaded: RulesState | None, chains: Mapping[tuple[str, str], int]) -> bool:
    """Whether what was loaded is still in the kernel. `chains`: (table, chain) -> how many rules it has."""
    tables = _tables(applied, frozenset(loaded.down)) if loaded else []
    wanted = {(table.name, name): len(chain.rules) for table in tables for name, chain in table.chains.items()}
    translated = applied.kind is not InstanceKind.GATEWAY or any(table == NAT_TABLE for table, _ in chains)
    return wanted.items() <= chains.items() and translated


def _tables(desired: DesiredInstance, down: frozenset[str]) -> list[Table]:
    served = tuple(
        listener.protocol_port for listener in desired.listeners if listener not in kernel_listeners(desired)
    )
    return [
        compile_firewall(desired),
        compile_forwarding(desired, down),
        *compile_handover(desired, served),
        pair_guard.compile_pair_guard(desired),
        adverts.table(),
    ]


def _plan_haproxy(
    observed: Observed, config: Config, text: str, directory: str, settings: Settings, *, joins: bool
) -> list[AnyAction]:
    if not observed.haproxy_runs:
        strays = observed.namespace_exists
        early = not strays and not joins
        return [StartHaproxy("HAProxy does not run", text, clear_strays=strays, early=early, files=config.files)]
    # Whom it runs as is no reason to reload: what an older version started keeps its user until something else is.
    running = _haproxy(observed.applied, directory, settings, observed.user_id) if observed.applied else None
    steps: list[AnyAction] = []
    match plan_transition(running, config):
        case Unchanged() if observed.haproxy_outdated:
            steps.append(ReloadHaproxy("another HAProxy has been installed", text, config.files))
        case Unchanged():
            steps += _plan_leftovers(observed, config)
        case Reload(reason=reason):
            steps.append(ReloadHaproxy(reason, text, config.files))
        case AtRunTime(changes=changes, reason=reason):
            steps.append(ChangeHaproxy(reason, text, config.files, changes))
    if observed.marked_unfit:
        steps.append(MarkFit("HAProxy runs"))
    return steps


def _plan_leftovers(observed: Observed, config: Config) -> list[AnyAction]:
    """Members that connections held when they were removed: asked for again until they are gone."""
    wanted = {(backend.name, server.name) for backend in config.backends for server in backend.servers}
    backends = {backend.name for backend in config.backends}
    left = tuple(sorted(one for one in observed.servers - wanted if one[0] in backends))
    return [DeleteServers(f"{len(left)} removed members are still there", left)] if left else []


def _plan_keepalived(
    observed: Observed, desired: DesiredInstance, router: Router, text: str, directory: str
) -> list[AnyAction]:
    fixed = tuple(cidr for leg in desired.legs for cidr in leg.fixed)
    if not observed.keepalived_runs:
        goodbyes = _goodbyes(router) if observed.namespace_exists and observed.applied else ()
        return [StartKeepalived("keepalived does not run", text, goodbyes, fixed)]
    if observed.applied is None:
        return [ReloadKeepalived("what runs is not known", text)]
    before = _router(observed.applied, directory)
    if before == router:
        return []
    identity = (before.interface, before.router_id, before.source)
    if identity != (router.interface, router.router_id, router.source):
        return [RestartKeepalived("another router id or address", text, fixed)]
    return [ReloadKeepalived("addresses, priority or peers changed", text)]


def _plan_yield(observed: Observed, desired: DesiredInstance) -> list[AnyAction]:
    """Once for each wish: without a peer the addresses come back, and are better here than nowhere."""
    known_wish = observed.applied.yields if observed.applied else 0
    if desired.yields in (0, known_wish):
        return []
    return [HandOver("the peer must be active", active=any(link.holds(desired.legs) for link in observed.links))]


def _goodbyes(router: Router) -> tuple[Goodbye, ...]:
    virtual = tuple(v.address for v in advertised_addresses(router))
    return tuple(
        Goodbye(
            router.source,
            peer,
            encode_goodbye(router.router_id, router.advert_interval_ms, router.source, peer, virtual),
        )
        for peer in router.peers
    )


def _plan_conntrackd(observed: Observed, desired: DesiredInstance, directory: str) -> list[AnyAction]:
    config = render_conntrackd(desired, directory)
    if config is None:
        return [StopConntrackd("no peer to share connections with")] if observed.conntrackd_runs else []
    if not observed.conntrackd_runs:
        return [StartConntrackd("conntrackd does not run", config)]
    before = render_conntrackd(observed.applied, directory) if observed.applied else None
    if before != config:
        return [StopConntrackd("its peer changed"), StartConntrackd("its peer changed", config)]
    return []
