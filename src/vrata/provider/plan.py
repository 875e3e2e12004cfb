"""The next calls that bring the cloud to what a Service wants: pure, in an order that is safe to stop anywhere.

A load balancer is immutable while a change is under way (Octavia answers 409), so at most one balancing write comes out
of a pass; the floating IP does not wait for it. A settled Service yields no call.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vrata.base.errors import InvalidInput
from vrata.provider.adopt import MADE, is_guest, is_legacy, is_renamed
from vrata.provider.bodies import (
    balancer_body,
    listener_name,
    pool_body,
    pool_name,
)
from vrata.provider.call import Call, Json, balancing
from vrata.provider.floating import FloatingPlan, check_pick, plan_floating, plan_guest_address, release
from vrata.provider.model import (
    ADDRESS,
    EVERYBODY,
    MEMBERS,
    PENDING,
    PROTOCOL,
    Desired,
    Listener,
    Note,
    Observed,
    ObservedListener,
    ObservedPool,
    Pool,
    Swaps,
    World,
)
from vrata.provider.pools import changes_of_pool, members_write
from vrata.provider.swaps import last_good, layer4, may_come, new_listener, place, refused_before


@dataclass(frozen=True)
class Plan:
    """What to do now. `settled`: nothing is left to do or to wait for. `addresses` go into the Service's status."""

    calls: tuple[Call, ...]
    settled: bool
    addresses: tuple[str, ...] = ()
    problem: str | None = None  # a sentence for an event: what stands in the way of everything
    later: tuple[Call, ...] = ()  # differences that wait for their turn
    notes: tuple[Note, ...] = ()  # what is left out


def plan_ensure(desired: Desired, world: World) -> Plan:
    """Calls towards `desired`; call again after carrying them out until the plan is settled.

    What the Service says and nobody can do blocks what it is about. A load balancer is created only when all of it is right.
    """
    balancer = world.balancer
    problems = [str(one.error()) for one in desired.problems]
    if balancer is None:
        check_pick(desired, world)  # before anything is made that would wait for an address in vain
        if problems:
            return Plan((), settled=False, problem="; ".join(problems))
        return Plan((_create(desired, world),), settled=False, notes=_namesakes(desired, world))
    if balancer.provisioning_status == "PENDING_DELETE":
        return Plan((), settled=False)
    floating = _plan_address(desired, world, balancer)
    calls, blocked = list(floating.calls), desired.blocked
    conflicts = _conflicts(desired, balancer)
    problems += [one for one in (floating.problem, *conflicts.values()) if one]
    if conflicts or (is_guest(desired, balancer) and floating.problem):
        blocked |= {PROTOCOL}  # nothing new comes to a load balancer, or an address, that the Service must not have
    if refused := refused_before(desired, balancer, world.swaps):
        problems.append(refused)
        blocked |= {PROTOCOL}
    pending = balancer.provisioning_status in PENDING
    writes: list[Call] = []
    if balancer.provisioning_status == "ERROR":
        problems.append("the load balancer is in ERROR")
    elif not pending:
        allowed = [(index, one) for index, one in enumerate(desired.listeners) if one not in conflicts]
        writes = list(_differences(desired, balancer, allowed, blocked, world.swaps))
        calls += writes[:1]
    # A port of somebody else answers, but not for this Service.
    shows = ADDRESS not in blocked and not floating.problem and not conflicts and _is_served(desired, balancer)
    return Plan(
        tuple(calls),
        settled=not calls and not pending and len(problems) == len(desired.problems),
        addresses=_addresses(desired, world, balancer, none=floating.none) if shows else (),
        problem="; ".join(problems) or None,
        later=tuple(writes[1:]),
        notes=(*floating.notes, *_fixed_for_good(desired, balancer)),
    )


def _plan_address(desired: Desired, world: World, balancer: Observed) -> FloatingPlan:
    if ADDRESS in desired.blocked:
        return FloatingPlan()
    try:
        check_pick(desired, world)
    except InvalidInput as error:
        return FloatingPlan(problem=str(error))
    return (plan_guest_address if is_guest(desired, balancer) else plan_floating)(desired, world, balancer)


def _is_served(desired: Desired, balancer: Observed) -> bool:
    """Whether each port has members behind it, so that a client who reads the status is answered."""
    pools = {(layer4(one.protocol), one.port): one.pool for one in balancer.listeners}
    found = [(pools.get((layer4(one.protocol), one.port)), one.pool) for one in desired.listeners]
    full = all(pool and (pool.members or not wanted.members) for pool, wanted in found)
    return full and balancer.provisioning_status == "ACTIVE"


def _create(desired: Desired, world: World) -> Call:
    """With the address it had before, if that is still free."""
    wishes = (desired, replace(desired, known_address=""))
    first, other = ({"loadbalancer": balancer_body(one, dict(world.subnets))} for one in wishes)
    create = balancing("POST", "/loadbalancers", "the Service has none", first)
    return create if first == other else replace(create, instead=(other,))


def _addresses(desired: Desired, world: World, balancer: Observed, *, none: bool) -> tuple[str, ...]:
    if not desired.floats or none:
        return (balancer.vip_address, *balancer.additional_vips)
    return (world.floating.address, *balancer.additional_vips) if world.floating else ()


def _namesakes(desired: Desired, world: World) -> tuple[Note, ...]:
    if not world.namesakes:
        return ()
    others = ", ".join(world.namesakes)
    message = (
        f"load balancer {others} has the name {desired.name} and is not provably of this cluster: another one is made;"
    )
    remedy = "to take it over, set the annotation loadbalancer.openstack.org/load-balancer-id"
    return (Note("LoadBalancerNotAdopted", f"{message} {remedy}"),)


def _fixed_for_good(desired: Desired, balancer: Observed) -> tuple[Note, ...]:
    """What is asked for and can not be changed any more."""
    pairs = (
        ("subnet-id", desired.vip.subnet_id, balancer.subnet_id),
        ("network-id", desired.vip.network_id, balancer.network_id),
        ("port-id", desired.vip.port_id, balancer.vip_port_id),
        ("flavor-id", desired.flavor_id, balancer.flavor_id),
        ("availability-zone", desired.availability_zone, balancer.availability_zone),
    )
    differ = [f"{name} is {is_ or 'none'}, not {wanted}" for name, wanted, is_ in pairs if wanted and wanted != is_]
    if desired.vip.address and desired.vip.address != balancer.vip_address:
        differ.append(f"spec.loadBalancerIP: the address is {balancer.vip_address}, not {desired.vip.address}")
    if not differ or is_guest(desired, balancer):
        return ()
    message = f"of a load balancer that exists these do not change: {'; '.join(differ)}"
    return (Note("LoadBalancerImmutable", f"{message}; delete the Service and create it again"),)


def _conflicts(desired: Desired, balancer: Observed) -> dict[Listener, str]:
    """Ports that somebody else has on a shared load balancer, and what to say of them."""
    taken = {(layer4(one.protocol), one.port): one for one in balancer.listeners if desired.name not in one.tags}
    if is_renamed(desired, balancer):
        return {}
    conflicts = {}
    for listener in desired.listeners:
        found = taken.get((layer4(listener.protocol), listener.port))
        if found and (found.tags or not _has_untagged(desired, balancer)):
            owner = ", ".join(sorted(found.tags)) or "a listener without an owner's tag"
            said = f"spec.ports: {listener.port} of load balancer {balancer.id} belongs to {owner}; use another port"
            conflicts[listener] = said
    return conflicts


def _has_untagged(desired: Desired, balancer: Observed) -> bool:
    """Whether listeners without a tag are the Service's: controllers before tags made its load balancer."""
    tagged = any(tag.startswith(MADE) for tag in balancer.tags)
    return is_legacy(desired, balancer) or (not is_guest(desired, balancer) and not tagged)


def plan_remove(desired: Desired, world: World) -> Plan:
    """Calls that leave nothing of the Service in the cloud, and what others use."""
    balancer = world.balancer
    calls: list[Call] = []
    shared = balancer is not None and _is_shared(desired, balancer)
    reason = "the Service is gone"
    if world.floating and not shared:
        # With a shared load balancer goes its address, whichever Service of the cluster it was made for. One that another
        # Service keeps, and this one named in spec.loadBalancerIP, stays.
        guest = balancer is not None and is_guest(desired, balancer)
        made = world.floating.ours or (world.floating.clusters and guest)
        calls += release(world.floating, delete=made and not desired.keep_floating, reason=reason)
    for stray in world.stray_floating:
        calls += release(stray, delete=stray.ours and not desired.keep_floating, reason=reason)
    if balancer and balancer.provisioning_status in ("ACTIVE", "ERROR"):
        leave = _leave(desired.name, balancer, reason) if shared else None
        if leave:
            calls.append(leave)
        elif not shared:
            calls.append(balancing("DELETE", f"/loadbalancers/{balancer.id}", reason, cascade="true"))
    gone = balancer is None or (shared and balancer.provisioning_status == "ACTIVE" and not calls)
    return Plan(tuple(calls), settled=not calls and gone)


def _is_shared(desired: Desired, balancer: Observed) -> bool:
    """Whether others use it, or a person made it."""
    others = any(tag.startswith(MADE) and tag != desired.name for tag in balancer.tags)
    if is_guest(desired, balancer):  # its owner may have no tag: an older controller's, or one written by hand
        others = others or any(desired.name not in listener.tags for listener in balancer.listeners)
    return others or not (balancer.name.startswith(MADE) or is_legacy(desired, balancer))


def _leave(name: str, balancer: Observed, reason: str) -> Call | None:
    """The next step off a load balancer that others use."""
    for listener in balancer.listeners:
        if name in listener.tags:
            if listener.pool:
                return balancing("DELETE", f"/pools/{listener.pool.id}", reason)
            return balancing("DELETE", f"/listeners/{listener.id}", reason)
    for pool in balancer.loose_pools:
        if pool.name.endswith(f"_{name}"):
            return balancing("DELETE", f"/pools/{pool.id}", reason)
    if name in balancer.tags:
        tags = sorted(balancer.tags - {name})
        return balancing("PUT", f"/loadbalancers/{balancer.id}", reason, {"loadbalancer": {"tags": tags}})
    return None


def _differences(
    desired: Desired,
    balancer: Observed,
    listeners: Iterable[tuple[int, Listener]],
    blocked: frozenset[str],
    swaps: Swaps,
) -> Iterator[Call]:
    """Every difference between load balancer, listeners, pools, members and monitors, in the order they are mended in.

    Members come first: traffic depends on them, and no other write must hold them up. What the Service has no use for goes
    when every port that it wants is served, so that what cannot be made takes nothing away. `listeners`: those that may be
    written, with their numbers.
    """
    renamed = is_renamed(desired, balancer)
    mine = {balancer.name, desired.name} if renamed else {desired.name}
    untagged = _has_untagged(desired, balancer)
    speaks = layer4 if PROTOCOL in blocked else str
    own = [one for one in balancer.listeners if mine & one.tags or (untagged and not one.tags)]
    observed = {(speaks(one.protocol), one.port): one for one in own}
    wanted = {(speaks(one.protocol), one.port): one for one in desired.listeners}
    found = [(index, one, observed.get((speaks(one.protocol), one.port))) for index, one in listeners]
    for _, one, there in found:
        if there and there.pool and there.pool.members != one.pool.members and MEMBERS not in blocked:
            yield members_write(there.pool, one.pool)
    loose = [one for one in balancer.loose_pools if one.name.endswith(tuple(f"_{name}" for name in mine))]
    for index, one, there in found:
        good = last_good(one, own, loose, blocked)
        if there:
            yield from _listener_writes(desired, index, one, there, blocked)
            yield from _pool_writes(desired, index, good, there, balancer, blocked)
        elif may_come(one, own, loose, blocked):
            in_its_place = next((old for old in own if place(old) == place(one)), None)
            yield from new_listener(desired, index, good, in_its_place, balancer, swaps)
    if all((there := observed.get(key)) and _is_full(there.pool, one.pool) for key, one in wanted.items()):
        kept = [_replacement(desired, index, one, there, balancer) for index, one, there in found if there]
        gone = [there for key, there in observed.items() if key not in wanted]
        yield from _removals(gone, [one for one in loose if one not in kept and PROTOCOL not in blocked])
    if PROTOCOL not in blocked:
        yield from _balancer_write(desired, balancer, renamed=renamed)


def _removals(gone: Iterable[ObservedListener], loose: Iterable[ObservedPool]) -> Iterator[Call]:
    for pool in loose:
        yield balancing("DELETE", f"/pools/{pool.id}", "belongs to no port")
    for one in gone:
        reason = f"the Service has no port {one.protocol}/{one.port}"
        if one.pool:  # or it would stay behind
            yield balancing("DELETE", f"/pools/{one.pool.id}", reason)
        yield balancing("DELETE", f"/listeners/{one.id}", reason)


def _is_full(pool: ObservedPool | None, wanted: Pool) -> bool:
    return pool is not None and bool(pool.members or not wanted.members)


def _balancer_write(desired: Desired, balancer: Observed, *, renamed: bool) -> Iterator[Call]:
    """Names and tags last: until then what was begun is found under the old ones."""
    changes: Json = {}
    own = {desired.name} if is_guest(desired, balancer) else set(desired.tags)
    kept = balancer.tags - ({balancer.name} if renamed else set())
    if not own <= balancer.tags or kept != balancer.tags:
        changes["tags"] = sorted(kept | own)
    if renamed:
        changes |= {"name": desired.name, "description": desired.description}
    if changes:
        path = f"/loadbalancers/{balancer.id}"
        yield balancing("PUT", path, f"changed: {', '.join(changes)}", {"loadbalancer": changes})


def _listener_writes(
    desired: Desired, index: int, listener: Listener, found: ObservedListener, blocked: frozenset[str]
) -> Iterator[Call]:
    """One call for each part that the cloud may refuse by itself."""
    limits = {"connection_limit": listener.connection_limit} | dict(listener.timeouts_ms)
    known = {"connection_limit": found.connection_limit} | found.timeouts_ms
    parts: list[Json] = [{name: value for name, value in limits.items() if known.get(name, value) != value}]
    open_ = listener.allowed_cidrs & set(EVERYBODY.values())
    if listener.allowed_cidrs and listener.allowed_cidrs != (found.allowed_cidrs or open_):
        parts.append({"allowed_cidrs": sorted(listener.allowed_cidrs)})
    if PROTOCOL not in blocked:
        if listener.tls_ref != found.tls_ref:
            parts.append({"default_tls_container_ref": listener.tls_ref})
        if listener.forwards_client != found.forwards_client:
            parts.append({"insert_headers": {"X-Forwarded-For": "true"} if listener.forwards_client else {}})
    if desired.name not in found.tags:
        parts.append({"name": listener_name(desired, index), "tags": [desired.name]})
    for part in parts:
        changes = {name: value for name, value in part.items() if name not in blocked}
        if changes:
            path = f"/listeners/{found.id}"
            yield balancing("PUT", path, f"changed: {', '.join(changes)}", {"listener": changes})


def _replacement(
    desired: Desired, index: int, listener: Listener, found: ObservedListener, balancer: Observed
) -> ObservedPool | None:
    """The pool that takes the place of the listener's, whose protocol cannot change."""
    if found.pool is None or found.pool.protocol == listener.pool.protocol:
        return None
    name, protocol = pool_name(desired, index), listener.pool.protocol
    return next((one for one in balancer.loose_pools if (one.name, one.protocol) == (name, protocol)), None)


def _pool_writes(
    desired: Desired,
    index: int,
    listener: Listener,
    found: ObservedListener,
    balancer: Observed,
    blocked: frozenset[str],
) -> Iterator[Call]:
    """A pool of another protocol is made and filled beside the old one, which goes when nothing uses it."""
    pool, wanted = found.pool, listener.pool
    may_create = not blocked & {PROTOCOL, MEMBERS}
    if pool is not None and (pool.protocol == wanted.protocol or not may_create):
        yield from changes_of_pool(desired, index, wanted, pool, blocked)
        return
    if not may_create:
        return
    if pool is None:
        body = {**pool_body(desired, index, wanted), "listener_id": found.id}
        yield balancing("POST", "/pools", "the port has no pool", {"pool": body})
        return
    new = _replacement(desired, index, listener, found, balancer)
    if new is None:
        body = {**pool_body(desired, index, wanted), "loadbalancer_id": balancer.id}
        yield balancing("POST", "/pools", f"a pool's protocol cannot change to {wanted.protocol}", {"pool": body})
        return
    if wanted.members != new.members:
        yield members_write(new, wanted)
        return  # no listener gets a pool that is not full
    yield from changes_of_pool(desired, index, wanted, new, frozenset())
    body = {"listener": {"default_pool_id": new.id}}
    yield balancing("PUT", f"/listeners/{found.id}", f"its pool for {wanted.protocol} is ready", body)


def status_entries(desired: Desired, addresses: Iterable[str]) -> list[Json]:
    """What the Service's status shows (core/v1 LoadBalancerIngress)."""
    if desired.hostname:
        return [{"hostname": desired.hostname}]
    if desired.proxy_protocol and desired.hostname_suffix:
        return [{"hostname": f"{address}.{desired.hostname_suffix}"} for address in addresses]
    mode = "Proxy" if desired.proxy_protocol else "VIP"
    return [{"ip": address, "ipMode": mode} for address in addresses]
